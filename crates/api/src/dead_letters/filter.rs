//! Which dead letters a request is about, and how many at once.

use lockstep_hub::{DeadLetterFilter, now_us};
use utoipa::IntoParams;

use crate::params::Params;
use crate::problem::Problem;
use crate::{Api, destinations};

/// The names of the filter's parameters.
pub(crate) const NAMES: [&str; 11] = [
    "destination",
    "kind",
    "key",
    "type",
    "reason",
    "status",
    "age_min_s",
    "age_max_s",
    "text",
    "currency",
    "scheduled",
];

/// Which dead letters: those that meet every condition that is given.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is the documentation of what `read` reads")]
pub(crate) struct FilterParams {
    /// Only those of this destination.
    destination: Option<String>,
    /// Only those of entities of this kind.
    kind: Option<String>,
    /// Only those of entities with this key.
    key: Option<String>,
    /// Only events of this type; a `*` at the end stands for anything, as in `order.*`.
    #[param(rename = "type")]
    event_type: Option<String>,
    /// Only those given up for this reason: `exhausted`, `rejected`, `poison` or `waited`.
    reason: Option<String>,
    /// Only those whose last attempt was answered with this HTTP status; 0: it had no answer.
    status: Option<u32>,
    /// Only those given up so many seconds ago or longer.
    age_min_s: Option<u64>,
    /// Only those given up so many seconds ago or less.
    age_max_s: Option<u64>,
    /// Only those in whose last attempt's detail this text stands, in capitals or not.
    text: Option<String>,
    /// Only those whose value is in this currency.
    currency: Option<String>,
    /// `true`: only those that are to be sent again at a time; `false`: only others.
    scheduled: Option<bool>,
}

/// The longest age that can be asked for: beyond every journal.
const AGE_MAX_S: u64 = 100 * 366 * 86_400;

/// Reads a filter.
pub(crate) fn read(api: &Api, params: &Params, limit: usize) -> Result<DeadLetterFilter, Problem> {
    let text = |name: &str| params.text(name).map(str::to_owned);
    let destination = text("destination");
    if let Some(name) = &destination {
        destinations::check_known(api, name)?;
    }
    let ago_us = |name: &str| -> Result<Option<i64>, Problem> {
        let age_s = params.number(name, 0..=AGE_MAX_S)?;
        Ok(age_s.map(|age_s| now_us().saturating_sub(age_s as i64 * 1_000_000)))
    };
    Ok(DeadLetterFilter {
        destination,
        kind: text("kind"),
        key: text("key"),
        event_type: text("type"),
        reason: text("reason"),
        status: params.number("status", 0..=999)?,
        dead_until_us: ago_us("age_min_s")?,
        dead_from_us: ago_us("age_max_s")?,
        text: text("text"),
        currency: text("currency"),
        scheduled: flag(params, "scheduled")?,
        after: params.text("after").filter(|after| !after.contains(':')).map(after).transpose()?,
        limit,
    })
}

/// Reads `true` or `false`.
pub(crate) fn flag(params: &Params, name: &str) -> Result<Option<bool>, Problem> {
    match params.text(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(Problem::parameter(name, format!("`{name}` must be `true` or `false`, not `{other}`"))),
    }
}

/// Where to go on, as it is written in answers: `EVENT@DESTINATION`.
pub(crate) fn after(text: &str) -> Result<(String, u64), Problem> {
    let parts = text.split_once('@').and_then(|(event, name)| Some((name.to_owned(), event.parse().ok()?)));
    parts.ok_or_else(|| Problem::parameter("after", "`after` must be the `next_after` of the part before"))
}

/// The same, written.
pub(crate) fn write_after((destination, event): &(String, u64)) -> String {
    format!("{event}@{destination}")
}
