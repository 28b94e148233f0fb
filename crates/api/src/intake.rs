//! What is the same of events whichever protocol they come and go by.

use lockstep_connect::cloudevents::IncomingEvent;
use lockstep_core::{Input, InputBody, Position, Refusal};
use lockstep_hub::{Answer, EventFilter, EventStream};

use crate::problem::{Code, Problem};

/// What the events of one request have in common.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request's own idempotency key, with the hash of its content.
    pub request_key: Option<(String, u64)>,
    /// When it was received, microseconds since 1970 UTC.
    pub received_at_us: i64,
    /// The W3C trace of events that have none of their own.
    pub trace: String,
}

/// The inputs of a request's events. `caller` is the way in and the system that the key speaks for.
pub(crate) fn inputs(events: Vec<IncomingEvent>, caller: (&str, &str), request: &Request) -> Vec<Input> {
    let (source, system) = caller;
    let input = |event: IncomingEvent| Input {
        source: source.to_owned(),
        system: system.to_owned(),
        delivery: [event.source.as_str(), "|", event.id.as_str()].concat(),
        payload_hash: event.payload_hash,
        reject_reuse: true,
        // On every one of them: were it on the first alone, a reused key would refuse that one and let the rest in.
        request_key: request.request_key.clone(),
        received_at_us: request.received_at_us,
        trace: Some(event.traceparent.unwrap_or_else(|| request.trace.clone())),
        raw: None,
        body: InputBody::Changes(vec![event.change]),
        releases: None,
    };
    events.into_iter().map(input).collect()
}

/// Where nothing of a request was taken, the request as a whole was refused: for this.
pub fn refusal_of_all(answers: &[Answer]) -> Option<&Refusal> {
    let first = answers.first()?.as_ref().err()?;
    answers.iter().all(Result::is_err).then_some(first)
}

/// Whether a text can be the key of a request.
pub fn is_request_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && !key.contains('"') && key.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// A filter of published events.
pub fn event_filter(
    kind: Option<String>,
    key: Option<String>,
    event_type: Option<String>,
) -> Result<EventFilter, Problem> {
    if key.is_some() && kind.is_none() {
        return Err(Problem::parameter("key", "`key` needs `kind` with it: keys are unique within a kind only"));
    }
    Ok(EventFilter { kind, key, event_type })
}

/// How far a reader may fall back: who starts far behind may catch up in peace, but not fall back further.
#[derive(Debug)]
pub struct Patience {
    least_behind: u64,
    behind_max: u64,
}

impl Patience {
    /// For a reader of this stream, which may fall back by so many records.
    pub fn new(stream: &EventStream, behind_max: u64) -> Self {
        Self { least_behind: stream.behind(), behind_max }
    }

    /// Why the reader is to be cut off, where it is too slow. `said` is the position that it knows, `again` says how
    /// it comes back.
    pub fn check(&mut self, stream: &EventStream, said: Position, again: &str) -> Result<(), Problem> {
        let behind = stream.behind();
        self.least_behind = self.least_behind.min(behind);
        if behind <= self.least_behind.saturating_add(self.behind_max) {
            return Ok(());
        }
        tracing::info!(behind, position = said, "a stream's reader was too slow and was cut off");
        let detail = format!("the reader is {behind} records behind: come back with `{again}: {said}`");
        Err(Problem::new(Code::TooSlow, detail))
    }
}
