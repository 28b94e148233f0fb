//! Dead letters brought in from outside: kept whole, brought in once however often they come, and never sent over what is
//! newer of their entity.
//!
//! One that was given up in this very hub goes on under its own event's id; one of another hub gets the position of its
//! record here as its id, since the ids of two journals are not one order.

use lockstep_core::record::{Body, DeadLettered, LetterOrigin, Record};
use lockstep_core::{Event, Position, Seen};

use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::looper::unreadable;
use crate::reading::ReadError;
use crate::view::View;

/// What came of a dead letter that was brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is an open dead letter now, listed under this event.
    Opened(Position),
    /// It is this hub's own, and open.
    Open(Position),
    /// It is this hub's own, and its event is still on its way.
    Pending(Position),
    /// It is this hub's own, and was delivered meanwhile, or overtaken by something newer.
    Settled(Position),
    /// It was brought in before, under this event.
    Known(Position),
}

/// The event of a dead letter.
#[derive(Clone, Debug, PartialEq)]
pub struct LetterEvent {
    /// The event.
    pub event: Event,
    /// Where it comes from, where it was brought in.
    pub origin: Option<LetterOrigin>,
}

/// Under which the hub remembers that a dead letter was brought in.
pub(crate) fn hash_of(destination: &str, origin: &LetterOrigin) -> u64 {
    let LetterOrigin { hub, event, record, dead_at_us, .. } = origin;
    lockstep_core::delivery_hash("@dead-letter", &format!("{destination}|{event}|{record}|{dead_at_us}|{hub}"))
}

/// Under which it remembers that one needs nothing more.
pub(crate) fn hash_of_end(destination: &str, event: Position) -> u64 {
    lockstep_core::delivery_hash("@dead-letter-end", &format!("{destination}|{event}"))
}

impl HubHandle {
    /// The event of an open dead letter, by what it is listed under.
    pub async fn letter_event(&self, position: Position) -> Result<Option<LetterEvent>, ReadError> {
        let Some(record) = self.record(position).await? else { return Ok(None) };
        if let Some(Body::DeadLettered(dead)) = &record.body {
            let event = dead.carried();
            return Ok(event.map(|event| LetterEvent { event, origin: dead.origin.clone() }));
        }
        Ok(Event::of(position, record).map(|event| LetterEvent { event, origin: None }))
    }

    /// Brings a dead letter in: `dead` with an origin, whose `own` and the `event` of `dead` are found out here.
    pub async fn import_dead_letter(&self, mut dead: DeadLettered) -> Result<Imported, ImportError> {
        let origin = dead.origin.as_mut().ok_or(ImportError::NoEvent)?;
        let carried = Record::read(origin.event_record.clone()).ok().and_then(|r| Event::of(origin.event, r));
        let carried = carried.ok_or(ImportError::NoEvent)?;
        let found = self.record(origin.event).await?.and_then(|record| Event::of(origin.event, record));
        // Hubs may have the same name; the event itself tells.
        origin.own = found.is_some_and(|event| is_same(&event, &carried));
        Ok(self.ask(move |view| view.import(dead)).await?)
    }

    /// Whether something newer of an event's entity was brought in from outside and delivered.
    pub(crate) async fn brought_in_and_delivered(&self, destination: &str, event: &Event) -> Result<bool, Unavailable> {
        let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
        let (destination, at_us) = (destination.to_owned(), event.recorded_at_us);
        self.ask(move |view| {
            let newest = view.looper().state.brought_in_and_delivered_us(&destination, &id).map_err(unreadable)?;
            Ok(newest.is_some_and(|newest_us| newest_us > at_us))
        })
        .await
    }
}

fn is_same(a: &Event, b: &Event) -> bool {
    let identity = |event: &Event| {
        let fact = &event.fact;
        (event.recorded_at_us, fact.kind.clone(), fact.key.clone(), fact.version, fact.event_type.clone())
    };
    identity(a) == identity(b)
}

/// Why a dead letter can't be brought in.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// What it has as its event's record is none.
    #[error("its event's record can't be read")]
    NoEvent,
    /// The journal can't be read.
    #[error("the journal can't be read")]
    Read(#[from] ReadError),
    /// The hub can't answer.
    #[error("the hub can't take it now")]
    Hub(#[from] Unavailable),
}

impl View<'_> {
    fn import(&mut self, mut dead: DeadLettered) -> Result<Imported, Unavailable> {
        self.may_write()?;
        let origin = dead.origin.clone().unwrap_or_default();
        let destination = dead.destination.clone();
        let hash = hash_of(&destination, &origin);
        if let Some(position) = self.seen(hash, |body| match body {
            Body::DeadLettered(other) => other.origin.as_ref().is_some_and(|o| hash_of(&other.destination, o) == hash),
            _ => false,
        })? {
            return Ok(Imported::Known(position));
        }
        if origin.own {
            let event = origin.event;
            if self.dead_letter(&destination, event)?.is_some() {
                return Ok(Imported::Open(event));
            }
            let tally = self.looper.state.tallies.destinations.get(&destination);
            if tally.is_none_or(|tally| event > tally.read_to || tally.open.contains(&event)) {
                return Ok(Imported::Pending(event));
            }
            let ended = self.seen(hash_of_end(&destination, event), |body| match body {
                Body::DeadLetterClosed(closed) => closed.destination == destination && closed.event == event,
                _ => false,
            })?;
            if ended.is_some() {
                return Ok(Imported::Settled(event));
            }
        }
        let position = self.looper.facts.next;
        dead.event = position;
        dead.again = false;
        self.looper.record(Body::DeadLettered(Box::new(dead)), self.open);
        Ok(Imported::Opened(position))
    }

    /// The record of what the memory of seen deliveries has under a hash.
    fn seen(&self, hash: u64, is_it: impl Fn(&Body) -> bool) -> Result<Option<Position>, Unavailable> {
        let read = |position| crate::reading::record(&*self.looper.reader, position);
        let same = |record: &Record| {
            let it = record.body.as_ref().is_some_and(&is_it);
            it.then_some(Seen { position: 0, payload_hash: None })
        };
        let seen = self.looper.state.seen(hash, read, same).map_err(unreadable)?;
        Ok(seen.map(|seen| seen.position))
    }
}
