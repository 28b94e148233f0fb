//! `lockstep config`: the configuration's schema and an example of one.

use clap::{Args, Subcommand};

use crate::config;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Print the configuration's JSON Schema, or an example of a configuration.
#[derive(Debug, Args)]
pub struct ConfigCommandArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON Schema of `lockstep.toml`, for editors and checks.
    #[command(after_help = "Example:\n  lockstep config schema > config.schema.json")]
    Schema,
    /// Print a commented example that `lockstep check` accepts.
    #[command(after_help = "Example:\n  lockstep config example > lockstep.toml")]
    Example,
}

/// Runs the command.
pub fn run(args: &ConfigCommandArgs, output: &Output) -> Result<Exit, Failure> {
    match args.command {
        ConfigCommand::Schema if output.is_json() => output.json(&config::schema())?,
        ConfigCommand::Schema => output.text(&config::schema_text())?,
        ConfigCommand::Example if output.is_json() => output.json(&serde_json::json!({ "toml": config::EXAMPLE }))?,
        ConfigCommand::Example => output.text(config::EXAMPLE)?,
    }
    Ok(Exit::Done)
}
