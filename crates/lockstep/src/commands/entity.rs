//! `lockstep entity`: what is known of an entity, how it came about, and why.

mod incomplete;
mod merge;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::exit::{Exit, Failure};
use crate::output::{Output, Style, Table};
use crate::remote::{Remote, RemoteArgs, query, segment};
use crate::{show, time};

/// How many changes one page asks for.
const PAGE: u64 = 200;

/// Read an entity: its document, its history, and why each field is what it is.
#[derive(Debug, Args)]
pub struct EntityArgs {
    #[command(subcommand)]
    command: EntityCommand,
}

#[derive(Debug, Subcommand)]
enum EntityCommand {
    /// Print an entity as it is now.
    #[command(after_help = "Example:\n  lockstep entity show order/web:1001")]
    Show(NameArgs),
    /// Print what was said of an entity and what became of it, newest first.
    #[command(after_help = "Example:\n  lockstep entity history order/web:1001 --limit 20")]
    History(HistoryArgs),
    /// Say for each field who won, by which rule, and who lost and why.
    #[command(after_help = "Example:\n  lockstep entity explain price/SKU-1:web:EUR --field amount")]
    Explain(ExplainArgs),
    /// List the entities of which nobody is told, because required fields are missing; the oldest of each kind first.
    #[command(after_help = "Example:\n  lockstep entity incomplete --kind order --older-than 5m")]
    Incomplete(incomplete::IncompleteArgs),
    /// Merge an entity into another one, because they are one. It can be undone.
    #[command(
        after_help = "Example:\n  lockstep entity merge customer/web:8 customer/web:7 --reason 'the same person'"
    )]
    Merge(merge::MergeArgs),
    /// Undo a merge: the entity is one of its own again, with all that was said by its key.
    #[command(after_help = "Example:\n  lockstep entity unmerge customer/web:8 --reason 'a namesake'")]
    Unmerge(merge::UnmergeArgs),
}

#[derive(Debug, Args)]
struct NameArgs {
    /// The entity: its kind, a slash, its key.
    #[arg(value_name = "KIND/KEY", value_parser = parse_name)]
    name: Name,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
struct HistoryArgs {
    #[command(flatten)]
    name: NameArgs,
    /// At most so many changes.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: u64,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Only this field.
    #[arg(long)]
    field: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) kind: String,
    pub(super) key: String,
}

pub(super) fn parse_name(text: &str) -> Result<Name, String> {
    match text.split_once('/') {
        Some((kind, key)) if !kind.is_empty() && !key.is_empty() => {
            Ok(Name { kind: kind.to_owned(), key: key.to_owned() })
        }
        _ => Err("an entity is named KIND/KEY, for example order/web:1001".to_owned()),
    }
}

impl Name {
    fn path(&self) -> String {
        format!("/v1/entities/{}/{}", segment(&self.kind), segment(&self.key))
    }
}

/// Runs the command.
pub async fn run(args: &EntityArgs, output: &Output) -> Result<Exit, Failure> {
    match &args.command {
        EntityCommand::Show(args) => entity(args, output).await,
        EntityCommand::History(args) => history(args, output).await,
        EntityCommand::Explain(args) => explain(args, output).await,
        EntityCommand::Incomplete(args) => incomplete::run(args, output).await,
        EntityCommand::Merge(args) => merge::merge(args, output).await,
        EntityCommand::Unmerge(args) => merge::unmerge(args, output).await,
    }
}

async fn entity(args: &NameArgs, output: &Output) -> Result<Exit, Failure> {
    let entity = Remote::new(&args.remote)?.get(&args.name.path()).await?.body;
    if output.is_json() {
        output.json(&entity)?;
        return Ok(Exit::Done);
    }
    let when = |member: &str| time::shorten(entity[member].as_str().unwrap_or("-"));
    output.line(&format!(
        "{}  changed {}  made {}",
        heading(&entity, output),
        when("updated_at"),
        when("created_at")
    ))?;
    let members = strings(&entity["members"]);
    if !members.is_empty() {
        output.line(&format!("merged into it: {}", show::clean(&members.join(", "))))?;
    }
    let mut table = Table::new(&["field", "value"]);
    for (name, value) in entity["document"].as_object().into_iter().flatten() {
        table.row([name.clone(), show::value(value)]);
    }
    output.text(&table.render(output))?;
    Ok(Exit::Done)
}

async fn history(args: &HistoryArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.name.remote)?;
    let mut table = Table::new(&["position", "recorded", "system", "outcome", "version", "event", "changed"]);
    let (mut from, mut left) = (None, args.limit);
    while left > 0 {
        let parameters =
            [("from", from.map(|from: u64| from.to_string())), ("limit", Some(left.min(PAGE).to_string()))];
        let page = remote.get(&format!("{}/history{}", args.name.name.path(), query(&parameters))).await?.body;
        let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        for item in items {
            if output.is_json() {
                output.json(item)?;
            } else {
                history_row(item, &mut table);
            }
        }
        left = left.saturating_sub(items.len() as u64);
        from = page["next_from"].as_u64();
        if from.is_none() || items.is_empty() {
            break;
        }
    }
    if !output.is_json() {
        output.text(&table.render(output))?;
        if let Some(from) = from {
            output.line(
                &output.styled(Style::Dim, &format!("older ones follow at position {from}: use a larger --limit")),
            )?;
        }
    }
    Ok(Exit::Done)
}

fn history_row(item: &Value, table: &mut Table) {
    let text = |member: &str| item[member].as_str().unwrap_or_default().to_owned();
    let superseded = item["outcome"] == "superseded";
    table.styled_row(
        superseded.then_some(Style::Dim),
        [
            item["position"].to_string(),
            time::shorten(&text("recorded_at")),
            text("system"),
            text("outcome"),
            item["version"].to_string(),
            item["event_type"].as_str().unwrap_or("-").to_owned(),
            strings(&item["changed"]).join(","),
        ],
    );
    // What did not win is told with its reason.
    let system = item["system"].as_str().unwrap_or_default();
    for ruling in item["rulings"].as_array().into_iter().flatten() {
        let winner = ruling["winner"].as_str().unwrap_or_default();
        if winner != system || ruling["stale"] == true {
            let fields = strings(&ruling["fields"]).join(", ");
            let reason = ruling["reason"].as_str().unwrap_or_default();
            table.note(Style::Dim, &format!("{fields}: {winner} stands, {reason}"));
        }
    }
}

async fn explain(args: &ExplainArgs, output: &Output) -> Result<Exit, Failure> {
    let path = format!("{}/explain{}", args.name.name.path(), query(&[("field", args.field.clone())]));
    let explanation = Remote::new(&args.name.remote)?.get(&path).await?.body;
    if output.is_json() {
        output.json(&explanation)?;
        return Ok(Exit::Done);
    }
    output.line(&heading(&explanation, output))?;
    output.text(&explanation_table(&explanation, args.field.is_some()).render(output))?;
    Ok(Exit::Done)
}

/// Field by field the winner; below it what the others say, and why it did not win.
fn explanation_table(explanation: &Value, with_reason: bool) -> Table {
    let mut table = Table::new(&["field", "value", "winner", "rule", "when", "position"]);
    for field in explanation["fields"].as_array().into_iter().flatten() {
        let winner = &field["winner"];
        let text = |value: &Value, member: &str| value[member].as_str().unwrap_or_default().to_owned();
        table.row([
            text(field, "field"),
            show::value(&field["value"]),
            who(winner),
            text(field, "rule"),
            time::shorten(&text(winner, "occurred_at")),
            winner["position"].to_string(),
        ]);
        if with_reason {
            table.note(Style::Green, &text(field, "reason"));
            if let Some(delivery) = winner["delivery"].as_str() {
                table.note(Style::Green, &format!("said in the course of {}", show::clean(delivery)));
            }
        }
        for loser in field["losers"].as_array().into_iter().flatten() {
            table.note(
                Style::Dim,
                &format!(
                    "{} said {} ({}, position {}): {}",
                    who(loser),
                    show::value(&loser["value"]),
                    time::shorten(&text(loser, "occurred_at")),
                    loser["position"],
                    text(loser, "reason"),
                ),
            );
        }
    }
    table
}

/// The system of a claim, with the key by which it was said where that is a merged one's.
fn who(claim: &Value) -> String {
    let system = claim["system"].as_str().unwrap_or_default();
    claim["member"].as_str().map_or_else(|| system.to_owned(), |member| format!("{system}@{member}"))
}

fn heading(entity: &Value, output: &Output) -> String {
    let text = |member: &str| show::clean(entity[member].as_str().unwrap_or_default());
    let name = format!("{}/{}", text("kind"), text("key"));
    format!("{}  version {}", output.styled(Style::Bold, &name), entity["version"])
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_shows_winners_in_columns_and_losers_below() {
        let claim = |system: &str, value: Value, position: u64, reason: Option<&str>| json!({ "system": system, "value": value, "occurred_at": "2024-05-01T10:00:00.000000Z", "sequence": 0, "position": position, "reason": reason });
        let eur = |minor: i64| json!({ "minor": minor, "currency": "EUR" });
        let explanation = json!({ "kind": "price", "key": "SKU-1:web:EUR", "version": 2, "fields": [
            { "field": "amount", "value": eur(1099), "rule": "owner", "reason": "the winner owns this field",
              "winner": claim("erp", eur(1099), 7, None),
              "losers": [claim("shop", eur(999), 9, Some("erp owns this field, or stands before it in the list of owners"))] },
            { "field": "list", "value": "web", "rule": "only", "reason": "no other system has spoken of this field",
              "winner": claim("shop", json!("web"), 9, None), "losers": [] },
        ]});
        let expected = "\
field   value      winner  rule   when                      position
amount  10.99 EUR  erp     owner  2024-05-01T10:00:00.000Z  7
    shop said 9.99 EUR (2024-05-01T10:00:00.000Z, position 9): erp owns this field, or stands before it in the list of owners
list    web        shop    only   2024-05-01T10:00:00.000Z  9
";
        assert_eq!(explanation_table(&explanation, false).render(&Output::new(false)), expected);
        let with_reason = explanation_table(&explanation, true).render(&Output::new(false));
        assert!(with_reason.contains("    the winner owns this field\n"));
    }

    #[test]
    fn a_name_is_a_kind_and_a_key() {
        let name = parse_name("stock/SKU/1@berlin").unwrap();
        assert_eq!(name.path(), "/v1/entities/stock/SKU%2F1@berlin");
        assert!(parse_name("order").is_err() && parse_name("/x").is_err() && parse_name("order/").is_err());
    }
}
