//! Replays: what they send and what not, beside live traffic, over restarts.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::recorder::{Recorder, said};
use common::{Scripted, input, open, until, until_tallies};
use lockstep_core::delivery::{AttemptResult, RetryPolicy};
use lockstep_hub::delivery::{DeliveryOptions, Standing, Start};
use lockstep_hub::{DeadLetterFilter, EventFilter, HubHandle, ReplayRequest, ReplayTally};

fn quick() -> DeliveryOptions {
    let retry = RetryPolicy { retries_max: 1, backoff_first_ms: 1, backoff_max_ms: 2, ..RetryPolicy::default() };
    DeliveryOptions { retry, report_interval_ms: 5, ..DeliveryOptions::default() }
}

async fn fill(handle: &HubHandle, keys: u64, changes: std::ops::Range<u64>) {
    let inputs = changes.map(|n| input("wms", &format!("d{n}"), &format!("k{}", n % keys), n as i64, n));
    for answer in handle.submit(inputs.collect()).await.unwrap() {
        answer.unwrap();
    }
}

async fn delivered(handle: &HubHandle, name: &str, count: u64) {
    until_tallies(handle, "all delivered", |t| t.destinations.get(name).is_some_and(|d| d.delivered == count)).await;
}

fn to(destination: &str) -> ReplayRequest {
    ReplayRequest { destination: destination.to_owned(), by: "ops".to_owned(), ..ReplayRequest::default() }
}

async fn ended(handle: &HubHandle, id: u64) -> ReplayTally {
    let over = |t: &lockstep_hub::Tallies| t.replays.get(&id).is_some_and(|replay| replay.ended_at_us.is_some());
    until_tallies(handle, "the replay is through", over).await.replays[&id].clone()
}

/// The newest position of each key, and that none went back.
fn newest_in_order(taken: &[(String, u64)]) -> BTreeMap<String, u64> {
    let mut newest = BTreeMap::new();
    for (key, position) in taken {
        let before = newest.insert(key.clone(), *position).unwrap_or(0);
        assert!(before <= *position, "{key}: {position} after {before}");
    }
    newest
}

#[tokio::test]
async fn only_the_newest_of_each_entity_is_sent_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    fill(&handle, 7, 0..1_000).await;
    delivered(&handle, "erp", 1_000).await;
    let live = destination.taken();

    let id = handle.start_replay(to("erp")).await.unwrap();
    let replay = ended(&handle, id).await;
    assert_eq!((replay.delivered, replay.stale_count), (7, 993));
    let taken = destination.taken();
    assert_eq!(newest_in_order(&taken), newest_in_order(&live));
    assert_eq!(taken.len(), 1_007);
    assert_eq!(destination.marks(), BTreeSet::from([id.to_string()]), "each says of which replay it is");

    // All of a part, as it was, in order for each key.
    let half = live[500].1;
    let all = ReplayRequest { after: half, stale: true, key: "k3".to_owned(), ..to("erp") };
    let id = handle.start_replay(all).await.unwrap();
    let replay = ended(&handle, id).await;
    let again: Vec<_> = destination.taken().split_off(1_007);
    let mut expected: Vec<_> = live.iter().filter(|(key, at)| key == "k3" && *at > half).cloned().collect();
    expected.sort_by_key(|(_, position)| *position);
    assert_eq!(again, expected);
    assert_eq!(replay.delivered, expected.len() as u64);

    let types = ReplayRequest { event_type: "nothing.*".to_owned(), ..to("erp") };
    let id = handle.start_replay(types).await.unwrap();
    let replay = ended(&handle, id).await;
    assert_eq!((replay.delivered, replay.stale_count, replay.cursor), (0, 0, replay.until));
    let tallies = handle.stats().tallies();
    assert_eq!(tallies.destinations["erp"].delivered, 1_000, "what is replayed is counted apart");
    assert_eq!(tallies.violations(), Vec::<String>::new());
    assert!(handle.start_replay(to("nobody")).await.is_err());
    hub.shutdown().await;
}

#[tokio::test]
async fn beside_live_events_no_state_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    // Some attempts fail, so that events wait for their retry while newer ones come.
    let count = std::sync::atomic::AtomicU64::new(0);
    let destination = Scripted::new(move |_, attempt| {
        let fails = attempt == 1 && count.fetch_add(1, Ordering::Relaxed).is_multiple_of(5);
        if fails { AttemptResult::Transient } else { AttemptResult::Delivered }
    });
    let retry = RetryPolicy { retries_max: 5, backoff_first_ms: 1, backoff_max_ms: 4, ..RetryPolicy::default() };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { retry, ..quick() });
    let handle = hub.handle();
    fill(&handle, 100, 0..500).await;
    for round in 0..20_u64 {
        let id = handle.start_replay(to("erp")).await.unwrap();
        // Some of the entities change meanwhile, others each time.
        for part in 0..6 {
            let from = 500 + (round * 6 + part) * 10;
            fill(&handle, 100, from..from + 10).await;
        }
        ended(&handle, id).await;
    }
    delivered(&handle, "erp", 1_700).await;
    let newest = newest_in_order(&destination.taken());
    assert_eq!(newest.len(), 100);
    let tallies = handle.stats().tallies();
    assert!(tallies.replays.values().any(|replay| replay.delivered > 0), "{:?}", tallies.replays);
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_replay_goes_on_after_a_restart_and_ends_where_it_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.add_destination("erp", Scripted::new(|_, _| AttemptResult::Delivered), quick());
    let handle = hub.handle();
    fill(&handle, 1_000, 0..1_000).await;
    delivered(&handle, "erp", 1_000).await;
    hub.shutdown().await;

    let mut seen = BTreeSet::new();
    let mut id = None;
    // The first two are stopped in the middle: an orderly end, and as in a crash.
    for run in 0..3 {
        let hub = open(dir.path());
        let handle = hub.handle();
        let stuck = Arc::new(AtomicBool::new(false));
        let switch = stuck.clone();
        let limit = if run < 2 { 300 } else { usize::MAX };
        let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = taken.clone();
        let destination = Scripted::new(move |_, _| {
            if count.fetch_add(1, Ordering::Relaxed) >= limit {
                switch.store(true, Ordering::Relaxed);
                return AttemptResult::Throttled { retry_after_ms: Some(60_000) };
            }
            AttemptResult::Delivered
        });
        hub.add_destination("erp", destination.clone(), quick());
        let id = match id {
            Some(id) => id,
            None => *id.insert(handle.start_replay(to("erp")).await.unwrap()),
        };
        if run < 2 {
            until("it can't go on", || stuck.load(Ordering::Relaxed)).await;
            until("the pages before are journaled", || handle.stats().tallies().replays[&id].cursor > 0).await;
        } else {
            let replay = ended(&handle, id).await;
            assert_eq!((replay.delivered, replay.stale_count, replay.failed), (1_000, 0, 0));
        }
        seen.extend(destination.taken());
        drop(handle);
        if run == 1 { drop(hub) } else { hub.shutdown().await }
    }
    assert_eq!(seen.len(), 1_000, "every one of them, under the id that it had");

    let hub = open(dir.path());
    let handle = hub.handle();
    hub.add_destination(
        "erp",
        Scripted::new(|_, _| AttemptResult::Throttled { retry_after_ms: Some(60_000) }),
        quick(),
    );
    let id = handle.start_replay(to("erp")).await.unwrap();
    assert!(handle.cancel_replay(id, "ops").await.unwrap());
    assert!(!handle.cancel_replay(id, "ops").await.unwrap());
    assert_eq!(ended(&handle, id).await.cancelled_by.as_deref(), Some("ops"));
    hub.shutdown().await;
}

#[tokio::test]
async fn what_a_replay_can_not_deliver_is_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let refuses = Arc::new(AtomicBool::new(false));
    let switch = refuses.clone();
    let destination = Scripted::new(move |prepared, _| {
        let refused = switch.load(Ordering::Relaxed) && prepared.body.as_ref() == b"k1";
        if refused { AttemptResult::Rejected } else { AttemptResult::Delivered }
    });
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    fill(&handle, 3, 0..3).await;
    delivered(&handle, "erp", 3).await;
    refuses.store(true, Ordering::Relaxed);
    for (failed, passed) in [(1, 0), (0, 1)] {
        // The second finds the dead letter of the first.
        let id = handle.start_replay(to("erp")).await.unwrap();
        let replay = ended(&handle, id).await;
        assert_eq!((replay.delivered, replay.failed, replay.passed), (2, failed, passed));
    }
    let filter = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let rows = handle.dead_letters(filter).await.unwrap().items;
    assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["k1"]);
    refuses.store(false, Ordering::Relaxed);
    assert!(handle.retry_dead_letter(&rows[0], "ops").await);
    let tallies = until_tallies(&handle, "it is delivered", |t| t.destinations["erp"].dead == 0).await;
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.delivered, erp.imported, erp.pending(tallies.published)), (4, 1, 0));
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_new_destination_begins_with_the_state_without_gap_or_double() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    fill(&handle, 400, 0..1_200).await;
    fill(&handle, 1, 1_200..1_201).await;
    hub.shutdown().await;

    // In the file and not in the file, changed before, meanwhile and afterwards.
    let hub = open(dir.path());
    let handle = hub.handle();
    fill(&handle, 450, 1_300..1_420).await;
    let before = handle.stats().tallies();
    let state = DeliveryOptions { start: Start::State, ..quick() };
    let destination = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("new", destination.clone(), state.clone());
    for part in 0..30 {
        let from = 2_000 + part * 20;
        fill(&handle, 450, from..from + 20).await;
    }
    let snapshot = |t: &lockstep_hub::Tallies| t.replays.values().next().is_some_and(|r| r.ended_at_us.is_some());
    let tallies = until_tallies(&handle, "the snapshot is through and live events are there", |t| {
        let new = t.destinations.get("new");
        snapshot(t) && new.is_some_and(|d| t.published >= before.published + 600 && d.pending(t.published) == 0)
    })
    .await;
    let new = &tallies.destinations["new"];
    assert_eq!(new.delivered + new.skipped, tallies.published);
    let taken = destination.taken();
    let newest = newest_in_order(&taken);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len(), "none twice");
    let mut after = String::new();
    let mut keys = 0;
    loop {
        let page = handle.entities("stock", &after, 100).await.unwrap();
        for entity in &page.items {
            keys += 1;
            assert_eq!(newest.get(entity.key.as_str()), Some(&entity.position), "{}", entity.key);
        }
        match page.items.last().filter(|_| page.more) {
            Some(last) => after = last.key.to_string(),
            None => break,
        }
    }
    assert_eq!((keys, newest.len()), (450, 450));
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;

    // It is no longer new.
    let hub = open(dir.path());
    let again = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("new", again.clone(), state);
    let handle = hub.handle();
    fill(&handle, 450, 3_000..3_001).await;
    until("the next event", || !again.taken().is_empty()).await;
    assert_eq!((again.taken().len(), handle.replays().await.unwrap().len()), (1, 1));
    hub.shutdown().await;
}

#[tokio::test]
async fn where_the_events_before_the_state_stand_is_told_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let mut number = 0;
    for key in ["A", "A", "B", "hidden"] {
        number += 1;
        handle.submit(vec![input("wms", &format!("d{number}"), key, number, number as u64)]).await.unwrap();
    }
    let state = DeliveryOptions { start: Start::State, ..quick() };
    hub.add_destination("new", Scripted::new(|_, _| AttemptResult::Delivered), state.clone());
    until_tallies(&handle, "the state is there", |t| t.replays.values().any(|r| r.ended_at_us.is_some())).await;
    hub.shutdown().await;

    let hub = open(dir.path());
    let handle = hub.handle();
    hub.add_destination("new", Scripted::new(|_, _| AttemptResult::Delivered), state);
    // What came afterwards says nothing of whether the one before it came with the state.
    handle.submit(vec![input("wms", "d5", "B", 5, 5)]).await.unwrap();
    let events = handle.events(0, EventFilter::default(), 10).await.unwrap().events;
    let mut standings = Vec::new();
    for event in &events[..4] {
        standings.push(handle.propagation_at(event, "new").await.unwrap().standing);
    }
    let by = Some(events[1].position);
    let expected = [Standing::Superseded { by }, Standing::Delivered, Standing::Settled, Standing::Filtered];
    assert_eq!(standings, expected);
    hub.shutdown().await;
}

#[tokio::test]
async fn the_state_has_an_entity_however_many_of_its_last_events_are_kept_back() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let shown = handle.submit(vec![said("first", "order", "a", &[("hidden", "false")])]).await.unwrap();
    assert!(shown[0].is_ok());
    let hidden = (0..1_100).map(|n| said(&format!("h{n}"), "order", "a", &[("hidden", "true"), ("n", &n.to_string())]));
    for answer in handle.submit(hidden.collect()).await.unwrap() {
        answer.unwrap();
    }
    let state = DeliveryOptions { start: Start::State, ..quick() };
    let destination = Recorder::new(|_| AttemptResult::Delivered);
    hub.add_destination("new", destination.clone(), state);
    until_tallies(&handle, "the snapshot is through", |t| {
        t.replays.values().next().is_some_and(|replay| replay.ended_at_us.is_some())
    })
    .await;
    assert_eq!(destination.taken(), [("order/a".to_owned(), 1)]);

    // A part of one kind looks at nothing else.
    handle.submit(vec![said("c", "order", "c", &[("hidden", "true")])]).await.unwrap()[0].as_ref().unwrap();
    handle.submit(vec![said("b", "price", "b", &[("n", "1")])]).await.unwrap()[0].as_ref().unwrap();
    delivered(&handle, "new", 1).await;
    let request = ReplayRequest { kind: "price".to_owned(), state: true, ..to("new") };
    let id = handle.start_replay(request).await.unwrap();
    let replay = ended(&handle, id).await;
    assert_eq!((replay.delivered, replay.filtered, replay.passed), (1, 0, 0));
    hub.shutdown().await;
}
