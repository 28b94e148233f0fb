//! What several resources show alike.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, header};
use lockstep_core::{Outcome, Refusal};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::problem::{self, Code, Problem, sentence};

/// Fields by name, their values as they are kept.
pub(crate) type Fields = BTreeMap<String, Box<RawValue>>;

/// A kept value, without parsing it further.
pub(crate) fn raw(json: &[u8]) -> Box<RawValue> {
    // What the hub keeps was valid JSON when it came in; a damaged value is shown as none.
    serde_json::from_slice(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A moment as RFC 3339 in UTC.
pub(crate) fn time(at_us: i64) -> String {
    lockstep_connect::time::format_rfc3339(at_us)
}

/// An answer in JSON.
pub(crate) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => json_bytes("application/json", body.into()),
        Err(error) => Problem::new(Code::ReadFailed, format!("the answer can't be written: {error}")).into_response(),
    }
}

/// An answer that is JSON already.
pub(crate) fn json_bytes(content_type: &'static str, body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response()
}

/// What became of an input.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Outcome)]
pub(crate) struct OutcomeBody {
    /// `applied`: at least one field won. `superseded`: recorded, but nothing of it won. `quarantined`: kept for
    /// a person. `duplicate`: seen before, nothing recorded. `refused`: not taken, `code` says why.
    /// `ping`: nothing but a look whether somebody is there, nothing recorded.
    #[schema(example = "applied")]
    pub(crate) outcome: &'static str,
    /// The first record of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    /// How many records it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u32>,
    /// The version of the (first) entity after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<u64>,
    /// Whether the document changed, and so an event was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changed: Option<bool>,
    /// The first record of the first delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicate_of: Option<u64>,
    /// Why it was refused: `version-mismatch`, `key-reused`, `order-state` or `clock-skew`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'static str>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// The version that the entity has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current_version: Option<u64>,
}

impl From<&Outcome> for OutcomeBody {
    fn from(outcome: &Outcome) -> Self {
        let body = Self::default();
        match *outcome {
            Outcome::Applied { position, count, version, changed } => Self {
                outcome: "applied",
                position: Some(position),
                count: Some(count),
                version: Some(version),
                changed: Some(changed),
                ..body
            },
            Outcome::Superseded { position, count } => {
                // A delivery that changes nothing has no record.
                let position = (count > 0).then_some(position);
                Self { outcome: "superseded", position, count: Some(count), ..body }
            }
            Outcome::Quarantined { position } => Self { outcome: "quarantined", position: Some(position), ..body },
            Outcome::Duplicate { of } => Self { outcome: "duplicate", duplicate_of: Some(of), ..body },
            Outcome::Stock { position, count, .. } => {
                let outcome = if count > 0 { "applied" } else { "superseded" };
                Self { outcome, position: (count > 0).then_some(position), count: Some(count), ..body }
            }
        }
    }
}

impl From<&Refusal> for OutcomeBody {
    fn from(refusal: &Refusal) -> Self {
        let (code, current_version) = match refusal {
            Refusal::KeyReused { .. } => (Code::KeyReused, None),
            Refusal::Version { current, .. } => (Code::VersionMismatch, Some(*current)),
            Refusal::OrderState { .. } => (Code::OrderState, None),
            Refusal::AliasUnknown { .. } => (Code::AliasUnknown, None),
            Refusal::AliasTaken { .. } => (Code::AliasTaken, None),
            Refusal::AliasInvalid { .. } => (Code::InvalidEvent, None),
            Refusal::Merge { .. } => (Code::MergeImpossible, None),
            Refusal::Released { .. } => (Code::AlreadyReleased, None),
            Refusal::ClockAhead { .. } => (Code::ClockSkew, None),
            Refusal::Stock(refusal) => (problem::stock_code(refusal), None),
        };
        let (code, detail) = (Some(code.name()), Some(sentence(refusal)));
        Self { outcome: "refused", code, detail, current_version, ..Self::default() }
    }
}

/// Bytes from outside: as text where they are UTF-8, else in base64.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Content {
    /// How many bytes.
    pub(crate) bytes: usize,
    /// The content, where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// The content in base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) base64: Option<String>,
}

impl From<&Bytes> for Content {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { bytes: bytes.len(), text: Some(text.to_owned()), base64: None },
            Err(_) => Self { bytes: bytes.len(), text: None, base64: Some(STANDARD.encode(bytes)) },
        }
    }
}

/// The one answer to a single input.
pub(crate) fn only(answers: Vec<lockstep_hub::Answer>) -> Result<Outcome, Problem> {
    match answers.into_iter().next() {
        Some(answer) => Ok(answer?),
        None => Err(Problem::new(Code::ShuttingDown, "the hub ended before it could answer")),
    }
}
