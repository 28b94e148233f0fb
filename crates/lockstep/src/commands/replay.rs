//! `lockstep replay`: events once more to one destination.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use crate::remote::{Remote, RemoteArgs};
use crate::{show, time};

/// Send events once more to one destination, beside live traffic.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(subcommand)]
    command: ReplayCommand,
}

#[derive(Debug, Subcommand)]
enum ReplayCommand {
    /// Begin a replay. It goes on by itself, also after a restart of the hub.
    #[command(
        after_help = "Example:\n  lockstep replay start search --from-time 2026-03-01T00:00:00Z --kind product\n  lockstep replay start search --state --rate 1000"
    )]
    Start(Box<StartArgs>),
    /// List the replays that go on and those that have ended last.
    #[command(after_help = "Example:\n  lockstep replay list")]
    List(ListArgs),
    /// Print a replay and how far it is.
    #[command(after_help = "Example:\n  lockstep replay show 4711")]
    Show(OneArgs),
    /// End a replay. What it has sent stays sent.
    #[command(after_help = "Example:\n  lockstep replay cancel 4711")]
    Cancel(OneArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    /// The destination.
    destination: String,
    /// Events after this position; without --from-time and --state: from the first that the journal has.
    #[arg(long, value_name = "POSITION", value_parser = super::position, conflicts_with = "from_time")]
    from: Option<u64>,
    /// Events from this time on, as 2026-03-01T09:30:00Z.
    #[arg(long, value_name = "TIME")]
    from_time: Option<String>,
    /// Events up to this position; else up to the newest there is now.
    #[arg(long, value_name = "POSITION", value_parser = super::position)]
    until: Option<u64>,
    /// The newest event of each entity, instead of all events.
    #[arg(long, conflicts_with_all = ["from", "from_time", "stale"])]
    state: bool,
    /// Only entities of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only the entity with this key.
    #[arg(long = "of-key", value_name = "KEY")]
    of_key: Option<String>,
    /// Only events of this type; a `*` at the end stands for anything.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// At most so many events a second; 0: as fast as it goes.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    rate: u32,
    /// Send also what is older than what the destination has, for a receiver that keeps every event.
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct OneArgs {
    /// The replay's id.
    #[arg(value_parser = super::position)]
    id: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &ReplayArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        ReplayCommand::Start(args) => {
            let replay = Remote::new(&args.remote)?.post("/v1/replays", Some(&args.body())).await?.body;
            print(std::slice::from_ref(&replay), output)?;
        }
        ReplayCommand::List(args) => {
            let list = Remote::new(&args.remote)?.get("/v1/replays").await?.body;
            print(list["items"].as_array().map_or(&[], Vec::as_slice), output)?;
        }
        ReplayCommand::Show(args) => {
            let replay = Remote::new(&args.remote)?.get(&format!("/v1/replays/{}", args.id)).await?.body;
            print(std::slice::from_ref(&replay), output)?;
        }
        ReplayCommand::Cancel(args) => {
            Remote::new(&args.remote)?.delete(&format!("/v1/replays/{}", args.id)).await?;
            if output.is_json() {
                output.json(&json!({ "id": args.id, "cancelled": true }))?;
            } else {
                output.line(&format!("replay {} has ended", args.id))?;
            }
        }
    }
    Ok(Exit::Done)
}

impl StartArgs {
    fn body(&self) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Option<Value>| drop(value.map(|value| body.insert(name.to_owned(), value)));
        put("destination", Some(self.destination.as_str().into()));
        put("from", self.from.map(Value::from));
        put("from_time", self.from_time.clone().map(Value::from));
        put("until", self.until.map(Value::from));
        put("source", self.state.then(|| "state".into()));
        put("kind", self.kind.clone().map(Value::from));
        put("key", self.of_key.clone().map(Value::from));
        put("type", self.event_type.clone().map(Value::from));
        put("rate_per_s", Some(self.rate.into()));
        put("stale", self.stale.then(|| "send".into()));
        Value::Object(body)
    }
}

fn print(replays: &[Value], output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return replays.iter().try_for_each(|replay| output.json(replay));
    }
    let columns = [
        "replay",
        "destination",
        "status",
        "source",
        "progress",
        "delivered",
        "filtered",
        "older",
        "passed",
        "failed",
        "began",
        "by",
    ];
    let mut table = Table::new(&columns);
    for replay in replays {
        let text = |member: &str| show::clean(replay[member].as_str().unwrap_or_default());
        let progress = match replay["progress"].as_f64() {
            Some(part) => format!("{:.0} %", part * 100.0),
            None => text("after_entity"),
        };
        table.row([
            replay["id"].to_string(),
            text("destination"),
            text("status"),
            text("source"),
            progress,
            replay["delivered"].to_string(),
            replay["filtered"].to_string(),
            replay["skipped_stale"].to_string(),
            replay["passed"].to_string(),
            replay["failed"].to_string(),
            time::shorten(&text("started_at")),
            text("by"),
        ]);
    }
    output.text(&if table.is_empty() { "there are no replays".to_owned() } else { table.render(output) })
}
