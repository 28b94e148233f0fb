//! When a destination gets less by itself, and when everything again.

use lockstep_core::delivery::degrade::Marks as PolicyMarks;
use lockstep_core::delivery::{DegradePolicy, Step};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a destination gets less by itself: first a queue with fewer requests under way, then micro-batches with the newest of
/// each entity, then a pause with nothing but probes. It comes back by itself, one step after the other. By hand it can be
/// set to any of them, also without this table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Degrade {
    /// How far it goes by itself.
    pub automatic: Automatic,
    /// For how many seconds a mark must be reached before it goes a step down.
    #[schemars(range(max = 86_400))]
    pub after_s: u32,
    /// For how many seconds all figures must be below their lower marks before it comes a step back.
    #[schemars(range(max = 86_400))]
    pub back_after_s: u32,
    /// The lower marks, in percent of the marks.
    #[schemars(range(min = 1, max = 100))]
    pub back_percent: u32,
    /// For how many seconds it stays on a step at least: it never changes twice within that.
    #[schemars(range(min = 1, max = 86_400))]
    pub stay_s: u32,
    /// With how many requests under way a queue begins, in percent of `concurrency_max`. Where its backlog does not shrink
    /// although the destination takes what it gets, one more is let go every `after_s`.
    #[schemars(range(min = 1, max = 100))]
    pub concurrency_percent: u32,
    /// Over how many milliseconds only the newest of each entity goes, in micro-batches.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub window_ms: u64,
    /// What calls for the queue.
    pub queue: Marks,
    /// What calls for micro-batches.
    pub micro_batch: Marks,
    /// What calls for a pause.
    pub pause: PauseMarks,
}

/// How far a destination goes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Automatic {
    /// It does not.
    Off,
    /// Fewer requests under way.
    #[default]
    Queue,
    /// Also only the newest of each entity.
    MicroBatch,
    /// Also nothing but probes.
    Pause,
}

/// From which figures on a step is called for; any of them does. 0: that one does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Marks {
    /// For how many seconds the oldest event has waited that may go and does not wait for its retry.
    pub lag_s: u32,
    /// How many events are not settled.
    pub pending: u64,
    /// The part of the last minute's attempts that failed, in percent.
    #[schemars(range(max = 100))]
    pub failing_percent: u32,
    /// How many milliseconds an attempt of the last minute took on average.
    pub latency_ms: u32,
    /// For how many seconds the destination has counted as down.
    pub down_s: u32,
}

/// From which figure on a pause is called for. Only what the destination does by itself can say so: while nothing is sent, a
/// backlog can only grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PauseMarks {
    /// For how many seconds the destination has counted as down.
    #[schemars(range(min = 1))]
    pub down_s: u32,
}

fn s(us: i64) -> u32 {
    u32::try_from(us / 1_000_000).unwrap_or(u32::MAX)
}

impl Default for Degrade {
    fn default() -> Self {
        let policy = DegradePolicy::default();
        let [queue, micro_batch, pause] = policy.marks;
        Self {
            automatic: Automatic::default(),
            after_s: s(policy.after_us),
            back_after_s: s(policy.back_after_us),
            back_percent: policy.back_percent,
            stay_s: s(policy.stay_us),
            concurrency_percent: policy.concurrency_percent,
            window_ms: policy.window_ms,
            queue: queue.into(),
            micro_batch: micro_batch.into(),
            pause: PauseMarks { down_s: pause.down_s },
        }
    }
}

impl Default for PauseMarks {
    fn default() -> Self {
        Self { down_s: DegradePolicy::default().marks[2].down_s }
    }
}

impl From<PolicyMarks> for Marks {
    fn from(marks: PolicyMarks) -> Self {
        let PolicyMarks { lag_s, pending, failing_percent, latency_ms, down_s } = marks;
        Self { lag_s, pending, failing_percent, latency_ms, down_s }
    }
}

impl Marks {
    fn policy(&self) -> PolicyMarks {
        let Self { lag_s, pending, failing_percent, latency_ms, down_s } = *self;
        PolicyMarks { lag_s, pending, failing_percent, latency_ms, down_s }
    }

    fn figures(&self) -> [(&'static str, u64); 5] {
        [
            ("lag_s", self.lag_s.into()),
            ("pending", self.pending),
            ("failing_percent", self.failing_percent.into()),
            ("latency_ms", self.latency_ms.into()),
            ("down_s", self.down_s.into()),
        ]
    }
}

impl Degrade {
    pub(super) fn policy(&self) -> DegradePolicy {
        let us = |s: u32| i64::from(s) * 1_000_000;
        DegradePolicy {
            automatic: match self.automatic {
                Automatic::Off => Step::RealTime,
                Automatic::Queue => Step::Queue,
                Automatic::MicroBatch => Step::MicroBatch,
                Automatic::Pause => Step::Pause,
            },
            marks: [
                self.queue.policy(),
                self.micro_batch.policy(),
                PolicyMarks { down_s: self.pause.down_s, ..PolicyMarks::default() },
            ],
            after_us: us(self.after_s),
            back_after_us: us(self.back_after_s),
            back_percent: self.back_percent,
            stay_us: us(self.stay_s),
            concurrency_percent: self.concurrency_percent,
            window_ms: self.window_ms,
        }
    }

    /// What can't be meant, with the field.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        if !matches!(self.automatic, Automatic::MicroBatch | Automatic::Pause) {
            return problems;
        }
        for ((figure, queue), (_, micro_batch)) in self.queue.figures().into_iter().zip(self.micro_batch.figures()) {
            if queue > 0 && micro_batch > 0 && micro_batch < queue {
                let message = format!(
                    "`{figure}` of `micro_batch` ({micro_batch}) must not be less than that of `queue` ({queue}): it is the \
                     step after it"
                );
                problems.push((format!("micro_batch.{figure}"), message));
            }
        }
        let lowest_ms = u64::from(self.micro_batch.lag_s) * 10 * u64::from(self.back_percent);
        if self.micro_batch.lag_s > 0 && self.window_ms >= lowest_ms {
            let message = format!(
                "`window_ms` ({}) must be less than the lower mark of `micro_batch.lag_s` ({lowest_ms} ms): or what is held \
                 for the window keeps it from coming back",
                self.window_ms
            );
            problems.push(("window_ms".to_owned(), message));
        }
        problems
    }
}
