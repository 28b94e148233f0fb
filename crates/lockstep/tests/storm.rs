//! Twenty destinations behind proxies with faults, and the hub killed again and again: nothing is lost, every entity's
//! events arrive in their order, and what comes twice has the same id.

mod common;

#[path = "storm/proxy.rs"]
mod proxy;
#[path = "storm/receiver.rs"]
mod receiver;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use common::kills::Load;
use common::{DEADLINE, Hub, folder, http, write};
use proxy::{FAULTS, Weather};
use receiver::Receiver;
use serde_json::{Value, json};

const DESTINATIONS: usize = 20;
const WRITERS: u64 = 4;
/// Events in one request.
const TOGETHER: u64 = 25;

/// How much is done.
struct Size {
    events: u64,
    keys: u64,
    kills_writing: u64,
    kills_draining: u64,
}

impl Size {
    /// How many events each writer writes.
    fn share(&self) -> u64 {
        self.events / WRITERS
    }

    /// How many requests there are.
    fn requests(&self) -> u64 {
        self.events / TOGETHER
    }
}

/// Writes its events in turn to its own keys; what is not acknowledged is sent again, with the same ids.
fn write_events(size: &Size, writer: u64, load: &Load) {
    let keys = size.keys / WRITERS;
    for first in (0..size.share()).step_by(TOGETHER as usize) {
        let event = |at: u64| {
            json!({
                "specversion": "1.0", "id": format!("{writer}-{at}"), "source": "/storm", "type": "stock.counted",
                "subject": format!("stock/w{writer}-{}@x", at % keys), "sequence": (at + 1).to_string(),
                "data": { "number": at + 1 },
            })
        };
        let body = Value::from((first..first + TOGETHER).map(event).collect::<Vec<_>>()).to_string();
        loop {
            if let Some((address, key)) = load.address() {
                let authorization = format!("Bearer {key}");
                let headers =
                    [("authorization", authorization.as_str()), ("content-type", "application/cloudevents-batch+json")];
                match http(address, "POST", "/v1/events", &headers, body.as_bytes()) {
                    Ok((200, _)) => break,
                    Ok((429 | 503, _)) | Err(_) => {}
                    Ok((status, answer)) => panic!("{status}: {answer}"),
                }
            }
            std::thread::yield_now();
        }
        load.goes_on();
    }
}

/// Waits as long as more arrives.
fn while_more_arrives(receivers: &[Arc<Receiver>], mut reached: impl FnMut(usize) -> bool) {
    let (mut count, mut since) = (0, Instant::now());
    loop {
        let now = receivers.iter().map(|receiver| receiver.count()).sum();
        if reached(now) {
            return;
        }
        if now != count {
            (count, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < DEADLINE, "nothing has arrived for long, after {count}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn faults_and_kills_lose_nothing_and_keep_the_order() {
    // `LOCKSTEP_STORM=full` writes 100,000 events of 5,000 entities: two million deliveries.
    let size = match std::env::var("LOCKSTEP_STORM").as_deref() {
        Ok("full") => Size { events: 100_000, keys: 5_000, kills_writing: 10, kills_draining: 10 },
        _ => Size { events: 1_000, keys: 100, kills_writing: 3, kills_draining: 2 },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let weather = Arc::new(Weather::default());
    weather.is_bad.store(true, Ordering::Relaxed);
    let receivers: Vec<Arc<Receiver>> = (0..DESTINATIONS).map(|_| Arc::default()).collect();
    let mut config = "[hub]\nname = \"storm\"\nflush_interval_ms = 200\n".to_owned();
    let mut destination = |name: &str, url: &str| {
        config.push_str(&format!(
            "
[destinations.{name}]
kind = \"webhook\"
system = \"{name}\"
url = \"{url}\"
secrets = [\"file:secret\"]
allow_private_addresses = true
timeout_ms = 400
concurrency_max = 8
retry = {{ retries_max = 1000, backoff_first_ms = 10, backoff_max_ms = 200 }}
breaker = {{ probe_first_ms = 50, probe_max_ms = 400 }}
budget = {{ retry_percent = 50, window_ms = 1000, floor_per_s = 100 }}
"
        ));
    };
    for (number, receiver) in receivers.iter().enumerate() {
        let address = runtime.block_on(async {
            let behind = receiver.start().await;
            proxy::start(behind, weather.clone()).await
        });
        destination(&format!("d{number:02}"), &format!("http://{address}/in"));
    }
    // One that speaks no TLS where TLS is asked for: it is never reached, and disturbs none of the others.
    let plain = Arc::new(Receiver::default());
    let address = runtime.block_on(plain.start());
    destination("tls", &format!("https://{address}/in"));
    let folder = folder(&config);
    write(folder.path(), "secret", "whsec_c3Rvcm0tdGVzdC1zZWNyZXQtc3Rvcm0tdGVzdA==");

    let began = Instant::now();
    let size = Arc::new(size);
    let between = size.requests() / (size.kills_writing + 2);
    let of_writers = size.clone();
    let load = Load::default();
    let mut hub = load.kill(folder.path(), (size.kills_writing, between / 2..between), WRITERS, move |writer, load| {
        write_events(&of_writers, writer, load)
    });
    let written_s = began.elapsed().as_secs_f64();
    let whole = size.events as usize * DESTINATIONS;
    let mut killed = size.kills_writing;
    for _ in 0..size.kills_draining {
        let before: usize = receivers.iter().map(|receiver| receiver.count()).sum();
        let enough = before + (whole - before) / 4;
        while_more_arrives(&receivers, |count| count >= enough);
        // SIGKILL.
        drop(hub);
        killed += 1;
        hub = Hub::start(folder.path());
    }
    while_more_arrives(&receivers, |count| count >= whole - whole / 20);
    // The last ones in good weather, so that the end of the run is an end.
    weather.is_bad.store(false, Ordering::Relaxed);
    while_more_arrives(&receivers, |count| count >= whole);
    let drained_s = began.elapsed().as_secs_f64();
    let tallies = common::until("everything is settled, and what is never reached is known to be down", || {
        let body = hub.get("/v1/destinations");
        let items = body["items"].as_array().unwrap().clone();
        let is_settled = |one: &Value| if one["name"] == "tls" { one["down"].is_object() } else { one["pending"] == 0 };
        items.iter().all(is_settled).then_some(items)
    });

    // Everything that was acknowledged was published once.
    let (mut ids, mut entries, mut after) = (HashSet::new(), BTreeSet::new(), 0);
    loop {
        let page = hub.get(&format!("/v1/events?after={after}&limit=1000"));
        for event in page["items"].as_array().unwrap() {
            let id: u64 = event["id"].as_str().unwrap().parse().unwrap();
            let entry =
                (event["subject"].as_str().unwrap().to_owned(), event["data"]["document"]["number"].as_u64().unwrap());
            assert!(ids.insert(id) && entries.insert(entry.clone()), "{entry:?} was published twice");
        }
        after = page["next_after"].as_u64().unwrap();
        if page["at_end"] == true {
            break;
        }
    }
    assert_eq!(ids.len() as u64, size.events);

    // Every receiver has all of it, in order, and nothing else.
    let (mut requests, mut again) = (0, 0);
    for (number, receiver) in receivers.iter().enumerate() {
        let got = receiver.got.lock().unwrap();
        assert_eq!(got.wrong, Vec::<String>::new(), "destination {number}");
        assert_eq!(got.events.len(), ids.len(), "destination {number}");
        assert!(got.events.keys().all(|id| ids.contains(id)), "destination {number}");
        (requests, again) = (requests + got.events.len() as u64 + got.again, again + got.again);
    }
    assert_eq!(plain.count(), 0);

    // Conservation, as the hub says it.
    assert_eq!(tallies.len(), DESTINATIONS + 1);
    for one in &tallies {
        let count = |member: &str| one[member].as_u64().unwrap();
        assert_eq!(count("published"), size.events, "{one}");
        let settled = ["delivered", "filtered", "dead", "discarded", "superseded", "skipped"].map(count);
        assert_eq!(settled.iter().sum::<u64>() + count("pending"), size.events, "{one}");
        if one["name"] == "tls" {
            assert_eq!(
                (count("delivered"), count("dead"), one["down"]["cause"].as_str()),
                (0, 0, Some("failing")),
                "{one}"
            );
        } else {
            assert_eq!((count("delivered"), &one["down"]), (size.events, &Value::Null), "{one}");
        }
    }
    let (status, ready) = hub.http("GET", "/healthz/ready", &[], b"");
    assert_eq!(status, 200, "{ready}");
    let faults: Vec<String> = FAULTS
        .iter()
        .zip(&weather.counts)
        .map(|(fault, count)| format!("{fault:?} {}", count.load(Ordering::Relaxed)))
        .collect();
    println!(
        "{} events of {} entities to {DESTINATIONS} destinations, {killed} kills: written after {written_s:.1} s, all \
         delivered after {drained_s:.1} s; {requests} requests arrived, {again} of them again; faults: {}",
        size.events,
        size.keys,
        faults.join(", ")
    );
}
