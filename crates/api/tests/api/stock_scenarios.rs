//! Scenarios from real bugs, each through HTTP and named after its number.

use serde_json::json;

use crate::stock::{Shop, one};

#[tokio::test]
async fn scenario_01_the_last_unit_is_sold_once() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 1, 60).await;
    let names: Vec<String> = (0..200).map(|n| format!("o{n}")).collect();
    let all = futures_util::future::join_all(names.iter().map(|id| shop.reserve(id, one("A", 1)))).await;
    let made = all.iter().filter(|answer| answer.status == 201).count();
    let refused = all.iter().filter(|answer| answer.status == 409 && answer.json()["code"] == "stock-short").count();
    assert_eq!((made, refused), (1, 199));
    assert_eq!(shop.terms("A", "berlin").await["available_to_fulfil"], 0);
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_02_two_lines_share_a_component() {
    let shop = Shop::open().await;
    shop.count("C", "berlin", 108, 60).await;
    for kit in ["K1", "K2"] {
        shop.put(&format!("/v1/items/{kit}"), json!({"components": [{"sku": "C", "quantity": 1}]})).await.ok();
    }
    let wanted = json!([{"sku": "K1", "quantity": 97}, {"sku": "K2", "quantity": 23}]);
    let short = shop.reserve("o1", wanted).await.problem(409, "stock-short");
    assert_eq!(short["shortfalls"], json!([{"item": 1, "sku": "K2", "requested": 23, "available": 11}]));
    assert_eq!(shop.available("C").await, 108);
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_03_orders_in_any_order_of_lines_leave_the_counters_at_zero() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 1_000, 60).await;
    shop.count("B", "berlin", 1_000, 60).await;
    let names: Vec<String> = (0..1_000).map(|n| format!("o{n}")).collect();
    let all = &shop;
    let one_order = |(number, id): (usize, String)| async move {
        let shop = all;
        let (first, second) = if number % 2 == 0 { ("A", "B") } else { ("B", "A") };
        let items = json!([{"sku": first, "quantity": 1}, {"sku": second, "quantity": 1}]);
        assert_eq!(shop.reserve(&id, items).await.status, 201);
        assert_eq!(shop.step(&id, "release", json!({})).await.ok()["state"], "released");
    };
    for part in names.chunks(200) {
        let first = part[0][1..].parse::<usize>().unwrap();
        let part = part.iter().cloned().enumerate().map(|(at, id)| one_order((first + at, id)));
        futures_util::future::join_all(part).await;
    }
    for sku in ["A", "B"] {
        let terms = shop.terms(sku, "berlin").await;
        assert_eq!(
            (&terms["held"], &terms["committed"], &terms["available_to_fulfil"]),
            (&json!(0), &json!(0), &json!(1_000))
        );
    }
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_04_a_customer_succeeds_on_the_own_hold() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 1, 60).await;
    assert_eq!(shop.reserve("cart-x", one("A", 1)).await.status, 201);
    let again =
        json!({"id": "order-x", "owner": "order-x", "channel": "web", "items": one("A", 1), "replaces": "cart-x"});
    shop.reserve("cart-y", one("A", 1)).await.problem(409, "stock-short");
    assert_eq!(shop.post("/v1/reservations", again).await.status, 201);
    assert_eq!(shop.server.get("/v1/reservations/cart-x").await.ok()["state"], "released");
    shop.reserve("cart-y", one("A", 1)).await.problem(409, "stock-short");
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_11_open_orders_in_a_feed_are_not_counted_twice() {
    let shop = Shop::open().await;
    shop.put("/v1/channels/web/policy", json!({})).await.ok();
    let moved = |id: &'static str, kind: &'static str, quantity: i64| {
        let body = json!({"movement": id, "kind": kind, "quantity": quantity});
        shop.post("/v1/stock/A/berlin/movements", body)
    };
    moved("m1", "receipt", 30).await.ok();
    assert_eq!(shop.reserve("o1", one("A", 29)).await.status, 201);
    shop.step("o1", "commit", json!({})).await.ok();
    moved("m2", "receipt", 50).await.ok();
    let told = shop.server.get("/v1/events?kind=availability").await.ok();
    assert_eq!(told["items"].as_array().unwrap().last().unwrap()["data"]["document"]["available"], 51);
    assert_eq!(shop.available("A").await, 51);
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_12_a_late_shipment_consumes_and_does_not_change_the_count() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 10, 600).await;
    assert_eq!(shop.reserve("o1", one("A", 2)).await.status, 201);
    shop.step("o1", "commit", json!({})).await.ok();
    shop.count("A", "berlin", 8, 60).await;
    let terms = shop.terms("A", "berlin").await;
    assert_eq!((&terms["on_hand"], &terms["available_to_fulfil"]), (&json!(8), &json!(6)));
    // It was shipped before the count, and is told after it.
    assert_eq!(shop.ship("o1", "A", "berlin", 2, 300).await.ok()["state"], "consumed");
    let terms = shop.terms("A", "berlin").await;
    let of = |name: &str| terms[name].as_i64().unwrap();
    assert_eq!((of("on_hand"), of("committed"), of("available_to_fulfil")), (8, 0, 8));
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_14_a_count_below_what_is_reserved_is_accepted_and_told() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 5, 600).await;
    for id in ["o1", "o2", "o3", "o4"] {
        assert_eq!(shop.reserve(id, one("A", 1)).await.status, 201);
    }
    shop.count("A", "berlin", 2, 1).await;
    let terms = shop.terms("A", "berlin").await;
    assert_eq!((&terms["shortage"], shop.available("A").await), (&json!(2), 0));
    let told = shop.server.get("/v1/events?type=stock.shortage_detected").await.ok();
    let document = &told["items"][0]["data"]["document"];
    assert_eq!((&document["shortage"], &document["propose"][0]["reservation"]), (&json!(2), &json!("o4")));
    shop.step("o1", "release", json!({})).await.ok();
    assert_eq!(shop.terms("A", "berlin").await["shortage"], 1);
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_16_cancelling_after_shipments() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 100, 600).await;
    shop.reserve("a", one("A", 5)).await;
    shop.step("a", "commit", json!({})).await.ok();
    shop.ship("a", "A", "berlin", 5, 1).await.ok();
    shop.step("a", "release", json!({})).await.problem(409, "reservation-state");
    let terms = shop.terms("A", "berlin").await;
    assert_eq!((&terms["on_hand"], &terms["committed"]), (&json!(95), &json!(0)));

    shop.count("B", "berlin", 100, 600).await;
    shop.reserve("b", one("B", 10)).await;
    shop.step("b", "commit", json!({})).await.ok();
    shop.ship("b", "B", "berlin", 3, 1).await.ok();
    let cancelled = shop.step("b", "release", json!({})).await.ok();
    assert_eq!((&cancelled["lines"][0]["consumed"], &cancelled["lines"][0]["released"]), (&json!(3), &json!(7)));
    shop.post("/v1/stock/B/berlin/movements", json!({"kind": "return_restock", "quantity": 1})).await.ok();
    let terms = shop.terms("B", "berlin").await;
    assert_eq!((&terms["on_hand"], &terms["committed"], &terms["held"]), (&json!(98), &json!(0), &json!(0)));
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_18_releasing_before_reserving_and_a_placement_told_twice() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 10, 60).await;
    shop.step("o1", "release", json!({})).await.problem(404, "unknown-reservation");
    assert_eq!(shop.terms("A", "berlin").await["held"], 0);
    assert_eq!(shop.reserve("o1", one("A", 2)).await.status, 201);
    // The same placement in another request: one allocation.
    assert_eq!(shop.reserve("o1", one("A", 2)).await.ok()["repeated"], true);
    assert_eq!(shop.terms("A", "berlin").await["held"], 2);
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_22_an_order_that_needs_a_split_is_split_or_refused() {
    let shop = Shop::open().await;
    shop.count("X", "a", 2, 60).await;
    shop.count("X", "b", 3, 60).await;
    let short = shop.reserve("o1", one("X", 4)).await.problem(409, "stock-short");
    assert_eq!(short["shortfalls"][0]["available"], 3);
    let body = json!({"id": "o1", "owner": "o1", "channel": "web", "items": one("X", 4), "allow_split": true});
    let made = shop.post("/v1/reservations", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let lines = made.json()["lines"].clone();
    let of = |at: usize| (lines[at]["location"].clone(), lines[at]["open"].clone());
    assert_eq!((of(0), of(1)), ((json!("b"), json!(3)), (json!("a"), json!(1))));
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_25_quantities_are_exact() {
    let shop = Shop::open().await;
    shop.put("/v1/items/WINE", json!({"qty_scale": 1})).await.ok();
    // 3140.0 and 3106.4, in tenths.
    shop.count("WINE", "berlin", 31_400, 60).await;
    assert_eq!(shop.reserve("o1", one("WINE", 31_064)).await.status, 201);
    assert_eq!(shop.available("WINE").await, 336);
    shop.reserve("o2", one("WINE", 337)).await.problem(409, "stock-short");
    assert_eq!(shop.reserve("o2", one("WINE", 336)).await.status, 201);
    let fraction = json!([{"sku": "WINE", "quantity": 0.5}]);
    shop.reserve("o3", fraction).await.problem(400, "invalid-body");
    // The scale stays while there is stock.
    let other = shop.put("/v1/items/WINE", json!({"qty_scale": 2})).await.problem(422, "stock-invalid");
    assert_eq!(other["pointer"], "/qty_scale");
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_05_a_hold_that_expired_during_payment_is_reserved_again_or_refused() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 1, 60).await;
    let body = |id: &str| {
        let end = lockstep_core::time::rfc3339(lockstep_hub::now_us() + 200_000);
        json!({"id": id, "owner": id, "channel": "web", "items": one("A", 1), "expires_at": end})
    };
    for (id, taken) in [("free", false), ("gone", true)] {
        assert_eq!(shop.post("/v1/reservations", body(id)).await.status, 201);
        let path = format!("/v1/reservations/{id}");
        shop.server.until(&path, "expired", |answer| answer.json()["state"] == "expired").await;
        if taken {
            assert_eq!(shop.reserve("other", one("A", 1)).await.status, 201);
            let short = shop.step(id, "commit", json!({})).await.problem(409, "stock-short");
            assert_eq!(short["shortfalls"][0]["available"], 0);
        } else {
            assert_eq!(shop.step(id, "commit", json!({})).await.ok()["state"], "committed");
            shop.step(id, "release", json!({})).await.ok();
        }
    }
    assert_eq!(shop.terms("A", "berlin").await["available_to_fulfil"], 0);
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_06_three_signals_of_one_payment_have_one_effect_on_stock() {
    let shop = Shop::open().await;
    shop.count("A", "berlin", 5, 60).await;
    assert_eq!(shop.reserve("o1", one("A", 2)).await.status, 201);
    // Redirect, webhook and review, each with a key of its own.
    let all = futures_util::future::join_all((0..3).map(|_| shop.step("o1", "commit", json!({})))).await;
    let repeated = all.iter().filter(|answer| answer.ok()["repeated"] == true).count();
    assert_eq!(repeated, 2);
    let terms = shop.terms("A", "berlin").await;
    assert_eq!((&terms["committed"], &terms["held"]), (&json!(2), &json!(0)));
    let events = shop.server.get("/v1/events?type=reservation.committed").await.ok();
    assert_eq!(events["items"].as_array().unwrap().len(), 1);
    shop.server.stop().await;
}
