//! Delivery: one ordered stream of events a destination, keys in parallel, outcomes reported back to the loop
//! and journaled. What is delivered and not yet journaled is delivered again after a crash, with the same id.

mod apart;
mod arrived;
mod aside;
mod attempt;
mod board;
mod by_hand;
mod degrading;
mod ear;
mod flow;
mod held;
mod outcome;
mod patience;
mod propagation;
mod queue;
mod replay;
mod replay_queue;
mod runner;
mod scheduled;
mod sending;
mod settled;
mod start;
mod waiting;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_connect::destination::Destination;
use lockstep_core::delivery::{
    BreakerPolicy, BudgetPolicy, Cadence, Cause, DegradePolicy, Figures, GatePolicy, LimitPolicy, PacePolicy,
    RetryPolicy, Step, WaitsFor,
};
use lockstep_core::record::{DeadLetterClosed, DeadLettered, Progress};
use lockstep_core::{Position, SentTo};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use crate::delivery::degrading::{Keeping, Mode};
use crate::replays::Replays;
use crate::tally::DestinationTally;

pub use board::{Parked, Watch};
pub use degrading::{FlowError, FlowMode};
pub use flow::Flow;
pub use propagation::{Propagated, PropagationError, Reached, Standing, Unreached, WATCHED_MAX};
pub(crate) use queue::ATTEMPTS_MAX;
pub(crate) use replay::Replay;
pub(crate) use replay_queue::ReplayOrder;
pub(crate) use runner::spawn as spawn_runner;
pub(crate) use scheduled::spawn as spawn_scheduled;

/// Where a destination that the hub has not known begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first event that the journal has.
    #[default]
    Beginning,
    /// With the next event.
    Now,
    /// With the newest event of each entity, then with the next event.
    State,
}

/// How to deliver to one destination.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// The system that it leads to.
    pub system: String,
    /// When to try again, and how often.
    pub retry: RetryPolicy,
    /// When it counts as down.
    pub breaker: BreakerPolicy,
    /// How many retries it may get.
    pub budget: BudgetPolicy,
    /// How many requests it may get in a time.
    pub pace: PacePolicy,
    /// The most requests under way at once.
    pub concurrency_max: usize,
    /// Whether fewer are under way when its latency rises or requests fail.
    pub adaptive: bool,
    /// Latencies below it are all the same to that.
    pub latency_floor_ms: u64,
    /// The most events taken up and not settled; the others wait in the journal.
    pub window_events_max: usize,
    /// The most bytes of such events.
    pub window_bytes_max: usize,
    /// How often progress is journaled.
    pub report_interval_ms: u64,
    /// When it goes a step down by itself, and back.
    pub degrade: DegradePolicy,
    /// How often that is looked at.
    pub degrade_interval_ms: u64,
    /// Where it begins when it is new.
    pub start: Start,
    /// When events go.
    pub cadence: Cadence,
    /// Which events wait until what they are about has arrived.
    pub waits_for: Vec<WaitsFor>,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            system: String::new(),
            retry: RetryPolicy::default(),
            breaker: BreakerPolicy::default(),
            budget: BudgetPolicy::default(),
            pace: PacePolicy::default(),
            concurrency_max: 32,
            adaptive: true,
            latency_floor_ms: LimitPolicy::default().latency_floor_ms,
            window_events_max: 4_096,
            window_bytes_max: 8 * 1024 * 1024,
            report_interval_ms: 100,
            degrade: DegradePolicy::default(),
            degrade_interval_ms: 1_000,
            start: Start::Beginning,
            cadence: Cadence::Live,
            waits_for: Vec::new(),
        }
    }
}

impl DeliveryOptions {
    /// What decides when something may be sent.
    fn gate(&self) -> GatePolicy {
        let Self { retry, breaker, budget, pace, adaptive, latency_floor_ms, .. } = self.clone();
        let concurrency_max = u32::try_from(self.concurrency_max).unwrap_or(u32::MAX);
        GatePolicy { retry, breaker, budget, pace, limit: LimitPolicy { concurrency_max, adaptive, latency_floor_ms } }
    }
}

/// A destination that gets nothing but single probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
    /// Why.
    pub cause: Cause,
    /// What the last attempt came to, in one sentence.
    pub detail: String,
    /// When the next probe may be sent, microseconds since 1970 UTC.
    pub probe_at_us: i64,
}

/// What a destination is sent at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Where it counts as down: why, and since when.
    pub down: Option<Down>,
    /// How many requests may be under way at once as things are.
    pub concurrency: usize,
    /// Retries that are due and wait, because the retry budget is used up.
    pub retries_held: usize,
    /// How many requests are under way.
    pub under_way: usize,
    /// How much the runner sends.
    pub step: Step,
    /// Entities whose events are held until a window ends, or the schedule has its next time.
    pub held: usize,
    /// Until when the first of them is held, microseconds since 1970 UTC.
    pub held_to_us: Option<i64>,
    /// Entities whose events wait until another one has arrived.
    pub waiting: usize,
    /// Some of them, the oldest first.
    pub waits: Vec<Waiting>,
}

/// An event that waits until another entity has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The event.
    pub event: Position,
    /// Its entity's id.
    pub entity: String,
    /// What it waits for, in words.
    pub reason: String,
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
}

/// What a runner tells the loop.
pub(crate) struct Report {
    pub(crate) generation: u64,
    pub(crate) body: ReportBody,
}

pub(crate) enum ReportBody {
    Progress(Progress),
    DeadLettered(Box<DeadLettered>),
    Closed(DeadLetterClosed),
}

/// An operator's order: send a dead letter again.
#[derive(Clone)]
pub(crate) struct Retry {
    pub(crate) event: Position,
    pub(crate) record: Position,
    pub(crate) by: String,
}

/// What the loop lets runners do. Only the newest counts, so nothing can be lost by a full queue.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// From where the journal says; `None` where it has nothing of this destination yet. Another generation than
    /// before: forget everything under way, the journal does not have it.
    Running { generation: u64, tally: Option<DestinationTally> },
    /// The journal takes no records.
    Stopped,
}

/// How many orders of an operator may wait at one destination.
const ORDERS_MAX: usize = 1_024;

/// What a runner shows of itself.
#[derive(Debug, Default)]
pub(crate) struct Health {
    condition: Mutex<Condition>,
    /// How it goes, for what decides how much it gets.
    figures: Mutex<Figures>,
    /// The last event of which an attempt was made, or had been made before it began.
    pub(crate) sent_to: AtomicU64,
    /// What became of single events.
    pub(crate) board: board::Board,
}

impl Health {
    /// Since when it has counted as down, microseconds since 1970 UTC.
    fn down_since_us(&self) -> Option<i64> {
        self.condition().down.as_ref().map(|down| down.since_us)
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Line {
    system: String,
    destination: Arc<dyn Destination>,
    health: Arc<Health>,
    keeping: Arc<Keeping>,
    orders: mpsc::Sender<Retry>,
    /// Another time has come for a retry.
    retries: Arc<Notify>,
    phase: watch::Sender<Phase>,
    cadence: watch::Sender<Cadence>,
    end: mpsc::Sender<oneshot::Sender<()>>,
}

/// The runner's ends of a line.
pub(crate) struct Ends {
    health: Arc<Health>,
    /// How much is to be sent.
    mode: watch::Receiver<Option<Mode>>,
    orders: mpsc::Receiver<Retry>,
    replays: mpsc::Receiver<ReplayOrder>,
    phase: watch::Receiver<Phase>,
    cadence: watch::Receiver<Cadence>,
    /// Report what is done, say so, and end.
    end: mpsc::Receiver<oneshot::Sender<()>>,
}

/// The ways to the runners.
#[derive(Clone)]
pub(crate) struct Controls {
    lines: Arc<Mutex<BTreeMap<String, Line>>>,
    /// How much may be watched at once.
    watches: Arc<Semaphore>,
    pub(crate) replays: Replays,
}

impl Default for Controls {
    fn default() -> Self {
        let watches = Arc::new(Semaphore::new(WATCHED_MAX));
        Self { lines: Arc::default(), watches, replays: Replays::default() }
    }
}

impl Controls {
    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(
        &self,
        name: &str,
        options: &DeliveryOptions,
        destination: Arc<dyn Destination>,
    ) -> (Ends, Arc<Keeping>) {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        // A replay waits for room by itself.
        let (replayed, replays) = mpsc::channel(1);
        self.replays.attach(name, destination.clone(), replayed);
        let (phase, watching) = watch::channel(Phase::Running { generation: 0, tally: None });
        let (cadence, cadences) = watch::channel(Cadence::Live);
        let (end, ending) = mpsc::channel(1);
        let health = Arc::new(Health::default());
        let keeping = Keeping::new(options);
        let line = Line {
            system: options.system.clone(),
            destination,
            health: health.clone(),
            keeping: keeping.clone(),
            orders,
            retries: Arc::default(),
            phase,
            cadence,
            end,
        };
        self.lines().insert(name.to_owned(), line);
        let mode = keeping.mode();
        (Ends { health, mode, orders: ordered, replays, phase: watching, cadence: cadences, end: ending }, keeping)
    }

    /// How far events were sent to each system.
    pub(crate) fn sent(&self) -> SentTo {
        let mut sent = SentTo::new();
        for line in self.lines().values() {
            let to = line.health.sent_to.load(Ordering::Relaxed);
            let of_system = sent.entry(line.system.clone()).or_default();
            *of_system = to.max(*of_system);
        }
        sent
    }

    /// Since when each destination that counts as down does.
    pub(crate) fn down(&self) -> BTreeMap<String, i64> {
        self.lines().iter().filter_map(|(name, line)| Some((name.clone(), line.health.down_since_us()?))).collect()
    }

    /// Whether a destination is paused or down at the moment.
    fn gets_nothing(&self, name: &str) -> bool {
        let is_so = |line: &Line| {
            let condition = line.health.condition();
            condition.step == Step::Pause || condition.down.is_some()
        };
        self.lines().get(name).is_some_and(is_so)
    }

    /// What each destination is sent at the moment.
    pub(crate) fn conditions(&self) -> BTreeMap<String, Condition> {
        self.lines().iter().map(|(name, line)| (name.clone(), line.health.condition().clone())).collect()
    }

    /// On which step each flow is.
    fn modes(&self) -> BTreeMap<String, FlowMode> {
        self.lines().iter().map(|(name, line)| (name.clone(), line.keeping.shown().clone())).collect()
    }

    fn keeping(&self, name: &str) -> Option<Arc<Keeping>> {
        self.lines().get(name).map(|line| line.keeping.clone())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lines().keys().cloned().collect()
    }

    /// From now on events of a destination go so, until it is started again. Whether it is running.
    pub(crate) fn set_cadence(&self, name: &str, cadence: Cadence) -> bool {
        self.lines().get(name).map(|line| line.cadence.send_replace(cadence)).is_some()
    }

    /// What wakes whoever hands over retries of a destination when they are due.
    pub(crate) fn retries_wake(&self, name: &str) -> Option<Arc<Notify>> {
        self.lines().get(name).map(|line| line.retries.clone())
    }

    /// The plans for a destination's retries have changed.
    pub(crate) fn look_for_retries(&self, name: &str) {
        if let Some(line) = self.lines().get(name) {
            line.retries.notify_one();
        }
    }

    pub(crate) async fn retry(&self, name: &str, retry: Retry) -> bool {
        let orders = self.lines().get(name).map(|line| line.orders.clone());
        match orders {
            Some(orders) => orders.send(retry).await.is_ok(),
            None => false,
        }
    }

    /// From the loop, which never waits for a runner.
    pub(crate) fn phase_all(&self, phase: impl Fn(&str) -> Phase) {
        for (name, line) in self.lines().iter() {
            line.phase.send_replace(phase(name));
        }
    }

    /// Ends all runners, after a last report of what they have done.
    pub(crate) async fn stop(&self) {
        self.replays.end_all();
        // All at once: each may wait for what it has under way.
        let ends: Vec<_> = self.lines().values().map(|line| line.end.clone()).collect();
        let mut waiting = Vec::with_capacity(ends.len());
        for end in ends {
            let (done, ended) = oneshot::channel();
            if end.send(done).await.is_ok() {
                waiting.push(ended);
            }
        }
        for ended in waiting {
            // An error means that the runner has ended already.
            let _ = ended.await;
        }
    }
}
