//! Rows of lists: what an operator sees before looking at one.

use lockstep_core::Position;
use lockstep_core::delivery::Impact;
use serde::Serialize;

pub use crate::state::dead_letters::RetryPlan;

/// An entity in a list.
#[derive(Clone, Debug, PartialEq)]
pub struct EntityRow {
    /// The entity's whole state.
    pub entity: lockstep_core::Entity,
}

/// A quarantined delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantineRow {
    /// Its record; `HubHandle::record` gives everything.
    pub position: Position,
    /// The way in.
    pub source: String,
    /// The delivery's id.
    pub delivery: String,
    /// Why: a stable code.
    pub code: String,
    /// Why, in one sentence.
    pub detail: String,
    /// The exact field or mapping line.
    pub at: String,
    /// When it was received, microseconds since 1970 UTC.
    pub received_at_us: i64,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetterRow {
    /// The destination.
    pub destination: String,
    /// The event's record.
    pub event: Position,
    /// The record of the dead letter, which has every attempt.
    pub record: Position,
    /// The entity's kind.
    pub kind: String,
    /// The entity's key.
    pub key: String,
    /// The event's type.
    pub event_type: String,
    /// Why: `exhausted`, `rejected`, `poison`.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up, microseconds since 1970 UTC.
    pub dead_at_us: i64,
    /// The HTTP status of the last attempt; 0 where there was none.
    pub status: u32,
    /// What happened at the last attempt, its beginning.
    pub detail: String,
    /// What the event's document says of its value, in minor units of `currency`; none where it does not.
    pub minor: Option<i64>,
    /// The currency of `minor`.
    pub currency: String,
    /// What the event's document promises, microseconds since 1970 UTC.
    pub promised_at_us: Option<i64>,
    /// When the event was decided, microseconds since 1970 UTC.
    pub event_at_us: i64,
    /// When it is sent again; none where nobody has asked for it.
    pub retry: Option<RetryPlan>,
}

impl DeadLetterRow {
    /// How much it matters, see [`Impact::score`].
    pub fn impact(&self, now_us: i64) -> u64 {
        let value = self.minor.map(|minor| (minor, self.currency.as_str()));
        Impact { value, promised_at_us: self.promised_at_us, event_at_us: self.event_at_us }.score(now_us)
    }
}

/// An incomplete entity: nobody is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncompleteRow {
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
}

/// An incomplete entity, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IncompleteEntity {
    /// Which one, and since when.
    pub row: IncompleteRow,
    /// The required fields that have no value.
    pub missing: Vec<String>,
    /// The systems that have spoken of it.
    pub systems: Vec<String>,
}
