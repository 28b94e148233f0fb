//! `cargo xtask tidy`: every rule of this repository that a machine can check.

mod arrows;
mod licences;
mod lints;
mod purity;
mod spdx;
mod text;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{fragments, metadata, run};

/// One rule: its name for `--only`, what it holds, and the function that lists what breaks it.
struct Check {
    name: &'static str,
    what: &'static str,
    run: fn(&Path) -> Result<Vec<String>>,
}

/// All checks, the quick ones first.
const CHECKS: &[Check] = &[
    Check { name: "fmt", what: "the code is formatted", run: fmt },
    Check {
        name: "text",
        what: "files explain themselves, are finished and are not too long",
        run: |root| text::check(root, &run::files(root)?),
    },
    Check {
        name: "changelog",
        what: "changelog fragments have a known kind and a text",
        run: |root| Ok(fragments::read(root)?.1),
    },
    Check {
        name: "arrows",
        what: "crates depend only on crates below them",
        run: |root| Ok(arrows::check(&metadata::load(root)?)),
    },
    Check {
        name: "purity",
        what: "core depends on pure crates only and names no IO",
        run: |root| purity::check(root, &metadata::load(root)?, &run::files(root)?),
    },
    Check {
        name: "lints",
        what: "every crate takes the lints of the workspace",
        run: |root| lints::check(&metadata::load(root)?),
    },
    Check {
        name: "licences",
        what: "every dependency's licence is one that we may ship",
        run: |root| Ok(licences::check(&metadata::load(root)?)),
    },
    Check { name: "clippy", what: "clippy is silent, every public item is documented", run: clippy },
    Check { name: "docs", what: "the documentation builds and its links lead somewhere", run: docs },
];

/// Runs all checks or those named by `--only`; prints every problem; true when there is none.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<bool> {
    let mut only = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => {
                let names = arguments.next().context("`--only` wants the name of a check")?;
                for name in names.split(',') {
                    if !CHECKS.iter().any(|check| check.name == name) {
                        bail!("there is no check `{name}`; the checks are {}", names_of_checks());
                    }
                    only.push(name);
                }
            }
            "--list" => {
                for check in CHECKS {
                    println!("{:<10} {}", check.name, check.what);
                }
                return Ok(true);
            }
            other => bail!("`tidy` takes `--only NAME` and `--list`, got `{other}`"),
        }
    }

    let mut problems: Vec<(&str, String)> = Vec::new();
    let mut checks = 0;
    for check in CHECKS {
        if !only.is_empty() && !only.contains(&check.name) {
            continue;
        }
        checks += 1;
        let start = Instant::now();
        // A check that cannot run is a problem like any other: the rest is still reported.
        let found = (check.run)(root).unwrap_or_else(|error| vec![format!("the check could not run: {error:#}")]);
        let verdict = match found.len() {
            0 => "ok".to_owned(),
            1 => "1 problem".to_owned(),
            many => format!("{many} problems"),
        };
        println!("tidy: {:<10} {verdict} ({:.1} s)", check.name, start.elapsed().as_secs_f64());
        problems.extend(found.into_iter().map(|problem| (check.name, problem)));
    }

    if problems.is_empty() {
        println!("tidy: {checks} checks, no problem");
        return Ok(true);
    }
    println!();
    for (name, problem) in &problems {
        println!("{name}: {problem}");
    }
    println!("tidy: {checks} checks, problems: {}", problems.len());
    Ok(false)
}

fn names_of_checks() -> String {
    CHECKS.iter().map(|check| check.name).collect::<Vec<_>>().join(", ")
}

fn fmt(root: &Path) -> Result<Vec<String>> {
    let mut command = run::cargo(root);
    command.args(["fmt", "--all", "--check", "--", "--files-with-diff"]);
    let output = command.output().context("cannot start cargo fmt")?;
    let files: BTreeSet<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|file| {
            let relative = Path::new(file).strip_prefix(root);
            relative.map_or_else(|_| file.to_owned(), |path| path.display().to_string())
        })
        .collect();
    let mut problems: Vec<String> =
        files.into_iter().map(|file| format!("{file}: not formatted; `cargo fmt --all` puts it right")).collect();
    // Besides files that differ, a file that cannot be parsed makes it fail, and it says so there.
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && (problems.is_empty() || !text.trim().is_empty()) {
        problems.push(format!("`{}` failed: {}", run::display(&command), text.trim()));
    }
    Ok(problems)
}

fn clippy(root: &Path) -> Result<Vec<String>> {
    let mut command = run::cargo(root);
    command.args(["clippy", "--workspace", "--all-targets", "--locked", "--keep-going"]);
    command.args(["--", "-D", "warnings"]);
    passes(&mut command)
}

fn docs(root: &Path) -> Result<Vec<String>> {
    let mut command = run::cargo(root);
    command.args(["doc", "--workspace", "--no-deps", "--locked", "--keep-going"]);
    let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
    command.env("RUSTDOCFLAGS", format!("{flags} -D warnings").trim());
    passes(&mut command)
}

/// Runs a program that prints its own findings.
fn passes(command: &mut Command) -> Result<Vec<String>> {
    if run::succeeds(command)? {
        return Ok(Vec::new());
    }
    Ok(vec![format!("`{}` failed, see its output above", run::display(command))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_check_is_refused_with_the_known_ones() {
        let arguments = ["--only".to_owned(), "licenses".to_owned()];
        let error = command(Path::new("nowhere"), &arguments).expect_err("no such check");
        let text = error.to_string();
        assert!(text.contains("`licenses`"), "{text}");
        assert!(text.contains("licences"), "{text}");
    }
}
