//! `lockstep dlq`: deliveries that were given up.

mod bulk;
mod filter;
mod summary;
mod transfer;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use self::bulk::{CancelArgs, DiscardArgs, RetryArgs};
use self::filter::FilterArgs;
use self::summary::SummaryArgs;
use self::transfer::{ExportArgs, ImportArgs};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::{show, time};

/// How many dead letters one page asks for.
const PAGE: usize = 500;

/// Look at deliveries that were given up (dead letters), retry or discard them.
#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List the open dead letters, by destination and event or by how much they matter.
    #[command(after_help = "Example:\n  lockstep dlq list --destination erp --order impact")]
    List(ListArgs),
    /// Print how many there are of each destination and reason, and what they come to.
    #[command(after_help = "Example:\n  lockstep dlq summary --older-than 1h")]
    Summary(SummaryArgs),
    /// Print a dead letter with its event, its request and every attempt.
    #[command(after_help = "Example:\n  lockstep dlq show erp 42")]
    Show(OneArgs),
    /// Send dead letters again, each in its entity's order. What is delivered leaves the list.
    #[command(
        after_help = "Example:\n  lockstep dlq retry erp 42\n  lockstep dlq retry erp --status 503 --in 30m --over 2h"
    )]
    Retry(Box<RetryArgs>),
    /// Take back that dead letters are to be sent again at a time.
    #[command(after_help = "Example:\n  lockstep dlq cancel erp 42\n  lockstep dlq cancel erp --scheduled true")]
    Cancel(Box<CancelArgs>),
    /// Give dead letters up, for a reason that is kept.
    #[command(
        after_help = "Example:\n  lockstep dlq discard erp 42 --reason 'entered by hand'\n  lockstep dlq discard erp --older-than 30d --reason 'too old' --dry-run"
    )]
    Discard(Box<DiscardArgs>),
    /// Write dead letters with everything that is kept of them, one JSON document a line.
    #[command(after_help = "Example:\n  lockstep dlq export --destination erp --file dead.jsonl")]
    Export(Box<ExportArgs>),
    /// Bring dead letters in that were exported, each once; exit code 1 where some are not valid.
    #[command(after_help = "Example:\n  lockstep dlq import dead.jsonl")]
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those of this destination.
    #[arg(long)]
    destination: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// In which order.
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Those that matter most first.
    Impact,
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

/// Runs the command.
pub async fn run(args: &DlqArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        DlqCommand::List(args) => list(args, output).await,
        DlqCommand::Show(args) => {
            let letter = Remote::new(&args.remote)?.get(&args.path()).await?.body;
            print(&letter, output)?;
            Ok(Exit::Done)
        }
        DlqCommand::Summary(args) => summary::run(args, output).await,
        DlqCommand::Retry(args) => bulk::retry(args, output).await,
        DlqCommand::Cancel(args) => bulk::cancel(args, output).await,
        DlqCommand::Discard(args) => bulk::discard(args, output).await,
        DlqCommand::Export(args) => transfer::export(args, output).await,
        DlqCommand::Import(args) => transfer::import(args, output).await,
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
    let mut table = Table::new(&[
        "destination",
        "event",
        "given up",
        "entity",
        "type",
        "reason",
        "status",
        "attempts",
        "value",
        "impact",
        "retry at",
    ]);
    let (mut after, mut left) = (None, args.limit.unwrap_or(usize::MAX));
    while left > 0 {
        let mut parameters = args.filter.parameters(args.destination.as_deref());
        parameters.push(("order", args.order.map(|Order::Impact| "impact".to_owned())));
        parameters.push(("after", after));
        parameters.push(("limit", Some(PAGE.min(left).to_string())));
        let page = remote.get(&format!("/v1/dead-letters{}", query(&parameters))).await?.body;
        for item in page["items"].as_array().into_iter().flatten() {
            left = left.saturating_sub(1);
            if output.is_json() {
                output.json(item)?;
            } else {
                table.row(cells(item));
            }
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

fn cells(item: &Value) -> [String; 11] {
    let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let value = item["value"]["minor"].as_i64();
    let currency = item["value"]["currency"].as_str().unwrap_or_default();
    [
        text("destination"),
        item["event"].to_string(),
        time::shorten(&text("dead_at")),
        format!("{}/{}", text("kind"), text("key")),
        text("event_type"),
        text("reason"),
        or_none(item["status"].as_u64().map(|status| status.to_string())),
        item["attempts"].to_string(),
        or_none(value.map(|minor| summary::amount(minor, currency))),
        item["impact"].to_string(),
        or_none(item["retry_at"].as_str().map(time::shorten)),
    ]
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
    if let Some(at) = letter["retry_at"].as_str() {
        output.line(&format!("sent again at {}, asked for by {}", time::shorten(at), text("retry_by")))?;
    }
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
