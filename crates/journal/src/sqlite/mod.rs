//! The journal in SQLite files: the embedded default.
//!
//! One file a segment, named after its first position; one row a batch: the compressed records and
//! a checksum. The live segment's write-ahead log is synced by each append and moved into the main
//! file in steps, on a second thread. Dropping old records is removing files.
//!
//! | file | holds |
//! |---|---|
//! | `<first position>.journal` | the batches of one segment |
//! | `<first position>.journal-wal`, `-shm` | SQLite's log of it and the index of that log |
//! | `<first position>.first` | nothing; its name says where the journal begins |
//!
//! The folder must belong to one process at a time; its lock is the caller's business.

mod beside;
mod open;
mod reader;
mod seal;
mod segment;
mod verify;
mod wal_check;
mod wal_moved;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};
use zstd::bulk::Compressor;

use self::reader::Shared;
use self::seal::{Job, Sealer};
use self::segment::{RECORD_FORMAT, Segment};
pub use self::verify::Report;
use crate::{BATCH_BYTES_MAX, Batch, Bounds, Epoch, Error, Journal, Position, Reader};

/// How a [`SqliteJournal`] works. The defaults suit a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteOptions {
    /// A segment that takes this much room on the disk is the last one's predecessor: the next
    /// append begins a new file. Also bounds what a crash leaves to recover.
    pub segment_bytes_max: u64,
    /// How much is appended before what the live segment's log has is moved into its main file: the disk should sync so
    /// much in a few milliseconds, since appends wait for that. The log becomes a few times as long; longer, up to a
    /// whole segment, where a reader stays or a lot is appended without a pause.
    pub step_bytes: u64,
    /// The level of zstd: 1 is fast, 19 is small.
    pub compression_level: i32,
    /// How many connections all readers together may have open.
    pub reader_connections_max: usize,
    /// How many decompressed batches are kept for [`Reader::get`].
    pub cache_batches_max: usize,
    /// How many bytes those batches may have together.
    pub cache_bytes_max: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            segment_bytes_max: 128 << 20,
            step_bytes: 4 << 20,
            compression_level: 1,
            reader_connections_max: 8,
            cache_batches_max: 8,
            cache_bytes_max: 16 << 20,
        }
    }
}

/// The segment that is being written.
struct Live {
    segment: Arc<Segment>,
    db: Connection,
    wal: PathBuf,
    /// The room that the main file took when it was opened.
    file_bytes: u64,
    /// What was appended since, and what of it since the last step of moving the log.
    appended_bytes: u64,
    unmoved_bytes: u64,
    /// The second thread was asked for a step.
    is_moving: bool,
}

/// What a row takes in the log beside its payload: the page that it begins on is written once more.
const ROW_BYTES: u64 = 4096;

/// A journal in a folder of SQLite files.
pub struct SqliteJournal {
    shared: Arc<Shared>,
    options: SqliteOptions,
    epoch: Epoch,
    /// `None` only while the journal is being dropped.
    live: Option<Live>,
    compressor: Compressor<'static>,
    /// Reused by each append.
    payload: Vec<u8>,
    /// `None` only while the journal is being dropped.
    sealer: Option<Sealer>,
}

impl SqliteJournal {
    /// Opens the journal in `dir`, or begins one where there is none.
    ///
    /// A transaction that a crash left half written was never acknowledged and is dropped. What had
    /// been synced must be there as a whole: else the journal is not opened. The checksums of the
    /// records are not looked at here but by each read; [`SqliteJournal::verify`] looks at all.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::MissingSegment`], [`Error::UnknownFormat`], [`Error::Open`],
    /// [`Error::Full`], [`Error::Io`].
    pub fn open(dir: &Path, options: SqliteOptions) -> Result<Self, Error> {
        open::open(dir, options)
    }

    /// Reads the journal in `dir` beside the process that writes to it, if there is one, without a lock and without
    /// changing what is stored.
    ///
    /// The reader's bounds stay what was kept and durable at this moment. Where the writer drops, moves or begins
    /// files meanwhile, a read may fail but never gives anything wrong; opening again shows what there is then. A
    /// log that is damaged in the middle is read up to there: only its owner's `open` tells that from its end.
    ///
    /// Must not be used in a process that has a journal open on the same folder: take that one's own reader.
    ///
    /// # Errors
    /// [`Error::MissingSegment`] where there is no journal or not all of it, [`Error::Corrupt`],
    /// [`Error::UnknownFormat`], [`Error::Open`], [`Error::Io`].
    pub fn open_beside(dir: &Path, options: &SqliteOptions) -> Result<Arc<dyn Reader>, Error> {
        beside::open(dir, options)
    }

    /// Reads everything in `dir` and checks it, without changing what is stored.
    ///
    /// Must not run in a process that has a journal open on the same folder.
    ///
    /// # Errors
    /// The first fault that is found: [`Error::Corrupt`], [`Error::MissingSegment`],
    /// [`Error::UnknownFormat`], [`Error::Open`], [`Error::Io`].
    pub fn verify(dir: &Path) -> Result<Report, Error> {
        verify::verify(dir)
    }

    /// Bounds the live segment's pages, or no longer. SQLite itself then finds its disk full, which
    /// is how tests get a full disk that needs no privileges.
    #[doc(hidden)]
    pub fn set_live_pages_max(&mut self, pages_max: Option<u32>) -> Result<(), Error> {
        let pages_max = pages_max.unwrap_or(u32::MAX - 1);
        self.live()
            .db
            .query_row(&format!("PRAGMA max_page_count={pages_max}"), [], |_| Ok(()))
            .map_err(|error| Error::Io { what: "set a bound".to_owned(), source: error.into() })
    }

    /// Whether each segment but the live one has all its content in its main file.
    #[doc(hidden)]
    pub fn is_all_sealed(&self) -> bool {
        seal::all_sealed(&self.shared)
    }

    /// Whether the second thread is moving a part of the live segment's log.
    #[doc(hidden)]
    pub fn is_moving(&self) -> bool {
        self.sealer.as_ref().is_some_and(Sealer::is_stepping)
    }

    fn live(&self) -> &Live {
        match &self.live {
            Some(live) => live,
            None => unreachable!("only drop takes the live segment"),
        }
    }

    fn check_poison(&self) -> Result<(), Error> {
        match self.shared.poison.get() {
            Some(cause) => Err(Error::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Whatever failed but for want of room, nobody knows what is on the disk now.
    fn poison_unless_full(&self, error: Error) -> Error {
        if !error.is_retryable() {
            let _ = self.shared.poison.set(error.chain());
        }
        error
    }

    fn next(&self) -> Position {
        // Only this thread stores it.
        self.shared.next.load(Ordering::Relaxed)
    }

    /// Begins a new segment if the live one is full.
    fn roll_if_full(&mut self) -> Result<(), Error> {
        let live = self.live();
        let next = self.next();
        // A log that was moved as a whole is written again from its beginning, so that its length alone says little. And
        // what was appended takes more room than it has bytes, where pages do not become full.
        let unmoved = live.file_bytes + live.appended_bytes.max(segment::file_bytes(&live.wal)?);
        let bytes = unmoved.max(segment::file_bytes(&live.segment.path)?);
        if bytes < self.options.segment_bytes_max || live.segment.first == next {
            return Ok(());
        }
        let path = segment::create(&self.shared.dir, next, self.epoch)?;
        let segment = Arc::new(Segment::new(&self.shared.dir, next, false));
        let live = Live::open(segment, &path).inspect_err(|_| {
            // Only tidy: left behind, it would be an empty segment that the next open goes on in.
            let _ = segment::remove(&path);
        })?;
        tracing::debug!(path = %path.display(), "a new journal segment");
        let segments = &self.shared.segments;
        segments.write().unwrap_or_else(PoisonError::into_inner).push(live.segment.clone());
        let full = self.live.replace(live);
        if let (Some(full), Some(sealer)) = (full, &self.sealer) {
            sealer.seal(Job { segment: full.segment, db: full.db, next });
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<Position, Error> {
        self.roll_if_full()?;
        let first = self.next();
        let count = batch.len() as u64;
        self.payload.clear();
        self.payload.reserve(zstd::zstd_safe::compress_bound(batch.frames().len()));
        self.compressor
            .compress_to_buffer(batch.frames(), &mut self.payload)
            .map_err(|error| Error::io("compress a batch", error))?;
        let checksum = segment::checksum(first, count, RECORD_FORMAT, &self.payload);
        let live = self.live();
        // One statement outside a transaction is one: SQLite begins, commits and syncs it, and takes
        // it back where there is no room.
        live.db
            .prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5)")
            .and_then(|mut insert| {
                insert.execute(params![first.cast_signed(), count.cast_signed(), RECORD_FORMAT, checksum, self.payload])
            })
            .map_err(|error| {
                let what = format!("append to {}", live.segment.path.display());
                segment::writing(&live.segment.path, first, what, error)
            })?;
        self.shared.next.store(first + count, Ordering::Release);
        if let Err(error) = self.move_on()
            && !seal::passes(&error)
        {
            // What was appended is durable. But nobody knows what of the main file is on the disk now.
            seal::poison(&self.shared, &self.live().segment, "move the log of", error);
        }
        Ok(first)
    }

    /// Counts what was appended, and has the log moved on when it is time.
    ///
    /// The second thread moves most of it; what was appended meanwhile is little, and moved here. Then all of it is in
    /// the main file, and SQLite writes the log again from its beginning: the disk need find no room for it, and has no
    /// long log to give back at the end, for both of which every sync would wait.
    fn move_on(&mut self) -> rusqlite::Result<()> {
        let (Some(live), Some(sealer)) = (&mut self.live, &self.sealer) else { return Ok(()) };
        let bytes = self.payload.len() as u64;
        live.appended_bytes += bytes;
        live.unmoved_bytes += bytes + ROW_BYTES;
        // The second thread may have found the disk failing since: then the log stays as it is.
        if self.shared.poison.get().is_some() {
            return Ok(());
        }
        if live.is_moving && !sealer.is_stepping() {
            live.is_moving = false;
            if live.unmoved_bytes <= self.options.step_bytes / 4 {
                segment::checkpoint_beside(&live.db)?;
                live.unmoved_bytes = 0;
            }
        } else if live.unmoved_bytes >= self.options.step_bytes && sealer.step(&live.segment) {
            live.is_moving = true;
            live.unmoved_bytes = 0;
        }
        Ok(())
    }

    /// Drops the segments before `first`, a segment's first position.
    fn drop_before(&mut self, first: Position) -> Result<(), Error> {
        // The name first: what is then still there is left over, what is gone is not missed. A
        // rename takes no room, so that a full disk can be trimmed.
        open::mark_first(&self.shared.dir, self.bounds().first, first)?;
        self.shared.first.store(first, Ordering::Release);
        let dropped: Vec<_> = {
            let mut segments = self.shared.segments.write().unwrap_or_else(PoisonError::into_inner);
            let count = segments.partition_point(|s| s.first < first);
            segments.drain(..count).collect()
        };
        for segment in &dropped {
            segment.dropped.store(true, Ordering::Release);
        }
        self.shared.pool.forget_dropped();
        for segment in &dropped {
            if let Err(error) = segment::remove(&segment.path) {
                let path = segment.path.display();
                tracing::warn!(%path, %error, "cannot remove a journal segment; the next open will");
            }
        }
        segment::sync_dir(&self.shared.dir)
    }
}

impl Live {
    fn open(segment: Arc<Segment>, path: &Path) -> Result<Self, Error> {
        let db = segment::open_writable(path, segment.first)?;
        let file_bytes = segment::file_bytes(path)?;
        Ok(Self {
            segment,
            db,
            wal: segment::wal_path(path),
            file_bytes,
            appended_bytes: 0,
            unmoved_bytes: 0,
            is_moving: false,
        })
    }
}

impl Journal for SqliteJournal {
    fn append(&mut self, epoch: Epoch, batch: &Batch) -> Result<Position, Error> {
        self.check_poison()?;
        if epoch != self.epoch {
            return Err(Error::Fenced { epoch, current: self.epoch });
        }
        if batch.is_empty() {
            return Ok(self.next());
        }
        let bytes = batch.frames().len();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::TooLarge { bytes, bytes_max: BATCH_BYTES_MAX });
        }
        self.write(batch).map_err(|error| self.poison_unless_full(error))
    }

    fn fence(&mut self, epoch: Epoch) -> Result<(), Error> {
        self.check_poison()?;
        if epoch < self.epoch {
            return Err(Error::Fenced { epoch, current: self.epoch });
        }
        if epoch == self.epoch {
            return Ok(());
        }
        let live = self.live();
        segment::set_epoch(&live.db, epoch).map_err(|error| {
            let what = format!("store the epoch in {}", live.segment.path.display());
            let error = segment::writing(&live.segment.path, live.segment.first, what, error);
            self.poison_unless_full(error)
        })?;
        self.epoch = epoch;
        Ok(())
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn bounds(&self) -> Bounds {
        self.shared.bounds()
    }

    fn trim(&mut self, to: Position) -> Result<Bounds, Error> {
        self.check_poison()?;
        let first = {
            let segments = self.shared.segments.read().unwrap_or_else(PoisonError::into_inner);
            // A segment may go when its follower begins at `to` or before; the live one has none.
            segments.iter().skip(1).map(|s| s.first).take_while(|&first| first <= to).last()
        };
        if let Some(first) = first {
            self.drop_before(first).map_err(|error| self.poison_unless_full(error))?;
        }
        Ok(self.bounds())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.shared.clone()
    }
}

impl Drop for SqliteJournal {
    /// Leaves nothing to recover for the next open, where that can be done.
    fn drop(&mut self) {
        self.sealer = None;
        let Some(live) = self.live.take() else { return };
        // After a failed sync the log must stay as it is.
        if self.shared.poison.get().is_some() {
            return;
        }
        let path = live.segment.path.display().to_string();
        match segment::checkpoint(&live.db) {
            Ok(true) => {
                let closed = live
                    .db
                    .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
                    .and_then(|_| live.db.close().map_err(|(_, error)| error));
                if let Err(error) = closed {
                    tracing::warn!(path, %error, "cannot close the journal; the next open recovers it");
                }
            }
            Ok(false) => tracing::debug!(path, "a reader is in the way of emptying the log"),
            Err(error) => {
                tracing::warn!(path, %error, "cannot empty the log; the next open recovers it");
            }
        }
    }
}
