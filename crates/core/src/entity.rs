//! An entity as the hub knows it: every field with every system's claim to it, and who won.
//!
//! This is also the form in which state is kept on disk (format 1, Protocol Buffers; rebuilt from the journal
//! when it is lost).

use bytes::Bytes;
use prost::Message;

use crate::Position;
use crate::change::Field;
use crate::merge::Rule;

/// An entity's whole state.
#[derive(Clone, PartialEq, Message)]
pub struct Entity {
    /// Its kind.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// Its key.
    #[prost(string, tag = "2")]
    pub key: String,
    /// How often its document has changed; the ETag.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// Its latest record, from which history goes back.
    #[prost(uint64, tag = "4")]
    pub position: Position,
    /// When its first record was decided, microseconds since 1970 UTC.
    #[prost(int64, tag = "5")]
    pub created_at_us: i64,
    /// When its document last changed, microseconds since 1970 UTC.
    #[prost(int64, tag = "6")]
    pub updated_at_us: i64,
    /// The systems that have spoken of it; claims name them by number.
    #[prost(string, repeated, tag = "7")]
    pub systems: Vec<String>,
    /// Its fields, sorted by name.
    #[prost(message, repeated, tag = "8")]
    pub fields: Vec<FieldState>,
}

/// One field: all claims to it and the winner.
#[derive(Clone, PartialEq, Message)]
pub struct FieldState {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The number of the winning claim.
    #[prost(uint32, tag = "2")]
    pub winner: u32,
    /// The rule that decided.
    #[prost(enumeration = "Rule", tag = "3")]
    pub rule: i32,
    /// What each system says, one claim each.
    #[prost(message, repeated, tag = "4")]
    pub claims: Vec<Claim>,
}

/// What one system says of one field.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Claim {
    /// The system's number in [`Entity::systems`].
    #[prost(uint32, tag = "1")]
    pub system: u32,
    /// Its version or sequence; 0 where it has none.
    #[prost(uint64, tag = "2")]
    pub sequence: u64,
    /// Its clock, microseconds since 1970 UTC.
    #[prost(int64, tag = "3")]
    pub occurred_at_us: i64,
    /// The hash of the delivery, the last tie-breaker.
    #[prost(fixed64, tag = "4")]
    pub tie: u64,
    /// The record that brought it.
    #[prost(uint64, tag = "5")]
    pub position: Position,
    /// The value as compact JSON.
    #[prost(bytes = "bytes", tag = "6")]
    pub json: Bytes,
}

impl Entity {
    /// Its name: `kind/key`.
    pub fn id(&self) -> String {
        crate::entity_id(&self.kind, &self.key)
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&FieldState> {
        self.fields.binary_search_by(|f| f.name.as_str().cmp(name)).ok().map(|at| &self.fields[at])
    }

    /// The winning value of the field of that name, as compact JSON.
    pub fn value(&self, name: &str) -> Option<&Bytes> {
        self.field(name).and_then(FieldState::value)
    }

    /// The winning values, sorted by name.
    pub fn document(&self) -> Vec<Field> {
        let winning = |f: &FieldState| Some(Field::new(f.name.clone(), f.value()?.clone()));
        self.fields.iter().filter_map(winning).collect()
    }

    /// The number of a system in this entity, where it has spoken of it.
    pub fn system_number(&self, system: &str) -> Option<u32> {
        self.systems.iter().position(|s| s == system).map(|at| at as u32)
    }
}

impl FieldState {
    /// The winning claim.
    pub fn winning(&self) -> Option<&Claim> {
        self.claims.get(self.winner as usize)
    }

    /// The winning value.
    pub fn value(&self) -> Option<&Bytes> {
        self.winning().map(|claim| &claim.json)
    }
}
