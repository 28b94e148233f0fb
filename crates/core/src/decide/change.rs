//! What becomes of one change: field by field, what it does to its system's claim, and who wins then.

use std::ops::Range;

use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;

use super::conflict::Contest;
use super::implied::{imply, says_derived_existence};
use super::members;
use crate::Position;
use crate::alert::{ALERT_KIND, EVENT_FIELD};
use crate::change::{Change, Field, Input};
use crate::delivery::degrade::{self, FLOW_KIND};
use crate::entity::{Claim, DELETED_FIELD, Effect, Entity, FieldState, Stamp, member_system};
use crate::event::{document, event_type};
use crate::json::Json;
use crate::merge::{OPERATOR, Policy, Rule, Standing, Verdict};
use crate::name::{self, compare, same};
use crate::order::LIFECYCLE_FIELD;
use crate::path::base_of;
use crate::record::{Fact, FactOutcome, Ruling};
use crate::rules::{Domain, PolicyWalk, Rules};

/// Where a change stands among the records, and for whom it speaks.
pub(super) struct Place<'a> {
    pub(super) input: &'a Input,
    pub(super) system: &'a str,
    /// The key by which it was said, where that is another one's that was merged into the entity.
    pub(super) via: &'a str,
    pub(super) index: u32,
    pub(super) position: Position,
}

impl Place<'_> {
    /// The name under which the entity keeps what is said here.
    pub(super) fn name(&self) -> CompactString {
        member_system(self.system, self.via)
    }
}

/// What [`DELETED_FIELD`] is where nobody has deleted anything.
static EXISTS: &[u8] = b"false";

/// What is decided about one field.
pub(super) struct Decided<'a> {
    pub(super) effect: Effect,
    /// The winning system; empty where it is the change's own, or nobody.
    pub(super) winner: &'a str,
    pub(super) rule: Rule,
    pub(super) changed: bool,
}

/// What of a document a change does not say, as it is put together: all values in one piece of memory, since there are
/// so many of them.
#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    fields: Vec<(CompactString, Range<usize>)>,
}

impl Rest {
    /// With room for what so many fields take mostly.
    fn with_capacity(fields: usize) -> Self {
        Self { bytes: Vec::with_capacity(fields * 64), fields: Vec::with_capacity(fields) }
    }

    fn push(&mut self, name: &CompactString, value: &[u8]) {
        if self.fields.is_empty() {
            // Where a document is told whole, little is left: what that takes mostly, at once.
            self.bytes.reserve(256);
            self.fields.reserve(8);
        }
        let from = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.fields.push((name.clone(), from..self.bytes.len()));
    }

    /// What stands of a field.
    fn push_standing(&mut self, state: &FieldState) {
        if let Some(value) = state.value() {
            self.push(&state.name, value);
        }
    }

    fn into_fields(self) -> Vec<Field> {
        let bytes = Bytes::from(self.bytes);
        self.fields.into_iter().map(|(name, range)| Field { name, json: bytes.slice(range) }).collect()
    }
}

/// The change at hand, as every field of it sees it.
pub(super) struct Scene<'a> {
    rules: &'a Rules,
    entity: &'a Entity,
    system: &'a str,
    /// The system's number in the entity.
    own: Option<u32>,
    stamp: Stamp,
    /// Whether the system has said nothing later: the usual case, in which what it says again needs no second look.
    is_latest: bool,
    /// How far events were sent to this system, where it may echo them.
    sent_to: Option<Position>,
}

/// Decides a change, and which conflicts it opens or closes. Nothing is changed yet: folding the fact does.
pub(super) fn decide_change(
    rules: &Rules,
    sent_to: Option<Position>,
    entity: &Entity,
    change: Change,
    place: &Place<'_>,
) -> (Fact, Vec<Contest>) {
    let (mut fact, contests) = decide_unsigned(rules, sent_to, entity, change, place);
    sign(&mut fact, place);
    (fact, contests)
}

/// The same, but for what the fact says of where it came from, see [`sign`].
pub(super) fn decide_unsigned(
    rules: &Rules,
    sent_to: Option<Position>,
    entity: &Entity,
    mut change: Change,
    place: &Place<'_>,
) -> (Fact, Vec<Contest>) {
    if entity.has_members() {
        return members::decide(rules, sent_to, entity, change, place);
    }
    let system = place.system;
    let own = entity.system_number(system);
    let domain = rules.domain(&change.kind);
    // A person's word is of single fields: it withdraws nothing else, and brings nothing deleted back.
    if system != OPERATOR {
        imply(entity, system, own, &mut change.fields);
    }
    let scene = Scene::new(rules, entity, own, &change, place, sent_to);
    let speaks_of_existence = name::field(&change.fields, DELETED_FIELD).is_some();
    let existence = (speaks_of_existence && entity.field(DELETED_FIELD).is_none()).then(|| entity.existence());

    let mut decided: Vec<Decided<'_>> = Vec::with_capacity(change.fields.len());
    let (mut changed, mut contests) = (Vec::new(), Vec::new());
    let mut rest = Rest::with_capacity(entity.fields.len().saturating_sub(change.fields.len()));
    let mut policies = PolicyWalk::new(domain);
    let mut known = entity.fields.iter();
    for (at, field) in change.fields.iter().enumerate() {
        // Both lists are sorted: fields that the change does not speak of are the rest of the document.
        let mut state = None;
        while let Some(other) = known.as_slice().first() {
            if same(other.name.as_bytes(), field.name.as_bytes()) {
                state = Some(other);
            } else if compare(&other.name, &field.name).is_lt() {
                rest.push_standing(other);
            } else {
                break;
            }
            known.next();
            if state.is_some() {
                break;
            }
        }
        if field.name == DELETED_FIELD && state.is_none() {
            state = existence.as_ref();
        }
        let policy = policies.of(&field.name);
        let one = scene.decide(state, policy, field, &mut rest, &mut contests);
        if one.changed {
            changed.push(at as u32);
        }
        decided.push(one);
    }
    known.for_each(|other| rest.push_standing(other));

    let won = decided.iter().any(|d| d.effect.is_current() && d.effect != Effect::Echoes && d.winner.is_empty());
    let rulings = group(&decided);
    let mut fact = Fact { changed, rest: rest.into_fields(), rulings, ..unsigned(rules, entity, change, place) };
    finish(rules, entity, &mut fact, won);
    (fact, contests)
}

/// A fact of a change, before anything is decided about it.
pub(super) fn fact_of(rules: &Rules, entity: &Entity, change: Change, place: &Place<'_>) -> Fact {
    let mut fact = unsigned(rules, entity, change, place);
    sign(&mut fact, place);
    fact
}

/// Says in a fact where it came from.
fn sign(fact: &mut Fact, place: &Place<'_>) {
    fact.source.clone_from(&place.input.source);
    place.system.clone_into(&mut fact.system);
    fact.delivery.clone_from(&place.input.delivery);
    fact.trace = place.input.trace.clone().unwrap_or_default();
}

fn unsigned(rules: &Rules, entity: &Entity, change: Change, place: &Place<'_>) -> Fact {
    let input = place.input;
    Fact {
        payload_hash: input.payload_hash,
        index: place.index,
        sequence: change.sequence,
        occurred_at_us: change.occurred_at_us,
        version: entity.version,
        previous: entity.position,
        previous_event: entity.newest_event(),
        echoed: rules.has_echoes(&change.kind),
        kind: change.kind,
        key: change.key,
        fields: change.fields,
        releases: input.releases.unwrap_or(0),
        received_at_us: input.received_at_us,
        via: place.via.to_owned(),
        ..Fact::default()
    }
}

/// What follows from what was decided of the fields: the version, and what is published.
pub(super) fn finish(rules: &Rules, entity: &Entity, fact: &mut Fact, won: bool) {
    fact.outcome = if won || fact.is_membership() { FactOutcome::Applied } else { FactOutcome::Superseded } as i32;
    fact.version += u64::from(!fact.changed.is_empty());
    fact.deleted = is_deleted(entity, fact);
    let is_merged = fact.merged.as_ref().map_or(!entity.merged_into.is_empty(), |into| !into.is_empty());
    if is_merged {
        // Nobody is told of it by this key any more, and its end is told once.
        let ends = entity.merged_into.is_empty() && entity.published && !fact.deleted;
        fact.deleted |= fact.merged.is_some();
        fact.event_type = if ends { format!("{}.deleted", fact.kind) } else { String::new() };
        return;
    }
    fact.incomplete = rules.domain(&fact.kind).is_some_and(|domain| is_incomplete(domain, fact));
    fact.event_type = type_of(entity, fact);
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        rules: &'a Rules,
        entity: &'a Entity,
        own: Option<u32>,
        change: &Change,
        place: &Place<'a>,
        sent_to: Option<Position>,
    ) -> Self {
        let tie = crate::delivery_hash(&place.input.source, &place.input.delivery);
        let (sequence, occurred_at_us) = (change.sequence, change.occurred_at_us);
        let stamp = Stamp { sequence, occurred_at_us, tie, index: place.index, position: place.position };
        let is_latest = own.is_some_and(|own| entity.stamps.none_is_later(own, &stamp));
        Self { rules, entity, system: place.system, own, stamp, is_latest, sent_to }
    }

    fn decide(
        &self,
        state: Option<&'a FieldState>,
        policy: &Policy,
        field: &Field,
        rest: &mut Rest,
        contests: &mut Vec<Contest>,
    ) -> Decided<'a> {
        let claim = state.and_then(|s| s.claims.iter().find(|c| Some(c.system) == self.own));
        let effect = self.effect(state, claim, policy, field);
        if let (Some(state), Some(claim), Effect::Joins) = (state, claim, effect)
            && let Some(unchanged) = self.unchanged(state, claim, policy, field, rest)
        {
            return unchanged;
        }
        // Before anybody speaks of it, what exists exists: a deletion that loses changes nothing.
        let is_existence = field.name == DELETED_FIELD;
        let exists = is_existence.then_some(EXISTS);
        let before = state.and_then(FieldState::value).map(AsRef::as_ref).or(exists);
        let own = self.own_standing(claim, effect, field);
        let mut others = state
            .into_iter()
            .flat_map(|s| &s.claims)
            .filter(|c| Some(c.system) != self.own && !c.echo && !c.json.is_empty())
            .filter(|c| !(is_existence && says_derived_existence(self.entity.system(c.system), &c.json)))
            .peekable();
        if others.peek().is_none() {
            // The usual case: no other system speaks of this field.
            let value = own.as_ref().map(|own| own.json);
            let rule = own.as_ref().map_or(Rule::Nobody, |own| policy.ranking().alone(own.system));
            self.contest(state, (rule, policy), effect, field, &[], contests);
            if let Some(value) = value.filter(|value| *value != field.json) {
                rest.push(&field.name, value);
            }
            return Decided { effect, winner: "", rule, changed: before != value };
        }
        let has_own = own.is_some();
        let mut claims: Vec<Standing<'_>> = own.into_iter().collect();
        claims.extend(others.map(|other| {
            let system = self.entity.system(other.system);
            Standing::of(system, self.rules.priority(system), other, &self.entity.stamps)
        }));
        let Verdict { winner, rule, joined } = policy.decide(&claims);
        self.contest(state, (rule, policy), effect, field, &claims, contests);
        let value = joined.as_deref().unwrap_or(claims[winner].json);
        let changed = before.is_none_or(|before| *before != *value);
        if *value != field.json {
            rest.push(&field.name, value);
        }
        let winner = match winner {
            0 if has_own => "",
            // The name that is borrowed from the claims lives as long as the entity.
            other => self.entity.systems.iter().find(|s| *s == claims[other].system).map_or("", |s| s.as_str()),
        };
        Decided { effect, winner, rule, changed }
    }

    /// What most fields of a whole document come to: their system says once more what it said, so no claim is another,
    /// and neither is the verdict. `None` where that is not so.
    fn unchanged(
        &self,
        state: &'a FieldState,
        claim: &Claim,
        policy: &Policy,
        field: &Field,
        rest: &mut Rest,
    ) -> Option<Decided<'a>> {
        let rule = Rule::try_from(state.rule).ok().filter(|rule| policy.may_rule(*rule))?;
        let winning = state.winning()?;
        let is_before = || !self.is_latest && self.stamp.order(&self.entity.stamps[claim.start]).is_lt();
        if policy.looks_at_last() || is_before() {
            return None;
        }
        let winner = if Some(winning.system) == self.own { "" } else { self.entity.system(winning.system) };
        // Its own claim is what it says again.
        let is_own = winner.is_empty() && state.joined().is_none();
        debug_assert_eq!(claim.agrees, state.value().is_some_and(|value| *value == claim.json));
        // Where both say the same, the other's value need not come from the memory.
        if let Some(value) = state.value().filter(|value| !is_own && !claim.agrees && **value != field.json) {
            rest.push(&field.name, value);
        }
        Some(Decided { effect: Effect::Joins, winner, rule, changed: false })
    }

    /// What the observation does to its system's claim.
    pub(super) fn effect(
        &self,
        state: Option<&FieldState>,
        claim: Option<&Claim>,
        policy: &Policy,
        field: &Field,
    ) -> Effect {
        if let Some(claim) = claim.filter(|claim| claim.json == field.json) {
            // Most fields of a whole document: it says once more what it said.
            return if self.is_latest { Effect::Joins } else { claim.repeated(&self.stamp, &self.entity.stamps) };
        }
        let rank = |json: &[u8]| policy.ranking().rank(json);
        let silence = match claim {
            Some(claim) if !claim.json.is_empty() => None,
            _ => self.own.and_then(|own| self.entity.silence(own, &field.name)),
        };
        let effect = match claim {
            Some(claim) => {
                let ranks = (rank(&field.json), rank(&claim.json));
                claim.effect((&self.stamp, &field.json), ranks, silence, &self.entity.stamps)
            }
            None if rank(&field.json) > rank(b"") => Effect::Rises,
            None if silence.is_some_and(|silence| self.entity.stamps[silence].order(&self.stamp).is_gt()) => {
                Effect::Silenced
            }
            None => Effect::Starts,
        };
        let begins = matches!(effect, Effect::Starts | Effect::Rises);
        if !begins || !self.is_echo(state, claim, policy, &field.json) {
            return effect;
        }
        match claim {
            // A part of what was put together: the whole must not lose it because the whole came back.
            Some(claim) if matches!(policy, Policy::Union(_)) && !claim.echo && !claim.json.is_empty() => {
                Effect::Ignored
            }
            _ => Effect::Echoes,
        }
    }

    /// Whether the value is one that this system was sent, and has not confirmed or overwritten since.
    fn is_echo(&self, state: Option<&FieldState>, claim: Option<&Claim>, policy: &Policy, json: &[u8]) -> bool {
        let (Some(sent_to), Some(state)) = (self.sent_to, state) else { return false };
        let stands = |json: &[u8]| state.value().is_some_and(|value| *value == *json);
        if matches!(policy, Policy::Owner(owner) if owner.owns(self.system)) && stands(json) {
            // An owner that has taken over what others said has said it.
            return false;
        }
        if stands(json) {
            // It agrees with what stands, whatever it said before it was told.
            return state.since <= sent_to;
        }
        if state.winning().is_some_and(|winner| Some(winner.system) == self.own) {
            // What stands is its own word, and need not be sent to it: nothing would bring it back from this value.
            return false;
        }
        let stood = |json: &[u8]| {
            let hash = crate::payload_hash(json);
            let past = state.past().iter().filter(move |past| past.hash == hash).map(|past| past.since);
            past.chain(stands(json).then_some(state.since))
        };
        let confirmed = match claim {
            // It can't have confirmed what began to stand after it had said so.
            Some(claim) if claim.echo => {
                stood(&claim.json).filter(|since| *since < self.entity.stamps[claim.start].position).max().unwrap_or(0)
            }
            Some(claim) => self.entity.stamps[claim.start].position,
            None => 0,
        };
        stood(json).any(|since| since > confirmed && since <= sent_to)
    }

    /// What the change's system says of the field after this observation.
    fn own_standing<'b>(&self, claim: Option<&'b Claim>, effect: Effect, field: &'b Field) -> Option<Standing<'b>>
    where
        'a: 'b,
    {
        let new = |json: &'b [u8], since: &Stamp, seen: &Stamp| Standing {
            system: self.system,
            priority: self.rules.priority(self.system),
            since: *since,
            seen: *seen,
            json,
        };
        let stamps = &self.entity.stamps;
        let stamp = &self.stamp;
        let standing = match (effect, claim) {
            (Effect::Starts | Effect::Rises, _) => new(&field.json, stamp, stamp),
            (Effect::Joins, Some(claim)) if !claim.echo => {
                let (start, last) = (&stamps[claim.start], &stamps[claim.last(stamps)]);
                let since = if stamp.order(start).is_lt() { stamp } else { start };
                let seen = if stamp.order(last).is_gt() { stamp } else { last };
                new(&claim.json, since, seen)
            }
            (Effect::Splits, Some(claim)) if !claim.echo => {
                new(&claim.json, &stamps[claim.first_after(stamp, stamps)], &stamps[claim.last(stamps)])
            }
            (Effect::Bounds | Effect::Ignored, Some(claim)) if !claim.echo => {
                new(&claim.json, &stamps[claim.start], &stamps[claim.last(stamps)])
            }
            _ => return None,
        };
        Some(standing).filter(|s| !s.json.is_empty())
    }

    /// Notes a conflict that begins, changes or ends here.
    fn contest(
        &self,
        state: Option<&FieldState>,
        (rule, policy): (Rule, &Policy),
        effect: Effect,
        field: &Field,
        claims: &[Standing<'_>],
        contests: &mut Vec<Contest>,
    ) {
        let before = state.is_some_and(|s| s.rule == Rule::Contested as i32);
        let after = rule == Rule::Contested;
        let moved = !matches!(effect, Effect::Joins | Effect::Ignored | Effect::Bounds);
        if before != after || (after && moved) {
            contests.push(Contest::new(&field.name, policy.name(), rule, claims));
        }
    }
}

fn is_deleted(entity: &Entity, fact: &Fact) -> bool {
    let own = |fields: &[Field]| name::field(fields, DELETED_FIELD).map(|f| f.json == "true");
    own(&fact.rest).or_else(|| own(&fact.fields)).unwrap_or_else(|| entity.is_deleted())
}

fn is_incomplete(domain: &Domain, fact: &Fact) -> bool {
    if domain.required.is_empty() {
        return false;
    }
    let document = document(fact);
    let is_there = |name: &String| document.iter().any(|f| base_of(&f.name) == name && f.json != "null");
    !domain.required.iter().all(is_there)
}

/// The type of the event that a fact publishes; empty where it publishes none.
fn type_of(entity: &Entity, fact: &Fact) -> String {
    let was_deleted = entity.is_deleted();
    if fact.deleted {
        // Nobody is told of the end of something that nobody was told of.
        let ends = !was_deleted && entity.published;
        return if ends { format!("{}.deleted", fact.kind) } else { String::new() };
    }
    let returns = !entity.merged_into.is_empty();
    if (fact.changed.is_empty() && !returns) || fact.incomplete {
        return String::new();
    }
    let first = !entity.published || was_deleted || returns;
    let telling = match fact.kind.as_str() {
        "order" => LIFECYCLE_FIELD,
        "payment" => "kind",
        "conflict" => super::conflict::STATUS_FIELD,
        // Told twice is escalated twice.
        ALERT_KIND => EVENT_FIELD,
        FLOW_KIND => degrade::EVENT_FIELD,
        _ => return event_type(&fact.kind, first, None, None),
    };
    let was = entity.value(telling).filter(|_| !first).map(|json| json.as_ref());
    // What stands in the rest is the winning value, also where the change itself speaks of the field.
    let in_list = |fields: &'_ [Field]| name::field(fields, telling).map(|f| f.json.clone());
    let is =
        in_list(&fact.rest).or_else(|| in_list(&fact.fields)).or_else(|| entity.value(telling).map(Json::to_bytes));
    event_type(&fact.kind, first, was, is.as_deref())
}

pub(super) fn group(decided: &[Decided<'_>]) -> Vec<Ruling> {
    // Names of systems are borrowed from the entity: mostly it is the very same one.
    let same_name = |a: &str, b: &str| std::ptr::eq(a, b) || a == b;
    let same =
        |a: &Decided<'_>, b: &Decided<'_>| (a.rule, a.effect) == (b.rule, b.effect) && same_name(a.winner, b.winner);
    let ruling = |d: &Decided<'_>, fields| Ruling {
        fields,
        winner: d.winner.to_owned(),
        rule: d.rule as i32,
        stale: !d.effect.is_current(),
        effect: d.effect as i32,
    };
    // First which group each is of, so that the lists are made as long as they are to be. They are few, and neighbours are mostly
    // of the same.
    let mut groups: SmallVec<[(&Decided<'_>, usize); 8]> = SmallVec::new();
    let mut of: SmallVec<[u32; 128]> = SmallVec::with_capacity(decided.len());
    let mut last = 0;
    for one in decided {
        if groups.get(last).is_none_or(|(d, _)| !same(d, one)) {
            last = groups.iter().position(|(d, _)| same(d, one)).unwrap_or(groups.len());
        }
        match groups.get_mut(last) {
            Some((_, count)) => *count += 1,
            None => groups.push((one, 1)),
        }
        of.push(last as u32);
    }
    if let [(only, _)] = groups.as_slice() {
        return vec![ruling(only, Vec::new())];
    }
    let mut rulings: Vec<Ruling> = groups.iter().map(|(d, count)| ruling(d, Vec::with_capacity(*count))).collect();
    for (at, group) in of.into_iter().enumerate() {
        rulings[group as usize].fields.push(at as u32);
    }
    rulings
}
