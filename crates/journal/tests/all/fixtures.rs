//! Files of each format that was ever released must be readable for ever.
//!
//! `LOCKSTEP_WRITE_FIXTURE=1 cargo test -p lockstep-journal fixtures` writes those of the present
//! format anew; they are then committed. Once a version with that format is released, they never
//! change again: a new format gets a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_journal::{Batch, Bounds, Entry, Error, Journal, SqliteJournal, SqliteOptions};

use crate::support::{copy_of, find, flip, segment, segments};

const EPOCH: u64 = 7;
const LAST: &[u8] = b"the last record";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// What the fixture holds: two segments of invented records.
fn batches() -> Vec<Vec<Vec<u8>>> {
    vec![
        vec![b"a first record".to_vec(), Vec::new(), br#"{"order":"A-1001"}"#.to_vec()],
        vec![vec![0x00, 0xff, 0x80], vec![b'x'; 20_000]],
        (0..50_u32).map(|n| format!("{{\"sku\":\"S-{n}\",\"count\":{}}}", n * n).into_bytes()).collect(),
        vec![LAST.to_vec()],
    ]
}

fn entries() -> Vec<Entry> {
    let records = batches().into_iter().flatten();
    (1..).zip(records).map(|(position, r)| Entry { position, record: r.into() }).collect()
}

fn write(dir: &Path) {
    let _ = fs::remove_dir_all(dir);
    // Each segment is full after three batches.
    let options = SqliteOptions { segment_bytes_max: 28_000, ..SqliteOptions::default() };
    let mut journal = SqliteJournal::open(dir, options).unwrap();
    journal.fence(EPOCH).unwrap();
    for records in batches() {
        let mut batch = Batch::new();
        records.iter().for_each(|record| batch.push(record));
        journal.append(EPOCH, &batch).unwrap();
    }
}

#[test]
fn format_1_is_readable_for_ever() {
    let fixture = folder("format-1");
    if std::env::var_os("LOCKSTEP_WRITE_FIXTURE").is_some_and(|value| value == "1") {
        write(&fixture);
    }
    let names: Vec<_> = segments(&fixture);
    assert_eq!(names.len(), 2, "{names:?}");
    let expected = entries();
    let bounds = Bounds { first: 1, next: expected.len() as u64 + 1 };

    let report = SqliteJournal::verify(&fixture).unwrap();
    assert_eq!((report.bounds, report.segments, report.batches), (bounds, 2, 4));

    // Opening writes, so a copy is opened.
    let copy = copy_of(&fixture);
    let mut journal = SqliteJournal::open(copy.path(), SqliteOptions::default()).unwrap();
    assert_eq!((journal.epoch(), journal.bounds()), (EPOCH, bounds));
    let reader = journal.reader();
    assert_eq!(reader.read(1, usize::MAX).unwrap(), expected);
    // And it can be written on.
    let mut batch = Batch::new();
    batch.push(b"one more");
    assert_eq!(journal.append(EPOCH, &batch).unwrap(), bounds.next);
    assert_eq!(reader.get(bounds.next).unwrap().unwrap().record, b"one more".as_slice());
}

#[test]
fn format_1_damaged_is_refused_for_ever() {
    let fixture = folder("format-1-corrupt");
    if std::env::var_os("LOCKSTEP_WRITE_FIXTURE").is_some_and(|value| value == "1") {
        write(&fixture);
        // In the first batch, which is too short to be compressed.
        let first = segment(&fixture, 1);
        flip(&first, find(&first, b"A-1001"));
    }
    let error = SqliteJournal::verify(&fixture).unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { position: 1, segment: path, .. }
            if *path == segment(&fixture, 1)),
        "{error:?}"
    );
    let copy = copy_of(&fixture);
    let journal = SqliteJournal::open(copy.path(), SqliteOptions::default()).unwrap();
    let reader = journal.reader();
    assert!(matches!(reader.read(1, 1), Err(Error::Corrupt { position: 1, .. })));
    // What is not damaged is still there.
    assert_eq!(reader.read(4, usize::MAX).unwrap(), entries()[3..]);
}
