//! The verdict: every system's copy against the hub's state, entity by entity, field by field.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use anyhow::Context;
use lockstep_core::stock::AVAILABILITY_KIND;
use serde_json::Value;

use super::api::{ApiClient, EntityItem, PAGE};
use super::party::Party;
use super::stock::FRONTS;
use super::systems::copy::{Copy, Held};

/// How many differences are told one by one.
const TOLD_MAX: usize = 20;
/// How much of a value is told.
const VALUE_CHARS_MAX: usize = 200;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Difference {
    pub(crate) system: &'static str,
    /// `kind/key`.
    pub(crate) entity: String,
    /// The field; empty where it is about the whole entity.
    pub(crate) field: String,
    pub(crate) theirs: String,
    pub(crate) hubs: String,
}

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Comparison {
    /// Entities of the hub of kinds that a system is told of.
    pub(crate) entities: u64,
    /// Comparisons made: an entity counts once for each system that is told of it.
    pub(crate) compared: [u64; Party::ALL.len()],
    /// All differences.
    pub(crate) differences: u64,
    /// The first of them.
    pub(crate) told: Vec<Difference>,
}

impl Comparison {
    fn differs(
        &mut self,
        party: Party,
        entity: String,
        field: &str,
        theirs: impl Into<String>,
        hubs: impl Into<String>,
    ) {
        self.differences += 1;
        if self.told.len() < TOLD_MAX {
            let (theirs, hubs) = (short(theirs.into()), short(hubs.into()));
            self.told.push(Difference { system: party.name(), entity, field: field.to_owned(), theirs, hubs });
        }
    }

    /// What a front shows of an article, and what the hub lets it sell.
    pub(crate) fn availability(&mut self, front: Party, key: &str, theirs: Option<i64>, hubs: Option<i64>) {
        self.entities += 1;
        self.compared[front.index()] += u64::from(theirs.is_some());
        if theirs != hubs {
            let text = |available: Option<i64>| available.map_or_else(|| "nothing".to_owned(), |n| n.to_string());
            let id = String::from(lockstep_core::entity_id(AVAILABILITY_KIND, key));
            self.differs(front, id, "available", text(theirs), text(hubs));
        }
    }

    fn entity(&mut self, party: Party, kind: &str, theirs: &Held, hubs: &EntityItem) {
        self.compared[party.index()] += 1;
        let id = || String::from(lockstep_core::entity_id(kind, &hubs.key));
        let raw = hubs.document.get();
        if theirs.version == hubs.version && theirs.document == raw.as_bytes() {
            return;
        }
        if theirs.version != hubs.version {
            self.differs(party, id(), "version", theirs.version.to_string(), hubs.version.to_string());
        }
        let read = |json: &[u8]| serde_json::from_slice::<BTreeMap<String, Value>>(json).unwrap_or_default();
        let (own, other) = (read(&theirs.document), read(raw.as_bytes()));
        let names: std::collections::BTreeSet<_> = own.keys().chain(other.keys()).collect();
        let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
        for name in names {
            let (a, b) = (own.get(name), other.get(name));
            if a != b {
                self.differs(party, id(), name, text(a), text(b));
            }
        }
    }
}

fn short(text: String) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// The entities of one kind in a system's copy, in order, a page at a time.
struct Cursor {
    party: Party,
    copy: Arc<Copy>,
    after: String,
    page: VecDeque<Held>,
    ended: bool,
}

impl Cursor {
    fn peek(&mut self, kind: &str) -> anyhow::Result<Option<&Held>> {
        if self.page.is_empty() && !self.ended {
            let page = self.copy.page(kind, &self.after, PAGE);
            self.page = page.with_context(|| format!("the copy of {} can't be read", self.party.name()))?.into();
            self.ended = self.page.len() < PAGE;
            if let Some(last) = self.page.back() {
                self.after.clone_from(&last.key);
            }
        }
        Ok(self.page.front())
    }

    /// Everything before `key` (or everything, without one) is not the hub's.
    fn skip_to(&mut self, kind: &str, key: Option<&str>, found: &mut Comparison) -> anyhow::Result<()> {
        while let Some(held) = self.peek(kind)? {
            if key.is_some_and(|key| held.key.as_str() >= key) {
                return Ok(());
            }
            let id = String::from(lockstep_core::entity_id(kind, &held.key));
            let version = format!("version {}", held.version);
            self.page.pop_front();
            found.differs(self.party, id, "", version, "nothing");
        }
        Ok(())
    }
}

/// Compares every copy with the hub, and shows each of the hub's entities to `look` on the way.
pub(crate) async fn compare(
    api: &ApiClient,
    copies: &[(Party, Arc<Copy>)],
    mut look: impl FnMut(&str, &EntityItem),
) -> anyhow::Result<Comparison> {
    let mut found = Comparison::default();
    let mut kinds: Vec<&str> = Party::ALL.iter().flat_map(|party| party.kinds()).copied().collect();
    kinds.sort_unstable();
    kinds.dedup();
    for (party, copy) in copies {
        for kind in copy.kinds().with_context(|| format!("the copy of {} can't be read", party.name()))? {
            let is_shown = FRONTS.contains(party) && kind == AVAILABILITY_KIND;
            if !is_shown && !party.kinds().contains(&kind.as_str()) {
                found.differs(*party, kind, "", "a kind that it is not told of", "filtered");
            }
        }
    }
    for kind in kinds {
        let told = copies.iter().filter(|(party, _)| party.kinds().contains(&kind));
        let mut cursors: Vec<_> = told
            .map(|(party, copy)| Cursor {
                party: *party,
                copy: copy.clone(),
                after: String::new(),
                page: VecDeque::new(),
                ended: false,
            })
            .collect();
        let mut after = String::new();
        loop {
            let page = api.entities(kind, &after).await?;
            for entity in &page {
                found.entities += 1;
                look(kind, entity);
                for cursor in &mut cursors {
                    cursor.skip_to(kind, Some(&entity.key), &mut found)?;
                    let party = cursor.party;
                    match cursor.peek(kind)? {
                        Some(held) if held.key == entity.key => {
                            found.entity(party, kind, held, entity);
                            cursor.page.pop_front();
                        }
                        _ => {
                            let id = String::from(lockstep_core::entity_id(kind, &entity.key));
                            found.differs(party, id, "", "nothing", format!("version {}", entity.version));
                        }
                    }
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after.clone_from(&last.key),
                _ => break,
            }
        }
        for cursor in &mut cursors {
            cursor.skip_to(kind, None, &mut found)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_field_by_field() {
        let mut found = Comparison::default();
        let held = |version, document: &str| Held { key: "1".into(), version, document: document.into() };
        let hubs = |document: &str| EntityItem {
            key: "1".into(),
            version: 2,
            document: serde_json::value::RawValue::from_string(document.to_owned()).expect("JSON"),
        };
        found.entity(Party::Wms, "order", &held(2, r#"{"a":1}"#), &hubs(r#"{"a":1}"#));
        assert_eq!(found.differences, 0);
        found.entity(Party::Wms, "order", &held(2, r#"{"a":1,"b":2}"#), &hubs(r#"{"b":3,"c":4}"#));
        let told: Vec<_> = found.told.iter().map(|d| (d.field.as_str(), d.theirs.as_str(), d.hubs.as_str())).collect();
        assert_eq!(told, [("a", "1", "nothing"), ("b", "2", "3"), ("c", "nothing", "4")]);
        found.entity(Party::Wms, "order", &held(1, r#"{"a":1}"#), &hubs(r#"{"a":1}"#));
        assert_eq!(found.told.last().map(|d| (d.field.as_str(), d.entity.as_str())), Some(("version", "order/1")));
        assert_eq!((found.differences, found.compared[Party::Wms.index()]), (4, 3));
    }
}
