//! How much a flow (a destination with its filter) gets: everything at once, in a queue, the newest of each key only, or
//! nothing. A step down when its marks are reached for a while, back one by one when the figures are well below them for a
//! while, and never twice within a minimum stay. Pure: the figures and the time come in as data.

use super::sliding;

/// The kind of the hub's documents of this: `flow/<destination>`.
pub const FLOW_KIND: &str = "flow";
/// The field of such a document that tells what has just happened: `degraded`, `restored`, `paused`, `resumed`, or
/// `changed` where the step stayed as it was.
pub const EVENT_FIELD: &str = "event";

/// How much a flow gets, the most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Everything, as soon as the destination takes it.
    #[default]
    RealTime,
    /// Everything in order, with fewer requests under way.
    Queue,
    /// The newest of each key within a window, with fewer requests under way.
    MicroBatch,
    /// Nothing but the breaker's probes; by hand nothing at all.
    Pause,
}

impl Step {
    /// All, the most first.
    pub const ALL: [Self; 4] = [Self::RealTime, Self::Queue, Self::MicroBatch, Self::Pause];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::RealTime => "real-time",
            Self::Queue => "queue",
            Self::MicroBatch => "micro-batch",
            Self::Pause => "pause",
        }
    }

    /// The step of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    fn before(self) -> Self {
        Self::ALL[(self as usize).saturating_sub(1)]
    }
}

/// What has happened to a flow that went from one step to another.
pub fn event(from: Step, to: Step) -> &'static str {
    match (from, to) {
        _ if from == to => "changed",
        (_, Step::Pause) => "paused",
        (Step::Pause, _) => "resumed",
        _ if to > from => "degraded",
        _ => "restored",
    }
}

/// How a flow goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// For how long the oldest event has waited that may go and does not wait for its retry.
    pub lag_s: f64,
    /// Events that are not settled.
    pub pending: u64,
    /// The part of the attempts of the last minute that failed; `None` where there were too few to tell.
    pub failing_percent: Option<f64>,
    /// How long an attempt of the last minute took on average; `None` where there were too few to tell.
    pub latency_ms: Option<f64>,
    /// For how long the breaker has been open; 0 where it is not.
    pub down_s: f64,
}

/// From which figures on a step is called for: any of them does. 0: that figure does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// See [`Figures::lag_s`].
    pub lag_s: u32,
    /// See [`Figures::pending`].
    pub pending: u64,
    /// See [`Figures::failing_percent`].
    pub failing_percent: u32,
    /// See [`Figures::latency_ms`].
    pub latency_ms: u32,
    /// See [`Figures::down_s`].
    pub down_s: u32,
}

impl Marks {
    /// Whether a figure is at its mark, or at this part of it.
    fn are_reached(&self, seen: &Figures, percent: u32) -> bool {
        let at = |mark: f64, figure: f64| mark > 0.0 && figure >= mark * f64::from(percent) / 100.0;
        at(f64::from(self.lag_s), seen.lag_s)
            || at(self.pending as f64, seen.pending as f64)
            || at(f64::from(self.failing_percent), seen.failing_percent.unwrap_or(0.0))
            || at(f64::from(self.latency_ms), seen.latency_ms.unwrap_or(0.0))
            || at(f64::from(self.down_s), seen.down_s)
    }
}

/// When a flow goes a step down by itself, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DegradePolicy {
    /// How far it goes by itself; [`Step::RealTime`]: it does not.
    pub automatic: Step,
    /// The marks of the three steps below real time. Those of the pause may only be of what the destination does by
    /// itself: while nothing is sent, a backlog can only grow.
    pub marks: [Marks; 3],
    /// For how long a mark must be reached.
    pub after_us: i64,
    /// For how long all figures must be below their lower marks.
    pub back_after_us: i64,
    /// The lower marks, in percent of the marks.
    pub back_percent: u32,
    /// For how long a step is kept at least.
    pub stay_us: i64,
    /// With how many requests under way it begins below real time, in percent of the most.
    pub concurrency_percent: u32,
    /// Over how long only the newest of each key goes, in micro-batches.
    pub window_ms: u64,
}

impl Default for DegradePolicy {
    /// Nothing by itself.
    fn default() -> Self {
        Self {
            automatic: Step::RealTime,
            marks: [
                Marks { lag_s: 60, failing_percent: 50, ..Marks::default() },
                Marks { lag_s: 300, ..Marks::default() },
                Marks { down_s: 300, ..Marks::default() },
            ],
            after_us: 10_000_000,
            back_after_us: 30_000_000,
            back_percent: 50,
            stay_us: 60_000_000,
            concurrency_percent: 25,
            window_ms: 5_000,
        }
    }
}

/// A step that a person has decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The step.
    pub step: Step,
    /// When it is over by itself, microseconds since 1970 UTC.
    pub until_us: Option<i64>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What has happened: the steps are the same where only a pin has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Before.
    pub from: Step,
    /// Now.
    pub to: Step,
    /// Whether that is because a pin was over.
    pub is_over: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Degrade {
    policy: DegradePolicy,
    /// The step without a pin. It stands still under one.
    automatic: Step,
    pin: Option<Pin>,
    /// When the step last changed.
    since_us: i64,
    /// Since when the marks of each step are reached.
    bad_since_us: [Option<i64>; 3],
    good_since_us: Option<i64>,
}

impl Degrade {
    /// As it was known to be. What the policy does not allow (any more) is not taken up, but for a pin.
    pub fn new(policy: DegradePolicy, automatic: Step, pin: Option<Pin>, since_us: i64) -> Self {
        let automatic = automatic.min(policy.automatic);
        Self { policy, automatic, pin, since_us, bad_since_us: [None; 3], good_since_us: None }
    }

    /// How much the flow gets.
    pub fn step(&self) -> Step {
        self.pin.as_ref().map_or(self.automatic, |pin| pin.step)
    }

    /// How much it would get without a pin.
    pub fn automatic(&self) -> Step {
        self.automatic
    }

    /// What a person has decided.
    pub fn pinned(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// Since when it is on this step, microseconds since 1970 UTC.
    pub fn since_us(&self) -> i64 {
        self.since_us
    }

    /// Holds it on a step, whatever the figures say.
    pub fn pin(&mut self, pin: Pin, now_us: i64) -> Turn {
        let from = self.step();
        self.pin = Some(pin);
        self.turned(from, false, now_us)
    }

    /// Ends that. `None` where there was no pin.
    pub fn release(&mut self, now_us: i64) -> Option<Turn> {
        let from = self.step();
        self.pin.take()?;
        Some(self.turned(from, false, now_us))
    }

    /// Takes in how it goes.
    pub fn take(&mut self, seen: &Figures, now_us: i64) -> Option<Turn> {
        if let Some(pin) = &self.pin {
            if pin.until_us.is_none_or(|until_us| now_us < until_us) {
                return None;
            }
            let from = pin.step;
            self.pin = None;
            return Some(self.turned(from, true, now_us));
        }
        // A clock that was set back must not hold a step for longer.
        self.since_us = self.since_us.min(now_us);
        let for_us = |since_us: Option<i64>| since_us.map(|since_us| now_us.saturating_sub(since_us));
        for (marks, since_us) in self.policy.marks.iter().zip(&mut self.bad_since_us) {
            let is_reached = marks.are_reached(seen, 100);
            *since_us = is_reached.then(|| since_us.unwrap_or(now_us).min(now_us));
        }
        let from = self.automatic;
        // Also a deeper one's marks keep it where it is.
        let held = &self.policy.marks[(from as usize).saturating_sub(1)..];
        let is_good = !held.iter().any(|marks| marks.are_reached(seen, self.policy.back_percent.min(100)));
        self.good_since_us = is_good.then(|| self.good_since_us.unwrap_or(now_us).min(now_us));
        if now_us.saturating_sub(self.since_us) < self.policy.stay_us {
            return None;
        }
        let called_for = Step::ALL.into_iter().skip(1).zip(self.bad_since_us).rev();
        let down = called_for
            .filter(|(step, _)| *step > from && *step <= self.policy.automatic)
            .find(|(_, since_us)| for_us(*since_us).is_some_and(|for_us| for_us >= self.policy.after_us));
        if let Some((step, _)) = down {
            self.automatic = step;
        } else if from > Step::RealTime && for_us(self.good_since_us) >= Some(self.policy.back_after_us) {
            self.automatic = from.before();
        }
        (self.automatic != from).then(|| self.turned(from, false, now_us))
    }

    fn turned(&mut self, from: Step, is_over: bool, now_us: i64) -> Turn {
        let to = self.step();
        if from != to {
            self.since_us = now_us;
        }
        (self.bad_since_us, self.good_since_us) = ([None; 3], None);
        Turn { from, to, is_over }
    }
}

/// How many requests a flow below real time may have under way: few at first, so that the machine is there for others, and
/// one more whenever its backlog has not shrunk for a while although the destination takes what it gets. Or a flow that is
/// only behind would stay so for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    first: usize,
    most: usize,
    now: usize,
    /// How much was pending when that was last looked at, and when.
    looked: Option<(u64, i64)>,
}

impl Share {
    /// The first part of the most.
    pub fn new(most: usize, percent: u32) -> Self {
        let most = most.max(1);
        let first = (most.saturating_mul(percent.min(100) as usize) / 100).max(1);
        Self { first, most, now: first, looked: None }
    }

    /// How many now.
    pub fn now(&self) -> usize {
        self.now
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        (self.now, self.looked) = (self.first, None);
    }

    /// Takes in how it goes; the backlog is looked at once in this time.
    pub fn take(&mut self, seen: &Figures, every_us: i64, now_us: i64) {
        if seen.down_s > 0.0 || seen.failing_percent.is_some_and(|percent| percent >= 25.0) {
            return self.reset();
        }
        match self.looked {
            Some((_, at_us)) if (0..every_us).contains(&now_us.saturating_sub(at_us)) => return,
            Some((before, _)) if seen.pending > 0 && seen.pending >= before => self.now = (self.now + 1).min(self.most),
            _ => {}
        }
        self.looked = Some((seen.pending, now_us));
    }
}

/// So many attempts must have been made before their parts mean anything.
const ATTEMPTS_MIN: u64 = 10;

/// The attempts of the last minute.
#[derive(Clone, Debug)]
pub struct LastMinute {
    /// All, failed ones, and how many milliseconds they took.
    counts: sliding::Sliding<3>,
}

impl Default for LastMinute {
    fn default() -> Self {
        Self { counts: sliding::Sliding::new(60_000) }
    }
}

impl LastMinute {
    /// Counts one attempt.
    pub fn count(&mut self, failed: bool, duration_us: u64, now_us: i64) {
        let ms = u32::try_from(duration_us / 1_000).unwrap_or(u32::MAX);
        self.counts.add([1, u32::from(failed), ms], now_us);
    }

    /// The part that failed, in percent, and how many milliseconds one took on average.
    pub fn figures(&mut self, now_us: i64) -> (Option<f64>, Option<f64>) {
        let [all, failed, ms] = self.counts.sums(now_us).map(|sum| sum as f64);
        if all < ATTEMPTS_MIN as f64 {
            return (None, None);
        }
        (Some(failed * 100.0 / all), Some(ms / all))
    }
}

#[cfg(test)]
mod tests;
