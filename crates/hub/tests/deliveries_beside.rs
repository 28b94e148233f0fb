//! What is sent again beside live events holds none of them up; and requests with several events, at what a destination
//! may answer to them.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::{Scripted, input, open, until, until_tallies};
use lockstep_connect::destination::{BatchLimits, Destination, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::{AttemptResult, BreakerPolicy, BudgetPolicy, PacePolicy, RetryPolicy};
use lockstep_hub::delivery::DeliveryOptions;
use lockstep_hub::{BulkAction, DeadLetterFilter, HubHandle, ReplayRequest, Standing, now_us};

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

#[tokio::test]
async fn what_is_sent_again_and_fails_holds_up_no_newer_event_and_never_goes_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let refuses = Arc::new(AtomicBool::new(true));
    let switch = refuses.clone();
    // The first two events never arrive once it does not refuse everything; what is newer always does.
    let destination = Scripted::new(move |prepared, _| match prepared.id.parse::<u64>() {
        Ok(id) if id > 4 => AttemptResult::Delivered,
        _ if switch.load(Ordering::Relaxed) && prepared.body == "dead0" => AttemptResult::Rejected,
        _ if switch.load(Ordering::Relaxed) => AttemptResult::Delivered,
        _ => AttemptResult::Transient,
    });
    // One quick retry, then an hour.
    let retry = RetryPolicy { schedule_ms: vec![1, 3_600_000], ..RetryPolicy::default() };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { retry, ..quick() });
    let handle = hub.handle();
    fill(&handle, "dead", 1).await;
    fill(&handle, "there", 1).await;
    let tallies = until_tallies(&handle, "one dead, one there", |t| {
        t.destinations.get("erp").is_some_and(|d| d.dead == 1 && d.delivered == 1)
    })
    .await;
    assert!(tallies.last_event <= 4, "{}", tallies.last_event);
    refuses.store(false, Ordering::Relaxed);
    let filter = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let rows = handle.dead_letters(filter).await.unwrap().items;
    assert!(handle.retry_dead_letter(&rows[0], "ops").await);
    let request = ReplayRequest {
        destination: "erp".to_owned(),
        by: "ops".to_owned(),
        key: "there0".to_owned(),
        ..ReplayRequest::default()
    };
    let replay = handle.start_replay(request).await.unwrap();
    // Two each that came before, and two each from now on.
    until("both wait for an hour", || destination.attempts() >= 6).await;
    for key in ["dead0", "there0"] {
        handle.submit(vec![input("wms", &format!("{key}-newer"), key, 2, 2)]).await.unwrap();
    }
    let tallies = until_tallies(&handle, "the newer ones are there and the older ones superseded", |t| {
        let erp = &t.destinations["erp"];
        let is_over = t.replays.get(&replay).is_some_and(|replay| replay.ended_at_us.is_some());
        is_over && (erp.delivered, erp.dead, erp.superseded) == (3, 0, 1)
    })
    .await;
    let replayed = &tallies.replays[&replay];
    assert_eq!((replayed.delivered, replayed.stale_count, replayed.failed), (0, 1, 0));
    assert_eq!(destination.taken().len(), 3);
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    let mut audit = Standing::beside(dir.path(), lockstep_core::stock::Limits::default()).unwrap();
    assert_eq!(audit.audit_deliveries(|_| {}).unwrap().broken, Vec::<String>::new());
}

type Says = Box<dyn Fn(usize, &[String]) -> AttemptResult + Send + Sync>;

/// A destination that takes several events in a request, and notes each request with the number that it was told.
struct Together {
    says: Says,
    requests: Mutex<Vec<(u32, Vec<String>)>>,
}

impl Together {
    fn new(says: impl Fn(usize, &[String]) -> AttemptResult + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { says: Box::new(says), requests: Mutex::default() })
    }

    fn requests(&self) -> Vec<(u32, Vec<String>)> {
        self.requests.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Destination for Together {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let body = Bytes::from(event.fact.key.clone());
        let id = event.position.to_string();
        Ok(Some(Prepared { id, body, content_type: "text/plain", trace: None, replay: None }))
    }

    async fn send(&self, _: &Prepared, _: u32) -> Sent {
        panic!("everything goes together")
    }

    fn batch(&self) -> Option<BatchLimits> {
        Some(BatchLimits { events_max: 16, bytes_max: 10_000, window_ms: 20 })
    }

    async fn send_batch(&self, prepared: &[Arc<Prepared>], number: u32) -> Sent {
        tokio::task::yield_now().await;
        let keys: Vec<String> = prepared.iter().map(|one| String::from_utf8(one.body.to_vec()).unwrap()).collect();
        let before = {
            let mut requests = self.requests.lock().unwrap();
            requests.push((number, keys.clone()));
            requests.len() - 1
        };
        let result = (self.says)(before, &keys);
        Sent { result, status: 200, detail: format!("{result:?}"), response_head: String::new(), duration_us: 1 }
    }
}

#[tokio::test]
async fn who_asks_to_wait_gets_no_more_requests_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Together::new(|before, _| match before {
        0 => AttemptResult::Throttled { retry_after_ms: Some(1) },
        _ => AttemptResult::Delivered,
    });
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    fill(&handle, "k", 16).await;
    until_tallies(&handle, "all delivered", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 16)).await;
    let requests = destination.requests();
    let most = requests[1..].iter().map(|(_, keys)| keys.len()).max();
    assert!(requests[0].1.len() < 16 || most > Some(8), "it was not the events' fault: {requests:?}");
    hub.shutdown().await;
}

#[tokio::test]
async fn one_that_may_not_be_written_does_not_stop_those_beside_it_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Together::new(|_, keys| match keys.iter().any(|key| key == "k77") {
        true => AttemptResult::Unauthorized,
        false => AttemptResult::Delivered,
    });
    let breaker = BreakerPolicy { paused_probe_first_ms: 1, paused_probe_max_ms: 2, ..BreakerPolicy::default() };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { breaker, concurrency_max: 1, ..quick() });
    let handle = hub.handle();
    fill(&handle, "k", 200).await;
    until_tallies(&handle, "the bad one alone", |t| t.destinations.get("erp").is_some_and(|d| d.dead == 1)).await;
    let requests = destination.requests();
    let refused = requests.iter().filter(|(_, keys)| keys.iter().any(|key| key == "k77")).count();
    assert!(refused <= 8, "sixteen, eight, four, two, alone, and once more to be sure: {refused}");
    until_tallies(&handle, "all others", |t| t.destinations["erp"].delivered == 199).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn the_number_of_an_attempt_is_the_one_that_the_destination_was_told_and_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    // Those that fail stay, so that new ones join them.
    let destination = Together::new(|_, keys| match keys.iter().any(|key| key.starts_with("bad")) {
        true => AttemptResult::Transient,
        false => AttemptResult::Delivered,
    });
    let breaker = BreakerPolicy { failing_keys: 0, failing_percent: 0, ..BreakerPolicy::default() };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { breaker, ..quick() });
    let handle = hub.handle();
    for round in 0..40 {
        fill(&handle, &format!("good{round}-"), 5).await;
        fill(&handle, &format!("bad{round}-"), 1).await;
    }
    until_tallies(&handle, "all settled", |t| {
        t.published == 240 && t.destinations.get("erp").is_some_and(|d| d.pending(240) == 0)
    })
    .await;
    let mut numbers: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (number, keys) in destination.requests() {
        keys.into_iter().for_each(|key| numbers.entry(key).or_default().push(number));
    }
    for (key, numbers) in &numbers {
        assert!(numbers.is_sorted_by(|a, b| a < b), "{key}: {numbers:?}");
    }
    let filter = DeadLetterFilter { limit: 100, ..DeadLetterFilter::default() };
    let rows = handle.dead_letters(filter).await.unwrap().items;
    assert_eq!(rows.len(), 40);
    for row in rows {
        let record = handle.record(row.record).await.unwrap().unwrap();
        let Some(lockstep_core::record::Body::DeadLettered(dead)) = record.body else { panic!("{record:?}") };
        let kept: Vec<u32> = dead.attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(kept, numbers[&row.key], "{}", row.key);
    }
    hub.shutdown().await;
}
