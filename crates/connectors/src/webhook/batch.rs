//! Several events in one request: a JSON array of what would be sent one by one.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_connect::destination::{BatchLimits, Prepared};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most events in a request: their ids stand in a header, and servers take 8 KB of headers.
pub(super) const EVENTS_MAX: u32 = 500;
/// The longest wait for others.
pub(super) const WINDOW_MS_MAX: u64 = 60_000;
/// The most bytes of a request.
pub(super) const BYTES_MAX: u64 = 64 * 1_024 * 1_024;

/// Several events in one request. The receiver takes all of them or none: a request that it refuses is taken apart until the
/// event that it means stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// The most events in a request, each of another entity.
    #[schemars(range(min = 1, max = EVENTS_MAX))]
    pub max: u32,
    /// How many milliseconds an event may wait for others to go with it.
    #[schemars(range(max = WINDOW_MS_MAX))]
    pub window_ms: u64,
    /// A request has enough once its events have so many bytes.
    #[schemars(range(min = 1, max = BYTES_MAX))]
    pub bytes_max: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self { max: 100, window_ms: 20, bytes_max: 1_024 * 1_024 }
    }
}

impl From<Batch> for BatchLimits {
    fn from(batch: Batch) -> Self {
        Self { events_max: batch.max as usize, bytes_max: batch.bytes_max as usize, window_ms: batch.window_ms }
    }
}

/// One request of several, and the ids of its events in their order.
pub(super) fn together(prepared: &[Arc<Prepared>]) -> (Prepared, String) {
    let bytes = prepared.iter().map(|one| one.body.len() + 1).sum::<usize>() + 1;
    let (mut body, mut ids) = (Vec::with_capacity(bytes), String::new());
    body.push(b'[');
    for (at, one) in prepared.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        body.extend_from_slice(comma.as_bytes());
        body.extend_from_slice(&one.body);
        // Writing into a string can't fail.
        let _ = write!(ids, "{comma}{}", one.id);
    }
    body.push(b']');
    let are_events = prepared.iter().all(|one| one.content_type == "application/cloudevents+json");
    let content_type = if are_events { "application/cloudevents-batch+json" } else { "application/json" };
    // The same events together have the same id, so that a repetition is known; one alone has its own.
    let id = match prepared {
        [one] => one.id.clone(),
        _ => format!("batch-{:016x}", xxhash_rust::xxh3::xxh3_64(ids.as_bytes())),
    };
    let trace = prepared.first().and_then(|one| one.trace.clone());
    // Each event says of itself whether it is replayed; the request only where all of them are.
    let replay = prepared.first().and_then(|one| one.replay.clone());
    let replay = replay.filter(|replay| prepared.iter().all(|one| one.replay.as_ref() == Some(replay)));
    (Prepared { id, body: Bytes::from(body), content_type, trace, replay }, ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str, body: &'static str, content_type: &'static str) -> Arc<Prepared> {
        let (id, body) = (id.to_owned(), Bytes::from_static(body.as_bytes()));
        Arc::new(Prepared { id, body, content_type, trace: None, replay: None })
    }

    #[test]
    fn events_stand_in_an_array_and_the_same_ones_have_the_same_id() {
        let event = "application/cloudevents+json";
        let (first, second) = (one("7", r#"{"id":"7"}"#, event), one("9", r#"{"id":"9"}"#, event));
        let (request, ids) = together(&[first.clone(), second.clone()]);
        assert_eq!((request.body.as_ref(), ids.as_str()), (&br#"[{"id":"7"},{"id":"9"}]"#[..], "7,9"));
        assert_eq!(request.content_type, "application/cloudevents-batch+json");
        assert_eq!(together(&[first.clone(), second.clone()]).0.id, request.id);
        assert_ne!(together(&[second, first.clone()]).0.id, request.id);
        let (alone, ids) = together(&[first]);
        assert_eq!((alone.id.as_str(), alone.body.as_ref(), ids.as_str()), ("7", &br#"[{"id":"7"}]"#[..], "7"));
        let mapped = together(&[one("7", "1", "application/json"), one("9", "2", "application/json")]).0;
        assert_eq!((mapped.body.as_ref(), mapped.content_type), (&b"[1,2]"[..], "application/json"));
    }
}
