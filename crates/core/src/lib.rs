//! What happens to a change: pure.
//!
//! This crate decides. It knows no clock, randomness, network, file, thread, async runtime, logger or
//! environment: time and chance come in as data, and the same inputs always give the same decision.
//!
//! The way through it: an [`Input`] meets the [`Facts`] loaded for it in [`decide()`]; what comes out is a
//! list of [`record::Record`]s, and [`fold`] is the only function that turns a record into state, live and on
//! replay alike.

pub mod alert;
pub mod alias;
pub mod change;
pub mod decide;
pub mod delivery;
pub mod entity;
pub mod event;
pub mod fold;
pub mod freshness;
pub mod json;
pub mod merge;
pub mod money;
mod name;
pub mod order;
pub mod path;
pub mod reached;
pub mod record;
pub mod rules;
pub mod stock;
pub mod time;

pub use change::{Change, ChangeError, Field, Input, InputBody, Outcome, QuarantineReason, Raw};
pub use decide::timer::{Timer, TimerKind};
pub use decide::{Decision, Facts, Refusal, Seen, decide};
pub use entity::{Effect, Entity};
pub use event::Event;
pub use json::Json;
pub use record::Record;
pub use rules::{Domain, Rules, SentTo};

/// A place in the journal; the first record ever has position 1.
pub type Position = u64;

/// An entity's id: most are short enough to stand in place.
pub type EntityId = compact_str::CompactString;

/// The name of an entity in one string: `kind/key`, for example `order/web:1001`.
pub fn entity_id(kind: &str, key: &str) -> EntityId {
    let mut id = EntityId::with_capacity(kind.len() + 1 + key.len());
    id.push_str(kind);
    id.push('/');
    id.push_str(key);
    id
}

/// The stable 64-bit hash under which a delivery id is remembered. It is part of the record format:
/// changing it would forget every delivery seen so far.
pub fn delivery_hash(source: &str, delivery: &str) -> u64 {
    // Put together in place: hashing in steps costs several times as much for what is this short.
    let mut both: smallvec::SmallVec<[u8; 128]> = smallvec::SmallVec::from_slice(source.as_bytes());
    both.push(0);
    both.extend_from_slice(delivery.as_bytes());
    xxhash_rust::xxh3::xxh3_64(&both)
}

/// The hash of a payload, by which a reused key with another payload is told from a repetition.
pub fn payload_hash(payload: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(payload)
}
