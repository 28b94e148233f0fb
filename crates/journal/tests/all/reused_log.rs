//! Damage in a log that was written again from its beginning, with frames of its earlier use behind.

use std::fs;
use std::path::Path;

use lockstep_journal::conformance::{append, check_all};
use lockstep_journal::{Bounds, Error, Journal, SqliteJournal};

use crate::support::{copy_of, flip, open, open_with_steps, refused, segment, wal};

const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 24 + 4096;

/// Where the transactions of the log's present use end, and of which use that is.
fn transactions(log: &[u8]) -> (u32, Vec<usize>) {
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let frames = (HEADER_BYTES..).step_by(FRAME_BYTES).take_while(|at| at + FRAME_BYTES <= log.len());
    let present = frames.take_while(|at| log[at + 8..at + 16] == log[16..24]);
    (number(12), present.filter(|at| number(at + 4) != 0).map(|at| at + FRAME_BYTES).collect())
}

/// A journal whose log was begun anew and has some transactions since, none of them in the main file; where these end,
/// and what the header before was.
fn reused(dir: &Path) -> (SqliteJournal, Vec<usize>, Vec<u8>) {
    let mut journal = open_with_steps(dir);
    let read = || fs::read(wal(dir, 1)).unwrap();
    let main = || fs::read(segment(dir, 1)).unwrap();
    append(&mut journal, 20);
    loop {
        let header = read()[..HEADER_BYTES].to_vec();
        append(&mut journal, 20);
        let (used, ends) = transactions(&read());
        if ends.len() > 1 || used < 3 {
            continue;
        }
        let moved = main();
        for _ in 0..3 {
            append(&mut journal, 20);
        }
        let log = read();
        let (now, ends) = transactions(&log);
        // Unless it was moved meanwhile.
        if !journal.is_moving()
            && main() == moved
            && (now, ends.len()) == (used, 4)
            && log.len() >= ends[3] + FRAME_BYTES
        {
            return (journal, ends, header);
        }
    }
}

#[test]
fn a_flipped_byte_is_damage_unless_nothing_synced_is_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ends, _) = reused(dir.path());
    let Bounds { first, next } = journal.bounds();
    let length = fs::metadata(wal(dir.path(), 1)).unwrap().len() as usize;
    for at in (0..HEADER_BYTES).chain((HEADER_BYTES..length).step_by(509)) {
        let copy = copy_of(dir.path());
        flip(&wal(copy.path(), 1), at);
        if at < ends[2] {
            let error = refused(copy.path());
            assert!(
                matches!(&error, Error::Corrupt { what, .. } if what.contains("damaged at byte")),
                "{at}: {error:?}"
            );
            assert!(matches!(SqliteJournal::verify(copy.path()), Err(Error::Corrupt { .. })), "flipped at {at}");
        } else {
            // The last transaction looks as if it had been torn. What is of the earlier use counts for nothing.
            let kept = if at < ends[3] { next - 20 } else { next };
            SqliteJournal::verify(copy.path()).unwrap();
            check_all(&*open(copy.path()).reader(), Bounds { first, next: kept });
        }
    }
}

#[test]
fn a_header_that_went_missing_before_synced_transactions_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ends, header_before) = reused(dir.path());
    let bounds = journal.bounds();
    let log = fs::read(wal(dir.path(), 1)).unwrap();
    // As if the disk had never written it, and as if it had written nothing there.
    for header in [header_before.as_slice(), &[0; HEADER_BYTES]] {
        for length in [ends[0], ends[3], log.len()] {
            let copy = copy_of(dir.path());
            fs::write(wal(copy.path(), 1), [header, &log[HEADER_BYTES..length]].concat()).unwrap();
            let error = refused(copy.path());
            assert!(matches!(&error, Error::Corrupt { what, .. } if what.contains("damaged at byte 0")), "{error:?}");
        }
    }
    // Where the main file has it all, there is nothing to miss.
    let copy = copy_of(dir.path());
    let db = rusqlite::Connection::open(segment(copy.path(), 1)).unwrap();
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    let moved = copy_of(copy.path());
    drop(db);
    for header in [header_before.as_slice(), &[0; HEADER_BYTES]] {
        let copy = copy_of(moved.path());
        fs::write(wal(copy.path(), 1), [header, &log[HEADER_BYTES..]].concat()).unwrap();
        SqliteJournal::verify(copy.path()).unwrap();
        let mut journal = open(copy.path());
        check_all(&*journal.reader(), bounds);
        append(&mut journal, 5);
    }
}
