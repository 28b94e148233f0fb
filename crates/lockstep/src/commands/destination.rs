//! `lockstep destination`: where deliveries stand, and what to do about a destination that takes none.

use clap::{Args, Subcommand, ValueEnum};
use lockstep_connect::time::{format_rfc3339, parse_rfc3339};
use serde_json::{Value, json};

use crate::demo::text;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::{show, time};

/// Look at destinations (what was delivered, what is pending, why one is down or paused), and pause one.
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
    /// Set how much one gets, whatever its figures say, until it is released or until a time.
    #[command(
        after_help = "Example:\n  lockstep destination mode erp pause --reason 'their maintenance' --until 2h\n  lockstep destination mode erp release"
    )]
    Mode(ModeArgs),
}

#[derive(Debug, Args)]
struct ModeArgs {
    /// The destination.
    destination: String,
    /// How much it gets.
    #[arg(value_enum)]
    mode: Mode,
    /// Why, for whoever looks at it later. Needed for all but `release`.
    #[arg(long, required_if_eq_any = [("mode", "real-time"), ("mode", "queue"), ("mode", "micro-batch"), ("mode", "pause")])]
    reason: Option<String>,
    /// When it is over by itself: a time in RFC 3339, or in how long, such as 30m, 2h or 1d (at most 7d).
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Everything, as soon as it takes it.
    RealTime,
    /// Everything in order, with fewer requests under way.
    Queue,
    /// The newest of each entity within a window.
    MicroBatch,
    /// Nothing at all: everything waits.
    Pause,
    /// It goes by itself again.
    Release,
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

/// A time to come, which may be said by how far it is; whether it is to come is for the hub to say.
fn moment(text: &str) -> Result<String, String> {
    match (text::duration(text), parse_rfc3339(text)) {
        (Ok(wait), _) => {
            let wait_us = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
            Ok(format_rfc3339(lockstep_hub::now_us().saturating_add(wait_us)))
        }
        (Err(_), Some(_)) => Ok(text.to_owned()),
        (Err(_), None) => Err(format!(
            "`{text}` must be a time in RFC 3339 such as 2026-03-01T12:00:00Z, or in how long, such as 30m, 2h or 1d (at most 7d)"
        )),
    }
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
        DestinationCommand::Mode(args) => mode(args, output).await,
    }
}

/// How it is, in a word.
fn state(one: &Value) -> String {
    match one["down"]["cause"].as_str() {
        Some(cause) => show::clean(cause),
        None if one["running"] == true => match one["flow"]["mode"].as_str() {
            None | Some("real-time") => "up".to_owned(),
            Some(mode) => show::clean(mode),
        },
        None => "not running".to_owned(),
    }
}

/// How much it gets and why, in a line.
fn flow(flow: &Value) -> String {
    let text = |member: &str| flow[member].as_str().map(show::clean).filter(|text| !text.is_empty());
    let mut line = text("mode").unwrap_or_default();
    if let Some(since) = text("since") {
        line += &format!(" since {}", time::shorten(&since));
    }
    if let Some(until) = text("until") {
        line += &format!(" until {}", time::shorten(&until));
    }
    if let Some(by) = text("by") {
        let verb = if flow["by_hand"] == true { "set" } else { "released" };
        line += &format!(", {verb} by {by}");
        line += &text("reason").map(|reason| format!(" ({reason})")).unwrap_or_default();
    }
    line + &text("why").map(|why| format!(": {why}")).unwrap_or_default()
}

async fn mode(args: &ModeArgs, output: &Output) -> Result<Exit, Failure> {
    let path = format!("/v1/destinations/{}/mode", segment(&args.destination));
    let remote = Remote::new(&args.remote)?;
    let set = if args.mode == Mode::Release {
        remote.delete(&format!("{path}{}", query(&[("reason", args.reason.clone())]))).await?.body
    } else {
        let mode = args.mode.to_possible_value().map(|value| value.get_name().to_owned());
        let mut wish = json!({ "mode": mode, "reason": args.reason });
        if let Some(until) = &args.until {
            wish["until"] = until.as_str().into();
        }
        remote.post(&path, Some(&wish)).await?.body
    };
    if output.is_json() {
        output.json(&set)?;
    } else {
        output.line(&format!("{}: {}", args.destination, flow(&set)))?;
    }
    Ok(Exit::Done)
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
        if one["flow"]["by_hand"] == true || !matches!(one["flow"]["mode"].as_str(), None | Some("real-time")) {
            table.note(Style::Dim, &flow(&one["flow"]));
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
    if one["flow"]["since"].is_string() || one["flow"]["by_hand"] == true {
        output.line(&flow(&one["flow"]))?;
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
        "under_way",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_is_one_or_how_far_it_is() {
        assert_eq!(moment("2026-03-01T12:00:00Z").as_deref(), Ok("2026-03-01T12:00:00Z"));
        let before_us = lockstep_hub::now_us();
        let in_a_day_us = moment("1d").ok().as_deref().and_then(parse_rfc3339).unwrap() - 86_400_000_000;
        assert!((before_us..=lockstep_hub::now_us()).contains(&in_a_day_us), "{in_a_day_us}");
        for bad in ["", "tomorrow", "8d", "2h30m"] {
            let said = moment(bad).unwrap_err();
            assert!(said.contains("RFC 3339") && said.contains("1d"), "{said}");
        }
    }
}
