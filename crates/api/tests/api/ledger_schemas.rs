//! What the hub publishes of stock is as the schemas say to which its events point.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::stock::EVENT_TYPES;
use serde_json::{Value, json};

use crate::harness::PATIENCE;
use crate::stock::{Shop, ago, one};

/// The events of stock, each held against the schema that it names.
async fn checked(shop: &Shop, schemas: &mut BTreeMap<String, jsonschema::Validator>) -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    let page = shop.server.get("/v1/events?limit=1000").await.ok();
    for event in page["items"].as_array().unwrap() {
        let href = event["dataschema"].as_str().unwrap();
        if !schemas.contains_key(href) {
            let schema = shop.server.get(href).await.ok();
            schemas.insert(href.to_owned(), jsonschema::validator_for(&schema).unwrap());
        }
        let document = &event["data"]["document"];
        schemas[href].validate(document).unwrap_or_else(|e| panic!("{e} at {}: {event}", e.instance_path()));
        types.insert(event["type"].as_str().unwrap().to_owned());
    }
    types
}

#[tokio::test]
async fn every_event_of_stock_is_as_its_schema_says() {
    let shop = Shop::open().await;
    shop.put("/v1/channels/web/policy", json!({"backorder_limit": 50})).await.ok();
    shop.count("A", "berlin", 10, 60).await;
    shop.count("A", "paris", 10, 60).await;
    for (kind, quantity) in [("receipt", 5), ("return_restock", 1), ("return_damaged", 1), ("adjust", -1)] {
        shop.post("/v1/stock/A/berlin/movements", json!({"kind": kind, "quantity": quantity})).await.ok();
    }
    shop.put("/v1/stock/A/berlin/safety-stock", json!({"quantity": 1})).await.ok();
    shop.put("/v1/stock/A/berlin/unavailable", json!({"damaged": 1})).await.ok();
    // Every way that a reservation can go.
    assert_eq!(shop.reserve("o1", json!([{"sku": "A", "quantity": 3, "location": "berlin"}])).await.status, 201);
    shop.step("o1", "extend", json!({"hold_s": 7200})).await.ok();
    shop.step("o1", "transfer", json!({"line": 0, "location": "paris", "quantity": 1})).await.ok();
    shop.step("o1", "commit", json!({})).await.ok();
    shop.ship("o1", "A", "berlin", 2, 1).await.ok();
    shop.step("o1", "release", json!({})).await.ok();
    let later: Value = json!({"sku": "B", "location": "berlin", "quantity": 20, "eta": ago(-3_600)});
    shop.put("/v1/supplies/po-1", later).await.ok();
    let order =
        json!({"id": "b1", "owner": "b1", "channel": "web", "items": one("B", 2), "backorder_until": ago(-7_200)});
    assert_eq!(shop.post("/v1/reservations", order).await.status, 201);
    shop.post("/v1/stock/B/berlin/movements", json!({"kind": "receipt", "quantity": 20, "supply": "po-1"})).await.ok();
    // More has left than was there, and more is promised than there is.
    assert_eq!(shop.reserve("o2", json!([{"sku": "A", "quantity": 2, "location": "paris"}])).await.status, 201);
    shop.post("/v1/stock/A/paris/movements", json!({"kind": "ship", "quantity": 40})).await.ok();
    // It ends by itself.
    let end = lockstep_core::time::rfc3339(lockstep_hub::now_us() + 100_000);
    let hold = json!({"id": "e1", "owner": "e1", "channel": "web", "items": one("A", 1), "expires_at": end});
    assert_eq!(shop.post("/v1/reservations", hold).await.status, 201);

    let (mut schemas, deadline) = (BTreeMap::new(), std::time::Instant::now() + PATIENCE);
    loop {
        let types = checked(&shop, &mut schemas).await;
        let missing: Vec<_> = EVENT_TYPES.into_iter().filter(|of| !types.contains(*of)).collect();
        if missing.is_empty() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "never published: {missing:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let hrefs: Vec<_> = schemas.keys().map(|href| href.rsplit('/').next().unwrap()).collect();
    assert_eq!(hrefs, ["availability", "reservation", "stock"]);
    shop.server.stop().await;
}
