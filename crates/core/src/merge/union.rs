//! `union`: the value is a list that has the members of all systems' lists, each once, in the order of their JSON. A
//! member is gone when no system has it any more. What is no list counts as a list of itself, null as an empty one.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Ranking, Rule, Standing, Verdict, latest_of};

/// The policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Union;

impl Ranking for Union {
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        let mut members = BTreeSet::new();
        for claim in claims.iter().filter(|s| s.has_value()) {
            match serde_json::from_slice::<Vec<&RawValue>>(claim.json) {
                Ok(list) => members.extend(list.into_iter().map(RawValue::get)),
                Err(_) => {
                    members.extend(std::str::from_utf8(claim.json));
                }
            }
        }
        let joined = match claims.iter().any(Standing::has_value) {
            true => format!("[{}]", members.into_iter().collect::<Vec<_>>().join(",")),
            false => "null".to_owned(),
        };
        Verdict { winner: latest_of(claims).0, rule: Rule::Union, joined: Some(Bytes::from(joined)) }
    }
}
