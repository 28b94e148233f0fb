//! `business-state`: the state that is further along wins, whenever it was said; at the same rank the latest.
//! A state never goes back because a message was late.

use std::cmp::Ordering;

use super::{Ranking, Rule, Standing, across_order, own_order};

/// The policy: states and their ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusinessState {
    /// Each state's name and rank.
    pub states: Vec<(String, i32)>,
}

impl BusinessState {
    /// The rank of a value (compact JSON); an unknown state ranks below every known one.
    pub fn rank(&self, json: &[u8]) -> i32 {
        let name = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let known = name.and_then(|name| self.states.iter().find(|(state, _)| state.as_bytes() == name));
        known.map_or(i32::MIN, |(_, rank)| *rank)
    }
}

impl Ranking for BusinessState {
    fn replaces(&self, new: &Standing<'_>, old: &Standing<'_>) -> bool {
        let ranks = self.rank(new.json).cmp(&self.rank(old.json));
        ranks.then_with(|| own_order(new, old)) == Ordering::Greater
    }

    fn winner(&self, claims: &[Standing<'_>]) -> (usize, Rule) {
        let order = |a: &Standing<'_>, b: &Standing<'_>| {
            let ranks = self.rank(a.json).cmp(&self.rank(b.json));
            ranks.then_with(|| a.sequence.cmp(&b.sequence)).then_with(|| across_order(a, b))
        };
        let best = (1..claims.len())
            .fold(0, |best, at| if order(&claims[at], &claims[best]) == Ordering::Greater { at } else { best });
        let rule = if claims.len() == 1 { Rule::Only } else { Rule::HighestState };
        (best, rule)
    }
}
