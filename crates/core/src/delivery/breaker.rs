//! A destination's circuit breaker: when it is down, overloaded or lets nobody in, deliveries wait instead of using up
//! their attempts, and single probes look whether it is back. Pure: the time comes in as data.
//!
//! After M. Nygard, "Release It!", 2007; failure share and slowness over a window as Resilience4j has them.

use std::collections::{BTreeMap, BTreeSet};

use super::AttemptResult;
use super::sliding::Sliding;

/// When a destination counts as down, and how often it is looked whether it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// So many different keys failing without a success between them open it; 0 never does. One key that always
    /// fails says something about that key alone.
    pub failing_keys: u32,
    /// The window that the two parts below are of.
    pub window_ms: u64,
    /// So many attempts must be within the window before the parts mean anything.
    pub attempts_min: u32,
    /// This part of the attempts failing opens it; 0 never does.
    pub failing_percent: u32,
    /// An answer that takes so long is slow; 0: none is.
    pub slow_ms: u64,
    /// This part of the attempts being slow opens it.
    pub slow_percent: u32,
    /// The wait before the first probe.
    pub probe_first_ms: u64,
    /// The longest wait between probes: it doubles with each that fails.
    pub probe_max_ms: u64,
    /// The same for a destination that does not let the hub in, where a person has to do something first.
    pub paused_probe_first_ms: u64,
    /// See above.
    pub paused_probe_max_ms: u64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failing_keys: 16,
            window_ms: 10_000,
            attempts_min: 100,
            failing_percent: 80,
            slow_ms: 0,
            slow_percent: 80,
            probe_first_ms: 500,
            probe_max_ms: 30_000,
            paused_probe_first_ms: 5_000,
            paused_probe_max_ms: 300_000,
        }
    }
}

/// Why a destination gets nothing but probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Many different keys failed one after the other.
    Failing,
    /// Too large a part of the attempts failed.
    FailingShare,
    /// Too large a part of the answers was slow.
    Slow,
    /// It asks everyone to wait.
    Throttled,
    /// It does not let the hub in.
    Unauthorized,
    /// It wants no more.
    Gone,
}

impl Cause {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::FailingShare => "failing-share",
            Self::Slow => "slow",
            Self::Throttled => "throttled",
            Self::Unauthorized => "unauthorized",
            Self::Gone => "gone",
        }
    }

    /// What an operator can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Failing | Self::FailingShare => {
                "The destination does not work or can't be reached: see that it runs and that the address is right. \
                 Deliveries wait, none is lost, and go on with the first probe that gets through."
            }
            Self::Slow => {
                "The destination answers too slowly: look at its load, or lower `concurrency_max` or `limit.rate_per_s`. \
                 Deliveries wait, none is lost, and go on with the first probe that is answered in time."
            }
            Self::Throttled => {
                "The destination asks for fewer requests: set `limit.rate_per_s` to what it allows. Deliveries wait, none \
                 is lost, and go on when it takes them."
            }
            Self::Unauthorized => AttemptResult::Unauthorized.advice(),
            Self::Gone => AttemptResult::Gone.advice(),
        }
    }

    /// Whether a person has to do something first.
    fn is_pause(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Gone)
    }
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerPermit {
    /// Everything.
    Free,
    /// One delivery, to see whether the destination is back.
    Probe,
    /// Nothing, before this time (microseconds since 1970 UTC); with `None` before the probe under way has ended.
    Wait(Option<i64>),
}

/// What becomes of an attempt's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, as this.
    Counts(AttemptResult),
    /// It was made while the destination is down, and uses up nothing.
    Waits,
}

/// A breaker that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Why.
    pub cause: Cause,
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
    /// When the next probe may be sent.
    pub probe_at_us: i64,
    wait_ms: u64,
    /// The key of the probe under way.
    probe: Option<u64>,
}

/// So many keys that were not let in are remembered.
const SUSPECTS_MAX: usize = 1_024;

/// A key that was not let in.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    /// Others were since then: then it is the event that is refused.
    others_were: bool,
    /// Which refusal was its last one.
    refused: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    failing: BTreeSet<u64>,
    /// All attempts, failed ones, slow ones.
    counts: Sliding<3>,
    /// Keys that were not let in.
    suspects: BTreeMap<u64, Suspect>,
    /// Refusals so far.
    refusals: u64,
    open: Option<Open>,
}

impl Breaker {
    /// A closed one.
    pub fn new(policy: BreakerPolicy) -> Self {
        let counts = Sliding::new(policy.window_ms);
        Self { policy, failing: BTreeSet::new(), counts, suspects: BTreeMap::new(), refusals: 0, open: None }
    }

    /// Whether it is open, and why.
    pub fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// What may be sent now.
    pub fn permit(&self, now_us: i64) -> BreakerPermit {
        match self.open {
            None => BreakerPermit::Free,
            Some(Open { probe: Some(_), .. }) => BreakerPermit::Wait(None),
            Some(Open { probe_at_us, .. }) if now_us < probe_at_us => BreakerPermit::Wait(Some(probe_at_us)),
            Some(_) => BreakerPermit::Probe,
        }
    }

    /// A delivery is sent: where it is open, that is the probe.
    pub fn sent(&mut self, key: u64) {
        if let Some(open) = &mut self.open {
            open.probe = Some(key);
        }
    }

    /// A probe under way was abandoned.
    pub fn unprobed(&mut self) {
        if let Some(open) = &mut self.open {
            open.probe = None;
        }
    }

    /// Takes an attempt's result in. `key` tells the entities apart.
    pub fn take(&mut self, key: u64, result: AttemptResult, duration_us: u64, now_us: i64) -> Verdict {
        let is_slow = self.policy.slow_ms > 0 && duration_us >= self.policy.slow_ms.saturating_mul(1_000);
        match result {
            // Nothing was sent.
            AttemptResult::Poison => Verdict::Counts(result),
            AttemptResult::Delivered | AttemptResult::Rejected | AttemptResult::Denied => {
                self.lives(key, is_slow, result == AttemptResult::Delivered, now_us);
                Verdict::Counts(result)
            }
            AttemptResult::Transient | AttemptResult::Unknown | AttemptResult::Throttled { .. } => {
                self.fails(key, result, is_slow, now_us)
            }
            AttemptResult::Unauthorized => self.refuses(key, Cause::Unauthorized, result, now_us),
            AttemptResult::Gone => self.refuses(key, Cause::Gone, result, now_us),
        }
    }

    /// An answer, even a refusal of the event, is a sign of life.
    fn lives(&mut self, key: u64, is_slow: bool, is_delivered: bool, now_us: i64) {
        self.failing.clear();
        if is_delivered && !self.suspects.is_empty() {
            self.suspects.remove(&key);
            self.suspects.values_mut().for_each(|suspect| suspect.others_were = true);
        }
        if let Some(open) = &self.open {
            let is_probe = open.probe == Some(key);
            // What was under way when it opened says nothing about a part of many, or about who is let in.
            if is_probe && is_slow && open.cause == Cause::Slow {
                self.wait_longer(0, now_us);
            } else if is_probe || open.cause == Cause::Failing {
                self.open = None;
                self.counts.clear();
            }
            return;
        }
        self.count([1, 0, u32::from(is_slow)], now_us);
    }

    fn fails(&mut self, key: u64, result: AttemptResult, is_slow: bool, now_us: i64) -> Verdict {
        let asked_ms = match result {
            AttemptResult::Throttled { retry_after_ms } => retry_after_ms.unwrap_or(0),
            _ => 0,
        };
        if let Some(open) = &self.open {
            if open.probe == Some(key) {
                self.wait_longer(asked_ms, now_us);
            }
            return Verdict::Waits;
        }
        if self.policy.failing_keys > 0 {
            self.failing.insert(key);
            if self.failing.len() >= self.policy.failing_keys as usize {
                let throttled = matches!(result, AttemptResult::Throttled { .. });
                self.open_for(if throttled { Cause::Throttled } else { Cause::Failing }, asked_ms, now_us);
                return Verdict::Counts(result);
            }
        }
        self.count([1, 1, u32::from(is_slow)], now_us);
        Verdict::Counts(result)
    }

    /// It does not let the hub in. Where it lets others in, it is the event that it refuses: or one that may not be
    /// written would stop all others for ever. Some of several servers may not know a new credential yet, though, so such
    /// an event is not given up at once: it counts as denied until it gets in or nobody does.
    fn refuses(&mut self, key: u64, cause: Cause, result: AttemptResult, now_us: i64) -> Verdict {
        self.refusals += 1;
        let is_known = self.suspects.get(&key).is_some_and(|suspect| suspect.others_were);
        if is_known && self.open.is_none_or(|open| open.probe == Some(key)) {
            self.unprobed();
            if cause == Cause::Gone {
                self.suspects.remove(&key);
                return Verdict::Counts(AttemptResult::Rejected);
            }
            self.suspect(key, true);
            return Verdict::Counts(AttemptResult::Denied);
        }
        // It is not known any more that others are let in.
        self.suspects.values_mut().for_each(|suspect| suspect.others_were = false);
        self.suspect(key, false);
        match &mut self.open {
            Some(open) if open.cause.is_pause() => {
                open.cause = cause;
                if open.probe == Some(key) {
                    self.wait_longer(0, now_us);
                }
            }
            // Since when it has been down stays: it was down before it could be asked who is let in.
            Some(open) => {
                let since_us = open.since_us;
                self.open_for(cause, 0, now_us);
                self.open.iter_mut().for_each(|open| open.since_us = since_us);
            }
            None => self.open_for(cause, 0, now_us),
        }
        Verdict::Counts(result)
    }

    /// Remembers a key that was not let in. That of a dead letter stays, so that the next event of the same entity does not
    /// stop all others again, until there is no room: then the one goes whose last refusal is the longest ago. What is still
    /// tried is refused again and again, so those whose events have ended go first.
    fn suspect(&mut self, key: u64, others_were: bool) {
        if self.suspects.len() >= SUSPECTS_MAX && !self.suspects.contains_key(&key) {
            let oldest = self.suspects.iter().min_by_key(|(_, suspect)| suspect.refused).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.suspects.remove(&oldest));
        }
        self.suspects.insert(key, Suspect { others_were, refused: self.refusals });
    }

    fn count(&mut self, counters: [u32; 3], now_us: i64) {
        self.counts.add(counters, now_us);
        let [all, failed, slow] = self.counts.sums(now_us);
        if all < u64::from(self.policy.attempts_min.max(1)) {
            return;
        }
        let is_part = |part: u64, percent: u32| percent > 0 && part * 100 >= all * u64::from(percent);
        if is_part(failed, self.policy.failing_percent) {
            self.open_for(Cause::FailingShare, 0, now_us);
        } else if self.policy.slow_ms > 0 && is_part(slow, self.policy.slow_percent) {
            self.open_for(Cause::Slow, 0, now_us);
        }
    }

    /// The first wait and the longest.
    fn waits(&self, cause: Cause) -> (u64, u64) {
        let BreakerPolicy { probe_first_ms, probe_max_ms, paused_probe_first_ms, paused_probe_max_ms, .. } =
            self.policy;
        let (first, max) = if cause.is_pause() {
            (paused_probe_first_ms, paused_probe_max_ms)
        } else {
            (probe_first_ms, probe_max_ms)
        };
        (first.min(max), max)
    }

    fn open_for(&mut self, cause: Cause, asked_ms: u64, now_us: i64) {
        self.failing.clear();
        self.counts.clear();
        let (wait_ms, _) = self.waits(cause);
        let probe_at_us = later(now_us, wait_ms.max(asked_ms));
        self.open = Some(Open { cause, since_us: now_us, probe_at_us, wait_ms, probe: None });
    }

    fn wait_longer(&mut self, asked_ms: u64, now_us: i64) {
        let Some(mut open) = self.open else { return };
        let (_, max_ms) = self.waits(open.cause);
        open.probe = None;
        open.wait_ms = open.wait_ms.saturating_mul(2).min(max_ms);
        open.probe_at_us = later(now_us, open.wait_ms.max(asked_ms));
        self.open = Some(open);
    }
}

fn later(now_us: i64, wait_ms: u64) -> i64 {
    now_us.saturating_add_unsigned(wait_ms.saturating_mul(1_000))
}

#[cfg(test)]
mod tests;
