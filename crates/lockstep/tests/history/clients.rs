//! Clients that speak to the hub at random, and write down what they asked, when, and what they were told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use lockstep_hub::now_us;
use serde_json::{Value, json};

use super::checker::Call;
use super::common::http;
use super::model::{Ask, Told};

/// The SKUs. Each has a history of its own, since nothing of one concerns the other.
pub(crate) const SKUS: [&str; 2] = ["A", "B"];
/// How many of the last reservations somebody goes on with.
const RECENT: usize = 12;

/// What the clients share.
#[derive(Default)]
pub(crate) struct World {
    /// Where the hub is now, if it is.
    pub(crate) address: RwLock<Option<(SocketAddr, String)>>,
    pub(crate) histories: [Mutex<Vec<Call>>; SKUS.len()],
    /// Reservations that are known to have been made, with their quantities.
    made: [Mutex<Vec<(u32, i64)>>; SKUS.len()],
    numbers: AtomicU32,
    pub(crate) answered: AtomicU64,
    pub(crate) given_up: AtomicU64,
    pub(crate) stop: AtomicBool,
}

/// What became of one attempt.
enum Sent {
    Answered(Told),
    /// Nobody was there, or it was refused for the time being: it had no effect.
    Nowhere,
    /// The connection broke before the answer.
    Broken,
}

impl World {
    /// Asks until there is an answer, or until the client gives up, which it does at one of two
    /// connections that break, if it may.
    pub(crate) fn ask(&self, sku: usize, ask: Ask, random: &mut fastrand::Rng, may_give_up: bool) -> Option<Told> {
        let (method, path, body) = request(sku, &ask);
        let key = format!("call-{}", self.numbers.fetch_add(1, Ordering::SeqCst));
        let began = now_us();
        let told = loop {
            match self.send(method, &path, &key, &body) {
                Sent::Answered(told) => break Some(told),
                Sent::Broken if may_give_up && random.bool() => break None,
                Sent::Broken | Sent::Nowhere => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        self.histories[sku].lock().unwrap().push(Call { ask, began, ended: now_us(), told: told.clone() });
        let counter = if told.is_some() { &self.answered } else { &self.given_up };
        counter.fetch_add(1, Ordering::SeqCst);
        told
    }

    fn send(&self, method: &str, path: &str, key: &str, body: &Value) -> Sent {
        let Some((address, secret)) = self.address.read().unwrap().clone() else { return Sent::Nowhere };
        let authorization = format!("Bearer {secret}");
        let mut headers = vec![("authorization", authorization.as_str())];
        let mut bytes = String::new();
        if method != "GET" {
            headers.extend([("content-type", "application/json"), ("idempotency-key", key)]);
            bytes = body.to_string();
        }
        match http(address, method, path, &headers, bytes.as_bytes()) {
            Ok((429 | 503, _)) => Sent::Nowhere,
            Ok((status, answer)) => Sent::Answered(told(status, &serde_json::from_str(&answer).expect("JSON"))),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Sent::Nowhere,
            Err(_) => Sent::Broken,
        }
    }

    fn reserve(&self, sku: usize, random: &mut fastrand::Rng) {
        let id = self.numbers.fetch_add(1, Ordering::SeqCst);
        let quantity = random.i64(1..=3);
        let ask = Ask::Reserve { id, quantity, expires_at: end(random) };
        if self.ask(sku, ask, random, true) == Some(Told::Done) {
            self.made[sku].lock().unwrap().push((id, quantity));
        }
    }

    /// One client: sells, goes on with what somebody has sold, and looks.
    pub(crate) fn sell(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        while !self.stop.load(Ordering::SeqCst) {
            let sku = random.usize(..SKUS.len());
            let recent = {
                let made = self.made[sku].lock().unwrap();
                let from = made.len().saturating_sub(RECENT);
                (from < made.len()).then(|| made[random.usize(from..made.len())])
            };
            let ask = match (random.u8(..100), recent) {
                (..40, _) | (_, None) => {
                    self.reserve(sku, &mut random);
                    continue;
                }
                (40..55, Some((id, _))) => Ask::Commit { id },
                (55..72, Some((id, _))) => Ask::Release { id },
                (72..78, Some((id, _))) => Ask::Extend { id, expires_at: end(&mut random) },
                (78..86, Some((id, quantity))) => Ask::Ship { id, quantity, at: now_us() - random.i64(0..50_000) },
                (86.., Some(_)) => Ask::Look,
            };
            self.ask(sku, ask, &mut random, true);
        }
    }

    /// The warehouse: counts now and then, each time as it was a little before.
    pub(crate) fn count(&self, seed: u64, since: i64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut last = [since; SKUS.len()];
        while !self.stop.load(Ordering::SeqCst) {
            let sku = random.usize(..SKUS.len());
            let as_of = (now_us() - random.i64(0..50_000)).max(last[sku] + 1);
            last[sku] = as_of;
            self.ask(sku, Ask::Count { quantity: random.i64(5..30), as_of }, &mut random, true);
            std::thread::sleep(Duration::from_millis(random.u64(10..60)));
        }
    }
}

/// When a hold is to end: soon, or after all this.
fn end(random: &mut fastrand::Rng) -> i64 {
    now_us() + if random.bool() { random.i64(30_000..400_000) } else { 3_600_000_000 }
}

fn time(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).unwrap().to_string()
}

fn request(sku: usize, ask: &Ask) -> (&'static str, String, Value) {
    let sku = SKUS[sku];
    let step = |id: &u32, step: &str| format!("/v1/reservations/r{id}/{step}");
    match ask {
        Ask::Reserve { id, quantity, expires_at } => {
            let id = format!("r{id}");
            let items = json!([{"sku": sku, "quantity": quantity}]);
            let body =
                json!({"id": id, "owner": id, "channel": "web", "expires_at": time(*expires_at), "items": items});
            ("POST", "/v1/reservations".to_owned(), body)
        }
        Ask::Commit { id } => ("POST", step(id, "commit"), json!({})),
        Ask::Release { id } => ("POST", step(id, "release"), json!({})),
        Ask::Extend { id, expires_at } => ("POST", step(id, "extend"), json!({"expires_at": time(*expires_at)})),
        Ask::Ship { id, quantity, at } => {
            let goods = json!([{"sku": sku, "location": "berlin", "quantity": quantity}]);
            ("POST", step(id, "consume"), json!({"goods": goods, "occurred_at": time(*at)}))
        }
        Ask::Count { quantity, as_of } => {
            let body = json!({"basis": "on_hand", "quantity": quantity, "as_of": time(*as_of)});
            ("PUT", format!("/v1/stock/{sku}/berlin/count"), body)
        }
        Ask::Look => ("GET", format!("/v1/stock/{sku}/berlin"), Value::Null),
        Ask::Time { .. } => unreachable!("nobody asks for time"),
    }
}

fn told(status: u16, answer: &Value) -> Told {
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("{answer}"));
    match (status, answer["code"].as_str()) {
        (200 | 201, _) if answer["terms"].is_object() => {
            let of = |name: &str| number(&answer["terms"][name]);
            Told::Terms {
                on_hand: of("on_hand"),
                held: of("held"),
                committed: of("committed"),
                available: of("available_to_fulfil"),
            }
        }
        (200 | 201, _) => Told::Done,
        (409, Some("stock-short")) => Told::Short { available: number(&answer["shortfalls"][0]["available"]) },
        (409, Some("reservation-state")) => Told::Conflict,
        (422, Some("stock-invalid")) if answer["pointer"] == "/expires_at" => Told::TooLate,
        _ => panic!("{status}: {answer}"),
    }
}
