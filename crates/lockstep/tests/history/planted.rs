//! The checker against histories that are known to be right or wrong.

use super::checker::{Call, Verdict, check};
use super::model::{Ask, Told};

fn call(began: i64, ended: i64, ask: Ask, told: Told) -> Call {
    Call { ask, began, ended, told: Some(told) }
}

fn counted(quantity: i64) -> Call {
    call(1, 2, Ask::Count { quantity, as_of: 1 }, Told::Done)
}

fn reserve(id: u32, quantity: i64) -> Ask {
    Ask::Reserve { id, quantity, expires_at: 1_000 }
}

fn terms(on_hand: i64, held: i64, committed: i64) -> Told {
    Told::Terms { on_hand, held, committed, available: on_hand - held - committed }
}

#[track_caller]
fn good(calls: &[Call]) {
    let verdict = check(calls.to_vec());
    assert!(verdict.is_good(), "{verdict:?}");
}

#[track_caller]
fn bad(calls: &[Call]) {
    let verdict = check(calls.to_vec());
    assert!(matches!(verdict, Verdict::Bad { .. }), "{verdict:?}");
}

#[test]
fn the_last_piece_is_sold_once() {
    let short = Told::Short { available: 0 };
    good(&[counted(1), call(3, 9, reserve(1, 1), Told::Done), call(4, 8, reserve(2, 1), short.clone())]);
    good(&[counted(1), call(3, 9, reserve(1, 1), short.clone()), call(4, 8, reserve(2, 1), Told::Done)]);
    // Oversold.
    bad(&[counted(1), call(3, 9, reserve(1, 1), Told::Done), call(4, 8, reserve(2, 1), Told::Done)]);
    // Refused though there was one.
    bad(&[counted(1), call(3, 9, reserve(1, 1), short.clone()), call(4, 8, reserve(2, 1), short)]);
}

#[test]
fn what_was_answered_is_seen_by_who_asks_later() {
    let sold = call(3, 4, reserve(1, 1), Told::Done);
    good(&[counted(5), sold.clone(), call(5, 6, Ask::Look, terms(5, 1, 0))]);
    // A stale answer, and one that is lost after a crash.
    bad(&[counted(5), sold.clone(), call(5, 6, Ask::Look, terms(5, 0, 0))]);
    good(&[counted(5), sold, call(4, 6, Ask::Look, terms(5, 0, 0))]);
}

#[test]
fn a_call_without_an_answer_has_one_effect_or_none() {
    let unanswered = Call { ask: reserve(1, 2), began: 3, ended: 7, told: None };
    good(&[counted(5), unanswered.clone(), call(5, 6, Ask::Look, terms(5, 0, 0))]);
    good(&[counted(5), unanswered.clone(), call(5, 6, Ask::Look, terms(5, 2, 0))]);
    good(&[
        counted(5),
        unanswered.clone(),
        call(5, 6, Ask::Look, terms(5, 0, 0)),
        call(8, 9, Ask::Look, terms(5, 2, 0)),
    ]);
    bad(&[counted(5), unanswered.clone(), call(5, 6, Ask::Look, terms(5, 4, 0))]);
    // It has its effect before the process is known to be dead.
    bad(&[
        counted(5),
        unanswered.clone(),
        call(8, 9, Ask::Look, terms(5, 0, 0)),
        call(10, 11, Ask::Look, terms(5, 2, 0)),
    ]);
    // It can't be undone again.
    bad(&[counted(5), unanswered, call(5, 6, Ask::Look, terms(5, 2, 0)), call(8, 9, Ask::Look, terms(5, 0, 0))]);
}

#[test]
fn a_hold_ends_at_its_time_and_not_before() {
    let (held, over) = (call(3, 4, reserve(1, 5), Told::Done), Call::time(1_000));
    let other = Ask::Reserve { id: 2, quantity: 5, expires_at: 5_000 };
    good(&[counted(5), held.clone(), over.clone(), call(1_001, 1_002, other.clone(), Told::Done)]);
    bad(&[counted(5), held.clone(), over.clone(), call(998, 999, other.clone(), Told::Done)]);
    bad(&[counted(5), held.clone(), over.clone(), call(1_001, 1_002, other.clone(), Told::Short { available: 0 })]);
    good(&[counted(5), held.clone(), over.clone(), call(998, 1_002, other, Told::Done)]);
    // Committed in time it stays; committed too late it is reserved again, or there is not enough.
    let commit = |began, ended, told| call(began, ended, Ask::Commit { id: 1 }, told);
    let look = |at, told| call(at, at + 1, Ask::Look, told);
    good(&[counted(5), held.clone(), over.clone(), commit(10, 11, Told::Done), look(1_001, terms(5, 0, 5))]);
    bad(&[counted(5), held.clone(), over.clone(), commit(10, 11, Told::Done), look(1_001, terms(5, 0, 0))]);
    good(&[counted(5), held, over, commit(1_001, 1_002, Told::Done), look(1_003, terms(5, 0, 5))]);
}

#[test]
fn a_count_has_what_was_shipped_before_it() {
    let sold = call(3, 4, reserve(1, 2), Told::Done);
    let ship = |at| call(20, 21, Ask::Ship { id: 1, quantity: 2, at }, Told::Done);
    let count = call(30, 31, Ask::Count { quantity: 10, as_of: 15 }, Told::Done);
    let look = |told| call(40, 41, Ask::Look, told);
    good(&[counted(5), sold.clone(), ship(12), count.clone(), look(terms(10, 0, 0))]);
    good(&[counted(5), sold.clone(), ship(16), count.clone(), look(terms(8, 0, 0))]);
    bad(&[counted(5), sold.clone(), ship(16), count.clone(), look(terms(10, 0, 0))]);
    // Shipped twice.
    bad(&[counted(5), sold, ship(16), count, look(terms(6, 0, 0))]);
}

#[test]
fn a_long_history_with_one_wrong_answer_is_refused() {
    let mut calls = vec![counted(100)];
    let mut held = 0;
    for at in 1..=400 {
        // Four at a time.
        let began = 10 + i64::from(at / 4) * 10;
        let told = if held < 100 { Told::Done } else { Told::Short { available: 0 } };
        held += i64::from(told == Told::Done);
        let ask = Ask::Reserve { id: at, quantity: 1, expires_at: 1_000_000 };
        calls.push(call(began, began + 9, ask, told));
    }
    good(&calls);
    let wrong = calls.iter().rposition(|call| matches!(call.told, Some(Told::Short { .. }))).unwrap();
    calls[wrong].told = Some(Told::Done);
    bad(&calls);
}
