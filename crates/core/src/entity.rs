//! An entity as the hub knows it: every field with every system's claim to it, and who won.
//!
//! How it is kept on disk is in `codec.rs` beside this, how a claim changes in `claim.rs`.

mod claim;
mod codec;
mod members;

use std::cmp::Ordering;

use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;

pub(crate) use claim::Observed;
pub use claim::{Claim, Effect, RECENT_MAX};
pub use members::{base_system, member_of, member_system};

use crate::Position;
use crate::change::Field;
use crate::merge::OPERATOR;
use crate::path;

/// The field that tells whether an entity is deleted, `true` or `false`: not a part of its document. It is there from
/// the first deletion on.
pub const DELETED_FIELD: &str = "_deleted";

/// What [`FieldState::winner`] is where nobody says anything of the field (any more).
pub const NOBODY: u32 = u32::MAX;

/// How many values of a field that stood before are remembered, to know a destination's echo of them.
pub const PAST_MAX: usize = 4;

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
    /// Whether an event of it was ever published: an incomplete entity is known, and nobody is told of it yet.
    pub published: bool,
    /// Fields that its publication waits for.
    pub incomplete: bool,
    /// The key of the entity that it is merged into; empty where it is one of its own.
    pub merged_into: CompactString,
    /// The systems that have spoken of it; claims name them by number.
    pub systems: SmallVec<[CompactString; 2]>,
    /// The latest observations of each system, [`RECENT_MAX`] at most: what a run of equal values is made of.
    pub recents: Vec<Recent>,
    /// Observations that are in no list any more: a document that is older than those can be put in its place only
    /// roughly.
    pub pruned: u64,
    /// Its fields, sorted by name.
    pub fields: Vec<FieldState>,
}

/// Where an observation stands among those of its system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The system's version or sequence; 0 where it has none.
    pub sequence: u64,
    /// The system's clock, microseconds since 1970 UTC.
    pub occurred_at_us: i64,
    /// The hash of the delivery.
    pub tie: u64,
    /// The number of the change within its delivery.
    pub index: u32,
    /// The record that brought it. It orders nothing: that depends on the order of arrival.
    pub position: Position,
}

impl Stamp {
    /// The order of one system's observations: its version where it has one, else its clock, then the delivery.
    pub fn order(&self, other: &Self) -> Ordering {
        let key = |s: &Self| (s.sequence, s.occurred_at_us, s.tie, s.index);
        key(self).cmp(&key(other))
    }
}

/// An observation whose place is remembered. Its number in [`Entity::recents`] stands for it in [`Claim::run`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// The system's number.
    pub system: u32,
    /// Its stamp.
    pub stamp: Stamp,
}

/// One field: all claims to it and the winner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FieldState {
    /// Its name: a path where it is a part of a field, see [`path`].
    pub name: CompactString,
    /// The number of the winning claim; [`NOBODY`] where there is none.
    pub winner: u32,
    /// The rule that decided, a [`Rule`](crate::merge::Rule).
    pub rule: i32,
    /// The record since which the value stands.
    pub since: Position,
    /// The value, where it is made of several claims.
    pub joined: Option<Bytes>,
    /// Values that stood before, the oldest first, where a destination may echo them.
    pub past: SmallVec<[Past; 0]>,
    /// What each system says, one claim each.
    pub claims: SmallVec<[Claim; 1]>,
}

/// A value that stood before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// The hash of its JSON.
    pub hash: u64,
    /// The record with which it began to stand.
    pub since: Position,
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

    /// The winning values, sorted by name; parts of fields under their paths.
    pub fn document(&self) -> Vec<Field> {
        let winning = |f: &FieldState| Some(Field::new(f.name.as_str(), f.value()?.clone()));
        self.fields.iter().filter(|f| f.name != DELETED_FIELD).filter_map(winning).collect()
    }

    /// The document as one JSON object, its parts put together.
    pub fn document_json(&self) -> Bytes {
        let mut out = Vec::with_capacity(256);
        path::assemble(&mut out, &self.document().iter().collect::<Vec<_>>());
        out.into()
    }

    /// Whether it is deleted.
    pub fn is_deleted(&self) -> bool {
        self.value(DELETED_FIELD).is_some_and(|json| json == "true")
    }

    /// The number of a system in this entity, where it has spoken of it.
    pub fn system_number(&self, system: &str) -> Option<u32> {
        self.systems.iter().position(|s| s == system).map(|at| at as u32)
    }

    /// The name of a system by its number.
    pub fn system(&self, number: u32) -> &str {
        self.systems.get(number as usize).map_or("", CompactString::as_str)
    }

    /// The latest stamp by which a system is known to have said nothing of a field of which it has no claim: it has
    /// deleted the entity, or has given the list whole without that item, or has emptied what the field is a part of.
    ///
    /// What a person decides of one field says nothing of another one.
    pub fn silence(&self, system: u32, name: &str) -> Option<Stamp> {
        if base_system(self.system(system)) == OPERATOR {
            return None;
        }
        let claim = |field: &str| self.field(field)?.claims.iter().find(|c| c.system == system);
        let last_deleted = match claim(DELETED_FIELD) {
            Some(claim) if claim.json == "true" => Some(claim.last(&self.recents)),
            Some(claim) => claim.bound.as_deref().copied(),
            None => None,
        };
        let of_list = path::list_of(name).and_then(|list| claim(&list)).map(|claim| claim.last(&self.recents));
        let emptied = path::object_of(name).and_then(&claim).and_then(|claim| match &claim.json[..] {
            b"null" => Some(claim.last(&self.recents)),
            _ => claim.bound.as_deref().copied(),
        });
        let later = |a: Stamp, b: Stamp| if a.order(&b) == Ordering::Less { b } else { a };
        [last_deleted, of_list, emptied].into_iter().flatten().reduce(later)
    }

    /// What tells, from before the first deletion, since when each system has known the entity to exist.
    pub fn existence(&self) -> FieldState {
        let systems = (0..self.systems.len() as u32).filter(|system| base_system(self.system(*system)) != OPERATOR);
        let claims = systems.filter_map(|system| {
            let own = self.fields.iter().flat_map(|f| f.claims.iter().filter(move |c| c.system == system));
            let stamps = own.flat_map(|c| [Some(c.start), c.bound.as_deref().copied()]).flatten();
            let slots = || self.recents.iter().enumerate().filter(|(_, r)| r.system == system);
            let start =
                stamps.chain(slots().map(|(_, r)| r.stamp)).reduce(|a, b| if b.order(&a).is_lt() { b } else { a })?;
            let run = slots().fold(0, |run, (slot, _)| run | 1 << slot);
            Some(Claim { system, start, run, json: Bytes::from_static(b"false"), ..Claim::default() })
        });
        FieldState { name: DELETED_FIELD.into(), claims: claims.collect(), winner: NOBODY, ..FieldState::default() }
    }

    /// Takes an observation into the list of recent ones and gives its number, `None` where it is older than all that
    /// are kept. The oldest one of the system makes room where need be.
    pub(crate) fn observe(&mut self, system: u32, stamp: Stamp) -> Option<u32> {
        let own = || self.recents.iter().enumerate().filter(|(_, r)| r.system == system);
        if let Some((slot, _)) = own().find(|(_, r)| r.stamp.order(&stamp).is_eq()) {
            return Some(slot as u32);
        }
        let recent = Recent { system, stamp };
        if own().count() < RECENT_MAX && self.recents.len() < 64 {
            self.recents.push(recent);
            return Some(self.recents.len() as u32 - 1);
        }
        self.pruned += 1;
        let oldest = own().min_by(|(_, a), (_, b)| a.stamp.order(&b.stamp)).map(|(slot, r)| (slot, r.stamp));
        let (slot, evicted) = oldest.filter(|(_, oldest)| oldest.order(&stamp).is_lt())?;
        for claim in self.fields.iter_mut().flat_map(|f| &mut f.claims).filter(|c| c.run & 1 << slot != 0) {
            claim.forget(slot as u32, evicted, &self.recents);
        }
        self.recents[slot] = recent;
        Some(slot as u32)
    }
}

impl FieldState {
    /// The winning claim.
    pub fn winning(&self) -> Option<&Claim> {
        self.claims.get(self.winner as usize)
    }

    /// The winning value.
    pub fn value(&self) -> Option<&Bytes> {
        self.winning().map(|claim| self.joined.as_ref().unwrap_or(&claim.json))
    }
}
