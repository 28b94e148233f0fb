//! `latest`: the latest write wins; at the same instant the higher priority, then the delivery id.

use super::{Ranking, Rule, Standing, Verdict, latest_of};

/// The policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// Whether two values of the same instant and priority are left to a person.
    pub ties_to_review: bool,
}

impl Ranking for Latest {
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        let (winner, rule) = latest_of(claims);
        let won = &claims[winner];
        let undecided = |s: &Standing<'_>| {
            s.json != won.json && (s.since.occurred_at_us, s.priority) == (won.since.occurred_at_us, won.priority)
        };
        let contested = self.ties_to_review && claims.iter().any(undecided);
        Verdict::of((winner, if contested { Rule::Contested } else { rule }))
    }
}
