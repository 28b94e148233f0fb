//! The time by which the loop goes: the machine's clocks, or one that a simulation moves by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::stats::now_us;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Time {
    Real,
    Virtual(Arc<VirtualTime>),
}

impl Time {
    /// Now, microseconds since 1970 UTC.
    pub(crate) fn now_us(&self) -> i64 {
        match self {
            Self::Real => now_us(),
            Self::Virtual(time) => time.now_us(),
        }
    }

    /// Now, to measure spans.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Virtual(time) => time.began + Duration::from_micros(time.now_us().abs_diff(time.start_us)),
        }
    }

    /// How long ago an instant was.
    pub(crate) fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }
}

/// A clock that stands still until it is moved. It outlives the hubs that go by it, as the world does.
#[derive(Debug)]
pub struct VirtualTime {
    /// An instant can't be made of a number: this one stands for `start_us`, and only differences are looked at.
    began: Instant,
    start_us: i64,
    now_us: AtomicI64,
}

impl VirtualTime {
    /// A clock that stands at `start_us`, microseconds since 1970 UTC.
    pub fn new(start_us: i64) -> Self {
        Self { began: Instant::now(), start_us, now_us: AtomicI64::new(start_us) }
    }

    /// Now, microseconds since 1970 UTC.
    pub fn now_us(&self) -> i64 {
        self.now_us.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.now_us.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }
}
