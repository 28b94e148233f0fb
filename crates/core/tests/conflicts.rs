//! Conflicts as the decision makes them: opened, changed, resolved by a person's word, opened again.

use bytes::Bytes;
use lockstep_core::decide::{
    CONFLICT_KIND, PREFERENCE_KIND, also_touched, conflict_key, former_conflict_key, is_conflict_about,
};
use lockstep_core::merge::{OPERATOR, Policy, Review};
use lockstep_core::path::Part;
use lockstep_core::record::Body;
use lockstep_core::{Change, Domain, Facts, Field, Input, InputBody, Rules, decide};

fn facts() -> Facts {
    let mut rules = Rules::new();
    let parts = [("lines".to_owned(), Part::Items { key: "id".into() })].into();
    let policy = Policy::Review(Review::default());
    rules.declare(Domain { kind: "thing".into(), policy, parts, ..Domain::default() });
    Facts::new(rules)
}

/// Has a system say something of `thing/1` (or of the preference), and gives the events that this publishes.
fn say(facts: &mut Facts, system: &str, at: i64, fields: &[(&str, &str)]) -> Vec<String> {
    say_of(facts, ("thing", "1"), system, at, fields)
}

fn say_of(facts: &mut Facts, (kind, key): (&str, &str), system: &str, at: i64, fields: &[(&str, &str)]) -> Vec<String> {
    let fields = fields.iter().map(|(name, json)| Field::new(*name, Bytes::copy_from_slice(json.as_bytes()))).collect();
    let input = Input {
        source: system.into(),
        system: system.into(),
        delivery: format!("{kind} {key} {at}"),
        payload_hash: 1,
        reject_reuse: false,
        request_key: None,
        received_at_us: at,
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![Change::new(kind, key, 0, at, fields).unwrap()]),
        releases: None,
    };
    let decision = decide(facts, input, at).unwrap();
    let event = |body: Option<Body>| match body {
        Some(Body::Fact(fact)) => fact.event_type,
        other => panic!("not a fact: {other:?}"),
    };
    decision.records.into_iter().map(|record| event(record.body)).filter(|event| !event.is_empty()).collect()
}

fn status(facts: &Facts, field: &str) -> String {
    let conflict = &facts.entities[format!("conflict/thing/1#{field}").as_str()];
    let text = |name: &str| String::from_utf8(conflict.value(name).unwrap().to_vec()).unwrap();
    format!("{} {} {}", text("status"), text("rule"), text("standing"))
}

#[test]
fn each_step_of_a_conflict_is_an_event_of_its_own() {
    let mut facts = facts();
    assert_eq!(say(&mut facts, "shop", 1, &[("a", "1")]), ["thing.changed"]);
    assert_eq!(say(&mut facts, "erp", 2, &[("a", "2")]), ["conflict.opened"]);
    assert_eq!(status(&facts, "a"), r#""open" "contested" 1"#);
    assert_eq!(say(&mut facts, "pim", 3, &[("a", "3")]), ["conflict.changed"]);
    assert_eq!(say(&mut facts, "pim", 4, &[("a", "3")]), Vec::<String>::new(), "it says nothing new");
    assert_eq!(say(&mut facts, OPERATOR, 5, &[("a", "2")]), ["thing.changed", "conflict.resolved"]);
    assert_eq!(status(&facts, "a"), r#""resolved" "resolved" 2"#);
    assert_eq!(say(&mut facts, "shop", 6, &[("a", "9")]), ["conflict.opened"], "newer than the decision");
    assert_eq!(status(&facts, "a"), r#""open" "contested" 2"#, "the decision stands meanwhile");
}

#[test]
fn a_decision_that_is_said_again_counts_from_then_on() {
    let mut facts = facts();
    say(&mut facts, "shop", 1, &[("a", "1")]);
    say(&mut facts, "erp", 2, &[("a", "2")]);
    say(&mut facts, OPERATOR, 3, &[("a", "2")]);
    say(&mut facts, "shop", 4, &[("a", "3")]);
    assert_eq!(status(&facts, "a"), r#""open" "contested" 2"#);
    assert_eq!(say(&mut facts, OPERATOR, 5, &[("a", "2")]), ["conflict.resolved"]);
    assert_eq!(status(&facts, "a"), r#""resolved" "resolved" 2"#);
}

#[test]
fn a_withdrawn_decision_leaves_what_the_systems_say() {
    let mut facts = facts();
    say(&mut facts, "shop", 1, &[("a", "1")]);
    say(&mut facts, "erp", 2, &[("a", "2")]);
    say(&mut facts, OPERATOR, 3, &[("a", "7")]);
    assert_eq!(say(&mut facts, OPERATOR, 4, &[("a", "")]), ["thing.changed", "conflict.opened"]);
    assert_eq!(status(&facts, "a"), r#""open" "contested" 1"#);
    say(&mut facts, OPERATOR, 5, &[("a", "7")]);
    say(&mut facts, "erp", 6, &[("a", "1")]);
    assert_eq!(status(&facts, "a"), r#""open" "contested" 7"#, "newer than the decision");
    say(&mut facts, OPERATOR, 7, &[("a", "")]);
    assert_eq!(status(&facts, "a"), r#""resolved" "agreed" 1"#);
}

#[test]
fn where_a_system_is_preferred_nobody_else_opens_a_conflict_again() {
    let mut facts = facts();
    say(&mut facts, "shop", 1, &[("a", "1")]);
    say(&mut facts, "erp", 2, &[("a", "2")]);
    let preference = (PREFERENCE_KIND, "thing:a");
    assert_eq!(
        say_of(&mut facts, preference, OPERATOR, 3, &[("system", "\"erp\"")]),
        ["preference.changed"],
        "a preference is a document like every other"
    );
    say(&mut facts, OPERATOR, 3, &[("a", "2")]);
    assert_eq!(say(&mut facts, "shop", 4, &[("a", "3")]), Vec::<String>::new());
    assert_eq!(status(&facts, "a"), r#""resolved" "resolved" 2"#);
    assert_eq!(say(&mut facts, "erp", 5, &[("a", "4")]), ["thing.changed"], "the preferred system needs nobody");
    say_of(&mut facts, preference, OPERATOR, 6, &[("system", "null")]);
    assert_eq!(say(&mut facts, "shop", 7, &[("a", "5")]), ["thing.changed", "conflict.opened"]);
}

#[test]
fn a_persons_word_is_of_one_field_and_of_nothing_else() {
    let mut facts = facts();
    say(&mut facts, "shop", 1, &[("lines[1]", r#"{"id":"1"}"#), ("lines[]", r#"["1"]"#)]);
    say(&mut facts, "erp", 2, &[("lines[1]", r#"{"id":"1","n":2}"#), ("lines[]", r#"["1","2"]"#)]);
    say(&mut facts, OPERATOR, 3, &[("lines[1]", r#"{"id":"1","n":3}"#)]);
    // A list given whole by a system withdraws what it has said of items; a person's does not.
    say(&mut facts, OPERATOR, 4, &[("lines[]", r#"["1","2"]"#)]);
    assert_eq!(status(&facts, "lines[1]"), r#""resolved" "resolved" {"id":"1","n":3}"#);
    say(&mut facts, "erp", 5, &[("_deleted", "true")]);
    say(&mut facts, "shop", 5, &[("_deleted", "true")]);
    assert!(facts.entities["thing/1"].is_deleted());
    say(&mut facts, OPERATOR, 6, &[("lines[1]", "")]);
    assert!(facts.entities["thing/1"].is_deleted(), "a word of a field does not bring back what is gone");
}

#[test]
fn the_conflicts_of_fields_that_a_change_implies_are_touched_too() {
    let mut facts = facts();
    say(&mut facts, "shop", 1, &[("a", "1"), ("lines[1]", r#"{"id":"1"}"#), ("lines[]", r#"["1"]"#)]);
    say(&mut facts, "erp", 2, &[("a", "2"), ("lines[1]", r#"{"id":"1","n":2}"#), ("lines[]", r#"["1"]"#)]);
    let touched = |kind: &str, fields: &[(&str, &str)]| {
        let fields = fields.iter().map(|(name, json)| Field::new(*name, Bytes::copy_from_slice(json.as_bytes())));
        let change = Change::new(kind, "1", 0, 3, fields.collect()).unwrap();
        let mut ids = also_touched(&facts.rules, facts.entities.get("thing/1").map(AsRef::as_ref), &change);
        ids.sort();
        ids.dedup();
        ids
    };
    let id = |field: &str| format!("{CONFLICT_KIND}/thing/1#{field}");
    assert_eq!(touched("thing", &[("b", "1")]), [id("b")]);
    assert_eq!(touched("thing", &[("lines[]", "[]")]), [id("a"), id("lines[1]"), id("lines[]")]);
    assert_eq!(touched("thing", &[("_deleted", "true")]), [id("a"), id("lines[1]"), id("lines[]")]);
    assert!(touched("order", &[("b", "1")]).is_empty(), "nothing of an order may be contested");
    let latest = Rules::new();
    let change = Change::new("thing", "1", 0, 3, vec![Field::new("a", "1"), Field::new("b", "1")]).unwrap();
    let ids = also_touched(&latest, facts.entities.get("thing/1").map(AsRef::as_ref), &change);
    assert_eq!(ids, [id("a")], "it ends with the policy that has opened it");
}

#[test]
fn conflicts_about_keys_with_a_hash_are_told_apart() {
    let mut facts = facts();
    // Each pair was one and the same conflict.
    let pairs = [(("1#a", "b"), ("1", "a#b")), (("1#", "b"), ("1", "#b")), (("1#a#", "~b"), ("1#a", "#~b"))];
    let mut at = 0;
    for (one, other) in pairs {
        assert_ne!(conflict_key("thing", one.0, one.1), conflict_key("thing", other.0, other.1), "{one:?} {other:?}");
        for (key, field) in [one, other] {
            let of = ("thing", key);
            at += 2;
            say_of(&mut facts, of, "shop", at, &[(field, "1")]);
            assert_eq!(say_of(&mut facts, of, "erp", at + 1, &[(field, "2")]), ["conflict.opened"], "{key} {field}");
            let conflict = &facts.entities[format!("conflict/{}", conflict_key("thing", key, field)).as_str()];
            assert!(is_conflict_about(conflict, key, field));
        }
    }
    assert_eq!(conflict_key("thing", "1", "lines[7]"), "thing/1#lines[7]", "the others are as they were");
    assert_eq!(former_conflict_key("thing", "1", "a#b"), None);
}

#[test]
fn a_conflict_with_its_former_key_keeps_it() {
    let mut facts = facts();
    let of = ("thing", "1#a");
    say_of(&mut facts, of, "shop", 1, &[("b", "1")]);
    say_of(&mut facts, of, "erp", 2, &[("b", "2")]);
    // As it was kept before keys were told apart.
    let new = format!("conflict/{}", conflict_key("thing", "1#a", "b"));
    let mut kept = facts.entities.remove(new.as_str()).unwrap();
    let former = former_conflict_key("thing", "1#a", "b").unwrap();
    std::sync::Arc::make_mut(&mut kept).key = former.as_str().into();
    let former = format!("conflict/{former}");
    facts.entities.insert(former.as_str().into(), kept);
    let change = Change::new("thing", "1#a", 0, 3, vec![Field::new("b", "1")]).unwrap();
    let touched = also_touched(&facts.rules, facts.entities.get("thing/1#a").map(AsRef::as_ref), &change);
    assert!([former.clone(), new.clone()].iter().all(|id| touched.iter().any(|t| t == id)), "{touched:?}");
    assert_eq!(say_of(&mut facts, of, "erp", 3, &[("b", "1")]), ["conflict.resolved"]);
    assert!(!facts.entities.contains_key(new.as_str()));
    assert_eq!(facts.entities[former.as_str()].value("status").unwrap(), "\"resolved\"");
    // Another one that has had the same name is not it.
    let other = ("thing", "1");
    say_of(&mut facts, other, "shop", 4, &[("a#b", "1")]);
    assert_eq!(say_of(&mut facts, other, "erp", 5, &[("a#b", "2")]), ["conflict.opened"]);
}
