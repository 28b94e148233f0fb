//! Whether a destination has what it should have, soon enough: for each domain that declares a limit, current, delayed,
//! partial or unreliable, and whose delay that is. Pure: what is observed and the time come in as data.

/// The kind of the hub's documents of this: `freshness/<domain>/<destination>`.
pub const FRESHNESS_KIND: &str = "freshness";

/// How well a destination has a domain, the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// What is older than the limit has arrived.
    #[default]
    Current,
    /// Something is on its way for longer than the limit.
    Delayed,
    /// Something was given up and will not arrive by itself; the rest does.
    Partial,
    /// What it has can't be relied on: nothing arrives.
    Unreliable,
}

/// Whose delay it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The hub's own, or of how it is configured.
    Ours,
    /// A source told of it late.
    Source,
    /// The destination does not answer, or refuses.
    Target,
    /// Somebody has paused the flow.
    Paused,
}

impl State {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Delayed => "delayed",
            Self::Partial => "partial",
            Self::Unreliable => "unreliable",
        }
    }

    /// The state of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Current, Self::Delayed, Self::Partial, Self::Unreliable].into_iter().find(|state| state.name() == name)
    }
}

impl Why {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Source => "source",
            Self::Target => "target",
            Self::Paused => "paused",
        }
    }

    /// The reason of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ours, Self::Source, Self::Target, Self::Paused].into_iter().find(|why| why.name() == name)
    }
}

/// What is seen of a domain at a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The hub takes no records.
    pub blocked: bool,
    /// Somebody has paused the flow.
    pub paused: bool,
    /// The destination counts as down.
    pub down: bool,
    /// Something of it waits for a retry.
    pub retrying: bool,
    /// How old the oldest event of the domain is that is not settled, microseconds; 0 where there is none.
    pub behind_us: i64,
    /// Open dead letters of the domain that the destination has refused or not taken.
    pub refused: u64,
    /// Open dead letters of the domain that could not be mapped.
    pub unmapped: u64,
    /// How late sources told of the domain lately, microseconds.
    pub source_late_us: i64,
}

/// A state and its reason; what is current has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: State,
    /// The reason.
    pub why: Option<Why>,
}

/// What observations come to. `was` is the state before: what is delayed is so until it is well below the limit again,
/// four fifths of it.
pub fn judge(limit_us: i64, was: State, seen: &Observed) -> Verdict {
    let limit_us = if was == State::Current { limit_us } else { limit_us / 5 * 4 };
    let is = |state, why| Verdict { state, why: Some(why) };
    let late = seen.behind_us > limit_us;
    if seen.blocked {
        return is(State::Unreliable, Why::Ours);
    }
    if seen.paused && late {
        return is(State::Unreliable, Why::Paused);
    }
    if seen.down && late {
        return is(State::Unreliable, Why::Target);
    }
    if seen.refused > 0 {
        return is(State::Partial, Why::Target);
    }
    if seen.unmapped > 0 {
        return is(State::Partial, Why::Ours);
    }
    if late {
        return is(State::Delayed, if seen.down || seen.retrying { Why::Target } else { Why::Ours });
    }
    if seen.source_late_us > limit_us {
        return is(State::Delayed, Why::Source);
    }
    Verdict::default()
}

/// The longest and the shortest time for which something must be better before it is said to be.
const CALM_US: (i64, i64) = (1_000_000, 60_000_000);

/// The freshness of one domain at one destination, over time: what gets worse is said at once, what gets better when it
/// has been so for as long as the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    verdict: Verdict,
    since_us: i64,
    better_since_us: Option<i64>,
}

impl Freshness {
    /// As it was known to be.
    pub fn new(verdict: Verdict, since_us: i64) -> Self {
        Self { verdict, since_us, better_since_us: None }
    }

    /// What it is.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Since when, microseconds since 1970 UTC.
    pub fn since_us(&self) -> i64 {
        self.since_us
    }

    /// Takes in what is seen now. Whether it changes what it is.
    pub fn take(&mut self, limit_us: i64, seen: &Observed, now_us: i64) -> bool {
        let now = judge(limit_us, self.verdict.state, seen);
        if now == self.verdict {
            self.better_since_us = None;
            return false;
        }
        if now.state <= self.verdict.state {
            let since_us = *self.better_since_us.get_or_insert(now_us);
            if now_us.saturating_sub(since_us) < limit_us.clamp(CALM_US.0, CALM_US.1) {
                return false;
            }
        }
        *self = Self::new(now, now_us);
        true
    }
}

/// In how many seconds the limit will be exceeded if things go on like this; `None` where it will not, 0 where it is.
///
/// What arrives now waits until the backlog before it is through: `backlog / drain`. The backlog grows by
/// `arrival - drain` a second, so the wait reaches the limit after `(limit * drain - backlog) / (arrival - drain)`. Where
/// nothing drains, the oldest event grows older by a second each second.
pub fn breach_in_s(limit_us: i64, behind_us: i64, backlog: f64, arrival_per_s: f64, drain_per_s: f64) -> Option<f64> {
    let limit_s = limit_us as f64 / 1e6;
    if behind_us > limit_us {
        return Some(0.0);
    }
    if backlog <= 0.0 {
        return None;
    }
    // Slower than one in a quarter of an hour is not moving.
    if drain_per_s < 1.0 / 900.0 {
        return Some((limit_us - behind_us) as f64 / 1e6);
    }
    if backlog / drain_per_s >= limit_s {
        // What is there already will exceed it when its turn comes.
        return Some(((limit_us - behind_us) as f64 / 1e6).max(0.0));
    }
    let growth = arrival_per_s - drain_per_s;
    (growth > drain_per_s * 0.01).then(|| (limit_s * drain_per_s - backlog) / growth)
}

/// How often something happens, smoothed over half a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    per_s: f64,
    last: Option<(i64, u64)>,
}

impl Rate {
    /// Takes in a count that only grows.
    pub fn take(&mut self, count: u64, now_us: i64) {
        if let Some((at_us, before)) = self.last {
            let passed_s = now_us.saturating_sub(at_us) as f64 / 1e6;
            if passed_s <= 0.0 {
                return;
            }
            let weight = 1.0 - (-passed_s / 30.0).exp();
            self.per_s += weight * (count.saturating_sub(before) as f64 / passed_s - self.per_s);
        }
        self.last = Some((now_us, count));
    }

    /// How often a second.
    pub fn per_s(&self) -> f64 {
        self.per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT_US: i64 = 5_000_000;

    fn verdict(seen: Observed) -> (State, Option<Why>) {
        let told = judge(LIMIT_US, State::Current, &seen);
        (told.state, told.why)
    }

    #[test]
    fn each_state_has_its_reason() {
        let well = Observed { behind_us: LIMIT_US, ..Observed::default() };
        let late = Observed { behind_us: LIMIT_US + 1, ..Observed::default() };
        assert_eq!(verdict(well), (State::Current, None));
        assert_eq!(verdict(late), (State::Delayed, Some(Why::Ours)));
        assert_eq!(verdict(Observed { retrying: true, ..late }), (State::Delayed, Some(Why::Target)));
        assert_eq!(verdict(Observed { source_late_us: LIMIT_US + 1, ..well }), (State::Delayed, Some(Why::Source)));
        assert_eq!(verdict(Observed { refused: 1, ..well }), (State::Partial, Some(Why::Target)));
        assert_eq!(verdict(Observed { unmapped: 1, ..late }), (State::Partial, Some(Why::Ours)));
        assert_eq!(verdict(Observed { down: true, ..well }), (State::Current, None), "nothing waits for too long yet");
        assert_eq!(verdict(Observed { down: true, refused: 1, ..late }), (State::Unreliable, Some(Why::Target)));
        assert_eq!(verdict(Observed { paused: true, down: true, ..late }), (State::Unreliable, Some(Why::Paused)));
        assert_eq!(verdict(Observed { paused: true, ..well }), (State::Current, None));
        assert_eq!(verdict(Observed { blocked: true, ..well }), (State::Unreliable, Some(Why::Ours)));
    }

    #[test]
    fn it_gets_worse_at_once_and_better_when_that_lasts() {
        let mut freshness = Freshness::new(Verdict::default(), 0);
        let behind = |behind_us| Observed { behind_us, ..Observed::default() };
        assert!(freshness.take(LIMIT_US, &behind(LIMIT_US + 1), 10));
        assert_eq!((freshness.verdict().state, freshness.since_us()), (State::Delayed, 10));
        assert!(!freshness.take(LIMIT_US, &behind(LIMIT_US - 1), 20), "it is not well below the limit");
        assert!(!freshness.take(LIMIT_US, &behind(0), 30));
        assert!(!freshness.take(LIMIT_US, &behind(LIMIT_US + 1), 40), "it was better for a moment only");
        assert!(!freshness.take(LIMIT_US, &behind(0), 50));
        assert!(!freshness.take(LIMIT_US, &behind(0), 49 + LIMIT_US));
        assert!(freshness.take(LIMIT_US, &behind(0), 50 + LIMIT_US));
        assert_eq!(freshness.verdict(), Verdict::default());
    }

    #[test]
    fn a_breach_is_foretold_by_what_arrives_and_what_drains() {
        let limit_s = 10_000_000;
        assert_eq!(breach_in_s(limit_s, 11_000_000, 1.0, 0.0, 0.0), Some(0.0));
        assert_eq!(breach_in_s(limit_s, 4_000_000, 3.0, 1.0, 0.0), Some(6.0), "nothing drains");
        assert_eq!(breach_in_s(limit_s, 0, 100.0, 30.0, 20.0), Some(10.0), "(10 * 20 - 100) / (30 - 20)");
        assert_eq!(breach_in_s(limit_s, 2_000_000, 300.0, 0.0, 20.0), Some(8.0), "the backlog takes 15 s");
        assert_eq!(breach_in_s(limit_s, 0, 100.0, 20.0, 30.0), None);
        assert_eq!(breach_in_s(limit_s, 0, 0.0, 100.0, 1.0), None);
    }

    fn observed() -> impl Strategy<Value = Observed> {
        (any::<[bool; 4]>(), 0i64..3 * LIMIT_US, 0u64..2, 0u64..2, 0i64..3 * LIMIT_US).prop_map(
            |([blocked, paused, down, retrying], behind_us, refused, unmapped, source_late_us)| Observed {
                blocked,
                paused,
                down,
                retrying,
                behind_us,
                refused,
                unmapped,
                source_late_us,
            },
        )
    }

    proptest! {
        #[test]
        fn more_of_what_is_bad_is_never_better(seen in observed(), more_us in 0i64..LIMIT_US, was in 0usize..4) {
            let was = [State::Current, State::Delayed, State::Partial, State::Unreliable][was];
            let state = |seen: Observed| judge(LIMIT_US, was, &seen).state;
            let worse = [
                Observed { behind_us: seen.behind_us + more_us, ..seen },
                Observed { source_late_us: seen.source_late_us + more_us, ..seen },
                Observed { refused: seen.refused + 1, ..seen },
                Observed { down: true, ..seen },
                Observed { paused: true, ..seen },
                Observed { blocked: true, ..seen },
            ];
            for worse in worse {
                prop_assert!(state(worse) >= state(seen));
            }
        }

        #[test]
        fn it_does_not_flap_and_comes_to_what_is_seen(
            steps in proptest::collection::vec((observed(), 0i64..LIMIT_US), 1..100),
        ) {
            let mut freshness = Freshness::new(Verdict::default(), 0);
            let (mut now_us, mut last_us) = (0, None);
            for (seen, later_us) in &steps {
                now_us += later_us;
                let before = freshness.verdict().state;
                if freshness.take(LIMIT_US, seen, now_us) {
                    if freshness.verdict().state <= before
                        && let Some(last_us) = last_us
                    {
                        prop_assert!(now_us - last_us >= LIMIT_US, "better too soon");
                    }
                    last_us = Some(now_us);
                }
            }
            let seen = steps[steps.len() - 1].0;
            for _ in 0..3 {
                now_us += LIMIT_US;
                freshness.take(LIMIT_US, &seen, now_us);
            }
            let stays = judge(LIMIT_US, freshness.verdict().state, &seen);
            prop_assert_eq!(freshness.verdict(), stays);
        }

        #[test]
        fn a_rate_comes_to_a_steady_one(per_s in 1u64..10_000) {
            let mut rate = Rate::default();
            for second in 0..300_u64 {
                rate.take(second * per_s, second as i64 * 1_000_000);
            }
            prop_assert!((rate.per_s() - per_s as f64).abs() < per_s as f64 * 0.01);
        }
    }
}
