//! Events that wait until what they are about has arrived: a price for its product.
//!
//! The first event of a key that waits stands aside with all behind it, and the hub is asked where the awaited entity
//! stands. Asked again is whenever something of that entity ends at the destination that it is awaited at, and in turn now
//! and then, for what no runner says: a dead letter that a person has given up. Nothing of it is journaled but until when each
//! may wait: the events are open, and after a restart it is asked anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use lockstep_core::delivery::{Awaited, Step, Then, WaitsFor};
use lockstep_core::record::{self, Attempt};
use lockstep_core::{EntityId, Position};

use crate::delivery::board::Parked;
use crate::delivery::degrading::Mode;
use crate::delivery::ear::Ear;
use crate::delivery::patience::{Limit, Need, Patience};
use crate::delivery::queue::Item;
use crate::delivery::runner::Runner;
use crate::delivery::{DeliveryOptions, Waiting};
use crate::handle::HubHandle;
use crate::stats::now_us;

/// How many questions are asked at once.
const LOOKS_MAX: usize = 32;
/// How often some of those that wait look again without having heard anything, and how many.
const AGAIN_EVERY: Duration = Duration::from_secs(1);
const AGAIN_MAX: usize = 64;
/// So many times what is under way may stand aside. What has waited longest of more than that has waited too long.
const ASIDE_TIMES: usize = 4;
/// So many waits may end at a time: each that becomes a dead letter is told of on its own, and others are to have their turn.
const ENDS_MAX: usize = 256;
/// How many of those that wait are shown.
const SHOWN_MAX: usize = 20;
/// How often the journal is told until when those may wait whose time stands.
const TOLD_EVERY_US: i64 = 60_000_000;

/// Those that wait at a destination.
pub(super) struct Waits {
    rules: Vec<WaitsFor>,
    patience: Patience,
    asked: usize,
    pub(super) ear: Arc<Ear>,
    /// The destinations at which it hears.
    heard_at: HashSet<String>,
    looked_again: Option<Instant>,
    /// For how long nothing could arrive here since the runner began, and when that was last looked at.
    rested_us: i64,
    tended_us: Option<i64>,
    /// When the journal was last told of those whose time stands.
    told_us: Option<i64>,
}

/// What was found of one that waits.
pub(super) struct Looked {
    generation: u64,
    id: String,
    event: Position,
    /// Why it still waits; `None` where it does not. Nothing where nobody could say.
    found: Option<Option<String>>,
    /// The ids of what it waits for, where it is named by others.
    also: Vec<EntityId>,
}

impl Waits {
    pub(super) fn new(options: &DeliveryOptions) -> Self {
        let ear = Arc::<Ear>::default();
        Self {
            rules: options.waits_for.clone(),
            patience: Patience::with(ear.clone()),
            asked: 0,
            ear,
            heard_at: HashSet::new(),
            looked_again: None,
            rested_us: 0,
            tended_us: None,
            told_us: None,
        }
    }

    /// Everything was given up.
    pub(super) fn forget(&mut self) {
        self.ear.forget();
        (self.patience, self.asked) = (Patience::with(self.ear.clone()), 0);
    }
}

impl Waits {
    /// Until when those may wait that do so for longer than that, for the journal.
    pub(super) fn parked(&self, after_us: i64) -> impl Iterator<Item = record::Parked> {
        self.patience.journaled(after_us).map(|(event, again_at_us)| record::Parked {
            event,
            again_at_us,
            ..record::Parked::default()
        })
    }
}

impl Runner {
    /// Lets an event wait where it has to. Nothing where it may go.
    pub(super) fn wait(&mut self, id: &str, mut item: Item) -> Option<Item> {
        if self.waits.rules.is_empty() || item.waited || item.manual.is_some() {
            return Some(item);
        }
        let (mut needs, mut limit) = (Vec::new(), Limit::default());
        for rule in &self.waits.rules {
            let Some(key) = rule.key_of(&item.event) else { continue };
            let is_less = |wait_us| limit.wait_max_us.is_none_or(|least_us| wait_us < least_us);
            if rule.wait_max_us.is_some_and(is_less) || needs.is_empty() {
                limit = Limit { wait_max_us: rule.wait_max_us, then: rule.then, ..limit };
            }
            let (id, destination) = (rule.entity(&key), rule.destination.clone());
            needs.push(Need { destination, kind: rule.awaited.clone(), key, id });
        }
        if needs.is_empty() {
            return Some(item);
        }
        // One that has waited since before a restart has no more time than before; of one that was tried the journal is to keep
        // how often.
        limit.to_us = item.waits_to_us.map(|to_us| to_us.saturating_add(self.waits.rested_us));
        limit.journaled = item.number == 0 && item.replay.is_none();
        self.moved |= limit.journaled && limit.wait_max_us.is_some();
        self.hear(&needs);
        let of = (item.event.position, item.waits_since);
        item.waits_since = Some(self.waits.patience.begin(id, of, needs, limit, now_us()));
        // It is made again: what waits for long takes less room so.
        self.window.set_aside(id, Item { prepared: None, ..item });
        None
    }

    /// Hears of what ends where it is waited for.
    fn hear(&mut self, needs: &[Need]) {
        for need in needs {
            // One that is not running yet is heard later.
            if !self.waits.heard_at.contains(&need.destination)
                && let Some((health, _)) = self.hub.controls.health(&need.destination)
            {
                health.board.heard_by(self.waits.ear.clone());
                self.waits.heard_at.insert(need.destination.clone());
            }
        }
    }

    /// The next question to be asked.
    pub(super) fn next_look(&mut self) -> Option<BoxFuture<'static, Looked>> {
        if self.waits.asked >= LOOKS_MAX {
            return None;
        }
        let (id, wait) = self.waits.patience.next()?;
        self.waits.asked += 1;
        Some(Box::pin(look(self.hub.clone(), self.generation, id.clone(), wait.event, wait.needs.clone())))
    }

    /// Takes the answer to a question.
    pub(super) fn looked(&mut self, looked: Looked) {
        let Looked { generation, id, event, found, also } = looked;
        if generation != self.generation {
            return;
        }
        self.waits.asked -= 1;
        let is_aside = self.window.aside(&id).is_some_and(|item| item.event.position == event);
        if !self.waits.patience.waits_with(&id, event) {
            return;
        }
        // A newer event may have taken its place.
        if !is_aside {
            self.waits.patience.end(&id);
            return;
        }
        match found {
            Some(None) => {
                self.waits.patience.end(&id);
                self.health.board.waits_no_more(&id, event);
                if let Some(item) = self.window.aside(&id) {
                    item.waits_since = None;
                }
                self.go(&id, event);
            }
            Some(Some(reason)) => {
                if let Some(next_us) = self.waits.patience.waits_for(&id, &reason) {
                    self.health.board.parked(&id, Parked { position: event, attempts: 0, next_us, detail: reason });
                }
                self.waits.patience.goes_by(&id, also);
                self.waits.patience.answered(&id);
            }
            // It is asked again in its turn.
            None => self.waits.patience.answered(&id),
        }
    }

    /// Lets an event go that has waited.
    fn go(&mut self, id: &str, event: Position) {
        if let Some(item) = self.window.aside(id).filter(|item| item.event.position == event) {
            item.waited = true;
            self.window.call_back(id);
        }
    }

    /// Those look again of whose awaited entities something has ended.
    pub(super) fn heard(&mut self) {
        for id in self.waits.ear.take() {
            self.waits.patience.ask(&id);
        }
    }

    /// Whether so much waits that the oldest has waited too long; until it is gone nothing more is taken up.
    pub(super) fn is_aside_full(&self) -> bool {
        let (events_max, bytes_max) = (self.options.window_events_max, self.options.window_bytes_max);
        self.window.aside.events > events_max.saturating_mul(ASIDE_TIMES)
            || self.window.aside.bytes > bytes_max.saturating_mul(ASIDE_TIMES)
    }

    /// Whether nothing at all is sent, not even probes.
    fn is_at_rest(&self) -> bool {
        let is_paused = |mode: Mode| mode.step == Step::Pause && (mode.by_hand || self.gate.open().is_none());
        self.paused || self.mode.is_none_or(is_paused)
    }

    /// What is to be done now and then: some look again, and of too many the oldest has waited too long.
    pub(super) fn tend_waits(&mut self) {
        let now = now_us();
        // While the flow is paused or a destination down, nothing can arrive: that time does not count.
        let own_stands =
            self.is_at_rest() || self.mode.is_some_and(|mode| mode.step == Step::Pause) || self.gate.open().is_some();
        let controls = &self.hub.controls;
        let later =
            self.waits.patience.pass(now, |name| own_stands || name != self.name && controls.gets_nothing(name));
        // The journal is to know it too, now and then while it lasts.
        self.moved |= !later.is_empty();
        let passed_us = self.waits.tended_us.replace(now).map_or(0, |last_us| now.saturating_sub(last_us).max(0));
        if own_stands {
            self.waits.rested_us = self.waits.rested_us.saturating_add(passed_us);
        }
        if self.waits.told_us.is_none_or(|told_us| now - told_us >= TOLD_EVERY_US) {
            self.waits.told_us = Some(now);
            self.moved |= self.waits.patience.stands_for_the_journal();
        }
        for (id, position, detail, next_us) in later {
            self.health.board.parked(&id, Parked { position, attempts: 0, next_us, detail });
        }
        let mut left = ENDS_MAX;
        while left > 0
            && let Some(id) = self.waits.patience.over(now)
        {
            self.wait_is_over(&id, "it has waited as long as `wait_max_s` lets it");
            left -= 1;
        }
        while left > 0
            && self.is_aside_full()
            && !self.is_at_rest()
            && let Some(id) = self.waits.patience.oldest()
        {
            self.wait_is_over(&id, "it has waited longest of too many that wait here");
            left -= 1;
        }
        if self.waits.looked_again.is_none_or(|last| last.elapsed() >= AGAIN_EVERY) {
            self.waits.looked_again = Some(Instant::now());
            for id in self.waits.patience.look_again(AGAIN_MAX) {
                let needs = self.waits.patience.needs(&id);
                self.hear(&needs);
            }
        }
    }

    /// Before the end the journal is told until when those may wait whose time stands.
    pub(super) fn tell_of_waits(&mut self) {
        self.tend_waits();
        self.moved |= self.waits.patience.stands_for_the_journal();
    }

    /// An event has waited too long.
    fn wait_is_over(&mut self, id: &str, why: &str) {
        let Some(wait) = self.waits.patience.end(id) else { return };
        self.health.board.waits_no_more(id, wait.event);
        if wait.then == Then::Send {
            return self.go(id, wait.event);
        }
        let is_it = self.window.aside(id).is_some_and(|item| item.event.position == wait.event);
        if let Some(mut item) = is_it.then(|| self.window.take_aside(id)).flatten() {
            let needs = wait.reason.unwrap_or_else(|| format!("waits for {}", wait.needs[0].name()));
            item.attempted(Attempt {
                number: item.number + 1,
                at_us: now_us(),
                detail: format!("{needs}; {why}: nothing was sent"),
                ..Attempt::default()
            });
            self.dead_letter(&item, "waited");
            self.window.settle(id, &item, false);
        }
    }

    /// Some of those that wait, the oldest first, and how many there are.
    pub(super) fn waiting(&self) -> (usize, Vec<Waiting>) {
        self.waits.patience.shown(SHOWN_MAX)
    }
}

impl Need {
    fn name(&self) -> String {
        format!("{} {}", self.kind, self.key)
    }
}

/// Why an event still waits, if it does.
async fn look(hub: HubHandle, generation: u64, id: String, event: Position, needs: Vec<Need>) -> Looked {
    let mut looked = Looked { generation, id, event, found: Some(None), also: Vec::new() };
    for need in needs {
        let (name, to) = (need.name(), &need.destination);
        let answer = hub.awaited(to, (&need.kind, &need.key), event).await.map(|(awaited, found)| {
            // It may be called otherwise, or be merged into another one: then it is that one of which something ends.
            looked.also.extend(found.filter(|found| *found != need.id));
            awaited
        });
        match answer {
            Ok(Awaited::Arrived) => continue,
            Ok(Awaited::Absent) => {
                looked.found = Some(Some(format!("waits for {name}, which is not published to `{to}` yet")))
            }
            Ok(Awaited::Open(at)) => {
                looked.found =
                    Some(Some(format!("waits for {name}, of which event {at} is still to arrive at `{to}`")));
            }
            Ok(Awaited::Dead(at)) => {
                looked.found = Some(Some(format!("waits for {name}, of which event {at} is a dead letter of `{to}`")));
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "what is awaited can't be looked up now");
                looked.found = None;
            }
        }
        break;
    }
    looked
}
