//! `lockstep simulate`: what would become of reservations, on a copy of the stock that a data folder has.
//!
//! It reads the folder beside a running hub, as `whatif` does, and not over HTTP: the same code decides as in the hub,
//! with every policy, kit and backorder, as of the last durable record, and a file of a million requests takes
//! nothing of the loop's time.

mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use lockstep_core::stock::{Answer, Command, Reserve, StockRefusal};
use lockstep_hub::{Standing, now_us};
use serde::Serialize;

use super::FolderArgs;
use crate::exit::{Exit, Failure, chain};
use crate::output::{Output, Style, Table};
use crate::time;

/// How many items are listed for a person.
const LISTED: usize = 50;

/// Try reservations on a copy of the stock of a data folder: what would be taken, what falls short. Writes nothing.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The reservations: JSON as POST /v1/reservations takes them (a list, or one a line), or CSV with the columns
    /// sku, quantity and, if need be, reservation, channel, location.
    file: PathBuf,
    /// The channel of those that do not say it.
    #[arg(long)]
    channel: Option<String>,
    /// Take what there is where there is not enough.
    #[arg(long)]
    allow_partial: bool,
    /// One item may come from several locations.
    #[arg(long)]
    allow_split: bool,
    /// Print every item, not only what falls short.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

/// What would become of an item.
#[derive(Debug, Serialize)]
struct Line {
    reservation: String,
    item: usize,
    sku: String,
    requested: i64,
    taken: i64,
    /// Promised of what is on order; a part of what is taken.
    backordered: i64,
    short: i64,
    /// Where it would come from.
    locations: BTreeMap<String, i64>,
    /// Why nothing is taken, where it is not this item that falls short.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// What would become of a SKU.
#[derive(Debug, Default, Serialize)]
struct Sum {
    requested: i64,
    taken: i64,
    backordered: i64,
    short: i64,
}

/// Runs the command.
pub fn run(args: &SimulateArgs, output: &Output) -> Result<Exit, Failure> {
    let folder = args.folder.open()?;
    let mut standing = Standing::beside(&folder.data_dir, folder.limits).map_err(|error| folder.not_read(&error))?;
    let now_us = now_us().max(standing.recorded_at_us());
    let defaults = file::Defaults {
        channel: args.channel.as_deref(),
        hold_s: folder.hold_s,
        now_us,
        allow_partial: args.allow_partial,
        allow_split: args.allow_split,
    };
    let requests = file::read(&args.file, &defaults)?;
    let (mut sums, mut lines) = (BTreeMap::<(String, String), Sum>::new(), Vec::new());
    let (mut whole, mut listed, mut short) = (0_usize, 0, 0_usize);
    for request in &requests {
        let decided = standing.decide(&Command::Reserve(request.clone()), now_us);
        let answer = decided.map_err(|error| Failure::usage("data-folder", chain(&error)))?.answer;
        let items = items(request, &answer);
        whole += usize::from(items.iter().all(|line| line.taken == line.requested));
        for line in items {
            let sum = sums.entry((line.sku.clone(), request.channel.to_string())).or_default();
            sum.requested += line.requested;
            sum.taken += line.taken;
            sum.backordered += line.backordered;
            sum.short += line.requested - line.taken;
            short += usize::from(line.taken < line.requested);
            if output.is_json() {
                output.json(&Typed { what: "item", inner: &line })?;
            } else if args.all || line.taken < line.requested {
                listed += 1;
                if listed <= LISTED {
                    lines.push(line);
                }
            }
        }
    }
    let exit = if whole == requests.len() { Exit::Done } else { Exit::No };
    if output.is_json() {
        for ((sku, channel), sum) in &sums {
            let left = standing.availability(sku, channel, now_us).atp;
            output.json(&Typed { what: "sku", inner: &OfSku { sku, channel, sum, available_after: left } })?;
        }
        let summary = Summary { requests: requests.len(), reserved: whole, position: standing.position() };
        output.json(&Typed { what: "summary", inner: &summary })?;
        return Ok(exit);
    }
    print_lines(&lines, listed, output)?;
    let mut table = Table::new(&["sku", "channel", "requested", "taken", "backordered", "short", "available after"]);
    for ((sku, channel), sum) in &sums {
        let left = standing.availability(sku, channel, now_us).atp;
        let numbers = [sum.requested, sum.taken, sum.backordered, sum.short, left].map(|number| number.to_string());
        let style = (sum.short > 0).then_some(Style::Yellow);
        table.styled_row(style, [sku.clone(), channel.clone()].into_iter().chain(numbers));
    }
    output.text(&table.render(output))?;
    let as_of = time::format_us(standing.recorded_at_us());
    output.line(&format!(
        "{whole} of {} would be reserved whole, {short} items fall short; as of record {} of {as_of}, nothing was written",
        requests.len(),
        standing.position()
    ))?;
    Ok(exit)
}

fn print_lines(lines: &[Line], all: usize, output: &Output) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["reservation", "item", "sku", "requested", "taken", "backordered", "short", "from"]);
    for line in lines {
        let from: Vec<String> = line.locations.iter().map(|(at, quantity)| format!("{quantity} {at}")).collect();
        let style = (line.taken < line.requested).then_some(Style::Yellow);
        let numbers = [line.requested, line.taken, line.backordered, line.short].map(|number| number.to_string());
        let names = [line.reservation.clone(), line.item.to_string(), line.sku.clone()].into_iter();
        table.styled_row(style, names.chain(numbers).chain([from.join(", ")]));
        if let Some(why) = &line.refused {
            table.note(Style::Dim, why);
        }
    }
    output.text(&table.render(output))?;
    if all > lines.len() {
        output.line(&format!("and {} more items; --json has all", all - lines.len()))?;
    }
    output.line("")
}

/// What becomes of each item of a request.
fn items(request: &Reserve, answer: &Result<Answer, StockRefusal>) -> Vec<Line> {
    let (shortfalls, lines) = match answer {
        Ok(Answer::Reservation { shortfalls, lines, .. }) => (shortfalls.as_slice(), lines.as_slice()),
        Err(StockRefusal::Short(shortfalls)) => (shortfalls.as_slice(), [].as_slice()),
        _ => ([].as_slice(), [].as_slice()),
    };
    let one = |(number, item): (usize, &lockstep_core::stock::Item)| {
        let short = shortfalls.iter().find(|short| short.item as usize == number);
        let missing = short.map_or(0, |short| short.requested - short.available);
        let refused = match answer {
            Err(StockRefusal::Short(_)) if missing > 0 => None,
            Err(StockRefusal::Short(_)) => Some("not taken: another item of the request falls short".to_owned()),
            Err(refusal) => Some(refusal.to_string()),
            Ok(Answer::Reservation { repeated: true, .. }) => Some("it was reserved before".to_owned()),
            Ok(_) => None,
        };
        let mut locations = BTreeMap::new();
        let mut backordered = 0;
        for line in lines.iter().filter(|line| line.item as usize == number) {
            if line.location.is_empty() {
                backordered += line.open;
            } else {
                *locations.entry(line.location.clone()).or_default() += line.open;
            }
        }
        Line {
            reservation: request.id.to_string(),
            item: number,
            sku: item.sku.to_string(),
            requested: item.quantity,
            taken: if answer.is_ok() { item.quantity - missing } else { 0 },
            backordered,
            short: missing,
            locations,
            refused,
        }
    };
    request.items.iter().enumerate().map(one).collect()
}

/// A line says in `type` what it is.
#[derive(Serialize)]
struct Typed<'a, T> {
    #[serde(rename = "type")]
    what: &'static str,
    #[serde(flatten)]
    inner: &'a T,
}

#[derive(Serialize)]
struct OfSku<'a> {
    sku: &'a str,
    channel: &'a str,
    #[serde(flatten)]
    sum: &'a Sum,
    available_after: i64,
}

#[derive(Serialize)]
struct Summary {
    requests: usize,
    reserved: usize,
    /// The last record that was known.
    position: u64,
}
