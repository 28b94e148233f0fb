//! Who decides which field, and what the documents look like.

use std::collections::BTreeMap;

use lockstep_connect::schema::Schemas;
use lockstep_core::change::check_kind;
use lockstep_core::decide::OWN_KINDS;
use lockstep_core::merge::{BusinessState, HighestVersion, Latest, Max, Min, Owner, Policy, Review, Union};
use lockstep_core::path::{Part, Parts, base_of};
use lockstep_core::stock::LEDGER_KINDS;
use lockstep_core::{Domain, Rules};

use super::Resolver;
use crate::config::problem::{Problem, line_column};
use crate::config::types::{DomainConfig, PolicyName, Ties};

/// The distance between two declared states: room for one between them that another version may know.
const RANK_STEP: i32 = 10;

impl Resolver<'_> {
    pub(super) fn domains(&mut self) -> (Rules, Schemas) {
        let config = self.config;
        let mut rules = Rules::new();
        let mut schemas = Schemas::builtin();
        for (name, system) in &config.systems {
            rules.prefer(name.clone(), system.priority);
        }
        for (kind, domain) in &config.domains {
            let at = ["domains", kind.as_str()];
            if let Err(error) = check_kind(kind) {
                self.report(&at, error.to_string());
                continue;
            }
            if OWN_KINDS.iter().chain(&LEDGER_KINDS).any(|own| own == kind) {
                self.report(&at, format!("`{kind}` is a kind of the hub's own: nobody else writes it"));
                continue;
            }
            self.schema(kind, &mut schemas);
            let policy = self.policy(&at, (domain.policy, domain.ties), &domain.owner, &domain.states);
            let mut fields = BTreeMap::new();
            for (name, field) in &domain.fields {
                let at = ["domains", kind.as_str(), "fields", name.as_str()];
                let policy = self.policy(&at, (field.policy, field.ties), &field.owner, &field.states);
                fields.insert(name.clone(), policy);
            }
            let parts = self.parts(kind, domain);
            let mut required = schemas.required(kind);
            required.extend(domain.required.iter().filter(|name| !schemas.required(kind).contains(name)).cloned());
            let after_us = domain.incomplete_after_s.saturating_mul(1_000_000) as i64;
            let incomplete_after_us = Some(after_us).filter(|us| *us > 0);
            rules.declare(Domain { kind: kind.clone(), policy, fields, parts, required, incomplete_after_us });
            schemas.merge_parts(kind, rules.parts(kind).clone());
        }
        for (system, basis) in &config.stock.feeds {
            self.system(&["stock", "feeds", system], system);
            rules.stock_feeds.insert(system.clone(), (*basis).into());
        }
        for (number, system) in config.stock.strict.iter().enumerate() {
            self.system(&["stock", "strict", &number.to_string()], system);
            rules.stock_strict.insert(system.clone());
        }
        rules.stock_orders = config.stock.orders.rules();
        rules.skew_max_us = Some(config.hub.clock_skew_max_s.saturating_mul(1_000_000) as i64).filter(|us| *us > 0);
        for destination in config.destinations.values() {
            let system = &destination.delivery.system;
            // Whatever speaks for it may send back what it was sent.
            for (kind, _) in schemas.iter() {
                let kinds = &destination.filter().kinds;
                if kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind) {
                    rules.echo(kind, system);
                }
            }
        }
        (rules, schemas)
    }

    /// What is merged by its parts.
    fn parts(&mut self, kind: &str, domain: &DomainConfig) -> Parts {
        let mut parts = Parts::new();
        for (list, key) in &domain.lists {
            if key.is_empty() {
                self.report(
                    &["domains", kind, "lists", list],
                    format!("`{list}` of [domains.{kind}.lists] must name the member that tells its items apart"),
                );
            }
            parts.insert(list.clone(), Part::Items { key: key.clone() });
        }
        for (number, object) in domain.objects.iter().enumerate() {
            if parts.insert(object.clone(), Part::Members).is_some() {
                let number = number.to_string();
                let message =
                    format!("`{object}` is in `lists` of [domains.{kind}] too: it can be merged in one way only");
                self.report(&["domains", kind, "objects", &number], message);
            }
        }
        for name in domain.fields.keys() {
            let base = base_of(name);
            let builtin = Rules::new();
            let known = parts.get(base).or_else(|| builtin.parts(kind).get(base));
            let well = match known {
                _ if base == name => true,
                Some(Part::Items { .. }) => *name == format!("{base}[]"),
                Some(Part::Members) => name[base.len()..].starts_with('.'),
                None => false,
            };
            if !well {
                let message = format!(
                    "`{name}` names a part of `{base}`, so [domains.{kind}] must have it in `lists` (then it is `{base}[]`) or \
                     in `objects` (then it is `{base}.<member>`)"
                );
                self.report(&["domains", kind, "fields", name], message);
            }
        }
        parts
    }

    fn policy(&mut self, at: &[&str], (name, ties): (PolicyName, Ties), owner: &[String], states: &[String]) -> Policy {
        let inner = |field: &'static str| at.iter().copied().chain([field]).collect::<Vec<_>>();
        let place = at.join(".");
        if name != PolicyName::Owner && !owner.is_empty() {
            self.report(&inner("owner"), format!("`owner` of [{place}] is only for policy = \"owner\""));
        }
        if name != PolicyName::BusinessState && !states.is_empty() {
            self.report(&inner("states"), format!("`states` of [{place}] is only for policy = \"business-state\""));
        }
        if name != PolicyName::Latest && ties != Ties::Delivery {
            self.report(&inner("ties"), format!("`ties` of [{place}] is only for policy = \"latest\""));
        }
        match name {
            PolicyName::Latest => Policy::Latest(Latest { ties_to_review: ties == Ties::Review }),
            PolicyName::HighestVersion => Policy::HighestVersion(HighestVersion),
            PolicyName::Max => Policy::Max(Max),
            PolicyName::Min => Policy::Min(Min),
            PolicyName::Union => Policy::Union(Union),
            PolicyName::Review => Policy::Review(Review::default()),
            PolicyName::Owner => {
                if owner.is_empty() {
                    self.report(at, format!("policy \"owner\" of [{place}] needs the list `owner`: the systems that decide, the system of record first"));
                }
                let list = inner("owner");
                self.no_twins(&list, owner);
                for (number, system) in owner.iter().enumerate() {
                    let number = number.to_string();
                    let path: Vec<&str> = list.iter().copied().chain([number.as_str()]).collect();
                    self.system(&path, system);
                }
                Policy::Owner(Owner { systems: owner.to_vec() })
            }
            PolicyName::BusinessState => {
                if states.len() < 2 {
                    self.report(at, format!("policy \"business-state\" of [{place}] needs the list `states`: at least two, the lowest first"));
                }
                self.no_twins(&inner("states"), states);
                let ranks = (0..).step_by(RANK_STEP as usize);
                Policy::BusinessState(BusinessState { states: states.iter().cloned().zip(ranks).collect() })
            }
        }
    }

    /// Reads and declares the schema of a kind.
    fn schema(&mut self, kind: &str, schemas: &mut Schemas) {
        let at = ["domains", kind, "schema"];
        let Some(file) = self.config.domains.get(kind).and_then(|domain| domain.schema.as_ref()) else {
            if !schemas.iter().any(|(known, _)| known == kind) {
                let message = format!(
                    "`{kind}` is not a kind that Lockstep knows: [domains.{kind}] needs `schema`, the file of its JSON Schema"
                );
                self.report(&at[..2], message);
            }
            return;
        };
        let whole = self.loaded.path(file);
        let Some(text) = self.read(&at, file) else { return };
        match serde_json::from_str::<serde_json::Value>(&text) {
            Err(error) => {
                // serde_json counts columns in bytes, from 1.
                let line_start =
                    text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
                let (line, column) = line_column(&text, line_start + error.column().saturating_sub(1));
                self.problems.push(Problem::new(whole, line, column, format!("this is not JSON: {error}")));
            }
            Ok(schema) => {
                if let Err(error) = schemas.declare(kind, schema) {
                    self.problems.push(Problem::new(whole, 1, 1, crate::exit::chain(&error)));
                }
            }
        }
    }
}
