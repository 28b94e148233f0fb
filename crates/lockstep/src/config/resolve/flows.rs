//! When events go, what they wait for, and which of them are whole enough: checked against all destinations.

use std::collections::BTreeSet;

use lockstep_connect::destination::Filter;
use lockstep_connect::schema::Schemas;
use lockstep_core::decide::OWN_KINDS;
use lockstep_core::stock::{LEDGER_KINDS, STOCK_KIND};

use super::Resolver;
use crate::config::destination::DestinationConfig;
use crate::config::problem::suggestion;

/// A kind of events at a destination.
type Place<'a> = (&'a str, &'a str);

impl Resolver<'_> {
    pub(super) fn flow(&mut self, name: &str, config: &DestinationConfig, schemas: &Schemas) {
        if let Some(Err((field, message))) = config.delivery.cadence.as_ref().map(|cadence| cadence.check()) {
            self.report(&["destinations", name, "cadence", field], message);
        }
        for (number, gate) in config.delivery.gate.iter().enumerate() {
            let number = number.to_string();
            self.flow_kind(&["destinations", name, "gate", &number, "kind"], &gate.kind, schemas);
            let field = ["destinations", name, "gate", &number, "required"];
            self.no_twins(&field, &gate.required);
            if gate.required.is_empty() {
                let message = "`required` must name at least one field: a gate without fields keeps nothing back";
                self.report(&field, message.to_owned());
            }
            if gate.required.iter().any(|path| !is_path(path)) {
                self.report(&field, path_rule("required"));
            }
            let before = &config.delivery.gate[..number.parse().unwrap_or(0)];
            if before.iter().any(|other| other.kind == gate.kind) {
                let message = format!("`{}` has a gate already: its fields are in one list", gate.kind);
                self.report(&["destinations", name, "gate", &number, "kind"], message);
            }
        }
        for (number, wait) in config.delivery.waits_for.iter().enumerate() {
            let number = number.to_string();
            let at = |field: &'static str| ["destinations", name, "waits_for", number.as_str(), field];
            self.flow_kind(&at("kind"), &wait.kind, schemas);
            self.flow_kind(&at("for"), &wait.awaited, schemas);
            if self.is_of_ledger(&wait.awaited) {
                let message = format!(
                    "`{}` is counted by the ledger of stock and is no document that could arrive: `for` must be the kind of a \
                     document, such as `product`",
                    wait.awaited
                );
                self.report(&at("for"), message);
            }
            if wait.key.as_ref().is_some_and(|path| !is_path(path)) {
                self.report(&at("key"), path_rule("key"));
            }
            let Some(other) = self.config.destinations.get(wait.at(name)) else {
                let near = suggestion(wait.at(name), self.config.destinations.keys().map(String::as_str));
                self.report(&at("destination"), format!("there is no destination `{}`{near}", wait.at(name)));
                continue;
            };
            if !may_pass(other.filter(), &wait.awaited) {
                let message = format!(
                    "`{}` never goes to `{}`, as its filter says: nothing would wait for it",
                    wait.awaited,
                    wait.at(name)
                );
                self.report(&at("for"), message);
            } else if !may_pass(config.filter(), &wait.kind) {
                let message = format!("`{}` never goes here, as the filter says: so it never waits", wait.kind);
                self.warn(&at("kind"), message);
            } else if self.comes_back((wait.at(name), &wait.awaited), (name, &wait.kind)) {
                let message = format!(
                    "`{}` would wait for itself: `{}` waits for it in turn, here or by way of others",
                    wait.kind, wait.awaited
                );
                self.report(&at("for"), message);
            }
        }
    }

    fn flow_kind(&mut self, path: &[&str], kind: &str, schemas: &Schemas) {
        let known: Vec<&str> = schemas.iter().map(|(kind, _)| kind).chain(OWN_KINDS).chain(LEDGER_KINDS).collect();
        if !known.contains(&kind) {
            let near = suggestion(kind, known.iter().copied());
            self.report(path, format!("`{kind}` is not a kind that this hub knows{near}"));
        }
    }

    /// Whether what is said of a kind is the ledger's word, and of no entity.
    fn is_of_ledger(&self, kind: &str) -> bool {
        LEDGER_KINDS.contains(&kind) || kind == STOCK_KIND && !self.config.stock.feeds.is_empty()
    }

    /// Whether what is awaited waits, by way of others too, for what waits for it.
    fn comes_back(&self, from: Place<'_>, to: Place<'_>) -> bool {
        let (mut seen, mut next): (BTreeSet<Place<'_>>, Vec<Place<'_>>) = (BTreeSet::new(), vec![from]);
        while let Some(place) = next.pop() {
            if place == to {
                return true;
            }
            if seen.insert(place)
                && let Some((name, config)) = self.config.destinations.get_key_value(place.0)
            {
                let waits = config.delivery.waits_for.iter().filter(|wait| wait.kind == place.1);
                next.extend(waits.map(|wait| (wait.at(name), wait.awaited.as_str())));
            }
        }
        false
    }
}

/// Whether events of a kind may go through, as far as the lists of a filter tell.
fn may_pass(filter: &Filter, kind: &str) -> bool {
    let names = |pattern: &String| pattern.strip_prefix(kind).is_some_and(|rest| rest.starts_with('.'));
    let is_own = OWN_KINDS.contains(&kind);
    let by_kind = filter.kinds.iter().any(|one| one == kind);
    let by_type = filter.types.iter().any(|pattern| names(pattern) || (!is_own && pattern == "*"));
    (filter.kinds.is_empty() || by_kind)
        && (filter.types.is_empty() || by_type || filter.types.iter().any(|pattern| is_start_of(pattern, kind)))
        && (!is_own || by_kind || filter.types.iter().any(names))
}

/// Whether a pattern such as `pr*` means this kind too.
fn is_start_of(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|start| kind.starts_with(start) || start.starts_with(&format!("{kind}.")))
}

fn is_path(path: &str) -> bool {
    !path.is_empty() && path.split('.').all(|name| !name.is_empty() && !name.contains(['[', ']']))
}

fn path_rule(field: &str) -> String {
    format!("`{field}` must name fields of the document, such as `product_id` or `product.id`")
}
