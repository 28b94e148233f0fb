//! `/v1/events`: changes in as CloudEvents, published facts out as CloudEvents.

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use lockstep_connect::cloudevents::{self, CloudEventsError, IncomingEvent, Limits, Mode, Parsed};
use lockstep_core::{Event, Outcome, Position};
use lockstep_hub::{Answer, EventFilter, now_us};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Reader, Writer};
use crate::intake::{self, Request};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::trace::Trace;
use crate::until::{ReachedBody, Until};
use crate::view::{self, OutcomeBody};
use crate::{Api, body, entities};

/// Parsing more than this is left to a thread for long work.
const LONG_BYTES: usize = 256 * 1024;
const BATCH: &str = "application/cloudevents-batch+json";

/// What became of a request's events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventResults {
    /// What became of each event, in their order.
    results: Vec<OutcomeBody>,
    /// How many of them were refused (a reused id, another version, a time too far ahead): those were not taken, the others were.
    refused: usize,
    /// What waiting with `until` came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<ReachedBody>,
}

/// Takes CloudEvents in: one in structured or binary mode, or a batch.
///
/// An event's `type` is `<kind>.<verb>`, its `subject` is `<kind>/<key>`, its `data` the fields that it speaks of;
/// the extension attributes `sequence`, `expectedversion` and `traceparent` are understood. The event's `source`
/// and `id` together are its identity: a repetition is answered with `duplicate`, the same identity with other
/// content is refused. One invalid event refuses the whole request before anything is recorded.
///
/// With `until=delivered:search,cache` the answer waits until these destinations have confirmed the events that the
/// request published: 200 where they have, else 202 with what is missing, at once where a destination keeps an event
/// back or has given it up, and where something has come to no event. What was written stands either way.
#[utoipa::path(
    post,
    path = "/v1/events",
    operation_id = "postEvents",
    tag = "events",
    params(
        ("until" = Option<String>, Query, description = "`delivered:` and the names of destinations with commas between them: the answer waits for them"),
        ("Prefer" = Option<String>, Header, description = "With `until`: `wait=2` waits for 2 seconds at most, 60 is the longest; 10 where it is absent (RFC 7240)"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes the whole request one that may be repeated: with other content it is refused"),
        ("If-Match" = Option<String>, Header, description = "With a single event: the version that the entity must have, as its ETag"),
    ),
    request_body(description = "One event or a batch", content(
        (serde_json::Value = "application/cloudevents+json"),
        (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        (serde_json::Value = "application/json"),
    )),
    responses(
        (status = 200, description = "Durable, and delivered where that was asked for", body = EventResults),
        (status = 202, description = "Durable, and not delivered to all that were named in `until`: `reached` says what is missing", body = EventResults),
        (status = 400, description = "The body is not JSON, or a header is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not write", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "A destination of `until` is not there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The order can't be changed so any more, or a destination of `until` is not running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The entity has another version", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not a CloudEvents content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "An event is not valid or too far ahead of the hub's clock, or its identity or the request's key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["write"])),
)]
pub(crate) async fn post(
    State(api): State<Api>,
    caller: Writer,
    params: Params,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let (source, system) = caller.speaks_for()?;
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    params.only(&["until"])?;
    let until = Until::of(&api, &params, &headers)?;
    let request_key = idempotency_key(&headers)?;
    let expected_version = entities::if_match(&headers)?;
    let body = body::read(&headers, body, api.options.events_bytes_max, &api.options).await?;
    let received_at_us = now_us();
    // Before parsing: the hash is over the request as it came.
    let request_key = request_key.map(|key| (key, lockstep_core::payload_hash(&body)));
    let trace = Trace::of(&headers).into_string();
    let mut parsed = if body.len() > LONG_BYTES {
        let api = api.clone();
        let parsed = tokio::task::spawn_blocking(move || parse(&api, &headers, &body, received_at_us)).await;
        parsed.map_err(|_| Problem::new(Code::ReadFailed, "the request could not be looked at"))??
    } else {
        parse(&api, &headers, &body, received_at_us)?
    };
    if expected_version.is_some() {
        let [event] = parsed.events.as_mut_slice() else {
            let detail = "`If-Match` is for a single event; in a batch, give an event the attribute `expectedversion`";
            return Err(Problem::header("If-Match", detail));
        };
        event.change.expected_version = expected_version;
    }
    let mode = parsed.mode;
    let request = Request { request_key, received_at_us, trace };
    // Only who waits needs to know afterwards what he spoke of.
    let spoken_of = |event: &IncomingEvent| (event.change.kind.clone(), event.change.key.clone());
    let entities: Vec<_> = until.iter().flat_map(|_| &parsed.events).map(spoken_of).collect();
    let inputs = intake::inputs(parsed.events, (source, system), &request);
    let answers = api.hub.submit(inputs).await?;
    let Some(until) = until else { return answer(&answers, mode, None) };
    let applied = until.applied();
    // Where nothing was taken, there is nothing to wait for.
    let reached = match intake::refusal_of_all(&answers) {
        Some(_) => None,
        None => Some(until.wait(&api, &answers, &entities).await?),
    };
    let mut response = answer(&answers, mode, reached)?;
    response.headers_mut().extend(applied.map(|value| (HeaderName::from_static("preference-applied"), value)));
    Ok(response)
}

fn parse(api: &Api, headers: &HeaderMap, body: &Bytes, received_at_us: i64) -> Result<Parsed, Problem> {
    let limits = Limits { events_max: api.options.events_max };
    cloudevents::parse(headers, body, &limits, received_at_us, &*api.schemas).map_err(Problem::from)
}

fn answer(answers: &[Answer], mode: Mode, reached: Option<ReachedBody>) -> Result<Response, Problem> {
    if let Some(refusal) = intake::refusal_of_all(answers) {
        let problem = Problem::from(refusal.clone());
        return Err(match (problem.code(), mode) {
            (Code::ClockSkew, Mode::Structured) => problem.with("pointer", "/time"),
            (Code::ClockSkew, Mode::Binary) => problem.with("parameter", "ce-time"),
            _ => problem,
        });
    }
    let refused = answers.iter().filter(|a| a.is_err()).count();
    let results = answers.iter().map(|answer| match answer {
        Ok(outcome) => OutcomeBody::from(outcome),
        Err(refusal) => OutcomeBody::from(refusal),
    });
    let is_missing = reached.as_ref().is_some_and(|reached| !reached.is_delivered());
    let mut response = view::json(&EventResults { results: results.collect(), refused, reached });
    if is_missing {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

impl From<CloudEventsError> for Problem {
    fn from(error: CloudEventsError) -> Self {
        let code = match error.code {
            "media-type" => Code::UnsupportedMediaType,
            "not-json" => Code::InvalidBody,
            "too-many-events" => Code::BodyTooLarge,
            _ => Code::InvalidEvent,
        };
        let problem = Self::new(code, error.detail).with("reason", error.code);
        if error.pointer.is_empty() { problem } else { problem.with("pointer", error.pointer) }
    }
}

/// The request's `Idempotency-Key`, bare or quoted.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    const NAME: &str = "Idempotency-Key";
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let quoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let key = quoted.unwrap_or(text);
    if intake::is_request_key(key) {
        Ok(Some(key.to_owned()))
    } else {
        Err(Problem::header(NAME, "`Idempotency-Key` must be 1 to 255 visible ASCII characters, bare or in quotes"))
    }
}

/// The `Idempotency-Key` of a request that must have one.
pub(crate) fn required_key(headers: &HeaderMap) -> Result<String, Problem> {
    idempotency_key(headers)?.ok_or_else(|| {
        let detail = "send an `Idempotency-Key`, so that a repetition of this request is known as one";
        Problem::new(Code::IdempotencyKeyMissing, detail)
    })
}

/// The answer to a request with a key, in the words of its client.
pub(crate) fn answer_to_key(answer: Result<Outcome, Problem>, key: &str) -> Result<Outcome, Problem> {
    answer.map_err(|problem| match problem.code() {
        Code::KeyReused => {
            problem.with_detail(format!("the `Idempotency-Key` `{key}` was used before with another payload"))
        }
        _ => problem,
    })
}

/// The event filter of a query.
pub(crate) fn filter(params: &Params) -> Result<EventFilter, Problem> {
    let text = |name| params.text(name).map(str::to_owned);
    intake::event_filter(text("kind"), text("key"), text("type"))
}

/// The position to go on from, where that part of the journal is still kept and exists already.
pub(crate) fn check_after(api: &Api, name: &str, after: Position) -> Result<(), Problem> {
    let bounds = api.hub.bounds();
    // 0 asks for all there is, whatever that is.
    if after != 0 && after + 1 < bounds.first {
        let detail = format!("the journal begins at record {}: what followed {after} is no longer kept", bounds.first);
        return Err(Problem::new(Code::Trimmed, detail).with("first_position", bounds.first));
    }
    if after >= bounds.next {
        let detail = format!("`{name}` is {after}, but the last record is {}", bounds.next - 1);
        return Err(Problem::parameter(name, detail));
    }
    Ok(())
}

/// A page of events.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the answer is written by hand, from events that are JSON already")]
pub(crate) struct EventList {
    /// The events as CloudEvents in JSON.
    items: Vec<serde_json::Value>,
    /// Where the next page goes on. A page with few events, even with none, is not the end.
    next_after: u64,
    /// Whether this is all there is now.
    at_end: bool,
}

/// Published events, oldest first.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "listEvents",
    tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "Only events after this position; 0 or absent: from the oldest kept"),
        ("kind" = Option<String>, Query, description = "Only entities of this kind"),
        ("key" = Option<String>, Query, description = "Only the entity with this key; needs `kind`"),
        ("type" = Option<String>, Query, description = "Only events of this type"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A page of events; with `Accept: application/cloudevents-batch+json` the events alone", content(
            (EventList = "application/json"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        )),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "That part of the journal is no longer kept", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    _caller: Reader,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.only(&["after", "kind", "key", "type", "limit"])?;
    let after = params.position("after")?.unwrap_or(0);
    let (filter, limit) = (filter(&params)?, params.limit(100, 1000)?);
    check_after(&api, "after", after)?;
    let page = api.hub.events(after, filter, limit).await?;
    let accepted = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok()).unwrap_or_default();
    let plain = accepted.split(',').any(|a| a.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(BATCH));
    let mut out = Vec::with_capacity(64 + page.events.len() * 1024);
    out.extend_from_slice(if plain { b"[" } else { b"{\"items\":[" });
    for (at, event) in page.events.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&cloudevents::to_structured(event, &api.hub_source));
    }
    out.push(b']');
    if plain {
        return Ok(view::json_bytes(BATCH, out.into()));
    }
    out.extend_from_slice(format!(r#","next_after":{},"at_end":{}}}"#, page.next_after, page.at_end).as_bytes());
    Ok(view::json_bytes("application/json", out.into()))
}

/// One published event.
#[utoipa::path(
    get,
    path = "/v1/events/{position}",
    operation_id = "getEvent",
    tag = "events",
    params(("position" = u64, Path, description = "The event's position, which is its id")),
    responses(
        (status = 200, description = "The event", body = serde_json::Value, content_type = "application/cloudevents+json"),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no event at this position", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(position): Segments<String>,
) -> Result<Response, Problem> {
    let position = entities::position(&position)?;
    let event = api.hub.record(position).await?.and_then(|record| Event::of(position, record));
    let Some(event) = event else {
        let detail = format!("no event was published at position {position}, or it is no longer kept");
        return Err(Problem::new(Code::UnknownEvent, detail));
    };
    Ok(view::json_bytes("application/cloudevents+json", cloudevents::to_structured(&event, &api.hub_source)))
}
