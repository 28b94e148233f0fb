//! The changes of an input, one by one, each with what follows from it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::change::{Place, decide_change, decide_unsigned};
use super::conflict::{Contest, HUB};
use super::{Decision, Facts, Gate, PREFERENCE_KIND, Refusal, identity, members, order, order_stock, prefer, timer};
use crate::change::{Change, Input, Outcome};
use crate::entity::Entity;
use crate::fold::fold;
use crate::merge::OPERATOR;
use crate::record::{Body, Fact, FactOutcome, Record};
use crate::{EntityId, Position, entity_id};

pub(super) fn decide_changes(
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
                return Err(Refusal::Version { id: id.into(), expected, current });
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
    // Then what the input says of itself moves into the fact, and comes back where something follows from it.
    let is_single = changes.len() == 1;
    let mut records: Vec<Fact> = Vec::with_capacity(changes.len());
    for change in changes {
        let said = say(facts, input, (change, is_single), &mut records, now_us);
        let told = &records[said.told];
        applied |= told.outcome == FactOutcome::Applied as i32;
        changed |= !told.event_type.is_empty();
        if said.first == 0 {
            version = told.version;
            let fact = &mut records[0];
            fact.raw = input.raw.take();
            if let Some((key, payload_hash)) = &input.request_key {
                fact.request_key.clone_from(key);
                fact.request_hash = *payload_hash;
            }
        }
        let fact = &records[said.first];
        let given = identity::given(facts, fact, now_us);
        let memberships = members::consequences(facts, fact);
        let mut last = said.first;
        if let Some(change) = timer::taken_back(facts, fact) {
            last = records.len();
            give_back(input, &records);
            records.push(decide_one(facts, input, (Speaker::Hub, ""), change, records.len() as u32, now_us).0);
        }
        let consequences = consequences(facts, &records[last], now_us);
        for change in given.into_iter().chain(consequences) {
            give_back(input, &records);
            records.push(decide_one(facts, input, (Speaker::Hub, ""), change, records.len() as u32, now_us).0);
        }
        for (id, contests) in said.contests {
            contest(facts, input, &id, contests, &mut records, now_us);
        }
        for membership in memberships {
            give_back(input, &records);
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
    let follows = if order_stock::may_follow(facts) {
        give_back(input, &records);
        order_stock::follow(facts, input, &records, now_us)
    } else {
        Vec::new()
    };
    let of = (records.len() + follows.iter().filter(|record| is_fact(record)).count()) as u32;
    let one = |fact| Record::new(now_us, Body::Fact(Box::new(fact)));
    let mut records: Vec<Record> = records.into_iter().map(one).chain(follows).collect();
    for record in &mut records {
        if let Some(Body::Fact(fact)) = &mut record.body {
            fact.of = of;
        }
    }
    Ok(Decision { records, outcome })
}

fn is_fact(record: &Record) -> bool {
    matches!(&record.body, Some(Body::Fact(_)))
}

/// What was recorded of one change.
struct Said {
    /// The number of its first fact.
    first: usize,
    /// The number of the fact that its sender is told of: that of the entity which readers see.
    told: usize,
    /// The conflicts that it begins, changes or ends, by the entity that they are about.
    contests: SmallVec<[(EntityId, Vec<Contest>); 1]>,
}

/// Decides a change; a single one takes what the input says of itself. What is said of an entity that is merged is
/// said of what it is merged into, too.
fn say(
    facts: &mut Facts,
    input: &mut Input,
    (change, is_single): (Change, bool),
    records: &mut Vec<Fact>,
    now_us: i64,
) -> Said {
    let first = records.len();
    let mut ids = members::chain(&facts.entities, &change.id()).into_iter();
    let again = (ids.len() > 1).then(|| change.clone());
    let speaker = if is_single && again.is_none() { Speaker::InputOnce } else { Speaker::Input };
    let (fact, contests) = decide_one(facts, input, (speaker, ""), change, first as u32, now_us);
    records.push(fact);
    let mut contests: SmallVec<_> = [(ids.next().unwrap_or_default(), contests)].into_iter().collect();
    for (id, change) in ids.zip(again.into_iter().cycle()) {
        let member = change.key;
        let key = id.split_once('/').map(|(_, key)| key.to_owned()).unwrap_or_default();
        let change = Change { key, ..change };
        let (fact, more) = decide_one(facts, input, (Speaker::Input, &member), change, records.len() as u32, now_us);
        records.push(fact);
        contests.push((id, more));
    }
    Said { first, told: records.len() - 1, contests }
}

/// Says of conflicts that they begin, change or end.
fn contest(
    facts: &mut Facts,
    input: &mut Input,
    id: &str,
    contests: Vec<Contest>,
    records: &mut Vec<Fact>,
    now_us: i64,
) {
    for contest in contests {
        let Some(entity) = facts.entities.get(id) else { continue };
        let change = contest.change(entity, &facts.entities, facts.next, now_us);
        give_back(input, records);
        records.push(decide_one(facts, input, (Speaker::Hub, ""), change, records.len() as u32, now_us).0);
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
            return Err(Refusal::OrderState { id: id.into(), reason });
        }
    }
    Ok(())
}

/// What the hub has to say of an order after a fact about it or about one of its items.
fn consequences(facts: &Facts, fact: &Fact, now_us: i64) -> Vec<Change> {
    if !order::is_about_orders(&fact.kind) {
        return Vec::new();
    }
    let Some(entity) = facts.entities.get(&entity_id(&fact.kind, &fact.key)) else { return Vec::new() };
    let Some(id) = order::order_of_entity(entity) else {
        let concerned = order::concerns(entity, fact);
        return if concerned { order::changes(entity, order::derive(entity), facts.next) } else { Vec::new() };
    };
    let (kind, key) = id.split_once('/').unwrap_or_default();
    let known = facts.entities.get(&id).map(|known| Entity::clone(known));
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
        let derived = order::derive(&order);
        changes.extend(order::changes(&order, derived, facts.next + 1));
    }
    changes
}

/// For whom a change speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// The input's system.
    Input,
    /// The same, and nothing else is known yet to come of the input: what it says of itself moves into the fact. Nearly
    /// all inputs are such, and copying it would be a good part of all that is allocated for them.
    InputOnce,
    /// The hub itself.
    Hub,
}

impl Speaker {
    /// Says in a fact where it came from.
    fn sign(self, fact: &mut Fact, input: &mut Input) {
        if self == Self::InputOnce {
            fact.source = std::mem::take(&mut input.source);
            fact.system = std::mem::take(&mut input.system);
            fact.delivery = std::mem::take(&mut input.delivery);
            fact.trace = input.trace.take().unwrap_or_default();
        } else {
            fact.source.clone_from(&input.source);
            fact.system = if self == Self::Hub { HUB.to_owned() } else { input.system.clone() };
            fact.delivery.clone_from(&input.delivery);
            fact.trace = input.trace.clone().unwrap_or_default();
        }
    }
}

/// Something follows after all from an input of which the first fact may have taken what it says of itself.
fn give_back(input: &mut Input, records: &[Fact]) {
    if let Some(fact) = records.first().filter(|_| input.source.is_empty()) {
        input.source.clone_from(&fact.source);
        input.system.clone_from(&fact.system);
        input.delivery.clone_from(&fact.delivery);
        input.trace = Some(fact.trace.clone()).filter(|trace| !trace.is_empty());
    }
}

/// Decides one change, and folds it, so that it shows at once to the next. `via` is the key by which it was said, where that is
/// a member's.
pub(super) fn decide_one(
    facts: &mut Facts,
    input: &mut Input,
    (speaker, via): (Speaker, &str),
    change: Change,
    index: u32,
    now_us: i64,
) -> (Fact, Vec<Contest>) {
    let system = if speaker == Speaker::Hub { HUB } else { &input.system };
    let sent_to = facts.rules.may_echo(&change.kind, system).then(|| facts.sent.get(system).copied()).flatten();
    let place = Place { input, system, via, index, position: facts.next };
    let entity = facts.entities.entry(change.id()).or_default();
    let (mut fact, contests) = decide_unsigned(&facts.rules, sent_to, entity, change, &place);
    speaker.sign(&mut fact, input);
    facts.gates.extend(fold_next(&mut facts.next, entity, &fact, now_us));
    if fact.kind == PREFERENCE_KIND {
        prefer(&mut facts.rules, entity);
    }
    (fact, contests)
}

/// Folds what was decided of a membership.
fn take(facts: &mut Facts, fact: &Fact, now_us: i64) {
    let entity = facts.entities.entry(entity_id(&fact.kind, &fact.key)).or_default();
    facts.gates.extend(fold_next(&mut facts.next, entity, fact, now_us));
}

/// Folds a fact as the next record. Where the entity has become incomplete by it, or is so no more, it says so.
fn fold_next(next: &mut Position, entity: &mut Arc<Entity>, fact: &Fact, now_us: i64) -> Option<Gate> {
    let was_incomplete = entity.incomplete;
    fold(Arc::make_mut(entity), *next, now_us, fact);
    *next += 1;
    Gate::of(was_incomplete, entity)
}
