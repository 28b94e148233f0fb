//! `owner`: the first of an ordered list of systems that has a value. What others write is kept as a claim
//! (a divergence that can be seen), and stands in only until an owner has spoken.

use super::{Ranking, Rule, Standing, Verdict, among, latest_of};

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
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        // An explicit null is "no value": the next system of the list speaks.
        for owner in &self.systems {
            if let Some(at) = claims.iter().position(|s| s.system == owner && s.has_value()) {
                return Verdict::of((at, Rule::Owner));
            }
        }
        let latest = among(claims, |s| s.has_value(), latest_of).unwrap_or_else(|| latest_of(claims));
        Verdict::of((latest.0, Rule::OwnerAbsent))
    }

    fn alone(&self, system: &str) -> Rule {
        if self.owns(system) { Rule::Owner } else { Rule::OwnerAbsent }
    }
}
