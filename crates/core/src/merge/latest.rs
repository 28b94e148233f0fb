//! `latest`: the latest write wins; at the same instant the higher priority, then the delivery id.

use super::{Ranking, Rule, Standing, latest_of};

/// The policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latest;

impl Ranking for Latest {
    fn winner(&self, claims: &[Standing<'_>]) -> (usize, Rule) {
        latest_of(claims)
    }
}
