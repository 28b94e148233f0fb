//! Reading beside the writer: own read-only connections, a bounded number of them, and the last few
//! batches.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use rusqlite::{Connection, Row, params};
use zstd::bulk::Decompressor;

use super::segment::{self, RECORD_FORMAT, Segment, corrupt};
use crate::batch::entries;
use crate::{BATCH_BYTES_MAX, Bounds, Entry, Error, Position, Reader};

/// What the writer and all readers know together.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    /// In order, without gaps; the last one is being written.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    pub(super) first: AtomicU64,
    /// Published after each durable append: nothing at or after it is shown to anybody.
    pub(super) next: AtomicU64,
    /// Set by the first failed write or sync, wherever it happens.
    pub(super) poison: OnceLock<String>,
    pub(super) pool: Pool,
    pub(super) cache: Cache,
}

impl Shared {
    /// The segment that holds `position`, and where that segment ends.
    fn locate(&self, position: Position, next: Position) -> Result<(Arc<Segment>, Position), Error> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let follower = segments.partition_point(|s| s.first <= position);
        let Some(index) = follower.checked_sub(1) else {
            return Err(Error::Trimmed { position, first: self.bounds().first });
        };
        // What the live segment holds after `next` is not yet for anybody's eyes.
        let end = segments.get(follower).map_or(next, |s| s.first);
        Ok((segments[index].clone(), end))
    }

    /// Reads batches of the segment from the one that holds `from` on, until `take` says stop.
    fn scan(
        &self,
        from: Position,
        next: Position,
        mut take: impl FnMut(&RawBatch<'_>, &mut Decompressor<'static>) -> Result<Flow, Error>,
    ) -> Result<Flow, Error> {
        let (segment, end) = self.locate(from, next)?;
        let mut lease = self.pool.lease(&segment)?;
        let (db, decompressor) = lease.parts();
        let path = &segment.path;
        let mut expected = None;
        scan_batches(db, path, from, end, |batch| {
            match expected {
                None if batch.first > from || batch.end() <= from => {
                    return Err(corrupt(path, from, "the batch with this position is missing"));
                }
                Some(expected) if batch.first != expected => {
                    return Err(corrupt(path, expected, "a batch is missing"));
                }
                _ => expected = Some(batch.end()),
            }
            take(&batch, decompressor)
        })
        .and_then(|flow| match (flow, expected) {
            (Flow::Stop, _) => Ok(Flow::Stop),
            (Flow::Continue, Some(reached)) if reached == end => Ok(Flow::Continue),
            (Flow::Continue, reached) => Err(corrupt(path, reached.unwrap_or(from), "the last batches are missing")),
        })
    }

    /// A segment may be dropped while it is being read: that is no failure but a trimmed position.
    fn explain<T>(&self, position: Position, result: Result<T, Error>) -> Result<T, Error> {
        let first = self.bounds().first;
        match result {
            Err(Error::Open { .. } | Error::Io { .. } | Error::Corrupt { .. }) if position < first => {
                Err(Error::Trimmed { position, first })
            }
            result => result,
        }
    }

    fn try_read(&self, from: Position, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        let Bounds { first, next } = self.bounds();
        if from < first {
            return Err(Error::Trimmed { position: from, first });
        }
        let mut out = Vec::new();
        let mut bytes_read = 0;
        let mut position = from;
        while position < next {
            let flow = self.scan(position, next, |batch, decompressor| {
                let bytes = batch.bytes()?;
                if !out.is_empty() && bytes_read + bytes > bytes_max {
                    return Ok(Flow::Stop);
                }
                let frames = batch.decompress(decompressor)?;
                bytes_read += bytes;
                batch.entries(&frames, from, |entry| out.push(entry))?;
                position = batch.end();
                Ok(if bytes_read >= bytes_max { Flow::Stop } else { Flow::Continue })
            })?;
            if flow == Flow::Stop {
                break;
            }
        }
        Ok(out)
    }

    fn try_get(&self, position: Position) -> Result<Option<Entry>, Error> {
        let Bounds { first, next } = self.bounds();
        if position < first {
            return Err(Error::Trimmed { position, first });
        }
        if position >= next {
            return Ok(None);
        }
        if let Some(entry) = self.cache.get(position) {
            return Ok(Some(entry));
        }
        let mut found = None;
        self.scan(position, next, |batch, decompressor| {
            let frames = batch.decompress(decompressor)?;
            let mut entries = Vec::with_capacity(usize::try_from(batch.count).unwrap_or(0));
            batch.entries(&frames, batch.first, |entry| entries.push(entry))?;
            found = usize::try_from(position - batch.first).ok().and_then(|index| entries.get(index).cloned());
            self.cache.put(CachedBatch { entries, bytes: frames.len() });
            Ok(Flow::Stop)
        })?;
        Ok(found)
    }
}

impl Reader for Shared {
    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        self.explain(from, self.try_read(from, bytes_max))
    }

    fn get(&self, position: Position) -> Result<Option<Entry>, Error> {
        self.explain(position, self.try_get(position))
    }

    fn bounds(&self) -> Bounds {
        // Both only grow, and `first` never passes `next`: this order of loads keeps it so.
        let first = self.first.load(Ordering::Acquire);
        Bounds { first, next: self.next.load(Ordering::Acquire) }
    }
}

/// Whether to go on with the next batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Stop,
}

/// A row of a segment, its checksum already found right.
pub(super) struct RawBatch<'a> {
    pub(super) first: Position,
    pub(super) count: u64,
    payload: &'a [u8],
    path: &'a Path,
}

/// Calls `take` for each batch from the one that holds `from` on, up to `end`, in order.
pub(super) fn scan_batches(
    db: &Connection,
    path: &Path,
    from: Position,
    end: Position,
    mut take: impl FnMut(RawBatch<'_>) -> Result<Flow, Error>,
) -> Result<Flow, Error> {
    let failed = |error| segment::reading(path, from, error);
    let mut statement = db
        .prepare_cached(
            "SELECT first, count, format, checksum, payload FROM batch
             WHERE first >= coalesce(
                 (SELECT first FROM batch WHERE first <= ?1 ORDER BY first DESC LIMIT 1), ?1)
             AND first < ?2 ORDER BY first",
        )
        .map_err(failed)?;
    let mut rows = statement.query(params![from.cast_signed(), end.cast_signed()]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if take(RawBatch::of(row, path, from)?)? == Flow::Stop {
            return Ok(Flow::Stop);
        }
    }
    Ok(Flow::Continue)
}

impl<'a> RawBatch<'a> {
    fn of(row: &'a Row<'_>, path: &'a Path, from: Position) -> Result<Self, Error> {
        let columns = || {
            let number = |column| row.get::<_, i64>(column);
            let payload = row.get_ref(4)?.as_blob()?;
            Ok((number(0)?, number(1)?, number(2)?, number(3)?, payload))
        };
        let (first, count, format, checksum, payload) =
            columns().map_err(|error: rusqlite::Error| segment::reading(path, from, error))?;
        let (first, count) = (first.cast_unsigned(), count.cast_unsigned());
        if checksum != segment::checksum(first, count, format, payload) {
            return Err(corrupt(path, first, "the checksum of the batch is wrong"));
        }
        if format != RECORD_FORMAT {
            return Err(Error::UnknownFormat {
                path: path.to_owned(),
                found: format!("record format {format} at position {first}"),
                known: format!("record format {RECORD_FORMAT}"),
            });
        }
        if count == 0 || first.checked_add(count).is_none() {
            return Err(corrupt(path, first, "the batch has an impossible number of records"));
        }
        Ok(Self { first, count, payload, path })
    }

    /// The position after the batch's last record.
    pub(super) fn end(&self) -> Position {
        self.first + self.count
    }

    /// The bytes that the batch decompresses to.
    pub(super) fn bytes(&self) -> Result<usize, Error> {
        Decompressor::upper_bound(self.payload)
            .filter(|&bytes| bytes <= BATCH_BYTES_MAX)
            .ok_or_else(|| corrupt(self.path, self.first, "the batch has no possible size"))
    }

    pub(super) fn decompress(&self, with: &mut Decompressor<'_>) -> Result<Bytes, Error> {
        let mut frames = Vec::with_capacity(self.bytes()?);
        with.decompress_to_buffer(self.payload, &mut frames).map_err(|error| Error::Corrupt {
            segment: self.path.to_owned(),
            position: self.first,
            what: "the batch cannot be decompressed".to_owned(),
            source: Some(error.into()),
        })?;
        Ok(frames.into())
    }

    pub(super) fn entries(&self, frames: &Bytes, from: Position, take: impl FnMut(Entry)) -> Result<(), Error> {
        entries(self.first, self.count, frames, from, take).map_err(|what| corrupt(self.path, self.first, what))
    }
}

/// Read-only connections, at most so many at a time whatever the number of threads and segments.
pub(super) struct Pool {
    state: Mutex<PoolState>,
    /// Told when a connection comes back or is closed.
    freed: Condvar,
    connections_max: usize,
}

#[derive(Default)]
struct PoolState {
    /// Not in use, the one used longest ago in front.
    idle: VecDeque<Handle>,
    /// Open, in use or not.
    open: usize,
}

struct Handle {
    segment: Arc<Segment>,
    db: Connection,
    decompressor: Decompressor<'static>,
}

impl Pool {
    pub(super) fn new(connections_max: usize) -> Self {
        let connections_max = connections_max.max(1);
        Self { state: Mutex::default(), freed: Condvar::new(), connections_max }
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self, segment: &Arc<Segment>) -> Result<Lease<'_>, Error> {
        let mut state = self.state();
        let replaced = loop {
            // The one used last, since SQLite has its pages at hand.
            let same = state.idle.iter().rposition(|h| Arc::ptr_eq(&h.segment, segment));
            if let Some(handle) = same.and_then(|index| state.idle.remove(index)) {
                return Ok(Lease { pool: self, handle: Some(handle) });
            }
            if state.open < self.connections_max {
                state.open += 1;
                break None;
            }
            if let Some(oldest) = state.idle.pop_front() {
                break Some(oldest);
            }
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        // Closing and opening touch the disk: not while others wait for the lock.
        drop(replaced);
        // From here on a place is taken; the lease gives it back, also where opening fails.
        let mut lease = Lease { pool: self, handle: None };
        let db = segment::open_readable(&segment.path, segment.first, segment.is_complete()?)?;
        let decompressor = Decompressor::new().map_err(|error| Error::io("make a decompressor", error))?;
        lease.handle = Some(Handle { segment: segment.clone(), db, decompressor });
        Ok(lease)
    }

    /// Closes the connections to segments that are no longer kept, which frees their room on disk.
    pub(super) fn forget_dropped(&self) {
        let mut state = self.state();
        let idle = std::mem::take(&mut state.idle);
        let (dropped, kept): (VecDeque<_>, VecDeque<_>) =
            idle.into_iter().partition(|h| h.segment.dropped.load(Ordering::Acquire));
        state.idle = kept;
        state.open -= dropped.len();
        drop(state);
        self.freed.notify_all();
    }
}

/// A connection in use; it goes back to the pool at the end.
struct Lease<'a> {
    pool: &'a Pool,
    handle: Option<Handle>,
}

impl Lease<'_> {
    fn parts(&mut self) -> (&Connection, &mut Decompressor<'static>) {
        match &mut self.handle {
            Some(handle) => (&handle.db, &mut handle.decompressor),
            None => unreachable!("a lease that was handed out has its connection"),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        // Asked under the lock: a trim marks first and forgets idle ones then, so none slips through.
        let kept = self.handle.take_if(|h| !h.segment.dropped.load(Ordering::Acquire));
        match kept {
            Some(handle) => state.idle.push_back(handle),
            None => state.open -= 1,
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}

/// The last few batches that `get` decompressed.
pub(super) struct Cache {
    /// The one used longest ago in front.
    batches: Mutex<VecDeque<CachedBatch>>,
    batches_max: usize,
    bytes_max: usize,
}

struct CachedBatch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl CachedBatch {
    fn find(&self, position: Position) -> Option<&Entry> {
        let first = self.entries.first()?.position;
        let index = position.checked_sub(first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn bytes_held(&self) -> usize {
        self.bytes + self.entries.len() * size_of::<Entry>()
    }
}

impl Cache {
    pub(super) fn new(batches_max: usize, bytes_max: usize) -> Self {
        Self { batches: Mutex::default(), batches_max, bytes_max }
    }

    fn batches(&self) -> MutexGuard<'_, VecDeque<CachedBatch>> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, position: Position) -> Option<Entry> {
        let mut batches = self.batches();
        let index = batches.iter().position(|b| b.find(position).is_some())?;
        let batch = batches.remove(index)?;
        let entry = batch.find(position).cloned();
        batches.push_back(batch);
        entry
    }

    fn put(&self, batch: CachedBatch) {
        let mut batches = self.batches();
        let known = batch.entries.first().map(|e| e.position);
        // Two threads may have read the same batch.
        batches.retain(|b| b.entries.first().map(|e| e.position) != known);
        batches.push_back(batch);
        while batches.len() > self.batches_max
            || batches.iter().map(CachedBatch::bytes_held).sum::<usize>() > self.bytes_max
        {
            if batches.pop_front().is_none() {
                break;
            }
        }
    }
}
