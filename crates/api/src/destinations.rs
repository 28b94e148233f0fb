//! `/v1/destinations`: where deliveries stand.

use axum::extract::State;
use axum::response::Response;
use lockstep_hub::{DestinationTally, EventFilter, Tallies, now_us};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, view};

/// Where a destination stands. Every published event is accounted for:
/// `published + imported = delivered + pending + filtered + dead + discarded + superseded + skipped`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Destination)]
pub(crate) struct DestinationBody {
    /// Its name.
    name: String,
    /// Whether deliveries to it are running. One that was taken out of the configuration is not.
    running: bool,
    /// Since when it has counted as down (RFC 3339): so many deliveries failed one after the other that it is only
    /// probed now, and everything else waits without using up attempts. Absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    down_since: Option<String>,
    /// All events that the hub has published.
    published: u64,
    /// Delivered ones, retried dead letters among them.
    delivered: u64,
    /// Those still to be settled.
    pending: u64,
    /// Those that its filter kept back, and its own system's words among them.
    filtered: u64,
    /// How many of those filtered its own system had just said itself: it is not told them unless `echo_own` is set.
    own_words: u64,
    /// Open dead letters.
    dead: u64,
    /// Dead letters given up by an operator.
    discarded: u64,
    /// Dead letters overtaken by something newer of the same entity.
    superseded: u64,
    /// Those published before it was added, which it was not to have.
    skipped: u64,
    /// Dead letters that were brought in from outside or given up in a replay, whatever has become of them.
    imported: u64,
    /// Every event up to this position is settled.
    cursor: u64,
    /// How old the oldest event is that is not settled, in seconds; 0 where there is none. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_s: Option<f64>,
}

/// All destinations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DestinationList {
    /// By name.
    items: Vec<DestinationBody>,
}

fn body(
    name: &str,
    tally: &DestinationTally,
    published: u64,
    running: bool,
    down_since_us: Option<i64>,
) -> DestinationBody {
    DestinationBody {
        name: name.to_owned(),
        running,
        down_since: down_since_us.map(view::time),
        published,
        delivered: tally.delivered,
        pending: tally.pending(published).max(0) as u64,
        filtered: tally.filtered,
        own_words: tally.own_words,
        dead: tally.dead,
        discarded: tally.discarded,
        superseded: tally.superseded,
        skipped: tally.skipped,
        imported: tally.imported,
        cursor: tally.cursor,
        lag_s: None,
    }
}

fn all(api: &Api) -> (Tallies, Vec<DestinationBody>) {
    let mut tallies = api.hub.stats().tallies();
    let running = api.hub.destinations();
    // One that has nothing to report yet has no sums yet.
    for name in &running {
        tallies.destinations.entry(name.clone()).or_default();
    }
    let down = api.hub.destinations_down();
    let one = |(name, tally): (&String, &DestinationTally)| {
        body(name, tally, tallies.published, running.contains(name), down.get(name).copied())
    };
    let list = tallies.destinations.iter().map(one).collect();
    (tallies, list)
}

/// Refuses the name of a destination that the hub has never had.
pub(crate) fn check_known(api: &Api, name: &str) -> Result<(), Problem> {
    if api.hub.destinations().iter().any(|d| d == name) || api.hub.stats().tallies().destinations.contains_key(name) {
        return Ok(());
    }
    Err(Problem::new(Code::UnknownDestination, format!("there is no destination `{name}`")))
}

/// All destinations and where they stand.
#[utoipa::path(
    get,
    path = "/v1/destinations",
    operation_id = "listDestinations",
    tag = "destinations",
    responses(
        (status = 200, description = "All destinations", body = DestinationList),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader) -> Result<Response, Problem> {
    Ok(view::json(&DestinationList { items: all(&api).1 }))
}

/// One destination and where it stands.
#[utoipa::path(
    get,
    path = "/v1/destinations/{name}",
    operation_id = "getDestination",
    tag = "destinations",
    params(("name" = String, Path, description = "The destination")),
    responses(
        (status = 200, description = "The destination", body = DestinationBody),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(name): Segments<String>,
) -> Result<Response, Problem> {
    check_known(&api, &name)?;
    let (_, list) = all(&api);
    let Some(mut body) = list.into_iter().find(|d| d.name == name) else {
        return Err(Problem::new(Code::UnknownDestination, format!("there is no destination `{name}`")));
    };
    let mut lag_us = 0;
    if body.pending > 0 {
        // What follows the cursor is by definition not settled.
        let page = api.hub.events(body.cursor, EventFilter::default(), 1).await?;
        lag_us = page.events.first().map_or(0, |event| (now_us() - event.recorded_at_us).max(0));
    }
    body.lag_s = Some(lag_us as f64 / 1e6);
    Ok(view::json(&body))
}
