//! What is counted while the demo runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use hdrhistogram::Histogram;
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::AttemptResult;
use lockstep_hub::now_us;

/// A counter that many tasks add to.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// Counts several.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one system has done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Changes made by the generator.
    pub(crate) offered: Counter,
    /// Changes put on the wire for the first time.
    pub(crate) sent: Counter,
    /// Changes that need not be sent any more: acknowledged, refused or given up.
    pub(crate) finished: Counter,
    /// Changes acknowledged as recorded.
    pub(crate) accepted: Counter,
    /// Changes acknowledged as seen before.
    pub(crate) duplicates: Counter,
    /// Changes acknowledged as quarantined.
    pub(crate) quarantined: Counter,
    /// Requests sent again, as they were not acknowledged.
    pub(crate) retried: Counter,
    /// Requests that the hub answered 429.
    pub(crate) throttled: Counter,
    /// Requests that the hub refused for good: none should be.
    pub(crate) refused: Counter,
    /// What the hub said to the first of them.
    pub(crate) refusal: OnceLock<String>,
    /// Faults made on purpose when sending.
    pub(crate) faults_sent: Counter,
    /// Deliveries that arrived.
    pub(crate) received: Counter,
    /// Of these, with a good signature.
    pub(crate) verified: Counter,
    /// Of these, without: answered 401.
    pub(crate) rejected: Counter,
    /// Of these, not to be understood: answered 400.
    pub(crate) malformed: Counter,
    /// Of these, seen before by their id.
    pub(crate) repeated: Counter,
    /// Of these, older than what the copy has.
    pub(crate) stale: Counter,
    /// Orders that it has heard of and is going to ship.
    pub(crate) to_ship: Counter,
    /// Faults made on purpose when receiving.
    pub(crate) faults_received: Counter,
    /// Its deliveries, from the webhook's receipt by the hub to the answer.
    pub(crate) latency: Latency,
}

/// Latencies in microseconds.
#[derive(Debug)]
pub(crate) struct Latency(Mutex<Histogram<u64>>);

/// The longest latency that is told apart: ten minutes.
const LATENCY_US_MAX: u64 = 600_000_000;

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3);
        // The bounds are constants that the library takes.
        Self(Mutex::new(histogram.unwrap_or_else(|_| unreachable!("the bounds of the histogram are valid"))))
    }
}

/// What is told of a latency.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p95_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

impl Latency {
    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one.
    pub(crate) fn record(&self, us: u64) {
        self.lock().saturating_record(us);
    }

    /// Adds all of this one's to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Histogram<u64>) {
        // Equal bounds can't fail.
        let _ = sum.add(&*self.lock());
    }

    /// The percentiles so far.
    pub(crate) fn percentiles(&self) -> Percentiles {
        Percentiles::of(&self.lock())
    }

    /// The percentiles of several together.
    pub(crate) fn together<'a>(all: impl Iterator<Item = &'a Latency>) -> Percentiles {
        let sum = Latency::default();
        for one in all {
            one.add_to(&mut sum.lock());
        }
        sum.percentiles()
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { count: histogram.len(), p50_us: at(0.50), p95_us: at(0.95), p99_us: at(0.99), max_us: histogram.max() }
    }
}

/// A destination with a clock: how long each delivery took from the receipt of what caused it.
///
/// A dead letter sent again by hand is not timed: it waited for a person.
pub(crate) struct Measured {
    inner: Arc<dyn Destination>,
    counters: Arc<Counters>,
    attempts_max: u32,
    /// When the hub received what these events on their way are about.
    received_at_us: Mutex<HashMap<String, i64>>,
}

impl Measured {
    /// Measures a destination whose deliveries are given up after so many attempts.
    pub(crate) fn new(inner: Arc<dyn Destination>, counters: Arc<Counters>, attempts_max: u32) -> Self {
        Self { inner, counters, attempts_max, received_at_us: Mutex::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.received_at_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Destination for Measured {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let prepared = self.inner.prepare(event)?;
        if let Some(prepared) = &prepared {
            self.under_way().insert(prepared.id.clone(), event.fact.received_at_us);
        }
        Ok(prepared)
    }

    async fn send(&self, prepared: &Prepared, attempt: u32) -> Sent {
        let sent = self.inner.send(prepared, attempt).await;
        let delivered = sent.result == AttemptResult::Delivered;
        if delivered || attempt >= self.attempts_max {
            let received_at_us = self.under_way().remove(&prepared.id);
            if let Some(received_at_us) = received_at_us
                && delivered
                && attempt <= self.attempts_max
            {
                self.counters.latency.record((now_us() - received_at_us).max(0) as u64);
            }
        }
        sent
    }
}
