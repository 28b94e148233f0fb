//! Stock through HTTP: reserving, the steps of a reservation, what may be sold, what is refused and why.

use http::Method;
use lockstep_api::Scope;
use lockstep_core::stock::record::CountBasis;
use lockstep_core::time::rfc3339;
use lockstep_hub::now_us;
use serde_json::{Value, json};

use crate::harness::{Answer, Gate, GatedJournal, PATIENCE, Server, Setup};
use crate::webhooks::{deliver, with_shopify};

/// A server with a shop's words for stock.
pub(crate) struct Shop {
    pub(crate) server: Server,
    calls: std::sync::atomic::AtomicU64,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self { server: Server::with(setup).await, calls: 0.into() }
    }

    /// A write with an `Idempotency-Key` of its own.
    pub(crate) async fn write(&self, method: Method, path: &str, body: &Value) -> Answer {
        let number = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.keyed(&format!("call-{number}"), method, path, body).await
    }

    pub(crate) async fn keyed(&self, key: &str, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.server.call(method, path, &headers, body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.write(Method::POST, path, &body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.write(Method::PUT, path, &body).await
    }

    /// Counts what is on hand, as of so many seconds ago.
    pub(crate) async fn count(&self, sku: &str, location: &str, quantity: i64, seconds_ago: i64) {
        let body = json!({"basis": "on_hand", "quantity": quantity, "as_of": ago(seconds_ago)});
        let answer = self.put(&format!("/v1/stock/{sku}/{location}/count"), body).await.ok();
        assert_eq!(answer["outcome"], "applied");
    }

    /// Reserves for an owner that is named as the reservation is.
    pub(crate) async fn reserve(&self, id: &str, items: Value) -> Answer {
        self.post("/v1/reservations", json!({"id": id, "owner": id, "channel": "web", "items": items})).await
    }

    pub(crate) async fn step(&self, id: &str, step: &str, body: Value) -> Answer {
        self.post(&format!("/v1/reservations/{id}/{step}"), body).await
    }

    pub(crate) async fn ship(&self, id: &str, sku: &str, location: &str, quantity: i64, seconds_ago: i64) -> Answer {
        let goods = json!([{"sku": sku, "location": location, "quantity": quantity}]);
        self.step(id, "consume", json!({"goods": goods, "occurred_at": ago(seconds_ago)})).await
    }

    pub(crate) async fn availability(&self, sku: &str) -> Value {
        self.server.get(&format!("/v1/availability?sku={sku}&channel=web")).await.ok()["items"][0].clone()
    }

    pub(crate) async fn available(&self, sku: &str) -> i64 {
        self.availability(sku).await["available"].as_i64().unwrap()
    }

    /// The terms of the equation at a location.
    pub(crate) async fn terms(&self, sku: &str, location: &str) -> Value {
        self.server.get(&format!("/v1/stock/{sku}/{location}")).await.ok()["terms"].clone()
    }
}

pub(crate) fn ago(seconds: i64) -> String {
    rfc3339(now_us() - seconds * 1_000_000)
}

pub(crate) fn one(sku: &str, quantity: i64) -> Value {
    json!([{"sku": sku, "quantity": quantity}])
}

#[tokio::test]
async fn a_reservation_is_made_kept_and_shipped() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 10, 60).await;
    let made = shop.reserve("o1", one("A", 3)).await;
    assert_eq!((made.status, made.header("location")), (201, "/v1/reservations/o1"), "{}", made.text());
    let body = made.json();
    assert_eq!((&body["state"], &body["lines"][0]["location"]), (&json!("held"), &json!("berlin")));
    assert_eq!((&body["lines"][0]["open"], &body["owner"]), (&json!(3), &json!("o1")));
    assert!(body["expires_at"].is_string());
    assert_eq!((&body["facts"]["fresh"], made.header("stock-fresh")), (&json!(true), "true"));
    let extended = shop.step("o1", "extend", json!({"hold_s": 7200})).await.ok();
    assert!(extended["expires_at"].as_str().unwrap() > body["expires_at"].as_str().unwrap());
    let committed = shop.step("o1", "commit", json!({})).await.ok();
    assert_eq!((&committed["state"], &committed["expires_at"]), (&json!("committed"), &json!(null)));
    let terms = shop.terms("A", "berlin").await;
    let of = |name: &str| terms[name].as_i64().unwrap();
    assert_eq!((of("on_hand"), of("held"), of("committed"), of("available_to_fulfil")), (10, 0, 3, 7));
    assert_eq!((&terms["holders"][0]["reservation"], &terms["holders"][0]["open"]), (&json!("o1"), &json!(3)));
    assert_eq!(shop.ship("o1", "A", "berlin", 2, 1).await.ok()["state"], "committed");
    let shipped = shop.ship("o1", "A", "berlin", 1, 1).await.ok();
    assert_eq!((&shipped["state"], &shipped["lines"][0]["consumed"]), (&json!("consumed"), &json!(3)));
    assert_eq!(shop.available("A").await, 7);
    let ledger = shop.server.get("/v1/stock/A/berlin/ledger").await.ok();
    let types: Vec<_> = ledger["items"].as_array().unwrap().iter().map(|i| i["event_type"].as_str().unwrap()).collect();
    let expected = [
        "stock.counted",
        "reservation.held",
        "reservation.extended",
        "reservation.committed",
        "stock.shipped",
        "reservation.consumed",
        "stock.shipped",
        "reservation.consumed",
    ];
    assert_eq!(types, expected);
    assert_eq!((&ledger["items"][1]["system"], &ledger["at_end"]), (&json!("erp"), &json!(true)));
    shop.server.stop().await;
}

#[tokio::test]
async fn a_repetition_has_one_effect_and_other_content_under_the_key_is_refused() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 10, 60).await;
    let body = json!({"owner": "cart-1", "channel": "web", "items": one("A", 3)});
    let first = shop.keyed("k", Method::POST, "/v1/reservations", &body).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let again = shop.keyed("k", Method::POST, "/v1/reservations", &body).await.ok();
    assert_eq!((&again["id"], &again["repeated"]), (&first.json()["id"], &json!(true)));
    let other = json!({"owner": "cart-1", "channel": "web", "items": one("A", 4)});
    shop.keyed("k", Method::POST, "/v1/reservations", &other).await.problem(422, "key-reused");
    let id = first.json()["id"].as_str().unwrap().to_owned();
    // The same key for another step is another request.
    shop.keyed("k", Method::POST, &format!("/v1/reservations/{id}/commit"), &json!({}))
        .await
        .problem(422, "key-reused");
    assert_eq!(shop.available("A").await, 7);
    let headers = [("content-type", "application/json")];
    let keyless = shop.server.call(Method::POST, "/v1/reservations", &headers, body.to_string()).await;
    keyless.problem(400, "idempotency-key-missing");
    // A movement has one effect by its own id, whatever request it comes with.
    let moved = json!({"movement": "m1", "kind": "receipt", "quantity": 5});
    assert_eq!(shop.post("/v1/stock/A/berlin/movements", moved.clone()).await.ok()["outcome"], "applied");
    assert_eq!(shop.post("/v1/stock/A/berlin/movements", moved).await.ok()["outcome"], "repeated");
    assert_eq!(shop.available("A").await, 12);
    // All of it after a restart.
    let folder = shop.server.stop().await;
    let shop = Shop::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    let again = shop.keyed("k", Method::POST, "/v1/reservations", &body).await.ok();
    assert_eq!((&again["id"], &again["repeated"]), (&json!(id), &json!(true)));
    shop.keyed("k", Method::POST, "/v1/reservations", &other).await.problem(422, "key-reused");
    assert_eq!(shop.available("A").await, 12);
    shop.server.stop().await;
}

#[tokio::test]
async fn what_is_refused_says_which_field_and_why() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 2, 60).await;
    let short = shop.reserve("o1", json!([{"sku": "A", "quantity": 1}, {"sku": "A", "quantity": 2}])).await;
    let short = short.problem(409, "stock-short");
    assert_eq!(short["shortfalls"], json!([{"item": 1, "sku": "A", "requested": 2, "available": 1}]));
    let none = shop.reserve("o1", json!([])).await.problem(422, "stock-invalid");
    assert_eq!((&none["pointer"], &none["reason"]), (&json!("/items"), &json!("must be 1 to 1000, not 0")));
    let zero = shop.reserve("o1", one("A", 0)).await.problem(422, "stock-invalid");
    assert_eq!(zero["pointer"], "/items/quantity");
    shop.reserve("o1", json!([{"sku": "A", "quantity": 1.5}])).await.problem(400, "invalid-body");
    shop.step("o9", "commit", json!({})).await.problem(404, "unknown-reservation");
    shop.server.get("/v1/reservations/o9").await.problem(404, "unknown-reservation");
    shop.server.get("/v1/stock/B/berlin").await.problem(404, "unknown-stock");
    shop.server.get("/v1/availability").await.problem(400, "invalid-parameter");
    shop.server.get("/v1/availability?sku=A&sku=").await.problem(400, "invalid-parameter");
    let many = format!("/v1/availability?{}", ["sku=A"; lockstep_api::SKUS_MAX + 1].join("&"));
    shop.server.get(&many).await.problem(400, "invalid-parameter");
    assert_eq!(shop.server.get(&many[..many.len() - 6]).await.ok()["items"].as_array().unwrap().len(), 1_000);
    shop.server.get("/v1/availability?sku=A&holders=101").await.problem(400, "invalid-parameter");
    shop.server.get("/v1/availability?sku=A&sku=B&at=x").await.problem(400, "invalid-parameter");
    assert_eq!(shop.reserve("o1", one("A", 1)).await.status, 201);
    shop.step("o1", "release", json!({})).await.ok();
    assert_eq!(shop.step("o1", "release", json!({})).await.ok()["repeated"], true);
    let conflict = shop.step("o1", "commit", json!({})).await.problem(409, "reservation-state");
    assert_eq!(conflict["state"], "released");
    // A count of the same time with another number contradicts; one from the future is not believed.
    let at = ago(30);
    let count = |quantity: i64| json!({"basis": "on_hand", "quantity": quantity, "as_of": at});
    shop.put("/v1/stock/A/berlin/count", count(5)).await.ok();
    assert_eq!(shop.put("/v1/stock/A/berlin/count", count(5)).await.ok()["outcome"], "repeated");
    let differs = shop.put("/v1/stock/A/berlin/count", count(6)).await.problem(409, "stock-doubtful");
    assert_eq!(differs["reason"], "count-differs");
    let ahead = json!({"basis": "on_hand", "quantity": 5, "as_of": ago(-600)});
    shop.put("/v1/stock/A/berlin/count", ahead).await.problem(422, "clock-skew");
    let older = json!({"basis": "on_hand", "quantity": 50, "as_of": ago(600)});
    assert_eq!(shop.put("/v1/stock/A/berlin/count", older).await.ok()["outcome"], "ignored");
    assert_eq!(shop.available("A").await, 5);
    let reader = shop.server.keys.create("reader", &[Scope::Read], None, None).unwrap();
    let bearer = format!("Bearer {reader}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", "x")];
    let body = json!({"owner": "x", "channel": "web", "items": one("A", 1)}).to_string();
    shop.server.send(Method::POST, "/v1/reservations", &headers, body).await.problem(403, "scope-missing");
    shop.server.stop().await;
}

#[tokio::test]
async fn bad_input_is_refused_with_the_field_and_what_would_be_right() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 2, 60).await;
    shop.put("/v1/channels/web/policy", json!({})).await.ok();
    let wanted = |changes: Value| {
        let mut body = json!({"id": "o1", "owner": "o1", "channel": "web", "items": one("A", 1)});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    };
    let at = |location: &str| json!({"items": [{"sku": "A", "quantity": 1, "location": location}]});
    let table = [
        (json!({"items": one("A", -1)}), "/items/quantity", "must be 1 to 1000000000000000, not -1"),
        (json!({"items": []}), "/items", "must be 1 to 1000, not 0"),
        (json!({"items": vec![one("A", 1)[0].clone(); 1_001]}), "/items", "must be 1 to 1000, not 1001"),
        (
            json!({"items": one("B", 1)}),
            "/items/sku",
            "must be one that was counted or moved, is a kit or on order, not `B`",
        ),
        (at("x"), "/items/location", "must be one where something lies, not `x`"),
        (json!({"channel": "wbe"}), "/channel", "must be one that has a policy (web), not `wbe`"),
        (json!({"expires_at": ago(60)}), "/expires_at", "must be later than now"),
        (json!({"expires_at": "tomorrow"}), "/expires_at", "must be a time"),
        (json!({"hold_s": 2_592_600}), "/expires_at", "must be at most 2592000 s from now (`stock.hold_max_s`)"),
    ];
    for (changes, pointer, reason) in table {
        let problem = shop.post("/v1/reservations", wanted(changes)).await.problem(422, "stock-invalid");
        assert_eq!((&problem["pointer"], &problem["reason"]), (&json!(pointer), &json!(reason)));
    }
    let fraction = shop.post("/v1/reservations", wanted(json!({"items": [{"sku": "A", "quantity": 1.5}]}))).await;
    let fraction = fraction.problem(400, "invalid-body");
    let detail = fraction["detail"].as_str().unwrap();
    assert!(detail.contains("`1.5`") && detail.contains("`quantity` as a whole number"), "{detail}");
    let ahead = json!({"basis": "on_hand", "quantity": 5, "as_of": ago(-600)});
    let ahead = shop.put("/v1/stock/A/berlin/count", ahead).await.problem(422, "clock-skew");
    assert_eq!(ahead["pointer"], "/as_of");
    assert_eq!(shop.available("A").await, 2);
    // One that is many times the last is taken, and marked for whoever looks.
    shop.count("A", "berlin", 20, 30).await;
    let ledger = shop.server.get("/v1/stock/A/berlin/ledger").await.ok();
    assert_eq!(ledger["items"].as_array().unwrap().last().unwrap()["document"]["unusual"], true, "{ledger}");
    shop.server.stop().await;
}

#[tokio::test]
async fn a_count_that_is_doubted_is_taken_when_it_is_told_again_as_confirmed() {
    let hub = Box::new(|options: &mut lockstep_hub::HubOptions| options.rules.stock_strict.extend(["erp".into()]));
    let shop = Shop::with(Setup { hub, ..Setup::default() }).await;
    shop.count("A", "berlin", 2, 60).await;
    let path = "/v1/stock/A/berlin/count";
    let (mut count, method) = (json!({"basis": "on_hand", "quantity": 20, "as_of": ago(30)}), Method::PUT);
    for _ in 0..2 {
        let doubted = shop.keyed("slip", method.clone(), path, &count).await.problem(409, "stock-doubtful");
        assert_eq!((&doubted["reason"], &doubted["pointer"]), (&json!("count-unusual"), &json!("/quantity")));
        assert!(doubted["detail"].as_str().unwrap().contains("`confirmed`"), "{doubted}");
    }
    count["confirmed"] = json!(true);
    // Nothing was recorded under the key: it may be used again.
    assert_eq!(shop.keyed("slip", method, path, &count).await.ok()["outcome"], "applied");
    assert_eq!(shop.available("A").await, 20);
    let ledger = shop.server.get("/v1/stock/A/berlin/ledger").await.ok();
    assert_eq!(ledger["items"].as_array().unwrap().last().unwrap()["document"]["unusual"], true, "{ledger}");
    // What was received since is to be expected.
    shop.post("/v1/stock/A/berlin/movements", json!({"kind": "receipt", "quantity": 280})).await.ok();
    shop.count("A", "berlin", 300, 0).await;
    shop.server.stop().await;
}

#[tokio::test]
async fn availability_says_what_may_be_sold_why_and_how_old_the_facts_are() {
    let setup = Setup { hub: Box::new(|options| options.stock.fresh_for_us = 3_600_000_000), ..Setup::default() };
    let shop = Shop::with(setup).await;
    shop.put("/v1/channels/web/policy", json!({"buffer": 1, "locations": ["berlin", "paris"]})).await.ok();
    shop.put("/v1/channels/app/policy?sku=A&location=berlin", json!({"fence": 2})).await.ok();
    shop.count("A", "berlin", 10, 60).await;
    shop.count("A", "rome", 100, 60).await;
    shop.count("B", "paris", 6, 7_200).await;
    shop.put("/v1/stock/A/berlin/safety-stock", json!({"quantity": 3})).await.ok();
    shop.put("/v1/stock/A/berlin/unavailable", json!({"damaged": 1})).await.ok();
    shop.put("/v1/items/KIT", json!({"components": [{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}]}))
        .await
        .ok();
    let answer = shop.server.get("/v1/availability?sku=A&sku=KIT&channel=web").await;
    let items = answer.ok()["items"].clone();
    // 10 - 1 damaged - 3 safety - 2 fenced for the app - 1 buffer; rome may not serve the web.
    assert_eq!((&items[0]["available"], &items[0]["buffer"], &items[0]["fresh"]), (&json!(3), &json!(1), &json!(true)));
    let rome = items[0]["locations"].as_array().unwrap().iter().find(|l| l["location"] == "rome").unwrap();
    assert_eq!((&rome["eligible"], &rome["usable"]), (&json!(false), &json!(0)));
    assert_eq!((&items[1]["components"][0]["per_kit"], &items[1]["fresh"]), (&json!(2), &json!(false)));
    assert_eq!(answer.header("stock-fresh"), "false");
    let age: i64 = answer.header("stock-age").parse().unwrap();
    assert!((7_200..7_300).contains(&age), "{age}");
    assert_eq!(answer.header("stock-as-of"), items[1]["as_of"].as_str().unwrap());
    let fresh = shop.server.get("/v1/stock/A/berlin").await;
    assert_eq!((fresh.header("stock-fresh"), &fresh.ok()["fresh"]), ("true", &json!(true)));
    // What is on order counts by its time.
    shop.put("/v1/channels/web/policy?sku=A", json!({"backorder_limit": 50})).await.ok();
    shop.put("/v1/supplies/po-1", json!({"sku": "A", "location": "berlin", "quantity": 20, "eta": ago(-3_600)}))
        .await
        .ok();
    assert_eq!(shop.availability("A").await["available_to_order"], 3);
    let later = shop.server.get(&format!("/v1/availability?sku=A&channel=web&at={}", ago(-7_200))).await.ok();
    assert_eq!((&later["items"][0]["available"], &later["items"][0]["available_to_order"]), (&json!(3), &json!(23)));
    // A comma is a part of a SKU.
    shop.count("L,XL", "berlin", 4, 60).await;
    let both = shop.server.get("/v1/availability?sku=L,XL&sku=A&channel=web").await.ok();
    assert_eq!((&both["items"][0]["sku"], &both["items"][0]["available"]), (&json!("L,XL"), &json!(3)));
    assert_eq!(both["items"].as_array().unwrap().len(), 2);
    // A channel that nobody has declared would have everything.
    let wrong = shop.server.get("/v1/availability?sku=A&channel=wbe").await;
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    assert!(wrong.text().contains("must be one that has a policy (app, web), not `wbe`"), "{}", wrong.text());
    // An unknown SKU has nothing, and nobody knows since when.
    let none = shop.availability("NONE").await;
    assert_eq!((&none["available"], &none["as_of"], &none["fresh"]), (&json!(0), &json!(null), &json!(false)));
    shop.server.stop().await;
}

#[tokio::test]
async fn channels_are_told_once_a_batch_and_destinations_get_it_as_any_event() {
    let shop = Shop::open().await;
    let door = shop.server.add_door("erp");
    door.open();
    shop.put("/v1/channels/web/policy", json!({})).await.ok();
    shop.count("A", "berlin", 10, 60).await;
    shop.reserve("o1", one("A", 4)).await;
    let events = shop.server.get("/v1/events?kind=availability").await.ok();
    let told: Vec<_> = events["items"].as_array().unwrap().iter().map(|e| e["data"]["document"].clone()).collect();
    assert_eq!((told.len(), &told[0]["available"], &told[1]["available"]), (2, &json!(10), &json!(6)));
    assert_eq!((&told[1]["before"], &told[1]["channel"]), (&json!(10), &json!("web")));
    let event = &events["items"][1];
    assert_eq!(
        (&event["type"], &event["subject"]),
        (&json!("stock.availability_changed"), &json!("availability/A@web"))
    );
    let held = shop.server.get("/v1/events?kind=reservation&key=o1").await.ok();
    assert_eq!(held["items"][0]["data"]["document"]["lines"][0]["open"], 4);
    shop.server
        .until("/v1/destinations/erp", "everything delivered", |a| {
            a.json()["pending"] == 0 && a.json()["delivered"] == 4
        })
        .await;
    assert!(shop.server.hub.handle().stats().tallies().violations().is_empty());
    shop.server.stop().await;
}

#[tokio::test]
async fn a_hold_that_expires_gives_back_at_once() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 1, 60).await;
    let end = rfc3339(now_us() + 300_000);
    let body = json!({"id": "o1", "owner": "o1", "channel": "web", "items": one("A", 1), "expires_at": end});
    assert_eq!(shop.post("/v1/reservations", body).await.status, 201);
    let deadline = std::time::Instant::now() + PATIENCE;
    while shop.available("A").await == 0 {
        assert!(std::time::Instant::now() < deadline, "it never came back");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(shop.server.get("/v1/reservations/o1").await.ok()["state"], "expired");
    // Its owner comes back in time, and nobody else has it.
    assert_eq!(shop.step("o1", "commit", json!({})).await.ok()["state"], "committed");
    assert_eq!(shop.available("A").await, 0);
    shop.server.stop().await;
}

#[tokio::test]
async fn a_shops_word_on_stock_is_a_count_where_it_is_declared_and_a_contradiction_is_quarantined() {
    let feeds = |options: &mut lockstep_hub::HubOptions| {
        options.rules.stock_feeds.insert("shop-system".into(), CountBasis::Available);
    };
    let server = with_shopify(Setup { hub: Box::new(feeds), ..Setup::default() }).await;
    let level = |available: i64| {
        let level = json!({
            "inventory_item_id": 41_000_000_001_001_i64, "location_id": 61_000_100, "available": available,
            "updated_at": "2026-03-01T10:20:00+01:00",
        });
        level.to_string()
    };
    let answer = deliver(&server, "inventory_levels/update", "d1", &level(12)).await.ok();
    assert_eq!((&answer["outcome"], &answer["count"]), (&json!("applied"), &json!(1)));
    let stock = server.get("/v1/stock/41000000001001/61000100").await.ok();
    assert_eq!((&stock["terms"]["on_hand"], &stock["as_of"]), (&json!(12), &json!("2026-03-01T09:20:00.000000Z")));
    server.get("/v1/entities/stock/41000000001001@61000100").await.problem(404, "unknown-entity");
    assert_eq!(deliver(&server, "inventory_levels/update", "d1", &level(12)).await.ok()["outcome"], "duplicate");
    // The same moment with another number: the vendor is answered 200, and a person looks at it.
    let held = deliver(&server, "inventory_levels/update", "d2", &level(9)).await.ok();
    assert_eq!(held["outcome"], "quarantined");
    let kept = server.get(&format!("/v1/quarantine/{}", held["position"])).await.ok();
    assert_eq!((&kept["code"], &kept["at"]), (&json!("count-differs"), &json!("/counted_at")), "{kept}");
    assert!(kept["body"]["text"].as_str().is_some_and(|text| text.contains("41000000001001")), "{kept}");
    assert!(server.hub.handle().stats().tallies().violations().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_reservation_that_could_not_be_written_has_not_happened() {
    let (journal, gate) = GatedJournal::with_gate();
    let shop = Shop::with(Setup { journal: Some(journal), ..Setup::default() }).await;
    shop.count("A", "berlin", 5, 60).await;
    gate.set(Gate::Full);
    shop.reserve("o1", one("A", 3)).await.problem(503, "disk-full");
    assert_eq!(shop.available("A").await, 5);
    shop.server.get("/v1/reservations/o1").await.problem(404, "unknown-reservation");
    gate.set(Gate::Open);
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut made = shop.reserve("o1", one("A", 3)).await;
    while made.status == 503 {
        assert!(std::time::Instant::now() < deadline, "{}", made.text());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        made = shop.reserve("o1", one("A", 3)).await;
    }
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(shop.available("A").await, 2);
    shop.server.stop().await;
}

#[tokio::test]
async fn goods_of_one_shipment_have_all_left_or_none() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 10, 60).await;
    shop.put("/v1/items/KIT", json!({"components": [{"sku": "A", "quantity": 1}]})).await.ok();
    assert_eq!(shop.reserve("o1", one("A", 3)).await.status, 201);
    let goods = |sku: &str| json!([{"sku": "A", "location": "berlin", "quantity": 2}, {"sku": sku, "location": "berlin", "quantity": 1}]);
    let refused = shop.step("o1", "consume", json!({"goods": goods("KIT"), "movement": "s1"})).await;
    assert_eq!(refused.problem(422, "stock-invalid")["pointer"], "/sku");
    let ahead = json!({"goods": goods("A"), "movement": "s1", "occurred_at": ago(-7_200)});
    shop.step("o1", "consume", ahead).await.problem(422, "clock-skew");
    assert_eq!(shop.terms("A", "berlin").await["on_hand"], 10);
    // Told right, the same shipment has its effect.
    let shipped = shop.step("o1", "consume", json!({"goods": goods("A"), "movement": "s1"})).await.ok();
    assert_eq!(shipped["state"], "consumed");
    assert_eq!(shop.terms("A", "berlin").await["on_hand"], 7);
    shop.server.stop().await;
}
