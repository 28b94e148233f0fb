//! The auditor's own idea of a document: a function of the set of observations, in the simplest way there is.
//! Everything is kept, and sorted each time. It shares no code with the hub's merge.

use std::collections::BTreeMap;

use crate::op::{Message, Said};
use crate::rules::{FIELDS, FieldRow, Judge, LIST, RANKS, item, priority};

/// When a system counts as having written a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Semantics {
    /// When it last said so.
    Plain,
    /// When it began to say so: at the start of the run of equal values, in the order of its stamps.
    Runs,
}

/// What the hub is held against.
pub const SEMANTICS: Semantics = Semantics::Runs;

/// What one message says of one field. The order of the members is the order of a system's own stamps; equal
/// stamps are of one message, and the value stands last so that the order is total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Observation {
    sequence: u64,
    at_us: i64,
    tie: u64,
    index: u32,
    json: &'static str,
}

/// A field as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its value.
    pub json: &'static str,
    /// Whose it is.
    pub system: &'static str,
}

/// A document as it should be, by field.
pub type Document = BTreeMap<&'static str, Expected>;

/// All that was said of one entity.
#[derive(Clone, Debug, Default)]
pub struct Book(Vec<Word>);

/// One message's word of it.
#[derive(Clone, Debug)]
struct Word {
    system: &'static str,
    /// Where it stands; its value is that of no field.
    at: Observation,
    said: Said,
}

impl Word {
    /// What it says of a field: nothing at all, or that there is nothing (any more), which is empty.
    fn of(&self, field: &str) -> Option<&'static str> {
        let given = |name: &str| self.said.fields.iter().find(|(other, _)| *other == name).map(|(_, json)| *json);
        let says_nothing = self.said.deletes || (item(field).is_some() && given(LIST).is_some());
        given(field).or(says_nothing.then_some(""))
    }
}

impl Book {
    /// Adds what a message says.
    pub fn note(&mut self, message: &Message, said: &Said, index: u32) {
        let way = message.way();
        let id = [way.source.as_bytes(), &[0], message.delivery.as_bytes()].concat();
        let tie = xxhash_rust::xxh3::xxh3_64(&id);
        let at = Observation { sequence: said.sequence, at_us: said.at_us, tie, index, json: "" };
        self.0.push(Word { system: way.system, at, said: said.clone() });
    }

    /// What each system says of something, where it says anything.
    fn claims(
        &self,
        judge: Judge,
        semantics: Semantics,
        says: impl Fn(&Word) -> Option<&'static str>,
    ) -> Vec<(&'static str, Observation)> {
        let mut of: BTreeMap<&'static str, Vec<Observation>> = BTreeMap::new();
        for word in &self.0 {
            let said = says(word).map(|json| Observation { json, ..word.at.clone() });
            of.entry(word.system).or_default().extend(said);
        }
        let claims = of.into_iter().filter_map(|(system, said)| Some((system, claim(&said, judge, semantics)?)));
        claims.filter(|(_, claim)| !claim.json.is_empty()).collect()
    }

    /// The document that follows.
    pub fn document(&self, kind: &str, semantics: Semantics) -> Document {
        let field = |row: &FieldRow| {
            let claims = self.claims(row.judge, semantics, |word| word.of(row.name));
            let (system, claim) = winner(claims, row.judge)?;
            Some((row.name, Expected { json: claim.json, system }))
        };
        FIELDS.iter().filter(|row| row.kind == kind).filter_map(field).collect()
    }

    /// Whether it is gone: whoever wrote last decides, by a deletion or by any other word.
    pub fn is_deleted(&self, semantics: Semantics) -> bool {
        let claims =
            self.claims(Judge::Latest, semantics, |word| Some(if word.said.deletes { "true" } else { "false" }));
        winner(claims, Judge::Latest).is_some_and(|(_, claim)| claim.json == "true")
    }
}

fn rank(json: &str) -> i32 {
    RANKS.iter().find(|(state, _)| *state == json).map_or(i32::MIN, |(_, rank)| *rank)
}

/// What stands of all that one system has said.
fn claim(said: &[Observation], judge: Judge, semantics: Semantics) -> Option<Observation> {
    let mut said = said.to_vec();
    said.sort();
    if judge == Judge::Rank {
        // The furthest state stands, whatever was said before or after.
        let furthest = said.iter().map(|one| rank(one.json)).max()?;
        said.retain(|one| rank(one.json) == furthest);
    }
    let mut at = said.len().checked_sub(1)?;
    if semantics == Semantics::Runs {
        while at > 0 && said[at - 1].json == said[at].json {
            at -= 1;
        }
    }
    Some(said.swap_remove(at))
}

/// Who wins among the systems.
fn winner(mut claims: Vec<(&'static str, Observation)>, judge: Judge) -> Option<(&'static str, Observation)> {
    if let Judge::Owner(systems) = judge {
        for owner in systems {
            if let Some(owned) = claims.iter().find(|(system, claim)| system == owner && claim.json != "null") {
                return Some(owned.clone());
            }
        }
        if claims.iter().any(|(_, claim)| claim.json != "null") {
            claims.retain(|(_, claim)| claim.json != "null");
        }
    }
    claims.into_iter().max_by_key(|(system, claim)| {
        let further = if judge == Judge::Rank { (rank(claim.json), claim.sequence) } else { (0, 0) };
        (further, claim.at_us, priority(system), claim.tie, claim.index, claim.json, *system)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(said: &[(u64, i64, &'static str)]) -> Vec<Observation> {
        said.iter().map(|&(sequence, at_us, json)| Observation { sequence, at_us, tie: 0, index: 0, json }).collect()
    }

    #[test]
    fn a_run_begins_where_the_value_was_first_said_again() {
        let said = book(&[(0, 5, "2"), (0, 1, "1"), (0, 2, "2"), (0, 4, "2"), (0, 3, "1")]);
        let at = |semantics| claim(&said, Judge::Latest, semantics).map(|c| (c.at_us, c.json));
        assert_eq!(at(Semantics::Plain), Some((5, "2")));
        assert_eq!(at(Semantics::Runs), Some((4, "2")));
    }

    #[test]
    fn a_sequence_beats_the_clock_of_the_same_system_only() {
        let said = book(&[(2, 1, "1"), (1, 9, "2")]);
        let own = claim(&said, Judge::Latest, Semantics::Plain).unwrap();
        assert_eq!(own.json, "1");
        let other = Observation { sequence: 0, at_us: 2, tie: 0, index: 0, json: "3" };
        assert_eq!(winner(vec![("erp", own), ("wms", other)], Judge::Latest).unwrap().0, "wms");
    }

    #[test]
    fn an_owner_without_a_value_gives_way() {
        let one = |at_us, json| Observation { sequence: 0, at_us, tie: 0, index: 0, json };
        let of = |claims| winner(claims, Judge::Owner(&["wms", "shop"])).unwrap().0;
        assert_eq!(of(vec![("erp", one(9, "1")), ("wms", one(1, "2"))]), "wms");
        assert_eq!(of(vec![("erp", one(9, "1")), ("shop", one(1, "2")), ("wms", one(1, "null"))]), "shop");
        assert_eq!(of(vec![("erp", one(2, "1")), ("wms", one(9, "null"))]), "erp");
        assert_eq!(of(vec![("erp", one(2, "null")), ("wms", one(9, "null"))]), "wms");
    }
}
