//! Many dead letters at once: sent again, at a time or spread over one, or not any more; given up. A part at a time, and
//! the answer says where to go on, so that whoever is interrupted goes on there.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lockstep_connect::time::parse_rfc3339;
use lockstep_hub::{BulkAction, DeadLetterFilter, now_us};
use serde::Serialize;
use utoipa::ToSchema;

use super::filter::{self, FilterParams};
use super::{Discard, not_running, read_reason};
use crate::auth::Operator;
use crate::params::Params;
use crate::problem::{Problem, ProblemBody};
use crate::{Api, current, view};

/// How many dead letters one request looks through.
const LOOK_MAX: usize = 100_000;
/// As many the hub looks at in one step; so many requests come to that.
const STEPS_MAX: usize = LOOK_MAX / 500;
const LIMIT_MAX: usize = 10_000;
/// The longest time over which retries are spread.
const OVER_MAX_S: u64 = 366 * 86_400;

/// What was done to many dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bulk {
    /// To how many; with `dry_run` to how many it would be.
    count: usize,
    /// Whether nothing was done but counting.
    dry_run: bool,
    /// Where to go on: give it as `after` with the same request. Null where all were looked at.
    next_after: Option<String>,
}

/// When dead letters are sent again: `at`, and over `over_s` from then on.
pub(super) fn times(params: &Params) -> Result<Option<(i64, i64)>, Problem> {
    let at_us = params.text("at").map(|text| {
        let wrong =
            || Problem::parameter("at", format!("`at` must be a time such as 2026-03-01T09:30:00Z, not `{text}`"));
        parse_rfc3339(text).filter(|at_us| *at_us > 0).ok_or_else(wrong)
    });
    let at_us = at_us.transpose()?;
    let over_us = params.number("over_s", 0..=OVER_MAX_S)?.map(|over_s| over_s as i64 * 1_000_000);
    Ok((at_us.is_some() || over_us.is_some()).then(|| (at_us.unwrap_or_else(now_us), over_us.unwrap_or(0))))
}

async fn act(
    api: &Api,
    params: &Params,
    action: BulkAction,
    by: &str,
    refuse: impl Fn(&str) -> Option<Problem>,
) -> Result<Bulk, Problem> {
    let dry_run = filter::flag(params, "dry_run")?.unwrap_or(false);
    let limit = if dry_run { usize::MAX } else { params.limit(1_000, LIMIT_MAX)? };
    let mut left = filter::read(api, params, limit)?;
    if !left.is_selective() && filter::flag(params, "all")? != Some(true) {
        let detail = "without a condition this is about all dead letters: say so with `all=true`";
        return Err(Problem::parameter("all", detail));
    }
    if let Some(problem) = left.destination.as_deref().and_then(refuse) {
        return Err(problem);
    }
    let mut count = 0;
    for _ in 0..STEPS_MAX {
        let (done, next_after) = if dry_run {
            current::ask(|| api.hub.bulk_dead_letters(left.clone(), BulkAction::Count, by)).await?
        } else {
            api.hub.bulk_dead_letters(left.clone(), action.clone(), by).await?
        };
        count += done;
        left = DeadLetterFilter { after: next_after, limit: left.limit.saturating_sub(done), ..left };
        if left.after.is_none() || left.limit == 0 {
            break;
        }
    }
    Ok(Bulk { count, dry_run, next_after: left.after.as_ref().map(filter::write_after) })
}

fn check(params: &Params, more: &[&str]) -> Result<(), Problem> {
    let known: Vec<&str> =
        filter::NAMES.iter().chain(&["all", "dry_run", "after", "limit"]).chain(more).copied().collect();
    params.only(&known)
}

/// Sends many dead letters again, each in its entity's order: at once, at a time, or spread over one.
///
/// What is asked for is journaled: it is done though the hub is started again meanwhile, or the destination is down.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/retry",
    operation_id = "retryManyDeadLetters",
    tag = "dead letters",
    params(
        FilterParams,
        ("all" = Option<bool>, Query, description = "`true`: all of them, where no condition is given"),
        ("at" = Option<String>, Query, description = "When (RFC 3339); now where it is absent"),
        ("over_s" = Option<u64>, Query, description = "Spread over so many seconds from then on, all of an entity at the same moment"),
        ("dry_run" = Option<bool>, Query, description = "`true`: only say how many it would be"),
        ("after" = Option<String>, Query, description = "Where to go on: `next_after` of the answer before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10000; 1000 where it is absent"),
    ),
    responses(
        (status = 202, description = "They are sent again, or it is planned", body = Bulk),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The destination is not running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn retry(State(api): State<Api>, caller: Operator, params: Params) -> Result<Response, Problem> {
    check(&params, &["at", "over_s"])?;
    let (at_us, over_us) = times(&params)?.unwrap_or_else(|| (now_us(), 0));
    let running = api.hub.destinations();
    let refuse = |name: &str| (!running.iter().any(|other| other == name)).then(|| not_running(name));
    let done = act(&api, &params, BulkAction::Retry { at_us, over_us }, &caller.0.name, refuse).await?;
    Ok((StatusCode::ACCEPTED, view::json(&done)).into_response())
}

/// Takes back that many dead letters are to be sent again. What is under way already is not called back.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/cancel",
    operation_id = "cancelDeadLetterRetries",
    tag = "dead letters",
    params(
        FilterParams,
        ("all" = Option<bool>, Query, description = "`true`: all of them, where no condition is given"),
        ("dry_run" = Option<bool>, Query, description = "`true`: only say how many it would be"),
        ("after" = Option<String>, Query, description = "Where to go on: `next_after` of the answer before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10000; 1000 where it is absent"),
    ),
    responses(
        (status = 200, description = "They stay where they are", body = Bulk),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn cancel(State(api): State<Api>, caller: Operator, params: Params) -> Result<Response, Problem> {
    check(&params, &[])?;
    if filter::flag(&params, "scheduled")? == Some(false) {
        let detail = "`scheduled` must not be `false`: only what is planned can be taken back";
        return Err(Problem::parameter("scheduled", detail));
    }
    let done = act(&api, &params, BulkAction::Unschedule, &caller.0.name, |_| None).await?;
    Ok(view::json(&done))
}

/// Gives many dead letters up.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/discard",
    operation_id = "discardManyDeadLetters",
    tag = "dead letters",
    params(
        FilterParams,
        ("all" = Option<bool>, Query, description = "`true`: all of them, where no condition is given"),
        ("dry_run" = Option<bool>, Query, description = "`true`: only say how many it would be"),
        ("after" = Option<String>, Query, description = "Where to go on: `next_after` of the answer before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 10000; 1000 where it is absent"),
    ),
    request_body(content = Discard, content_type = "application/json"),
    responses(
        (status = 200, description = "They are given up", body = Bulk),
        (status = 400, description = "The reason is missing, or a parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
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
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    check(&params, &[])?;
    let reason = read_reason(&api, request).await?;
    let done = act(&api, &params, BulkAction::Discard { reason }, &caller.0.name, |_| None).await?;
    Ok(view::json(&done))
}
