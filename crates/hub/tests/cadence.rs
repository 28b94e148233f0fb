//! When events go to a destination: windows, schedules, and the newest event of each entity for those before it.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use common::recorder::{Recorder, said};
use common::{Scripted, input, open, until, until_tallies};
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::degrade::Pin;
use lockstep_core::delivery::{AttemptResult, Cadence, Cron, Step};
use lockstep_hub::delivery::{DeliveryOptions, Standing};
use lockstep_hub::{HubHandle, Tallies};

const HOUR_MS: u64 = 3_600_000;

fn with(cadence: Cadence) -> DeliveryOptions {
    DeliveryOptions { report_interval_ms: 5, cadence, ..DeliveryOptions::default() }
}

fn window(window_ms: u64, latest_only: bool) -> Cadence {
    Cadence::Window { window_ms, latest_only }
}

/// A schedule that comes once in a year, and not today.
fn far() -> Cadence {
    let day = |month: u32| format!("0 0 1 {month} *").parse().unwrap();
    let cron = [1, 7].map(day).into_iter().max_by_key(|cron: &Cron| cron.next_after(lockstep_hub::now_us()).unwrap());
    Cadence::Schedule { cron: cron.unwrap(), latest_only: true }
}

/// So many rounds of a change of each key.
async fn fill(handle: &HubHandle, keys: u64, rounds: std::ops::Range<u64>) {
    for n in rounds.start * keys..rounds.end * keys {
        let one = input("wms", &format!("d{n}"), &format!("k{}", n % keys), n as i64, n);
        handle.submit(vec![one]).await.unwrap();
    }
}

fn settled(tallies: &Tallies, name: &str) -> bool {
    tallies.destinations.get(name).is_some_and(|d| d.pending(tallies.published) == 0 && d.cursor >= tallies.last_event)
}

fn held(handle: &HubHandle) -> usize {
    handle.destination_conditions()["erp"].held
}

/// A copy of a data folder as it is now: what a crash would leave.
fn crashed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(dir, copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn event(handle: &HubHandle, position: u64) -> Event {
    Event::of(position, handle.record(position).await.unwrap().unwrap()).unwrap()
}

/// What came is the newest event of each of so many keys, and nothing else.
async fn assert_newest(handle: &HubHandle, destination: &Scripted, keys: u64) {
    let mut newest = Vec::new();
    for key in 0..keys {
        let key = format!("k{key}");
        newest.push((key.clone(), handle.entity("stock", &key).await.unwrap().unwrap().position));
    }
    let mut taken = destination.taken();
    taken.sort();
    newest.sort();
    assert_eq!(taken, newest);
}

/// The journal counted again.
fn audit(dir: &Path) -> BTreeMap<String, lockstep_hub::DestinationTally> {
    let mut standing = lockstep_hub::Standing::beside(dir, lockstep_core::stock::Limits::default()).unwrap();
    let found = standing.audit_deliveries(|_| {}).unwrap();
    assert_eq!(found.broken, Vec::<String>::new());
    found.tallies.destinations
}

#[tokio::test]
async fn of_a_window_only_the_newest_event_of_each_entity_goes() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", destination.clone(), with(window(HOUR_MS, true)));
    let handle = hub.handle();
    fill(&handle, 3, 0..10).await;
    until_tallies(&handle, "27 superseded", |t| t.destinations.get("erp").is_some_and(|d| d.superseded == 27)).await;
    until("three are held", || held(&handle) == 3).await;
    assert_eq!(destination.taken(), vec![]);
    let standing = handle.propagation_at(&event(&handle, 1).await, "erp").await.unwrap().standing;
    assert!(matches!(standing, Standing::Superseded { by: Some(_) }), "{standing:?}");

    assert!(handle.set_cadence("erp", Cadence::Live));
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "erp")).await;
    assert_newest(&handle, &destination, 3).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    let erp = &audit(dir.path())["erp"];
    assert_eq!((erp.delivered, erp.superseded, erp.unaccounted()), (3, 27, 0));
}

#[tokio::test]
async fn a_window_ends_by_itself_and_may_send_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let (newest, all) = (Recorder::new(|_| AttemptResult::Delivered), Recorder::new(|_| AttemptResult::Delivered));
    hub.add_destination("newest", newest.clone(), with(window(20, true)));
    hub.add_destination("all", all.clone(), with(window(20, false)));
    let handle = hub.handle();
    fill(&handle, 5, 0..40).await;
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "newest") && settled(t, "all")).await;
    let counts = |name: &str| (tallies.destinations[name].delivered, tallies.destinations[name].superseded);
    assert_eq!(counts("all"), (200, 0));
    let (delivered, superseded) = counts("newest");
    assert_eq!(delivered + superseded, 200);
    assert_eq!(delivered, newest.taken().len() as u64);
    for destination in [&newest, &all] {
        let mut last = BTreeMap::new();
        for (entity, position) in destination.taken() {
            assert!(last.insert(entity, position).unwrap_or(0) < position, "in order");
        }
        for (entity, position) in last {
            let key = entity.strip_prefix("stock/").unwrap();
            assert_eq!(
                handle.entity("stock", key).await.unwrap().unwrap().position,
                position,
                "the newest of {entity}"
            );
        }
    }
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    audit(dir.path());
}

#[tokio::test]
async fn a_crash_within_a_window_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let before = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", before.clone(), with(window(HOUR_MS, true)));
    let handle = hub.handle();
    fill(&handle, 4, 0..5).await;
    until_tallies(&handle, "16 superseded", |t| t.destinations.get("erp").is_some_and(|d| d.superseded == 16)).await;
    let copy = crashed(dir.path());
    hub.shutdown().await;
    assert_eq!(before.taken(), vec![]);

    for folder in [dir.path(), copy.path()] {
        // Held again; then more comes, and it is sent.
        let hub = open(folder);
        let handle = hub.handle();
        let first = event(&handle, 1).await;
        let after = Scripted::new(|_, _| AttemptResult::Delivered);
        hub.add_destination("erp", after.clone(), with(window(HOUR_MS, true)));
        until("held again", || held(&handle) == 4).await;
        let standing = handle.propagation_at(&first, "erp").await.unwrap().standing;
        assert!(matches!(standing, Standing::Superseded { .. }), "the journal knows: {standing:?}");
        fill(&handle, 2, 20..21).await;
        until_tallies(&handle, "two more superseded", |t| t.destinations["erp"].superseded == 18).await;
        assert!(handle.set_cadence("erp", Cadence::Live));
        let tallies = until_tallies(&handle, "all settled", |t| settled(t, "erp")).await;
        assert_newest(&handle, &after, 4).await;
        let erp = &tallies.destinations["erp"];
        assert_eq!((erp.delivered, erp.superseded, erp.unaccounted()), (4, 18, 0));
        hub.shutdown().await;
        audit(folder);
    }
}

#[tokio::test]
async fn what_is_not_to_go_stands_for_nothing_and_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Recorder::new(|_| AttemptResult::Delivered);
    hub.add_destination("erp", destination.clone(), with(window(HOUR_MS, true)));
    let handle = hub.handle();
    for (number, hidden) in ["false", "false", "true", "true"].into_iter().enumerate() {
        let title = format!("\"{number}\"");
        let input = said(&number.to_string(), "product", "A", &[("title", &title), ("hidden", hidden)]);
        handle.submit(vec![input]).await.unwrap();
    }
    handle.submit(vec![said("b", "product", "B", &[("hidden", "true")])]).await.unwrap();
    until_tallies(&handle, "three filtered", |t| t.destinations.get("erp").is_some_and(|d| d.filtered == 3)).await;
    until("one is held", || held(&handle) == 1).await;
    assert!(handle.set_cadence("erp", Cadence::Live));
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "erp")).await;
    let second = tallies.published - 3;
    let events: BTreeSet<u64> = destination.taken().into_iter().map(|(_, position)| position).collect();
    assert_eq!(events.len(), 1);
    let page = handle.events(0, lockstep_hub::EventFilter::default(), 10).await.unwrap();
    assert_eq!(events.first(), page.events.get(second as usize - 1).map(|event| &event.position));
    assert_eq!(tallies.destinations["erp"].superseded, 1);
    hub.shutdown().await;
    audit(dir.path());
}

#[tokio::test]
async fn a_window_that_is_full_ends_early_and_a_schedule_is_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let (early, nightly) =
        (Scripted::new(|_, _| AttemptResult::Delivered), Scripted::new(|_, _| AttemptResult::Delivered));
    let few = |cadence| DeliveryOptions { window_events_max: 10, ..with(cadence) };
    hub.add_destination("early", early.clone(), few(window(HOUR_MS, true)));
    hub.add_destination("erp", nightly.clone(), few(far()));
    let handle = hub.handle();
    fill(&handle, 60, 0..2).await;
    until_tallies(&handle, "most of them went early", |t| {
        t.destinations.get("early").is_some_and(|d| d.pending(t.published) <= 10)
    })
    .await;
    until("the schedule's window is full", || held(&handle) >= 10).await;
    assert_eq!(nightly.taken(), vec![], "it is no time for it");
    assert!(handle.set_cadence("early", Cadence::Live) && handle.set_cadence("erp", window(1, true)));
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "early") && settled(t, "erp")).await;
    for (name, destination) in [("early", &early), ("erp", &nightly)] {
        let tally = &tallies.destinations[name];
        assert_eq!((tally.delivered + tally.superseded, destination.taken().len() as u64), (120, tally.delivered));
    }
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    audit(dir.path());
}

/// Takes what it is sent, and never answers.
struct Mute {
    under_way: AtomicUsize,
}

#[async_trait]
impl Destination for Mute {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let (id, body) = (event.position.to_string(), event.fact.key.clone().into());
        let is_stock = event.fact.kind == "stock";
        Ok(is_stock.then_some(Prepared { id, body, content_type: "text/plain", trace: None, replay: None }))
    }

    async fn send(&self, _: &Prepared, _: u32) -> Sent {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test]
async fn of_a_window_that_is_full_no_more_go_early_than_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let erp = Arc::new(Mute { under_way: AtomicUsize::new(0) });
    let options = DeliveryOptions { window_events_max: 8, concurrency_max: 1, ..with(window(HOUR_MS, true)) };
    hub.add_destination("erp", erp.clone(), options);
    let handle = hub.handle();
    fill(&handle, 30, 0..1).await;
    until("one is under way", || erp.under_way.load(Ordering::SeqCst) == 1).await;
    until("the others are seen", || handle.destination_conditions()["erp"].under_way == 1).await;
    let held_then = held(&handle);
    // Each of these makes its runner look at all of it again.
    for step in [Step::Queue, Step::RealTime].into_iter().cycle().take(8) {
        let pin = Pin { step, until_us: None, by: "ops".into(), reason: "to see".into() };
        handle.pin_flow("erp", pin).await.unwrap();
        until("it has heard of it", || handle.destination_conditions()["erp"].step == step).await;
    }
    assert_eq!(held(&handle), held_then);
    assert!(held_then > 0, "a part of them went, and no more");
    drop(hub);
}

#[tokio::test]
async fn what_is_asked_for_by_hand_is_not_held() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let switch = AtomicBool::new(false);
    let destination = Scripted::new(move |prepared, attempt| match prepared.body.as_ref() {
        b"k0" if attempt == 1 && !switch.swap(true, Ordering::Relaxed) => AttemptResult::Rejected,
        _ => AttemptResult::Delivered,
    });
    hub.add_destination("erp", destination.clone(), with(Cadence::Live));
    let handle = hub.handle();
    fill(&handle, 2, 0..1).await;
    until_tallies(&handle, "one dead letter", |t| {
        t.destinations.get("erp").is_some_and(|d| (d.dead, d.delivered) == (1, 1))
    })
    .await;
    assert!(handle.set_cadence("erp", far()));
    fill(&handle, 2, 1..2).await;
    until("both are held", || held(&handle) == 2).await;
    let filter = lockstep_hub::DeadLetterFilter { limit: 10, ..Default::default() };
    let rows = handle.dead_letters(filter).await.unwrap().items;
    assert!(handle.retry_dead_letter(&rows[0], "test").await);
    until_tallies(&handle, "the retry is there", |t| {
        (t.destinations["erp"].dead, t.destinations["erp"].delivered) == (0, 2)
    })
    .await;
    assert_eq!(held(&handle), 2, "what came later of its entity is held as before");
    assert_eq!(destination.taken().len(), 2);
    assert!(handle.set_cadence("erp", Cadence::Live));
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "erp")).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    assert_eq!(destination.taken().len(), 4);
    hub.shutdown().await;
    audit(dir.path());
}

#[tokio::test]
async fn whoever_waits_for_a_superseded_event_waits_for_the_one_that_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", destination.clone(), with(window(HOUR_MS, true)));
    let handle = hub.handle();
    fill(&handle, 1, 0..3).await;
    until_tallies(&handle, "two superseded", |t| t.destinations.get("erp").is_some_and(|d| d.superseded == 2)).await;
    let names = ["erp".to_owned()];
    let reached = handle.until_delivered(&[1], &names, Duration::ZERO).await.unwrap();
    assert_eq!(reached.missing, 1, "it is not there");
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.until_delivered(&[1], &names, Duration::from_secs(60)).await.unwrap() }
    });
    fill(&handle, 1, 3..4).await;
    until_tallies(&handle, "three superseded", |t| t.destinations["erp"].superseded == 3).await;
    assert!(handle.set_cadence("erp", Cadence::Live));
    let reached = waiting.await.unwrap();
    assert_eq!((reached.missing, reached.unreached), (0, vec![]));
    assert_eq!(destination.taken().len(), 1);
    hub.shutdown().await;
}
