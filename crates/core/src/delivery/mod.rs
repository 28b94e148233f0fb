//! What follows an attempt to deliver: delivered, again at a time, or a dead letter; and what may be sent to a
//! destination when. Pure: the time and the chance for the jitter come in as data.

mod breaker;
mod budget;
mod cadence;
mod class;
mod cron;
pub mod degrade;
mod gate;
mod impact;
mod limit;
mod pace;
mod ratio;
mod sliding;
mod waits;

pub use breaker::{Breaker, BreakerPermit, BreakerPolicy, Cause, Open, Verdict};
pub use budget::{Budget, BudgetPolicy};
pub use cadence::{Cadence, supersedes};
pub use class::{AttemptResult, advice};
pub use cron::{Cron, CronError};
pub use degrade::{DegradePolicy, Figures, LastMinute, Step};
pub use gate::{Gate, GatePolicy, Permit};
pub use impact::{Impact, Worth};
pub use limit::{Limit, LimitPolicy};
pub use pace::{Pace, PacePolicy};
pub use ratio::{Counts, Lately, Sliding};
pub use waits::{Arrival, Awaited, Look, Then, WaitsFor};

/// When to try again, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many retries follow the first attempt.
    pub retries_max: u32,
    /// The first wait, before jitter.
    pub backoff_first_ms: u64,
    /// The longest wait, before jitter.
    pub backoff_max_ms: u64,
    /// The waits one by one, instead of the three above: so many retries as there are waits.
    pub schedule_ms: Vec<u64>,
    /// The longest `Retry-After` that is honoured; a destination that asks for more is tried again after this.
    pub retry_after_max_ms: u64,
}

impl Default for RetryPolicy {
    /// Three quick retries, then a dead letter.
    fn default() -> Self {
        Self {
            retries_max: 3,
            backoff_first_ms: 100,
            backoff_max_ms: 5_000,
            schedule_ms: Vec::new(),
            retry_after_max_ms: 60_000,
        }
    }
}

impl RetryPolicy {
    /// How many retries follow the first attempt.
    pub fn retries(&self) -> u32 {
        if self.schedule_ms.is_empty() { self.retries_max } else { self.schedule_ms.len() as u32 }
    }

    /// The wait after attempt number `attempt`, in microseconds. `chance` is uniform in 0..=u64::MAX.
    ///
    /// An exponential wait has full jitter (uniform between 0 and the bound), after M. Brooker, "Exponential Backoff
    /// and Jitter", AWS Architecture Blog, 2015. One of a schedule is what it says and up to a tenth more.
    fn wait_us(&self, attempt: u32, chance: u64) -> u64 {
        let part = |bound_us: u64| ((u128::from(bound_us) * u128::from(chance)) >> 64) as u64;
        let step = attempt.saturating_sub(1);
        if let Some(wait_ms) = self.schedule_ms.get(step as usize) {
            let wait_us = wait_ms.saturating_mul(1_000);
            return wait_us.saturating_add(part(wait_us / 10));
        }
        let bound_ms = self.backoff_first_ms.saturating_mul(1 << step.min(32)).min(self.backoff_max_ms);
        part(bound_ms.saturating_mul(1_000))
    }
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is there.
    Delivered,
    /// Another attempt, not before this time.
    RetryAt {
        /// Microseconds since 1970 UTC.
        at_us: i64,
    },
    /// Another attempt when the destination lets the hub in again; this one was none.
    Paused,
    /// It is given up, for this reason.
    DeadLetter {
        /// `exhausted`, `rejected` or `poison`.
        reason: &'static str,
    },
}

/// What follows attempt number `attempt` (from 1) with its result. `chance` is uniform in 0..=u64::MAX.
pub fn next(policy: &RetryPolicy, attempt: u32, result: AttemptResult, now_us: i64, chance: u64) -> Next {
    let floor_ms = match result {
        AttemptResult::Delivered => return Next::Delivered,
        AttemptResult::Rejected => return Next::DeadLetter { reason: "rejected" },
        AttemptResult::Poison => return Next::DeadLetter { reason: "poison" },
        AttemptResult::Unauthorized | AttemptResult::Gone => return Next::Paused,
        // The id is the same, so what has arrived already is known there.
        AttemptResult::Transient | AttemptResult::Unknown | AttemptResult::Denied => 0,
        // A destination's wish lengthens a wait; it never uses up fewer attempts.
        AttemptResult::Throttled { retry_after_ms } => retry_after_ms.unwrap_or(0).min(policy.retry_after_max_ms),
    };
    if attempt > policy.retries() {
        return Next::DeadLetter { reason: "exhausted" };
    }
    let wait_us = floor_ms.saturating_mul(1_000).saturating_add(policy.wait_us(attempt, chance));
    Next::RetryAt { at_us: now_us.saturating_add_unsigned(wait_us) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn three_quick_retries_then_a_dead_letter() {
        let policy = RetryPolicy::default();
        let after = |attempt, result| next(&policy, attempt, result, 1_000, u64::MAX / 2);
        assert_eq!(after(1, AttemptResult::Delivered), Next::Delivered);
        assert_eq!(after(1, AttemptResult::Rejected), Next::DeadLetter { reason: "rejected" });
        assert_eq!(after(1, AttemptResult::Poison), Next::DeadLetter { reason: "poison" });
        assert!(matches!(after(3, AttemptResult::Transient), Next::RetryAt { .. }));
        assert_eq!(after(4, AttemptResult::Transient), Next::DeadLetter { reason: "exhausted" });
        let throttled = AttemptResult::Throttled { retry_after_ms: Some(2_000) };
        assert!(matches!(after(1, throttled), Next::RetryAt { at_us } if at_us >= 2_001_000));
        assert_eq!(after(4, throttled), Next::DeadLetter { reason: "exhausted" });
    }

    #[test]
    fn who_is_not_let_in_waits_however_often() {
        for attempt in [1, 4, 1_000] {
            for result in [AttemptResult::Unauthorized, AttemptResult::Gone] {
                assert_eq!(next(&RetryPolicy::default(), attempt, result, 0, 0), Next::Paused);
            }
        }
    }

    #[test]
    fn a_schedule_is_kept_to() {
        let policy = RetryPolicy { schedule_ms: vec![5_000, 300_000, 1_800_000], ..RetryPolicy::default() };
        for (attempt, wait_us) in [(1, 5_000_000), (2, 300_000_000), (3, 1_800_000_000)] {
            for chance in [0, u64::MAX / 2, u64::MAX] {
                let Next::RetryAt { at_us } = next(&policy, attempt, AttemptResult::Unknown, 7, chance) else {
                    panic!("attempt {attempt} is not the last");
                };
                assert!((wait_us..=wait_us * 11 / 10).contains(&(at_us - 7)), "{attempt}: {at_us}");
            }
        }
        assert_eq!(next(&policy, 4, AttemptResult::Unknown, 0, 0), Next::DeadLetter { reason: "exhausted" });
    }

    proptest! {
        #[test]
        fn a_wait_is_bounded_and_never_in_the_past(
            attempt in 1u32..100, chance: u64, now_us in 0i64..i64::MAX / 2, after in proptest::option::of(0u64..u64::MAX),
            retries_max in 0u32..200,
        ) {
            let policy = RetryPolicy { retries_max, ..RetryPolicy::default() };
            let throttled = AttemptResult::Throttled { retry_after_ms: after };
            for result in [AttemptResult::Transient, AttemptResult::Unknown, AttemptResult::Denied, throttled] {
                match next(&policy, attempt, result, now_us, chance) {
                    Next::RetryAt { at_us } => {
                        prop_assert!(attempt <= retries_max);
                        prop_assert!(at_us >= now_us);
                        let most_ms = policy.backoff_max_ms + policy.retry_after_max_ms;
                        prop_assert!(at_us <= now_us + most_ms as i64 * 1_000);
                    }
                    Next::DeadLetter { reason } => {
                        prop_assert!(attempt > retries_max);
                        prop_assert_eq!(reason, "exhausted");
                    }
                    Next::Delivered | Next::Paused => prop_assert!(false, "a failed attempt is tried again or given up"),
                }
            }
        }
    }
}
