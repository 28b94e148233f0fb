//! `lockstep atp`: what a channel may sell, and with every number why.

use clap::Args;
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query};
use crate::{show, time};

/// How many holders of each location are named.
const HOLDERS: usize = lockstep_api::HOLDERS_MAX;

/// Say what a channel may sell of SKUs, and with --explain why.
#[derive(Debug, Args)]
pub struct AtpArgs {
    /// The SKUs or kits, 1000 at most.
    #[arg(value_name = "SKU", required = true)]
    skus: Vec<String>,
    /// The channel: one that has a policy, where any has; without it no channel's limits count.
    #[arg(long)]
    channel: Option<String>,
    /// Until when what is on order counts (RFC 3339), instead of now.
    #[arg(long, value_name = "TIME", value_parser = super::timestamp)]
    at: Option<String>,
    /// Print every term of the equation, and who is behind it.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &AtpArgs, output: &Output) -> Result<Exit, Failure> {
    let mut parameters: Vec<_> = args.skus.iter().map(|sku| ("sku", Some(sku.clone()))).collect();
    parameters.push(("channel", args.channel.clone()));
    parameters.push(("at", args.at.clone()));
    parameters.push(("holders", args.explain.then(|| HOLDERS.to_string())));
    let answer = Remote::new(&args.remote)?.get(&format!("/v1/availability{}", query(&parameters))).await?.body;
    let items: Vec<&Value> = answer["items"].as_array().into_iter().flatten().collect();
    if output.is_json() {
        items.iter().try_for_each(|item| output.json(item))?;
    } else if args.explain {
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                output.line("")?;
            }
            explain(item, args.channel.as_deref(), output)?;
        }
    } else {
        let mut table = Table::new(&["sku", "available", "to order", "as of", "age", "fresh"]);
        for item in &items {
            let sku = show::value(&item["sku"]);
            let cells = [sku, number(item, "available"), number(item, "available_to_order")];
            table.row(cells.into_iter().chain(freshness(item)));
        }
        output.text(&table.render(output))?;
    }
    let all = items.iter().all(|item| item["available"].as_i64().is_some_and(|available| available > 0));
    Ok(if all { Exit::Done } else { Exit::No })
}

/// A number of an answer; a dash where it has none.
pub(super) fn number(of: &Value, name: &str) -> String {
    of[name].as_i64().map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// As of when, how old, whether that is fresh.
fn freshness(of: &Value) -> [String; 3] {
    let as_of = of["as_of"].as_str().map_or_else(|| "never".to_owned(), time::shorten);
    let age = of["age_s"].as_i64().map_or_else(|| "-".to_owned(), |age_s| format!("{age_s} s"));
    [as_of, age, if of["fresh"] == true { "yes" } else { "no" }.to_owned()]
}

/// The same as a sentence.
pub(super) fn print_freshness(of: &Value, output: &Output) -> Result<(), Failure> {
    let [as_of, age, _] = freshness(of);
    let text = match (of["as_of"].is_string(), of["fresh"] == true) {
        (false, _) => "nobody has counted it, and nothing was moved".to_owned(),
        (_, true) => format!("as of {as_of}, {age} ago: fresh"),
        (_, false) => format!("as of {as_of}, {age} ago: too old to rely on, ask whoever counts"),
    };
    let style = if of["fresh"] == true { Style::Green } else { Style::Yellow };
    output.line(&output.styled(style, &text))
}

fn explain(item: &Value, channel: Option<&str>, output: &Output) -> Result<(), Failure> {
    let of = |name: &str| number(item, name);
    let who = channel.map_or_else(|| "any channel".to_owned(), |channel| format!("channel {}", show::clean(channel)));
    let title = format!("{} for {who}: {} available", show::value(&item["sku"]), of("available"));
    output.line(&output.styled(Style::Bold, &title))?;
    let components: Vec<&Value> = item["components"].as_array().into_iter().flatten().collect();
    if components.is_empty() {
        output.line(&equation(item))?;
        let on_order = format!(
            "to order {} = {} available and what may be promised of {} on order, {} backordered",
            of("available_to_order"),
            of("available"),
            of("incoming"),
            of("backordered")
        );
        output.line(&on_order)?;
        terms(item["locations"].as_array().into_iter().flatten(), output)?;
    } else {
        let one = |part: &&Value| {
            let (per, of) = (number(part, "per_kit"), &part["of"]);
            format!("{} {} / {per}", number(of, "available"), show::value(&of["sku"]))
        };
        let parts: Vec<String> = components.iter().map(one).collect();
        output.line(&format!("a kit: the least of {}", parts.join(", ")))?;
    }
    print_freshness(item, output)?;
    for part in components {
        output.line("")?;
        explain(&part["of"], channel, output)?;
    }
    Ok(())
}

/// `7 = 5 berlin + 3 hamburg, - 1 buffer`, with the cap where there is one.
fn equation(item: &Value) -> String {
    let usable = |at: &Value| (at["usable"].as_i64() != Some(0)).then(|| number(at, "usable"));
    let parts: Vec<String> = item["locations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|at| Some(format!("{} {}", usable(at)?, show::value(&at["location"]))))
        .collect();
    let sum = if parts.is_empty() { "0 of any location".to_owned() } else { parts.join(" + ") };
    let capped = match item["cap_remaining"].as_i64() {
        Some(left) => format!("the lesser of ({sum}) and {left} left of the cap"),
        None => sum,
    };
    format!("available {} = {capped}, less {} buffer, at least 0", number(item, "available"), number(item, "buffer"))
}

/// Every term of locations, and below who is behind what is held and committed.
pub(super) fn terms<'v>(locations: impl Iterator<Item = &'v Value>, output: &Output) -> Result<(), Failure> {
    let columns = ["on_hand", "damaged", "quality_control", "blocked", "safety_stock", "held", "committed"];
    let mut table = Table::new(&[
        "location",
        "usable",
        "to fulfil",
        "= on hand",
        "- damaged",
        "- qc",
        "- blocked",
        "- safety",
        "- held",
        "- committed",
        "as of",
    ]);
    let mut holders = Table::new(&["reservation", "owner", "channel", "at", "open", "holds until"]);
    for at in locations {
        let of = |name: &str| number(at, name);
        let place = show::value(&at["location"]);
        let is_eligible = at["eligible"] == true;
        let usable = if is_eligible { of("usable") } else { "not served".to_owned() };
        let as_of = at["as_of"].as_str().map_or_else(|| "never".to_owned(), time::shorten);
        let cells = [place.clone(), usable, of("available_to_fulfil")].into_iter();
        table.row(cells.chain(columns.iter().map(|name| of(name))).chain([as_of]));
        for fence in at["fences"].as_array().into_iter().flatten() {
            let channel = show::value(&fence["channel"]);
            let (remaining, honoured) = (number(fence, "remaining"), number(fence, "honoured"));
            table.note(Style::Dim, &format!("{remaining} fenced for channel {channel}, {honoured} of that honoured"));
        }
        if at["shortage"].as_i64().is_some_and(|shortage| shortage > 0) {
            table.note(Style::Red, &format!("short: {} more promised than there is", of("shortage")));
        }
        let named: Vec<&Value> = at["holders"].as_array().into_iter().flatten().collect();
        for holder in &named {
            let until = holder["expires_at"].as_str().map_or_else(|| "committed".to_owned(), time::shorten);
            let text = |name: &str| show::value(&holder[name]);
            let open = number(holder, "open");
            holders.row([text("reservation"), text("owner"), text("channel"), place.clone(), open, until]);
        }
        if named.len() >= HOLDERS {
            holders.note(Style::Dim, &format!("there may be more at {place}: the first {HOLDERS} are named"));
        }
    }
    if table.is_empty() {
        return output.line("nothing is known of it at any location");
    }
    output.text(&table.render(output))?;
    if holders.is_empty() { Ok(()) } else { output.text(&holders.render(output)) }
}
