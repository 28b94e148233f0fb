//! The decision: `decide(facts, input, now)`.
//!
//! Visibly in this order: seen before? is the version the expected one? who wins each field, and why? what
//! is published? The outcome is a list of records; their effect on the facts is made by [`fold`] alone, and
//! shows at once to the next input.

mod change;
mod conflict;
mod implied;
mod order;
pub mod timer;

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use change::{Place, decide_change};
pub use conflict::{CONFLICT_KIND, HUB, STATUS_FIELD, conflict_key, former_conflict_key, is_conflict_about};

use crate::change::{Change, Input, InputBody, Outcome, QuarantineReason};
use crate::entity::{DELETED_FIELD, Entity, FieldState};
use crate::fold::fold;
use crate::merge::{OPERATOR, Rule};
use crate::path::base_of;
use crate::record::{Body, Fact, FactOutcome, QuarantineClosed, Quarantined, Record};
use crate::rules::{Rules, SentTo};
use crate::{Position, delivery_hash, entity_id};

/// The kind of a person's decisions that a system is always preferred for a field: `preference/<kind>:<field>`.
pub const PREFERENCE_KIND: &str = "preference";

/// The kinds of what the hub itself keeps of its work: of use to who asks for it, not to a copy of the business.
pub const OWN_KINDS: [&str; 2] = [CONFLICT_KIND, PREFERENCE_KIND];

/// A fixed hasher: no randomness enters the core.
pub type FixedState = BuildHasherDefault<Xxh3>;

/// Entities by their id.
pub type Entities = HashMap<String, Entity, FixedState>;

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
    pub entities: Entities,
    /// The deliveries among the inputs that were seen before, by [`delivery_hash`].
    pub seen: HashMap<u64, Seen, FixedState>,
    /// The quarantined records that the inputs release, as far as they are still in quarantine.
    pub held: BTreeSet<Position>,
    /// How far events were sent to the systems that may echo them.
    pub sent: SentTo,
    /// The position that the next record will have.
    pub next: Position,
}

impl Facts {
    /// Facts of an empty hub.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            entities: HashMap::default(),
            seen: HashMap::default(),
            held: BTreeSet::new(),
            sent: SentTo::new(),
            next: 1,
        }
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
    /// What the order has come to does not allow the change.
    #[error("{id} can't be changed so: {reason}")]
    OrderState {
        /// The order.
        id: String,
        /// Why not, in words.
        reason: String,
    },
    /// The quarantined delivery was released meanwhile.
    #[error("the delivery of record {position} is no longer in quarantine")]
    Released {
        /// The quarantined record.
        position: Position,
    },
    /// The change occurred further ahead of the hub's clock than is allowed.
    #[error("{}", ahead(.id, *.ahead_s, *.limit_s))]
    ClockAhead {
        /// The entity.
        id: String,
        /// How far ahead, in seconds.
        ahead_s: i64,
        /// How far is allowed, in seconds.
        limit_s: i64,
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
    // Two operators may have looked at it at once: the first releases it.
    if let Some(position) = input.releases.filter(|position| !facts.held.contains(position)) {
        return Err(Refusal::Released { position });
    }
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
            facts.held.remove(&position);
            let closed = QuarantineClosed { source: input.source, position };
            let outcome = Outcome::Superseded { position: facts.next, count: 1 };
            facts.next += 1;
            return Ok(Decision { records: vec![Record::new(now_us, Body::QuarantineClosed(closed))], outcome });
        }
        // Understood, and it proposes nothing: there is nothing to record, not even that it was seen.
        return Ok(Decision { records: Vec::new(), outcome: Outcome::Superseded { position: 0, count: 0 } });
    }
    let body = match body {
        InputBody::Changes(changes) => match (ahead_of_time(&facts.rules, &input, &changes), input.releases) {
            // A client can mend its clock and ask again; nothing is kept of what it had not got right.
            (Some((_, refusal)), None) if input.reject_reuse => return Err(refusal),
            // It is there already, and stays.
            (Some(_), Some(position)) => {
                return Ok(Decision { records: Vec::new(), outcome: Outcome::Quarantined { position } });
            }
            (Some((at, ahead)), None) => InputBody::Quarantine(QuarantineReason {
                code: "clock-skew".into(),
                detail: ahead.to_string(),
                at: format!("/{at}/occurred_at"),
            }),
            (None, _) => InputBody::Changes(changes),
        },
        quarantine => quarantine,
    };
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
    if let Some(position) = &input.releases {
        facts.held.remove(position);
    }
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
    // A person who decides a conflict corrects what is told of an order; that is no edit.
    if input.reject_reuse && input.system != OPERATOR {
        check_orders(facts, input, &changes)?;
    }
    let first = facts.next;
    let count = changes.len() as u32;
    let (mut applied, mut changed, mut version) = (false, false, 0);
    let mut records: Vec<Fact> = Vec::with_capacity(changes.len());
    let system = input.system.clone();
    for change in changes {
        let (mut fact, contests) = decide_one(facts, input, &system, change, records.len() as u32, now_us);
        if records.is_empty() {
            version = fact.version;
            fact.raw = input.raw.take();
            if let Some((key, payload_hash)) = &input.request_key {
                fact.request_key.clone_from(key);
                fact.request_hash = *payload_hash;
            }
        }
        applied |= fact.outcome == FactOutcome::Applied as i32;
        changed |= !fact.event_type.is_empty();
        let id = entity_id(&fact.kind, &fact.key);
        records.push(fact);
        let taken_back = facts.entities.get(&id).and_then(|entity| timer::taken_back(entity, facts.next));
        if let Some(change) = taken_back {
            records.push(decide_one(facts, input, HUB, change, records.len() as u32, now_us).0);
        }
        let Some(last) = records.last() else { continue };
        let consequences = consequences(facts, last, now_us);
        for change in consequences {
            records.push(decide_one(facts, input, HUB, change, records.len() as u32, now_us).0);
        }
        for contest in contests {
            let Some(entity) = facts.entities.get(&id) else { continue };
            let change = contest.change(entity, &facts.entities, facts.next, now_us);
            records.push(decide_one(facts, input, HUB, change, records.len() as u32, now_us).0);
        }
    }
    let outcome = if applied {
        Outcome::Applied { position: first, count, version, changed }
    } else {
        Outcome::Superseded { position: first, count }
    };
    let of = records.len() as u32;
    let counted = |fact| Record::new(now_us, Body::Fact(Box::new(Fact { of, ..fact })));
    Ok(Decision { records: records.into_iter().map(counted).collect(), outcome })
}

/// An API client is told at once that an order can't be changed so any more; of other systems it is recorded.
fn check_orders(facts: &Facts, input: &Input, changes: &[Change]) -> Result<(), Refusal> {
    for change in changes.iter().filter(|change| change.kind == "order") {
        let id = change.id();
        // Nearly every order is still open to everything: only for the others it is worth a second look.
        let Some(entity) = facts.entities.get(&id).filter(|entity| order::is_settled(entity)) else { continue };
        let place = Place { input, system: &input.system, index: 0, position: facts.next };
        let (fact, _) = decide_change(&facts.rules, None, entity, change.clone(), &place);
        if let Some(reason) = order::refused(entity, &fact) {
            return Err(Refusal::OrderState { id, reason });
        }
    }
    Ok(())
}

/// What the hub has to say of an order after a fact about it or about one of its items.
fn consequences(facts: &Facts, fact: &Fact, now_us: i64) -> Vec<Change> {
    let Some(entity) = facts.entities.get(&entity_id(&fact.kind, &fact.key)) else { return Vec::new() };
    let Some(id) = order::order_of_entity(entity) else {
        let concerned = order::concerns(entity, fact);
        let derived = if concerned { order::derive(entity) } else { Vec::new() };
        return order::changes(entity, derived, facts.next);
    };
    let (kind, key) = id.split_once('/').unwrap_or_default();
    let known = facts.entities.get(&id).cloned();
    let mut order = known.unwrap_or_else(|| Entity { kind: kind.into(), key: key.into(), ..Entity::default() });
    let at_us = |field| (fact.occurred_at_us, field);
    let fields = order::item(entity, &order).into_iter().map(at_us).collect();
    let mut changes = order::changes(&order, fields, facts.next);
    // What follows from the item is worked out with it in place.
    if let [change] = changes.as_slice() {
        let place = Place { input: &Input::of_the_hub(fact), system: HUB, index: u32::MAX, position: facts.next };
        let (item, _) = decide_change(&facts.rules, None, &order, change.clone(), &place);
        fold(&mut order, facts.next, now_us, &item);
        let derived = order::derive(&order);
        changes.extend(order::changes(&order, derived, facts.next + 1));
    }
    changes
}

/// Decides one change, and folds it, so that it shows at once to the next.
fn decide_one(
    facts: &mut Facts,
    input: &Input,
    system: &str,
    change: Change,
    index: u32,
    now_us: i64,
) -> (Fact, Vec<conflict::Contest>) {
    let position = facts.next;
    facts.next += 1;
    let sent_to = facts.rules.may_echo(&change.kind, system).then(|| facts.sent.get(system).copied()).flatten();
    let entity = facts.entities.entry(change.id()).or_default();
    let place = Place { input, system, index, position };
    let (fact, contests) = decide_change(&facts.rules, sent_to, entity, change, &place);
    fold(entity, position, now_us, &fact);
    if fact.kind == PREFERENCE_KIND {
        prefer(&mut facts.rules, entity);
    }
    (fact, contests)
}

/// Has a preference in force, as its document says it.
pub fn prefer(rules: &mut Rules, preference: &Entity) {
    let Some((kind, field)) = preference.key.split_once(':') else { return };
    let system = preference.value("system").and_then(|json| serde_json::from_slice::<Option<String>>(json).ok());
    rules.prefer_always(kind, field, system.flatten().as_deref());
}

/// The ids of the documents that deciding a change may touch, beside the entity itself, which is as it was loaded.
pub fn also_touched(rules: &Rules, entity: Option<&Entity>, change: &Change) -> Vec<String> {
    let domain = rules.domain(&change.kind).filter(|_| rules.may_contest(&change.kind));
    let orders =
        order::order_of(&change.kind, &change.fields).into_iter().chain(entity.and_then(order::order_of_entity));
    // Also where the configuration has another policy by now: what is open ends then.
    let is_open = |field: &FieldState| field.rule == Rule::Contested as i32;
    if domain.is_none() && !entity.is_some_and(|e| e.fields.iter().any(is_open)) {
        return orders.collect();
    }
    let given = change.fields.iter().map(|field| field.name.as_str());
    // What a change implies of fields that it does not name, see `imply`.
    let of_all = change.fields.iter().any(|f| f.name == DELETED_FIELD || base_of(&f.name).len() != f.name.len());
    let implied = entity.into_iter().flat_map(|e| &e.fields).map(|field| field.name.as_str());
    let implied = implied.filter(|name| of_all || *name == DELETED_FIELD);
    let contested = given.chain(implied).filter(|name| {
        domain.is_some_and(|d| d.policy(name).may_contest()) || entity.and_then(|e| e.field(name)).is_some_and(is_open)
    });
    let conflict = |field: &str| {
        let former = former_conflict_key(&change.kind, &change.key, field);
        former.into_iter().chain([conflict_key(&change.kind, &change.key, field)])
    };
    contested.flat_map(conflict).map(|key| entity_id(CONFLICT_KIND, &key)).chain(orders).collect()
}

/// The first change whose source's clock is too far ahead to be believed: its number, and why not.
fn ahead_of_time(rules: &Rules, input: &Input, changes: &[Change]) -> Option<(usize, Refusal)> {
    let limit_us = rules.skew_max_us.filter(|_| input.system != HUB)?;
    let ahead_us = |change: &Change| change.occurred_at_us.saturating_sub(input.received_at_us);
    let (at, change) = changes.iter().enumerate().find(|(_, change)| ahead_us(change) > limit_us)?;
    let (ahead_s, limit_s) = (ahead_us(change) / 1_000_000, limit_us / 1_000_000);
    Some((at, Refusal::ClockAhead { id: change.id(), ahead_s, limit_s }))
}

fn ahead(id: &str, ahead_s: i64, limit_s: i64) -> String {
    format!(
        "{id} occurred {ahead_s} s after it was received, more than the {limit_s} s allowed: it would win over everything \
         until then"
    )
}
