//! Killed at any moment, a journal keeps each append that it acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use lockstep_journal::conformance::{append, check_all};
use lockstep_journal::{Bounds, Journal};

use crate::{child, support};

const CHILD: &str = "kill::child_appends_until_killed";
const KILLS: usize = 10;

#[test]
fn child_appends_until_killed() {
    let Some(dir) = child::dir(CHILD) else { return };
    let mut journal = support::open(&dir);
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
    let mut acknowledged = 1;
    for round in 1..=KILLS {
        let mut child = child::command(CHILD, dir.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut until_kill = fastrand::usize(1..60);
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

        let journal = support::open(dir.path());
        let next = journal.bounds().next;
        assert!(next >= acknowledged, "round {round}: {acknowledged} was acknowledged, {next} is there");
        assert!(next - acknowledged < 60, "at most one append more: {acknowledged} and {next}");
        check_all(&*journal.reader(), Bounds { first: 1, next });
        acknowledged = next;
    }
    assert!(support::segments(dir.path()).len() > 1, "the kills met several segments");
}
