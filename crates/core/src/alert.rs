//! Alerts: what follows when a rule on the hub's own figures holds, goes on holding, and holds no more. One alert for each
//! rule and subject, however often it is seen. Pure: whether the rule holds and the time come in as data.

/// The kind of alerts: `alert/<rule>/<subject>`.
pub const ALERT_KIND: &str = "alert";
/// The field of an alert that tells what has just happened to it: `opened`, `escalated`, `acknowledged`, `resolved`.
pub const EVENT_FIELD: &str = "event";
/// The kind of silences: `silence/<id>`.
pub const SILENCE_KIND: &str = "silence";

/// Where an alert stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nothing is wrong, or no longer.
    #[default]
    Resolved,
    /// Somebody is to do something.
    Open,
    /// Somebody has said that he does.
    Acknowledged,
}

impl Status {
    /// Its stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolved => "resolved",
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
        }
    }

    /// The status of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Resolved, Self::Open, Self::Acknowledged].into_iter().find(|status| status.name() == name)
    }
}

/// When something is told to whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// For how long the rule must hold before the alert is opened, microseconds.
    pub holds_us: i64,
    /// For how long it must not hold before the alert is resolved, microseconds.
    pub calm_us: i64,
    /// After how long without acknowledgement each further step is taken, counted from the opening, microseconds. Where one
    /// was taken late, after a silence, those after it are as much later.
    pub escalate_us: Vec<i64>,
}

/// An alert over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Where it stands.
    pub status: Status,
    /// How many further steps were taken.
    pub level: usize,
    /// When it was last opened, microseconds since 1970 UTC.
    pub opened_us: i64,
    /// When the last step was taken, where that is remembered.
    stepped_us: Option<i64>,
    holding_since_us: Option<i64>,
    calm_since_us: Option<i64>,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It was opened.
    Open,
    /// It was not acknowledged in time: the next one is told.
    Escalate,
    /// It is over.
    Resolve,
}

impl Alert {
    /// As it was known to stand.
    pub fn new(status: Status, level: usize, opened_us: i64) -> Self {
        Self { status, level, opened_us, ..Self::default() }
    }

    /// Takes in whether its rule holds now. While it is silenced, nothing is opened and nobody further is told; what
    /// still holds afterwards is told then.
    pub fn take(&mut self, timing: &Timing, holds: bool, silenced: bool, now_us: i64) -> Option<Act> {
        if !holds {
            self.holding_since_us = None;
            let calm_us = now_us.saturating_sub(*self.calm_since_us.get_or_insert(now_us));
            if self.status == Status::Resolved || calm_us < timing.calm_us {
                return None;
            }
            self.status = Status::Resolved;
            return Some(Act::Resolve);
        }
        self.calm_since_us = None;
        let held_us = now_us.saturating_sub(*self.holding_since_us.get_or_insert(now_us));
        match self.status {
            _ if silenced => None,
            Status::Acknowledged => None,
            Status::Resolved if held_us < timing.holds_us => None,
            Status::Resolved => {
                (self.status, self.level, self.opened_us, self.stepped_us) = (Status::Open, 0, now_us, None);
                Some(Act::Open)
            }
            Status::Open => {
                let due_us = timing.escalate_us.get(self.level)?;
                let before_us = self.level.checked_sub(1).and_then(|before| timing.escalate_us.get(before));
                // Who was told late is given the same time as ever before the next one is.
                let is_early = |stepped_us: i64| {
                    now_us.saturating_sub(stepped_us) < due_us.saturating_sub(before_us.copied().unwrap_or(0))
                };
                if now_us.saturating_sub(self.opened_us) < *due_us || self.stepped_us.is_some_and(is_early) {
                    return None;
                }
                self.level += 1;
                self.stepped_us = Some(now_us);
                Some(Act::Escalate)
            }
        }
    }

    /// Somebody takes it on. Whether it was open.
    pub fn acknowledge(&mut self) -> bool {
        let was_open = self.status == Status::Open;
        if was_open {
            self.status = Status::Acknowledged;
        }
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timing() -> Timing {
        Timing { holds_us: 10, calm_us: 20, escalate_us: vec![100, 300] }
    }

    #[test]
    fn it_is_opened_escalated_acknowledged_and_resolved() {
        let mut alert = Alert::default();
        let mut take = |holds, now_us| alert.take(&timing(), holds, false, now_us);
        assert_eq!(take(true, 0), None);
        assert_eq!(take(false, 5), None, "a moment is no alert");
        assert_eq!(take(true, 6), None);
        assert_eq!(take(true, 16), Some(Act::Open));
        assert_eq!(take(true, 17), None, "it is told once");
        assert_eq!(take(true, 116), Some(Act::Escalate));
        assert_eq!(take(true, 315), None);
        assert_eq!(take(true, 316), Some(Act::Escalate));
        assert_eq!(take(true, 9_999), None, "there is nobody further");
        assert_eq!(take(false, 10_000), None);
        assert_eq!(take(true, 10_019), None);
        assert_eq!(take(false, 10_020), None);
        assert_eq!(take(false, 10_040), Some(Act::Resolve));
        let mut alert = Alert::default();
        alert.take(&timing(), true, false, 0);
        alert.take(&timing(), true, false, 10);
        assert!(alert.acknowledge());
        assert!(!alert.acknowledge(), "once");
        assert_eq!(alert.take(&timing(), true, false, 9_999), None, "somebody is at it");
        alert.take(&timing(), false, false, 10_000);
        assert_eq!(alert.take(&timing(), false, false, 10_020), Some(Act::Resolve));
    }

    #[test]
    fn what_still_holds_after_a_silence_is_told_then() {
        let mut alert = Alert::default();
        for now_us in 0..50 {
            assert_eq!(alert.take(&timing(), true, true, now_us), None);
        }
        assert_eq!(alert.take(&timing(), true, false, 50), Some(Act::Open));
        assert_eq!(alert.take(&timing(), true, true, 500), None, "nobody further is told in a silence");
        alert.take(&timing(), false, true, 501);
        assert_eq!(alert.take(&timing(), false, true, 521), Some(Act::Resolve), "that it is over is no disturbance");
    }

    #[test]
    fn after_a_silence_one_is_told_and_the_next_one_in_his_time() {
        let mut alert = Alert::default();
        let mut take = |silenced, now_us| alert.take(&timing(), true, silenced, now_us);
        take(false, 0);
        assert_eq!(take(false, 10), Some(Act::Open));
        for now_us in 11..1_000 {
            assert_eq!(take(true, now_us), None);
        }
        assert_eq!(take(false, 1_000), Some(Act::Escalate), "his time came in the silence");
        assert_eq!(take(false, 1_199), None, "the next one is told 200 after him");
        assert_eq!(take(false, 1_200), Some(Act::Escalate));
        // The same where the hub itself was silent.
        let mut alert = Alert::new(Status::Open, 0, 10);
        let mut take = |now_us| alert.take(&timing(), true, false, now_us);
        assert_eq!((take(1_000), take(1_001), take(1_200)), (Some(Act::Escalate), None, Some(Act::Escalate)));
    }

    proptest! {
        #[test]
        fn every_opening_ends_before_the_next_and_levels_are_bounded(
            steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0i64..60, 0u8..8), 0..300),
        ) {
            let (mut alert, mut now_us, mut open, mut levels) = (Alert::default(), 0, false, 0);
            for (holds, silenced, later_us, acknowledged) in steps {
                now_us += later_us;
                if acknowledged == 0 {
                    let was = alert.status;
                    prop_assert_eq!(alert.acknowledge(), was == Status::Open);
                }
                match alert.take(&timing(), holds, silenced, now_us) {
                    Some(Act::Open) => {
                        prop_assert!(!open && holds && !silenced);
                        (open, levels) = (true, 0);
                    }
                    Some(Act::Escalate) => {
                        prop_assert!(open && holds && !silenced && alert.status == Status::Open);
                        levels += 1;
                        prop_assert!(levels <= 2);
                    }
                    Some(Act::Resolve) => {
                        prop_assert!(open && !holds);
                        open = false;
                    }
                    None => {}
                }
                prop_assert_eq!(open, alert.status != Status::Resolved);
            }
        }
    }
}
