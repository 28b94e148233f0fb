//! Entities that are found to be one, and what systems call them: laws for all inputs, not examples.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::decide::{ALIAS_OF_KEY, INTO_FIELD, MERGE_KIND, holder};
use lockstep_core::entity::{Claim, DELETED_FIELD, FieldState, RECENT_MAX, base_system};
use lockstep_core::merge::{HighestVersion, Latest, Max, Min, OPERATOR, Owner, Policy, Review, Rule, Union};
use lockstep_core::path::{Part, split};
use lockstep_core::{
    Change, Decision, Domain, Entity, Facts, Field, Input, InputBody, Outcome, Refusal, Rules, decide, fold, order,
};
use proptest::prelude::*;

fn policies() -> Vec<(&'static str, Policy)> {
    vec![
        ("latest", Policy::Latest(Latest::default())),
        ("latest, ties to review", Policy::Latest(Latest { ties_to_review: true })),
        ("owner", Policy::Owner(Owner { systems: vec!["erp".into(), "pim".into()] })),
        ("highest-version", Policy::HighestVersion(HighestVersion)),
        ("business-state", Policy::BusinessState(order::lifecycle_states())),
        ("max", Policy::Max(Max)),
        ("min", Policy::Min(Min)),
        ("union", Policy::Union(Union)),
        ("review", Policy::Review(Review::default())),
        ("review, preferring", Policy::Review(Review { prefer: Some("shop".into()) })),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Observation {
    key: &'static str,
    system: &'static str,
    sequence: u64,
    occurred_at_us: i64,
    delivery: u8,
    fields: BTreeMap<&'static str, &'static str>,
}

fn field() -> impl Strategy<Value = (&'static str, &'static str)> {
    let names = prop_oneof![Just("a"), Just("b")];
    let values = prop_oneof![
        Just("null"),
        Just("1"),
        Just("2"),
        Just("[1,2]"),
        Just("[2,3]"),
        Just("\"confirmed\""),
        Just("\"shipped\"")
    ];
    let lists = prop_oneof![
        Just("null"),
        Just(r#"[{"id":"1","n":1}]"#),
        Just(r#"[{"id":"1","n":2},{"id":"2","n":1}]"#),
        Just(r#"[{"id":"2","n":1},{"id":"1","n":1}]"#),
    ];
    let objects = prop_oneof![Just("null"), Just(r#"{"email":"x"}"#), Just(r#"{"email":"y","name":"z"}"#)];
    prop_oneof![
        6 => (names, values),
        2 => lists.prop_map(|list| ("lines", list)),
        2 => objects.prop_map(|object| ("customer", object)),
    ]
}

fn observation() -> impl Strategy<Value = Observation> {
    let key = prop_oneof![Just("A"), Just("B"), Just("C")];
    let system = prop_oneof![4 => Just("erp"), 4 => Just("pim"), 4 => Just("shop"), 1 => Just(OPERATOR)];
    let fields = prop_oneof![
        9 => proptest::collection::vec(field(), 1..4).prop_map(|pairs| pairs.into_iter().collect()),
        1 => Just(BTreeMap::from([(DELETED_FIELD, "true")])),
    ];
    (key, system, 0u64..3, 0i64..6, 0u8..6, fields).prop_map(
        |(key, system, sequence, occurred_at_us, delivery, fields)| Observation {
            key,
            system,
            sequence,
            occurred_at_us,
            delivery,
            fields,
        },
    )
}

/// Sets within what an entity remembers of a system.
fn observations() -> impl Strategy<Value = Vec<Observation>> {
    proptest::collection::vec(observation(), 1..14).prop_filter("more than is remembered", |all| {
        let of = |system: &str| all.iter().filter(|o| o.system == system).collect::<BTreeSet<_>>().len();
        all.iter().all(|o| of(o.system) <= RECENT_MAX)
    })
}

/// Field by field the value, the system that won, the rule, and every claim with its stamp.
type Fields = BTreeMap<String, (Option<String>, Option<String>, Rule, BTreeSet<(String, String, (u64, i64, u64))>)>;

#[derive(Debug, PartialEq)]
struct Story {
    document: String,
    deleted: bool,
    fields: Fields,
}

/// All that is told of an entity, or with `only_winners` what its readers see.
fn told(entity: &Entity, only_winners: bool) -> Story {
    let text = |json: &[u8]| String::from_utf8_lossy(json).into_owned();
    let field = |field: &FieldState| {
        let claim = |c: &Claim| {
            let start = entity.stamps[c.start];
            let stamp = (start.sequence, start.occurred_at_us, start.tie);
            (entity.system(c.system).to_owned(), text(&c.json), stamp)
        };
        let claims = field.claims.iter().filter(|c| !c.json.is_empty() && !only_winners).map(claim).collect();
        let winner = field.winning().map(|c| base_system(entity.system(c.system)).to_owned());
        let rule = Rule::try_from(field.rule).unwrap();
        (field.name.to_string(), (field.value().map(|json| text(json)), winner, rule, claims))
    };
    let is_told = |f: &&FieldState| f.winning().is_some() && (f.name != DELETED_FIELD || entity.is_deleted());
    Story {
        document: text(&entity.document_json()),
        deleted: entity.is_deleted(),
        fields: entity.fields.iter().filter(is_told).map(field).collect(),
    }
}

/// A hub, and beside it one that only folds what the first one records.
struct World {
    facts: Facts,
    copy: BTreeMap<String, Entity>,
    said: u64,
}

impl World {
    fn new(policy: &Policy) -> Self {
        let mut rules = Rules::new();
        let lines = ("lines".into(), Part::Items { key: "id".into() });
        let parts = [lines, ("customer".into(), Part::Members)].into();
        rules.declare(Domain { kind: "thing".into(), policy: policy.clone(), parts, ..Domain::default() });
        rules.prefer("pim", 7);
        Self { facts: Facts::new(rules), copy: BTreeMap::new(), said: 0 }
    }

    fn input(&mut self, system: &str, delivery: String, change: Change) -> Result<Decision, Refusal> {
        self.said += 1;
        // A delivery id decides nothing here.
        self.facts.seen.clear();
        let first = self.facts.next;
        let input = Input {
            source: system.into(),
            system: system.into(),
            delivery,
            payload_hash: 0,
            reject_reuse: true,
            request_key: None,
            received_at_us: self.said as i64,
            trace: None,
            raw: None,
            body: InputBody::Changes(vec![change]),
            releases: None,
        };
        let decision = decide(&mut self.facts, input, self.said as i64)?;
        for (position, record) in (first..).zip(&decision.records) {
            let Some(lockstep_core::record::Body::Fact(fact)) = &record.body else { continue };
            let id = lockstep_core::entity_id(&fact.kind, &fact.key);
            fold::fold(self.copy.entry(id.into()).or_default(), position, record.recorded_at_us, fact);
        }
        Ok(decision)
    }

    fn observe(&mut self, o: &Observation, key: &str) {
        let fields: Vec<Field> = o.fields.iter().map(|(name, json)| Field::new(*name, *json)).collect();
        let deletes = o.fields.contains_key(DELETED_FIELD);
        let fields = if deletes { fields } else { split(fields, self.facts.rules.parts("thing")).unwrap() };
        let change = Change::new("thing", key, o.sequence, o.occurred_at_us, fields).unwrap();
        let delivery = format!("{}-{:?}", o.delivery, o.fields);
        self.input(o.system, delivery, change).unwrap();
    }

    fn merge(&mut self, goes: &str, into: Option<&str>) -> Result<Decision, Refusal> {
        let into = into.map_or("null".to_owned(), |key| format!("\"{key}\""));
        let fields = vec![Field::new(INTO_FIELD, into)];
        let at_us = self.said as i64;
        let change = Change::new(MERGE_KIND, format!("thing/{goes}"), 0, at_us, fields).unwrap();
        self.input(OPERATOR, format!("merge-{}", self.said), change)
    }

    fn entity(&self, key: &str) -> Option<&Entity> {
        self.facts
            .entities
            .get(format!("thing/{key}").as_str())
            .map(AsRef::as_ref)
            .filter(|e: &&Entity| e.position != 0)
    }

    /// What is folded of the records is what was decided, and what is written of it is what is read.
    fn check(&self) {
        for (id, entity) in self.facts.entities.iter().filter(|(_, e)| e.position != 0) {
            assert_eq!(Some(entity.as_ref()), self.copy.get(id.as_str()));
            assert_eq!(Entity::decode(entity.encode()).unwrap(), **entity);
        }
    }
}

/// When merges are made and undone, as numbers of observations.
fn runs<T: std::fmt::Debug>(cases: u32, law: impl Strategy<Value = T>, test: impl Fn(T) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config).run(&law, test).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_was_merged_and_parted_is_as_if_it_never_was() {
    for (name, policy) in policies() {
        runs(1_500, (observations(), 0usize..14, 0usize..14, any::<bool>()), |(all, from, to, by_c)| {
            let (mut merged, mut never) = (World::new(&policy), World::new(&policy));
            for (number, o) in all.iter().enumerate() {
                if number == from {
                    let _ = merged.merge("B", Some("A"));
                    // Then what B was merged into is merged itself.
                    let _ = by_c && merged.merge("A", Some("C")).is_ok();
                }
                if number == to.max(from) {
                    // In either order.
                    let order = if by_c { ["B", "A"] } else { ["A", "B"] };
                    order.into_iter().for_each(|key| drop(merged.merge(key, None)));
                }
                merged.observe(o, o.key);
                never.observe(o, o.key);
            }
            ["A", "B"].into_iter().for_each(|key| drop(merged.merge(key, None)));
            merged.check();
            for key in ["A", "B", "C"] {
                let told = |world: &World| world.entity(key).map(|entity| told(entity, false));
                prop_assert_eq!(told(&merged), told(&never), "{} of {}", key, name);
                prop_assert!(merged.entity(key).is_none_or(|e| !e.has_members() && e.merged_into.is_empty()));
            }
            Ok(())
        });
    }
}

#[test]
fn what_is_merged_is_as_if_all_was_said_of_one() {
    for (name, policy) in policies() {
        let orders = (0usize..14, any::<u64>(), 0usize..14, any::<bool>());
        runs(3_000, (observations(), orders), |(all, (at, seed, again_at, by_c))| {
            // In any order, and whenever it is merged.
            let mut shuffled = all.clone();
            let mut state = seed;
            for at in (1..shuffled.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                shuffled.swap(at, (state >> 33) as usize % (at + 1));
            }
            let mut one = World::new(&policy);
            all.iter().for_each(|o| one.observe(o, "A"));
            let mut merged = World::new(&policy);
            let join = |merged: &mut World| {
                if by_c {
                    let _ = merged.merge("B", Some("C"));
                    let _ = merged.merge("C", Some("A"));
                } else {
                    let _ = merged.merge("B", Some("A"));
                    let _ = merged.merge("C", Some("A"));
                }
            };
            for (number, o) in shuffled.iter().enumerate() {
                if number == at || number == again_at {
                    join(&mut merged);
                }
                merged.observe(o, o.key);
            }
            join(&mut merged);
            if merged.entity("C").is_some_and(|c| c.merged_into.is_empty()) || merged.entity("A").is_none() {
                return Ok(());
            }
            if merged.entity("B").is_some_and(|b| b.merged_into.is_empty()) {
                return Ok(());
            }
            merged.check();
            let told = |world: &World| told(world.entity("A").unwrap(), true);
            prop_assert_eq!(told(&merged), told(&one), "{}", name);
            Ok(())
        });
    }
}

#[test]
fn only_two_that_are_there_and_are_not_merged_can_be_merged() {
    let mut world = World::new(&Policy::default());
    let said = |key, at| Observation {
        key,
        system: "shop",
        sequence: 0,
        occurred_at_us: at,
        delivery: at as u8,
        fields: [("a", "1")].into(),
    };
    for (at, key) in ["A", "B", "C"].into_iter().enumerate() {
        world.observe(&said(key, at as i64), key);
    }
    let mut refused = |goes: &str, into: Option<&str>| match world.merge(goes, into) {
        Err(Refusal::Merge { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("A", Some("A")), "it can't be merged into itself");
    assert_eq!(refused("X", Some("A")), "there is no such entity");
    assert_eq!(refused("A", Some("X")), "there is no thing/X to merge it into");
    assert_eq!(refused("A", None), "it is not merged");
    world.merge("B", Some("A")).unwrap();
    let mut refused = |goes: &str, into: Option<&str>| match world.merge(goes, into) {
        Err(Refusal::Merge { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("B", Some("C")), "it is merged into thing/A already: undo that first");
    assert_eq!(refused("A", Some("B")), "thing/B is merged into thing/A itself: merge it into that one");
    assert_eq!(refused("C", Some("B")), "thing/B is merged into thing/A itself: merge it into that one");
    world.merge("A", Some("C")).unwrap();
    // What is written to any of them is written to the last one, whose version counts.
    let version = world.entity("C").unwrap().version;
    let fields = vec![Field::new("a", "2")];
    let change = |expected| Change {
        expected_version: Some(expected),
        ..Change::new("thing", "B", 0, 9, fields.clone()).unwrap()
    };
    let answer = world.input("shop", "w1".into(), change(version + 1));
    assert_eq!(answer, Err(Refusal::Version { id: "thing/C".into(), expected: version + 1, current: version }));
    let decision = world.input("shop", "w2".into(), change(version)).unwrap();
    assert_eq!(
        decision.outcome,
        Outcome::Applied { position: world.facts.next - 3, count: 1, version: version + 1, changed: true }
    );
    assert_eq!(world.entity("C").unwrap().value("a").unwrap(), "2");
    world.check();
}

#[test]
fn an_external_id_belongs_to_the_first_that_was_given_it() {
    let id = prop_oneof![Just("@s/id/1"), Just("@s/id/2"), Just("@s/id/3")];
    let named = prop_oneof![3 => Just("A"), 3 => Just("B"), 1 => Just("@s/id/1"), 1 => Just("@s/id/2")];
    let input = (named, proptest::collection::vec(id, 0..3));
    runs(3_000, proptest::collection::vec(input, 1..12), |inputs| {
        let mut world = World::new(&Policy::default());
        let mut holders: BTreeMap<&str, String> = BTreeMap::new();
        for (number, (named, ids)) in inputs.iter().enumerate() {
            let meant = if named.starts_with('@') { holders.get(named).cloned() } else { Some((*named).to_owned()) };
            let fits = meant.as_ref().filter(|key| ids.iter().all(|id| holders.get(id).is_none_or(|h| h == *key)));
            let list = serde_json::to_string(ids).unwrap();
            let fields = vec![Field::new("external_ids", list)];
            let change = Change::new("thing", *named, 0, number as i64, fields).unwrap();
            let answer = world.input("shop", format!("d{number}"), change);
            match fits {
                Some(key) => {
                    prop_assert!(answer.is_ok(), "{:?}", answer);
                    for id in ids {
                        holders.entry(id).or_insert_with(|| key.clone());
                    }
                }
                None => prop_assert!(
                    matches!(answer, Err(Refusal::AliasTaken { .. } | Refusal::AliasUnknown { .. })),
                    "{:?}",
                    answer
                ),
            }
            for id in ["@s/id/1", "@s/id/2", "@s/id/3"] {
                let document = world.facts.entities.get(format!("alias/{}", &id[1..]).as_str());
                let held = document.and_then(|alias| holder(alias)).map(|(_, key)| key);
                prop_assert_eq!(held.as_ref(), holders.get(id));
                prop_assert!(document.is_none_or(|d| d.position == 0 || d.field(ALIAS_OF_KEY).is_some()));
            }
        }
        world.check();
        Ok(())
    });
}
