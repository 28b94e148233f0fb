//! `lockstep reserve`, `commit` and `release`: a reservation by hand, as a shop would make it.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::OnceArgs;
use super::atp::number;
use crate::demo::text::duration;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Answer, Remote, RemoteArgs, segment};
use crate::{show, time};

/// Reserve stock for a cart or an order, all or nothing.
#[derive(Debug, Args)]
pub struct ReserveArgs {
    /// What is wanted: the SKU or kit, how much in its base unit, and where it must come from, if anywhere.
    #[arg(value_name = "SKU=QTY[@LOCATION]", required = true, value_parser = parse_item)]
    items: Vec<Wanted>,
    /// The channel that sells.
    #[arg(long)]
    channel: String,
    /// The reservation's id; without it one is made from the idempotency key.
    #[arg(long)]
    id: Option<String>,
    /// The cart or order that it is for; without it the reservation's id, or else the idempotency key.
    #[arg(long)]
    owner: Option<String>,
    /// For how long it holds; without it as the hub is configured.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    /// Take what there is where there is not enough.
    #[arg(long)]
    allow_partial: bool,
    /// One item may come from several locations.
    #[arg(long)]
    allow_split: bool,
    /// What is missing may be promised of what is on order by then (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = super::timestamp)]
    backorder_until: Option<String>,
    #[command(flatten)]
    once: OnceArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Make a hold last: it does not expire any more.
#[derive(Debug, Args)]
pub struct StepArgs {
    /// The reservation.
    id: String,
    #[command(flatten)]
    once: OnceArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Give a reservation back: all that is open of it, or a part of a line.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Only so much of that line.
    #[arg(long, value_name = "LINE=QTY", value_parser = parse_line)]
    line: Vec<(u32, i64)>,
    #[command(flatten)]
    step: StepArgs,
}

/// An item on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    sku: String,
    quantity: i64,
    location: Option<String>,
}

/// A SKU may have any characters, so the last equals sign counts.
pub(super) fn parse_item(text: &str) -> Result<Wanted, String> {
    let wrong = || "an item is SKU=QUANTITY or SKU=QUANTITY@LOCATION, such as MUG-01=2@berlin".to_owned();
    let (sku, rest) = text.rsplit_once('=').filter(|(sku, _)| !sku.is_empty()).ok_or_else(wrong)?;
    let (quantity, location) = rest.split_once('@').map_or((rest, None), |(quantity, at)| (quantity, Some(at)));
    let quantity = parse_quantity(quantity)?;
    if quantity < 1 {
        return Err(format!("a quantity to reserve is 1 or more, not {quantity}"));
    }
    if location == Some("") {
        return Err(wrong());
    }
    Ok(Wanted { sku: sku.to_owned(), quantity, location: location.map(str::to_owned) })
}

/// A fraction is written in a smaller unit: a SKU says how many digits that has.
pub(super) fn parse_quantity(text: &str) -> Result<i64, String> {
    let rule = "a quantity is a whole number in the SKU's base unit x 10^`qty_scale`, such as 2";
    text.parse().map_err(|_| format!("{rule}, not `{text}`"))
}

fn parse_line(text: &str) -> Result<(u32, i64), String> {
    let parsed = text.split_once('=').and_then(|(line, quantity)| Some((line.parse().ok()?, quantity.parse().ok()?)));
    parsed.ok_or_else(|| "a line is its number and how much of it, such as 0=1".to_owned())
}

/// Runs `reserve`.
pub async fn reserve(args: &ReserveArgs, output: &Output) -> Result<Exit, Failure> {
    let key = args.once.key();
    let owner = args.owner.as_ref().or(args.id.as_ref()).unwrap_or(&key);
    let item = |of: &Wanted| match &of.location {
        None => json!({ "sku": of.sku, "quantity": of.quantity }),
        Some(location) => json!({ "sku": of.sku, "quantity": of.quantity, "location": location }),
    };
    let items: Vec<Value> = args.items.iter().map(item).collect();
    let mut body = json!({
        "owner": owner, "channel": args.channel, "items": items,
        "allow_partial": args.allow_partial, "allow_split": args.allow_split,
    });
    if let Some(id) = &args.id {
        body["id"] = id.as_str().into();
    }
    if let Some(expires) = args.expires {
        body["hold_s"] = expires.as_secs().max(1).into();
    }
    if let Some(until) = &args.backorder_until {
        body["backorder_until"] = until.as_str().into();
    }
    let answer = Remote::new(&args.remote)?.write_or_conflict("/v1/reservations", &key, Some(&body)).await?;
    told(&answer, output)
}

/// Runs `commit`.
pub async fn commit(args: &StepArgs, output: &Output) -> Result<Exit, Failure> {
    step(args, "commit", None, output).await
}

/// Runs `release`.
pub async fn release(args: &ReleaseArgs, output: &Output) -> Result<Exit, Failure> {
    let line = |(line, quantity): &(u32, i64)| json!({ "line": line, "quantity": quantity });
    let body = json!({ "lines": args.line.iter().map(line).collect::<Vec<_>>() });
    step(&args.step, "release", Some(&body).filter(|_| !args.line.is_empty()), output).await
}

async fn step(args: &StepArgs, name: &str, body: Option<&Value>, output: &Output) -> Result<Exit, Failure> {
    let path = format!("/v1/reservations/{}/{name}", segment(&args.id));
    told(&Remote::new(&args.remote)?.write_or_conflict(&path, &args.once.key(), body).await?, output)
}

/// Prints the reservation, or why there is none: that is an answer too, and belongs to the output.
fn told(answer: &Answer, output: &Output) -> Result<Exit, Failure> {
    let body = &answer.body;
    let is_refused = !answer.status.is_success();
    let exit = if is_refused { Exit::No } else { Exit::Done };
    if output.is_json() {
        output.json(body)?;
        return Ok(exit);
    }
    if is_refused {
        output.line(&output.styled(Style::Red, &show::value(&body["detail"])))?;
    } else {
        reservation(body, output)?;
    }
    shortfalls(body, output)?;
    Ok(exit)
}

fn reservation(body: &Value, output: &Output) -> Result<(), Failure> {
    let text = |name: &str| show::value(&body[name]);
    let until = body["expires_at"].as_str().map(|at| format!(" until {}", time::shorten(at))).unwrap_or_default();
    let again = if body["repeated"] == true { " (it was so before)" } else { "" };
    let title = format!("{} of {}: {}{until}{again}", text("id"), text("owner"), text("state"));
    output.line(&output.styled(Style::Bold, &title))?;
    let mut table = Table::new(&["line", "sku", "location", "quantity", "open", "consumed", "released", "expired"]);
    for line in body["lines"].as_array().into_iter().flatten() {
        let location = line["location"].as_str().map_or_else(|| "backordered".to_owned(), str::to_owned);
        let rest = ["quantity", "open", "consumed", "released", "expired"].map(|name| number(line, name));
        table.row([number(line, "line"), show::value(&line["sku"]), location].into_iter().chain(rest));
    }
    output.text(&table.render(output))?;
    if body["facts"].is_object() { super::atp::print_freshness(&body["facts"], output) } else { Ok(()) }
}

/// What falls short, line by line.
fn shortfalls(body: &Value, output: &Output) -> Result<(), Failure> {
    let mut table = Table::new(&["item", "sku", "requested", "available", "missing"]);
    for of in body["shortfalls"].as_array().into_iter().flatten() {
        let missing = of["requested"].as_i64().unwrap_or(0) - of["available"].as_i64().unwrap_or(0);
        table.row([
            number(of, "item"),
            show::value(&of["sku"]),
            number(of, "requested"),
            number(of, "available"),
            missing.to_string(),
        ]);
    }
    if table.is_empty() { Ok(()) } else { output.text(&table.render(output)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_read_from_its_end() {
        let wanted = |sku: &str, quantity, location: Option<&str>| {
            Ok(Wanted { sku: sku.into(), quantity, location: location.map(str::to_owned) })
        };
        assert_eq!(parse_item("MUG-01=2"), wanted("MUG-01", 2, None));
        assert_eq!(parse_item("a=b@c=3@berlin"), wanted("a=b@c", 3, Some("berlin")));
        for wrong in ["MUG-01", "=2", "MUG-01=", "MUG-01=0", "MUG-01=-1", "MUG-01=1.5", "MUG-01=2@"] {
            assert!(parse_item(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_line("0=3"), Ok((0, 3)));
        assert!(parse_line("x=3").is_err());
    }
}
