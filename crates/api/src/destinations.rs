//! `/v1/destinations`: where deliveries stand.

use axum::extract::State;
use axum::response::Response;
use lockstep_core::delivery::Counts;
use lockstep_hub::delivery::{Condition, Flow, FlowMode, Waiting};
use lockstep_hub::{DestinationTally, now_us};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::flows::FlowBody;
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
    /// Why it is down and what to do about it. Absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<DownBody>,
    /// How many requests may be under way at once as things are: fewer than configured while its latency rises or
    /// requests fail. Absent where it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<usize>,
    /// How many requests are under way. Absent where it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    under_way: Option<usize>,
    /// How much it gets at the moment. Absent where it is not running.
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<FlowBody>,
    /// Retries that are due and wait, because the retry budget is used up. Absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    retries_held: Option<usize>,
    /// Entities whose events are held until a window ends, or the schedule has its next time. Absent where there are
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<usize>,
    /// Until when the first of them is held (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    held_to: Option<String>,
    /// Entities whose events wait until another one has arrived. Absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<usize>,
    /// Some of them, the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits: Vec<WaitingBody>,
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
    /// Events of which a newer one of the same entity was sent instead, and dead letters overtaken by one.
    superseded: u64,
    /// Those published before it was added, which it was not to have.
    skipped: u64,
    /// Dead letters that were brought in from outside or given up in a replay, whatever has become of them.
    imported: u64,
    /// Every event up to this position is settled.
    cursor: u64,
    /// Events that were taken up and of which nobody knows what became of them: 0 unless conservation is broken.
    unaccounted: i64,
    /// How old the oldest event is that is not settled, in seconds; 0 where there is none.
    lag_s: f64,
    /// That event.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_pending: Option<u64>,
    /// When something was last delivered since the hub started (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_at: Option<String>,
    /// Attempts of the last five minutes, as far as the hub has run.
    attempts_5m: AttemptsBody,
    /// Attempts of the last day, as far as the hub has run.
    attempts_1d: AttemptsBody,
}

/// An event that waits until another entity has arrived.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Waiting)]
pub(crate) struct WaitingBody {
    /// The event.
    event: u64,
    /// Its entity.
    #[schema(example = "price/web:1")]
    entity: String,
    /// What it waits for.
    #[schema(example = "waits for product web:1, which is not published to `shop` yet")]
    reason: String,
    /// Since when it has waited (RFC 3339); after a restart it begins anew.
    #[schema(format = DateTime)]
    since: String,
}

impl From<&Waiting> for WaitingBody {
    fn from(waiting: &Waiting) -> Self {
        let Waiting { event, entity, reason, since_us } = waiting;
        Self { event: *event, entity: entity.clone(), reason: reason.clone(), since: view::time(*since_us) }
    }
}

/// What attempts came to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempts)]
pub(crate) struct AttemptsBody {
    /// Those that the destination confirmed.
    succeeded: u64,
    /// All others.
    failed: u64,
    /// The share of those that succeeded; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    success_ratio: Option<f64>,
}

impl From<Counts> for AttemptsBody {
    fn from(counts: Counts) -> Self {
        Self { succeeded: counts.succeeded, failed: counts.failed, success_ratio: counts.ratio() }
    }
}

/// What came in and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conservation)]
pub(crate) struct ConservationBody {
    /// Whether all sums add up.
    holds: bool,
    /// Those that do not, one sentence each.
    violations: Vec<String>,
    /// All events that the hub has published.
    published: u64,
    /// How many sources and destinations were looked at.
    checked: usize,
}

/// Why a destination gets nothing but single probes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DestinationDown)]
pub(crate) struct DownBody {
    /// `failing`, `failing-share`, `slow` or `throttled`; `unauthorized` (401, 403) or `gone` (410) where it is paused
    /// until a person has done something there.
    cause: &'static str,
    /// What the last attempt came to.
    detail: String,
    /// What an operator can do.
    advice: &'static str,
    /// When the next probe may be sent (RFC 3339).
    #[schema(format = DateTime)]
    next_probe: String,
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
    condition: Option<&Condition>,
    flow: Flow,
    mode: Option<&FlowMode>,
) -> DestinationBody {
    let down = condition.and_then(|condition| condition.down.as_ref());
    DestinationBody {
        name: name.to_owned(),
        running: condition.is_some(),
        down_since: down.map(|down| view::time(down.since_us)),
        down: down.map(|down| DownBody {
            cause: down.cause.name(),
            detail: down.detail.clone(),
            advice: down.cause.advice(),
            next_probe: view::time(down.probe_at_us),
        }),
        concurrency: condition.map(|condition| condition.concurrency),
        under_way: condition.map(|condition| condition.under_way),
        flow: mode.map(FlowBody::from),
        retries_held: condition.map(|condition| condition.retries_held).filter(|held| *held > 0),
        held: condition.map(|condition| condition.held).filter(|held| *held > 0),
        held_to: condition.and_then(|condition| condition.held_to_us).map(view::time),
        waiting: condition.map(|condition| condition.waiting).filter(|waiting| *waiting > 0),
        waits: condition.map(|condition| condition.waits.iter().map(WaitingBody::from).collect()).unwrap_or_default(),
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
        unaccounted: tally.unaccounted(),
        lag_s: flow.lag_us(now_us()) as f64 / 1e6,
        oldest_pending: flow.oldest.map(|(position, _)| position),
        last_success_at: flow.last_success_us.map(view::time),
        attempts_5m: flow.minutes.into(),
        attempts_1d: flow.day.into(),
    }
}

async fn all(api: &Api) -> Result<Vec<DestinationBody>, Problem> {
    let mut tallies = api.hub.stats().tallies();
    let (conditions, modes) = (api.hub.destination_conditions(), api.hub.flow_modes());
    // One that has nothing to report yet has no sums yet.
    for name in conditions.keys() {
        tallies.destinations.entry(name.clone()).or_default();
    }
    let mut list = Vec::with_capacity(tallies.destinations.len());
    for (name, tally) in &tallies.destinations {
        let flow = api.hub.flow(name).await?;
        list.push(body(name, tally, tallies.published, conditions.get(name), flow, modes.get(name)));
    }
    Ok(list)
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
    Ok(view::json(&DestinationList { items: all(&api).await? }))
}

/// Whether everything that came in is accounted for, as the running hub asserts it.
///
/// Where it is not, the hub is not ready. `lockstep delivery audit --data-dir` counts again from the journal.
#[utoipa::path(
    get,
    path = "/v1/conservation",
    operation_id = "getConservation",
    tag = "destinations",
    responses(
        (status = 200, description = "What was found", body = ConservationBody),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn conservation(State(api): State<Api>, _caller: Reader) -> Result<Response, Problem> {
    let tallies = api.hub.stats().tallies();
    let violations = tallies.violations();
    Ok(view::json(&ConservationBody {
        holds: violations.is_empty(),
        violations,
        published: tallies.published,
        checked: tallies.sources.len() + tallies.destinations.len(),
    }))
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
    let Some(body) = all(&api).await?.into_iter().find(|d| d.name == name) else {
        return Err(Problem::new(Code::UnknownDestination, format!("there is no destination `{name}`")));
    };
    Ok(view::json(&body))
}
