//! A call's one message must arrive in time, as a body over HTTP must: a client that sends slowly must not hold what is
//! kept for a call. Streams of messages are as long as they like.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use lockstep_api::{Api, Code, Problem};
use tokio::time::{Instant, Sleep};
use tonic::Status;

use crate::reflection;
use crate::status::status;

/// The paths of the calls to which a client sends a stream.
static STREAMS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let all = reflection::methods();
    all.filter(|(_, method)| method.client_streaming()).map(|(name, _)| format!("/{name}")).collect()
});

/// Gives the body of a call its time, unless it is a stream.
pub(crate) fn limit(api: &Api, request: Request<Incoming>) -> Request<Timely> {
    let is_stream = STREAMS.contains(request.uri().path());
    let within_ms = api.options().body_read_timeout_ms;
    let until = (!is_stream).then(|| Instant::now() + Duration::from_millis(within_ms));
    request.map(|body| Timely { body, within_ms, until, waiting: None })
}

/// A body that must have ended by a time.
pub(crate) struct Timely {
    body: Incoming,
    within_ms: u64,
    /// A stream has none.
    until: Option<Instant>,
    /// Set while it waits: most bodies are there with their headers and need no timer.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(until) = self.until else { return Poll::Pending };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if waiting.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let late: Status =
            status(&Problem::new(Code::BodyTimeout, format!("the message must arrive within {} ms", self.within_ms)));
        Poll::Ready(Some(Err(late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_of_clients_are_known() {
        let mut streams: Vec<_> = STREAMS.iter().map(String::as_str).collect();
        streams.sort_unstable();
        let reflection =
            ["v1", "v1alpha"].map(|v| format!("/grpc.reflection.{v}.ServerReflection/ServerReflectionInfo"));
        assert_eq!(streams, [&reflection[0], &reflection[1], "/lockstep.v1.EventService/PublishStream"]);
    }
}
