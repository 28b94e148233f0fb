//! A source is told when its changes have reached everyone, and not before.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Scripted, input, looked, looks, open, until_tallies};
use lockstep_core::delivery::{AttemptResult, RetryPolicy};
use lockstep_hub::delivery::{DeliveryOptions, Start};
use lockstep_hub::{EventFilter, Hub, HubHandle, OversightOptions};

/// Tells these sources.
fn told(sources: &[&str]) -> OversightOptions {
    let tell_reached = sources.iter().map(|source| (*source).to_owned()).collect();
    OversightOptions { tell_reached, rules: vec![looks()], interval_ms: 5, ..OversightOptions::default() }
}

fn add(hub: &Hub, name: &str, start: Start, destination: Arc<Scripted>) {
    let retry = RetryPolicy { retries_max: 100_000, backoff_first_ms: 5, backoff_max_ms: 5, ..RetryPolicy::default() };
    hub.add_destination(
        name,
        destination,
        DeliveryOptions { retry, start, report_interval_ms: 5, ..Default::default() },
    );
}

/// A destination that takes everything while the switch is on and fails while it is off. It refuses what is bad.
fn switched(on: &Arc<AtomicBool>) -> Arc<Scripted> {
    let on = on.clone();
    Scripted::new(move |prepared, _| match on.load(Ordering::SeqCst) {
        _ if prepared.body.starts_with(b"bad") => AttemptResult::Rejected,
        true => AttemptResult::Delivered,
        false => AttemptResult::Transient,
    })
}

fn takes() -> Arc<Scripted> {
    switched(&Arc::new(AtomicBool::new(true)))
}

/// Has a source say something of entities, and gives the position of the last event of that.
async fn say(handle: &HubHandle, source: &str, keys: &[&str]) -> u64 {
    let at = handle.bounds().next;
    let change = |key: &&str| input(source, &format!("{key}/{at}"), key, lockstep_hub::now_us(), at);
    let answers = handle.submit(keys.iter().map(change).collect()).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let filter = EventFilter { kind: Some("stock".into()), ..EventFilter::default() };
    handle.events(0, filter, 10_000).await.unwrap().events.last().unwrap().position
}

/// What a source was told, oldest first: up to where, how many were given up, which.
async fn said(handle: &HubHandle, source: &str) -> Vec<(u64, u64, Vec<u64>)> {
    let (kind, key) = (Some("propagation".into()), Some(source.into()));
    let page = handle.events(0, EventFilter { kind, key, ..EventFilter::default() }, 10_000).await.unwrap();
    let row = |event: &lockstep_core::Event| {
        assert_eq!((event.fact.event_type.as_str(), event.fact.system.as_str()), ("propagation.reached", "@hub"));
        let value = |field| event.value_at(field).unwrap_or_default();
        let positions = value("given_up_positions").as_array().cloned().unwrap_or_default();
        let positions = positions.iter().filter_map(serde_json::Value::as_u64).collect();
        (value("position").as_u64().unwrap(), value("given_up").as_u64().unwrap(), positions)
    };
    page.events.iter().map(row).collect()
}

/// Waits until a source was told of everything up to a position, and gives all that it was told.
async fn until_said(handle: &HubHandle, source: &str, position: u64) -> Vec<(u64, u64, Vec<u64>)> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let all = said(handle, source).await;
        if all.last().is_some_and(|last| last.0 >= position) {
            return all;
        }
        assert!(Instant::now() < deadline, "never told of {position}: {all:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_source_is_told_once_the_slowest_destination_has_everything() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let on = Arc::new(AtomicBool::new(false));
    let quick = takes();
    add(&hub, "quick", Start::Beginning, quick.clone());
    add(&hub, "slow", Start::Beginning, switched(&on));
    hub.oversee(told(&["shop"]));
    let second = say(&handle, "shop", &["A", "B"]).await;
    say(&handle, "erp", &["C"]).await;
    let has = |key: &str| quick.taken().iter().any(|(taken, _)| taken == key);
    common::until("the quick one has everything", || has("A") && has("B") && has("C")).await;
    looked(&handle).await;
    assert_eq!(said(&handle, "shop").await, [], "one destination fails");
    on.store(true, Ordering::SeqCst);
    assert_eq!(until_said(&handle, "shop", second).await, [(second, 0, vec![])], "once for both");
    // What every filter keeps back is settled too.
    let third = say(&handle, "shop", &["hidden"]).await;
    assert_eq!(until_said(&handle, "shop", third).await, [(second, 0, vec![]), (third, 0, vec![])]);
    say(&handle, "erp", &["D"]).await;
    looked(&handle).await;
    looked(&handle).await;
    assert_eq!(said(&handle, "shop").await.len(), 2, "others' changes are nothing to it");
    assert_eq!(said(&handle, "erp").await, [], "it does not want to be told");
    hub.shutdown().await;
}

#[tokio::test]
async fn nobody_is_told_who_has_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    add(&hub, "erp", Start::Beginning, takes());
    hub.oversee(told(&[]));
    let position = say(&handle, "shop", &["A"]).await;
    until_tallies(&handle, "a delivery", |t| t.destinations.get("erp").is_some_and(|t| t.cursor >= position)).await;
    looked(&handle).await;
    assert_eq!(said(&handle, "shop").await, []);
    hub.shutdown().await;
}

#[tokio::test]
async fn what_was_given_up_is_counted_and_named_once() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    add(&hub, "erp", Start::Beginning, takes());
    add(&hub, "wms", Start::Beginning, takes());
    hub.oversee(told(&["shop"]));
    say(&handle, "pim", &["bad of another"]).await;
    let bad = say(&handle, "shop", &["bad"]).await;
    let all = until_said(&handle, "shop", bad).await;
    assert_eq!(all, [(bad, 2, vec![bad])], "one event, given up at two destinations");
    let good = say(&handle, "shop", &["A"]).await;
    assert_eq!(until_said(&handle, "shop", good).await[1..], [(good, 0, vec![])]);
    hub.shutdown().await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_told_twice_and_nothing_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let on = Arc::new(AtomicBool::new(true));
    let start = || {
        let hub = open(dir.path());
        add(&hub, "erp", Start::Beginning, switched(&on));
        hub.oversee(told(&["pim", "shop"]));
        hub
    };
    let hub = start();
    let first = say(&hub.handle(), "shop", &["A"]).await;
    until_said(&hub.handle(), "shop", first).await;
    hub.shutdown().await;

    let hub = start();
    looked(&hub.handle()).await;
    looked(&hub.handle()).await;
    assert_eq!(said(&hub.handle(), "shop").await.len(), 1, "it was told before");
    assert_eq!(said(&hub.handle(), "pim").await, [], "it has said nothing");
    on.store(false, Ordering::SeqCst);
    let second = say(&hub.handle(), "shop", &["B"]).await;
    looked(&hub.handle()).await;
    hub.shutdown().await;

    on.store(true, Ordering::SeqCst);
    let hub = start();
    let all = until_said(&hub.handle(), "shop", second).await;
    assert_eq!(all, [(first, 0, vec![]), (second, 0, vec![])], "what was on its way when it ended");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_destination_that_begins_with_the_state_must_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let (on, new_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    add(&hub, "erp", Start::Beginning, switched(&on));
    let position = say(&handle, "shop", &["A"]).await;
    let new = switched(&new_on);
    add(&hub, "new", Start::State, new.clone());
    let is_there = |name: &'static str, to| {
        move |t: &lockstep_hub::Tallies| t.destinations.get(name).is_some_and(|t| t.cursor >= to)
    };
    until_tallies(&handle, "the new one begins after it", is_there("new", position)).await;
    hub.oversee(told(&["shop"]));
    on.store(true, Ordering::SeqCst);
    until_tallies(&handle, "the old one has it", is_there("erp", position)).await;
    looked(&handle).await;
    assert_eq!(said(&handle, "shop").await, [], "the new one does not have it yet");
    new_on.store(true, Ordering::SeqCst);
    until_said(&handle, "shop", position).await;
    assert!(new.taken().iter().any(|(key, _)| key == "A"));
    hub.shutdown().await;
}
