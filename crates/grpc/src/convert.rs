//! Between messages and what the hub knows.

use lockstep_api::{Code, Problem};
use lockstep_connect::cloudevents::MessageEvent;
use lockstep_core::{Event, Outcome};
use lockstep_hub::Answer;
use prost_types::Timestamp;

use crate::status::part;
use crate::v1;

/// The first second of year 1 and the last of year 9999: what a timestamp may be.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Microseconds since 1970 UTC; `field` is the JSON pointer to the timestamp, `code` that of one which can't be.
pub(crate) fn time_us(code: Code, timestamp: &Timestamp, field: impl Fn() -> String) -> Result<i64, Problem> {
    let Timestamp { seconds, nanos } = *timestamp;
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        let detail = "a timestamp must be in the years 1 to 9999, with 0 to 999,999,999 nanoseconds";
        return Err(Problem::new(code, detail).with("pointer", field()));
    }
    Ok(seconds * 1_000_000 + i64::from(nanos) / 1_000)
}

/// A timestamp of microseconds since 1970 UTC.
pub(crate) fn timestamp(at_us: i64) -> Timestamp {
    Timestamp { seconds: at_us.div_euclid(1_000_000), nanos: at_us.rem_euclid(1_000_000) as i32 * 1_000 }
}

/// An event as it is to be read, the `at`-th of its request.
pub(crate) fn message_event(at: usize, event: &v1::Event) -> Result<MessageEvent<'_>, Problem> {
    let time_us = event
        .time
        .as_ref()
        .map(|time| time_us(Code::InvalidEvent, time, || format!("/events/{at}/time")))
        .transpose()?;
    Ok(MessageEvent {
        id: &event.id,
        source: &event.source,
        event_type: &event.r#type,
        subject: &event.subject,
        time_us,
        sequence: event.sequence,
        expected_version: event.expected_version,
        traceparent: &event.traceparent,
        data_json: &event.data_json,
    })
}

/// What became of an event.
pub(crate) fn result(answer: Answer) -> v1::EventResult {
    let of = |outcome: v1::Outcome| v1::EventResult { outcome: outcome.into(), ..v1::EventResult::default() };
    match answer {
        Ok(Outcome::Applied { position, count, version, changed }) => v1::EventResult {
            position: Some(position),
            record_count: count,
            version: Some(version),
            changed,
            ..of(v1::Outcome::Applied)
        },
        Ok(Outcome::Superseded { position, count }) => v1::EventResult {
            // A delivery that changes nothing has no record.
            position: (count > 0).then_some(position),
            record_count: count,
            ..of(v1::Outcome::Superseded)
        },
        Ok(Outcome::Quarantined { position }) => {
            v1::EventResult { position: Some(position), record_count: 1, ..of(v1::Outcome::Quarantined) }
        }
        // No event is a command to stock; were one, this is what became of it.
        Ok(Outcome::Stock { position, count, .. }) => v1::EventResult {
            position: (count > 0).then_some(position),
            record_count: count,
            ..of(if count > 0 { v1::Outcome::Applied } else { v1::Outcome::Superseded })
        },
        Ok(Outcome::Duplicate { of: first }) => {
            v1::EventResult { duplicate_of: Some(first), ..of(v1::Outcome::Duplicate) }
        }
        Err(refusal) => v1::EventResult { problem: Some(part(&refusal.into())), ..of(v1::Outcome::Refused) },
    }
}

/// A published event.
pub(crate) fn published(event: &Event, hub_source: &str) -> v1::PublishedEvent {
    let fact = &event.fact;
    v1::PublishedEvent {
        position: event.position,
        r#type: fact.event_type.clone(),
        source: hub_source.to_owned(),
        kind: fact.kind.clone(),
        key: fact.key.clone(),
        recorded_at: Some(timestamp(event.recorded_at_us)),
        occurred_at: Some(timestamp(fact.occurred_at_us)),
        version: fact.version,
        system: fact.system.clone(),
        changed_fields: event.changed().map(str::to_owned).collect(),
        // What the hub keeps is JSON, which is UTF-8; a damaged document is shown as none.
        document_json: String::from_utf8(event.document_json().into()).unwrap_or_default(),
        deleted: fact.deleted,
        merged_into: fact.merged.clone().unwrap_or_default(),
        traceparent: fact.trace.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_comes_back_as_it_was() {
        for at_us in [0, 1, -1, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            assert_eq!(time_us(Code::InvalidEvent, &timestamp(at_us), String::new).unwrap(), at_us);
        }
    }

    #[test]
    fn a_time_that_cannot_be_is_named() {
        for (seconds, nanos) in [(253_402_300_800, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            let problem =
                time_us(Code::InvalidEvent, &Timestamp { seconds, nanos }, || "/events/3/time".to_owned()).unwrap_err();
            assert_eq!(problem.members()["pointer"], "/events/3/time");
        }
    }
}
