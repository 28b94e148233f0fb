//! `[freshness]` and `[alerts.<name>]`: what the hub watches of itself.

use std::collections::BTreeMap;

use lockstep_core::alert::Timing;
use lockstep_hub::{AlertRule, Figure, OversightOptions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// How fresh what the hub hands on has to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FreshnessConfig {
    /// How old what a destination does not have yet may be, in seconds, by kind of entity: `order = 5`. A kind that is not
    /// here has no limit, and nothing is said of its freshness.
    pub limits_s: BTreeMap<String, f64>,
}

/// What somebody has to be told of. Told is it by events of the kind `alert`: destinations whose filter names that kind
/// deliver them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertConfig {
    /// What is looked at.
    pub when: AlertFigure,
    /// The alert is opened while the figure is above this.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub above: f64,
    /// Only of these destinations, or sources with `quarantine`; without it of all.
    #[serde(default)]
    pub of: Vec<String>,
    /// For how many seconds that must be so before the alert is opened.
    #[serde(default)]
    pub for_s: u32,
    /// For how many seconds it must not be so before the alert is resolved.
    #[serde(default = "calm_s")]
    pub calm_s: u32,
    /// With `quarantine`: over how many seconds deliveries are counted.
    #[serde(default = "within_s")]
    #[schemars(range(min = 1))]
    pub within_s: u32,
    /// Who owns it: a word for people.
    #[serde(default)]
    pub owner: String,
    /// Who is told, and who next where nobody has acknowledged it. Destinations tell them apart by `to` of the document.
    #[serde(default)]
    pub steps: Vec<AlertStep>,
}

/// One who is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertStep {
    /// Who: a word by which destinations tell alerts apart.
    #[schemars(length(min = 1))]
    pub to: String,
    /// How many seconds after the opening, where nobody has acknowledged it; the first one is told at once.
    #[serde(default)]
    pub after_s: u32,
}

/// What an alert looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlertFigure {
    /// Open dead letters of a destination.
    DeadLetters,
    /// The age of a destination's oldest event that is not settled, in seconds.
    Lag,
    /// For how many seconds a destination has counted as down.
    Down,
    /// How far a destination's flow is from real time: 1 queue, 2 micro-batch, 3 pause.
    Flow,
    /// How bad the freshness of a domain at a destination is: 1 delayed, 2 partial, 3 unreliable.
    Freshness,
    /// Sums that do not add up: events of which nobody knows what became of them.
    Conservation,
    /// Deliveries of a source that went into quarantine within `within_s`.
    Quarantine,
}

fn calm_s() -> u32 {
    60
}

fn within_s() -> u32 {
    300
}

impl From<AlertFigure> for Figure {
    fn from(figure: AlertFigure) -> Self {
        match figure {
            AlertFigure::DeadLetters => Self::DeadLetters,
            AlertFigure::Lag => Self::LagS,
            AlertFigure::Down => Self::DownS,
            AlertFigure::Flow => Self::Flow,
            AlertFigure::Freshness => Self::Freshness,
            AlertFigure::Conservation => Self::Conservation,
            AlertFigure::Quarantine => Self::Quarantine,
        }
    }
}

impl Config {
    /// What the hub watches of itself.
    pub fn oversight(&self) -> OversightOptions {
        let us = |s: u32| i64::from(s) * 1_000_000;
        let rule = |(name, alert): (&String, &AlertConfig)| AlertRule {
            name: name.clone(),
            figure: alert.when.into(),
            above: alert.above,
            of: alert.of.clone(),
            within_us: us(alert.within_s),
            owner: alert.owner.clone(),
            to: alert.steps.iter().map(|step| step.to.clone()).collect(),
            timing: Timing {
                holds_us: us(alert.for_s),
                calm_us: us(alert.calm_s),
                escalate_us: alert.steps.iter().skip(1).map(|step| us(step.after_s)).collect(),
            },
        };
        let limit = |(kind, limit_s): (&String, &f64)| (kind.clone(), (limit_s * 1e6) as i64);
        let told = self.sources.iter().filter(|(_, source)| source.tell_reached);
        OversightOptions {
            limits_us: self.freshness.limits_s.iter().map(limit).collect(),
            rules: self.alerts.iter().map(rule).collect(),
            tell_reached: told.map(|(name, _)| name.clone()).collect(),
            interval_ms: 0,
        }
    }
}
