//! A journal in memory, for tests: the same behaviour as a durable one, but for the durability.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::batch::entries;
use crate::{BATCH_BYTES_MAX, Batch, Bounds, Entry, Epoch, Error, Journal, Position, Reader};

/// A journal in memory.
///
/// A clone is another handle on the same records, as another process would open the same folder:
/// what one fences, the other feels.
#[derive(Clone, Debug)]
pub struct MemoryJournal {
    shared: Arc<Shared>,
    segment_bytes_max: usize,
}

#[derive(Debug)]
struct Shared(RwLock<State>);

#[derive(Debug)]
struct State {
    epoch: Epoch,
    /// In order, without gaps, never empty; the last one is being written.
    segments: Vec<Segment>,
    next: Position,
}

#[derive(Debug)]
struct Segment {
    first: Position,
    bytes: usize,
    batches: Vec<Stored>,
}

#[derive(Debug)]
struct Stored {
    first: Position,
    count: u64,
    frames: Bytes,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::with_segment_bytes_max(128 << 20)
    }

    /// An empty journal that begins a new segment when one has `segment_bytes_max` bytes. Segments
    /// are what `trim` drops.
    pub fn with_segment_bytes_max(segment_bytes_max: usize) -> Self {
        let segment = Segment { first: 1, bytes: 0, batches: Vec::new() };
        let state = State { epoch: 0, segments: vec![segment], next: 1 };
        Self { shared: Arc::new(Shared(RwLock::new(state))), segment_bytes_max }
    }
}

impl Shared {
    // A panic of another test thread leaves the state whole: each change is made in one step at
    // the end, so the lock's own poison says nothing here.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bounds(&self) -> Bounds {
        Bounds { first: self.segments.first().map_or(self.next, |s| s.first), next: self.next }
    }

    fn check_epoch(&self, epoch: Epoch) -> Result<(), Error> {
        if epoch == self.epoch { Ok(()) } else { Err(Error::Fenced { epoch, current: self.epoch }) }
    }

    /// The batches from the one that holds `from` on.
    fn batches(&self, from: Position) -> Result<impl Iterator<Item = &Stored>, Error> {
        let first = self.bounds().first;
        if from < first {
            return Err(Error::Trimmed { position: from, first });
        }
        let start = self.segments.partition_point(|s| s.first <= from).saturating_sub(1);
        Ok(self.segments[start..].iter().flat_map(|s| &s.batches).skip_while(move |b| b.first + b.count <= from))
    }
}

impl Stored {
    fn entries(&self, from: Position, take: impl FnMut(Entry)) {
        entries(self.first, self.count, &self.frames, from, take)
            .unwrap_or_else(|what| unreachable!("a batch in memory is whole: {what}"));
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, epoch: Epoch, batch: &Batch) -> Result<Position, Error> {
        let mut state = self.shared.state_mut();
        state.check_epoch(epoch)?;
        let first = state.next;
        if batch.is_empty() {
            return Ok(first);
        }
        let bytes = batch.frames().len();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::TooLarge { bytes, bytes_max: BATCH_BYTES_MAX });
        }
        if state.segments.last().is_none_or(|s| s.bytes >= self.segment_bytes_max) {
            state.segments.push(Segment { first, bytes: 0, batches: Vec::new() });
        }
        let count = batch.len() as u64;
        if let Some(segment) = state.segments.last_mut() {
            let frames = Bytes::copy_from_slice(batch.frames());
            segment.batches.push(Stored { first, count, frames });
            segment.bytes += bytes;
        }
        state.next = first + count;
        Ok(first)
    }

    fn fence(&mut self, epoch: Epoch) -> Result<(), Error> {
        let mut state = self.shared.state_mut();
        if epoch < state.epoch {
            return Err(Error::Fenced { epoch, current: state.epoch });
        }
        state.epoch = epoch;
        Ok(())
    }

    fn epoch(&self) -> Epoch {
        self.shared.state().epoch
    }

    fn bounds(&self) -> Bounds {
        self.shared.state().bounds()
    }

    fn trim(&mut self, to: Position) -> Result<Bounds, Error> {
        let mut state = self.shared.state_mut();
        // A segment may go when its follower begins at `to` or before; the last one has none.
        let dropped = state.segments.iter().skip(1).take_while(|s| s.first <= to).count();
        state.segments.drain(..dropped);
        Ok(state.bounds())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.shared.clone()
    }
}

impl Reader for Shared {
    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        let state = self.state();
        let mut out = Vec::new();
        let mut bytes = 0;
        for batch in state.batches(from)? {
            if !out.is_empty() && bytes + batch.frames.len() > bytes_max {
                break;
            }
            bytes += batch.frames.len();
            batch.entries(from, |entry| out.push(entry));
        }
        Ok(out)
    }

    fn get(&self, position: Position) -> Result<Option<Entry>, Error> {
        let state = self.state();
        let mut found = None;
        if let Some(batch) = state.batches(position)?.next() {
            batch.entries(position, |entry| {
                found.get_or_insert(entry);
            });
        }
        Ok(found)
    }

    fn bounds(&self) -> Bounds {
        self.state().bounds()
    }
}
