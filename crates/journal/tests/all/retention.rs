//! Trimming removes files, also over a crash, and also while somebody reads.

use std::fs;

use lockstep_journal::conformance::{append, check_all};
use lockstep_journal::{Bounds, Error, Journal};

use crate::support::{copy_of, open, refused, segment, segments, wait_sealed};

#[test]
fn trimmed_segments_are_gone_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    while segments(dir.path()).len() < 6 {
        append(&mut journal, 50);
    }
    let reader = journal.reader();
    let found = segments(dir.path());
    // So that connections to the old segments are open.
    check_all(&*reader, journal.bounds());
    let bounds = journal.trim(found[3] + 1).unwrap();
    assert_eq!(bounds.first, found[3]);
    assert_eq!(segments(dir.path()), found[3..]);
    check_all(&*reader, bounds);
    wait_sealed(&journal);
    drop((reader, journal));
    let names = |suffix: &str| {
        let names = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name());
        names.filter(|name| name.to_str().unwrap().ends_with(suffix)).count()
    };
    assert_eq!((names(".journal"), names(".first")), (3, 1));
    check_all(&*open(dir.path()).reader(), bounds);
}

#[test]
fn a_trim_that_a_crash_cut_short_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    while segments(dir.path()).len() < 5 {
        append(&mut journal, 50);
    }
    wait_sealed(&journal);
    let found = segments(dir.path());
    let before = copy_of(dir.path());
    let bounds = journal.trim(found[2]).unwrap();
    drop(journal);
    // The name had been changed, and one of two files been removed.
    fs::copy(segment(before.path(), found[1]), segment(dir.path(), found[1])).unwrap();
    let journal = open(dir.path());
    check_all(&*journal.reader(), bounds);
    assert_eq!(segments(dir.path()), found[2..]);
    drop(journal);

    // What was not trimmed but is gone is another thing.
    fs::remove_file(segment(dir.path(), found[2])).unwrap();
    let error = refused(dir.path());
    assert!(
        matches!(error, Error::MissingSegment { position, found: Some(next), .. }
            if (position, next) == (found[2], found[3])),
        "{error:?}"
    );
}

#[test]
fn an_empty_new_segment_is_gone_on_with_and_keeps_the_fence() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let empty = copy_of(dir.path());
    append(&mut journal, 10);
    journal.fence(5).unwrap();
    drop(journal);
    // A crash after the file was made and before its first record came.
    fs::copy(segment(empty.path(), 1), segment(dir.path(), 11)).unwrap();
    let mut journal = open(dir.path());
    assert_eq!(journal.epoch(), 5);
    assert_eq!(append(&mut journal, 5), 11);
    check_all(&*journal.reader(), Bounds { first: 1, next: 16 });
    assert_eq!(segments(dir.path()), [1, 11]);
}
