//! A way out, as it is configured: what is the hub's business, around what is the connector's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lockstep_connect::destination::Filter;
use lockstep_connectors::{DestinationConfig as Connector, SecretUse};
use lockstep_core::delivery::{BudgetPolicy, PacePolicy};
use lockstep_hub::delivery::DeliveryOptions;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::degrade::Degrade;
use super::delivery::{Breaker, Budget, Limit, Retry};
use super::flow::{Cadence, Gate, WaitsFor};
use super::secret::SecretRef;

/// A way out. In the file both parts stand in one table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct DestinationConfig {
    /// What is the hub's business.
    pub delivery: Delivery,
    /// What is the connector's: the kind, the address, the filter, the mapping.
    pub connector: Connector,
}

/// What is common to all kinds of destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// The system that it leads to.
    #[schemars(length(min = 1))]
    pub system: String,
    /// The secrets with which deliveries are signed. With several each delivery carries a signature of each, so
    /// that the receiver can change over. For other kinds: the OAuth client's secret, the mail account's password, the
    /// chat's address; of several the next one is tried where one is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub secrets: Vec<SecretRef>,
    /// Headers of every request whose values are secrets, such as an access token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, SecretRef>,
    /// Whether it is told what its own system has just said itself: then that system must not say again what it is
    /// told.
    #[serde(default)]
    pub echo_own: bool,
    /// When a delivery is tried again, and how often, before it becomes a dead letter.
    #[serde(default)]
    pub retry: Retry,
    /// When the destination counts as down, and how it is probed then.
    #[serde(default)]
    pub breaker: Breaker,
    /// How many retries it may get, as a part of what is sent to it.
    #[serde(default)]
    pub budget: Budget,
    /// How many requests it may get in a time, and at once.
    #[serde(default)]
    pub limit: Limit,
    /// When it gets less by itself: a queue, micro-batches, a pause, and back. Without it never; by hand always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degrade: Option<Degrade>,
    /// Where the destination begins when it is new.
    #[serde(default)]
    pub start: Start,
    /// When events go; without it each goes as soon as it can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cadence: Option<Cadence>,
    /// Which events wait until what they are about has arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<WaitsFor>,
    /// Which fields entities must have before they go there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate: Vec<Gate>,
}

/// Where a destination begins that the hub has not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// With the first event that the journal has.
    #[default]
    Beginning,
    /// With the next event.
    Now,
    /// With the newest event of each entity, then with the next event.
    State,
}

impl DestinationConfig {
    /// Which events go there.
    pub fn filter(&self) -> &Filter {
        self.connector.filter()
    }

    /// How the hub delivers to it, where this is its name.
    pub fn options(&self, name: &str) -> DeliveryOptions {
        let Delivery { system, retry, breaker, budget, limit, degrade, start, cadence, waits_for, .. } = &self.delivery;
        let Budget { retry_percent, window_ms, floor_per_s } = *budget;
        DeliveryOptions {
            system: system.clone(),
            retry: retry.policy(),
            breaker: breaker.policy(),
            budget: BudgetPolicy { retry_percent, window_ms, floor_per_s },
            pace: PacePolicy { rate_per_s: limit.rate_per_s, burst: limit.burst },
            adaptive: limit.adaptive,
            latency_floor_ms: limit.latency_floor_ms,
            concurrency_max: self.connector.concurrency_max() as usize,
            degrade: degrade.as_ref().map(Degrade::policy).unwrap_or_default(),
            start: match start {
                Start::Beginning => lockstep_hub::delivery::Start::Beginning,
                Start::Now => lockstep_hub::delivery::Start::Now,
                Start::State => lockstep_hub::delivery::Start::State,
            },
            cadence: cadence.as_ref().map(Cadence::cadence).unwrap_or_default(),
            waits_for: waits_for.iter().map(|wait| wait.rule(name)).collect(),
            ..DeliveryOptions::default()
        }
    }
}

/// The fields of [`Delivery`], as its schema has them.
fn delivery_schema() -> Map<String, Value> {
    inline::<Delivery>()
}

/// The schema of a type with everything that it refers to within it.
fn inline<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    match settings.into_generator().into_root_schema_for::<T>().to_value() {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

impl TryFrom<toml::Table> for DestinationConfig {
    type Error = toml::de::Error;

    /// Each part refuses fields that it does not know, so the table is taken apart before they see it.
    fn try_from(table: toml::Table) -> Result<Self, Self::Error> {
        let own = delivery_schema();
        let is_own = |name: &str| own.get("properties").is_some_and(|properties| properties.get(name).is_some());
        let (delivery, connector): (toml::Table, toml::Table) = table.into_iter().partition(|(name, _)| is_own(name));
        Ok(Self { delivery: delivery.try_into()?, connector: connector.try_into()? })
    }
}

impl Serialize for DestinationConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = |part: Result<Value, serde_json::Error>| part.map_err(serde::ser::Error::custom);
        let mut whole = part(serde_json::to_value(&self.connector))?;
        if let (Some(whole), Value::Object(delivery)) =
            (whole.as_object_mut(), part(serde_json::to_value(&self.delivery))?)
        {
            whole.extend(delivery);
        }
        whole.serialize(serializer)
    }
}

impl JsonSchema for DestinationConfig {
    fn schema_name() -> Cow<'static, str> {
        "DestinationConfig".into()
    }

    /// One alternative for each kind of connector, each with the common fields.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let own = delivery_schema();
        let connectors = inline::<Connector>();
        let alternatives = connectors.get("oneOf").and_then(Value::as_array).cloned().unwrap_or_default();
        let whole = |alternative: Value| {
            let mut alternative = match alternative {
                Value::Object(alternative) => alternative,
                _ => Map::new(),
            };
            for word in ["properties", "required"] {
                let entry = alternative.entry(word).or_insert_with(|| own[word].clone());
                match (entry, &own[word]) {
                    (Value::Object(entry), Value::Object(own)) => entry.extend(own.clone()),
                    (Value::Array(entry), Value::Array(own)) => {
                        entry.extend(own.iter().filter(|name| !entry.contains(name)).cloned().collect::<Vec<_>>());
                    }
                    _ => {}
                }
            }
            let kind = alternative["properties"]["kind"]["const"].as_str().unwrap_or_default().to_owned();
            let secrets = Connector::secret_use(&kind);
            if let Some(properties) = alternative["properties"].as_object_mut() {
                if secrets == SecretUse::None {
                    properties.remove("secrets");
                }
                if !Connector::has_headers(&kind) {
                    properties.remove("secret_headers");
                }
            }
            if let Some(required) = alternative["required"].as_array_mut().filter(|_| secrets == SecretUse::Needed) {
                required.push("secrets".into());
            }
            alternative.remove("unevaluatedProperties");
            alternative.insert("additionalProperties".into(), Value::Bool(false));
            Value::Object(alternative)
        };
        let mut schema = Map::new();
        schema.insert("description".into(), "A way out: which events go where, how, and how long it is tried.".into());
        schema.insert("type".into(), "object".into());
        schema.insert("oneOf".into(), alternatives.into_iter().map(whole).collect());
        schema.into()
    }
}
