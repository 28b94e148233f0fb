//! The laws of merging, for every policy of the list: any permutation and any duplication of the same observations,
//! however they are cut into batches, ends in the same document, the same winners, the same stamps and the same
//! reasons.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{BusinessState, HighestVersion, Latest, Max, Min, OPERATOR, Owner, Policy, Review, Rule, Union};
use crate::entity::{DELETED_FIELD, RECENT_MAX};
use crate::path::{Part, split};
use crate::{Change, Domain, Entity, Facts, Field, Input, InputBody, Rules, decide, order};

/// Every policy that a configuration can name. A new one is added here and all laws hold for it or fail.
fn policies() -> Vec<(&'static str, Policy)> {
    vec![
        ("latest", Policy::Latest(Latest::default())),
        ("latest, ties to review", Policy::Latest(Latest { ties_to_review: true })),
        ("owner", Policy::Owner(Owner { systems: vec!["erp".into(), "pim".into()] })),
        ("highest-version", Policy::HighestVersion(HighestVersion)),
        ("business-state", Policy::BusinessState(order::lifecycle_states())),
        ("business-state without states", Policy::BusinessState(BusinessState::default())),
        ("max", Policy::Max(Max)),
        ("min", Policy::Min(Min)),
        ("union", Policy::Union(Union)),
        ("review", Policy::Review(Review::default())),
        ("review, preferring", Policy::Review(Review { prefer: Some("shop".into()) })),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Observation {
    system: &'static str,
    sequence: u64,
    occurred_at_us: i64,
    delivery: u8,
    fields: BTreeMap<&'static str, &'static str>,
}

/// A field with a value that it may have: a plain one, a list merged by its key, an object merged by its members.
fn field() -> impl Strategy<Value = (&'static str, &'static str)> {
    let names = prop_oneof![Just("a"), Just("b"), Just("lifecycle")];
    let values = prop_oneof![
        Just("null"),
        Just("1"),
        Just("2"),
        Just("[1,2]"),
        Just("[2,3]"),
        Just("\"confirmed\""),
        Just("\"cancelled\""),
        Just("\"shipped\""),
        Just("\"no such state\""),
    ];
    let lists = prop_oneof![
        Just("null"),
        Just("[]"),
        Just(r#"[{"id":"1","n":1}]"#),
        Just(r#"[{"id":"1","n":2},{"id":"2","n":1}]"#),
        Just(r#"[{"id":"2","n":1},{"id":"1","n":1}]"#),
        Just(r#"[{"id":"3","n":1}]"#),
    ];
    let objects = prop_oneof![
        Just("null"),
        Just(r#"{"email":"x"}"#),
        Just(r#"{"email":"y","name":"z"}"#),
        Just(r#"{"email":null}"#)
    ];
    prop_oneof![
        6 => (names, values),
        3 => lists.prop_map(|list| ("lines", list)),
        3 => objects.prop_map(|object| ("customer", object)),
    ]
}

fn observation() -> impl Strategy<Value = Observation> {
    let system = prop_oneof![
        4 => Just("erp"), 4 => Just("pim"), 4 => Just("shop"), 4 => Just("wms"), 1 => Just(OPERATOR)
    ];
    let fields = prop_oneof![
        7 => proptest::collection::vec(field(), 1..5).prop_map(|pairs| pairs.into_iter().collect()),
        1 => Just(BTreeMap::from([(DELETED_FIELD, "true")])),
    ];
    // Few different stamps, so that ties are frequent.
    (system, 0u64..3, 0i64..5, 0u8..6, fields).prop_map(|(system, sequence, occurred_at_us, delivery, fields)| {
        Observation { system, sequence, occurred_at_us, delivery, fields }
    })
}

/// Sets within what an entity remembers of a system: beyond it, old stamps are known only roughly.
fn observations() -> impl Strategy<Value = Vec<Observation>> {
    proptest::collection::vec(observation(), 1..14).prop_filter("more than is remembered", |all| {
        let of = |system: &str| all.iter().filter(|o| o.system == system).collect::<BTreeSet<_>>().len();
        all.iter().all(|o| of(o.system) <= RECENT_MAX)
    })
}

/// A claim as explanations tell it: the system, the value, its stamp.
type Told = (String, String, (u64, i64, u64));

/// All that is told of an entity: its document, and field by field the winner, the rule and every claim.
#[derive(Debug, PartialEq)]
struct Story {
    document: String,
    deleted: bool,
    fields: BTreeMap<String, (Option<String>, Rule, BTreeSet<Told>)>,
}

fn told(entity: &Entity) -> Story {
    let field = |field: &crate::entity::FieldState| {
        let claim = |c: &crate::entity::Claim| {
            let start = entity.stamps[c.start];
            let stamp = (start.sequence, start.occurred_at_us, start.tie);
            (entity.system(c.system).to_owned(), String::from_utf8_lossy(&c.json).into_owned(), stamp)
        };
        let claims: BTreeSet<Told> = field.claims.iter().filter(|c| !c.json.is_empty()).map(claim).collect();
        let winner = field.winning().map(|c| entity.system(c.system).to_owned());
        (field.name.to_string(), (winner, Rule::try_from(field.rule).unwrap(), claims))
    };
    Story {
        document: String::from_utf8_lossy(&entity.document_json()).into_owned(),
        deleted: entity.is_deleted(),
        // Of a field that nobody has said anything of, nothing is told.
        fields: entity.fields.iter().map(field).filter(|(_, (_, _, claims))| !claims.is_empty()).collect(),
    }
}

fn rules(policy: &Policy) -> Rules {
    let mut rules = Rules::new();
    let lines = ("lines".into(), Part::Items { key: "id".into() });
    let parts = [lines, ("customer".into(), Part::Members)].into();
    rules.declare(Domain { kind: "thing".into(), policy: policy.clone(), parts, ..Domain::default() });
    rules.prefer("pim", 7);
    rules.prefer("wms", 7);
    rules
}

fn input(rules: &Rules, o: &Observation, number: usize) -> Input {
    let fields: Vec<Field> = o.fields.iter().map(|(name, json)| Field::new(*name, *json)).collect();
    let deletes = o.fields.contains_key(DELETED_FIELD);
    let fields = if deletes { fields } else { split(fields, rules.parts("thing")).unwrap() };
    let change = Change::new("thing", "1", o.sequence, o.occurred_at_us, fields).unwrap();
    Input {
        source: o.system.into(),
        system: o.system.into(),
        // Twins of the same moment differ by content, as deliveries of a real system do.
        delivery: format!("{}-{:?}", o.delivery, o.fields),
        payload_hash: 0,
        reject_reuse: false,
        request_key: None,
        received_at_us: number as i64,
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![change]),
        releases: None,
    }
}

/// What is told in the end. Between batches an entity is written and read; `cuts` says after which inputs.
fn end_of(policy: &Policy, observations: &[Observation], cuts: u64) -> Story {
    let mut facts = Facts::new(rules(policy));
    for (number, o) in observations.iter().enumerate() {
        let input = input(&facts.rules, o, number);
        // A delivery id decides nothing here: it is forgotten so that merging alone must bear repetitions.
        facts.seen.clear();
        decide(&mut facts, input, number as i64).unwrap();
        if cuts >> (number % 64) & 1 == 1 {
            facts
                .entities
                .values_mut()
                .for_each(|entity| *entity = std::sync::Arc::new(Entity::decode(entity.encode()).unwrap()));
        }
    }
    told(&facts.entities["thing/1"])
}

fn shuffled(observations: &[Observation], repeated: &[usize], seed: u64) -> Vec<Observation> {
    let mut shuffled = observations.to_vec();
    shuffled.extend(repeated.iter().filter_map(|at| observations.get(*at).cloned()));
    // Fisher-Yates with a small generator (Knuth's MMIX constants).
    let mut state = seed;
    for at in (1..shuffled.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        shuffled.swap(at, (state >> 33) as usize % (at + 1));
    }
    shuffled
}

fn the_law_holds_for(number: usize) {
    let (name, policy) = policies().swap_remove(number);
    let repeated = proptest::collection::vec(0usize..14, 0..8);
    let law = (observations(), repeated, any::<u64>(), any::<u64>());
    let config = ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&law, |(observations, repeated, seed, cuts)| {
            let other = shuffled(&observations, &repeated, seed);
            prop_assert_eq!(end_of(&policy, &observations, 0), end_of(&policy, &other, cuts), "{}", name);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{name}: {error}"));
}

macro_rules! laws {
    ($($test:ident = $number:literal),* $(,)?) => {
        $(#[test] fn $test() { the_law_holds_for($number); })*

        #[test]
        fn no_policy_is_left_out() {
            assert_eq!(policies().len(), [$($number),*].len());
        }
    };
}

laws! {
    latest = 0,
    latest_with_ties_to_review = 1,
    owner = 2,
    highest_version = 3,
    business_state = 4,
    business_state_without_states = 5,
    max = 6,
    min = 7,
    union = 8,
    review = 9,
    review_with_a_preference = 10,
}
