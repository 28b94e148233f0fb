//! How a destination is treated: retries, when it counts as down, how much it gets.

use lockstep_core::delivery::{BreakerPolicy, BudgetPolicy, LimitPolicy, PacePolicy, RetryPolicy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::wait::Wait;

/// When a delivery is tried again, and how often, before it becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How many retries follow the first attempt.
    #[schemars(range(max = 1_000))]
    pub retries_max: u32,
    /// The first wait in milliseconds, doubled with each retry. The real wait is chosen at random below it.
    #[schemars(range(min = 1))]
    pub backoff_first_ms: u64,
    /// The longest wait in milliseconds.
    #[schemars(range(min = 1))]
    pub backoff_max_ms: u64,
    /// The waits one by one, such as `["5s", "5m", "30m", "2h"]`, instead of the three above: as many retries as there are
    /// waits. Each is up to a tenth longer, so that what failed together does not come again together.
    #[schemars(length(max = 100))]
    pub schedule: Vec<Wait>,
    /// The longest `Retry-After` that is honoured, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub retry_after_max_s: u64,
}

/// When a destination counts as down: then nothing is sent to it and no attempt is used up, but single probes look
/// whether it is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// So many different entities' deliveries failing without a success between them; 0: never for that.
    #[schemars(range(max = 100_000))]
    pub failing_keys: u32,
    /// The time in milliseconds that the two parts below are of.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub window_ms: u64,
    /// So many attempts must be within that time before the parts mean anything.
    #[schemars(range(min = 1))]
    pub attempts_min: u32,
    /// This part of the attempts failing, in percent; 0: never for that.
    #[schemars(range(max = 100))]
    pub failing_percent: u32,
    /// An answer that takes so many milliseconds is slow; 0: none is.
    pub slow_ms: u64,
    /// This part of the answers being slow, in percent; 0: never for that.
    #[schemars(range(max = 100))]
    pub slow_percent: u32,
    /// The wait before the first probe in milliseconds, doubled with each that fails.
    #[schemars(range(min = 1))]
    pub probe_first_ms: u64,
    /// The longest wait between probes in milliseconds.
    #[schemars(range(min = 1))]
    pub probe_max_ms: u64,
    /// The first wait for one that lets nobody in (401, 403) or wants no more (410), in milliseconds: a person has to do
    /// something there first.
    #[schemars(range(min = 1))]
    pub paused_probe_first_ms: u64,
    /// The longest wait for such a one.
    #[schemars(range(min = 1))]
    pub paused_probe_max_ms: u64,
}

/// How many retries a destination may get, so that one that fails is not given a storm of them on top. What is over it
/// waits; nothing is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// The most retries within the window, in percent of the first attempts in it.
    #[schemars(range(max = 10_000))]
    pub retry_percent: u32,
    /// The window in milliseconds.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub window_ms: u64,
    /// So many retries a second may always be, however little is sent.
    #[schemars(range(max = 1_000_000))]
    pub floor_per_s: u32,
}

/// How many requests a destination may get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limit {
    /// So many a second; 0: no limit.
    #[schemars(range(max = 1_000_000))]
    pub rate_per_s: u32,
    /// So many at once after a rest, before the rate holds.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// Whether fewer requests than `concurrency_max` are under way while its latency rises or requests fail.
    pub adaptive: bool,
    /// Latencies below so many milliseconds are all the same to that.
    pub latency_floor_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        let policy = RetryPolicy::default();
        Self {
            retries_max: policy.retries_max,
            backoff_first_ms: policy.backoff_first_ms,
            backoff_max_ms: policy.backoff_max_ms,
            schedule: Vec::new(),
            retry_after_max_s: policy.retry_after_max_ms / 1_000,
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        let policy = BreakerPolicy::default();
        Self {
            failing_keys: policy.failing_keys,
            window_ms: policy.window_ms,
            attempts_min: policy.attempts_min,
            failing_percent: policy.failing_percent,
            slow_ms: policy.slow_ms,
            slow_percent: policy.slow_percent,
            probe_first_ms: policy.probe_first_ms,
            probe_max_ms: policy.probe_max_ms,
            paused_probe_first_ms: policy.paused_probe_first_ms,
            paused_probe_max_ms: policy.paused_probe_max_ms,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        let BudgetPolicy { retry_percent, window_ms, floor_per_s } = BudgetPolicy::default();
        Self { retry_percent, window_ms, floor_per_s }
    }
}

impl Default for Limit {
    fn default() -> Self {
        let (pace, limit) = (PacePolicy::default(), LimitPolicy::default());
        Self {
            rate_per_s: pace.rate_per_s,
            burst: pace.burst,
            adaptive: limit.adaptive,
            latency_floor_ms: limit.latency_floor_ms,
        }
    }
}

impl Retry {
    pub(super) fn policy(&self) -> RetryPolicy {
        RetryPolicy {
            retries_max: self.retries_max,
            backoff_first_ms: self.backoff_first_ms,
            backoff_max_ms: self.backoff_max_ms,
            schedule_ms: self.schedule.iter().map(|wait| wait.ms).collect(),
            retry_after_max_ms: self.retry_after_max_s.saturating_mul(1_000),
        }
    }
}

impl Breaker {
    pub(super) fn policy(&self) -> BreakerPolicy {
        BreakerPolicy {
            failing_keys: self.failing_keys,
            window_ms: self.window_ms,
            attempts_min: self.attempts_min,
            failing_percent: self.failing_percent,
            slow_ms: self.slow_ms,
            slow_percent: self.slow_percent,
            probe_first_ms: self.probe_first_ms,
            probe_max_ms: self.probe_max_ms,
            paused_probe_first_ms: self.paused_probe_first_ms,
            paused_probe_max_ms: self.paused_probe_max_ms,
        }
    }
}
