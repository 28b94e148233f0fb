//! Events that come as messages with typed fields, as over gRPC, become the changes that they propose: by the same
//! checks as those in JSON or headers, and with the same hash, so that an event is known again whichever way it came.

use std::borrow::Cow;

use super::CloudEventsError;
use super::envelope::{Attribute, Envelope, Item, Place, is_traceparent};
use super::incoming::{Check, IncomingEvent, Intake, Limits, too_many};
use crate::time::format_rfc3339;

/// An event as a message has it. A text that is empty was not given.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageEvent<'a> {
    /// With `source` its identity.
    pub id: &'a str,
    /// Where it comes from.
    pub source: &'a str,
    /// Its type, `<kind>.<verb>`.
    pub event_type: &'a str,
    /// The entity, `<kind>/<key>`.
    pub subject: &'a str,
    /// When it happened by the sender's clock, microseconds since 1970 UTC.
    pub time_us: Option<i64>,
    /// The sender's own version of the document.
    pub sequence: Option<u64>,
    /// The version that the sender believes current.
    pub expected_version: Option<u64>,
    /// The W3C trace to carry on.
    pub traceparent: &'a str,
    /// The fields that it speaks of, a JSON object.
    pub data_json: &'a str,
}

/// Reads a request's events. All of them are good, or the first bad one refuses the request.
///
/// `traceparent` is the request's own trace, for events without one.
pub fn parse_messages<'a, V: Check>(
    events: impl ExactSizeIterator<Item = MessageEvent<'a>>,
    limits: &Limits,
    received_at_us: i64,
    traceparent: Option<&str>,
    check: V,
) -> Result<Vec<IncomingEvent>, CloudEventsError> {
    if events.len() > limits.events_max {
        return Err(too_many(limits.events_max));
    }
    let mut intake = Intake::new(received_at_us, traceparent.filter(|t| is_traceparent(t)), check);
    for (at, event) in events.enumerate() {
        let place = Place::Message(at);
        intake.take(Item(Some(envelope(&event, place)?)), place)?;
    }
    Ok(intake.into_events())
}

fn envelope<'a>(event: &MessageEvent<'a>, place: Place) -> Result<Envelope<'a>, CloudEventsError> {
    let mut envelope = Envelope::default();
    envelope.set("specversion", Attribute::Text(Cow::Borrowed("1.0")));
    let texts = [
        ("id", event.id),
        ("source", event.source),
        ("type", event.event_type),
        ("subject", event.subject),
        ("traceparent", event.traceparent),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        envelope.set(name, Attribute::Text(Cow::Borrowed(text)));
    }
    if let Some(time_us) = event.time_us {
        envelope.set("time", Attribute::Text(Cow::Owned(format_rfc3339(time_us))));
    }
    for (name, number) in [("sequence", event.sequence), ("expectedversion", event.expected_version)] {
        if number.is_some() {
            envelope.set(name, Attribute::Whole(number));
        }
    }
    if !event.data_json.is_empty() {
        let data = serde_json::from_str(event.data_json).map_err(|error| {
            CloudEventsError::new("data-invalid", place.data(""), format!("`data_json` must be JSON: {error}"))
        })?;
        envelope.set_data(data);
    }
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use serde_json::Value;

    use super::super::parse;
    use super::*;

    const TIME_US: i64 = 1_767_323_045_000_000;

    fn price() -> MessageEvent<'static> {
        MessageEvent {
            id: "1",
            source: "/erp",
            event_type: "price.changed",
            subject: "price/A:retail:EUR",
            time_us: Some(TIME_US),
            sequence: Some(7),
            data_json: r#"{"amount": {"minor": 5, "currency": "EUR"}}"#,
            ..MessageEvent::default()
        }
    }

    fn anything(_: &str, _: &Value) -> Result<(), (String, String)> {
        Ok(())
    }

    fn read(event: MessageEvent<'_>) -> Result<IncomingEvent, CloudEventsError> {
        let read = parse_messages([event].into_iter(), &Limits::default(), 9, None, anything)?;
        Ok(read.into_iter().next().unwrap())
    }

    #[test]
    fn a_message_says_the_same_as_its_json() {
        let json = r#"{"specversion":"1.0","id":"1","source":"/erp","type":"price.changed",
            "subject":"price/A:retail:EUR","time":"2026-01-02T03:04:05Z","sequence":"7",
            "data":{"amount":{"currency":"EUR","minor":5}}}"#;
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/cloudevents+json"));
        let parsed = parse(&headers, json.as_bytes(), &Limits::default(), 9, anything).unwrap();
        assert_eq!(read(price()).unwrap(), parsed.events[0]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let cases = [
            (MessageEvent { id: "", ..price() }, "attribute-missing", "/events/0/id", "`id` is missing"),
            (MessageEvent { subject: "order/1", ..price() }, "attribute-invalid", "/events/0/subject", "price/"),
            (MessageEvent { data_json: "{", ..price() }, "data-invalid", "/events/0/data_json", "must be JSON"),
            (MessageEvent { data_json: "[]", ..price() }, "data-invalid", "/events/0/data_json", "JSON object"),
            (MessageEvent { data_json: "", ..price() }, "data-invalid", "/events/0/data_json", "JSON object"),
        ];
        for (event, code, pointer, says) in cases {
            let error = read(event).unwrap_err();
            assert_eq!((error.code, error.pointer.as_str()), (code, pointer), "{error}");
            assert!(error.detail.contains(says), "{error}");
        }
        let refuse = |_: &str, _: &Value| Err(("/amount/minor".to_owned(), "must be whole".to_owned()));
        let error = parse_messages([price()].into_iter(), &Limits::default(), 9, None, refuse).unwrap_err();
        assert_eq!(error.pointer, "/events/0/data_json/amount/minor");
        let none = Limits { events_max: 0 };
        let error = parse_messages([price()].into_iter(), &none, 9, None, anything).unwrap_err();
        assert_eq!(error.code, "too-many-events");
    }

    #[test]
    fn the_requests_trace_is_for_events_without_one() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let own = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let events = [price(), MessageEvent { traceparent: own, ..price() }];
        let read = parse_messages(events.into_iter(), &Limits::default(), 9, Some(trace), anything).unwrap();
        assert_eq!(read.iter().map(|e| e.traceparent.as_deref()).collect::<Vec<_>>(), [Some(trace), Some(own)]);
    }
}
