//! Ways out: filters and mappings compiled, addresses checked, connectors made.

use std::path::Path;
use std::sync::Arc;

use lockstep_connect::destination::Outlet;
use lockstep_connect::schema::Schemas;
use lockstep_core::decide::OWN_KINDS;
use lockstep_core::stock::LEDGER_KINDS;

use super::{ResolvedDestination, Resolver};
use crate::config::destination::DestinationConfig;
use crate::config::event_types;
use crate::config::problem::suggestion;
use crate::exit::chain;

impl Resolver<'_> {
    /// `None` where one of them can't be made.
    pub(super) fn destinations(&mut self, schemas: &Schemas) -> Option<Vec<ResolvedDestination>> {
        let config = self.config;
        let mut made = Vec::with_capacity(config.destinations.len());
        for (name, destination) in &config.destinations {
            made.extend(self.destination(name, destination, schemas));
        }
        (made.len() == config.destinations.len()).then_some(made)
    }

    fn destination(
        &mut self,
        name: &str,
        config: &DestinationConfig,
        schemas: &Schemas,
    ) -> Option<ResolvedDestination> {
        let at = ["destinations", name];
        self.filter(name, config, schemas);
        self.flow(name, config, schemas);
        let (retry, breaker) = (&config.delivery.retry, &config.delivery.breaker);
        for (table, wait, first, max) in [
            ("retry", "backoff", retry.backoff_first_ms, retry.backoff_max_ms),
            ("breaker", "probe", breaker.probe_first_ms, breaker.probe_max_ms),
            ("breaker", "paused_probe", breaker.paused_probe_first_ms, breaker.paused_probe_max_ms),
        ] {
            if max < first {
                let message = format!("`{wait}_max_ms` ({max}) must not be less than `{wait}_first_ms` ({first})");
                self.report(&[at[0], at[1], table, &format!("{wait}_max_ms")], message);
            }
        }
        if let Some(degrade) = &config.delivery.degrade {
            for (field, message) in degrade.problems() {
                let place: Vec<&str> = at.into_iter().chain(["degrade"]).chain(field.split('.')).collect();
                self.report(&place, message);
            }
        }
        let outlet = self.outlet(name, config);
        let secrets = self.secret_list(&[at[0], at[1], "secrets"], &config.delivery.secrets);
        let headers = self.secret_headers(name, config);
        // What is wrong with a header is found where it is known; where it is not, there is nothing to send.
        let mut connector = config.connector.clone();
        connector.add_headers(headers.iter().flatten().cloned());
        connector.set_base(&self.loaded.folder);
        if let Err(error) = connector.check() {
            let message = chain(&error);
            self.report(&[at[0], at[1], field_of(&message)], message.as_str());
            return None;
        }
        headers?;
        match connector.build(&secrets?, outlet?) {
            Ok(made) => Some(ResolvedDestination {
                name: name.to_owned(),
                destination: Arc::from(made),
                options: config.options(name),
            }),
            Err(error) => {
                let message = chain(&error);
                self.report(&[at[0], at[1], field_of(&message)], message.as_str());
                None
            }
        }
    }

    /// The headers whose values are secrets; nothing where one of them is not known.
    fn secret_headers(&mut self, name: &str, config: &DestinationConfig) -> Option<Vec<(String, String)>> {
        let mut headers = Vec::with_capacity(config.delivery.secret_headers.len());
        for (header, reference) in &config.delivery.secret_headers {
            let secret = self.secret(&["destinations", name, "secret_headers", header], reference);
            headers.extend(secret.map(|secret| (header.clone(), secret.expose().trim().to_owned())));
        }
        (headers.len() == config.delivery.secret_headers.len()).then_some(headers)
    }

    fn filter(&mut self, name: &str, config: &DestinationConfig, schemas: &Schemas) {
        let filter = config.filter();
        let at = |list: &'static str| ["destinations", name, "filter", list];
        for (list, entries) in
            [("kinds", &filter.kinds), ("types", &filter.types), ("systems_except", &filter.systems_except)]
        {
            self.no_twins(&at(list), entries);
        }
        // The hub's own documents are published too.
        let known: Vec<&str> = schemas.iter().map(|(kind, _)| kind).chain(OWN_KINDS).chain(LEDGER_KINDS).collect();
        for (number, kind) in filter.kinds.iter().enumerate() {
            if !known.contains(&kind.as_str()) {
                let near = suggestion(kind, known.iter().copied());
                let [a, b, c, d] = at("kinds");
                let message = format!("`{kind}` is not a kind that this hub knows{near}");
                self.report(&[a, b, c, d, &number.to_string()], message);
            }
        }
        for (number, wanted) in filter.types.iter().enumerate() {
            if let Some(message) = event_types::check(wanted, &known) {
                let [a, b, c, d] = at("types");
                self.report(&[a, b, c, d, &number.to_string()], message);
            }
        }
        for (number, system) in filter.systems_except.iter().enumerate() {
            let [a, b, c, d] = at("systems_except");
            self.system(&[a, b, c, d, &number.to_string()], system);
        }
    }

    /// What filters and maps; `None` where a program does not compile.
    fn outlet(&mut self, name: &str, config: &DestinationConfig) -> Option<Outlet> {
        let hub_source = format!("/hubs/{}", self.config.hub.name);
        let condition = match &config.filter().when {
            None => None,
            Some(file) => Some(self.program(&["destinations", name, "filter", "when"], Path::new(file))?),
        };
        let mapping = match config.connector.mapping() {
            None => None,
            Some(file) => Some(self.program(&["destinations", name, "mapping"], Path::new(file))?),
        };
        let gates = config.delivery.gate.iter().map(|gate| (gate.kind.clone(), gate.required.clone()));
        let mut outlet = Outlet::new(hub_source, config.filter().clone()).with_required(gates);
        if !config.delivery.echo_own {
            outlet = outlet.without_words_of(config.delivery.system.as_str());
        }
        if let Some(condition) = condition {
            outlet = outlet.with_condition(condition);
        }
        if let Some(mapping) = mapping {
            outlet = outlet.with_mapping(mapping);
        }
        Some(outlet)
    }
}

/// The field that an error of a connector names at its beginning: `` `url`: ... ``.
fn field_of(message: &str) -> &str {
    message.strip_prefix('`').and_then(|rest| rest.split(['`', '.']).next()).unwrap_or_default()
}
