//! A destination's circuit breaker: when so many different keys fail one after the other that the destination
//! itself must be down, deliveries wait instead of using up their attempts, and single probes look whether it
//! is back. Pure: the time comes in as data.
//!
//! After M. Nygard, "Release It!", 2007.

use std::collections::BTreeSet;

use super::AttemptResult;

/// When a destination counts as down, and how often it is looked whether it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// So many different keys failing without a success between them open it; 0 never does. One key that always
    /// fails says something about that key alone.
    pub failing_keys: u32,
    /// The wait before the first probe.
    pub probe_first_ms: u64,
    /// The longest wait between probes: it doubles with each that fails.
    pub probe_max_ms: u64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failing_keys: 16, probe_first_ms: 500, probe_max_ms: 30_000 }
    }
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Everything.
    Free,
    /// One delivery, to see whether the destination is back.
    Probe,
    /// Nothing, before this time (microseconds since 1970 UTC); with `None` before the probe under way has ended.
    Wait(Option<i64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    since_us: i64,
    probe_at_us: i64,
    wait_ms: u64,
    probing: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    failing: BTreeSet<u64>,
    open: Option<Open>,
}

impl Breaker {
    /// A closed one.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self { policy, failing: BTreeSet::new(), open: None }
    }

    /// Since when it has been open, microseconds since 1970 UTC.
    pub fn open_since_us(&self) -> Option<i64> {
        self.open.map(|open| open.since_us)
    }

    /// What may be sent now.
    pub fn permit(&self, now_us: i64) -> Permit {
        match self.open {
            None => Permit::Free,
            Some(Open { probing: true, .. }) => Permit::Wait(None),
            Some(Open { probe_at_us, .. }) if now_us < probe_at_us => Permit::Wait(Some(probe_at_us)),
            Some(_) => Permit::Probe,
        }
    }

    /// A probe was begun.
    pub fn probe(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = true;
        }
    }

    /// A probe came to nothing: it ended without an attempt.
    pub fn unprobed(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// Takes an attempt's result in. `key` tells the entities apart. Whether the attempt counts: one made while the
    /// destination is down uses up none.
    pub fn take(&mut self, key: u64, result: AttemptResult, now_us: i64) -> bool {
        if !matches!(result, AttemptResult::Transient) {
            // An answer, even a refusal, is a sign of life.
            if !matches!(result, AttemptResult::Poison) {
                self.failing.clear();
                self.open = None;
            }
            return true;
        }
        if let Some(open) = &mut self.open {
            if open.probing {
                open.probing = false;
                open.wait_ms = open.wait_ms.saturating_mul(2).min(self.policy.probe_max_ms);
                open.probe_at_us = now_us.saturating_add_unsigned(open.wait_ms.saturating_mul(1_000));
            }
            return false;
        }
        if self.policy.failing_keys == 0 {
            return true;
        }
        self.failing.insert(key);
        if self.failing.len() >= self.policy.failing_keys as usize {
            self.failing.clear();
            let wait_ms = self.policy.probe_first_ms.min(self.policy.probe_max_ms);
            let probe_at_us = now_us.saturating_add_unsigned(wait_ms.saturating_mul(1_000));
            self.open = Some(Open { since_us: now_us, probe_at_us, wait_ms, probing: false });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: BreakerPolicy = BreakerPolicy { failing_keys: 3, probe_first_ms: 1, probe_max_ms: 4 };

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(POLICY);
        for key in 0..3 {
            assert_eq!(breaker.permit(0), Permit::Free);
            assert!(breaker.take(key, AttemptResult::Transient, 10), "the attempts that open it count");
        }
        breaker
    }

    #[test]
    fn many_keys_open_it_and_one_does_not() {
        assert_eq!(opened().open_since_us(), Some(10));
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..100 {
            assert!(breaker.take(7, AttemptResult::Transient, 10));
        }
        assert_eq!(breaker.open_since_us(), None);
        breaker.take(8, AttemptResult::Transient, 10);
        breaker.take(9, AttemptResult::Rejected, 10);
        breaker.take(10, AttemptResult::Transient, 10);
        assert_eq!(breaker.open_since_us(), None, "a refusal is a sign of life");
        let mut never = Breaker::new(BreakerPolicy { failing_keys: 0, ..POLICY });
        assert!((0..100).all(|key| never.take(key, AttemptResult::Transient, 10)));
        assert_eq!(never.open_since_us(), None);
    }

    #[test]
    fn probes_are_single_wait_longer_each_time_and_close_it() {
        let mut breaker = opened();
        assert!(!breaker.take(9, AttemptResult::Transient, 20), "one that was under way when it opened");
        let mut now_us = 10;
        for wait_us in [1_000, 2_000, 4_000, 4_000] {
            assert_eq!(breaker.permit(now_us), Permit::Wait(Some(now_us + wait_us)));
            now_us += wait_us;
            assert_eq!(breaker.permit(now_us), Permit::Probe);
            breaker.probe();
            assert_eq!(breaker.permit(now_us), Permit::Wait(None));
            assert!(!breaker.take(1, AttemptResult::Transient, now_us));
        }
        now_us += 4_000;
        breaker.probe();
        breaker.unprobed();
        assert_eq!(breaker.permit(now_us), Permit::Probe, "what was not tried says nothing");
        breaker.probe();
        assert!(breaker.take(1, AttemptResult::Delivered, now_us));
        assert_eq!((breaker.permit(now_us), breaker.open_since_us()), (Permit::Free, None));
    }

    proptest! {
        #[test]
        fn it_never_waits_for_ever(steps in proptest::collection::vec((0u64..6, 0u8..3, 0i64..5_000), 0..200)) {
            let mut breaker = Breaker::new(POLICY);
            let mut now_us = 0;
            for (key, result, later_us) in steps {
                now_us += later_us;
                match breaker.permit(now_us) {
                    Permit::Free => {}
                    Permit::Probe => breaker.probe(),
                    Permit::Wait(until) => {
                        let until = until.expect("no probe is under way here");
                        prop_assert!(until > now_us && until <= now_us + POLICY.probe_max_ms as i64 * 1_000);
                        continue;
                    }
                }
                let result = [AttemptResult::Transient, AttemptResult::Delivered, AttemptResult::Rejected][result as usize];
                let down = breaker.open_since_us().is_some();
                prop_assert_eq!(breaker.take(key, result, now_us), !down || result != AttemptResult::Transient);
            }
        }
    }
}
