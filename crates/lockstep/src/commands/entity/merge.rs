//! `lockstep entity merge` and `unmerge`: two entities are found to be one, or not to be after all.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::super::conflict::Why;
use super::{Name, heading, parse_name};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::remote::{Remote, RemoteArgs};

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The entity that goes: its kind, a slash, its key.
    #[arg(value_name = "KIND/KEY", value_parser = parse_name)]
    goes: Name,
    /// The entity that stays, of the same kind.
    #[arg(value_name = "INTO", value_parser = parse_name)]
    stays: Name,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct UnmergeArgs {
    /// The entity that was merged into another one: its kind, a slash, its key.
    #[arg(value_name = "KIND/KEY", value_parser = parse_name)]
    name: Name,
    #[command(flatten)]
    why: Why,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) async fn merge(args: &MergeArgs, output: &Output) -> Result<Exit, Failure> {
    if args.goes.kind != args.stays.kind {
        let detail =
            format!("a {} can't be merged into a {}: they are of different kinds", args.goes.kind, args.stays.kind);
        return Err(Failure::usage("merge-invalid", detail));
    }
    let body = json!({ "into": args.stays.key, "reason": args.why.reason });
    let answer = ask(&args.remote, &args.goes, "merge", &args.why, &body).await?;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        output.line(&format!("{}/{} is now {}", args.goes.kind, args.goes.key, heading(&answer["entity"], output)))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn unmerge(args: &UnmergeArgs, output: &Output) -> Result<Exit, Failure> {
    let answer = ask(&args.remote, &args.name, "unmerge", &args.why, &json!({ "reason": args.why.reason })).await?;
    if output.is_json() {
        output.json(&answer)?;
    } else {
        output.line(&format!("{} is one of its own again", heading(&answer["entity"], output)))?;
    }
    Ok(Exit::Done)
}

async fn ask(remote: &RemoteArgs, name: &Name, action: &str, why: &Why, body: &Value) -> Result<Value, Failure> {
    let path = format!("{}/{action}", name.path());
    Ok(Remote::new(remote)?.write(Method::POST, &path, &why.key(), Some(body)).await?.body)
}
