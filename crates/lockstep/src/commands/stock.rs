//! `lockstep stock`: what lies where, what happened to it, and the two words that a person has to say by hand now and
//! then: a count, and that goods moved.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::OnceArgs;
use super::atp::{print_freshness, terms};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::{show, time};

/// How many entries of a ledger one page asks for.
const PAGE: usize = 500;

/// Look at stock: what lies where, who holds it, what happened; count it and move it by hand.
#[derive(Debug, Args)]
pub struct StockArgs {
    #[command(subcommand)]
    command: StockCommand,
}

#[derive(Debug, Subcommand)]
enum StockCommand {
    /// Print a SKU at a location: every term of the equation, and who holds what.
    #[command(after_help = "Example:\n  lockstep stock show MUG-01 berlin")]
    Show(PlaceArgs),
    /// Print what happened to a SKU at a location: counts, movements, reservations, settings; oldest first.
    #[command(after_help = "Example:\n  lockstep stock ledger MUG-01 berlin --limit 20")]
    Ledger(LedgerArgs),
    /// Tell a count of what lies there. It never opens, closes or shrinks a reservation.
    #[command(after_help = "Example:\n  lockstep stock count MUG-01 berlin 40 --idempotency-key shelf-7-monday")]
    Count(CountArgs),
    /// Tell that goods moved: came in, left, came back, or were never there.
    #[command(
        after_help = "Example:\n  lockstep stock move MUG-01 berlin receipt 12\n  lockstep stock move MUG-01 berlin adjust -1"
    )]
    Move(MoveArgs),
}

#[derive(Debug, Args)]
struct PlaceArgs {
    /// The SKU.
    sku: String,
    /// The location.
    location: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct LedgerArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Only what is after this position.
    #[arg(long, value_name = "POSITION", value_parser = super::position, default_value_t = 0)]
    after: u64,
    /// At most so many entries.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
struct CountArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The number, in the SKU's base unit.
    #[arg(allow_negative_numbers = true, value_parser = super::reservation::parse_quantity)]
    quantity: i64,
    /// What the number means: all that lies there, or what is free of it.
    #[arg(long, default_value = "on-hand", value_parser = ["on-hand", "available"])]
    basis: String,
    /// When it was true (RFC 3339), instead of now.
    #[arg(long, value_name = "TIME", value_parser = super::timestamp)]
    as_of: Option<String>,
    /// It is true, although it is many times what was to be expected (`stock.strict`).
    #[arg(long)]
    confirmed: bool,
    #[command(flatten)]
    once: OnceArgs,
}

#[derive(Debug, Args)]
struct MoveArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// What it is.
    #[arg(value_parser = ["receipt", "adjust", "ship", "return-restock", "return-damaged", "return-lost"])]
    kind: String,
    /// How much, in the SKU's base unit; of `adjust` the difference, up or down.
    #[arg(allow_negative_numbers = true, value_parser = super::reservation::parse_quantity)]
    quantity: i64,
    /// The reservation that a `ship` consumes.
    #[arg(long, value_name = "ID")]
    reservation: Option<String>,
    /// When (RFC 3339), instead of now.
    #[arg(long, value_name = "TIME", value_parser = super::timestamp)]
    occurred_at: Option<String>,
    #[command(flatten)]
    once: OnceArgs,
}

impl PlaceArgs {
    fn path(&self, rest: &str) -> String {
        format!("/v1/stock/{}/{}{rest}", segment(&self.sku), segment(&self.location))
    }
}

/// Runs the command.
pub async fn run(args: &StockArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        StockCommand::Show(place) => {
            let stock = Remote::new(&place.remote)?.get(&place.path("")).await?.body;
            if output.is_json() {
                output.json(&stock)?;
            } else {
                terms(std::iter::once(&stock["terms"]), output)?;
                print_freshness(&stock, output)?;
            }
            Ok(Exit::Done)
        }
        StockCommand::Ledger(args) => ledger(args, output).await,
        StockCommand::Count(args) => {
            let mut body = json!({ "basis": args.basis.replace('-', "_"), "quantity": args.quantity });
            if let Some(as_of) = &args.as_of {
                body["as_of"] = as_of.as_str().into();
            }
            if args.confirmed {
                body["confirmed"] = true.into();
            }
            say(&args.place, (Method::PUT, "/count"), &args.once, &body, output).await
        }
        StockCommand::Move(args) => {
            let mut body = json!({ "kind": args.kind.replace('-', "_"), "quantity": args.quantity });
            for (name, value) in [("reservation", &args.reservation), ("occurred_at", &args.occurred_at)] {
                if let Some(value) = value {
                    body[name] = value.as_str().into();
                }
            }
            say(&args.place, (Method::POST, "/movements"), &args.once, &body, output).await
        }
    }
}

async fn say(
    place: &PlaceArgs,
    (method, rest): (Method, &str),
    once: &OnceArgs,
    body: &Value,
    output: &Output,
) -> Result<Exit, Failure> {
    let remote = Remote::new(&place.remote)?;
    let said = remote.write(method, &place.path(rest), &once.key(), Some(body)).await?.body;
    if output.is_json() {
        output.json(&said)?;
        return Ok(Exit::Done);
    }
    let what = match said["outcome"].as_str().unwrap_or_default() {
        "ignored" => "ignored: there is a newer count, this one is recorded only",
        "repeated" => "repeated: it had its effect before",
        "duplicate" => "duplicate: the same request came before",
        other => other,
    };
    let stock = remote.get(&place.path("")).await?.body;
    let text = |value: &Value| show::value(value);
    let (sku, location, terms) = (show::clean(&place.sku), show::clean(&place.location), &stock["terms"]);
    let (on_hand, left) = (text(&terms["on_hand"]), text(&terms["available_to_fulfil"]));
    output.line(&format!("{sku}@{location}: {what}; {on_hand} on hand, {left} to fulfil"))?;
    Ok(Exit::Done)
}

async fn ledger(args: &LedgerArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.place.remote)?;
    let mut table = Table::new(&["position", "recorded at", "what", "by"]);
    let (mut after, mut left) = (args.after, args.limit.unwrap_or(usize::MAX));
    while left > 0 {
        let parameters = [("after", Some(after.to_string())), ("limit", Some(left.min(PAGE).to_string()))];
        let page = remote.get(&args.place.path(&format!("/ledger{}", query(&parameters)))).await?.body;
        for item in page["items"].as_array().into_iter().flatten() {
            left = left.saturating_sub(1);
            if output.is_json() {
                output.json(item)?;
                continue;
            }
            let what = item["event_type"].as_str().map_or_else(|| "setting".to_owned(), str::to_owned);
            table.row([
                item["position"].to_string(),
                time::shorten(item["recorded_at"].as_str().unwrap_or_default()),
                what,
                item["system"].as_str().unwrap_or("hub").to_owned(),
            ]);
            table.note(Style::Dim, &afterwards(&item["document"], &args.place));
        }
        after = page["next_after"].as_u64().unwrap_or(after);
        if page["at_end"] != false {
            break;
        }
    }
    if output.is_json() {
        return Ok(Exit::Done);
    }
    let place = format!("{}@{}", show::clean(&args.place.sku), show::clean(&args.place.location));
    output.text(&if table.is_empty() { format!("nothing happened to {place}") } else { table.render(output) })?;
    Ok(Exit::Done)
}

/// What a document of the ledger says of the place, on one line: of a reservation only its lines that are here.
fn afterwards(document: &Value, place: &PlaceArgs) -> String {
    let Some(lines) = document["lines"].as_array() else {
        let said = document.as_object().into_iter().flatten();
        let said = said.filter(|(name, value)| !value.is_null() && *name != "sku" && *name != "location");
        return said.map(|(name, value)| format!("{name} {}", show::value(value))).collect::<Vec<_>>().join(", ");
    };
    let here = lines.iter().filter(|line| line["sku"] == *place.sku && line["location"] == *place.location);
    let one = |line: &Value| {
        let parts = ["open", "consumed", "released", "expired"];
        let parts = parts.iter().filter(|part| line[**part] != 0).map(|part| format!("{} {part}", line[*part]));
        format!("line {} of {}: {}", line["line"], line["quantity"], parts.collect::<Vec<_>>().join(", "))
    };
    let lines: Vec<String> = here.map(one).collect();
    format!("{} {}: {}", show::value(&document["id"]), show::value(&document["state"]), lines.join("; "))
}
