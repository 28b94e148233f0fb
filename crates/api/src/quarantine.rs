//! `/v1/quarantine`: deliveries that were authentic but not understood, kept whole until somebody releases them.

use axum::extract::State;
use axum::response::Response;
use lockstep_core::record::{Body, Quarantined};
use lockstep_core::{Input, InputBody, Outcome, Position};
use lockstep_hub::{QuarantineFilter, QuarantineRow};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::{Operator, Reader};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::view::{self, Content, OutcomeBody};
use crate::{Api, current, entities};

/// A quarantined delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuarantineItem {
    /// Its record.
    position: u64,
    /// The way in.
    source: String,
    /// The delivery's id.
    delivery: String,
    /// Why: a stable code.
    #[schema(example = "mapping-failed")]
    code: String,
    /// Why, in one sentence.
    detail: String,
    /// The field (JSON pointer) or mapping line, where known.
    at: String,
    /// When it was received (RFC 3339, UTC).
    #[schema(format = DateTime)]
    received_at: String,
}

impl From<&QuarantineRow> for QuarantineItem {
    fn from(row: &QuarantineRow) -> Self {
        Self {
            position: row.position,
            source: row.source.clone(),
            delivery: row.delivery.clone(),
            code: row.code.clone(),
            detail: row.detail.clone(),
            at: row.at.clone(),
            received_at: view::time(row.received_at_us),
        }
    }
}

/// A part of the quarantined deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuarantineList {
    /// Oldest first.
    items: Vec<QuarantineItem>,
    /// Where the next part goes on; null at the end.
    next_after: Option<u64>,
}

/// A quarantined delivery as it came.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuarantineDetail {
    #[serde(flatten)]
    item: QuarantineItem,
    /// The system that it speaks for.
    system: String,
    /// Whether it still waits to be released.
    open: bool,
    /// By what its mapping was chosen.
    topic: String,
    /// The kept headers, as `name: value`; never one that authenticates.
    headers: Vec<String>,
    /// The body; null where it was not kept.
    body: Option<Content>,
    /// The W3C `traceparent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// Deliveries in quarantine, oldest first.
#[utoipa::path(
    get,
    path = "/v1/quarantine",
    operation_id = "listQuarantine",
    tag = "quarantine",
    params(
        ("source" = Option<String>, Query, description = "Only those of this source"),
        ("after" = Option<u64>, Query, description = "Only records after this one"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the list", body = QuarantineList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&["source", "after", "limit"])?;
    let filter = QuarantineFilter {
        source: params.text("source").map(str::to_owned),
        after: params.position("after")?.unwrap_or(0),
        limit: params.limit(100, 1000)?,
    };
    let page = current::ask(|| api.hub.quarantine(filter.clone())).await?;
    let next_after = page.items.last().filter(|_| page.more).map(|row| row.position);
    Ok(view::json(&QuarantineList { items: page.items.iter().map(QuarantineItem::from).collect(), next_after }))
}

async fn find(api: &Api, position: &str) -> Result<(Position, Quarantined), Problem> {
    let position = entities::position(position)?;
    match api.hub.record(position).await?.and_then(|record| record.body) {
        Some(Body::Quarantined(quarantined)) => Ok((position, quarantined)),
        _ => {
            let detail = format!("record {position} is not a quarantined delivery, or it is no longer kept");
            Err(Problem::new(Code::UnknownQuarantine, detail))
        }
    }
}

async fn is_open(api: &Api, position: Position) -> Result<bool, Problem> {
    let filter = QuarantineFilter { source: None, after: position - 1, limit: 1 };
    let page = current::ask(|| api.hub.quarantine(filter.clone())).await?;
    Ok(page.items.first().is_some_and(|row| row.position == position))
}

/// A quarantined delivery with its body and headers as they came.
#[utoipa::path(
    get,
    path = "/v1/quarantine/{position}",
    operation_id = "getQuarantined",
    tag = "quarantine",
    params(("position" = u64, Path, description = "Its record")),
    responses(
        (status = 200, description = "The delivery", body = QuarantineDetail),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such quarantined delivery", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(position): Segments<String>,
) -> Result<Response, Problem> {
    let (position, quarantined) = find(&api, &position).await?;
    let open = is_open(&api, position).await?;
    let reason = quarantined.reason.unwrap_or_default();
    let raw = quarantined.raw;
    Ok(view::json(&QuarantineDetail {
        item: QuarantineItem {
            position,
            source: quarantined.source,
            delivery: quarantined.delivery,
            code: reason.code,
            detail: reason.detail,
            at: reason.at,
            received_at: view::time(quarantined.received_at_us),
        },
        system: quarantined.system,
        open,
        topic: raw.as_ref().map(|r| r.topic.clone()).unwrap_or_default(),
        headers: raw.as_ref().map(|r| r.headers.clone()).unwrap_or_default(),
        body: raw.as_ref().map(|r| Content::from(&r.body)),
        trace: Some(quarantined.trace).filter(|t| !t.is_empty()),
    }))
}

/// Sends a quarantined delivery through the current mapping again.
///
/// Where it is understood now, it goes the same way as every other and leaves the quarantine. Where it is still
/// not, the answer says why, and nothing changes.
#[utoipa::path(
    post,
    path = "/v1/quarantine/{position}/release",
    operation_id = "releaseQuarantined",
    tag = "quarantine",
    params(("position" = u64, Path, description = "Its record")),
    responses(
        (status = 200, description = "It is understood, and durable", body = OutcomeBody),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such quarantined delivery, or no longer its source, or no entity has the external id by which it names one", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It was released before, its raw input was not kept, or an external id in it belongs to another entity", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is still not understood", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn release(
    State(api): State<Api>,
    _caller: Operator,
    Segments(position): Segments<String>,
) -> Result<Response, Problem> {
    let (position, quarantined) = find(&api, &position).await?;
    if !is_open(&api, position).await? {
        let detail = format!("the delivery of record {position} is no longer in quarantine");
        return Err(Problem::new(Code::AlreadyReleased, detail));
    }
    let Some(raw) = quarantined.raw else {
        let detail = format!("the raw input of record {position} was not kept: it can't be translated again");
        return Err(Problem::new(Code::RawNotKept, detail));
    };
    let Some(intake) = api.sources.get(&quarantined.source) else {
        let detail = format!("it came by the source `{}`, which is no longer configured", quarantined.source);
        return Err(Problem::new(Code::UnknownSource, detail));
    };
    let translated = intake.source.translate_again(&raw, quarantined.received_at_us);
    if let InputBody::Quarantine(reason) = translated {
        let problem = Problem::new(Code::StillNotUnderstood, reason.detail).with("reason", reason.code);
        return Err(if reason.at.is_empty() { problem } else { problem.with("pointer", reason.at) });
    }
    let input = Input {
        source: quarantined.source,
        system: quarantined.system,
        delivery: quarantined.delivery,
        payload_hash: quarantined.payload_hash,
        reject_reuse: false,
        request_key: None,
        received_at_us: quarantined.received_at_us,
        trace: Some(quarantined.trace).filter(|t| !t.is_empty()),
        raw: intake.keep_raw.then_some(raw),
        body: translated,
        releases: Some(position),
    };
    let outcome = view::only(api.hub.submit(vec![input]).await?)?;
    if let Outcome::Quarantined { .. } = outcome {
        let detail = "its time is still further ahead of when it was received than `hub.clock_skew_max_s` allows";
        return Err(Problem::new(Code::StillNotUnderstood, detail).with("reason", "clock-skew"));
    }
    Ok(view::json(&OutcomeBody::from(&outcome)))
}
