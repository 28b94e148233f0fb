//! Records that are appended in one step, and the frame that they are stored in.

use bytes::Bytes;

use crate::{Entry, Position};

/// The most bytes (records and their length prefixes) that one batch may have.
///
/// SQLite takes at most 10^9 bytes in a row; this stays clear of it, whatever the compression does.
pub const BATCH_BYTES_MAX: usize = 512 << 20;

/// The bytes of a record's length, little endian, in front of each record.
pub(crate) const PREFIX_BYTES: usize = 4;

/// Records to append in one atomic step.
///
/// All records share one buffer, already in the form that is compressed and stored, so that neither
/// building nor appending a batch allocates per record. `clear` keeps the buffer for the next batch.
#[derive(Default, Clone, Debug)]
pub struct Batch {
    /// Each record after its length: the stored form.
    frames: Vec<u8>,
    /// Where each record ends in `frames`.
    ends: Vec<usize>,
    /// Where `push_with` lets the caller write. Not `frames` itself, so that a caller cannot touch
    /// the records before its own.
    scratch: Vec<u8>,
}

impl Batch {
    /// A batch without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record.
    pub fn push(&mut self, record: &[u8]) {
        // A record whose length does not fit is longer than BATCH_BYTES_MAX, and no journal takes it.
        let prefix = u32::try_from(record.len()).unwrap_or(u32::MAX);
        self.frames.extend_from_slice(&prefix.to_le_bytes());
        self.frames.extend_from_slice(record);
        self.ends.push(self.frames.len());
    }

    /// Adds the record that `f` writes into the buffer it is given. The buffer is empty.
    pub fn push_with(&mut self, f: impl FnOnce(&mut Vec<u8>)) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        f(&mut scratch);
        self.push(&scratch);
        self.scratch = scratch;
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes all records have together.
    pub fn bytes(&self) -> usize {
        self.frames.len() - self.ends.len() * PREFIX_BYTES
    }

    /// Removes all records and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.ends.clear();
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let record = &self.frames[start + PREFIX_BYTES..end];
            start = end;
            record
        })
    }

    /// The stored form: each record after its length.
    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }
}

/// Cuts the stored form of `count` records, the first at `first`, into entries, and gives those at
/// `from` or later to `take`. The error says what does not fit.
pub(crate) fn entries(
    first: Position,
    count: u64,
    frames: &Bytes,
    from: Position,
    mut take: impl FnMut(Entry),
) -> Result<(), &'static str> {
    let mut start = 0;
    for position in first..first + count {
        let prefix = frames
            .get(start..start + PREFIX_BYTES)
            .and_then(|prefix| prefix.try_into().ok())
            .ok_or("the batch has fewer records than it says")?;
        let record_start = start + PREFIX_BYTES;
        let end = record_start + u32::from_le_bytes(prefix) as usize;
        if end > frames.len() {
            return Err("a record is longer than its batch");
        }
        if position >= from {
            take(Entry { position, record: frames.slice(record_start..end) });
        }
        start = end;
    }
    if start == frames.len() { Ok(()) } else { Err("the batch has more bytes than its records") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_in_order() {
        let mut batch = Batch::new();
        batch.push(b"one");
        batch.push(b"");
        batch.push_with(|buffer| buffer.extend_from_slice(b"three"));
        let records: Vec<_> = batch.iter().collect();
        assert_eq!(records, [b"one".as_slice(), b"", b"three"]);
        assert_eq!((batch.len(), batch.bytes(), batch.is_empty()), (3, 8, false));
        batch.clear();
        assert_eq!((batch.len(), batch.bytes(), batch.iter().count()), (0, 0, 0));
    }

    #[test]
    fn push_with_sees_an_empty_buffer_each_time() {
        let mut batch = Batch::new();
        for _ in 0..2 {
            batch.push_with(|buffer| {
                assert!(buffer.is_empty());
                buffer.extend_from_slice(b"x");
            });
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), [b"x", b"x"]);
    }

    #[test]
    fn frames_that_do_not_fit_are_refused() {
        let check = |frames: &[u8], count| entries(1, count, &Bytes::copy_from_slice(frames), 1, |_| {}).unwrap_err();
        assert_eq!(check(&[1, 0, 0, 0, 7], 2), "the batch has fewer records than it says");
        assert_eq!(check(&[9, 0, 0, 0, 7], 1), "a record is longer than its batch");
        assert_eq!(check(&[1, 0, 0, 0, 7, 8], 1), "the batch has more bytes than its records");
    }
}
