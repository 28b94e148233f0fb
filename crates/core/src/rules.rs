//! The rules of a hub: for every domain, which policy decides which field. Declared in the configuration.

use std::collections::BTreeMap;

use crate::merge::{Latest, Policy};
use crate::order;

/// The rules of all domains.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    domains: BTreeMap<String, Domain>,
    priorities: BTreeMap<String, u32>,
}

/// One domain: a kind of entity and who decides its fields.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The kind: `order`, `price`, ...
    pub kind: String,
    /// The policy of every field that has none of its own.
    pub policy: Policy,
    /// Policies of single fields.
    pub fields: BTreeMap<String, Policy>,
}

impl Domain {
    /// The policy of a field.
    pub fn policy(&self, field: &str) -> &Policy {
        if self.fields.is_empty() {
            return &self.policy;
        }
        self.fields.get(field).unwrap_or(&self.policy)
    }
}

static LATEST: Policy = Policy::Latest(Latest);

impl Rules {
    /// The rules with which a hub starts: an order's lifecycle by rank, everything else the latest.
    pub fn new() -> Self {
        let mut rules = Self::default();
        rules.declare(Domain { kind: "order".into(), policy: LATEST.clone(), fields: BTreeMap::new() });
        rules
    }

    /// Declares a domain. An order's lifecycle stays ranked unless the domain says otherwise for that field.
    pub fn declare(&mut self, mut domain: Domain) {
        if domain.kind == "order" {
            domain
                .fields
                .entry(order::LIFECYCLE_FIELD.into())
                .or_insert_with(|| Policy::BusinessState(order::lifecycle_states()));
        }
        self.domains.insert(domain.kind.clone(), domain);
    }

    /// Gives a system a priority among equals; the higher wins. Without one it is 0.
    pub fn prefer(&mut self, system: impl Into<String>, priority: u32) {
        self.priorities.insert(system.into(), priority);
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
        self.domain(kind).map_or(&LATEST, |domain| domain.policy(field))
    }
}
