//! `lockstep check`: everything that can be known about a configuration without starting it.

use clap::Args;
use serde_json::json;

use crate::commands::ConfigArgs;
use crate::config::{self, Problem, Secrets};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Style};

/// Check the configuration, its mappings and its packs; report every problem with file and line.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command.
pub fn run(args: &CheckArgs, output: &Output) -> Result<Exit, Failure> {
    let Some(loaded) = args.config.load()? else {
        return Err(Failure::usage(
            "configuration",
            "there is no lockstep.toml in this folder: name one with --config, or begin with `lockstep config example`",
        ));
    };
    let mut problems = loaded.problems.clone();
    let mut samples = 0;
    if let Some(config) = &loaded.config {
        let resolution = config::examine(&loaded, config, Secrets::MayBeMissing);
        problems.extend(resolution.problems);
        let (found, count) = config::check_packs(&loaded, config, &resolution.schemas);
        // What does not compile was found with its column already.
        let known = |found: &Problem| problems.iter().any(|p| (&p.file, p.line) == (&found.file, found.line));
        let new: Vec<_> = found.into_iter().filter(|found| !known(found)).collect();
        problems.extend(new);
        samples = count;
    }
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    problems.dedup();
    print(&problems, &loaded, samples, output)
}

fn print(problems: &[Problem], loaded: &config::Loaded, samples: usize, output: &Output) -> Result<Exit, Failure> {
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    if output.is_json() {
        output.json(&json!({ "file": loaded.file, "ok": errors == 0, "errors": errors, "warnings": warnings, "problems": problems }))?;
    } else {
        for problem in problems {
            let style = if problem.is_error() { Style::Red } else { Style::Yellow };
            let text = problem.to_string();
            let (place, message) = text.split_once(": ").unwrap_or(("", &text));
            output.line(&format!("{}: {message}", output.styled(style, place)))?;
        }
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let verdict = match (errors, warnings) {
            (0, 0) => output.styled(Style::Green, "ok"),
            (0, _) => output.styled(Style::Green, &format!("ok, {}", count(warnings, "warning"))),
            (_, 0) => output.styled(Style::Red, &count(errors, "error")),
            _ => output.styled(Style::Red, &format!("{}, {}", count(errors, "error"), count(warnings, "warning"))),
        };
        let parts = loaded.config.as_ref().map(|config| {
            let parts = [
                count(config.sources.len(), "source"),
                count(config.destinations.len(), "destination"),
                count(config.domains.len(), "domain"),
                count(samples, "pack sample"),
            ];
            format!(" ({})", parts.join(", "))
        });
        output.line(&format!("{}: {verdict}{}", loaded.file.display(), parts.unwrap_or_default()))?;
    }
    Ok(if errors == 0 { Exit::Done } else { Exit::Usage })
}
