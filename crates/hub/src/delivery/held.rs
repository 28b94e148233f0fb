//! Events that are held until a window ends or a schedule has its next time, and of which a newer one of their entity may
//! stand for the older ones.
//!
//! What a newer event stands for is settled when that one is taken up, so what is held is bounded by entities, not by events:
//! one event each, beside those under way. The newer one is open then, so a crash loses nothing: it is sent, and carries the
//! whole document. It stands for an older one only where the destination is to have it, so it is filtered and mapped first.

use std::cmp::Reverse;
use std::sync::Arc;

use lockstep_core::delivery::{Cadence, supersedes};
use lockstep_core::{Event, Position, entity_id};

use crate::delivery::attempt;
use crate::delivery::board::End;
use crate::delivery::queue::{Item, Window};
use crate::delivery::runner::{Runner, bytes_of};
use crate::stats::now_us;

/// What may be taken up.
pub(super) struct Room {
    /// The next event.
    pub(super) room: bool,
    /// Nothing more fits in beside what does not stand aside.
    pub(super) is_full: bool,
    /// What somebody has asked for: that is not held, so it goes also while what is held fills the window.
    pub(super) by_hand: bool,
}

impl Window {
    /// A free key gets in line, or is held.
    pub(super) fn line_up(&mut self, id: String) {
        let Self { keys, cadence, .. } = self;
        if cadence.is_live() {
            return self.ready.push_back(id);
        }
        let Some(key) = keys.get_mut(&id) else { return };
        // What was asked for by hand is not held, nor is what has been tried, nor what belongs to what was let go.
        let first = key.waiting.front();
        let first = first.filter(|first| first.manual.is_none() && first.number == 0 && first.came_us >= key.let_go_us);
        match first.and_then(|first| cadence.send_from(first.came_us)) {
            // One whose time has come is let go of before anything is sent.
            Some(until_us) => {
                key.held_to_us = Some(until_us);
                self.held_keys += 1;
                self.held.push(Reverse((until_us, id)));
            }
            None => self.ready.push_back(id),
        }
    }

    /// A key is held no longer.
    pub(super) fn let_go(&mut self, id: &str) {
        if let Some(key) = self.keys.get_mut(id)
            && key.held_to_us.take().is_some()
        {
            self.held_keys -= 1;
            key.free_us = now_us();
            self.ready.push_back(id.to_owned());
        }
    }

    /// Lets those go that were held until now.
    pub(super) fn let_go_until(&mut self, now_us: i64) {
        while self.held.peek().is_some_and(|Reverse((until_us, _))| *until_us <= now_us) {
            self.let_go_first(now_us);
        }
    }

    /// Lets the one go that would be the first to go anyway, with all of its entity that has come until now.
    fn let_go_first(&mut self, now_us: i64) {
        let Some(Reverse((until_us, id))) = self.held.pop() else { return };
        // It may have been let go of, and held again, since.
        if let Some(key) = self.keys.get_mut(&id).filter(|key| key.held_to_us == Some(until_us)) {
            key.let_go_us = until_us.min(now_us);
            self.let_go(&id);
            if let Some(key) = self.keys.get_mut(&id) {
                key.free_us = key.let_go_us;
            }
        }
    }

    /// How many keys are held, and until when the first of them is.
    pub(super) fn held(&self) -> (usize, Option<i64>) {
        (self.held_keys, self.held.peek().map(|Reverse((until_us, _))| *until_us))
    }

    /// Takes those events out of the window that another one of their entity stands for, which is taken up next.
    fn overtaken_by(&mut self, id: &str, newer: &mut Item) -> Vec<Position> {
        let mut overtaken = Vec::new();
        let Some(key) = self.keys.get_mut(id) else { return overtaken };
        // One that was tried is tried again until its end is known; one under way is not here.
        let first = key.waiting.front().map(|item| item.event.position);
        key.waiting.retain(|item| {
            let is_over = item.manual.is_none() && item.number == 0 && supersedes(&newer.event, &item.event);
            if is_over {
                newer.came_us = newer.came_us.min(item.came_us);
                newer.sent |= item.sent;
                newer.may_be_there |= item.may_be_there;
                // Where only the newest goes, an entity that changes again and again has waited all the time.
                newer.waits_since = item.waits_since.or(newer.waits_since);
                newer.waits_to_us = item.waits_to_us.or(newer.waits_to_us);
                self.bytes -= item.bytes;
                self.unsettled.remove(&item.event.position);
                if key.is_aside {
                    self.aside.remove(item);
                }
                overtaken.push(item.event.position);
            }
            !is_over
        });
        // The newer one may have to wait for something else, or not at all.
        if key.waiting.front().map(|item| item.event.position) != first {
            self.call_back(id);
        }
        overtaken
    }

    /// Puts an event into the place of those that it stands for.
    fn add_instead(&mut self, id: String, mut item: Item) -> Vec<Position> {
        let overtaken = self.overtaken_by(&id, &mut item);
        let is_in_line = !overtaken.is_empty() && self.keys.get(&id).is_some_and(|key| key.waiting.is_empty());
        if !is_in_line {
            self.add(id, item);
            return overtaken;
        }
        // Its key is where the first of those had it: ready, held, or busy.
        self.bytes += item.bytes;
        self.unsettled.insert(item.event.position);
        self.read_to(item.event.position);
        if let Some(key) = self.keys.get_mut(&id) {
            key.waiting.push_back(item);
        }
        overtaken
    }

    /// Another cadence: what is held is looked at again.
    fn set_cadence(&mut self, cadence: Cadence) {
        self.cadence = cadence;
        self.held_keys = 0;
        let mut notes = std::mem::take(&mut self.held).into_sorted_vec();
        // One that was let go of and held again until the same time has two: it would be lined up twice where the new time
        // is that one as well.
        notes.dedup();
        for Reverse((until_us, id)) in notes.into_iter().rev() {
            if let Some(key) = self.keys.get_mut(&id).filter(|key| key.held_to_us == Some(until_us)) {
                key.held_to_us = None;
                key.free_us = now_us();
                self.line_up(id);
            }
        }
    }

    /// Takes the events out that have not been tried, of keys that have several of them, the oldest first.
    fn take_several(&mut self) -> Vec<(String, Item)> {
        let mut taken = Vec::new();
        let is_untried = |item: &Item| item.manual.is_none() && item.number == 0;
        for (id, key) in self.keys.iter_mut() {
            let mut untried = key.waiting.iter().filter(|item| is_untried(item));
            if untried.next().is_none() || untried.next().is_none() {
                continue;
            }
            // The first stays, so that its key stays where it is.
            let mut is_first = true;
            let (stay, go) = std::mem::take(&mut key.waiting)
                .into_iter()
                .partition::<Vec<_>, _>(|item| !is_untried(item) || std::mem::take(&mut is_first));
            key.waiting = stay.into();
            taken.extend(go.into_iter().map(|item| (id.clone(), item)));
        }
        for (id, item) in &taken {
            if self.keys.get(id).is_some_and(|key| key.is_aside) {
                self.aside.remove(item);
            }
            self.bytes -= item.bytes;
            self.unsettled.remove(&item.event.position);
        }
        taken.sort_by_key(|(_, item)| item.event.position);
        taken
    }
}

impl Runner {
    /// Changes when events go, from now on: also for those that are taken up already.
    pub(super) fn set_cadence(&mut self, cadence: Cadence) {
        if self.window.cadence == cadence {
            return;
        }
        let latest_only = cadence.latest_only();
        self.window.set_cadence(cadence);
        if latest_only {
            for (id, item) in self.window.take_several() {
                self.take_up(id, item);
            }
        }
    }

    /// What may be taken up. Where what is held fills the window, a window ends before its time.
    pub(super) fn room(&mut self) -> Room {
        let (events_max, bytes_max) = (self.options.window_events_max, self.options.window_bytes_max);
        let (events, bytes) = (self.window.events(), self.window.bytes());
        let aside = self.window.aside;
        let (events, bytes) = (events.saturating_sub(aside.events), bytes.saturating_sub(aside.bytes));
        let is_full = events >= events_max || bytes >= bytes_max;
        let room = !is_full && !self.is_aside_full();
        let (held, _) = self.window.held();
        // Not before those are gone that were let go: others go on gathering as long as they can.
        if is_full && held > 0 && self.window.ready() == 0 && self.window.cadence.may_end_early() {
            // A part of them, so that the others go on gathering.
            for _ in 0..(held / 4).max(1) {
                self.window.let_go_first(now_us());
            }
        }
        let by_hand = events.saturating_sub(held) < events_max && bytes < bytes_max.saturating_mul(2);
        Room { room, is_full, by_hand }
    }

    pub(super) fn take_events(&mut self, events: Vec<Arc<Event>>) {
        for event in events {
            if self.window.is_settled(event.position) {
                continue;
            }
            self.taken += u64::from(event.position > self.window.seen_to());
            self.health.board.taken(&event);
            let id = entity_id(&event.fact.kind, &event.fact.key);
            let bytes = bytes_of(&event);
            self.take_up(id.into(), Item::new(event, bytes));
        }
        self.window.read_to(self.stream.position());
    }

    fn take_up(&mut self, id: String, mut item: Item) {
        if self.window.cadence.is_live() {
            return self.window.add(id, item);
        }
        // What the destination is not to have takes no place among what is held, and stands for nothing.
        match attempt::prepare(&*self.destination, &item.event) {
            Ok(None) => {
                self.window.read_to(item.event.position);
                self.kept_back(&id, &item.event);
            }
            Ok(Some(prepared)) => {
                // It may have been taken up before.
                item.bytes = bytes_of(&item.event) + prepared.body.len();
                item.prepared = Some(Arc::new(prepared));
                if !self.window.cadence.latest_only() {
                    return self.window.add(id, item);
                }
                let position = item.event.position;
                for overtaken in self.window.add_instead(id.clone(), item) {
                    self.health.board.ended(&id, overtaken, End::Superseded { by: position });
                    self.superseded.push(overtaken);
                }
            }
            // It becomes a dead letter when its turn comes, after those before it.
            Err(_) => self.window.add(id, item),
        }
    }

    /// The destination's filter keeps an event back.
    pub(super) fn kept_back(&mut self, id: &str, event: &Event) {
        self.filtered += 1;
        self.health.board.ended(id, event.position, End::Filtered);
        self.own_words += u64::from(self.destination.keeps_own_word(event));
    }
}

#[cfg(test)]
mod tests;
