//! Reading the journal: single records, an entity's history, events after a position, live events.

use std::collections::VecDeque;
use std::sync::Arc;

use lockstep_core::record::{Body, Record};
use lockstep_core::{Event, Position};
use lockstep_journal::{Error as JournalError, Reader};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::tail::{Tail, TailRead};

/// How much of the journal one step of reading decodes.
const READ_BYTES: usize = 1024 * 1024;
/// How much of the journal one page of events looks at.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why the journal could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The journal itself failed.
    #[error("the journal can't be read")]
    Journal(#[from] JournalError),
    /// A record can't be decoded.
    #[error("record {position} can't be decoded")]
    Record {
        /// Its position.
        position: Position,
        /// The cause.
        #[source]
        source: prost::DecodeError,
    },
    /// The reading thread is gone.
    #[error("reading was interrupted")]
    Interrupted,
}

/// Which events to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only entities of this kind.
    pub kind: Option<String>,
    /// Only the entity with this key (with `kind`).
    pub key: Option<String>,
    /// Only events of this type.
    pub event_type: Option<String>,
}

impl EventFilter {
    /// Whether an event passes.
    pub fn passes(&self, event: &Event) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == event.fact.kind)
            && self.key.as_ref().is_none_or(|key| *key == event.fact.key)
            && self.event_type.as_ref().is_none_or(|t| *t == event.fact.event_type)
    }
}

/// A page of events.
#[derive(Clone, Debug, Default)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// Everything up to here has been looked at; the next page is after it.
    pub next_after: Position,
    /// Whether this is all there is now.
    pub at_end: bool,
}

/// Records with their positions.
pub(crate) type Numbered = Vec<(Position, Record)>;

/// What a live stream gives.
#[derive(Clone, Debug)]
pub enum StreamItem {
    /// Events, in order; possibly none when only other records were written.
    Events(Vec<Arc<Event>>),
}

/// Events after a position, then live. Holds no queue: a slow reader falls behind on the disk, not in memory.
pub struct EventStream {
    tail: Arc<Tail>,
    reader: Arc<dyn Reader>,
    after: Position,
    /// A read under way outlives a caller that stops waiting for it: the next call takes it up again.
    reading: Option<JoinHandle<Result<Numbered, ReadError>>>,
}

impl EventStream {
    pub(crate) fn new(tail: Arc<Tail>, reader: Arc<dyn Reader>, after: Position) -> Self {
        Self { tail, reader, after, reading: None }
    }

    /// The position up to which everything has been given.
    pub fn position(&self) -> Position {
        self.after
    }

    /// How many records it is behind the newest durable one.
    pub fn behind(&self) -> u64 {
        self.tail.next().saturating_sub(self.after + 1)
    }

    /// The next events: at once where there are any, else when there are. Safe to drop between calls.
    pub async fn next(&mut self) -> Result<StreamItem, ReadError> {
        loop {
            match self.tail.after(self.after) {
                TailRead::Batch(batch) => {
                    let events = batch.events_after(self.after);
                    self.after = batch.last();
                    return Ok(StreamItem::Events(events));
                }
                TailRead::AtEnd => self.tail.wait(self.after + 1).await,
                TailRead::Disk => {
                    let (reader, after) = (self.reader.clone(), self.after);
                    let reading = self.reading.get_or_insert_with(|| {
                        tokio::task::spawn_blocking(move || read(&*reader, after + 1, READ_BYTES))
                    });
                    let records = reading.await;
                    self.reading = None;
                    let records = records.unwrap_or(Err(ReadError::Interrupted))?;
                    let Some((last, _)) = records.last() else { return Ok(StreamItem::Events(Vec::new())) };
                    self.after = *last;
                    let events = records.into_iter().filter_map(|(p, r)| Event::of(p, r).map(Arc::new)).collect();
                    return Ok(StreamItem::Events(events));
                }
            }
        }
    }
}

/// Runs a read that may wait for the disk on a thread for such.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ReadError::Interrupted))
}

/// Decoded records from `from` on, whole journal batches up to about `bytes_max`.
pub(crate) fn read(
    reader: &dyn Reader,
    from: Position,
    bytes_max: usize,
) -> Result<Vec<(Position, Record)>, ReadError> {
    let from = from.max(reader.bounds().first);
    let entries = reader.read(from, bytes_max)?;
    entries.into_iter().map(|e| Ok((e.position, decode(e.position, e.record)?))).collect()
}

pub(crate) fn decode(position: Position, bytes: bytes::Bytes) -> Result<Record, ReadError> {
    Record::read(bytes).map_err(|source| ReadError::Record { position, source })
}

pub(crate) fn record(reader: &dyn Reader, position: Position) -> Result<Option<Record>, ReadError> {
    match reader.get(position) {
        Ok(Some(entry)) => Ok(Some(decode(position, entry.record)?)),
        Ok(None) | Err(JournalError::Trimmed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn history(
    reader: &dyn Reader,
    tail: &Tail,
    from: Position,
    limit: usize,
) -> Result<(Vec<(Position, Record)>, Position), ReadError> {
    let mut at = from;
    let mut found = Vec::new();
    while at != 0 && found.len() < limit {
        let known = tail.get(at);
        let Some(record) = (match known {
            Some(record) => Some(record),
            None => record(reader, at)?,
        }) else {
            // Beyond what retention has kept.
            return Ok((found, 0));
        };
        let previous = match &record.body {
            Some(Body::Fact(fact)) => fact.previous,
            _ => 0,
        };
        found.push((at, record));
        at = previous;
    }
    Ok((found, at))
}

/// How many records of an entity are looked at together: older ones don't tell where its events are.
const PAST_RECORDS: usize = 4_096;

/// Events of an entity, newest first.
#[derive(Debug, Default)]
pub(crate) struct PastEvents {
    pub(crate) events: Vec<Event>,
    /// Where to go on; 0 where there are no more.
    pub(crate) next: Position,
    /// Whether there were more, which retention has dropped.
    pub(crate) is_cut: bool,
}

/// At most `limit` events of an entity, from one of its records back; fewer where so many records are in between that the rest
/// is for the next time. What was said again without any change is passed over, where the records tell of it.
pub(crate) fn past_events(
    reader: &dyn Reader,
    tail: &Tail,
    from: Position,
    limit: usize,
) -> Result<PastEvents, ReadError> {
    let mut past = PastEvents { next: from, ..PastEvents::default() };
    for _ in 0..PAST_RECORDS {
        if past.next == 0 || past.events.len() >= limit {
            break;
        }
        let at = past.next;
        let known = tail.get(at).map_or_else(|| record(reader, at), |record| Ok(Some(record)))?;
        let Some(record) = known else {
            return Ok(PastEvents { next: 0, is_cut: true, ..past });
        };
        past.next = match &record.body {
            Some(Body::Fact(fact)) => fact.previous_event.unwrap_or(fact.previous),
            _ => 0,
        };
        past.events.extend(Event::of(at, record));
    }
    Ok(past)
}

pub(crate) fn events(
    reader: &dyn Reader,
    after: Position,
    filter: &EventFilter,
    limit: usize,
) -> Result<EventPage, ReadError> {
    let mut page = EventPage { next_after: after, ..EventPage::default() };
    let mut looked_at = 0;
    while looked_at < PAGE_BYTES {
        let from = (page.next_after + 1).max(reader.bounds().first);
        let entries: VecDeque<_> = reader.read(from, READ_BYTES)?.into();
        if entries.is_empty() {
            page.at_end = true;
            return Ok(page);
        }
        for entry in entries {
            looked_at += entry.record.len();
            let position = entry.position;
            if let Some(event) = Event::of(position, decode(position, entry.record)?)
                && filter.passes(&event)
            {
                page.events.push(event);
            }
            page.next_after = position;
            if page.events.len() >= limit {
                return Ok(page);
            }
        }
    }
    Ok(page)
}
