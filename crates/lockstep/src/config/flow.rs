//! When events go to a destination, and what they wait for.

use lockstep_core::delivery::{Cadence as Cadences, Cron, Then as Thens, WaitsFor as Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When events go: without one of these each goes as soon as it can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cadence {
    /// What comes for an entity within so many milliseconds goes at their end. The first event that comes begins them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub window_ms: Option<u64>,
    /// What comes goes at the next time of this schedule, in UTC: minute, hour, day of the month, month, day of the week,
    /// as in `*/15 * * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Whether only the newest event of each entity goes; else all of them go, in order.
    #[serde(default = "yes")]
    pub latest_only: bool,
}

fn yes() -> bool {
    true
}

/// Events of a kind wait until what they are about has arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitsFor {
    /// The kind of those that wait, for example `price`.
    pub kind: String,
    /// The kind of what they wait for, for example `product`.
    #[serde(rename = "for")]
    pub awaited: String,
    /// The destination at which that must have arrived; without it this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Where the key of what is awaited stands in the document of the one that waits, for example `product_id`; without it
    /// both have the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub key: Option<String>,
    /// How long one waits at most, in seconds; without it as long as it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub wait_max_s: Option<u64>,
    /// What becomes of one that has waited for so long.
    #[serde(default)]
    pub then: Then,
}

/// What becomes of an event that has waited for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// It is sent all the same.
    Send,
}

/// An entity of a kind goes there only when these fields have a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The kind.
    pub kind: String,
    /// The fields, for example `["title", "image.url"]`.
    #[schemars(length(min = 1))]
    pub required: Vec<String>,
}

impl Cadence {
    /// Why it can't be: the field, and what would be right.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        match (self.window_ms, &self.cron) {
            (None, None) => Err(("window_ms", "`window_ms` or `cron` must say when events go".to_owned())),
            (Some(_), Some(_)) => {
                Err(("cron", "`cron` can't be beside `window_ms`: events go by one of them".to_owned()))
            }
            (Some(window_ms), None) if !(1..=86_400_000).contains(&window_ms) => {
                Err(("window_ms", format!("`window_ms` must be 1 to 86400000 (a day), not {window_ms}")))
            }
            (Some(_), None) => Ok(()),
            (None, Some(cron)) => cron.parse::<Cron>().map(drop).map_err(|error| ("cron", format!("`cron`: {error}"))),
        }
    }

    /// What is checked already.
    pub(super) fn cadence(&self) -> Cadences {
        let latest_only = self.latest_only;
        let schedule = |cron: &String| Some(Cadences::Schedule { cron: cron.parse().ok()?, latest_only });
        let window = self.window_ms.map(|window_ms| Cadences::Window { window_ms, latest_only });
        window.or_else(|| self.cron.as_ref().and_then(schedule)).unwrap_or_default()
    }
}

impl WaitsFor {
    /// Where it waits for it, at a destination of its own with this name.
    pub(super) fn at<'a>(&'a self, own: &'a str) -> &'a str {
        self.destination.as_deref().unwrap_or(own)
    }

    pub(super) fn rule(&self, own: &str) -> Rule {
        Rule {
            kind: self.kind.clone(),
            awaited: self.awaited.clone(),
            destination: self.at(own).to_owned(),
            key: self.key.clone(),
            wait_max_us: self
                .wait_max_s
                .map(|wait_s| i64::try_from(wait_s).unwrap_or(i64::MAX).saturating_mul(1_000_000)),
            then: match self.then {
                Then::DeadLetter => Thens::DeadLetter,
                Then::Send => Thens::Send,
            },
        }
    }
}
