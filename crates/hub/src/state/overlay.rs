//! Changes to the lists of quarantine, dead letters and incomplete entities that the state file does not have yet.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::Position;

use crate::state::dead_letters::{DeliveredOverlay, RetryOverlay};
use crate::state::incomplete::IncompleteOverlay;
use crate::state::rows::{DeadLetterRow, QuarantineRow};

/// A dead letter's key.
pub(crate) type DeadLetterKey = (String, Position);

/// See the module. What is both closed and opened here was opened last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) quarantine_opened: BTreeMap<Position, QuarantineRow>,
    pub(crate) quarantine_closed: BTreeSet<Position>,
    pub(crate) dead_opened: BTreeMap<DeadLetterKey, DeadLetterRow>,
    pub(crate) dead_closed: BTreeSet<DeadLetterKey>,
    pub(crate) retries: RetryOverlay,
    pub(crate) delivered: DeliveredOverlay,
    pub(crate) incomplete: IncompleteOverlay,
}

impl Overlay {
    pub(crate) fn open_quarantine(&mut self, row: QuarantineRow) {
        self.quarantine_opened.insert(row.position, row);
    }

    pub(crate) fn close_quarantine(&mut self, position: Position) {
        self.quarantine_opened.remove(&position);
        self.quarantine_closed.insert(position);
    }

    pub(crate) fn open_dead_letter(&mut self, row: DeadLetterRow) {
        let key = (row.destination.clone(), row.event);
        // What was planned for it was this failure.
        self.retries.set(key.clone(), None);
        self.dead_opened.insert(key, row);
    }

    pub(crate) fn close_dead_letter(&mut self, destination: &str, event: Position) {
        let key = (destination.to_owned(), event);
        self.dead_opened.remove(&key);
        self.retries.set(key.clone(), None);
        self.dead_closed.insert(key);
    }

    /// Lays a newer overlay over this one.
    pub(crate) fn put_over(&mut self, newer: Self) {
        for position in newer.quarantine_closed {
            self.close_quarantine(position);
        }
        self.quarantine_opened.extend(newer.quarantine_opened);
        for (destination, event) in newer.dead_closed {
            self.close_dead_letter(&destination, event);
        }
        self.dead_opened.extend(newer.dead_opened);
        self.retries.put_over(newer.retries);
        self.delivered.put_over(newer.delivered);
        self.incomplete.put_over(newer.incomplete);
    }
}

/// Lays overlays over rows from the file, and takes the first `limit` in order.
pub(crate) fn merge<K: Ord + Clone, R: Clone>(
    rows: impl IntoIterator<Item = (K, R)>,
    layers: [(&BTreeMap<K, R>, &BTreeSet<K>); 2],
    passes: impl Fn(&K, &R) -> bool,
    limit: usize,
) -> (Vec<R>, bool) {
    let mut all: BTreeMap<K, R> = rows.into_iter().collect();
    for (opened, closed) in layers {
        for key in closed {
            all.remove(key);
        }
        all.extend(opened.iter().filter(|(k, r)| passes(k, r)).map(|(k, r)| (k.clone(), r.clone())));
    }
    let more = all.len() > limit;
    (all.into_values().take(limit).collect(), more)
}
