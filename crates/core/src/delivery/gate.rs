//! What may be sent to a destination now: its breaker, retry budget, rate and concurrency in one.

use std::collections::BTreeSet;

use super::breaker::{Breaker, BreakerPermit, BreakerPolicy, Open, Verdict};
use super::budget::{Budget, BudgetPolicy};
use super::limit::{Limit, LimitPolicy};
use super::pace::{Pace, PacePolicy};
use super::{AttemptResult, RetryPolicy};

/// How a destination is to be treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatePolicy {
    /// When it is tried again, and how often.
    pub retry: RetryPolicy,
    /// When it counts as down.
    pub breaker: BreakerPolicy,
    /// How many retries it may get.
    pub budget: BudgetPolicy,
    /// How many requests it may get in a time.
    pub pace: PacePolicy,
    /// How many it may have at once.
    pub limit: LimitPolicy,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// One more delivery.
    Send {
        /// Where retries are over their budget: not one of those, before this time.
        retries_at_us: Option<i64>,
    },
    /// Nothing, before this time (microseconds since 1970 UTC); with `None` before something under way has ended.
    Wait(Option<i64>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Gate {
    breaker: Breaker,
    budget: Budget,
    /// Those of which a retry is under way that the budget counts.
    retried: BTreeSet<u64>,
    pace: Pace,
    limit: Limit,
    retry_after_max_ms: u64,
}

impl Gate {
    /// An open gate.
    pub fn new(policy: &GatePolicy) -> Self {
        Self {
            breaker: Breaker::new(policy.breaker),
            budget: Budget::new(policy.budget),
            retried: BTreeSet::new(),
            pace: Pace::new(policy.pace),
            limit: Limit::new(policy.limit),
            retry_after_max_ms: policy.retry.retry_after_max_ms,
        }
    }

    /// Whether the destination counts as down, and why.
    pub fn open(&self) -> Option<&Open> {
        self.breaker.open()
    }

    /// How many requests may be under way at once as things are.
    pub fn concurrency(&self) -> usize {
        self.limit.now()
    }

    /// What may be sent now, with so many requests under way.
    pub fn permit(&mut self, under_way: usize, now_us: i64) -> Permit {
        let is_probe = match self.breaker.permit(now_us) {
            BreakerPermit::Wait(until) => return Permit::Wait(until),
            BreakerPermit::Probe => true,
            BreakerPermit::Free => false,
        };
        // What was under way when it opened does not keep a probe from being made.
        if !is_probe && under_way >= self.limit.now() {
            return Permit::Wait(None);
        }
        if let Some(at_us) = self.pace.send_at(now_us) {
            return Permit::Wait(Some(at_us));
        }
        let retries_at_us = if is_probe { None } else { self.budget.retry_at(now_us) };
        Permit::Send { retries_at_us }
    }

    /// A request is sent. `key` tells the entities apart.
    pub fn sent(&mut self, key: u64, is_retry: bool, now_us: i64) {
        if self.breaker.open().is_none() {
            self.budget.sent(is_retry, now_us);
            if is_retry {
                self.retried.insert(key);
            }
        }
        self.breaker.sent(key);
        self.pace.sent(now_us);
    }

    /// Everything under way was abandoned.
    pub fn abandoned(&mut self) {
        self.breaker.unprobed();
        self.retried.clear();
    }

    /// Takes a request's result in, with how many were under way with it.
    pub fn take(
        &mut self,
        key: u64,
        result: AttemptResult,
        duration_us: u64,
        under_way: usize,
        now_us: i64,
    ) -> Verdict {
        let result = result.capped(self.retry_after_max_ms);
        if self.retried.remove(&key) && result == AttemptResult::Delivered {
            self.budget.through(now_us);
        }
        if result.is_failure() {
            self.limit.failed();
        } else if result != AttemptResult::Poison {
            self.limit.answered(duration_us, under_way);
        }
        self.breaker.take(key, result, duration_us, now_us)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = 1_000;

    /// A destination that works, takes so long, and is down from when to when.
    fn run(policy: &GatePolicy, total: usize, latency_us: i64, down: (i64, i64)) -> (Vec<i64>, i64) {
        let mut gate = Gate::new(policy);
        let (mut now_us, mut under_way): (i64, Vec<(i64, u64)>) = (0, Vec::new());
        let (mut left, mut waiting, mut sent) = (total, 0, Vec::new());
        let mut key = 0;
        for _ in 0..1_000_000 {
            if left + waiting == 0 && under_way.is_empty() {
                return (sent, now_us);
            }
            let permit = gate.permit(under_way.len(), now_us);
            let can_send = match permit {
                Permit::Send { retries_at_us: Some(_) } => left > 0,
                Permit::Send { retries_at_us: None } => left + waiting > 0,
                Permit::Wait(_) => false,
            };
            if can_send {
                let is_retry = left == 0;
                if is_retry {
                    waiting -= 1
                } else {
                    left -= 1
                }
                key += 1;
                gate.sent(key, is_retry, now_us);
                sent.push(now_us);
                under_way.push((now_us + latency_us, key));
                continue;
            }
            let until_us = match permit {
                Permit::Send { retries_at_us } => retries_at_us,
                Permit::Wait(until_us) => until_us,
            };
            let done_us = under_way.first().map(|(at_us, _)| *at_us);
            now_us = [until_us, done_us].into_iter().flatten().min().expect("something to wait for").max(now_us);
            while under_way.first().is_some_and(|(at_us, _)| *at_us <= now_us) {
                let (_, key) = under_way.remove(0);
                let is_down = (down.0..down.1).contains(&now_us);
                let result = if is_down { AttemptResult::Transient } else { AttemptResult::Delivered };
                let verdict = gate.take(key, result, latency_us as u64, under_way.len() + 1, now_us);
                if verdict != Verdict::Counts(AttemptResult::Delivered) {
                    waiting += 1;
                }
            }
        }
        panic!("it does not come to its end");
    }

    #[test]
    fn a_dead_destination_gets_probes_and_everything_once_it_is_back() {
        let minutes = 10 * 60 * 1_000 * MS;
        let (sent, end_us) = run(&GatePolicy::default(), 5_000, 5 * MS, (0, minutes));
        let during = sent.iter().filter(|at_us| **at_us < minutes).count();
        assert!(during <= 16 + 32 + 30, "{during} attempts within ten minutes");
        let first = sent.iter().find(|at_us| **at_us >= minutes).copied().unwrap_or_default();
        assert!(first - minutes <= 30_000 * MS, "found to be back within one wait between probes");
        assert!(end_us - first < 5_000 * MS, "and then all of it goes, the retries too");
    }

    proptest! {
        #[test]
        fn everything_gets_through_whatever_the_policy(
            failing_keys in 0u32..20, failing_percent in 0u32..101, rate_per_s in 0u32..3_000, concurrency_max in 1u32..50,
            retry_percent in 0u32..100, floor_per_s in 0u32..50, latency_ms in 1i64..200, down_ms in 0i64..5_000,
        ) {
            let policy = GatePolicy {
                breaker: BreakerPolicy { failing_keys, failing_percent, ..BreakerPolicy::default() },
                budget: BudgetPolicy { retry_percent, window_ms: 1_000, floor_per_s },
                pace: PacePolicy { rate_per_s, burst: 5 },
                limit: LimitPolicy { concurrency_max, ..LimitPolicy::default() },
                ..GatePolicy::default()
            };
            let (sent, _) = run(&policy, 200, latency_ms * MS, (0, down_ms * MS));
            prop_assert!(sent.len() >= 200);
            if rate_per_s > 0 {
                let most = 5 + (sent[sent.len() - 1] - sent[0]) * i64::from(rate_per_s) / 1_000_000 + 1;
                prop_assert!(sent.len() as i64 <= most);
            }
        }
    }
}
