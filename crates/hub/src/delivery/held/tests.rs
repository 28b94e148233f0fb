//! What counts as waiting: what may go, since it may.

use lockstep_core::record::Fact;

use super::*;
use crate::tally::DestinationTally;

const HOUR_US: i64 = 3_600_000_000;
/// A full hour long ago.
const LONG_AGO_US: i64 = 1_000 * HOUR_US;

fn event(position: Position, recorded_at_us: i64) -> Arc<Event> {
    let fact = Fact { kind: "price".into(), key: "a".into(), event_type: "price.changed".into(), ..Fact::default() };
    Arc::new(Event { position, recorded_at_us, fact: Box::new(fact), replay: None })
}

fn window(cadence: Cadence, events: &[(Position, i64)]) -> Window {
    let mut window = Window::after(&DestinationTally::default(), cadence);
    for (position, recorded_at_us) in events {
        window.add("price/a".into(), Item::new(event(*position, *recorded_at_us), 1));
    }
    window
}

fn take(window: &mut Window) -> Item {
    window.next_if(true, |_| true).expect("one that may go").1
}

#[test]
fn what_was_held_waits_since_it_is_not() {
    let cron = "0 * * * *".parse().unwrap();
    let came_us = LONG_AGO_US + HOUR_US / 2;
    let mut nightly = window(Cadence::Schedule { cron, latest_only: false }, &[(1, came_us), (2, came_us + 1)]);
    let due_us = LONG_AGO_US + HOUR_US;
    assert_eq!((nightly.held(), nightly.waiting_since_us(due_us)), ((1, Some(due_us)), None));
    nightly.let_go_until(due_us);
    assert_eq!(nightly.waiting_since_us(due_us), Some(due_us));
    let first = take(&mut nightly);
    nightly.settle("price/a", &first, true);
    assert_eq!(nightly.waiting_since_us(due_us), Some(due_us), "what goes with it may go since then, too");

    let mut changed = window(Cadence::Window { window_ms: 3_600_000, latest_only: false }, &[(1, LONG_AGO_US)]);
    let before_us = now_us();
    changed.set_cadence(Cadence::Live);
    assert!(changed.waiting_since_us(now_us()).unwrap() >= before_us);
}

#[test]
fn what_is_held_twice_until_the_same_time_counts_once() {
    let came_us = LONG_AGO_US + HOUR_US / 2;
    let cron = "0 * * * *".parse().unwrap();
    let mut window = window(Cadence::Schedule { cron, latest_only: false }, &[(2, came_us)]);
    let due_us = LONG_AGO_US + HOUR_US;
    assert_eq!(window.held(), (1, Some(due_us)));
    // A retry by hand goes before it, and is not held.
    let mut by_hand = Item::new(event(1, came_us), 1);
    (by_hand.manual, by_hand.letter.event) = (Some("ops".into()), 1);
    window.add("price/a".into(), by_hand);
    assert_eq!(window.held().0, 0);
    let by_hand = take(&mut window);
    assert!(by_hand.manual.is_some());
    window.settle("price/a", &by_hand, true);
    assert_eq!(window.held(), (1, Some(due_us)), "the other one is held again");

    window.set_cadence(Cadence::Window { window_ms: 1_800_000, latest_only: false });
    assert_eq!(window.held(), (1, Some(due_us)));
    window.let_go_until(due_us);
    assert_eq!(window.held(), (0, None));
    assert_eq!(take(&mut window).event.position, 2);
}

#[test]
fn what_has_waited_for_another_waits_since_that_is_there() {
    let mut live = window(Cadence::Live, &[(1, LONG_AGO_US)]);
    assert_eq!(live.waiting_since_us(now_us()), Some(LONG_AGO_US));
    let item = take(&mut live);
    live.set_aside("price/a", item);
    assert_eq!(live.waiting_since_us(now_us()), None);
    let before_us = now_us();
    live.call_back("price/a");
    assert!(live.waiting_since_us(now_us()).unwrap() >= before_us);
}

#[test]
fn what_is_behind_a_retry_waits_since_that_is_over() {
    let mut live = window(Cadence::Live, &[(1, LONG_AGO_US), (2, LONG_AGO_US)]);
    let mut first = take(&mut live);
    assert_eq!(live.waiting_since_us(now_us()), Some(LONG_AGO_US), "behind a slow request it waits");
    first.number = 1;
    let due_us = LONG_AGO_US + HOUR_US;
    live.retry_at("price/a".into(), first, due_us);
    assert_eq!(live.waiting_since_us(due_us - 1), None);
    live.wake(due_us);
    assert_eq!(live.waiting_since_us(due_us), Some(due_us), "its retry is due");
    let first = take(&mut live);
    assert_eq!(live.waiting_since_us(due_us + HOUR_US), None, "and under way");
    let before_us = now_us();
    live.settle("price/a", &first, true);
    assert!(live.waiting_since_us(now_us()).unwrap() >= before_us);
}
