//! Replayed events in a destination's window: beside live ones, in order with those of their key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lockstep_core::record::DeadLetterEnd;
use lockstep_core::{Event, Position};
use tokio::sync::mpsc;

use crate::delivery::queue::{Item, Letter, Window};

/// How many keys' newest deliveries are remembered, twice.
const RECENT_MAX: usize = 4_096;

/// What came of a replayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was delivered.
    Delivered,
    /// The destination's filter kept it back.
    Filtered,
    /// Something newer of its entity is there or on its way.
    Stale,
    /// It was given up, and is a dead letter.
    Failed,
    /// It is on its way already, or a dead letter.
    Passed,
    /// Nothing is known any more, or not enough was known: it is looked at again.
    Again,
}

/// Tells the replay of an event's outcome, once; also when the event is forgotten.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) replay: Position,
    event: Position,
    /// Whether it is sent though something newer is there.
    pub(crate) stale: bool,
    told: AtomicBool,
    to: mpsc::Sender<(Position, Outcome)>,
}

impl Ticket {
    pub(crate) fn new(replay: Position, event: Position, stale: bool, to: mpsc::Sender<(Position, Outcome)>) -> Self {
        Self { replay, event, stale, told: AtomicBool::new(false), to }
    }

    pub(crate) fn tell(&self, outcome: Outcome) {
        if !self.told.swap(true, Ordering::Relaxed) {
            // There is room for all of a page. A replay that has ended wants to hear nothing.
            let _ = self.to.try_send((self.event, outcome));
        }
    }

    /// It ended as a dead letter's retry would.
    pub(crate) fn closed(&self, end: DeadLetterEnd) {
        self.tell(match end {
            DeadLetterEnd::Delivered => Outcome::Delivered,
            DeadLetterEnd::Superseded => Outcome::Stale,
            DeadLetterEnd::Discarded | DeadLetterEnd::Unspecified => Outcome::Filtered,
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tell(Outcome::Again);
    }
}

/// An event that is to be sent again.
pub(crate) struct ReplayOrder {
    pub(crate) event: Arc<Event>,
    pub(crate) bytes: usize,
    /// Whoever asked for it looked at all events up to here for something newer.
    pub(crate) checked_to: Position,
    pub(crate) ticket: Ticket,
}

/// The newest delivery of each key for a while back: what was delivered between the look and the order.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// All deliveries of events after this are known.
    floor: Position,
    highest: Position,
    new: HashMap<String, Position>,
    old: HashMap<String, Position>,
    old_highest: Position,
}

impl Recent {
    fn from(floor: Position) -> Self {
        Self { floor, highest: floor, ..Self::default() }
    }

    pub(crate) fn note(&mut self, id: &str, position: Position) {
        self.highest = self.highest.max(position);
        let newest = self.new.entry(id.to_owned()).or_default();
        *newest = position.max(*newest);
        if self.new.len() >= RECENT_MAX {
            self.floor = self.floor.max(self.old_highest);
            self.old = std::mem::take(&mut self.new);
            self.old_highest = self.highest;
        }
    }

    fn newest(&self, id: &str) -> Position {
        let of = |map: &HashMap<String, Position>| map.get(id).copied().unwrap_or(0);
        of(&self.new).max(of(&self.old))
    }
}

impl Window {
    /// Takes a replayed event up, unless something newer of its entity has been delivered since it was looked for.
    pub(crate) fn replay(&mut self, order: ReplayOrder) {
        let ReplayOrder { event, bytes, checked_to, ticket } = order;
        let id: String = lockstep_core::entity_id(&event.fact.kind, &event.fact.key).into();
        let position = event.position;
        let seen_to = self.seen_to();
        let recent = self.recent.get_or_insert_with(|| Recent::from(seen_to));
        if !ticket.stale && checked_to < recent.floor {
            return ticket.tell(Outcome::Again);
        }
        if !ticket.stale && recent.newest(&id) > position {
            return ticket.tell(Outcome::Stale);
        }
        if !self.is_settled(position) || self.is_retried(position) {
            return ticket.tell(Outcome::Passed);
        }
        let manual = Some(format!("replay {}", ticket.replay));
        let letter = Letter { event: position, ..Letter::default() };
        let replay = Some(ticket);
        self.add(id, Item { manual, letter, replay, ..Item::new(event, bytes) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_remembered_is_below_the_floor() {
        let mut recent = Recent::from(10);
        for position in 11..=3 * RECENT_MAX as Position {
            recent.note(&format!("k{position}"), position);
            let known = |at: Position| recent.newest(&format!("k{at}")) == at;
            assert!(known(position) && (recent.floor == position || known(recent.floor + 1)), "{position}");
        }
        assert!(recent.floor > 10 && recent.new.len() + recent.old.len() <= 2 * RECENT_MAX);
    }

    #[test]
    fn a_ticket_tells_once_also_when_it_is_forgotten() {
        let (to, mut told) = mpsc::channel(4);
        let ticket = Ticket::new(1, 7, false, to.clone());
        ticket.closed(DeadLetterEnd::Delivered);
        ticket.tell(Outcome::Failed);
        drop(ticket);
        drop(Ticket::new(1, 8, false, to));
        assert_eq!(told.try_recv(), Ok((7, Outcome::Delivered)));
        assert_eq!(told.try_recv(), Ok((8, Outcome::Again)));
        assert!(told.try_recv().is_err());
    }
}
