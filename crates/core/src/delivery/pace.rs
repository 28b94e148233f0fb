//! A destination's rate limit: so many requests a second, with a burst.
//!
//! The generic cell rate algorithm (ITU-T I.371, the virtual scheduling form): one time says it all.

/// How many requests a destination takes in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacePolicy {
    /// So many a second; 0: as many as there are.
    pub rate_per_s: u32,
    /// So many at once after a rest.
    pub burst: u32,
}

impl Default for PacePolicy {
    fn default() -> Self {
        Self { rate_per_s: 0, burst: 1 }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two requests at the full rate; 0: no limit.
    interval_ns: i64,
    tolerance_ns: i64,
    /// When the next one would come at the full rate without a burst.
    due_ns: i64,
}

impl Pace {
    /// A pace with its whole burst before it.
    pub fn new(policy: PacePolicy) -> Self {
        let interval_ns = if policy.rate_per_s == 0 { 0 } else { 1_000_000_000 / i64::from(policy.rate_per_s) };
        let tolerance_ns = interval_ns.saturating_mul(i64::from(policy.burst.saturating_sub(1)));
        Self { interval_ns, tolerance_ns, due_ns: i64::MIN / 2 }
    }

    /// `None` where a request may be made now, otherwise when (rounded up to a microsecond).
    pub fn send_at(&self, now_us: i64) -> Option<i64> {
        let at_ns = self.due_at(now_us).saturating_sub(self.tolerance_ns);
        (self.interval_ns > 0 && now_us.saturating_mul(1_000) < at_ns).then(|| at_ns.div_euclid(1_000) + 1)
    }

    /// A request was made.
    pub fn sent(&mut self, now_us: i64) {
        self.due_ns = self.due_at(now_us).max(now_us.saturating_mul(1_000)).saturating_add(self.interval_ns);
    }

    /// When the next one would come. It is never further away than a whole burst: where it seems to be, the clock was set
    /// back, and nobody is to wait until it is there again.
    fn due_at(&self, now_us: i64) -> i64 {
        let furthest_ns = self.interval_ns.saturating_add(self.tolerance_ns);
        self.due_ns.min(now_us.saturating_mul(1_000).saturating_add(furthest_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut pace = Pace::new(PacePolicy { rate_per_s: 10, burst: 3 });
        for _ in 0..3 {
            assert_eq!(pace.send_at(7_000_000), None);
            pace.sent(7_000_000);
        }
        assert_eq!(pace.send_at(7_000_000), Some(7_100_001));
        assert_eq!(pace.send_at(7_100_001), None);
        assert_eq!(pace.send_at(9_000_000), None);
        let mut free = Pace::new(PacePolicy::default());
        for _ in 0..1_000 {
            assert_eq!(free.send_at(0), None);
            free.sent(0);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nobody_up() {
        let mut pace = Pace::new(PacePolicy { rate_per_s: 10, burst: 2 });
        pace.sent(3_600_000_000);
        pace.sent(3_600_000_000);
        assert_eq!(pace.send_at(0), Some(100_001), "as after the burst, and not in an hour");
        pace.sent(100_001);
        assert_eq!(pace.send_at(100_001), Some(200_002));
    }

    proptest! {
        #[test]
        fn any_stretch_of_time_has_no_more_than_burst_and_rate(
            waits_us in proptest::collection::vec(0i64..200_000, 1..200), rate_per_s in 1u32..2_000, burst in 1u32..20,
        ) {
            let mut pace = Pace::new(PacePolicy { rate_per_s, burst });
            let (mut now_us, mut made) = (1_000_000_i64, Vec::new());
            for wait_us in waits_us {
                now_us += wait_us;
                if let Some(at_us) = pace.send_at(now_us) {
                    prop_assert!(at_us > now_us);
                    now_us = at_us;
                    prop_assert_eq!(pace.send_at(now_us), None, "it may go when it was told so");
                }
                pace.sent(now_us);
                made.push(now_us);
                for (at, from_us) in made.iter().enumerate() {
                    let most = i64::from(burst) + (now_us - from_us) * i64::from(rate_per_s) / 1_000_000 + 1;
                    prop_assert!((made.len() - at) as i64 <= most);
                }
            }
        }
    }
}
