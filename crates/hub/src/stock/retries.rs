//! Orders that wait for stock are looked at again when it comes, before anything else is decided: those of the channel with
//! the higher priority first, among them who has placed his order earlier. Each is looked at once for each arrival, a few
//! at a time; the others in the next batches, before their inputs.
//!
//! Where this stands is kept nowhere. After a restart all that there is counts as having just come, and whoever got
//! nothing then gets nothing now: that leaves no trace.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lockstep_core::Input;
use lockstep_core::decide::retry;

use crate::looper::{Looper, Message, Mode, Open, unreadable};
use crate::state::StateError;
use crate::state::waiting::Place;

/// How many orders are looked at again at once.
const RETRIES_AT_ONCE: usize = 16;

/// Whose turn it is: the priority of his channel, then his place in it.
type Turn = (Reverse<i32>, Place);

/// The SKUs of which stock came, and how far those who wait for it have been looked at.
#[derive(Default)]
pub(crate) struct Retries {
    under_way: BTreeMap<String, Run>,
}

#[derive(Default)]
struct Run {
    /// Who was looked at last.
    after: Option<Turn>,
    /// Everybody is looked at, however little there is.
    concerns_all: bool,
}

impl Retries {
    /// Whether anybody is still to be looked at.
    pub(crate) fn any(&self) -> bool {
        !self.under_way.is_empty()
    }
}

impl Looper {
    /// Whether stock came for which somebody waits.
    pub(crate) fn has_stock_come(&mut self) -> bool {
        let now_us = self.clock.time.now_us();
        if !self.facts.stock.may_have_arrived(now_us) {
            return false;
        }
        let arrivals = self.facts.stock.arrivals(now_us);
        let any = !arrivals.is_empty();
        for arrival in arrivals {
            // From the first again: who needs more than there was may have enough now.
            let run = self.retries.under_way.entry(arrival.sku).or_default();
            run.after = None;
            run.concerns_all |= arrival.concerns_all;
        }
        any
    }

    /// Whether there is anybody to be looked at, or may be.
    pub(crate) fn may_serve(&self) -> bool {
        matches!(self.mode, Mode::Normal)
            && (self.retries.any() || self.facts.stock.may_have_arrived(self.clock.time.now_us()))
    }

    /// A batch of nothing goes on where the last one has stopped.
    pub(crate) fn served(&self) -> Option<Message> {
        let is_due = self.may_serve() && self.clock.time.now() >= self.clock.timers_not_before;
        is_due.then(|| Message::Due(Vec::new()))
    }

    /// Looks at the next orders that wait for what came.
    pub(crate) fn serve(&mut self, open: &mut Open) {
        self.has_stock_come();
        let mut left = RETRIES_AT_ONCE;
        while left > 0
            && let Some(sku) = self.retries.under_way.keys().next().cloned()
        {
            let before = self.retries.under_way.get(&sku).and_then(|run| run.after.clone());
            let served = self.next_of(&sku, left).map_err(unreadable).and_then(|turns| {
                left -= turns.len();
                if turns.is_empty() {
                    self.retries.under_way.remove(&sku);
                }
                let inputs = self.words_to(&sku, turns).map_err(unreadable)?;
                self.decide_some(inputs, open)
            });
            if let Err(cause) = served {
                tracing::error!(sku = sku.as_str(), error = %cause, "orders that wait for stock can't be looked at");
                // Nobody loses his turn by it.
                if let Some(run) = self.retries.under_way.get_mut(&sku) {
                    run.after = before;
                }
                return self.timers_later();
            }
            self.has_stock_come();
        }
    }

    /// Whose turn it is next; nobody's where all have been looked at, or there is nothing left.
    fn next_of(&mut self, sku: &str, limit: usize) -> Result<Vec<Turn>, StateError> {
        let channels = self.state.channels_waiting(sku)?;
        if channels.is_empty() {
            self.facts.stock.unwatch(sku);
            return Ok(Vec::new());
        }
        let Some(run) = self.retries.under_way.get_mut(sku) else { return Ok(Vec::new()) };
        let mut turns: Vec<Turn> = Vec::new();
        for channel in channels {
            if !run.concerns_all && !self.facts.stock.may_take(sku, &channel) {
                continue;
            }
            let priority = Reverse(self.facts.stock.priority_of(sku, &channel));
            let after = match &run.after {
                Some((done, _)) if *done > priority => continue,
                Some((same, place)) if *same == priority => Some(place),
                _ => None,
            };
            let places = self.state.waiting((sku, &channel), after, limit)?;
            turns.extend(places.into_iter().map(|place| (priority, place)));
        }
        turns.sort();
        turns.truncate(limit);
        if let Some(last) = turns.last() {
            run.after = Some(last.clone());
        }
        Ok(turns)
    }

    /// The hub's word to them.
    fn words_to(&mut self, sku: &str, turns: Vec<Turn>) -> Result<Vec<Input>, StateError> {
        let now_us = self.clock.time.now_us();
        let mut inputs = Vec::with_capacity(turns.len());
        for (_, (_, id)) in turns {
            inputs.extend(self.state.entity(&id)?.map(|order| retry(sku, &order, now_us)));
        }
        Ok(inputs)
    }
}
