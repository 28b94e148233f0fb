//! From an event to a request: filter, then mapping.

use bytes::Bytes;
use lockstep_core::Event;

use super::{Filter, PrepareError, Prepared};
use crate::cloudevents::{STRUCTURED, to_structured};

/// How events become requests for one destination: what all kinds of destinations share.
///
/// Without a mapping, what is sent is the CloudEvent. With one, the mapping gets that CloudEvent as its target, and
/// what it comes to is sent as JSON; a mapping that comes to `null` keeps the event back.
pub struct Outlet {
    hub_source: String,
    filter: Filter,
}

impl Outlet {
    /// An outlet without programs. `hub_source` is the `source` of the CloudEvents.
    pub fn new(hub_source: impl Into<String>, filter: Filter) -> Self {
        Self { hub_source: hub_source.into(), filter }
    }

    /// Makes the request for an event, or `None` where it is kept back.
    pub fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        if !self.filter.lets_through(event) {
            return Ok(None);
        }
        let structured = to_structured(event, &self.hub_source);
        let prepared = |body: Bytes, content_type| Prepared {
            id: event.position.to_string(),
            body,
            content_type,
            trace: Some(&event.fact.trace).filter(|trace| !trace.is_empty()).cloned(),
        };
        Ok(Some(prepared(structured, STRUCTURED)))
    }
}
