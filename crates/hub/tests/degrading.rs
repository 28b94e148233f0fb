//! A flow that gets less: by itself and back, and by hand; what is held back is neither lost nor used up.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::{Scripted, input, open, until, until_tallies};
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::degrade::{Marks, Pin};
use lockstep_core::delivery::{AttemptResult, BreakerPolicy, DegradePolicy, Step};
use lockstep_hub::delivery::{DeliveryOptions, FlowError, FlowMode};
use lockstep_hub::{EventFilter, HubHandle, Tallies, now_us};
use tokio::sync::Semaphore;

const MS: i64 = 1_000;

/// Steps that follow soon, each by marks of its own.
fn quick(automatic: Step, marks: [Marks; 3]) -> DeliveryOptions {
    let policy = DegradePolicy {
        automatic,
        marks,
        after_us: 20 * MS,
        back_after_us: 40 * MS,
        stay_us: 60 * MS,
        window_ms: 20,
        ..DegradePolicy::default()
    };
    DeliveryOptions { degrade: policy, degrade_interval_ms: 5, report_interval_ms: 5, ..DeliveryOptions::default() }
}

fn pending(pending: u64) -> Marks {
    Marks { pending, ..Marks::default() }
}

async fn fill(handle: &HubHandle, from: u64, number: u64) {
    for n in from..from + number {
        handle.submit(vec![input("wms", &format!("d{n}"), &format!("k{}", n % 40), n as i64, n)]).await.unwrap();
    }
}

fn mode(handle: &HubHandle) -> FlowMode {
    handle.flow_modes().remove("erp").unwrap_or_default()
}

fn pin(step: Step, until_us: Option<i64>) -> Pin {
    Pin { step, until_us, by: "ops".into(), reason: "their maintenance".into() }
}

async fn is_idle_in(handle: &HubHandle, step: Step) {
    until("the runner has heard of it", || {
        handle.destination_conditions().get("erp").is_some_and(|erp| erp.step == step && erp.under_way == 0)
    })
    .await;
}

/// What was published of the flow: type, from, to.
async fn told(handle: &HubHandle, number: usize) -> Vec<(String, String, String)> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let told = told_now(handle).await;
        if told.len() >= number {
            return told;
        }
        assert!(Instant::now() < deadline, "never told: {told:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn told_now(handle: &HubHandle) -> Vec<(String, String, String)> {
    let filter = EventFilter { kind: Some("flow".into()), ..EventFilter::default() };
    let (mut told, mut after) = (Vec::new(), 0);
    loop {
        let page = handle.events(after, filter.clone(), 100).await.unwrap();
        let (at_end, next) = (page.at_end, page.next_after);
        for event in page.events {
            let fields = event.fact.fields.iter().chain(&event.fact.rest);
            let text: BTreeMap<_, _> = fields
                .map(|f| (f.name.as_str(), String::from_utf8_lossy(&f.json).trim_matches('"').to_owned()))
                .collect();
            assert_eq!((event.fact.key.as_str(), text["destination"].as_str()), ("erp", "erp"));
            assert!(text["why"].contains(' '), "{text:?}");
            told.push((event.fact.event_type.clone(), text["from"].clone(), text["to"].clone()));
        }
        if at_end {
            return told;
        }
        after = next;
    }
}

fn rows(rows: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    rows.iter().map(|(kind, from, to)| ((*kind).to_owned(), (*from).to_owned(), (*to).to_owned())).collect()
}

fn all_delivered(number: u64) -> impl Fn(&Tallies) -> bool {
    move |t| t.destinations.get("erp").is_some_and(|erp| erp.delivered >= number)
}

/// A receiver that answers as often as it is let.
struct Slow {
    answers: Semaphore,
    under_way: AtomicUsize,
}

#[async_trait]
impl Destination for Slow {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        if event.fact.kind != "stock" {
            return Ok(None);
        }
        let (id, body) = (event.position.to_string(), event.fact.key.clone().into());
        Ok(Some(Prepared { id, body, content_type: "text/plain", trace: None, replay: None }))
    }

    async fn send(&self, _: &Prepared, _: u32) -> Sent {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        if let Ok(answer) = self.answers.acquire().await {
            answer.forget();
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let result = AttemptResult::Delivered;
        Sent { result, status: 200, detail: String::new(), response_head: String::new(), duration_us: 1 }
    }
}

#[tokio::test]
async fn a_slow_receiver_gets_less_and_everything_again_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let slow = Arc::new(Slow { answers: Semaphore::new(0), under_way: AtomicUsize::new(0) });
    hub.add_destination("erp", slow.clone(), quick(Step::Queue, [pending(100), pending(100), pending(100)]));
    let handle = hub.handle();
    fill(&handle, 0, 40).await;
    until("as many as may be under way in real time", || slow.under_way.load(Ordering::SeqCst) == 32).await;
    assert_eq!(mode(&handle).step, Step::RealTime);
    fill(&handle, 40, 160).await;
    until("it is in the queue", || mode(&handle).step == Step::Queue).await;
    is_step(&handle, Step::Queue).await;
    slow.answers.add_permits(100_000);
    let tallies = until_tallies(&handle, "all delivered", all_delivered(200)).await;
    until("it is in real time", || mode(&handle).step == Step::RealTime).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    let all = told(&handle, 2).await;
    assert_eq!(all, rows(&[("flow.degraded", "real-time", "queue"), ("flow.restored", "queue", "real-time")]));
    hub.shutdown().await;
}

async fn is_step(handle: &HubHandle, step: Step) {
    until("the runner has heard of it", || {
        handle.destination_conditions().get("erp").is_some_and(|erp| erp.step == step)
    })
    .await;
}

#[tokio::test]
async fn a_pause_by_hand_sends_nothing_loses_nothing_and_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|prepared, _| {
        if prepared.body.as_ref() == b"k3" { AttemptResult::Transient } else { AttemptResult::Delivered }
    });
    // Flows of which nothing is configured can be paused all the same.
    let plain = || DeliveryOptions { report_interval_ms: 5, ..DeliveryOptions::default() };
    hub.add_destination("erp", destination.clone(), plain());
    let handle = hub.handle();
    assert!(matches!(handle.pin_flow("crm", pin(Step::Pause, None)).await, Err(FlowError::Unknown)));
    assert!(matches!(handle.release_flow("erp", "ops", "x").await, Err(FlowError::NotPinned)));
    let paused = handle.pin_flow("erp", pin(Step::Pause, None)).await.unwrap();
    assert_eq!((paused.step, paused.pin.as_ref().map(|pin| pin.by.as_str())), (Step::Pause, Some("ops")));
    is_idle_in(&handle, Step::Pause).await;
    // What is said of the pause is an event too, and this one takes all.
    let before = destination.attempts();
    fill(&handle, 0, 200).await;
    assert!(destination.attempts() == before && before <= 1, "{before}");
    // Without a shutdown: as after kill -9.
    drop(hub);

    let hub = open(dir.path());
    let again = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", again.clone(), plain());
    let handle = hub.handle();
    is_idle_in(&handle, Step::Pause).await;
    fill(&handle, 200, 40).await;
    until("the pin is known", || mode(&handle).pin.is_some()).await;
    assert_eq!((again.attempts(), mode(&handle).reason.as_str()), (0, "their maintenance"));
    let released = handle.release_flow("erp", "night shift", "they are done").await.unwrap();
    assert_eq!((released.step, released.by.as_str(), released.pin), (Step::RealTime, "night shift", None));
    let tallies = until_tallies(&handle, "all delivered", |t| {
        t.published == 242 && t.destinations.get("erp").is_some_and(|erp| erp.delivered == 242)
    })
    .await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for (key, position) in again.taken() {
        assert!(last.insert(key, position) < Some(position), "in order for each key");
    }
    let all = told(&handle, 2).await;
    assert_eq!(all, rows(&[("flow.paused", "real-time", "pause"), ("flow.resumed", "pause", "real-time")]));
    hub.shutdown().await;
}

#[tokio::test]
async fn a_pin_is_over_at_its_time_and_one_on_the_same_step_is_said_too() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|_, _| AttemptResult::Delivered);
    hub.add_destination("erp", destination.clone(), quick(Step::RealTime, [Marks::default(); 3]));
    let handle = hub.handle();
    handle.pin_flow("erp", pin(Step::RealTime, None)).await.unwrap();
    handle.pin_flow("erp", pin(Step::Pause, Some(now_us() + 150 * MS))).await.unwrap();
    fill(&handle, 0, 10).await;
    until("it goes on by itself", || mode(&handle).step == Step::RealTime).await;
    until_tallies(&handle, "all delivered", all_delivered(10)).await;
    assert_eq!(mode(&handle).pin, None);
    let all = told(&handle, 3).await;
    let wanted = [
        ("flow.changed", "real-time", "real-time"),
        ("flow.paused", "real-time", "pause"),
        ("flow.resumed", "pause", "real-time"),
    ];
    assert_eq!(all, rows(&wanted));
    hub.shutdown().await;
}

#[tokio::test]
async fn a_dead_destination_is_paused_gets_probes_and_comes_back_step_by_step() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let works = Arc::new(AtomicBool::new(false));
    let switch = works.clone();
    let destination =
        Scripted::new(
            move |_, _| {
                if switch.load(Ordering::SeqCst) { AttemptResult::Delivered } else { AttemptResult::Transient }
            },
        );
    let down = Marks { down_s: 1, ..Marks::default() };
    let breaker = BreakerPolicy { failing_keys: 4, probe_first_ms: 1, probe_max_ms: 10, ..BreakerPolicy::default() };
    let options = DeliveryOptions { breaker, ..quick(Step::Pause, [Marks::default(), Marks::default(), down]) };
    hub.add_destination("erp", destination.clone(), options);
    let handle = hub.handle();
    fill(&handle, 0, 80).await;
    until("it is paused", || mode(&handle).step == Step::Pause).await;
    is_step(&handle, Step::Pause).await;
    let before = destination.attempts();
    until("it is probed all the same", || destination.attempts() > before + 2).await;
    let most = handle.destination_conditions()["erp"].under_way;
    assert!(most <= 1, "{most} probes at once");
    works.store(true, Ordering::SeqCst);
    let tallies = until_tallies(&handle, "all delivered", |t| {
        t.published == 84 && t.destinations.get("erp").is_some_and(|erp| erp.pending(t.published) == 0)
    })
    .await;
    until("it is in real time", || mode(&handle).step == Step::RealTime).await;
    assert_eq!((tallies.destinations["erp"].dead, tallies.violations()), (0, Vec::new()), "no attempt was used up");
    let wanted = [
        ("flow.paused", "real-time", "pause"),
        ("flow.resumed", "pause", "micro-batch"),
        ("flow.restored", "micro-batch", "queue"),
        ("flow.restored", "queue", "real-time"),
    ];
    assert_eq!(told(&handle, 4).await, rows(&wanted));
    hub.shutdown().await;
}

#[tokio::test]
async fn a_queue_by_hand_has_its_share_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let slow = Arc::new(Slow { answers: Semaphore::new(0), under_way: AtomicUsize::new(0) });
    let policy = DegradePolicy { after_us: 3_600_000 * MS, ..DegradePolicy::default() };
    let options = DeliveryOptions { degrade: policy, report_interval_ms: 5, ..DeliveryOptions::default() };
    hub.add_destination("erp", slow.clone(), options);
    let handle = hub.handle();
    handle.pin_flow("erp", pin(Step::Queue, None)).await.unwrap();
    is_idle_in(&handle, Step::Queue).await;
    fill(&handle, 0, 100).await;
    for answered in 1..=50 {
        until("a quarter of 32 is under way", || slow.under_way.load(Ordering::SeqCst) == 8).await;
        slow.answers.add_permits(1);
        until_tallies(&handle, "one more", all_delivered(answered)).await;
        assert!(slow.under_way.load(Ordering::SeqCst) <= 8);
    }
    handle.release_flow("erp", "ops", "").await.unwrap();
    until("all that may", || slow.under_way.load(Ordering::SeqCst) == 32).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn a_micro_batch_by_hand_sends_the_newest_of_each_key_and_all_are_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let destination = Scripted::new(|_, _| AttemptResult::Delivered);
    let options = quick(Step::RealTime, [Marks::default(); 3]);
    let options = DeliveryOptions { degrade: DegradePolicy { window_ms: 3_600_000, ..options.degrade }, ..options };
    hub.add_destination("erp", destination.clone(), options);
    let handle = hub.handle();
    handle.pin_flow("erp", pin(Step::MicroBatch, None)).await.unwrap();
    is_idle_in(&handle, Step::MicroBatch).await;
    fill(&handle, 0, 200).await;
    let held = |handle: &HubHandle| handle.destination_conditions()["erp"].held;
    until("one of each key is held", || held(&handle) >= 40).await;
    until_tallies(&handle, "older ones are settled", |t| {
        t.destinations.get("erp").is_some_and(|erp| erp.superseded == 160)
    })
    .await;
    handle.release_flow("erp", "ops", "").await.unwrap();
    let tallies = until_tallies(&handle, "nothing is pending", |t| {
        t.published == 202 && t.destinations.get("erp").is_some_and(|erp| erp.pending(t.published) == 0)
    })
    .await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    let newest: BTreeMap<String, u64> = destination.taken().into_iter().filter(|(key, _)| key != "erp").collect();
    assert_eq!((newest.len(), destination.taken().iter().filter(|(key, _)| key != "erp").count()), (40, 40));
    hub.shutdown().await;
}
