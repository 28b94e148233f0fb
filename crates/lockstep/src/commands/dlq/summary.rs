//! `lockstep dlq summary`: what is wrong where, and what it comes to.

use clap::Args;
use lockstep_core::money;
use serde_json::Value;

use super::filter::FilterArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use crate::remote::{Remote, RemoteArgs, query};
use crate::{show, time};

#[derive(Debug, Args)]
pub(super) struct SummaryArgs {
    /// Only those of this destination.
    #[arg(long)]
    destination: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) async fn run(args: &SummaryArgs, output: &Output) -> Result<Exit, Failure> {
    let parameters = args.filter.parameters(args.destination.as_deref());
    let path = format!("/v1/dead-letters/summary{}", query(&parameters));
    let summary = Remote::new(&args.remote)?.get(&path).await?.body;
    if output.is_json() {
        output.json(&summary)?;
        return Ok(Exit::Done);
    }
    let columns =
        ["destination", "reason", "count", "impact", "value", "overdue", "scheduled", "first", "last", "statuses"];
    let mut table = Table::new(&columns);
    for group in summary["groups"].as_array().into_iter().flatten() {
        let text = |member: &str| show::clean(group[member].as_str().unwrap_or_default());
        table.row([
            text("destination"),
            text("reason"),
            group["count"].to_string(),
            group["impact"].to_string(),
            list(&group["values"], |currency, minor| amount(minor, currency)),
            group["overdue"].to_string(),
            group["scheduled"].to_string(),
            time::shorten(&text("first_dead_at")),
            time::shorten(&text("last_dead_at")),
            list(&group["statuses"], |status, count| {
                format!("{}x{count}", if status == "0" { "none" } else { status })
            }),
        ]);
    }
    output.text(&if table.is_empty() { "there are no dead letters".to_owned() } else { table.render(output) })?;
    Ok(Exit::Done)
}

fn list(members: &Value, one: impl Fn(&str, i64) -> String) -> String {
    let members = members.as_object().into_iter().flatten();
    let all: Vec<String> = members.map(|(name, number)| one(name, number.as_i64().unwrap_or(0))).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

/// Minor units as people write them.
pub(super) fn amount(minor: i64, currency: &str) -> String {
    let digits = money::digits(currency).unwrap_or(2) as usize;
    let unsigned = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = unsigned.split_at(unsigned.len() - digits);
    let (sign, point) = (if minor < 0 { "-" } else { "" }, if digits > 0 { "." } else { "" });
    format!("{sign}{whole}{point}{fraction} {}", show::clean(currency))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let rows = [
            (129_900, "EUR", "1299.00 EUR"),
            (5, "USD", "0.05 USD"),
            (-1_250, "KWD", "-1.250 KWD"),
            (7, "JPY", "7 JPY"),
        ];
        for (minor, currency, text) in rows {
            assert_eq!(amount(minor, currency), text);
        }
    }
}
