//! The laws of merging, for every policy of the list: any permutation and any duplication of the same
//! observations ends in the same document, the same winners and the same reasons.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{BusinessState, Latest, Owner, Policy};
use crate::{Change, Domain, Facts, Field, Input, InputBody, Rules, decide, order};

/// Every policy that a configuration can name. A new one is added here and all laws hold for it or fail.
fn policies() -> Vec<Policy> {
    vec![
        Policy::Latest(Latest),
        Policy::Owner(Owner { systems: vec!["erp".into(), "pim".into()] }),
        Policy::BusinessState(order::lifecycle_states()),
        Policy::BusinessState(BusinessState::default()),
    ]
}

#[derive(Clone, Debug)]
struct Observation {
    system: &'static str,
    sequence: u64,
    occurred_at_us: i64,
    delivery: u8,
    fields: BTreeMap<&'static str, &'static str>,
}

fn observation() -> impl Strategy<Value = Observation> {
    let system = prop_oneof![Just("erp"), Just("pim"), Just("shop"), Just("wms")];
    let name = prop_oneof![Just("a"), Just("b"), Just("lifecycle"), Just("z")];
    let value = prop_oneof![
        Just("null"),
        Just("1"),
        Just("2"),
        Just("\"confirmed\""),
        Just("\"cancelled\""),
        Just("\"shipped\""),
        Just("\"no such state\""),
    ];
    let fields = proptest::collection::btree_map(name, value, 1..4);
    // Few different stamps, so that ties are frequent.
    (system, 0u64..3, 0i64..4, 0u8..6, fields).prop_map(|(system, sequence, occurred_at_us, delivery, fields)| {
        Observation { system, sequence, occurred_at_us, delivery, fields }
    })
}

type State = (BTreeMap<String, (String, String, i32)>, usize);

/// Field by field: the value, the winning system and the rule.
fn end_of(policy: &Policy, observations: &[Observation]) -> State {
    let mut rules = Rules::new();
    rules.declare(Domain { kind: "thing".into(), policy: policy.clone(), fields: BTreeMap::new() });
    rules.prefer("pim", 7);
    rules.prefer("wms", 7);
    let mut facts = Facts::new(rules);
    for (number, o) in observations.iter().enumerate() {
        let fields = o.fields.iter().map(|(name, json)| Field::new(*name, *json)).collect();
        let change = Change::new("thing", "1", o.sequence, o.occurred_at_us, fields).unwrap();
        let input = Input {
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
        };
        // A delivery id decides nothing here: it is forgotten so that merging alone must bear repetitions.
        facts.seen.clear();
        decide(&mut facts, input, number as i64).unwrap();
    }
    let entity = &facts.entities["thing/1"];
    let fields = entity.fields.iter().map(|field| {
        let claim = field.winning().unwrap();
        let value = String::from_utf8(claim.json.to_vec()).unwrap();
        (field.name.to_string(), (value, entity.systems[claim.system as usize].to_string(), field.rule))
    });
    (fields.collect(), entity.fields.iter().map(|f| f.claims.len()).sum())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_order_of_arrival_and_repetitions_do_not_matter(
        observations in proptest::collection::vec(observation(), 1..12),
        seed: u64,
        repeated in proptest::collection::vec(0usize..12, 0..8),
    ) {
        let mut shuffled = observations.clone();
        shuffled.extend(repeated.iter().filter_map(|at| observations.get(*at).cloned()));
        // Fisher-Yates with a small generator (Knuth's MMIX constants).
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        for policy in policies() {
            prop_assert_eq!(end_of(&policy, &observations), end_of(&policy, &shuffled), "policy {}", policy.name());
        }
    }
}
