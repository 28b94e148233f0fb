//! `lockstep events`: what the hub has published.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::propagation;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style};
use crate::remote::{Remote, RemoteArgs, query};
use crate::show;

/// How many events one page asks for.
const PAGE: u64 = 500;

/// Read events: what the hub has published.
#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// Print events as they happen, one a line.
    #[command(
        after_help = "Example:\n  lockstep events tail --kind order --type order.placed\n  lockstep events tail --once --json > events.jsonl"
    )]
    Tail(TailArgs),
    /// Print one event.
    #[command(after_help = "Example:\n  lockstep events show 42")]
    Show(ShowArgs),
    /// Say where one event stands at each destination: delivered, pending, parked, dead or filtered.
    #[command(
        after_help = "Example:\n  lockstep events propagation 42\n  lockstep events propagation 42 --follow\n\nExit codes: 0 everybody who is to have it has it, 1 somebody has not: pending, parked, dead or discarded."
    )]
    Propagation(propagation::PropagationArgs),
}

#[derive(Debug, Args)]
struct TailArgs {
    /// Only entities of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only the entity with this key; needs --kind.
    #[arg(long, requires = "kind")]
    key_of_entity: Option<String>,
    /// Only events of this type, such as `order.placed`.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Begin after this position; 0 is the oldest that is kept. Without it, with the next event, or with --once at
    /// the oldest.
    #[arg(long, value_name = "POSITION", value_parser = super::position)]
    after: Option<u64>,
    /// Stop after so many events.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Print what is there now and stop, instead of waiting for more.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The event's position, which is its id.
    #[arg(value_parser = super::position)]
    position: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &EventsArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        EventsCommand::Tail(args) if args.once => page(args, output).await,
        EventsCommand::Tail(args) => follow(args, output).await,
        EventsCommand::Propagation(args) => propagation::run(args, output).await,
        EventsCommand::Show(args) => {
            let event = Remote::new(&args.remote)?.get(&format!("/v1/events/{}", args.position)).await?.body;
            show::document(&event, output)?;
            Ok(Exit::Done)
        }
    }
}

impl TailArgs {
    fn query(&self, after: Option<u64>, limit: Option<u64>) -> String {
        query(&[
            ("after", after.map(|after| after.to_string())),
            ("kind", self.kind.clone()),
            ("key", self.key_of_entity.clone()),
            ("type", self.event_type.clone()),
            ("limit", limit.map(|limit| limit.to_string())),
        ])
    }
}

async fn page(args: &TailArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut after = args.after.unwrap_or(0);
    while left > 0 {
        let page = remote.get(&format!("/v1/events{}", args.query(Some(after), Some(left.min(PAGE))))).await?.body;
        for event in page["items"].as_array().into_iter().flatten() {
            print(event, output)?;
            left -= 1;
        }
        let next = page["next_after"].as_u64().unwrap_or(after);
        if page["at_end"].as_bool().unwrap_or(true) {
            break;
        }
        after = next;
    }
    Ok(Exit::Done)
}

async fn follow(args: &TailArgs, output: &Output) -> Result<Exit, Failure> {
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut stream = Remote::new(&args.remote)?.stream(&format!("/v1/stream{}", args.query(args.after, None))).await?;
    while left > 0 {
        let Some(event) = stream.next().await? else {
            return Err(Failure::unreachable("stream-ended", "the hub ended the stream: it is shutting down"));
        };
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        if event.event == "error" {
            let text = |member: &str| data[member].as_str().unwrap_or_default().to_owned();
            return Err(Failure::unreachable(&text("code"), text("detail")));
        }
        print(&data, output)?;
        left -= 1;
    }
    Ok(Exit::Done)
}

fn print(event: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(event);
    }
    let text = |member: &str| show::clean(event[member].as_str().unwrap_or("-"));
    let changed: Vec<_> = event["data"]["changed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    output.line(&format!(
        "{}  {}  {}  {}  {}",
        output.styled(Style::Dim, &format!("{:>9}", text("id"))),
        output.styled(Style::Dim, &crate::time::shorten(&text("time"))),
        output.styled(Style::Bold, &text("type")),
        text("subject"),
        output.styled(Style::Dim, &show::clean(&changed.join(","))),
    ))
}
