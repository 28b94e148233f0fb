//! `GET /v1/incomplete`: entities of which nobody is told, because fields are missing.

use axum::extract::State;
use axum::response::Response;
use lockstep_core::change::check_kind;
use lockstep_hub::{IncompleteEntity, IncompleteFilter, now_us};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::params::Params;
use crate::problem::{Problem, ProblemBody};
use crate::{Api, current, view};

/// The longest time that can be asked for: a hundred years.
const OLDER_THAN_S_MAX: i64 = 100 * 366 * 86_400;

/// An entity of which nobody is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Incomplete)]
pub(crate) struct IncompleteBody {
    /// Its kind.
    kind: String,
    /// Its key.
    key: String,
    /// Since when (RFC 3339, UTC, by the hub's clock).
    #[schema(format = DateTime)]
    since: String,
    /// For how long, in whole seconds.
    for_s: i64,
    /// The required fields that have no value. Empty where the configuration requires less by now: then it is published
    /// with its next change.
    missing: Vec<String>,
    /// The systems that have spoken of it.
    systems: Vec<String>,
}

/// A part of the incomplete entities.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IncompleteList {
    /// By kind, the oldest first.
    items: Vec<IncompleteBody>,
    /// Where the next part goes on; null at the end.
    next_after: Option<String>,
}

/// The entities of which nobody is told, because fields that their kind requires are missing.
///
/// They are kept in a list of their own: this takes time with their number, not with that of all entities.
#[utoipa::path(
    get,
    path = "/v1/incomplete",
    operation_id = "listIncomplete",
    tag = "entities",
    params(
        ("kind" = Option<String>, Query, description = "Only those of this kind"),
        ("older_than_s" = Option<u64>, Query, description = "Only those that have been incomplete for so many seconds or longer"),
        ("after" = Option<String>, Query, description = "Where to go on: `next_after` of the part before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the list", body = IncompleteList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&["kind", "older_than_s", "after", "limit"])?;
    let kind = params.text("kind");
    if let Some(kind) = kind {
        check_kind(kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
    }
    let now_us = now_us();
    let older_than_s = params.number("older_than_s", 0..=OLDER_THAN_S_MAX)?;
    let filter = IncompleteFilter {
        kind: kind.map(str::to_owned),
        until_us: older_than_s.map(|s| now_us - s * 1_000_000),
        after: params.text("after").map(place).transpose()?,
        limit: params.limit(100, 1000)?,
    };
    let page = current::ask(|| api.hub.incomplete(filter.clone())).await?;
    let last = page.items.last().filter(|_| page.more).map(|item| &item.row);
    let next_after = last.map(|row| format!("{}/{}/{}", row.kind, row.since_us, row.key));
    let body = |item: IncompleteEntity| IncompleteBody {
        kind: item.row.kind,
        key: item.row.key,
        since: view::time(item.row.since_us),
        for_s: (now_us - item.row.since_us).max(0) / 1_000_000,
        missing: item.missing,
        systems: item.systems,
    };
    Ok(view::json(&IncompleteList { items: page.items.into_iter().map(body).collect(), next_after }))
}

/// Where a part of the list goes on.
fn place(after: &str) -> Result<(String, i64, String), Problem> {
    let parts = || {
        let (kind, rest) = after.split_once('/')?;
        let (since_us, key) = rest.split_once('/')?;
        Some((kind.to_owned(), since_us.parse().ok()?, key.to_owned()))
    };
    parts().ok_or_else(|| Problem::parameter("after", "`after` must be `next_after` of the part before"))
}
