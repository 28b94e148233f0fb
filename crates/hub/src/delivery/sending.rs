//! What goes to a destination next: as the gate permits, filtered and mapped, alone or with others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use lockstep_core::delivery::{AttemptResult, Permit, Step};
use lockstep_core::record::{Attempt, DeadLetterEnd};

use crate::delivery::attempt::{self, Flight};
use crate::delivery::queue::Item;
use crate::delivery::runner::{Runner, hash};
use crate::stats::now_us;

impl Runner {
    /// What to send now; if nothing, when there is something to be done that nothing else wakes for.
    pub(super) fn next(&mut self, under_way: usize) -> Result<Flight, Option<i64>> {
        loop {
            let now = now_us();
            let Some(mode) = self.mode else { return Err(None) };
            if mode.step == Step::Pause && (mode.by_hand || self.gate.open().is_none()) {
                return Err(None);
            }
            self.window.wake(now);
            let due_us = self.window.next_due_us();
            let retries_at_us = match self.gate.permit(under_way, now) {
                Permit::Wait(None) => return Err(None),
                Permit::Wait(Some(at_us)) if self.window.is_ready(true) => return Err(Some(at_us)),
                // With nothing to send, it is the next event that wakes.
                Permit::Wait(Some(at_us)) => return Err(due_us.map(|due_us| due_us.max(at_us))),
                // A probe is a single one anyway.
                Permit::Send { .. }
                    if self.gate.open().is_none() && mode.requests_max.is_some_and(|most| under_way >= most) =>
                {
                    return Err(None);
                }
                Permit::Send { retries_at_us } => retries_at_us,
            };
            let with_retries = retries_at_us.is_none();
            if let Some(until_us) = self.gathering(with_retries, now) {
                return Err(Some(due_us.map_or(until_us, |due_us| due_us.min(until_us))));
            }
            let flight = self.gather(with_retries);
            if let Some((id, first)) = flight.first() {
                self.gathering_since_us = None;
                // What goes once more in smaller company is a retry, too.
                self.gate.sent(hash(id), first.round > 0 || first.together_max > 0, now);
                return Ok(flight);
            }
            if !self.window.is_ready(with_retries) {
                let held_us = retries_at_us.filter(|_| self.window.due() > 0);
                return Err([due_us, held_us].into_iter().flatten().min());
            }
        }
    }

    /// Until when what is ready waits for more to go with it, if it does.
    fn gathering(&mut self, with_retries: bool, now_us: i64) -> Option<i64> {
        let batch = self.batch.filter(|batch| batch.window_ms > 0 && self.down.is_none())?;
        let due = if with_retries { self.window.due() } else { 0 };
        let ready = self.window.ready() + due;
        if ready == 0 || ready >= batch.events_max {
            return None;
        }
        let since_us = *self.gathering_since_us.get_or_insert(now_us);
        let until_us = since_us.saturating_add_unsigned(batch.window_ms.saturating_mul(1_000));
        (now_us < until_us).then_some(until_us)
    }

    /// What goes in one request: one event, or several of different entities where the destination takes them.
    fn gather(&mut self, with_retries: bool) -> Flight {
        // A probe is a single one.
        let batch = self.batch.filter(|_| self.down.is_none());
        let (mut most, bytes_max) = batch.map_or((1, usize::MAX), |batch| (batch.events_max.max(1), batch.bytes_max));
        let (mut flight, mut bytes) = (Flight::new(), 0);
        while flight.len() < most && bytes < bytes_max {
            let together = flight.len();
            let takes = |item: &Item| item.together_max == 0 || together < item.together_max;
            let Some((id, item)) = self.window.next_if(with_retries, takes) else { break };
            let Some((id, mut item)) = self.prepare(id, item) else { continue };
            item.sent = true;
            // The position of what was brought in says nothing of what else was sent.
            if !item.letter.brought_in {
                self.health.sent_to.fetch_max(item.event.position, Ordering::Relaxed);
            }
            if item.together_max > 0 {
                most = most.min(item.together_max);
            }
            bytes += item.prepared.as_ref().map_or(0, |prepared| prepared.body.len());
            flight.push((id, item));
        }
        flight
    }

    /// Filters and maps. What is kept back or can't be mapped is settled here.
    fn prepare(&mut self, id: String, mut item: Item) -> Option<(String, Item)> {
        if self.window.is_too_late(&id, &item) {
            self.close(&item, DeadLetterEnd::Superseded);
            self.window.settle(&id, &item, false);
            return None;
        }
        if item.prepared.is_some() {
            return self.wait(&id, item).map(|item| (id, item));
        }
        match attempt::prepare(&*self.destination, &item.event) {
            Ok(Some(prepared)) => {
                item.prepared = Some(Arc::new(prepared));
                return self.wait(&id, item).map(|item| (id, item));
            }
            Ok(None) if item.manual.is_some() => self.close(&item, DeadLetterEnd::Discarded),
            Ok(None) => self.kept_back(&id, &item.event),
            Err(error) => {
                item.attempted(Attempt {
                    number: item.number.saturating_add(1),
                    at_us: now_us(),
                    detail: error.to_string(),
                    manual: item.manual.is_some(),
                    class: AttemptResult::Poison.name().to_owned(),
                    ..Attempt::default()
                });
                self.dead_letter(&item, "poison");
            }
        }
        self.window.settle(&id, &item, false);
        None
    }
}

#[cfg(test)]
mod tests;
