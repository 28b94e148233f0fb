//! `/v1/dead-letters`: deliveries given up after their retries, and what to do with them.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lockstep_connect::cloudevents;
use lockstep_core::delivery::advice;
use lockstep_core::record::{Attempt, Body};
use lockstep_core::{Event, Position};
use lockstep_hub::{DeadLetterFilter, DeadLetterRow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::auth::{Operator, Reader};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::view::{self, Content};
use crate::{Api, body, current, destinations, entities};

/// A delivery that was given up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetter {
    /// The destination.
    destination: String,
    /// The event's position.
    event: u64,
    /// The record of the dead letter.
    record: u64,
    /// The entity's kind.
    kind: String,
    /// The entity's key.
    key: String,
    /// The event's type.
    event_type: String,
    /// Why: `exhausted`, `rejected` or `poison`.
    reason: String,
    /// How often it was tried.
    attempts: u32,
    /// When it was given up (RFC 3339, UTC).
    #[schema(format = DateTime)]
    dead_at: String,
}

impl From<&DeadLetterRow> for DeadLetter {
    fn from(row: &DeadLetterRow) -> Self {
        Self {
            destination: row.destination.clone(),
            event: row.event,
            record: row.record,
            kind: row.kind.clone(),
            key: row.key.clone(),
            event_type: row.event_type.clone(),
            reason: row.reason.clone(),
            attempts: row.attempts,
            dead_at: view::time(row.dead_at_us),
        }
    }
}

/// A part of the open dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterList {
    /// By destination and event.
    items: Vec<DeadLetter>,
    /// Where the next part goes on; null at the end.
    next_after: Option<String>,
}

/// A dead letter with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterDetail {
    #[serde(flatten)]
    letter: DeadLetter,
    /// The event as a CloudEvent; null where the journal no longer has it.
    #[schema(value_type = Option<serde_json::Value>)]
    event_body: Option<Box<RawValue>>,
    /// What was sent; null where it could not be made.
    request: Option<Content>,
    /// Every attempt.
    attempt_list: Vec<AttemptBody>,
    /// What an operator can do about it.
    advice: &'static str,
}

/// One attempt to deliver.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptBody {
    /// Its number, from 1.
    number: u32,
    /// When it began (RFC 3339, UTC).
    #[schema(format = DateTime)]
    at: String,
    /// How long it took.
    duration_us: u64,
    /// What it came to, in a word: `transient`, `unknown` (whether the destination has taken it is not known),
    /// `throttled`, `rejected` or `poison`; null where that was not kept.
    class: Option<String>,
    /// The HTTP status; null where there was none.
    status: Option<u32>,
    /// What happened.
    detail: String,
    /// The beginning of the answer's body.
    response_head: String,
    /// Whether an operator asked for it.
    manual: bool,
}

impl From<&Attempt> for AttemptBody {
    fn from(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            at: view::time(attempt.at_us),
            duration_us: attempt.duration_us,
            class: Some(attempt.class.clone()).filter(|class| !class.is_empty()),
            status: (attempt.status != 0).then_some(attempt.status),
            detail: attempt.detail.clone(),
            response_head: attempt.response_head.clone(),
            manual: attempt.manual,
        }
    }
}

/// Why a dead letter is given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discard {
    /// The reason, for whoever looks at it later.
    reason: String,
}

/// How many dead letters are being sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Retried {
    /// So many. What becomes of each is seen in the list: delivered ones are no longer in it.
    retried: usize,
    /// Where to go on; null where all were taken.
    next_after: Option<u64>,
}

/// Open dead letters, by destination and event.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    operation_id = "listDeadLetters",
    tag = "dead letters",
    params(
        ("destination" = Option<String>, Query, description = "Only those of this destination"),
        ("after" = Option<String>, Query, description = "Where to go on: `next_after` of the part before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the list", body = DeadLetterList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&["destination", "after", "limit"])?;
    let destination = params.text("destination").map(str::to_owned);
    if let Some(name) = &destination {
        destinations::check_known(&api, name)?;
    }
    let after = params.text("after").map(parse_after).transpose()?;
    let filter = DeadLetterFilter { destination, after, limit: params.limit(100, 1000)? };
    let page = current::ask(|| api.hub.dead_letters(filter.clone())).await?;
    let next_after = page.items.last().filter(|_| page.more).map(|row| format!("{}@{}", row.event, row.destination));
    Ok(view::json(&DeadLetterList { items: page.items.iter().map(DeadLetter::from).collect(), next_after }))
}

fn parse_after(text: &str) -> Result<(String, Position), Problem> {
    let parts = text.split_once('@').and_then(|(event, name)| Some((name.to_owned(), event.parse().ok()?)));
    parts.ok_or_else(|| Problem::parameter("after", "`after` must be the `next_after` of the part before"))
}

async fn find(api: &Api, (destination, event): &(String, String)) -> Result<DeadLetterRow, Problem> {
    destinations::check_known(api, destination)?;
    let event = entities::position(event)?;
    match current::ask(|| api.hub.dead_letter(destination, event)).await? {
        Some(row) => Ok(row),
        None => {
            let detail = format!("`{destination}` has no open dead letter for event {event}");
            Err(Problem::new(Code::UnknownDeadLetter, detail))
        }
    }
}

/// A dead letter with its event, its request and every attempt.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/{destination}/{event}",
    operation_id = "getDeadLetter",
    tag = "dead letters",
    params(
        ("destination" = String, Path, description = "The destination"),
        ("event" = u64, Path, description = "The event's position"),
    ),
    responses(
        (status = 200, description = "The dead letter", body = DeadLetterDetail),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such open dead letter", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(name): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let row = find(&api, &name).await?;
    let event = api.hub.record(row.event).await?.and_then(|record| Event::of(row.event, record));
    let event_body = event.map(|event| view::raw(&cloudevents::to_structured(&event, &api.hub_source)));
    let dead = match api.hub.record(row.record).await?.and_then(|record| record.body) {
        Some(Body::DeadLettered(dead)) => Some(dead),
        _ => None,
    };
    let last_class = dead.iter().flat_map(|d| &d.attempts).next_back().map_or("", |attempt| attempt.class.as_str());
    Ok(view::json(&DeadLetterDetail {
        advice: advice(&row.reason, last_class),
        letter: DeadLetter::from(&row),
        event_body,
        request: dead.as_ref().filter(|d| !d.request.is_empty()).map(|d| Content::from(&d.request)),
        attempt_list: dead.iter().flat_map(|d| &d.attempts).map(AttemptBody::from).collect(),
    }))
}

/// Sends a dead letter again, in its entity's order.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{destination}/{event}/retry",
    operation_id = "retryDeadLetter",
    tag = "dead letters",
    params(
        ("destination" = String, Path, description = "The destination"),
        ("event" = u64, Path, description = "The event's position"),
    ),
    responses(
        (status = 202, description = "It is being sent; when it is delivered, it is no longer in the list", body = Retried),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such open dead letter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The destination is not running", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn retry(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let row = find(&api, &name).await?;
    if !api.hub.retry_dead_letter(&row, &caller.0.name).await {
        return Err(not_running(&row.destination));
    }
    Ok((StatusCode::ACCEPTED, view::json(&Retried { retried: 1, next_after: None })).into_response())
}

fn not_running(destination: &str) -> Problem {
    let detail = format!("`{destination}` is not running: it must be in the configuration to get its dead letters");
    Problem::new(Code::DestinationNotRunning, detail)
}

/// Sends all open dead letters of a destination again, a limited number at a time.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{destination}/retry",
    operation_id = "retryDeadLetters",
    tag = "dead letters",
    params(
        ("destination" = String, Path, description = "The destination"),
        ("after" = Option<u64>, Query, description = "Only events after this position: `next_after` of the answer before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 1000 where it is absent"),
    ),
    responses(
        (status = 202, description = "They are being sent", body = Retried),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The destination is not running", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn retry_all(
    State(api): State<Api>,
    caller: Operator,
    Segments(destination): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["after", "limit"])?;
    destinations::check_known(&api, &destination)?;
    if !api.hub.destinations().contains(&destination) {
        return Err(not_running(&destination));
    }
    let after = params.position("after")?.map(|after| (destination.clone(), after));
    let limit = params.limit(1000, 1000)?;
    let filter = DeadLetterFilter { destination: Some(destination.clone()), after, limit };
    let page = current::ask(|| api.hub.dead_letters(filter.clone())).await?;
    for row in &page.items {
        if !api.hub.retry_dead_letter(row, &caller.0.name).await {
            return Err(not_running(&destination));
        }
    }
    let next_after = page.items.last().filter(|_| page.more).map(|row| row.event);
    Ok((StatusCode::ACCEPTED, view::json(&Retried { retried: page.items.len(), next_after })).into_response())
}

/// Gives a dead letter up.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{destination}/{event}/discard",
    operation_id = "discardDeadLetter",
    tag = "dead letters",
    params(
        ("destination" = String, Path, description = "The destination"),
        ("event" = u64, Path, description = "The event's position"),
    ),
    request_body(content = Discard, content_type = "application/json"),
    responses(
        (status = 204, description = "It is given up"),
        (status = 400, description = "The reason is missing, or not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such open dead letter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn discard(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    entities::json_content(&parts.headers)?;
    let body = body::read(&parts.headers, body, api.options.body_bytes_max, &api.options).await?;
    let Discard { reason } = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(Code::InvalidBody, format!("the body must be `{{\"reason\": \"...\"}}`: {e}")))?;
    if reason.trim().is_empty() {
        return Err(Problem::new(Code::InvalidBody, "`reason` must say why").with("pointer", "/reason"));
    }
    let row = find(&api, &name).await?;
    if !api.hub.discard_dead_letter(&row.destination, row.event, &reason, &caller.0.name).await? {
        let detail = format!("the dead letter for event {} of `{}` was settled just now", row.event, row.destination);
        return Err(Problem::new(Code::UnknownDeadLetter, detail));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
