//! `lockstep destination`: where deliveries stand, and what to do about a destination that takes none.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, segment};
use crate::{show, time};

/// Look at destinations: what was delivered, what is pending, and why one is down or paused.
#[derive(Debug, Args)]
pub struct DestinationArgs {
    #[command(subcommand)]
    command: DestinationCommand,
}

#[derive(Debug, Subcommand)]
enum DestinationCommand {
    /// List all destinations.
    #[command(after_help = "Example:\n  lockstep destination list")]
    List(ListArgs),
    /// Print one with everything that is known of it.
    #[command(after_help = "Example:\n  lockstep destination show erp")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The destination.
    destination: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &DestinationArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        DestinationCommand::List(args) => list(args, output).await,
        DestinationCommand::Show(args) => {
            let path = format!("/v1/destinations/{}", segment(&args.destination));
            let one = Remote::new(&args.remote)?.get(&path).await?.body;
            print(&one, output)?;
            Ok(Exit::Done)
        }
    }
}

/// How it is, in a word.
fn state(one: &Value) -> String {
    match one["down"]["cause"].as_str() {
        Some(cause) => show::clean(cause),
        None if one["running"] == true => "up".to_owned(),
        None => "not running".to_owned(),
    }
}

async fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let body = Remote::new(&args.remote)?.get("/v1/destinations").await?.body;
    let mut table = Table::new(&["destination", "state", "delivered", "pending", "dead", "filtered"]);
    for one in body["items"].as_array().into_iter().flatten() {
        if output.is_json() {
            output.json(one)?;
            continue;
        }
        let name = show::clean(one["name"].as_str().unwrap_or_default());
        let count = |member: &str| one[member].to_string();
        table.row([name, state(one), count("delivered"), count("pending"), count("dead"), count("filtered")]);
        if let Some(advice) = one["down"]["advice"].as_str() {
            let detail = show::clean(one["down"]["detail"].as_str().unwrap_or_default());
            table.note(Style::Dim, &format!("{detail}: {}", show::clean(advice)));
        }
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "there are no destinations".to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}

fn print(one: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(one);
    }
    let name = show::clean(one["name"].as_str().unwrap_or_default());
    output.line(&format!("{}  {}", output.styled(Style::Bold, &name), state(one)))?;
    let down = &one["down"];
    let text = |member: &str| show::clean(down[member].as_str().unwrap_or_default());
    if down.is_object() {
        let since = time::shorten(one["down_since"].as_str().unwrap_or_default());
        output.line(&format!("{} since {since}, the next probe {}", output.styled(Style::Red, &text("cause")), {
            time::shorten(&text("next_probe"))
        }))?;
        output.line(&text("detail"))?;
        output.line(&text("advice"))?;
    }
    let mut table = Table::new(&["", ""]);
    for member in [
        "published",
        "delivered",
        "pending",
        "filtered",
        "own_words",
        "dead",
        "discarded",
        "superseded",
        "skipped",
        "cursor",
        "lag_s",
        "concurrency",
        "retries_held",
        "held",
        "held_to",
        "waiting",
    ] {
        if !one[member].is_null() {
            table.row([member.replace('_', " "), one[member].to_string()]);
        }
    }
    for wait in one["waits"].as_array().into_iter().flatten() {
        let name = format!("event {}", wait["event"]);
        table.row([name, format!("{} {}", show::value(&wait["entity"]), show::value(&wait["reason"]))]);
    }
    output.text(&table.render(output))
}
