//! A running hub, spoken to over its HTTP API and nothing else.

mod sse;

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

pub use sse::{Parser, ServerEvent};

use crate::exit::{Exit, Failure, chain};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A live stream says something at least every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Which hub, and with which key.
#[derive(Clone, Debug, Args)]
pub struct RemoteArgs {
    /// The hub's address.
    #[arg(long, value_name = "URL", env = "LOCKSTEP_URL", default_value = "http://127.0.0.1:7070")]
    pub url: String,
    /// The API key.
    #[arg(long, value_name = "KEY", env = "LOCKSTEP_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

/// A running hub.
pub struct Remote {
    base: String,
    key: Option<header::HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// What is sent.
enum Content<'b> {
    Json(&'b Value),
    Lines(String),
}

/// An answer that is not an error.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

impl Remote {
    /// The hub of these arguments. Nothing is sent yet.
    pub fn new(args: &RemoteArgs) -> Result<Self, Failure> {
        let base = args.url.trim_end_matches('/').to_owned();
        let parsed: http::Uri = base.parse().map_err(|_| bad_url(&args.url))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) || parsed.host().is_none() {
            return Err(bad_url(&args.url));
        }
        let key = match &args.key {
            None => None,
            Some(key) => {
                let mut value = header::HeaderValue::from_str(&format!("Bearer {}", key.trim())).map_err(|_| {
                    Failure::usage("key", "--key must be an API key as `lockstep key create` prints it")
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let connector = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        Ok(Self { base, key, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// Reads something.
    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::GET, path, None).await
    }

    /// Asks for something to be done.
    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        self.request(Method::POST, path, body).await
    }

    /// Has something ended or removed.
    pub async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.request(Method::DELETE, path, None).await
    }

    /// Sends JSON lines.
    pub async fn post_lines(&self, path: &str, lines: String) -> Result<Answer, Failure> {
        let (status, bytes) = self.whole(Method::POST, path, None, Some(Content::Lines(lines))).await?;
        if !status.is_success() {
            return Err(refused(&self.base, status, &bytes));
        }
        Ok(Answer { status, body: self.json(&bytes)? })
    }

    /// Has something written, which the key makes one however often it is asked for.
    pub async fn write(
        &self,
        method: Method,
        path: &str,
        idempotency_key: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let key = header::HeaderValue::from_str(idempotency_key).map_err(|_| bad_key())?;
        self.exchange(method, path, Some(key), body).await
    }

    /// The same, where a conflict (409) is an answer with something to tell, not a failure: its problem document.
    pub async fn write_or_conflict(
        &self,
        path: &str,
        idempotency_key: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let key = header::HeaderValue::from_str(idempotency_key).map_err(|_| bad_key())?;
        let (status, bytes) = self.whole(Method::POST, path, Some(key), body.map(Content::Json)).await?;
        if !status.is_success() && status != StatusCode::CONFLICT {
            return Err(refused(&self.base, status, &bytes));
        }
        Ok(Answer { status, body: self.json(&bytes)? })
    }

    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        self.exchange(method, path, None, body).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<header::HeaderValue>,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let (status, bytes) = self.bytes(method, path, idempotency_key, body).await?;
        let body = if bytes.is_empty() { Value::Null } else { self.json(&bytes)? };
        Ok(Answer { status, body })
    }

    /// Reads something that is no JSON.
    pub async fn get_text(&self, path: &str) -> Result<String, Failure> {
        let (_, bytes) = self.bytes(Method::GET, path, None, None).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn bytes(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<header::HeaderValue>,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let (status, bytes) = self.whole(method, path, idempotency_key, body.map(Content::Json)).await?;
        if !status.is_success() {
            return Err(refused(&self.base, status, &bytes));
        }
        Ok((status, bytes))
    }

    /// The whole answer, whatever its status.
    async fn whole(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<header::HeaderValue>,
        body: Option<Content<'_>>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let whole = async {
            let (status, body) = self.send(method, path, idempotency_key, body).await?;
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
                Failure::unreachable("answer-broken", format!("the answer of {} ended early: {error}", self.base))
            })?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, whole).await {
            Ok(answer) => answer,
            Err(_) => {
                let message = format!("the hub at {} did not answer within {} s", self.base, ANSWER_TIMEOUT.as_secs());
                Err(Failure::unreachable("timeout", message))
            }
        }
    }

    /// A live stream, from its first byte.
    pub async fn stream(&self, path: &str) -> Result<Stream, Failure> {
        let (status, body) = match tokio::time::timeout(ANSWER_TIMEOUT, self.send(Method::GET, path, None, None)).await
        {
            Ok(answer) => answer?,
            Err(_) => return Err(Failure::unreachable("timeout", format!("the hub at {} did not answer", self.base))),
        };
        if !status.is_success() {
            let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            return Err(refused(&self.base, status, &bytes));
        }
        Ok(Stream { base: self.base.clone(), body, parser: Parser::default(), ready: Vec::new().into_iter() })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<header::HeaderValue>,
        body: Option<Content<'_>>,
    ) -> Result<(StatusCode, Incoming), Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.clone());
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(Content::Json(body)) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            Some(Content::Lines(lines)) => {
                request = request.header(header::CONTENT_TYPE, "application/x-ndjson");
                Bytes::from(lines)
            }
        };
        let request = request.body(Full::new(bytes)).map_err(|_| bad_url(&self.base))?;
        let response = self.client.request(request).await.map_err(|error| {
            Failure::unreachable("unreachable", format!("no hub answers at {}: {}", self.base, chain(&error)))
        })?;
        Ok((response.status(), response.into_body()))
    }

    fn json(&self, bytes: &[u8]) -> Result<Value, Failure> {
        serde_json::from_slice(bytes).map_err(|_| {
            Failure::unreachable(
                "not-a-hub",
                format!("what answers at {} is no Lockstep hub: it does not speak JSON", self.base),
            )
        })
    }
}

/// A live stream of events.
pub struct Stream {
    base: String,
    body: Incoming,
    parser: Parser,
    ready: std::vec::IntoIter<ServerEvent>,
}

impl Stream {
    /// The next event; `None` where the hub ended the stream.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, Failure> {
        loop {
            if let Some(event) = self.ready.next() {
                return Ok(Some(event));
            }
            let broken = |what: &str| {
                Failure::unreachable("stream-broken", format!("the stream of {} ended early: {what}", self.base))
            };
            let frame = match tokio::time::timeout(SILENCE_MAX, self.body.frame()).await {
                Err(_) => return Err(broken("nothing was heard of it")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(broken(&chain(&error))),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Some(bytes) = frame.data_ref() {
                self.ready = self.parser.push(bytes).ok_or_else(|| broken("an event is too large"))?.into_iter();
            }
        }
    }
}

/// One segment of a path: everything that could end it or begin a query is escaped.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~:@".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A query of the given parameters, those without a value left out; with its question mark.
pub fn query(parameters: &[(&str, Option<String>)]) -> String {
    let given: Vec<_> =
        parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", segment(value.as_deref()?)))).collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

fn bad_key() -> Failure {
    Failure::usage("idempotency-key", "--idempotency-key must be visible ASCII characters")
}

fn bad_url(url: &str) -> Failure {
    Failure::usage("url", format!("--url must be an address such as http://127.0.0.1:7070, not `{url}`"))
}

/// An error answer as a failure: what the problem details say, and the exit code that goes with the status.
fn refused(base: &str, status: StatusCode, body: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |member: &str| problem.get(member).and_then(Value::as_str).map(str::to_owned);
    let code = text("code").unwrap_or_else(|| format!("http-{}", status.as_u16()));
    let mut message =
        text("detail").or_else(|| text("title")).unwrap_or_else(|| format!("the hub at {base} answered {status}"));
    if let Some(pointer) = text("pointer") {
        message.push_str(&format!(" (at {pointer})"));
    }
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            message.push_str("; give a key with --key or LOCKSTEP_KEY");
            Exit::Refused
        }
        StatusCode::NOT_FOUND if text("code").is_none() => {
            return Failure::unreachable("not-a-hub", format!("what answers at {base} is no Lockstep hub"));
        }
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::CONFLICT => Exit::No,
        StatusCode::PRECONDITION_FAILED | StatusCode::UNPROCESSABLE_ENTITY => Exit::No,
        StatusCode::TOO_MANY_REQUESTS => Exit::Unreachable,
        status if status.is_server_error() => Exit::Unreachable,
        _ => Exit::Usage,
    };
    Failure { exit, code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_entities_are_one_segment() {
        assert_eq!(segment("web:1001@berlin"), "web:1001@berlin");
        assert_eq!(segment("a/b c?d#e%"), "a%2Fb%20c%3Fd%23e%25");
        assert_eq!(segment("ä"), "%C3%A4");
        assert_eq!(
            query(&[("kind", Some("order".into())), ("key", None), ("type", Some("a&b".into()))]),
            "?kind=order&type=a%26b"
        );
        assert_eq!(query(&[("kind", None)]), "");
    }

    #[test]
    fn a_status_gives_its_exit_code() {
        let exit =
            |status: u16, body: &str| refused("http://x", StatusCode::from_u16(status).unwrap(), body.as_bytes()).exit;
        assert_eq!(exit(401, "{}"), Exit::Refused);
        assert_eq!(exit(403, "{}"), Exit::Refused);
        assert_eq!(exit(404, r#"{"code":"unknown-entity"}"#), Exit::No);
        assert_eq!(exit(404, "<html>"), Exit::Unreachable);
        assert_eq!(exit(400, "{}"), Exit::Usage);
        assert_eq!(exit(422, "{}"), Exit::No);
        assert_eq!(exit(429, "{}"), Exit::Unreachable);
        assert_eq!(exit(503, "{}"), Exit::Unreachable);
    }

    #[test]
    fn an_address_must_be_one() {
        let remote =
            |url: &str| Remote::new(&RemoteArgs { url: url.into(), key: None }).map(|_| ()).map_err(|f| f.exit);
        assert_eq!(remote("127.0.0.1:7070"), Err(Exit::Usage));
        assert_eq!(remote("ftp://x"), Err(Exit::Usage));
        assert_eq!(remote("http://127.0.0.1:7070/"), Ok(()));
    }
}
