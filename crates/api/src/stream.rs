//! `GET /v1/stream`: events as they become durable, as server-sent events.
//!
//! Nothing is queued for a reader: what it has not taken yet stays in the journal. One that falls behind too far,
//! or takes no byte for too long, is cut off and can come back with `Last-Event-ID`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderValue, header};
use lockstep_connect::cloudevents;
use lockstep_core::{Event, Position};
use lockstep_hub::{EventFilter, EventStream, StreamItem};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::auth::Reader;
use crate::intake::Patience;
use crate::params::Params;
use crate::problem::{Problem, ProblemBody};
use crate::{Api, events};

/// What is given to the connection at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// What a client is to wait before it comes back.
const OPENING: &str = "retry: 1000\n\n";

/// Events as they happen, without end (server-sent events).
///
/// Each has its position as `id`, its type as `event` and the CloudEvent as `data`. When the reader is cut off,
/// the last event is `error` with a problem as its data, where it can still be sent.
#[utoipa::path(
    get,
    path = "/v1/stream",
    operation_id = "streamEvents",
    tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "First the events after this position; absent: from now on"),
        ("kind" = Option<String>, Query, description = "Only entities of this kind"),
        ("key" = Option<String>, Query, description = "Only the entity with this key; needs `kind`"),
        ("type" = Option<String>, Query, description = "Only events of this type"),
        ("Last-Event-ID" = Option<String>, Header, description = "Like `after`, and stronger: what a client sends when it comes back"),
    ),
    responses(
        (status = 200, description = "Events, for ever", body = String, content_type = "text/event-stream"),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "That part of the journal is no longer kept", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn stream(
    State(api): State<Api>,
    _caller: Reader,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.only(&["after", "kind", "key", "type"])?;
    let filter = events::filter(&params)?;
    let after = match last_event_id(&headers)? {
        Some(after) => {
            events::check_after(&api, "Last-Event-ID", after)?;
            after
        }
        None => match params.position("after")? {
            Some(after) => {
                events::check_after(&api, "after", after)?;
                after
            }
            None => api.hub.bounds().next - 1,
        },
    };
    let stream = api.hub.stream(after);
    let heartbeat = Duration::from_millis(api.options.stream_heartbeat_ms);
    let reading = Reading {
        patience: Patience::new(&stream, api.options.stream_behind_max),
        stream,
        filter,
        pending: Vec::new().into_iter(),
        said: after,
        beat_at: Instant::now() + heartbeat,
        heartbeat,
        closing: api.closing.subscribe(),
        api,
        opened: false,
    };
    let chunks = unfold(Some(reading), |reading| async { reading?.step().await });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // A reader that is cut off is to notice at once.
        (header::CONNECTION, HeaderValue::from_static("close")),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let position = value.to_str().ok().and_then(|v| v.trim().parse().ok()).filter(|p| *p <= i64::MAX as u64);
    match position {
        Some(position) => Ok(Some(position)),
        None => {
            Err(Problem::header("Last-Event-ID", "`Last-Event-ID` must be the id of an event, which is its position"))
        }
    }
}

struct Reading {
    api: Api,
    stream: EventStream,
    filter: EventFilter,
    /// Events of the batch at hand that are not yet written; the batch is shared with the hub's own memory.
    pending: std::vec::IntoIter<Arc<Event>>,
    /// The position that the client knows.
    said: Position,
    patience: Patience,
    heartbeat: Duration,
    beat_at: Instant,
    closing: watch::Receiver<bool>,
    opened: bool,
}

type Step = Option<(Result<Bytes, Infallible>, Option<Reading>)>;

impl Reading {
    async fn step(mut self) -> Step {
        if !self.opened {
            self.opened = true;
            return self.go_on(OPENING);
        }
        loop {
            if *self.closing.borrow() {
                return None;
            }
            if let Err(problem) = self.patience.check(&self.stream, self.said, "Last-Event-ID") {
                return end(&problem);
            }
            if let Some(chunk) = self.chunk() {
                self.beat_at = Instant::now() + self.heartbeat;
                return self.go_on(chunk);
            }
            let woken = tokio::select! {
                biased;
                // The sender lives as long as the api.
                _ = self.closing.wait_for(|closing| *closing) => return None,
                item = self.stream.next() => Some(item),
                () = tokio::time::sleep_until(self.beat_at) => None,
            };
            match woken {
                Some(Ok(StreamItem::Events(events))) => self.pending = events.into_iter(),
                Some(Err(error)) => {
                    tracing::error!(error = crate::problem::chain(&error), "a stream could not read the journal");
                    return end(&error.into());
                }
                None => {
                    self.beat_at = Instant::now() + self.heartbeat;
                    let beat = self.beat();
                    return self.go_on(beat);
                }
            }
        }
    }

    fn go_on(self, chunk: impl Into<Bytes>) -> Step {
        Some((Ok(chunk.into()), Some(self)))
    }

    /// The next events that pass, up to about [`CHUNK_BYTES`].
    fn chunk(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        for event in self.pending.by_ref().filter(|event| self.filter.passes(event)) {
            write_event(&mut out, &event, &self.api.hub_source);
            self.said = event.position;
            if out.len() >= CHUNK_BYTES {
                break;
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// A comment; with the position where the filter has passed over events meanwhile, so that a client which
    /// comes back does not read them all again.
    fn beat(&mut self) -> String {
        let position = self.stream.position();
        if position <= self.said {
            return ": heartbeat\n\n".to_owned();
        }
        self.said = position;
        format!("id: {position}\n: heartbeat\n\n")
    }
}

fn write_event(out: &mut Vec<u8>, event: &Event, hub_source: &str) {
    out.extend_from_slice(format!("id: {}\nevent: {}\ndata: ", event.position, event.fact.event_type).as_bytes());
    // Compact JSON has no line break.
    out.extend_from_slice(&cloudevents::to_structured(event, hub_source));
    out.extend_from_slice(b"\n\n");
}

/// The last thing that a reader hears.
fn end(problem: &Problem) -> Step {
    Some((Ok(format!("event: error\ndata: {}\n\n", problem.to_json(None)).into()), None))
}
