//! Who wins a field, and why.
//!
//! The promise: a document is a function of the *set* of claims received, not of their order. Every policy is
//! two functions: which of one system's own claims stands ([`Ranking::replaces`]), and which of the systems'
//! standing claims wins ([`Ranking::winner`]). Both must be total orders; then any permutation and any
//! duplication ends in the same state. `laws.rs` checks this for every policy in [`Policy`].
//!
//! A policy is one file of this folder and one line in [`Policy`].

mod business_state;
mod latest;
mod owner;

#[cfg(test)]
mod laws;

use std::cmp::Ordering;

pub use business_state::BusinessState;
pub use latest::Latest;
pub use owner::Owner;

use crate::entity::Claim;

/// The rule by which a field was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Rule {
    /// Never written; what an unknown number reads as.
    Unspecified = 0,
    /// Only one system has spoken of the field.
    Only = 1,
    /// The winner is the first system of the list of owners that has a value.
    Owner = 2,
    /// No owner has a value: nobody may set the field, and what stands is the latest of what was said.
    OwnerAbsent = 3,
    /// The latest write won.
    Latest = 4,
    /// At the same instant, the system with the higher priority won.
    Priority = 5,
    /// At the same instant and priority, the delivery's hash decided: arbitrary, but the same everywhere.
    Tie = 6,
    /// The state with the highest rank won.
    HighestState = 7,
}

impl Rule {
    /// The rule in words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unspecified => "decided by a rule that this version does not know",
            Self::Only => "no other system has spoken of this field",
            Self::Owner => "the winner owns this field",
            Self::OwnerAbsent => "no owner of this field has a value yet; the latest of the others stands in",
            Self::Latest => "the latest write wins",
            Self::Priority => "written at the same instant; the system with the higher priority wins",
            Self::Tie => {
                "written at the same instant with equal priority; the delivery id decides, the same everywhere"
            }
            Self::HighestState => "the state that is further along wins",
        }
    }

    /// A stable name for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Only => "only",
            Self::Owner => "owner",
            Self::OwnerAbsent => "owner-absent",
            Self::Latest => "latest",
            Self::Priority => "priority",
            Self::Tie => "tie",
            Self::HighestState => "highest-state",
        }
    }
}

/// A system's claim, as far as ranking looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The system.
    pub system: &'a str,
    /// Its priority among equals.
    pub priority: u32,
    /// Its version or sequence; 0 where it has none.
    pub sequence: u64,
    /// Its clock, microseconds since 1970 UTC.
    pub occurred_at_us: i64,
    /// The hash of the delivery, the last tie-breaker.
    pub tie: u64,
    /// The value as compact JSON.
    pub json: &'a [u8],
}

impl<'a> Standing<'a> {
    /// A claim as it stands.
    pub fn of(system: &'a str, priority: u32, claim: &'a Claim) -> Self {
        Self {
            system,
            priority,
            sequence: claim.sequence,
            occurred_at_us: claim.occurred_at_us,
            tie: claim.tie,
            json: &claim.json,
        }
    }
}

/// What a policy must answer; see the module for the laws.
pub trait Ranking {
    /// Whether `new` takes the place of `old`, a claim of the same system.
    fn replaces(&self, new: &Standing<'_>, old: &Standing<'_>) -> bool {
        own_order(new, old) == Ordering::Greater
    }

    /// The number of the winning claim, and why. `claims` is never empty and has one claim a system.
    fn winner(&self, claims: &[Standing<'_>]) -> (usize, Rule);
}

/// The policies that a configuration can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The first of an ordered list of systems that has a value.
    Owner(Owner),
    /// The latest write.
    Latest(Latest),
    /// The highest rank of a declared list of states.
    BusinessState(BusinessState),
}

impl Policy {
    /// The policy's two functions.
    pub fn ranking(&self) -> &dyn Ranking {
        match self {
            Self::Owner(policy) => policy,
            Self::Latest(policy) => policy,
            Self::BusinessState(policy) => policy,
        }
    }

    /// The name by which the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Owner(_) => "owner",
            Self::Latest(_) => "latest",
            Self::BusinessState(_) => "business-state",
        }
    }

    /// Decides among all systems' claims to one field.
    pub fn decide(&self, claims: &[Standing<'_>]) -> (usize, Rule) {
        match claims {
            [one] => (0, self.alone(one.system)),
            _ => self.ranking().winner(claims),
        }
    }

    /// The rule by which the only system that has spoken of a field has it.
    pub fn alone(&self, system: &str) -> Rule {
        match self {
            Self::Owner(owner) if owner.owns(system) => Rule::Owner,
            Self::Owner(_) => Rule::OwnerAbsent,
            _ => Rule::Only,
        }
    }
}

/// The order of one system's own claims: its version where it has one, else its clock, then the delivery.
/// Equal values at equal stamps need no winner, but the value stands last so that the order is total.
pub(crate) fn own_order(a: &Standing<'_>, b: &Standing<'_>) -> Ordering {
    let key = |s: &Standing<'_>| (s.sequence, s.occurred_at_us, s.tie);
    key(a).cmp(&key(b)).then_with(|| a.json.cmp(b.json))
}

/// The order of different systems' claims: the clock, the priority, the delivery. Versions of different
/// systems say nothing about each other. The name stands last so that the order is total.
pub(crate) fn across_order(a: &Standing<'_>, b: &Standing<'_>) -> Ordering {
    let key = |s: &Standing<'_>| (s.occurred_at_us, s.priority, s.tie);
    key(a).cmp(&key(b)).then_with(|| a.json.cmp(b.json)).then_with(|| a.system.cmp(b.system))
}

/// The latest of several claims, and which part of the order decided.
pub(crate) fn latest_of(claims: &[Standing<'_>]) -> (usize, Rule) {
    let mut best = 0;
    for at in 1..claims.len() {
        if across_order(&claims[at], &claims[best]) == Ordering::Greater {
            best = at;
        }
    }
    let winner = &claims[best];
    let mut rule = if claims.len() == 1 { Rule::Only } else { Rule::Latest };
    for (at, other) in claims.iter().enumerate() {
        if at != best && other.occurred_at_us == winner.occurred_at_us {
            rule = if other.priority == winner.priority { Rule::Tie } else { rule.max(Rule::Priority) };
        }
    }
    (best, rule)
}
