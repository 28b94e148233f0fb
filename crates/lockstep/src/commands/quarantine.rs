//! `lockstep quarantine`: deliveries that were authentic but not understood.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query};
use crate::{show, time};

/// How many deliveries one page asks for.
const PAGE: u64 = 500;

/// Look at deliveries that were authentic but not understood, and release them.
#[derive(Debug, Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List what is in quarantine, oldest first.
    #[command(after_help = "Example:\n  lockstep quarantine list --source shop")]
    List(ListArgs),
    /// Print a delivery as it came, and why it was not understood.
    #[command(after_help = "Example:\n  lockstep quarantine show 42")]
    Show(ShowArgs),
    /// Send deliveries through the current mapping again. Exit code 1 where some are still not understood.
    #[command(
        after_help = "Example:\n  lockstep quarantine release 42\n  lockstep quarantine release --all --source shop"
    )]
    Release(ReleaseArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only those of this source.
    #[arg(long)]
    source: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Its position.
    #[arg(value_parser = super::position)]
    position: u64,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct ReleaseArgs {
    /// The positions.
    #[arg(value_name = "POSITION", value_parser = super::position, required_unless_present = "all", conflicts_with = "all")]
    positions: Vec<u64>,
    /// All that is in quarantine now.
    #[arg(long)]
    all: bool,
    /// With --all: only those of this source.
    #[arg(long, requires = "all")]
    source: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &QuarantineArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        QuarantineCommand::List(args) => list(args, output).await,
        QuarantineCommand::Show(args) => {
            let delivery = Remote::new(&args.remote)?.get(&format!("/v1/quarantine/{}", args.position)).await?.body;
            print(&delivery, output)?;
            Ok(Exit::Done)
        }
        QuarantineCommand::Release(args) => release(args, output).await,
    }
}

async fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut table = Table::new(&["position", "received", "source", "code", "at", "detail"]);
    let mut after = 0;
    loop {
        let (items, next) = page(&remote, args.source.as_deref(), after).await?;
        for item in &items {
            if output.is_json() {
                output.json(item)?;
                continue;
            }
            let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
            let received = time::shorten(&text("received_at"));
            table.row([
                item["position"].to_string(),
                received,
                text("source"),
                text("code"),
                text("at"),
                text("detail"),
            ]);
        }
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "nothing is in quarantine".to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}

async fn page(remote: &Remote, source: Option<&str>, after: u64) -> Result<(Vec<Value>, Option<u64>), Failure> {
    let parameters =
        [("source", source.map(str::to_owned)), ("after", Some(after.to_string())), ("limit", Some(PAGE.to_string()))];
    let page = remote.get(&format!("/v1/quarantine{}", query(&parameters))).await?.body;
    Ok((page["items"].as_array().cloned().unwrap_or_default(), page["next_after"].as_u64()))
}

fn print(delivery: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(delivery);
    }
    let text = |member: &str| show::clean(delivery[member].as_str().unwrap_or_default());
    let at = match text("at") {
        at if at.is_empty() => String::new(),
        at => format!(" (at {at})"),
    };
    let state = if delivery["open"] == true { "in quarantine" } else { "released" };
    output.line(&format!("{}  {state}", output.styled(Style::Bold, &format!("position {}", delivery["position"]))))?;
    output.line(&format!("{}: {}{at}", output.styled(Style::Red, &text("code")), text("detail")))?;
    for (name, member) in [("source", "source"), ("system", "system"), ("topic", "topic"), ("delivery", "delivery")] {
        output.line(&format!("{name:<9} {}", text(member)))?;
    }
    output.line(&format!("received  {}", time::shorten(&text("received_at"))))?;
    for header in delivery["headers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output.line(&output.styled(Style::Dim, &show::clean(header)))?;
    }
    let body = &delivery["body"];
    let content = match (body["text"].as_str(), body["base64"].as_str()) {
        (Some(text), _) => match serde_json::from_str::<Value>(text) {
            Ok(document) => format!("{document:#}"),
            // Whatever it is, it must not move the cursor; line breaks may stay.
            Err(_) => text.lines().map(show::clean).collect::<Vec<_>>().join("\n"),
        },
        (None, Some(base64)) => format!("{} bytes that are no text, in base64:\n{base64}", body["bytes"]),
        (None, None) => "the body was not kept".to_owned(),
    };
    output.text(&format!("\n{content}"))
}

async fn release(args: &ReleaseArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut positions = args.positions.clone();
    if args.all {
        // The whole list first: what is released leaves it, and would move the pages.
        let mut after = 0;
        loop {
            let (items, next) = page(&remote, args.source.as_deref(), after).await?;
            positions.extend(items.iter().filter_map(|item| item["position"].as_u64()));
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    let bar = output.progress(positions.len() as u64, "releasing");
    let mut kept = 0;
    for position in &positions {
        let answer = remote.post(&format!("/v1/quarantine/{position}/release"), None).await;
        let line = match answer {
            Ok(answer) => released(*position, &answer.body, output),
            // This one stays; the others may still go.
            Err(failure) if failure.exit == Exit::No => {
                kept += 1;
                still_kept(*position, &failure, output)
            }
            Err(failure) => return Err(failure),
        };
        bar.suspend(|| output.line(&line))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !output.is_json() && args.all {
        output.line(&format!("released {} of {}", positions.len() - kept, positions.len()))?;
    }
    Ok(if kept == 0 { Exit::Done } else { Exit::No })
}

fn released(position: u64, outcome: &Value, output: &Output) -> String {
    if output.is_json() {
        return json!({ "position": position, "released": true, "outcome": outcome }).to_string();
    }
    let word = outcome["outcome"].as_str().unwrap_or_default();
    let at = outcome["position"].as_u64().map(|at| format!(" as record {at}")).unwrap_or_default();
    format!("{position}  {}  {}{at}", output.styled(Style::Green, "released"), show::clean(word))
}

fn still_kept(position: u64, failure: &Failure, output: &Output) -> String {
    if output.is_json() {
        return json!({ "position": position, "released": false, "code": failure.code, "detail": failure.message })
            .to_string();
    }
    format!("{position}  {}  {}", output.styled(Style::Red, "kept"), show::clean(&failure.message))
}
