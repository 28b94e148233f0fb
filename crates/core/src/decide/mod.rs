//! The decision: `decide(facts, input, now)`.
//!
//! Visibly in this order: seen before? is the version the expected one? who wins each field, and why? what
//! is published? The outcome is a list of records; their effect on the facts is made by [`fold`] alone, and
//! shows at once to the next input.

mod change;
mod conflict;
mod identity;
mod implied;
mod members;
mod order;

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use compact_str::CompactString;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use change::{Place, decide_change};
pub use conflict::{CONFLICT_KIND, HUB, STATUS_FIELD, conflict_key};
pub use identity::{ALIAS_OF_KEY, ALIAS_OF_KIND, aliases, has_aliases, holder, known_as};
pub use members::{INTO_FIELD, MERGE_KIND, chain, conflicts_of_merge, may_merge, merged_by};

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
    /// How far events were sent to the systems that may echo them.
    pub sent: SentTo,
    /// The position that the next record will have.
    pub next: Position,
    /// The entities that the last decided input has made incomplete, or complete: for the lists kept of them.
    pub gates: Vec<Gate>,
}

/// An entity that became incomplete, or is so no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its kind.
    pub kind: CompactString,
    /// Its key.
    pub key: CompactString,
    /// Whether it is incomplete from now on.
    pub incomplete: bool,
}

impl Gate {
    /// What folding a record has made of an entity that was incomplete before it, or was not.
    pub fn of(was_incomplete: bool, entity: &Entity) -> Option<Self> {
        let gate = || Self { kind: entity.kind.clone(), key: entity.key.clone(), incomplete: entity.incomplete };
        (was_incomplete != entity.incomplete).then(gate)
    }
}

impl Facts {
    /// Facts of an empty hub.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            entities: HashMap::default(),
            seen: HashMap::default(),
            sent: SentTo::new(),
            next: 1,
            gates: Vec::new(),
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
    /// The entity is named by an external id that belongs to none.
    #[error("no {kind} has the external id `{alias}`")]
    AliasUnknown {
        /// The external id.
        alias: String,
        /// The kind of the entity that was meant.
        kind: String,
    },
    /// An external id belongs to another entity.
    #[error("`{alias}` is an external id of {known}, so it can't be one of {claimed}: are they one?")]
    AliasTaken {
        /// The external id.
        alias: String,
        /// The entity that it belongs to.
        known: String,
        /// The entity that it was given to, or by which it was named.
        claimed: String,
    },
    /// External ids are not well-formed.
    #[error("{id}: {detail}")]
    AliasInvalid {
        /// The entity.
        id: String,
        /// What would be right.
        detail: String,
    },
    /// Entities can't be merged so, or not parted.
    #[error("{id} can't be merged so: {reason}")]
    Merge {
        /// The entity that was to go, or to come back.
        id: String,
        /// Why not, in words.
        reason: String,
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

impl Refusal {
    /// The code under which a delivery is quarantined that would be refused so.
    pub fn quarantine_code(&self) -> &'static str {
        match self {
            Self::KeyReused { .. } => "key-reused",
            Self::OrderState { .. } => "order-state",
            Self::AliasUnknown { .. } => "alias-unknown",
            Self::AliasTaken { .. } => "alias-taken",
            Self::AliasInvalid { .. } => "alias-invalid",
            Self::Merge { .. } => "merge-impossible",
            Self::Version { .. } => "version-mismatch",
        }
    }
}

/// The hash under which a request's `Idempotency-Key` is remembered, apart from delivery ids.
pub fn request_key_hash(source: &str, key: &str) -> u64 {
    delivery_hash(&format!("{source}\u{1}request"), key)
}

/// Decides one input.
pub fn decide(facts: &mut Facts, mut input: Input, now_us: i64) -> Result<Decision, Refusal> {
    facts.gates.clear();
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
    let body = match body {
        InputBody::Changes(mut changes) => {
            let reason = match ahead_of_time(&facts.rules, &input, &changes) {
                None => identity::resolve(facts, &input, &mut changes)?,
                ahead => ahead,
            };
            match (reason, input.releases) {
                // It is there already, and stays.
                (Some(_), Some(position)) => {
                    return Ok(Decision { records: Vec::new(), outcome: Outcome::Quarantined { position } });
                }
                (Some(reason), None) => InputBody::Quarantine(reason),
                (None, _) => InputBody::Changes(changes),
            }
        }
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
            // Of one that is merged, readers see what it is merged into.
            let id = members::chain(&facts.entities, &change.id()).pop().unwrap_or_default();
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
    if input.reject_reuse {
        members::check(facts, &changes)?;
    }
    let first = facts.next;
    let count = changes.len() as u32;
    let (mut applied, mut changed, mut version) = (false, false, 0);
    let mut records: Vec<Fact> = Vec::with_capacity(changes.len());
    let system = input.system.clone();
    for change in changes {
        let id = change.id();
        let again = facts.entities.get(&id).filter(|e| !e.merged_into.is_empty()).map(|_| change.clone());
        let (mut fact, contests) = decide_one(facts, input, (&system, ""), change, records.len() as u32, now_us);
        let is_first = records.is_empty();
        if is_first {
            fact.raw = input.raw.take();
            if let Some((key, payload_hash)) = &input.request_key {
                fact.request_key.clone_from(key);
                fact.request_hash = *payload_hash;
            }
        }
        if let Some(change) = again {
            // What is said of one that is merged is said of what it is merged into: that is what readers see.
            let member = change.key.clone();
            records.push(fact);
            let mut contested = vec![(id.clone(), contests)];
            for parent in members::chain(&facts.entities, &id).into_iter().skip(1) {
                let key = parent.split_once('/').map(|(_, key)| key.to_owned()).unwrap_or_default();
                let change = Change { key, ..change.clone() };
                let said = decide_one(facts, input, (&system, &member), change, records.len() as u32, now_us);
                records.push(said.0);
                contested.push((parent, said.1));
            }
            let given = records.iter().find(|f| f.key == member).map(|fact| identity::given(facts, fact, now_us));
            for change in given.into_iter().flatten() {
                records.push(decide_one(facts, input, (HUB, ""), change, records.len() as u32, now_us).0);
            }
            let told = records.iter().rev().find(|f| f.via == member);
            if let Some(told) = told {
                applied |= told.outcome == FactOutcome::Applied as i32;
                changed |= !told.event_type.is_empty();
                version = if is_first { told.version } else { version };
            }
            for (id, contests) in contested {
                contest(facts, input, &id, contests, &mut records, now_us);
            }
            continue;
        }
        if is_first {
            version = fact.version;
        }
        applied |= fact.outcome == FactOutcome::Applied as i32;
        changed |= !fact.event_type.is_empty();
        let given = identity::given(facts, &fact, now_us);
        let consequences = consequences(facts, &fact, now_us);
        let memberships = members::consequences(facts, &fact);
        records.push(fact);
        for change in given.into_iter().chain(consequences) {
            records.push(decide_one(facts, input, (HUB, ""), change, records.len() as u32, now_us).0);
        }
        contest(facts, input, &id, contests, &mut records, now_us);
        for membership in memberships {
            let place = members::place(input, records.len() as u32, facts.next);
            let Some((fact, contests)) = membership.decide(facts, &place) else { continue };
            take(facts, &fact, now_us);
            records.push(fact);
            contest(facts, input, membership.id(), contests, &mut records, now_us);
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

/// Says of conflicts that they begin, change or end.
fn contest(
    facts: &mut Facts,
    input: &Input,
    id: &str,
    contests: Vec<conflict::Contest>,
    records: &mut Vec<Fact>,
    now_us: i64,
) {
    for contest in contests {
        let Some(entity) = facts.entities.get(id) else { continue };
        let change = contest.change(entity, facts.next, now_us);
        records.push(decide_one(facts, input, (HUB, ""), change, records.len() as u32, now_us).0);
    }
}

/// An API client is told at once that an order can't be changed so any more; of other systems it is recorded.
fn check_orders(facts: &Facts, input: &Input, changes: &[Change]) -> Result<(), Refusal> {
    for change in changes.iter().filter(|change| change.kind == "order") {
        let id = change.id();
        // Nearly every order is still open to everything: only for the others it is worth a second look.
        let Some(entity) = facts.entities.get(&id).filter(|entity| order::is_settled(entity)) else { continue };
        let place = Place { input, system: &input.system, via: "", index: 0, position: facts.next };
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
        let derived = if concerned { order::derive(entity, now_us) } else { Vec::new() };
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
        let input = Input::of_the_hub(fact);
        let place = Place { input: &input, system: HUB, via: "", index: u32::MAX, position: facts.next };
        let (item, _) = decide_change(&facts.rules, None, &order, change.clone(), &place);
        fold(&mut order, facts.next, now_us, &item);
        let derived = order::derive(&order, now_us);
        changes.extend(order::changes(&order, derived, facts.next + 1));
    }
    changes
}

/// Decides one change, and folds it, so that it shows at once to the next. `via` is the key by which it was said, where that is
/// a member's.
fn decide_one(
    facts: &mut Facts,
    input: &Input,
    (system, via): (&str, &str),
    change: Change,
    index: u32,
    now_us: i64,
) -> (Fact, Vec<conflict::Contest>) {
    let sent_to = facts.rules.may_echo(&change.kind, system).then(|| facts.sent.get(system).copied()).flatten();
    let place = Place { input, system, via, index, position: facts.next };
    let entity = facts.entities.entry(change.id()).or_default();
    let (fact, contests) = decide_change(&facts.rules, sent_to, entity, change, &place);
    take(facts, &fact, now_us);
    (fact, contests)
}

/// Folds what was decided.
fn take(facts: &mut Facts, fact: &Fact, now_us: i64) {
    let position = facts.next;
    facts.next += 1;
    let entity = facts.entities.entry(entity_id(&fact.kind, &fact.key)).or_default();
    let was_incomplete = entity.incomplete;
    fold(entity, position, now_us, fact);
    facts.gates.extend(Gate::of(was_incomplete, entity));
    if fact.kind == PREFERENCE_KIND {
        prefer(&mut facts.rules, entity);
    }
}

/// Has a preference in force, as its document says it.
pub fn prefer(rules: &mut Rules, preference: &Entity) {
    let Some((kind, field)) = preference.key.split_once(':') else { return };
    let system = preference.value("system").and_then(|json| serde_json::from_slice::<Option<String>>(json).ok());
    rules.prefer_always(kind, field, system.flatten().as_deref());
}

/// The ids of the documents that deciding a change may touch, beside the entity itself, which is as it was loaded; it may
/// also be one that the changed entity is merged into.
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
    // What is said of a member may take back what was said of another one.
    let is_one_of_many = entity.is_some_and(|e| e.has_members() || e.key != change.key.as_str());
    let of_all = is_one_of_many
        || change.fields.iter().any(|f| f.name == DELETED_FIELD || base_of(&f.name).len() != f.name.len());
    let implied = entity.into_iter().flat_map(|e| &e.fields).map(|field| field.name.as_str());
    let implied = implied.filter(|name| of_all || *name == DELETED_FIELD);
    let contested = given.chain(implied).filter(|name| {
        domain.is_some_and(|d| d.policy(name).may_contest()) || entity.and_then(|e| e.field(name)).is_some_and(is_open)
    });
    let key = entity.map_or(change.key.as_str(), |e| e.key.as_str());
    let conflict = |field| entity_id(CONFLICT_KIND, &conflict_key(&change.kind, key, field));
    contested.map(conflict).chain(orders).collect()
}

/// The first change whose source's clock is too far ahead to be believed.
fn ahead_of_time(rules: &Rules, input: &Input, changes: &[Change]) -> Option<QuarantineReason> {
    let limit_us = rules.skew_max_us?;
    let ahead_us = |change: &Change| change.occurred_at_us.saturating_sub(input.received_at_us);
    let (at, change) = changes.iter().enumerate().find(|(_, change)| ahead_us(change) > limit_us)?;
    let (ahead_s, limit_s) = (ahead_us(change) / 1_000_000, limit_us / 1_000_000);
    Some(QuarantineReason {
        code: "clock-skew".into(),
        detail: format!(
            "{} occurred {ahead_s} s after it was received, more than the {limit_s} s allowed: it would win over \
             everything until then",
            change.id()
        ),
        at: format!("/{at}/occurred_at"),
    })
}
