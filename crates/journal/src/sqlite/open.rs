//! Opening a folder: what is there, is it all there, and what did a crash leave.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, RwLock};

use rusqlite::{Connection, ErrorCode};
use zstd::bulk::Compressor;

use super::reader::{Cache, Flow, Pool, Shared, scan_batches};
use super::seal::{Job, Sealer};
use super::segment::{self, Segment, corrupt};
use super::wal_check::{self, Finding};
use super::{Live, SqliteJournal, SqliteOptions};
use crate::{Epoch, Error, Position};

const FIRST_SUFFIX: &str = ".first";

pub(super) fn open(dir: &Path, options: SqliteOptions) -> Result<SqliteJournal, Error> {
    let opening = |source: io::Error| Error::Open { path: dir.to_owned(), source: source.into() };
    let is_new = !dir.exists();
    fs::create_dir_all(dir).map_err(opening)?;
    if is_new && let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        segment::sync_dir(parent)?;
    }
    let positions = prepare_files(dir)?;
    let first = positions[0];

    let mut segments = Vec::with_capacity(positions.len());
    let mut jobs = Vec::new();
    // An epoch only grows, so that the highest one counts wherever it stands: a fence may have come
    // between a new, still empty file and a crash.
    let mut epoch = 0;
    for pair in positions.windows(2) {
        let old = open_old(dir, pair[0], pair[1])?;
        segments.push(old.segment);
        epoch = epoch.max(old.epoch);
        jobs.extend(old.job);
    }
    let live_first = positions[positions.len() - 1];
    let (live, live_epoch, next) = open_live(dir, live_first)?;
    let epoch = epoch.max(live_epoch);
    segments.push(live.segment.clone());
    // Not before the files were found to be a journal's: a foreign folder is left as it is.
    if first_marked(dir)?.is_none() {
        write_first(dir, first)?;
    }

    let shared = Arc::new(Shared {
        dir: dir.to_owned(),
        segments: RwLock::new(segments),
        first: first.into(),
        next: next.into(),
        poison: OnceLock::new(),
        pool: Pool::new(options.reader_connections_max),
        cache: Cache::new(options.cache_batches_max, options.cache_bytes_max),
    });
    let compressor =
        Compressor::new(options.compression_level).map_err(|error| Error::io("make a compressor", error))?;
    let sealer = Sealer::start(shared.clone())?;
    for job in jobs {
        sealer.seal(job);
    }
    Ok(SqliteJournal {
        shared,
        options,
        epoch,
        live: Some(live),
        compressor,
        payload: Vec::new(),
        sealer: Some(sealer),
    })
}

/// Clears what a crash left over, begins a journal where there is none, and returns the positions
/// of the segments: at least one.
fn prepare_files(dir: &Path) -> Result<Vec<Position>, Error> {
    let (positions, unfinished) = segment::list(dir)?;
    for path in unfinished {
        fs::remove_file(&path).map_err(|error| Error::io(format!("remove {}", path.display()), error))?;
    }
    let kept = kept_positions(dir, &positions)?;
    for &position in positions.iter().filter(|p| !kept.contains(p)) {
        // A trim said that they go, and did not come to it.
        let path = Segment::new(dir, position, false).path;
        segment::remove(&path).map_err(|error| Error::io(format!("remove {}", path.display()), error))?;
    }
    if kept.is_empty() {
        segment::create(dir, 1, 0)?;
        return Ok(vec![1]);
    }
    Ok(kept)
}

/// Those of the segments that are kept, after the name that says where the journal begins.
pub(super) fn kept_positions(dir: &Path, positions: &[Position]) -> Result<Vec<Position>, Error> {
    let Some(first) = first_marked(dir)? else {
        return Ok(positions.to_vec());
    };
    let kept: Vec<_> = positions.iter().copied().filter(|&p| p >= first).collect();
    if kept.first() == Some(&first) {
        Ok(kept)
    } else {
        let found = kept.first().copied();
        Err(Error::MissingSegment { dir: dir.to_owned(), position: first, found })
    }
}

fn first_path(dir: &Path, first: Position) -> PathBuf {
    dir.join(format!("{first:020}{FIRST_SUFFIX}"))
}

/// Where the journal begins; `None` where nobody has said so.
pub(super) fn first_marked(dir: &Path) -> Result<Option<Position>, Error> {
    let opening = |source: io::Error| Error::Open { path: dir.to_owned(), source: source.into() };
    let mut first = None;
    for entry in fs::read_dir(dir).map_err(opening)? {
        let name = entry.map_err(opening)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(FIRST_SUFFIX));
        first = first.max(digits.and_then(segment::parse_digits));
    }
    Ok(first)
}

fn write_first(dir: &Path, first: Position) -> Result<(), Error> {
    let path = first_path(dir, first);
    File::create(&path)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io(format!("create {}", path.display()), error))?;
    segment::sync_dir(dir)
}

/// Makes it durable that the journal no longer begins at `before` but at `first`.
pub(super) fn mark_first(dir: &Path, before: Position, first: Position) -> Result<(), Error> {
    let (from, to) = (first_path(dir, before), first_path(dir, first));
    fs::rename(&from, &to)
        .map_err(|error| Error::io(format!("rename {} to {}", from.display(), to.display()), error))?;
    segment::sync_dir(dir)
}

/// Refuses a damaged log; says how much of it is whole where it is torn.
pub(super) fn check_wal(path: &Path, first: Position) -> Result<Option<u64>, Error> {
    let wal = segment::wal_path(path);
    let finding = wal_check::check(&wal, path).map_err(|error| Error::io(format!("read {}", wal.display()), error))?;
    match finding {
        Finding::Whole => Ok(None),
        Finding::Torn { bytes_whole } => Ok(Some(bytes_whole)),
        Finding::Damaged { offset } => {
            let what = format!("the write-ahead log is damaged at byte {offset}, and synced transactions follow");
            Err(corrupt(&wal, first, what))
        }
    }
}

/// Cuts off what a crash left half written, and what an earlier use of the log left. SQLite would ignore it too, but
/// would leave it in the file, where the check after the next crash could take it for synced transactions.
fn cut_torn_tail(path: &Path, first: Position) -> Result<(), Error> {
    let Some(bytes_whole) = check_wal(path, first)? else {
        return Ok(());
    };
    let wal = segment::wal_path(path);
    tracing::info!(path = %wal.display(), bytes_whole, "cut what follows the last whole transaction off the log");
    if bytes_whole == 0 {
        // The main file may have been read from memory only, and is all there is from here on.
        File::open(path)
            .and_then(|main| main.sync_all())
            .map_err(|error| Error::io(format!("sync {}", path.display()), error))?;
    }
    File::options()
        .write(true)
        .open(&wal)
        .and_then(|file| file.set_len(bytes_whole).and_then(|()| file.sync_all()))
        .map_err(|error| Error::io(format!("cut {}", wal.display()), error))
}

/// A segment that another one follows.
struct Old {
    segment: Arc<Segment>,
    epoch: Epoch,
    /// What is left to do if it is not sealed yet.
    job: Option<Job>,
}

fn open_old(dir: &Path, first: Position, follower: Position) -> Result<Old, Error> {
    let path = Segment::new(dir, first, false).path;
    segment::check_header(&path, first)?;
    cut_torn_tail(&path, first)?;
    let has_log = segment::file_bytes(&segment::wal_path(&path))? > 0;
    let db = if has_log {
        segment::open_writable(&path, first)?
    } else {
        segment::remove_empty_log(&path)?;
        segment::open_readable(&path, first, true)?
    };
    let next = segment::next_position(&db, &path, first)?;
    check_follows(dir, &path, next, follower)?;
    let reading = |error| segment::reading(&path, first, error);
    let is_marked = segment::sealed_next(&db).map_err(reading)?.is_some();
    let epoch = stored_epoch(&db, &path, first)?;
    if is_marked && !has_log {
        return Ok(Old { segment: Arc::new(Segment::new(dir, first, true)), epoch, job: None });
    }
    let db = if has_log { db } else { segment::open_writable(&path, first)? };
    let segment = Arc::new(Segment::new(dir, first, false));
    let job = Job { segment: segment.clone(), db, next: follower };
    Ok(Old { segment, epoch, job: Some(job) })
}

fn stored_epoch(db: &Connection, path: &Path, first: Position) -> Result<Epoch, Error> {
    segment::epoch(db)
        .map_err(|error| segment::reading(path, first, error))?
        .ok_or_else(|| corrupt(path, first, "it holds no epoch"))
}

pub(super) fn check_follows(dir: &Path, path: &Path, next: Position, follower: Position) -> Result<(), Error> {
    if next < follower {
        let found = Some(follower);
        Err(Error::MissingSegment { dir: dir.to_owned(), position: next, found })
    } else if next > follower {
        Err(corrupt(path, follower, "it holds positions that the next segment holds too"))
    } else {
        Ok(())
    }
}

/// The last segment, the epoch, and the position that the next record gets.
fn open_live(dir: &Path, first: Position) -> Result<(Live, Epoch, Position), Error> {
    let segment = Arc::new(Segment::new(dir, first, false));
    let path = segment.path.clone();
    segment::check_header(&path, first)?;
    cut_torn_tail(&path, first)?;
    let has_log = segment::file_bytes(&segment::wal_path(&path))? > 0;
    let mut live = Live::open(segment, &path)?;
    if has_log {
        empty_log(&live.db, &path, first)?;
        live.file_bytes = segment::file_bytes(&path)?;
    }
    let epoch = stored_epoch(&live.db, &path, first)?;
    let next = segment::next_position(&live.db, &path, first)?;
    check_last(dir, &live.db, &path, next)?;
    check_last_batch(&live.db, &path, next)?;
    Ok((live, epoch, next))
}

/// Moves the log that a crash left into the main file.
///
/// Not only to have it done: after a failed sync, what is read back may be in memory only. Copying
/// it and syncing the copy makes it durable before anybody relies on it.
fn empty_log(db: &Connection, path: &Path, first: Position) -> Result<(), Error> {
    match segment::checkpoint(db) {
        Ok(_) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            // A full disk must not keep anybody from reading. The log is as good.
            tracing::warn!(path = %path.display(), "no room to move the journal's log");
            Ok(())
        }
        Err(error) => {
            let what = format!("move the log of {}", path.display());
            Err(segment::writing(path, first, what, error))
        }
    }
}

/// Refuses to go on in a segment that another one followed.
pub(super) fn check_last(dir: &Path, db: &Connection, path: &Path, next: Position) -> Result<(), Error> {
    match segment::sealed_next(db).map_err(|error| segment::reading(path, next, error))? {
        Some(position) => Err(Error::MissingSegment { dir: dir.to_owned(), position, found: None }),
        None => Ok(()),
    }
}

/// The position of the next record stands on the last batch alone: its checksum must be right.
fn check_last_batch(db: &Connection, path: &Path, next: Position) -> Result<(), Error> {
    scan_batches(db, path, next - 1, next, |_| Ok(Flow::Continue)).map(drop)
}
