//! The hub over HTTP: webhooks and events in, entities, events and queues out, operating it.
//!
//! A file a resource. Every answer that says no is a [`Problem`] with a stable code. Routes and their
//! documentation come from one place, the attributes above the handlers: `GET /openapi.json` is generated from
//! them.
//!
//! What it never knows: a concrete connector, the configuration file, how the hub decides or keeps its data.

mod alerts;
mod aliases;
mod auth;
mod body;
mod conflict_diff;
mod conflicts;
pub mod current;
mod dead_letters;
mod deletion;
mod destinations;
mod entities;
mod events;
mod explain;
mod flows;
mod freshness;
mod health;
mod history;
mod http_stats;
mod incomplete;
pub mod intake;
mod keys;
mod merges;
mod metrics;
mod metrics_flow;
mod middleware;
mod neighbour;
mod openapi;
mod operator;
mod options;
mod params;
mod preferences;
mod problem;
mod propagation;
mod quarantine;
mod replays;
mod resolve;
mod resolve_value;
mod schemas;
mod server;
mod slow;
mod stock;
mod stream;
mod trace;
mod until;
mod view;
mod webhooks;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use lockstep_connect::schema::Schemas;
use lockstep_connect::signature::Verifier;
use lockstep_connect::source::Source;
use lockstep_hub::HubHandle;
use tokio::sync::watch;

use crate::http_stats::HttpStats;

pub use keys::{Key, KeyRefused, Keys, KeysError, Scope, is_system_name};
pub use neighbour::trace_of;
pub use openapi::document as openapi;
pub use options::ApiOptions;
pub use problem::{Code, Problem, ProblemBody};
pub use server::{accept_until, serve};
pub use slow::Impatient;
pub use stock::{Ask, HOLDERS_MAX, SKUS_MAX, Said};

/// A source whose deliveries come as signed webhooks.
pub struct WebhookSource {
    /// What names, dedupes and translates them.
    pub source: Source,
    /// What makes them authentic.
    pub verifier: Verifier,
    /// Whether the raw input is kept also where it was understood. In quarantine it always is.
    pub keep_raw: bool,
}

/// What an [`Api`] is made of.
pub struct ApiParts {
    /// The hub.
    pub hub: HubHandle,
    /// The webhook sources, by their own names.
    pub sources: Vec<WebhookSource>,
    /// The schemas of all kinds.
    pub schemas: Arc<Schemas>,
    /// The API keys.
    pub keys: Keys,
    /// The hub as the `source` of its CloudEvents, for example `/hubs/main`.
    pub hub_source: String,
    /// Whether `/metrics` needs no key.
    pub open_metrics: bool,
    /// Limits.
    pub options: ApiOptions,
}

/// The hub's HTTP interface. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

/// What the clones of an [`Api`] share.
pub struct Inner {
    pub(crate) hub: HubHandle,
    pub(crate) sources: HashMap<String, WebhookSource>,
    pub(crate) schemas: Arc<Schemas>,
    pub(crate) keys: Keys,
    pub(crate) hub_source: String,
    pub(crate) open_metrics: bool,
    pub(crate) options: ApiOptions,
    pub(crate) http: HttpStats,
    /// Becomes true when the server stops: endless answers end.
    pub(crate) closing: watch::Sender<bool>,
}

impl std::ops::Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Api {
    /// An interface from its parts.
    pub fn new(parts: ApiParts) -> Self {
        let sources = parts.sources.into_iter().map(|s| (s.source.name().to_owned(), s)).collect();
        Self(Arc::new(Inner {
            hub: parts.hub,
            sources,
            schemas: parts.schemas,
            keys: parts.keys,
            hub_source: parts.hub_source,
            open_metrics: parts.open_metrics,
            options: parts.options,
            http: HttpStats::default(),
            closing: watch::Sender::new(false),
        }))
    }

    /// All routes.
    pub fn router(&self) -> Router {
        openapi::router(self.clone())
    }
}
