//! The events of a destination that are taken up and not settled: in order for each key, keys side by side.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use lockstep_connect::destination::Prepared;
use lockstep_core::record::Attempt;
use lockstep_core::{Event, Position};

use crate::delivery::replay_queue::{Recent, Ticket};

/// The dead letter that an event on its way is of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Letter {
    /// The event by which it is listed: not the event's own position where it was brought in from outside.
    pub(crate) event: Position,
    /// Whether it was.
    pub(crate) brought_in: bool,
}

/// One event on its way.
pub(crate) struct Item {
    pub(crate) event: Arc<Event>,
    pub(crate) bytes: usize,
    pub(crate) prepared: Option<Arc<Prepared>>,
    pub(crate) attempts: Vec<Attempt>,
    /// Attempts of this round: a retry by hand begins a new one, and the numbers go on.
    pub(crate) round: u32,
    /// Who asked for it, where it is a dead letter's retry.
    pub(crate) manual: Option<String>,
    /// The dead letter then.
    pub(crate) letter: Letter,
    /// Who waits for its outcome, where it is replayed.
    pub(crate) replay: Option<Ticket>,
}

#[derive(Default)]
struct Key {
    waiting: VecDeque<Item>,
    /// Its first event is under way, or waits for its retry.
    busy: bool,
    /// The newest event delivered since this key is in the window.
    delivered: Position,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Window {
    keys: HashMap<String, Key>,
    ready: VecDeque<String>,
    retries: BinaryHeap<Reverse<(i64, String)>>,
    unsettled: BTreeSet<Position>,
    /// Retries by hand that are under way.
    manual: BTreeSet<Position>,
    /// Where the journal says that it stood when it began.
    settled_to: Position,
    open_before: BTreeSet<Position>,
    read_to: Position,
    bytes: usize,
    /// What was delivered last, from the first replay on.
    pub(crate) recent: Option<Recent>,
}

impl Window {
    /// A window that begins where the journal says: everything up to `read_to` that is not in `open` is settled.
    pub(crate) fn after(cursor: Position, read_to: Position, open: BTreeSet<Position>) -> Self {
        Self { read_to: cursor, settled_to: read_to.max(cursor), open_before: open, ..Self::default() }
    }

    pub(crate) fn events(&self) -> usize {
        self.unsettled.len() + self.manual.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Every event up to here is settled.
    pub(crate) fn cursor(&self) -> Position {
        self.open().first().map_or(self.read_to, |first| first - 1)
    }

    /// Everything up to here has been looked at, now or before the window began.
    pub(crate) fn seen_to(&self) -> Position {
        self.read_to.max(self.settled_to)
    }

    /// What is not settled of what has been looked at.
    pub(crate) fn open(&self) -> BTreeSet<Position> {
        let unread = self.open_before.range(self.read_to + 1..);
        self.unsettled.iter().chain(unread).copied().collect()
    }

    /// Whether an event is settled.
    pub(crate) fn is_settled(&self, position: Position) -> bool {
        if position <= self.read_to {
            return !self.unsettled.contains(&position);
        }
        position <= self.settled_to && !self.open_before.contains(&position)
    }

    /// Whether a retry by hand of this event is under way.
    pub(crate) fn is_retried(&self, position: Position) -> bool {
        self.manual.contains(&position)
    }

    /// Everything up to here has been looked at.
    pub(crate) fn read_to(&mut self, position: Position) {
        self.read_to = self.read_to.max(position);
    }

    /// Takes an event up.
    pub(crate) fn add(&mut self, id: String, item: Item) {
        self.bytes += item.bytes;
        if item.manual.is_none() {
            self.unsettled.insert(item.event.position);
            self.read_to = self.read_to.max(item.event.position);
        } else {
            self.manual.insert(item.letter.event);
        }
        let key = self.keys.entry(id.clone()).or_default();
        // A retry by hand is older than what waits: it goes first.
        let at = key.waiting.partition_point(|other| other.event.position < item.event.position);
        key.waiting.insert(at, item);
        if !key.busy && key.waiting.len() == 1 {
            self.ready.push_back(id);
        }
    }

    /// The next event that may be sent now, of a key that has none under way.
    pub(crate) fn next(&mut self) -> Option<(String, Item)> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(key) = self.keys.get_mut(&id)
                && !key.busy
                && let Some(item) = key.waiting.pop_front()
            {
                key.busy = true;
                return Some((id, item));
            }
        }
        None
    }

    /// Whether something newer of this key was delivered while it was in the window.
    fn overtaken(&self, id: &str, position: Position) -> bool {
        self.keys.get(id).is_some_and(|key| key.delivered > position)
    }

    /// Whether an item must not be sent any more, because something newer of its key was.
    pub(crate) fn is_too_late(&self, id: &str, item: &Item) -> bool {
        let may_be_stale = item.replay.as_ref().is_some_and(|ticket| ticket.stale);
        item.manual.is_some() && !may_be_stale && self.overtaken(id, item.event.position)
    }

    /// Puts an event back: its key waits with everything behind it until then.
    pub(crate) fn retry_at(&mut self, id: String, item: Item, at_us: i64) {
        if let Some(key) = self.keys.get_mut(&id) {
            key.waiting.push_front(item);
        }
        self.retries.push(Reverse((at_us, id)));
    }

    /// Puts an event back whose attempt does not count: its key goes to the end, so that the next probe tries
    /// another.
    pub(crate) fn put_back(&mut self, id: String, item: Item) {
        if let Some(key) = self.keys.get_mut(&id) {
            key.waiting.push_front(item);
            key.busy = false;
            self.ready.push_back(id);
        }
    }

    /// Whether a key has something to send.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next retry is due.
    pub(crate) fn next_retry_us(&self) -> Option<i64> {
        self.retries.peek().map(|Reverse((at_us, _))| *at_us)
    }

    /// Makes keys ready whose retry is due.
    pub(crate) fn wake(&mut self, now_us: i64) {
        while self.next_retry_us().is_some_and(|at_us| at_us <= now_us) {
            if let Some(Reverse((_, id))) = self.retries.pop()
                && let Some(key) = self.keys.get_mut(&id)
            {
                key.busy = false;
                self.ready.push_front(id);
            }
        }
    }

    /// Ends an event that [`Window::next`] gave: its key goes on.
    pub(crate) fn settle(&mut self, id: &str, item: &Item, delivered: bool) {
        self.bytes -= item.bytes;
        let position = item.event.position;
        if let Some(recent) = self.recent.as_mut().filter(|_| delivered) {
            recent.note(id, position);
        }
        if let Some(key) = self.keys.get_mut(id) {
            key.busy = false;
            if delivered {
                key.delivered = key.delivered.max(position);
            }
            if key.waiting.is_empty() {
                self.keys.remove(id);
            } else {
                self.ready.push_back(id.to_owned());
            }
        }
        if item.manual.is_none() {
            self.unsettled.remove(&position);
        } else {
            self.manual.remove(&item.letter.event);
        }
    }
}
