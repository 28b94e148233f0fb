//! `lockstep key`: API keys, in the data folder. Works beside a running hub: a new key is valid at once, a
//! revoked one is refused within a second.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lockstep_api::{Keys, KeysError, Scope};
use serde_json::json;

use crate::commands::ConfigArgs;
use crate::exit::{Exit, Failure, chain};
use crate::output::{Output, Table};
use crate::time;

/// Make, list and revoke API keys.
#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and print it. It is shown this once: only its hash is kept.
    #[command(after_help = "Example:\n  lockstep key create --name erp --scopes read,write --system erp")]
    Create(CreateArgs),
    /// Take a key back, by its id or name. A running hub refuses it within a second.
    #[command(after_help = "Example:\n  lockstep key revoke erp")]
    Revoke(RevokeArgs),
    /// List the keys, without their secrets.
    #[command(after_help = "Example:\n  lockstep key list --json")]
    List(ListArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What people call it.
    #[arg(long)]
    name: String,
    /// What it allows: read, write, operate (release, retry, discard, decide conflicts), admin (everything).
    #[arg(long, value_delimiter = ',', value_parser = parse_scope, required = true)]
    scopes: Vec<Scope>,
    /// The system that its writes speak for, 1 to 64 characters of a-z, 0-9, ., _ and -; needed for `write`.
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// The key's id or name.
    #[arg(value_name = "ID or NAME")]
    key: String,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct PlaceArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The data folder, where it is not the configuration's.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &KeyArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        KeyCommand::Create(args) => create(args, output),
        KeyCommand::Revoke(args) => revoke(args, output),
        KeyCommand::List(args) => list(args, output),
    }
}

fn create(args: &CreateArgs, output: &Output) -> Result<Exit, Failure> {
    let keys = args.place.open(true)?;
    let text = keys.create(&args.name, &args.scopes, args.system.as_deref(), None).map_err(failure)?;
    if output.is_json() {
        let id = text.split('_').nth(1).unwrap_or_default();
        output.json(&json!({ "id": id, "name": args.name, "key": text }))?;
    } else {
        output.line(&text)?;
    }
    Ok(Exit::Done)
}

fn revoke(args: &RevokeArgs, output: &Output) -> Result<Exit, Failure> {
    if !args.place.open(false)?.revoke(&args.key).map_err(failure)? {
        return Err(Failure::no("unknown-key", format!("there is no key with the id or name `{}`", args.key)));
    }
    if output.is_json() {
        output.json(&json!({ "revoked": args.key }))?;
    } else {
        output.line(&format!("revoked {}", args.key))?;
    }
    Ok(Exit::Done)
}

fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let keys = args.place.open(false)?.list().map_err(failure)?;
    let mut table = Table::new(&["id", "name", "scopes", "system", "made"]);
    for key in keys {
        let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
        let made = time::format_us(key.created_at_us);
        if output.is_json() {
            output.json(
                &json!({ "id": key.id, "name": key.name, "scopes": scopes, "system": key.system, "created_at": made }),
            )?;
        } else {
            table.row([key.id, key.name, scopes.join(","), key.system, made]);
        }
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "there are no keys".to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}

impl PlaceArgs {
    fn open(&self, make: bool) -> Result<Keys, Failure> {
        let folder = match &self.data_dir {
            Some(folder) => folder.clone(),
            None => self.config.data_dir()?,
        };
        if make {
            std::fs::create_dir_all(&folder).map_err(|error| {
                Failure::usage("data-folder", format!("the data folder {} can't be made: {error}", folder.display()))
            })?;
        }
        Keys::open(crate::serve::keys_file(&folder)).map_err(failure)
    }
}

fn failure(error: KeysError) -> Failure {
    Failure::usage("keys", chain(&error))
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    Scope::named(text.trim()).ok_or_else(|| {
        let names = Scope::ALL.map(Scope::name);
        let near = crate::config::nearest(text, names).map(|near| format!("; did you mean `{near}`?"));
        format!("a scope is one of {}{}", names.join(", "), near.unwrap_or_default())
    })
}
