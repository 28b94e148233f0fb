//! The configuration of a destination that is an HTTP interface.

use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use lockstep_connect::destination::Filter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::oauth::OAuth;
use super::success::Success;
use crate::webhook::client::{self, HttpError};
use crate::webhook::{PrivateAddress, TIMEOUT_MS_MAX};

/// Headers that belong to the protocol, so that neither configuration nor mapping can set them.
pub(super) const RESERVED: [&str; 6] =
    ["connection", "content-length", "host", "te", "traceparent", "transfer-encoding"];

/// The most ETags that a destination can be told to remember.
const REMEMBERED_MAX: u32 = 10_000_000;

/// A destination that is an HTTP interface: a mapping says what is asked of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where the interface begins, for example `https://erp.example/api/v2`. The mapping's `path` is appended.
    pub url: String,
    /// The method where the mapping does not name one.
    #[serde(default = "method")]
    pub method: String,
    /// Which events go there; all of them without it.
    #[serde(default)]
    pub filter: Filter,
    /// A file with a VRL mapping, which makes the request out of the CloudEvent: an object with `method`, `path` (a text,
    /// or a list of its segments), `query`, `headers` and `body`, each of which may be missing; `null` keeps the event
    /// back. Without a mapping the CloudEvent is the body.
    #[serde(default)]
    pub mapping: Option<String>,
    /// How long a request may take, with the token and the condition that it needs first.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 1, max = TIMEOUT_MS_MAX))]
    pub timeout_ms: u64,
    /// More headers for every request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The header with the event's id, by which the other side knows a repetition; empty: none.
    #[serde(default = "idempotency_header")]
    pub idempotency_header: String,
    /// What counts as success; any 2xx without it.
    #[serde(default)]
    pub success: Success,
    /// How access tokens are had, by OAuth 2 with client credentials; `secrets` has the client's secret.
    #[serde(default)]
    pub oauth: Option<OAuth>,
    /// Whether something is only written as long as nobody else has changed it.
    #[serde(default)]
    pub conditional: Conditional,
    /// Whether the URL may lead to an address that is not of the public internet, such as one of your own network.
    #[serde(default)]
    pub allow_private_addresses: bool,
    /// How many requests may be under way at once. Events of one entity always go one after another.
    #[serde(default = "concurrency_max")]
    #[schemars(range(min = 1))]
    pub concurrency_max: u32,
}

/// Conditional writes. The mapping may set `if-match` and `if-none-match` itself, from what the event has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Conditional {
    /// How many addresses' ETags are remembered, each from the last answer: the next request to that address is sent with
    /// it as `If-Match`. Where none is remembered, the address is asked for it first; where there is nothing,
    /// `If-None-Match: *` is sent. 0: none.
    #[schemars(range(max = REMEMBERED_MAX))]
    pub remembered_max: u32,
    /// Where in an answer the version stands instead of in the header `ETag`, as a JSON Pointer.
    pub version_at: Option<String>,
    /// What it means that the condition did not hold (412).
    pub conflict: Conflict,
}

/// What follows an answer 412.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Conflict {
    /// Somebody else has changed it: a dead letter, for a person to look at.
    #[default]
    DeadLetter,
    /// What the hub says counts: it is tried again, on what is there now.
    Overwrite,
    /// What is there is as good: it counts as delivered. For what is only created, with `if-none-match: *`.
    Delivered,
}

fn method() -> String {
    "POST".to_owned()
}

fn timeout_ms() -> u64 {
    10_000
}

fn idempotency_header() -> String {
    "idempotency-key".to_owned()
}

fn concurrency_max() -> u32 {
    16
}

/// Header values may be credentials, so only their names are shown.
impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("url", &self.url)
            .field("method", &self.method)
            .field("filter", &self.filter)
            .field("mapping", &self.mapping)
            .field("timeout_ms", &self.timeout_ms)
            .field("headers", &self.headers.keys())
            .field("idempotency_header", &self.idempotency_header)
            .field("success", &self.success)
            .field("oauth", &self.oauth)
            .field("conditional", &self.conditional)
            .field("allow_private_addresses", &self.allow_private_addresses)
            .field("concurrency_max", &self.concurrency_max)
            .finish()
    }
}

/// Why a destination that is an HTTP interface cannot be made.
#[derive(Debug, Error)]
pub enum HttpConfigError {
    /// A URL cannot be used.
    #[error("`{field}` cannot be called")]
    Url {
        /// The field.
        field: &'static str,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The base could not have a path appended.
    #[error("`url` must end before the query: a mapping gives that as `query`")]
    Query,
    /// A URL has a literal address that is not a public one.
    #[error("`{field}` is refused")]
    PrivateAddress {
        /// The field.
        field: &'static str,
        /// Why.
        #[source]
        source: PrivateAddress,
    },
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be made")]
    Client(#[source] HttpError),
    /// A field has a value that it cannot have.
    #[error("`{field}` {problem}")]
    Field {
        /// The field.
        field: String,
        /// What would be right.
        problem: String,
    },
    /// There is nothing to get a token with, or a secret without use.
    #[error("`secrets` {0}")]
    Secrets(&'static str),
}

fn field(field: impl Into<String>, problem: impl Into<String>) -> HttpConfigError {
    HttpConfigError::Field { field: field.into(), problem: problem.into() }
}

/// A URL that can be called.
fn url(name: &'static str, url: &str, allow_private_addresses: bool) -> Result<Uri, HttpConfigError> {
    let uri = client::parse_url(url).map_err(|source| HttpConfigError::Url { field: name, source })?;
    if !allow_private_addresses {
        client::check_literal(&uri).map_err(|source| HttpConfigError::PrivateAddress { field: name, source })?;
    }
    Ok(uri)
}

impl HttpConfig {
    /// Everything that can be said without a connection: what is wrong with it, if anything.
    pub fn check(&self) -> Result<(), HttpConfigError> {
        let base = url("url", &self.url, self.allow_private_addresses)?;
        if base.query().is_some() {
            return Err(HttpConfigError::Query);
        }
        self.method()?;
        for (name, value, max) in [
            ("timeout_ms", self.timeout_ms, TIMEOUT_MS_MAX),
            ("concurrency_max", u64::from(self.concurrency_max), 10_000),
        ] {
            if value == 0 || value > max {
                return Err(field(name, format!("must be from 1 to {max}, not {value}")));
            }
        }
        self.success.check().map_err(|(name, problem)| field(format!("success.{name}"), problem))?;
        let conditional = &self.conditional;
        if conditional.remembered_max > REMEMBERED_MAX {
            return Err(field("conditional.remembered_max", format!("must be at most {REMEMBERED_MAX}")));
        }
        match &conditional.version_at {
            Some(pointer) if !pointer.starts_with('/') => {
                let problem = format!("must be a JSON Pointer, which begins with a `/`, not `{pointer}`");
                return Err(field("conditional.version_at", problem));
            }
            Some(_) if conditional.remembered_max == 0 => {
                let problem = "says where versions stand, and `conditional.remembered_max` that none is remembered";
                return Err(field("conditional.version_at", problem));
            }
            _ => {}
        }
        if let Some(oauth) = &self.oauth {
            url("oauth.token_url", &oauth.token_url, self.allow_private_addresses)?;
            oauth.check().map_err(|(name, problem)| field(format!("oauth.{name}"), problem))?;
            if self.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
                return Err(field("headers.authorization", "is set by `oauth`: leave one of them out"));
            }
        }
        self.idempotency_header()?;
        self.header_map().map(|_| ())
    }

    pub(super) fn base(&self) -> Result<Uri, HttpConfigError> {
        url("url", &self.url, true)
    }

    pub(super) fn method(&self) -> Result<Method, HttpConfigError> {
        parse_method(&self.method).ok_or_else(|| field("method", format!("must be a method, not `{}`", self.method)))
    }

    pub(super) fn idempotency_header(&self) -> Result<Option<HeaderName>, HttpConfigError> {
        let text = self.idempotency_header.as_str();
        match text.parse::<HeaderName>() {
            _ if text.is_empty() => Ok(None),
            Ok(name) if !RESERVED.contains(&name.as_str()) => Ok(Some(name)),
            _ => Err(field("idempotency_header", format!("must be the name of a free HTTP header, not `{text}`"))),
        }
    }

    /// The configured headers.
    pub(super) fn header_map(&self) -> Result<HeaderMap, HttpConfigError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = |problem: &str| field(format!("headers.{name}"), problem);
            let header: HeaderName = name.parse().map_err(|_| wrong("must have the name of an HTTP header"))?;
            if RESERVED.contains(&header.as_str()) || self.idempotency_header.eq_ignore_ascii_case(name) {
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

/// A method that asks for something: neither a tunnel nor an echo.
pub(super) fn parse_method(text: &str) -> Option<Method> {
    let method = Method::from_bytes(text.as_bytes()).ok()?;
    let is_good = text.bytes().all(|b| b.is_ascii_uppercase()) && method != Method::CONNECT && method != Method::TRACE;
    is_good.then_some(method)
}
