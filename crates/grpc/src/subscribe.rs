//! `Subscribe`: events after a position, then live.
//!
//! A task reads for its client and holds one response at most that was not taken: what follows stays in the journal.
//! So it also notices when nothing is taken at all, which the answer itself can't: nobody asks it for more then.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use lockstep_api::intake::{Patience, event_filter};
use lockstep_api::{Api, Code, Problem};
use lockstep_core::{Event, Position};
use lockstep_hub::{EventFilter, EventStream, StreamItem, Unavailable};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::Status;

use crate::convert::published;
use crate::status::status;
use crate::v1;

/// About what one response holds.
const RESPONSE_BYTES: usize = 64 * 1024;
/// What an event takes beside its document.
const ENVELOPE_BYTES: usize = 256;
/// How often it is looked how far behind a reader is that takes nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The answer to a subscription.
pub(crate) type Subscription = Pin<Box<dyn Stream<Item = Result<v1::SubscribeResponse, Status>> + Send>>;

/// Begins a subscription.
pub(crate) fn begin(api: &Api, request: v1::SubscribeRequest) -> Result<Subscription, Problem> {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let filter = event_filter(text(request.kind), text(request.key), text(request.r#type))?;
    let after = match request.after_position {
        Some(after) => {
            api.check_after("after_position", after)?;
            after
        }
        None => api.hub().bounds().next - 1,
    };
    let stream = api.hub().stream(after);
    let heartbeat = Duration::from_millis(api.options().stream_heartbeat_ms);
    let reading = Reading {
        patience: Patience::new(&stream, api.options().stream_behind_max),
        stream,
        filter,
        pending: Vec::new().into_iter(),
        said: after,
        heartbeat,
        beat_at: Instant::now() + heartbeat,
        closing: api.closing(),
        api: api.clone(),
    };
    let (responses, taken) = mpsc::channel(1);
    let (last_word, end) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(end) = reading.run(responses).await {
            // Where nobody listens any more, nobody needs to know.
            let _ = last_word.send(end);
        }
    });
    let answer = unfold(Some((taken, end)), |state| async {
        let (mut taken, end) = state?;
        match taken.recv().await {
            Some(response) => Some((Ok(response), Some((taken, end)))),
            // The task has ended, so its last word is there or never will be.
            None => end.await.ok().map(|end| (Err(end), None)),
        }
    });
    Ok(Box::pin(answer))
}

struct Reading {
    api: Api,
    stream: EventStream,
    filter: EventFilter,
    /// Events of the batch at hand that are not yet given; the batch is shared with the hub's own memory.
    pending: std::vec::IntoIter<Arc<Event>>,
    /// The position that the client knows.
    said: Position,
    patience: Patience,
    heartbeat: Duration,
    beat_at: Instant,
    closing: watch::Receiver<bool>,
}

impl Reading {
    /// Runs until the client has gone, or ends with what it is told.
    async fn run(mut self, responses: mpsc::Sender<v1::SubscribeResponse>) -> Result<(), Status> {
        let opening = v1::SubscribeResponse { events: Vec::new(), position: self.said };
        self.give(&responses, opening).await?;
        loop {
            let response = tokio::select! {
                biased;
                () = responses.closed() => return Ok(()),
                response = self.next() => response?,
            };
            self.said = response.position;
            self.beat_at = Instant::now() + self.heartbeat;
            self.give(&responses, response).await?;
        }
    }

    /// Waits until there is room for the response, as long as the client is worth waiting for.
    async fn give(
        &mut self,
        responses: &mpsc::Sender<v1::SubscribeResponse>,
        response: v1::SubscribeResponse,
    ) -> Result<(), Status> {
        let patience_ms = self.api.options().write_timeout_ms;
        let until = Instant::now() + Duration::from_millis(patience_ms);
        loop {
            tokio::select! {
                biased;
                permit = responses.reserve() => {
                    if let Ok(permit) = permit {
                        permit.send(response);
                    }
                    // Otherwise the client has gone, which the next look at it tells.
                    return Ok(());
                }
                _ = self.closing.wait_for(|closing| *closing) => return Err(shutting_down()),
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            self.check_pace()?;
            if Instant::now() >= until {
                let detail = format!(
                    "the reader took nothing for {patience_ms} ms: come back with the `after_position` that you have"
                );
                return Err(status(&Problem::new(Code::TooSlow, detail)));
            }
        }
    }

    fn check_pace(&mut self) -> Result<(), Status> {
        let checked = self.patience.check(&self.stream, self.said, "after_position");
        checked.map_err(|problem| status(&problem))
    }

    /// The next response.
    async fn next(&mut self) -> Result<v1::SubscribeResponse, Status> {
        loop {
            self.check_pace()?;
            if let Some(response) = self.response() {
                return Ok(response);
            }
            tokio::select! {
                biased;
                // The sender lives as long as the api.
                _ = self.closing.wait_for(|closing| *closing) => return Err(shutting_down()),
                item = self.stream.next() => match item {
                    Ok(StreamItem::Events(events)) => self.pending = events.into_iter(),
                    Err(error) => return Err(status(&error.into())),
                },
                () = tokio::time::sleep_until(self.beat_at) => {
                    self.beat_at = Instant::now() + self.heartbeat;
                    // HTTP/2 keeps the connection alive: only what was passed over is worth telling.
                    if self.stream.position() > self.said {
                        return Ok(v1::SubscribeResponse { events: Vec::new(), position: self.stream.position() });
                    }
                }
            }
        }
    }

    /// The next events that pass, up to about [`RESPONSE_BYTES`].
    fn response(&mut self) -> Option<v1::SubscribeResponse> {
        let mut events = Vec::new();
        let mut bytes = 0;
        for event in self.pending.by_ref().filter(|event| self.filter.passes(event)) {
            let event = published(&event, self.api.hub_source());
            bytes += ENVELOPE_BYTES + event.document_json.len();
            events.push(event);
            if bytes >= RESPONSE_BYTES {
                break;
            }
        }
        let position = events.last()?.position;
        Some(v1::SubscribeResponse { events, position })
    }
}

fn shutting_down() -> Status {
    status(&Unavailable::ShuttingDown.into())
}
