//! `lockstep whatif`: what would be different under another configuration.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::commands::{self, ConfigArgs};
use crate::config::{self, Secrets};
use crate::exit::{Exit, Failure, chain};
use crate::output::{Output, Style, Table};
use crate::show;
use crate::whatif::{
    self, Answer, Change, EntityDifference, FieldDifference, History, Other, Range, Said, Summary, WhatIfError, ask,
};

/// How many of each list are printed for a person.
const LISTED: usize = 50;
/// How many of the fields that differ most are printed for a person.
const FIELDS_LISTED: usize = 10;

/// Run the kept history through another configuration and say what would be different. Writes nothing.
#[derive(Debug, Args)]
pub struct WhatifArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The data folder, where it is not the configuration's.
    #[arg(long, alias = "data", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Begin with this record, with the entities as they were then; 1 is the first one ever.
    #[arg(long, value_name = "POSITION", value_parser = super::position)]
    from: u64,
    /// End with this record instead of the last one.
    #[arg(long, value_name = "POSITION", value_parser = super::position)]
    to: Option<u64>,
    /// Only entities of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Print at most so many entities, and so many deliveries. Without it 50 for a person, with --json all; everything
    /// is counted either way.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// The most memory that the entities touched may take, about.
    #[arg(long, value_name = "MIB", default_value_t = whatif::BYTES_MAX >> 20)]
    memory_mib: usize,
}

/// Runs the command.
pub fn run(args: &WhatifArgs, output: &Output) -> Result<Exit, Failure> {
    let Some(loaded) = args.config.load()? else {
        return Err(Failure::usage(
            "configuration",
            "there is no lockstep.toml in this folder: name the other configuration with --config",
        ));
    };
    let Some(config) = &loaded.config else { return Err(commands::problems(&loaded.problems)) };
    let resolution = config::examine(&loaded, config, Secrets::MayBeMissing);
    if resolution.problems.iter().any(config::Problem::is_error) {
        return Err(commands::problems(&resolution.problems));
    }
    let other = Other::new(resolution.rules, resolution.translations);
    let data_dir = args.data_dir.clone().unwrap_or_else(|| loaded.data_dir(config));
    let mut history = History::open(&data_dir).map_err(|error| not_opened(&data_dir, &error))?;
    let bytes_max = args.memory_mib.saturating_mul(1024 * 1024);
    let range = Range { from: args.from, to: args.to, kind: args.kind.clone(), bytes_max };
    let bar = output.progress(0, "asking");
    let answer = ask(&mut history, &other, &range, &mut |done, all| {
        if done == 1 {
            bar.set_length(all);
        }
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let answer = answer.map_err(failed)?;
    if output.is_json() {
        print_json(&answer, args.limit.unwrap_or(usize::MAX), output)?;
    } else {
        print(&answer, args.limit.unwrap_or(LISTED), output)?;
    }
    Ok(if answer.summary.different { Exit::No } else { Exit::Done })
}

fn not_opened(data_dir: &Path, error: &lockstep_journal::Error) -> Failure {
    let message = format!("the history in {} can't be read: {}", data_dir.display(), chain(error));
    Failure::usage("data-folder", message)
}

fn failed(error: WhatIfError) -> Failure {
    let code = match error {
        WhatIfError::Beyond { .. } | WhatIfError::Backwards { .. } => "position",
        WhatIfError::TooMuch { .. } => "too-much",
        _ => "history",
    };
    Failure::usage(code, chain(&error))
}

fn print_json(answer: &Answer, limit: usize, output: &Output) -> Result<(), Failure> {
    for difference in answer.differences().take(limit) {
        output.json(&Line { what: "entity", inner: &difference })?;
    }
    for delivery in answer.newly_quarantined.iter().take(limit) {
        output.json(&Line { what: "newly-quarantined", inner: delivery })?;
    }
    for delivery in answer.newly_understood.iter().take(limit) {
        output.json(&Line { what: "newly-understood", inner: delivery })?;
    }
    output.json(&Line { what: "summary", inner: &answer.summary })
}

/// A line says in `type` what it is.
#[derive(serde::Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    what: &'static str,
    #[serde(flatten)]
    inner: &'a T,
}

fn print(answer: &Answer, limit: usize, output: &Output) -> Result<(), Failure> {
    let summary = &answer.summary;
    let differences: Vec<_> = answer.differences().take(limit).collect();
    if !differences.is_empty() {
        output.text(&differences_table(&differences).render(output))?;
        more(differences.len(), summary.entities_different, "entities", output)?;
        output.line("")?;
    }
    if summary.newly_quarantined > 0 && limit > 0 {
        output.line(&output.styled(Style::Red, "would be quarantined"))?;
        let mut table = Table::new(&["position", "source", "code", "at", "detail"]);
        for d in answer.newly_quarantined.iter().take(limit) {
            table.row([d.position.to_string(), d.source.clone(), d.code.clone(), d.at.clone(), d.detail.clone()]);
        }
        output.text(&table.render(output))?;
        more(answer.newly_quarantined.len().min(limit), summary.newly_quarantined, "deliveries", output)?;
        output.line("")?;
    }
    if summary.newly_understood > 0 && limit > 0 {
        output.line(&output.styled(Style::Green, "would no longer be in quarantine"))?;
        let mut table = Table::new(&["position", "source", "code", "changes"]);
        for d in answer.newly_understood.iter().take(limit) {
            table.row([d.position.to_string(), d.source.clone(), d.code.clone(), d.changes.to_string()]);
        }
        output.text(&table.render(output))?;
        more(answer.newly_understood.len().min(limit), summary.newly_understood, "deliveries", output)?;
        output.line("")?;
    }
    for line in summary_lines(summary) {
        output.line(&line)?;
    }
    output.line(&match summary.different {
        true => output.styled(Style::Yellow, "different"),
        false => output.styled(Style::Green, "nothing would be different"),
    })
}

fn more(listed: usize, all: u64, what: &str, output: &Output) -> Result<(), Failure> {
    match all.saturating_sub(listed as u64) {
        0 => Ok(()),
        left => output.line(&output.styled(Style::Dim, &format!("and {left} more {what}; --limit shows more"))),
    }
}

/// Field by field; the entity's name stands at its first one.
fn differences_table(differences: &[EntityDifference]) -> Table {
    let mut table = Table::new(&["entity", "field", "now", "winner", "rule", "what if", "winner", "rule"]);
    for difference in differences {
        let (style, word) = match difference.change {
            Change::Added => (Some(Style::Green), " (added)"),
            Change::Removed => (Some(Style::Red), " (removed)"),
            Change::Changed => (None, ""),
        };
        let mut name = format!("{}/{}{word}", difference.kind, difference.key);
        if difference.fields.is_empty() {
            table.styled_row(style, [name]);
            continue;
        }
        for FieldDifference { field, now, what_if } in &difference.fields {
            let cells = [std::mem::take(&mut name), field.clone()];
            table.styled_row(style, cells.into_iter().chain(said(now.as_ref())).chain(said(what_if.as_ref())));
        }
    }
    table
}

fn said(said: Option<&Said>) -> [String; 3] {
    match said {
        None => ["-".to_owned(), String::new(), String::new()],
        Some(said) => {
            let value = serde_json::from_str(said.value.get()).unwrap_or(Value::Null);
            [show::value(&value), said.winner.clone(), said.rule.to_owned()]
        }
    }
}

fn summary_lines(summary: &Summary) -> Vec<String> {
    let count = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let deliveries = |n| count(n, "delivery", "deliveries");
    let mut lines = Vec::new();
    if summary.kept_from > 1 {
        let first = summary.kept_from;
        lines.push(format!("records before {first} are no longer kept: what they said is unknown to both sides"));
    }
    let mut looked = format!("{} from {} to {}", count(summary.records, "record", "records"), summary.from, summary.to);
    looked.push_str(&format!(": {} translated again", deliveries(summary.translated)));
    if summary.without_raw > 0 {
        looked.push_str(&format!(", {} without raw input taken as recorded", summary.without_raw));
    }
    lines.push(looked);
    for (source, n) in &summary.without_source {
        let source = show::clean(source);
        lines.push(format!("{} of `{source}`, which the other configuration lacks, taken as recorded", deliveries(*n)));
    }
    if summary.ignored > 0 {
        lines.push(format!("{} would change nothing any more", deliveries(summary.ignored)));
    }
    if summary.newly_quarantined + summary.newly_understood > 0 {
        lines.push(format!(
            "{} would be quarantined, {} no longer",
            deliveries(summary.newly_quarantined),
            summary.newly_understood
        ));
    }
    lines.push(format!(
        "{} compared: {} different, of them {} added and {} removed",
        count(summary.entities_compared, "entity", "entities"),
        summary.entities_different,
        summary.entities_added,
        summary.entities_removed
    ));
    if summary.same_value_other_winner > 0 {
        let fields = count(summary.same_value_other_winner, "field has", "fields have");
        lines.push(format!("{fields} the same value from another winner"));
    }
    let fields: Vec<_> = summary
        .fields_different
        .iter()
        .take(FIELDS_LISTED)
        .map(|f| show::clean(&format!("{}.{} {}", f.kind, f.field, f.count)))
        .collect();
    if !fields.is_empty() {
        lines.push(format!("fields: {}", fields.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn difference(value: Value) -> EntityDifference {
        let said = |side: &str| {
            let side = &value[side];
            side.is_object().then(|| Said {
                value: serde_json::value::to_raw_value(&side["value"]).unwrap(),
                winner: side["winner"].as_str().unwrap().to_owned(),
                rule: "latest",
            })
        };
        let fields = vec![FieldDifference { field: "total".to_owned(), now: said("now"), what_if: said("what_if") }];
        EntityDifference { kind: "order".to_owned(), key: "web:1".to_owned(), change: Change::Changed, fields }
    }

    #[test]
    fn both_sides_of_a_field_stand_side_by_side() {
        let now = json!({ "value": { "currency": "EUR", "minor": 1099 }, "winner": "shop" });
        let mut one = difference(json!({ "now": now, "what_if": { "value": "a\nb", "winner": "erp" } }));
        one.fields.push(FieldDifference { field: "zip".to_owned(), now: None, what_if: one.fields[0].now.clone() });
        let expected = "\
entity       field  now        winner  rule    what if    winner  rule
order/web:1  total  10.99 EUR  shop    latest  a b        erp     latest
             zip    -                          10.99 EUR  shop    latest
";
        assert_eq!(differences_table(&[one]).render(&Output::new(false)), expected);
    }

    #[test]
    fn the_summary_says_what_is_unknown_and_nothing_that_is_not_there() {
        let mut summary = Summary { kept_from: 1, from: 1, to: 9, records: 9, translated: 1, ..Summary::default() };
        assert_eq!(
            summary_lines(&summary),
            [
                "9 records from 1 to 9: 1 delivery translated again",
                "0 entities compared: 0 different, of them 0 added and 0 removed"
            ]
        );
        summary.kept_from = 4;
        summary.without_source.insert("shop".to_owned(), 2);
        let lines = summary_lines(&summary);
        assert_eq!(lines[0], "records before 4 are no longer kept: what they said is unknown to both sides");
        assert_eq!(lines[2], "2 deliveries of `shop`, which the other configuration lacks, taken as recorded");
    }
}
