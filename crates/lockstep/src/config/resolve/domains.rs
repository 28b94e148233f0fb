//! Who decides which field, and what the documents look like.

use std::collections::BTreeMap;

use lockstep_connect::schema::Schemas;
use lockstep_core::change::check_kind;
use lockstep_core::merge::{BusinessState, Latest, Owner, Policy};
use lockstep_core::{Domain, Rules};

use super::Resolver;
use crate::config::problem::{Problem, line_column};
use crate::config::types::PolicyName;

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
            self.schema(kind, &mut schemas);
            let policy = self.policy(&at, domain.policy, &domain.owner, &domain.states);
            let mut fields = BTreeMap::new();
            for (name, field) in &domain.fields {
                let at = ["domains", kind.as_str(), "fields", name.as_str()];
                fields.insert(name.clone(), self.policy(&at, field.policy, &field.owner, &field.states));
            }
            rules.declare(Domain { kind: kind.clone(), policy, fields });
        }
        (rules, schemas)
    }

    fn policy(&mut self, at: &[&str], name: PolicyName, owner: &[String], states: &[String]) -> Policy {
        let inner = |field: &'static str| at.iter().copied().chain([field]).collect::<Vec<_>>();
        let place = at.join(".");
        if name != PolicyName::Owner && !owner.is_empty() {
            self.report(&inner("owner"), format!("`owner` of [{place}] is only for policy = \"owner\""));
        }
        if name != PolicyName::BusinessState && !states.is_empty() {
            self.report(&inner("states"), format!("`states` of [{place}] is only for policy = \"business-state\""));
        }
        match name {
            PolicyName::Latest => Policy::Latest(Latest),
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
