//! Dead letters: found by conditions, sent again when it was planned, many at once.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Scripted, input, open, until, until_tallies};
use lockstep_core::delivery::{AttemptResult, RetryPolicy};
use lockstep_core::record::Body;
use lockstep_core::{Change, Field, InputBody};
use lockstep_hub::delivery::DeliveryOptions;
use lockstep_hub::{BulkAction, DeadLetterFilter, DeadLetterRow, Hub, HubHandle, Standing, now_us};

const HOUR_US: i64 = 3_600_000_000;

fn quick() -> DeliveryOptions {
    let retry = RetryPolicy { retries_max: 1, backoff_first_ms: 1, backoff_max_ms: 2, ..RetryPolicy::default() };
    DeliveryOptions { retry, report_interval_ms: 5, ..DeliveryOptions::default() }
}

/// A destination that refuses everything until the switch is on.
fn door() -> (Arc<Scripted>, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let switch = open.clone();
    let destination = Scripted::new(move |prepared, _| match switch.load(Ordering::Relaxed) {
        true => AttemptResult::Delivered,
        false if prepared.body.starts_with(b"slow") => AttemptResult::Transient,
        false => AttemptResult::Rejected,
    });
    (destination, open)
}

async fn say(handle: &HubHandle, delivery: &str, kind: &str, key: &str, at: i64, fields: &[(&str, &str)]) {
    let fields = fields.iter().map(|(name, json)| Field::new(*name, (*json).to_owned())).collect();
    let mut input = input("wms", delivery, key, at, at as u64);
    input.body = InputBody::Changes(vec![Change::new(kind, key, 0, at, fields).unwrap()]);
    handle.submit(vec![input]).await.unwrap().remove(0).unwrap();
}

fn every() -> DeadLetterFilter {
    DeadLetterFilter { limit: 10_000, ..DeadLetterFilter::default() }
}

async fn found(handle: &HubHandle, filter: DeadLetterFilter) -> Vec<String> {
    handle.dead_letters(filter).await.unwrap().items.into_iter().map(|row| row.key).collect()
}

async fn letters(handle: &HubHandle) -> Vec<DeadLetterRow> {
    handle.dead_letters(every()).await.unwrap().items
}

async fn dead(handle: &HubHandle, name: &str, count: u64) {
    until_tallies(handle, "all given up", |t| t.destinations.get(name).is_some_and(|d| d.dead == count)).await;
}

/// Writes the state to its file by ending the hub, and opens it again.
async fn again(hub: Hub, dir: &std::path::Path) -> Hub {
    hub.shutdown().await;
    open(dir)
}

#[tokio::test]
async fn each_condition_finds_what_meets_it_before_and_after_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.add_destination("erp", door().0, quick());
    let handle = hub.handle();
    let total = |minor: u32| format!(r#"{{"minor":{minor},"currency":"EUR"}}"#);
    say(&handle, "1", "order", "large", 1, &[("total", &total(990_000))]).await;
    say(&handle, "2", "order", "small", 2, &[("total", &total(1_000))]).await;
    let promised = [("total", total(2_000)), ("promised_at", r#""2020-01-01T00:00:00Z""#.to_owned())];
    let promised: Vec<_> = promised.iter().map(|(name, json)| (*name, json.as_str())).collect();
    say(&handle, "3", "order", "promised", 3, &promised).await;
    say(&handle, "4", "product", "slow", 4, &[("title", "\"x\"")]).await;
    say(&handle, "5", "product", "poison", 5, &[("title", "\"x\"")]).await;
    dead(&handle, "erp", 5).await;
    let tomorrow = now_us() + 24 * HOUR_US;
    let filter = DeadLetterFilter { key: Some("small".into()), ..every() };
    let plan = BulkAction::Retry { at_us: tomorrow, over_us: 0 };
    assert_eq!(handle.bulk_dead_letters(filter, plan, "ops").await.unwrap(), (1, None));

    let check = async |handle: &HubHandle| {
        let text = |text: &str| Some(text.to_owned());
        let rows: [(DeadLetterFilter, &[&str]); 13] = [
            (every(), &["large", "small", "promised", "slow", "poison"]),
            (DeadLetterFilter { destination: text("wms"), ..every() }, &[]),
            (DeadLetterFilter { kind: text("product"), ..every() }, &["slow", "poison"]),
            (DeadLetterFilter { event_type: text("order.*"), ..every() }, &["large", "small", "promised"]),
            (DeadLetterFilter { event_type: text("product.created"), ..every() }, &["slow", "poison"]),
            (DeadLetterFilter { reason: text("exhausted"), ..every() }, &["slow"]),
            (DeadLetterFilter { status: Some(0), ..every() }, &["poison"]),
            (DeadLetterFilter { text: text("NO SUCH FIELD"), ..every() }, &["poison"]),
            (DeadLetterFilter { currency: text("EUR"), ..every() }, &["large", "small", "promised"]),
            (DeadLetterFilter { scheduled: Some(true), ..every() }, &["small"]),
            (DeadLetterFilter { scheduled: Some(false), kind: text("order"), ..every() }, &["large", "promised"]),
            (DeadLetterFilter { dead_until_us: Some(now_us() - HOUR_US), ..every() }, &[]),
            (DeadLetterFilter { dead_from_us: Some(now_us() - HOUR_US), limit: 2, ..every() }, &["large", "small"]),
        ];
        for (filter, keys) in rows {
            assert_eq!(found(handle, filter.clone()).await, keys, "{filter:?}");
        }
        let by_impact = handle.dead_letters_by_impact(every(), now_us(), None).await.unwrap().items;
        let keys: Vec<_> = by_impact.iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys, ["large", "promised", "small", "slow", "poison"]);
        let small = letters(handle).await.into_iter().find(|row| row.key == "small").unwrap();
        assert_eq!((small.minor, small.currency.as_str()), (Some(1_000), "EUR"));
        assert_eq!(small.retry.map(|plan| (plan.at_us, plan.by)), Some((tomorrow, "ops".to_owned())));
    };
    check(&handle).await;
    drop(handle);
    let hub = again(hub, dir.path()).await;
    check(&hub.handle()).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn what_a_dead_letter_costs_in_the_journal_does_not_grow_with_what_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    // It says nothing but what it must.
    hub.add_destination("erp", door().0, DeliveryOptions { report_interval_ms: 3_600_000, ..quick() });
    let handle = hub.handle();
    let inputs = (0..600).map(|n| input("wms", &format!("d{n}"), &format!("k{n}"), n, n as u64));
    for answer in handle.submit(inputs.collect()).await.unwrap() {
        answer.unwrap();
    }
    dead(&handle, "erp", 600).await;
    let (mut words, mut told) = (0, 0);
    for position in 1..handle.bounds().next {
        if let Some(Body::Progress(progress)) = handle.record(position).await.unwrap().and_then(|record| record.body) {
            (words, told) = (words + 1, told + progress.open.len());
        }
    }
    println!("{words} words of progress with {told} open events in all, for 600 dead letters");
    assert!(words <= 60, "{words} words of progress with {told} open events");
    assert_eq!(handle.stats().tallies().violations(), Vec::<String>::new());
    hub.shutdown().await;
    let mut standing = Standing::beside(dir.path(), lockstep_core::stock::Limits::default()).unwrap();
    assert_eq!(standing.audit_deliveries(|_| {}).unwrap().broken, Vec::<String>::new());
}

#[tokio::test]
async fn of_many_attempts_the_first_and_the_last_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.add_destination("erp", door().0, quick());
    let handle = hub.handle();
    handle.submit(vec![input("wms", "a", "a", 1, 1)]).await.unwrap();
    dead(&handle, "erp", 1).await;
    for attempts in 1..=60 {
        let row = letters(&handle).await.remove(0);
        assert_eq!(row.attempts, attempts);
        assert!(handle.retry_dead_letter(&row, "ops").await);
        while letters(&handle).await[0].record == row.record {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    let row = letters(&handle).await.remove(0);
    assert_eq!(row.attempts, 61, "none is forgotten in the count");
    let record = handle.record(row.record).await.unwrap().unwrap();
    let Some(Body::DeadLettered(letter)) = record.body else { panic!("{record:?}") };
    let numbers: Vec<u32> = letter.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=4).chain(34..=61).collect::<Vec<_>>());
    hub.shutdown().await;
}

#[tokio::test]
async fn many_are_given_up_in_parts_and_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.add_destination("erp", door().0, quick());
    let handle = hub.handle();
    let inputs = (0..1_200).map(|n| input("wms", &format!("d{n}"), &format!("k{n}"), n, n as u64));
    for answer in handle.submit(inputs.collect()).await.unwrap() {
        answer.unwrap();
    }
    dead(&handle, "erp", 1_200).await;
    let discard = BulkAction::Discard { reason: "a test".into() };
    // Nothing meets this one: it is looked for in parts all the same.
    let mut looked = (0, DeadLetterFilter { text: Some("no such text".into()), ..every() });
    loop {
        let (count, next_after) = handle.bulk_dead_letters(looked.1.clone(), discard.clone(), "ops").await.unwrap();
        assert_eq!(count, 0);
        looked = (looked.0 + 1, DeadLetterFilter { after: next_after.clone(), ..looked.1 });
        if next_after.is_none() {
            break;
        }
    }
    assert_eq!(looked.0, 3, "of 1,200 the hub looks at 500 in one step");

    let mut filter = DeadLetterFilter { destination: Some("erp".into()), limit: 300, ..DeadLetterFilter::default() };
    let (count, next_after) = handle.bulk_dead_letters(filter.clone(), discard.clone(), "ops").await.unwrap();
    assert_eq!(count, 300);
    drop(handle);
    // Interrupted, it goes on where it was.
    let hub = again(hub, dir.path()).await;
    let handle = hub.handle();
    filter = DeadLetterFilter { after: next_after, limit: 10_000, ..filter };
    let mut rest = 0;
    loop {
        let (count, next_after) = handle.bulk_dead_letters(filter.clone(), discard.clone(), "ops").await.unwrap();
        rest += count;
        filter.after = next_after;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(rest, 900);
    assert!(letters(&handle).await.is_empty());
    let tallies = until_tallies(&handle, "all given up", |t| t.destinations["erp"].discarded == 1_200).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_planned_retry_survives_a_restart_and_can_be_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.add_destination("erp", door().0, quick());
    let handle = hub.handle();
    for key in ["a", "b", "c", "d"] {
        handle.submit(vec![input("wms", key, key, 1, 1)]).await.unwrap();
    }
    dead(&handle, "erp", 4).await;
    let rows = letters(&handle).await;
    let later = now_us() + HOUR_US;
    for row in &rows {
        assert!(handle.schedule_retry("erp", row.event, Some(later), "ops").await.unwrap());
    }
    assert!(!handle.schedule_retry("erp", 999, Some(later), "ops").await.unwrap());
    assert!(handle.schedule_retry("erp", rows[1].event, None, "ops").await.unwrap());
    drop(handle);

    let hub = again(hub, dir.path()).await;
    let handle = hub.handle();
    let planned = |rows: Vec<DeadLetterRow>| rows.iter().map(|row| row.retry.is_some()).collect::<Vec<_>>();
    assert_eq!(planned(letters(&handle).await), [true, false, true, true]);
    // A time that passes while nobody delivers: it is done as soon as somebody does.
    for row in [&rows[0], &rows[3]] {
        assert!(handle.schedule_retry("erp", row.event, Some(1), "ops").await.unwrap());
    }
    // What is newer of the same entity is there by then.
    let (destination, switch) = door();
    switch.store(true, Ordering::Relaxed);
    handle.submit(vec![input("wms", "d2", "d", 2, 2)]).await.unwrap();
    let newer = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("other", newer.clone(), quick());
    until("the newer one is published", || newer.taken().iter().filter(|(key, _)| key == "d").count() == 2).await;
    hub.add_destination("erp", destination.clone(), quick());
    let tallies = until_tallies(&handle, "those that are due are settled", |t| {
        t.destinations["erp"].dead == 2 && t.destinations["erp"].pending(t.published) == 0
    })
    .await;
    let erp = &tallies.destinations["erp"];
    assert_eq!(erp.delivered + erp.superseded, 3, "a and the newer d; the older d, where it was not first");
    let order: Vec<_> = destination.taken().into_iter().filter(|(key, _)| key == "d").map(|(_, event)| event).collect();
    assert!(order.is_sorted() && order.last() > Some(&rows[3].event), "{order:?}");
    assert_eq!(planned(letters(&handle).await), [false, true]);

    // Planned anew for now, without a restart, it wakes whoever waits for the later time.
    assert!(handle.schedule_retry("erp", rows[2].event, Some(now_us()), "ops").await.unwrap());
    let tallies = until_tallies(&handle, "it is sent", |t| t.destinations["erp"].dead == 1).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn retries_are_spread_and_an_entitys_stay_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let (destination, switch) = door();
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    for n in 0..600_i64 {
        let key = format!("k{}", n % 40);
        handle.submit(vec![input("wms", &format!("d{n}"), &key, n, n as u64)]).await.unwrap();
    }
    dead(&handle, "erp", 600).await;
    let begin = now_us() + HOUR_US;
    let mut filter = every();
    loop {
        let plan = BulkAction::Retry { at_us: begin, over_us: HOUR_US };
        filter.after = handle.bulk_dead_letters(filter.clone(), plan, "ops").await.unwrap().1;
        if filter.after.is_none() {
            break;
        }
    }
    let mut times = std::collections::BTreeMap::<String, std::collections::BTreeSet<i64>>::new();
    for row in letters(&handle).await {
        times.entry(row.key).or_default().insert(row.retry.unwrap().at_us);
    }
    assert!(times.values().all(|of_one| of_one.len() == 1), "all of an entity at the same moment");
    let moments: std::collections::BTreeSet<i64> = times.values().flatten().copied().collect();
    assert!(moments.first() >= Some(&begin) && moments.last() < Some(&(begin + HOUR_US)));
    let early = moments.iter().filter(|at_us| **at_us < begin + HOUR_US / 2).count();
    assert!(moments.len() == 40 && (8..=32).contains(&early), "{early} of 40 in the first half");

    switch.store(true, Ordering::Relaxed);
    let mut filter = DeadLetterFilter { scheduled: Some(true), ..every() };
    loop {
        let now = BulkAction::Retry { at_us: now_us(), over_us: 0 };
        filter.after = handle.bulk_dead_letters(filter.clone(), now, "ops").await.unwrap().1;
        if filter.after.is_none() {
            break;
        }
    }
    let tallies = until_tallies(&handle, "all are sent", |t| t.destinations["erp"].dead == 0).await;
    assert_eq!((tallies.destinations["erp"].delivered, tallies.destinations["erp"].superseded), (600, 0));
    let mut last = std::collections::BTreeMap::<String, u64>::new();
    for (key, event) in destination.taken() {
        assert!(last.insert(key, event) < Some(event), "in order");
    }
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}
