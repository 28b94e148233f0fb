//! Everything that an answer can say no with: problem details after RFC 9457, each with a stable code.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use lockstep_connect::signature::SignatureError;
use lockstep_core::Refusal;
use lockstep_core::stock::{Shortfall, StockRefusal, state_name};
use lockstep_hub::{ReadError, Unavailable};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $status:ident, $title:literal;)+) => {
        /// Every reason for a no. The names are stable; programs may branch on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status that goes with it.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// What it means, without the particulars.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    /// No resource has this path.
    UnknownRoute = "unknown-route", NOT_FOUND, "There is nothing at this path";
    /// The path has no such method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "This path does not take this method";
    /// A parameter of the path or the query is not what it must be.
    InvalidParameter = "invalid-parameter", BAD_REQUEST, "A parameter is not valid";
    /// A header is not what it must be.
    InvalidHeader = "invalid-header", BAD_REQUEST, "A header is not valid";
    /// The body can't be read as what its content type says.
    InvalidBody = "invalid-body", BAD_REQUEST, "The body is not valid";
    /// The content type is none that this path takes.
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "This content type is not taken here";
    /// The body is larger than allowed.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body did not arrive in time.
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    /// There is no API key.
    KeyMissing = "key-missing", UNAUTHORIZED, "An API key is needed";
    /// The API key is not valid.
    KeyWrong = "key-wrong", UNAUTHORIZED, "The API key is not valid";
    /// The API key lacks the scope.
    ScopeMissing = "scope-missing", FORBIDDEN, "The API key does not have the needed scope";
    /// The API key speaks for no system.
    SystemMissing = "system-missing", FORBIDDEN, "The API key speaks for no system";
    /// A webhook's signature is missing.
    MissingSignature = "missing-signature", UNAUTHORIZED, "The signature is missing";
    /// A webhook's signature can't be read.
    MalformedSignature = "malformed-signature", UNAUTHORIZED, "The signature can't be read";
    /// A webhook's signature is not that of its body.
    WrongSignature = "wrong-signature", UNAUTHORIZED, "The signature is wrong";
    /// A webhook was signed too long ago.
    StaleTimestamp = "stale-timestamp", UNAUTHORIZED, "The signature is too old or from the future";
    /// A webhook's timestamp can't be read.
    BadTimestamp = "bad-timestamp", UNAUTHORIZED, "The signed timestamp can't be read";
    /// No source has this name.
    UnknownSource = "unknown-source", NOT_FOUND, "There is no such source";
    /// An external id belongs to no entity.
    AliasUnknown = "alias-unknown", NOT_FOUND, "No entity has this external id";
    /// An external id belongs to another entity.
    AliasTaken = "alias-taken", CONFLICT, "The external id belongs to another entity";
    /// Entities can't be merged so, as they are now.
    MergeImpossible = "merge-impossible", CONFLICT, "The entities can't be merged so";
    /// What would be merged can never be.
    MergeInvalid = "merge-invalid", UNPROCESSABLE_ENTITY, "These can never be merged";
    /// The hub knows no such entity.
    UnknownEntity = "unknown-entity", NOT_FOUND, "There is no such entity";
    /// The entity has no such field.
    UnknownField = "unknown-field", NOT_FOUND, "The entity has no such field";
    /// There is no such reservation.
    UnknownReservation = "unknown-reservation", NOT_FOUND, "There is no such reservation";
    /// Nothing is known of this SKU at this location.
    UnknownStock = "unknown-stock", NOT_FOUND, "Nothing is known of this SKU here";
    /// There is no event at this position.
    UnknownEvent = "unknown-event", NOT_FOUND, "There is no such event";
    /// No destination has this name.
    UnknownDestination = "unknown-destination", NOT_FOUND, "There is no such destination";
    /// There is no such open dead letter.
    UnknownDeadLetter = "unknown-dead-letter", NOT_FOUND, "There is no such open dead letter";
    /// There is no such alert.
    UnknownAlert = "unknown-alert", NOT_FOUND, "There is no such alert";
    /// There is no such silence, or it is over.
    UnknownSilence = "unknown-silence", NOT_FOUND, "There is no such silence";
    /// There is no such replay.
    UnknownReplay = "unknown-replay", NOT_FOUND, "There is no such replay";
    /// There is no such quarantined delivery.
    UnknownQuarantine = "unknown-quarantine", NOT_FOUND, "There is no such quarantined delivery";
    /// There is no conflict about this field.
    UnknownConflict = "unknown-conflict", NOT_FOUND, "There is no such conflict";
    /// No system is preferred for this field.
    UnknownPreference = "unknown-preference", NOT_FOUND, "There is no such preference";
    /// There is no schema of this kind.
    UnknownSchema = "unknown-schema", NOT_FOUND, "There is no schema of this kind";
    /// The part of the journal that was asked for is no longer kept.
    Trimmed = "trimmed", GONE, "This part of the journal is no longer kept";
    /// The destination is known but not running.
    DestinationNotRunning = "destination-not-running", CONFLICT, "The destination is not running";
    /// The alert is not open: somebody has acknowledged it, or it is over.
    AlertNotOpen = "alert-not-open", CONFLICT, "The alert is not open";
    /// The mode of the destination is not set by hand.
    FlowNotPinned = "flow-not-pinned", CONFLICT, "The mode is not set by hand";
    /// As many replays go on as may.
    TooManyReplays = "too-many-replays", CONFLICT, "Too many replays go on";
    /// The quarantined delivery was released before.
    AlreadyReleased = "already-released", CONFLICT, "The delivery is no longer in quarantine";
    /// The conflict is not open: a person has decided, or the systems agree by now.
    ConflictNotOpen = "conflict-not-open", CONFLICT, "The conflict is not open";
    /// No person's decision of this field is in force.
    NotDecided = "not-decided", CONFLICT, "No person's decision is in force";
    /// The system is not among those between which a person is to choose.
    NoCandidate = "no-candidate", UNPROCESSABLE_ENTITY, "This system says nothing of the contested field";
    /// The field's policy is not `review`, so that no system can be preferred for it.
    NotReviewed = "not-reviewed", UNPROCESSABLE_ENTITY, "This field is not left to a person";
    /// The raw input of the quarantined delivery was not kept.
    RawNotKept = "raw-not-kept", CONFLICT, "The raw input was not kept";
    /// The entity has another version than the writer believes.
    VersionMismatch = "version-mismatch", PRECONDITION_FAILED, "The entity has another version";
    /// What the order has come to does not allow the change.
    OrderState = "order-state", CONFLICT, "The order can't be changed so any more";
    /// The time of an event is further ahead of the hub's clock than is allowed.
    ClockSkew = "clock-skew", UNPROCESSABLE_ENTITY, "The time is too far ahead";
    /// A field of a request to stock is not what it must be.
    StockInvalid = "stock-invalid", UNPROCESSABLE_ENTITY, "What is asked of stock is not valid";
    /// There is not enough stock.
    StockShort = "stock-short", CONFLICT, "There is not enough stock";
    /// What the reservation has come to does not allow it.
    ReservationState = "reservation-state", CONFLICT, "The reservation does not allow this";
    /// A count contradicts what is known: the same time with another number, or too old to be placed.
    StockDoubtful = "stock-doubtful", CONFLICT, "This can't be believed";
    /// The input is not understood or not valid.
    InvalidEvent = "invalid-event", UNPROCESSABLE_ENTITY, "The event is not valid";
    /// A quarantined delivery is still not understood.
    StillNotUnderstood = "still-not-understood", UNPROCESSABLE_ENTITY, "The delivery is still not understood";
    /// A key or event id was used before with another payload.
    KeyReused = "key-reused", UNPROCESSABLE_ENTITY, "The key was used before with another payload";
    /// An `Idempotency-Key` is needed.
    IdempotencyKeyMissing = "idempotency-key-missing", BAD_REQUEST, "An Idempotency-Key is needed";
    /// More waits than the hub is allowed to hold.
    Saturated = "saturated", TOO_MANY_REQUESTS, "The hub is saturated";
    /// The disk is full.
    DiskFull = "disk-full", SERVICE_UNAVAILABLE, "The disk is full";
    /// A write failed; the hub must be started again.
    Poisoned = "poisoned", SERVICE_UNAVAILABLE, "The journal takes no more records";
    /// The hub is shutting down.
    ShuttingDown = "shutting-down", SERVICE_UNAVAILABLE, "The hub is shutting down";
    /// The hub's data could not be read.
    ReadFailed = "read-failed", INTERNAL_SERVER_ERROR, "The hub could not read its data";
    /// A stream's reader was too slow.
    TooSlow = "too-slow", SERVICE_UNAVAILABLE, "The reader is too slow";
}

/// A no, with its particulars.
#[derive(Clone, Debug)]
pub struct Problem(Box<Particulars>);

#[derive(Clone, Debug)]
struct Particulars {
    code: Code,
    detail: String,
    more: Map<String, Value>,
    headers: HeaderMap,
}

/// How a problem is written (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A URI that names the kind of problem: `urn:problem-type:lockstep:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the kind of problem is, without the particulars.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, and what would be right.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// This very occurrence, as a URI with the trace id that the hub's log has too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where in the body or among the fields (JSON pointer), for `invalid-event` and the like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Which parameter or header, for `invalid-parameter` and `invalid-header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The rule that is broken, for `invalid-event` and `still-not-understood`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version that the entity has, for `version-mismatch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// The record of the first use, for `key-reused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_use: Option<u64>,
    /// The first position that is kept, for `trimmed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_position: Option<u64>,
    /// The external id, for `alias-unknown` and `alias-taken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The entity that the external id belongs to, for `alias-taken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// The entity that it was given to, or by which it was named, for `alias-taken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// How far a time may be ahead of the hub's clock, for `clock-skew`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_s: Option<i64>,
    /// What is missing of each item, for `stock-short`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shortfalls: Vec<ShortfallBody>,
    /// Where the reservation stands, for `reservation-state`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// When to try again, for `saturated` and `disk-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
}

/// What of an item can't be had.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Shortfall)]
pub struct ShortfallBody {
    /// The item's number in the request, from 0.
    pub item: u32,
    /// Its SKU.
    pub sku: String,
    /// What was asked for.
    pub requested: i64,
    /// What could be had, after the items before it.
    pub available: i64,
}

impl Problem {
    /// A problem with one clear sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Particulars { code, detail: detail.into(), more: Map::new(), headers: HeaderMap::new() }))
    }

    /// A parameter that is not what it must be.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameter, detail).with("parameter", name)
    }

    /// A header that is not what it must be.
    pub fn header(name: &str, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidHeader, detail).with("parameter", name)
    }

    /// The same with one more member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(member.to_owned(), value.into());
        self
    }

    /// The same in another sentence.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Its particulars: `pointer`, `parameter`, `current_version`, `retry_after_s` and the like.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0.more
    }

    /// Its sentence.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The body, with what names this very occurrence.
    pub fn to_json(&self, instance: Option<&str>) -> Value {
        let mut body = Map::new();
        body.insert("type".into(), format!("urn:problem-type:lockstep:{}", self.0.code.name()).into());
        body.insert("title".into(), self.0.code.title().into());
        body.insert("status".into(), self.0.code.status().as_u16().into());
        if !self.0.detail.is_empty() {
            body.insert("detail".into(), self.0.detail.as_str().into());
        }
        body.insert("code".into(), self.0.code.name().into());
        if let Some(instance) = instance {
            body.insert("instance".into(), instance.into());
        }
        body.extend(self.0.more.clone());
        Value::Object(body)
    }

    /// The whole answer.
    pub(crate) fn render(&self, instance: Option<&str>) -> Response {
        let body = self.to_json(instance).to_string();
        let mut response = (self.0.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.0.headers.clone());
        response
    }
}

impl IntoResponse for Problem {
    /// The status with the problem beside it: the outermost layer writes the body, since only it knows the
    /// request's trace.
    fn into_response(self) -> Response {
        let mut response = self.0.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Unavailable> for Problem {
    fn from(why: Unavailable) -> Self {
        let retry = |problem: Self, after_s: u32| {
            problem.with("retry_after_s", after_s).with_header(header::RETRY_AFTER, HeaderValue::from(after_s))
        };
        let detail = why.to_string();
        match why {
            Unavailable::Saturated { retry_after_s } => retry(Self::new(Code::Saturated, detail), retry_after_s),
            Unavailable::DiskFull => retry(Self::new(Code::DiskFull, detail), 5),
            Unavailable::Poisoned(_) => Self::new(Code::Poisoned, detail),
            Unavailable::TooLarge => Self::new(Code::BodyTooLarge, detail),
            Unavailable::ShuttingDown => retry(Self::new(Code::ShuttingDown, detail), 1),
            Unavailable::Read(_) => Self::new(Code::ReadFailed, detail),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = sentence(&refusal);
        match refusal {
            Refusal::KeyReused { of, .. } => Self::new(Code::KeyReused, detail).with("first_use", of),
            Refusal::OrderState { .. } => Self::new(Code::OrderState, detail),
            Refusal::AliasUnknown { alias, .. } => Self::new(Code::AliasUnknown, detail).with("external_id", alias),
            Refusal::Merge { .. } => Self::new(Code::MergeImpossible, detail),
            Refusal::AliasTaken { alias, known, claimed } => {
                let problem = Self::new(Code::AliasTaken, detail).with("external_id", alias);
                problem.with("known", known).with("claimed", claimed)
            }
            Refusal::AliasInvalid { .. } => {
                let pointer = format!("/{}", lockstep_core::alias::EXTERNAL_IDS_FIELD);
                Self::new(Code::InvalidEvent, detail).with("pointer", pointer).with("reason", "alias-invalid")
            }
            Refusal::Released { .. } => Self::new(Code::AlreadyReleased, detail),
            Refusal::ClockAhead { limit_s, .. } => Self::new(Code::ClockSkew, detail).with("limit_s", limit_s),
            Refusal::Stock(refusal) => stock(refusal, detail),
            Refusal::Version { current, .. } => {
                let problem = Self::new(Code::VersionMismatch, detail).with("current_version", current);
                match crate::entities::etag(current) {
                    Some(tag) if current > 0 => problem.with_header(header::ETAG, tag),
                    _ => problem,
                }
            }
        }
    }
}

/// The code of what stock refuses.
pub(crate) fn stock_code(refusal: &StockRefusal) -> Code {
    match refusal {
        StockRefusal::Invalid { .. } => Code::StockInvalid,
        StockRefusal::Unknown(_) => Code::UnknownReservation,
        StockRefusal::Short(_) => Code::StockShort,
        StockRefusal::Conflict { .. } => Code::ReservationState,
    }
}

fn stock(refusal: StockRefusal, detail: String) -> Problem {
    let problem = Problem::new(stock_code(&refusal), detail);
    match refusal {
        StockRefusal::Invalid { field, rule } => {
            problem.with("pointer", format!("/{}", field.replace('.', "/"))).with("reason", rule)
        }
        StockRefusal::Unknown(_) => problem,
        StockRefusal::Short(short) => {
            let one = |of: &Shortfall| {
                serde_json::json!({
                    "item": of.item, "sku": of.sku.as_str(), "requested": of.requested, "available": of.available,
                })
            };
            problem.with("shortfalls", short.iter().map(one).collect::<Vec<_>>())
        }
        StockRefusal::Conflict { state, .. } => problem.with("state", state_name(state)),
    }
}

/// Why an input was refused, as its client knows the fields.
pub(crate) fn sentence(refusal: &Refusal) -> String {
    match refusal {
        Refusal::ClockAhead { .. } => {
            format!("`time` must be when it occurred: {refusal} (`clock_skew_max_s` of the hub)")
        }
        other => other.to_string(),
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::new(Code::ReadFailed, chain(&error))
    }
}

impl From<SignatureError> for Problem {
    fn from(error: SignatureError) -> Self {
        let code = match &error {
            SignatureError::Missing { .. } => Code::MissingSignature,
            SignatureError::Malformed { .. } => Code::MalformedSignature,
            SignatureError::Wrong { .. } => Code::WrongSignature,
            SignatureError::Stale { .. } => Code::StaleTimestamp,
            SignatureError::BadTimestamp { .. } => Code::BadTimestamp,
        };
        Self::new(code, error.to_string())
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_stand_for_errors() {
        let names: HashSet<_> = Code::ALL.iter().map(|c| c.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{}", code.name());
        }
    }

    #[test]
    fn a_problem_is_written_after_rfc_9457() {
        let problem = Problem::parameter("limit", "`limit` must be a number").to_json(Some("urn:x"));
        let expected = serde_json::json!({
            "type": "urn:problem-type:lockstep:invalid-parameter", "title": "A parameter is not valid", "status": 400,
            "detail": "`limit` must be a number", "code": "invalid-parameter", "instance": "urn:x", "parameter": "limit",
        });
        assert_eq!(problem, expected);
    }
}
