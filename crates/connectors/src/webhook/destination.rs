//! Events as signed HTTP requests.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use lockstep_connect::destination::{
    BatchLimits, Destination, Outlet, PrepareError, Prepared, RESPONSE_HEAD_BYTES_MAX, Sent,
};
use lockstep_connect::signature::{Secret, Verifier};
use lockstep_connect::time::parse_http_date;
use lockstep_core::Event;
use lockstep_core::delivery::AttemptResult;
use serde_json::Value;

use super::batch;
use super::client::{self, End, HttpClient, HttpError, HttpOptions};
use super::config::{WebhookConfig, WebhookError};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const LOCKSTEP_REPLAY: HeaderName = HeaderName::from_static("lockstep-replay");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The ids of the events of a request that has several.
const EVENT_IDS: HeaderName = HeaderName::from_static("lockstep-event-ids");

/// How much of an answer is read, so that its connection can be used again; an answer beyond it costs the connection.
pub(crate) const RESPONSE_READ_BYTES_MAX: usize = 64 * 1_024;

/// A webhook destination.
pub struct WebhookDestination {
    outlet: Outlet,
    client: HttpClient,
    signer: Verifier,
    uri: Uri,
    /// What every request has: the configured headers and the user agent.
    headers: HeaderMap,
    timeout: Duration,
    /// Where failures stand in answers that look like success.
    errors_at: Vec<String>,
    batch: Option<BatchLimits>,
}

impl WebhookDestination {
    /// A destination with its own connections. The outlet says what is sent.
    pub fn new(config: &WebhookConfig, secrets: &[Secret], outlet: Outlet) -> Result<Self, WebhookError> {
        config.check()?;
        let client = HttpClient::new(HttpOptions {
            allow_private_addresses: config.allow_private_addresses,
            connect_timeout_ms: client::connect_timeout_ms(config.timeout_ms),
            idle_connections_max: config.concurrency_max as usize,
            ..HttpOptions::default()
        })
        .map_err(WebhookError::Client)?;
        Self::with_client(config, secrets, outlet, client)
    }

    /// A destination over a given client, which then decides what addresses it may have.
    pub fn with_client(
        config: &WebhookConfig,
        secrets: &[Secret],
        outlet: Outlet,
        client: HttpClient,
    ) -> Result<Self, WebhookError> {
        config.check()?;
        let mut headers = config.header_map()?;
        let agent = HeaderValue::from_static(concat!("lockstep/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        Ok(Self {
            outlet,
            client,
            signer: config.signer(secrets)?,
            uri: client::parse_url(&config.url).map_err(WebhookError::Url)?,
            headers,
            timeout: Duration::from_millis(config.timeout_ms),
            errors_at: config.errors_at.clone(),
            batch: config.batch.map(BatchLimits::from),
        })
    }

    /// The class of an answer, with what its body says where that is looked at.
    fn class_of(&self, head: &client::Head) -> AttemptResult {
        match class(head.status, &head.headers) {
            AttemptResult::Delivered if !self.errors_at.is_empty() => said(&head.body, &self.errors_at),
            result => result,
        }
    }

    fn request(&self, prepared: &Prepared) -> Request<Full<bytes::Bytes>> {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let mut request = Request::new(Full::new(prepared.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(prepared.content_type));
        // An id has nothing that a header cannot carry; a foreign trace could.
        for (name, text) in [
            (WEBHOOK_ID, Some(&prepared.id)),
            (IDEMPOTENCY_KEY, Some(&prepared.id)),
            (TRACEPARENT, prepared.trace.as_ref()),
            (LOCKSTEP_REPLAY, prepared.replay.as_ref()),
        ] {
            if let Some(Ok(value)) = text.map(|text| HeaderValue::from_str(text)) {
                headers.insert(name, value);
            }
        }
        for (name, value) in self.signer.sign_headers(&prepared.id, now_s, &prepared.body) {
            headers.insert(name, value);
        }
        request
    }
}

#[async_trait]
impl Destination for WebhookDestination {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        self.outlet.prepare(event)
    }

    fn keeps_own_word(&self, event: &Event) -> bool {
        self.outlet.keeps_own_word(event)
    }

    fn is_incomplete(&self, event: &Event) -> bool {
        self.outlet.is_incomplete(event)
    }

    async fn send(&self, prepared: &Prepared, _attempt: u32) -> Sent {
        self.exchange(self.request(prepared)).await
    }

    fn batch(&self) -> Option<BatchLimits> {
        self.batch
    }

    async fn send_batch(&self, prepared: &[Arc<Prepared>], _attempt: u32) -> Sent {
        let (together, ids) = batch::together(prepared);
        let mut request = self.request(&together);
        // Ids are digits and commas.
        if let Ok(ids) = HeaderValue::from_str(&ids) {
            request.headers_mut().insert(EVENT_IDS, ids);
        }
        self.exchange(request).await
    }
}

impl WebhookDestination {
    async fn exchange(&self, request: Request<Full<bytes::Bytes>>) -> Sent {
        let started = Instant::now();
        let kept_max = if self.errors_at.is_empty() { RESPONSE_HEAD_BYTES_MAX } else { RESPONSE_READ_BYTES_MAX };
        let answer = self.client.exchange(request, kept_max, RESPONSE_READ_BYTES_MAX, self.timeout).await;
        let duration_us = started.elapsed().as_micros() as u64;
        match answer {
            Ok(head) => Sent {
                result: self.class_of(&head),
                status: head.status.as_u16(),
                detail: answered(head.status, &head.headers, &head.end),
                response_head: text_head(&head.body),
                duration_us,
            },
            Err(error) => Sent {
                result: failed(&error),
                status: 0,
                detail: client::chain(&error),
                response_head: String::new(),
                duration_us,
            },
        }
    }
}

/// The class of an answer. Its head decides: what becomes of the body behind it changes nothing. Standard Webhooks has the
/// sender stop at 410, and throttle at 429, 502 and 504: each failure lowers how many requests are under way.
pub(crate) fn class(status: StatusCode, headers: &HeaderMap) -> AttemptResult {
    match status.as_u16() {
        200..=299 => AttemptResult::Delivered,
        429 => AttemptResult::Throttled { retry_after_ms: retry_after_ms(headers) },
        503 if headers.contains_key(RETRY_AFTER) => {
            AttemptResult::Throttled { retry_after_ms: retry_after_ms(headers) }
        }
        408 | 500.. => AttemptResult::Transient,
        401 | 403 => AttemptResult::Unauthorized,
        410 => AttemptResult::Gone,
        _ => AttemptResult::Rejected,
    }
}

/// The class of a request that has no answer.
pub(crate) fn failed(error: &HttpError) -> AttemptResult {
    match error {
        // A private address stays one until a person changes the configuration.
        HttpError::PrivateAddress(_) => AttemptResult::Rejected,
        // The request was sent, or may have been: who knows what became of it.
        HttpError::TimedOut { .. } | HttpError::Broken { .. } | HttpError::TooLarge { .. } => AttemptResult::Unknown,
        HttpError::Url { .. } | HttpError::Tls { .. } | HttpError::Connect { .. } => AttemptResult::Transient,
    }
}

/// What an answer says that looks like success. One that is no JSON, or too long, does not say that it took anything.
pub(crate) fn said(body: &[u8], errors_at: &[String]) -> AttemptResult {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return AttemptResult::Rejected };
    let is_error = |value: &&Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    };
    let errors: Vec<&Value> = errors_at.iter().filter_map(|at| answer.pointer(at)).filter(is_error).collect();
    if errors.is_empty() {
        return AttemptResult::Delivered;
    }
    // So GraphQL interfaces with a budget of points say "too many requests".
    let is_throttled = |error: &Value| error.pointer("/extensions/code").is_some_and(|code| code == "THROTTLED");
    let all = errors.into_iter().filter_map(Value::as_array).flatten();
    if all.into_iter().any(is_throttled) {
        return AttemptResult::Throttled { retry_after_ms: None };
    }
    AttemptResult::Rejected
}

/// `Retry-After` in either of its forms: seconds, or a date.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let at_us = parse_http_date(text)?;
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros() as i64;
    Some(at_us.saturating_sub(now_us).max(0) as u64 / 1_000)
}

pub(crate) fn answered(status: StatusCode, headers: &HeaderMap, end: &End) -> String {
    let mut detail = format!("answered {status}");
    if status.is_redirection() {
        let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("elsewhere");
        let to: String = to.chars().take(200).collect();
        detail.push_str(&format!(" to {to}: redirects are not followed, so set `url` to where it should go"));
    }
    match end {
        End::Whole => {}
        End::TooLong => detail.push_str("; the rest of its long body was not read"),
        End::TimedOut => detail.push_str("; its body did not come in time"),
        End::Broken(error) => {
            detail.push_str("; its body broke off: ");
            detail.push_str(&client::chain(error));
        }
    }
    detail
}

/// The body as text, with whatever is no text replaced, within the limit.
pub(crate) fn text_head(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    if text.len() > RESPONSE_HEAD_BYTES_MAX {
        text.truncate(text.floor_char_boundary(RESPONSE_HEAD_BYTES_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(retry_after: Option<&str>) -> HeaderMap {
        retry_after.iter().map(|text| (RETRY_AFTER, HeaderValue::from_str(text).unwrap())).collect()
    }

    #[test]
    fn every_status_has_its_class() {
        let check = |status: u16, retry_after: Option<&str>, expected: AttemptResult| {
            assert_eq!(class(StatusCode::from_u16(status).unwrap(), &headers(retry_after)), expected, "{status}");
        };
        let throttled = |retry_after_ms| AttemptResult::Throttled { retry_after_ms };
        for status in [200, 201, 202, 204, 299] {
            check(status, None, AttemptResult::Delivered);
        }
        for status in [300, 301, 302, 304, 307, 308, 400, 402, 404, 409, 413, 422, 499] {
            check(status, None, AttemptResult::Rejected);
        }
        for status in [401, 403] {
            check(status, None, AttemptResult::Unauthorized);
        }
        check(410, None, AttemptResult::Gone);
        for status in [408, 500, 501, 502, 503, 504, 599, 999] {
            check(status, None, AttemptResult::Transient);
        }
        check(429, None, throttled(None));
        check(429, Some("7"), throttled(Some(7_000)));
        check(503, Some("0"), throttled(Some(0)));
        check(503, Some("soon"), throttled(None));
        check(500, Some("7"), AttemptResult::Transient);
        check(429, Some("18446744073709551615"), throttled(Some(u64::MAX)));
        check(429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), throttled(Some(0)));
        let far = class(StatusCode::TOO_MANY_REQUESTS, &headers(Some("Wed, 01 Jan 9000 00:00:00 GMT")));
        assert!(matches!(far, AttemptResult::Throttled { retry_after_ms: Some(ms) } if ms > 1_000_000_000), "{far:?}");
    }

    #[test]
    fn an_answer_that_looks_like_success_may_say_otherwise() {
        let errors_at = ["/errors".to_owned(), "/data/inventorySetQuantities/userErrors".to_owned()];
        let check = |body: &str, expected: AttemptResult| {
            assert_eq!(said(body.as_bytes(), &errors_at), expected, "{body}");
        };
        check(r#"{"data":{"inventorySetQuantities":{"userErrors":[]}}}"#, AttemptResult::Delivered);
        check(r#"{"data":{"inventorySetQuantities":{"userErrors":null}}}"#, AttemptResult::Delivered);
        let stale = r#"{"data":{"inventorySetQuantities":{"userErrors":[{"code":"CHANGE_FROM_QUANTITY_STALE"}]}}}"#;
        check(stale, AttemptResult::Rejected);
        check(r#"{"errors":"Not Found"}"#, AttemptResult::Rejected);
        let throttled = r#"{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}]}"#;
        check(throttled, AttemptResult::Throttled { retry_after_ms: None });
        check("<html>", AttemptResult::Rejected);
    }

    #[test]
    fn the_head_of_a_body_is_text_within_its_limit() {
        assert_eq!(text_head(b"fine"), "fine");
        assert_eq!(text_head(b"\xff"), "\u{fffd}");
        let text = text_head(&[0xff; RESPONSE_HEAD_BYTES_MAX]);
        assert!(text.len() <= RESPONSE_HEAD_BYTES_MAX && text.len() > RESPONSE_HEAD_BYTES_MAX - 3);
    }
}
