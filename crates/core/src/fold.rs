//! From a record to state. This is the only way in which state changes, live and on replay, and it never
//! decides: what a record says happened, happened.

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::Position;
use crate::change::Field;
use crate::entity::{
    Claim, DELETED_FIELD, Effect, Entity, FieldState, NOBODY, Observed, PAST_MAX, Past, Stamp, StampId, Stamps,
    member_system,
};
use crate::json::Json;
use crate::merge::Rule;
use crate::name;
use crate::path::is_part;
use crate::record::{Fact, Ruling};

/// Folds a fact into the entity that it is about.
pub fn fold(entity: &mut Entity, position: Position, recorded_at_us: i64, fact: &Fact) {
    if entity.position == 0 {
        entity.kind = fact.kind.as_str().into();
        entity.key = fact.key.as_str().into();
        entity.created_at_us = recorded_at_us;
        entity.updated_at_us = recorded_at_us;
    }
    if fact.version != entity.version {
        entity.updated_at_us = recorded_at_us;
    }
    entity.version = fact.version;
    entity.position = position;
    entity.incomplete = fact.incomplete;
    if !fact.event_type.is_empty() {
        entity.published = true;
        entity.last_event = position;
    }
    let is_membership = fact.is_membership();
    if is_membership {
        membership(entity, fact);
    }
    let own = match is_membership {
        true => NOBODY,
        false => number_of(&mut entity.systems, &member_system(&fact.system, &fact.via)),
    };
    let stamp = stamp_of(fact, position);
    if !is_membership && name::field(&fact.fields, DELETED_FIELD).is_some() && entity.field(DELETED_FIELD).is_none() {
        let existence = entity.existence();
        let place = place(entity, DELETED_FIELD, usize::MAX);
        entity.fields[place] = existence;
    }
    if entity.fields.is_empty() {
        // As many as there are, and not twice as many: most entities never get another one.
        entity.fields.reserve_exact(fact.fields.len());
    }
    // As it was before this observation, of which a list or a deletion may be a part.
    let silences = silences(entity, own, fact);
    let slot = if is_membership { None } else { entity.observe(own, &stamp) };
    let stamp = if is_membership { StampId::default() } else { entity.stamp_id(slot, &stamp) };
    for ruling in &fact.rulings {
        let effect = effect_of(ruling);
        let winner = match ruling.winner.as_str() {
            "" if ruling.rule == Rule::Nobody as i32 => NOBODY,
            "" => own,
            other => number_of(&mut entity.systems, other),
        };
        // Both lists are sorted: what comes so many fields later in one mostly does so in the other.
        let (mut next, mut next_at) = (0, 0);
        let mut silences = silences.iter().peekable();
        let mut one = |at: usize| {
            let Some(field) = fact.fields.get(at) else { return };
            let place = place(entity, &field.name, next + at.saturating_sub(next_at));
            (next, next_at) = (place + 1, at + 1);
            while silences.next_if(|(silent, _)| *silent < at).is_some() {}
            let silence = silences.next_if(|(silent, _)| *silent == at).map(|(_, silence)| *silence);
            let observed = Observed { system: own, stamp, slot, json: &field.json, silence };
            let state = &mut entity.fields[place];
            if fact.changed.binary_search(&(at as u32)).is_ok() {
                stands(state, position, fact.echoed);
            }
            let before = state.winner;
            claim(state, &observed, effect, &entity.stamps);
            rule(state, ruling.rule, winner, fact, field);
            if effect != Effect::Joins || state.winner != before || state.more.is_some() {
                state.agree();
            }
        };
        if ruling.fields.is_empty() {
            (0..fact.fields.len()).for_each(&mut one);
        } else {
            ruling.fields.iter().for_each(|at| one(*at as usize));
        }
    }
}

/// What a merge or its undoing does to the claims, before it is said who wins.
fn membership(entity: &mut Entity, fact: &Fact) {
    if let Some(into) = &fact.merged {
        entity.merged_into = into.as_str().into();
    }
    // It was written from an entity; one that can't be read would be a broken record, and those are not folded.
    if !fact.joins.is_empty()
        && let Ok(member) = Entity::decode(fact.joins.clone())
    {
        entity.join(&member);
    }
    if !fact.parts.is_empty() {
        entity.part(&fact.parts);
    }
}

/// For each field of a fact of which its system says nothing yet, or any more, see [`Entity::silence`]; empty where there can be
/// none, which is the usual case.
fn silences(entity: &Entity, own: u32, fact: &Fact) -> Vec<(usize, StampId)> {
    let was_deleted = entity.field(DELETED_FIELD).is_some();
    let says = |f: &FieldState| f.claims.iter().any(|c| c.system == own && !c.json.is_empty());
    // Both lists are sorted, see `fold`.
    let (mut next, mut next_at) = (0, 0);
    let mut known = |at: usize, name: &str| {
        let place = entity.place_near(name, next + at - next_at);
        (next, next_at) = (place.map_or_else(|at| at, |at| at + 1), at + 1);
        place.is_ok_and(|place| says(&entity.fields[place]))
    };
    let mut silences = Vec::new();
    for (at, field) in fact.fields.iter().enumerate() {
        if (was_deleted || is_part(&field.name)) && !known(at, &field.name) {
            silences.extend(entity.silence(own, &field.name).map(|silence| (at, silence)));
        }
    }
    silences
}

/// Where a fact stands among the observations of its system.
pub(crate) fn stamp_of(fact: &Fact, position: Position) -> Stamp {
    Stamp {
        sequence: fact.sequence,
        occurred_at_us: fact.occurred_at_us,
        tie: crate::delivery_hash(&fact.source, &fact.delivery),
        index: fact.index,
        position,
    }
}

fn effect_of(ruling: &Ruling) -> Effect {
    match Effect::try_from(ruling.effect) {
        // The first records know only these two.
        Ok(Effect::Starts) if ruling.stale => Effect::Ignored,
        Ok(effect) => effect,
        Err(_) => Effect::Ignored,
    }
}

fn claim(field: &mut FieldState, observed: &Observed<'_>, effect: Effect, stamps: &Stamps) {
    match field.claims.iter_mut().find(|c| c.system == observed.system) {
        Some(old) => old.apply(observed, effect, stamps),
        None if effect == Effect::Ignored => {}
        None => field.claims.push(Claim::first(observed, effect)),
    }
}

fn rule(field: &mut FieldState, rule: i32, winner: u32, fact: &Fact, own: &Field) {
    field.rule = rule;
    let at = field.claims.iter().position(|c| c.system == winner);
    field.winner = at.map_or(NOBODY, |at| at as u32);
    if let Some(more) = &mut field.more {
        more.joined = None;
    }
    field.more.take_if(|more| more.past.is_empty());
    if rule == Rule::Union as i32 {
        // Where the claim that is told as the winner is not the whole value, the whole is in the rest.
        let whole = fact.rest.binary_search_by(|f| f.name.cmp(&own.name)).ok();
        field.more().joined = Some(Json::of(whole.map_or(&own.json, |at| &fact.rest[at].json)));
    }
}

/// Another value stands from now on.
fn stands(field: &mut FieldState, position: Position, remember: bool) {
    if remember && let Some(before) = field.value() {
        let past = Past { hash: crate::payload_hash(before), since: field.since };
        let known = &mut field.more().past;
        if known.len() == PAST_MAX {
            known.remove(0);
        }
        known.push(past);
    }
    field.since = position;
}

fn number_of(systems: &mut SmallVec<[CompactString; 2]>, system: &str) -> u32 {
    match systems.iter().position(|s| s == system) {
        Some(at) => at as u32,
        None => {
            systems.push(system.into());
            (systems.len() - 1) as u32
        }
    }
}

/// Where the state of the named field is, made where it is new. `hint` is where it may stand, or a little before.
fn place(entity: &mut Entity, name: &str, hint: usize) -> usize {
    entity.place_near(name, hint).unwrap_or_else(|at| {
        let state = FieldState { name: name.into(), winner: NOBODY, ..FieldState::default() };
        entity.fields.insert(at, state);
        at
    })
}
