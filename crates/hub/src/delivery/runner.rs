//! A destination's runner: reads events, keeps a bounded window of them under way, lets the pure
//! `delivery::next` say what follows each attempt, and reports to the loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use lockstep_connect::destination::{BatchLimits, Destination};
use lockstep_core::Event;
use lockstep_core::delivery::{AttemptResult, Gate, Permit};
use lockstep_core::record::{Attempt, DeadLetterEnd, Progress};
use tokio::time::MissedTickBehavior;

use crate::delivery::attempt::{Flight, attempt};
use crate::delivery::queue::{Item, Window};
use crate::delivery::start::origin;
use crate::delivery::{DeliveryOptions, Down, Ends, Flow, Health, Phase, Report, ReportBody, Retry};
use crate::handle::HubHandle;
use crate::reading::{EventStream, StreamItem};
use crate::stats::now_us;
use crate::tally::DestinationTally;

/// How often the log is told of deliveries that were given up.
pub(super) const WARN_EVERY: Duration = Duration::from_secs(10);
/// How long a delivery under way is waited for at shutdown.
const END_WAIT: Duration = Duration::from_secs(5);
/// A wait for a retry that is longer is journaled, so that a restart goes on with it. A shorter one is not worth it: then
/// the event is tried again at once.
pub(super) const PARKED_AFTER_US: i64 = 2_000_000;
/// As many such waits are journaled.
const PARKED_MAX: usize = 1_024;

pub(super) struct Runner {
    pub(super) hub: HubHandle,
    pub(super) name: String,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) options: DeliveryOptions,
    pub(super) generation: u64,
    pub(super) window: Window,
    pub(super) gate: Gate,
    /// Where it counts as down.
    pub(super) down: Option<Down>,
    /// How several events go in one request, where they may.
    pub(super) batch: Option<BatchLimits>,
    /// Since when something has been ready and waits for more to go with it.
    pub(super) gathering_since_us: Option<i64>,
    pub(super) health: Arc<Health>,
    pub(super) stream: EventStream,
    pub(super) delivered: u64,
    pub(super) filtered: u64,
    pub(super) own_words: u64,
    pub(super) skipped: u64,
    /// Something else than a count has changed that must be journaled.
    pub(super) moved: bool,
    pub(super) paused: bool,
    /// Deliveries given up since the log was told, and when it was.
    pub(super) given_up: u64,
    pub(super) warned: Option<Instant>,
    /// Where it began, for when the journal does not even know it.
    pub(super) origin: (DestinationTally, u64),
}

/// Starts a runner.
pub(crate) fn spawn(
    hub: HubHandle,
    name: String,
    destination: Arc<dyn Destination>,
    options: DeliveryOptions,
    tally: Option<DestinationTally>,
) {
    let ends = hub.controls.register(&name, &options.system);
    tokio::spawn(async move {
        let mut skipped = 0;
        let tally = match tally {
            Some(tally) => tally,
            None => {
                let (tally, events_before) = origin(&hub, options.start).await;
                skipped = events_before;
                tally
            }
        };
        let stream = hub.stream(tally.cursor);
        let window = Window::after(&tally);
        let gate = Gate::new(&options.gate());
        let batch = destination.batch();
        ends.health.sent_to.fetch_max(tally.read_to, Ordering::Relaxed);
        let runner = Runner {
            hub,
            name,
            destination,
            options,
            generation: 0,
            window,
            gate,
            down: None,
            batch,
            gathering_since_us: None,
            health: ends.health.clone(),
            stream,
            delivered: 0,
            filtered: 0,
            own_words: 0,
            skipped,
            moved: false,
            paused: false,
            given_up: 0,
            warned: None,
            origin: (tally, skipped),
        };
        runner.run(ends).await;
    });
}

impl Runner {
    async fn run(mut self, ends: Ends) {
        let Ends { mut orders, mut phase, mut end, .. } = ends;
        let mut flying = FuturesUnordered::new();
        let mut report = tokio::time::interval(Duration::from_millis(self.options.report_interval_ms.max(1)));
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut wake_us = None;
            while !self.paused {
                match self.next(flying.len()) {
                    Ok(flight) => flying.push(attempt(self.generation, self.destination.clone(), flight)),
                    Err(until_us) => {
                        wake_us = until_us;
                        break;
                    }
                }
            }
            let room = self.window.events() < self.options.window_events_max
                && self.window.bytes() < self.options.window_bytes_max;
            let wake_in = wake_us.map(|at_us| (at_us - now_us()).max(0) as u64);
            tokio::select! {
                biased;
                changed = phase.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = phase.borrow_and_update().clone();
                    if matches!(&now, Phase::Running { generation, .. } if *generation != self.generation) {
                        // An attempt under way must not arrive after what is sent next.
                        let _ = tokio::time::timeout(END_WAIT, async { while flying.next().await.is_some() {} }).await;
                        flying.clear();
                    }
                    self.enter(now);
                },
                done = end.recv() => {
                    // What is under way may finish: fewer deliveries have to be repeated.
                    while let Ok(Some(done)) = tokio::time::timeout(END_WAIT, flying.next()).await {
                        self.take(done, flying.len());
                    }
                    self.report_progress();
                    if let Some(done) = done {
                        // The asker may have gone.
                        let _ = done.send(());
                    }
                    return;
                },
                Some(Retry { event, record, by }) = orders.recv(), if room && !self.paused => {
                    if let Err(error) = self.retry_by_hand(event, record, by).await {
                        tracing::error!(destination = self.name, event, error = &error as &dyn std::error::Error, "a dead letter can't be sent again");
                    }
                },
                Some(done) = flying.next(), if !flying.is_empty() => self.take(done, flying.len()),
                () = tokio::time::sleep(Duration::from_micros(wake_in.unwrap_or(0))), if !self.paused && wake_in.is_some() => {}
                _ = report.tick() => {
                    self.report_progress();
                    self.show_flow();
                }
                read = self.stream.next(), if room && !self.paused => match read {
                    Ok(StreamItem::Events(events)) => self.take_events(events),
                    Err(error) => {
                        tracing::error!(destination = self.name, error = &error as &dyn std::error::Error, "events can't be read; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
            }
        }
    }

    /// What to send now; if nothing, when there is something to be done that nothing else wakes for.
    fn next(&mut self, under_way: usize) -> Result<Flight, Option<i64>> {
        loop {
            let now = now_us();
            self.window.wake(now);
            let retry_us = self.window.next_retry_us();
            let retries_at_us = match self.gate.permit(under_way, now) {
                Permit::Wait(None) => return Err(None),
                Permit::Wait(Some(at_us)) if self.window.is_ready(true) => return Err(Some(at_us)),
                // With nothing to send, it is the next event that wakes.
                Permit::Wait(Some(at_us)) => return Err(retry_us.map(|retry_us| retry_us.max(at_us))),
                Permit::Send { retries_at_us } => retries_at_us,
            };
            let with_retries = retries_at_us.is_none();
            if let Some(until_us) = self.gathering(with_retries, now) {
                return Err(Some(retry_us.map_or(until_us, |retry_us| retry_us.min(until_us))));
            }
            let flight = self.gather(with_retries);
            if let Some((id, first)) = flight.first() {
                self.gathering_since_us = None;
                self.gate.sent(hash(id), first.round > 0, now);
                return Ok(flight);
            }
            if !self.window.is_ready(with_retries) {
                let held_us = retries_at_us.filter(|_| self.window.due() > 0);
                return Err([retry_us, held_us].into_iter().flatten().min());
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
            self.health.sent_to.fetch_max(item.event.position, Ordering::Relaxed);
            let Some((id, item)) = self.prepare(id, item) else { continue };
            if item.together_max > 0 {
                most = most.min(item.together_max);
            }
            bytes += item.prepared.as_ref().map_or(0, |prepared| prepared.body.len());
            flight.push((id, item));
        }
        flight
    }

    fn take_events(&mut self, events: Vec<Arc<Event>>) {
        for event in events {
            if self.window.is_settled(event.position) {
                continue;
            }
            let bytes = bytes_of(&event);
            let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
            self.window.add(id.into(), Item::new(event, bytes));
        }
        self.window.read_to(self.stream.position());
    }

    /// Filters and maps. What is kept back or can't be mapped is settled here.
    fn prepare(&mut self, id: String, mut item: Item) -> Option<(String, Item)> {
        if item.manual.is_some() && self.window.overtaken(&id, item.event.position) {
            self.close(&item, DeadLetterEnd::Superseded);
            self.window.settle(&id, &item, false);
            return None;
        }
        if item.prepared.is_some() {
            return Some((id, item));
        }
        match self.destination.prepare(&item.event) {
            Ok(Some(prepared)) => {
                item.prepared = Some(Arc::new(prepared));
                return Some((id, item));
            }
            Ok(None) if item.manual.is_some() => self.close(&item, DeadLetterEnd::Discarded),
            Ok(None) => {
                self.filtered += 1;
                self.own_words += u64::from(self.destination.keeps_own_word(&item.event));
            }
            Err(error) => {
                item.attempted(Attempt {
                    number: item.number + 1,
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

    /// Journals how far it has come. Only when something was settled: a progress record alone must not cause
    /// the next one.
    pub(super) fn report_progress(&mut self) {
        if !self.moved && self.delivered == 0 && self.filtered == 0 && self.skipped == 0 {
            return;
        }
        self.moved = false;
        let progress = Progress {
            destination: self.name.clone(),
            cursor: self.window.cursor(),
            open: self.window.open().into_iter().collect(),
            delivered: std::mem::take(&mut self.delivered),
            filtered: std::mem::take(&mut self.filtered),
            own_words: std::mem::take(&mut self.own_words),
            skipped: std::mem::take(&mut self.skipped),
            read_to: self.window.seen_to(),
            parked: self.window.parked(now_us() + PARKED_AFTER_US, PARKED_MAX),
        };
        self.tell(ReportBody::Progress(progress));
    }

    /// Shows how it goes at the moment.
    pub(super) fn show_flow(&self) {
        let retries_held = self.window.due();
        *self.health.flow() = Flow { down: self.down.clone(), concurrency: self.gate.concurrency(), retries_held };
    }

    pub(super) fn tell(&self, body: ReportBody) {
        self.hub.report(Report { generation: self.generation, body });
    }

    fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Stopped => self.paused = true,
            Phase::Running { generation, tally } => {
                if generation != self.generation {
                    let (tally, skipped) = tally.map_or_else(|| self.origin.clone(), |tally| (tally, 0));
                    self.generation = generation;
                    self.stream = self.hub.stream(tally.cursor);
                    self.window = Window::after(&tally);
                    (self.delivered, self.filtered, self.own_words, self.skipped) = (0, 0, 0, skipped);
                    // A probe under way was abandoned with everything else.
                    self.gate.abandoned();
                }
                self.paused = false;
            }
        }
    }
}

/// What tells entities apart at the gate.
pub(super) fn hash(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

/// What an event takes in memory, roughly.
pub(super) fn bytes_of(event: &Event) -> usize {
    let fields = event.fact.fields.iter().chain(&event.fact.rest);
    let raw = event.fact.raw.as_ref().map_or(0, |raw| raw.body.len());
    512 + raw + fields.map(|f| f.name.len() + f.json.len() + 96).sum::<usize>()
}
