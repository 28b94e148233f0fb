//! The case table of an order's life: what happened is recorded, whatever the order in which it is heard of, and what
//! follows from it is worked out.

use lockstep_core::decide::{Decision, timer};
use lockstep_core::merge::{Owner, Policy};
use lockstep_core::record::{Body, Fact};
use lockstep_core::{
    Change, Domain, Entity, Facts, Field, Input, InputBody, Record, Refusal, Rules, Timer, TimerKind, decide, path,
};
use serde_json::{Value, json};

/// The beginning of 2026.
const START_US: i64 = 1_767_225_600_000_000;

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
        let change = match fields {
            Value::Object(members) => {
                let fields = members.into_iter().map(|(name, value)| Field::new(name, value.to_string())).collect();
                let fields = path::split(fields, self.facts.rules.parts(kind)).unwrap();
                Change::new(kind, key, 0, at, fields).unwrap()
            }
            _ => Change::deletion(kind, key, 0, at).unwrap(),
        };
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
        decide(&mut self.facts, input, START_US + self.number as i64)
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

impl World {
    /// An authorization that ends at a second of 2026, by the provider's word at another one.
    fn authorize(&mut self, at: i64, expires_second: u32) {
        let fields = json!({"order": "1", "kind": "auth", "amount": {"currency": "EUR", "minor": 1000},
            "auth_expires_at": format!("2026-01-01T01:00:{expires_second:02}+01:00")});
        self.say("psp", "payment/a", START_US + at, fields).unwrap();
    }

    /// When the authorization is due to expire, in seconds of 2026.
    fn due(&self) -> Option<i64> {
        let due_us = TimerKind::AuthorizationExpires.due_us(&self.facts.entities["payment/a"])?;
        Some((due_us - START_US) / 1_000_000)
    }

    /// Its time has come: the types of the events that follow.
    fn expire(&mut self) -> Option<Vec<String>> {
        let payment = &self.facts.entities["payment/a"];
        let kind = TimerKind::AuthorizationExpires;
        let timer = Timer { due_us: kind.due_us(payment)?, kind, id: payment.id().into() };
        let input = timer::input(&timer, payment, Some(self.entity()), self.facts.next, timer.due_us)?;
        let decision = decide(&mut self.facts, input, timer.due_us).unwrap();
        Some(decision.records.iter().filter_map(fact).map(|fact| fact.event_type.clone()).collect())
    }
}

fn fact(record: &Record) -> Option<&Fact> {
    match &record.body {
        Some(Body::Fact(fact)) => Some(fact),
        _ => None,
    }
}

#[test]
fn the_hub_says_once_that_an_authorization_has_expired_and_holds_the_order() {
    let mut world = World::new();
    world.order(1, placed(2));
    world.authorize(1, 30);
    assert_eq!((world.due(), world.at("/payment/state")), (Some(30), json!("authorized")));
    assert_eq!(world.expire().unwrap(), ["payment.auth_expired", "order.changed", "order.changed"]);
    assert_eq!((world.at("/payment/state"), world.at("/holds")), (json!("expired"), json!(["payment"])));
    assert_eq!(world.at("/payment/authorized/minor"), 1000);
    assert_eq!((world.due(), world.expire()), (None, None));
    // The provider says it all once more: it is what it said before the end.
    world.authorize(2, 30);
    assert_eq!((world.due(), world.at("/payment/state")), (None, json!("expired")));
}

#[test]
fn an_authorization_that_is_prolonged_after_its_end_stands_until_its_new_one() {
    let mut world = World::new();
    world.order(1, placed(2));
    world.authorize(1, 30);
    world.expire().unwrap();
    world.authorize(31_000_000, 50);
    assert_eq!((world.at("/payment/state"), world.at("/holds")), (json!("authorized"), json!([])));
    assert_eq!(world.due(), Some(50));
    world.expire().unwrap();
    assert_eq!((world.at("/payment/state"), world.at("/holds")), (json!("expired"), json!(["payment"])));
    // Back to an end that was said before: it is another timer.
    world.authorize(51_000_000, 30);
    assert_eq!((world.due(), world.at("/payment/state")), (Some(30), json!("authorized")));
    world.expire().unwrap();
    assert_eq!((world.due(), world.at("/payment/state")), (None, json!("expired")));
}

#[test]
fn an_authorization_that_ends_at_once_does_so_whoever_owns_payments_and_whenever_it_was_told() {
    let mut world = World::new();
    world.order(1, placed(2));
    // Told of long after its end.
    world.authorize(90_000_000, 30);
    world.expire().unwrap();
    assert_eq!((world.due(), world.at("/payment/state")), (None, json!("expired")));
    // Where the provider's word alone counts, the hub's is known and ends the timer.
    let mut world = World::new();
    let owner = Policy::Owner(Owner { systems: vec!["psp".into()] });
    world.facts.rules.declare(Domain { kind: "payment".into(), policy: owner, ..Domain::default() });
    world.order(1, placed(2));
    world.authorize(1, 30);
    world.expire().unwrap();
    assert_eq!((world.due(), world.at("/payment/state")), (None, json!("authorized")));
}

#[test]
fn an_authorization_that_was_captured_voided_deleted_or_declined_does_not_expire() {
    for kind in ["capture", "void"] {
        let mut world = World::new();
        world.order(1, placed(2));
        world.authorize(1, 30);
        let fields = json!({"order": "1", "kind": kind, "parent": "a", "amount": {"currency": "EUR", "minor": 1000}});
        world.say("psp", "payment/b", START_US, fields).unwrap();
        assert_eq!(world.expire(), None, "{kind}");
    }
    for fields in [json!({"status": "failure"}), Value::Null, json!({"kind": "void"})] {
        let mut world = World::new();
        world.order(1, placed(2));
        world.authorize(1, 30);
        world.say("psp", "payment/a", START_US + 2, fields.clone()).unwrap();
        assert_eq!(world.due(), None, "{fields}");
    }
}

#[test]
fn a_payment_says_what_happened_once_over_its_life() {
    let mut world = World::new();
    let steps = [
        (json!({"kind": "auth", "psp_ref": "p"}), "payment.authorized"),
        (json!({"kind": "auth", "gateway": "cards"}), "payment.changed"),
        (json!({"kind": "capture"}), "payment.captured"),
        (json!({"reason": "shipped"}), "payment.changed"),
        (json!({"kind": "capture", "message": "settled"}), "payment.changed"),
        (json!({"kind": "capture", "message": "settled"}), ""),
        (json!({"kind": "refund"}), "payment.refunded"),
        (json!({"kind": "refund", "reason": "returned"}), "payment.changed"),
        (json!({"kind": "chargeback"}), "payment.charged_back"),
        (json!({"kind": "capture"}), "payment.captured"),
    ];
    for (at, (fields, expected)) in steps.into_iter().enumerate() {
        let decision = world.say("psp", "payment/a", at as i64 + 1, fields.clone()).unwrap();
        assert_eq!(fact(&decision.records[0]).unwrap().event_type, expected, "{fields}");
    }
    // Deleted and told of again, it is new to everybody.
    world.say("psp", "payment/a", 20, Value::Null).unwrap();
    let again = world.say("psp", "payment/a", 21, json!({"kind": "capture"})).unwrap();
    assert_eq!(fact(&again.records[0]).unwrap().event_type, "payment.captured");
    // Told of without what happened, which comes later.
    let first = world.say("psp", "payment/b", 1, json!({"psp_ref": "q"})).unwrap();
    assert_eq!(fact(&first.records[0]).unwrap().event_type, "payment.changed");
    let then = world.say("psp", "payment/b", 2, json!({"kind": "void"})).unwrap();
    assert_eq!(fact(&then.records[0]).unwrap().event_type, "payment.voided");
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
