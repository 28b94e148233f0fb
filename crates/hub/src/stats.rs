//! Figures that the hub gives of itself: counters without locks, latencies, readiness.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::stock::invariants::Invariants;
use crate::tally::Tallies;

/// Now, microseconds since 1970 UTC.
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// A latency as a histogram with fixed bounds (seconds), as Prometheus wants it.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; Latency::BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Latency {
    /// The upper bounds of the buckets, microseconds; beyond the last is one more bucket.
    pub const BOUNDS_US: [u64; 16] = [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000,
    ];

    /// Counts one.
    pub fn record_us(&self, us: u64) {
        let at = Self::BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The count of each bucket (not cumulative; one more than the bounds) and the sum in microseconds.
    pub fn snapshot(&self) -> (Vec<u64>, u64) {
        let counts = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        (counts, self.sum_us.load(Ordering::Relaxed))
    }
}

/// The hub's own figures.
#[derive(Debug, Default)]
pub struct Stats {
    /// The last decided record.
    pub decided: AtomicU64,
    /// The last durable record.
    pub durable: AtomicU64,
    /// The record up to which the state file stands.
    pub flushed: AtomicU64,
    /// Bytes of inputs waiting for the loop.
    pub queue_bytes: AtomicU64,
    /// Journal appends.
    pub batches: AtomicU64,
    /// From an input's arrival at the loop's queue to its durable answer.
    pub commit: Latency,
    /// One journal append with its sync.
    pub append: Latency,
    /// From a delivery's receipt at intake to its acknowledged delivery at a destination.
    pub end_to_end: Latency,
    /// Bytes of clean entities in memory.
    pub cache_bytes: AtomicU64,
    /// Bytes of changed entities that the state file does not have yet.
    pub dirty_bytes: AtomicU64,
    /// Requests answered "saturated".
    pub saturated: AtomicU64,
    /// Deliveries with a missing, wrong or stale signature: nothing is kept of them but this.
    pub unauthentic: AtomicU64,
    /// When the loop last came round, microseconds since 1970 UTC; it does so at least every second.
    pub loop_alive_us: AtomicI64,
    /// Whether the disk is full.
    pub disk_full: AtomicBool,
    pub(crate) poisoned: Mutex<Option<String>>,
    pub(crate) stuck: Mutex<Vec<String>>,
    pub(crate) tallies: Mutex<Tallies>,
    pub(crate) incomplete: Mutex<Vec<IncompleteFigure>>,
    pub(crate) invariants: Mutex<Invariants>,
}

/// The incomplete entities of a kind: nobody is told of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteFigure {
    /// The kind.
    pub kind: String,
    /// How many there are.
    pub count: u64,
    /// The key of the oldest, and since when it is incomplete (microseconds since 1970 UTC).
    pub oldest: Option<(String, i64)>,
    /// How long one may be so before it is reported, microseconds; none is for ever.
    pub limit_us: Option<i64>,
}

impl IncompleteFigure {
    /// How long the oldest has been incomplete, microseconds.
    pub fn age_us(&self, now_us: i64) -> i64 {
        self.oldest.as_ref().map_or(0, |(_, since_us)| now_us.saturating_sub(*since_us).max(0))
    }

    /// What to tell where one has been incomplete for longer than it may.
    pub fn overdue(&self, now_us: i64) -> Option<String> {
        let (key, _) = self.oldest.as_ref()?;
        let age_us = self.age_us(now_us);
        let limit_us = self.limit_us.filter(|limit_us| age_us > *limit_us)?;
        Some(format!(
            "{} incomplete: nobody is told of `{}/{key}` for {} s, more than the {} s allowed",
            self.count,
            self.kind,
            age_us / 1_000_000,
            limit_us / 1_000_000
        ))
    }
}

/// Whether the hub makes progress, and what is stuck where it does not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    /// Whether writes are accepted and get through.
    pub ready: bool,
    /// What is stuck, one sentence each.
    pub stuck: Vec<String>,
}

impl Stats {
    /// The sums as of the last batch.
    pub fn tallies(&self) -> Tallies {
        self.tallies.lock().map(|t| t.clone()).unwrap_or_default()
    }

    /// Looks at the sums as of the last batch, without copying them.
    pub(crate) fn with_tallies<T>(&self, look: impl FnOnce(&Tallies) -> T) -> T {
        look(&self.tallies.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The incomplete entities, as of the last second.
    pub fn incomplete(&self) -> Vec<IncompleteFigure> {
        self.incomplete.lock().map(|figures| figures.clone()).unwrap_or_default()
    }

    /// The invariants of stock, as of the last figures.
    pub fn invariants(&self) -> Invariants {
        self.invariants.lock().map(|told| told.clone()).unwrap_or_default()
    }

    /// Why the journal takes no more records, where a write has failed.
    pub fn poisoned(&self) -> Option<String> {
        self.poisoned.lock().ok().and_then(|p| p.clone())
    }

    /// Progress, not liveness. What a destination does is told, and does not make the hub unready: a dead
    /// destination must not take the hub out of its load balancer.
    pub fn readiness(&self) -> Readiness {
        let mut stuck = Vec::new();
        let mut ready = true;
        if self.disk_full.load(Ordering::Relaxed) {
            ready = false;
            stuck.push("the disk of the data folder is full: writes are refused until there is space".to_owned());
        }
        if let Some(cause) = self.poisoned() {
            ready = false;
            stuck.push(format!("the journal is poisoned by a failed write ({cause}): start the hub again"));
        }
        let idle_us = now_us() - self.loop_alive_us.load(Ordering::Relaxed);
        if idle_us > 10_000_000 {
            ready = false;
            stuck.push(format!("the loop has not come round for {} s", idle_us / 1_000_000));
        }
        for violation in self.tallies().violations() {
            ready = false;
            stuck.push(format!("conservation is broken: {violation}"));
        }
        if let Ok(more) = self.stuck.lock() {
            stuck.extend(more.iter().cloned());
        }
        // A sum of one SKU that is wrong is told too, and the hub goes on: nobody else could take its place, and every
        // other SKU would be out of sale with it.
        stuck.extend(self.invariants().sentences());
        // What sources have left open is told; it does not keep the hub from its work.
        stuck.extend(self.incomplete().iter().filter_map(|figure| figure.overdue(now_us())));
        Readiness { ready, stuck }
    }
}
