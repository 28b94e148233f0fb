//! The records of the journal, format 1.
//!
//! A record is a Protocol Buffers message: a field's number and meaning never change, new ones may be added,
//! unknown ones are skipped, so every record ever written stays readable. `fixtures/records-1.bin` holds this.
//!
//! A record says what was *decided*; folding it never decides again.

use prost::Message;

use crate::Position;
use crate::change::{Field, QuarantineReason, Raw};
use crate::event::Event;

/// One record of the journal. Its position is given by the journal.
#[derive(Clone, PartialEq, Message)]
pub struct Record {
    /// When the hub decided it, microseconds since 1970 UTC.
    #[prost(int64, tag = "1")]
    pub recorded_at_us: i64,
    /// What it records.
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23")]
    pub body: Option<Body>,
}

/// What a record can be.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    /// A change and what was made of it.
    #[prost(message, boxed, tag = "2")]
    Fact(Box<Fact>),
    /// Authentic input that was not understood.
    #[prost(message, tag = "3")]
    Quarantined(Quarantined),
    /// How far a destination has come.
    #[prost(message, tag = "4")]
    Progress(Progress),
    /// A delivery given up after its retries.
    #[prost(message, boxed, tag = "5")]
    DeadLettered(Box<DeadLettered>),
    /// A dead letter's end.
    #[prost(message, tag = "6")]
    DeadLetterClosed(DeadLetterClosed),
    /// Nothing but its being written: proof that the journal takes records again.
    #[prost(message, tag = "7")]
    Probe(Probe),
    /// A quarantined delivery's end without a change.
    #[prost(message, tag = "8")]
    QuarantineClosed(QuarantineClosed),
    /// Something happened to stock.
    #[prost(message, boxed, tag = "9")]
    Stock(Box<crate::stock::record::StockFact>),
    /// When dead letters are to be sent again.
    #[prost(message, tag = "20")]
    RetriesScheduled(RetriesScheduled),
    /// Events are sent once more to a destination.
    #[prost(message, tag = "21")]
    ReplayStarted(ReplayStarted),
    /// How far a replay has come.
    #[prost(message, tag = "22")]
    ReplayProgress(ReplayProgress),
    /// A replay's end.
    #[prost(message, tag = "23")]
    ReplayEnded(ReplayEnded),
}

/// Events are sent once more to a destination. The record's position is the replay's id.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReplayStarted {
    /// The destination.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// Events after this one,
    #[prost(uint64, tag = "2")]
    pub after: Position,
    /// up to this one.
    #[prost(uint64, tag = "3")]
    pub until: Position,
    /// The newest event of each entity, instead of all events.
    #[prost(bool, tag = "4")]
    pub state: bool,
    /// Only entities of this kind; empty: all.
    #[prost(string, tag = "5")]
    pub kind: String,
    /// Only the entity with this key; empty: all.
    #[prost(string, tag = "6")]
    pub key: String,
    /// Only events of this type, a `*` at the end stands for anything; empty: all.
    #[prost(string, tag = "7")]
    pub event_type: String,
    /// At most so many events a second; 0: as fast as it goes.
    #[prost(uint32, tag = "8")]
    pub rate_per_s: u32,
    /// Also events of which something newer is there.
    #[prost(bool, tag = "9")]
    pub stale: bool,
    /// Who asked for it.
    #[prost(string, tag = "10")]
    pub by: String,
    /// The destination is new and begins with it: what comes after `until` it gets by itself.
    #[prost(bool, tag = "11")]
    pub first: bool,
    /// With `first`, how many events had been published by then.
    #[prost(uint64, tag = "12")]
    pub skipped: u64,
}

/// How far a replay has come; the counts are those since the record before.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReplayProgress {
    /// The replay.
    #[prost(uint64, tag = "1")]
    pub replay: Position,
    /// Every event up to here has ended.
    #[prost(uint64, tag = "2")]
    pub cursor: Position,
    /// Every entity up to this id has ended, where it is a snapshot.
    #[prost(string, tag = "3")]
    pub after_id: String,
    /// Delivered.
    #[prost(uint64, tag = "4")]
    pub delivered: u64,
    /// Kept back by the destination's filter.
    #[prost(uint64, tag = "5")]
    pub filtered: u64,
    /// Not sent, since something newer is there or on its way.
    #[prost(uint64, tag = "6")]
    pub stale: u64,
    /// Given up.
    #[prost(uint64, tag = "7")]
    pub failed: u64,
    /// Not sent, since they are on their way anyway, or dead letters.
    #[prost(uint64, tag = "8")]
    pub passed: u64,
}

/// A replay's end.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReplayEnded {
    /// The replay.
    #[prost(uint64, tag = "1")]
    pub replay: Position,
    /// Somebody ended it; else it was through.
    #[prost(bool, tag = "2")]
    pub cancelled: bool,
    /// Who.
    #[prost(string, tag = "3")]
    pub by: String,
}

/// See [`Body::Probe`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Probe {}

/// A quarantined delivery was understood at last, and proposes nothing.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QuarantineClosed {
    /// The way in.
    #[prost(string, tag = "1")]
    pub source: String,
    /// The quarantined record.
    #[prost(uint64, tag = "2")]
    pub position: Position,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum FactOutcome {
    /// Never written; what an unknown number reads as.
    Unspecified = 0,
    /// At least one field of it won.
    Applied = 1,
    /// Nothing of it won.
    Superseded = 2,
}

/// A change, its outcome and the reasons: enough to fold it and to publish it without looking elsewhere.
#[derive(Clone, PartialEq, Message)]
pub struct Fact {
    /// The way in.
    #[prost(string, tag = "1")]
    pub source: String,
    /// The system that it speaks for.
    #[prost(string, tag = "2")]
    pub system: String,
    /// The delivery's id within the source.
    #[prost(string, tag = "3")]
    pub delivery: String,
    /// The hash of the delivery's payload.
    #[prost(fixed64, tag = "4")]
    pub payload_hash: u64,
    /// The number of this change within its delivery, from 0.
    #[prost(uint32, tag = "5")]
    pub index: u32,
    /// How many changes the delivery has.
    #[prost(uint32, tag = "6")]
    pub of: u32,
    /// The entity's kind.
    #[prost(string, tag = "7")]
    pub kind: String,
    /// The entity's key.
    #[prost(string, tag = "8")]
    pub key: String,
    /// The source's version or sequence; 0 where it has none.
    #[prost(uint64, tag = "9")]
    pub sequence: u64,
    /// The source's clock, microseconds since 1970 UTC.
    #[prost(int64, tag = "10")]
    pub occurred_at_us: i64,
    /// What the source said, sorted by name.
    #[prost(message, repeated, tag = "11")]
    pub fields: Vec<Field>,
    /// What became of it.
    #[prost(enumeration = "FactOutcome", tag = "12")]
    pub outcome: i32,
    /// The entity's version after it.
    #[prost(uint64, tag = "13")]
    pub version: u64,
    /// The entity's record before this one; 0 for its first. History follows these links.
    #[prost(uint64, tag = "14")]
    pub previous: Position,
    /// The type of the published event; empty where the document did not change.
    #[prost(string, tag = "15")]
    pub event_type: String,
    /// The numbers (in `fields`) of the fields whose winning value changed.
    #[prost(uint32, repeated, tag = "16")]
    pub changed: Vec<u32>,
    /// The rest of the document after this change: winning values that are not this change's own.
    #[prost(message, repeated, tag = "17")]
    pub rest: Vec<Field>,
    /// Who won each field, and by which rule.
    #[prost(message, repeated, tag = "18")]
    pub rulings: Vec<Ruling>,
    /// The W3C `traceparent`; empty where there is none.
    #[prost(string, tag = "19")]
    pub trace: String,
    /// The input as it came, where it is kept; on the delivery's first record only.
    #[prost(message, optional, tag = "20")]
    pub raw: Option<Raw>,
    /// The request's `Idempotency-Key`, on the request's first record only; empty where there is none.
    #[prost(string, tag = "21")]
    pub request_key: String,
    /// The hash of the whole request, with `request_key`.
    #[prost(fixed64, tag = "22")]
    pub request_hash: u64,
    /// The quarantined record that this one releases; 0 where none.
    #[prost(uint64, tag = "23")]
    pub releases: Position,
    /// When the hub received the delivery, microseconds since 1970 UTC.
    #[prost(int64, tag = "24")]
    pub received_at_us: i64,
    /// Fields without which nobody is told of the entity are missing.
    #[prost(bool, tag = "25")]
    pub incomplete: bool,
    /// Values that stood before are remembered, since a destination may echo them.
    #[prost(bool, tag = "26")]
    pub echoed: bool,
    /// The entity is deleted after it.
    #[prost(bool, tag = "27")]
    pub deleted: bool,
    /// The key by which it was said, where that is another one's that was merged into this entity; else empty.
    #[prost(string, tag = "28")]
    pub via: String,
    /// The entity takes the claims of another one: the other's whole state, as it is kept; else empty.
    #[prost(bytes = "bytes", tag = "29")]
    pub joins: bytes::Bytes,
    /// The entity loses the claims of those with these keys.
    #[prost(string, repeated, tag = "30")]
    pub parts: Vec<String>,
    /// The entity is merged into the one with this key, or, where it is empty, is one of its own again.
    #[prost(string, optional, tag = "31")]
    pub merged: Option<String>,
    /// The entity's last record before this one that was published; 0 where none was. Most systems say what they have said
    /// already again and again, and who looks for what was sent follows these links. Absent in older records, and where it
    /// is not known.
    #[prost(uint64, optional, tag = "32")]
    pub previous_event: Option<Position>,
}

impl Fact {
    /// Whether it is about what is merged: then nobody says anything of the entity with it.
    pub fn is_membership(&self) -> bool {
        !self.joins.is_empty() || !self.parts.is_empty() || self.merged.is_some()
    }
}

/// One ruling, for the named fields of a change.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ruling {
    /// The numbers (in `Fact::fields`) of the fields that it is about; none means all of them.
    #[prost(uint32, repeated, tag = "1")]
    pub fields: Vec<u32>,
    /// The winning system; empty where it is the change's own, or where the rule is that nobody wins.
    #[prost(string, tag = "2")]
    pub winner: String,
    /// The rule that decided.
    #[prost(enumeration = "crate::merge::Rule", tag = "3")]
    pub rule: i32,
    /// The change's own system has said something newer: this is not its word of now.
    #[prost(bool, tag = "4")]
    pub stale: bool,
    /// What it does to its system's claim. In the first records it is missing, and `stale` alone says it.
    #[prost(enumeration = "crate::entity::Effect", tag = "5")]
    pub effect: i32,
}

/// Authentic input that was not understood, kept whole.
#[derive(Clone, PartialEq, Message)]
pub struct Quarantined {
    /// The way in.
    #[prost(string, tag = "1")]
    pub source: String,
    /// The system that it speaks for.
    #[prost(string, tag = "2")]
    pub system: String,
    /// The delivery's id within the source.
    #[prost(string, tag = "3")]
    pub delivery: String,
    /// The hash of the delivery's payload.
    #[prost(fixed64, tag = "4")]
    pub payload_hash: u64,
    /// Why.
    #[prost(message, optional, tag = "5")]
    pub reason: Option<QuarantineReason>,
    /// The input as it came.
    #[prost(message, optional, tag = "6")]
    pub raw: Option<Raw>,
    /// When the hub received it, microseconds since 1970 UTC.
    #[prost(int64, tag = "7")]
    pub received_at_us: i64,
    /// The W3C `traceparent`; empty where there is none.
    #[prost(string, tag = "8")]
    pub trace: String,
}

/// How far a destination has come: written in batches.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Progress {
    /// The destination.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// Every event up to here is settled: delivered, filtered, superseded or dead.
    #[prost(uint64, tag = "2")]
    pub cursor: Position,
    /// Events beyond the cursor, and up to `read_to`, that are not settled, ascending.
    #[prost(uint64, repeated, tag = "3")]
    pub open: Vec<Position>,
    /// How many were delivered since the last progress record.
    #[prost(uint64, tag = "4")]
    pub delivered: u64,
    /// How many the filter kept back since the last progress record.
    #[prost(uint64, tag = "5")]
    pub filtered: u64,
    /// How many events it was not to have, because they were published before it was added.
    #[prost(uint64, tag = "6")]
    pub skipped: u64,
    /// How far it has looked: every event up to here that is not in `open` is settled.
    #[prost(uint64, tag = "7")]
    pub read_to: Position,
    /// How many of the filtered ones were its own system's words.
    #[prost(uint64, tag = "8")]
    pub own_words: u64,
    /// How many events it has looked at for the first time since the last progress record: counted where they come in, so
    /// that it can be held against what became of them. The first hubs did not say it.
    #[prost(uint64, optional, tag = "12")]
    pub taken: Option<u64>,
    /// Which events were overtaken by a newer one of their entity since the last progress record, before they were sent:
    /// the newer one goes instead.
    #[prost(uint64, repeated, tag = "13")]
    pub superseded: Vec<Position>,
    /// Open events that wait long for their next attempt, so that a restart does not begin anew with them.
    #[prost(message, repeated, tag = "16")]
    pub parked: Vec<Parked>,
}

/// An event that has failed and waits for its next attempt.
#[derive(Clone, PartialEq, Eq, Message, serde::Serialize, serde::Deserialize)]
pub struct Parked {
    /// The event's record.
    #[prost(uint64, tag = "1")]
    pub event: Position,
    /// The number of its last attempt; 0 where it was never tried and waits for another entity.
    #[prost(uint32, tag = "2")]
    pub number: u32,
    /// How many of its retries are used up, the first attempt among them.
    #[prost(uint32, tag = "3")]
    pub round: u32,
    /// When it is tried again, or until when it may wait, microseconds since 1970 UTC.
    #[prost(int64, tag = "4")]
    pub again_at_us: i64,
}

/// One attempt to deliver.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Attempt {
    /// Its number, from 1; it never goes back.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// When it began, microseconds since 1970 UTC.
    #[prost(int64, tag = "2")]
    pub at_us: i64,
    /// How long it took.
    #[prost(uint64, tag = "3")]
    pub duration_us: u64,
    /// The HTTP status; 0 where there was none.
    #[prost(uint32, tag = "4")]
    pub status: u32,
    /// What happened, in one sentence.
    #[prost(string, tag = "5")]
    pub detail: String,
    /// The beginning of the response's body.
    #[prost(string, tag = "6")]
    pub response_head: String,
    /// Whether an operator asked for it.
    #[prost(bool, tag = "7")]
    pub manual: bool,
    /// The class of what it came to (`transient`, `unknown`, ...); empty in records of before it was kept.
    #[prost(string, tag = "16")]
    pub class: String,
}

/// A delivery given up after its retries, kept whole.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeadLettered {
    /// The destination.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// The event's record.
    #[prost(uint64, tag = "2")]
    pub event: Position,
    /// The entity's kind.
    #[prost(string, tag = "3")]
    pub kind: String,
    /// The entity's key.
    #[prost(string, tag = "4")]
    pub key: String,
    /// Why: `rejected`, `exhausted`, `poison`, ...
    #[prost(string, tag = "5")]
    pub reason: String,
    /// Every attempt.
    #[prost(message, repeated, tag = "6")]
    pub attempts: Vec<Attempt>,
    /// The mapped request's body; empty where mapping failed.
    #[prost(bytes = "bytes", tag = "7")]
    pub request: bytes::Bytes,
    /// The event's type.
    #[prost(string, tag = "8")]
    pub event_type: String,
    /// It was a dead letter already: a retry by hand failed again.
    #[prost(bool, tag = "9")]
    pub again: bool,
    /// What the event's document says of its value, in minor units of `currency`; none where it does not.
    #[prost(int64, optional, tag = "10")]
    pub minor: Option<i64>,
    /// The currency of `minor`.
    #[prost(string, tag = "11")]
    pub currency: String,
    /// What the event's document promises, microseconds since 1970 UTC; none where it does not.
    #[prost(int64, optional, tag = "12")]
    pub promised_at_us: Option<i64>,
    /// When the event was decided, microseconds since 1970 UTC; 0 in the first records.
    #[prost(int64, tag = "13")]
    pub event_at_us: i64,
    /// Where it comes from, where it was brought in from outside. Its event is then not one of this journal: this
    /// record stands for it, and `event` is its own position.
    #[prost(message, optional, tag = "14")]
    pub origin: Option<LetterOrigin>,
    /// The replay that sent it; 0 where it went its own way.
    #[prost(uint64, tag = "15")]
    pub replay: Position,
}

/// Where a dead letter comes from that was brought in from outside.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LetterOrigin {
    /// What the hub calls itself in which it was given up.
    #[prost(string, tag = "1")]
    pub hub: String,
    /// The event's record there.
    #[prost(uint64, tag = "2")]
    pub event: Position,
    /// The dead letter's record there.
    #[prost(uint64, tag = "3")]
    pub record: Position,
    /// The event as it was recorded there, whole.
    #[prost(bytes = "bytes", tag = "4")]
    pub event_record: bytes::Bytes,
    /// That hub is this one: the event keeps its id.
    #[prost(bool, tag = "5")]
    pub own: bool,
    /// When it was given up there, microseconds since 1970 UTC.
    #[prost(int64, tag = "6")]
    pub dead_at_us: i64,
    /// Who brought it in.
    #[prost(string, tag = "7")]
    pub by: String,
}

impl DeadLettered {
    /// The event of a dead letter that was brought in, from its own record.
    pub fn carried(&self) -> Option<Event> {
        let origin = self.origin.as_ref()?;
        let position = if origin.own { origin.event } else { self.event };
        Event::of(position, Record::read(origin.event_record.clone()).ok()?)
    }
}

/// When open dead letters of a destination are to be sent again, whoever has said so before.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RetriesScheduled {
    /// The destination.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// The events' records.
    #[prost(uint64, repeated, tag = "2")]
    pub events: Vec<Position>,
    /// For each of them when, microseconds since 1970 UTC; 0: not any more.
    #[prost(int64, repeated, tag = "3")]
    pub at_us: Vec<i64>,
    /// Who asked for it.
    #[prost(string, tag = "4")]
    pub by: String,
}

/// How a dead letter ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum DeadLetterEnd {
    /// Never written; what an unknown number reads as.
    Unspecified = 0,
    /// A retry was delivered.
    Delivered = 1,
    /// An operator gave it up.
    Discarded = 2,
    /// Something newer of the same entity had been delivered: sending it would have gone back in time.
    Superseded = 3,
}

/// A dead letter's end.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeadLetterClosed {
    /// The destination.
    #[prost(string, tag = "1")]
    pub destination: String,
    /// The event's record.
    #[prost(uint64, tag = "2")]
    pub event: Position,
    /// How it ended.
    #[prost(enumeration = "DeadLetterEnd", tag = "3")]
    pub end: i32,
    /// Why, in an operator's words.
    #[prost(string, tag = "4")]
    pub reason: String,
    /// Who asked for it.
    #[prost(string, tag = "5")]
    pub by: String,
    /// The attempts made for it by hand.
    #[prost(message, repeated, tag = "6")]
    pub attempts: Vec<Attempt>,
    /// The entity's id, where the dead letter had been brought in from outside; else empty.
    #[prost(string, tag = "7")]
    pub entity: String,
    /// With it, when its event was decided, microseconds since 1970 UTC.
    #[prost(int64, tag = "8")]
    pub event_at_us: i64,
}

impl Record {
    /// A record of `body`, decided at `recorded_at_us`.
    pub fn new(recorded_at_us: i64, body: Body) -> Self {
        Self { recorded_at_us, body: Some(body) }
    }

    /// How many bytes it takes encoded.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded_len()
    }

    /// The record as the journal keeps it.
    pub fn write(&self) -> bytes::Bytes {
        self.encode_to_vec().into()
    }

    /// Reads a record. Unknown fields are skipped, so that older hubs read newer records as far as they can.
    pub fn read(bytes: bytes::Bytes) -> Result<Self, prost::DecodeError> {
        Self::decode(bytes)
    }
}

/// What prost says of a message that ends too early; it offers no way to make the error itself.
pub(crate) fn broken() -> prost::DecodeError {
    prost::encoding::decode_varint(&mut bytes::Bytes::new()).expect_err("no bytes are no number")
}
