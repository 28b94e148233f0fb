//! Events as requests of an HTTP interface.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use lockstep_connect::destination::{Destination, Outlet, PrepareError, Prepared, RESPONSE_HEAD_BYTES_MAX, Sent};
use lockstep_connect::signature::Secret;
use lockstep_core::Event;
use lockstep_core::delivery::AttemptResult;
use serde_json::Value;
use tokio::time::Instant;

use super::config::{Conflict, HttpConfig, HttpConfigError};
use super::etags::Etags;
use super::oauth::{Token, TokenError, Tokens};
use super::request::{Asked, Base};
use super::success::Success;
use crate::webhook::client::{self, Head, HttpClient, HttpError, HttpOptions};
use crate::webhook::{RESPONSE_READ_BYTES_MAX, answered, class, failed, text_head};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const LOCKSTEP_REPLAY: HeaderName = HeaderName::from_static("lockstep-replay");
/// What is said where a conflict can't be looked into.
const NOT_READ: &str = "an earlier attempt may have changed it, and what is there could not be read: it is tried again";
/// What a mapping says of a write, which is not asked what is there with: its condition, its body, another method.
const OF_WRITES: [&str; 10] = [
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "if-modified-since",
    "content-type",
    "content-length",
    "content-encoding",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// A destination that is an HTTP interface.
pub struct HttpDestination {
    outlet: Outlet,
    mapping: Option<String>,
    client: HttpClient,
    base: Base,
    idempotency_header: Option<HeaderName>,
    /// What every request has: the configured headers and the user agent.
    headers: HeaderMap,
    timeout: Duration,
    success: Success,
    tokens: Option<Tokens>,
    etags: Etags,
    version_at: Option<String>,
    conflict: Conflict,
}

/// An attempt that came to an answer, or to none.
enum Outcome {
    Answered(Head),
    NoToken(TokenError),
    Failed(HttpError),
}

/// What is at an address.
enum Known {
    Version(String),
    Nothing,
    /// Something that has no version: then there is no condition to write on.
    Unversioned,
}

/// On what condition a request was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    None,
    /// By the mapping, which gives the same one again.
    Mapped,
    Remembered,
}

impl HttpDestination {
    /// A destination with its own connections. The outlet says what is asked.
    pub fn new(config: &HttpConfig, secrets: &[Secret], outlet: Outlet) -> Result<Self, HttpConfigError> {
        config.check()?;
        match (&config.oauth, secrets) {
            (Some(_), []) => return Err(HttpConfigError::Secrets("must have the secret of the client of `oauth`")),
            (None, [_, ..]) => {
                return Err(HttpConfigError::Secrets("are for `oauth`: without it, use `secret_headers`"));
            }
            _ => {}
        }
        let client = HttpClient::new(HttpOptions {
            allow_private_addresses: config.allow_private_addresses,
            connect_timeout_ms: client::connect_timeout_ms(config.timeout_ms),
            idle_connections_max: config.concurrency_max as usize,
            ..HttpOptions::default()
        })
        .map_err(HttpConfigError::Client)?;
        let mut headers = config.header_map()?;
        let agent = HeaderValue::from_static(concat!("lockstep/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        let tokens = match &config.oauth {
            None => None,
            Some(oauth) => {
                let uri = client::parse_url(&oauth.token_url)
                    .map_err(|source| HttpConfigError::Url { field: "oauth.token_url", source })?;
                Some(Tokens::new(oauth.clone(), uri, secrets.to_vec(), client.clone()))
            }
        };
        let idempotency_header = config.idempotency_header()?;
        Ok(Self {
            outlet,
            mapping: config.mapping.clone(),
            client,
            base: Base { method: config.method()?, url: config.base()?, taken: idempotency_header.clone() },
            idempotency_header,
            headers,
            timeout: Duration::from_millis(config.timeout_ms),
            success: config.success.clone(),
            tokens,
            etags: Etags::new(config.conditional.remembered_max),
            version_at: config.conditional.version_at.clone(),
            conflict: config.conditional.conflict,
        })
    }

    fn request(&self, asked: &Asked, prepared: &Prepared) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::from(asked.bytes()));
        *request.method_mut() = Method::from_bytes(asked.method.as_bytes()).ok()?;
        *request.uri_mut() = asked.url.parse().ok()?;
        let mut headers = asked.header_map();
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let own = [
            (self.idempotency_header.clone(), Some(&prepared.id)),
            (Some(TRACEPARENT), prepared.trace.as_ref()),
            (Some(LOCKSTEP_REPLAY), prepared.replay.as_ref()),
        ];
        for (name, text) in own {
            if let (Some(name), Some(Ok(value))) = (name, text.map(|text| HeaderValue::from_str(text))) {
                headers.insert(name, value);
            }
        }
        *request.headers_mut() = headers;
        Some(request)
    }

    /// One exchange with a token, and where that is refused, once more with a new one.
    async fn authorized(&self, request: Request<Full<Bytes>>, deadline: Instant) -> Outcome {
        let Some(tokens) = &self.tokens else { return self.exchange(request, deadline).await };
        let mut refused: Option<Token> = None;
        loop {
            let token = match tokens.get(refused.as_ref(), deadline).await {
                Ok(token) => token,
                Err(error) => return Outcome::NoToken(error),
            };
            let mut authorized = request.clone();
            authorized.headers_mut().insert(AUTHORIZATION, token.authorization.clone());
            match self.exchange(authorized, deadline).await {
                Outcome::Answered(head) if head.status == StatusCode::UNAUTHORIZED && refused.is_none() => {
                    refused = Some(token);
                }
                outcome => return outcome,
            }
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, deadline: Instant) -> Outcome {
        // What is asked back is looked at whole.
        let reads = self.success.reads() || self.version_at.is_some() || *request.method() == Method::GET;
        let kept_max = if reads { RESPONSE_READ_BYTES_MAX } else { RESPONSE_HEAD_BYTES_MAX };
        let timeout = deadline.saturating_duration_since(Instant::now());
        match self.client.exchange(request, kept_max, RESPONSE_READ_BYTES_MAX, timeout).await {
            Ok(head) => Outcome::Answered(head),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Puts the condition onto a request that has none of its own: the version that was last there.
    async fn condition(
        &self,
        asked: &Asked,
        request: &mut Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<(), Outcome> {
        let has_own = request.headers().contains_key(IF_MATCH) || request.headers().contains_key(IF_NONE_MATCH);
        // What creates below an address has no version there; what reads overwrites nothing.
        let writes = matches!(*request.method(), Method::PUT | Method::PATCH | Method::DELETE);
        if !self.etags.is_on() || has_own || !writes {
            return Ok(());
        }
        let url = request.uri().to_string();
        let known = match self.etags.get(&url) {
            Some(tag) => Known::Version(tag),
            None => self.look(asked, request.uri().clone(), deadline).await?,
        };
        let (name, value) = match known {
            Known::Version(tag) => (IF_MATCH, HeaderValue::from_str(&tag).ok()),
            Known::Nothing => (IF_NONE_MATCH, Some(HeaderValue::from_static("*"))),
            Known::Unversioned => return Ok(()),
        };
        if let Some(value) = value {
            request.headers_mut().insert(name, value);
        }
        Ok(())
    }

    /// Asks an address for what is there.
    async fn ask(&self, asked: &Asked, uri: Uri, deadline: Instant) -> Outcome {
        let mut question = Request::new(Full::default());
        *question.method_mut() = Method::GET;
        *question.uri_mut() = uri;
        // They may say which of several things is meant: a tenant, a version of the interface.
        let mut headers = asked.header_map();
        for name in OF_WRITES {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        *question.headers_mut() = headers;
        self.authorized(question, deadline).await
    }

    /// Asks an address for the version that is there.
    async fn look(&self, asked: &Asked, uri: Uri, deadline: Instant) -> Result<Known, Outcome> {
        match self.ask(asked, uri, deadline).await {
            Outcome::Answered(head) if head.status.is_success() => {
                Ok(self.version(&head).map_or(Known::Unversioned, Known::Version))
            }
            Outcome::Answered(head) if matches!(head.status, StatusCode::NOT_FOUND | StatusCode::GONE) => {
                Ok(Known::Nothing)
            }
            other => Err(other),
        }
    }

    /// The version that an answer names, as it stands in `If-Match`.
    fn version(&self, head: &Head) -> Option<String> {
        let Some(at) = &self.version_at else {
            return head.headers.get(ETAG)?.to_str().ok().map(str::to_owned);
        };
        match serde_json::from_slice::<Value>(&head.body).ok()?.pointer(at)? {
            Value::String(text) => Some(format!("\"{text}\"")),
            Value::Number(number) => Some(format!("\"{number}\"")),
            _ => None,
        }
    }

    /// A condition did not hold: an earlier attempt may have been taken without an answer, so what is there is held against
    /// what is asked for. `None` where that says nothing. Also for the first attempt: one that was under way when the
    /// destination or the hub went down has no number.
    async fn read_back(&self, asked: &Asked, deadline: Instant) -> Option<(AttemptResult, &'static str)> {
        let deletes = asked.method == Method::DELETE.as_str();
        // What creates below an address is not there.
        if !deletes && asked.method != Method::PUT.as_str() && asked.method != Method::PATCH.as_str() {
            return None;
        }
        let is_there = match self.ask(asked, asked.url.parse().ok()?, deadline).await {
            Outcome::Answered(head) if head.status.is_success() => {
                let is_there = !deletes && asked.is_within(&head.body);
                if let Some(tag) = self.version(&head).filter(|_| is_there && self.etags.is_on()) {
                    self.etags.put(&asked.url, tag);
                }
                is_there
            }
            Outcome::Answered(head) if matches!(head.status, StatusCode::NOT_FOUND | StatusCode::GONE) => deletes,
            Outcome::Answered(head) => match class(head.status, &head.headers) {
                // It is not meant to be read, or not by whom may write it.
                AttemptResult::Rejected | AttemptResult::Unauthorized => return None,
                throttled @ AttemptResult::Throttled { .. } => return Some((throttled, NOT_READ)),
                _ => return Some((AttemptResult::Transient, NOT_READ)),
            },
            Outcome::NoToken(_) | Outcome::Failed(_) => return Some((AttemptResult::Transient, NOT_READ)),
        };
        is_there.then_some((AttemptResult::Delivered, "what is there is what was asked for"))
    }

    /// What an answer came to, and what is said of it beside its status.
    fn judge(&self, url: &str, condition: Condition, head: &Head) -> (AttemptResult, Option<String>) {
        if head.status == StatusCode::PRECONDITION_FAILED && condition != Condition::None {
            self.etags.forget(url);
            return match self.conflict {
                // The mapping's condition would not hold the next time either.
                Conflict::Overwrite if condition == Condition::Mapped => {
                    (AttemptResult::Rejected, Some(
                        "the mapping's condition does not hold: somebody else has changed it, or an earlier attempt that had \
                         no answer"
                            .into(),
                    ))
                }
                Conflict::DeadLetter => (
                    AttemptResult::Rejected,
                    Some(
                        "somebody else has changed it since, or an earlier attempt that had no answer \
                         (`conditional.conflict`)"
                            .into(),
                    ),
                ),
                Conflict::Overwrite => (
                    AttemptResult::Transient,
                    Some("it has changed since, and is written again on what is there".into()),
                ),
                Conflict::Delivered => (AttemptResult::Delivered, Some("it is there already".into())),
            };
        }
        let (result, why) = self.success.judge(head.status, &head.body, class(head.status, &head.headers));
        if self.etags.is_on() {
            match self.version(head).filter(|_| result == AttemptResult::Delivered) {
                Some(tag) => self.etags.put(url, tag),
                // What became of it is not known: the next request asks.
                None => self.etags.forget(url),
            }
        }
        (result, why)
    }
}

#[async_trait]
impl Destination for HttpDestination {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let Some(mut prepared) = self.outlet.prepare(event)? else { return Ok(None) };
        let wrong = |message: String| PrepareError { message, at: self.mapping.clone() };
        let asked = match &self.mapping {
            Some(_) => self.base.mapped(&prepared.body).map_err(wrong)?,
            None => Asked::event(&self.base, &prepared.body, prepared.content_type)
                .map_err(|error| wrong(format!("the event is not JSON: {error}")))?,
        };
        let body =
            serde_json::to_vec(&asked).map_err(|error| wrong(format!("the request can't be written: {error}")))?;
        prepared.body = Bytes::from(body);
        prepared.content_type = "application/json";
        Ok(Some(prepared))
    }

    fn keeps_own_word(&self, event: &Event) -> bool {
        self.outlet.keeps_own_word(event)
    }

    fn is_incomplete(&self, event: &Event) -> bool {
        self.outlet.is_incomplete(event)
    }

    async fn send(&self, prepared: &Prepared, _attempt: u32) -> Sent {
        let started = Instant::now();
        let deadline = started + self.timeout;
        let sent = |result, status, detail, response_head| {
            let duration_us = started.elapsed().as_micros() as u64;
            Sent { result, status, detail, response_head, duration_us }
        };
        let asked = serde_json::from_slice::<Asked>(&prepared.body).ok();
        let Some((asked, mut request)) = asked.and_then(|a| self.request(&a, prepared).map(|request| (a, request)))
        else {
            // `prepare` has made every request that gets here.
            return sent(AttemptResult::Poison, 0, "the request can't be read".to_owned(), String::new());
        };
        let has_condition =
            |request: &Request<_>| [IF_MATCH, IF_NONE_MATCH].iter().any(|name| request.headers().contains_key(name));
        let is_mapped = has_condition(&request);
        let mut condition = Condition::None;
        let outcome = match self.condition(&asked, &mut request, deadline).await {
            Err(Outcome::Answered(head)) => {
                // What counts as success counts for the write, and that was not sent.
                let result = match class(head.status, &head.headers) {
                    AttemptResult::Delivered => AttemptResult::Transient,
                    result => result,
                };
                let answer = answered(head.status, &head.headers, &head.end);
                let detail = format!("asked for the version that is there (`conditional.remembered_max`): {answer}");
                return sent(result, head.status.as_u16(), detail, text_head(&head.body));
            }
            Err(Outcome::Failed(error)) => {
                // Nothing was written yet.
                let result = match failed(&error) {
                    AttemptResult::Unknown => AttemptResult::Transient,
                    result => result,
                };
                return sent(result, 0, client::chain(&error), String::new());
            }
            Err(outcome) => outcome,
            Ok(()) => {
                condition = match (is_mapped, has_condition(&request)) {
                    (true, _) => Condition::Mapped,
                    (false, true) => Condition::Remembered,
                    (false, false) => Condition::None,
                };
                self.authorized(request, deadline).await
            }
        };
        match outcome {
            Outcome::Answered(head) => {
                let (mut result, mut why) = self.judge(&asked.url, condition, &head);
                let is_conflict = head.status == StatusCode::PRECONDITION_FAILED && condition != Condition::None;
                if is_conflict
                    && result == AttemptResult::Rejected
                    && let Some((found, told)) = self.read_back(&asked, deadline).await
                {
                    (result, why) = (found, Some(told.to_owned()));
                }
                let mut detail = answered(head.status, &head.headers, &head.end);
                if let Some(why) = why {
                    detail = format!("{detail}: {why}");
                }
                sent(result, head.status.as_u16(), detail, text_head(&head.body))
            }
            Outcome::NoToken(error) => sent(error.result(), 0, String::from(&error), String::new()),
            Outcome::Failed(error) => {
                // Whether it arrived is not known, so neither is the version.
                self.etags.forget(&asked.url);
                sent(failed(&error), 0, client::chain(&error), String::new())
            }
        }
    }
}
