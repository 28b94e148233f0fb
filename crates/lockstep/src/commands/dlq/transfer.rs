//! `lockstep dlq export` and `import`: dead letters out of a hub and into one, as JSON lines.

use std::fs::File;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::filter::FilterArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Table};
use crate::remote::{Remote, RemoteArgs, query};
use crate::show;

/// How many lines one request gets, and how many and how large those are that one brings in.
const GET: usize = 100;
const PUT_LINES: usize = 200;
const PUT_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Only those of this destination.
    #[arg(long)]
    destination: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// The file to write; standard output where it is absent.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file of an export; `-` is standard input.
    file: PathBuf,
    #[command(flatten)]
    remote: RemoteArgs,
}

fn broken(what: &str, error: &std::io::Error) -> Failure {
    Failure::no("file", format!("{what}: {error}"))
}

pub(super) async fn export(args: &ExportArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let name = args.file.as_ref().map_or_else(|| "standard output".to_owned(), |file| file.display().to_string());
    let failed = |error: std::io::Error| broken(&format!("{name} can't be written"), &error);
    let mut out: Box<dyn Write> = match &args.file {
        Some(file) => Box::new(File::create(file).map_err(failed)?),
        None => Box::new(stdout()),
    };
    let (mut after, mut count) = (None, 0);
    loop {
        let mut parameters = args.filter.parameters(args.destination.as_deref());
        parameters.push(("limit", Some(GET.to_string())));
        parameters.push(("after", after));
        let text = remote.get_text(&format!("/v1/dead-letters/export{}", query(&parameters))).await?;
        out.write_all(text.as_bytes()).map_err(failed)?;
        let lines = text.lines().count();
        count += lines;
        let last = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        after = last.and_then(|last| last["place"].as_str().map(str::to_owned)).filter(|_| lines == GET);
        if after.is_none() {
            break;
        }
    }
    out.flush().map_err(failed)?;
    if args.file.is_some() {
        if output.is_json() {
            output.json(&json!({ "exported": count, "file": name }))?;
        } else {
            let letters = if count == 1 { "dead letter" } else { "dead letters" };
            output.line(&format!("{count} {letters} written to {name}"))?;
        }
    }
    Ok(Exit::Done)
}

pub(super) async fn import(args: &ImportArgs, output: &Output) -> Result<Exit, Failure> {
    let remote = Remote::new(&args.remote)?;
    let name = args.file.display().to_string();
    let failed = |error: std::io::Error| broken(&format!("{name} can't be read"), &error);
    let mut lines: Box<dyn BufRead> = match args.file.as_os_str() == "-" {
        true => Box::new(BufReader::new(stdin())),
        false => Box::new(BufReader::new(File::open(&args.file).map_err(failed)?)),
    };
    let mut told =
        Told { table: Table::new(&["line", "outcome", "destination", "event", "detail"]), first: 0, counts: [0; 2] };
    let (mut part, mut in_part, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        let ends = lines.read_line(&mut line).map_err(failed)? == 0;
        if in_part > 0 && (ends || in_part >= PUT_LINES || part.len() + line.len() > PUT_BYTES) {
            let answer = remote.post_lines("/v1/dead-letters/import", std::mem::take(&mut part)).await?.body;
            told.take(&answer, output)?;
            told.first += in_part;
            in_part = 0;
        }
        if ends {
            break;
        }
        part.push_str(line.trim_end_matches('\n'));
        part.push('\n');
        in_part += 1;
    }
    let [imported, invalid] = told.counts;
    if !output.is_json() {
        if !told.table.is_empty() {
            output.text(&told.table.render(output))?;
        }
        output.line(&format!("{imported} imported, {invalid} not valid"))?;
    }
    Ok(if invalid > 0 { Exit::No } else { Exit::Done })
}

/// What is told of an import.
struct Told {
    table: Table,
    /// How many lines were before this part.
    first: usize,
    /// Imported, and not valid.
    counts: [u64; 2],
}

impl Told {
    fn take(&mut self, answer: &Value, output: &Output) -> Result<(), Failure> {
        for (count, member) in self.counts.iter_mut().zip(["imported", "invalid"]) {
            *count += answer[member].as_u64().unwrap_or(0);
        }
        for item in answer["items"].as_array().into_iter().flatten() {
            let mut item = item.clone();
            let number = item["line"].as_u64().unwrap_or(0) + self.first as u64;
            item["line"] = number.into();
            if output.is_json() {
                output.json(&item)?;
                continue;
            }
            let text = |member: &str| show::clean(item[member].as_str().unwrap_or("-"));
            let event = item["event"].as_u64().map_or("-".to_owned(), |event| event.to_string());
            self.table.row([number.to_string(), text("outcome"), text("destination"), event, text("detail")]);
        }
        Ok(())
    }
}
