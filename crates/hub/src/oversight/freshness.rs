//! How fresh each domain is at each destination: observed once in a while, judged by the pure core, said when it changes.

use std::collections::{BTreeMap, HashMap};

use lockstep_core::Event;
use lockstep_core::decide::HUB;
use lockstep_core::freshness::{FRESHNESS_KIND, Freshness, Observed, Rate, State, Verdict, Why, breach_in_s};
use serde_json::{Value, json};

use super::said;
use crate::DeadLetterFilter;
use crate::handle::HubHandle;
use crate::reading::{EventStream, StreamItem};
use crate::stats::now_us;
use crate::tally::DestinationTally;

/// The name of the hub itself among the destinations.
pub(crate) const HERE: &str = "@hub";
/// Over how long the latest word of a source counts, microseconds: twice this at most.
const LATELY_US: i64 = 30_000_000;
/// How many dead letters of a destination are looked at for their domains, and how many at a time.
const DEAD_MAX: usize = 5_000;
const DEAD_STEP: usize = 500;
/// A reader that is so many records behind leaves out what is between.
const BEHIND_MAX: u64 = 100_000;

/// How fresh a domain is at a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct FreshnessRow {
    /// The destination; `@hub` is the hub itself, as its readers see it.
    pub destination: String,
    /// The domain: a kind of entities.
    pub domain: String,
    /// Its limit, microseconds.
    pub limit_us: i64,
    /// The state, and why.
    pub verdict: Verdict,
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
    /// What it follows from.
    pub seen: Observed,
    /// In how many seconds the limit will be exceeded if things go on like this; `None` where it will not.
    pub breach_in_s: Option<f64>,
}

/// A domain at a destination over time.
struct Place {
    freshness: Freshness,
    /// What was last said of it.
    said: Verdict,
}

/// How late sources were lately, the greatest of two spans.
#[derive(Default)]
struct Late {
    span: i64,
    now_us: i64,
    before_us: i64,
}

#[derive(Default)]
struct Rates {
    arrival: Rate,
    drain: Rate,
}

/// What of a destination's dead letters was counted, and when: they are counted again where the sums have changed.
#[derive(Default)]
struct Dead {
    sums: (u64, u64, u64, i64),
    by_kind: HashMap<String, (u64, u64)>,
}

/// See the module.
pub(super) struct Watcher {
    limits_us: BTreeMap<String, i64>,
    places: BTreeMap<(String, String), Place>,
    /// What was said before the hub was started; `None` until that was read.
    known: Option<BTreeMap<String, (Verdict, i64)>>,
    stream: EventStream,
    late: BTreeMap<String, Late>,
    rates: BTreeMap<String, Rates>,
    dead: BTreeMap<String, Dead>,
}

impl Late {
    fn take(&mut self, late_us: i64, now_us: i64) {
        self.at(now_us);
        self.now_us = self.now_us.max(late_us);
    }

    fn at(&mut self, now_us: i64) -> i64 {
        let span = now_us.div_euclid(LATELY_US);
        if span != self.span {
            self.before_us = if span == self.span + 1 { self.now_us } else { 0 };
            (self.span, self.now_us) = (span, 0);
        }
        self.now_us.max(self.before_us)
    }
}

impl Watcher {
    pub(super) fn new(hub: &HubHandle, limits_us: BTreeMap<String, i64>) -> Self {
        Self {
            limits_us,
            places: BTreeMap::new(),
            known: None,
            stream: hub.stream(hub.bounds().next - 1),
            late: BTreeMap::new(),
            rates: BTreeMap::new(),
            dead: BTreeMap::new(),
        }
    }

    /// Takes in the next events: how late their sources told of them. Without limits there is nothing to know.
    pub(super) async fn follow(&mut self) {
        if self.limits_us.is_empty() {
            return std::future::pending().await;
        }
        match self.stream.next().await {
            Ok(StreamItem::Events(events)) => events.iter().for_each(|event| self.take(event)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "events can't be read to judge their freshness"
                );
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }

    fn take(&mut self, event: &Event) {
        let fact = &event.fact;
        if fact.system != HUB && self.limits_us.contains_key(&fact.kind) {
            let late_us = fact.received_at_us.saturating_sub(fact.occurred_at_us);
            self.late.entry(fact.kind.clone()).or_default().take(late_us, event.recorded_at_us);
        }
    }

    /// Looks at everything, says what has changed, and gives how it is. `None` where that can't be said now.
    pub(super) async fn look(&mut self, hub: &HubHandle, now_us: i64) -> Option<Vec<FreshnessRow>> {
        if self.limits_us.is_empty() {
            return Some(Vec::new());
        }
        if self.stream.behind() > BEHIND_MAX {
            self.stream = hub.stream(hub.bounds().next - 1);
        }
        if self.known.is_none() {
            match said::all(hub, FRESHNESS_KIND).await {
                Ok(all) => self.known = Some(all.iter().filter_map(|said| remembered(said)).collect()),
                Err(error) => {
                    tracing::warn!(%error, "how fresh destinations were can't be read; trying again");
                    return None;
                }
            }
        }
        // One that was taken out of the configuration is to have nothing any more.
        let names = hub.destinations();
        let tallies = hub.stats().tallies();
        let blocked =
            hub.stats().poisoned().is_some() || hub.stats().disk_full.load(std::sync::atomic::Ordering::Relaxed);
        let domains: Vec<(String, i64)> = self.limits_us.iter().map(|(kind, limit)| (kind.clone(), *limit)).collect();
        let mut rows = Vec::new();
        for (domain, limit_us) in &domains {
            let seen = Observed { blocked, source_late_us: self.late_us(domain, now_us), ..Observed::default() };
            rows.push(self.judge(HERE, domain, *limit_us, (seen, None), now_us));
        }
        for name in names {
            let tally = tallies.destinations.get(&name).cloned().unwrap_or_default();
            let dead = self.dead_of(hub, &name, &tally).await;
            let pending = tally.pending(tallies.published).max(0) as f64;
            let rates = self.rates.entry(name.clone()).or_default();
            rates.arrival.take(tallies.published, now_us);
            rates.drain.take(tally.accounted(), now_us);
            let (arrival, drain) = (rates.arrival.per_s(), rates.drain.per_s());
            let down = hub.destinations_down().contains_key(&name);
            let paused = hub.is_paused_by_hand(&name);
            for (domain, limit_us) in &domains {
                let behind_us = hub.behind_us(&name, domain, pending as u64, now_us);
                let (refused, unmapped) = dead.get(domain).copied().unwrap_or_default();
                let seen = Observed {
                    blocked,
                    paused,
                    down,
                    retrying: hub.is_retrying(&name, domain),
                    behind_us,
                    refused,
                    unmapped,
                    source_late_us: self.late_us(domain, now_us),
                };
                let breach = breach_in_s(*limit_us, behind_us, pending, arrival, drain);
                rows.push(self.judge(&name, domain, *limit_us, (seen, breach), now_us));
            }
        }
        self.announce(hub, &rows).await;
        Some(rows)
    }

    fn late_us(&mut self, domain: &str, now_us: i64) -> i64 {
        self.late.get_mut(domain).map_or(0, |late| late.at(now_us))
    }

    fn judge(
        &mut self,
        destination: &str,
        domain: &str,
        limit_us: i64,
        (seen, breach_in_s): (Observed, Option<f64>),
        now_us: i64,
    ) -> FreshnessRow {
        let key = (destination.to_owned(), domain.to_owned());
        let place = self.places.entry(key).or_insert_with(|| {
            let known = self.known.as_ref().and_then(|known| known.get(&key_of(destination, domain)));
            let (verdict, since_us) = known.copied().unwrap_or((Verdict::default(), now_us));
            Place { freshness: Freshness::new(verdict, since_us), said: verdict }
        });
        place.freshness.take(limit_us, &seen, now_us);
        FreshnessRow {
            destination: destination.to_owned(),
            domain: domain.to_owned(),
            limit_us,
            verdict: place.freshness.verdict(),
            since_us: place.freshness.since_us(),
            seen,
            breach_in_s,
        }
    }

    /// Says what is not as it was last said. What can't be said now is said when it can.
    async fn announce(&mut self, hub: &HubHandle, rows: &[FreshnessRow]) {
        for row in rows {
            let Some(place) = self.places.get_mut(&(row.destination.clone(), row.domain.clone())) else { continue };
            if place.said == row.verdict {
                continue;
            }
            let fields = vec![
                ("destination", json!(row.destination)),
                ("domain", json!(row.domain)),
                ("limit_s", json!(row.limit_us as f64 / 1e6)),
                ("since", json!(lockstep_connect::time::format_rfc3339(row.since_us))),
                ("since_us", json!(row.since_us)),
                ("state", json!(row.verdict.state.name())),
                ("why", row.verdict.why.map_or(Value::Null, |why| json!(why.name()))),
            ];
            match said::say(hub, FRESHNESS_KIND, &key_of(&row.destination, &row.domain), fields).await {
                Ok(()) => place.said = row.verdict,
                Err(error) => {
                    tracing::debug!(%error, "how fresh a destination is can't be said now");
                    return;
                }
            }
        }
    }

    /// The open dead letters of a destination by domain: refused or not taken, and not mapped.
    async fn dead_of(&mut self, hub: &HubHandle, name: &str, tally: &DestinationTally) -> HashMap<String, (u64, u64)> {
        let dead = self.dead.entry(name.to_owned()).or_default();
        // One that ended in the moment in which another began leaves the sums as they were: so again after a while.
        let sums = (tally.dead, tally.discarded, tally.superseded, now_us() / LATELY_US);
        if dead.sums == sums {
            return dead.by_kind.clone();
        }
        if tally.dead == 0 {
            *dead = Dead { sums, by_kind: HashMap::new() };
            return HashMap::new();
        }
        let (mut by_kind, mut after, mut looked_at) = (HashMap::<String, (u64, u64)>::new(), None, 0);
        while looked_at < DEAD_MAX {
            let destination = Some(name.to_owned());
            let filter = DeadLetterFilter { destination, after, limit: DEAD_STEP, ..DeadLetterFilter::default() };
            // What can't be asked now is asked when it is looked at again.
            let Ok(page) = hub.dead_letters(filter).await else { return dead.by_kind.clone() };
            looked_at += page.items.len();
            for row in &page.items {
                let counts = by_kind.entry(row.kind.clone()).or_default();
                *(if row.reason == "poison" { &mut counts.1 } else { &mut counts.0 }) += 1;
            }
            after = page.items.last().map(|row| (row.destination.clone(), row.event));
            if !page.more {
                break;
            }
        }
        *dead = Dead { sums, by_kind };
        dead.by_kind.clone()
    }
}

fn key_of(destination: &str, domain: &str) -> String {
    format!("{domain}/{destination}")
}

fn remembered(said: &lockstep_core::Entity) -> Option<(String, (Verdict, i64))> {
    let state = State::of_name(&said::text(said, "state"))?;
    let why = Why::of_name(&said::text(said, "why"));
    let since_us = said::value(said, "since_us").as_i64().unwrap_or_else(now_us);
    Some((said.key.to_string(), (Verdict { state, why }, since_us)))
}
