//! `owner`: the first of an ordered list of systems that has a value. What others write is kept as a claim
//! (a divergence that can be seen), and stands in only until an owner has spoken.

use super::{Ranking, Rule, Standing, latest_of};

/// The policy: the system of record, then its fallbacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The systems, the system of record first.
    pub systems: Vec<String>,
}

impl Owner {
    /// Whether a system is in the list.
    pub fn owns(&self, system: &str) -> bool {
        self.systems.iter().any(|s| s == system)
    }
}

impl Ranking for Owner {
    fn winner(&self, claims: &[Standing<'_>]) -> (usize, Rule) {
        // An explicit null is "no value": the next system of the list speaks.
        let has_value = |s: &Standing<'_>| s.json != b"null";
        for owner in &self.systems {
            if let Some(at) = claims.iter().position(|s| s.system == owner && has_value(s)) {
                return (at, Rule::Owner);
            }
        }
        let with_value: Vec<usize> = (0..claims.len()).filter(|at| has_value(&claims[*at])).collect();
        if with_value.is_empty() {
            return (latest_of(claims).0, Rule::OwnerAbsent);
        }
        let standing: Vec<_> = with_value.iter().map(|at| claims[*at]).collect();
        (with_value[latest_of(&standing).0], Rule::OwnerAbsent)
    }
}
