//! The decision: `decide(facts, input, now)`.
//!
//! Visibly in this order: seen before? is the version the expected one? who wins each field, and why? what
//! is published? The outcome is a list of records; their effect on the facts is made by
//! [`fold`](crate::fold::fold) alone, and shows at once to the next input.

mod change;
mod changes;
mod conflict;
mod feed;
mod identity;
mod implied;
mod members;
mod order;
mod order_stock;
mod refusal;
pub mod stock;
pub mod timer;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use compact_str::CompactString;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use changes::decide_changes;
pub use conflict::{CONFLICT_KIND, HUB, STATUS_FIELD, conflict_key, former_conflict_key, is_conflict_about};
pub use identity::{ALIAS_OF_KEY, ALIAS_OF_KIND, aliases, has_aliases, holder, known_as};
pub use members::{INTO_FIELD, MERGE_KIND, chain, conflicts_of_merge, may_merge, merged_by};
pub use order_stock::{Waiting, orders_of, reservations_of, retry, waiting};
pub use refusal::Refusal;

use crate::alert::{ALERT_KIND, SILENCE_KIND};
use crate::alias::ALIAS_KIND;
use crate::change::{Change, Input, InputBody, Outcome, QuarantineReason};
use crate::delivery::degrade::FLOW_KIND;
use crate::entity::{DELETED_FIELD, Entity, FieldState};
use crate::freshness::FRESHNESS_KIND;
use crate::merge::Rule;
use crate::path::base_of;
use crate::reached::PROPAGATION_KIND;
use crate::record::{Body, QuarantineClosed, Quarantined, Record};
use crate::rules::{Rules, SentTo};
use crate::stock::Stock;
use crate::{EntityId, Position, delivery_hash, entity_id};

/// The kind of a person's decisions that a system is always preferred for a field: `preference/<kind>:<field>`.
pub const PREFERENCE_KIND: &str = "preference";

/// The kinds of what the hub itself keeps of its work: of use to who asks for it, not to a copy of the business.
pub const OWN_KINDS: [&str; 9] = [
    ALERT_KIND,
    ALIAS_KIND,
    CONFLICT_KIND,
    FLOW_KIND,
    FRESHNESS_KIND,
    MERGE_KIND,
    PREFERENCE_KIND,
    PROPAGATION_KIND,
    SILENCE_KIND,
];

/// A fixed hasher: no randomness enters the core.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, number: u64) {
        // What is hashed as a number is a hash already.
        self.0 ^= number;
    }

    fn write_u8(&mut self, _end_of_text: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Makes [`FixedHasher`]s.
pub type FixedState = BuildHasherDefault<FixedHasher>;

/// Entities by their id. They are shared with whoever writes them down: changing one that is being written copies it.
pub type Entities = HashMap<EntityId, Arc<Entity>, FixedState>;

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
    /// The entities that the last decided input has made incomplete, or complete: for the lists kept of them.
    pub gates: Vec<Gate>,
    /// Stock, whole but for reservations that are over: those that the inputs speak of have been loaded.
    pub stock: Stock,
    /// What was decided on the way to refusing or doubting the last input: backorders that were due to be served before
    /// it.
    pub aside: Vec<Record>,
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
        Self::between(was_incomplete, (&entity.kind, &entity.key, entity.incomplete))
    }

    /// The same of kind, key, and whether that entity is incomplete now.
    pub fn between(was_incomplete: bool, (kind, key, incomplete): (&str, &str, bool)) -> Option<Self> {
        (was_incomplete != incomplete).then(|| Self { kind: kind.into(), key: key.into(), incomplete })
    }
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
            gates: Vec::new(),
            stock: Stock::default(),
            aside: Vec::new(),
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

/// The hash under which a request's `Idempotency-Key` is remembered, apart from delivery ids.
pub fn request_key_hash(source: &str, key: &str) -> u64 {
    delivery_hash(&format!("{source}\u{1}request"), key)
}

/// Decides one input.
pub fn decide(facts: &mut Facts, mut input: Input, now_us: i64) -> Result<Decision, Refusal> {
    facts.gates.clear();
    facts.aside.clear();
    let hash = delivery_hash(&input.source, &input.delivery);
    let request_hash = input.request_key.as_ref().map(|(key, _)| request_key_hash(&input.source, key));
    // Two operators may have looked at it at once: the first releases it.
    if let Some(position) = input.releases.filter(|position| !facts.held.contains(position)) {
        return Err(Refusal::Released { position });
    }
    if let Some((key, payload_hash)) = &input.request_key
        && let Some(seen) = request_hash.and_then(|hash| facts.seen.get(&hash))
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
    let mut told = Vec::new();
    let body = match body {
        InputBody::Changes(mut changes) => {
            told = feed::take(&facts.rules, &input.system, &mut changes);
            let reason = match ahead_of_time(&facts.rules, &input, &changes) {
                // A client can mend its clock and ask again; nothing is kept of what it had not got right.
                Some((_, refusal)) if input.reject_reuse && input.releases.is_none() => return Err(refusal),
                Some((at, ahead)) => Some(QuarantineReason {
                    code: "clock-skew".into(),
                    detail: ahead.to_string(),
                    at: format!("/{at}/occurred_at"),
                }),
                None => identity::resolve(facts, &input, &mut changes)?,
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
        InputBody::Changes(changes) if told.is_empty() => decide_changes(facts, &mut input, changes, now_us)?,
        InputBody::Changes(changes) => stock::decide_feed(facts, &mut input, (&told, changes), now_us)?,
        InputBody::Quarantine(reason) => {
            let position = facts.next;
            facts.next += 1;
            let record = quarantined(&mut input, reason, now_us);
            Decision { records: vec![record], outcome: Outcome::Quarantined { position } }
        }
        InputBody::Stock(commands) => stock::decide_commands(facts, &mut input, &commands, now_us)?,
        InputBody::Retry { order } => order_stock::again(facts, &mut input, &order, now_us),
    };
    if decision.records.is_empty() {
        // Nothing is recorded, not even that it was seen.
        return Ok(decision);
    }
    if let Some(position) = &input.releases {
        facts.held.remove(position);
    }
    let position = facts.next - decision.records.len() as Position;
    facts.seen.entry(hash).or_insert(Seen { position, payload_hash: Some(input.payload_hash) });
    // What the input said of itself may stand in the record by now.
    if let (Some(hash), Some((_, payload_hash))) = (request_hash, input.request_key) {
        let seen = Seen { position, payload_hash: Some(payload_hash) };
        facts.seen.entry(hash).or_insert(seen);
    }
    Ok(decision)
}

/// The record of an input that is kept whole for a person.
fn quarantined(input: &mut Input, reason: QuarantineReason, now_us: i64) -> Record {
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
    Record::new(now_us, body)
}

/// Has a preference in force, as its document says it.
pub fn prefer(rules: &mut Rules, preference: &Entity) {
    let Some((kind, field)) = preference.key.split_once(':') else { return };
    let system = preference.value("system").and_then(|json| serde_json::from_slice::<Option<String>>(json).ok());
    rules.prefer_always(kind, field, system.flatten().as_deref());
}

/// The ids of the documents that deciding a change may touch, beside the entity itself, which is as it was loaded; it may
/// also be one that the changed entity is merged into.
pub fn also_touched(rules: &Rules, entity: Option<&Entity>, change: &Change) -> Vec<EntityId> {
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
    let conflict = |field: &str| {
        let former = former_conflict_key(&change.kind, key, field);
        former.into_iter().chain([conflict_key(&change.kind, key, field)])
    };
    contested.flat_map(conflict).map(|key| entity_id(CONFLICT_KIND, &key)).chain(orders).collect()
}

/// The first change whose source's clock is too far ahead to be believed: its number, and why not.
fn ahead_of_time(rules: &Rules, input: &Input, changes: &[Change]) -> Option<(usize, Refusal)> {
    let limit_us = rules.skew_max_us.filter(|_| input.system != HUB)?;
    let ahead_us = |change: &Change| change.occurred_at_us.saturating_sub(input.received_at_us);
    let (at, change) = changes.iter().enumerate().find(|(_, change)| ahead_us(change) > limit_us)?;
    let (ahead_s, limit_s) = (ahead_us(change) / 1_000_000, limit_us / 1_000_000);
    Some((at, Refusal::ClockAhead { id: change.id().into(), ahead_s, limit_s }))
}
