//! From what a mapping comes to, to a mail.

use std::time::{Duration, UNIX_EPOCH};

use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::config::mailbox;

/// The last moment of the year 9998, microseconds since 1970.
const DATE_US_MAX: i64 = 253_370_764_799_000_000;

/// What a mapping gives.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapped {
    subject: String,
    text: String,
    to: Option<To>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum To {
    One(String),
    Several(Vec<String>),
}

/// A mail that is the same at every attempt: what a dead letter shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mail {
    message_id: String,
    /// Microseconds since 1970.
    date_us: i64,
    from: String,
    to: Vec<String>,
    subject: String,
    text: String,
}

impl Mail {
    /// The mail that a mapping asks for, or what is wrong with it.
    pub(super) fn mapped(
        mapped: &[u8],
        event: &str,
        date_us: i64,
        from: &Mailbox,
        to: &[String],
    ) -> Result<Self, String> {
        let mapped: Mapped = serde_json::from_slice(mapped)
            .map_err(|error| format!("it must come to an object with `subject`, `text` and perhaps `to`: {error}"))?;
        let to = match mapped.to {
            None => to.to_vec(),
            Some(To::One(one)) => vec![one],
            Some(To::Several(several)) => several,
        };
        if to.is_empty() {
            return Err("nobody gets the mail: give `to` here or in the configuration".to_owned());
        }
        for to in &to {
            mailbox(to).map_err(|problem| format!("`to` {problem}"))?;
        }
        // A line break in it would begin another header; what is only long is folded.
        let subject: String = mapped.subject.split(|c: char| c.is_control()).collect::<Vec<_>>().join(" ");
        let domain = from.email.domain();
        // The event's own time makes ids of several hubs differ.
        let message_id = format!("<lockstep.{event}.{date_us}@{domain}>");
        Ok(Self { message_id, date_us, from: from.to_string(), to, subject, text: mapped.text })
    }

    /// The message as it is sent, with `event` as a header for filters.
    pub(super) fn message(&self, event: &str) -> Result<Message, String> {
        // A date that a mail can't say ends the program that writes it.
        let date = UNIX_EPOCH + Duration::from_micros(self.date_us.clamp(0, DATE_US_MAX).unsigned_abs());
        let raw = |name, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
        let mut message = Message::builder()
            .from(mailbox(&self.from)?)
            .date(date)
            .message_id(Some(self.message_id.clone()))
            .subject(self.subject.as_str())
            .header(ContentType::TEXT_PLAIN)
            // So that nobody's absence note answers (RFC 3834).
            .raw_header(raw("Auto-Submitted", "auto-generated"))
            .raw_header(raw("Lockstep-Event", event));
        for to in &self.to {
            message = message.to(mailbox(to)?);
        }
        message.body(self.text.clone()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_beyond_all_calendars_is_written_all_the_same() {
        let from = mailbox("hub@example.com").unwrap();
        for date_us in [i64::MIN, -1, 0, DATE_US_MAX, i64::MAX] {
            let to = ["desk@example.com".to_owned()];
            let mail = Mail::mapped(br#"{"subject": "a", "text": "b"}"#, "1", date_us, &from, &to).unwrap();
            assert!(mail.message("1").is_ok(), "{date_us}");
        }
    }
}
