//! What several of these tests need.

use std::path::{Path, PathBuf};

use lockstep_journal::conformance::SEGMENT_BYTES_MAX;
use lockstep_journal::{Error, Journal, SqliteJournal, SqliteOptions};

/// Small segments, so that few records fill several of them.
pub(crate) fn options() -> SqliteOptions {
    SqliteOptions { segment_bytes_max: SEGMENT_BYTES_MAX as u64, ..SqliteOptions::default() }
}

pub(crate) fn open(dir: &Path) -> SqliteJournal {
    SqliteJournal::open(dir, options()).expect("open")
}

/// With larger segments whose logs are moved in many small steps.
pub(crate) fn open_with_steps(dir: &Path) -> SqliteJournal {
    let options = SqliteOptions { segment_bytes_max: 4 << 20, step_bytes: 64 << 10, ..SqliteOptions::default() };
    SqliteJournal::open(dir, options).expect("open")
}

#[track_caller]
pub(crate) fn refused(dir: &Path) -> Error {
    match SqliteJournal::open(dir, options()) {
        Ok(journal) => panic!("it was opened: {:?}", journal.bounds()),
        Err(error) => error,
    }
}

pub(crate) fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.journal"))
}

pub(crate) fn wal(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.journal-wal"))
}

/// The first positions of the segments in `dir`.
pub(crate) fn segments(dir: &Path) -> Vec<u64> {
    let mut found: Vec<u64> = std::fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".journal").map(|digits| digits.parse().unwrap())
        })
        .collect();
    found.sort_unstable();
    found
}

/// Reads what the segment is now, and goes on reading that until it is dropped.
pub(crate) fn hold(segment: &Path) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(segment).unwrap();
    db.execute_batch("BEGIN").unwrap();
    let _: i64 = db.query_row("SELECT count(*) FROM batch", [], |row| row.get(0)).unwrap();
    db
}

/// The files as a crash at this moment would leave them. While it copies, nothing may be moving a
/// log: a crash sees all files at one moment, and this does not. (The index of the log is SQLite's memory,
/// and is made anew.)
pub(crate) fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with("-shm") {
            std::fs::copy(&path, copy.path().join(name)).unwrap();
        }
    }
    copy
}

/// Flips a bit of one byte.
pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// Where `needle` stands in the file.
pub(crate) fn find(path: &Path, needle: &[u8]) -> usize {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(needle.len()).position(|window| window == needle).expect("it is in the file")
}

/// Waits until the second thread has moved all logs but the live one.
pub(crate) fn wait_sealed(journal: &SqliteJournal) {
    while !journal.is_all_sealed() {
        std::thread::yield_now();
    }
}
