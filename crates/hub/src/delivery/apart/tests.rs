use std::collections::HashMap;
use std::sync::Arc;

use lockstep_core::delivery::Cadence;
use lockstep_core::record::Fact;
use lockstep_core::{Event, Position};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::delivery::queue::Letter;
use crate::delivery::replay_queue::Ticket;
use crate::tally::DestinationTally;

const KEYS: usize = 3;

fn event(position: Position, key: usize) -> Arc<Event> {
    let fact = Fact { kind: "stock".into(), key: format!("k{key}"), ..Fact::default() };
    Arc::new(Event { position, recorded_at_us: position as i64, fact: Box::new(fact), replay: None })
}

fn live(position: Position, key: usize) -> Item {
    Item::new(event(position, key), 10)
}

fn by_hand(position: Position, key: usize, replay: bool) -> Item {
    let (to, _) = mpsc::channel(1);
    Item {
        manual: Some("ops".into()),
        letter: Letter { event: position, ..Letter::default() },
        replay: replay.then(|| Ticket::new(1, position, false, to)),
        ..live(position, key)
    }
}

fn window() -> Window {
    Window::after(&DestinationTally::default(), Cadence::Live)
}

/// What is sent next, as the runner would: what is too late is closed.
fn send(
    window: &mut Window,
    now_us: i64,
    with_retries: bool,
    superseded: &mut Vec<Position>,
) -> Option<(String, Item)> {
    window.wake(now_us);
    while let Some((id, mut item)) = window.next_if(with_retries, |_| true) {
        if !window.is_too_late(&id, &item) {
            item.sent = true;
            return Some((id, item));
        }
        superseded.push(item.event.position);
        window.settle(&id, &item, false);
    }
    None
}

#[test]
fn a_newer_live_event_passes_a_failed_retry_and_supersedes_it() {
    for replay in [false, true] {
        let (mut window, mut superseded) = (window(), Vec::new());
        window.add("k".into(), by_hand(1, 0, replay));
        window.add("k".into(), by_hand(2, 0, replay));
        let (id, item) = send(&mut window, 0, true, &mut superseded).unwrap();
        window.retry_at(id, item, 3_600);
        assert!(send(&mut window, 1, true, &mut superseded).is_none(), "the second waits for the first");
        window.add("k".into(), live(9, 0));
        let (id, item) = send(&mut window, 1, true, &mut superseded).unwrap();
        assert_eq!(item.event.position, 9);
        assert!(superseded.is_empty(), "it is not there yet");
        window.settle(&id, &item, true);
        assert!(send(&mut window, 1, true, &mut superseded).is_none());
        assert_eq!((superseded, window.events(), window.bytes()), (vec![1, 2], 0, 0));
        assert!(window.keys.is_empty());
    }
}

#[test]
fn where_the_newer_one_does_not_arrive_the_retry_goes_on() {
    let (mut window, mut superseded) = (window(), Vec::new());
    window.add("k".into(), by_hand(1, 0, false));
    let (id, item) = send(&mut window, 0, true, &mut superseded).unwrap();
    window.retry_at(id, item, 100);
    window.add("k".into(), live(9, 0));
    let (id, item) = send(&mut window, 1, true, &mut superseded).unwrap();
    // It waits for its own retry: what was sent last is not sent behind.
    window.retry_at(id, item, 200);
    assert!(send(&mut window, 150, true, &mut superseded).is_none());
    let (id, item) = send(&mut window, 200, true, &mut superseded).unwrap();
    assert_eq!(item.event.position, 9);
    window.settle(&id, &item, false);
    let (id, item) = send(&mut window, 200, true, &mut superseded).unwrap();
    assert_eq!((item.event.position, superseded.len()), (1, 0));
    window.settle(&id, &item, true);
    assert!(window.keys.is_empty() && window.events() == 0);
}

#[test]
fn notes_of_retries_that_were_woken_otherwise_are_few() {
    let (mut window, mut superseded) = (window(), Vec::new());
    for round in 0..20_000 {
        window.add("k".into(), by_hand(2 * round + 1, 0, false));
        let (id, item) = send(&mut window, 0, true, &mut superseded).unwrap();
        window.retry_at(id, item, 3_600 + round as i64);
        window.add("k".into(), live(2 * round + 2, 0));
        let (id, item) = send(&mut window, 0, true, &mut superseded).unwrap();
        window.settle(&id, &item, true);
    }
    assert!(send(&mut window, 0, true, &mut superseded).is_none());
    assert_eq!(superseded.len(), 20_000);
    assert!(window.retries.len() <= 2 * TIDY_MIN && window.keys.is_empty(), "{}", window.retries.len());
}

proptest! {
    /// Live events, replayed ones and retries by hand in any mixture, with any outcome: what may be at the destination is
    /// never followed by something older of its entity, no live event waits for a retry by hand, and all of it is settled.
    #[test]
    fn order_is_kept_for_each_key_in_any_mixture(
        steps in proptest::collection::vec((0u8..8, 0..KEYS, 0i64..60), 1..200),
    ) {
        let (mut window, mut superseded, mut flying) = (window(), Vec::new(), Vec::<(String, Item)>::new());
        let (mut now_us, mut position) = (0, 0);
        let mut settled: Vec<Vec<Position>> = vec![Vec::new(); KEYS];
        let mut there: HashMap<String, Position> = HashMap::new();
        let mut left = 0;
        for (what, key, number) in steps.into_iter().chain(std::iter::repeat_n((3, 0, 61), 2_000)) {
            now_us += 1;
            let id = format!("k{key}");
            match what {
                0 => {
                    position += 1;
                    left += 1;
                    window.add(id, live(position, key));
                }
                // Something older that had been settled.
                1 | 2 => {
                    let Some(old) = settled[key].get(number as usize % settled[key].len().max(1)).copied() else { continue };
                    let newest = there.get(&id).copied().unwrap_or(0);
                    if newest <= old && !window.is_retried(old) {
                        left += 1;
                        window.add(id, by_hand(old, key, what == 1));
                    }
                }
                3 => {
                    now_us += number;
                    superseded.clear();
                    let sent = send(&mut window, now_us, number % 3 != 0, &mut superseded);
                    left -= superseded.len();
                    if let Some((id, item)) = sent {
                        let newest = there.get(&id).copied().unwrap_or(0);
                        prop_assert!(newest <= item.event.position, "{} after {newest}", item.event.position);
                        prop_assert!(flying.iter().all(|(other, _)| *other != id), "one of a key at a time");
                        flying.push((id, item));
                    } else {
                        for (id, key) in &window.keys {
                            let first = key.waiting.front().filter(|first| first.manual.is_none() && !first.sent);
                            let waits = first.is_some() && flying.iter().all(|(other, _)| other != id);
                            let retries_wait = number % 3 == 0 && !window.due.is_empty();
                            prop_assert!(!waits || retries_wait, "{id}: a live event waits behind nothing");
                        }
                        // Then the end of something under way is next.
                        if let Some((id, item)) = flying.pop() {
                            there.insert(id.clone(), item.event.position);
                            settled[id[1..].parse::<usize>().unwrap()].push(item.event.position);
                            left -= 1;
                            window.settle(&id, &item, true);
                        }
                    }
                }
                _ if flying.is_empty() => {}
                _ => {
                    let (id, mut item) = flying.remove(number as usize % flying.len());
                    if number % 2 == 0 && what < 7 {
                        item.may_be_there = true;
                        let newest = there.entry(id.clone()).or_default();
                        *newest = item.event.position.max(*newest);
                    }
                    match what {
                        4 => {
                            item.number += 1;
                            window.retry_at(id, item, now_us + 20 * number);
                        }
                        5 => window.put_back(id, item),
                        _ => {
                            let delivered = what == 7;
                            if delivered {
                                there.insert(id.clone(), item.event.position);
                            }
                            settled[id[1..].parse::<usize>().unwrap()].push(item.event.position);
                            left -= 1;
                            window.settle(&id, &item, delivered);
                        }
                    }
                }
            }
        }
        prop_assert_eq!((left, window.events(), window.bytes(), window.keys.len()), (0, 0, 0, 0));
        prop_assert_eq!((window.by_hand().events, window.replayed().events), (0, 0));
    }
}
