//! Scenarios of orders: what is told are orders, shipments and returns only; what is reserved and moved follows from
//! them.

use lockstep_core::rules::{OrderPolicy, StockOrders};
use serde_json::{Value, json};

use crate::both_ways;
use crate::server::Setup;
use crate::shop::{Shop, Way, code};

/// How a shop is set up whose orders reserve.
pub(crate) fn reserving(policy: OrderPolicy) -> Setup {
    Setup { orders: StockOrders { all: Some(policy), ..StockOrders::default() }, ..Setup::default() }
}

pub(crate) async fn open<W: Way>(policy: OrderPolicy) -> Shop<W> {
    Shop::with(reserving(policy)).await
}

both_ways! {
    async fn scenario_16_an_order_is_cancelled_after_shipments<W>() {
        let shop = open::<W>(OrderPolicy::default()).await;
        shop.count("A", "berlin", 100, 600).await;
        shop.order(1, 9, "confirmed", "A", 5).await.unwrap();
        shop.parcel("shipment/s1", 1, 5, json!({"location": "berlin"})).await;
        assert_eq!(code(shop.order(1, 1, "cancelled", "A", 5).await), "order-state");
        assert_eq!(shop.sums("A", "berlin").await, (95, 0, 95));

        shop.count("B", "berlin", 100, 600).await;
        shop.order(2, 9, "confirmed", "B", 10).await.unwrap();
        // It does not say from where: from where it is reserved.
        shop.parcel("shipment/s2", 2, 3, json!({})).await;
        assert_eq!(shop.sums("B", "berlin").await, (97, 7, 90));
        shop.order(2, 1, "cancelled", "B", 10).await.unwrap();
        assert_eq!(shop.sums("B", "berlin").await, (97, 0, 97));
        shop.parcel("return/r1", 2, 1, json!({"disposition": "restock"})).await;
        assert_eq!(shop.sums("B", "berlin").await, (98, 0, 98));
        shop.server.stop().await;
    }

    async fn scenario_18_a_cancel_before_the_placement_and_a_placement_told_twice<W>() {
        let shop = open::<W>(OrderPolicy::default()).await;
        shop.count("A", "berlin", 10, 60).await;
        shop.order(1, 5, "cancelled", "A", 2).await.unwrap();
        shop.order(1, 9, "confirmed", "A", 2).await.unwrap();
        assert_eq!(shop.sums("A", "berlin").await, (10, 0, 10));
        for seconds_ago in [9, 8, 10, 7] {
            shop.order(2, seconds_ago, "confirmed", "A", 2).await.unwrap();
        }
        assert_eq!(shop.sums("A", "berlin").await, (10, 2, 8));
        let events = shop.way.events("reservation").await;
        let types: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(types, ["reservation.held", "reservation.committed"]);
        // The order names its reservation, and that names the order.
        assert_eq!(shop.document("web:2").await["stock"], json!({"reservations": ["web:2"]}));
        assert_eq!(shop.way.reservation("web:2").await.unwrap()["owner"], "web:2");
        shop.server.stop().await;
    }

    async fn scenario_22_an_order_that_needs_a_split_is_split_or_held_before_it_is_paid<W>() {
        for allow_split in [true, false] {
            let shop = open::<W>(OrderPolicy { allow_split, ..OrderPolicy::default() }).await;
            shop.count("A", "a", 2, 60).await;
            shop.count("A", "b", 3, 60).await;
            shop.order(1, 5, "pending", "A", 4).await.unwrap();
            let reserved = shop.sums("A", "a").await.1 + shop.sums("A", "b").await.1;
            let order = shop.document("web:1").await;
            let (holds, short) = (&order["holds"], &order["stock"]["short"]);
            if allow_split {
                assert_eq!((reserved, holds), (4, &Value::Null));
            } else {
                assert_eq!((reserved, holds, short), (0, &json!(["stock"]), &json!({"A": 4})));
            }
            shop.server.stop().await;
        }
    }

    async fn scenario_25_an_order_takes_an_exact_quantity<W>() {
        let shop = open::<W>(OrderPolicy::default()).await;
        shop.way.sku("WINE", 1, &[]).await.unwrap();
        // 3140.0 and 3106.4, in tenths.
        shop.count("WINE", "berlin", 31_400, 60).await;
        shop.order(1, 5, "confirmed", "WINE", 31_064).await.unwrap();
        assert_eq!(shop.available("WINE").await, 336);
        shop.order(2, 5, "confirmed", "WINE", 337).await.unwrap();
        assert_eq!(shop.document("web:2").await["holds"], json!(["stock"]));
        shop.order(2, 4, "confirmed", "WINE", 336).await.unwrap();
        assert_eq!((shop.available("WINE").await, &shop.document("web:2").await["holds"]), (0, &json!([])));
        shop.server.stop().await;
    }

    async fn an_order_goes_on_after_a_restart_with_what_it_had<W>() {
        let shop = open::<W>(OrderPolicy::default()).await;
        shop.count("A", "berlin", 10, 60).await;
        shop.order(1, 9, "confirmed", "A", 4).await.unwrap();
        shop.order(2, 9, "confirmed", "A", 3).await.unwrap();
        shop.order(2, 8, "cancelled", "A", 3).await.unwrap();
        let folder = Some(shop.server.stop().await);
        let shop = Shop::<W>::with(Setup { folder, ..reserving(OrderPolicy::default()) }).await;
        assert_eq!(shop.sums("A", "berlin").await, (10, 4, 6));
        shop.parcel("shipment/s1", 1, 1, json!({"location": "berlin"})).await;
        // A cancelled one that is shipped all the same, from where it had been reserved: that is over and read again.
        shop.parcel("shipment/s2", 2, 3, json!({})).await;
        assert_eq!(shop.sums("A", "berlin").await, (6, 3, 3));
        let order = shop.document("web:2").await;
        assert_eq!(order["exceptions"][0]["kind"], "shipped_after_cancel");
        assert_eq!(order["stock"]["shipped"], json!({"s2": {"1": 3}}));
        shop.server.stop().await;
    }

    async fn of_two_held_orders_the_first_promised_gets_the_unit_that_comes<W>() {
        let shop = open::<W>(OrderPolicy::default()).await;
        shop.count("A", "berlin", 0, 60).await;
        // Promised in this order, whatever their numbers and the times of their documents.
        shop.order(7, 5, "confirmed", "A", 1).await.unwrap();
        shop.order(3, 9, "confirmed", "A", 1).await.unwrap();
        let held = json!(["stock"]);
        for order in ["web:7", "web:3"] {
            assert_eq!(shop.document(order).await["holds"], held, "{order}");
        }
        let said = shop.way.events("order").await.len();
        shop.count("A", "berlin", 1, 40).await;
        assert_eq!(shop.sums("A", "berlin").await, (1, 1, 0), "it is taken before anything else is asked");
        let (first, second) = (shop.document("web:7").await, shop.document("web:3").await);
        assert_eq!((&first["holds"], &first["stock"]), (&json!([]), &json!({"reservations": ["web:7"]})));
        assert_eq!((&second["holds"], &second["stock"]["short"]), (&held, &json!({"A": 1})));
        let all = shop.way.events("order").await;
        let told: Vec<&Value> = all[said..].iter().map(|(_, document)| &document["holds"]).collect();
        assert!(told.contains(&&json!([])) && !told.contains(&&Value::Null), "{told:?}");

        // The explanation names the record, and that the delivery in whose course it was said.
        let why = shop.http.get("/v1/entities/order/web:7/explain?field=holds").await.unwrap();
        let winner = &why["fields"][0]["winner"];
        assert_eq!(winner["system"], "@hub");
        let because = winner["delivery"].as_str().unwrap_or_default();
        assert!(because.starts_with("@hub/stock-came|A|web:7|"), "{why}");

        let folder = Some(shop.server.stop().await);
        let shop = Shop::<W>::with(Setup { folder, ..reserving(OrderPolicy::default()) }).await;
        assert_eq!(shop.document("web:3").await["holds"], held);
        // What the first gives back is the second's.
        shop.order(7, 1, "cancelled", "A", 1).await.unwrap();
        assert_eq!(shop.document("web:3").await["holds"], json!([]));
        assert_eq!((shop.state("web:7").await, shop.state("web:3").await), ("released".into(), "committed".into()));
        shop.server.stop().await;
    }
}
