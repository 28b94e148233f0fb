//! Entities that were found to be one: what is decided where the claims of several stand side by side.
//!
//! A merge is a document of the hub's own, `merge/<kind>/<key>`, in which a person says into which entity another one goes,
//! or that it goes no further. Each entity keeps what was said of it by its key, for ever; the one that stays has copies of
//! the others' claims, each under a name of its own (`shop@B`), and whatever is said of a member is said of it too. Who wins
//! is decided among the systems' words: of what one system has said of all members, the word that it would have, had it said
//! all of that of one entity.

use bytes::Bytes;
use smallvec::SmallVec;

use super::change::{Decided, Place, Scene, fact_of, finish, group};
use super::conflict::{CONFLICT_KIND, Contest};
use super::implied::imply;
use super::words::words;
use super::{Facts, PREFERENCE_KIND, Refusal};
use crate::alias::ALIAS_KIND;
use crate::change::{Change, Field, Input};
use crate::entity::{DELETED_FIELD, Effect, Entity, FieldState};
use crate::fold::fold;
use crate::merge::{Rule, Standing, Verdict};
use crate::record::{Fact, Ruling};
use crate::rules::Rules;
use crate::{EntityId, Position, entity_id};

/// The kind of the documents that say what is merged: `merge/<kind>/<key>`.
pub const MERGE_KIND: &str = "merge";
/// The field of such a document with the key of the entity that stays; null where the merge was undone.
pub const INTO_FIELD: &str = "into";
/// Kinds whose entities are what happened, or are the hub's own: they are never one.
const NEVER_ONE: [&str; 8] =
    ["order", "payment", "return", "shipment", ALIAS_KIND, CONFLICT_KIND, MERGE_KIND, PREFERENCE_KIND];

/// Whether entities of a kind can be merged.
pub fn may_merge(kind: &str) -> bool {
    !NEVER_ONE.contains(&kind)
}

/// The entities of which a change says that they are merged, or not any more: the one that goes, and where to.
pub fn merged_by(change: &Change) -> Option<(EntityId, Option<EntityId>)> {
    let (kind, _) = change.key.split_once('/').filter(|_| change.kind == MERGE_KIND)?;
    let into = into_of(change.fields.iter().find(|f| f.name == INTO_FIELD)?);
    Some((change.key.as_str().into(), into.map(|key| entity_id(kind, &key))))
}

fn into_of(field: &Field) -> Option<String> {
    serde_json::from_slice::<Option<String>>(&field.json).ok().flatten()
}

/// The ids of an entity and of those that it is merged into, the last being the one that readers see.
pub fn chain(entities: &super::Entities, id: &str) -> SmallVec<[EntityId; 1]> {
    let mut ids: SmallVec<[EntityId; 1]> = [id.into()].into_iter().collect();
    while let Some(entity) = ids.last().and_then(|id| entities.get(id)).filter(|e| !e.merged_into.is_empty()) {
        let next = entity_id(&entity.kind, &entity.merged_into);
        // What is merged is not merged into again: it can't go in circles, and here it could never end.
        if ids.contains(&next) {
            break;
        }
        ids.push(next);
    }
    ids
}

/// Refuses merges that can't be.
pub(super) fn check(facts: &Facts, changes: &[Change]) -> Result<(), Refusal> {
    for change in changes {
        if let Some((id, into)) = merged_by(change)
            && let Err(reason) = possible(facts, &id, into.as_deref())
        {
            return Err(Refusal::Merge { id: id.into(), reason });
        }
    }
    Ok(())
}

fn possible(facts: &Facts, id: &str, into: Option<&str>) -> Result<(), String> {
    let known = |id: &str| facts.entities.get(id).filter(|e| e.position != 0);
    let goes = known(id).ok_or_else(|| "there is no such entity".to_owned())?;
    let Some(into) = into else {
        return if goes.merged_into.is_empty() { Err("it is not merged".to_owned()) } else { Ok(()) };
    };
    if !may_merge(&goes.kind) {
        return Err(format!("entities of the kind {} are never merged", goes.kind));
    }
    if into == id {
        return Err("it can't be merged into itself".to_owned());
    }
    if !goes.merged_into.is_empty() {
        return Err(format!("it is merged into {} already: undo that first", entity_id(&goes.kind, &goes.merged_into)));
    }
    let stays = known(into).ok_or_else(|| format!("there is no {into} to merge it into"))?;
    if !stays.merged_into.is_empty() {
        let last = entity_id(&stays.kind, &stays.merged_into);
        return Err(format!("{into} is merged into {last} itself: merge it into that one"));
    }
    Ok(())
}

/// What follows for the entities from the document of a merge.
pub(super) fn consequences(facts: &Facts, fact: &Fact) -> Vec<Membership> {
    if fact.kind != MERGE_KIND {
        return Vec::new();
    }
    let Some(document) = facts.entities.get(&entity_id(&fact.kind, &fact.key)) else { return Vec::new() };
    let into = document.value(INTO_FIELD).and_then(|json| into_of(&Field::new(INTO_FIELD, json.to_bytes())));
    let id = document.key.as_str();
    let Some(goes) = facts.entities.get(id) else { return Vec::new() };
    match into {
        Some(key) if goes.merged_into.is_empty() => {
            let into = entity_id(&goes.kind, &key);
            if possible(facts, id, Some(&into)).is_err() {
                return Vec::new();
            }
            vec![Membership::Goes(id.into(), key), Membership::Takes(into, id.into())]
        }
        None if !goes.merged_into.is_empty() => {
            let members = goes.members().into_iter().chain([goes.key.as_str()]).map(str::to_owned);
            let members: Vec<String> = members.collect();
            let parents = chain(&facts.entities, id).into_iter().skip(1);
            let loses = parents.map(|parent| Membership::Loses(parent, members.clone()));
            [Membership::Comes(id.into())].into_iter().chain(loses).collect()
        }
        _ => Vec::new(),
    }
}

/// What becomes of one entity with a merge or its undoing. First the id of the entity.
#[derive(Debug)]
pub(super) enum Membership {
    /// It is merged into the one with that key.
    Goes(EntityId, String),
    /// It is one of its own again.
    Comes(EntityId),
    /// It takes the claims of the one with that id.
    Takes(EntityId, EntityId),
    /// It loses the claims of these members.
    Loses(EntityId, Vec<String>),
}

impl Membership {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Goes(id, _) | Self::Comes(id) | Self::Takes(id, _) | Self::Loses(id, _) => id,
        }
    }

    /// What is recorded of it.
    pub(super) fn decide(&self, facts: &Facts, place: &Place<'_>) -> Option<(Fact, Vec<Contest>)> {
        let entity = facts.entities.get(self.id())?;
        let change = Change {
            kind: entity.kind.to_string(),
            key: entity.key.to_string(),
            sequence: 0,
            occurred_at_us: place.input.received_at_us,
            fields: Vec::new(),
            expected_version: None,
        };
        let mut fact = fact_of(&facts.rules, entity, change, place);
        let contests = match self {
            Self::Goes(_, into) => {
                fact.merged = Some(into.clone());
                told_whole(&facts.rules, entity, &mut fact);
                Vec::new()
            }
            Self::Comes(_) => {
                fact.merged = Some(String::new());
                told_whole(&facts.rules, entity, &mut fact);
                Vec::new()
            }
            Self::Takes(_, member) => {
                fact.joins = facts.entities.get(member)?.encode();
                settle_all(&facts.rules, entity, &mut fact, place.position)
            }
            Self::Loses(_, members) => {
                fact.parts.clone_from(members);
                settle_all(&facts.rules, entity, &mut fact, place.position)
            }
        };
        Some((fact, contests))
    }
}

/// The entity is there or gone as a whole: its document does not change.
fn told_whole(rules: &Rules, entity: &Entity, fact: &mut Fact) {
    fact.rest = entity.document();
    fact.version += 1;
    finish(rules, entity, fact, false);
}

fn settle_all(rules: &Rules, entity: &Entity, fact: &mut Fact, position: Position) -> Vec<Contest> {
    let mut after = entity.clone();
    fold(&mut after, position, entity.updated_at_us, fact);
    let contests = settle(rules, (entity, &after), (Vec::new(), ""), fact);
    finish(rules, entity, fact, false);
    contests
}

/// Decides a change of an entity with members, or of one of them. Nothing is changed yet: folding the fact does.
pub(super) fn decide(
    rules: &Rules,
    sent_to: Option<Position>,
    entity: &Entity,
    mut change: Change,
    place: &Place<'_>,
) -> (Fact, Vec<Contest>) {
    let name = place.name();
    let own = entity.system_number(&name);
    if place.system != crate::merge::OPERATOR {
        imply(entity, place.system, own, &mut change.fields);
    }
    let scene = Scene::new(rules, entity, own, &change, place, sent_to);
    let existence = entity.field(DELETED_FIELD).is_none().then(|| entity.existence());
    let effect = |field: &Field| {
        let state = entity.field(&field.name);
        let state = state.or(existence.as_ref().filter(|_| field.name == DELETED_FIELD));
        let claim = state.and_then(|s| s.claims.iter().find(|c| Some(c.system) == own));
        scene.effect(state, claim, rules.policy(&change.kind, &field.name), field)
    };
    let effects: Vec<Effect> = change.fields.iter().map(effect).collect();
    let said: Vec<(Field, Effect)> = change.fields.iter().cloned().zip(effects).collect();
    let mut fact = fact_of(rules, entity, change, place);
    // Only what it does to the claims: who wins is decided among them when it is done.
    let claimed = |(at, (_, effect)): (usize, &(Field, Effect))| Ruling {
        fields: vec![at as u32],
        rule: Rule::Only as i32,
        effect: *effect as i32,
        ..Ruling::default()
    };
    fact.rulings = said.iter().enumerate().map(claimed).collect();
    let mut after = entity.clone();
    fold(&mut after, place.position, entity.updated_at_us, &fact);
    let contests = settle(rules, (entity, &after), (said, &name), &mut fact);
    let won = fact.rulings.iter().any(|ruling| {
        let effect = Effect::try_from(ruling.effect).unwrap_or(Effect::Ignored);
        effect.is_current() && effect != Effect::Echoes && ruling.winner.is_empty()
    });
    finish(rules, entity, &mut fact, won);
    (fact, contests)
}

/// Decides every field anew, and writes into the fact what was said, what is different, and the rest of the document.
fn settle(
    rules: &Rules,
    (before, after): (&Entity, &Entity),
    (said, own): (Vec<(Field, Effect)>, &str),
    fact: &mut Fact,
) -> Vec<Contest> {
    let is_membership = said.is_empty();
    let mut said = said.into_iter().peekable();
    let (mut decided, mut contests) = (Vec::new(), Vec::new());
    (fact.fields, fact.changed, fact.rest) = (Vec::new(), Vec::new(), Vec::new());
    for state in &after.fields {
        let policy = rules.policy(&after.kind, &state.name);
        let words = words(rules, after, state, policy);
        let standings: Vec<Standing<'_>> = words.iter().map(|(_, standing)| *standing).collect();
        let verdict = if standings.is_empty() { None } else { Some(policy.decide(&standings)) };
        let (winner, rule, value) = match &verdict {
            None => ("", Rule::Nobody, None),
            Some(Verdict { winner, rule, joined }) => {
                let claim = words[*winner].0;
                (after.system(claim.system), *rule, Some(joined.as_deref().unwrap_or(&claim.json)))
            }
        };
        let was = before.field(&state.name);
        let own_word = said.next_if(|(field, _)| field.name == state.name.as_str());
        let moved = own_word.as_ref().is_some_and(|(_, effect)| {
            !matches!(effect, Effect::Joins | Effect::Ignored | Effect::Bounds | Effect::Silenced)
        });
        let is_changed = was.and_then(FieldState::value).map(|json| &**json) != value;
        let was_winner = was.and_then(FieldState::winning).map_or("", |claim| before.system(claim.system));
        let differs =
            is_changed || was_winner != winner || was.map_or(Rule::Unspecified as i32, |s| s.rule) != rule as i32;
        let (was_contested, is_contested) =
            (was.is_some_and(|s| s.rule == Rule::Contested as i32), rule == Rule::Contested);
        if was_contested != is_contested || (is_contested && (differs || moved || is_membership)) {
            contests.push(Contest::new(&state.name, policy.name(), rule, &standings));
        }
        let instead = value.filter(|value| own_word.as_ref().is_none_or(|(field, _)| field.json != value));
        let as_field = |value| Field::new(state.name.as_str(), Bytes::copy_from_slice(value));
        fact.rest.extend(instead.map(as_field));
        if own_word.is_none() && !differs {
            continue;
        }
        if is_changed {
            fact.changed.push(fact.fields.len() as u32);
        }
        let (field, effect) =
            own_word.unwrap_or_else(|| (Field::new(state.name.as_str(), Vec::new()), Effect::Ignored));
        let winner = if winner == own { "" } else { winner };
        decided.push(Decided { effect, winner, rule, changed: is_changed });
        fact.fields.push(field);
    }
    fact.rulings = group(&decided);
    contests
}

/// The conflicts that a merge may open or close: of every field of the entities that it is about.
pub fn conflicts_of_merge(facts: &Facts, change: &Change) -> Vec<EntityId> {
    let Some((id, into)) = merged_by(change) else { return Vec::new() };
    let mut ids = chain(&facts.entities, &id);
    ids.extend(into);
    let entities: Vec<&Entity> = ids.iter().filter_map(|id| facts.entities.get(id).map(AsRef::as_ref)).collect();
    let names: std::collections::BTreeSet<&str> =
        entities.iter().flat_map(|e| &e.fields).map(|field| field.name.as_str()).collect();
    let open = |entity: &Entity, name: &str| entity.field(name).is_some_and(|f| f.rule == Rule::Contested as i32);
    let of = |entity: &Entity| {
        let may = |name: &&&str| facts.rules.policy(&entity.kind, name).may_contest() || open(entity, name);
        let conflict = |name: &&str| entity_id(CONFLICT_KIND, &super::conflict_key(&entity.kind, &entity.key, name));
        names.iter().filter(may).map(conflict).collect::<Vec<_>>()
    };
    entities.into_iter().flat_map(of).collect()
}

/// An input by which a person merges: what is recorded of the entities is said by nobody else.
pub(super) fn place(input: &Input, index: u32, position: Position) -> Place<'_> {
    Place { input, system: &input.system, via: "", index, position }
}
