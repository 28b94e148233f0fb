//! `lockstep freshness`: how fresh each domain is at each destination.

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query};
use crate::{show, time};

/// Say how fresh each domain with a limit is, in the hub and at each destination.
#[derive(Debug, Args)]
pub struct FreshnessArgs {
    /// Only at this destination; `@hub` is the hub itself.
    #[arg(long)]
    destination: Option<String>,
    /// Only this domain: a kind of entities.
    #[arg(long)]
    domain: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Runs the command.
pub async fn run(args: &FreshnessArgs, output: &Output) -> Result<Exit, Failure> {
    let path = query(&[("destination", args.destination.clone()), ("domain", args.domain.clone())]);
    let found = Remote::new(&args.remote)?.get(&format!("/v1/freshness{path}")).await?.body;
    let mut table = Table::new(&["domain", "destination", "state", "why", "since", "limit", "behind", "breach in"]);
    let mut exit = Exit::Done;
    for item in found["items"].as_array().into_iter().flatten() {
        let style = match item["state"].as_str() {
            Some("current") => None,
            Some("delayed") => Some(Style::Yellow),
            _ => Some(Style::Red),
        };
        if style.is_some() {
            exit = Exit::No;
        }
        if output.is_json() {
            output.json(item)?;
            continue;
        }
        let seconds = |member: &str| item[member].as_f64().map_or("-".to_owned(), |s| format!("{s:.1} s"));
        table.styled_row(
            style,
            [
                show::value(&item["domain"]),
                show::value(&item["destination"]),
                show::value(&item["state"]),
                item["why"].as_str().unwrap_or("-").to_owned(),
                item["since"].as_str().map(time::shorten).unwrap_or_default(),
                seconds("limit_s"),
                seconds("behind_s"),
                seconds("breach_in_s"),
            ],
        );
    }
    if !output.is_json() {
        let none = "no domain declares a limit: see [freshness] of the configuration";
        output.text(&if table.is_empty() { none.to_owned() } else { table.render(output) })?;
    }
    Ok(exit)
}
