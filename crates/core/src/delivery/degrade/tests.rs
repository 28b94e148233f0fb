use proptest::prelude::*;

use super::*;

const S: i64 = 1_000_000;

fn policy(automatic: Step) -> DegradePolicy {
    DegradePolicy { automatic, after_us: 5 * S, back_after_us: 10 * S, stay_us: 20 * S, ..DegradePolicy::default() }
}

fn lag(lag_s: f64) -> Figures {
    Figures { lag_s, ..Figures::default() }
}

/// The steps that are gone with the same figures each second, and when.
fn run(degrade: &mut Degrade, seen: Figures, from_s: i64, to_s: i64) -> Vec<(i64, Step)> {
    (from_s..to_s).filter_map(|s| degrade.take(&seen, s * S).map(|turn| (s, turn.to))).collect()
}

fn fresh(automatic: Step) -> Degrade {
    Degrade::new(policy(automatic), Step::RealTime, None, -1_000 * S)
}

#[test]
fn it_goes_down_when_a_mark_is_reached_for_long_enough_and_back_one_by_one() {
    let mut degrade = fresh(Step::Pause);
    assert_eq!(run(&mut degrade, lag(60.0), 0, 4), []);
    assert_eq!(run(&mut degrade, lag(59.0), 4, 5), [], "it was better for a moment");
    assert_eq!(run(&mut degrade, lag(60.0), 5, 40), [(10, Step::Queue)]);
    assert_eq!(run(&mut degrade, lag(300.0), 40, 60), [(45, Step::MicroBatch)]);
    assert_eq!(run(&mut degrade, lag(150.0), 60, 100), [], "that is not below half of the mark");
    assert_eq!(run(&mut degrade, lag(149.0), 100, 130), [(110, Step::Queue)]);
    let down = Figures { down_s: 300.0, lag_s: 900.0, ..Figures::default() };
    assert_eq!(run(&mut degrade, down, 130, 200), [(135, Step::Pause)], "a deeper step's mark skips what is between");
    let back = run(&mut degrade, lag(0.0), 200, 400);
    assert_eq!(back, [(210, Step::MicroBatch), (230, Step::Queue), (250, Step::RealTime)]);
}

#[test]
fn while_nothing_is_sent_a_backlog_does_not_keep_it_paused() {
    let mut degrade = Degrade::new(policy(Step::Pause), Step::Pause, None, 0);
    assert_eq!(run(&mut degrade, lag(10_000.0), 0, 100), [(20, Step::MicroBatch)]);
}

#[test]
fn it_goes_no_further_by_itself_than_it_may() {
    let worst =
        Figures { lag_s: 1e6, pending: u64::MAX, failing_percent: Some(100.0), latency_ms: Some(1e9), down_s: 1e6 };
    for most in Step::ALL {
        let mut degrade = fresh(most);
        run(&mut degrade, worst, 0, 500);
        assert_eq!(degrade.step(), most);
    }
    let known = Degrade::new(policy(Step::Queue), Step::Pause, None, 0);
    assert_eq!(known.step(), Step::Queue, "what was allowed before is not any more");
}

#[test]
fn a_pin_is_over_when_it_is_released_or_at_its_time() {
    let mut degrade = Degrade::new(policy(Step::Queue), Step::Queue, None, 0);
    let pin = |step, until_us| Pin { step, until_us, by: "ops".into(), reason: "maintenance".into() };
    let turn = degrade.pin(pin(Step::Pause, None), S);
    assert_eq!((turn.from, turn.to, event(turn.from, turn.to)), (Step::Queue, Step::Pause, "paused"));
    assert_eq!(run(&mut degrade, lag(0.0), 1, 1_000), []);
    let turn = degrade.release(1_000 * S).expect("it was pinned");
    assert_eq!((turn.to, event(turn.from, turn.to)), (Step::Queue, "resumed"), "as it was before");
    assert_eq!(degrade.release(1_000 * S), None);
    assert_eq!(run(&mut degrade, lag(0.0), 1_000, 1_020), [], "and it stays for a while");
    degrade.pin(pin(Step::RealTime, Some(1_100 * S)), 1_020 * S);
    assert_eq!(run(&mut degrade, lag(1e6), 1_020, 1_100), []);
    let turn = degrade.take(&lag(1e6), 1_100 * S).expect("it is over");
    assert_eq!((turn.to, turn.is_over), (Step::Queue, true));
    degrade.pin(pin(Step::Queue, None), 1_200 * S);
    assert_eq!(degrade.since_us(), 1_100 * S, "the step is the same");
}

#[test]
fn what_has_happened_has_a_name() {
    let names = |from: Step| Step::ALL.map(|to| event(from, to));
    assert_eq!(names(Step::RealTime), ["changed", "degraded", "degraded", "paused"]);
    assert_eq!(names(Step::Queue), ["restored", "changed", "degraded", "paused"]);
    assert_eq!(names(Step::Pause), ["resumed", "resumed", "resumed", "changed"]);
    for step in Step::ALL {
        assert_eq!(Step::of_name(step.name()), Some(step));
    }
}

#[test]
fn a_flow_that_is_only_behind_gets_more_and_one_that_fails_does_not() {
    let mut share = Share::new(32, 25);
    let mut at = |seen: Figures, s: i64| {
        share.take(&seen, 10 * S, s * S);
        share.now()
    };
    let behind = |pending| Figures { pending, ..Figures::default() };
    assert_eq!((at(behind(100), 0), at(behind(100), 5), at(behind(100), 10)), (8, 8, 9));
    assert_eq!((at(behind(50), 20), at(behind(40), 30)), (9, 9), "it shrinks");
    assert_eq!((40..800).map(|s| at(behind(40), s)).max(), Some(32));
    assert_eq!(at(Figures { failing_percent: Some(30.0), ..behind(40) }, 800), 8);
    assert_eq!(Share::new(1, 25).now(), 1);
}

#[test]
fn a_few_attempts_say_nothing() {
    let mut last = LastMinute::default();
    (0..9).for_each(|_| last.count(true, 40_000, 0));
    assert_eq!(last.figures(0), (None, None));
    last.count(false, 40_000, S);
    assert_eq!(last.figures(S), (Some(90.0), Some(40.0)));
    assert_eq!(last.figures(90 * S), (None, None));
}

fn figures() -> impl Strategy<Value = Figures> {
    let percent = proptest::option::of(0.0..100.0);
    (0.0..600.0, 0u64..1_000, percent, proptest::option::of(0.0..1e4), 0.0..600.0).prop_map(
        |(lag_s, pending, failing_percent, latency_ms, down_s)| Figures {
            lag_s,
            pending,
            failing_percent,
            latency_ms,
            down_s,
        },
    )
}

fn marks() -> impl Strategy<Value = Marks> {
    (0u32..400, 0u64..600, 0u32..100, 0u32..8_000, 0u32..400).prop_map(
        |(lag_s, pending, failing_percent, latency_ms, down_s)| Marks {
            lag_s,
            pending,
            failing_percent,
            latency_ms,
            down_s,
        },
    )
}

fn policies() -> impl Strategy<Value = DegradePolicy> {
    (0usize..4, [marks(), marks(), marks()], 0i64..30, 0i64..60, 0u32..100, 1i64..120).prop_map(
        |(automatic, marks, after_s, back_after_s, back_percent, stay_s)| DegradePolicy {
            automatic: Step::ALL[automatic],
            marks,
            after_us: after_s * S,
            back_after_us: back_after_s * S,
            back_percent: back_percent.max(1),
            stay_us: stay_s * S,
            ..DegradePolicy::default()
        },
    )
}

/// What happens from second to second.
#[derive(Clone, Debug)]
enum Doing {
    See(Figures),
    Pin(usize, Option<i64>),
    Release,
}

fn doings() -> impl Strategy<Value = Vec<(Doing, i64)>> {
    let doing = prop_oneof![
        12 => figures().prop_map(Doing::See),
        1 => (0usize..4, proptest::option::of(0i64..60)).prop_map(|(step, for_s)| Doing::Pin(step, for_s)),
        1 => Just(Doing::Release),
    ];
    proptest::collection::vec((doing, 0i64..8), 1..200)
}

proptest! {
    #[test]
    fn it_does_not_flap_and_a_pin_wins(policy in policies(), doings in doings()) {
        let mut degrade = Degrade::new(policy, Step::RealTime, None, 0);
        let (mut now_us, mut last_us) = (0, 0);
        for (doing, later_s) in doings {
            now_us += later_s * S;
            let before = degrade.step();
            match doing {
                Doing::Pin(step, for_s) => {
                    let until_us = for_s.map(|for_s| now_us + for_s * S);
                    let step = Step::ALL[step];
                    let turn = degrade.pin(Pin { step, until_us, by: String::new(), reason: String::new() }, now_us);
                    prop_assert_eq!((turn.from, turn.to, degrade.step()), (before, step, step));
                    last_us = if before == step { last_us } else { now_us };
                }
                Doing::Release => {
                    degrade.release(now_us);
                    prop_assert_eq!(degrade.step(), degrade.automatic());
                    last_us = if before == degrade.step() { last_us } else { now_us };
                }
                Doing::See(seen) => {
                    let pin = degrade.pinned().cloned();
                    let turn = degrade.take(&seen, now_us);
                    if let Some(pin) = pin.filter(|pin| pin.until_us.is_none_or(|until_us| now_us < until_us)) {
                        prop_assert_eq!((turn, degrade.step()), (None, pin.step));
                    }
                    prop_assert!(degrade.pinned().is_some() || degrade.step() <= policy.automatic);
                    if let Some(turn) = turn {
                        prop_assert!(turn.is_over || now_us - last_us >= policy.stay_us, "two steps within a stay");
                        prop_assert_eq!((turn.from, turn.to), (before, degrade.step()));
                        last_us = if before == degrade.step() { last_us } else { now_us };
                    } else {
                        prop_assert_eq!(before, degrade.step());
                    }
                }
            }
        }
    }

    #[test]
    fn it_comes_back_to_real_time_whatever_was(policy in policies(), doings in doings()) {
        let (mut degrade, mut now_us) = (Degrade::new(policy, Step::RealTime, None, 0), 0);
        for (doing, later_s) in doings {
            now_us += later_s * S;
            if let Doing::See(seen) = doing {
                degrade.take(&seen, now_us);
            }
        }
        let until_us = now_us + 3 * (policy.stay_us + policy.back_after_us + 2 * S);
        while now_us < until_us {
            now_us += S;
            degrade.take(&Figures::default(), now_us);
        }
        prop_assert_eq!(degrade.step(), Step::RealTime);
    }

    #[test]
    fn what_is_worse_never_gets_more(
        policy in policies(), doings in doings(), seen in figures(), more in figures(), later_s in 0i64..60,
    ) {
        let (mut degrade, mut now_us) = (Degrade::new(policy, Step::RealTime, None, -1_000 * S), 0);
        for (doing, later_s) in doings {
            now_us += later_s * S;
            if let Doing::See(seen) = doing {
                degrade.take(&seen, now_us);
            }
        }
        now_us += later_s * S;
        let sum = |a: Option<f64>, b: Option<f64>| a.map(|a| a + b.unwrap_or(0.0)).or(b);
        let worse = Figures {
            lag_s: seen.lag_s + more.lag_s,
            pending: seen.pending + more.pending,
            failing_percent: sum(seen.failing_percent, more.failing_percent),
            latency_ms: sum(seen.latency_ms, more.latency_ms),
            down_s: seen.down_s + more.down_s,
        };
        let mut with_worse = degrade.clone();
        degrade.take(&seen, now_us);
        with_worse.take(&worse, now_us);
        prop_assert!(with_worse.step() >= degrade.step());
    }

    #[test]
    fn a_share_is_between_its_first_part_and_the_most(
        most in 1usize..200, percent in 0u32..101, seen in proptest::collection::vec((figures(), 0i64..20), 0..200),
    ) {
        let (mut share, mut now_us) = (Share::new(most, percent), 0);
        let first = share.now();
        for (seen, later_s) in seen {
            now_us += later_s * S;
            share.take(&seen, 10 * S, now_us);
            prop_assert!((first..=most).contains(&share.now()));
        }
        // A backlog that does not shrink at a destination that works gets all that there is.
        for _ in 0..=most {
            now_us += 10 * S;
            share.take(&Figures { pending: 7, ..Figures::default() }, 10 * S, now_us);
        }
        share.take(&Figures { pending: 7, ..Figures::default() }, 10 * S, now_us + 10 * S);
        prop_assert!(share.now() == most);
    }
}
