//! `lockstep delivery`: how deliveries go, and whether everything is accounted for.

use clap::{Args, Subcommand};
use lockstep_hub::{DeliveryAudit, Standing};
use serde_json::{Value, json};

use super::FolderArgs;
use crate::exit::{Exit, Failure, chain};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs};
use crate::{show, time};

/// Look at how deliveries go, and check that nothing is lost.
#[derive(Debug, Args)]
pub struct DeliveryArgs {
    #[command(subcommand)]
    command: DeliveryCommand,
}

#[derive(Debug, Subcommand)]
enum DeliveryCommand {
    /// List the destinations of a running hub: what is pending and for how long, and how many attempts succeed.
    #[command(after_help = "Example:\n  lockstep delivery list")]
    List(ListArgs),
    /// Check that every published event is accounted for at every destination.
    #[command(
        after_help = "Example:\n  lockstep delivery audit\n  lockstep delivery audit --folder --data-dir /var/lib/lockstep\n\nExit codes: 0 everything adds up, 1 something does not: each violation is printed."
    )]
    Audit(AuditArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct AuditArgs {
    /// Count again from the journal of a data folder, also beside a running hub, instead of asking the hub.
    #[arg(long)]
    folder: bool,
    #[command(flatten)]
    where_: FolderArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &DeliveryArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        DeliveryCommand::List(args) => list(args, output).await,
        DeliveryCommand::Audit(args) if args.folder => audit_folder(args, output),
        DeliveryCommand::Audit(args) => {
            let found = Remote::new(&args.remote)?.get("/v1/conservation").await?.body;
            let broken = found["violations"].as_array().cloned().unwrap_or_default();
            if output.is_json() {
                output.json(&found)?;
            } else {
                let broken: Vec<_> = broken.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                output.line(&format!(
                    "{} events published, {} sources and destinations, as the hub counts",
                    found["published"], found["checked"]
                ))?;
                verdict(&broken, output)?;
            }
            Ok(if broken.is_empty() { Exit::Done } else { Exit::No })
        }
    }
}

async fn list(args: &ListArgs, output: &Output) -> Result<Exit, Failure> {
    let found = Remote::new(&args.remote)?.get("/v1/destinations").await?.body;
    let headings = ["destination", "pending", "lag", "delivered", "dead", "last success", "5 min", "day", "state"];
    let mut table = Table::new(&headings);
    for item in found["items"].as_array().into_iter().flatten() {
        if output.is_json() {
            output.json(item)?;
            continue;
        }
        let ratio = |window: &str| {
            let ratio = item[window]["success_ratio"].as_f64();
            ratio.map_or("-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0))
        };
        let (state, style) = match (item["running"].as_bool(), item["down_since"].as_str()) {
            (Some(false), _) => ("not running".to_owned(), Some(Style::Dim)),
            (_, Some(since)) => (format!("down since {}", time::shorten(since)), Some(Style::Red)),
            _ => ("running".to_owned(), None),
        };
        table.styled_row(
            style,
            [
                show::value(&item["name"]),
                item["pending"].to_string(),
                format!("{:.1} s", item["lag_s"].as_f64().unwrap_or(0.0)),
                item["delivered"].to_string(),
                item["dead"].to_string(),
                item["last_success_at"].as_str().map_or("-".to_owned(), time::shorten),
                ratio("attempts_5m"),
                ratio("attempts_1d"),
                state,
            ],
        );
    }
    if !output.is_json() {
        output.text(&if table.is_empty() { "there are no destinations".to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}

fn audit_folder(args: &AuditArgs, output: &Output) -> Result<Exit, Failure> {
    let opened = args.where_.open()?;
    let mut standing = Standing::beside(&opened.data_dir, opened.limits).map_err(|error| opened.not_read(&error))?;
    let bar = output.progress(standing.position(), "reading the journal");
    let found = standing.audit_deliveries(|position| bar.set_position(position));
    bar.finish_and_clear();
    let found = found.map_err(|error| Failure::usage("data-folder", chain(&error)))?;
    print(&found, output)?;
    Ok(if found.broken.is_empty() { Exit::Done } else { Exit::No })
}

fn print(found: &DeliveryAudit, output: &Output) -> Result<(), Failure> {
    let published = found.tallies.published;
    let whole = found.first <= 1;
    let mut table = Table::new(&[
        "destination",
        "published",
        "delivered",
        "pending",
        "filtered",
        "dead",
        "discarded",
        "superseded",
        "skipped",
    ]);
    for (name, tally) in &found.tallies.destinations {
        let pending = tally.pending(published);
        if output.is_json() {
            output.json(&json!({
                "type": "destination", "name": name, "published": published, "delivered": tally.delivered,
                "pending": pending, "filtered": tally.filtered, "dead": tally.dead, "discarded": tally.discarded,
                "superseded": tally.superseded, "skipped": tally.skipped, "unaccounted": tally.unaccounted(),
            }))?;
            continue;
        }
        let counts = [
            published as i64,
            tally.delivered as i64,
            pending,
            tally.filtered as i64,
            tally.dead as i64,
            tally.discarded as i64,
            tally.superseded as i64,
            tally.skipped as i64,
        ];
        table.row([name.clone()].into_iter().chain(counts.map(|count| count.to_string())));
    }
    if output.is_json() {
        return output.json(&json!({
            "type": "summary", "violations": found.broken, "records": found.records, "first_record": found.first,
            "whole": whole,
        }));
    }
    if !table.is_empty() {
        output.text(&table.render(output))?;
    }
    let again =
        if whole { "counted again from the journal" } else { "the journal has dropped records: not counted again" };
    output.line(&format!("{} records read; {again}", found.records))?;
    verdict(&found.broken, output)
}

fn verdict(broken: &[String], output: &Output) -> Result<(), Failure> {
    for one in broken {
        output.line(&output.styled(Style::Red, &show::clean(one)))?;
    }
    let (style, text) = match broken.len() {
        0 => (Style::Green, "everything is accounted for".to_owned()),
        1 => (Style::Red, "1 violation".to_owned()),
        more => (Style::Red, format!("{more} violations")),
    };
    output.line(&output.styled(style, &text))
}
