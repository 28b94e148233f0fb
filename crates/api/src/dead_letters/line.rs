//! A dead letter as a line of JSON, with everything that is kept of it: what an export writes and an import reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lockstep_connect::time::parse_rfc3339;
use lockstep_core::record::{Attempt, Body, DeadLettered, LetterOrigin, Record};
use lockstep_core::{Event, record};
use lockstep_hub::DeadLetterRow;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::view;

/// The name of the form. A reader refuses one that it does not know.
const FORMAT: &str = "lockstep.dead-letter/1";

/// See the module.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    format: String,
    /// What the hub calls itself in which it was given up.
    hub: String,
    pub(super) destination: String,
    /// Where the export goes on after this line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    place: String,
    /// The event's position there.
    pub(super) event: u64,
    /// The dead letter's record there.
    record: u64,
    kind: String,
    key: String,
    event_type: String,
    reason: String,
    dead_at: String,
    attempts: Vec<LineAttempt>,
    /// What was sent, in base64; empty where it could not be made.
    request: String,
    /// The event's record as the journal has it, in base64.
    event_record: String,
    /// The event as a CloudEvent, for whoever reads the line; an import does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event_body: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LineAttempt {
    number: u32,
    at: String,
    duration_us: u64,
    status: u32,
    detail: String,
    response_head: String,
    manual: bool,
    /// The class of what it came to; empty in lines of before it was written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    class: String,
}

impl Line {
    /// The line of a dead letter. `hub` is what this hub calls itself.
    pub(super) fn of(
        row: &DeadLetterRow,
        dead: &DeadLettered,
        event: Event,
        origin: Option<&LetterOrigin>,
        hub: &str,
    ) -> Self {
        let event_body = view::raw(&lockstep_connect::cloudevents::to_structured(&event, hub));
        let event_record = match origin {
            Some(origin) => origin.event_record.clone(),
            None => {
                // The input as it came is no part of the event.
                let fact = Box::new(record::Fact { raw: None, ..*event.fact });
                Record::new(event.recorded_at_us, Body::Fact(fact)).write()
            }
        };
        // One that was brought in keeps its name, so that it is known wherever it has been.
        let (hub, number, record, dead_at_us) = match origin {
            Some(origin) => (origin.hub.as_str(), origin.event, origin.record, origin.dead_at_us),
            None => (hub, row.event, row.record, row.dead_at_us),
        };
        let attempt = |attempt: &Attempt| LineAttempt {
            number: attempt.number,
            at: view::time(attempt.at_us),
            duration_us: attempt.duration_us,
            status: attempt.status,
            detail: attempt.detail.clone(),
            response_head: attempt.response_head.clone(),
            manual: attempt.manual,
            class: attempt.class.clone(),
        };
        Self {
            format: FORMAT.to_owned(),
            hub: hub.to_owned(),
            destination: row.destination.clone(),
            place: super::filter::write_after(&(row.destination.clone(), row.event)),
            event: number,
            record,
            kind: row.kind.clone(),
            key: row.key.clone(),
            event_type: row.event_type.clone(),
            reason: row.reason.clone(),
            dead_at: view::time(dead_at_us),
            attempts: dead.attempts.iter().map(attempt).collect(),
            request: STANDARD.encode(&dead.request),
            event_record: STANDARD.encode(&event_record),
            event_body: Some(event_body),
        }
    }

    /// The line as text without its end.
    pub(super) fn write(&self) -> Bytes {
        // Nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads a line; what is wrong is said in a sentence that names the field.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let line: Self = serde_json::from_slice(text).map_err(|error| format!("not a dead letter: {error}"))?;
        if line.format != FORMAT {
            return Err(format!("`format` must be `{FORMAT}`, not `{}`", line.format));
        }
        Ok(line)
    }

    /// What the hub is to take in.
    pub(super) fn letter(self, by: &str) -> Result<DeadLettered, String> {
        let time = |name: &str, text: &str| {
            parse_rfc3339(text).ok_or_else(|| format!("`{name}` must be a time in RFC 3339, not `{text}`"))
        };
        let bytes = |name: &str, text: &str| {
            STANDARD.decode(text).map(Bytes::from).map_err(|_| format!("`{name}` must be base64"))
        };
        let event_record = bytes("event_record", &self.event_record)?;
        let unreadable = || "`event_record` must be the record of an event".to_owned();
        let record = Record::read(event_record.clone()).map_err(|_| unreadable())?;
        let event = Event::of(self.event, record).ok_or_else(unreadable)?;
        let fact = &event.fact;
        for (name, said, is) in [
            ("kind", &self.kind, &fact.kind),
            ("key", &self.key, &fact.key),
            ("event_type", &self.event_type, &fact.event_type),
        ] {
            if said != is {
                return Err(format!("`{name}` is `{said}`, and in the event's record `{is}`"));
            }
        }
        let attempts = self.attempts.iter().map(|attempt| {
            Ok(Attempt {
                number: attempt.number,
                at_us: time("attempts.at", &attempt.at)?,
                duration_us: attempt.duration_us,
                status: attempt.status,
                detail: attempt.detail.clone(),
                response_head: attempt.response_head.clone(),
                manual: attempt.manual,
                class: attempt.class.clone(),
            })
        });
        let worth = lockstep_core::delivery::Worth::of(&event);
        let (minor, currency) = worth.value.map_or((None, String::new()), |(minor, currency)| (Some(minor), currency));
        Ok(DeadLettered {
            attempts: attempts.collect::<Result<_, String>>()?,
            request: bytes("request", &self.request)?,
            minor,
            currency,
            promised_at_us: worth.promised_at_us,
            event_at_us: event.recorded_at_us,
            origin: Some(LetterOrigin {
                hub: self.hub,
                event: self.event,
                record: self.record,
                event_record,
                own: false,
                dead_at_us: time("dead_at", &self.dead_at)?,
                by: by.to_owned(),
            }),
            destination: self.destination,
            event: 0,
            kind: self.kind,
            key: self.key,
            reason: self.reason,
            event_type: self.event_type,
            again: false,
            replay: 0,
        })
    }
}
