//! `cargo xtask test`: everything the tests need, then all of them, then one line with the sum.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{run, services};

/// Tells tests that a missing tool is a failure and no reason to skip.
const REQUIRE_SERVICES: &str = "LOCKSTEP_REQUIRE_SERVICES";

/// What `cargo test` told of, over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    /// Adds up a line of the form `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; others say nothing.
    fn take(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|result| result.split_once(". ")) else {
            return;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let Some(count) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
                continue;
            };
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                Some("ignored") => self.skipped += count,
                _ => {}
            }
        }
    }
}

/// Runs the tests; true when at least one ran and none failed.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<bool> {
    let arguments = match arguments.split_first() {
        None => &[],
        Some((dashes, rest)) if dashes == "--" => rest,
        Some((other, _)) => bail!("what `cargo test` shall get comes after `--`, got `{other}`"),
    };
    if !services::ensure(root)? {
        return Ok(false);
    }
    let chosen = arguments.iter().any(|argument| names_package(argument));
    // With packages chosen, cargo builds what their tests start, and no other crate has to compile.
    if !chosen && !build(root)? {
        println!("test: the workspace does not build, no test ran");
        return Ok(conclude(Counts::default(), false));
    }
    let (counts, succeeded) = cargo_test(root, arguments, chosen)?;
    Ok(conclude(counts, succeeded))
}

/// Builds everything at once, the real binary among it: tests start it. Not `-p lockstep` alone,
/// because cargo would choose fewer features of shared dependencies then and compile these twice.
fn build(root: &Path) -> Result<bool> {
    let mut command = run::cargo(root);
    command.args(["build", "--workspace", "--all-targets", "--locked"]);
    run::succeeds(&mut command)
}

fn cargo_test(root: &Path, arguments: &[String], chosen: bool) -> Result<(Counts, bool)> {
    let mut command = run::cargo(root);
    command.args(["test", "--locked", "--no-fail-fast"]);
    if !chosen {
        command.arg("--workspace");
    }
    command.args(arguments).stdout(Stdio::piped());
    if run::in_ci() {
        command.env(REQUIRE_SERVICES, "1");
    }
    let mut child = command.spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("cargo test has no output")?;
    let mut counts = Counts::default();
    stream(stdout, std::io::stdout(), &mut counts)?;
    let status = child.wait().context("cannot wait for cargo test")?;
    Ok((counts, status.success()))
}

fn names_package(argument: &str) -> bool {
    argument == "-p" || argument == "--package" || argument.starts_with("--package=")
}

/// Passes the output on line by line as it comes, and counts.
fn stream(output: impl Read, mut shown: impl Write, counts: &mut Counts) -> Result<()> {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        // Bytes, because a test may print what is no text.
        let read = reader.read_until(b'\n', &mut line).context("cannot read from cargo test")?;
        if read == 0 {
            return Ok(());
        }
        shown.write_all(&line).context("cannot print")?;
        counts.take(String::from_utf8_lossy(&line).trim_end());
    }
}

/// Prints the closing line and says whether all is well.
fn conclude(mut counts: Counts, succeeded: bool) -> bool {
    if !succeeded && counts.failed == 0 {
        println!("test: cargo test failed though no test did: a test program crashed or did not compile");
        counts.failed = 1;
    }
    if counts.passed + counts.failed == 0 {
        println!("test: no test ran");
    }
    let Counts { passed, failed, skipped } = counts;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    succeeded && failed == 0 && passed > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64, skipped: u64) -> Counts {
        Counts { passed, failed, skipped }
    }

    fn counted(output: &str) -> Counts {
        let mut counts = Counts::default();
        output.lines().for_each(|line| counts.take(line));
        counts
    }

    #[test]
    fn the_results_of_all_programs_are_summed() {
        let output = "\
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s

running 2 tests
test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 12.31s
";
        assert_eq!(counted(output), counts(4, 1, 1));
    }

    #[test]
    fn other_lines_count_nothing() {
        let output = "\
3 passed; 0 failed
  test result: ok. 9 passed; 0 failed
test result: odd
test that_result ... ok
test result: ok. many passed; -1 failed
";
        assert_eq!(counted(output), counts(0, 0, 0));
    }

    #[test]
    fn what_a_test_program_prints_is_counted_as_it_streams_also_when_it_is_no_text() {
        let output: &[u8] = b"\xff\xfe\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\r\n";
        let mut counted = Counts::default();
        let mut shown = Vec::new();
        stream(output, &mut shown, &mut counted).expect("a slice can be read");
        assert_eq!(counted, counts(2, 0, 0));
        assert_eq!(shown, output);
    }

    #[test]
    fn it_is_well_only_when_tests_ran_and_none_failed() {
        assert!(conclude(counts(2, 0, 1), true));
        assert!(!conclude(counts(2, 1, 0), false));
        assert!(!conclude(counts(0, 0, 0), true));
        assert!(!conclude(counts(0, 0, 3), true));
        // A crashed program prints no result, cargo's exit code tells of it.
        assert!(!conclude(counts(2, 0, 0), false));
    }

    #[test]
    fn a_package_may_be_chosen() {
        assert!(names_package("-p"));
        assert!(names_package("--package=xtask"));
        assert!(!names_package("--proptest"));
    }
}
