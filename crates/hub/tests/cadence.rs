//! When events go to a destination: windows, schedules, and the newest event of each entity for those before it.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::{Scripted, input, open, until, until_tallies};
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::{AttemptResult, Cadence};
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
    let cron = [1, 7]
        .map(day)
        .into_iter()
        .max_by_key(|cron: &lockstep_core::delivery::Cron| cron.next_after(lockstep_hub::now_us()).unwrap());
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
fn audit(dir: &std::path::Path) -> BTreeMap<String, lockstep_hub::DestinationTally> {
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
    let held = |handle: &HubHandle| handle.destination_conditions()["erp"].held;
    until_tallies(&handle, "27 superseded", |t| t.destinations.get("erp").is_some_and(|d| d.superseded == 27)).await;
    until("three are held", || held(&handle) == 3).await;
    assert_eq!(destination.taken(), vec![]);
    let standing = handle.propagation_at(&event(&handle, 1).await, "erp").await.unwrap().standing;
    assert!(matches!(standing, Standing::Superseded), "{standing:?}");

    assert!(handle.set_cadence("erp", Cadence::Live));
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "erp")).await;
    assert_newest(&handle, &destination, 3).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    let erp = &audit(dir.path())["erp"];
    assert_eq!((erp.delivered, erp.superseded, erp.unaccounted()), (3, 27, 0));
}
