//! An order's life in awkward moments: told twice, at once, too late, or in the wrong order.

use std::path::Path;

use serde_json::{Value, json};

use super::order::{Delivery, shopify};
use crate::common::{Hub, folder, run, until};

/// A shop, and a payment provider that has its own key.
const CONFIG: &str = "\
[domains.order]
required = [\"currency\", \"total\", \"lines\"]

[systems.psp]

[sources.shop]
system = \"shop\"
pack = \"shopify\"
secrets = [\"env:SHOP_SECRET\"]
channel = \"web\"
";

fn key(folder: &Path, system: &str) -> String {
    let made = run(folder, &["key", "create", "--name", system, "--scopes", "write", "--system", system]);
    made.expect(0).out.trim().to_owned()
}

fn event(kind: &str, id: &str, subject: &str, minute: u32, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/psp", "type": kind, "subject": subject,
        "time": format!("2026-03-01T09:{minute:02}:00Z"), "data": data,
    })
}

fn document(hub: &Hub, entity: &str) -> Value {
    hub.get(&format!("/v1/entities/{entity}"))["document"].clone()
}

#[test]
fn one_payment_told_by_three_signals_has_one_effect() {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    let psp = key(folder.path(), "psp");
    for round in 0..10 {
        let id = 2000 + round;
        let order = format!("order/web:{id}");
        let with_id = |minute, more: Value| {
            let mut body = shopify(minute, more);
            body["id"] = json!(id);
            body
        };
        Delivery::shop("orders/create", &format!("c-{id}"), with_id(0, json!({}))).send(&hub);
        let paid = Delivery::shop("orders/paid", &format!("p-{id}"), with_id(5, json!({ "financial_status": "paid" })));
        let payment = |signal: &str, minute| {
            let data = json!({ "kind": "capture", "order": format!("web:{id}"), "psp_ref": format!("psp-{id}"), "amount": { "currency": "EUR", "minor": 3490 } });
            event("payment.captured", &format!("{signal}-{id}"), &format!("payment/web:psp-{id}"), minute, data)
        };
        // The provider's own word, the customer who comes back, and the review: all at once.
        std::thread::scope(|scope| {
            scope.spawn(|| paid.send(&hub));
            scope.spawn(|| hub.event(&psp, &payment("webhook", 4)));
            scope.spawn(|| hub.event(&hub.key, &payment("redirect", 5)));
            scope.spawn(|| hub.event(&psp, &payment("review", 6)));
            let fields = r#"{"lifecycle":"confirmed","payment_status":"paid"}"#;
            scope.spawn(|| assert_eq!(hub.set(&hub.key, &order, &format!("r-{id}"), fields).0, 200));
        });
        assert_eq!(hub.types_of(&format!("payment/web:psp-{id}")), ["payment.captured"], "one payment");
        let confirmed = hub.types_of(&order).iter().filter(|kind| *kind == "order.confirmed").count();
        assert_eq!(confirmed, 1, "{:?}", hub.types_of(&order));
        let document = document(&hub, &order);
        assert_eq!((&document["lifecycle"], &document["payment_status"]), (&json!("confirmed"), &json!("paid")));
    }
}

#[test]
fn two_workers_that_import_the_same_order_make_one() {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    for round in 0..20 {
        let id = 3000 + round;
        let mut body = shopify(0, json!({}));
        body["id"] = json!(id);
        std::thread::scope(|scope| {
            for worker in ["a", "b"] {
                let body = body.clone();
                let hub = &hub;
                scope.spawn(move || Delivery::shop("orders/create", &format!("{worker}-{id}"), body).send(hub));
            }
        });
        assert_eq!(hub.types_of(&format!("order/web:{id}")), ["order.placed"]);
        assert_eq!(hub.get(&format!("/v1/entities/order/web:{id}"))["version"], 1);
    }
    assert_eq!(hub.events().len(), 20);
}

#[test]
fn paid_before_create_is_one_paid_order_of_which_nobody_hears_before_it_is_whole() {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    let psp = key(folder.path(), "psp");
    let data = json!({ "payment_status": "paid", "lifecycle": "confirmed" });
    let told = hub.event(&psp, &event("order.changed", "e-1", "order/web:1001", 5, data));
    assert_eq!((&told["outcome"], &told["changed"]), (&json!("applied"), &json!(false)), "{told}");
    let known = hub.get("/v1/entities/order/web:1001");
    assert_eq!((&known["incomplete"], &known["document"]["payment_status"]), (&json!(true), &json!("paid")), "{known}");
    assert!(hub.events().is_empty(), "nobody is told of it yet");

    Delivery::shop("orders/create", "s-1", shopify(0, json!({}))).send(&hub);
    let events = hub.events();
    assert_eq!(events.len(), 1, "{events:?}");
    let placed = &events[0]["data"]["document"];
    assert_eq!((&placed["payment_status"], &placed["lifecycle"]), (&json!("paid"), &json!("confirmed")));
    assert_eq!(placed["total"], json!({ "currency": "EUR", "minor": 3490 }));
    assert_eq!(hub.get("/v1/entities/order/web:1001")["incomplete"], Value::Null);

    // The shop's own `paid` before its `create`.
    let paid = |mut body: Value| {
        body["id"] = json!(1002);
        body
    };
    let late = Delivery::shop("orders/paid", "s-3", paid(shopify(5, json!({ "financial_status": "paid" }))));
    late.send(&hub);
    let first = Delivery::shop("orders/create", "s-2", paid(shopify(0, json!({})))).send(&hub);
    assert_eq!(first["changed"], false, "{first}");
    assert_eq!(hub.types_of("order/web:1002").len(), 1);
    assert_eq!(document(&hub, "order/web:1002")["payment_status"], "paid");
    assert!(hub.ask(&["quarantine", "list", "--json"]).expect(0).json_lines().is_empty(), "no error");
}

#[test]
fn a_stale_quantity_is_recorded_as_superseded() {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    let psp = key(folder.path(), "psp");
    let count = |version: u32, qty: u32| {
        let data = json!({ "on_hand": qty });
        let mut event = event("stock.counted", &format!("v{version}"), "stock/MUG-01@berlin", 0, data);
        event["sequence"] = json!(version.to_string());
        hub.event(&psp, &event)
    };
    assert_eq!(count(11, 5)["outcome"], "applied");
    assert_eq!(count(10, 7)["outcome"], "superseded");
    assert_eq!(document(&hub, "stock/MUG-01@berlin")["on_hand"], 5);
    let history = hub.ask(&["entity", "history", "stock/MUG-01@berlin", "--json"]).expect(0).json_lines();
    let outcomes: Vec<_> = history.iter().map(|item| item["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["superseded", "applied"], "newest first: {history:?}");
    assert_eq!(hub.types_of("stock/MUG-01@berlin").len(), 1);
}

#[test]
fn a_cancel_after_shipment_loses_and_before_it_wins() {
    let cancelled =
        json!({ "financial_status": "paid", "cancelled_at": "2026-03-01T09:50:00Z", "cancel_reason": "customer" });
    for (status, topic, expected) in [
        (Some("fulfilled"), "orders/fulfilled", "shipped"),
        (Some("partial"), "orders/updated", "partially_shipped"),
        (None, "orders/paid", "cancelled"),
    ] {
        let folder = folder(CONFIG);
        let hub = Hub::start(folder.path());
        Delivery::shop("orders/create", "s-1", shopify(0, json!({}))).send(&hub);
        let so_far = shopify(30, json!({ "financial_status": "paid", "fulfillment_status": status }));
        Delivery::shop(topic, "s-2", so_far).send(&hub);
        Delivery::shop("orders/cancelled", "s-3", shopify(50, cancelled.clone())).send(&hub);
        let document = document(&hub, "order/web:1001");
        assert_eq!(document["lifecycle"], expected);
        assert_eq!(document["cancel_reason"], "customer", "that it was asked for is known");
        let told = hub.types_of("order/web:1001").iter().any(|kind| kind == "order.cancelled");
        assert_eq!(told, expected == "cancelled", "after {status:?}");
    }
}

#[test]
fn a_placement_told_again_is_one_and_a_cancel_may_come_first() {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    let create = Delivery::shop("orders/create", "s-1", shopify(0, json!({})));
    assert_eq!(create.send(&hub)["outcome"], "applied");
    assert_eq!(create.send(&hub)["outcome"], "duplicate");
    let replayed = Delivery { id: "s-2".into(), ..create.clone() };
    assert_ne!(replayed.send(&hub)["changed"], true, "another delivery of the same placement");
    assert_eq!(hub.types_of("order/web:1001"), ["order.placed"]);

    let with_id = |mut body: Value| {
        body["id"] = json!(1002);
        body
    };
    let cancelled = json!({ "cancelled_at": "2026-03-01T09:40:00Z", "cancel_reason": "fraud" });
    Delivery::shop("orders/cancelled", "s-3", with_id(shopify(40, cancelled))).send(&hub);
    let late = Delivery::shop("orders/create", "s-4", with_id(shopify(0, json!({})))).send(&hub);
    assert_eq!(late["changed"], false, "{late}");
    assert_eq!(hub.types_of("order/web:1002"), ["order.cancelled"]);
    assert_eq!(document(&hub, "order/web:1002")["lifecycle"], "cancelled");
}

#[test]
fn an_authorization_expires_by_itself_and_holds_its_order_also_over_a_restart() {
    let folder = folder(CONFIG);
    let mut hub = Hub::start(folder.path());
    let psp = key(folder.path(), "psp");
    for (id, restarts) in [(1001, false), (1002, true)] {
        let with_id = |mut body: Value| {
            body["id"] = json!(id);
            body
        };
        Delivery::shop("orders/create", &format!("c-{id}"), with_id(shopify(0, json!({})))).send(&hub);
        let expires_us = lockstep_hub::now_us() + 1_000_000;
        let at = lockstep_connect::time::format_rfc3339(expires_us);
        let data = json!({ "kind": "auth", "order": format!("web:{id}"), "amount": { "currency": "EUR", "minor": 3490 },
            "auth_expires_at": at });
        let payment = format!("payment/web:{id}");
        hub.event(&psp, &event("payment.authorized", &format!("a-{id}"), &payment, 1, data));
        assert_eq!(hub.types_of(&payment), ["payment.authorized"]);
        assert_eq!(document(&hub, &format!("order/web:{id}"))["payment"]["state"], "authorized");
        if restarts {
            hub.signal("KILL");
            hub.ended();
            hub = Hub::start(folder.path());
        }
        until("the authorization has expired", || {
            let types = hub.types_of(&payment);
            assert!(types.len() == 1 || lockstep_hub::now_us() >= expires_us, "before its time: {types:?}");
            (types == ["payment.authorized", "payment.auth_expired"]).then_some(())
        });
        let order = document(&hub, &format!("order/web:{id}"));
        assert_eq!(
            (&order["payment"]["state"], &order["holds"]),
            (&json!("expired"), &json!(["payment"])),
            "{order:#}"
        );
        let history = hub.ask(&["entity", "history", &payment, "--json"]).expect(0).json_lines();
        assert_eq!(history[0]["system"], "@hub", "{history:?}");
        assert_eq!(document(&hub, &payment)["auth_expired_at"], at.as_str());
    }
    hub.signal("TERM");
    hub.ended();
    let hub = Hub::start(folder.path());
    assert_eq!(hub.events().iter().filter(|event| event["type"] == "payment.auth_expired").count(), 2, "once each");
}
