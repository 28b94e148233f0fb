//! `/v1/replays`: events once more to one destination, beside live traffic.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lockstep_connect::time::parse_rfc3339;
use lockstep_hub::{ReplayRefused, ReplayRequest, ReplayTally};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Operator, Reader};
use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, body, current, dead_letters, destinations, entities, view};

/// How many events a second a replay sends where it does not say.
const RATE_PER_S: u32 = 200;

/// What a replay is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayStart {
    /// The destination, which must be running.
    destination: String,
    /// Events after this position. Neither this nor `from_time`: from the first that the journal has.
    from: Option<u64>,
    /// Events decided at this time or later (RFC 3339).
    from_time: Option<String>,
    /// Events up to this position; absent: up to the newest there is now.
    until: Option<u64>,
    /// `journal`: all events (the default). `state`: the newest event of each entity.
    #[serde(default)]
    source: Source,
    /// Only entities of this kind.
    #[serde(default)]
    kind: String,
    /// Only the entity with this key.
    #[serde(default)]
    key: String,
    /// Only events of this type; a `*` at the end stands for anything.
    #[serde(default, rename = "type")]
    event_type: String,
    /// At most so many events a second; 0: as fast as it goes. 200 where it is absent.
    rate_per_s: Option<u32>,
    /// What becomes of an event of whose entity the destination takes something newer. `skip` (the default): it is not
    /// sent, so that no state goes back in time. `send`: all are sent as they were, for a receiver that keeps them all.
    #[serde(default)]
    stale: Stale,
}

/// What is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ReplaySource)]
pub(crate) enum Source {
    /// All events.
    #[default]
    Journal,
    /// The newest event of each entity.
    State,
}

/// What becomes of an event of which something newer is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ReplayStale)]
pub(crate) enum Stale {
    /// It is not sent.
    #[default]
    Skip,
    /// It is sent.
    Send,
}

/// A replay, and how far it is. It counts whole pages: what is under way is not in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub(crate) struct ReplayBody {
    /// Its id: what it sends has it as the CloudEvents attribute `replay` and the header `lockstep-replay`.
    id: u64,
    /// The destination.
    destination: String,
    /// `running`, `done` or `cancelled`.
    status: &'static str,
    /// What it sends.
    source: Source,
    /// Events after this position,
    from: u64,
    /// up to this one.
    until: u64,
    /// Only entities of this kind; empty: all.
    kind: String,
    /// Only the entity with this key; empty: all.
    key: String,
    /// Only events of this type; empty: all.
    #[serde(rename = "type")]
    event_type: String,
    /// At most so many events a second; 0: as fast as it goes.
    rate_per_s: u32,
    /// What becomes of events of which something newer is there.
    stale: Stale,
    /// Who asked for it.
    by: String,
    /// When it began (RFC 3339, UTC).
    #[schema(format = DateTime)]
    started_at: String,
    /// When it ended (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// Who cancelled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_by: Option<String>,
    /// Every event up to here has ended.
    cursor: u64,
    /// Every entity up to this one has ended, where the source is `state`.
    #[serde(skip_serializing_if = "String::is_empty")]
    after_entity: String,
    /// How much of the journal between `from` and `until` it has been through, 0 to 1; absent where the source is `state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    /// Delivered.
    delivered: u64,
    /// Kept back by the destination's filter.
    filtered: u64,
    /// Not sent, since something newer is there or on its way.
    skipped_stale: u64,
    /// Not sent, since they are on their way anyway, or dead letters.
    passed: u64,
    /// Given up: they are dead letters.
    failed: u64,
}

impl ReplayBody {
    fn of(id: u64, replay: &ReplayTally) -> Self {
        let ended = replay.ended_at_us.is_some();
        let (all, done) = (replay.until.saturating_sub(replay.after), replay.cursor.saturating_sub(replay.after));
        let progress = if ended && replay.cancelled_by.is_none() || all == 0 { 1.0 } else { done as f64 / all as f64 };
        Self {
            id,
            destination: replay.destination.clone(),
            status: match (&replay.cancelled_by, ended) {
                (Some(_), _) => "cancelled",
                (None, true) => "done",
                (None, false) => "running",
            },
            source: if replay.state { Source::State } else { Source::Journal },
            from: replay.after,
            until: replay.until,
            kind: replay.kind.clone(),
            key: replay.key.clone(),
            event_type: replay.event_type.clone(),
            rate_per_s: replay.rate_per_s,
            stale: if replay.stale { Stale::Send } else { Stale::Skip },
            by: replay.by.clone(),
            started_at: view::time(replay.started_at_us),
            ended_at: replay.ended_at_us.map(view::time),
            cancelled_by: replay.cancelled_by.clone(),
            cursor: replay.cursor,
            after_entity: replay.after_id.clone(),
            progress: (!replay.state).then_some(progress),
            delivered: replay.delivered,
            filtered: replay.filtered,
            skipped_stale: replay.stale_count,
            passed: replay.passed,
            failed: replay.failed,
        }
    }
}

/// Replays.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayList {
    /// Those that go on, and the last hundred that have ended; by id.
    items: Vec<ReplayBody>,
}

/// The replays that go on, and those that have ended last.
#[utoipa::path(
    get,
    path = "/v1/replays",
    operation_id = "listReplays",
    tag = "replays",
    responses(
        (status = 200, description = "The replays", body = ReplayList),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader) -> Result<Response, Problem> {
    let replays = current::ask(|| api.hub.replays()).await?;
    Ok(view::json(&ReplayList { items: replays.iter().map(|(id, replay)| ReplayBody::of(*id, replay)).collect() }))
}

async fn find(api: &Api, id: &str) -> Result<ReplayBody, Problem> {
    let id = entities::position(id)?;
    let replays = current::ask(|| api.hub.replays()).await?;
    let found = replays.get(&id).map(|replay| ReplayBody::of(id, replay));
    found.ok_or_else(|| Problem::new(Code::UnknownReplay, format!("there is no replay {id}, or it ended long ago")))
}

/// A replay, and how far it is.
#[utoipa::path(
    get,
    path = "/v1/replays/{id}",
    operation_id = "getReplay",
    tag = "replays",
    params(("id" = u64, Path, description = "The replay")),
    responses(
        (status = 200, description = "The replay", body = ReplayBody),
        (status = 400, description = "Not an id", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such replay", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    Ok(view::json(&find(&api, &id).await?))
}

/// Begins a replay. It goes on by itself, also after a restart, until it is through or cancelled.
#[utoipa::path(
    post,
    path = "/v1/replays",
    operation_id = "startReplay",
    tag = "replays",
    request_body(content = ReplayStart, content_type = "application/json"),
    responses(
        (status = 201, description = "It has begun", body = ReplayBody),
        (status = 400, description = "The body is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The destination is not running, or too many replays go on", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn start(State(api): State<Api>, caller: Operator, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    entities::json_content(&parts.headers)?;
    let body = body::read(&parts.headers, body, api.options.body_bytes_max, &api.options).await?;
    let wrong = |detail: String, pointer: &str| Problem::new(Code::InvalidBody, detail).with("pointer", pointer);
    let start: ReplayStart = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(Code::InvalidBody, format!("the body must be a replay: {e}")))?;
    destinations::check_known(&api, &start.destination)?;
    let after = match (start.from, &start.from_time) {
        (Some(_), Some(_)) => return Err(wrong("give `from` or `from_time`, not both".to_owned(), "/from_time")),
        (Some(from), None) => from,
        (None, None) => 0,
        (None, Some(text)) => {
            let at_us = parse_rfc3339(text).ok_or_else(|| {
                wrong(format!("`from_time` must be a time such as 2026-03-01T09:30:00Z, not `{text}`"), "/from_time")
            })?;
            api.hub.position_before(at_us).await?
        }
    };
    if start.source == Source::State && (start.from.is_some() || start.from_time.is_some()) {
        return Err(wrong("a replay of the state has no beginning: leave `from` out".to_owned(), "/from"));
    }
    if start.source == Source::State && start.stale == Stale::Send {
        return Err(wrong("a replay of the state is of the newest: leave `stale` out".to_owned(), "/stale"));
    }
    let request = ReplayRequest {
        destination: start.destination,
        after,
        until: start.until,
        state: start.source == Source::State,
        kind: start.kind,
        key: start.key,
        event_type: start.event_type,
        rate_per_s: start.rate_per_s.unwrap_or(RATE_PER_S),
        stale: start.stale == Stale::Send,
        by: caller.0.name.clone(),
    };
    let id = match api.hub.start_replay(request).await {
        Ok(id) => id,
        Err(ReplayRefused::NotRunning(name)) => return Err(dead_letters::not_running(&name)),
        Err(refused @ ReplayRefused::TooMany) => return Err(Problem::new(Code::TooManyReplays, refused.to_string())),
        Err(ReplayRefused::Hub(cause)) => return Err(cause.into()),
    };
    Ok((StatusCode::CREATED, view::json(&find(&api, &id.to_string()).await?)).into_response())
}

/// Ends a replay. What it has sent stays sent.
#[utoipa::path(
    delete,
    path = "/v1/replays/{id}",
    operation_id = "cancelReplay",
    tag = "replays",
    params(("id" = u64, Path, description = "The replay")),
    responses(
        (status = 204, description = "It has ended, now or before"),
        (status = 400, description = "Not an id", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such replay", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn cancel(
    State(api): State<Api>,
    caller: Operator,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    let replay = find(&api, &id).await?;
    api.hub.cancel_replay(replay.id, &caller.0.name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
