//! What would be different, as it is printed.

use std::collections::BTreeMap;

use lockstep_core::Position;
use serde::Serialize;
use serde_json::value::RawValue;

/// An entity that would be different.
#[derive(Clone, Debug, Serialize)]
pub struct EntityDifference {
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// Whether it would be there.
    pub change: Change,
    /// The fields that differ, sorted by name.
    pub fields: Vec<FieldDifference>,
}

/// In which way an entity would be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is not there, and would be.
    Added,
    /// It is there, and would not be.
    Removed,
    /// It would have other fields.
    Changed,
}

/// A field that would be different.
#[derive(Clone, Debug, Serialize)]
pub struct FieldDifference {
    /// Its name.
    pub field: String,
    /// What it is by what really happened; null where it is not there.
    pub now: Option<Said>,
    /// What it would be; null where it would not be there.
    pub what_if: Option<Said>,
}

/// A field's value on one side.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// The value.
    pub value: Box<RawValue>,
    /// The system that won.
    pub winner: String,
    /// The rule that decided, a stable name.
    pub rule: &'static str,
}

impl Said {
    pub(super) fn new(json: &[u8], winner: &str, rule: &'static str) -> Self {
        let text = String::from_utf8_lossy(json).into_owned();
        // A field is JSON by the record's format; what were not would be shown as text.
        let value = RawValue::from_string(text.clone())
            .or_else(|_| RawValue::from_string(serde_json::Value::from(text).to_string()));
        Self { value: value.unwrap_or_default(), winner: winner.to_owned(), rule }
    }

    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        // Compact with sorted keys: equal values are equal texts.
        self.value.get() == other.value.get()
    }
}

/// A delivery that was understood and would be quarantined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewlyQuarantined {
    /// Its first record.
    pub position: Position,
    /// The way in.
    pub source: String,
    /// The delivery's id.
    pub delivery: String,
    /// Why: a stable code.
    pub code: String,
    /// Why, in one sentence.
    pub detail: String,
    /// The field (JSON pointer) or mapping line, where known.
    pub at: String,
}

/// A delivery that is in quarantine and would be understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewlyUnderstood {
    /// Its record.
    pub position: Position,
    /// The way in.
    pub source: String,
    /// The delivery's id.
    pub delivery: String,
    /// Why it was not understood: a stable code.
    pub code: String,
    /// How many changes it would be.
    pub changes: usize,
}

/// Everything in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Whether anything would be different.
    pub different: bool,
    /// The first record that was looked at; the first of its delivery.
    pub from: Position,
    /// The last one.
    pub to: Position,
    /// The first record that is kept. Where it is not 1, what was said before it is unknown to both sides.
    pub kept_from: Position,
    /// How many records were looked at.
    pub records: u64,
    /// Deliveries whose bytes were translated again.
    pub translated: u64,
    /// Deliveries taken as they were recorded, since their bytes were not kept.
    pub without_raw: u64,
    /// Deliveries taken as they were recorded, since their source is not in the other configuration: by source.
    pub without_source: BTreeMap<String, u64>,
    /// Deliveries that proposed something and would propose nothing.
    pub ignored: u64,
    /// Deliveries that were understood and would be quarantined.
    pub newly_quarantined: u64,
    /// Deliveries that are in quarantine and would be understood.
    pub newly_understood: u64,
    /// How many entities were compared.
    pub entities_compared: u64,
    /// How many of them differ, with those that would be added or removed.
    pub entities_different: u64,
    /// How many would be there and are not.
    pub entities_added: u64,
    /// How many are there and would not be.
    pub entities_removed: u64,
    /// How many fields differ, by kind and name, the most first.
    pub fields_different: Vec<FieldCount>,
    /// How many fields have the same value, but from another winner.
    pub same_value_other_winner: u64,
}

/// How often a field differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldCount {
    /// The kind of entity.
    pub kind: String,
    /// The field's name.
    pub field: String,
    /// In how many entities.
    pub count: u64,
}
