//! Why an input is refused: its sender waits for the answer.

use thiserror::Error;

use crate::Position;
use crate::stock::StockRefusal;

/// Why an input is refused. Nothing is recorded of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The same key with another payload.
    #[error("the key `{key}` was used before with another payload (record {of})")]
    KeyReused {
        /// The key or delivery id.
        key: String,
        /// The record of its first use.
        of: Position,
    },
    /// What the order has come to does not allow the change.
    #[error("{id} can't be changed so: {reason}")]
    OrderState {
        /// The order.
        id: String,
        /// Why not, in words.
        reason: String,
    },
    /// The entity is named by an external id that belongs to none.
    #[error("no {kind} has the external id `{alias}`")]
    AliasUnknown {
        /// The external id.
        alias: String,
        /// The kind of the entity that was meant.
        kind: String,
    },
    /// An external id belongs to another entity.
    #[error("`{alias}` is an external id of {known}, so it can't be one of {claimed}: are they one?")]
    AliasTaken {
        /// The external id.
        alias: String,
        /// The entity that it belongs to.
        known: String,
        /// The entity that it was given to, or by which it was named.
        claimed: String,
    },
    /// External ids are not well-formed.
    #[error("{id}: {detail}")]
    AliasInvalid {
        /// The entity.
        id: String,
        /// What would be right.
        detail: String,
    },
    /// Entities can't be merged so, or not parted.
    #[error("{id} can't be merged so: {reason}")]
    Merge {
        /// The entity that was to go, or to come back.
        id: String,
        /// Why not, in words.
        reason: String,
    },
    /// The quarantined delivery was released meanwhile.
    #[error("the delivery of record {position} is no longer in quarantine")]
    Released {
        /// The quarantined record.
        position: Position,
    },
    /// The change occurred further ahead of the hub's clock than is allowed.
    #[error("{}", ahead(.id, *.ahead_s, *.limit_s))]
    ClockAhead {
        /// The entity.
        id: String,
        /// How far ahead, in seconds.
        ahead_s: i64,
        /// How far is allowed, in seconds.
        limit_s: i64,
    },
    /// The entity has another version than the writer believes.
    #[error("{id} has version {current}, not {expected}")]
    Version {
        /// The entity.
        id: String,
        /// What the writer expected.
        expected: u64,
        /// What it is; 0 where it does not exist.
        current: u64,
    },
    /// Stock does not allow it.
    #[error("{0}")]
    Stock(StockRefusal),
}

impl Refusal {
    /// The code under which a delivery is quarantined that would be refused so.
    pub fn quarantine_code(&self) -> &'static str {
        match self {
            Self::KeyReused { .. } => "key-reused",
            Self::OrderState { .. } => "order-state",
            Self::AliasUnknown { .. } => "alias-unknown",
            Self::AliasTaken { .. } => "alias-taken",
            Self::AliasInvalid { .. } => "alias-invalid",
            Self::Merge { .. } => "merge-impossible",
            Self::Released { .. } => "already-released",
            Self::ClockAhead { .. } => "clock-skew",
            Self::Version { .. } => "version-mismatch",
            Self::Stock(refusal) => refusal.code(),
        }
    }
}

fn ahead(id: &str, ahead_s: i64, limit_s: i64) -> String {
    format!(
        "{id} occurred {ahead_s} s after it was received, more than the {limit_s} s allowed: it would win over everything \
         until then"
    )
}
