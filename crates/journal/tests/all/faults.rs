//! Damaged, torn, missing and foreign files: each with its own clear answer.

use std::fs;
use std::path::Path;

use lockstep_journal::conformance::{append, check, check_all};
use lockstep_journal::{Batch, Bounds, Error, Journal, Reader, SqliteJournal};

use crate::support::{
    copy_of, find, flip, hold, open, open_with_steps, options, refused, segment, segments, wait_sealed, wal,
};

/// A journal of several sealed segments, closed, and where they begin.
fn several_segments() -> (tempfile::TempDir, Vec<u64>) {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    while segments(dir.path()).len() < 4 {
        append(&mut journal, 50);
    }
    wait_sealed(&journal);
    drop(journal);
    let found = segments(dir.path());
    (dir, found)
}

#[test]
fn a_torn_tail_yields_the_batches_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let wal = wal(dir.path(), 1);
    let mut ends = vec![(0, 1)];
    for _ in 0..4 {
        append(&mut journal, 20);
        ends.push((fs::metadata(&wal).unwrap().len(), journal.bounds().next));
    }
    for cut in (0..=ends[4].0).step_by(1531).chain(ends.iter().map(|end| end.0)) {
        let copy = copy_of(dir.path());
        let copied = crate::support::wal(copy.path(), 1);
        fs::File::options().write(true).open(copied).unwrap().set_len(cut).unwrap();
        let next = ends.iter().rev().find(|end| end.0 <= cut).unwrap().1;
        let mut reopened = open(copy.path());
        check_all(&*reopened.reader(), Bounds { first: 1, next });
        // And it goes on from there, also over another crash.
        append(&mut reopened, 30);
        let again = copy_of(copy.path());
        check_all(&*open(again.path()).reader(), Bounds { first: 1, next: next + 30 });
    }
}

#[test]
fn a_longer_torn_transaction_is_not_taken_for_damage_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, 5);
    let whole = fs::metadata(wal(dir.path(), 1)).unwrap().len() as usize;
    append(&mut journal, 100);
    // The crash lost the beginning of the second transaction but kept its end.
    let crashed = copy_of(dir.path());
    let log = wal(crashed.path(), 1);
    let mut bytes = fs::read(&log).unwrap();
    bytes[whole..whole + 5000].fill(0);
    fs::write(&log, bytes).unwrap();
    let mut reopened = open(crashed.path());
    assert_eq!(reopened.bounds().next, 6);
    append(&mut reopened, 2);
    append(&mut reopened, 2);
    let again = copy_of(crashed.path());
    check_all(&*open(again.path()).reader(), Bounds { first: 1, next: 10 });
}

#[test]
fn a_flipped_byte_in_the_middle_of_the_log_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, 20);
    append(&mut journal, 20);
    let middle = fs::metadata(wal(dir.path(), 1)).unwrap().len();
    append(&mut journal, 20);
    for at in (0..middle).step_by(997) {
        let copy = copy_of(dir.path());
        let log = wal(copy.path(), 1);
        flip(&log, at as usize);
        let before = fs::read(&log).unwrap();
        let error = refused(copy.path());
        assert!(
            matches!(&error, Error::Corrupt { segment, position: 1, what, .. }
                if *segment == log && what.contains("damaged at byte")),
            "flipped at {at}: {error:?}"
        );
        assert!(matches!(SqliteJournal::verify(copy.path()), Err(Error::Corrupt { .. })));
        assert!(fs::read(&log).unwrap() == before, "the evidence is left as it is");
    }
}

#[test]
fn a_flipped_byte_in_a_record_is_found_by_the_read() {
    let (dir, found) = several_segments();
    let mut journal = open(dir.path());
    let mut marked = Batch::new();
    marked.push(b"a record that is easy to find");
    let position = journal.append(0, &marked).unwrap();
    append(&mut journal, 1);
    drop(journal);
    let last = segment(dir.path(), found[3]);
    flip(&last, find(&last, b"easy to find"));

    let journal = open(dir.path());
    let reader = journal.reader();
    for error in [reader.get(position).unwrap_err(), reader.read(position, 1).unwrap_err()] {
        assert!(
            matches!(&error, Error::Corrupt { segment, position: p, what, .. }
                if *segment == last && *p == position && what.contains("checksum")),
            "{error:?}"
        );
        assert_eq!(error.code(), "journal_corrupt");
    }
    // All others can be read.
    check(&reader.read(1, 1).unwrap(), 1);
    assert!(reader.get(position + 1).unwrap().is_some());
    drop((reader, journal));
    let error = SqliteJournal::verify(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Corrupt { position: p, .. } if p == position), "{error:?}");
}

#[test]
fn a_damaged_last_batch_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, 3);
    let mut marked = Batch::new();
    marked.push(b"a record that is easy to find");
    journal.append(0, &marked).unwrap();
    drop(journal);
    let path = segment(dir.path(), 1);
    flip(&path, find(&path, b"easy to find"));
    let error = refused(dir.path());
    assert!(matches!(&error, Error::Corrupt { position: 4, .. }), "{error:?}");
}

#[test]
fn a_batch_that_is_gone_is_noticed() {
    let (dir, found) = several_segments();
    for gone in [found[1], found[1] + 50, found[2] - 50] {
        let copy = copy_of(dir.path());
        let db = rusqlite::Connection::open(segment(copy.path(), found[1])).unwrap();
        assert_eq!(db.execute("DELETE FROM batch WHERE first = ?1", [gone as i64]).unwrap(), 1);
        db.close().unwrap();
        let error = SqliteJournal::verify(copy.path()).unwrap_err();
        if gone == found[2] - 50 {
            let opened = refused(copy.path());
            for error in [opened, error] {
                assert!(
                    matches!(error, Error::MissingSegment { position, found: Some(next), .. }
                        if (position, next) == (gone, found[2])),
                    "{error:?}"
                );
            }
            continue;
        }
        assert!(matches!(error, Error::Corrupt { position, .. } if position == gone), "{error:?}");
        let journal = open(copy.path());
        let reader = journal.reader();
        let error = reader.get(gone).unwrap_err();
        assert!(matches!(error, Error::Corrupt { position, .. } if position == gone), "{error:?}");
        let error = reader.read(gone.max(found[1] + 1) - 1, usize::MAX).unwrap_err();
        assert!(matches!(error, Error::Corrupt { position, .. } if position == gone), "{error:?}");
    }
}

#[test]
fn damaged_pages_are_an_error_and_never_a_wrong_record() {
    let (dir, found) = several_segments();
    let path = segment(dir.path(), found[1]);
    let bytes = fs::metadata(&path).unwrap().len();
    let (mut noticed, mut flipped) = (0, 0);
    for at in (100..bytes).step_by(1009) {
        flipped += 1;
        let copy = copy_of(dir.path());
        flip(&segment(copy.path(), found[1]), at as usize);
        let read_all = |reader: &dyn Reader| -> Result<u64, Error> {
            let mut position = found[1];
            while position < found[2] {
                position = check(&reader.read(position, 1)?, position);
            }
            Ok(position)
        };
        let result = SqliteJournal::open(copy.path(), options()).and_then(|journal| read_all(&*journal.reader()));
        match result {
            // A byte that holds nothing.
            Ok(position) => assert_eq!(position, found[2]),
            Err(Error::Corrupt { .. } | Error::MissingSegment { .. }) => noticed += 1,
            Err(error) => panic!("flipped at {at}: {error:?}"),
        }
    }
    assert!(noticed > flipped / 2, "{noticed} of {flipped}");
}

#[test]
fn a_missing_segment_is_named() {
    let (dir, found) = several_segments();
    for (index, &gone) in found.iter().enumerate() {
        let copy = copy_of(dir.path());
        fs::remove_file(segment(copy.path(), gone)).unwrap();
        let next = found.get(index + 1).copied();
        let verified = SqliteJournal::verify(copy.path()).unwrap_err();
        for error in [refused(copy.path()), verified] {
            assert!(
                matches!(&error, Error::MissingSegment { position, found, .. }
                    if *position == gone && *found == next),
                "without {gone}: {error:?}"
            );
        }
        assert_eq!(segments(copy.path()).len(), 3, "nothing else is removed");
    }
    for &gone in &found {
        fs::remove_file(segment(dir.path(), gone)).unwrap();
    }
    let error = refused(dir.path());
    assert!(matches!(error, Error::MissingSegment { position: 1, found: None, .. }), "{error:?}");
}

#[test]
fn foreign_and_newer_files_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = segment(dir.path(), 1);
    let check = |expected: &str| {
        let before = fs::read(&path).unwrap();
        for error in [refused(dir.path()), SqliteJournal::verify(dir.path()).unwrap_err()] {
            let Error::UnknownFormat { path: named, found, known } = &error else { panic!("{error:?}") };
            assert_eq!((named, found.as_str()), (&path, expected));
            assert_eq!(known, "journal segment format 1");
        }
        assert!(fs::read(&path).unwrap() == before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::remove_file(&path).unwrap();
    };
    fs::write(&path, "a diary\n".repeat(50)).unwrap();
    check("not a SQLite file");

    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE diary(day, text)").unwrap();
    db.close().unwrap();
    check("a SQLite file of another program (0x00000000)");

    let newer = tempfile::tempdir().unwrap();
    drop(open(newer.path()));
    fs::copy(segment(newer.path(), 1), &path).unwrap();
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA user_version=2").unwrap();
    db.close().unwrap();
    check("journal segment format 2");

    fs::write(&path, "short").unwrap();
    assert!(matches!(refused(dir.path()), Error::Corrupt { .. }));
}

#[test]
fn a_folder_that_cannot_be_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refused(&file);
    assert!(matches!(&error, Error::Open { path, .. } if *path == file), "{error:?}");
}

#[test]
fn what_a_crash_left_unfinished_is_cleared() {
    let (dir, found) = several_segments();
    let unfinished = dir.path().join(format!("{:020}.journal.tmp", 99_999));
    fs::write(&unfinished, "half").unwrap();
    let journal = open(dir.path());
    assert!(!unfinished.exists());
    assert_eq!(segments(dir.path()), found);
    let bounds = journal.bounds();
    check_all(&*journal.reader(), bounds);
}

#[test]
fn logs_that_were_not_moved_yet_are_moved_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    let mut holds = Vec::new();
    while segments(dir.path()).len() < 4 {
        append(&mut journal, 50);
        if segments(dir.path()).len() > holds.len() {
            // While somebody reads what a segment was at its first batch, its log cannot be moved.
            let live = segments(dir.path())[holds.len()];
            holds.push(hold(&segment(dir.path(), live)));
        }
    }
    let crashed = copy_of(dir.path());
    let bounds = journal.bounds();
    drop(holds);
    drop(journal);

    let old = segments(crashed.path());
    let log_bytes = |first| fs::metadata(wal(crashed.path(), first)).map_or(0, |m| m.len());
    assert!(old.iter().all(|&first| log_bytes(first) > 0), "the crash left each log");
    let journal = open(crashed.path());
    check_all(&*journal.reader(), bounds);
    wait_sealed(&journal);
    check_all(&*journal.reader(), bounds);
    assert!(old.iter().all(|&first| log_bytes(first) == 0), "each log was moved");
    drop(journal);
    assert_eq!(SqliteJournal::verify(crashed.path()).unwrap().bounds, bounds);
}

#[test]
fn a_log_that_was_moved_is_written_again_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open_with_steps(dir.path());
    let log_bytes = |dir: &Path| fs::metadata(wal(dir, 1)).map_or(0, |m| m.len());
    let mut longest = 0;
    while segments(dir.path()).len() == 1 {
        append(&mut journal, 60);
        longest = longest.max(log_bytes(dir.path()));
        // What a crash leaves is whole at every moment: in the log, in the main file, or in both.
        if fastrand::u8(..) < 8 {
            while journal.is_moving() {
                std::thread::yield_now();
            }
            let crashed = copy_of(dir.path());
            check_all(&*open_with_steps(crashed.path()).reader(), journal.bounds());
        }
    }
    let main = fs::metadata(segment(dir.path(), 1)).unwrap().len();
    assert!(longest < main / 2, "the log took {longest} bytes of a segment of {main}");
    check_all(&*journal.reader(), journal.bounds());
    drop(journal);
    SqliteJournal::verify(dir.path()).unwrap();
}
