//! A request with CloudEvents becomes the changes that they propose.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use lockstep_core::path::{self, Parts};
use lockstep_core::{Change, ChangeError, Field};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;

use super::CloudEventsError;
use super::envelope::{Attribute, Envelope, Event, Item, Place, escape, is_traceparent};
use crate::schema::Schemas;

/// How much one request may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most events of a batch.
    pub events_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events_max: 10_000 }
    }
}

/// How the events came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One event in JSON: `application/cloudevents+json`.
    Structured,
    /// A JSON array of events: `application/cloudevents-batch+json`.
    Batched,
    /// Attributes in `ce-` headers, the data as the body.
    Binary,
}

/// What a request brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// How they came.
    pub mode: Mode,
    /// The events in their order; a batch may be empty.
    pub events: Vec<IncomingEvent>,
}

/// One event and the change that it proposes.
#[derive(Clone, Debug, PartialEq)]
pub struct IncomingEvent {
    /// The event's id; with `source` its identity.
    pub id: String,
    /// The event's source.
    pub source: String,
    /// The change that it proposes.
    pub change: Change,
    /// The W3C `traceparent`, where it is well-formed.
    pub traceparent: Option<String>,
    /// The hash of what the event says: equal for equal content, however it is written and in whichever mode it
    /// came. Neither identity nor trace is part of it.
    pub payload_hash: u64,
}

/// The verb of an event's type that says that the entity is gone: `product.deleted`.
const DELETED_VERB: &str = "deleted";

static NO_PARTS: Parts = Parts::new();

/// What is known about the kinds of entities.
pub trait Check {
    /// Checks the fields of a document of that kind.
    ///
    /// # Errors
    /// A JSON pointer into the fields and what would be right there.
    fn validate(&self, kind: &str, fields: &Value) -> Result<(), (String, String)>;

    /// The fields of that kind that are merged by their parts.
    fn parts(&self, _kind: &str) -> &Parts {
        &NO_PARTS
    }
}

impl<F: Fn(&str, &Value) -> Result<(), (String, String)>> Check for F {
    fn validate(&self, kind: &str, fields: &Value) -> Result<(), (String, String)> {
        self(kind, fields)
    }
}

impl Check for &Schemas {
    fn validate(&self, kind: &str, fields: &Value) -> Result<(), (String, String)> {
        Schemas::validate(self, kind, fields).map_err(|violation| (violation.pointer.clone(), violation.to_string()))
    }

    fn parts(&self, kind: &str) -> &Parts {
        Schemas::parts(self, kind)
    }
}

/// Reads a request. All events are good, or the first bad one refuses the request.
///
/// `check` checks an event's fields by its kind, and says which of them are merged by their parts.
pub fn parse<V>(
    headers: &HeaderMap,
    body: &[u8],
    limits: &Limits,
    received_at_us: i64,
    check: V,
) -> Result<Parsed, CloudEventsError>
where
    V: Check,
{
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let mode = mode(headers, content)?;
    let traceparent = headers.get("traceparent").and_then(|t| t.to_str().ok()).filter(|t| is_traceparent(t));
    let mut intake = Intake::new(received_at_us, traceparent, check);

    match mode {
        Mode::Structured => {
            let item = serde_json::from_slice(body).map_err(not_json)?;
            intake.take(item, Place::Body)?;
        }
        Mode::Batched => {
            let mut failed = None;
            let mut json = serde_json::Deserializer::from_slice(body);
            let sink = Sink { intake: &mut intake, events_max: limits.events_max, failed: &mut failed };
            let read = sink.deserialize(&mut json).and_then(|()| json.end());
            if let Some(failed) = failed {
                return Err(failed);
            }
            read.map_err(not_json)?;
        }
        Mode::Binary => {
            let envelope = from_headers(headers, body)?;
            intake.take(Item(Some(envelope)), Place::Headers)?;
        }
    }
    Ok(Parsed { mode, events: intake.into_events() })
}

fn mode(headers: &HeaderMap, content_type: &[u8]) -> Result<Mode, CloudEventsError> {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/cloudevents+json") {
        Ok(Mode::Structured)
    } else if essence.eq_ignore_ascii_case(b"application/cloudevents-batch+json") {
        Ok(Mode::Batched)
    } else if essence.len() >= 23 && essence[..23].eq_ignore_ascii_case(b"application/cloudevents") {
        let detail = "the only event format here is JSON: application/cloudevents+json or -batch+json";
        Err(CloudEventsError::new("media-type", "content-type", detail))
    } else if headers.contains_key("ce-specversion") {
        Ok(Mode::Binary)
    } else {
        let detail = "`Content-Type` must be application/cloudevents+json or application/cloudevents-batch+json, or the event's \
            attributes must come in `ce-` headers with `ce-specversion: 1.0`";
        Err(CloudEventsError::new("media-type", "content-type", detail))
    }
}

pub(super) fn too_many(events_max: usize) -> CloudEventsError {
    let detail = format!("a batch has at most {events_max} events: send the rest in another one");
    CloudEventsError::new("too-many-events", "", detail)
}

fn not_json(error: serde_json::Error) -> CloudEventsError {
    CloudEventsError::new("not-json", "", format!("the body must be JSON: {error}"))
}

/// Gathers the events of one request.
pub(super) struct Intake<'h, V> {
    received_at_us: i64,
    /// The request's own trace, for events without one.
    traceparent: Option<&'h str>,
    check: V,
    /// Canonical content of the event at hand; kept over the events so that it is allocated once.
    scratch: Vec<u8>,
    events: Vec<IncomingEvent>,
}

impl<'h, V: Check> Intake<'h, V> {
    pub(super) fn new(received_at_us: i64, traceparent: Option<&'h str>, check: V) -> Self {
        Self { received_at_us, traceparent, check, scratch: Vec::with_capacity(1_024), events: Vec::new() }
    }

    /// The events that were taken.
    pub(super) fn into_events(self) -> Vec<IncomingEvent> {
        self.events
    }

    pub(super) fn take(&mut self, item: Item<'_>, place: Place) -> Result<(), CloudEventsError> {
        let Item(Some(envelope)) = item else {
            return Err(CloudEventsError::new("not-an-event", place.event(), "an event is a JSON object"));
        };
        let event = envelope.check(place)?;
        let incoming = self.read(event, place)?;
        self.events.push(incoming);
        Ok(())
    }

    fn read(&mut self, event: Event<'_>, place: Place) -> Result<IncomingEvent, CloudEventsError> {
        let attribute = |code, name: &str, rule: &str| CloudEventsError::attribute(code, place, name, rule);
        let invalid = |name: &str, rule: &str| Err(attribute("attribute-invalid", name, rule));

        let Some((kind, verb)) = event.event_type.split_once('.').filter(|(_, verb)| !verb.is_empty()) else {
            return invalid("type", "must be <kind>.<verb>, for example price.changed");
        };
        let Some(subject) = event.subject.as_deref() else {
            let rule = "is missing: it must name the entity, <kind>/<key>";
            return Err(attribute("attribute-missing", "subject", rule));
        };
        let Some((subject_kind, key)) = subject.split_once('/') else {
            return invalid("subject", "must name the entity: <kind>/<key>");
        };
        if subject_kind != kind {
            return invalid("subject", &format!("must begin with the kind that `type` has: {kind}/"));
        }
        if let Some(content_type) = event.other_content {
            let rule = format!("must be JSON, as `data` must be, not {content_type}");
            return Err(attribute("data-invalid", "datacontenttype", &rule));
        }
        let not_an_object = || {
            let detail = "`data` must be a JSON object: the fields that the event speaks of";
            CloudEventsError::new("data-invalid", place.data(""), detail)
        };
        let deletes = verb == DELETED_VERB;
        let data = match event.data {
            // What is gone has no fields.
            _ if deletes => Value::Object(serde_json::Map::new()),
            data => data.filter(Value::is_object).ok_or_else(not_an_object)?,
        };
        self.check
            .validate(kind, &data)
            .map_err(|(at, detail)| CloudEventsError::new("schema", place.data(&at), detail))?;
        let Value::Object(data) = data else {
            return Err(not_an_object());
        };

        self.scratch.clear();
        for text in [&event.event_type, subject] {
            self.scratch.extend_from_slice(text.as_bytes());
            self.scratch.push(0);
        }
        // A time that the sender left out is no part of what it says: a repetition has none either.
        for number in [event.time_us.map(|us| us as u64), event.sequence, event.expected_version] {
            self.scratch.push(u8::from(number.is_some()));
            self.scratch.extend_from_slice(&number.unwrap_or_default().to_le_bytes());
        }
        let mut fields = Vec::with_capacity(data.len());
        for (name, value) in data {
            self.scratch.extend_from_slice(name.as_bytes());
            self.scratch.push(0);
            let start = self.scratch.len();
            serde_json::to_writer(&mut self.scratch, &value).map_err(not_json)?;
            // Copied, not sliced out of one buffer: a field may outlive its neighbours in the entity for years.
            fields.push(Field::new(name, Bytes::copy_from_slice(&self.scratch[start..])));
        }
        let payload_hash = lockstep_core::payload_hash(&self.scratch);

        let occurred_at_us = event.time_us.unwrap_or(self.received_at_us);
        let sequence = event.sequence.unwrap_or_default();
        let change = if deletes {
            Change::deletion(kind, key, sequence, occurred_at_us)
        } else {
            let fields = path::split(fields, self.check.parts(kind))
                .map_err(|error| CloudEventsError::new("schema", place.data(&error.pointer()), error.to_string()))?;
            Change::new(kind, key, sequence, occurred_at_us, fields)
        };
        let mut change = change.map_err(|error| change_invalid(&error, place))?;
        change.expected_version = event.expected_version;
        Ok(IncomingEvent {
            id: event.id.into_owned(),
            source: event.source.into_owned(),
            change,
            traceparent: event.traceparent.as_deref().or(self.traceparent).map(str::to_owned),
            payload_hash,
        })
    }
}

fn change_invalid(error: &ChangeError, place: Place) -> CloudEventsError {
    let at = match error {
        ChangeError::Kind(_) => place.attribute("type"),
        ChangeError::Key(_) | ChangeError::Address(_) => place.attribute("subject"),
        ChangeError::NoField | ChangeError::TooManyFields(_) => place.data(""),
        ChangeError::FieldName(name) => place.data(&format!("/{}", escape(name))),
    };
    CloudEventsError::new("change-invalid", at, error.to_string())
}

/// Takes the elements of a batch one by one, so that a batch over the limit is never built in memory.
struct Sink<'s, 'h, V> {
    intake: &'s mut Intake<'h, V>,
    events_max: usize,
    failed: &'s mut Option<CloudEventsError>,
}

impl<'de, V: Check> DeserializeSeed<'de> for Sink<'_, '_, V> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, V: Check> Visitor<'de> for Sink<'_, '_, V> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut at = 0;
        while let Some(item) = seq.next_element::<Item<'de>>()? {
            let taken = if at < self.events_max {
                self.intake.take(item, Place::Element(at))
            } else {
                Err(too_many(self.events_max))
            };
            if let Err(error) = taken {
                *self.failed = Some(error);
                return Err(A::Error::custom("a bad event"));
            }
            at += 1;
        }
        Ok(())
    }
}

/// The event of a request in binary mode.
fn from_headers<'a>(headers: &'a HeaderMap, body: &[u8]) -> Result<Envelope<'a>, CloudEventsError> {
    let mut envelope = Envelope::default();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        let Some(text) = decode(value) else {
            let rule = "must be visible ASCII, everything else as percent-encoded UTF-8";
            return Err(CloudEventsError::attribute("attribute-invalid", Place::Headers, name, rule));
        };
        // In binary mode these two come as the body and its content type.
        if matches!(name, "data" | "datacontenttype" | "data_base64") {
            let detail = format!(
                "the header `ce-{name}` can't be there: in binary mode the data is the body, and its content type is \
                 `content-type`"
            );
            return Err(CloudEventsError::new("attribute-invalid", format!("ce-{name}"), detail));
        }
        envelope.set(name, Attribute::Text(text));
    }
    if let Some(content_type) = headers.get(CONTENT_TYPE) {
        let text = content_type.to_str().unwrap_or("?");
        envelope.set("datacontenttype", Attribute::Text(Cow::Borrowed(text)));
        // Data of another type is refused by its type; whether it is JSON does not matter then.
        let json = text.split(';').next().is_some_and(|essence| essence.trim_end().ends_with("json"));
        if !json {
            return Ok(envelope);
        }
    }
    if !body.is_empty() {
        envelope.set_data(serde_json::from_slice(body).map_err(not_json)?);
    }
    Ok(envelope)
}

/// A header's text: a quoted string is unquoted, then percent-encoded UTF-8 is decoded. `None` where that is not text.
fn decode(value: &HeaderValue) -> Option<Cow<'_, str>> {
    let text = value.to_str().ok()?;
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let text = match inner {
        Some(inner) if inner.contains('\\') => {
            let mut plain = String::with_capacity(inner.len());
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                plain.push(if c == '\\' { chars.next()? } else { c });
            }
            Cow::Owned(plain)
        }
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(text),
    };
    if !text.contains('%') {
        return Some(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
