//! What each system says of a field of an entity that has members: its claims to all of them come to one word.

use super::implied::says_derived_existence;
use crate::entity::{Claim, DELETED_FIELD, Entity, FieldState, StampId, base_system};
use crate::merge::{Policy, Standing};
use crate::rules::Rules;

/// The words of all systems on a field, one each, with the claim that has the value.
pub(super) fn words<'a>(
    rules: &'a Rules,
    entity: &'a Entity,
    field: &'a FieldState,
    policy: &Policy,
) -> Vec<(&'a Claim, Standing<'a>)> {
    let mut systems: Vec<&str> = field.claims.iter().map(|claim| base_system(entity.system(claim.system))).collect();
    systems.sort_unstable();
    systems.dedup();
    let word = |system| word(rules, entity, field, policy, system);
    let is_existence = field.name == DELETED_FIELD;
    let counts = |claim: &Claim| !(is_existence && says_derived_existence(entity.system(claim.system), &claim.json));
    systems.into_iter().filter_map(word).filter(|(claim, _)| counts(claim)).collect()
}

/// What a system says of a field, as if it had said all of it of one entity: the value of its latest run.
fn word<'a>(
    rules: &'a Rules,
    entity: &'a Entity,
    field: &'a FieldState,
    policy: &Policy,
    system: &'a str,
) -> Option<(&'a Claim, Standing<'a>)> {
    let stamps = &entity.stamps;
    let rank = |json: &[u8]| policy.ranking().rank(json);
    let later = |a, b| stamps.later(a, b);
    let is_own = |number: u32| base_system(entity.system(number)) == system;
    let own = || field.claims.iter().filter(|claim| is_own(claim.system) && !claim.echo);
    let highest = own().map(|claim| rank(&claim.json)).max()?;
    let claims = || own().filter(|claim| rank(&claim.json) == highest);
    // By which it has said of a member that it says nothing of this field, without having a claim there.
    let is_silent = |number: &u32| own().all(|claim| claim.system != *number || claim.json.is_empty());
    let silent = (0..entity.systems.len() as u32).filter(|number| is_own(*number)).filter(is_silent);
    let silence = silent.filter_map(|number| entity.silence(number, &field.name)).reduce(later);
    let silence = silence.filter(|_| rank(b"") == highest);
    let latest = claims().max_by(|a, b| {
        let (a_last, b_last) = (stamps[a.last(stamps)], stamps[b.last(stamps)]);
        a_last.order(&b_last).then_with(|| a.json.cmp(&b.json))
    })?;
    let last = latest.last(stamps);
    if latest.json.is_empty() || silence.is_some_and(|silence| stamps[silence].order(&stamps[last]).is_gt()) {
        return None;
    }
    // The last time that it said something else before it.
    let same = || claims().filter(|claim| claim.json == latest.json);
    let others = claims().filter(|claim| claim.json != latest.json).map(|claim| claim.last(stamps));
    let bounds = same().filter_map(|claim| claim.bound);
    let before = |id: &StampId| stamps[*id].order(&stamps[last]).is_le();
    let cut = others.chain(bounds).chain(silence).filter(before).reduce(later);
    let begins = |claim: &Claim| match cut {
        Some(cut) if stamps[claim.start].order(&stamps[cut]).is_lt() => {
            Some(claim.first_after(&stamps[cut], stamps)).filter(|id| stamps[*id].order(&stamps[cut]).is_gt())
        }
        _ => Some(claim.start),
    };
    let earlier = |a, b| if stamps[b].order(&stamps[a]).is_lt() { b } else { a };
    let since = same().filter_map(begins).reduce(earlier).unwrap_or(last);
    let (since, seen) = (stamps[since], stamps[last]);
    let standing = Standing { system, priority: rules.priority(system), since, seen, json: &latest.json };
    Some((latest, standing))
}
