//! A destination's retry budget: retries may only be a part of what is sent, so that a failing destination never gets a
//! storm of them on top of what it cannot take already. What exceeds it waits; nothing is lost. A retry that gets through
//! gives back what it took, so that a destination that is well again gets all that waits as fast as it takes it.
//!
//! After the retry budget of Finagle (Twitter, 2016) and "Handling Overload" in "Site Reliability Engineering", 2016.

use super::sliding::Sliding;

/// How many retries a destination may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetPolicy {
    /// The most retries within the window that have not got through, as a part of first attempts in it.
    pub retry_percent: u32,
    /// The window.
    pub window_ms: u64,
    /// So many retries a second may always be, however little is sent.
    pub floor_per_s: u32,
}

impl Default for BudgetPolicy {
    fn default() -> Self {
        Self { retry_percent: 20, window_ms: 10_000, floor_per_s: 10 }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Budget {
    policy: BudgetPolicy,
    /// First attempts, retries, and retries that got through.
    counts: Sliding<3>,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(policy: BudgetPolicy) -> Self {
        Self { policy, counts: Sliding::new(policy.window_ms) }
    }

    /// `None` where a retry may be made now, otherwise when to ask again: not later than a tenth of the window from now.
    pub fn retry_at(&mut self, now_us: i64) -> Option<i64> {
        let [firsts, retries, through] = self.counts.sums(now_us);
        let share = u64::from(self.policy.retry_percent).saturating_mul(firsts) / 100;
        let floor = u64::from(self.policy.floor_per_s).saturating_mul(self.policy.window_ms) / 1_000;
        // At least one, or a budget of nothing would hold up a key for ever.
        let most = share.saturating_add(floor).max(1);
        (retries.saturating_sub(through) >= most).then(|| self.counts.next_step_us(now_us))
    }

    /// An attempt was made.
    pub fn sent(&mut self, is_retry: bool, now_us: i64) {
        self.counts.add([u32::from(!is_retry), u32::from(is_retry), 0], now_us);
    }

    /// A retry got through.
    pub fn through(&mut self, now_us: i64) {
        self.counts.add([0, 0, 1], now_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn retries_are_a_part_of_what_is_sent() {
        let mut budget = Budget::new(BudgetPolicy { retry_percent: 20, window_ms: 1_000, floor_per_s: 0 });
        for _ in 0..50 {
            budget.sent(false, 0);
        }
        let mut made = 0;
        while budget.retry_at(1).is_none() {
            budget.sent(true, 1);
            made += 1;
        }
        assert_eq!(made, 10);
        assert_eq!(budget.retry_at(1), Some(100_000), "asked again with the next tenth");
        assert_eq!(budget.retry_at(1_000_000), None, "the window has moved on");
    }

    #[test]
    fn a_retry_that_gets_through_gives_back_what_it_took() {
        let mut budget = Budget::new(BudgetPolicy { retry_percent: 0, window_ms: 1_000, floor_per_s: 3 });
        for _ in 0..1_000 {
            assert_eq!(budget.retry_at(1), None);
            budget.sent(true, 1);
            budget.through(1);
        }
        for _ in 0..3 {
            assert_eq!(budget.retry_at(1), None);
            budget.sent(true, 1);
        }
        assert_eq!(budget.retry_at(1), Some(100_000), "those that did not get through are counted");
    }

    proptest! {
        #[test]
        fn no_window_has_more_vain_retries_than_allowed_and_none_waits_for_ever(
            steps in proptest::collection::vec((0i64..40_000, any::<bool>(), any::<bool>()), 1..400),
            retry_percent in 0u32..150, floor_per_s in 0u32..100,
        ) {
            let policy = BudgetPolicy { retry_percent, window_ms: 1_000, floor_per_s };
            let mut budget = Budget::new(policy);
            let (mut now_us, mut made) = (0, Vec::new());
            for (later_us, wants_retry, gets_through) in steps {
                now_us += later_us;
                match wants_retry.then(|| budget.retry_at(now_us)).flatten() {
                    None => {
                        budget.sent(wants_retry, now_us);
                        match wants_retry && gets_through {
                            true => budget.through(now_us),
                            false => made.push((now_us, wants_retry)),
                        }
                    }
                    Some(again_us) => {
                        prop_assert!(again_us > now_us && again_us <= now_us + 100_000);
                        // With nothing more sent it is there when the window is over.
                        prop_assert_eq!(budget.clone().retry_at(now_us + 1_000_000), None);
                    }
                }
                // Nine tenths of the window are always looked at.
                let within = |from_us: i64| made.iter().filter(move |(at_us, _)| *at_us > from_us);
                let retries = within(now_us - 900_000).filter(|(_, retry)| *retry).count() as u64;
                let firsts = within(now_us - 1_900_000).filter(|(_, retry)| !*retry).count() as u64;
                let most = firsts * u64::from(retry_percent) / 100 + u64::from(floor_per_s);
                prop_assert!(retries <= most.max(1), "{retries} of {most}");
            }
        }
    }
}
