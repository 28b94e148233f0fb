//! Killed at any moment, a journal keeps each append that it acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use lockstep_journal::conformance::{append, check_all};
use lockstep_journal::{Bounds, Journal, SqliteJournal};

use crate::{child, support};

const CHILD: &str = "kill::child_appends_until_killed";
const CHILD_WITH_STEPS: &str = "kill::child_appends_in_steps_until_killed";
const KILLS: usize = 10;

#[test]
fn child_appends_until_killed() {
    let Some(dir) = child::dir(CHILD) else { return };
    append_for_ever(support::open(&dir));
}

#[test]
fn child_appends_in_steps_until_killed() {
    let Some(dir) = child::dir(CHILD_WITH_STEPS) else { return };
    append_for_ever(support::open_with_steps(&dir));
}

fn append_for_ever(mut journal: SqliteJournal) {
    let mut out = std::io::stdout();
    loop {
        append(&mut journal, fastrand::u64(1..60));
        let next = journal.bounds().next;
        // The parent is gone or has closed its end: nobody listens any more.
        if writeln!(out, "acknowledged {next}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

#[test]
fn every_acknowledged_append_survives_being_killed() {
    let dir = tempfile::tempdir().unwrap();
    kill_often(dir.path(), CHILD, support::open, 60);
    assert!(support::segments(dir.path()).len() > 1, "the kills met several segments");
}

#[test]
fn every_acknowledged_append_survives_a_kill_in_any_step_of_moving_the_log() {
    let dir = tempfile::tempdir().unwrap();
    // Enough for the log to be written from its beginning several times.
    kill_often(dir.path(), CHILD_WITH_STEPS, support::open_with_steps, 400);
}

fn kill_often(dir: &Path, child: &str, open: impl Fn(&Path) -> SqliteJournal, appends_max: usize) {
    let mut acknowledged = 1;
    for round in 1..=KILLS {
        let mut child = child::command(child, dir).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until_kill = fastrand::usize(1..appends_max);
        // Reads on after the kill: what was still in the pipe was acknowledged too.
        for line in lines {
            let line = line.unwrap();
            let Some((_, next)) = line.split_once("acknowledged ") else {
                continue;
            };
            // The last line may have been cut.
            let Ok(next) = next.parse::<u64>() else {
                continue;
            };
            acknowledged = acknowledged.max(next);
            until_kill = until_kill.saturating_sub(1);
            if until_kill == 0 {
                child.kill().unwrap();
            }
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code(), None, "killed, not ended by itself: {status}");

        let journal = open(dir);
        let next = journal.bounds().next;
        assert!(next >= acknowledged, "round {round}: {acknowledged} was acknowledged, {next} is there");
        assert!(next - acknowledged < 60, "at most one append more: {acknowledged} and {next}");
        check_all(&*journal.reader(), Bounds { first: 1, next });
        acknowledged = next;
    }
}
