//! Which entity is meant: by its key, or by what a system calls it; and whom an external id belongs to.

use bytes::Bytes;

use super::members::chain;
use super::{Entities, Facts, Refusal, order};
use crate::alias::{ALIAS_KIND, Alias, EXTERNAL_IDS_FIELD};
use crate::change::{Change, Field, Input, QuarantineReason};
use crate::entity::Entity;
use crate::entity_id;
use crate::event::write_string;
use crate::merge::OPERATOR;
use crate::name;
use crate::record::Fact;

/// The field of an alias with the kind of the entity that it belongs to; null where it belongs to none any more.
pub const ALIAS_OF_KIND: &str = "entity_kind";
/// The field of an alias with the key of the entity that it belongs to.
pub const ALIAS_OF_KEY: &str = "entity_key";

/// Kind and key of the entity that an external id belongs to, as its document says.
pub fn holder(alias: &Entity) -> Option<(String, String)> {
    let text = |name: &str| serde_json::from_slice::<Option<String>>(alias.value(name)?).ok().flatten();
    Some((text(ALIAS_OF_KIND)?, text(ALIAS_OF_KEY)?))
}

fn holder_of(entities: &Entities, alias: &Alias) -> Option<(String, String)> {
    holder(entities.get(&alias.id())?)
}

/// Whether a change names entities by external ids, or gives some. Nearly none does.
pub fn has_aliases(change: &Change) -> bool {
    let gives = name::field(&change.fields, EXTERNAL_IDS_FIELD).is_some();
    let refers = || order::order_field(change).is_some_and(|at| change.fields[at].json.starts_with(b"\"@"));
    gives || Alias::is_one(&change.key) || refers()
}

/// The external ids by which a change names entities, and those that it gives.
pub fn aliases(change: &Change) -> Vec<Alias> {
    let named = order::order_field(change).and_then(|at| order::key_of(&change.fields[at]));
    let named = [Some(change.key.clone()), named].into_iter().flatten().filter_map(|key| Alias::parse(&key));
    named.chain(Alias::given(&change.fields).unwrap_or_default()).collect()
}

/// A change as it would be with what is known of the external ids in it; `None` where it has none.
pub fn known_as(entities: &Entities, change: &Change) -> Option<Change> {
    let mut known = change.clone();
    let mut holder = |alias: &Alias| holder_of(entities, alias);
    let replaced = replace(&mut known, &mut holder);
    (replaced.is_err() || known != *change).then_some(known)
}

/// Puts keys in the place of external ids. The first that can't be is told.
fn replace(change: &mut Change, holder: &mut dyn FnMut(&Alias) -> Option<(String, String)>) -> Result<(), Refusal> {
    if Alias::is_one(&change.key) {
        change.key = key_of(&change.key, &change.kind, holder)?;
    }
    let reference = order::order_field(change);
    if let Some(at) = reference
        && let Some(key) = order::key_of(&change.fields[at]).filter(|key| Alias::is_one(key))
    {
        let mut json = Vec::with_capacity(key.len() + 2);
        write_string(&mut json, &key_of(&key, "order", holder)?);
        change.fields[at].json = json.into();
    }
    Ok(())
}

fn key_of(
    text: &str,
    kind: &str,
    holder: &mut dyn FnMut(&Alias) -> Option<(String, String)>,
) -> Result<String, Refusal> {
    let unknown = || Refusal::AliasUnknown { alias: text.to_owned(), kind: kind.to_owned() };
    let (known_kind, key) = Alias::parse(text).and_then(|alias| holder(&alias)).ok_or_else(unknown)?;
    if known_kind != kind {
        let known = entity_id(&known_kind, &key);
        return Err(Refusal::AliasTaken {
            alias: text.to_owned(),
            known: known.into(),
            claimed: entity_id(kind, text).into(),
        });
    }
    Ok(key)
}

/// Puts keys in the place of external ids, and looks whether those that are given are free. A sender who waits for the
/// answer is refused; else it is the reason for quarantine.
pub(super) fn resolve(
    facts: &Facts,
    input: &Input,
    changes: &mut [Change],
) -> Result<Option<QuarantineReason>, Refusal> {
    // What this input gives itself counts for its later changes.
    let mut given: Vec<(Alias, (String, String))> = Vec::new();
    for (at, change) in changes.iter_mut().enumerate().filter(|(_, change)| has_aliases(change)) {
        if let Err((refusal, place)) = resolve_one(facts, change, &mut given) {
            // Whoever releases from quarantine waits for the answer too.
            if input.reject_reuse || input.releases.is_some() {
                return Err(refusal);
            }
            let (code, at) = (refusal.quarantine_code().to_owned(), format!("/{at}{place}"));
            return Ok(Some(QuarantineReason { code, detail: refusal.to_string(), at }));
        }
    }
    Ok(None)
}

fn resolve_one(
    facts: &Facts,
    change: &mut Change,
    given: &mut Vec<(Alias, (String, String))>,
) -> Result<(), (Refusal, &'static str)> {
    let known = |given: &[(Alias, (String, String))], alias: &Alias| {
        let own = given.iter().find(|(other, _)| other == alias).map(|(_, holder)| holder.clone());
        own.or_else(|| holder_of(&facts.entities, alias))
    };
    replace(change, &mut |alias| known(given, alias)).map_err(|refusal| (refusal, "/key"))?;
    let invalid = |detail| (Refusal::AliasInvalid { id: change.id().into(), detail }, "/fields/external_ids");
    for alias in Alias::given(&change.fields).map_err(invalid)? {
        match known(given, &alias) {
            None => given.push((alias, (change.kind.clone(), change.key.clone()))),
            Some((kind, key)) if kind == change.kind && is_one(facts, &kind, &key, &change.key) => {}
            Some((kind, key)) => {
                let (known, claimed) = (entity_id(&kind, &key), change.id());
                let refusal =
                    Refusal::AliasTaken { alias: alias.to_string(), known: known.into(), claimed: claimed.into() };
                return Err((refusal, "/fields/external_ids"));
            }
        }
    }
    Ok(())
}

/// Whether two keys are of one entity, or of two that are merged.
fn is_one(facts: &Facts, kind: &str, a: &str, b: &str) -> bool {
    let last = |key: &str| chain(&facts.entities, &entity_id(kind, key)).pop();
    a == b || last(a) == last(b)
}

/// What the hub has to say of external ids after a fact: whom those that it gives belong to, and that one which a person
/// takes away belongs to none. Only the hub speaks of that, so that its later word counts, whatever the clocks say.
pub(super) fn given(facts: &Facts, fact: &Fact, now_us: i64) -> Vec<Change> {
    let change = |alias: &str, key: Bytes, kind: Bytes| Change {
        kind: ALIAS_KIND.to_owned(),
        key: alias.to_owned(),
        sequence: facts.next,
        occurred_at_us: now_us,
        fields: vec![Field::new(ALIAS_OF_KEY, key), Field::new(ALIAS_OF_KIND, kind)],
        expected_version: None,
    };
    let nobody = || Bytes::from_static(b"null");
    if fact.kind == ALIAS_KIND {
        let taken_away = fact.system == OPERATOR;
        return taken_away.then(|| change(&fact.key, nobody(), nobody())).into_iter().collect();
    }
    let mut new = Alias::given(&fact.fields).unwrap_or_default();
    new.sort();
    new.dedup();
    new.retain(|alias| holder_of(&facts.entities, alias).is_none());
    let text = |text: &str| {
        let mut json = Vec::with_capacity(text.len() + 2);
        write_string(&mut json, text);
        Bytes::from(json)
    };
    new.iter().map(|alias| change(alias.key(), text(&fact.key), text(&fact.kind))).collect()
}
