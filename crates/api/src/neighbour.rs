//! What the server of another protocol needs of this one: the same keys, the same way in, the same limits.

use std::sync::Arc;

use http::HeaderMap;
use lockstep_connect::cloudevents::{self, IncomingEvent, Limits, MessageEvent};
use lockstep_core::{Input, Position};
use lockstep_hub::HubHandle;
use tokio::sync::watch;

use crate::intake::{self, Request};
use crate::keys::{Key, Scope};
use crate::options::ApiOptions;
use crate::problem::Problem;
use crate::trace::Trace;
use crate::{Api, auth, events};

impl Api {
    /// The key of a request, where it has the scope. `headers` may be the metadata of a call.
    pub fn authorize(&self, headers: &HeaderMap, scope: Scope) -> Result<Arc<Key>, Problem> {
        auth::authorize(headers, self, scope)
    }

    /// Reads events that came as messages. All of them are good, or the first bad one is the answer.
    pub fn read_messages<'a>(
        &self,
        messages: impl ExactSizeIterator<Item = MessageEvent<'a>>,
        request: &Request,
    ) -> Result<Vec<IncomingEvent>, Problem> {
        let limits = Limits { events_max: self.options.events_max };
        let trace = Some(request.trace.as_str());
        Ok(cloudevents::parse_messages(messages, &limits, request.received_at_us, trace, &*self.schemas)?)
    }

    /// The inputs that a key's events are to the hub.
    pub fn inputs(&self, key: &Key, events: Vec<IncomingEvent>, request: &Request) -> Result<Vec<Input>, Problem> {
        Ok(intake::inputs(events, auth::speaks_for(key)?, request))
    }

    /// Refuses a position that is no longer kept or does not exist yet, of the parameter with this name.
    pub fn check_after(&self, name: &str, after: Position) -> Result<(), Problem> {
        events::check_after(self, name, after)
    }

    /// Counts a gRPC call for `/metrics`. Only calls that there are may be named.
    pub fn count_call(&self, call: &str, status: u16) {
        self.http.count_call(call, status);
    }

    /// The hub.
    pub fn hub(&self) -> &HubHandle {
        &self.hub
    }

    /// The hub as the `source` of its events.
    pub fn hub_source(&self) -> &str {
        &self.hub_source
    }

    /// The limits.
    pub fn options(&self) -> &ApiOptions {
        &self.options
    }

    /// Becomes true when the server stops: endless answers end.
    pub fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }
}

/// The request's `traceparent`, or a new one where it has none that is valid.
pub fn trace_of(headers: &HeaderMap) -> String {
    Trace::of(headers).into_string()
}
