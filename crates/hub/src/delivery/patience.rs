//! Who waits for something else to arrive, since when, for how long, and who is to look again: the books of it, without clock
//! or destination.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use lockstep_core::delivery::Then;
use lockstep_core::{EntityId, Position};

use crate::delivery::Waiting;
use crate::delivery::ear::Ear;

/// Who has waited since before the hub was started still has so long: what he waits for may be there, or be the next to go.
const GRACE_US: i64 = 10_000_000;

/// What an event waits for.
#[derive(Clone, Debug)]
pub(super) struct Need {
    pub(super) destination: String,
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) id: EntityId,
}

/// Since when an event, or the first of those that it stands for, has waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    at_us: i64,
    /// By which clock, and what that one showed.
    clock: usize,
    shown_us: i64,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) event: Position,
    pub(super) needs: Vec<Need>,
    since: Since,
    /// When it has waited for too long, by its clock.
    until_us: Option<i64>,
    pub(super) then: Then,
    /// Whether the journal is to say until when.
    journaled: bool,
    /// What it waits for, in words, once that is known.
    pub(super) reason: Option<String>,
    asked: bool,
    /// Something has ended since it was asked.
    again: bool,
    /// What it waits for goes by these ids there, beside those that it is named by.
    also: Vec<EntityId>,
}

/// How long one may wait, and what becomes of it then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limit {
    pub(super) wait_max_us: Option<i64>,
    pub(super) then: Then,
    /// Until when at most, where it has waited since before the hub was started.
    pub(super) to_us: Option<i64>,
    /// Whether the journal is to say until when.
    pub(super) journaled: bool,
}

/// What those go by that wait for something at the same destinations. It stands while one of these gets nothing: then nothing
/// can arrive, and nobody has waited too long for it.
#[derive(Debug)]
struct Clock {
    at: Vec<String>,
    stood_us: i64,
    stands: bool,
    /// Who has waited for too long by then.
    until: BTreeSet<(i64, String)>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Patience {
    by_id: BTreeMap<String, Wait>,
    by_age: BTreeSet<(i64, String)>,
    clocks: Vec<Clock>,
    looked_at_us: Option<i64>,
    /// Who was the last to look again in its turn.
    turn: String,
    /// Who is asked about next.
    next: VecDeque<String>,
    /// Of how many it is known what they wait for.
    known: usize,
    pub(super) ear: Arc<Ear>,
}

impl Clock {
    fn shows_us(&self, now_us: i64) -> i64 {
        now_us.saturating_sub(self.stood_us)
    }
}

impl Patience {
    pub(super) fn with(ear: Arc<Ear>) -> Self {
        Self { ear, ..Self::default() }
    }

    /// One begins to wait, or goes on where another one of its entity has waited `before`. Since when it does.
    pub(super) fn begin(
        &mut self,
        id: &str,
        (event, before): (Position, Option<Since>),
        needs: Vec<Need>,
        limit: Limit,
        now_us: i64,
    ) -> Since {
        self.end(id);
        let since = self.since(before, &needs, now_us);
        let least_us = since.shown_us.saturating_add(GRACE_US);
        let to_us = limit.to_us.map_or(i64::MAX, |to_us| self.clocks[since.clock].shows_us(to_us).max(least_us));
        let until_us = limit.wait_max_us.map(|wait_us| since.shown_us.saturating_add(wait_us).min(to_us));
        if let Some(until_us) = until_us {
            self.clocks[since.clock].until.insert((until_us, id.to_owned()));
        }
        needs.iter().for_each(|need| self.ear.listen(&need.id, id));
        let Limit { then, journaled, .. } = limit;
        let (reason, also) = (None, Vec::new());
        let wait = Wait { event, needs, since, until_us, then, journaled, reason, asked: false, again: false, also };
        self.by_id.insert(id.to_owned(), wait);
        self.by_age.insert((since.at_us, id.to_owned()));
        self.ask(id);
        since
    }

    fn since(&mut self, before: Option<Since>, needs: &[Need], now_us: i64) -> Since {
        let mut at: Vec<String> = needs.iter().map(|need| need.destination.clone()).collect();
        at.sort_unstable();
        at.dedup();
        let clock = self.clocks.iter().position(|clock| clock.at == at).unwrap_or_else(|| {
            self.clocks.push(Clock { at, stood_us: 0, stands: false, until: BTreeSet::new() });
            self.clocks.len() - 1
        });
        let shows_us = self.clocks[clock].shows_us(now_us);
        match before.and_then(|before| Some((before, self.clocks.get(before.clock)?))) {
            None => Since { at_us: now_us, clock, shown_us: shows_us },
            Some((before, old)) => {
                let waited_us = old.shows_us(now_us).saturating_sub(before.shown_us);
                Since { at_us: before.at_us, clock, shown_us: shows_us.saturating_sub(waited_us) }
            }
        }
    }

    /// One waits no more.
    pub(super) fn end(&mut self, id: &str) -> Option<Wait> {
        let wait = self.by_id.remove(id)?;
        wait.needs.iter().map(|need| &need.id).chain(&wait.also).for_each(|awaited| self.ear.stop(awaited, id));
        self.by_age.remove(&(wait.since.at_us, id.to_owned()));
        if let Some(until_us) = wait.until_us {
            self.clocks[wait.since.clock].until.remove(&(until_us, id.to_owned()));
        }
        self.known -= usize::from(wait.reason.is_some());
        Some(wait)
    }

    /// Which events may wait until when, of those for which the journal is to say so and that do so for longer than that.
    pub(super) fn journaled(&self, after_us: i64) -> impl Iterator<Item = (Position, i64)> {
        let journaled = self.by_id.values().filter(|wait| wait.journaled && wait.until_us.is_some());
        journaled.map(|wait| (wait.event, self.until_us(wait))).filter(move |(_, until_us)| *until_us > after_us)
    }

    /// Whether one waits with this event.
    pub(super) fn waits_with(&self, id: &str, event: Position) -> bool {
        self.by_id.get(id).is_some_and(|wait| wait.event == event)
    }

    /// When one has waited for too long, as things are; 0 where it waits for as long as it takes.
    fn until_us(&self, wait: &Wait) -> i64 {
        wait.until_us.map_or(0, |until_us| until_us.saturating_add(self.clocks[wait.since.clock].stood_us))
    }

    /// It is known why one waits. Where that is news: when it has waited for too long.
    pub(super) fn waits_for(&mut self, id: &str, reason: &str) -> Option<i64> {
        let wait = self.by_id.get_mut(id).filter(|wait| wait.reason.as_deref() != Some(reason))?;
        self.known += usize::from(wait.reason.is_none());
        wait.reason = Some(reason.to_owned());
        self.by_id.get(id).map(|wait| self.until_us(wait))
    }

    /// What one waits for goes by other ids than it is named by. Where that is news it is asked again: it may have ended since.
    pub(super) fn goes_by(&mut self, id: &str, found: Vec<EntityId>) {
        let Some(wait) = self.by_id.get_mut(id).filter(|wait| wait.also != found) else { return };
        wait.also.iter().for_each(|awaited| self.ear.stop(awaited, id));
        found.iter().for_each(|awaited| self.ear.listen(awaited, id));
        wait.also = found;
        self.ask(id);
    }

    /// Somebody is to be asked about.
    pub(super) fn ask(&mut self, id: &str) {
        if let Some(wait) = self.by_id.get_mut(id) {
            if wait.asked {
                wait.again = true;
            } else {
                wait.asked = true;
                self.next.push_back(id.to_owned());
            }
        }
    }

    /// Who is asked about next.
    pub(super) fn next(&mut self) -> Option<(&String, &Wait)> {
        while let Some(id) = self.next.pop_front() {
            if self.by_id.contains_key(&id) {
                return self.by_id.get_key_value(&id);
            }
        }
        None
    }

    /// The answer has come. It is asked again where something has ended since.
    pub(super) fn answered(&mut self, id: &str) {
        if let Some(wait) = self.by_id.get_mut(id) {
            wait.asked = false;
            if std::mem::take(&mut wait.again) {
                self.ask(id);
            }
        }
    }

    /// So many look again that have not for the longest.
    pub(super) fn look_again(&mut self, most: usize) -> Vec<String> {
        let after = (Bound::Excluded(std::mem::take(&mut self.turn)), Bound::Unbounded);
        let again: Vec<String> = self.by_id.range(after).take(most).map(|(id, _)| id.clone()).collect();
        // From the beginning again where these were the last.
        self.turn = again.last().filter(|_| again.len() == most).cloned().unwrap_or_default();
        again.iter().for_each(|id| self.ask(id));
        again
    }

    pub(super) fn needs(&self, id: &str) -> Vec<Need> {
        self.by_id.get(id).map(|wait| wait.needs.clone()).unwrap_or_default()
    }

    /// The clocks go on, or stand where a destination gets nothing. Who waits for longer now than was said: the event and
    /// until when.
    pub(super) fn pass(&mut self, now_us: i64, stands: impl Fn(&str) -> bool) -> Vec<(String, Position, String, i64)> {
        let passed_us = self.looked_at_us.replace(now_us).map_or(0, |last_us| now_us.saturating_sub(last_us).max(0));
        let mut later = Vec::new();
        for number in 0..self.clocks.len() {
            let clock = &mut self.clocks[number];
            let stood = std::mem::replace(&mut clock.stands, clock.at.iter().any(|name| stands(name)));
            if stood || clock.stands {
                clock.stood_us = clock.stood_us.saturating_add(passed_us);
            }
            if stood && !clock.stands {
                let clock = &self.clocks[number];
                later.extend(clock.until.iter().filter_map(|(_, id)| {
                    let wait = self.by_id.get(id)?;
                    Some((id.clone(), wait.event, wait.reason.clone()?, self.until_us(wait)))
                }));
            }
        }
        later
    }

    /// Whether the time stands of some for which the journal is to say until when they may wait.
    pub(super) fn stands_for_the_journal(&self) -> bool {
        let is_journaled = |(_, id): &(i64, String)| self.by_id.get(id).is_some_and(|wait| wait.journaled);
        self.clocks.iter().any(|clock| clock.stands && clock.until.iter().any(is_journaled))
    }

    /// One that has waited for too long.
    pub(super) fn over(&self, now_us: i64) -> Option<String> {
        let first = |clock: &Clock| {
            let (until_us, id) = clock.until.first().filter(|_| !clock.stands)?;
            (*until_us <= clock.shows_us(now_us)).then(|| id.clone())
        };
        self.clocks.iter().find_map(first)
    }

    /// The one that has waited longest.
    pub(super) fn oldest(&self) -> Option<String> {
        self.by_age.first().map(|(_, id)| id.clone())
    }

    /// Of how many it is known what they wait for, and some of them, the oldest first.
    pub(super) fn shown(&self, most: usize) -> (usize, Vec<Waiting>) {
        let known = self.by_age.iter().filter_map(|(_, id)| Some((id, self.by_id.get(id)?)));
        let known = known.filter_map(|(id, wait)| {
            Some(Waiting {
                event: wait.event,
                entity: id.clone(),
                reason: wait.reason.clone()?,
                since_us: wait.since.at_us,
            })
        });
        (self.known, known.take(most).collect())
    }
}

#[cfg(test)]
mod tests;
