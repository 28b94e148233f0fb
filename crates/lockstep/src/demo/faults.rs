//! Faults made on purpose, by a seed: what real systems do to each other.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::party::Party;

/// How long a system is out at a time: long enough for some deliveries to use up their retries.
const OUTAGE: Duration = Duration::from_millis(1_500);
/// How many deliveries the first outage fails at least, however long that takes on a machine that is busy.
const FAILED_MIN: u64 = 100;
/// From the begin of one outage of a system to the begin of its next.
const OUTAGE_EVERY: Duration = Duration::from_secs(9);

/// What a receiving system does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    /// What it should.
    Well,
    /// It has a fault of its own: 500, nothing taken.
    Fails,
    /// It cuts the connection before it has taken anything.
    CutsBefore,
    /// It takes the delivery and cuts the connection before it answers.
    CutsAfter,
    /// It is slow.
    Slow(Duration),
}

/// What a sending system does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// What it should.
    Well,
    /// It waits before it sends, so that others overtake it.
    Late(Duration),
    /// It cuts the connection and does not hear the answer.
    Cuts(Duration),
    /// It sends again what was acknowledged.
    Twice,
}

/// The faults of one system.
#[derive(Debug)]
pub(crate) struct Faults {
    random: Mutex<fastrand::Rng>,
    began: Instant,
    first_outage: Duration,
    outages: AtomicBool,
    /// How many deliveries outages have failed.
    failed: AtomicU64,
}

impl Faults {
    /// The faults of this system; equal seeds roll equal dice.
    pub(crate) fn new(party: Party, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ ((party.index() as u64 + 1) << 32));
        let first_ms = 500 + 1_700 * party.index() as u64 + random.u64(..400);
        Self {
            random: Mutex::new(random),
            began: Instant::now(),
            first_outage: Duration::from_millis(first_ms),
            outages: AtomicBool::new(true),
            failed: AtomicU64::new(0),
        }
    }

    /// From now on there are no more outages, only single faults.
    pub(crate) fn end_outages(&self) {
        self.outages.store(false, Ordering::Relaxed);
    }

    /// Whether the system is out now.
    pub(crate) fn is_out(&self) -> bool {
        let since = self.began.elapsed();
        let is_first = since >= self.first_outage && self.failed.load(Ordering::Relaxed) < FAILED_MIN;
        self.outages.load(Ordering::Relaxed) && (is_first || outage_at(since, self.first_outage))
    }

    fn roll(&self) -> (u32, u64) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        (random.u32(..1_000), random.u64(..))
    }

    /// What becomes of the next delivery.
    pub(crate) fn reception(&self) -> Reception {
        if self.is_out() {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Reception::Fails;
        }
        match self.roll() {
            (0..20, _) => Reception::Fails,
            (20..30, _) => Reception::CutsBefore,
            (30..40, _) => Reception::CutsAfter,
            (40..60, chance) => Reception::Slow(Duration::from_millis(5 + chance % 80)),
            _ => Reception::Well,
        }
    }

    /// What becomes of the next request.
    pub(crate) fn sending(&self) -> Sending {
        match self.roll() {
            (0..20, chance) => Sending::Cuts(Duration::from_micros(chance % 2_500)),
            (20..50, _) => Sending::Twice,
            (50..100, chance) => Sending::Late(Duration::from_millis(1 + chance % 250)),
            _ => Sending::Well,
        }
    }
}

fn outage_at(since: Duration, first: Duration) -> bool {
    since
        .checked_sub(first)
        .is_some_and(|since| Duration::from_nanos((since.as_nanos() % OUTAGE_EVERY.as_nanos()) as u64) < OUTAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_make_equal_faults() {
        let roll = |seed| {
            let faults = Faults::new(Party::Erp, seed);
            faults.end_outages();
            (0..500).map(|_| (faults.reception(), faults.sending())).collect::<Vec<_>>()
        };
        assert_eq!(roll(7), roll(7));
        assert_ne!(roll(7), roll(8));
        let seen = roll(7);
        assert!(
            seen.iter().any(|(r, _)| *r == Reception::Fails) && seen.iter().any(|(r, _)| *r == Reception::CutsAfter)
        );
        assert!(
            seen.iter().any(|(_, s)| *s == Sending::Twice) && seen.iter().any(|(_, s)| matches!(s, Sending::Late(_)))
        );
    }

    #[test]
    fn outages_come_again() {
        let at = |ms| outage_at(Duration::from_millis(ms), Duration::from_millis(700));
        assert!(!at(0) && !at(699) && at(700) && at(2_199) && !at(2_200) && !at(9_699) && at(9_700));
    }
}
