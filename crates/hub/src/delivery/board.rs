//! What a runner has last said of single events, in memory and bounded: so that it can be asked where an event stands,
//! and so that somebody can wait for it without asking the loop.
//!
//! Nothing here is the truth of what was delivered, that is the journal. What has left the board is looked up there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_core::delivery::{Counts, Lately};
use lockstep_core::{EntityId, Event, Position};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::ear::Ear;
use crate::stats::now_us;

/// How many ended events each destination remembers exactly.
const RECENT_MAX: usize = 4_096;

/// How an event ended at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Delivered,
    Filtered,
    Dead,
    /// An event that stands for it is sent instead; without one (0), it was a dead letter and something newer of its entity
    /// was delivered.
    Superseded {
        by: Position,
    },
}

/// An event whose key waits for its retry, or until something else has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The event that is tried again, or waits.
    pub position: Position,
    /// How often it was tried; 0 where it waits until something else has arrived.
    pub attempts: u32,
    /// When it is tried again, or has waited for too long, microseconds since 1970 UTC; 0 where it waits for as long as it
    /// takes.
    pub next_us: i64,
    /// What came of the last attempt, or what it waits for.
    pub detail: String,
}

#[derive(Debug, Default)]
struct Notes {
    recent: VecDeque<Position>,
    ended: HashMap<Position, (End, i64)>,
    parked: HashMap<EntityId, Parked>,
    /// What is taken up and not settled: kind, and when the hub decided it. As much as the window holds.
    open: BTreeMap<Position, (EntityId, i64)>,
    lately: Lately,
    ears: Vec<Arc<Ear>>,
    watched: BTreeMap<Position, Vec<Watcher>>,
}

/// Who watches an event, or the one that stands for it.
#[derive(Debug)]
struct Watcher {
    /// The number of the destination, to him.
    number: usize,
    event: Position,
    bell: Arc<Bell>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Board {
    notes: Mutex<Notes>,
    /// How many positions are watched: mostly none.
    watched: AtomicUsize,
}

/// What somebody who waits hears.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    notify: Notify,
    /// What ended since it was last looked: the number of the destination, and the event. At most as much as is watched.
    ended: Mutex<Vec<(usize, Position, End)>>,
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event was taken up.
    pub(crate) fn taken(&self, event: &Event) {
        self.notes().open.insert(event.position, (event.fact.kind.as_str().into(), event.recorded_at_us));
    }

    /// An attempt was made.
    pub(crate) fn attempted(&self, success: bool, now_us: i64) {
        self.notes().lately.count(success, now_us);
    }

    /// The oldest event that is taken up and not settled, and when the hub decided it.
    pub(crate) fn oldest(&self) -> Option<(Position, i64)> {
        self.notes().open.first_key_value().map(|(position, (_, at_us))| (*position, *at_us))
    }

    /// When the hub decided the oldest event of a kind that is taken up and not settled, and the newest of any kind, and
    /// how many there are.
    pub(crate) fn oldest_of(&self, kind: &str) -> (Option<i64>, Option<i64>, usize) {
        let notes = self.notes();
        let oldest = notes.open.values().find(|(of, _)| of == kind).map(|(_, at_us)| *at_us);
        (oldest, notes.open.last_key_value().map(|(_, (_, at_us))| *at_us), notes.open.len())
    }

    /// Whether an event of a kind waits for its retry.
    pub(crate) fn is_retrying(&self, kind: &str) -> bool {
        let is_of = |id: &EntityId| id.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'));
        self.notes().parked.iter().any(|(id, parked)| parked.attempts > 0 && is_of(id))
    }

    /// When something was last delivered, and what attempts came to over five minutes and a day.
    pub(crate) fn lately(&self, now_us: i64) -> (Option<i64>, Counts, Counts) {
        let mut notes = self.notes();
        let (minutes, day) = notes.lately.counts(now_us);
        (notes.lately.last_success_us, minutes, day)
    }

    /// An event has ended.
    pub(crate) fn ended(&self, id: &str, position: Position, end: End) {
        let mut notes = self.notes();
        notes.open.remove(&position);
        if notes.parked.get(id).is_some_and(|parked| parked.position == position) {
            notes.parked.remove(id);
        }
        if notes.ended.insert(position, (end, now_us())).is_none() {
            notes.recent.push_back(position);
            if notes.recent.len() > RECENT_MAX
                && let Some(old) = notes.recent.pop_front()
            {
                notes.ended.remove(&old);
            }
        }
        notes.ears.iter().for_each(|ear| ear.ended(id));
        if self.watched.load(Ordering::Relaxed) > 0
            && let Some(watchers) = notes.watched.remove(&position)
        {
            for Watcher { number, event, bell } in &watchers {
                bell.ended.lock().unwrap_or_else(PoisonError::into_inner).push((*number, *event, end));
                bell.notify.notify_one();
            }
            // Who watches it wants to know what becomes of the one that stands for it.
            let at = if let End::Superseded { by: by @ 1.. } = end { by } else { position };
            notes.watched.entry(at).or_default().extend(watchers);
        }
    }

    /// Somebody hears of everything that ends here.
    pub(super) fn heard_by(&self, ear: Arc<Ear>) {
        self.notes().ears.push(ear);
    }

    /// An event has arrived that others waited for, or they wait no longer.
    pub(super) fn waits_no_more(&self, id: &str, position: Position) {
        let mut notes = self.notes();
        if notes.parked.get(id).is_some_and(|parked| parked.position == position && parked.attempts == 0) {
            notes.parked.remove(id);
        }
    }

    /// An event's key waits for its retry.
    pub(crate) fn parked(&self, id: &str, parked: Parked) {
        let mut notes = self.notes();
        if self.watched.load(Ordering::Relaxed) > 0 {
            // What waits behind it is parked too, and nobody knows here of which key a watched event is.
            notes
                .watched
                .range(parked.position..)
                .flat_map(|(_, watchers)| watchers)
                .for_each(|watcher| watcher.bell.notify.notify_one());
        }
        notes.parked.insert(id.into(), parked);
    }

    /// An event waits for no retry any more, and how it had ended before still holds.
    pub(crate) fn unparked(&self, event: &Event) {
        let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
        let mut notes = self.notes();
        if notes.parked.get(&id).is_some_and(|parked| parked.position == event.position) {
            notes.parked.remove(&id);
        }
    }

    /// Everything under way was given up: the journal does not have it.
    pub(crate) fn forget(&self) {
        let mut notes = self.notes();
        notes.recent.clear();
        notes.ended.clear();
        notes.parked.clear();
        notes.open.clear();
    }

    /// How an event ended, and when (microseconds since 1970 UTC), where that is remembered.
    pub(crate) fn end_of(&self, position: Position) -> Option<(End, i64)> {
        self.notes().ended.get(&position).copied()
    }

    /// How an event ended, or the one that stands for it. Where that one has not, or it is forgotten, it is superseded.
    pub(crate) fn last_end_of(&self, position: Position) -> Option<End> {
        let notes = self.notes();
        let (mut end, _) = *notes.ended.get(&position)?;
        while let End::Superseded { by } = end
            && let Some((next, _)) = notes.ended.get(&by)
        {
            end = *next;
        }
        Some(end)
    }

    /// What an event of this entity waits for.
    pub(crate) fn parked_before(&self, id: &str, position: Position) -> Option<Parked> {
        self.notes().parked.get(id).filter(|parked| parked.position <= position).cloned()
    }
}

/// Hears what becomes of events at destinations, until it is dropped.
pub struct Watch {
    bell: Arc<Bell>,
    boards: Vec<Arc<super::Health>>,
    positions: Vec<Position>,
    /// Its share of what may be watched at all.
    _share: OwnedSemaphorePermit,
}

impl Watch {
    /// Watches each of these events on each of these boards.
    pub(super) fn new(boards: Vec<Arc<super::Health>>, positions: &[Position], share: OwnedSemaphorePermit) -> Self {
        let bell = Arc::new(Bell::default());
        for (number, health) in boards.iter().enumerate() {
            let mut notes = health.board.notes();
            for event in positions {
                let mut at = *event;
                while let Some((End::Superseded { by: by @ 1.. }, _)) = notes.ended.get(&at) {
                    at = *by;
                }
                let watcher = Watcher { number, event: *event, bell: bell.clone() };
                notes.watched.entry(at).or_default().push(watcher);
            }
            health.board.watched.store(notes.watched.len(), Ordering::Relaxed);
        }
        Self { bell, boards, positions: positions.to_vec(), _share: share }
    }

    /// Waits until there is something new of one of them. Safe to drop.
    pub async fn changed(&self) {
        self.bell.notify.notified().await;
    }

    /// What ended since this was last asked: the number of the destination, the event, and whether it was delivered.
    pub(super) fn take(&self) -> Vec<(usize, Position, End)> {
        std::mem::take(&mut *self.bell.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for health in &self.boards {
            let mut notes = health.board.notes();
            // Each is where it was put, or with a newer one that stands for it.
            let first = self.positions.iter().min().copied().unwrap_or_default();
            let mut left = self.positions.len();
            let mut empty = Vec::new();
            for (at, watchers) in notes.watched.range_mut(first..) {
                if left == 0 {
                    break;
                }
                let before = watchers.len();
                watchers.retain(|watcher| !Arc::ptr_eq(&watcher.bell, &self.bell));
                left = left.saturating_sub(before - watchers.len());
                if watchers.is_empty() {
                    empty.push(*at);
                }
            }
            for at in empty {
                notes.watched.remove(&at);
            }
            health.board.watched.store(notes.watched.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_newest_ends_and_no_more() {
        let board = Board::default();
        for position in 1..=RECENT_MAX as Position + 10 {
            board.ended("price/A", position, End::Delivered);
        }
        assert_eq!(board.end_of(10), None);
        assert!(matches!(board.end_of(11), Some((End::Delivered, _))));
        assert_eq!(board.notes().ended.len(), RECENT_MAX);
        assert_eq!(board.notes().recent.len(), RECENT_MAX);
    }

    #[test]
    fn what_waits_behind_a_parked_event_is_parked_too() {
        let board = Board::default();
        let parked = Parked { position: 5, attempts: 1, next_us: 9, detail: String::new() };
        board.parked("price/A", parked.clone());
        assert_eq!(board.parked_before("price/A", 4), None);
        assert_eq!(board.parked_before("price/A", 5), Some(parked.clone()));
        assert_eq!(board.parked_before("price/A", 8), Some(parked));
        assert_eq!(board.parked_before("price/B", 8), None);
        board.ended("price/A", 5, End::Dead);
        assert_eq!(board.parked_before("price/A", 8), None);
    }
}
