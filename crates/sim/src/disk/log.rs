//! The log itself: segments of frames, each with its length and checksum.

use std::collections::VecDeque;

use bytes::Bytes;
use lockstep_journal::{Bounds, Entry, Epoch, Error, Position};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Fate;

/// A frame's head: kind, first position or epoch, number of records, bytes of the rest, checksum of all that.
const HEAD_BYTES: usize = 1 + 8 + 4 + 4 + 8;
const BATCH: u8 = 1;
const FENCE: u8 = 2;

/// What is on the disk, and how it behaves.
#[derive(Debug)]
pub(super) struct Platter {
    /// In order, never empty; the last one is being written.
    segments: VecDeque<Segment>,
    segment_bytes_max: usize,
    /// What readers see: whole, synced batches.
    batches: VecDeque<Stored>,
    pub(super) next: Position,
    pub(super) epoch: Epoch,
    pub(super) full: bool,
    pub(super) failing: Option<Fate>,
    pub(super) torn: u64,
    pub(super) failed: u64,
}

#[derive(Debug)]
struct Segment {
    first: Position,
    bytes: Vec<u8>,
    synced: usize,
}

/// A batch as readers see it.
#[derive(Debug)]
pub(super) struct Stored {
    first: Position,
    ends: Vec<usize>,
    pub(super) payload: Bytes,
}

fn frame(kind: u8, number: u64, count: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&number.to_le_bytes());
    frame.extend_from_slice(&count.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let head = xxh3_64(&frame);
    let checksum = xxh3_64_with_seed(payload, head);
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
    pub(super) fn new(segment_bytes_max: usize) -> Self {
        let first = Segment { first: 1, bytes: Vec::new(), synced: 0 };
        Self {
            segments: VecDeque::from([first]),
            segment_bytes_max,
            batches: VecDeque::new(),
            next: 1,
            epoch: 0,
            full: false,
            failing: None,
            torn: 0,
            failed: 0,
        }
    }

    pub(super) fn digest(&self) -> u64 {
        let hashes: Vec<u8> = self.segments.iter().flat_map(|s| xxh3_64(&s.bytes).to_le_bytes()).collect();
        xxh3_64(&hashes)
    }

    pub(super) fn append(&mut self, count: u32, payload: &[u8]) -> Result<(), Error> {
        let first = self.next;
        self.write(&frame(BATCH, first, count, payload))?;
        self.batches.push_back(Stored::new(first, count, payload));
        self.next = first + Position::from(count);
        Ok(())
    }

    pub(super) fn fence(&mut self, epoch: Epoch) -> Result<(), Error> {
        self.write(&frame(FENCE, epoch, 0, &[]))?;
        self.epoch = epoch;
        Ok(())
    }

    pub(super) fn trim(&mut self, to: Position) -> Bounds {
        // A segment may go when its follower begins at `to` or before; the last one has none.
        while self.segments.get(1).is_some_and(|second| second.first <= to) {
            self.segments.pop_front();
        }
        let first = self.bounds().first;
        self.batches.retain(|batch| batch.first >= first);
        self.bounds()
    }

    /// Finds the end, and cuts off what is not whole behind it.
    pub(super) fn open(&mut self) -> Result<(), Error> {
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

    pub(super) fn bounds(&self) -> Bounds {
        Bounds { first: self.segments.front().map_or(self.next, |s| s.first), next: self.next }
    }

    /// Writes and syncs a frame.
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
    pub(super) fn batches(&self, from: Position) -> Result<impl Iterator<Item = &Stored>, Error> {
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

    pub(super) fn entries(&self, from: Position) -> impl Iterator<Item = Entry> {
        let skip = from.saturating_sub(self.first) as usize;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let entry = |((position, start), end): ((Position, usize), &usize)| Entry {
            position,
            record: self.payload.slice(start + 4..*end),
        };
        (self.first..).zip(starts).zip(&self.ends).skip(skip).map(entry)
    }
}
