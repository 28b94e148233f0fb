//! Retries by hand and replayed events that failed: each waits for its next attempt beside its key's live events, so that
//! these never wait for it. Once a newer one may be at the destination it is superseded, and is never sent after it.
//!
//! Those of a key stay in their order. A replay that sends what is stale has asked for exactly what it sends, in order with
//! what comes after it: nothing passes that.

use std::cmp::Reverse;

use crate::delivery::queue::{Item, Key, Window};

/// So many notes of retries that were woken otherwise are no matter.
const TIDY_MIN: usize = 1_024;

impl Item {
    /// Whether newer events of its entity may go before it.
    pub(super) fn may_be_passed(&self) -> bool {
        self.manual.is_some() && self.replay.as_ref().is_none_or(|ticket| !ticket.stale)
    }
}

impl Key {
    /// Whether something newer than an item may be at the destination since this key is in the window.
    pub(super) fn is_over(&self, item: &Item) -> bool {
        let newer = if item.letter.foreign {
            self.delivered_us >= item.event.recorded_at_us
        } else {
            self.delivered > item.event.position
        };
        item.may_be_passed() && newer
    }

    /// Nothing older than an item is to be sent any more: it is at the destination, or may be and has ended.
    pub(super) fn is_there(&mut self, item: &Item) {
        self.delivered_us = self.delivered_us.max(item.event.recorded_at_us);
        if !item.letter.foreign {
            self.delivered = self.delivered.max(item.event.position);
        }
    }

    /// The same of one that is sent again, where it may be there.
    pub(super) fn may_be_there(&mut self, item: &Item) {
        if item.may_be_there && !item.letter.foreign {
            self.delivered = self.delivered.max(item.event.position);
        }
    }

    /// Whether an item that is taken up has to wait beside the others: behind those before it that wait there, or until it
    /// is known what becomes of a newer one that may be at the destination already.
    pub(super) fn must_wait_apart(&self, item: &Item) -> bool {
        let is_behind = self.apart.front().is_some_and(|first| first.event.position < item.event.position);
        item.may_be_passed() && (is_behind || self.first_was_sent())
    }

    /// Whether the first event that waits was sent before.
    fn first_was_sent(&self) -> bool {
        self.waiting.front().is_some_and(|first| first.manual.is_none() && first.sent)
    }

    pub(super) fn add_apart(&mut self, item: Item) {
        let at = self.apart.partition_point(|other| other.event.position < item.event.position);
        self.apart.insert(at, item);
    }

    /// Puts one that was under way beside the others, and those that were to follow it by hand behind it.
    pub(super) fn set_apart(&mut self, item: Item) {
        self.busy = false;
        self.add_apart(item);
        while self.waiting.front().is_some_and(Item::may_be_passed)
            && let Some(next) = self.waiting.pop_front()
        {
            self.add_apart(next);
        }
    }

    /// Whether the first that waits beside the others may have its turn.
    fn apart_may_go(&self, now_us: i64) -> bool {
        let is_due = |first: &Item| first.again_at_us <= now_us || self.is_over(first);
        !self.first_was_sent() && self.apart.front().is_some_and(is_due)
    }

    /// Puts those in line before all others whose turn it is.
    fn take_from_apart(&mut self, now_us: i64) {
        let mut go = Vec::new();
        while self.apart_may_go(now_us)
            && let Some(item) = self.apart.pop_front()
        {
            go.push(item);
        }
        go.into_iter().rev().for_each(|item| self.waiting.push_front(item));
    }
}

impl Window {
    /// A key has nothing under way any more: its next event gets its turn, or the key is forgotten.
    pub(super) fn go_on(&mut self, id: String) {
        let now_us = self.now_us;
        let Some(key) = self.keys.get_mut(&id) else { return };
        if key.apart_may_go(now_us) {
            key.take_from_apart(now_us);
            self.look_apart_later(&id);
            self.ready.push_back(id);
        } else if !key.waiting.is_empty() {
            self.look_apart_later(&id);
            self.line_up(id);
        } else if key.apart.is_empty() {
            self.keys.remove(&id);
        } else {
            self.look_apart_later(&id);
        }
    }

    /// It is time for what waits beside the others of a key. Where something of it is under way or was sent, that is
    /// settled first.
    pub(super) fn call_from_apart(&mut self, id: String) {
        let now_us = self.now_us;
        let Some(key) = self.keys.get_mut(&id).filter(|key| key.apart_may_go(now_us)) else { return };
        if key.is_aside {
            self.call_back(&id);
        }
        let Some(key) = self.keys.get_mut(&id).filter(|key| !key.busy) else { return };
        key.take_from_apart(now_us);
        self.let_go(&id);
        self.look_apart_later(&id);
        self.due.push_back(id);
    }

    /// Retries that come from beside the others may not go now: those that would be next wait with all that are due.
    pub(super) fn put_off_retries(&mut self) {
        let Self { keys, ready, due, .. } = self;
        while let Some(key) = ready.front().and_then(|id| keys.get(id)) {
            let is_retry = |first: &Item| first.may_be_passed() && first.again_at_us > 0 && !key.is_over(first);
            if key.busy || !key.waiting.front().is_some_and(is_retry) {
                return;
            }
            due.extend(ready.pop_front());
        }
    }

    /// Notes when to look at what waits beside the others of a key.
    fn look_apart_later(&mut self, id: &str) {
        let Some(key) = self.keys.get_mut(id) else { return };
        let Some(at_us) = key.apart.front().map(|first| first.again_at_us) else { return };
        if key.apart_us != Some(at_us) {
            key.apart_us = Some(at_us);
            self.retries.push(Reverse((at_us, id.to_owned())));
        }
        let Self { keys, retries, .. } = self;
        if retries.len() > 2 * keys.len() + TIDY_MIN {
            retries.retain(|Reverse((at_us, id))| keys.get(id).is_some_and(|key| key.is_woken_at(*at_us)));
        }
    }
}

#[cfg(test)]
mod tests;
