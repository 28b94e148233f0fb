//! The rules of a hub: for every domain, which policy decides which field. Declared in the configuration.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use compact_str::CompactString;

use crate::Position;
use crate::alias::EXTERNAL_IDS_FIELD;
use crate::decide::HUB;
use crate::entity::{DELETED_FIELD, Entity};
use crate::json::Json;
use crate::merge::{Latest, Owner, Policy, Union};
use crate::name::compare;
use crate::order;
use crate::path::{Part, Parts, base_of};
use crate::stock::record::CountBasis;

/// The rules of all domains.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    domains: BTreeMap<String, Domain>,
    priorities: BTreeMap<String, u32>,
    /// How far ahead of the hub's clock a source's may be, microseconds; none is no limit.
    pub skew_max_us: Option<i64>,
    /// The systems whose word of kind `stock` goes into the ledger of stock, and what their number means where a
    /// document does not say.
    pub stock_feeds: BTreeMap<String, CountBasis>,
    /// The systems whose count a person looks at where it is many times the last one.
    pub stock_strict: BTreeSet<String>,
    /// What orders do to stock.
    pub stock_orders: StockOrders,
    /// The systems that are sent the changes of a kind, and so may send them back.
    echoes: BTreeMap<String, BTreeSet<String>>,
    /// Kinds with fields that may be left to a person.
    contested: BTreeSet<String>,
}

/// What orders do to stock, by the channel that took them.
#[derive(Clone, Debug, Default)]
pub struct StockOrders {
    /// Of channels that have no policy of their own; nothing where their orders leave stock alone.
    pub all: Option<OrderPolicy>,
    /// Of single channels; nothing where its orders leave stock alone.
    pub channels: BTreeMap<String, Option<OrderPolicy>>,
}

impl StockOrders {
    /// The policy of a channel; `None` where its orders leave stock alone.
    pub fn of(&self, channel: &str) -> Option<OrderPolicy> {
        self.channels.get(channel).copied().unwrap_or(self.all)
    }

    /// Whether orders of any channel concern stock.
    pub fn any(&self) -> bool {
        self.all.is_some() || self.channels.values().any(Option::is_some)
    }
}

/// What a channel's orders do to stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderPolicy {
    /// What there is not enough of may be promised of what is on order; else the order is held.
    pub backorder: bool,
    /// One line may come from several locations.
    pub allow_split: bool,
    /// How long the hold of an order lasts that is not confirmed, microseconds.
    pub hold_us: i64,
    /// Shipments and returns are movements of goods; else the warehouse tells of those by itself.
    pub moves: bool,
}

impl Default for OrderPolicy {
    fn default() -> Self {
        Self { backorder: false, allow_split: true, hold_us: 900_000_000, moves: true }
    }
}

/// One domain: a kind of entity and who decides its fields.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    /// The kind: `order`, `price`, ...
    pub kind: String,
    /// The policy of every field that has none of its own.
    pub policy: Policy,
    /// Policies of single fields, by path: `customer.email`, and `lines[]` for every item of that list.
    pub fields: BTreeMap<String, Policy>,
    /// Fields that are merged by their parts.
    pub parts: Parts,
    /// Fields without which nobody is told of an entity.
    pub required: Vec<String>,
    /// How long an entity may be without them before it is reported, microseconds; none is for ever.
    pub incomplete_after_us: Option<i64>,
}

impl Default for Policy {
    fn default() -> Self {
        LATEST.clone()
    }
}

impl Domain {
    /// Whether a policy of it may leave a conflict for a person.
    pub fn may_contest(&self) -> bool {
        self.policy.may_contest() || self.fields.values().any(Policy::may_contest)
    }

    /// The required fields of which an entity has no value.
    pub fn missing(&self, entity: &Entity) -> Vec<&str> {
        let has = |name: &str, value: Option<&Json>, required: &str| {
            base_of(name) == required && value.is_some_and(|json| !json.is_empty() && *json != "null")
        };
        let is_there = |name: &&String| entity.fields.iter().any(|f| has(&f.name, f.value(), name));
        self.required.iter().filter(|name| !is_there(name)).map(String::as_str).collect()
    }

    /// The policy of a field, by its path.
    pub fn policy(&self, field: &str) -> &Policy {
        if field == DELETED_FIELD {
            // Who owns a document decides whether there is one; for the rest the latest word counts.
            return self.fields.get(field).unwrap_or(match &self.policy {
                owner @ Policy::Owner(_) => owner,
                _ => &LATEST,
            });
        }
        if field == EXTERNAL_IDS_FIELD {
            // What different systems call it, all of it is true.
            return self.fields.get(field).unwrap_or(&UNION);
        }
        if self.fields.is_empty() {
            return &self.policy;
        }
        if let Some(policy) = self.fields.get(field) {
            return policy;
        }
        let base = base_of(field);
        if base.len() == field.len() {
            return &self.policy;
        }
        let of_items = field[base.len()..]
            .starts_with('[')
            .then(|| self.fields.get(compact_str::format_compact!("{base}[]").as_str()))
            .flatten();
        of_items.or_else(|| self.fields.get(base)).unwrap_or(&self.policy)
    }
}

/// The policies of fields that come in the order of their names: one walk instead of a search for each.
#[derive(Debug)]
pub(crate) struct PolicyWalk<'d> {
    domain: Option<&'d Domain>,
    declared: std::iter::Peekable<std::collections::btree_map::Iter<'d, String, Policy>>,
    /// The policy of the parts of the field that came last.
    of_parts: Option<(CompactString, &'d Policy)>,
}

impl<'d> PolicyWalk<'d> {
    pub(crate) fn new(domain: Option<&'d Domain>) -> Self {
        static NONE: BTreeMap<String, Policy> = BTreeMap::new();
        let declared = domain.map_or(&NONE, |domain| &domain.fields).iter().peekable();
        Self { domain, declared, of_parts: None }
    }

    /// The policy of a field. Its name must not be less than the one before.
    pub(crate) fn of(&mut self, field: &str) -> &'d Policy {
        let Some(domain) = self.domain else { return undeclared(field) };
        while let Some((name, policy)) = self.declared.peek() {
            match compare(name, field) {
                Ordering::Less => self.declared.next(),
                Ordering::Equal => return policy,
                Ordering::Greater => break,
            };
        }
        let base = base_of(field);
        if base.len() == field.len() {
            let is_special = field == DELETED_FIELD || field == EXTERNAL_IDS_FIELD;
            return if is_special { domain.policy(field) } else { &domain.policy };
        }
        // Items have one policy all together, and so have members without one of their own.
        let until = base.len() + 1;
        match &self.of_parts {
            Some((known, policy)) if *known == field[..until] => policy,
            _ => {
                let policy = domain.policy(field);
                self.of_parts = Some((field[..until].into(), policy));
                policy
            }
        }
    }
}

static LATEST: Policy = Policy::Latest(Latest { ties_to_review: false });

static UNION: Policy = Policy::Union(Union);

/// The policy of a field of a kind that is not declared.
fn undeclared(field: &str) -> &'static Policy {
    if field == EXTERNAL_IDS_FIELD { &UNION } else { &LATEST }
}

static NO_PARTS: Parts = Parts::new();

impl Rules {
    /// The rules with which a hub starts: an order's lifecycle by rank and its lines by their id, everything else
    /// the latest.
    pub fn new() -> Self {
        let mut rules = Self::default();
        rules.declare(Domain { kind: "order".into(), ..Domain::default() });
        rules
    }

    /// Declares a domain. An order's lifecycle stays ranked, and its lines are merged by their id, unless the domain
    /// says otherwise for these fields.
    pub fn declare(&mut self, mut domain: Domain) {
        if domain.kind == "order" {
            domain
                .fields
                .entry(order::LIFECYCLE_FIELD.into())
                .or_insert_with(|| Policy::BusinessState(order::lifecycle_states()));
            domain.parts.entry(order::LINES_FIELD.into()).or_insert_with(|| Part::Items { key: "id".into() });
            // Every system keeps its own holds, and an order is held as long as there is one.
            domain.fields.entry(order::HOLDS_FIELD.into()).or_insert(Policy::Union(Union));
            for name in order::DERIVED_FIELDS {
                domain.fields.entry(name.into()).or_insert_with(|| Policy::Owner(Owner { systems: vec![HUB.into()] }));
            }
        }
        if domain.may_contest() {
            self.contested.insert(domain.kind.clone());
        } else {
            self.contested.remove(&domain.kind);
        }
        self.domains.insert(domain.kind.clone(), domain);
    }

    /// Whether fields of a kind may be left to a person.
    pub fn may_contest(&self, kind: &str) -> bool {
        !self.contested.is_empty() && self.contested.contains(kind)
    }

    /// Gives a system a priority among equals; the higher wins. Without one it is 0.
    pub fn prefer(&mut self, system: impl Into<String>, priority: u32) {
        self.priorities.insert(system.into(), priority);
    }

    /// Has a person's decision in force that a system is always preferred for a field, or `None` again. It has an
    /// effect where the field's policy is `review`.
    pub fn prefer_always(&mut self, kind: &str, field: &str, system: Option<&str>) {
        let domain = self
            .domains
            .entry(kind.to_owned())
            .or_insert_with(|| Domain { kind: kind.to_owned(), ..Domain::default() });
        if let Policy::Review(_) = domain.policy(field) {
            let review = crate::merge::Review { prefer: system.map(str::to_owned) };
            domain.fields.insert(field.to_owned(), Policy::Review(review));
        }
    }

    /// Says that changes of a kind are sent to a system which also sends changes of it: what comes back may be an
    /// echo.
    pub fn echo(&mut self, kind: &str, system: &str) {
        self.echoes.entry(kind.to_owned()).or_default().insert(system.to_owned());
    }

    /// Whether what a system says of a kind may be an echo.
    pub fn may_echo(&self, kind: &str, system: &str) -> bool {
        !self.echoes.is_empty() && self.echoes.get(kind).is_some_and(|systems| systems.contains(system))
    }

    /// Whether there are any such systems.
    pub fn any_echoes(&self) -> bool {
        !self.echoes.is_empty()
    }

    /// Whether values of a kind that stood before are to be remembered.
    pub fn has_echoes(&self, kind: &str) -> bool {
        !self.echoes.is_empty() && self.echoes.contains_key(kind)
    }

    /// A system's priority.
    pub fn priority(&self, system: &str) -> u32 {
        self.priorities.get(system).copied().unwrap_or(0)
    }

    /// The domain of a kind, where it is declared.
    pub fn domain(&self, kind: &str) -> Option<&Domain> {
        self.domains.get(kind)
    }

    /// The policy of a field; `latest` where the domain is not declared.
    pub fn policy(&self, kind: &str, field: &str) -> &Policy {
        self.domain(kind).map_or_else(|| undeclared(field), |domain| domain.policy(field))
    }

    /// The fields of a kind that are merged by their parts.
    pub fn parts(&self, kind: &str) -> &Parts {
        self.domain(kind).map_or(&NO_PARTS, |domain| &domain.parts)
    }
}

/// How far events were sent to each system: an echo can only be of what was sent.
pub type SentTo = BTreeMap<String, Position>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::{Max, Min, Review};
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = String> {
        let base = prop_oneof![Just("a"), Just("b"), Just("lines"), Just(DELETED_FIELD), Just(EXTERNAL_IDS_FIELD)];
        let part = prop_oneof![Just(""), Just("[]"), Just("[1]"), Just("[2]"), Just("."), Just(".x"), Just(".y")];
        (base, part).prop_map(|(base, part)| format!("{base}{part}"))
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let review = Policy::Review(Review::default());
        prop_oneof![Just(LATEST.clone()), Just(Policy::Max(Max)), Just(Policy::Min(Min)), Just(review)]
    }

    proptest! {
        #[test]
        fn a_walk_finds_what_a_search_finds(
            fields in proptest::collection::btree_map(name(), policy(), 0..6), of_all in policy(), is_declared: bool,
            names in proptest::collection::btree_set(name(), 1..12),
        ) {
            let mut rules = Rules::default();
            if is_declared {
                rules.declare(Domain { kind: "thing".into(), policy: of_all, fields, ..Domain::default() });
            }
            let mut walk = PolicyWalk::new(rules.domain("thing"));
            for name in &names {
                prop_assert_eq!(walk.of(name), rules.policy("thing", name), "{}", name);
            }
        }
    }
}
