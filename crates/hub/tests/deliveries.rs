//! Delivery: order for each key, retries, dead letters, conservation, restarts.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Scripted, input, open, until, until_tallies};
use lockstep_connect::destination::{BatchLimits, Destination, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::{AttemptResult, BreakerPolicy, BudgetPolicy, Cause, PacePolicy, RetryPolicy};
use lockstep_hub::delivery::{DeliveryOptions, Start};
use lockstep_hub::{DeadLetterFilter, HubHandle, Standing};

fn quick() -> DeliveryOptions {
    DeliveryOptions {
        retry: RetryPolicy { retries_max: 3, backoff_first_ms: 1, backoff_max_ms: 4, ..RetryPolicy::default() },
        // These tests fail on purpose more than a budget would let them.
        budget: BudgetPolicy { floor_per_s: 100_000, ..BudgetPolicy::default() },
        report_interval_ms: 5,
        ..DeliveryOptions::default()
    }
}

async fn fill(handle: &HubHandle, keys: u64, changes: u64) {
    for n in 0..changes {
        handle.submit(vec![input("wms", &format!("d{n}"), &format!("k{}", n % keys), n as i64, n)]).await.unwrap();
    }
}

fn assert_in_order(taken: &[(String, u64)]) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (key, position) in taken {
        let before = last.insert(key, *position).unwrap_or(0);
        assert!(before < *position, "{key}: {position} after {before}");
    }
}

async fn dead(handle: &HubHandle) -> Vec<lockstep_hub::DeadLetterRow> {
    handle.dead_letters(DeadLetterFilter { limit: 100, ..DeadLetterFilter::default() }).await.unwrap().items
}

#[tokio::test]
async fn order_is_kept_for_each_key_through_retries() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    // Every third event fails twice.
    let destination = Scripted::new(|prepared, attempt| {
        let third = prepared.id.parse::<u64>().unwrap().is_multiple_of(3);
        if third && attempt <= 2 { AttemptResult::Transient } else { AttemptResult::Delivered }
    });
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    fill(&handle, 7, 300).await;
    let tallies =
        until_tallies(&handle, "all delivered", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 300))
            .await;
    assert_in_order(&destination.taken());
    assert_eq!(destination.taken().len(), 300);
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn what_fails_for_good_is_a_dead_letter_and_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|prepared, _| match prepared.body.as_ref() {
        b"k1" => AttemptResult::Transient,
        b"k2" => AttemptResult::Rejected,
        _ => AttemptResult::Delivered,
    });
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    fill(&handle, 5, 50).await;
    for key in ["hidden", "poison"] {
        handle.submit(vec![input("wms", key, key, 1, 1)]).await.unwrap();
    }
    let tallies = until_tallies(&handle, "all settled", |t| {
        t.published == 52 && t.destinations.get("erp").is_some_and(|d| d.pending(t.published) == 0)
    })
    .await;
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.delivered, erp.filtered, erp.dead), (30, 1, 21));
    assert_eq!(tallies.violations(), Vec::<String>::new());
    let rows = dead(&handle).await;
    let reasons = |reason: &str| rows.iter().filter(|r| r.reason == reason).count();
    assert_eq!((reasons("exhausted"), reasons("rejected"), reasons("poison")), (10, 10, 1));
    let exhausted = rows.iter().find(|r| r.reason == "exhausted").unwrap();
    assert_eq!(exhausted.attempts, 4, "the first attempt and three retries");
    hub.shutdown().await;

    // A restart delivers nothing again and knows the same dead letters.
    let hub = open(dir.path());
    let handle = hub.handle();
    let again = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", again.clone(), quick());
    assert_eq!(dead(&handle).await, rows);
    fill_more(&handle).await;
    until("the new one", || !again.taken().is_empty()).await;
    assert_eq!(again.taken().iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["new"]);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_fault_in_a_destinations_code_costs_the_event_and_not_the_destination() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|prepared, _| {
        assert_ne!(prepared.body, "k1", "as a fault of a client would");
        AttemptResult::Delivered
    });
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    handle.submit(vec![input("wms", "p", "panic", 1, 1)]).await.unwrap();
    fill(&handle, 5, 20).await;
    let tallies = until_tallies(&handle, "all settled", |t| {
        t.published == 21 && t.destinations.get("erp").is_some_and(|d| d.pending(21) == 0)
    })
    .await;
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.delivered, erp.dead), (16, 5));
    let rows = dead(&handle).await;
    let reason = |key: &str| rows.iter().find(|row| row.key == key).map(|row| (row.reason.as_str(), row.attempts));
    assert_eq!((reason("panic"), reason("k1")), (Some(("poison", 1)), Some(("exhausted", 4))));
    assert!(rows.iter().all(|row| row.detail.contains("panicked")));
    hub.shutdown().await;
}

async fn fill_more(handle: &HubHandle) {
    handle.submit(vec![input("wms", "new", "new", 1, 1)]).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_can_be_retried_discarded_or_found_overtaken() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = healthy.clone();
    let destination = Scripted::new(move |_, _| {
        if switch.load(std::sync::atomic::Ordering::Relaxed) {
            AttemptResult::Delivered
        } else {
            AttemptResult::Rejected
        }
    });
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    for key in ["a", "b", "c"] {
        handle.submit(vec![input("wms", key, key, 1, 1)]).await.unwrap();
    }
    until_tallies(&handle, "three dead letters", |t| t.destinations.get("erp").is_some_and(|d| d.dead == 3)).await;
    healthy.store(true, std::sync::atomic::Ordering::Relaxed);
    handle.submit(vec![input("wms", "b2", "b", 2, 2)]).await.unwrap();
    until_tallies(&handle, "the newer one delivered", |t| t.destinations["erp"].delivered == 1).await;

    let rows = dead(&handle).await;
    for _ in 0..3 {
        // Asked for again before its outcome is known, it has one effect all the same.
        assert!(handle.retry_dead_letter(&rows[0], "test").await);
    }
    assert!(handle.retry_dead_letter(&rows[1], "test").await);
    assert!(handle.discard_dead_letter("erp", rows[2].event, "not wanted", "test").await.unwrap());
    assert!(!handle.discard_dead_letter("erp", rows[2].event, "again", "test").await.unwrap());
    let tallies = until_tallies(&handle, "all closed", |t| {
        let erp = &t.destinations["erp"];
        erp.dead == 0 && erp.pending(t.published) == 0
    })
    .await;
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.delivered, erp.superseded, erp.discarded), (2, 1, 1));
    let keys: Vec<_> = destination.taken().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["b", "a"], "the overtaken one was not sent");
    assert!(dead(&handle).await.is_empty());
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_dead_destination_slows_no_other_one() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let stuck = Scripted::new(|_, _| AttemptResult::Throttled { retry_after_ms: Some(60_000) });
    let healthy = Scripted::new(|_, _| AttemptResult::Delivered);
    let few = DeliveryOptions { window_events_max: 10, ..quick() };
    hub.add_destination("stuck", stuck.clone(), few);
    hub.add_destination("healthy", healthy.clone(), quick());
    let handle = hub.handle();
    fill(&handle, 50, 500).await;
    let tallies = until_tallies(&handle, "the healthy one has all", |t| {
        t.destinations.get("healthy").is_some_and(|d| d.delivered == 500)
    })
    .await;
    assert_eq!(tallies.destinations.get("stuck").map_or(0, |d| d.delivered), 0);
    assert_eq!(tallies.violations(), Vec::<String>::new());
    assert!(stuck.attempts() <= 10, "a window of ten, each waiting for its retry");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_destination_that_is_down_is_probed_and_its_events_wait() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let back = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = back.clone();
    let destination = Scripted::new(move |_, _| {
        let up = switch.load(std::sync::atomic::Ordering::Relaxed);
        if up { AttemptResult::Delivered } else { AttemptResult::Transient }
    });
    let breaker = BreakerPolicy { failing_keys: 5, probe_first_ms: 1, probe_max_ms: 8, ..BreakerPolicy::default() };
    let retry = RetryPolicy { retries_max: 20, ..quick().retry };
    let few = DeliveryOptions { breaker, retry, concurrency_max: 8, window_events_max: 100, ..quick() };
    hub.add_destination("erp", destination.clone(), few);
    let handle = hub.handle();
    fill(&handle, 50, 500).await;
    // The first eight, and those that were tried again before it was clear that all fail.
    until("it is known to be down", || handle.destinations_down().contains_key("erp")).await;
    let before = destination.attempts();
    until("it is probed", || destination.attempts() >= before + 30).await;
    let erp = handle.stats().tallies().destinations.get("erp").cloned().unwrap_or_default();
    assert_eq!((erp.delivered, erp.dead), (0, 0), "probes use up no attempts");

    back.store(true, std::sync::atomic::Ordering::Relaxed);
    let tallies =
        until_tallies(&handle, "all delivered", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 500))
            .await;
    assert_in_order(&destination.taken());
    assert!(handle.destinations_down().is_empty());
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_destination_that_refuses_everything_still_moves_on() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.add_destination("erp", Scripted::new(|_, _| AttemptResult::Rejected), quick());
    let handle = hub.handle();
    fill(&handle, 7, 200).await;
    let tallies = until_tallies(&handle, "all dead", |t| {
        t.destinations.get("erp").is_some_and(|d| d.dead == 200 && d.cursor >= t.last_event)
    })
    .await;
    assert!(tallies.destinations["erp"].open.is_empty());
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

/// How the destination `erp` is doing.
fn condition(handle: &HubHandle) -> lockstep_hub::delivery::Condition {
    handle.destination_conditions().remove("erp").expect("it runs")
}

#[tokio::test]
async fn a_destination_that_lets_nobody_in_is_paused_and_nothing_dies() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let access = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let switch = access.clone();
    // One event may never be written, whoever asks.
    let destination = Scripted::new(move |prepared, _| match prepared.body.as_ref() {
        b"k3" => AttemptResult::Unauthorized,
        _ if switch.load(std::sync::atomic::Ordering::Relaxed) => AttemptResult::Delivered,
        _ => AttemptResult::Unauthorized,
    });
    let breaker = BreakerPolicy { paused_probe_first_ms: 1, paused_probe_max_ms: 8, ..BreakerPolicy::default() };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { breaker, ..quick() });
    let handle = hub.handle();
    fill(&handle, 20, 20).await;
    until("it is paused", || condition(&handle).down.is_some_and(|down| down.cause == Cause::Unauthorized)).await;
    let before = destination.attempts();
    until("it is probed", || destination.attempts() >= before + 30).await;
    let erp = handle.stats().tallies().destinations.get("erp").cloned().unwrap_or_default();
    assert_eq!((erp.delivered, erp.dead), (0, 0), "nothing dies and nothing arrives");

    access.store(true, std::sync::atomic::Ordering::Relaxed);
    let tallies = until_tallies(&handle, "all settled", |t| {
        t.destinations.get("erp").is_some_and(|d| d.delivered == 19 && d.dead == 1)
    })
    .await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    let [letter] = &dead(&handle).await[..] else { panic!("one dead letter") };
    assert_eq!((letter.key.as_str(), letter.reason.as_str(), letter.attempts), ("k3", "exhausted", 4));
    assert_eq!(condition(&handle).down, None);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_credential_that_only_some_servers_know_costs_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    // Two servers in turn, of which the second does not know the credential yet: k3 meets it three times.
    let asked = std::sync::atomic::AtomicU32::new(0);
    let destination = Scripted::new(move |prepared, _| {
        let is_refused = match prepared.body.as_ref() {
            b"k3" => asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 3,
            _ => false,
        };
        if is_refused { AttemptResult::Unauthorized } else { AttemptResult::Delivered }
    });
    let breaker = BreakerPolicy { paused_probe_first_ms: 1, paused_probe_max_ms: 8, ..BreakerPolicy::default() };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { breaker, ..quick() });
    let handle = hub.handle();
    fill(&handle, 20, 200).await;
    let tallies = until_tallies(&handle, "all settled", |t| {
        t.published == 200 && t.destinations.get("erp").is_some_and(|d| d.pending(200) == 0)
    })
    .await;
    assert_eq!((tallies.destinations["erp"].delivered, tallies.destinations["erp"].dead), (200, 0));
    assert_in_order(&destination.taken());
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn retries_over_the_budget_wait_and_come_through() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination =
        Scripted::new(|_, attempt| if attempt <= 2 { AttemptResult::Unknown } else { AttemptResult::Delivered });
    let budget = BudgetPolicy { retry_percent: 0, window_ms: 100, floor_per_s: 50 };
    let breaker = BreakerPolicy { failing_keys: 0, failing_percent: 0, ..BreakerPolicy::default() };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { budget, breaker, ..quick() });
    let handle = hub.handle();
    fill(&handle, 40, 40).await;
    until("retries are held back", || condition(&handle).retries_held > 5).await;
    let tallies =
        until_tallies(&handle, "all delivered", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 40)).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    assert_eq!(destination.attempts(), 120);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_rate_is_kept_to() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let began = std::time::Instant::now();
    let times: std::sync::Arc<std::sync::Mutex<Vec<u128>>> = std::sync::Arc::default();
    let noted = times.clone();
    let destination = Scripted::new(move |_, _| {
        noted.lock().unwrap().push(began.elapsed().as_micros());
        AttemptResult::Delivered
    });
    let pace = PacePolicy { rate_per_s: 200, burst: 5 };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { pace, ..quick() });
    let handle = hub.handle();
    fill(&handle, 60, 60).await;
    until_tallies(&handle, "all delivered", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 60)).await;
    hub.shutdown().await;
    let times = times.lock().unwrap();
    // A limit from above holds on a slow machine too: more time allows more.
    for (at, from) in times.iter().enumerate() {
        let last = times[times.len() - 1];
        let most = 5 + (last - from) * 200 / 1_000_000 + 2;
        assert!((times.len() - at) as u128 <= most, "{} in {} us", times.len() - at, last - from);
    }
}

#[tokio::test]
async fn a_long_wait_goes_on_after_a_restart_with_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let failing = Scripted::new(|prepared, _| match prepared.body.as_ref() {
        b"k1" => AttemptResult::Transient,
        _ => AttemptResult::Delivered,
    });
    let retry = RetryPolicy { schedule_ms: vec![1, 3_600_000, 1], ..RetryPolicy::default() };
    let options = DeliveryOptions { retry, ..quick() };
    hub.add_destination("erp", failing.clone(), options.clone());
    let handle = hub.handle();
    fill(&handle, 3, 9).await;
    let tallies = until_tallies(&handle, "it waits an hour", |t| {
        t.destinations.get("erp").is_some_and(|d| d.delivered == 6 && !d.parked.is_empty())
    })
    .await;
    let [parked] = &tallies.destinations["erp"].parked[..] else { panic!("one waits") };
    assert_eq!((parked.number, parked.round), (2, 2));
    let again_at_us = parked.again_at_us;
    hub.shutdown().await;

    let hub = open(dir.path());
    let handle = hub.handle();
    let well = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", well.clone(), options.clone());
    fill_more(&handle).await;
    let tallies = until_tallies(&handle, "the new one", |t| t.destinations["erp"].delivered == 7).await;
    let kept = &tallies.destinations["erp"].parked;
    assert_eq!(kept.iter().map(|p| (p.number, p.again_at_us)).collect::<Vec<_>>(), [(2, again_at_us)]);
    assert_eq!(well.taken().len(), 1, "its key waits on, with what came after it");
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

/// A destination that takes several events in a request, all or none: it refuses each request with a bad one in it, and
/// breaks on each with a broken one.
#[derive(Default)]
struct Together {
    taken: std::sync::Mutex<Vec<(String, u64)>>,
    requests: std::sync::Mutex<Vec<usize>>,
}

#[async_trait::async_trait]
impl Destination for Together {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let body = bytes::Bytes::from(event.fact.key.clone());
        let id = event.position.to_string();
        Ok(Some(Prepared { id, body, content_type: "text/plain", trace: None, replay: None }))
    }

    async fn send(&self, _: &Prepared, _: u32) -> Sent {
        panic!("everything goes together")
    }

    fn batch(&self) -> Option<BatchLimits> {
        Some(BatchLimits { events_max: 16, bytes_max: 1_000, window_ms: 20 })
    }

    async fn send_batch(&self, prepared: &[std::sync::Arc<Prepared>], _: u32) -> Sent {
        tokio::task::yield_now().await;
        self.requests.lock().unwrap().push(prepared.len());
        let has = |key: &str| prepared.iter().any(|one| one.body == key);
        let result = match () {
            () if has("k3") => AttemptResult::Rejected,
            () if has("k5") => AttemptResult::Transient,
            () => {
                let keys: BTreeSet<_> = prepared.iter().map(|one| &one.body).collect();
                assert_eq!(keys.len(), prepared.len(), "an entity has one event in a request");
                let key = |one: &Prepared| String::from_utf8(one.body.to_vec()).unwrap();
                let taken = prepared.iter().map(|one| (key(one), one.id.parse().unwrap()));
                self.taken.lock().unwrap().extend(taken);
                AttemptResult::Delivered
            }
        };
        Sent { result, status: 200, detail: format!("{result:?}"), response_head: String::new(), duration_us: 1 }
    }
}

#[tokio::test]
async fn a_batch_that_fails_is_taken_apart_until_the_bad_event_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = std::sync::Arc::new(Together::default());
    hub.add_destination("erp", destination.clone(), quick());
    let handle = hub.handle();
    fill(&handle, 40, 400).await;
    let tallies = until_tallies(&handle, "all settled", |t| {
        t.published == 400 && t.destinations.get("erp").is_some_and(|d| d.pending(400) == 0)
    })
    .await;
    let erp = &tallies.destinations["erp"];
    assert_eq!((erp.delivered, erp.dead), (380, 20), "only those of the two bad entities die");
    assert_eq!(tallies.violations(), Vec::<String>::new());
    let rows = dead(&handle).await;
    let all_of = |key: &str, reason: &str| rows.iter().filter(|r| r.key == key && r.reason == reason).count();
    assert_eq!((all_of("k3", "rejected"), all_of("k5", "exhausted")), (10, 10));
    // Those that went in company come on top.
    assert!(rows.iter().filter(|r| r.key == "k5").all(|r| r.attempts >= 4), "three retries alone");
    let taken = destination.taken.lock().unwrap().clone();
    assert_in_order(&taken);
    assert_eq!(taken.len(), 380);
    let requests = destination.requests.lock().unwrap().clone();
    assert!(requests.contains(&16), "{requests:?}");
    hub.shutdown().await;
}

#[tokio::test]
async fn keys_that_fail_again_and_again_do_not_keep_others_from_being_sent() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|prepared, _| {
        let is_early = ["k0", "k1", "k2"].map(str::as_bytes).contains(&prepared.body.as_ref());
        if is_early { AttemptResult::Transient } else { AttemptResult::Delivered }
    });
    // One at a time, and a retry is always due.
    let retry = RetryPolicy { retries_max: 1_000_000, backoff_first_ms: 0, backoff_max_ms: 0, ..quick().retry };
    hub.add_destination("erp", destination.clone(), DeliveryOptions { retry, concurrency_max: 1, ..quick() });
    let handle = hub.handle();
    fill(&handle, 20, 20).await;
    until_tallies(&handle, "all others", |t| t.destinations.get("erp").is_some_and(|d| d.delivered == 17)).await;
    hub.shutdown().await;
}

/// What the journal alone says of deliveries is what the sums say, also while a part is under way.
#[tokio::test]
async fn an_audit_counts_everything_again_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|prepared, attempt| match prepared.body.as_ref() {
        b"k1" if attempt < 3 => AttemptResult::Transient,
        b"k2" => AttemptResult::Rejected,
        _ => AttemptResult::Delivered,
    });
    hub.add_destination("erp", destination, quick());
    let handle = hub.handle();
    fill(&handle, 5, 200).await;
    let late = Scripted::new(|_, _| AttemptResult::Delivered);
    until_tallies(&handle, "all published", |t| t.published == 200).await;
    hub.add_destination("late", late, DeliveryOptions { start: Start::Now, ..quick() });
    for key in ["hidden", "poison"] {
        handle.submit(vec![input("wms", key, key, 1, 1)]).await.unwrap();
    }
    let settled = |t: &lockstep_hub::Tallies| t.destinations.values().all(|d| d.pending(202) == 0);
    until_tallies(&handle, "all settled", |t| t.published == 202 && t.destinations.len() == 2 && settled(t)).await;
    let rows = dead(&handle).await;
    assert!(handle.discard_dead_letter("erp", rows[0].event, "x", "me").await.unwrap());
    let audit = |path: &std::path::Path| {
        Standing::beside(path, lockstep_core::stock::Limits::default()).unwrap().audit_deliveries(|_| {}).unwrap()
    };
    let found = audit(dir.path());
    assert_eq!(found.broken, Vec::<String>::new());
    let erp = &found.tallies.destinations["erp"];
    assert_eq!((erp.filtered, erp.discarded, erp.unaccounted(), erp.taken), (1, 1, 0, Some(202)));
    assert_eq!(found.tallies.destinations["late"].skipped, 200);
    hub.shutdown().await;
    assert_eq!(audit(dir.path()).broken, Vec::<String>::new());

    // A sum that is wrong is found, whichever it is.
    let state = rusqlite::Connection::open(dir.path().join("state.sqlite")).unwrap();
    let meta: Vec<u8> = state.query_row("SELECT value FROM meta WHERE key = 'tallies'", [], |row| row.get(0)).unwrap();
    let meta = String::from_utf8(meta).unwrap();
    let wrong = meta.replacen("\"filtered\":1", "\"filtered\":2", 1);
    assert_ne!(meta, wrong);
    state.execute("UPDATE meta SET value = ?1 WHERE key = 'tallies'", [wrong.into_bytes()]).unwrap();
    drop(state);
    let found = audit(dir.path());
    assert!(
        found.broken.iter().any(|line| line.contains("the journal has 1 filtered, the sums say 2")),
        "{:?}",
        found.broken
    );
}
