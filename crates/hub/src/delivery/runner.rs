//! A destination's runner: reads events, keeps a bounded window of them under way, lets the pure
//! `delivery::next` say what follows each attempt, and reports to the loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use lockstep_connect::destination::{BatchLimits, Destination};
use lockstep_core::delivery::{Figures, Gate, LastMinute, Step};
use lockstep_core::record::Progress;
use lockstep_core::{Event, Position};
use tokio::time::MissedTickBehavior;

use crate::delivery::attempt::attempt;
use crate::delivery::degrading::{Mode, keep};
use crate::delivery::held::Room;
use crate::delivery::queue::{Share, Window};
use crate::delivery::start::origin;
use crate::delivery::waiting::Waits;
use crate::delivery::{Condition, DeliveryOptions, Down, Ends, Health, Phase, ReplayOrder, Report, ReportBody, Retry};
use crate::handle::HubHandle;
use crate::reading::{EventStream, ReadError, StreamItem};
use crate::stats::now_us;
use crate::tally::DestinationTally;

/// How often the log is told of deliveries that were given up.
pub(super) const WARN_EVERY: Duration = Duration::from_secs(10);
/// How long a delivery under way is waited for at shutdown.
const END_WAIT: Duration = Duration::from_secs(5);
/// A wait for a retry that is longer is journaled, so that a restart goes on with it. A shorter one is not worth it: then
/// the event is tried again at once.
pub(super) const PARKED_AFTER_US: i64 = 2_000_000;
/// Retries by hand, and replayed events, each get this part of the window: however many they are, live events go on
/// beside them.
const SHARE: usize = 4;
/// As many such waits are journaled.
const PARKED_MAX: usize = 1_024;

/// What there is to be taken up.
enum More {
    Order(Retry),
    Replay(ReplayOrder),
    Read(Result<StreamItem, ReadError>),
}

pub(super) struct Runner {
    pub(super) hub: HubHandle,
    pub(super) name: String,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) options: DeliveryOptions,
    pub(super) generation: u64,
    pub(super) window: Window,
    pub(super) gate: Gate,
    /// Those that wait until something else has arrived.
    pub(super) waits: Waits,
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
    /// Which events a newer one of their entity stands for.
    pub(super) superseded: Vec<Position>,
    pub(super) skipped: u64,
    /// Events looked at for the first time.
    pub(super) taken: u64,
    /// Something else than a count has changed that must be journaled.
    pub(super) moved: bool,
    /// The journal knows what is open up to here, and has been told of everything that has ended.
    pub(super) reported_to: Position,
    pub(super) paused: bool,
    /// How much is to be sent: nothing before that is known.
    pub(super) mode: Option<Mode>,
    pub(super) under_way: usize,
    pub(super) last_minute: LastMinute,
    /// When it was last shown how it goes.
    figured_us: i64,
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
    let (ends, keeping) = hub.controls.register(&name, &options, destination.clone());
    tokio::spawn(keep(hub.clone(), name.clone(), keeping));
    tokio::spawn(async move {
        let mut skipped = 0;
        let tally = match tally {
            Some(tally) => tally,
            None => {
                let (tally, events_before) = origin(&hub, &name, options.start).await;
                skipped = events_before;
                tally
            }
        };
        hub.take_up_replays(&name);
        let stream = hub.stream(tally.cursor);
        let window = Window::after(&tally, options.cadence.clone());
        let gate = Gate::new(&options.gate());
        let waits = Waits::new(&options);
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
            waits,
            down: None,
            batch,
            gathering_since_us: None,
            health: ends.health.clone(),
            stream,
            delivered: 0,
            filtered: 0,
            own_words: 0,
            superseded: Vec::new(),
            skipped,
            taken: 0,
            moved: false,
            reported_to: 0,
            paused: false,
            mode: None,
            under_way: 0,
            last_minute: LastMinute::default(),
            figured_us: 0,
            given_up: 0,
            warned: None,
            origin: (tally, skipped),
        };
        runner.run(ends).await;
    });
}

impl Runner {
    async fn run(mut self, ends: Ends) {
        let Ends { mut orders, mut replays, mut phase, mut cadence, mut mode, mut end, .. } = ends;
        self.set_mode(*mode.borrow_and_update());
        let (mut flying, mut looks) = (FuturesUnordered::new(), FuturesUnordered::new());
        let ear = self.waits.ear.clone();
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
            self.under_way = flying.len();
            while let Some(look) = self.next_look() {
                looks.push(look);
            }
            let Room { room, is_full, by_hand } = self.room();
            let has_share = |share: Share| {
                share.events < (self.options.window_events_max / SHARE).max(1)
                    && share.bytes < (self.options.window_bytes_max / SHARE).max(1)
            };
            let takes_orders = by_hand && !self.paused && has_share(self.window.by_hand());
            let takes_replays = by_hand && !self.paused && has_share(self.window.replayed());
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
                // Its other end is kept as long as this runs.
                Ok(()) = mode.changed() => self.set_mode(*mode.borrow_and_update()),
                Ok(()) = cadence.changed() => {
                    self.options.cadence = cadence.borrow_and_update().clone();
                    self.set_mode(self.mode);
                },
                done = end.recv() => {
                    // What is under way may finish: fewer deliveries have to be repeated.
                    while let Ok(Some(done)) = tokio::time::timeout(END_WAIT, flying.next()).await {
                        self.take(done, flying.len());
                    }
                    self.tell_of_waits();
                    self.report_progress();
                    if let Some(done) = done {
                        // The asker may have gone.
                        let _ = done.send(());
                    }
                    return;
                },
                Some(done) = flying.next(), if !flying.is_empty() => self.take(done, flying.len()),
                Some(looked) = looks.next(), if !looks.is_empty() => self.looked(looked),
                () = ear.rings() => self.heard(),
                () = tokio::time::sleep(Duration::from_micros(wake_in.unwrap_or(0))), if !self.paused && wake_in.is_some() => {}
                _ = report.tick() => {
                    self.tend_waits();
                    self.report_progress();
                    self.show_condition();
                    self.show_figures(is_full);
                }
                // None of these three before the others: an order takes its time, and there may be thousands of them.
                more = async {
                    tokio::select! {
                        Some(order) = orders.recv(), if takes_orders => More::Order(order),
                        Some(order) = replays.recv(), if takes_replays => More::Replay(order),
                        read = self.stream.next(), if room && !self.paused => More::Read(read),
                        else => std::future::pending().await,
                    }
                } => self.take_more(more).await,
            }
        }
    }

    async fn take_more(&mut self, more: More) {
        match more {
            More::Order(Retry { event, record, by }) => {
                if let Err(error) = self.retry_by_hand(event, record, by).await {
                    tracing::error!(
                        destination = self.name,
                        event,
                        error = &error as &dyn std::error::Error,
                        "a dead letter can't be sent again"
                    );
                }
            }
            More::Replay(order) => self.window.replay(order),
            More::Read(Ok(StreamItem::Events(events))) => self.take_events(events),
            More::Read(Err(error)) => {
                tracing::error!(
                    destination = self.name,
                    error = &error as &dyn std::error::Error,
                    "events can't be read; trying again"
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Journals how far it has come. Only when something was settled: a progress record alone must not cause
    /// the next one.
    pub(super) fn report_progress(&mut self) {
        let is_new = self.delivered > 0 || self.filtered > 0 || self.skipped > 0 || !self.superseded.is_empty();
        if !self.moved && !is_new {
            return;
        }
        self.moved = false;
        let parked_after_us = now_us() + PARKED_AFTER_US;
        let mut parked = self.window.parked(parked_after_us, PARKED_MAX);
        parked.extend(self.waits.parked(parked_after_us).take(PARKED_MAX.saturating_sub(parked.len())));
        parked.sort_by_key(|parked| parked.event);
        let progress = Progress {
            destination: self.name.clone(),
            cursor: self.window.cursor(),
            open: self.window.open().into_iter().collect(),
            delivered: std::mem::take(&mut self.delivered),
            filtered: std::mem::take(&mut self.filtered),
            own_words: std::mem::take(&mut self.own_words),
            superseded: std::mem::take(&mut self.superseded),
            skipped: std::mem::take(&mut self.skipped),
            read_to: self.window.seen_to(),
            taken: Some(std::mem::take(&mut self.taken)),
            parked,
        };
        self.reported_to = progress.read_to;
        self.tell(ReportBody::Progress(progress));
    }

    /// Shows how it goes at the moment.
    pub(super) fn show_condition(&self) {
        let retries_held = self.window.due();
        let (down, concurrency) = (self.down.clone(), self.gate.concurrency());
        let ((held, held_to_us), (waiting, waits)) = (self.window.held(), self.waiting());
        let (under_way, step) = (self.under_way, self.mode.map_or(Step::Pause, |mode| mode.step));
        *self.health.condition() =
            Condition { down, concurrency, retries_held, under_way, step, held, held_to_us, waiting, waits };
    }

    /// How much is to be sent from now on.
    fn set_mode(&mut self, mode: Option<Mode>) {
        self.mode = mode;
        let cadence = mode.and_then(|mode| mode.cadence(&self.options.cadence));
        self.set_cadence(cadence.unwrap_or_else(|| self.options.cadence.clone()));
        self.show_condition();
    }

    /// Shows the figures by which it is decided how much is to be sent.
    fn show_figures(&mut self, is_full: bool) {
        let now_us = now_us();
        let every_us = i64::try_from(self.options.degrade_interval_ms).unwrap_or(i64::MAX).saturating_mul(1_000);
        if (0..every_us).contains(&now_us.saturating_sub(self.figured_us)) {
            return;
        }
        self.figured_us = now_us;
        // Where all that there is room for waits for retries, what is behind it waits for them too. What is held may not go.
        let (held, _) = self.window.held();
        let since_us = self.window.waiting_since_us(now_us);
        let since_us = since_us.or_else(|| {
            let oldest = self.health.board.oldest().filter(|_| is_full && held == 0 && self.window.aside.events == 0);
            oldest.map(|(_, at_us)| at_us)
        });
        let for_s = |since_us: i64| now_us.saturating_sub(since_us).max(0) as f64 / 1e6;
        let (failing_percent, latency_ms) = self.last_minute.figures(now_us);
        *self.health.figures() = Figures {
            lag_s: since_us.map_or(0.0, for_s),
            pending: 0,
            failing_percent,
            latency_ms,
            down_s: self.gate.open().map_or(0.0, |open| for_s(open.since_us)),
        };
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
                    self.health.board.forget();
                    self.stream = self.hub.stream(tally.cursor);
                    self.window = Window::after(&tally, self.window.cadence.clone());
                    (self.delivered, self.filtered, self.own_words, self.skipped) = (0, 0, 0, skipped);
                    (self.taken, self.reported_to) = (0, 0);
                    self.superseded.clear();
                    self.waits.forget();
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
