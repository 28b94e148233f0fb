//! `review`: where systems disagree, a person decides. Until then the value of the system that wrote first stands.
//!
//! A decision is an observation of the system [`OPERATOR`]: it stands as long as no system writes something else after
//! it was last said. Then the conflict is open again, and the decision stands on meanwhile. Where a system is preferred
//! always, what others write after a decision opens nothing: only that system's word takes its place.

use super::{Ranking, Rule, Standing, Verdict, across_order, greatest};

/// The system for which a person speaks who decides a conflict. No configured system has this name.
pub const OPERATOR: &str = "@operator";

/// The policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// The system that a person has decided to prefer always.
    pub prefer: Option<String>,
}

impl Ranking for Review {
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        let preferred = self.prefer.as_ref().and_then(|name| claims.iter().position(|s| s.system == name));
        if let Some(decision) = claims.iter().position(|s| s.system == OPERATOR) {
            let decided = &claims[decision];
            // When it was last said: who says the same again has decided again.
            let newer = |s: &Standing<'_>| s.since.occurred_at_us > decided.seen.occurred_at_us;
            // Something newer of the preferred system needs nobody.
            if let Some(at) = preferred.filter(|at| newer(&claims[*at])) {
                return Verdict::of((at, Rule::Preferred));
            }
            let contested = preferred.is_none() && claims.iter().any(|s| newer(s) && s.json != decided.json);
            return Verdict::of((decision, if contested { Rule::Contested } else { Rule::Resolved }));
        }
        if let Some(at) = preferred {
            return Verdict::of((at, Rule::Preferred));
        }
        let first = greatest(claims, |a, b| across_order(b, a));
        let agreed = claims.iter().all(|s| s.json == claims[first].json);
        Verdict::of((first, if agreed { Rule::Agreed } else { Rule::Contested }))
    }
}
