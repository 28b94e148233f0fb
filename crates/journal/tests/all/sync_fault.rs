//! A disk that fails to write or to sync poisons the journal. The disk's part is played by a small
//! library that is loaded before the C library.

use std::fs;

use lockstep_journal::conformance::{append, batch, check_all};
use lockstep_journal::{Bounds, Error, Journal, SqliteJournal};

use crate::child;
use crate::support::{copy_of, hold, open, open_with_steps, segment, segments, wait_sealed};

const CHILD: &str = "sync_fault::child_meets_a_failing_disk";
const CHILD_SEAL: &str = "sync_fault::child_meets_a_failing_disk_while_sealing";
const CHILD_STEP: &str = "sync_fault::child_meets_a_failing_disk_while_moving_the_log";

fn run(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = child::preload(dir.path(), "sync_fault", include_str!("sync_fault.c")) else { return };
    let output = child::command(name, dir.path())
        .env("LD_PRELOAD", library)
        .env("LOCKSTEP_TEST_FAULT", dir.path().join("trigger"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("the child is done"), "the child's test ran: {text}\n{errors}");
}

#[test]
fn a_failed_sync_or_write_poisons() {
    run(CHILD);
}

#[test]
fn a_failed_sync_of_an_old_segment_poisons_too() {
    run(CHILD_SEAL);
}

#[test]
fn a_failed_sync_while_the_log_is_moved_poisons_too_and_loses_nothing() {
    run(CHILD_STEP);
}

#[test]
fn child_meets_a_failing_disk() {
    let Some(dir) = child::dir(CHILD) else { return };
    let trigger = dir.join("trigger");
    let folder = dir.join("journal");
    for fault in ["sync", "write"] {
        let mut journal = open(&folder);
        let reader = journal.reader();
        append(&mut journal, 10);
        let bounds = journal.bounds();

        fs::write(&trigger, fault).unwrap();
        let error = journal.append(0, &batch(bounds.next, 10)).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{fault}: {error:?}");
        // The disk works again, but nobody knows what it kept.
        fs::remove_file(&trigger).unwrap();
        let refusals = [
            journal.append(0, &batch(bounds.next, 1)).unwrap_err(),
            journal.fence(1).unwrap_err(),
            journal.trim(1).unwrap_err(),
        ];
        for error in refusals {
            let Error::Poisoned { cause } = &error else { panic!("{fault}: {error:?}") };
            assert!(cause.contains("disk I/O error"), "{cause}");
        }
        check_all(&*reader, bounds);
        assert_eq!(reader.read(bounds.next, 1).unwrap(), []);
        drop((journal, reader));

        let mut journal = open(&folder);
        let next = journal.bounds().next;
        // The batch that failed was not acknowledged: it may be there as a whole, or not.
        assert!([bounds.next, bounds.next + 10].contains(&next), "{fault}: {next}");
        append(&mut journal, 10);
        check_all(&*journal.reader(), Bounds { first: 1, next: next + 10 });
    }
    println!("the child is done");
}

#[test]
fn child_meets_a_failing_disk_while_sealing() {
    let Some(dir) = child::dir(CHILD_SEAL) else {
        return;
    };
    let trigger = dir.join("trigger");
    let folder = dir.join("journal");
    let mut journal = open(&folder);
    append(&mut journal, 50);
    // Until it is dropped, the second thread gets as far as the mark that it makes, but no further.
    let held = hold(&segment(&folder, 1));
    while segments(&folder).len() < 2 {
        append(&mut journal, 50);
    }
    let bounds = journal.bounds();
    let marks = rusqlite::Connection::open(segment(&folder, 1)).unwrap();
    let is_marked = || -> i64 {
        let sql = "SELECT count(*) FROM meta WHERE key = 'sealed_next'";
        marks.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    while is_marked() == 0 {
        std::thread::yield_now();
    }
    fs::write(&trigger, "sync").unwrap();
    drop(held);
    // A trim that has nothing to drop writes nothing, so that it can only meet the poison.
    let error = loop {
        match journal.trim(1) {
            Ok(_) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    let Error::Poisoned { cause } = &error else { panic!("{error:?}") };
    assert!(cause.contains("cannot seal") && cause.contains("disk I/O error"), "{cause}");
    fs::remove_file(&trigger).unwrap();
    let error = journal.append(0, &batch(bounds.next, 1)).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
    drop((marks, journal));

    // The log was left as it was: nothing is lost, and it is moved now.
    let journal = open(&folder);
    wait_sealed(&journal);
    check_all(&*journal.reader(), bounds);
    println!("the child is done");
}

#[test]
fn child_meets_a_failing_disk_while_moving_the_log() {
    let Some(dir) = child::dir(CHILD_STEP) else { return };
    let trigger = dir.join("trigger");
    // Once it fails where the second thread moves the log, once where the writer moves the rest.
    for fails_for_writer in [false, true] {
        let folder = dir.join(format!("journal-{fails_for_writer}"));
        let mut journal = open_with_steps(&folder);
        let main = || fs::read(segment(&folder, 1)).unwrap();
        let mut synced = main();
        // Nobody appends during a step, so that it moves all that there is, and syncs it.
        let append_and_wait = |journal: &mut SqliteJournal| {
            append(journal, 20);
            while journal.is_moving() {
                std::thread::yield_now();
            }
        };
        if fails_for_writer {
            while main() == synced {
                append_and_wait(&mut journal);
            }
            synced = main();
        }
        fs::write(&trigger, "sync .journal").unwrap();
        // What is appended is in the log, which can be synced: it is acknowledged, whoever fails then.
        let error = loop {
            append_and_wait(&mut journal);
            if let Err(error) = journal.trim(1) {
                break error;
            }
            assert!(!fails_for_writer, "the writer moves the rest with its next append");
        };
        let bounds = journal.bounds();
        let Error::Poisoned { cause } = &error else { panic!("{error:?}") };
        assert!(cause.contains("disk I/O error") && cause.contains("move the log"), "{cause}");
        fs::remove_file(&trigger).unwrap();
        let error = journal.append(0, &batch(bounds.next, 1)).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
        check_all(&*journal.reader(), bounds);
        drop(journal);

        // Even if the disk kept nothing of what was moved.
        let lost = copy_of(&folder);
        fs::write(segment(lost.path(), 1), &synced).unwrap();
        for folder in [lost.path(), folder.as_path()] {
            let mut journal = open_with_steps(folder);
            check_all(&*journal.reader(), bounds);
            append(&mut journal, 10);
        }
    }
    println!("the child is done");
}
