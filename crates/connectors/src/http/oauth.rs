//! Access tokens by OAuth 2 with client credentials (RFC 6749, 4.4): had once, kept until shortly before their end, had
//! anew where the other side refuses one. However many requests wait for a token, it is asked for once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use lockstep_connect::signature::Secret;
use lockstep_core::delivery::AttemptResult;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::request::encoded;
use crate::webhook::class;
use crate::webhook::client::{self, HttpClient, HttpError};

/// The longest answer of a token server that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// A token for longer than this is had anew all the same, so that no number of a server can overflow.
const LIFE_S_MAX: u64 = 366 * 86_400;

/// How access tokens are had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// Where tokens are had, for example `https://login.example/oauth/token`.
    pub token_url: String,
    /// The client's id.
    pub client_id: String,
    /// What is asked for, where the server wants that: names with spaces between them.
    #[serde(default)]
    pub scope: Option<String>,
    /// How the client shows who it is.
    #[serde(default)]
    pub credentials: Credentials,
    /// Further parameters of the request, for example `{ audience = "https://erp.example" }`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// So long before its end a token is not used any more; at most half of its life.
    #[serde(default = "leeway_s")]
    pub leeway_s: u32,
}

/// How the client shows who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Credentials {
    /// By HTTP Basic, which every server must know.
    #[default]
    Basic,
    /// By `client_id` and `client_secret` in the body.
    Body,
}

fn leeway_s() -> u32 {
    30
}

/// Why there is no token. The same for all that waited for it.
#[derive(Clone, Debug, Error)]
pub enum TokenError {
    /// The server could not be asked.
    #[error("no access token: {0}")]
    Unreachable(Arc<HttpError>),
    /// The server refused, or has a fault of its own.
    #[error("no access token: `oauth.token_url` answered {status}{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Refused {
        /// The status.
        status: StatusCode,
        /// What follows from it.
        result: AttemptResult,
        /// The server's `error` and `error_description`.
        reason: Option<String>,
    },
    /// The server's answer is no token.
    #[error("no access token: the answer of `oauth.token_url` {0}")]
    Useless(&'static str),
}

impl TokenError {
    /// What it means for the delivery that needed the token.
    pub fn result(&self) -> AttemptResult {
        match self {
            Self::Unreachable(error) if matches!(**error, HttpError::PrivateAddress(_)) => AttemptResult::Rejected,
            Self::Unreachable(_) => AttemptResult::Transient,
            Self::Refused { result, .. } => *result,
            // As a server behind a wrong address would answer: a person has to look, whatever the event.
            Self::Useless(_) => AttemptResult::Unauthorized,
        }
    }
}

impl OAuth {
    /// The field that is wrong, with what would be right.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.client_id.is_empty() {
            return Err(("client_id", "must not be empty".to_owned()));
        }
        let own = ["grant_type", "client_id", "client_secret", "scope"];
        match self.parameters.keys().find(|name| own.contains(&name.as_str())) {
            Some(name) => Err(("parameters", format!("must not have `{name}`, which the hub sets itself"))),
            None => Ok(()),
        }
    }
}

/// A token, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) authorization: HeaderValue,
    /// When it is not used any more; `None`: when the other side refuses it.
    until: Option<Instant>,
    /// Which one it is.
    number: u64,
}

/// Has tokens, and keeps the last one.
pub(super) struct Tokens {
    config: OAuth,
    uri: Uri,
    secrets: Vec<Secret>,
    client: HttpClient,
    /// How often a token has been asked for: who has waited meanwhile takes what came of it.
    asked: AtomicU64,
    last: Mutex<Option<Result<Token, TokenError>>>,
}

/// What a server answers (RFC 6749, 5.1 and 5.2).
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<u64>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Some servers write the number as a text.
fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_u64().or_else(|| value.as_f64().map(|s| s.max(0.0) as u64)).or_else(|| value.as_str()?.parse().ok()))
}

impl Tokens {
    pub(super) fn new(config: OAuth, uri: Uri, secrets: Vec<Secret>, client: HttpClient) -> Self {
        Self { config, uri, secrets, client, asked: AtomicU64::new(0), last: Mutex::new(None) }
    }

    /// A token that is still good, and is not the one that was refused.
    pub(super) async fn get(&self, refused: Option<&Token>, deadline: Instant) -> Result<Token, TokenError> {
        let seen = self.asked.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        let is_new = |token: &Token| refused.is_none_or(|refused| refused.number != token.number);
        match last.as_ref() {
            Some(Ok(token)) if is_new(token) && token.until.is_none_or(|until| Instant::now() < until) => {
                return Ok(token.clone());
            }
            // Who waited while it was asked for does not ask again: a dead server would be asked by each in turn.
            Some(Err(error)) if self.asked.load(Ordering::Acquire) != seen => return Err(error.clone()),
            _ => {}
        }
        let number = self.asked.load(Ordering::Acquire) + 1;
        let result = self.ask(deadline).await.map(|(authorization, until)| Token { authorization, until, number });
        *last = Some(result.clone());
        self.asked.fetch_add(1, Ordering::AcqRel);
        result
    }

    /// With each secret in turn: while one is being replaced, the server may know the other one only.
    async fn ask(&self, deadline: Instant) -> Result<(HeaderValue, Option<Instant>), TokenError> {
        let mut refusal = None;
        for secret in &self.secrets {
            match self.ask_with(secret, deadline).await {
                Err(error @ TokenError::Refused { status: StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED, .. }) => {
                    refusal.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(refusal.unwrap_or(TokenError::Useless("was never asked for: there is no secret")))
    }

    async fn ask_with(&self, secret: &Secret, deadline: Instant) -> Result<(HeaderValue, Option<Instant>), TokenError> {
        let asked_at = Instant::now();
        let timeout = deadline.saturating_duration_since(asked_at);
        let answer = self.client.exchange(self.request(secret), ANSWER_BYTES_MAX, ANSWER_BYTES_MAX, timeout).await;
        let head = answer.map_err(|error| TokenError::Unreachable(Arc::new(error)))?;
        let answer = serde_json::from_slice::<Answer>(&head.body);
        if !head.status.is_success() {
            let reason = answer.ok().and_then(|answer| {
                let error = answer.error?;
                Some(answer.error_description.map_or_else(|| error.clone(), |text| format!("{error}: {text}")))
            });
            let reason = reason.map(|reason| reason.chars().filter(|c| !c.is_control()).take(200).collect());
            let result = match head.status {
                // "invalid_client", "invalid_scope": by RFC 6749 some servers say so by 400.
                StatusCode::BAD_REQUEST => AttemptResult::Unauthorized,
                status => match class(status, &head.headers) {
                    // A redirect, or nothing at that address: no word about the event, which must not die of it.
                    AttemptResult::Rejected | AttemptResult::Gone => AttemptResult::Unauthorized,
                    result => result,
                },
            };
            return Err(TokenError::Refused { status: head.status, result, reason });
        }
        let answer = answer.map_err(|_| TokenError::Useless("is not the JSON of a token"))?;
        let token = answer.access_token.filter(|token| !token.is_empty());
        let token = token.ok_or(TokenError::Useless("has no `access_token`"))?;
        if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(TokenError::Useless("has a `token_type` other than Bearer"));
        }
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| TokenError::Useless("has an `access_token` that no header can carry"))?;
        value.set_sensitive(true);
        let until = answer.expires_in.map(|life_s| {
            let life = Duration::from_secs(life_s.min(LIFE_S_MAX));
            // Counted from before the question, so that the way of the answer costs nothing of it.
            asked_at + life - Duration::from_secs(self.config.leeway_s.into()).min(life / 2)
        });
        Ok((value, until))
    }

    fn request(&self, secret: &Secret) -> Request<Full<bytes::Bytes>> {
        let OAuth { client_id, scope, credentials, parameters, .. } = &self.config;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        form.extend(parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut authorization = None;
        match credentials {
            Credentials::Body => form.extend([("client_id", client_id.as_str()), ("client_secret", secret.expose())]),
            Credentials::Basic => {
                // Both are form-encoded before they become Basic's user and password (RFC 6749, 2.3.1).
                let pair = STANDARD.encode(format!("{}:{}", encoded(client_id), encoded(secret.expose())));
                authorization = HeaderValue::from_str(&format!("Basic {pair}")).ok();
            }
        }
        let body: Vec<String> =
            form.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let mut request = Request::new(Full::from(body.join("&")));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(mut value) = authorization {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        request
    }
}

impl From<&TokenError> for String {
    /// In one sentence, with what is behind it.
    fn from(error: &TokenError) -> Self {
        match error {
            TokenError::Unreachable(source) => format!("no access token: {}", client::chain(&**source)),
            other => other.to_string(),
        }
    }
}
