//! `cargo xtask ci`: all that must hold before a change goes in.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{metadata, test, tidy};

/// A stage: what it is called, and what runs it.
type Stage = (&'static str, fn(&Path) -> Result<bool>);

/// All stages use cargo's `dev` profile, so that nothing is compiled twice.
const STAGES: &[Stage] =
    &[("tidy", |root| tidy::command(root, &[])), ("test", |root| test::command(root, &[])), ("demo", demo)];

/// Runs every stage, also after one that failed, so that one run shows all there is to mend.
pub(crate) fn command(root: &Path) -> Result<bool> {
    let mut rows = Vec::new();
    for (name, stage) in STAGES {
        println!("ci: {name}");
        let start = Instant::now();
        let passed = stage(root).unwrap_or_else(|error| {
            println!("ci: {name}: {error:#}");
            false
        });
        rows.push((name, passed, start.elapsed()));
    }
    println!();
    for (name, passed, took) in &rows {
        let verdict = if *passed { "ok" } else { "FAILED" };
        println!("ci: {name:<5} {verdict:<6} {:7.1} s", took.as_secs_f64());
    }
    Ok(rows.iter().all(|(_, passed, _)| *passed))
}

/// The binary that the tests were run with, for a few seconds with everything around it.
fn demo(root: &Path) -> Result<bool> {
    let binary =
        metadata::load(root)?.target_folder.join("debug").join(format!("lockstep{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(&binary);
    command
        .args(["demo", "--duration", "5s", "--rate", "200"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    let equal = says_equal(&text);
    if !equal {
        println!("ci: the demo does not end with the verdict \"equal\"");
    }
    if !output.status.success() {
        println!("ci: the demo ended with {}", output.status);
    }
    Ok(equal && output.status.success())
}

/// Whether the last line that speaks of a verdict says "equal" and nothing against it.
fn says_equal(text: &str) -> bool {
    let verdict = text.lines().map(str::to_lowercase).rfind(|line| line.contains("verdict"));
    verdict.is_some_and(|line| {
        let mut words = line.split(|character: char| !character.is_alphabetic());
        words.clone().any(|word| word == "equal") && !words.any(|word| word == "not" || word == "different")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_equal_verdict_counts() {
        assert!(says_equal("rates ...\nverdict: equal\n"));
        assert!(says_equal("Verdict: EQUAL (4 systems, 1,200 entities)\nbye\n"));
        assert!(says_equal("{\"verdict\":\"equal\"}"));
        assert!(!says_equal("verdict: not equal\n"));
        assert!(!says_equal("verdict: unequal\n"));
        assert!(!says_equal("verdict: different\n"));
        assert!(!says_equal("all are equal\n"));
        assert!(!says_equal("verdict: equal\nverdict: different\n"));
        assert!(!says_equal(""));
    }
}
