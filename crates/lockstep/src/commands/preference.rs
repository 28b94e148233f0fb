//! `lockstep preference`: the systems that a person has decided to prefer always for a field.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::conflict::Why;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::time;

/// How many preferences one page asks for.
const PAGE: u64 = 500;

/// List, set and clear the systems that are always preferred for a field (policy `review`).
#[derive(Debug, Args)]
pub struct PreferenceArgs {
    #[command(subcommand)]
    command: PreferenceCommand,
}

#[derive(Debug, Subcommand)]
enum PreferenceCommand {
    /// List the preferences that are in force.
    #[command(after_help = "Example:\n  lockstep preference list")]
    List(ListArgs),
    /// Prefer a system for a field, in all entities of a kind.
    #[command(after_help = "Example:\n  lockstep preference set order note erp --reason 'they talk to the customer'")]
    Set(SetArgs),
    /// Prefer no system for a field any more.
    #[command(after_help = "Example:\n  lockstep preference clear order note --reason 'the shop asks now'")]
    Clear(ClearArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct FieldArgs {
    /// The kind of entities.
    kind: String,
    /// The field, or the path of its part, such as customer.email; lines[] for every item of that list.
    field: String,
}

#[derive(Debug, Args)]
struct SetArgs {
    #[command(flatten)]
    of: FieldArgs,
    /// The system.
    system: String,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct ClearArgs {
    #[command(flatten)]
    of: FieldArgs,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl FieldArgs {
    fn path(&self) -> String {
        format!("/v1/preferences/{}/{}", segment(&self.kind), segment(&self.field))
    }
}

/// Runs the command.
pub async fn run(args: &PreferenceArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        PreferenceCommand::List(args) => list(args, output).await,
        PreferenceCommand::Set(args) => {
            let body = json!({ "system": args.system, "reason": args.why.reason });
            Remote::new(&args.remote)?.write(Method::PUT, &args.of.path(), &args.why.key(), Some(&body)).await?;
            said(&args.of, Some(&args.system), output)
        }
        PreferenceCommand::Clear(args) => {
            let path = format!("{}{}", args.of.path(), query(&[("reason", Some(args.why.reason.clone()))]));
            Remote::new(&args.remote)?.write(Method::DELETE, &path, &args.why.key(), None).await?;
            said(&args.of, None, output)
        }
    }
}

fn said(FieldArgs { kind, field }: &FieldArgs, system: Option<&str>, output: &Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(&json!({ "kind": kind, "field": field, "system": system }))?;
    } else {
        let whom = system.map_or_else(|| "no system is".to_owned(), |system| format!("{system} is always"));
        output.line(&format!("{whom} preferred for {field} of {kind}"))?;
    }
    Ok(Exit::Done)
}

async fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut table = Table::new(&["kind", "field", "system", "since", "by", "reason"]);
    let mut after = None;
    loop {
        let parameters = [("after", after), ("limit", Some(PAGE.to_string()))];
        let page = remote.get(&format!("/v1/preferences{}", query(&parameters))).await?.body;
        for item in page["items"].as_array().into_iter().flatten() {
            if output.is_json() {
                output.json(item)?;
                continue;
            }
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let decision = &item["decision"];
            table.row([
                text(&item["kind"]),
                text(&item["field"]),
                text(&item["system"]),
                time::shorten(&text(&item["updated_at"])),
                text(&decision["by"]),
                text(&decision["reason"]),
            ]);
        }
        after = page["next_after"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "no system is preferred".to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}
