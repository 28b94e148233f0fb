//! `/v1/freshness`: how fresh each domain is at each destination, and in the hub itself.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use lockstep_hub::FreshnessRow;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::params::Params;
use crate::problem::{Problem, ProblemBody};
use crate::{Api, view};

/// The header that reads of a domain with a limit carry.
const HEADER: HeaderName = HeaderName::from_static("lockstep-freshness");

/// How fresh a domain is at a destination.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Freshness)]
pub(crate) struct FreshnessBody {
    /// The destination; `@hub` is the hub itself, as its readers see it.
    destination: String,
    /// The domain: a kind of entities.
    domain: String,
    /// `current`; `delayed`: something is on its way for longer than the limit, or a source told of it later than that;
    /// `partial`: something was given up and waits for a person, the rest arrives; `unreliable`: nothing arrives.
    #[schema(example = "current")]
    state: &'static str,
    /// Whose delay it is: `ours`, `source`, `target` (the destination does not answer, or refuses) or `paused` (by hand).
    /// Absent where it is current.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    /// Since when it is so (RFC 3339).
    since: String,
    /// The limit, in seconds.
    limit_s: f64,
    /// How old the oldest event of the domain is that is not settled there, in seconds; 0 where there is none.
    behind_s: f64,
    /// How late a source told of something of the domain in the last half minute or so, in seconds.
    source_late_s: f64,
    /// Open dead letters of the domain.
    dead: u64,
    /// Whether the destination counts as down.
    down: bool,
    /// In how many seconds the limit will be exceeded if events go on arriving and being delivered at the rates of the
    /// last half minute; 0 where it is, absent where it will not.
    #[serde(skip_serializing_if = "Option::is_none")]
    breach_in_s: Option<f64>,
}

/// How fresh all is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FreshnessList {
    /// Each domain that declares a limit, in the hub itself and at each destination.
    items: Vec<FreshnessBody>,
}

impl From<FreshnessRow> for FreshnessBody {
    fn from(row: FreshnessRow) -> Self {
        let seconds = |us: i64| us as f64 / 1e6;
        Self {
            destination: row.destination,
            domain: row.domain,
            state: row.verdict.state.name(),
            why: row.verdict.why.map(|why| why.name()),
            since: view::time(row.since_us),
            limit_s: seconds(row.limit_us),
            behind_s: seconds(row.seen.behind_us),
            source_late_s: seconds(row.seen.source_late_us.max(0)),
            dead: row.seen.refused + row.seen.unmapped,
            down: row.seen.down,
            breach_in_s: row.breach_in_s,
        }
    }
}

/// How fresh each domain with a limit is: at each destination, and in the hub itself.
#[utoipa::path(
    get,
    path = "/v1/freshness",
    operation_id = "getFreshness",
    tag = "destinations",
    params(
        ("destination" = Option<String>, Query, description = "Only at this destination; `@hub` is the hub itself"),
        ("domain" = Option<String>, Query, description = "Only this domain"),
    ),
    responses(
        (status = 200, description = "How fresh they are", body = FreshnessList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&["destination", "domain"])?;
    let is = |name: &str, value: &str| params.text(name).is_none_or(|wanted| wanted == value);
    let rows = api.hub.freshness().into_iter();
    let rows = rows.filter(|row| is("destination", &row.destination) && is("domain", &row.domain));
    Ok(view::json(&FreshnessList { items: rows.map(FreshnessBody::from).collect() }))
}

/// Says in a header how fresh what is read is, where its domain has a limit.
pub(crate) fn tell(api: &Api, kind: &str, headers: &mut HeaderMap) {
    let Some(row) = api.hub.freshness_here(kind) else { return };
    let mut text = row.verdict.state.name().to_owned();
    if let Some(why) = row.verdict.why {
        text.push_str(&format!("; why={}; since=\"{}\"", why.name(), view::time(row.since_us)));
    }
    headers.extend(HeaderValue::from_str(&text).ok().map(|value| (HEADER, value)));
}
