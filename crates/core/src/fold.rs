//! From a record to state. This is the only way in which state changes, live and on replay, and it never
//! decides: what a record says happened, happened.

use compact_str::CompactString;
use smallvec::SmallVec;

use crate::Position;
use crate::entity::{Claim, Entity, FieldState};
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
    let own = number_of(&mut entity.systems, &fact.system);
    let tie = crate::delivery_hash(&fact.source, &fact.delivery);
    for ruling in &fact.rulings {
        let winner = if ruling.winner.is_empty() { own } else { number_of(&mut entity.systems, &ruling.winner) };
        let mut one = |at: usize| {
            let Some(field) = fact.fields.get(at) else { return };
            let claim = || Claim {
                system: own,
                sequence: fact.sequence,
                occurred_at_us: fact.occurred_at_us,
                tie,
                position,
                json: field.json.clone(),
            };
            let slot = slot(&mut entity.fields, &field.name, at);
            rule(slot, ruling, own, winner, claim);
        };
        if ruling.fields.is_empty() {
            (0..fact.fields.len()).for_each(&mut one);
        } else {
            ruling.fields.iter().for_each(|at| one(*at as usize));
        }
    }
}

fn rule(field: &mut FieldState, ruling: &Ruling, own: u32, winner: u32, claim: impl FnOnce() -> Claim) {
    if !ruling.stale {
        match field.claims.iter_mut().find(|c| c.system == own) {
            Some(old) => *old = claim(),
            None => field.claims.push(claim()),
        }
    }
    if let Some(at) = field.claims.iter().position(|c| c.system == winner) {
        field.winner = at as u32;
    }
    field.rule = ruling.rule;
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

/// The state of the named field, made where it is new. `hint` is where it stands when the same system always
/// speaks of the same fields, which is the usual case.
fn slot<'a>(fields: &'a mut Vec<FieldState>, name: &str, hint: usize) -> &'a mut FieldState {
    let at = if fields.get(hint).is_some_and(|f| f.name == name) {
        hint
    } else {
        match fields.binary_search_by(|f| f.name.as_str().cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                fields.insert(at, FieldState { name: name.into(), ..FieldState::default() });
                at
            }
        }
    };
    &mut fields[at]
}
