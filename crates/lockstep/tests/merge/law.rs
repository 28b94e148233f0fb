//! The same deliveries give the same document, the same winners and the same explanations, in whatever order they
//! arrive and however often.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::order::{Delivery, shopify, woocommerce};
use crate::common::{Hub, folder, run};

/// A policy of every sort, and parts of fields.
const CONFIG: &str = "\
[domains.order]
objects = [\"customer\", \"shipping_address\"]
fields.note = { policy = \"owner\", owner = [\"second\", \"shop\"] }
fields.tags = { policy = \"union\" }
fields.total = { policy = \"max\" }
fields.email = { policy = \"review\" }
fields.number = { policy = \"highest-version\" }
fields.\"customer.name\" = { policy = \"min\" }

[systems.shop]
priority = 5

[sources.shop]
system = \"shop\"
pack = \"shopify\"
secrets = [\"env:SHOP_SECRET\"]
channel = \"web\"
currency = \"EUR\"

[sources.second]
system = \"second\"
pack = \"woocommerce\"
secrets = [\"env:SHOP_SECRET\"]
channel = \"web\"
currency = \"EUR\"

[systems.crm]
";

/// One order's life in two shops, of which a third system tells nothing but tags.
fn life() -> Vec<Delivery> {
    let elsewhere = json!({ "name": "Ada Berg", "address1": "Quay 9", "city": "Kiel", "country_code": "DE" });
    let paid = json!({ "shipping_address": elsewhere, "financial_status": "paid" });
    let and = |more: Value| {
        let mut all = paid.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    vec![
        Delivery::shop("orders/create", "s-1", shopify(0, json!({}))),
        Delivery::shop("orders/updated", "s-2", shopify(5, json!({ "shipping_address": elsewhere }))),
        Delivery::shop("orders/paid", "s-3", shopify(10, paid.clone())),
        Delivery::shop(
            "orders/updated",
            "s-4",
            shopify(20, and(json!({ "fulfillment_status": "partial", "note": "x" }))),
        ),
        Delivery::shop("orders/fulfilled", "s-5", shopify(30, and(json!({ "fulfillment_status": "fulfilled" })))),
        Delivery::shop(
            "orders/cancelled",
            "s-6",
            shopify(
                40,
                and(
                    json!({ "cancelled_at": "2026-03-01T09:40:00Z", "cancel_reason": "customer", "tags": "vip, late" }),
                ),
            ),
        ),
        Delivery::second("order.created", "w-1", woocommerce(1, json!({ "status": "pending" }))),
        Delivery::second("order.updated", "w-2", woocommerce(6, json!({ "customer_note": "Leave at the door" }))),
        Delivery::second(
            "order.updated",
            "w-3",
            woocommerce(
                20,
                json!({ "total": "39.90", "line_items": [
                { "id": 2, "sku": "TEA-02", "name": "Tea, green", "quantity": 4, "subtotal": "40.00", "total": "40.00", "price": 10 },
            ] }),
            ),
        ),
        Delivery::second("order.updated", "w-4", woocommerce(20, json!({ "status": "completed" }))),
        Delivery::crm("c-1", 3, json!({ "tags": ["vip", "letters"] })),
        Delivery::crm("c-2", 50, json!({ "tags": ["letters"] })),
    ]
}

/// All of it twice, in an order that the seed makes.
fn shuffled(deliveries: &[Delivery], seed: u64) -> Vec<Delivery> {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut all: Vec<_> = deliveries.iter().chain(deliveries).cloned().collect();
    chance.shuffle(&mut all);
    all
}

/// What the hub says of the order, without what tells of the way there: positions, versions, the hub's own times.
fn told(hub: &Hub) -> Value {
    let mut entity = hub.get("/v1/entities/order/web:1001");
    let mut explained = hub.get("/v1/entities/order/web:1001/explain");
    for field in explained["fields"].as_array_mut().unwrap() {
        if let Some(losers) = field["losers"].as_array_mut() {
            losers.sort_by_key(|claim| claim["system"].as_str().unwrap().to_owned());
        }
    }
    for value in [&mut entity, &mut explained] {
        strip(value);
    }
    json!({ "entity": entity, "explained": explained })
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            // `version` and `updated_at` of the entity itself; a document has neither here.
            for name in ["position", "since_position", "version", "created_at", "updated_at"] {
                members.remove(name);
            }
            if members.get("system").is_some_and(|system| system == "@hub") {
                // The hub's own claims are numbered by their records.
                members.remove("sequence");
            }
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn run_of(deliveries: &[Delivery]) -> Value {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    let args = ["key", "create", "--name", "crm", "--scopes", "write", "--system", "crm"];
    let key = run(folder.path(), &args).expect(0).out.trim().to_owned();
    for delivery in deliveries {
        match delivery.source {
            "crm" => drop(hub.event(&key, &delivery.body)),
            _ => drop(delivery.send(&hub)),
        }
    }
    told(&hub)
}

#[track_caller]
fn every_order_ends_alike(deliveries: &[Delivery], seeds: std::ops::Range<u64>) -> Value {
    let expected = run_of(deliveries);
    for seed in seeds {
        let found = run_of(&shuffled(deliveries, seed));
        if found != expected {
            let text = |value: &Value| serde_json::to_string_pretty(value).unwrap();
            let (a, b) = (text(&expected), text(&found));
            let first = a.lines().zip(b.lines()).position(|(a, b)| a != b).unwrap_or(0);
            let part = |text: &str| text.lines().skip(first.saturating_sub(12)).take(24).collect::<Vec<_>>().join("\n");
            panic!("seed {seed} ends otherwise; in order:\n{}\nshuffled:\n{}", part(&a), part(&b));
        }
    }
    expected
}

#[test]
fn an_orders_life_in_two_shops_ends_alike_in_whatever_order_it_is_told() {
    let told = every_order_ends_alike(&life(), 1..9);
    let document = &told["entity"]["document"];
    assert_eq!(document["lifecycle"], "shipped", "the late cancel loses to the shipment: {document:#}");
    assert_eq!(document["shipping_address"]["city"], "Kiel", "written later than the second shop's");
    assert_eq!(document["shipping_address"]["postal_code"], "28195", "only the second shop has one");
    assert_eq!(document["total"], json!({ "currency": "EUR", "minor": 3990 }), "the greatest");
    assert_eq!(document["note"], "Ring twice", "the owner's");
    let lines: Vec<_> = document["lines"].as_array().unwrap().iter().map(|l| (&l["id"], &l["ordered"])).collect();
    assert_eq!(lines, [(&json!("2"), &json!(4)), (&json!("1"), &json!(2))], "each once; the second shop took 3 out");
    let fields = told["explained"]["fields"].as_array().unwrap();
    let rule = |name: &str| &fields.iter().find(|field| field["field"] == name).unwrap()["rule"];
    assert_eq!((rule("note"), rule("tags"), rule("total")), (&json!("owner"), &json!("union"), &json!("greatest")));
    assert_eq!((rule("email"), rule("lifecycle")), (&json!("contested"), &json!("highest-state")));
}

/// Real payloads of one order, made the same order in both shops.
fn real() -> Option<Vec<Delivery>> {
    let data = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/payloads"));
    let mut found = Vec::new();
    for (at, event) in ["create", "updated", "paid", "fulfilled", "cancelled"].into_iter().enumerate() {
        let text = std::fs::read_to_string(data.join(format!("shopify/orders_{event}.json"))).ok()?;
        let mut body: Value = serde_json::from_str(&text).unwrap();
        body["id"] = json!(1001);
        // The samples of one shop, that they may have been sent one after the other.
        body["updated_at"] = json!(format!("2017-03-22T19:{:02}:00Z", 20 + 3 * at));
        found.push(Delivery::shop(&format!("orders/{event}"), &format!("s-{at}"), body));
    }
    for (at, event) in ["created", "updated"].into_iter().enumerate() {
        let text = std::fs::read_to_string(data.join(format!("woocommerce/order.{event}.json"))).ok()?;
        let mut body: Value = serde_json::from_str(&text).unwrap();
        body["id"] = json!(1001);
        found.push(Delivery::second(&format!("order.{event}"), &format!("w-{at}"), body));
    }
    Some(found)
}

#[test]
fn real_payloads_of_two_shops_end_alike_in_whatever_order_they_are_told() {
    match real() {
        Some(deliveries) => drop(every_order_ends_alike(&deliveries, 1..7)),
        None => eprintln!("skipped: the real payloads of ../shared/data are not here"),
    }
}
