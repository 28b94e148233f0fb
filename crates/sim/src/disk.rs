//! The journal's disk: a log of checked frames in memory, of which only what was synced outlives a crash.
//!
//! It can be full, and a sync can fail. Of what was written without a sync, a part may be there after a crash:
//! opening the journal again finds out, by lengths and checksums, as a journal on a real disk does.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use lockstep_journal::{BATCH_BYTES_MAX, Batch, Bounds, Entry, Epoch, Error, Journal, Position, Reader};

/// A frame's head: kind, first position or epoch, number of records, bytes of the rest, checksum of all that.
const HEAD_BYTES: usize = 1 + 8 + 4 + 4 + 8;
const BATCH: u8 = 1;
const FENCE: u8 = 2;

/// What is left of a write whose sync failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// How much of it, in thousandths; 1000 is all of it.
    pub kept_permille: u16,
    /// Whether a bit of that is wrong.
    pub flipped: bool,
}

/// A disk. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    /// In order, never empty; the last one is being written.
    segments: VecDeque<Segment>,
    segment_bytes_max: usize,
    /// What readers see: whole, synced batches.
    batches: VecDeque<Stored>,
    next: Position,
    epoch: Epoch,
    full: bool,
    failing: Option<Fate>,
    torn: u64,
    failed: u64,
}

#[derive(Debug)]
struct Segment {
    first: Position,
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug)]
struct Stored {
    first: Position,
    ends: Vec<usize>,
    payload: Bytes,
}

impl Disk {
    /// An empty disk, whose journal begins a new segment when one has so many bytes.
    pub fn new(segment_bytes_max: usize) -> Self {
        let first = Segment { first: 1, bytes: Vec::new(), synced: 0 };
        Self(Arc::new(Mutex::new(Platter {
            segments: VecDeque::from([first]),
            segment_bytes_max,
            batches: VecDeque::new(),
            next: 1,
            epoch: 0,
            full: false,
            failing: None,
            torn: 0,
            failed: 0,
        })))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        // Each change is made in one step at the end: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets writes fail for want of space, or go through again.
    pub fn set_full(&self, full: bool) {
        self.platter().full = full;
    }

    /// Lets the next sync of a batch fail, or none.
    pub fn fail_next_sync(&self, fate: Option<Fate>) {
        self.platter().failing = fate;
    }

    /// Whether a sync is still to fail.
    pub fn is_failing(&self) -> bool {
        self.platter().failing.is_some()
    }

    /// The position after the last durable record.
    pub fn next(&self) -> Position {
        self.platter().next
    }

    /// How often a torn end was found and cut off.
    pub fn torn(&self) -> u64 {
        self.platter().torn
    }

    /// How many syncs have failed.
    pub fn failed(&self) -> u64 {
        self.platter().failed
    }

    /// A hash of everything that is durable.
    pub fn digest(&self) -> u64 {
        let hashes: Vec<u8> =
            self.platter().segments.iter().flat_map(|s| xxhash_rust::xxh3::xxh3_64(&s.bytes).to_le_bytes()).collect();
        xxhash_rust::xxh3::xxh3_64(&hashes)
    }

    /// Opens the journal as the disk is now: finds its end, and cuts off what is not whole behind it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where something is wrong before the last sync.
    pub fn open(&self) -> Result<DiskJournal, Error> {
        self.platter().open()?;
        Ok(DiskJournal { disk: self.clone(), poisoned: None })
    }

    /// A reader of what is durable.
    pub fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }
}

fn frame(kind: u8, number: u64, count: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&number.to_le_bytes());
    frame.extend_from_slice(&count.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let head = xxhash_rust::xxh3::xxh3_64(&frame);
    let checksum = xxhash_rust::xxh3::xxh3_64_with_seed(payload, head);
    frame.extend_from_slice(&checksum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A frame that is whole: kind, number, count, payload.
type Frame<'a> = (u8, u64, u32, &'a [u8]);

fn whole_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let head = bytes.get(..HEAD_BYTES)?;
    let number = u64::from_le_bytes(head[1..9].try_into().ok()?);
    let count = u32::from_le_bytes(head[9..13].try_into().ok()?);
    let length = u32::from_le_bytes(head[13..17].try_into().ok()?) as usize;
    let payload = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
    (frame(head[0], number, count, payload) == bytes[..HEAD_BYTES + length])
        .then_some((head[0], number, count, payload))
}

impl Platter {
    fn open(&mut self) -> Result<(), Error> {
        (self.batches, self.epoch) = (VecDeque::new(), 0);
        self.next = self.segments.front().map_or(1, |s| s.first);
        for segment in &mut self.segments {
            let mut at = 0;
            while let Some((kind, number, count, payload)) = whole_frame(&segment.bytes[at..]) {
                at += HEAD_BYTES + payload.len();
                if kind == FENCE {
                    self.epoch = number;
                } else {
                    self.batches.push_back(Stored::new(number, count, payload));
                    self.next = number + u64::from(count);
                }
            }
            if at < segment.synced {
                let what = format!("byte {at} of {} synced ones begins no frame", segment.synced);
                let segment = segment.first.to_string().into();
                return Err(Error::Corrupt { segment, position: self.next, what, source: None });
            }
            self.torn += u64::from(at < segment.bytes.len());
            segment.bytes.truncate(at);
            segment.synced = at;
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds { first: self.segments.front().map_or(self.next, |s| s.first), next: self.next }
    }

    /// Writes and syncs.
    fn write(&mut self, frame: &[u8]) -> Result<(), Error> {
        if self.full {
            return Err(Error::Full { source: "no space left on the virtual disk".into() });
        }
        if self.segments.back().is_none_or(|s| s.bytes.len() >= self.segment_bytes_max) {
            let bytes = self::frame(FENCE, self.epoch, 0, &[]);
            self.segments.push_back(Segment { first: self.next, synced: bytes.len(), bytes });
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let before = segment.bytes.len();
        segment.bytes.extend_from_slice(frame);
        if frame[0] == BATCH
            && let Some(fate) = self.failing.take()
        {
            segment.bytes.truncate(before + frame.len() * usize::from(fate.kept_permille) / 1000);
            if fate.flipped
                && let Some(byte) = segment.bytes[before..].last_mut()
            {
                *byte ^= 0x10;
            }
            self.failed += 1;
            return Err(Error::Io { what: "sync the virtual disk".into(), source: "the sync was made to fail".into() });
        }
        segment.synced = segment.bytes.len();
        Ok(())
    }

    /// The batches from the one that holds `from` on.
    fn batches(&self, from: Position) -> Result<impl Iterator<Item = &Stored>, Error> {
        let first = self.bounds().first;
        if from < first {
            return Err(Error::Trimmed { position: from, first });
        }
        let start = self.batches.partition_point(|b| b.next() <= from);
        Ok(self.batches.range(start..))
    }
}

impl Stored {
    /// A batch of a frame whose checksum is right.
    fn new(first: Position, count: u32, payload: &[u8]) -> Self {
        let payload = Bytes::copy_from_slice(payload);
        let mut ends = Vec::with_capacity(count as usize);
        let mut at = 0;
        while let Some(length) = payload.get(at..at + 4).and_then(|l| l.try_into().ok()).map(u32::from_le_bytes) {
            at += 4 + length as usize;
            ends.push(at);
        }
        Self { first, ends, payload }
    }

    fn next(&self) -> Position {
        self.first + self.ends.len() as Position
    }

    fn entries(&self, from: Position) -> impl Iterator<Item = Entry> {
        let skip = from.saturating_sub(self.first) as usize;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let entry = |((position, start), end): ((Position, usize), &usize)| Entry {
            position,
            record: self.payload.slice(start + 4..*end),
        };
        (self.first..).zip(starts).zip(&self.ends).skip(skip).map(entry)
    }
}

/// The journal on a [`Disk`].
#[derive(Debug)]
pub struct DiskJournal {
    disk: Disk,
    poisoned: Option<String>,
}

impl DiskJournal {
    fn write(&mut self, write: impl FnOnce(&mut Platter) -> Result<(), Error>) -> Result<(), Error> {
        if let Some(cause) = &self.poisoned {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let written = write(&mut self.disk.platter());
        if let Err(error @ Error::Io { .. }) = &written {
            self.poisoned = Some(error.to_string());
        }
        written
    }
}

impl Journal for DiskJournal {
    fn append(&mut self, epoch: Epoch, batch: &Batch) -> Result<Position, Error> {
        let current = self.epoch();
        if epoch != current {
            return Err(Error::Fenced { epoch, current });
        }
        let first = self.disk.next();
        if batch.is_empty() {
            return Ok(first);
        }
        let bytes = batch.bytes() + 4 * batch.len();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::TooLarge { bytes, bytes_max: BATCH_BYTES_MAX });
        }
        let mut payload = Vec::with_capacity(bytes);
        for record in batch.iter() {
            payload.extend_from_slice(&(record.len() as u32).to_le_bytes());
            payload.extend_from_slice(record);
        }
        let count = batch.len() as u32;
        self.write(|platter| {
            platter.write(&frame(BATCH, first, count, &payload))?;
            platter.batches.push_back(Stored::new(first, count, &payload));
            platter.next = first + Position::from(count);
            Ok(())
        })?;
        Ok(first)
    }

    fn fence(&mut self, epoch: Epoch) -> Result<(), Error> {
        let current = self.epoch();
        if epoch < current {
            return Err(Error::Fenced { epoch, current });
        }
        self.write(|platter| {
            platter.write(&frame(FENCE, epoch, 0, &[]))?;
            platter.epoch = epoch;
            Ok(())
        })
    }

    fn epoch(&self) -> Epoch {
        self.disk.platter().epoch
    }

    fn bounds(&self) -> Bounds {
        self.disk.platter().bounds()
    }

    fn trim(&mut self, to: Position) -> Result<Bounds, Error> {
        let mut platter = self.disk.platter();
        // A segment may go when its follower begins at `to` or before; the last one has none.
        while platter.segments.get(1).is_some_and(|second| second.first <= to) {
            platter.segments.pop_front();
        }
        let first = platter.bounds().first;
        platter.batches.retain(|batch| batch.first >= first);
        Ok(platter.bounds())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.disk.reader()
    }
}

impl Reader for Disk {
    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        for batch in self.platter().batches(from)? {
            bytes += batch.payload.len();
            if !out.is_empty() && bytes > bytes_max {
                break;
            }
            out.extend(batch.entries(from));
        }
        Ok(out)
    }

    fn get(&self, position: Position) -> Result<Option<Entry>, Error> {
        Ok(self.platter().batches(position)?.next().and_then(|batch| batch.entries(position).next()))
    }

    fn bounds(&self) -> Bounds {
        self.platter().bounds()
    }
}
