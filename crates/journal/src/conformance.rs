//! What every journal must do: one suite for all backends.
//!
//! A backend's test calls [`conformance!`](crate::conformance!) with an expression that makes a
//! [`Subject`] on an empty store:
//!
//! ```text
//! mod memory {
//!     lockstep_journal::conformance!(MemorySubject::new());
//! }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Batch, Bounds, Entry, Error, Journal, Position, Reader};

/// The size that the segments of a [`Subject`] must have, so that a test fills several of them.
pub const SEGMENT_BYTES_MAX: usize = 64 << 10;

/// A store, and how to open the journal in it.
pub trait Subject {
    /// Opens the journal. Called again after the one before was dropped: it is the same store then.
    fn open(&mut self) -> Box<dyn Journal>;
}

/// Makes one test of each function of the suite. The expression makes a new, empty [`Subject`].
#[macro_export]
macro_rules! conformance {
    ($subject:expr) => {
        $crate::conformance!($subject;
            positions_are_in_order
            an_empty_batch_writes_nothing
            a_batch_is_atomic
            reading_stops_after_bytes_max
            every_position_can_be_got
            a_fence_stops_lower_epochs
            everything_is_there_after_reopening
            trim_drops_whole_segments_only
            trimmed_positions_are_refused
            a_big_record_is_kept
            a_batch_that_is_too_large_is_refused
            reading_beside_appending_sees_only_whole_batches
            readers_live_as_long_as_they_like);
    };
    ($subject:expr; $($name:ident)*) => {
        $(#[test]
        fn $name() {
            $crate::conformance::$name(&mut $subject);
        })*
    };
}

/// The record that these tests store at a position: incompressible enough to fill segments, of a
/// length that varies, and not the same anywhere else.
pub fn record(position: Position) -> Vec<u8> {
    let length = 8 + (position * 37 % 300) as usize;
    let mut state = position.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = position.to_le_bytes().to_vec();
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A batch with the records for `count` positions from `first` on.
pub fn batch(first: Position, count: u64) -> Batch {
    let mut batch = Batch::new();
    for position in first..first + count {
        batch.push_with(|buffer| buffer.extend_from_slice(&record(position)));
    }
    batch
}

/// Appends `count` records in the current epoch and returns the first position.
pub fn append(journal: &mut dyn Journal, count: u64) -> Position {
    let (epoch, next) = (journal.epoch(), journal.bounds().next);
    let first = journal.append(epoch, &batch(next, count)).expect("append");
    assert_eq!(first, next);
    first
}

/// Checks that `entries` are the records from `from` on without a gap, and returns the position
/// after them.
#[track_caller]
pub fn check(entries: &[Entry], from: Position) -> Position {
    for (position, entry) in (from..).zip(entries) {
        assert_eq!(entry.position, position);
        assert_eq!(entry.record, record(position), "the record at {position}");
    }
    from + entries.len() as u64
}

/// Reads everything that is kept, in pieces, and checks it.
#[track_caller]
pub fn check_all(reader: &dyn Reader, expected: Bounds) {
    assert_eq!(reader.bounds(), expected);
    let mut position = expected.first;
    loop {
        let entries = reader.read(position, 10_000).expect("read");
        if entries.is_empty() {
            break;
        }
        position = check(&entries, position);
    }
    assert_eq!(position, expected.next);
}

/// Positions begin at 1 and follow each other without a gap.
pub fn positions_are_in_order(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    assert_eq!(journal.bounds(), Bounds { first: 1, next: 1 });
    assert_eq!(journal.epoch(), 0);
    assert_eq!(journal.reader().read(1, 1000).unwrap(), []);
    let firsts: Vec<_> = [1, 2, 3, 1000, 1].map(|count| append(&mut *journal, count)).to_vec();
    assert_eq!(firsts, [1, 2, 4, 7, 1007]);
    check_all(&*journal.reader(), Bounds { first: 1, next: 1008 });
}

/// An empty batch returns the next position, whatever else holds.
pub fn an_empty_batch_writes_nothing(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    append(&mut *journal, 3);
    assert_eq!(journal.append(0, &Batch::new()).unwrap(), 4);
    assert_eq!(journal.bounds(), Bounds { first: 1, next: 4 });
    journal.fence(2).unwrap();
    let refused = journal.append(1, &Batch::new()).unwrap_err();
    assert!(matches!(refused, Error::Fenced { epoch: 1, current: 2 }), "{refused:?}");
}

/// Reading gives whole batches, but for the first one, which is cut.
pub fn a_batch_is_atomic(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    append(&mut *journal, 5);
    append(&mut *journal, 7);
    let reader = journal.reader();
    for from in 1..=5 {
        let entries = reader.read(from, 1).unwrap();
        assert_eq!(check(&entries, from), 6);
    }
    for from in 6..=12 {
        let entries = reader.read(from, 1).unwrap();
        assert_eq!(check(&entries, from), 13);
    }
    assert_eq!(check(&reader.read(1, usize::MAX).unwrap(), 1), 13);
}

/// No more bytes than asked for, unless one batch has more; nothing at the end.
pub fn reading_stops_after_bytes_max(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    for _ in 0..400 {
        append(&mut *journal, 10);
    }
    let reader = journal.reader();
    for bytes_max in [0, 1, 5_000, 50_000, 1_000_000] {
        let mut position = 1;
        while position < 4001 {
            let entries = reader.read(position, bytes_max).unwrap();
            let bytes: usize = entries.iter().map(|e| e.record.len()).sum();
            assert!(bytes <= bytes_max || entries.len() == 10, "{bytes} bytes of {bytes_max}");
            position = check(&entries, position);
            assert_eq!(position % 10, 1);
        }
    }
    assert_eq!(reader.read(4001, 1000).unwrap(), []);
    assert_eq!(reader.read(1_000_000, 1000).unwrap(), []);
    assert_eq!(reader.read(u64::MAX, 1000).unwrap(), []);
}

/// `get` finds each record, in any order, and nothing at the end.
pub fn every_position_can_be_got(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    for count in 1..=40 {
        append(&mut *journal, count);
    }
    let reader = journal.reader();
    let next = journal.bounds().next;
    let neighbours = 1..next;
    let jumps = (1..next).map(|i| 1 + i * 487 % (next - 1));
    for position in neighbours.chain(jumps) {
        let entry = reader.get(position).unwrap().unwrap();
        assert_eq!((entry.position, entry.record.to_vec()), (position, record(position)));
    }
    assert_eq!(reader.get(next).unwrap(), None);
    assert_eq!(reader.get(u64::MAX).unwrap(), None);
    append(&mut *journal, 1);
    assert_eq!(reader.get(next).unwrap().unwrap().record, record(next));
}

/// Only the current epoch appends, and no lower one can be set.
pub fn a_fence_stops_lower_epochs(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    append(&mut *journal, 1);
    journal.fence(7).unwrap();
    assert_eq!(journal.epoch(), 7);
    for epoch in [0, 6, 8] {
        let refused = journal.append(epoch, &batch(2, 1)).unwrap_err();
        assert!(matches!(refused, Error::Fenced { current: 7, .. }), "{refused:?}");
    }
    let refused = journal.fence(6).unwrap_err();
    assert!(matches!(refused, Error::Fenced { epoch: 6, current: 7 }), "{refused:?}");
    journal.fence(7).unwrap();
    append(&mut *journal, 1);
    drop(journal);

    let mut journal = subject.open();
    assert_eq!(journal.epoch(), 7);
    let refused = journal.append(0, &batch(3, 1)).unwrap_err();
    assert!(matches!(refused, Error::Fenced { epoch: 0, current: 7 }), "{refused:?}");
    // The epoch goes along into later segments.
    while journal.bounds().next < 3000 {
        append(&mut *journal, 100);
    }
    drop(journal);
    let mut journal = subject.open();
    assert_eq!(journal.epoch(), 7);
    journal.fence(u64::MAX).unwrap();
    drop(journal);
    assert_eq!(subject.open().epoch(), u64::MAX);
}

/// What was appended is there when the journal is opened again, and goes on from there.
pub fn everything_is_there_after_reopening(subject: &mut dyn Subject) {
    let mut next = 1;
    for round in 1..=6 {
        let mut journal = subject.open();
        check_all(&*journal.reader(), Bounds { first: 1, next });
        for count in 1..=20 {
            append(&mut *journal, count * round);
        }
        next = journal.bounds().next;
    }
    check_all(&*subject.open().reader(), Bounds { first: 1, next });
}

/// Trimming drops no record at or after `to`, drops some before it, and lasts.
pub fn trim_drops_whole_segments_only(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    let reader = journal.reader();
    for _ in 0..60 {
        append(&mut *journal, 100);
    }
    let next = journal.bounds().next;
    assert_eq!(journal.trim(0).unwrap(), Bounds { first: 1, next });
    assert_eq!(journal.trim(2).unwrap(), Bounds { first: 1, next });

    let mut first_before = 1;
    for to in (100..=next).step_by(250) {
        let bounds = journal.trim(to).unwrap();
        assert!(bounds.first <= to && bounds.first >= first_before, "{bounds:?} after {to}");
        assert_eq!(bounds.first % 100, 1, "a batch is never cut");
        first_before = bounds.first;
        assert_eq!(journal.bounds(), bounds);
        check_all(&*reader, bounds);
    }
    assert!(first_before > 1000, "so many segments are before {next}: {first_before}");

    // Even all of it: the segment that is being written stays.
    let bounds = journal.trim(u64::MAX).unwrap();
    assert!(bounds.first < next && bounds.next == next, "{bounds:?}");
    check_all(&*reader, bounds);
    drop(journal);
    let mut journal = subject.open();
    check_all(&*journal.reader(), bounds);
    append(&mut *journal, 10);
    check_all(&*journal.reader(), Bounds { first: bounds.first, next: next + 10 });
}

/// A position that is no longer kept is an error of its own, never an empty answer.
pub fn trimmed_positions_are_refused(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    for _ in 0..60 {
        append(&mut *journal, 100);
    }
    let reader = journal.reader();
    // So that what `get` keeps cannot answer either.
    assert_eq!(reader.get(1).unwrap().unwrap().record, record(1));
    let first = journal.trim(4000).unwrap().first;
    for position in [0, 1, first - 1] {
        for refused in [reader.read(position, 1).unwrap_err(), reader.get(position).unwrap_err()] {
            assert!(
                matches!(refused, Error::Trimmed { position: p, first: f } if (p, f) == (position, first)),
                "{refused:?}"
            );
        }
    }
    check(&reader.read(first, 1).unwrap(), first);
}

/// A record far larger than a segment, among small ones.
pub fn a_big_record_is_kept(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    let big: Vec<u8> = (1..40_000).flat_map(record).collect();
    assert!(big.len() > 50 * SEGMENT_BYTES_MAX);
    let mut batch = Batch::new();
    batch.push(b"before");
    batch.push(&big);
    batch.push(b"");
    assert_eq!(journal.append(0, &batch).unwrap(), 1);
    batch.clear();
    batch.push(b"after");
    assert_eq!(journal.append(0, &batch).unwrap(), 4);
    drop(journal);
    let reader = subject.open().reader();
    let entries = reader.read(1, 1).unwrap();
    assert_eq!(entries.len(), 3);
    assert!(entries[1].record == big);
    assert_eq!(entries[2].record, b"".as_slice());
    assert!(reader.get(2).unwrap().unwrap().record == big);
    assert_eq!(reader.get(4).unwrap().unwrap().record, b"after".as_slice());
}

/// More than a journal takes is refused as a whole, and nothing is lost by it.
pub fn a_batch_that_is_too_large_is_refused(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    let mut large = batch(1, 1);
    large.push(&vec![0; crate::BATCH_BYTES_MAX]);
    let refused = journal.append(0, &large).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { bytes, .. } if bytes > crate::BATCH_BYTES_MAX));
    append(&mut *journal, 1);
    check_all(&*journal.reader(), Bounds { first: 1, next: 2 });
}

/// Readers on other threads, while the writer appends and trims, never see half a batch, a wrong
/// record, or a position that is not within the bounds.
pub fn reading_beside_appending_sees_only_whole_batches(subject: &mut dyn Subject) {
    const BATCH: u64 = 50;
    let mut journal = subject.open();
    append(&mut *journal, BATCH);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|number: u64| {
                let (reader, done) = (journal.reader(), &done);
                scope.spawn(move || read_until(&*reader, done, number))
            })
            .collect();
        for round in 1..=100 {
            append(&mut *journal, BATCH);
            if round % 20 == 0 {
                journal.trim(journal.bounds().next - 10 * BATCH).unwrap();
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert_eq!(reader.join().expect("a reader"), 101 * BATCH + 1);
        }
    });

    /// Follows the journal to its end, and returns where that is.
    fn read_until(reader: &dyn Reader, done: &AtomicBool, number: u64) -> Position {
        let mut position = 1;
        loop {
            let was_done = done.load(Ordering::Acquire);
            match reader.read(position, 20_000) {
                Ok(entries) if entries.is_empty() && was_done => return position,
                Ok(entries) => position = check(&entries, position),
                Err(Error::Trimmed { first, .. }) => position = first,
                Err(error) => panic!("read {position}: {error}"),
            }
            assert_eq!(position % BATCH, 1, "half a batch");
            let bounds = reader.bounds();
            assert!(position <= bounds.next, "{position} was read before {bounds:?}");
            let probe = bounds.first + number * 7919 % bounds.len();
            match reader.get(probe) {
                Ok(Some(entry)) => assert_eq!(entry.record, record(probe)),
                Err(Error::Trimmed { .. }) => {}
                other => panic!("get {probe}: {other:?}"),
            }
        }
    }
}

/// A reader outlives its journal, and the entries outlive the reader.
pub fn readers_live_as_long_as_they_like(subject: &mut dyn Subject) {
    let mut journal = subject.open();
    append(&mut *journal, 10);
    let reader: Arc<dyn Reader> = journal.reader();
    drop(journal);
    let entries = reader.read(1, 1).unwrap();
    drop(reader);
    assert_eq!(check(&entries, 1), 11);
}
