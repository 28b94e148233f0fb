//! The configuration of a webhook destination.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use lockstep_connect::destination::Filter;
use lockstep_connect::signature::{Scheme, SchemeError, Secret, StandardWebhooks, Verifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::address::PrivateAddress;
use super::batch::{self, Batch};
use super::client::{self, HttpError};

/// The longest time limit: a request that takes longer holds a place that others wait for.
pub(crate) const TIMEOUT_MS_MAX: u64 = 300_000;

/// Headers that belong to the protocol or the signature, so that a configuration cannot set them.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "lockstep-event-ids",
    "te",
    "traceparent",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// A destination that gets each event as a signed HTTP request (Standard Webhooks, unless `signature` says otherwise).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where the events go, for example `https://erp.example/hooks/lockstep`.
    pub url: String,
    /// Which events go there; all of them without it.
    #[serde(default)]
    pub filter: Filter,
    /// A file with a VRL mapping, which makes the body out of the CloudEvent that would be sent without it. What it
    /// comes to is sent as JSON; `null` keeps the event back.
    #[serde(default)]
    pub mapping: Option<String>,
    /// How requests are signed; after Standard Webhooks without it.
    #[serde(default)]
    pub signature: Option<Scheme>,
    /// How long a request may take, from connecting to the end of the answer.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 1, max = TIMEOUT_MS_MAX))]
    pub timeout_ms: u64,
    /// Where in the JSON of an answer failures stand, as JSON Pointers: an answer 2xx that has something there, an empty
    /// list or object apart, has taken nothing. For interfaces such as GraphQL, which answer 200 to everything.
    #[serde(default)]
    pub errors_at: Vec<String>,
    /// More headers for every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether the URL may lead to an address that is not of the public internet, such as one of your own network.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// How many requests may be under way at once. Events of one entity always go one after another.
    #[serde(default = "concurrency_max")]
    #[schemars(range(min = 1))]
    pub concurrency_max: u32,
    /// Several events in one request, as a JSON array; one at a time without it.
    #[serde(default)]
    pub batch: Option<Batch>,
}

fn timeout_ms() -> u64 {
    5_000
}

fn concurrency_max() -> u32 {
    64
}

/// Header values may be credentials, so only their names are shown.
impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookConfig")
            .field("url", &self.url)
            .field("filter", &self.filter)
            .field("mapping", &self.mapping)
            .field("signature", &self.signature)
            .field("timeout_ms", &self.timeout_ms)
            .field("errors_at", &self.errors_at)
            .field("headers", &self.headers.keys())
            .field("allow_private_addresses", &self.allow_private_addresses)
            .field("concurrency_max", &self.concurrency_max)
            .field("batch", &self.batch)
            .finish()
    }
}

/// Why a webhook destination cannot be made.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// The URL cannot be used.
    #[error("`url` cannot be called")]
    Url(#[source] HttpError),
    /// The URL has a literal address that is not a public one.
    #[error("`url` is refused")]
    PrivateAddress(#[source] PrivateAddress),
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be made")]
    Client(#[source] HttpError),
    /// A number is out of its range.
    #[error("`{field}` must be from 1 to {max}, not {value}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// A place in an answer is none.
    #[error("`errors_at` must have JSON Pointers, which begin with a `/`, not `{0}`")]
    Pointer(String),
    /// A header cannot be sent.
    #[error("`headers.{name}` {problem}")]
    Header {
        /// The header.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The secrets cannot be used.
    #[error("`secrets` cannot be used")]
    Secrets(#[source] SchemeError),
    /// Requests cannot be signed like this.
    #[error("`signature` cannot be used")]
    Signature(#[source] SchemeError),
    /// The signature would stand where something else does.
    #[error("`signature` cannot be in the header `{0}`, which the hub or HTTP itself sets")]
    SignatureHeader(String),
}

impl WebhookConfig {
    /// Everything that can be said without a connection: what is wrong with it, if anything.
    pub fn check(&self) -> Result<(), WebhookError> {
        let uri = client::parse_url(&self.url).map_err(WebhookError::Url)?;
        if !self.allow_private_addresses {
            client::check_literal(&uri).map_err(WebhookError::PrivateAddress)?;
        }
        let concurrency_max = u64::from(self.concurrency_max);
        for (field, value, max) in
            [("timeout_ms", self.timeout_ms, TIMEOUT_MS_MAX), ("concurrency_max", concurrency_max, 10_000)]
        {
            if value == 0 || value > max {
                return Err(WebhookError::Range { field, value, max });
            }
        }
        if let Some(Batch { max, window_ms, bytes_max }) = self.batch {
            for (field, value, max) in [
                ("batch.max", u64::from(max), u64::from(batch::EVENTS_MAX)),
                ("batch.window_ms", window_ms.max(1), batch::WINDOW_MS_MAX),
                ("batch.bytes_max", bytes_max, batch::BYTES_MAX),
            ] {
                if value == 0 || value > max {
                    return Err(WebhookError::Range { field, value, max });
                }
            }
        }
        if let Some(pointer) = self.errors_at.iter().find(|pointer| !pointer.starts_with('/')) {
            return Err(WebhookError::Pointer(pointer.clone()));
        }
        self.check_signature()?;
        self.header_map().map(|_| ())
    }

    /// How requests are signed.
    pub(super) fn scheme(&self) -> Scheme {
        self.signature.clone().unwrap_or(Scheme::StandardWebhooks(StandardWebhooks {}))
    }

    /// What signs with each of the secrets.
    pub(super) fn signer(&self, secrets: &[Secret]) -> Result<Verifier, WebhookError> {
        Verifier::signing_with_all(self.scheme(), secrets.to_vec()).map_err(|error| match error {
            SchemeError::NoSecret { .. }
            | SchemeError::EmptySecret { .. }
            | SchemeError::SecretNotBase64 { .. }
            | SchemeError::Crowded { .. } => WebhookError::Secrets(error),
            _ => WebhookError::Signature(error),
        })
    }

    fn check_signature(&self) -> Result<(), WebhookError> {
        // Any secret shows what is wrong with the rest.
        let signed = self.signer(&[Secret::new("AAAA")])?.sign_headers("1", 0, b"");
        let taken = |name: &&HeaderName| RESERVED.contains(&name.as_str()) && !name.as_str().starts_with("webhook-");
        match signed.iter().map(|(name, _)| name).find(taken) {
            Some(name) => Err(WebhookError::SignatureHeader(name.to_string())),
            None => Ok(()),
        }
    }

    /// The configured headers.
    pub(super) fn header_map(&self) -> Result<HeaderMap, WebhookError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = |problem| WebhookError::Header { name: name.clone(), problem };
            let header: HeaderName = name.parse().map_err(|_| wrong("must have the name of an HTTP header"))?;
            if RESERVED.contains(&header.as_str()) {
                return Err(wrong("is set by the hub itself: leave it out"));
            }
            let mut value: HeaderValue =
                value.parse().map_err(|_| wrong("must have a value of visible ASCII characters"))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        Ok(headers)
    }
}
