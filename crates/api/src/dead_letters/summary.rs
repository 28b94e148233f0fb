//! The open dead letters in groups: what is wrong where, and what it comes to.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use lockstep_hub::{DeadLetterRow, now_us};
use serde::Serialize;
use utoipa::ToSchema;

use super::filter::{self, FilterParams};
use crate::auth::Reader;
use crate::params::Params;
use crate::problem::{Problem, ProblemBody};
use crate::{Api, current, view};

/// Dead letters of one destination that were given up for the same reason.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = DeadLetterGroup)]
pub(crate) struct Group {
    /// The destination.
    destination: String,
    /// Why they were given up: `exhausted`, `rejected`, `poison` or `waited`.
    reason: String,
    /// How many.
    count: u64,
    /// How many of them are to be sent again at a time.
    scheduled: u64,
    /// For how many of them a promised time has passed.
    overdue: u64,
    /// The impact of all together.
    impact: u64,
    /// When the first was given up (RFC 3339, UTC).
    #[schema(format = DateTime)]
    first_dead_at: String,
    /// When the last was given up (RFC 3339, UTC).
    #[schema(format = DateTime)]
    last_dead_at: String,
    /// How many by the HTTP status of the last attempt; `0` had no answer.
    statuses: BTreeMap<u32, u64>,
    /// What their events are worth, in minor units by currency.
    #[schema(value_type = BTreeMap<String, i64>)]
    values: BTreeMap<String, i128>,
    #[serde(skip)]
    dead_us: Option<(i64, i64)>,
}

/// All groups.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterSummary {
    /// All of them together.
    count: u64,
    /// By impact, the greatest first.
    groups: Vec<Group>,
}

impl Group {
    fn take(&mut self, row: &DeadLetterRow, now_us: i64) {
        self.count += 1;
        self.scheduled += u64::from(row.retry.is_some());
        self.overdue += u64::from(row.promised_at_us.is_some_and(|at_us| at_us <= now_us));
        self.impact = self.impact.saturating_add(row.impact(now_us));
        let (first, last) = self.dead_us.unwrap_or((i64::MAX, i64::MIN));
        self.dead_us = Some((first.min(row.dead_at_us), last.max(row.dead_at_us)));
        *self.statuses.entry(row.status).or_default() += 1;
        if let Some(minor) = row.minor {
            *self.values.entry(row.currency.clone()).or_default() += i128::from(minor);
        }
    }
}

/// How many dead letters there are of each destination and reason, and what they come to.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/summary",
    operation_id = "summarizeDeadLetters",
    tag = "dead letters",
    params(FilterParams),
    responses(
        (status = 200, description = "The groups", body = DeadLetterSummary),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&filter::NAMES)?;
    let mut left = filter::read(&api, &params, usize::MAX)?;
    let now = now_us();
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    loop {
        let looked = current::ask(|| api.hub.look_through_dead_letters(left.clone())).await?;
        for row in &looked.items {
            groups.entry((row.destination.clone(), row.reason.clone())).or_default().take(row, now);
        }
        left.after = looked.next_after;
        if left.after.is_none() {
            break;
        }
    }
    let mut groups: Vec<Group> = groups
        .into_iter()
        .map(|((destination, reason), group)| {
            let (first, last) = group.dead_us.unwrap_or_default();
            Group { destination, reason, first_dead_at: view::time(first), last_dead_at: view::time(last), ..group }
        })
        .collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.impact));
    Ok(view::json(&DeadLetterSummary { count: groups.iter().map(|group| group.count).sum(), groups }))
}
