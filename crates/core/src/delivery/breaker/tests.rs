use AttemptResult::{Delivered, Denied, Gone, Poison, Rejected, Throttled, Transient, Unauthorized, Unknown};
use proptest::prelude::*;

use super::*;

const POLICY: BreakerPolicy = BreakerPolicy {
    failing_keys: 3,
    window_ms: 1_000,
    attempts_min: 10,
    failing_percent: 50,
    slow_ms: 100,
    slow_percent: 50,
    probe_first_ms: 1,
    probe_max_ms: 4,
    paused_probe_first_ms: 10,
    paused_probe_max_ms: 40,
};

const SLOW_US: u64 = 100_000;

fn opened() -> Breaker {
    let mut breaker = Breaker::new(POLICY);
    for key in 0..3 {
        assert_eq!(breaker.permit(0), BreakerPermit::Free);
        let verdict = breaker.take(key, Transient, 1, 10);
        assert_eq!(verdict, Verdict::Counts(Transient), "the attempts that open it count");
    }
    breaker
}

fn cause(breaker: &Breaker) -> Option<Cause> {
    breaker.open().map(|open| open.cause)
}

#[test]
fn many_keys_open_it_and_one_does_not() {
    assert_eq!(opened().open().map(|open| (open.cause, open.since_us)), Some((Cause::Failing, 10)));
    let mut breaker = Breaker::new(BreakerPolicy { failing_percent: 0, ..POLICY });
    for _ in 0..100 {
        assert_eq!(breaker.take(7, Unknown, 1, 10), Verdict::Counts(Unknown));
    }
    assert_eq!(cause(&breaker), None);
    breaker.take(8, Transient, 1, 10);
    breaker.take(9, Rejected, 1, 10);
    breaker.take(10, Transient, 1, 10);
    assert_eq!(cause(&breaker), None, "a refusal is a sign of life");
    let mut never = Breaker::new(BreakerPolicy { failing_keys: 0, failing_percent: 0, ..POLICY });
    assert!((0..100).all(|key| never.take(key, Transient, 1, 10) == Verdict::Counts(Transient)));
    assert_eq!(cause(&never), None);
}

#[test]
fn probes_are_single_wait_longer_each_time_and_close_it() {
    let mut breaker = opened();
    assert_eq!(breaker.take(9, Transient, 1, 20), Verdict::Waits, "one that was under way when it opened");
    let mut now_us = 10;
    for wait_us in [1_000, 2_000, 4_000, 4_000] {
        assert_eq!(breaker.permit(now_us), BreakerPermit::Wait(Some(now_us + wait_us)));
        now_us += wait_us;
        assert_eq!(breaker.permit(now_us), BreakerPermit::Probe);
        breaker.sent(1);
        assert_eq!(breaker.permit(now_us), BreakerPermit::Wait(None));
        assert_eq!(breaker.take(1, Transient, 1, now_us), Verdict::Waits);
    }
    now_us += 4_000;
    breaker.sent(1);
    breaker.unprobed();
    assert_eq!(breaker.permit(now_us), BreakerPermit::Probe, "what was abandoned says nothing");
    breaker.sent(1);
    assert_eq!(breaker.take(1, Delivered, 1, now_us), Verdict::Counts(Delivered));
    assert_eq!((breaker.permit(now_us), cause(&breaker)), (BreakerPermit::Free, None));
}

#[test]
fn a_part_that_fails_or_is_slow_opens_it_once_there_are_enough() {
    let mut breaker = Breaker::new(POLICY);
    for at in 0..9 {
        breaker.take(at % 2, if at % 2 == 0 { Transient } else { Delivered }, 1, 0);
    }
    assert_eq!(cause(&breaker), None, "nine are too few");
    breaker.take(0, Transient, 1, 0);
    assert_eq!(cause(&breaker), Some(Cause::FailingShare));
    assert_eq!(breaker.take(5, Delivered, 1, 1), Verdict::Counts(Delivered));
    assert_eq!(cause(&breaker), Some(Cause::FailingShare), "one that was under way is no probe");
    breaker.sent(6);
    breaker.take(6, Delivered, 1, 2_000);
    assert_eq!(cause(&breaker), None);

    let mut breaker = Breaker::new(POLICY);
    for at in 0..10 {
        breaker.take(at, Delivered, if at % 2 == 0 { SLOW_US } else { 1 }, 0);
    }
    assert_eq!(cause(&breaker), Some(Cause::Slow));
    breaker.sent(6);
    assert_eq!(breaker.take(6, Delivered, SLOW_US, 1_000), Verdict::Counts(Delivered), "it has arrived");
    assert_eq!(breaker.permit(1_000), BreakerPermit::Wait(Some(3_000)), "but it is slow still");
    breaker.sent(7);
    breaker.take(7, Delivered, 1, 3_000);
    assert_eq!(cause(&breaker), None);
}

#[test]
fn throttling_everyone_is_waiting_as_long_as_asked() {
    let mut breaker = Breaker::new(POLICY);
    let throttled = Throttled { retry_after_ms: Some(60) };
    for key in 0..3 {
        breaker.take(key, throttled, 1, 0);
    }
    assert_eq!(cause(&breaker), Some(Cause::Throttled));
    assert_eq!(breaker.permit(0), BreakerPermit::Wait(Some(60_000)));
    breaker.sent(1);
    assert_eq!(breaker.take(1, throttled, 1, 60_000), Verdict::Waits);
    assert_eq!(breaker.permit(60_000), BreakerPermit::Wait(Some(120_000)));
}

#[test]
fn who_is_not_let_in_waits_and_is_looked_for_rarely() {
    let mut breaker = Breaker::new(POLICY);
    assert_eq!(breaker.take(1, Unauthorized, 1, 0), Verdict::Counts(Unauthorized));
    assert_eq!(breaker.take(2, Delivered, 1, 1), Verdict::Counts(Delivered));
    assert_eq!(cause(&breaker), Some(Cause::Unauthorized), "one that was under way has been let in before");
    assert_eq!(breaker.permit(2), BreakerPermit::Wait(Some(10_000)));
    let mut now_us = 10_000;
    for (key, wait_us) in [(3, 20_000), (4, 40_000), (5, 40_000)] {
        breaker.sent(key);
        breaker.take(key, Unauthorized, 1, now_us);
        assert_eq!(breaker.permit(now_us), BreakerPermit::Wait(Some(now_us + wait_us)));
        now_us += wait_us;
    }
    breaker.sent(6);
    breaker.take(6, Delivered, 1, now_us);
    assert_eq!(cause(&breaker), None);
    let mut gone = opened();
    gone.sent(1);
    assert_eq!(gone.take(1, Gone, 1, 5_000), Verdict::Counts(Gone));
    assert_eq!(gone.open().map(|open| (open.cause, open.since_us)), Some((Cause::Gone, 10)));
    assert_eq!(gone.permit(5_000), BreakerPermit::Wait(Some(15_000)));
}

#[test]
fn one_event_that_is_not_let_in_stops_the_others_once() {
    let mut breaker = Breaker::new(POLICY);
    breaker.take(1, Unauthorized, 1, 0);
    breaker.sent(2);
    breaker.take(2, Delivered, 1, 10_000);
    assert_eq!(cause(&breaker), None);
    for at_us in 10_001..10_010 {
        assert_eq!(breaker.take(1, Unauthorized, 1, at_us), Verdict::Counts(Denied), "others are let in");
        assert_eq!(cause(&breaker), None);
    }
    assert_eq!(breaker.take(1, Gone, 1, 10_010), Verdict::Counts(Rejected), "it is this one that is not wanted");
    assert_eq!(breaker.take(1, Gone, 1, 10_011), Verdict::Counts(Gone), "another event");
}

#[test]
fn what_is_denied_waits_again_once_nobody_is_let_in() {
    let mut breaker = Breaker::new(POLICY);
    breaker.take(1, Unauthorized, 1, 0);
    breaker.sent(2);
    breaker.take(2, Delivered, 1, 10_000);
    assert_eq!(breaker.take(1, Unauthorized, 1, 10_001), Verdict::Counts(Denied));
    assert_eq!(breaker.take(3, Unauthorized, 1, 10_002), Verdict::Counts(Unauthorized));
    breaker.sent(1);
    assert_eq!(breaker.take(1, Unauthorized, 1, 20_002), Verdict::Counts(Unauthorized), "nobody since then");
    breaker.sent(2);
    breaker.take(2, Delivered, 1, 60_000);
    assert_eq!(breaker.take(1, Unauthorized, 1, 60_001), Verdict::Counts(Denied), "others again");
    breaker.take(1, Delivered, 1, 60_002);
    assert_eq!(breaker.take(1, Unauthorized, 1, 60_003), Verdict::Counts(Unauthorized), "another event");
}

/// A key is refused, stops the others once, and is denied from then on.
fn denied(breaker: &mut Breaker, key: u64, now_us: &mut i64) {
    assert_eq!(breaker.take(key, Unauthorized, 1, *now_us), Verdict::Counts(Unauthorized), "{key}");
    *now_us += 10_000;
    breaker.sent(u64::MAX);
    breaker.take(u64::MAX, Delivered, 1, *now_us);
    assert_eq!(breaker.take(key, Unauthorized, 1, *now_us), Verdict::Counts(Denied), "{key}");
    assert_eq!(cause(breaker), None);
}

#[test]
fn one_more_that_is_denied_than_are_remembered_is_denied_too() {
    let (mut breaker, mut now_us) = (Breaker::new(POLICY), 0);
    let most = SUSPECTS_MAX as u64;
    for key in 0..most {
        denied(&mut breaker, key, &mut now_us);
    }
    assert_eq!(breaker.take(0, Unauthorized, 1, now_us), Verdict::Counts(Denied), "the first is tried still");
    denied(&mut breaker, most, &mut now_us);
    assert_eq!(breaker.suspects.len(), SUSPECTS_MAX);
    for key in [0, 2, most] {
        assert_eq!(breaker.take(key, Unauthorized, 1, now_us), Verdict::Counts(Denied), "{key}");
    }
    // The one that was not refused for the longest time has made room, and is a new one again.
    denied(&mut breaker, 1, &mut now_us);
}

#[test]
fn the_next_event_of_what_is_denied_stops_nobody() {
    let (mut breaker, mut now_us) = (Breaker::new(POLICY), 0);
    denied(&mut breaker, 1, &mut now_us);
    // Its event becomes a dead letter, and the next one of its entity is sent.
    assert_eq!(breaker.take(1, Unauthorized, 1, now_us + 1), Verdict::Counts(Denied));
    assert_eq!(cause(&breaker), None);
}

proptest! {
    #[test]
    fn it_never_waits_for_ever_and_only_the_down_use_up_nothing(
        steps in proptest::collection::vec((0u64..6, 0usize..8, 0i64..5_000, 0u64..2), 0..300),
    ) {
        let mut breaker = Breaker::new(POLICY);
        let mut now_us = 0;
        for (key, result, later_us, slow) in steps {
            now_us += later_us;
            match breaker.permit(now_us) {
                BreakerPermit::Free => {}
                BreakerPermit::Probe => breaker.sent(key),
                BreakerPermit::Wait(until) => {
                    let until = until.expect("no probe is under way here");
                    let longest_ms = POLICY.paused_probe_max_ms.max(60) as i64;
                    prop_assert!(until > now_us && until <= now_us + longest_ms * 1_000);
                    continue;
                }
            }
            let throttled = Throttled { retry_after_ms: Some(60) };
            let all = [Transient, Delivered, Rejected, Unknown, throttled, Unauthorized, Gone, Poison];
            let result = all[result];
            let was_down = breaker.open().is_some();
            match breaker.take(key, result, slow * SLOW_US, now_us) {
                Verdict::Waits => prop_assert!(was_down && result.is_failure()),
                Verdict::Counts(as_what) => {
                    prop_assert!(!was_down || !result.is_failure());
                    let is_refused = matches!((result, as_what), (Unauthorized, Denied) | (Gone, Rejected));
                    prop_assert!(as_what == result || is_refused);
                }
            }
            if result == Poison {
                breaker.unprobed();
            }
        }
    }
}
