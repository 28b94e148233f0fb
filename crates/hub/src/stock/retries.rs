//! Orders that wait for stock are looked at again when it comes, before the next input is decided: those of the channel with
//! the higher priority first, among them who has placed his order earlier. Each is looked at once for each arrival, a few
//! at a time; the others a few before each few inputs that follow, so that who waits can't make the loop stand still. What
//! comes meanwhile makes a run go on from where it stands, and once more round to there: who comes late in it has his turn
//! however often a little comes.
//!
//! Where this stands is kept nowhere. After a restart all that there is counts as having just come, and whoever got
//! nothing then gets nothing now: that leaves no trace.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lockstep_core::Input;
use lockstep_core::decide::retry;

use crate::failure::Unavailable;
use crate::looper::{Looper, Message, Mode, Open, unreadable};
use crate::state::StateError;
use crate::state::waiting::Place;

/// How many orders are looked at again at once, of all SKUs together.
const RETRIES_AT_ONCE: usize = 16;

/// Whose turn it is: the priority of his channel, then his place in it.
type Turn = (Reverse<i32>, Place);

/// The SKUs of which stock came, and how far those who wait for it have been looked at.
#[derive(Default)]
pub(crate) struct Retries {
    under_way: BTreeMap<String, Run>,
    /// Whose turn it was last: all of them have theirs.
    last: String,
    /// Who was looked at last where others have taken what came before all had their turn: the next arrival goes on there.
    broken_off: BTreeMap<String, Turn>,
}

#[derive(Clone, Default)]
struct Run {
    /// Who was looked at last.
    after: Option<Turn>,
    /// Who is the last to be looked at; nobody in particular where it goes to the end.
    until: Option<Turn>,
    /// At the end it goes on from the first, until this one.
    again: Option<Turn>,
    /// Everybody is looked at, however little there is.
    concerns_all: bool,
}

impl Run {
    fn from(after: Option<Turn>) -> Self {
        Self { again: after.clone(), after, ..Self::default() }
    }

    /// More came: whoever was looked at before it is looked at once more, after the others.
    fn go_round(&mut self) {
        self.until = None;
        self.again = self.after.clone();
    }

    /// Goes on from the first, where some of them are to be looked at once more.
    fn begin_again(&mut self) -> bool {
        self.until = self.again.take();
        self.after = None;
        self.until.is_some()
    }
}

impl Retries {
    /// Whether anybody is still to be looked at.
    pub(crate) fn any(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// More of a SKU came.
    fn arrived(&mut self, sku: String, concerns_all: bool) {
        let run = match self.under_way.entry(sku) {
            Entry::Occupied(under_way) => {
                let run = under_way.into_mut();
                run.go_round();
                run
            }
            Entry::Vacant(none) => {
                let after = self.broken_off.remove(none.key());
                none.insert(Run::from(after))
            }
        };
        run.concerns_all |= concerns_all;
    }

    /// The SKU whose turn it is, with its run, and how many of so many orders it may have: runs share them.
    fn next(&mut self, left: usize) -> Option<(String, Run, usize)> {
        let following = (Bound::Excluded(self.last.as_str()), Bound::Unbounded);
        let next = self.under_way.range::<str, _>(following).next().or_else(|| self.under_way.first_key_value());
        let (sku, run) = next.map(|(sku, run)| (sku.clone(), run.clone()))?;
        self.last.clone_from(&sku);
        Some((sku, run, (RETRIES_AT_ONCE / self.under_way.len()).clamp(1, left)))
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
            self.retries.arrived(arrival.sku, arrival.concerns_all);
        }
        any
    }

    /// Whether there is anybody to be looked at, or may be.
    pub(crate) fn may_serve(&self) -> bool {
        matches!(self.mode, Mode::Normal)
            && (self.retries.any() || self.facts.stock.may_have_arrived(self.clock.time.now_us()))
    }

    /// Whether some of them are looked at now: after a failure that is tried again later.
    pub(crate) fn serves_now(&self) -> bool {
        self.may_serve() && self.clock.time.now() >= self.clock.timers_not_before
    }

    /// A batch of nothing goes on where the last one has stopped.
    pub(crate) fn served(&self) -> Option<Message> {
        self.serves_now().then(|| Message::Due(Vec::new()))
    }

    /// Looks at the next orders that wait for what came.
    pub(crate) fn serve(&mut self, open: &mut Open) {
        self.has_stock_come();
        let mut left = RETRIES_AT_ONCE;
        while left > 0
            && let Some((sku, before, share)) = self.retries.next(left)
        {
            match self.serve_some(&sku, share, open) {
                Ok(count) => left -= count,
                Err(cause) => {
                    tracing::error!(sku = sku.as_str(), error = %cause, "orders that wait for stock can't be looked at");
                    // Nobody loses his turn by it, and something may have come on the way.
                    if let Some(run) = self.retries.under_way.get_mut(&sku) {
                        let concerns_all = run.concerns_all;
                        *run = Run { concerns_all, ..before };
                        run.go_round();
                    }
                    return self.timers_later();
                }
            }
            self.has_stock_come();
        }
    }

    /// Looks at the next orders that wait for a SKU; how many. Its run ends where nobody is left, or nothing.
    fn serve_some(&mut self, sku: &str, limit: usize, open: &mut Open) -> Result<usize, Unavailable> {
        let channels = self.state.channels_waiting(sku).map_err(unreadable)?;
        let Some(mut run) = self.retries.under_way.get(sku).cloned() else { return Ok(0) };
        if channels.is_empty() {
            self.facts.stock.unwatch(sku);
            self.retries.broken_off.remove(sku);
        }
        if !self.is_left(sku, &run, &channels) {
            // Somebody else has taken it, since those who wait are looked at below.
            self.retries.under_way.remove(sku);
            self.retries
                .broken_off
                .extend(run.after.filter(|_| !channels.is_empty()).map(|after| (sku.to_owned(), after)));
            return Ok(0);
        }
        let mut turns = self.turns((sku, &channels), &run, limit).map_err(unreadable)?;
        if turns.is_empty() && run.begin_again() {
            turns = self.turns((sku, &channels), &run, limit).map_err(unreadable)?;
        }
        let Some(last) = turns.last() else {
            self.retries.under_way.remove(sku);
            return Ok(0);
        };
        run.after = Some(last.clone());
        self.retries.under_way.insert(sku.to_owned(), run);
        let count = turns.len();
        let inputs = self.words_to(sku, turns).map_err(unreadable)?;
        self.decide_some(inputs, open)?;
        // They have taken the rest of it, as it is theirs: what comes next is for the first of them again.
        if self.retries.under_way.get(sku).is_some_and(|run| !self.is_left(sku, run, &channels)) {
            self.retries.under_way.remove(sku);
        }
        Ok(count)
    }

    /// Whether any channel may get something of a SKU, or has to be looked at all the same.
    fn is_left(&self, sku: &str, run: &Run, channels: &BTreeSet<String>) -> bool {
        channels.iter().any(|channel| run.concerns_all || self.facts.stock.may_take(sku, channel))
    }

    /// Whose turn it is next.
    fn turns(
        &self,
        (sku, channels): (&str, &BTreeSet<String>),
        run: &Run,
        limit: usize,
    ) -> Result<Vec<Turn>, StateError> {
        let mut turns: Vec<Turn> = Vec::new();
        for channel in channels {
            if !run.concerns_all && !self.facts.stock.may_take(sku, channel) {
                continue;
            }
            let priority = Reverse(self.facts.stock.priority_of(sku, channel));
            let after = match &run.after {
                Some((done, _)) if *done > priority => continue,
                Some((same, place)) if *same == priority => Some(place),
                _ => None,
            };
            let places = self.state.waiting((sku, channel), after, limit)?;
            turns.extend(places.into_iter().map(|place| (priority, place)));
        }
        turns.retain(|turn| run.until.as_ref().is_none_or(|until| turn <= until));
        turns.sort();
        turns.truncate(limit);
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
