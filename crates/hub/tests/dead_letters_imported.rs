//! Dead letters brought in from outside: once each, and never over what is newer.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Scripted, input, open, until_tallies};
use lockstep_core::Record;
use lockstep_core::delivery::{AttemptResult, RetryPolicy};
use lockstep_core::record::{Body, DeadLettered, LetterOrigin};
use lockstep_hub::delivery::DeliveryOptions;
use lockstep_hub::{DeadLetterFilter, DeadLetterRow, HubHandle, Imported};

fn quick() -> DeliveryOptions {
    let retry = RetryPolicy { retries_max: 0, backoff_first_ms: 1, backoff_max_ms: 2, ..RetryPolicy::default() };
    DeliveryOptions { retry, report_interval_ms: 5, ..DeliveryOptions::default() }
}

/// A destination that refuses everything until the switch is on.
fn door() -> (Arc<Scripted>, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let switch = open.clone();
    let destination = Scripted::new(move |_, _| match switch.load(Ordering::Relaxed) {
        true => AttemptResult::Delivered,
        false => AttemptResult::Rejected,
    });
    (destination, open)
}

async fn letters(handle: &HubHandle) -> Vec<DeadLetterRow> {
    handle.dead_letters(DeadLetterFilter { limit: 100, ..DeadLetterFilter::default() }).await.unwrap().items
}

/// A dead letter as an export has it.
async fn exported(handle: &HubHandle, row: &DeadLetterRow, hub: &str) -> DeadLettered {
    let event = handle.letter_event(row.event).await.unwrap().unwrap().event;
    let Some(Body::DeadLettered(dead)) = handle.record(row.record).await.unwrap().unwrap().body else { panic!() };
    let event_record = Record::new(event.recorded_at_us, Body::Fact(event.fact)).write();
    let (event, record, dead_at_us) = (row.event, row.record, row.dead_at_us);
    let hub = hub.to_owned();
    let origin = LetterOrigin { hub, event, record, event_record, own: false, dead_at_us, by: "ops".to_owned() };
    DeadLettered { origin: Some(origin), ..*dead }
}

#[tokio::test]
async fn one_of_this_hub_comes_back_once_and_keeps_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let (destination, switch) = door();
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    for key in ["a", "b", "c"] {
        handle.submit(vec![input("wms", key, key, 1, 1)]).await.unwrap();
    }
    until_tallies(&handle, "all given up", |t| t.destinations.get("erp").is_some_and(|d| d.dead == 3)).await;
    let rows = letters(&handle).await;
    let mut lines = Vec::new();
    for row in &rows {
        lines.push(exported(&handle, row, "one").await);
    }
    let import = async |handle: &HubHandle, at: usize| handle.import_dead_letter(lines[at].clone()).await.unwrap();
    assert_eq!(import(&handle, 0).await, Imported::Open(rows[0].event));
    assert!(handle.discard_dead_letter("erp", rows[0].event, "by mistake", "ops").await.unwrap());
    switch.store(true, Ordering::Relaxed);
    assert!(handle.retry_dead_letter(&rows[1], "ops").await);
    until_tallies(&handle, "b is delivered", |t| t.destinations["erp"].delivered == 1).await;
    assert_eq!(import(&handle, 1).await, Imported::Settled(rows[1].event));
    let Imported::Opened(place) = import(&handle, 0).await else { panic!("it is opened again") };
    assert_eq!(import(&handle, 0).await, Imported::Known(place));
    hub.shutdown().await;

    // What was brought in is known after a restart, with all that was kept of it.
    let hub = open(dir.path());
    let handle = hub.handle();
    assert_eq!(import(&handle, 0).await, Imported::Known(place));
    assert_eq!(import(&handle, 1).await, Imported::Settled(rows[1].event));
    let row = letters(&handle).await.into_iter().find(|row| row.event == place).unwrap();
    assert_eq!((row.key.as_str(), row.attempts, row.event_at_us), ("a", 1, rows[0].event_at_us));
    let (destination, switch) = door();
    switch.store(true, Ordering::Relaxed);
    hub.add_destination("erp", destination.clone(), quick());
    assert!(handle.retry_dead_letter(&row, "ops").await);
    let tallies = until_tallies(&handle, "a is delivered", |t| t.destinations["erp"].delivered == 2).await;
    assert_eq!(destination.taken(), [("a".to_owned(), rows[0].event)], "under the id that it has always had");
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.dead, erp.discarded, erp.imported), (1, 1, 1));
    assert_eq!(erp.pending(tallies.published), 0);
    assert_eq!(tallies.violations(), Vec::<String>::new());
    assert_eq!(import(&handle, 0).await, Imported::Known(place), "also when it has ended");
    hub.shutdown().await;
}

#[tokio::test]
async fn one_of_another_hub_never_goes_over_what_is_newer_here() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let there = open(dirs[0].path());
    there.add_destination("erp", door().0, quick());
    let handle = there.handle();
    // Twice `twin`, and keys of which the other hub knows something newer, and nothing.
    for (n, key) in ["known", "unknown", "twin", "twin"].iter().enumerate() {
        handle.submit(vec![input("wms", &format!("d{n}"), key, n as i64, n as u64)]).await.unwrap();
    }
    until_tallies(&handle, "all given up", |t| t.destinations.get("erp").is_some_and(|d| d.dead == 4)).await;
    let mut lines = Vec::new();
    for row in letters(&handle).await {
        lines.push(exported(&handle, &row, "there").await);
    }
    there.shutdown().await;

    let here = open(dirs[1].path());
    let (destination, switch) = door();
    switch.store(true, Ordering::Relaxed);
    here.add_destination("erp", destination.clone(), quick());
    let handle = here.handle();
    handle.submit(vec![input("wms", "x", "known", 9, 9)]).await.unwrap();
    until_tallies(&handle, "the newer one is there", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 1))
        .await;
    let mut places = Vec::new();
    for line in &lines {
        let Imported::Opened(place) = handle.import_dead_letter(line.clone()).await.unwrap() else { panic!() };
        places.push(place);
    }
    assert_eq!(handle.import_dead_letter(lines[2].clone()).await.unwrap(), Imported::Known(places[2]));
    let row = async |place: u64| handle.dead_letter("erp", place).await.unwrap().unwrap();
    assert!(handle.retry_dead_letter(&row(places[0]).await, "ops").await);
    assert!(handle.retry_dead_letter(&row(places[1]).await, "ops").await);
    // The newer twin first.
    assert!(handle.retry_dead_letter(&row(places[3]).await, "ops").await);
    until_tallies(&handle, "three are settled", |t| t.destinations["erp"].dead == 1).await;
    assert!(handle.retry_dead_letter(&row(places[2]).await, "ops").await);
    let tallies = until_tallies(&handle, "all are settled", |t| t.destinations["erp"].dead == 0).await;
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.delivered, erp.superseded, erp.imported), (3, 2, 4));
    assert_eq!(tallies.violations(), Vec::<String>::new());
    let mut taken = destination.taken();
    taken.sort();
    let expected = [("known", 1), ("twin", places[3]), ("unknown", places[1])];
    assert_eq!(taken, expected.map(|(key, id)| (key.to_owned(), id)), "an id of this hub, and nothing older");
    here.shutdown().await;
}

#[tokio::test]
async fn a_destination_is_held_to_its_sums_though_the_first_word_of_it_was_an_import() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let there = open(dirs[0].path());
    there.add_destination("erp", door().0, quick());
    let handle = there.handle();
    handle.submit(vec![input("wms", "1", "a", 1, 1)]).await.unwrap();
    until_tallies(&handle, "given up", |t| t.destinations.get("erp").is_some_and(|d| d.dead == 1)).await;
    let line = exported(&handle, &letters(&handle).await[0], "there").await;
    there.shutdown().await;

    let here = open(dirs[1].path());
    let handle = here.handle();
    let (destination, switch) = door();
    switch.store(true, Ordering::Relaxed);
    assert!(matches!(handle.import_dead_letter(line).await.unwrap(), Imported::Opened(_)));
    here.add_destination("erp", destination, quick());
    handle.submit(vec![input("wms", "2", "b", 2, 2)]).await.unwrap();
    let tallies =
        until_tallies(&handle, "one is there", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 1)).await;
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.taken, erp.imported, erp.unaccounted()), (Some(1), 1, 0));
    assert_eq!(tallies.violations(), Vec::<String>::new());
    here.shutdown().await;
}
