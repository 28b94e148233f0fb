//! One file of the journal: its name, its header, its tables, and connections to it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ffi, params};
use xxhash_rust::xxh3::Xxh3;

use crate::{Epoch, Error, Position};

/// Says in the file's header that SQLite's file is a segment of a journal: "LSJL".
const APPLICATION_ID: u32 = 0x4c53_4a4c;
/// The version of the tables.
const SEGMENT_FORMAT: u32 = 1;
/// The version of what stands in a row: zstd of each record after its length.
pub(super) const RECORD_FORMAT: i64 = 1;

const SUFFIX: &str = ".journal";
const SUFFIX_UNFINISHED: &str = ".journal.tmp";
const NAME_DIGITS: usize = 20;
/// Long enough for another connection's recovery of a large log; nothing else here holds a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A row is read once and in order, so that a large page cache would only hold what nobody asks for.
const READER_CACHE_KIB: i64 = 512;

/// A segment as the writer and the readers share it.
#[derive(Debug)]
pub(super) struct Segment {
    /// The first position, which is also the name.
    pub(super) first: Position,
    pub(super) path: PathBuf,
    /// All is in the main file, there is no log, and nothing will be written again.
    pub(super) sealed: AtomicBool,
    /// No longer kept. A connection to it must not be kept either.
    pub(super) dropped: AtomicBool,
    /// Another process may be writing it or sealing it, and does not say so here.
    of_another: bool,
}

impl Segment {
    pub(super) fn new(dir: &Path, first: Position, sealed: bool) -> Self {
        let path = dir.join(file_name(first));
        Self { first, path, sealed: sealed.into(), dropped: false.into(), of_another: false }
    }

    /// A segment that belongs to another process, if to any.
    pub(super) fn of_another(dir: &Path, first: Position) -> Self {
        Self { of_another: true, ..Self::new(dir, first, false) }
    }

    /// Whether all of it is in the main file now. Opened the other way, SQLite would make a log where there is none.
    pub(super) fn is_complete(&self) -> Result<bool, Error> {
        if self.sealed.load(Ordering::Acquire) {
            return Ok(true);
        }
        Ok(self.of_another && file_bytes(&wal_path(&self.path))? == 0)
    }
}

fn file_name(first: Position) -> String {
    format!("{first:0NAME_DIGITS$}{SUFFIX}")
}

/// The file's log.
pub(super) fn wal_path(segment: &Path) -> PathBuf {
    beside(segment, "-wal")
}

fn beside(segment: &Path, suffix: &str) -> PathBuf {
    let mut name = segment.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The length of a file; none is 0.
pub(super) fn file_bytes(path: &Path) -> Result<u64, Error> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(format!("look at {}", path.display()), error)),
    }
}

/// Makes what was created, renamed or removed in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io(format!("sync the folder {}", dir.display()), error))
}

/// The positions of the segments in `dir` in order, and the files that a crash left unfinished.
pub(super) fn list(dir: &Path) -> Result<(Vec<Position>, Vec<PathBuf>), Error> {
    let open = |source: io::Error| Error::Open { path: dir.to_owned(), source: source.into() };
    let mut segments = Vec::new();
    let mut unfinished = Vec::new();
    for entry in fs::read_dir(dir).map_err(open)? {
        let entry = entry.map_err(open)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.contains(SUFFIX_UNFINISHED) {
            unfinished.push(entry.path());
        } else if let Some(first) = name.strip_suffix(SUFFIX).and_then(parse_digits) {
            segments.push(first);
        }
    }
    segments.sort_unstable();
    Ok((segments, unfinished))
}

/// Exactly as many digits as a name has.
pub(super) fn parse_digits(text: &str) -> Option<Position> {
    let all_digits = text.len() == NAME_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    if all_digits { text.parse().ok() } else { None }
}

/// Removes a segment's files.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for path in [beside(path, "-wal"), beside(path, "-shm"), path.to_owned()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what SQLite left beside a file whose log is empty.
pub(super) fn remove_empty_log(path: &Path) -> Result<(), Error> {
    for path in [beside(path, "-wal"), beside(path, "-shm")] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", path.display()), error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a file that is not a segment this version reads.
///
/// Reads the bytes themselves, so that a foreign file is refused before SQLite could touch it. Must
/// come before a connection to the file is opened: closing a file drops all of the process's locks
/// on it.
pub(super) fn check_header(path: &Path, first: Position) -> Result<(), Error> {
    let mut bytes = Vec::with_capacity(100);
    File::open(path)
        .and_then(|file| file.take(100).read_to_end(&mut bytes))
        .map_err(|source| Error::Open { path: path.to_owned(), source: source.into() })?;
    let unknown = |found: String| {
        let known = format!("journal segment format {SEGMENT_FORMAT}");
        Err(Error::UnknownFormat { path: path.to_owned(), found, known })
    };
    if bytes.len() < 100 {
        return Err(corrupt(path, first, "the file is shorter than its header"));
    }
    if !bytes.starts_with(b"SQLite format 3\0") {
        return unknown("not a SQLite file".to_owned());
    }
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    // Where SQLite keeps user_version and application_id.
    let (version, application) = (number(60), number(68));
    if application != APPLICATION_ID {
        return unknown(format!("a SQLite file of another program ({application:#010x})"));
    }
    if version != SEGMENT_FORMAT {
        return unknown(format!("journal segment format {version}"));
    }
    Ok(())
}

/// Makes an empty, durable segment. It gets its name last, so that a crash leaves no half of one.
pub(super) fn create(dir: &Path, first: Position, epoch: Epoch) -> Result<PathBuf, Error> {
    let path = dir.join(file_name(first));
    let unfinished = dir.join(format!("{first:0NAME_DIGITS$}{SUFFIX_UNFINISHED}"));
    let made = write_empty(&unfinished, epoch).and_then(|()| {
        File::open(&unfinished)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(|error| Error::io(format!("create {}", path.display()), error))
    });
    if let Err(error) = made {
        // What is left takes room on a disk that may just be full; else the next open removes it.
        if let Err(error) = remove(&unfinished) {
            tracing::warn!(path = %unfinished.display(), %error, "cannot remove an unfinished file");
        }
        return Err(error);
    }
    sync_dir(dir)?;
    Ok(path)
}

fn write_empty(path: &Path, epoch: Epoch) -> Result<(), Error> {
    remove(path).map_err(|error| Error::io(format!("remove {}", path.display()), error))?;
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| opening(path, 0, error))?;
    // Nobody sees the file before it is synced as a whole, hence no syncs here.
    db.execute_batch(&format!(
        "PRAGMA page_size=4096; PRAGMA synchronous=OFF;
         PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SEGMENT_FORMAT};
         CREATE TABLE batch(
             first INTEGER PRIMARY KEY, count INTEGER NOT NULL, format INTEGER NOT NULL,
             checksum INTEGER NOT NULL, payload BLOB NOT NULL);
         CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    ))
    .and_then(|()| set_meta(&db, META_EPOCH, epoch))
    .and_then(|()| db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())))
    .and_then(|()| db.close().map_err(|(_, error)| error))
    .map_err(|error| writing(path, 0, format!("create {}", path.display()), error))
}

/// Opens the segment for the one who writes to it.
pub(super) fn open_writable(path: &Path, first: Position) -> Result<Connection, Error> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(|error| opening(path, first, error))?;
    let setup = || {
        db.busy_timeout(BUSY_TIMEOUT)?;
        // A checkpoint by the writer would stall it, and one at closing would hide a failed sync: both are done
        // where it is safe, and nowhere else.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.execute_batch("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;")?;
        db.query_row("PRAGMA journal_mode=WAL", [], |row| row.get::<_, String>(0))
    };
    let mode = setup().map_err(|error| opening(path, first, error))?;
    if mode != "wal" {
        let what = format!("its journal mode is {mode:?} and cannot be made \"wal\"");
        return Err(corrupt(path, first, what));
    }
    Ok(db)
}

/// Opens the segment for reading. A sealed one takes no locks and leaves no files beside it.
pub(super) fn open_readable(path: &Path, first: Position, sealed: bool) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let uri = if sealed { immutable_uri(path) } else { None };
    let db = match uri {
        Some(uri) => Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI),
        None => Connection::open_with_flags(path, flags),
    };
    let setup = |db: Connection| {
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.execute_batch(&format!("PRAGMA cache_size=-{READER_CACHE_KIB}"))?;
        Ok(db)
    };
    db.and_then(setup).map_err(|error| opening(path, first, error))
}

/// `None` for a path that is not UTF-8; such a file is opened the ordinary way.
fn immutable_uri(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let mut uri = String::from("file:");
    for byte in path.to_str()?.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Some(uri)
}

const META_EPOCH: &str = "epoch";
const META_SEALED: &str = "sealed_next";

fn set_meta(db: &Connection, key: &str, value: u64) -> rusqlite::Result<()> {
    // Numbers of 64 bits are kept bit by bit in SQLite's signed ones.
    db.prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = ?2")?
        .execute(params![key, value.cast_signed()])
        .map(drop)
}

fn meta(db: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, i64>(0))
        .optional()
        .map(|value| value.map(i64::cast_unsigned))
}

/// Stores the epoch; durable when it returns.
pub(super) fn set_epoch(db: &Connection, epoch: Epoch) -> rusqlite::Result<()> {
    set_meta(db, META_EPOCH, epoch)
}

pub(super) fn epoch(db: &Connection) -> rusqlite::Result<Option<Epoch>> {
    meta(db, META_EPOCH)
}

/// Stores that the segment at `next` follows, so that its loss is noticed.
pub(super) fn set_sealed(db: &Connection, next: Position) -> rusqlite::Result<()> {
    set_meta(db, META_SEALED, next)
}

pub(super) fn sealed_next(db: &Connection) -> rusqlite::Result<Option<Position>> {
    meta(db, META_SEALED)
}

/// The position after the last record, or `first` where there is none.
pub(super) fn next_position(db: &Connection, path: &Path, first: Position) -> Result<Position, Error> {
    let last = db
        .query_row("SELECT first, count FROM batch ORDER BY first DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .optional()
        .map_err(|error| reading(path, first, error))?;
    let Some((last, count)) = last else {
        return Ok(first);
    };
    let (last, count) = (last.cast_unsigned(), count.cast_unsigned());
    match last.checked_add(count) {
        Some(next) if last >= first && count > 0 => Ok(next),
        _ => Err(corrupt(path, last, "the last batch has an impossible position")),
    }
}

/// Moves the log's content into the main file and empties the log. False where a reader was in the
/// way.
pub(super) fn checkpoint(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).map(|busy| busy == 0)
}

/// Moves what the log has now into the main file beside whoever writes and reads: as far as no reader needs the log.
pub(super) fn checkpoint_beside(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// The checksum over all that a row says.
pub(super) fn checksum(first: Position, count: u64, format: i64, payload: &[u8]) -> i64 {
    let mut hash = Xxh3::new();
    hash.update(&first.to_le_bytes());
    hash.update(&count.to_le_bytes());
    hash.update(&format.to_le_bytes());
    hash.update(payload);
    hash.digest().cast_signed()
}

pub(super) fn corrupt(path: &Path, position: Position, what: impl Into<String>) -> Error {
    Error::Corrupt { segment: path.to_owned(), position, what: what.into(), source: None }
}

fn is_corrupt(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch)
    ) || matches!(
        error,
        // A table that is gone or a number that became a text: the file's structure was hit.
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..)
    ) || error.sqlite_error().is_some_and(|e| e.code == ErrorCode::Unknown && e.extended_code == 1)
}

fn damaged(path: &Path, position: Position, error: rusqlite::Error) -> Error {
    let what = "SQLite cannot make sense of the file".to_owned();
    Error::Corrupt { segment: path.to_owned(), position, what, source: Some(error.into()) }
}

/// What a failed opening means.
pub(super) fn opening(path: &Path, first: Position, error: rusqlite::Error) -> Error {
    // The index of the log is the first thing that opening allocates. (During an append the same
    // failure comes after the log was written: there it is not "nothing was written".)
    let no_index = error.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
    if no_index || error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        Error::Full { source: error.into() }
    } else if is_corrupt(&error) {
        damaged(path, first, error)
    } else {
        Error::Open { path: path.to_owned(), source: error.into() }
    }
}

/// What a failed reading means.
pub(super) fn reading(path: &Path, position: Position, error: rusqlite::Error) -> Error {
    if is_corrupt(&error) {
        damaged(path, position, error)
    } else if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
        Error::Open { path: path.to_owned(), source: error.into() }
    } else {
        Error::Io { what: format!("read {}", path.display()), source: error.into() }
    }
}

/// What a failed writing means.
pub(super) fn writing(path: &Path, first: Position, what: String, error: rusqlite::Error) -> Error {
    if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
        Error::Full { source: error.into() }
    } else if is_corrupt(&error) {
        damaged(path, first, error)
    } else {
        Error::Io { what, source: error.into() }
    }
}
