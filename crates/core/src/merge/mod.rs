//! Who wins a field, and why.
//!
//! The promise: a document is a function of the *set* of observations received, not of their order. It holds in two
//! steps. A system's observations of a field come to one claim: the value of its latest run and the stamp at which
//! that run began ([`Claim`]). Then a policy picks among the systems' claims ([`Ranking::winner`]), which must be a
//! total order or a join. `laws.rs` checks the whole for every policy in [`Policy`].
//!
//! A policy is one file of this folder and one line in [`Policy`].

mod business_state;
mod extreme;
mod highest_version;
mod latest;
mod owner;
mod review;
mod rule;
mod union;

#[cfg(test)]
mod laws;

use std::cmp::Ordering;

use bytes::Bytes;

pub use business_state::BusinessState;
pub use extreme::{Max, Min};
pub use highest_version::HighestVersion;
pub use latest::Latest;
pub use owner::Owner;
pub use review::{OPERATOR, Review};
pub use rule::Rule;
pub use union::Union;

use crate::entity::{Claim, Stamp, Stamps};

/// A system's claim, as far as ranking looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The system.
    pub system: &'a str,
    /// Its priority among equals.
    pub priority: u32,
    /// When it wrote the value: the first observation of its latest run.
    pub since: Stamp,
    /// When it last said it.
    pub seen: Stamp,
    /// The value as compact JSON.
    pub json: &'a [u8],
}

impl<'a> Standing<'a> {
    /// A claim as it stands.
    pub fn of(system: &'a str, priority: u32, claim: &'a Claim, stamps: &Stamps) -> Self {
        Self { system, priority, since: stamps[claim.start], seen: stamps[claim.last(stamps)], json: &claim.json }
    }

    /// Whether it has a value: an explicit null says that there is none.
    pub fn has_value(&self) -> bool {
        self.json != b"null"
    }
}

/// What a policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The number of the winning claim.
    pub winner: usize,
    /// Why.
    pub rule: Rule,
    /// The value, where it is made of several claims.
    pub joined: Option<Bytes>,
}

impl Verdict {
    fn of((winner, rule): (usize, Rule)) -> Self {
        Self { winner, rule, joined: None }
    }
}

/// What a policy must answer; see the module for the laws.
pub trait Ranking {
    /// The rank of a value among those that one system says: the higher stands, whenever it was said. Equal for all
    /// values where only the stamps order them.
    fn rank(&self, _json: &[u8]) -> i64 {
        0
    }

    /// The winning claim, and why. `claims` has one claim a system, and at least two.
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict;

    /// The rule by which the only system that speaks of a field has it.
    fn alone(&self, _system: &str) -> Rule {
        Rule::Only
    }
}

/// The policies that a configuration can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The first of an ordered list of systems that has a value.
    Owner(Owner),
    /// The latest write.
    Latest(Latest),
    /// The highest source version.
    HighestVersion(HighestVersion),
    /// The highest rank of a declared list of states.
    BusinessState(BusinessState),
    /// The greatest value.
    Max(Max),
    /// The least value.
    Min(Min),
    /// All members of all sets.
    Union(Union),
    /// A person decides where systems disagree.
    Review(Review),
}

impl Policy {
    /// What the policy answers.
    pub fn ranking(&self) -> &dyn Ranking {
        match self {
            Self::Owner(policy) => policy,
            Self::Latest(policy) => policy,
            Self::HighestVersion(policy) => policy,
            Self::BusinessState(policy) => policy,
            Self::Max(policy) => policy,
            Self::Min(policy) => policy,
            Self::Union(policy) => policy,
            Self::Review(policy) => policy,
        }
    }

    /// The name by which the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Owner(_) => "owner",
            Self::Latest(_) => "latest",
            Self::HighestVersion(_) => "highest-version",
            Self::BusinessState(_) => "business-state",
            Self::Max(_) => "max",
            Self::Min(_) => "min",
            Self::Union(_) => "union",
            Self::Review(_) => "review",
        }
    }

    /// Whether it may leave a conflict for a person.
    pub fn may_contest(&self) -> bool {
        matches!(self, Self::Review(_) | Self::Latest(Latest { ties_to_review: true }))
    }

    /// Whether the verdict depends on when a system last said something, not only on when it wrote it.
    pub fn looks_at_last(&self) -> bool {
        matches!(self, Self::HighestVersion(_) | Self::Review(_))
    }

    /// Whether a verdict with this rule may be this policy's; another one is of a policy that was in force before.
    pub fn may_rule(&self, rule: Rule) -> bool {
        let by_time = matches!(rule, Rule::Latest | Rule::Priority | Rule::Tie);
        match self {
            Self::Owner(_) => matches!(rule, Rule::Owner | Rule::OwnerAbsent),
            Self::Latest(latest) => by_time || rule == Rule::Only || (rule == Rule::Contested && latest.ties_to_review),
            Self::HighestVersion(_) => by_time || matches!(rule, Rule::Only | Rule::HighestVersion),
            Self::BusinessState(_) => matches!(rule, Rule::Only | Rule::HighestState),
            Self::Max(_) => matches!(rule, Rule::Only | Rule::Greatest),
            Self::Min(_) => matches!(rule, Rule::Only | Rule::Least),
            Self::Union(_) => matches!(rule, Rule::Only | Rule::Union),
            Self::Review(_) => {
                let decided = matches!(rule, Rule::Resolved | Rule::Preferred | Rule::Contested);
                decided || matches!(rule, Rule::Only | Rule::Agreed)
            }
        }
    }

    /// Decides among all systems' claims to one field.
    pub fn decide(&self, claims: &[Standing<'_>]) -> Verdict {
        match claims {
            [one] => Verdict::of((0, self.ranking().alone(one.system))),
            _ => self.ranking().winner(claims),
        }
    }
}

/// The order of different systems' writes: the clock, the priority, the delivery. Versions of different systems say
/// nothing about each other. Value and name stand last so that the order is total.
pub(crate) fn across_order(a: &Standing<'_>, b: &Standing<'_>) -> Ordering {
    let key = |s: &Standing<'_>| (s.since.occurred_at_us, s.priority, s.since.tie, s.since.index);
    key(a).cmp(&key(b)).then_with(|| a.json.cmp(b.json)).then_with(|| a.system.cmp(b.system))
}

/// The greatest of several claims.
pub(crate) fn greatest(claims: &[Standing<'_>], order: impl Fn(&Standing<'_>, &Standing<'_>) -> Ordering) -> usize {
    (1..claims.len()).fold(0, |best, at| if order(&claims[at], &claims[best]).is_gt() { at } else { best })
}

/// The latest of several claims, and which part of the order decided.
pub(crate) fn latest_of(claims: &[Standing<'_>]) -> (usize, Rule) {
    let best = greatest(claims, across_order);
    let winner = &claims[best];
    let mut rule = if claims.len() == 1 { Rule::Only } else { Rule::Latest };
    for (at, other) in claims.iter().enumerate() {
        if at != best && other.since.occurred_at_us == winner.since.occurred_at_us {
            rule = if other.priority == winner.priority { Rule::Tie } else { rule.max(Rule::Priority) };
        }
    }
    (best, rule)
}

/// Decides among some of the claims.
pub(crate) fn among(
    claims: &[Standing<'_>],
    wanted: impl Fn(&Standing<'_>) -> bool,
    decide: impl Fn(&[Standing<'_>]) -> (usize, Rule),
) -> Option<(usize, Rule)> {
    let places: Vec<usize> = (0..claims.len()).filter(|at| wanted(&claims[*at])).collect();
    if places.is_empty() {
        return None;
    }
    let some: Vec<_> = places.iter().map(|at| claims[*at]).collect();
    let (winner, rule) = decide(&some);
    Some((places[winner], rule))
}
