//! What the hub watches of itself: names looked up, limits and steps in order.

use lockstep_connect::schema::Schemas;
use lockstep_core::decide::OWN_KINDS;
use lockstep_core::stock::LEDGER_KINDS;

use super::{Resolver, is_name, name_rule};
use crate::config::oversight::AlertFigure;
use crate::config::problem::suggestion;

impl Resolver<'_> {
    pub(super) fn oversight(&mut self, schemas: &Schemas) {
        let config = self.config;
        let known: Vec<&str> = schemas.iter().map(|(kind, _)| kind).chain(LEDGER_KINDS).collect();
        for (kind, limit_s) in &config.freshness.limits_s {
            let at = ["freshness", "limits_s", kind.as_str()];
            if OWN_KINDS.contains(&kind.as_str()) || !known.contains(&kind.as_str()) {
                let near = suggestion(kind, known.iter().copied());
                self.report(&at, format!("`{kind}` is no kind of entity that has a schema{near}"));
            }
            if !(0.1..=31_536_000.0).contains(limit_s) {
                self.report(&at, format!("the limit of `{kind}` must be 0.1 s to a year in seconds, not {limit_s}"));
            }
        }
        for (name, alert) in &config.alerts {
            let at = ["alerts", name.as_str()];
            if !is_name(name) {
                self.report(&at, name_rule(name));
            }
            if !(0.0..=1e15).contains(&alert.above) {
                self.report(&[at[0], at[1], "above"], format!("`above` must be 0 or more, not {}", alert.above));
            }
            let sources = alert.when == AlertFigure::Quarantine;
            let names: Vec<&str> = if sources {
                config.sources.keys().map(String::as_str).collect()
            } else {
                config.destinations.keys().map(String::as_str).chain(["@hub"]).collect()
            };
            for (number, of) in alert.of.iter().enumerate() {
                if !names.contains(&of.as_str()) {
                    let what = if sources { "source" } else { "destination" };
                    let near = suggestion(of, names.iter().copied());
                    let number = number.to_string();
                    self.report(&[at[0], at[1], "of", &number], format!("there is no {what} `{of}`{near}"));
                }
            }
            for (number, steps) in alert.steps.windows(2).enumerate() {
                if steps[1].after_s <= steps[0].after_s {
                    let number = (number + 1).to_string();
                    let message = format!(
                        "`after_s` of this step ({}) must be more than that of the step before it ({})",
                        steps[1].after_s, steps[0].after_s
                    );
                    self.report(&[at[0], at[1], "steps", &number], message);
                }
            }
            if alert.when == AlertFigure::Freshness && config.freshness.limits_s.is_empty() {
                self.warn(&at, "no domain declares a limit in [freshness], so there is nothing to look at");
            }
        }
    }
}
