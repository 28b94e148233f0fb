//! An entity as the hub knows it: every field with every system's claim to it, and who won.
//!
//! How it is kept on disk is in `codec.rs` beside this, how a claim changes in `claim.rs`.

mod claim;
mod codec;
mod members;
mod stamps;

use bytes::Bytes;
use compact_str::CompactString;
use smallvec::SmallVec;

pub(crate) use claim::Observed;
pub use claim::{Claim, Effect, RECENT_MAX};
pub use members::{base_system, member_of, member_system};
pub use stamps::{Recent, Stamp, StampId, Stamps};

use crate::Position;
use crate::change::Field;
use crate::json::Json;
use crate::merge::OPERATOR;
use crate::name::{compare, same};
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
    /// The last record of it that was published; 0 where none was, or where it was so long ago that this was not kept yet.
    pub last_event: Position,
    /// Fields that its publication waits for.
    pub incomplete: bool,
    /// The key of the entity that it is merged into; empty where it is one of its own.
    pub merged_into: CompactString,
    /// The systems that have spoken of it; claims name them by number.
    pub systems: SmallVec<[CompactString; 2]>,
    /// When what was said.
    pub stamps: Stamps,
    /// Observations that are in no list any more: a document that is older than those can be put in its place only
    /// roughly.
    pub pruned: u64,
    /// Its fields, sorted by name.
    pub fields: Vec<FieldState>,
}

/// The claims to a field. Most are known to two systems, a source and who else has it: both stand within the field, so that
/// an entity is one piece of memory and deciding about it does not wait for many.
pub type Claims = SmallVec<[Claim; 2]>;

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
    /// What few fields have.
    pub more: Option<Box<More>>,
    /// What each system says, one claim each.
    pub claims: Claims,
}

/// What only few fields have: kept apart, so that the others are small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct More {
    /// The value, where it is made of several claims.
    pub joined: Option<Json>,
    /// Values that stood before, the oldest first, where a destination may echo them.
    pub past: Vec<Past>,
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
    pub fn id(&self) -> crate::EntityId {
        crate::entity_id(&self.kind, &self.key)
    }

    /// The last record of it that was published; 0 where none was, `None` where it is not known.
    pub fn newest_event(&self) -> Option<Position> {
        (self.last_event != 0 || !self.published).then_some(self.last_event)
    }

    /// The record from which on its events are found, going back; 0 where it has none.
    pub fn events_from(&self) -> Position {
        self.newest_event().unwrap_or(self.position)
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&FieldState> {
        // What is asked for most often is not there mostly, and would stand before all others.
        self.fields.first().filter(|first| compare(&first.name, name).is_le())?;
        self.place(name).ok().map(|at| &self.fields[at])
    }

    /// Where the field of that name is, or else where it would be.
    pub(crate) fn place(&self, name: &str) -> Result<usize, usize> {
        self.fields.binary_search_by(|f| compare(&f.name, name))
    }

    /// The same, where it may be at `hint` or a little after it.
    #[inline]
    pub(crate) fn place_near(&self, name: &str, hint: usize) -> Result<usize, usize> {
        let near = self.fields.get(hint..).unwrap_or_default().iter().take(3);
        match near.into_iter().position(|f| same(f.name.as_bytes(), name.as_bytes())) {
            Some(at) => Ok(hint + at),
            None => self.place(name),
        }
    }

    /// Whether there is a field whose name begins so.
    pub fn has_field_from(&self, prefix: &str) -> bool {
        let at = self.fields.partition_point(|f| compare(&f.name, prefix).is_lt());
        self.fields.get(at).is_some_and(|f| f.name.starts_with(prefix))
    }

    /// The winning value of the field of that name, as compact JSON.
    pub fn value(&self, name: &str) -> Option<&Json> {
        self.field(name).and_then(FieldState::value)
    }

    /// The winning values, sorted by name; parts of fields under their paths.
    pub fn document(&self) -> Vec<Field> {
        let winning = |f: &FieldState| Some(Field::new(f.name.as_str(), f.value()?.to_bytes()));
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
    pub fn silence(&self, system: u32, name: &str) -> Option<StampId> {
        if base_system(self.system(system)) == OPERATOR {
            return None;
        }
        let claim = |field: &str| self.field(field)?.claims.iter().find(|c| c.system == system);
        let last_deleted = match claim(DELETED_FIELD) {
            Some(claim) if claim.json == "true" => Some(claim.last(&self.stamps)),
            Some(claim) => claim.bound,
            None => None,
        };
        let of_list = path::list_of(name).and_then(|list| claim(&list)).map(|claim| claim.last(&self.stamps));
        let emptied = path::object_of(name).and_then(&claim).and_then(|claim| match &claim.json[..] {
            b"null" => Some(claim.last(&self.stamps)),
            _ => claim.bound,
        });
        [last_deleted, of_list, emptied].into_iter().flatten().reduce(|a, b| self.stamps.later(a, b))
    }

    /// What tells, from before the first deletion, since when each system has known the entity to exist.
    pub fn existence(&self) -> FieldState {
        let systems = (0..self.systems.len() as u32).filter(|system| base_system(self.system(*system)) != OPERATOR);
        let claims = systems.filter_map(|system| {
            let own = self.fields.iter().flat_map(|f| f.claims.iter().filter(move |c| c.system == system));
            let stamps = own.flat_map(|c| [Some(c.start), c.bound]).flatten();
            let slots = || self.stamps.recents.iter().enumerate().filter(|(_, r)| r.system == system);
            let recents = slots().map(|(slot, _)| StampId::recent(slot as u32));
            let earlier = |a, b| if self.stamps[b].order(&self.stamps[a]).is_lt() { b } else { a };
            let start = stamps.chain(recents).reduce(earlier)?;
            let run = slots().fold(0, |run, (slot, _)| run | 1 << slot);
            Some(Claim { system, start, run, json: Json::new("false"), ..Claim::default() })
        });
        FieldState { name: DELETED_FIELD.into(), claims: claims.collect(), winner: NOBODY, ..FieldState::default() }
    }

    /// Reads a little of everywhere. An entity that has not been looked at for long comes into the processor's cache by
    /// it, piece by piece at once, instead of one piece after the other when it is decided about.
    ///
    /// It is about to be decided about what `system` says: what it said before is looked at, and else what stands.
    pub fn warm(&self, system: &str) {
        // First only the fields themselves, every line of the processor's cache: what is behind them is asked for when they have
        // come, and that for many at once.
        let claim = |claim: Option<&Claim>| claim.map_or(0, |c| c.json.len() ^ c.system as usize);
        let field = |f: &FieldState| f.name.len() ^ claim(f.claims.first()) ^ claim(f.claims.last());
        std::hint::black_box(self.fields.iter().fold(0, |sum, f| sum ^ field(f)));
        let own = self.system_number(system);
        // Of a long value every line of the processor's cache.
        let byte = |byte: Option<&u8>| byte.copied().map_or(0, usize::from);
        let long = |json: &[u8]| json.iter().step_by(64).map(|byte| usize::from(*byte)).sum::<usize>();
        let claim = |c: &Claim| byte(c.json.last()) + if c.json.len() > 24 { long(&c.json) } else { 0 };
        let said = |f: &FieldState| f.claims.iter().find(|c| Some(c.system) == own).or(f.winning()).map_or(0, claim);
        let field = |f: &FieldState| f.name.len() + said(f);
        let fields: usize = self.fields.iter().map(field).sum();
        let recents: u32 = self.stamps.recents.iter().map(|r| r.system).sum();
        std::hint::black_box((fields, recents));
    }

    /// About how many bytes it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let claims = |f: &FieldState| {
            let spilled = if f.claims.spilled() { f.claims.capacity() * size_of::<Claim>() } else { 0 };
            spilled + f.claims.iter().map(|c| c.json.heap_bytes()).sum::<usize>()
        };
        let more = |more: &More| {
            let joined = more.joined.as_ref().map_or(0, Json::heap_bytes);
            size_of::<More>() + more.past.capacity() * size_of::<Past>() + joined
        };
        let of_field = |f: &FieldState| claims(f) + f.more.as_deref().map_or(0, more);
        size_of::<Self>()
            + self.stamps.heap_bytes()
            + self.fields.capacity() * size_of::<FieldState>()
            + self.fields.iter().map(of_field).sum::<usize>()
    }

    /// Takes an observation into the list of recent ones and gives its number, `None` where it is older than all that
    /// are kept. The oldest one of the system makes room where need be.
    pub(crate) fn observe(&mut self, system: u32, stamp: &Stamp) -> Option<u32> {
        let (mut own, mut oldest): (usize, Option<usize>) = (0, None);
        let recents = &mut self.stamps.recents;
        for (slot, recent) in recents.iter().enumerate().filter(|(_, r)| r.system == system) {
            if recent.stamp.order(stamp).is_eq() {
                return Some(slot as u32);
            }
            own += 1;
            if oldest.is_none_or(|oldest| recent.stamp.order(&recents[oldest].stamp).is_lt()) {
                oldest = Some(slot);
            }
        }
        if own < RECENT_MAX && self.stamps.has_room() {
            self.stamps.recents.push(Recent { system, stamp: *stamp });
            return Some(self.stamps.recents.len() as u32 - 1);
        }
        self.pruned += 1;
        let slot = oldest.filter(|oldest| self.stamps.recents[*oldest].stamp.order(stamp).is_lt())?;
        self.set_aside(slot as u32);
        self.stamps.recents[slot].stamp = *stamp;
        Some(slot as u32)
    }

    /// A recent observation is not recent any more: the claims that begin or end with it keep its stamp.
    fn set_aside(&mut self, slot: u32) {
        self.sweep_stamps();
        let gone = StampId::recent(slot);
        let stamp = self.stamps[gone];
        let mut kept = None;
        for claim in self.fields.iter_mut().flat_map(|f| &mut f.claims) {
            claim.forget(slot, &self.stamps);
            for reference in claim.stamps_mut().filter(|reference| **reference == gone) {
                *reference = *kept.get_or_insert_with(|| self.stamps.keep(stamp));
            }
        }
    }

    /// Drops stamps to which no claim refers any more: each time that there are twice as many, so that it costs little.
    fn sweep_stamps(&mut self) {
        if self.stamps.others.len() >= 8 && self.stamps.others.len().is_power_of_two() {
            self.stamps.sweep(self.fields.iter_mut().flat_map(|f| &mut f.claims).flat_map(Claim::stamps_mut));
        }
    }

    /// The number of a stamp, whether it is among the recent ones or not.
    pub(crate) fn stamp_id(&mut self, slot: Option<u32>, stamp: &Stamp) -> StampId {
        if let Some(slot) = slot {
            return StampId::recent(slot);
        }
        self.sweep_stamps();
        self.stamps.keep(*stamp)
    }
}

impl FieldState {
    /// The winning claim.
    pub fn winning(&self) -> Option<&Claim> {
        self.claims.get(self.winner as usize)
    }

    /// The winning value.
    pub fn value(&self) -> Option<&Json> {
        self.winning().map(|claim| self.joined().unwrap_or(&claim.json))
    }

    /// The value, where it is made of several claims.
    pub fn joined(&self) -> Option<&Json> {
        self.more.as_ref()?.joined.as_ref()
    }

    /// Notes which claims say what stands. To be called after each change of a claim's value or of the winner.
    pub(crate) fn agree(&mut self) {
        for at in 0..self.claims.len() {
            self.claims[at].agrees = self.value().is_some_and(|value| *value == self.claims[at].json);
        }
    }

    /// Values that stood before, the oldest first.
    pub fn past(&self) -> &[Past] {
        self.more.as_ref().map_or(&[], |more| &more.past)
    }

    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }
}
