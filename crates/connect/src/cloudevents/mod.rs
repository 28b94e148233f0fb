//! CloudEvents 1.0 over HTTP, both ways.
//!
//! In: [`parse`] reads a request in structured, batched or binary mode, and gives the change that each event
//! proposes. What is asked of an event beyond the standard:
//!
//! | attribute | means |
//! |---|---|
//! | `type` | `<kind>.<verb>`, for example `price.changed`; the kind counts, the verb is the sender's business |
//! | `subject` | `<kind>/<key>`: the entity |
//! | `source`, `id` | together the event's identity: a repetition of both is a duplicate |
//! | `time` | when it happened by the sender's clock; without it, the moment of receipt |
//! | `data` | a JSON object: the fields that the sender speaks of |
//! | `sequence` | the sender's own version of the document, a whole number or its decimal digits |
//! | `expectedversion` | the entity's version that the sender believes current; another one refuses the change |
//! | `traceparent` | the W3C trace to carry on; without it, the request's own header |
//!
//! [`parse_messages`] does the same for events whose attributes are the fields of a message.
//!
//! Out: [`to_structured`] writes an event of the hub.

mod envelope;
mod incoming;
mod message;
mod outgoing;

use thiserror::Error;

pub use incoming::{Check, IncomingEvent, Limits, Mode, Parsed, parse};
pub use message::{MessageEvent, parse_messages};
pub use outgoing::{STRUCTURED, to_structured};

/// Why a request is not a CloudEvent that proposes a change. Nothing of the request was taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}{detail}", at(.pointer))]
pub struct CloudEventsError {
    /// A stable code: `media-type`, `not-json`, `not-an-event`, `too-many-events`, `attribute-missing`,
    /// `attribute-invalid`, `data-invalid`, `change-invalid` or `schema`.
    pub code: &'static str,
    /// Where: a JSON pointer into the body such as `/3/subject`, or a header such as `ce-subject`. Empty where
    /// it is about the whole body.
    pub pointer: String,
    /// What would be right, in one sentence.
    pub detail: String,
}

fn at(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!("`{pointer}`: ") }
}

impl CloudEventsError {
    fn new(code: &'static str, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code, pointer: pointer.into(), detail: detail.into() }
    }

    /// Something about one attribute, which the sentence names: `rule` is the rest of it.
    fn attribute(code: &'static str, place: envelope::Place, name: &str, rule: &str) -> Self {
        Self::new(code, place.attribute(name), format!("{} {rule}", place.named(name)))
    }
}
