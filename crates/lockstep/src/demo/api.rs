//! The hub's HTTP API, as an operator and an auditor use it.

use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use lockstep_connectors::HttpClient;
use lockstep_connectors::webhook::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

const TIMEOUT: Duration = Duration::from_secs(30);
/// How many items are asked for at once.
pub(crate) const PAGE: usize = 500;

/// See the module.
#[derive(Clone)]
pub(crate) struct ApiClient {
    client: HttpClient,
    base: String,
    headers: HeaderMap,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
}

/// An entity of the hub.
#[derive(Debug, Deserialize)]
pub(crate) struct EntityItem {
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) document: Box<RawValue>,
}

/// An open dead letter.
#[derive(Debug, Deserialize)]
pub(crate) struct DeadLetterItem {
    pub(crate) destination: String,
    pub(crate) event: u64,
    pub(crate) record: u64,
}

/// A part of the open dead letters.
#[derive(Debug, Deserialize)]
pub(crate) struct DeadLetterPage {
    pub(crate) items: Vec<DeadLetterItem>,
    pub(crate) next_after: Option<String>,
}

/// A delivery in quarantine.
#[derive(Debug, Deserialize)]
pub(crate) struct QuarantineItem {
    pub(crate) source: String,
    pub(crate) code: String,
    pub(crate) detail: String,
    pub(crate) at: String,
}

impl ApiClient {
    /// The API at `base`, with the value of the `Authorization` header.
    pub(crate) fn new(client: HttpClient, base: String, authorization: HeaderValue) -> Self {
        let headers = [(AUTHORIZATION, authorization), (CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Self { client, base, headers: headers.into_iter().collect() }
    }

    async fn send(&self, method: Method, path: &str) -> anyhow::Result<Response> {
        let url = format!("{}{path}", self.base);
        let answer = self.client.request(method.clone(), &url, self.headers.clone(), "", TIMEOUT).await;
        answer.with_context(|| format!("{method} {path} got no answer"))
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        let answer = self.send(method.clone(), path).await?;
        if !answer.status.is_success() {
            bail!("{method} {path} was answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        serde_json::from_slice(&answer.body).with_context(|| format!("the answer to {method} {path} can't be read"))
    }

    /// What stands at a path.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path).await
    }

    /// The entities of a kind after a key, in the order of their keys.
    pub(crate) async fn entities(&self, kind: &str, after: &str) -> anyhow::Result<Vec<EntityItem>> {
        let path = format!("/v1/entities/{kind}?limit={PAGE}&after={}", query(after));
        Ok(self.call::<Page<EntityItem>>(Method::GET, &path).await?.items)
    }

    /// All open dead letters of a destination, a part at a time.
    pub(crate) async fn dead_letters(&self, destination: &str, after: Option<&str>) -> anyhow::Result<DeadLetterPage> {
        let after = after.map(|after| format!("&after={}", query(after))).unwrap_or_default();
        self.call(Method::GET, &format!("/v1/dead-letters?destination={destination}&limit={PAGE}{after}")).await
    }

    /// Has a dead letter sent again. `false` where it is no longer one.
    pub(crate) async fn retry(&self, destination: &str, event: u64) -> anyhow::Result<bool> {
        let path = format!("/v1/dead-letters/{destination}/{event}/retry");
        let answer = self.send(Method::POST, &path).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => bail!("POST {path} was answered {status}: {}", String::from_utf8_lossy(&answer.body)),
        }
    }

    /// The first deliveries in quarantine.
    pub(crate) async fn quarantine(&self) -> anyhow::Result<Vec<QuarantineItem>> {
        Ok(self.call::<Page<QuarantineItem>>(Method::GET, "/v1/quarantine?limit=10").await?.items)
    }
}

/// Text as a value of a query.
fn query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_a_query() {
        assert_eq!(query("SKU-1@berlin"), "SKU-1%40berlin");
        assert_eq!(query("a b/ü&=+%"), "a%20b%2F%C3%BC%26%3D%2B%25");
    }
}
