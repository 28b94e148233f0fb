//! How many requests a destination may have under way, as it bears them: a latency that rises above its own long
//! average lowers the number before anything breaks, and so does each failure; it rises again by itself.
//!
//! Success follows the gradient of Netflix's concurrency-limits (`Gradient2Limit`, E. Ginsberg et al., 2018), failure the
//! multiplicative decrease of D. Chiu and R. Jain, "Analysis of the Increase and Decrease Algorithms for Congestion
//! Avoidance in Computer Networks", 1989.

/// Between which numbers, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitPolicy {
    /// The most requests under way at once.
    pub concurrency_max: u32,
    /// Whether the number follows latency and failures, or is always the most.
    pub adaptive: bool,
    /// Latencies below it are all the same: what is that quick is not overloaded.
    pub latency_floor_ms: u64,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        Self { concurrency_max: 32, adaptive: true, latency_floor_ms: 50 }
    }
}

/// The long average is over about so many requests.
const LONG: f64 = 600.0;
/// A latency up to so many times the long average is no sign yet.
const TOLERANCE: f64 = 1.5;
/// How much of each new number is taken over.
const SMOOTHING: f64 = 0.2;
/// What a failure leaves of the number.
const BACKOFF: f64 = 0.9;

/// See the module.
#[derive(Clone, Debug)]
pub struct Limit {
    policy: LimitPolicy,
    most: f64,
    now: f64,
    long_us: Option<f64>,
}

impl Limit {
    /// The most, until something speaks against it.
    pub fn new(policy: LimitPolicy) -> Self {
        let most = f64::from(policy.concurrency_max.max(1));
        Self { policy, most, now: most, long_us: None }
    }

    /// How many may be under way now: at least one.
    pub fn now(&self) -> usize {
        self.now as usize
    }

    /// Takes in an answer in time, with how many were under way with it.
    pub fn answered(&mut self, duration_us: u64, under_way: usize) {
        if !self.policy.adaptive {
            return;
        }
        let floor_us = self.policy.latency_floor_ms.saturating_mul(1_000).max(1);
        let short = duration_us.max(floor_us) as f64;
        let long = self.long_us.unwrap_or(short);
        let mut long = long + (short - long) * 2.0 / (LONG + 1.0);
        if long > short * 2.0 {
            // After a long overload the average comes down quicker than it would by itself.
            long *= 0.95;
        }
        self.long_us = Some(long);
        // With half of them unused, latency says nothing about the limit, unless it has risen.
        let gradient = (TOLERANCE * long / short).clamp(0.5, 1.0);
        if gradient >= 1.0 && (under_way as f64) < self.now / 2.0 && self.now >= 2.0 {
            return;
        }
        let wanted = self.now * gradient + self.now.sqrt();
        self.set(self.now + (wanted - self.now) * SMOOTHING);
    }

    /// Takes in a failure of the destination.
    pub fn failed(&mut self) {
        if self.policy.adaptive {
            self.set(self.now * BACKOFF);
        }
    }

    fn set(&mut self, number: f64) {
        self.now = number.clamp(1.0, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(concurrency_max: u32) -> Limit {
        Limit::new(LimitPolicy { concurrency_max, adaptive: true, latency_floor_ms: 1 })
    }

    fn answers(limit: &mut Limit, number: usize, duration_us: u64) {
        for _ in 0..number {
            limit.answered(duration_us, limit.now());
        }
    }

    #[test]
    fn a_rising_latency_lowers_it_and_it_comes_back() {
        let mut limit = limit(64);
        answers(&mut limit, 500, 10_000);
        assert_eq!(limit.now(), 64, "a steady latency is no reason");
        answers(&mut limit, 60, 60_000);
        assert!(limit.now() <= 16, "six times as slow: {}", limit.now());
        answers(&mut limit, 500, 10_000);
        assert_eq!(limit.now(), 64);
    }

    #[test]
    fn failures_lower_it_to_one_and_not_below() {
        let mut limit = limit(10);
        limit.failed();
        assert_eq!(limit.now(), 9);
        (0..100).for_each(|_| limit.failed());
        assert_eq!(limit.now(), 1);
        answers(&mut limit, 200, 1_000);
        assert_eq!(limit.now(), 10);
    }

    #[test]
    fn what_is_quick_is_quick() {
        let mut limit = Limit::new(LimitPolicy { concurrency_max: 64, adaptive: true, latency_floor_ms: 50 });
        answers(&mut limit, 100, 100);
        answers(&mut limit, 1_000, 49_000);
        assert_eq!(limit.now(), 64, "below the floor no rise counts");
    }

    proptest! {
        #[test]
        fn it_stays_between_one_and_the_most(
            most in 1u32..1_000, steps in proptest::collection::vec((0u64..10_000_000, any::<bool>(), 0usize..1_000), 0..500),
        ) {
            let mut limit = limit(most);
            for (duration_us, fails, under_way) in steps {
                if fails { limit.failed() } else { limit.answered(duration_us, under_way) }
                prop_assert!((1..=most as usize).contains(&limit.now()));
            }
            // Whatever was: once it answers evenly, and all of it is used, it is the most again.
            for _ in 0..20_000 {
                limit.answered(5_000, limit.now());
            }
            prop_assert_eq!(limit.now(), most as usize);
        }

        #[test]
        fn a_fixed_one_never_moves(fails in 0usize..100, duration_us in 0u64..10_000_000) {
            let mut limit = Limit::new(LimitPolicy { adaptive: false, ..LimitPolicy::default() });
            for _ in 0..fails {
                limit.failed();
                limit.answered(duration_us, 1);
            }
            prop_assert_eq!(limit.now(), 32);
        }
    }
}
