//! One row is one input and what is made of it: readable by who knows the business.

use bytes::Bytes;
use lockstep_core::event::{Event, document};
use lockstep_core::merge::{Owner, Policy, Rule};
use lockstep_core::record::{Body, Record};
use lockstep_core::{Change, Domain, Facts, Field, Input, InputBody, Outcome, Refusal, Rules, decide, fold};

fn facts() -> Facts {
    let mut rules = Rules::new();
    let owner = Policy::Owner(Owner { systems: vec!["erp".into()] });
    rules.declare(Domain { kind: "price".into(), policy: owner, ..Domain::default() });
    Facts::new(rules)
}

fn input(system: &str, delivery: &str, kind: &str, at: i64, fields: &[(&str, &str)]) -> Input {
    let fields = fields.iter().map(|(name, json)| Field::new(*name, Bytes::copy_from_slice(json.as_bytes()))).collect();
    let change = Change::new(kind, "1", 0, at, fields).unwrap();
    Input {
        source: system.into(),
        system: system.into(),
        delivery: delivery.into(),
        payload_hash: 1,
        reject_reuse: false,
        request_key: None,
        received_at_us: at,
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![change]),
        releases: None,
    }
}

fn fact(record: &Record) -> &lockstep_core::record::Fact {
    match &record.body {
        Some(Body::Fact(fact)) => fact,
        other => panic!("not a fact: {other:?}"),
    }
}

fn doc(facts: &Facts, id: &str) -> String {
    let fields = facts.entities[id].document();
    fields.iter().map(|f| format!("{}={} ", f.name, std::str::from_utf8(&f.json).unwrap())).collect()
}

#[test]
fn a_repeated_delivery_has_one_effect_and_gets_the_first_record() {
    let mut facts = facts();
    let first = decide(&mut facts, input("web", "d1", "order", 1, &[("total", "5")]), 10).unwrap();
    assert_eq!(first.outcome, Outcome::Applied { position: 1, count: 1, version: 1, changed: true });
    assert_eq!(fact(&first.records[0]).event_type, "order.placed");
    let again = decide(&mut facts, input("web", "d1", "order", 1, &[("total", "6")]), 11).unwrap();
    assert_eq!((again.records.len(), again.outcome), (0, Outcome::Duplicate { of: 1 }));
    assert_eq!(doc(&facts, "order/1"), "total=5 ");
}

#[test]
fn a_reused_key_with_another_payload_is_refused() {
    let mut facts = facts();
    let api = |payload_hash| Input { reject_reuse: true, payload_hash, ..input("api", "k", "order", 1, &[("a", "1")]) };
    decide(&mut facts, api(1), 10).unwrap();
    assert_eq!(decide(&mut facts, api(1), 10).unwrap().outcome, Outcome::Duplicate { of: 1 });
    assert_eq!(decide(&mut facts, api(2), 10), Err(Refusal::KeyReused { key: "k".into(), of: 1 }));
    let keyed = |delivery: &str, hash| Input {
        request_key: Some(("key".into(), hash)),
        ..input("api", delivery, "order", 2, &[("a", "2")])
    };
    decide(&mut facts, keyed("e1", 7), 11).unwrap();
    assert_eq!(decide(&mut facts, keyed("e1", 7), 12).unwrap().outcome, Outcome::Duplicate { of: 2 });
    assert!(matches!(decide(&mut facts, keyed("e2", 8), 12), Err(Refusal::KeyReused { of: 2, .. })));
}

#[test]
fn another_version_than_expected_is_refused_whole() {
    let mut facts = facts();
    decide(&mut facts, input("web", "d1", "order", 1, &[("total", "5")]), 10).unwrap();
    let mut second = input("web", "d2", "order", 2, &[("total", "6")]);
    if let InputBody::Changes(changes) = &mut second.body {
        changes[0].expected_version = Some(3);
    }
    let refusal = decide(&mut facts, second.clone(), 11).unwrap_err();
    assert_eq!(refusal, Refusal::Version { id: "order/1".into(), expected: 3, current: 1 });
    if let InputBody::Changes(changes) = &mut second.body {
        changes[0].expected_version = Some(1);
    }
    assert!(decide(&mut facts, second, 11).is_ok());
}

#[test]
fn a_late_update_is_recorded_as_superseded() {
    let mut facts = facts();
    decide(&mut facts, input("wms", "d1", "stock", 11, &[("on_hand", "5")]), 20).unwrap();
    let late = decide(&mut facts, input("wms", "d2", "stock", 10, &[("on_hand", "7")]), 21).unwrap();
    assert_eq!(late.outcome, Outcome::Superseded { position: 2, count: 1 });
    assert!(fact(&late.records[0]).event_type.is_empty());
    assert_eq!((doc(&facts, "stock/1"), facts.entities["stock/1"].version), ("on_hand=5 ".into(), 1));
}

#[test]
fn the_owner_wins_and_the_others_are_kept_as_claims() {
    let mut facts = facts();
    decide(&mut facts, input("shop", "d1", "price", 5, &[("amount", "9")]), 20).unwrap();
    assert_eq!(doc(&facts, "price/1"), "amount=9 ");
    decide(&mut facts, input("erp", "d2", "price", 1, &[("amount", "8")]), 21).unwrap();
    let other = decide(&mut facts, input("shop", "d3", "price", 9, &[("amount", "7"), ("note", "\"x\"")]), 22).unwrap();
    assert!(matches!(other.outcome, Outcome::Applied { changed: true, .. }), "the note has no other claim");
    let entity = &facts.entities["price/1"];
    assert_eq!(doc(&facts, "price/1"), "amount=8 note=\"x\" ");
    let amount = entity.field("amount").unwrap();
    assert_eq!((amount.claims.len(), amount.rule), (2, Rule::Owner as i32));
    let whole: Vec<_> = document(fact(&other.records[0])).iter().map(|f| (f.name.clone(), f.json.clone())).collect();
    assert_eq!(whole, [("amount".into(), Bytes::from("8")), ("note".into(), Bytes::from("\"x\""))]);
    let cleared = decide(&mut facts, input("erp", "d4", "price", 30, &[("amount", "null")]), 23).unwrap();
    assert_eq!(doc(&facts, "price/1"), "amount=7 note=\"x\" ", "an owner without a value lets the others speak");
    assert!(!fact(&cleared.records[0]).event_type.is_empty());
}

#[test]
fn an_order_never_goes_back_in_its_life() {
    let rows = [
        ("confirmed", 1, "confirmed", "order.placed"),
        ("cancelled", 9, "cancelled", "order.cancelled"),
        ("confirmed", 10, "cancelled", ""),
        ("shipped", 3, "shipped", "order.changed"),
        ("cancelled", 20, "shipped", ""),
        ("closed", 2, "closed", "order.closed"),
    ];
    let mut facts = facts();
    for (number, (says, at, is, event)) in rows.into_iter().enumerate() {
        let value = format!("\"{says}\"");
        let decision =
            decide(&mut facts, input("web", &number.to_string(), "order", at, &[("lifecycle", &value)]), 1).unwrap();
        let lifecycle = facts.entities["order/1"].value("lifecycle").unwrap();
        assert_eq!(lifecycle, format!("\"{is}\"").as_bytes(), "row {number}");
        assert_eq!(fact(&decision.records[0]).event_type, event, "row {number}");
    }
}

#[test]
fn several_changes_of_one_delivery_are_recorded_together() {
    let mut facts = facts();
    let mut both = input("web", "d1", "product", 1, &[("title", "\"A\"")]);
    let price = Change::new("price", "1", 0, 1, vec![Field::new("amount", "3")]).unwrap();
    if let InputBody::Changes(changes) = &mut both.body {
        changes.push(price);
    }
    let decision = decide(&mut facts, both, 5).unwrap();
    assert_eq!(decision.outcome, Outcome::Applied { position: 1, count: 2, version: 1, changed: true });
    assert_eq!(decision.records.iter().map(|r| (fact(r).index, fact(r).of)).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
}

#[test]
fn folding_the_records_again_gives_the_same_state() {
    let mut facts = facts();
    let mut records = Vec::new();
    let rows = [("shop", 5, "1"), ("erp", 3, "2"), ("shop", 4, "3"), ("erp", 9, "null"), ("pim", 9, "4")];
    for (number, (system, at, amount)) in rows.into_iter().enumerate() {
        let decision =
            decide(&mut facts, input(system, &number.to_string(), "price", at, &[("amount", amount), ("b", "1")]), at)
                .unwrap();
        records.extend(decision.records);
    }
    let mut replayed = lockstep_core::Entity::default();
    for (at, record) in records.iter().enumerate() {
        fold::fold(&mut replayed, at as u64 + 1, record.recorded_at_us, fact(record));
    }
    assert_eq!(replayed, *facts.entities["price/1"]);
    let events: Vec<_> = records.into_iter().enumerate().filter_map(|(at, r)| Event::of(at as u64 + 1, r)).collect();
    let last = events.last().unwrap();
    let whole: Vec<_> = facts.entities["price/1"].document();
    assert_eq!(last.document(), whole.iter().collect::<Vec<_>>(), "the last event carries the whole document");
}

#[test]
fn a_delivery_that_proposes_nothing_leaves_nothing() {
    let mut facts = facts();
    let empty = |delivery: &str| Input {
        body: InputBody::Changes(Vec::new()),
        ..input("web", delivery, "order", 1, &[("a", "1")])
    };
    for _ in 0..2 {
        let decision = decide(&mut facts, empty("d1"), 1).unwrap();
        assert_eq!((decision.records.len(), decision.outcome), (0, Outcome::Superseded { position: 0, count: 0 }));
    }
    let next = decide(&mut facts, input("web", "d2", "order", 1, &[("a", "1")]), 1).unwrap();
    assert!(matches!(next.outcome, Outcome::Applied { position: 1, .. }));
}

/// Has a system say something at a time, whole as the record has it.
fn said(facts: &mut Facts, system: &str, at: i64, change: Change) -> Event {
    let delivery = format!("{system} {at}");
    let change = Change { occurred_at_us: at, ..change };
    let body = InputBody::Changes(vec![change]);
    let input = Input { body, ..input(system, &delivery, "thing", at, &[("a", "1")]) };
    let record = decide(facts, input, 100).unwrap().records.remove(0);
    let Some(Body::Fact(fact)) = record.body else { panic!("not a fact") };
    Event { position: facts.next - 1, recorded_at_us: 100, fact, replay: None }
}

fn fields(fields: &[(&str, &str)]) -> Change {
    let fields = fields.iter().map(|(name, json)| Field::new(*name, Bytes::copy_from_slice(json.as_bytes()))).collect();
    Change::new("thing", "1", 0, 0, fields).unwrap()
}

fn gone() -> Change {
    Change::deletion("thing", "1", 0, 0).unwrap()
}

#[test]
fn a_deletion_that_comes_too_late_changes_nothing() {
    let mut facts = facts();
    said(&mut facts, "shop", 5, fields(&[("a", "1")]));
    let late = said(&mut facts, "erp", 3, gone());
    assert_eq!((late.fact.event_type.as_str(), late.fact.version, late.fact.deleted), ("", 1, false));
    // Its word began at 3: another system has to say so.
    let counts = said(&mut facts, "wms", 6, gone());
    assert_eq!((counts.fact.event_type.as_str(), counts.fact.version), ("thing.deleted", 2));
}

#[test]
fn that_something_exists_is_no_part_of_what_is_published() {
    let mut facts = facts();
    said(&mut facts, "shop", 5, fields(&[("a", "1")]));
    said(&mut facts, "erp", 6, gone());
    said(&mut facts, "shop", 8, fields(&[("a", "2")]));
    // The shop's word that it exists stands, and the other system's beside it.
    let event = said(&mut facts, "erp", 7, fields(&[("b", "3")]));
    assert_eq!(event.fact.event_type, "thing.changed");
    assert_eq!(event.document_json(), r#"{"a":2,"b":3}"#);
}

#[test]
fn what_its_system_had_taken_back_is_not_published_with_a_late_word() {
    let mut facts = facts();
    let states = lockstep_core::order::lifecycle_states();
    let fields_of = [("state".to_owned(), Policy::BusinessState(states))].into();
    facts.rules.declare(Domain { kind: "thing".into(), fields: fields_of, ..Domain::default() });
    said(&mut facts, "shop", 5, fields(&[("lines[]", "[]")]));
    // Of the late document the state counts, since it is further along; the item was out of the list by then.
    let late = fields(&[("lines[1]", r#"{"id":1}"#), ("lines[]", r#"["1"]"#), ("state", r#""shipped""#)]);
    let event = said(&mut facts, "shop", 3, late);
    assert_eq!(event.fact.event_type, "thing.changed");
    let document: Vec<_> = event.document().into_iter().map(|f| (f.name.as_str(), f.json.as_ref())).collect();
    assert_eq!(document, [("lines[]", b"[]".as_ref()), ("state", b"\"shipped\"")]);
}
