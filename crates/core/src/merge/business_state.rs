//! `business-state`: the state that is further along wins, whenever it was said; at the same rank the highest
//! version, then the latest. A state never goes back because a message was late.

use super::{Ranking, Rule, Standing, Verdict, across_order, greatest};

/// The policy: states and their ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusinessState {
    /// Each state's name and rank.
    pub states: Vec<(String, i32)>,
}

impl Ranking for BusinessState {
    /// An unknown state ranks below every known one.
    fn rank(&self, json: &[u8]) -> i64 {
        let name = json.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        let known = name.and_then(|name| self.states.iter().find(|(state, _)| state.as_bytes() == name));
        known.map_or(i64::MIN, |(_, rank)| i64::from(*rank))
    }

    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        let winner = greatest(claims, |a, b| {
            let ranks = self.rank(a.json).cmp(&self.rank(b.json));
            ranks.then_with(|| a.since.sequence.cmp(&b.since.sequence)).then_with(|| across_order(a, b))
        });
        Verdict::of((winner, Rule::HighestState))
    }
}
