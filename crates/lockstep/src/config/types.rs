//! The configuration as types: what is here is its schema, its validation and its documentation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep_api::ApiOptions;
use lockstep_connect::signature::Scheme;
use lockstep_core::Rules;
use lockstep_grpc::GrpcOptions;
use lockstep_hub::HubOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::destination::DestinationConfig;
use super::oversight::{AlertConfig, FreshnessConfig};
use super::secret::SecretRef;
use super::stock::StockConfig;

/// The configuration of a hub: the file `lockstep.toml`, with mappings and packs beside it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The hub itself: its name, its data, its limits.
    pub hub: HubConfig,
    /// Where and how it listens.
    pub http: HttpConfig,
    /// Where it listens for gRPC. The limits of `http` (bytes and events of a request, connections, headers, how far a
    /// reader may fall behind) hold there too.
    pub grpc: GrpcConfig,
    /// Who decides which field, by kind of entity (`order`, `price`, ...). An undeclared kind is decided by
    /// `latest`, an order's `lifecycle` by its rank.
    pub domains: BTreeMap<String, DomainConfig>,
    /// The outside parties that need more than their name.
    pub systems: BTreeMap<String, SystemConfig>,
    /// Stock: limits, and the systems whose word goes into its ledger.
    pub stock: StockConfig,
    /// How fresh what the hub hands on has to be.
    pub freshness: FreshnessConfig,
    /// What somebody has to be told of, by name.
    pub alerts: BTreeMap<String, AlertConfig>,
    /// The ways in, each at `POST /v1/webhooks/<name>`.
    pub sources: BTreeMap<String, SourceConfig>,
    /// The ways out.
    pub destinations: BTreeMap<String, DestinationConfig>,
}

/// The hub itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HubConfig {
    /// The hub's name. Its events carry `/hubs/<name>` as their source.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The data folder, relative to the configuration: journal, state, keys.
    #[schemars(length(min = 1))]
    pub data_dir: PathBuf,
    /// The bytes of entities kept in memory, also those that are not flushed yet, as far as they can be told.
    #[schemars(range(min = 1_048_576))]
    pub cache_bytes_max: usize,
    /// The bytes of input that may wait for the hub. What is beyond is answered 429.
    #[schemars(range(min = 1_048_576))]
    pub queue_bytes_max: usize,
    /// The most inputs that are written in one batch.
    #[schemars(range(min = 1))]
    pub batch_inputs_max: usize,
    /// The most bytes of input that are written in one batch.
    #[schemars(range(min = 65_536))]
    pub batch_bytes_max: usize,
    /// The state is flushed to its file when this many records were written since the last flush.
    #[schemars(range(min = 1))]
    pub flush_records_max: u64,
    /// The state is flushed to its file when this many bytes of it have changed.
    #[schemars(range(min = 1_048_576))]
    pub flush_bytes_max: usize,
    /// The state is flushed to its file at least this often, in milliseconds.
    #[schemars(range(min = 10))]
    pub flush_interval_ms: u64,
    /// The size in bytes at which a file of the journal is closed and the next one begun.
    #[schemars(range(min = 1_048_576))]
    pub segment_bytes_max: u64,
    /// For how many days delivery ids are remembered, so that a repetition is known as one.
    #[schemars(range(min = 1))]
    pub seen_days: u32,
    /// The bytes of recent records kept in memory for live readers and deliveries.
    #[schemars(range(min = 65_536))]
    pub tail_bytes_max: usize,
    /// How far ahead of this machine's clock a source's may be, in seconds. What occurred later is quarantined: it would
    /// win over everything until then. 0: no limit.
    pub clock_skew_max_s: u64,
    /// Files of the journal whose records are all older than this many days may be dropped. Without it
    /// everything is kept.
    #[schemars(range(min = 1))]
    pub retention_days: Option<u32>,
}

impl Default for HubConfig {
    fn default() -> Self {
        let options = HubOptions::new("lockstep-data", Rules::default());
        Self {
            name: "main".to_owned(),
            data_dir: options.data_dir,
            cache_bytes_max: options.cache_bytes_max,
            queue_bytes_max: options.queue_bytes_max,
            batch_inputs_max: options.batch_inputs_max,
            batch_bytes_max: options.batch_bytes_max,
            flush_records_max: options.flush_records_max,
            flush_bytes_max: options.flush_bytes_max,
            flush_interval_ms: options.flush_interval_ms,
            segment_bytes_max: options.segment_bytes_max,
            seen_days: options.seen_days,
            tail_bytes_max: options.tail_bytes_max,
            clock_skew_max_s: 300,
            retention_days: options.retention_days,
        }
    }
}

impl HubConfig {
    /// The hub's options, with these rules and this data folder; of stock the defaults.
    pub fn options(&self, data_dir: PathBuf, rules: Rules) -> HubOptions {
        HubOptions {
            data_dir,
            rules,
            stock: StockConfig::default().limits(self.clock_skew_max_s),
            cache_bytes_max: self.cache_bytes_max,
            queue_bytes_max: self.queue_bytes_max,
            batch_inputs_max: self.batch_inputs_max,
            batch_bytes_max: self.batch_bytes_max,
            flush_records_max: self.flush_records_max,
            flush_bytes_max: self.flush_bytes_max,
            flush_interval_ms: self.flush_interval_ms,
            segment_bytes_max: self.segment_bytes_max,
            seen_days: self.seen_days,
            reservation_days: StockConfig::default().reservation_days(self.seen_days),
            tail_bytes_max: self.tail_bytes_max,
            retention_days: self.retention_days,
        }
    }
}

/// Where and how it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// The address and port. Port 0 takes a free one, which the first line of output names.
    pub listen: String,
    /// Whether `/metrics` is given without a key.
    pub open_metrics: bool,
    /// The most bytes of a webhook's body.
    #[schemars(range(min = 1_024))]
    pub webhook_bytes_max: usize,
    /// The most bytes of a request with events.
    #[schemars(range(min = 1_024))]
    pub events_bytes_max: usize,
    /// The most events of one request.
    #[schemars(range(min = 1))]
    pub events_max: usize,
    /// The most headers of a request.
    #[schemars(range(min = 16, max = 1_000))]
    pub headers_max: usize,
    /// The most bytes of a request's line and headers together.
    #[schemars(range(min = 8_192))]
    pub header_bytes_max: usize,
    /// How long a client may take to send its headers, and how long an idle connection is kept, in milliseconds.
    #[schemars(range(min = 1))]
    pub header_read_timeout_ms: u64,
    /// How long a client may take to send its body, in milliseconds.
    #[schemars(range(min = 1))]
    pub body_read_timeout_ms: u64,
    /// How long a client may take no byte of an answer before it is cut off, in milliseconds.
    #[schemars(range(min = 1))]
    pub write_timeout_ms: u64,
    /// The most connections at once. More wait to be accepted.
    #[schemars(range(min = 1))]
    pub connections_max: usize,
    /// A reader of the live stream that is further behind than this many records is cut off.
    #[schemars(range(min = 1))]
    pub stream_behind_max: u64,
    /// How long running requests may take to end when the hub stops, in milliseconds.
    pub shutdown_timeout_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        let options = ApiOptions::default();
        Self {
            listen: "127.0.0.1:7070".to_owned(),
            open_metrics: false,
            webhook_bytes_max: options.webhook_bytes_max,
            events_bytes_max: options.events_bytes_max,
            events_max: options.events_max,
            headers_max: options.headers_max,
            header_bytes_max: options.header_bytes_max,
            header_read_timeout_ms: options.header_read_timeout_ms,
            body_read_timeout_ms: options.body_read_timeout_ms,
            write_timeout_ms: options.write_timeout_ms,
            connections_max: options.connections_max,
            stream_behind_max: options.stream_behind_max,
            shutdown_timeout_ms: options.shutdown_timeout_ms,
        }
    }
}

impl HttpConfig {
    /// The limits of the HTTP interface.
    pub fn options(&self) -> ApiOptions {
        ApiOptions {
            webhook_bytes_max: self.webhook_bytes_max,
            events_bytes_max: self.events_bytes_max,
            events_max: self.events_max,
            headers_max: self.headers_max,
            header_bytes_max: self.header_bytes_max,
            header_read_timeout_ms: self.header_read_timeout_ms,
            body_read_timeout_ms: self.body_read_timeout_ms,
            write_timeout_ms: self.write_timeout_ms,
            connections_max: self.connections_max,
            stream_behind_max: self.stream_behind_max,
            shutdown_timeout_ms: self.shutdown_timeout_ms,
            ..ApiOptions::default()
        }
    }
}

/// Where it listens for gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpcConfig {
    /// Whether it listens for gRPC at all.
    pub enabled: bool,
    /// The address and port. Without it the loopback address, and the port after that of `http.listen` (a free one where
    /// that is 0). Port 0 takes a free one, which the second line of output names.
    pub listen: Option<String>,
    /// The most calls at once on one connection. More wait at the client.
    #[schemars(range(min = 1))]
    pub streams_max: u32,
    /// A connection without traffic is asked for a sign of life this often, in milliseconds.
    #[schemars(range(min = 1_000))]
    pub keep_alive_interval_ms: u64,
    /// A connection that gives no sign of life within this time is closed, in milliseconds.
    #[schemars(range(min = 1_000))]
    pub keep_alive_timeout_ms: u64,
    /// The most batches of one publishing stream that are under way at once.
    #[schemars(range(min = 1))]
    pub batches_in_flight_max: usize,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        let options = GrpcOptions::default();
        Self {
            enabled: true,
            listen: None,
            streams_max: options.streams_max,
            keep_alive_interval_ms: options.keep_alive_interval_ms,
            keep_alive_timeout_ms: options.keep_alive_timeout_ms,
            batches_in_flight_max: options.batches_in_flight_max,
        }
    }
}

impl GrpcConfig {
    /// The limits of gRPC.
    pub fn options(&self) -> GrpcOptions {
        GrpcOptions {
            streams_max: self.streams_max,
            keep_alive_interval_ms: self.keep_alive_interval_ms,
            keep_alive_timeout_ms: self.keep_alive_timeout_ms,
            batches_in_flight_max: self.batches_in_flight_max,
        }
    }
}

/// A kind of entity: which policy decides its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DomainConfig {
    /// The policy of every field that has none of its own.
    pub policy: PolicyName,
    /// For `owner`: the systems that decide, the system of record first. The next one speaks where those
    /// before it have no value.
    pub owner: Vec<String>,
    /// For `business-state`: the states, the lowest first. The one that is further along wins.
    pub states: Vec<String>,
    /// For `latest`: what becomes of two values written at the same instant by systems of equal priority. With
    /// `review` a person decides; without it the delivery id does, the same everywhere.
    pub ties: Ties,
    /// Policies of single fields. A part of a field has its path: `"customer.email"` for a member, `"lines[]"` for each
    /// item of a list, and `_deleted` decides who may say that the whole is gone.
    pub fields: BTreeMap<String, FieldConfig>,
    /// Lists that are merged item by item, with the member that tells the items apart: `lines = "id"`.
    pub lists: BTreeMap<String, String>,
    /// Objects that are merged member by member.
    pub objects: Vec<String>,
    /// Fields without which nobody is told of an entity, beside those that its schema requires.
    pub required: Vec<String>,
    /// How long an entity may be without a required field before it is reported, in readiness, in the metrics and once in
    /// the log; 0 is for ever.
    pub incomplete_after_s: u64,
    /// A JSON Schema for the fields of this kind, a file relative to the configuration. Kinds that Lockstep
    /// does not know need one.
    pub schema: Option<PathBuf>,
}

impl Default for DomainConfig {
    fn default() -> Self {
        Self {
            policy: PolicyName::default(),
            owner: Vec::new(),
            states: Vec::new(),
            ties: Ties::default(),
            fields: BTreeMap::new(),
            lists: BTreeMap::new(),
            objects: Vec::new(),
            required: Vec::new(),
            incomplete_after_s: 300,
            schema: None,
        }
    }
}

/// The policy of a single field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldConfig {
    /// The policy.
    pub policy: PolicyName,
    /// For `owner`: the systems that decide, the system of record first.
    #[serde(default)]
    pub owner: Vec<String>,
    /// For `business-state`: the states, the lowest first.
    #[serde(default)]
    pub states: Vec<String>,
    /// For `latest`: what becomes of two values written at the same instant by systems of equal priority.
    #[serde(default)]
    pub ties: Ties,
}

/// What becomes of two values that `latest` can't tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// The delivery id decides: arbitrary, but the same everywhere.
    #[default]
    Delivery,
    /// A person decides.
    Review,
}

/// Who wins a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// The first of an ordered list of systems that has a value.
    Owner,
    /// The latest write.
    #[default]
    Latest,
    /// The highest version of the sources' own: for systems that keep copies of one document with its version.
    HighestVersion,
    /// The state that is further along in a declared list.
    BusinessState,
    /// The greatest of what the systems say: numbers, dates, true over false.
    Max,
    /// The least of what the systems say; for consents, the most restrictive one.
    Min,
    /// The members of all systems' lists.
    Union,
    /// Where systems disagree, a person decides; until then the value stands that was said first.
    Review,
}

/// An outside party.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SystemConfig {
    /// Who wins among writes of the same instant: the higher number.
    pub priority: u32,
}

/// A way in: webhooks of one system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The system that it speaks for.
    #[schemars(length(min = 1))]
    pub system: String,
    /// The pack that understands this kind of system: a built-in one, or a folder of `packs/` beside the
    /// configuration. Without one, `mapping` and `signature` are needed.
    pub pack: Option<String>,
    /// Without a pack: the VRL mapping of every delivery, a file relative to the configuration. A delivery is then
    /// known by its topic and body, so a sender that gives each delivery an id is better served by a pack.
    pub mapping: Option<PathBuf>,
    /// Without a pack: the header that names the topic. The mapping finds it in its metadata.
    pub topic_header: Option<String>,
    /// Without a pack: the header with the delivery's id, the same in every repetition of it. Without it (and
    /// without the scheme `standard-webhooks`, which has its own) a delivery is known by its topic and body, so
    /// that the same body sent twice counts as a repetition.
    pub delivery_id_header: Option<String>,
    /// The signing secrets. Each one is valid, so that two overlap while one is being replaced.
    #[schemars(length(min = 1))]
    pub secrets: Vec<SecretRef>,
    /// The signature scheme, where it is not the pack's own.
    #[serde(default, skip_serializing)]
    pub signature: Option<Scheme>,
    /// The sales channel, the first part of an order's key. Without it the source's name.
    pub channel: Option<String>,
    /// The currency of prices that come without one, such as `EUR`.
    pub currency: Option<String>,
    /// Whether the bytes of every delivery are kept with its record. Those of quarantined ones always are. Where it
    /// is not given, the pack decides.
    #[serde(default)]
    pub keep_raw: Option<bool>,
    /// Whether an event `propagation.reached` tells when its changes are settled at every destination. Destinations whose
    /// filter names the kind `propagation` deliver it.
    #[serde(default)]
    pub tell_reached: bool,
}
