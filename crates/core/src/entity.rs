//! An entity as the hub knows it: every field with every system's claim to it, and who won.
//!
//! How it is kept on disk is in `codec.rs` beside this.

mod codec;

use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;

use crate::Position;
use crate::change::Field;

/// An entity's whole state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entity {
    /// Its kind.
    pub kind: CompactString,
    /// Its key.
    pub key: CompactString,
    /// How often its document has changed; the ETag.
    pub version: u64,
    /// Its latest record, from which history goes back.
    pub position: Position,
    /// When its first record was decided, microseconds since 1970 UTC.
    pub created_at_us: i64,
    /// When its document last changed, microseconds since 1970 UTC.
    pub updated_at_us: i64,
    /// The systems that have spoken of it; claims name them by number.
    pub systems: SmallVec<[CompactString; 2]>,
    /// Its fields, sorted by name.
    pub fields: Vec<FieldState>,
}

/// One field: all claims to it and the winner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldState {
    /// Its name.
    pub name: CompactString,
    /// The number of the winning claim.
    pub winner: u32,
    /// The rule that decided, a [`Rule`](crate::merge::Rule).
    pub rule: i32,
    /// What each system says, one claim each.
    pub claims: SmallVec<[Claim; 1]>,
}

/// What one system says of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The system's number in [`Entity::systems`].
    pub system: u32,
    /// Its version or sequence; 0 where it has none.
    pub sequence: u64,
    /// Its clock, microseconds since 1970 UTC.
    pub occurred_at_us: i64,
    /// The hash of the delivery, the last tie-breaker.
    pub tie: u64,
    /// The record that brought it.
    pub position: Position,
    /// The value as compact JSON.
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
        let winning = |f: &FieldState| Some(Field::new(f.name.as_str(), f.value()?.clone()));
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
