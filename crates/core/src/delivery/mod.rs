//! What follows an attempt to deliver: delivered, again at a time, or a dead letter. Pure: the time and the
//! chance for the jitter come in as data.

mod breaker;
mod impact;

pub use breaker::{Breaker, BreakerPolicy, Permit};
pub use impact::{Impact, Worth};

/// When to try again, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many retries follow the first attempt.
    pub retries_max: u32,
    /// The first wait, before jitter.
    pub backoff_first_ms: u64,
    /// The longest wait, before jitter.
    pub backoff_max_ms: u64,
}

impl Default for RetryPolicy {
    /// Three quick retries, then a dead letter.
    fn default() -> Self {
        Self { retries_max: 3, backoff_first_ms: 100, backoff_max_ms: 5_000 }
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The destination has it: a 2xx.
    Delivered,
    /// It did not work and may work later: no connection, a timeout, 5xx, 408.
    Transient,
    /// The destination asks to wait: 429, or 503 with `Retry-After`.
    Throttled {
        /// How long it asks to wait, where it says so.
        retry_after_ms: Option<u64>,
    },
    /// The destination has understood and says no: any other 3xx or 4xx. Asking again gives the same answer.
    Rejected,
    /// It could not be made into a request at all.
    Poison,
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
    /// It is given up, for this reason.
    DeadLetter {
        /// `exhausted`, `rejected` or `poison`.
        reason: &'static str,
    },
}

/// The longest `Retry-After` that is honoured; a destination that asks for more is tried again after this.
pub const RETRY_AFTER_MAX_MS: u64 = 60_000;

/// What follows attempt number `attempt` (from 1) with its result. `chance` is uniform in 0..=u64::MAX.
///
/// The wait is exponential with full jitter (uniform between 0 and the bound), after M. Brooker,
/// "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
pub fn next(policy: &RetryPolicy, attempt: u32, result: AttemptResult, now_us: i64, chance: u64) -> Next {
    let floor_ms = match result {
        AttemptResult::Delivered => return Next::Delivered,
        AttemptResult::Rejected => return Next::DeadLetter { reason: "rejected" },
        AttemptResult::Poison => return Next::DeadLetter { reason: "poison" },
        AttemptResult::Transient => 0,
        // A destination's wish lengthens a wait; it never uses up fewer attempts.
        AttemptResult::Throttled { retry_after_ms } => retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS),
    };
    if attempt > policy.retries_max {
        return Next::DeadLetter { reason: "exhausted" };
    }
    let doublings = attempt.saturating_sub(1).min(32);
    let bound_us =
        policy.backoff_first_ms.saturating_mul(1 << doublings).min(policy.backoff_max_ms).saturating_mul(1_000);
    let jittered_us = ((u128::from(bound_us) * u128::from(chance)) >> 64) as u64;
    let wait_us = floor_ms.saturating_mul(1_000).saturating_add(jittered_us);
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

    proptest! {
        #[test]
        fn a_wait_is_bounded_and_never_in_the_past(
            attempt in 1u32..100, chance: u64, now_us in 0i64..i64::MAX / 2, after in proptest::option::of(0u64..u64::MAX),
            retries_max in 0u32..200,
        ) {
            let policy = RetryPolicy { retries_max, ..RetryPolicy::default() };
            for result in [AttemptResult::Transient, AttemptResult::Throttled { retry_after_ms: after }] {
                match next(&policy, attempt, result, now_us, chance) {
                    Next::RetryAt { at_us } => {
                        prop_assert!(attempt <= retries_max);
                        prop_assert!(at_us >= now_us);
                        let most_ms = policy.backoff_max_ms + RETRY_AFTER_MAX_MS;
                        prop_assert!(at_us <= now_us + most_ms as i64 * 1_000);
                    }
                    Next::DeadLetter { reason } => {
                        prop_assert!(attempt > retries_max);
                        prop_assert_eq!(reason, "exhausted");
                    }
                    Next::Delivered => prop_assert!(false, "a failed attempt is not delivered"),
                }
            }
        }
    }
}
