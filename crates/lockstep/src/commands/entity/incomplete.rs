//! `lockstep entity incomplete`: what nobody is told of, and what it waits for.

use clap::Args;

use super::strings;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use crate::remote::{Remote, RemoteArgs, query};
use crate::time;

/// How many entities one page asks for.
const PAGE: u64 = 500;

#[derive(Debug, Args)]
pub(super) struct IncompleteArgs {
    /// Only those of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Only those that have been incomplete for so long: a number with s, m, h or d, such as 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    older_than: Option<u64>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// A length of time in seconds.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let length = number.parse::<u64>().ok().zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds));
    length.ok_or_else(|| "it must be a whole number with s, m, h or d, such as 90s, 5m or 2d".to_owned())
}

pub(super) async fn run(args: &IncompleteArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let mut table = Table::new(&["entity", "since", "missing", "systems"]);
    let mut after = None;
    loop {
        let parameters = [
            ("kind", args.kind.clone()),
            ("older_than_s", args.older_than.map(|s| s.to_string())),
            ("after", after),
            ("limit", Some(PAGE.to_string())),
        ];
        let page = remote.get(&format!("/v1/incomplete{}", query(&parameters))).await?.body;
        for item in page["items"].as_array().into_iter().flatten() {
            if output.is_json() {
                output.json(item)?;
                continue;
            }
            let text = |member: &str| item[member].as_str().unwrap_or_default();
            table.row([
                format!("{}/{}", text("kind"), text("key")),
                time::shorten(text("since")),
                strings(&item["missing"]).join(", "),
                strings(&item["systems"]).join(", "),
            ]);
        }
        after = page["next_after"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if !output.is_json() {
        let none = "there are no such incomplete entities";
        output.text(&if table.is_empty() { none.to_owned() } else { table.render(output) })?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_its_unit() {
        assert_eq!(parse_seconds("5m"), Ok(300));
        assert_eq!(parse_seconds("2d"), Ok(172_800));
        for wrong in ["", "5", "m", "5 m", "1.5h", "-5s", "99999999999999999999s", "9999999999999999999d"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
