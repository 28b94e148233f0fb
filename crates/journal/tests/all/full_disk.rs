//! A full disk stops appends for as long as it is full, and nothing else.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use lockstep_journal::conformance::{append, batch, check_all};
use lockstep_journal::{Bounds, Error, Journal, SqliteJournal, SqliteOptions};

use crate::child;
use crate::support::{copy_of, open, segments};

const CHILD: &str = "full_disk::child_fills_a_real_disk";
const CHILD_WITH_STEPS: &str = "full_disk::child_fills_a_real_disk_in_steps";

#[test]
fn the_same_append_succeeds_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, 10);
    journal.set_live_pages_max(Some(1)).unwrap();
    let mut appended = 0;
    let error = loop {
        // The bound counts whole pages, so that a few more may fit.
        match journal.append(0, &batch(11 + appended, 100)) {
            Ok(_) => appended += 100,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }) && error.is_retryable(), "{error:?}");
    let bounds = Bounds { first: 1, next: 11 + appended };
    check_all(&*journal.reader(), bounds);
    let crashed = copy_of(dir.path());
    check_all(&*open(crashed.path()).reader(), bounds);
    assert!(matches!(journal.append(0, &batch(bounds.next, 100)), Err(Error::Full { .. })));

    journal.set_live_pages_max(None).unwrap();
    assert_eq!(journal.append(0, &batch(bounds.next, 100)).unwrap(), bounds.next);
    let bounds = Bounds { first: 1, next: bounds.next + 100 };
    check_all(&*journal.reader(), bounds);
    drop(journal);
    check_all(&*open(dir.path()).reader(), bounds);
}

#[test]
fn a_real_full_disk_passes_by() {
    run(CHILD);
}

#[test]
fn a_real_disk_that_is_full_in_a_step_passes_by() {
    run(CHILD_WITH_STEPS);
}

/// The child gets a disk of two megabytes in a namespace of its own, which ends with it.
fn run(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let namespace = ["--user", "--map-root-user", "--mount"];
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$0\"";
    let possible = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", mount])
        .arg(dir.path())
        .output()
        .is_ok_and(|output| output.status.success());
    if !possible {
        eprintln!("skipped: a small disk cannot be mounted in a namespace here");
        return;
    }
    let mut command = Command::new("unshare");
    command
        .args(namespace)
        .args(["sh", "-c", &format!("{mount} && exec \"$@\"")])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap());
    child::arguments(&mut command, name, dir.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("the child is done"), "the child's test ran: {text}\n{errors}");
}

#[test]
fn child_fills_a_real_disk() {
    let Some(disk) = child::dir(CHILD) else { return };
    fill(&disk, open);
}

#[test]
fn child_fills_a_real_disk_in_steps() {
    let Some(disk) = child::dir(CHILD_WITH_STEPS) else { return };
    let options = SqliteOptions { segment_bytes_max: 400 << 10, step_bytes: 16 << 10, ..SqliteOptions::default() };
    fill(&disk, |dir| SqliteJournal::open(dir, options.clone()).unwrap());
}

fn fill(disk: &Path, open: impl Fn(&Path) -> SqliteJournal) {
    let dir = disk.join("journal");
    let filler = disk.join("filler");
    let mut journal = open(&dir);
    journal.fence(3).unwrap();
    append(&mut journal, 100);
    // Several times, with ever other amounts of room left, so that the disk is full at a page, in a
    // transaction, and where a new segment would begin.
    for round in 0..20 {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(round * 7 * 4096)).unwrap();
        drop(file);

        let next = loop {
            let next = journal.bounds().next;
            match journal.append(3, &batch(next, 40)) {
                Ok(first) => assert_eq!(first, next),
                Err(Error::Full { .. }) => break next,
                Err(error) => panic!("round {round}: {error:?}"),
            }
        };
        let bounds = Bounds { first: journal.bounds().first, next };
        check_all(&*journal.reader(), bounds);
        // Room can be made on a full disk: what is trimmed is gone.
        let bounds = journal.trim(next).unwrap();
        check_all(&*journal.reader(), bounds);
        fs::remove_file(&filler).unwrap();

        assert_eq!(journal.append(3, &batch(next, 40)).unwrap(), next, "round {round}");
        let bounds = journal.bounds();
        check_all(&*journal.reader(), bounds);
        if round % 5 == 4 {
            drop(journal);
            journal = open(&dir);
            assert_eq!(journal.epoch(), 3);
            check_all(&*journal.reader(), bounds);
        }
    }
    assert!(*segments(&dir).last().unwrap() > 1, "the disk was full at new segments too");
    println!("the child is done");
}
