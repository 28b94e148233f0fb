//! `highest-version`: for copies of one document that carry its version. The copy with the highest version wins,
//! whenever it came; without a version a copy ranks lowest. At the same version the latest.

use super::{Ranking, Rule, Standing, Verdict, across_order, greatest, latest_of};

/// The policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighestVersion;

impl Ranking for HighestVersion {
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        // The version at which a system last said it: it still says so.
        let version = |s: &Standing<'_>| s.seen.sequence;
        let winner = greatest(claims, |a, b| version(a).cmp(&version(b)).then_with(|| across_order(a, b)));
        let highest = version(&claims[winner]);
        let rivals = claims.iter().filter(|s| version(s) == highest).count();
        Verdict::of((winner, if rivals > 1 { latest_of(claims).1.max(Rule::Latest) } else { Rule::HighestVersion }))
    }
}
