//! Ways out: what every kind of destination implements, and what it can rely on.
//!
//! A destination is asked in two steps, so that what it decides is apart from what it does: [`Destination::prepare`]
//! is pure computing and gives the request, or nothing where the destination's filter keeps the event back;
//! [`Destination::send`] is one attempt and gives what it came to. Whether and when there is another attempt is
//! decided by [`lockstep_core::delivery::next`], never here: a destination never retries by itself.
//!
//! [`Outlet`] is the part of `prepare` that all kinds share; [`kit`] is the suite that all kinds pass.

mod filter;
pub mod kit;
mod outlet;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lockstep_core::Event;
use lockstep_core::delivery::AttemptResult;
use thiserror::Error;

pub use filter::Filter;
pub use outlet::Outlet;

/// The most of a response that is kept with an attempt.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 4_096;

/// A way out to one system.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Makes the request for an event, or `None` where the destination's filter keeps it back. Pure computing: the
    /// same event always gives the same request.
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError>;

    /// Whether an event is kept back because its own system has just said the same.
    fn keeps_own_word(&self, _event: &Event) -> bool {
        false
    }

    /// Whether an event is kept back because fields have no value that are required there: the entity is not there then.
    fn is_incomplete(&self, _event: &Event) -> bool {
        false
    }

    /// Makes one attempt. `attempt` counts from 1. It ends within the destination's own time limit, whatever the
    /// other side does.
    async fn send(&self, prepared: &Prepared, attempt: u32) -> Sent;

    /// How it takes several events in one request; nothing where it takes one at a time.
    fn batch(&self) -> Option<BatchLimits> {
        None
    }

    /// Makes one attempt with several events in one request, each of another entity: either all of them arrive or none
    /// does. Where it fails, the hub takes them apart until what is refused stands alone.
    async fn send_batch(&self, prepared: &[Arc<Prepared>], attempt: u32) -> Sent {
        if let [one] = prepared {
            return self.send(one, attempt).await;
        }
        Sent {
            result: AttemptResult::Rejected,
            status: 0,
            detail: "this kind of destination takes one event at a time".to_owned(),
            response_head: String::new(),
            duration_us: 0,
        }
    }
}

/// How a destination takes several events in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most events in a request.
    pub events_max: usize,
    /// A request has enough once its events have so many bytes.
    pub bytes_max: usize,
    /// How long an event may wait for others to go with it.
    pub window_ms: u64,
}

/// A request, ready to be sent as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The event's id: the idempotency key of every attempt.
    pub id: String,
    /// What is sent.
    pub body: Bytes,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The W3C `traceparent` to carry on.
    pub trace: Option<String>,
    /// The replay that it is sent for, so that the receiver can tell; none where it goes its own way.
    pub replay: Option<String>,
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The class of the result, which decides what follows.
    pub result: AttemptResult,
    /// The HTTP status; 0 where there was none.
    pub status: u16,
    /// What happened, in one sentence for a person.
    pub detail: String,
    /// The beginning of the response's body.
    pub response_head: String,
    /// How long the attempt took.
    pub duration_us: u64,
}

/// Why an event cannot be made into a request. The event is a dead letter at once: trying again gives the same.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the event can't be mapped: {message}{}", at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default())]
pub struct PrepareError {
    /// What went wrong.
    pub message: String,
    /// Where, for example `maps/erp.vrl:12`, where that is known.
    pub at: Option<String>,
}
