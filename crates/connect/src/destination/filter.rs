//! Which events go to a destination.

use lockstep_core::Event;
use lockstep_core::decide::OWN_KINDS;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which events go to a destination: those that meet every condition. An empty list is no condition, but the hub's own
/// kinds (`alert`, `conflict`, `freshness`, ...) go only where `kinds` or `types` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// The kinds of entities, for example `["order", "stock"]`.
    pub kinds: Vec<String>,
    /// The types of events, for example `["order.placed", "stock.*"]`; a `*` at the end stands for anything.
    pub types: Vec<String>,
    /// The systems whose own changes do not go there: above all the destination's own, which knows them already.
    pub systems_except: Vec<String>,
    /// A file with a VRL program that says whether an event goes there: it gets the event as the CloudEvent that
    /// would be sent and must come to `true` or `false`.
    pub when: Option<String>,
}

impl Filter {
    /// Whether the event meets the lists; `when` is the [`Outlet`](super::Outlet)'s to ask.
    pub fn lets_through(&self, event: &Event) -> bool {
        let fact = &event.fact;
        let is_type = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => fact.event_type.starts_with(start),
            None => *pattern == fact.event_type,
        };
        let names =
            |pattern: &String| pattern.strip_prefix(fact.kind.as_str()).is_some_and(|rest| rest.starts_with('.'));
        let is_asked_for =
            !OWN_KINDS.contains(&fact.kind.as_str()) || self.kinds.contains(&fact.kind) || self.types.iter().any(names);
        is_asked_for
            && (self.kinds.is_empty() || self.kinds.contains(&fact.kind))
            && (self.types.is_empty() || self.types.iter().any(is_type))
            && !self.systems_except.contains(&fact.system)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::kit;

    #[test]
    fn every_list_is_a_condition_and_an_empty_one_is_none() {
        let mut event = kit::event(1, "order", "web:1", &[("a", "1")]);
        event.fact.system = "shop".into();
        event.fact.event_type = "order.placed".into();
        let list = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        let check = |kinds: &[&str], types: &[&str], systems_except: &[&str], expected: bool| {
            let filter =
                Filter { kinds: list(kinds), types: list(types), systems_except: list(systems_except), when: None };
            assert_eq!(filter.lets_through(&event), expected, "{filter:?}");
        };
        check(&[], &[], &[], true);
        check(&["stock", "order"], &[], &[], true);
        check(&["stock"], &[], &[], false);
        check(&[], &["order.*"], &[], true);
        check(&[], &["*"], &[], true);
        check(&[], &["stock.*", "order.placed"], &[], true);
        check(&[], &["order"], &[], false);
        check(&[], &["order.place"], &[], false);
        check(&[], &["order.cancelled"], &[], false);
        check(&[], &[], &["shop"], false);
        check(&["order"], &["order.*"], &["erp"], true);
        check(&["order"], &["order.*"], &["erp", "shop"], false);
    }

    #[test]
    fn the_hubs_own_kinds_go_where_they_are_asked_for_by_name() {
        for kind in OWN_KINDS {
            let event = kit::event(1, kind, "order/web:1", &[("a", "1")]);
            let check = |kinds: &[&str], types: &[&str], expected: bool| {
                let list = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect();
                let filter = Filter { kinds: list(kinds), types: list(types), ..Filter::default() };
                assert_eq!(filter.lets_through(&event), expected, "{kind}: {filter:?}");
            };
            let (all, one) = (format!("{kind}.*"), format!("{kind}.changed"));
            check(&[], &[], false);
            check(&[], &["*"], false);
            check(&[], &[&kind[..3], "*"], false);
            check(&["order", kind], &[], true);
            check(&["order"], &[], false);
            check(&[], &["order.*", &all], true);
            check(&[], &[&one], true);
            check(&["order"], &[&all], false);
            check(&[kind], &["*"], true);
        }
    }
}
