//! Logs: on the error stream, as text for people or JSON lines for collectors.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::exit::Failure;

/// The variable with the filter: `info`, `lockstep_hub=debug,info`, ...
pub const FILTER_VARIABLE: &str = "LOCKSTEP_LOG";

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// A JSON document a line.
    Json,
}

/// Starts logging for this process. Once: what is set up already stays.
pub fn start(format: LogFormat) -> Result<(), Failure> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).map_err(|error| {
            Failure::usage(
                "log-filter",
                format!("{FILTER_VARIABLE} must be a filter such as `info` or `lockstep_hub=debug,info`: {error}"),
            )
        })?,
        _ => EnvFilter::new("info"),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let set = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init()
        }
        LogFormat::Json => registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
    };
    // A test or a program that embeds this crate may have its own.
    if let Err(error) = set {
        tracing::debug!(%error, "logging was set up already");
    }
    Ok(())
}
