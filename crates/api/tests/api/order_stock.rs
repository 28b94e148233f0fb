//! Scenarios of orders and stock through HTTP: what is told are orders, shipments, returns and payments only; what is
//! reserved and moved follows from them.

use lockstep_core::rules::{OrderPolicy, StockOrders};
use serde_json::{Value, json};

use crate::harness::Setup;
use crate::stock::{Shop, ago, one};

/// A shop whose orders reserve.
async fn open(policy: OrderPolicy) -> Shop {
    let orders = StockOrders { all: Some(policy), ..StockOrders::default() };
    let hub = |options: &mut lockstep_hub::HubOptions| options.rules.stock_orders = orders;
    Shop::with(Setup { hub: Box::new(hub), ..Setup::default() }).await
}

impl Shop {
    /// Tells of a document, as what happened so many seconds ago.
    async fn tell(&self, subject: &str, seconds_ago: i64, data: Value) -> crate::harness::Answer {
        let kind = subject.split_once('/').unwrap().0;
        let id = format!("{subject}-{seconds_ago}-{data}");
        let event = json!({"specversion": "1.0", "id": id, "source": "/erp", "type": format!("{kind}.changed"),
            "subject": subject, "time": ago(seconds_ago), "data": data});
        self.server.event(&event).await
    }

    async fn order(&self, number: u32, seconds_ago: i64, state: &str, sku: &str, units: i64) {
        let lines = json!([{"id": "1", "sku": sku, "ordered": units}]);
        let data = json!({"channel": "web", "lifecycle": state, "lines": lines});
        self.tell(&format!("order/web:{number}"), seconds_ago, data).await.ok();
    }

    async fn parcel(&self, subject: &str, number: u32, units: i64, more: Value) {
        let mut data = more;
        data["order"] = json!(format!("web:{number}"));
        data["lines"] = json!([{"id": "1", "quantity": units}]);
        self.tell(subject, 2, data).await.ok();
    }

    async fn document(&self, number: u32) -> Value {
        self.server.get(&format!("/v1/entities/order/web:{number}")).await.ok()["document"].clone()
    }

    /// On hand, promised, and what may still be promised.
    async fn sums(&self, sku: &str, location: &str) -> (i64, i64, i64) {
        let terms = self.terms(sku, location).await;
        let of = |name: &str| terms[name].as_i64().unwrap();
        (of("on_hand"), of("held") + of("committed"), of("available_to_fulfil"))
    }
}

/// The payment provider's part: it has authorized, and captures what nothing stands against.
async fn pay(shop: &Shop, number: u32) -> Value {
    let amount = json!({"currency": "EUR", "minor": 1000});
    let order = format!("web:{number}");
    let auth = json!({"order": order, "kind": "auth", "amount": amount});
    shop.tell(&format!("payment/a{number}"), 2, auth).await.ok();
    shop.order(number, 2, "confirmed", "A", 1).await;
    let holds = shop.document(number).await["holds"].clone();
    let is_held = holds.as_array().is_some_and(|holds| holds.contains(&json!("stock")));
    let kind = if is_held { "void" } else { "capture" };
    let end = json!({"order": order, "kind": kind, "amount": amount});
    shop.tell(&format!("payment/b{number}"), 1, end).await.ok();
    shop.document(number).await
}

#[tokio::test]
async fn scenario_05_an_order_whose_hold_expired_during_payment_is_never_captured_without_stock() {
    let shop = open(OrderPolicy { hold_us: 200_000, ..OrderPolicy::default() }).await;
    shop.count("A", "berlin", 1, 60).await;
    for (number, taken) in [(1, false), (2, true)] {
        shop.order(number, 9, "pending", "A", 1).await;
        let path = format!("/v1/reservations/web:{number}");
        shop.server.until(&path, "expired", |answer| answer.json()["state"] == "expired").await;
        if taken {
            assert_eq!(shop.reserve("other", one("A", 1)).await.status, 201);
        }
        let order = pay(&shop, number).await;
        let state = shop.server.get(&path).await.ok()["state"].clone();
        if taken {
            assert_eq!((&order["payment"]["state"], &order["holds"]), (&json!("voided"), &json!(["stock"])));
            assert_eq!((&state, &order["payment"]["captured"]["minor"]), (&json!("expired"), &json!(0)));
        } else {
            assert_eq!((&order["payment"]["state"], &state), (&json!("paid"), &json!("committed")));
            shop.order(number, 1, "cancelled", "A", 1).await;
        }
        assert_eq!(shop.sums("A", "berlin").await, if taken { (1, 1, 0) } else { (1, 0, 1) });
    }
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_16_an_order_is_cancelled_after_shipments() {
    let shop = open(OrderPolicy::default()).await;
    shop.count("A", "berlin", 100, 600).await;
    shop.order(1, 9, "confirmed", "A", 5).await;
    shop.parcel("shipment/s1", 1, 5, json!({"location": "berlin"})).await;
    let lines = json!([{"id": "1", "sku": "A", "ordered": 5}]);
    let cancel = json!({"channel": "web", "lifecycle": "cancelled", "lines": lines});
    shop.tell("order/web:1", 1, cancel).await.problem(409, "order-state");
    assert_eq!(shop.sums("A", "berlin").await, (95, 0, 95));

    shop.count("B", "berlin", 100, 600).await;
    shop.order(2, 9, "confirmed", "B", 10).await;
    // It does not say from where: from where it is reserved.
    shop.parcel("shipment/s2", 2, 3, json!({})).await;
    assert_eq!(shop.sums("B", "berlin").await, (97, 7, 90));
    shop.order(2, 1, "cancelled", "B", 10).await;
    assert_eq!(shop.sums("B", "berlin").await, (97, 0, 97));
    shop.parcel("return/r1", 2, 1, json!({"disposition": "restock"})).await;
    assert_eq!(shop.sums("B", "berlin").await, (98, 0, 98));
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_18_a_cancel_before_the_placement_and_a_placement_told_twice() {
    let shop = open(OrderPolicy::default()).await;
    shop.count("A", "berlin", 10, 60).await;
    shop.order(1, 5, "cancelled", "A", 2).await;
    shop.order(1, 9, "confirmed", "A", 2).await;
    assert_eq!(shop.sums("A", "berlin").await, (10, 0, 10));
    for seconds_ago in [9, 8, 10, 7] {
        shop.order(2, seconds_ago, "confirmed", "A", 2).await;
    }
    assert_eq!(shop.sums("A", "berlin").await, (10, 2, 8));
    let events = shop.server.get("/v1/events?kind=reservation").await.ok();
    let types: Vec<&Value> = events["items"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["reservation.held", "reservation.committed"]);
    // The order names its reservation, and that names the order.
    assert_eq!(shop.document(2).await["stock"], json!({"reservations": ["web:2"]}));
    assert_eq!(shop.server.get("/v1/reservations/web:2").await.ok()["owner"], "web:2");
    shop.server.stop().await;
}

#[tokio::test]
async fn scenario_22_an_order_that_needs_a_split_is_split_or_held_before_it_is_paid() {
    for allow_split in [true, false] {
        let shop = open(OrderPolicy { allow_split, ..OrderPolicy::default() }).await;
        shop.count("A", "a", 2, 60).await;
        shop.count("A", "b", 3, 60).await;
        shop.order(1, 5, "pending", "A", 4).await;
        let reserved = shop.sums("A", "a").await.1 + shop.sums("A", "b").await.1;
        let order = shop.document(1).await;
        if allow_split {
            assert_eq!((reserved, &order["holds"]), (4, &Value::Null));
        } else {
            assert_eq!((reserved, &order["holds"], &order["stock"]["short"]), (0, &json!(["stock"]), &json!({"A": 4})));
        }
        shop.server.stop().await;
    }
}

#[tokio::test]
async fn scenario_25_an_order_takes_an_exact_quantity() {
    let shop = open(OrderPolicy::default()).await;
    shop.put("/v1/items/WINE", json!({"qty_scale": 1})).await.ok();
    // 3140.0 and 3106.4, in tenths.
    shop.count("WINE", "berlin", 31_400, 60).await;
    shop.order(1, 5, "confirmed", "WINE", 31_064).await;
    assert_eq!(shop.available("WINE").await, 336);
    shop.order(2, 5, "confirmed", "WINE", 337).await;
    assert_eq!(shop.document(2).await["holds"], json!(["stock"]));
    shop.order(2, 4, "confirmed", "WINE", 336).await;
    assert_eq!((shop.available("WINE").await, &shop.document(2).await["holds"]), (0, &json!([])));
    shop.server.stop().await;
}

#[tokio::test]
async fn an_order_goes_on_after_a_restart_with_what_it_had() {
    let shop = open(OrderPolicy::default()).await;
    shop.count("A", "berlin", 10, 60).await;
    shop.order(1, 9, "confirmed", "A", 4).await;
    shop.order(2, 9, "confirmed", "A", 3).await;
    shop.order(2, 8, "cancelled", "A", 3).await;
    let folder = shop.server.stop().await;
    let orders = StockOrders { all: Some(OrderPolicy::default()), ..StockOrders::default() };
    let hub = |options: &mut lockstep_hub::HubOptions| options.rules.stock_orders = orders;
    let shop = Shop::with(Setup { hub: Box::new(hub), folder: Some(folder), ..Setup::default() }).await;
    assert_eq!(shop.sums("A", "berlin").await, (10, 4, 6));
    shop.parcel("shipment/s1", 1, 1, json!({"location": "berlin"})).await;
    // A cancelled one that is shipped all the same, from where it had been reserved: that is over and read again.
    shop.parcel("shipment/s2", 2, 3, json!({})).await;
    assert_eq!(shop.sums("A", "berlin").await, (6, 3, 3));
    let order = shop.document(2).await;
    assert_eq!(order["exceptions"][0]["kind"], "shipped_after_cancel");
    assert_eq!(order["stock"]["shipped"], json!({"s2": {"1": 3}}));
    shop.server.stop().await;
}
