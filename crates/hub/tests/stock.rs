//! Stock in the running hub: one write path, the same memory, restarts in the middle, expiry, what channels are told.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::recorder::Recorder;
use common::{open, options, until, until_tallies};
use lockstep_core::delivery::AttemptResult;
use lockstep_core::stock::record::{CountBasis, MovementKind, ReservationState};
use lockstep_core::stock::{Answer, Command, Count, Item, Movement, PolicyOf, Reserve, StockRefusal};
use lockstep_core::{Input, InputBody, Outcome, Refusal};
use lockstep_hub::delivery::DeliveryOptions;
use lockstep_hub::{DeadLetterFilter, EventFilter, Hub, HubHandle, HubOptions, now_us};

fn ask(delivery: &str, command: Command) -> Input {
    Input {
        source: "api:shop".into(),
        system: "shop".into(),
        delivery: delivery.into(),
        payload_hash: lockstep_core::payload_hash(format!("{command:?}").as_bytes()),
        reject_reuse: true,
        request_key: None,
        received_at_us: now_us(),
        trace: None,
        raw: None,
        body: InputBody::Stock(vec![command]),
        releases: None,
    }
}

fn count(sku: &str, quantity: i64, as_of_us: i64) -> Command {
    let (source, location) = ("wms".into(), "berlin".into());
    Command::Count(Count {
        source,
        sku: sku.into(),
        location,
        basis: CountBasis::OnHand,
        quantity,
        as_of_us,
        ..Count::default()
    })
}

fn reserve(id: &str, sku: &str, quantity: i64, expires_at_us: i64) -> Command {
    Command::Reserve(Reserve {
        id: id.into(),
        owner: id.into(),
        channel: "web".into(),
        expires_at_us,
        items: vec![Item { sku: sku.into(), quantity, location: None }],
        ..Reserve::default()
    })
}

const HOUR: i64 = 3_600_000_000;

/// Submits one command; its answer, or the refusal.
async fn say(hub: &HubHandle, delivery: &str, command: Command) -> Result<Outcome, Refusal> {
    hub.submit(vec![ask(delivery, command)]).await.expect("the hub takes it").remove(0)
}

fn state_of(outcome: &Result<Outcome, Refusal>) -> ReservationState {
    match outcome {
        Ok(Outcome::Stock { answers, .. }) => match answers.as_slice() {
            [Ok(Answer::Reservation { state, .. })] => *state,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

async fn atp(hub: &HubHandle, sku: &str) -> i64 {
    hub.availability(vec![sku.into()], "web", None, 0).await.unwrap()[0].atp
}

#[tokio::test]
async fn a_reservation_is_durable_found_and_published() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    say(&handle, "p", Command::Policy(PolicyOf { channel: "web".into(), ..PolicyOf::default() })).await.unwrap();
    say(&handle, "c", count("a", 5, now_us())).await.unwrap();
    let held = say(&handle, "r", reserve("o1", "a", 3, now_us() + HOUR)).await;
    assert_eq!(state_of(&held), ReservationState::Held);
    let one = handle.reservation("o1").await.unwrap().unwrap();
    assert_eq!((one.state, one.lines[0].open, one.lines[0].location.as_str()), (ReservationState::Held, 3, "berlin"));
    assert_eq!(atp(&handle, "a").await, 2);
    let short = say(&handle, "r2", reserve("o2", "a", 3, now_us() + HOUR)).await;
    match short {
        Err(Refusal::Stock(StockRefusal::Short(short))) => assert_eq!((short[0].requested, short[0].available), (3, 2)),
        other => panic!("{other:?}"),
    }
    let page = handle.events(0, EventFilter::default(), 100).await.unwrap();
    let told: Vec<_> =
        page.events.iter().map(|e| format!("{} {}/{}", e.fact.event_type, e.fact.kind, e.fact.key)).collect();
    assert_eq!(
        told,
        [
            "stock.counted stock/a@berlin",
            "stock.availability_changed availability/a@web",
            "reservation.held reservation/o1",
            "stock.availability_changed availability/a@web",
        ]
    );
    let tallies = handle.stats().tallies();
    assert!(tallies.violations().is_empty(), "{:?}", tallies.violations());
    let ledger = handle.ledger("a", "berlin", 0, 100).await.unwrap();
    assert_eq!((ledger.entries.len(), ledger.at_end), (2, true));
    let origin = ledger.entries[1].fact.origin.as_ref().unwrap();
    assert_eq!((origin.source.as_str(), origin.system.as_str(), origin.delivery.as_str()), ("api:shop", "shop", "r"));
    hub.shutdown().await;
}

/// What may be sold has no history of its own: it is what was told last.
#[tokio::test]
async fn a_retry_by_hand_never_tells_again_what_stands_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let takes = Arc::new(AtomicBool::new(false));
    let switch = takes.clone();
    let shop = Recorder::new(move |_| match switch.load(Ordering::Relaxed) {
        true => AttemptResult::Delivered,
        false => AttemptResult::Rejected,
    });
    hub.add_destination("shop", shop.clone(), DeliveryOptions { report_interval_ms: 5, ..DeliveryOptions::default() });
    let dead = async |count: u64| {
        until_tallies(&handle, "dead letters", |t| t.destinations.get("shop").is_some_and(|d| d.dead == count)).await
    };
    say(&handle, "1", Command::Policy(PolicyOf { channel: "web".into(), ..PolicyOf::default() })).await.unwrap();
    say(&handle, "2", count("a", 5, now_us())).await.unwrap();
    say(&handle, "3", count("b", 7, now_us())).await.unwrap();
    say(&handle, "5", reserve("o2", "b", 1, now_us() + HOUR)).await.unwrap();
    // Three of b: counted, available, available again; two of a; and what was held.
    dead(6).await;

    takes.store(true, Ordering::Relaxed);
    say(&handle, "6", reserve("o1", "a", 5, now_us() + HOUR)).await.unwrap();
    say(&handle, "7", Command::Commit { id: "o2".into() }).await.unwrap();
    until("what came since is there", || shop.entities().len() == 3).await;
    let filter = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    for row in handle.dead_letters(filter).await.unwrap().items {
        assert!(handle.retry_dead_letter(&row, "test").await);
    }
    let tallies = dead(0).await;
    // That there are 5 of a, that there are 7 of b, and that o2 is held: no more.
    assert_eq!(tallies.destinations["shop"].superseded, 3);
    let mut told = shop.entities();
    told.sort();
    let there = ["availability/a@web", "availability/b@web", "reservation/o1", "reservation/o2"];
    assert_eq!(told, [&there[..], &["stock/a@berlin", "stock/b@berlin"]].concat());
    hub.shutdown().await;
}

#[tokio::test]
async fn how_a_reservation_stands_is_told_with_what_was_asked_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    say(&handle, "1", count("A", 3, now_us())).await.unwrap();
    let about = async |delivery: &str, command: Command, facts: bool| {
        handle.submit_about(vec![ask(delivery, command)], "r", facts).await.expect("the hub takes it")
    };

    let (answers, after) = about("2", reserve("r", "A", 2, now_us() + HOUR), true).await;
    assert_eq!(state_of(&answers[0]), ReservationState::Held);
    let after = after.unwrap();
    assert_eq!((after.reservation.state, after.reservation.lines[0].open), (ReservationState::Held, 2));
    // Each of its SKUs, without what it has itself.
    assert_eq!(after.facts.iter().map(|of| (&*of.sku, of.atp)).collect::<Vec<_>>(), [("A", 1)]);

    let (answers, after) = about("3", Command::Commit { id: "r".into() }, false).await;
    assert_eq!(state_of(&answers[0]), ReservationState::Committed);
    let after = after.unwrap();
    assert_eq!((after.reservation.state, after.facts.len()), (ReservationState::Committed, 0));

    // What is refused is refused, and what stands goes on to stand.
    let (answers, after) = about("4", Command::Extend { id: "r".into(), expires_at_us: now_us() + HOUR }, false).await;
    assert!(matches!(answers[0], Err(Refusal::Stock(StockRefusal::Conflict { .. }))), "{answers:?}");
    assert_eq!(after.unwrap().reservation.state, ReservationState::Committed);
    let command = Command::Commit { id: "unknown".into() };
    let (answers, after) = handle.submit_about(vec![ask("5", command)], "unknown", true).await.unwrap();
    assert!(matches!(answers[0], Err(Refusal::Stock(StockRefusal::Unknown(_)))), "{answers:?}");
    assert!(after.is_none());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_repetition_has_one_effect_over_restarts_and_another_payload_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let expires_at_us = now_us() + HOUR;
    let shipped = Movement {
        source: "wms".into(),
        id: "m1".into(),
        sku: "a".into(),
        location: "berlin".into(),
        kind: MovementKind::Ship,
        quantity: 1,
        occurred_at_us: now_us(),
        reservation: None,
        ..Movement::default()
    };
    let counted_at_us = now_us() - HOUR;
    for round in 0..4 {
        let hub = open(dir.path());
        let handle = hub.handle();
        say(&handle, "c", count("a", 5, counted_at_us)).await.unwrap();
        let answer = say(&handle, "r", reserve("o1", "a", 3, expires_at_us)).await;
        if round == 0 {
            assert_eq!(state_of(&answer), ReservationState::Held);
        } else {
            assert!(matches!(answer, Ok(Outcome::Duplicate { .. })), "round {round}: {answer:?}");
        }
        let reused = say(&handle, "r", reserve("o1", "a", 2, expires_at_us)).await;
        assert!(matches!(&reused, Err(Refusal::KeyReused { key, .. }) if key == "r"), "{reused:?}");
        // The movement is told anew each time, in another delivery.
        let moved = say(&handle, &format!("m-{round}"), Command::Move(shipped.clone())).await.unwrap();
        let Outcome::Stock { answers, .. } = moved else { panic!("{moved:?}") };
        assert_eq!(answers, [Ok(if round == 0 { Answer::Applied } else { Answer::Repeated })], "round {round}");
        assert_eq!(atp(&handle, "a").await, 1);
        // Flushed at a shutdown and not flushed at a drop.
        if round % 2 == 0 {
            hub.shutdown().await;
        } else {
            drop(handle);
            drop(hub);
        }
    }
}

#[tokio::test]
async fn what_is_over_leaves_the_memory_and_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let quick = || HubOptions { flush_interval_ms: 20, ..options(dir.path()) };
    let hub = Hub::open(quick()).unwrap();
    let handle = hub.handle();
    say(&handle, "c", count("a", 1_000, now_us())).await.unwrap();
    for n in 0..200 {
        say(&handle, &format!("r{n}"), reserve(&format!("o{n}"), "a", 1, now_us() + HOUR)).await.unwrap();
        say(&handle, &format!("x{n}"), Command::Release { id: format!("o{n}").into(), lines: Vec::new() })
            .await
            .unwrap();
    }
    let decided = handle.stats().decided.load(Ordering::Relaxed);
    until("flushed", || handle.stats().flushed.load(Ordering::Relaxed) >= decided).await;
    assert_eq!(atp(&handle, "a").await, 1_000);
    // Once more the same end; another end is a conflict.
    let again = say(&handle, "y", Command::Release { id: "o7".into(), lines: Vec::new() }).await;
    assert_eq!(state_of(&again), ReservationState::Released);
    let other = say(&handle, "z", Command::Commit { id: "o8".into() }).await;
    assert!(matches!(other, Err(Refusal::Stock(StockRefusal::Conflict { .. }))), "{other:?}");
    assert_eq!(handle.reservation("o9").await.unwrap().unwrap().state, ReservationState::Released);
    assert!(handle.reservation("nobody").await.unwrap().is_none());
    hub.shutdown().await;
    let hub = Hub::open(quick()).unwrap();
    let handle = hub.handle();
    assert_eq!(handle.reservation("o9").await.unwrap().unwrap().state, ReservationState::Released);
    let again = say(&handle, "yy", Command::Release { id: "o7".into(), lines: Vec::new() }).await;
    assert_eq!(state_of(&again), ReservationState::Released);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_hold_stops_counting_when_its_time_is_over_and_the_sweep_writes_it_down() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    say(&handle, "p", Command::Policy(PolicyOf { channel: "web".into(), ..PolicyOf::default() })).await.unwrap();
    say(&handle, "c", count("a", 1, now_us())).await.unwrap();
    say(&handle, "r", reserve("o1", "a", 1, now_us() + 200_000)).await.unwrap();
    assert_eq!(atp(&handle, "a").await, 0);
    let expired = || async {
        let filter = EventFilter { event_type: Some("reservation.expired".into()), ..EventFilter::default() };
        handle.events(0, filter, 10).await.unwrap().events
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while expired().await.is_empty() {
        assert!(std::time::Instant::now() < deadline, "the sweep never came");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(atp(&handle, "a").await, 1);
    assert_eq!(handle.reservation("o1").await.unwrap().unwrap().state, ReservationState::Expired);
    // The channel was told, in the batch of the sweep.
    let filter = EventFilter { kind: Some("availability".into()), ..EventFilter::default() };
    let told = handle.events(0, filter, 10).await.unwrap().events;
    let last = String::from_utf8(told.last().unwrap().document_json().to_vec()).unwrap();
    assert!(last.contains("\"available\":1"), "{last}");
    hub.shutdown().await;
}

/// Everything that can be asked of stock, in words.
async fn all(hub: &HubHandle, reservations: usize) -> Vec<String> {
    let mut said = Vec::new();
    for sku in ["a", "b", "kit"] {
        let of = hub.availability(vec![sku.into()], "web", Some(i64::MAX), 1_000).await.unwrap().remove(0);
        let mut locations = of.locations;
        // In the order of memory.
        locations
            .iter_mut()
            .for_each(|at| at.holders.sort_by(|a, b| (&a.reservation, a.open).cmp(&(&b.reservation, b.open))));
        said.push(format!("{} {} {} {} {:?} {locations:?}", of.sku, of.atp, of.ato, of.backordered, of.as_of_us));
    }
    for n in 0..reservations {
        said.push(format!("{:?}", hub.reservation(&format!("o{n}")).await.unwrap()));
    }
    said
}

#[tokio::test]
async fn stock_is_the_same_after_every_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut number = 0_usize;
    let counted_at_us = now_us();
    let mut known = Vec::new();
    for round in 0..8_u64 {
        // Flushed often, now and then, or never: what is folded again differs.
        let flush_interval_ms = [5, 40, 60_000][round as usize % 3];
        let hub = Hub::open(HubOptions { flush_interval_ms, ..options(dir.path()) }).unwrap();
        let handle = hub.handle();
        if round == 0 {
            let policy = PolicyOf { channel: "web".into(), backorder_limit: Some(50), ..PolicyOf::default() };
            say(&handle, "p", Command::Policy(policy)).await.unwrap();
            say(&handle, "ca", count("a", 40, counted_at_us)).await.unwrap();
            say(&handle, "cb", count("b", 90, counted_at_us)).await.unwrap();
            let components = vec![("a".into(), 1), ("b".into(), 2)];
            say(&handle, "k", Command::Sku { sku: "kit".into(), scale: 0, components }).await.unwrap();
            let (sku, location) = ("a".into(), "berlin".into());
            let supply = Command::Supply { supply: "po".into(), sku, location, open: 30, eta_us: counted_at_us + HOUR };
            say(&handle, "s", supply).await.unwrap();
        } else {
            assert_eq!(all(&handle, number).await, known, "round {round}");
        }
        for _ in 0..40 {
            let id = format!("o{number}");
            let sku = ["a", "b", "kit"][number % 3];
            let Command::Reserve(wanted) = reserve(&id, sku, 1 + number as i64 % 3, now_us() + HOUR) else { panic!() };
            let backorder_until_us = number.is_multiple_of(3).then_some(i64::MAX);
            let wanted = Command::Reserve(Reserve { backorder_until_us, ..wanted });
            // Some are refused, by now.
            let made = say(&handle, &format!("{id}-r"), wanted).await.is_ok();
            let step = match number % 5 {
                _ if !made => None,
                0 => Some(Command::Commit { id: id.as_str().into() }),
                1 | 2 => Some(Command::Release { id: id.as_str().into(), lines: Vec::new() }),
                3 => Some(Command::Move(Movement {
                    source: "wms".into(),
                    id: id.as_str().into(),
                    sku: if sku == "kit" { "b".into() } else { sku.into() },
                    location: "berlin".into(),
                    kind: MovementKind::Ship,
                    quantity: 1,
                    occurred_at_us: now_us(),
                    reservation: Some(id.as_str().into()),
                    ..Movement::default()
                })),
                _ => None,
            };
            if let Some(step) = step {
                say(&handle, &format!("{id}-s"), step).await.unwrap();
            }
            number += 1;
        }
        known = all(&handle, number).await;
        let tallies = handle.stats().tallies();
        assert!(tallies.violations().is_empty(), "{:?}", tallies.violations());
        // A crash.
        drop(handle);
        drop(hub);
    }
}

#[tokio::test]
async fn what_leaves_memory_before_the_file_has_it_is_found_as_it_was_last() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    say(&handle, "p", Command::Policy(PolicyOf { channel: "web".into(), ..PolicyOf::default() })).await.unwrap();
    say(&handle, "c", count("a", 5, now_us() - HOUR)).await.unwrap();
    say(&handle, "r", reserve("o1", "a", 2, now_us() + 20_000)).await.unwrap();
    let expired = EventFilter { event_type: Some("reservation.expired".into()), ..EventFilter::default() };
    while handle.events(0, expired.clone(), 1).await.unwrap().events.is_empty() {
        tokio::task::yield_now().await;
    }
    hub.shutdown().await;

    // Read again, paid for late and shipped in one batch that changes much else: memory can do without it at once.
    let hub = Hub::open(HubOptions { flush_interval_ms: 3_600_000, ..options(dir.path()) }).unwrap();
    let handle = hub.handle();
    let shipped = Movement {
        source: "wms".into(),
        id: "m1".into(),
        sku: "a".into(),
        location: "berlin".into(),
        kind: MovementKind::Ship,
        quantity: 2,
        occurred_at_us: now_us(),
        reservation: Some("o1".into()),
        ..Movement::default()
    };
    let mut inputs = vec![ask("c2", Command::Commit { id: "o1".into() }), ask("m2", Command::Move(shipped))];
    inputs.extend((0..1_100).map(|n| ask(&format!("n{n}"), count(&format!("sku-{n}"), 1, now_us() - HOUR))));
    let answers = handle.submit(inputs).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|a| a.is_err()));
    let found = handle.reservation("o1").await.unwrap().unwrap();
    assert_eq!(found.state, ReservationState::Consumed);
    hub.shutdown().await;
}
