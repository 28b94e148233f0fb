//! The case table of an order's life: what happened is recorded, whatever the order in which it is heard of, and what
//! follows from it is worked out.

use lockstep_core::decide::Decision;
use lockstep_core::{Change, Entity, Facts, Field, Input, InputBody, Refusal, Rules, decide, path};
use serde_json::{Value, json};

struct World {
    facts: Facts,
    number: u64,
    api: bool,
}

impl World {
    fn new() -> Self {
        Self { facts: Facts::new(Rules::new()), number: 0, api: false }
    }

    fn say(&mut self, system: &str, id: &str, at: i64, fields: Value) -> Result<Decision, Refusal> {
        self.number += 1;
        let (kind, key) = id.split_once('/').unwrap();
        let Value::Object(members) = fields else { panic!("an object") };
        let fields = members.into_iter().map(|(name, value)| Field::new(name, value.to_string())).collect();
        let fields = path::split(fields, self.facts.rules.parts(kind)).unwrap();
        let change = Change::new(kind, key, 0, at, fields).unwrap();
        let input = Input {
            source: system.into(),
            system: system.into(),
            delivery: format!("d{}", self.number),
            payload_hash: self.number,
            reject_reuse: self.api,
            request_key: None,
            received_at_us: at,
            trace: None,
            raw: None,
            body: InputBody::Changes(vec![change]),
            releases: None,
        };
        decide(&mut self.facts, input, 1_767_225_600_000_000 + self.number as i64)
    }

    fn order(&mut self, at: i64, fields: Value) {
        self.say("shop", "order/1", at, fields).unwrap();
    }

    fn pay(&mut self, key: &str, kind: &str, minor: i64, second: u32) {
        let fields = json!({"order": "1", "kind": kind, "amount": {"currency": "EUR", "minor": minor},
            "occurred_at": format!("2026-01-01T00:00:{second:02}Z")});
        self.say("psp", &format!("payment/{key}"), 1, fields).unwrap();
    }

    fn ship(&mut self, key: &str, quantity: i64) {
        let fields = json!({"order": "1", "lines": [{"id": "l", "quantity": quantity}]});
        self.say("wms", &format!("shipment/{key}"), 50, fields).unwrap();
    }

    fn entity(&self) -> &Entity {
        &self.facts.entities["order/1"]
    }

    fn document(&self) -> Value {
        serde_json::from_slice(&self.entity().document_json()).unwrap()
    }

    fn at(&self, pointer: &str) -> Value {
        self.document().pointer(pointer).cloned().unwrap_or(Value::Null)
    }
}

fn placed(units: i64) -> Value {
    json!({"lifecycle": "confirmed", "total": {"currency": "EUR", "minor": 1000},
        "lines": [{"id": "l", "ordered": units, "sku": "A"}]})
}

#[test]
fn payments_are_a_ledger_and_their_state_follows_from_the_set() {
    let transactions =
        [("a", "auth", 1000, 1), ("b", "capture", 600, 2), ("c", "capture", 400, 3), ("d", "refund", 100, 4)];
    let mut ends = Vec::new();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut world = World::new();
        for (step, at) in order.into_iter().enumerate() {
            // The order itself is heard of in the middle.
            if step == 2 {
                world.order(1, placed(2));
            }
            let (key, kind, minor, second) = transactions[at];
            world.pay(key, kind, minor, second);
            // The same transaction once more, as providers send it.
            world.pay(key, kind, minor, second);
        }
        ends.push((world.at("/payment"), world.at("/lifecycle")));
    }
    assert_eq!(ends[0].0["state"], "partially_refunded");
    assert_eq!(ends[0].0["captured"], json!({"currency": "EUR", "minor": 1000}));
    assert_eq!(ends[0].0["refunded"]["minor"], 100);
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
}

#[test]
fn an_api_client_can_not_cancel_what_has_left_and_a_shop_that_does_opens_a_return() {
    let mut world = World::new();
    world.order(1, placed(5));
    world.ship("s1", 5);
    assert_eq!(world.at("/lifecycle"), "shipped");
    world.api = true;
    let refused = world.say("oms", "order/1", 90, json!({"lifecycle": "cancelled"})).unwrap_err();
    assert!(matches!(&refused, Refusal::OrderState { reason, .. } if reason.contains("return")), "{refused}");
    world.api = false;
    world.order(90, json!({"lifecycle": "cancelled", "cancelled_at": "2026-01-02T00:00:00Z"}));
    assert_eq!(world.at("/lifecycle"), "shipped", "stock and state stay");
    assert_eq!(world.at("/exceptions/0/kind"), "cancel_after_shipment");
}

#[test]
fn a_cancel_after_a_part_has_left_cancels_the_rest() {
    let mut world = World::new();
    world.order(1, placed(10));
    world.ship("s1", 3);
    assert_eq!((world.at("/lifecycle"), world.at("/fulfilment/state")), (json!("partially_shipped"), json!("partial")));
    world.order(90, json!({"lifecycle": "cancelled"}));
    assert_eq!(world.at("/lifecycle"), "partially_shipped");
    assert_eq!(world.at("/remainder_cancelled"), true);
    world.say("wms", "return/r1", 99, json!({"order": "1", "lines": [{"id": "l", "quantity": 1}]})).unwrap();
    let fulfilment = world.at("/fulfilment");
    assert_eq!(fulfilment, json!({"state": "fulfilled", "ordered": 10, "shipped": 3, "cancelled": 7, "returned": 1}),);
}

#[test]
fn what_ships_after_its_cancel_is_shipped_and_an_exception() {
    let mut world = World::new();
    world.order(1, placed(2));
    world.order(20, json!({"lifecycle": "cancelled"}));
    world.ship("s1", 2);
    assert_eq!(world.at("/lifecycle"), "shipped");
    assert_eq!(world.at("/exceptions/0/kind"), "shipped_after_cancel");
    // The other way round: the cancel is heard of late.
    let mut world = World::new();
    world.order(1, placed(2));
    world.say("wms", "order/1", 50, json!({"lifecycle": "shipped"})).unwrap();
    world.order(20, json!({"lifecycle": "cancelled"}));
    assert_eq!(world.at("/lifecycle"), "shipped");
    assert_eq!(world.at("/exceptions/0/kind"), "shipped_after_cancel");
}

#[test]
fn money_never_moves_an_order_and_is_due_back_where_it_came_too_late() {
    let mut world = World::new();
    world.order(1, placed(2));
    world.ship("s1", 2);
    world.pay("p1", "capture", 1000, 9);
    assert_eq!((world.at("/lifecycle"), world.at("/payment/state")), (json!("shipped"), json!("paid")));
    assert_eq!(world.at("/tasks/0"), Value::Null);

    let mut cancelled = World::new();
    cancelled.order(1, placed(2));
    cancelled.order(2, json!({"lifecycle": "cancelled"}));
    cancelled.pay("p1", "capture", 1000, 9);
    assert_eq!((cancelled.at("/lifecycle"), cancelled.at("/payment/state")), (json!("cancelled"), json!("paid")));
    assert_eq!(cancelled.at("/tasks/0"), json!({"kind": "refund", "amount": {"currency": "EUR", "minor": 1000}}));
    cancelled.pay("p2", "refund", 1000, 10);
    assert_eq!((cancelled.at("/tasks/0"), cancelled.at("/payment/state")), (Value::Null, json!("refunded")));

    let mut refunded = World::new();
    refunded.order(1, placed(2));
    for (key, kind, second) in [("p1", "capture", 1), ("p2", "refund", 2), ("p3", "capture", 3)] {
        refunded.pay(key, kind, 1000, second);
    }
    assert_eq!(refunded.at("/tasks/0/amount/minor"), 1000);
    assert_eq!(refunded.at("/lifecycle"), "confirmed");
}

#[test]
fn an_authorization_that_has_run_out_holds_an_order_that_has_not_left() {
    let mut world = World::new();
    world.order(1, placed(2));
    world.say("fraud", "order/1", 2, json!({"holds": ["fraud"]})).unwrap();
    world.pay("a", "auth", 1000, 1);
    assert_eq!(world.at("/holds"), json!(["fraud"]));
    world.pay("b", "auth_expired", 0, 2);
    assert_eq!((world.at("/holds"), world.at("/payment/state")), (json!(["fraud", "payment"]), json!("expired")));
    world.say("fraud", "order/1", 3, json!({"holds": []})).unwrap();
    assert_eq!(world.at("/holds"), json!(["payment"]));
    world.pay("c", "capture", 1000, 3);
    assert_eq!(world.at("/holds"), json!([]));
}

#[test]
fn a_cancelled_or_closed_order_is_neither_edited_nor_brought_back_by_an_api_client() {
    for state in ["cancelled", "closed"] {
        let mut world = World::new();
        world.order(1, placed(2));
        world.order(2, json!({"lifecycle": state}));
        world.api = true;
        let edit = world.say("oms", "order/1", 5, json!({"note": "x"})).unwrap_err();
        assert!(edit.to_string().contains("`note`"), "{edit}");
        let back = world.say("oms", "order/1", 6, json!({"lifecycle": "confirmed"})).unwrap_err();
        assert!(back.to_string().contains("new order"), "{back}");
        assert_eq!(world.facts.next, 3 + u64::from(state == "x"), "nothing was recorded");
        // What is the same is no edit.
        world.say("oms", "order/1", 7, json!({"lifecycle": state})).unwrap();
    }
}
