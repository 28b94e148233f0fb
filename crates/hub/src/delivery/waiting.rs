//! Events that wait until what they are about has arrived: a price for its product.
//!
//! The first event of a key that waits stands aside with all behind it, and the hub is asked where the awaited entity
//! stands. Asked again is whenever something of that entity ends at the destination that it is awaited at, and in turn now
//! and then, for what no runner says: a dead letter that a person has given up. Nothing of it is journaled but until when each
//! may wait: the events are open, and after a restart it is asked anew.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use lockstep_core::delivery::{Awaited, Then, WaitsFor};
use lockstep_core::record::{Attempt, Parked};
use lockstep_core::{EntityId, Position};

use crate::delivery::board;
use crate::delivery::ear::Ear;
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
/// So many notes of those that wait no more are no matter.
const TIDY_MIN: usize = 1_024;
/// How many of those that wait are shown.
const SHOWN_MAX: usize = 20;

/// What an event waits for.
#[derive(Clone, Debug)]
struct Need {
    destination: String,
    kind: String,
    key: String,
    id: EntityId,
}

struct Wait {
    event: Position,
    needs: Vec<Need>,
    since_us: i64,
    until_us: Option<i64>,
    then: Then,
    /// Whether the journal is to say until when.
    journaled: bool,
    /// What it waits for, in words, once that is known.
    reason: Option<String>,
    asked: bool,
    /// Something has ended since it was asked.
    again: bool,
}

/// Those that wait at a destination.
#[derive(Default)]
pub(super) struct Waits {
    rules: Vec<WaitsFor>,
    by_id: HashMap<String, Wait>,
    /// Who is asked about next.
    next: VecDeque<String>,
    asked: usize,
    /// In the order in which they began.
    began: VecDeque<(String, Position)>,
    until: BinaryHeap<Reverse<(i64, String)>>,
    pub(super) ear: Arc<Ear>,
    /// The destinations at which it hears.
    heard_at: HashSet<String>,
    looked_again: Option<Instant>,
}

/// What was found of one that waits.
pub(super) struct Looked {
    generation: u64,
    id: String,
    event: Position,
    /// Why it still waits; `None` where it does not. Nothing where nobody could say.
    found: Option<Option<String>>,
}

impl Waits {
    pub(super) fn new(options: &DeliveryOptions) -> Self {
        Self { rules: options.waits_for.clone(), ..Self::default() }
    }

    /// Everything was given up.
    pub(super) fn forget(&mut self) {
        self.ear.forget();
        *self = Self {
            rules: std::mem::take(&mut self.rules),
            ear: self.ear.clone(),
            heard_at: std::mem::take(&mut self.heard_at),
            ..Self::default()
        };
    }

    /// Lets go of what is noted of those that wait no more, once that is much.
    fn tidy(&mut self) {
        let Self { by_id, began, until, .. } = self;
        let most = 2 * by_id.len() + TIDY_MIN;
        if began.len() > most {
            began.retain(|(id, event)| by_id.get(id).is_some_and(|wait| wait.event == *event));
        }
        if until.len() > most {
            until.retain(|Reverse((at_us, id))| by_id.get(id).is_some_and(|wait| wait.until_us == Some(*at_us)));
        }
    }

    /// Until when those may wait that do so for longer than that, for the journal.
    pub(super) fn parked(&self, after_us: i64) -> impl Iterator<Item = Parked> {
        let journaled = self.by_id.values().filter(|wait| wait.journaled);
        journaled.filter_map(move |wait| {
            let again_at_us = wait.until_us.filter(|until_us| *until_us > after_us)?;
            Some(Parked { event: wait.event, again_at_us, ..Parked::default() })
        })
    }

    fn remove(&mut self, id: &str) -> Option<Wait> {
        let wait = self.by_id.remove(id)?;
        wait.needs.iter().for_each(|need| self.ear.stop(&need.id, id));
        Some(wait)
    }

    fn ask(&mut self, id: &str) {
        if let Some(wait) = self.by_id.get_mut(id) {
            if wait.asked {
                wait.again = true;
            } else {
                wait.asked = true;
                self.next.push_back(id.to_owned());
            }
        }
    }
}

impl Runner {
    /// Lets an event wait where it has to. Nothing where it may go.
    pub(super) fn wait(&mut self, id: &str, item: Item) -> Option<Item> {
        if self.waits.rules.is_empty() || item.waited || item.manual.is_some() {
            return Some(item);
        }
        let now = now_us();
        let (mut needs, mut until_us, mut then) = (Vec::new(), None, Then::default());
        for rule in &self.waits.rules {
            let Some(key) = rule.key_of(&item.event) else { continue };
            let at_us = rule.wait_max_us.map(|wait_us| now.saturating_add(wait_us));
            if at_us.is_some_and(|at_us| until_us.is_none_or(|until_us| at_us < until_us)) || needs.is_empty() {
                (until_us, then) = (at_us, rule.then);
            }
            let (id, destination) = (rule.entity(&key), rule.destination.clone());
            needs.push(Need { destination, kind: rule.awaited.clone(), key, id });
        }
        if needs.is_empty() {
            return Some(item);
        }
        if let Some(at_us) = until_us {
            // One that has waited since before a restart has no more time than before.
            until_us = Some(item.waits_to_us.map_or(at_us, |before_us| before_us.min(at_us)));
        }
        let event = item.event.position;
        // Of one that was tried the journal is to keep how often.
        let journaled = item.number == 0 && item.replay.is_none();
        self.moved |= journaled && until_us.is_some();
        // It is made again: what waits for long takes less room so.
        self.window.set_aside(id, Item { prepared: None, ..item });
        self.waits.remove(id);
        self.hear(&needs);
        for need in &needs {
            self.waits.ear.listen(&need.id, id);
        }
        if let Some(until_us) = until_us {
            self.waits.until.push(Reverse((until_us, id.to_owned())));
        }
        let (since_us, reason) = (now, None);
        let wait = Wait { event, needs, since_us, until_us, then, journaled, reason, asked: false, again: false };
        self.waits.by_id.insert(id.to_owned(), wait);
        self.waits.began.push_back((id.to_owned(), event));
        self.waits.ask(id);
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
        while self.waits.asked < LOOKS_MAX {
            let id = self.waits.next.pop_front()?;
            let Some(wait) = self.waits.by_id.get(&id) else { continue };
            self.waits.asked += 1;
            let (event, needs) = (wait.event, wait.needs.clone());
            return Some(Box::pin(look(self.hub.clone(), self.generation, id, event, needs)));
        }
        None
    }

    /// Takes the answer to a question.
    pub(super) fn looked(&mut self, looked: Looked) {
        let Looked { generation, id, event, found } = looked;
        if generation != self.generation {
            return;
        }
        self.waits.asked -= 1;
        // A newer event may have taken its place.
        if self.window.aside(&id).is_none_or(|item| item.event.position != event) {
            if self.waits.by_id.get(&id).is_some_and(|wait| wait.event == event) {
                self.waits.remove(&id);
            }
            return;
        }
        let Some(wait) = self.waits.by_id.get_mut(&id).filter(|wait| wait.event == event) else { return };
        wait.asked = false;
        match found {
            Some(None) => {
                self.waits.remove(&id);
                self.health.board.waits_no_more(&id, event);
                self.go(&id, event);
            }
            Some(Some(reason)) => {
                let (again, next_us) = (std::mem::take(&mut wait.again), wait.until_us.unwrap_or(0));
                if wait.reason.as_ref() != Some(&reason) {
                    wait.reason = Some(reason.clone());
                    self.health
                        .board
                        .parked(&id, board::Parked { position: event, attempts: 0, next_us, detail: reason });
                }
                if again {
                    self.waits.ask(&id);
                }
            }
            // It is asked again in its turn.
            None => {}
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
            self.waits.ask(&id);
        }
    }

    /// What is to be done now and then: some look again, and of too many the oldest has waited too long.
    pub(super) fn tend_waits(&mut self) {
        self.waits.tidy();
        let now = now_us();
        while let Some(Reverse((until_us, id))) = self.waits.until.peek().cloned()
            && until_us <= now
        {
            self.waits.until.pop();
            if self.waits.by_id.get(&id).is_some_and(|wait| wait.until_us == Some(until_us)) {
                self.wait_is_over(&id, "it has waited as long as `wait_max_s` lets it");
            }
        }
        let (events_max, bytes_max) = (self.options.window_events_max, self.options.window_bytes_max);
        while self.window.aside.events > events_max.saturating_mul(ASIDE_TIMES)
            || self.window.aside.bytes > bytes_max.saturating_mul(ASIDE_TIMES)
        {
            let Some((id, event)) = self.waits.began.pop_front() else { break };
            if self.waits.by_id.get(&id).is_some_and(|wait| wait.event == event) {
                self.wait_is_over(&id, "it has waited longest of too many that wait here");
            }
        }
        if self.waits.looked_again.is_none_or(|last| last.elapsed() >= AGAIN_EVERY) {
            self.waits.looked_again = Some(Instant::now());
            for _ in 0..AGAIN_MAX.min(self.waits.began.len()) {
                let Some((id, event)) = self.waits.began.pop_front() else { break };
                let Some(wait) = self.waits.by_id.get(&id).filter(|wait| wait.event == event) else { continue };
                let needs = wait.needs.clone();
                self.hear(&needs);
                self.waits.ask(&id);
                self.waits.began.push_back((id, event));
            }
        }
    }

    /// An event has waited too long.
    fn wait_is_over(&mut self, id: &str, why: &str) {
        let Some(wait) = self.waits.remove(id) else { return };
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
        let with_reason = self.waits.by_id.iter().filter_map(|(id, wait)| Some((id, wait, wait.reason.as_ref()?)));
        let mut all: Vec<_> = with_reason.collect();
        all.sort_by_key(|(_, wait, _)| wait.event);
        let shown = all.iter().take(SHOWN_MAX).map(|(id, wait, reason)| Waiting {
            event: wait.event,
            entity: (*id).clone(),
            reason: (*reason).clone(),
            since_us: wait.since_us,
        });
        (all.len(), shown.collect())
    }
}

impl Need {
    fn name(&self) -> String {
        format!("{} {}", self.kind, self.key)
    }
}

/// Why an event still waits, if it does.
async fn look(hub: HubHandle, generation: u64, id: String, event: Position, needs: Vec<Need>) -> Looked {
    let mut looked = Looked { generation, id, event, found: Some(None) };
    for need in needs {
        let (name, to) = (need.name(), &need.destination);
        match hub.awaited(to, (&need.kind, &need.key), event).await {
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
