//! SIGKILL at random moments while stock is reserved. What was acknowledged is there, once, and nothing is sold twice.

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use common::kills::Load;
use common::{Hub, folder, http, until};
use serde_json::{Value, json};

const KILLS: u64 = 12;
const WRITERS: u64 = 4;
const ON_HAND: i64 = 300;

/// What was acknowledged: each reservation's state, by its id; those that were refused are not in it.
type Ledger = Arc<Mutex<BTreeMap<String, &'static str>>>;

/// Sends a request until it is answered, with the same key.
fn call(load: &Load, method: &str, path: &str, key: &str, body: &Value) -> (u16, Value) {
    loop {
        let known = load.address();
        if let Some((address, secret)) = known {
            let authorization = format!("Bearer {secret}");
            let media_type = if body.get("specversion").is_some() { "cloudevents+json" } else { "json" };
            let content_type = format!("application/{media_type}");
            let headers = [
                ("authorization", authorization.as_str()),
                ("content-type", content_type.as_str()),
                ("idempotency-key", key),
            ];
            match http(address, method, path, &headers, body.to_string().as_bytes()) {
                Ok((429 | 503, _)) | Err(_) => {}
                Ok((status, answer)) => return (status, serde_json::from_str(&answer).expect("JSON")),
            }
        }
        std::thread::yield_now();
    }
}

/// Reserves one unit after another, and commits, ships or gives back some of them.
fn writer(writer: u64, load: &Load, ledger: &Ledger) {
    for number in 1_u64.. {
        let id = format!("w{writer}-{number}");
        let body = json!({
            "id": id, "owner": id, "channel": "web", "hold_s": 86_400, "items": [{"sku": "A", "quantity": 1}],
        });
        match call(load, "POST", "/v1/reservations", &id, &body) {
            (200 | 201, answer) => {
                assert_eq!((&answer["id"], &answer["state"]), (&json!(id), &json!("held")), "{answer}");
                ledger.lock().unwrap().insert(id.clone(), "held");
                let (step, state, body) = match number % 5 {
                    0 => ("commit", "committed", json!({})),
                    1 => {
                        let goods = json!([{"sku": "A", "location": "berlin", "quantity": 1}]);
                        ("consume", "consumed", json!({ "goods": goods }))
                    }
                    2 | 3 => ("release", "released", json!({})),
                    _ => ("extend", "held", json!({"hold_s": 172_800})),
                };
                let path = format!("/v1/reservations/{id}/{step}");
                let (status, answer) = call(load, "POST", &path, &format!("{id}-{step}"), &body);
                assert_eq!((status, &answer["state"]), (200, &json!(state)), "{answer}");
                ledger.lock().unwrap().insert(id, state);
            }
            (409, answer) => assert_eq!(answer["code"], "stock-short", "{answer}"),
            (status, answer) => panic!("{status}: {answer}"),
        }
        if !load.goes_on() {
            return;
        }
    }
}

#[test]
fn what_was_reserved_survives_kills_and_nothing_is_sold_twice() {
    let folder = folder("[hub]\nname = \"kill\"\nflush_interval_ms = 100\n");
    let (load, ledger) = (Load::default(), Ledger::default());
    let hub = Hub::start(folder.path());
    load.is_at(Some(&hub));
    let counted = json!({"basis": "on_hand", "quantity": ON_HAND});
    assert_eq!(call(&load, "PUT", "/v1/stock/A/berlin/count", "count", &counted).0, 200);
    assert_eq!(call(&load, "PUT", "/v1/channels/web/policy", "policy", &json!({})).0, 200);
    load.is_at(None);
    drop(hub);
    let told = ledger.clone();
    let hub = load.kill(folder.path(), (KILLS, 10..80), WRITERS, move |number, load| writer(number, load, &told));

    let authorization = format!("Bearer {}", hub.key);
    let headers = [("authorization", authorization.as_str())];
    let get = |path: &str| -> Value {
        let (status, body) = hub.http("GET", path, &headers, b"");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    let ledger = ledger.lock().unwrap();
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for (id, state) in ledger.iter() {
        let reservation = get(&format!("/v1/reservations/{id}"));
        assert_eq!(reservation["state"], *state, "{id} was acknowledged so: {reservation}");
        *sums.entry(state).or_default() += 1;
    }
    let of = |state: &str| sums.get(state).copied().unwrap_or(0);
    let stock = get("/v1/stock/A/berlin");
    let term = |name: &str| stock["terms"][name].as_i64().unwrap();
    assert_eq!((term("held"), term("committed")), (of("held"), of("committed")), "every open line was acknowledged");
    assert_eq!(term("on_hand"), ON_HAND - of("consumed"), "every shipment once");
    let left = ON_HAND - of("consumed") - of("held") - of("committed");
    assert!(left >= 0, "{left} left");
    assert_eq!(term("available_to_fulfil"), left);
    let told = get("/v1/availability?sku=A&channel=web");
    assert_eq!(told["items"][0]["available"], left);
    let (status, ready) = hub.http("GET", "/healthz/ready", &[], b"");
    assert_eq!(status, 200, "{ready}");
    println!("{KILLS} kills, {} reserved of {ON_HAND}: {sums:?}, {left} left", ledger.len());
}

/// Orders that wait, and what they share with who brings the goods.
#[derive(Clone, Default)]
struct Arrivals {
    orders: Arc<Mutex<Vec<String>>>,
    received: Arc<Mutex<i64>>,
}

/// The first writer receives goods, a unit at a time; the others place orders of one unit each.
fn trader(number: u64, load: &Load, arrivals: &Arrivals) {
    for turn in 1_u64.. {
        let id = format!("w{number}-{turn}");
        if number == 0 {
            let body = json!({"movement": id, "kind": "receipt", "quantity": 1, "occurred_at": PLACED});
            assert_eq!(call(load, "POST", "/v1/stock/A/berlin/movements", &id, &body).0, 200);
            *arrivals.received.lock().unwrap() += 1;
        } else {
            let lines = json!([{"id": "1", "sku": "A", "ordered": 1}]);
            let event = json!({
                "specversion": "1.0", "id": id, "source": "/trader", "type": "order.placed", "time": PLACED,
                "subject": format!("order/web:{id}"),
                "data": {"channel": "web", "lifecycle": "confirmed", "lines": lines},
            });
            assert_eq!(call(load, "POST", "/v1/events", &id, &event).0, 200);
            arrivals.orders.lock().unwrap().push(format!("web:{id}"));
        }
        if !load.goes_on() {
            return;
        }
    }
}

/// When everything is said to have happened.
const PLACED: &str = "2026-01-02T03:04:05Z";

#[test]
fn orders_that_wait_get_what_comes_across_kills() {
    let folder = folder("[hub]\nname = \"kill\"\nflush_interval_ms = 100\n");
    let (load, arrivals) = (Load::default(), Arrivals::default());
    let hub = Hub::start(folder.path());
    load.is_at(Some(&hub));
    let counted = json!({"basis": "on_hand", "quantity": 0, "as_of": "2026-01-01T00:00:00Z"});
    assert_eq!(call(&load, "PUT", "/v1/stock/A/berlin/count", "count", &counted).0, 200);
    load.is_at(None);
    drop(hub);
    let told = arrivals.clone();
    let hub = load.kill(folder.path(), (KILLS, 5..60), WRITERS, move |number, load| trader(number, load, &told));

    let authorization = format!("Bearer {}", hub.key);
    let headers = [("authorization", authorization.as_str())];
    let get = |path: &str| -> Value {
        let (status, body) = hub.http("GET", path, &headers, b"");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    let orders = arrivals.orders.lock().unwrap();
    let (received, ordered) = (*arrivals.received.lock().unwrap(), orders.len() as i64);
    let document = |key: &String| get(&format!("/v1/entities/order/{key}"))["document"].clone();
    let waits = |order: &Value| order["holds"].as_array().is_some_and(|holds| holds.contains(&json!("stock")));
    // The last that came is given out after it is acknowledged.
    let held = until("nobody waits for what is there", || {
        let held = orders.iter().filter(|key| waits(&document(key))).count() as i64;
        (held == (ordered - received).max(0)).then_some(held)
    });
    let stock = get("/v1/stock/A/berlin");
    let term = |name: &str| stock["terms"][name].as_i64().unwrap();
    assert_eq!((term("on_hand"), term("committed")), (received, received.min(ordered)));
    for key in orders.iter() {
        let order = document(key);
        let reserved = order["stock"]["reservations"].as_array().map_or(0, Vec::len);
        assert_eq!(reserved, usize::from(!waits(&order)), "{key}: {order}");
    }
    println!("{KILLS} kills, {ordered} orders of one unit, {received} units came: {held} orders wait");
}
