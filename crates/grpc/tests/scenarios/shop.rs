//! What a shop says to the hub, whichever way it goes.

use std::time::Instant;

use lockstep_core::time::rfc3339;
use lockstep_hub::now_us;
use serde_json::{Value, json};

use crate::rest::Http;
use crate::server::{PATIENCE, Server, Setup};

/// A refusal: its stable code, and what is missing where there is too little.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) shortfalls: Value,
    /// The field at fault.
    pub(crate) field: String,
}

/// An answer, in the words of HTTP.
pub(crate) type Tried = Result<Value, Refused>;

/// What is to be reserved.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) id: String,
    pub(crate) items: Vec<(String, i64)>,
    pub(crate) expires_at_us: i64,
    pub(crate) allow_split: bool,
    pub(crate) replaces: Option<String>,
}

impl Wanted {
    /// A hold for an hour, for an owner that is named as it is.
    pub(crate) fn new(id: &str, items: &[(&str, i64)]) -> Self {
        Self {
            id: id.to_owned(),
            items: items.iter().map(|(sku, quantity)| ((*sku).to_owned(), *quantity)).collect(),
            expires_at_us: now_us() + 3_600_000_000,
            allow_split: false,
            replaces: None,
        }
    }
}

/// Goods that moved.
#[derive(Clone, Debug)]
pub(crate) struct Moved<'a> {
    pub(crate) id: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) sku: &'a str,
    pub(crate) location: &'a str,
    pub(crate) quantity: i64,
}

/// A document of a system, as what happened so many seconds ago.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) seconds_ago: i64,
    pub(crate) data: Value,
}

/// A way to the hub. Every write has an idempotency key of its own.
pub(crate) trait Way: Sized {
    async fn open(server: &Server) -> Self;
    async fn count(&self, at: (&str, &str), quantity: i64, as_of_us: i64) -> Tried;
    async fn moved(&self, moved: &Moved<'_>) -> Tried;
    async fn sku(&self, sku: &str, scale: u32, components: &[(&str, i64)]) -> Tried;
    async fn channel(&self, channel: &str) -> Tried;
    async fn reserve(&self, wanted: &Wanted) -> Tried;
    async fn commit(&self, id: &str) -> Tried;
    async fn release(&self, id: &str) -> Tried;
    async fn ship(&self, id: &str, at: (&str, &str), quantity: i64, occurred_at_us: i64) -> Tried;
    /// Ships by a shipment's id.
    async fn ship_as(&self, shipment: &str, id: &str, at: (&str, &str), quantity: i64) -> Tried;
    async fn reservation(&self, id: &str) -> Tried;
    /// The terms of the equation at a location.
    async fn terms(&self, sku: &str, location: &str) -> Tried;
    /// What the channel `web` may sell.
    async fn available(&self, sku: &str) -> i64;
    async fn tell(&self, told: &Told) -> Tried;
    /// All events of a kind so far, as their types and documents.
    async fn events(&self, kind: &str) -> Vec<(String, Value)>;
}

/// A server, and the way to it.
pub(crate) struct Shop<W> {
    pub(crate) server: Server,
    pub(crate) way: W,
    pub(crate) http: Http,
}

impl<W: Way> Shop<W> {
    pub(crate) async fn open() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let server = Server::with(setup).await;
        let (way, http) = (W::open(&server).await, Http::new(&server));
        Self { server, way, http }
    }

    /// Counts what is on hand, as of so many seconds ago.
    pub(crate) async fn count(&self, sku: &str, location: &str, quantity: i64, seconds_ago: i64) {
        let said = self.way.count((sku, location), quantity, ago_us(seconds_ago)).await;
        assert_eq!(said.unwrap()["outcome"], "applied");
    }

    pub(crate) async fn reserve(&self, id: &str, items: &[(&str, i64)]) -> Tried {
        self.way.reserve(&Wanted::new(id, items)).await
    }

    pub(crate) async fn ship(&self, id: &str, sku: &str, location: &str, quantity: i64, seconds_ago: i64) -> String {
        self.way.ship(id, (sku, location), quantity, ago_us(seconds_ago)).await.unwrap();
        self.state(id).await
    }

    pub(crate) async fn state(&self, id: &str) -> String {
        self.way.reservation(id).await.unwrap()["state"].as_str().unwrap().to_owned()
    }

    /// Waits until a reservation is so.
    pub(crate) async fn until(&self, id: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.state(id).await != state {
            assert!(Instant::now() < deadline, "{id} is never {state}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// On hand, promised, and what may still be promised.
    pub(crate) async fn sums(&self, sku: &str, location: &str) -> (i64, i64, i64) {
        let terms = self.way.terms(sku, location).await.unwrap();
        let of = |name: &str| terms[name].as_i64().unwrap();
        (of("on_hand"), of("held") + of("committed"), of("available_to_fulfil"))
    }

    pub(crate) async fn shortage(&self, sku: &str, location: &str) -> i64 {
        self.way.terms(sku, location).await.unwrap()["shortage"].as_i64().unwrap()
    }

    pub(crate) async fn available(&self, sku: &str) -> i64 {
        self.way.available(sku).await
    }

    /// Tells of a document, as what happened so many seconds ago.
    pub(crate) async fn tell(&self, subject: &str, seconds_ago: i64, data: Value) -> Tried {
        let id = format!("{subject}-{seconds_ago}-{data}");
        self.way.tell(&Told { id, subject: subject.to_owned(), seconds_ago, data }).await
    }

    /// Tells of an order of one line.
    pub(crate) async fn order(&self, number: u32, seconds_ago: i64, state: &str, sku: &str, units: i64) -> Tried {
        let lines = json!([{"id": "1", "sku": sku, "ordered": units}]);
        let data = json!({"channel": "web", "lifecycle": state, "lines": lines});
        self.tell(&format!("order/web:{number}"), seconds_ago, data).await
    }

    /// Tells of a shipment or return of an order's line.
    pub(crate) async fn parcel(&self, subject: &str, number: u32, units: i64, mut data: Value) {
        data["order"] = json!(format!("web:{number}"));
        data["lines"] = json!([{"id": "1", "quantity": units}]);
        self.tell(subject, 2, data).await.unwrap();
    }

    /// An order as the hub has it: only HTTP has documents.
    pub(crate) async fn document(&self, key: &str) -> Value {
        self.http.get(&format!("/v1/entities/order/{key}")).await.unwrap()["document"].clone()
    }
}

pub(crate) fn ago_us(seconds: i64) -> i64 {
    now_us() - seconds * 1_000_000
}

pub(crate) fn ago(seconds: i64) -> String {
    rfc3339(ago_us(seconds))
}

/// What is missing of the first item.
pub(crate) fn short(sku: &str, item: u32, requested: i64, available: i64) -> Refused {
    let one = json!({"item": item, "sku": sku, "requested": requested, "available": available});
    Refused { code: "stock-short".to_owned(), shortfalls: json!([one]), field: String::new() }
}

/// The code of a refusal.
#[track_caller]
pub(crate) fn code(tried: Tried) -> String {
    tried.expect_err("it must be refused").code
}
