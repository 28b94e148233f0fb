//! How much room a segment takes whose log is moved in steps, and what is held open for it.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_journal::conformance::{append, check_all};
use lockstep_journal::{Batch, Journal, SqliteJournal, SqliteOptions};

use crate::support::{hold, open_with_steps, segment, segments, wait_sealed, wal};

const SEGMENT_BYTES_MAX: u64 = 4 << 20;

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

fn append_noise(journal: &mut SqliteJournal, random: &mut fastrand::Rng, length: usize) {
    let mut batch = Batch::new();
    let record: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
    batch.push(&record);
    journal.append(0, &batch).unwrap();
}

#[test]
fn a_segment_takes_the_room_that_it_may_whatever_its_batches_are() {
    // The second one fills more than half of a page, so that each has one for itself.
    for length in [600, 2_100, 100_000, 500_000] {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions { segment_bytes_max: 1 << 20, step_bytes: 32 << 10, ..SqliteOptions::default() };
        let mut journal = SqliteJournal::open(dir.path(), options).unwrap();
        let mut random = fastrand::Rng::with_seed(3);
        while segments(dir.path()).len() < 2 {
            append_noise(&mut journal, &mut random, length);
        }
        wait_sealed(&journal);
        let room = bytes(&segment(dir.path(), 1));
        // It is looked at before each append. Much of the room that small ones take is the log's.
        let most = (1 << 20) + length as u64 + (64 << 10);
        assert!(((1 << 17)..=most).contains(&room), "batches of {length} bytes fill a segment of {room}");
    }
}

#[test]
fn a_reader_that_stays_makes_a_log_no_longer_than_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with_steps(dir.path());
    append(&mut journal, 20);
    let held = hold(&segment(dir.path(), 1));
    let mut longest = 0;
    while segments(dir.path()).len() < 2 {
        append(&mut journal, 20);
        longest = longest.max(bytes(&wal(dir.path(), 1)));
    }
    assert!(longest <= SEGMENT_BYTES_MAX + SEGMENT_BYTES_MAX / 16, "the log took {longest} bytes");
    assert!(!journal.is_all_sealed(), "it is in the way");
    check_all(&*journal.reader(), journal.bounds());
    drop(held);
    wait_sealed(&journal);
    check_all(&*journal.reader(), journal.bounds());
}

#[test]
fn a_reader_of_a_full_segment_does_not_stop_the_steps_of_the_live_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with_steps(dir.path());
    let mut random = fastrand::Rng::with_seed(3);
    append_noise(&mut journal, &mut random, 8_000);
    let held = hold(&segment(dir.path(), 1));
    while segments(dir.path()).len() < 2 {
        append_noise(&mut journal, &mut random, 100_000);
    }
    let live = segments(dir.path())[1];
    let mut longest = 0;
    while segments(dir.path()).len() < 3 {
        append_noise(&mut journal, &mut random, 8_000);
        // A busy machine may let the second thread wait; what counts is that the reader does not.
        while journal.is_moving() {
            std::thread::yield_now();
        }
        longest = longest.max(bytes(&wal(dir.path(), live)));
    }
    assert!(longest < SEGMENT_BYTES_MAX / 2, "the log of the live segment took {longest} bytes");
    assert!(!journal.is_all_sealed(), "it is in the way of the first one");
    drop(held);
    wait_sealed(&journal);
}

/// The files in `dir` that this process has open.
fn open_files(dir: &Path) -> Vec<PathBuf> {
    let links = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|path| path.starts_with(dir)).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn no_file_stays_open_that_is_full_or_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with_steps(dir.path());
    let mut random = fastrand::Rng::with_seed(3);
    for is_trimmed in [true, false, true, false] {
        let last = || *segments(dir.path()).last().unwrap();
        let full = last();
        while last() == full {
            append_noise(&mut journal, &mut random, 8_000);
        }
        if is_trimmed {
            // Right after the change, while the second thread may still have the one before.
            journal.trim(last()).unwrap();
            assert_eq!(segments(dir.path()).len(), 1);
        }
        let live = segment(dir.path(), last());
        let is_live = |path: &PathBuf| path.to_str().unwrap().starts_with(live.to_str().unwrap());
        while !open_files(dir.path()).iter().all(is_live) {
            std::thread::yield_now();
        }
    }
    drop(journal);
    assert_eq!(open_files(dir.path()), Vec::<PathBuf>::new());
}
