//! `lockstep dlq`: deliveries that were given up.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::{show, time};

/// How many dead letters one page asks for.
const PAGE: u64 = 500;

/// Look at deliveries that were given up (dead letters), retry or discard them.
#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List the open dead letters, by destination and event.
    #[command(after_help = "Example:\n  lockstep dlq list --destination erp")]
    List(ListArgs),
    /// Print a dead letter with its event, its request and every attempt.
    #[command(after_help = "Example:\n  lockstep dlq show erp 42")]
    Show(OneArgs),
    /// Send dead letters again, each in its entity's order. What is delivered leaves the list.
    #[command(after_help = "Example:\n  lockstep dlq retry erp 42\n  lockstep dlq retry erp --all")]
    Retry(RetryArgs),
    /// Give a dead letter up, for a reason that is kept.
    #[command(after_help = "Example:\n  lockstep dlq discard erp 42 --reason 'entered by hand'")]
    Discard(DiscardArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those of this destination.
    #[arg(long)]
    destination: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The destination.
    destination: String,
    /// The event's position.
    #[arg(value_parser = super::position)]
    event: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct RetryArgs {
    /// The destination; with --all it may be left out for all destinations.
    #[arg(required_unless_present = "all")]
    destination: Option<String>,
    /// The event's position.
    #[arg(value_parser = super::position, required_unless_present = "all", conflicts_with = "all")]
    event: Option<u64>,
    /// All open dead letters.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct DiscardArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Why, for whoever looks at it later.
    #[arg(long)]
    reason: String,
}

/// Runs the command.
pub async fn run(args: &DlqArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        DlqCommand::List(args) => list(args, output).await,
        DlqCommand::Show(args) => {
            let letter = Remote::new(&args.remote)?.get(&args.path()).await?.body;
            print(&letter, output)?;
            Ok(Exit::Done)
        }
        DlqCommand::Retry(args) => retry(args, output).await,
        DlqCommand::Discard(args) => {
            let path = format!("{}/discard", args.one.path());
            Remote::new(&args.one.remote)?.post(&path, Some(&json!({ "reason": args.reason }))).await?;
            let (destination, event) = (&args.one.destination, args.one.event);
            if output.is_json() {
                output.json(&json!({ "destination": destination, "event": event, "discarded": true }))?;
            } else {
                output.line(&format!("discarded event {event} of {destination}"))?;
            }
            Ok(Exit::Done)
        }
    }
}

impl OneArgs {
    fn path(&self) -> String {
        path(&self.destination, self.event)
    }
}

fn path(destination: &str, event: u64) -> String {
    format!("/v1/dead-letters/{}/{event}", segment(destination))
}

async fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut table = Table::new(&["destination", "event", "given up", "entity", "type", "reason", "attempts"]);
    let mut after = None;
    loop {
        let parameters =
            [("destination", args.destination.clone()), ("after", after), ("limit", Some(PAGE.to_string()))];
        let page = remote.get(&format!("/v1/dead-letters{}", query(&parameters))).await?.body;
        for item in page["items"].as_array().into_iter().flatten() {
            if output.is_json() {
                output.json(item)?;
                continue;
            }
            let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
            table.row([
                text("destination"),
                item["event"].to_string(),
                time::shorten(&text("dead_at")),
                format!("{}/{}", text("kind"), text("key")),
                text("event_type"),
                text("reason"),
                item["attempts"].to_string(),
            ]);
        }
        after = page["next_after"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "there are no dead letters".to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}

fn print(letter: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(letter);
    }
    let text = |member: &str| show::clean(letter[member].as_str().unwrap_or_default());
    let name = format!("{} event {}", text("destination"), letter["event"]);
    output.line(&format!(
        "{}  {} {}/{}",
        output.styled(Style::Bold, &name),
        text("event_type"),
        text("kind"),
        text("key")
    ))?;
    output.line(&format!(
        "{} since {}",
        output.styled(Style::Red, &text("reason")),
        time::shorten(&text("dead_at"))
    ))?;
    output.line(&text("advice"))?;
    let mut table = Table::new(&["attempt", "at", "took", "status", "class", "by hand", "detail"]);
    for attempt in letter["attempt_list"].as_array().into_iter().flatten() {
        let text = |member: &str| attempt[member].as_str().unwrap_or_default().to_owned();
        table.row([
            attempt["number"].to_string(),
            time::shorten(&text("at")),
            format!("{} ms", attempt["duration_us"].as_u64().unwrap_or(0) / 1_000),
            attempt["status"].as_u64().map_or("-".to_owned(), |status| status.to_string()),
            text("class"),
            if attempt["manual"] == true { "yes" } else { "no" }.to_owned(),
            text("detail"),
        ]);
        let head = text("response_head");
        if !head.is_empty() {
            table.note(Style::Dim, &head);
        }
    }
    output.text(&table.render(output))?;
    for (title, member) in [("request", "request"), ("event", "event_body")] {
        let part = &letter[member];
        let document = match part["text"].as_str() {
            Some(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
            None => part.clone(),
        };
        if !document.is_null() {
            output.text(&format!("\n{}\n{document:#}", output.styled(Style::Bold, title)))?;
        }
    }
    Ok(())
}

async fn retry(args: &RetryArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    if let (Some(destination), Some(event)) = (&args.destination, args.event) {
        remote.post(&format!("{}/retry", path(destination, event)), None).await?;
        return asked(destination, 1, output);
    }
    let destinations = remote.get("/v1/destinations").await?.body;
    let dead = |destination: &Value| destination["dead"].as_u64().unwrap_or(0);
    let chosen: Vec<_> = destinations["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|destination| match &args.destination {
            Some(name) => destination["name"] == name.as_str(),
            // Its sums may be a moment behind its dead letters, so they don't choose.
            None => true,
        })
        .collect();
    if let (Some(name), []) = (&args.destination, chosen.as_slice()) {
        return Err(Failure::no("unknown-destination", format!("there is no destination `{name}`")));
    }
    let bar = output.progress(chosen.iter().map(|destination| dead(destination)).sum(), "retrying");
    for destination in chosen {
        let name = destination["name"].as_str().unwrap_or_default();
        let (mut after, mut count) = (None, 0);
        loop {
            let parameters = [("after", after.map(|after: u64| after.to_string())), ("limit", Some(PAGE.to_string()))];
            let path = format!("/v1/dead-letters/{}/retry{}", segment(name), query(&parameters));
            let answer = remote.post(&path, None).await?.body;
            let retried = answer["retried"].as_u64().unwrap_or(0);
            bar.inc(retried);
            count += retried;
            after = answer["next_after"].as_u64();
            if after.is_none() {
                break;
            }
        }
        if count > 0 || args.destination.is_some() {
            bar.suspend(|| asked(name, count, output))?;
        }
    }
    bar.finish_and_clear();
    Ok(Exit::Done)
}

fn asked(destination: &str, count: u64, output: &Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(&json!({ "destination": destination, "retried": count }))?;
    } else {
        let letters = if count == 1 { "dead letter is" } else { "dead letters are" };
        output.line(&format!("{count} {letters} sent to {destination} again; `lockstep dlq list` shows what stays"))?;
    }
    Ok(Exit::Done)
}
