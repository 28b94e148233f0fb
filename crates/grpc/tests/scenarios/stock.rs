//! Scenarios of reservations and counts.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::both_ways;
use crate::grpc::Grpc;
use crate::rest::Rest;
use crate::shop::{Moved, Shop, Wanted, Way, code, short};

/// What a line says under these names.
fn of_line(reservation: &Value, line: usize, names: [&str; 2]) -> [Value; 2] {
    names.map(|name| reservation["lines"][line][name].clone())
}

both_ways! {
    async fn scenario_01_the_last_unit_is_sold_once<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("A", "berlin", 1, 60).await;
        let names: Vec<String> = (0..200).map(|n| format!("o{n}")).collect();
        let all = join_all(names.iter().map(|id| shop.reserve(id, &[("A", 1)]))).await;
        let made = all.iter().filter(|answer| answer.as_ref().is_ok_and(|made| made["state"] == "held")).count();
        let refused = all.iter().filter(|answer| **answer == Err(short("A", 0, 1, 0))).count();
        assert_eq!((made, refused), (1, 199));
        assert_eq!(shop.sums("A", "berlin").await, (1, 1, 0));
        shop.server.stop().await;
    }

    async fn scenario_02_two_lines_share_a_component<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("C", "berlin", 108, 60).await;
        for kit in ["K1", "K2"] {
            shop.way.sku(kit, 0, &[("C", 1)]).await.unwrap();
        }
        let refused = shop.reserve("o1", &[("K1", 97), ("K2", 23)]).await.unwrap_err();
        assert_eq!(refused, short("K2", 1, 23, 11));
        assert_eq!(shop.available("C").await, 108);
        shop.server.stop().await;
    }

    async fn scenario_03_orders_in_any_order_of_lines_leave_the_counters_at_zero<W>() {
        let shop = Shop::<W>::open().await;
        for sku in ["A", "B"] {
            shop.count(sku, "berlin", 1_000, 60).await;
        }
        let all = &shop;
        let one_order = |number: usize| async move {
            let shop = all;
            let id = format!("o{number}");
            let lines = if number.is_multiple_of(2) { [("A", 1), ("B", 1)] } else { [("B", 1), ("A", 1)] };
            assert_eq!(shop.reserve(&id, &lines).await.unwrap()["state"], "held");
            assert_eq!(shop.way.release(&id).await.unwrap()["state"], "released");
        };
        for first in (0..1_000).step_by(200) {
            join_all((first..first + 200).map(one_order)).await;
        }
        for sku in ["A", "B"] {
            assert_eq!(shop.sums(sku, "berlin").await, (1_000, 0, 1_000));
        }
        shop.server.stop().await;
    }

    async fn scenario_04_a_customer_succeeds_on_the_own_hold<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("A", "berlin", 1, 60).await;
        shop.reserve("cart-x", &[("A", 1)]).await.unwrap();
        assert_eq!(code(shop.reserve("cart-y", &[("A", 1)]).await), "stock-short");
        let again = Wanted { replaces: Some("cart-x".to_owned()), ..Wanted::new("order-x", &[("A", 1)]) };
        assert_eq!(shop.way.reserve(&again).await.unwrap()["state"], "held");
        assert_eq!(shop.state("cart-x").await, "released");
        assert_eq!(code(shop.reserve("cart-y", &[("A", 1)]).await), "stock-short");
        shop.server.stop().await;
    }

    async fn scenario_06_three_signals_of_one_payment_have_one_effect_on_stock<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("A", "berlin", 5, 60).await;
        shop.reserve("o1", &[("A", 2)]).await.unwrap();
        // Redirect, webhook and review, each with a key of its own.
        let all = join_all((0..3).map(|_| shop.way.commit("o1"))).await;
        let repeated = all.iter().filter(|answer| answer.as_ref().unwrap()["repeated"] == true).count();
        assert_eq!(repeated, 2);
        assert_eq!(shop.sums("A", "berlin").await, (5, 2, 3));
        let events = shop.way.events("reservation").await;
        assert_eq!(events.iter().filter(|(kind, _)| kind == "reservation.committed").count(), 1);
        shop.server.stop().await;
    }

    async fn scenario_11_open_orders_in_a_feed_are_not_counted_twice<W>() {
        let shop = Shop::<W>::open().await;
        shop.way.channel("web").await.unwrap();
        let received = |id, quantity| Moved { id, kind: "receipt", sku: "A", location: "berlin", quantity };
        shop.way.moved(&received("m1", 30)).await.unwrap();
        shop.reserve("o1", &[("A", 29)]).await.unwrap();
        shop.way.commit("o1").await.unwrap();
        shop.way.moved(&received("m2", 50)).await.unwrap();
        let told = shop.way.events("availability").await;
        assert_eq!(told.last().unwrap().1["available"], 51);
        assert_eq!(shop.available("A").await, 51);
        shop.server.stop().await;
    }

    async fn scenario_12_a_late_shipment_consumes_and_does_not_change_the_count<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("A", "berlin", 10, 600).await;
        shop.reserve("o1", &[("A", 2)]).await.unwrap();
        shop.way.commit("o1").await.unwrap();
        shop.count("A", "berlin", 8, 60).await;
        assert_eq!(shop.sums("A", "berlin").await, (8, 2, 6));
        // It was shipped before the count, and is told after it.
        assert_eq!(shop.ship("o1", "A", "berlin", 2, 300).await, "consumed");
        assert_eq!(shop.sums("A", "berlin").await, (8, 0, 8));
        shop.server.stop().await;
    }

    async fn scenario_14_a_count_below_what_is_reserved_is_accepted_and_told<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("A", "berlin", 5, 600).await;
        for id in ["o1", "o2", "o3", "o4"] {
            shop.reserve(id, &[("A", 1)]).await.unwrap();
        }
        shop.count("A", "berlin", 2, 1).await;
        assert_eq!((shop.shortage("A", "berlin").await, shop.available("A").await), (2, 0));
        let told = shop.way.events("stock").await;
        let (_, document) = told.iter().find(|(kind, _)| kind == "stock.shortage_detected").unwrap();
        assert_eq!((&document["shortage"], &document["propose"][0]["reservation"]), (&json!(2), &json!("o4")));
        shop.way.release("o1").await.unwrap();
        assert_eq!(shop.shortage("A", "berlin").await, 1);
        shop.server.stop().await;
    }

    async fn a_shipment_that_is_told_by_both_ways_has_left_once<W>() {
        let shop = Shop::<W>::open().await;
        for (sku, location) in [("A", "berlin"), ("A", "hamburg"), ("B", "berlin")] {
            shop.count(sku, location, 10, 600).await;
        }
        let wanted = [("A", 4), ("B", 2)];
        for id in ["o1", "o2"] {
            shop.reserve(id, &wanted).await.unwrap();
            shop.way.commit(id).await.unwrap();
        }
        // With keys of their own for what they ask.
        let (rest, grpc) = (Rest::open(&shop.server).await.from(1_000), Grpc::open(&shop.server).await.from(2_000));
        // One parcel, with two SKUs of two orders, one of them from two places.
        let goods = [("o1", "A", "berlin", 3), ("o1", "A", "hamburg", 1), ("o1", "B", "berlin", 2), ("o2", "A", "berlin", 4)];
        for (id, sku, location, quantity) in goods {
            shop.way.ship_as("s|1", id, (sku, location), quantity).await.unwrap();
        }
        for (id, sku, location, quantity) in goods {
            rest.ship_as("s|1", id, (sku, location), quantity).await.unwrap();
            grpc.ship_as("s|1", id, (sku, location), quantity).await.unwrap();
        }
        assert_eq!(shop.state("o1").await, "consumed");
        assert_eq!(shop.sums("A", "berlin").await, (3, 0, 3));
        assert_eq!(shop.sums("A", "hamburg").await, (9, 0, 9));
        assert_eq!(shop.sums("B", "berlin").await, (8, 2, 6));
        shop.server.stop().await;
    }

    async fn scenario_16_cancelling_after_shipments<W>() {
        let shop = Shop::<W>::open().await;
        for (id, sku, quantity) in [("a", "A", 5), ("b", "B", 10)] {
            shop.count(sku, "berlin", 100, 600).await;
            shop.reserve(id, &[(sku, quantity)]).await.unwrap();
            shop.way.commit(id).await.unwrap();
        }
        assert_eq!(shop.ship("a", "A", "berlin", 5, 1).await, "consumed");
        assert_eq!(code(shop.way.release("a").await), "reservation-state");
        assert_eq!(shop.sums("A", "berlin").await, (95, 0, 95));

        assert_eq!(shop.ship("b", "B", "berlin", 3, 1).await, "committed");
        let cancelled = shop.way.release("b").await.unwrap();
        assert_eq!(of_line(&cancelled, 0, ["consumed", "released"]), [json!(3), json!(7)]);
        let back = Moved { id: "m1", kind: "return_restock", sku: "B", location: "berlin", quantity: 1 };
        shop.way.moved(&back).await.unwrap();
        assert_eq!(shop.sums("B", "berlin").await, (98, 0, 98));
        shop.server.stop().await;
    }

    async fn scenario_18_releasing_before_reserving_and_a_placement_told_twice<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("A", "berlin", 10, 60).await;
        assert_eq!(code(shop.way.release("o1").await), "unknown-reservation");
        assert_eq!(shop.sums("A", "berlin").await, (10, 0, 10));
        shop.reserve("o1", &[("A", 2)]).await.unwrap();
        // The same placement in another request: one allocation.
        assert_eq!(shop.reserve("o1", &[("A", 2)]).await.unwrap()["repeated"], true);
        assert_eq!(shop.sums("A", "berlin").await, (10, 2, 8));
        shop.server.stop().await;
    }

    async fn scenario_22_what_needs_a_split_is_split_or_refused<W>() {
        let shop = Shop::<W>::open().await;
        shop.count("X", "a", 2, 60).await;
        shop.count("X", "b", 3, 60).await;
        assert_eq!(shop.reserve("o1", &[("X", 4)]).await.unwrap_err(), short("X", 0, 4, 3));
        let wanted = Wanted { allow_split: true, ..Wanted::new("o1", &[("X", 4)]) };
        let made = shop.way.reserve(&wanted).await.unwrap();
        assert_eq!(of_line(&made, 0, ["location", "open"]), [json!("b"), json!(3)]);
        assert_eq!(of_line(&made, 1, ["location", "open"]), [json!("a"), json!(1)]);
        shop.server.stop().await;
    }

    async fn scenario_25_quantities_are_exact<W>() {
        let shop = Shop::<W>::open().await;
        shop.way.sku("WINE", 1, &[]).await.unwrap();
        // 3140.0 and 3106.4, in tenths.
        shop.count("WINE", "berlin", 31_400, 60).await;
        shop.reserve("o1", &[("WINE", 31_064)]).await.unwrap();
        assert_eq!(shop.available("WINE").await, 336);
        assert_eq!(shop.reserve("o2", &[("WINE", 337)]).await.unwrap_err(), short("WINE", 0, 337, 336));
        shop.reserve("o2", &[("WINE", 336)]).await.unwrap();
        assert_eq!(shop.sums("WINE", "berlin").await, (31_400, 31_400, 0));
        // The scale stays while there is stock.
        let refused = shop.way.sku("WINE", 2, &[]).await.unwrap_err();
        assert_eq!((refused.code.as_str(), refused.field.as_str()), ("stock-invalid", "/qty_scale"));
        shop.server.stop().await;
    }
}
