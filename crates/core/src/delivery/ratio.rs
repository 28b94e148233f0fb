//! How many attempts succeeded over a sliding time, counted in a fixed number of buckets: bounded, and as exact as one
//! bucket is long. Pure: the time comes in as data.

/// Successes and failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that the destination has confirmed.
    pub succeeded: u64,
    /// All others.
    pub failed: u64,
}

impl Counts {
    /// The share of successes, 0 to 1; `None` where there was no attempt.
    pub fn ratio(self) -> Option<f64> {
        let all = self.succeeded + self.failed;
        (all > 0).then(|| self.succeeded as f64 / all as f64)
    }
}

/// Counts over the last `N` buckets, the one under way among them.
#[derive(Clone, Debug)]
pub struct Sliding<const N: usize> {
    bucket_us: i64,
    buckets: [Counts; N],
    /// The number of the newest bucket.
    newest: i64,
}

impl<const N: usize> Sliding<N> {
    /// Empty, with buckets of this length.
    pub fn new(bucket_us: i64) -> Self {
        Self { bucket_us: bucket_us.max(1), buckets: [Counts::default(); N], newest: i64::MIN }
    }

    fn forward(&mut self, now_us: i64) {
        let now = now_us.div_euclid(self.bucket_us);
        // A clock that was set back goes on counting in the newest one.
        if now <= self.newest {
            return;
        }
        let passed = now.saturating_sub(self.newest).min(N as i64);
        for back in 0..passed {
            self.buckets[(now - back).rem_euclid(N as i64) as usize] = Counts::default();
        }
        self.newest = now;
    }

    /// Counts one attempt.
    pub fn count(&mut self, success: bool, now_us: i64) {
        self.forward(now_us);
        let bucket = &mut self.buckets[self.newest.rem_euclid(N as i64) as usize];
        *(if success { &mut bucket.succeeded } else { &mut bucket.failed }) += 1;
    }

    /// What was counted in the time that it spans, up to now.
    pub fn counts(&mut self, now_us: i64) -> Counts {
        self.forward(now_us);
        self.buckets.iter().fold(Counts::default(), |sum, one| Counts {
            succeeded: sum.succeeded + one.succeeded,
            failed: sum.failed + one.failed,
        })
    }
}

/// What a destination has come to lately: over five minutes and over a day.
#[derive(Clone, Debug)]
pub struct Lately {
    minutes: Sliding<30>,
    day: Sliding<96>,
    /// When something was last delivered, microseconds since 1970 UTC.
    pub last_success_us: Option<i64>,
}

impl Default for Lately {
    /// Five minutes in buckets of ten seconds, a day in buckets of a quarter of an hour.
    fn default() -> Self {
        Self { minutes: Sliding::new(10_000_000), day: Sliding::new(900_000_000), last_success_us: None }
    }
}

impl Lately {
    /// Counts one attempt.
    pub fn count(&mut self, success: bool, now_us: i64) {
        self.minutes.count(success, now_us);
        self.day.count(success, now_us);
        if success {
            self.last_success_us = Some(self.last_success_us.unwrap_or(i64::MIN).max(now_us));
        }
    }

    /// The last five minutes, and the last day.
    pub fn counts(&mut self, now_us: i64) -> (Counts, Counts) {
        (self.minutes.counts(now_us), self.day.counts(now_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_old_is_forgotten() {
        let mut sliding = Sliding::<3>::new(10);
        sliding.count(true, 5);
        sliding.count(false, 12);
        sliding.count(true, 29);
        assert_eq!(sliding.counts(29), Counts { succeeded: 2, failed: 1 });
        assert_eq!(sliding.counts(30), Counts { succeeded: 1, failed: 1 });
        assert_eq!(sliding.counts(49).ratio(), Some(1.0));
        assert_eq!(sliding.counts(50).ratio(), None);
        sliding.count(true, 7);
        assert_eq!(sliding.counts(8).succeeded, 1, "a clock that was set back forgets nothing");
    }

    proptest! {
        #[test]
        fn it_counts_what_is_younger_than_its_span_and_nothing_older(
            steps in proptest::collection::vec((any::<bool>(), 0i64..40), 0..200), bucket_us in 1i64..20,
        ) {
            let (mut sliding, mut now_us, mut all) = (Sliding::<5>::new(bucket_us), 0_i64, Vec::new());
            for (success, later_us) in steps {
                now_us += later_us;
                sliding.count(success, now_us);
                all.push((success, now_us));
                let first = now_us.div_euclid(bucket_us) - 4;
                let within = |of: bool| {
                    all.iter().filter(|(s, at_us)| *s == of && at_us.div_euclid(bucket_us) >= first).count() as u64
                };
                let wanted = Counts { succeeded: within(true), failed: within(false) };
                prop_assert_eq!(sliding.counts(now_us), wanted);
            }
        }
    }
}
