//! What is sent again beside live events holds none of them up.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use common::{Scripted, input, open, until, until_tallies};
use lockstep_core::delivery::{AttemptResult, BudgetPolicy, PacePolicy, RetryPolicy};
use lockstep_hub::delivery::DeliveryOptions;
use lockstep_hub::{BulkAction, DeadLetterFilter, HubHandle, now_us};

fn quick() -> DeliveryOptions {
    DeliveryOptions {
        retry: RetryPolicy { retries_max: 3, backoff_first_ms: 1, backoff_max_ms: 2, ..RetryPolicy::default() },
        budget: BudgetPolicy { floor_per_s: 100_000, ..BudgetPolicy::default() },
        report_interval_ms: 5,
        ..DeliveryOptions::default()
    }
}

async fn fill(handle: &HubHandle, prefix: &str, keys: i64) {
    let inputs = (0..keys).map(|n| input("wms", &format!("{prefix}{n}"), &format!("{prefix}{n}"), n, n as u64));
    for answer in handle.submit(inputs.collect()).await.unwrap() {
        answer.unwrap();
    }
}

#[tokio::test]
async fn many_retries_by_hand_do_not_keep_live_events_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let mended = Arc::new(AtomicBool::new(false));
    let switch = mended.clone();
    let destination = Scripted::new(move |_, _| match switch.load(Ordering::Relaxed) {
        true => AttemptResult::Delivered,
        false => AttemptResult::Rejected,
    });
    let options = DeliveryOptions { window_events_max: 64, ..quick() };
    hub.add_destination("erp", destination.clone(), options.clone());
    let handle = hub.handle();
    fill(&handle, "dead", 1_500).await;
    until_tallies(&handle, "all given up", |t| t.destinations.get("erp").is_some_and(|d| d.dead == 1_500)).await;
    drop(handle);
    hub.shutdown().await;

    // From now on so slowly that whoever hands retries over is always ahead.
    let hub = open(dir.path());
    let handle = hub.handle();
    mended.store(true, Ordering::Relaxed);
    let pace = PacePolicy { rate_per_s: 500, burst: 1 };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { pace, ..options });
    let mut filter = DeadLetterFilter { limit: 10_000, ..DeadLetterFilter::default() };
    loop {
        let retry = BulkAction::Retry { at_us: now_us(), over_us: 0 };
        let (_, next_after) = handle.bulk_dead_letters(filter.clone(), retry, "ops").await.unwrap();
        filter.after = next_after;
        if filter.after.is_none() {
            break;
        }
    }
    until("retries are under way", || destination.taken().len() > 64).await;
    fill(&handle, "live", 1).await;
    let before = destination.taken().len();
    until("the live one", || destination.taken().iter().any(|(key, _)| key == "live0")).await;
    let at = destination.taken().iter().position(|(key, _)| key == "live0").unwrap();
    assert!(at - before < 200, "after {} others, {before} had been sent before it", at - before);
    let tallies = until_tallies(&handle, "all of it", |t| t.destinations["erp"].delivered == 1_501).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}
