//! `lockstep invariants check`: everything that must hold of stock and orders, over a whole data folder.

use clap::{Args, Subcommand};
use lockstep_hub::{OpenError, Standing, Verified};
use serde_json::json;

use super::FolderArgs;
use crate::exit::{Exit, Failure, chain};
use crate::output::{Output, Style};

/// Check the invariants of stock and orders over a data folder.
#[derive(Debug, Args)]
pub struct InvariantsArgs {
    #[command(subcommand)]
    command: InvariantsCommand,
}

#[derive(Debug, Subcommand)]
enum InvariantsCommand {
    /// Read the state and the whole journal of a data folder that no hub has open, and check all of it.
    #[command(
        after_help = "Example:\n  lockstep invariants check --data-dir /var/lib/lockstep\n\nExit codes: 0 everything holds, 1 something does not: each violation is printed. A running hub says in\n/healthz/ready and in the metric lockstep_invariant_violations what it finds."
    )]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    folder: FolderArgs,
}

/// Runs the command.
pub fn run(args: &InvariantsArgs, output: &Output) -> Result<Exit, Failure> {
    let InvariantsCommand::Check(CheckArgs { folder }) = &args.command;
    let opened = folder.open()?;
    let mut standing = match Standing::alone(&opened.data_dir, opened.limits) {
        Ok(standing) => standing,
        // What was acknowledged is missing: that is a violation, and nothing else can be checked.
        Err(error @ OpenError::JournalBehind { .. }) => {
            let mut found = Verified::default();
            found.counts.insert(9, 1);
            found.broken.push(lockstep_core::stock::Violation { invariant: 9, detail: error.to_string() });
            return print(&found, output);
        }
        Err(error) => return Err(opened.not_read(&error)),
    };
    let bar = output.progress(standing.position(), "reading the journal");
    let found = standing.verify(opened.seen_days, opened.reservation_days, |position| bar.set_position(position));
    bar.finish_and_clear();
    let found = found.map_err(|error| Failure::usage("data-folder", chain(&error)))?;
    print(&found, output)
}

fn print(found: &Verified, output: &Output) -> Result<Exit, Failure> {
    let broken: u64 = found.counts.values().sum();
    let exit = if broken == 0 { Exit::Done } else { Exit::No };
    if output.is_json() {
        for one in &found.broken {
            output.json(&json!({ "type": "violation", "invariant": one.invariant, "detail": one.detail }))?;
        }
        let violations: serde_json::Map<_, _> =
            found.counts.iter().map(|(invariant, count)| (invariant.to_string(), json!(count))).collect();
        let checked = json!({
            "records": found.records, "stock_records": found.stock_records, "effects": found.effects,
            "skus": found.skus, "reservations": found.reservations, "orders": found.orders,
        });
        let whole = found.first <= 1;
        output.json(&json!({
            "type": "summary", "violations": violations, "checked": checked, "first_record": found.first, "whole": whole,
        }))?;
        return Ok(exit);
    }
    for one in &found.broken {
        output.line(&output.styled(Style::Red, &crate::show::clean(&one.to_string())))?;
    }
    if broken > found.broken.len() as u64 {
        output.line(&format!("and {} more", broken - found.broken.len() as u64))?;
    }
    output.line(&format!(
        "checked {} records ({} of stock), {} effects, {} SKUs, {} reservations, {} orders",
        found.records, found.stock_records, found.effects, found.skus, found.reservations, found.orders
    ))?;
    if found.first > 1 {
        let first = found.first;
        output.line(&format!("the journal begins at record {first}: stock was not folded from the journal alone"))?;
    }
    let (style, verdict) = match broken {
        0 => (Style::Green, "every invariant holds".to_owned()),
        1 => (Style::Red, "1 violation".to_owned()),
        more => (Style::Red, format!("{more} violations")),
    };
    output.line(&output.styled(style, &verdict))?;
    Ok(exit)
}
