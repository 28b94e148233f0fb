//! The newest durable batches, decoded, for live readers and deliveries: bounded in bytes. Who falls behind it
//! reads from the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use lockstep_core::record::{Body, Record};
use lockstep_core::{Event, Position};
use tokio::sync::watch;

/// A durable batch. Events are shared: every destination and live reader has the same one.
#[derive(Debug)]
pub(crate) struct TailBatch {
    first: Position,
    records: Vec<TailRecord>,
    bytes: usize,
}

#[derive(Debug)]
enum TailRecord {
    Event(Arc<Event>),
    /// A record whose event is another form of it, made when somebody asks.
    Stock(Box<Record>, OnceLock<Option<Arc<Event>>>),
    Other(Box<Record>),
}

impl TailBatch {
    pub(crate) fn new(first: Position, records: Vec<Record>, bytes: usize) -> Self {
        let numbered = (first..).zip(records);
        let records = numbered.map(|(position, record)| {
            if !Event::is_in(&record) {
                return TailRecord::Other(Box::new(record));
            }
            match (record.recorded_at_us, record.body) {
                (recorded_at_us, Some(Body::Fact(fact))) => {
                    TailRecord::Event(Arc::new(Event { position, recorded_at_us, fact, replay: None }))
                }
                (recorded_at_us, body) => TailRecord::Stock(Box::new(Record { recorded_at_us, body }), OnceLock::new()),
            }
        });
        Self { first, records: records.collect(), bytes }
    }

    pub(crate) fn last(&self) -> Position {
        self.first + self.records.len() as Position - 1
    }

    pub(crate) fn events_after(&self, after: Position) -> Vec<Arc<Event>> {
        let skip = (after + 1).saturating_sub(self.first) as usize;
        let event = |(position, record): (Position, &TailRecord)| match record {
            TailRecord::Event(event) => Some(event.clone()),
            TailRecord::Stock(record, event) => {
                event.get_or_init(|| Event::of(position, (**record).clone()).map(Arc::new)).clone()
            }
            TailRecord::Other(_) => None,
        };
        (self.first..).zip(&self.records).skip(skip).filter_map(event).collect()
    }
}

/// What the tail can give.
pub(crate) enum TailRead {
    /// A batch that has records after the asked position.
    Batch(Arc<TailBatch>),
    /// Nothing after it yet.
    AtEnd,
    /// It is no longer in memory.
    Disk,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tail {
    ring: Mutex<Ring>,
    next: watch::Sender<Position>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Ring {
    batches: VecDeque<Arc<TailBatch>>,
    bytes: usize,
}

impl Tail {
    pub(crate) fn new(next: Position, bytes_max: usize) -> Self {
        Self { ring: Mutex::default(), next: watch::Sender::new(next), bytes_max }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next position to be written, as far as it is durable.
    pub(crate) fn next(&self) -> Position {
        *self.next.borrow()
    }

    /// Adds a durable batch and wakes who waits.
    pub(crate) fn push(&self, batch: TailBatch) {
        let next = batch.last() + 1;
        {
            let mut ring = self.ring();
            ring.bytes += batch.bytes;
            ring.batches.push_back(Arc::new(batch));
            while ring.bytes > self.bytes_max && ring.batches.len() > 1 {
                if let Some(old) = ring.batches.pop_front() {
                    ring.bytes -= old.bytes;
                }
            }
        }
        self.next.send_replace(next);
    }

    /// Waits until the record at `position` is durable.
    pub(crate) async fn wait(&self, position: Position) {
        let mut next = self.next.subscribe();
        // The sender lives as long as this; an error can't happen while `self` is borrowed.
        let _ = next.wait_for(|next| *next > position).await;
    }

    /// The batch that has the record after `after`.
    pub(crate) fn after(&self, after: Position) -> TailRead {
        if self.next() <= after + 1 {
            return TailRead::AtEnd;
        }
        let ring = self.ring();
        let at = ring.batches.partition_point(|batch| batch.last() <= after);
        match ring.batches.get(at) {
            Some(batch) if batch.first <= after + 1 => TailRead::Batch(batch.clone()),
            _ => TailRead::Disk,
        }
    }

    /// The record at a position, where it is in memory.
    pub(crate) fn get(&self, position: Position) -> Option<Record> {
        let ring = self.ring();
        let at = ring.batches.partition_point(|batch| batch.last() < position);
        let batch = ring.batches.get(at)?;
        let index = position.checked_sub(batch.first)?;
        Some(match batch.records.get(index as usize)? {
            TailRecord::Event(event) => Record::new(event.recorded_at_us, Body::Fact(event.fact.clone())),
            TailRecord::Stock(record, _) | TailRecord::Other(record) => (**record).clone(),
        })
    }
}
