//! `/v1/dead-letters`: deliveries given up after their retries, and what to do with them.

pub(crate) mod bulk;
mod filter;
mod line;
pub(crate) mod summary;
pub(crate) mod transfer;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lockstep_connect::cloudevents;
use lockstep_core::delivery::advice;
use lockstep_core::record::{Attempt, Body};
use lockstep_hub::{BulkAction, DeadLetterFilter, DeadLetterRow, ImpactOrder, now_us};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use self::filter::FilterParams;
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
    /// Why: `exhausted`, `rejected`, `poison` or `waited`.
    reason: String,
    /// How often it was tried.
    attempts: u32,
    /// When it was given up (RFC 3339, UTC).
    #[schema(format = DateTime)]
    dead_at: String,
    /// The HTTP status of the last attempt; null where it had no answer.
    status: Option<u32>,
    /// What happened at the last attempt.
    detail: String,
    /// When the event was published (RFC 3339, UTC).
    #[schema(format = DateTime)]
    event_at: String,
    /// What the event's document is worth: its `total`, else its `amount`.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<DeadLetterValue>,
    /// What the event's document promises: its `promised_at`, else the earliest of its lines (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    promised_at: Option<String>,
    /// How much it matters: `(100 + value) * (24 + hours since the event) * promise / 2400`, with the value in whole
    /// units of its currency, at most 30 days, and a promise that grows from 1 to 3 over the seven days before
    /// `promised_at`.
    impact: u64,
    /// When it is sent again (RFC 3339, UTC); absent where nobody has asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    /// Who has asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_by: Option<String>,
}

/// An exact amount of money.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterValue {
    /// In minor units of the currency: 1099 is 10.99 USD.
    minor: i64,
    /// The ISO 4217 code.
    currency: String,
}

impl DeadLetter {
    /// A row as it is shown at a moment.
    fn of(row: &DeadLetterRow, now_us: i64) -> Self {
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
            status: (row.status != 0).then_some(row.status),
            detail: row.detail.clone(),
            event_at: view::time(row.event_at_us),
            value: row.minor.map(|minor| DeadLetterValue { minor, currency: row.currency.clone() }),
            promised_at: row.promised_at_us.map(view::time),
            impact: row.impact(now_us),
            retry_at: row.retry.as_ref().map(|plan| view::time(plan.at_us)),
            retry_by: row.retry.as_ref().map(|plan| plan.by.clone()),
        }
    }
}

/// A part of the open dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterList {
    /// By destination and event, or by impact.
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
    /// Where it comes from; absent where it was given up here.
    #[serde(skip_serializing_if = "Option::is_none")]
    imported: Option<ImportedFrom>,
}

/// Where a dead letter comes from that was brought in from outside.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedFrom {
    /// What the hub calls itself in which it was given up.
    hub: String,
    /// The event's position there.
    event: u64,
    /// When it was given up there (RFC 3339, UTC).
    #[schema(format = DateTime)]
    dead_at: String,
    /// Who brought it in.
    by: String,
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

/// Open dead letters that meet all conditions, by destination and event, or those that matter most first.
#[utoipa::path(
    get,
    path = "/v1/dead-letters",
    operation_id = "listDeadLetters",
    tag = "dead letters",
    params(
        FilterParams,
        ("order" = Option<String>, Query, description = "`impact`: those that matter most first; else by destination and event"),
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
    let known: Vec<&str> = filter::NAMES.iter().chain(&["order", "after", "limit"]).copied().collect();
    params.only(&known)?;
    let filter = filter::read(&api, &params, params.limit(100, 1000)?)?;
    match params.text("order") {
        None => {
            let page = current::ask(|| api.hub.dead_letters(filter.clone())).await?;
            let last = page.items.last().filter(|_| page.more);
            let next_after = last.map(|row| filter::write_after(&(row.destination.clone(), row.event)));
            Ok(shown(&page.items, now_us(), next_after))
        }
        Some("impact") => {
            let after = params.text("after").map(after_impact).transpose()?;
            let as_of_us = after.as_ref().map_or_else(now_us, |after| after.as_of_us);
            let page = current::ask(|| api.hub.dead_letters_by_impact(filter.clone(), as_of_us, after.clone())).await?;
            let next_after = page.items.last().filter(|_| page.more).map(|row| {
                let place = filter::write_after(&(row.destination.clone(), row.event));
                format!("{as_of_us}:{}:{place}", row.impact(as_of_us))
            });
            Ok(shown(&page.items, as_of_us, next_after))
        }
        Some(other) => Err(Problem::parameter("order", format!("`order` must be `impact`, not `{other}`"))),
    }
}

fn shown(rows: &[DeadLetterRow], now_us: i64, next_after: Option<String>) -> Response {
    let items = rows.iter().map(|row| DeadLetter::of(row, now_us)).collect();
    view::json(&DeadLetterList { items, next_after })
}

/// Where a list by impact goes on: the impacts are those of the moment at which it began.
fn after_impact(text: &str) -> Result<ImpactOrder, Problem> {
    let wrong = || Problem::parameter("after", "`after` must be the `next_after` of the part before");
    let mut parts = text.splitn(3, ':');
    let (Some(as_of), Some(impact), Some(place)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let as_of_us = as_of.parse().map_err(|_| wrong())?;
    Ok(ImpactOrder { as_of_us, impact: impact.parse().map_err(|_| wrong())?, place: filter::after(place)? })
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

/// A dead letter with its event, its request and its attempts: of more than 32 the first 4 and the last 28.
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
    let letter = api.hub.letter_event(row.event).await?;
    let event_body = letter.as_ref().map(|l| view::raw(&cloudevents::to_structured(&l.event, &api.hub_source)));
    let imported = letter.and_then(|letter| letter.origin).map(|origin| ImportedFrom {
        hub: origin.hub,
        event: origin.event,
        dead_at: view::time(origin.dead_at_us),
        by: origin.by,
    });
    let dead = match api.hub.record(row.record).await?.and_then(|record| record.body) {
        Some(Body::DeadLettered(dead)) => Some(dead),
        _ => None,
    };
    let last_class = dead.iter().flat_map(|d| &d.attempts).next_back().map_or("", |attempt| attempt.class.as_str());
    Ok(view::json(&DeadLetterDetail {
        advice: advice(&row.reason, last_class),
        letter: DeadLetter::of(&row, now_us()),
        event_body,
        request: dead.as_ref().filter(|d| !d.request.is_empty()).map(|d| Content::from(&d.request)),
        attempt_list: dead.iter().flat_map(|d| &d.attempts).map(AttemptBody::from).collect(),
        imported,
    }))
}

/// Sends a dead letter again, in its entity's order: at once, or at a time.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{destination}/{event}/retry",
    operation_id = "retryDeadLetter",
    tag = "dead letters",
    params(
        ("destination" = String, Path, description = "The destination"),
        ("event" = u64, Path, description = "The event's position"),
        ("at" = Option<String>, Query, description = "When (RFC 3339); now where it is absent"),
    ),
    responses(
        (status = 202, description = "It is being sent, or it is planned; when it is delivered, it is no longer in the list", body = Retried),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such open dead letter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The destination is not running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn retry(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["at"])?;
    let row = find(&api, &name).await?;
    let at_us = bulk::times(&params)?.map_or_else(now_us, |(at_us, _)| at_us);
    if !api.hub.destinations().contains(&row.destination) {
        return Err(not_running(&row.destination));
    }
    // What is to be done at once is planned as well: so it is done after a restart, and nobody waits for a destination
    // that takes no more orders.
    plan(&api, &row, Some(at_us), &caller.0.name).await?;
    Ok((StatusCode::ACCEPTED, view::json(&Retried { retried: 1, next_after: None })).into_response())
}

async fn plan(api: &Api, row: &DeadLetterRow, at_us: Option<i64>, by: &str) -> Result<(), Problem> {
    match api.hub.schedule_retry(&row.destination, row.event, at_us, by).await? {
        true => Ok(()),
        false => Err(just_settled(row)),
    }
}

fn just_settled(row: &DeadLetterRow) -> Problem {
    let detail = format!("the dead letter for event {} of `{}` was settled just now", row.event, row.destination);
    Problem::new(Code::UnknownDeadLetter, detail)
}

/// Takes back that a dead letter is to be sent again at a time.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/{destination}/{event}/cancel",
    operation_id = "cancelDeadLetterRetry",
    tag = "dead letters",
    params(
        ("destination" = String, Path, description = "The destination"),
        ("event" = u64, Path, description = "The event's position"),
    ),
    responses(
        (status = 204, description = "It stays where it is"),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such open dead letter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn cancel(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
) -> Result<Response, Problem> {
    let row = find(&api, &name).await?;
    plan(&api, &row, None, &caller.0.name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) fn not_running(destination: &str) -> Problem {
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
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
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
    let mut left =
        DeadLetterFilter { destination: Some(destination.clone()), after, limit, ..DeadLetterFilter::default() };
    let mut retried = 0;
    while left.limit > 0 {
        let action = BulkAction::Retry { at_us: now_us(), over_us: 0 };
        let (count, next_after) = api.hub.bulk_dead_letters(left.clone(), action, &caller.0.name).await?;
        retried += count;
        left = DeadLetterFilter { after: next_after, limit: left.limit.saturating_sub(count), ..left };
        if left.after.is_none() {
            break;
        }
    }
    let next_after = left.after.map(|(_, event)| event);
    Ok((StatusCode::ACCEPTED, view::json(&Retried { retried, next_after })).into_response())
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
    let reason = read_reason(&api, request).await?;
    let row = find(&api, &name).await?;
    if !api.hub.discard_dead_letter(&row.destination, row.event, &reason, &caller.0.name).await? {
        return Err(just_settled(&row));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The body of a request to give dead letters up.
async fn read_reason(api: &Api, request: Request) -> Result<String, Problem> {
    let (parts, body) = request.into_parts();
    entities::json_content(&parts.headers)?;
    let body = body::read(&parts.headers, body, api.options.body_bytes_max, &api.options).await?;
    let Discard { reason } = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(Code::InvalidBody, format!("the body must be `{{\"reason\": \"...\"}}`: {e}")))?;
    if reason.trim().is_empty() {
        return Err(Problem::new(Code::InvalidBody, "`reason` must say why").with("pointer", "/reason"));
    }
    Ok(reason)
}
