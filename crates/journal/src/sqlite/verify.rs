//! Reading everything to see whether it is as it was written.

use std::path::Path;

use zstd::bulk::Decompressor;

use super::open::{check_follows, check_last, check_wal, kept_positions};
use super::reader::{Flow, scan_batches};
use super::segment::{self, Segment, corrupt};
use crate::{Bounds, Error, Position};

/// What [`SqliteJournal::verify`](crate::SqliteJournal::verify) read and found right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The positions that are there.
    pub bounds: Bounds,
    /// How many segments there are.
    pub segments: u64,
    /// How many batches.
    pub batches: u64,
    /// How many records.
    pub records: u64,
    /// How many bytes the records have together, uncompressed.
    pub bytes: u64,
}

pub(super) fn verify(dir: &Path) -> Result<Report, Error> {
    let (positions, _) = segment::list(dir)?;
    let positions = kept_positions(dir, &positions)?;
    let first = positions.first().copied().unwrap_or(1);
    let bounds = Bounds { first, next: first };
    let mut report = Report { bounds, segments: 0, batches: 0, records: 0, bytes: 0 };
    for (index, &first) in positions.iter().enumerate() {
        read_segment(dir, first, positions.get(index + 1).copied(), &mut report)?;
    }
    Ok(report)
}

fn read_segment(dir: &Path, first: Position, follower: Option<Position>, report: &mut Report) -> Result<(), Error> {
    let path = Segment::new(dir, first, false).path;
    segment::check_header(&path, first)?;
    check_wal(&path, first)?;
    // Without a log the file is complete by itself, and reading it leaves nothing behind.
    let is_complete = segment::file_bytes(&segment::wal_path(&path))? == 0;
    let db = segment::open_readable(&path, first, is_complete)?;
    let reading = |error| segment::reading(&path, first, error);
    let pages: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(reading)?;
    if pages != "ok" {
        return Err(corrupt(&path, first, format!("its pages do not fit together ({pages})")));
    }
    let mut decompressor = Decompressor::new().map_err(|error| Error::io("make a decompressor", error))?;
    let mut expected = first;
    scan_batches(&db, &path, first, i64::MAX.cast_unsigned(), |batch| {
        if batch.first != expected {
            return Err(corrupt(&path, expected, "a batch is missing"));
        }
        let frames = batch.decompress(&mut decompressor)?;
        batch.entries(&frames, first, |entry| {
            report.records += 1;
            report.bytes += entry.record.len() as u64;
        })?;
        report.batches += 1;
        expected = batch.end();
        Ok(Flow::Continue)
    })?;
    match follower {
        Some(follower) => check_follows(dir, &path, expected, follower)?,
        None => check_last(dir, &db, &path, expected)?,
    }
    report.segments += 1;
    report.bounds.next = expected;
    Ok(())
}
