//! The decision: `decide(facts, input, now)`.
//!
//! Visibly in this order: seen before? is the version the expected one? who wins each field, and why? what
//! is published? The outcome is a list of records; their effect on the facts is made by [`fold`] alone, and
//! shows at once to the next input.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use compact_str::CompactString;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use crate::change::{Change, Field, Input, InputBody, Outcome};
use crate::entity::Entity;
use crate::event::event_type;
use crate::fold::fold;
use crate::merge::{Rule, Standing};
use crate::order::LIFECYCLE_FIELD;
use crate::record::{Body, Fact, FactOutcome, QuarantineClosed, Quarantined, Record, Ruling};
use crate::rules::Rules;
use crate::{Position, delivery_hash};

/// A fixed hasher: no randomness enters the core.
pub type FixedState = BuildHasherDefault<Xxh3>;

/// A delivery seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its first record.
    pub position: Position,
    /// The hash of its payload; unknown where retention has dropped the record.
    pub payload_hash: Option<u64>,
}

/// What the decision knows: loaded for the inputs before the decision begins.
#[derive(Debug)]
pub struct Facts {
    /// The rules in force.
    pub rules: Rules,
    /// The entities that the inputs speak of, by id; one that is missing here does not exist.
    pub entities: HashMap<String, Entity, FixedState>,
    /// The deliveries among the inputs that were seen before, by [`delivery_hash`].
    pub seen: HashMap<u64, Seen, FixedState>,
    /// The position that the next record will have.
    pub next: Position,
}

impl Facts {
    /// Facts of an empty hub.
    pub fn new(rules: Rules) -> Self {
        Self { rules, entities: HashMap::default(), seen: HashMap::default(), next: 1 }
    }
}

/// What was decided of one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The records to be written, in order; none for a repetition.
    pub records: Vec<Record>,
    /// The answer, valid once the records are durable.
    pub outcome: Outcome,
}

/// Why an input is refused. Nothing is recorded of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The same key with another payload.
    #[error("the key `{key}` was used before with another payload (record {of})")]
    KeyReused {
        /// The key or delivery id.
        key: String,
        /// The record of its first use.
        of: Position,
    },
    /// The entity has another version than the writer believes.
    #[error("{id} has version {current}, not {expected}")]
    Version {
        /// The entity.
        id: String,
        /// What the writer expected.
        expected: u64,
        /// What it is; 0 where it does not exist.
        current: u64,
    },
}

/// The hash under which a request's `Idempotency-Key` is remembered, apart from delivery ids.
pub fn request_key_hash(source: &str, key: &str) -> u64 {
    delivery_hash(&format!("{source}\u{1}request"), key)
}

/// Decides one input.
pub fn decide(facts: &mut Facts, mut input: Input, now_us: i64) -> Result<Decision, Refusal> {
    let hash = delivery_hash(&input.source, &input.delivery);
    if let Some((key, payload_hash)) = &input.request_key
        && let Some(seen) = facts.seen.get(&request_key_hash(&input.source, key))
        && seen.payload_hash.is_some_and(|hash| hash != *payload_hash)
    {
        return Err(Refusal::KeyReused { key: key.clone(), of: seen.position });
    }
    if let Some(seen) = facts.seen.get(&hash)
        && input.releases != Some(seen.position)
    {
        if input.reject_reuse && seen.payload_hash.is_some_and(|hash| hash != input.payload_hash) {
            return Err(Refusal::KeyReused { key: input.delivery.clone(), of: seen.position });
        }
        return Ok(Decision { records: Vec::new(), outcome: Outcome::Duplicate { of: seen.position } });
    }
    // Taken out, so that the fields move into the record instead of being copied.
    let body = std::mem::replace(&mut input.body, InputBody::Changes(Vec::new()));
    if matches!(&body, InputBody::Changes(changes) if changes.is_empty()) {
        if let Some(position) = input.releases {
            let closed = QuarantineClosed { source: input.source, position };
            let outcome = Outcome::Superseded { position: facts.next, count: 1 };
            facts.next += 1;
            return Ok(Decision { records: vec![Record::new(now_us, Body::QuarantineClosed(closed))], outcome });
        }
        // Understood, and it proposes nothing: there is nothing to record, not even that it was seen.
        return Ok(Decision { records: Vec::new(), outcome: Outcome::Superseded { position: 0, count: 0 } });
    }
    let decision = match body {
        InputBody::Changes(changes) => decide_changes(facts, &mut input, changes, now_us)?,
        InputBody::Quarantine(reason) => {
            let position = facts.next;
            facts.next += 1;
            let body = Body::Quarantined(Quarantined {
                source: input.source.clone(),
                system: input.system.clone(),
                delivery: input.delivery.clone(),
                payload_hash: input.payload_hash,
                reason: Some(reason),
                raw: input.raw.take(),
                received_at_us: input.received_at_us,
                trace: input.trace.clone().unwrap_or_default(),
            });
            Decision { records: vec![Record::new(now_us, body)], outcome: Outcome::Quarantined { position } }
        }
    };
    let position = facts.next - decision.records.len() as Position;
    facts.seen.entry(hash).or_insert(Seen { position, payload_hash: Some(input.payload_hash) });
    if let Some((key, payload_hash)) = &input.request_key {
        let seen = Seen { position, payload_hash: Some(*payload_hash) };
        facts.seen.entry(request_key_hash(&input.source, key)).or_insert(seen);
    }
    Ok(decision)
}

fn decide_changes(
    facts: &mut Facts,
    input: &mut Input,
    changes: Vec<Change>,
    now_us: i64,
) -> Result<Decision, Refusal> {
    // Every expectation is checked before the first record: an input is recorded whole or not at all.
    for change in &changes {
        if let Some(expected) = change.expected_version {
            let id = change.id();
            let current = facts.entities.get(&id).map_or(0, |e| e.version);
            if current != expected {
                return Err(Refusal::Version { id, expected, current });
            }
        }
    }
    let first = facts.next;
    let count = changes.len() as u32;
    let (mut applied, mut changed, mut version) = (false, false, 0);
    let mut records = Vec::with_capacity(changes.len());
    for (index, change) in changes.into_iter().enumerate() {
        let position = facts.next;
        facts.next += 1;
        let entity = facts.entities.entry(change.id()).or_default();
        let mut fact = decide_change(&facts.rules, entity, input, change);
        fact.index = index as u32;
        fact.of = count;
        if index == 0 {
            version = fact.version;
            fact.raw = input.raw.take();
            if let Some((key, payload_hash)) = &input.request_key {
                fact.request_key.clone_from(key);
                fact.request_hash = *payload_hash;
            }
        }
        fold(entity, position, now_us, &fact);
        applied |= fact.outcome == FactOutcome::Applied as i32;
        changed |= !fact.event_type.is_empty();
        records.push(Record::new(now_us, Body::Fact(Box::new(fact))));
    }
    let outcome = if applied {
        Outcome::Applied { position: first, count, version, changed }
    } else {
        Outcome::Superseded { position: first, count }
    };
    Ok(Decision { records, outcome })
}

/// One field's verdict, grouped into rulings afterwards.
#[derive(PartialEq, Eq)]
struct Verdict<'a> {
    winner: &'a str,
    rule: Rule,
    stale: bool,
}

fn decide_change(rules: &Rules, entity: &Entity, input: &Input, change: Change) -> Fact {
    let tie = delivery_hash(&input.source, &input.delivery);
    let own = entity.system_number(&input.system);
    let domain = rules.domain(&change.kind);
    let mut verdicts: Vec<Verdict<'_>> = Vec::with_capacity(change.fields.len());
    let mut changed = Vec::new();
    let mut rest: Vec<Field> = Vec::new();
    let mut known = entity.fields.iter().peekable();
    for (at, field) in change.fields.iter().enumerate() {
        // Both lists are sorted: fields that the change does not speak of are the rest of the document.
        while let Some(other) = known.next_if(|state| state.name.as_str() < field.name.as_str()) {
            rest.extend(other.value().map(|json| Field::new(other.name.as_str(), json.clone())));
        }
        let state = known.next_if(|state| state.name.as_str() == field.name);
        let policy = domain.map_or_else(|| rules.policy(&change.kind, &field.name), |d| d.policy(&field.name));
        let priority = |system: &str| rules.priority(system);
        let claim = Standing {
            system: &input.system,
            priority: priority(&input.system),
            sequence: change.sequence,
            occurred_at_us: change.occurred_at_us,
            tie,
            json: &field.json,
        };
        let before = state.and_then(|s| s.winning());
        let old = state.and_then(|s| s.claims.iter().find(|c| Some(c.system) == own));
        if let (Some(old), Some(before)) = (old, before)
            && !policy.ranking().replaces(&claim, &Standing::of(&input.system, claim.priority, old))
        {
            let winner = entity.systems.get(before.system as usize).map_or("", CompactString::as_str);
            let rule = state.and_then(|s| Rule::try_from(s.rule).ok()).unwrap_or(Rule::Unspecified);
            rest.push(Field::new(field.name.clone(), before.json.clone()));
            verdicts.push(Verdict { winner, rule, stale: true });
            continue;
        }
        let others = || state.into_iter().flat_map(|s| &s.claims).filter(|c| Some(c.system) != own);
        if others().next().is_none() {
            // The usual case: no other system speaks of this field.
            if before.is_none_or(|b| b.json != field.json) {
                changed.push(at as u32);
            }
            verdicts.push(Verdict { winner: "", rule: policy.alone(&input.system), stale: false });
            continue;
        }
        let mut claims = vec![claim];
        let mut jsons = vec![&field.json];
        for other in others() {
            if let Some(system) = entity.systems.get(other.system as usize) {
                claims.push(Standing::of(system, priority(system), other));
                jsons.push(&other.json);
            }
        }
        let (winner, rule) = policy.decide(&claims);
        let value = jsons[winner];
        if before.is_none_or(|b| b.json != *value) {
            changed.push(at as u32);
        }
        if winner != 0 {
            rest.push(Field::new(field.name.clone(), value.clone()));
        }
        let winner = if winner == 0 { "" } else { claims[winner].system };
        // The name borrowed from `claims` lives as long as the entity or is empty.
        let winner = entity.systems.iter().find(|s| *s == winner).map_or("", CompactString::as_str);
        verdicts.push(Verdict { winner, rule, stale: false });
    }
    rest.extend(known.filter_map(|s| Some(Field::new(s.name.as_str(), s.value()?.clone()))));

    let won = verdicts.iter().any(|v| !v.stale && v.winner.is_empty());
    let first = entity.position == 0;
    let document_changed = !changed.is_empty();
    let event_type = if document_changed { type_of(entity, &change, &changed, &rest, first) } else { String::new() };
    Fact {
        source: input.source.clone(),
        system: input.system.clone(),
        delivery: input.delivery.clone(),
        payload_hash: input.payload_hash,
        index: 0,
        of: 0,
        sequence: change.sequence,
        occurred_at_us: change.occurred_at_us,
        outcome: if won { FactOutcome::Applied } else { FactOutcome::Superseded } as i32,
        version: entity.version + u64::from(document_changed),
        previous: entity.position,
        event_type,
        changed,
        rest,
        rulings: group(&verdicts),
        kind: change.kind,
        key: change.key,
        fields: change.fields,
        trace: input.trace.clone().unwrap_or_default(),
        raw: None,
        request_key: String::new(),
        request_hash: 0,
        releases: input.releases.unwrap_or(0),
        received_at_us: input.received_at_us,
    }
}

fn type_of(entity: &Entity, change: &Change, changed: &[u32], rest: &[Field], first: bool) -> String {
    let telling = match change.kind.as_str() {
        "order" => LIFECYCLE_FIELD,
        "payment" => "kind",
        _ => return event_type(&change.kind, first, None, None),
    };
    let was = entity.value(telling).map(|json| json.as_ref());
    // What stands in the rest is the winning value, also where the change itself speaks of the field.
    let own = || changed.iter().map(|at| &change.fields[*at as usize]).find(|f| f.name == telling);
    let now = rest.iter().find(|f| f.name == telling).or_else(own);
    let is = now.map_or(was, |f| Some(f.json.as_ref()));
    event_type(&change.kind, first, was, is)
}

fn group(verdicts: &[Verdict<'_>]) -> Vec<Ruling> {
    let ruling =
        |v: &Verdict<'_>, fields| Ruling { fields, winner: v.winner.to_owned(), rule: v.rule as i32, stale: v.stale };
    let Some(first) = verdicts.first() else { return Vec::new() };
    if verdicts.iter().all(|v| v == first) {
        return vec![ruling(first, Vec::new())];
    }
    let mut groups: Vec<(&Verdict<'_>, Vec<u32>)> = Vec::new();
    for (at, verdict) in verdicts.iter().enumerate() {
        match groups.iter_mut().find(|(v, _)| *v == verdict) {
            Some((_, fields)) => fields.push(at as u32),
            None => groups.push((verdict, vec![at as u32])),
        }
    }
    groups.into_iter().map(|(v, fields)| ruling(v, fields)).collect()
}
