//! `/v1/events/{position}/propagation`: where an event stands at each destination, once and as it changes.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderValue, header};
use lockstep_core::Event;
use lockstep_hub::delivery::{Propagated, PropagationError, Standing, Watch};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, entities, view};

/// How often a stream looks for what no runner says: a dead letter that a person has given up.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where an event stands at one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Standing)]
pub(crate) struct StandingBody {
    /// The destination.
    destination: String,
    /// `delivered`; `pending`: to be sent, or under way; `parked`: its entity waits for a retry, or until something
    /// else has arrived, see `reason`; `dead`: given up, see `dead_letter`; `filtered`: the filter keeps it back, or
    /// its own system has said it; `superseded`: a newer event of its entity is sent instead, or it was a dead letter
    /// and something newer was delivered; `discarded`: it was a dead letter that a person gave up; `skipped`: published
    /// before the destination was added, which was not to have it; `settled`: one of these that are final, which one is
    /// not kept (the destination does not run any more, or a dead letter's end is too far away).
    #[schema(example = "delivered")]
    state: &'static str,
    /// Whether deliveries to the destination are running.
    running: bool,
    /// When it came to that (RFC 3339), where the hub remembers it: it does for the last 4096 events of each
    /// destination since its start, and for dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    /// When it had come to that at the latest (RFC 3339), where only the journal tells, which keeps progress and not
    /// the time of each delivery. Then `delivered` and `filtered` are told apart by the filter as it is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Since when the destination counts as down (RFC 3339), where it does and the event is not settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    down_since: Option<String>,
    /// How often it was tried, where it is parked or dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// When the next attempt is due (RFC 3339), where it is parked; later where the destination is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    /// The event of the same entity that is tried again first, where it is parked behind another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<u64>,
    /// The newer event that is sent instead, where it is superseded and the hub remembers it: ask for that one's
    /// propagation.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<u64>,
    /// What came of the last attempt, what it waits for, or why it is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The path of its dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<String>,
}

/// Where an event stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Propagation)]
pub(crate) struct PropagationBody {
    /// The event.
    position: u64,
    /// Its type.
    #[serde(rename = "type")]
    event_type: String,
    /// Its entity's kind.
    kind: String,
    /// Its entity's key.
    key: String,
    /// When the hub decided it (RFC 3339).
    recorded_at: String,
    /// Whether it is settled everywhere: nothing is pending or parked.
    complete: bool,
    /// Each destination that there is or was, by name.
    destinations: Vec<StandingBody>,
}

impl From<Propagated> for StandingBody {
    fn from(told: Propagated) -> Self {
        let Propagated { destination, running, down_since_us, standing, at_us, by_us } = told;
        let settled = standing.is_settled();
        let mut body = Self {
            destination,
            state: state(&standing),
            running,
            at: at_us.map(view::time),
            by: by_us.map(view::time),
            down_since: down_since_us.filter(|_| !settled).map(view::time),
            attempts: None,
            next_attempt_at: None,
            behind: None,
            superseded_by: None,
            reason: None,
            dead_letter: None,
        };
        match standing {
            Standing::Parked(parked) => {
                // Of one that waits for something else none was made, and when the next one is due nobody knows.
                let is_retry = parked.attempts > 0;
                body.attempts = Some(parked.attempts);
                body.next_attempt_at = is_retry.then(|| view::time(parked.next_us));
                body.reason = Some(parked.detail);
                body.behind = Some(parked.position);
            }
            Standing::Superseded { by } => body.superseded_by = by,
            Standing::Dead(row) => {
                body.attempts = Some(row.attempts);
                body.reason = Some(row.reason);
                body.dead_letter = Some(format!("/v1/dead-letters/{}/{}", row.destination, row.event));
            }
            _ => {}
        }
        body
    }
}

impl StandingBody {
    /// Of this event: what is tried again may be the event itself.
    pub(crate) fn of(told: Propagated, event: u64) -> Self {
        let mut body = Self::from(told);
        body.behind = body.behind.filter(|head| *head != event);
        body
    }

    fn is_settled(&self) -> bool {
        !matches!(self.state, "pending" | "parked")
    }
}

fn state(standing: &Standing) -> &'static str {
    match standing {
        Standing::Delivered => "delivered",
        Standing::Pending => "pending",
        Standing::Parked(_) => "parked",
        Standing::Dead(_) => "dead",
        Standing::Filtered => "filtered",
        Standing::Superseded { .. } => "superseded",
        Standing::Discarded => "discarded",
        Standing::Skipped => "skipped",
        Standing::Settled => "settled",
    }
}

impl From<PropagationError> for Problem {
    fn from(error: PropagationError) -> Self {
        match error {
            PropagationError::Read(error) => error.into(),
            PropagationError::Hub(error) => error.into(),
        }
    }
}

async fn event_at(api: &Api, position: &str) -> Result<Event, Problem> {
    let position = entities::position(position)?;
    let event = api.hub.record(position).await?.and_then(|record| Event::of(position, record));
    event.ok_or_else(|| {
        let detail = format!("no event was published at position {position}, or it is no longer kept");
        Problem::new(Code::UnknownEvent, detail)
    })
}

fn body(event: &Event, destinations: Vec<StandingBody>) -> PropagationBody {
    PropagationBody {
        position: event.position,
        event_type: event.fact.event_type.clone(),
        kind: event.fact.kind.clone(),
        key: event.fact.key.clone(),
        recorded_at: view::time(event.recorded_at_us),
        complete: destinations.iter().all(StandingBody::is_settled),
        destinations,
    }
}

/// Where an event stands at each destination.
#[utoipa::path(
    get,
    path = "/v1/events/{position}/propagation",
    operation_id = "getPropagation",
    tag = "events",
    params(("position" = u64, Path, description = "The event's position, which is its id")),
    responses(
        (status = 200, description = "Where it stands", body = PropagationBody),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no event at this position", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(position): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let event = event_at(&api, &position).await?;
    let told = api.hub.propagation(&event).await?;
    let standings = told.into_iter().map(|told| StandingBody::of(told, event.position)).collect();
    Ok(view::json(&body(&event, standings)))
}

/// Where an event stands at each destination, again whenever that changes (server-sent events).
///
/// Each has the event `propagation` and the same body as a question for it. The stream ends when the event is settled
/// everywhere; the last one says so with `complete`.
#[utoipa::path(
    get,
    path = "/v1/events/{position}/propagation/stream",
    operation_id = "streamPropagation",
    tag = "events",
    params(("position" = u64, Path, description = "The event's position, which is its id")),
    responses(
        (status = 200, description = "Where it stands, until it is settled everywhere", body = String, content_type = "text/event-stream"),
        (status = 400, description = "Not a position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no event at this position", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many wait for events already", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn stream(
    State(api): State<Api>,
    _caller: Reader,
    Segments(position): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let event = event_at(&api, &position).await?;
    let watch = api.hub.watch_event(event.position, &api.hub.destinations());
    let Some(watch) = watch else {
        return Err(Problem::new(Code::Saturated, "too many wait for events already: try again later"));
    };
    let heartbeat = Duration::from_millis(api.options.stream_heartbeat_ms);
    let following = Following {
        closing: api.closing.subscribe(),
        api,
        event,
        watch,
        said: None,
        heartbeat,
        beat_at: Instant::now() + heartbeat,
    };
    let chunks = unfold(Some(following), |following| async { following?.step().await });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONNECTION, HeaderValue::from_static("close")),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

struct Following {
    api: Api,
    event: Event,
    watch: Watch,
    said: Option<PropagationBody>,
    heartbeat: Duration,
    beat_at: Instant,
    closing: watch::Receiver<bool>,
}

type Step = Option<(Result<Bytes, Infallible>, Option<Following>)>;

impl Following {
    async fn step(mut self) -> Step {
        loop {
            if *self.closing.borrow() || self.said.as_ref().is_some_and(|said| said.complete) {
                return None;
            }
            let now = match self.look().await {
                Ok(now) => now,
                Err(problem) => {
                    return Some((Ok(format!("event: error\ndata: {}\n\n", problem.to_json(None)).into()), None));
                }
            };
            if self.said.as_ref() != Some(&now) {
                let json = serde_json::to_string(&now).unwrap_or_default();
                self.said = Some(now);
                self.beat_at = Instant::now() + self.heartbeat;
                return Some((Ok(format!("event: propagation\ndata: {json}\n\n").into()), Some(self)));
            }
            if Instant::now() >= self.beat_at {
                self.beat_at = Instant::now() + self.heartbeat;
                return Some((Ok(Bytes::from_static(b": heartbeat\n\n")), Some(self)));
            }
            tokio::select! {
                biased;
                _ = self.closing.wait_for(|closing| *closing) => return None,
                () = self.watch.changed() => {}
                () = tokio::time::sleep_until(self.beat_at.min(Instant::now() + LOOK_EVERY)) => {}
            }
        }
    }

    /// Where it stands now. What was settled stays so, and is not looked up again.
    async fn look(&self) -> Result<PropagationBody, Problem> {
        let Some(said) = &self.said else {
            let told = self.api.hub.propagation(&self.event).await?;
            let standings = told.into_iter().map(|told| StandingBody::of(told, self.event.position));
            return Ok(body(&self.event, standings.collect()));
        };
        let mut now = said.destinations.clone();
        for standing in now.iter_mut().filter(|standing| !standing.is_settled()) {
            let told = self.api.hub.propagation_at(&self.event, &standing.destination).await?;
            *standing = StandingBody::of(told, self.event.position);
        }
        Ok(body(&self.event, now))
    }
}
