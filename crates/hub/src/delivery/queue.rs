//! The events of a destination that are taken up and not settled: in order for each key, keys side by side.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use lockstep_connect::destination::Prepared;
use lockstep_core::delivery::Cadence;
use lockstep_core::record::{Attempt, Parked};
use lockstep_core::{Event, Position};

use crate::delivery::aside::Aside;
use crate::delivery::patience::Since;
use crate::delivery::replay_queue::{Recent, Ticket};
use crate::stats::now_us;
use crate::tally::DestinationTally;

/// So many attempts of an event are kept with it, and so many of these are its first: each retry by hand journals them
/// again.
pub(crate) const ATTEMPTS_MAX: usize = 32;
const ATTEMPTS_FIRST: usize = 4;

/// The dead letter that an event on its way is of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Letter {
    /// The event by which it is listed: not the event's own position where it was brought in from outside.
    pub(crate) event: Position,
    /// Whether it was.
    pub(crate) brought_in: bool,
    /// And from another hub: then the event's position says nothing of the order here.
    pub(crate) foreign: bool,
}

/// One event on its way.
pub(crate) struct Item {
    pub(crate) event: Arc<Event>,
    pub(crate) bytes: usize,
    pub(crate) prepared: Option<Arc<Prepared>>,
    pub(crate) attempts: Vec<Attempt>,
    /// The number of the last attempt, also where the attempts themselves are not remembered.
    pub(crate) number: u32,
    /// Attempts of this round: a retry by hand begins a new one, and the numbers go on.
    pub(crate) round: u32,
    /// Who asked for it, where it is a dead letter's retry.
    pub(crate) manual: Option<String>,
    /// The dead letter then.
    pub(crate) letter: Letter,
    /// Who waits for its outcome, where it is replayed.
    pub(crate) replay: Option<Ticket>,
    /// In a batch with at most so many others, after one that failed; 0: no matter how many.
    pub(crate) together_max: usize,
    /// When it is tried again, while it waits for that.
    pub(crate) again_at_us: i64,
    /// When it came, or the first one did that it stands for. A clock that was put back makes nothing wait for longer.
    pub(crate) came_us: i64,
    /// What it had to wait for has arrived.
    pub(crate) waited: bool,
    /// Until when it waits for that at most, where it has waited since before the window began.
    pub(crate) waits_to_us: Option<i64>,
    /// It was on its way to the destination, whatever came of that.
    pub(super) sent: bool,
    /// What came of an attempt is not known: the destination may have it.
    pub(crate) may_be_there: bool,
    /// Since when it, or the first one that it stands for, has waited for that.
    pub(crate) waits_since: Option<Since>,
}

impl Item {
    /// An event that has not been tried.
    pub(crate) fn new(event: Arc<Event>, bytes: usize) -> Self {
        let came_us = event.recorded_at_us.min(now_us());
        Self {
            event,
            bytes,
            prepared: None,
            attempts: Vec::new(),
            number: 0,
            round: 0,
            manual: None,
            letter: Letter::default(),
            replay: None,
            together_max: 0,
            again_at_us: 0,
            came_us,
            waited: false,
            waits_to_us: None,
            sent: false,
            may_be_there: false,
            waits_since: None,
        }
    }

    /// Notes an attempt.
    pub(crate) fn attempted(&mut self, attempt: Attempt) {
        self.number = self.number.max(attempt.number);
        self.attempts.push(attempt);
        // The first ones tell how it began, the last ones how it stands; what is between is in the records before this one.
        if self.attempts.len() > ATTEMPTS_MAX {
            self.attempts.drain(ATTEMPTS_FIRST..self.attempts.len() - (ATTEMPTS_MAX - ATTEMPTS_FIRST));
        }
    }
}

#[derive(Default)]
pub(super) struct Key {
    pub(super) waiting: VecDeque<Item>,
    /// Its first event is under way, waits for its retry, or stands aside.
    pub(super) busy: bool,
    /// Its first event waits for another entity.
    pub(super) is_aside: bool,
    /// The newest event delivered since this key is in the window, and when the newest of them was decided.
    pub(super) delivered: Position,
    pub(super) delivered_us: i64,
    /// Its first event is tried again then.
    retry_us: Option<i64>,
    /// Retries by hand and replayed events that wait beside the others, and when that is looked at again.
    pub(super) apart: VecDeque<Item>,
    pub(super) apart_us: Option<i64>,
    /// Its first event is held until then.
    pub(super) held_to_us: Option<i64>,
    /// What came before goes with that for which it was held last.
    pub(super) let_go_us: i64,
    /// Until then its first event could not go: it was held, waited for another, or was behind a retry.
    pub(super) free_us: i64,
    /// A retry is under way.
    retries: bool,
}

impl Key {
    /// Whether it is noted that the key is looked at then.
    pub(super) fn is_woken_at(&self, at_us: i64) -> bool {
        self.retry_us == Some(at_us) || self.apart_us == Some(at_us)
    }
}

/// What a part of the items takes of the window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Window {
    pub(super) keys: HashMap<String, Key>,
    /// When events go.
    pub(super) cadence: Cadence,
    /// Keys that are held, and until when.
    pub(super) held: BinaryHeap<Reverse<(i64, String)>>,
    pub(super) held_keys: usize,
    /// What stands aside with its key.
    pub(super) aside: Aside,
    pub(super) ready: VecDeque<String>,
    /// Keys whose retry is due.
    pub(super) due: VecDeque<String>,
    /// Whose turn it is: that of a key that has something else to send than a retry, or that of a due retry.
    ready_first: bool,
    /// Also those of keys that have been woken otherwise: what is noted with a key tells.
    pub(super) retries: BinaryHeap<Reverse<(i64, String)>>,
    /// The time by which it was last looked for something to send.
    pub(super) now_us: i64,
    pub(super) unsettled: BTreeSet<Position>,
    /// Retries by hand that are under way.
    manual: BTreeSet<Position>,
    /// Where the journal says that it stood when it began.
    settled_to: Position,
    open_before: BTreeSet<Position>,
    parked_before: BTreeMap<Position, Parked>,
    /// Whether any of them waited for another entity.
    waited_before: bool,
    read_to: Position,
    pub(super) bytes: usize,
    /// What retries by hand take of it, and what replayed events do.
    by_hand: Share,
    replayed: Share,
    /// What was delivered last, from the first replay on.
    pub(crate) recent: Option<Recent>,
}

impl Window {
    /// A window that begins where the journal says: everything up to `read_to` that is not in `open` is settled.
    pub(crate) fn after(tally: &DestinationTally, cadence: Cadence) -> Self {
        let DestinationTally { cursor, read_to, open, parked, .. } = tally;
        Self {
            cadence,
            read_to: *cursor,
            settled_to: *read_to.max(cursor),
            open_before: open.clone(),
            parked_before: parked.iter().map(|parked| (parked.event, parked.clone())).collect(),
            waited_before: parked.iter().any(|parked| parked.number == 0),
            ..Self::default()
        }
    }

    pub(crate) fn events(&self) -> usize {
        self.unsettled.len() + self.manual.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What retries by hand take of it.
    pub(crate) fn by_hand(&self) -> Share {
        self.by_hand
    }

    /// What replayed events take of it.
    pub(crate) fn replayed(&self) -> Share {
        self.replayed
    }

    /// The share that an item counts in, beside live ones.
    fn share_of(&mut self, item: &Item) -> &mut Share {
        if item.replay.is_some() { &mut self.replayed } else { &mut self.by_hand }
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

    /// Takes an event up. One that waits for its retry since before the window began goes on waiting.
    pub(crate) fn add(&mut self, id: String, mut item: Item) {
        self.bytes += item.bytes;
        if item.manual.is_none() {
            self.unsettled.insert(item.event.position);
            self.read_to = self.read_to.max(item.event.position);
        } else {
            self.manual.insert(item.letter.event);
            let share = self.share_of(&item);
            *share = Share { events: share.events + 1, bytes: share.bytes + item.bytes };
        }
        let parked = if item.manual.is_none() { self.parked_before.remove(&item.event.position) } else { None };
        // What was never tried waited for another entity.
        let to_us = parked.as_ref().filter(|parked| parked.number == 0).map(|parked| parked.again_at_us);
        item.waits_to_us = to_us.or(item.waits_to_us);
        let parked = parked.filter(|parked| parked.number > 0);
        if let Some(parked) = &parked {
            (item.number, item.round, item.again_at_us) = (parked.number, parked.round, parked.again_at_us);
            item.sent = true;
        }
        let key = self.keys.entry(id.clone()).or_default();
        if key.must_wait_apart(&item) {
            key.add_apart(item);
            return;
        }
        // A retry by hand is older than what waits: it goes first.
        let at = key.waiting.partition_point(|other| other.event.position < item.event.position);
        // Nor is it held.
        let goes_first = at == 0 && item.manual.is_some();
        if key.is_aside {
            self.aside.add(&item);
        }
        key.waiting.insert(at, item);
        if key.busy || key.waiting.len() > 1 {
            if goes_first {
                self.let_go(&id);
                self.call_back(&id);
            }
            return;
        }
        match parked {
            Some(parked) => {
                (key.busy, key.retry_us) = (true, Some(parked.again_at_us));
                self.retries.push(Reverse((parked.again_at_us, id)));
            }
            None => self.line_up(id),
        }
    }

    /// The next event that may be sent now, of a key that has none under way: due retries, where they may go, and
    /// others in turn.
    /// `None` also where `takes` does not want it, which leaves it where it is.
    pub(crate) fn next_if(&mut self, with_retries: bool, takes: impl Fn(&Item) -> bool) -> Option<(String, Item)> {
        if !with_retries {
            self.put_off_retries();
        }
        let Self { keys, ready, due, ready_first, .. } = self;
        let due = with_retries.then_some(due);
        let queues = if *ready_first { [Some(ready), due] } else { [due, Some(ready)] };
        for queue in queues.into_iter().flatten() {
            while let Some(id) = queue.front() {
                let key = keys.get_mut(id).filter(|key| !key.busy && key.held_to_us.is_none() && !key.is_aside);
                let Some((key, first)) = key.and_then(|key| key.waiting.pop_front().map(|first| (key, first))) else {
                    queue.pop_front();
                    continue;
                };
                if !takes(&first) {
                    key.waiting.push_front(first);
                    return None;
                }
                (key.busy, key.retries) = (true, first.number > 0);
                // In turn: keys that fail again and again must not keep the others from being tried.
                *ready_first = !*ready_first;
                return queue.pop_front().map(|id| (id, first));
            }
        }
        None
    }

    /// Since when the event waits that has waited the longest of those that may go: it is not held, does not wait for
    /// another, for its retry or for one under way, and is not old by itself, as a dead letter's retry and what is replayed are.
    pub(crate) fn waiting_since_us(&self, now_us: i64) -> Option<i64> {
        let since = |key: &Key| {
            let item = key.waiting.front().filter(|item| item.manual.is_none())?;
            (item.again_at_us <= now_us && key.held_to_us.is_none() && !key.is_aside && !key.retries)
                .then(|| item.event.recorded_at_us.max(item.again_at_us).max(key.free_us))
        };
        self.keys.values().filter_map(since).min()
    }

    /// How many retries are due.
    pub(crate) fn due(&self) -> usize {
        self.due.len()
    }

    /// How many keys have something to send that is no retry.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The events that wait for a retry later than this, up to so many; also those that did so before, or for another entity,
    /// and have not been read again or have not had their turn yet.
    pub(crate) fn parked(&self, after_us: i64, most: usize) -> Vec<Parked> {
        let first = |Reverse((at_us, id)): &Reverse<(i64, String)>| {
            let item = self.keys.get(id).filter(|_| *at_us > after_us)?.waiting.front()?;
            let Item { number, round, again_at_us, .. } = *item;
            (item.manual.is_none() && again_at_us == *at_us).then(|| Parked {
                event: item.event.position,
                number,
                round,
                again_at_us,
            })
        };
        let unread = self.parked_before.values().filter(|parked| parked.again_at_us > after_us).cloned();
        let mut parked: BTreeMap<Position, Parked> = self
            .retries
            .iter()
            .filter_map(first)
            .chain(unread)
            .take(most)
            .map(|parked| (parked.event, parked))
            .collect();
        if self.waited_before {
            let yet = self.keys.values().filter(|key| !key.is_aside).flat_map(|key| &key.waiting);
            let to_us = |item: &Item| item.waits_to_us.filter(|to_us| item.number == 0 && *to_us > after_us);
            let parked_to = |item: &Item| {
                let (event, again_at_us) = (item.event.position, to_us(item)?);
                Some((event, Parked { event, again_at_us, ..Parked::default() }))
            };
            parked.extend(yet.filter_map(parked_to).take(most.saturating_sub(parked.len())));
        }
        parked.into_values().collect()
    }

    /// Whether an item must not be sent any more, because something newer of its key was.
    pub(crate) fn is_too_late(&self, id: &str, item: &Item) -> bool {
        self.keys.get(id).is_some_and(|key| key.is_over(item))
    }

    /// Puts an event back that is tried again then: until then its key waits with everything behind it. What was asked
    /// for by hand, or is replayed, holds nothing up.
    pub(crate) fn retry_at(&mut self, id: String, mut item: Item, at_us: i64) {
        item.again_at_us = at_us;
        let Some(key) = self.keys.get_mut(&id) else { return };
        let was_retry = std::mem::take(&mut key.retries);
        key.may_be_there(&item);
        if item.may_be_passed() {
            if was_retry {
                key.free_us = now_us();
            }
            key.set_apart(item);
            self.go_on(id);
        } else {
            key.waiting.push_front(item);
            key.retry_us = Some(at_us);
            self.retries.push(Reverse((at_us, id)));
        }
    }

    /// Puts an event back whose attempt does not count: its key goes to the end, so that the next probe tries
    /// another.
    pub(crate) fn put_back(&mut self, id: String, item: Item) {
        if let Some(key) = self.keys.get_mut(&id) {
            key.may_be_there(&item);
            key.waiting.push_front(item);
            (key.busy, key.retries) = (false, false);
            self.ready.push_back(id);
        }
    }

    /// Whether a key has something to send.
    pub(crate) fn is_ready(&self, with_retries: bool) -> bool {
        !self.ready.is_empty() || with_retries && !self.due.is_empty()
    }

    /// When the next retry is due, or the next key is held no longer.
    pub(crate) fn next_due_us(&self) -> Option<i64> {
        let first = |times: &BinaryHeap<Reverse<(i64, String)>>| times.peek().map(|Reverse((at_us, _))| *at_us);
        first(&self.retries).into_iter().chain(first(&self.held)).min()
    }

    /// Makes keys due whose retry is, and lets those go that were held until now.
    pub(crate) fn wake(&mut self, now_us: i64) {
        self.now_us = now_us;
        self.let_go_until(now_us);
        while self.retries.peek().is_some_and(|Reverse((at_us, _))| *at_us <= now_us) {
            let Some(Reverse((at_us, id))) = self.retries.pop() else { break };
            let Some(key) = self.keys.get_mut(&id) else { continue };
            if key.retry_us == Some(at_us) {
                (key.busy, key.retry_us) = (false, None);
                self.due.push_back(id);
            } else if key.apart_us == Some(at_us) {
                key.apart_us = None;
                self.call_from_apart(id);
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
            if std::mem::take(&mut key.retries) {
                key.free_us = now_us();
            }
            if delivered || item.may_be_there {
                key.is_there(item);
            }
            self.go_on(id.to_owned());
        }
        if item.manual.is_none() {
            self.unsettled.remove(&position);
        } else {
            self.manual.remove(&item.letter.event);
            let share = self.share_of(item);
            *share = Share { events: share.events - 1, bytes: share.bytes - item.bytes };
        }
    }
}
