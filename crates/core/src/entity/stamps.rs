//! The stamps of an entity, side by side: claims refer to them by number. One document's stamp is the start or the end
//! of the runs of many fields, and most of the time it is only looked at that it is there.

use std::cmp::Ordering;
use std::num::NonZeroU32;
use std::ops::Index;

use smallvec::SmallVec;

use crate::Position;

/// How many recent observations an entity remembers of all systems together: a run has a bit for each.
const SLOTS: u32 = u64::BITS;

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

/// An observation whose place is remembered. Its number stands for it in [`Claim::run`](super::Claim::run).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// The system's number.
    pub system: u32,
    /// Its stamp.
    pub stamp: Stamp,
}

/// The number of a stamp in its entity's [`Stamps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampId(NonZeroU32);

impl StampId {
    pub(super) const FIRST: Self = Self(NonZeroU32::MIN);

    fn new(at: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(at))
    }

    /// That of a recent observation.
    pub(crate) fn recent(slot: u32) -> Self {
        Self::new(slot)
    }

    fn at(self) -> usize {
        self.0.get() as usize - 1
    }

    /// The number among the recent ones, and among the others.
    pub(super) fn place(self) -> Result<usize, usize> {
        let at = self.at();
        if at < SLOTS as usize { Ok(at) } else { Err(at - SLOTS as usize) }
    }
}

impl Default for StampId {
    fn default() -> Self {
        Self::FIRST
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stamps {
    /// The latest observations of each system, [`RECENT_MAX`](super::RECENT_MAX) at most: what a run of equal values is
    /// made of.
    pub recents: Vec<Recent>,
    /// What claims still refer to beside them.
    pub(super) others: SmallVec<[Stamp; 1]>,
}

impl Index<StampId> for Stamps {
    type Output = Stamp;

    fn index(&self, id: StampId) -> &Stamp {
        static NONE: Stamp = Stamp { sequence: 0, occurred_at_us: 0, tie: 0, index: 0, position: 0 };
        let found = match id.place() {
            Ok(slot) => self.recents.get(slot).map(|recent| &recent.stamp),
            Err(at) => self.others.get(at),
        };
        found.unwrap_or(&NONE)
    }
}

impl Stamps {
    /// Whether there is room for one more recent one.
    pub(super) fn has_room(&self) -> bool {
        self.recents.len() < SLOTS as usize
    }

    /// Whether no observation of a system is later than this one, as far as any is remembered.
    pub(crate) fn none_is_later(&self, system: u32, stamp: &Stamp) -> bool {
        let own = self.recents.iter().filter(|recent| recent.system == system).map(|recent| &recent.stamp);
        // Of the others it is not known whose they are.
        own.chain(&self.others).all(|other| other.order(stamp).is_le())
    }

    /// Keeps a stamp that is not among the recent ones.
    pub(super) fn keep(&mut self, stamp: Stamp) -> StampId {
        self.others.push(stamp);
        StampId::new(SLOTS + self.others.len() as u32 - 1)
    }

    /// The later one of two.
    pub(crate) fn later(&self, a: StampId, b: StampId) -> StampId {
        if self[a].order(&self[b]).is_lt() { b } else { a }
    }

    /// Drops those of the others to which nobody refers. `all` goes through all references.
    pub(super) fn sweep<'a>(&mut self, references: impl Iterator<Item = &'a mut StampId>) {
        let mut moved: Vec<Option<StampId>> = vec![None; self.others.len()];
        let mut kept = SmallVec::new();
        for reference in references {
            let Err(at) = reference.place() else { continue };
            let Some((slot, stamp)) = moved.get_mut(at).zip(self.others.get(at)) else { continue };
            *reference = *slot.get_or_insert_with(|| {
                kept.push(*stamp);
                StampId::new(SLOTS + kept.len() as u32 - 1)
            });
        }
        self.others = kept;
    }

    /// The number under which a stamp is written: from 1, the recent ones first.
    pub(super) fn written(&self, id: StampId) -> u64 {
        match id.place() {
            Ok(slot) => slot as u64 + 1,
            Err(at) => (self.recents.len() + at) as u64 + 1,
        }
    }

    /// The stamp that was written under a number.
    pub(super) fn read(&self, number: u64) -> Option<StampId> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        let other = at.checked_sub(self.recents.len());
        match other {
            None => Some(StampId::new(at as u32)),
            Some(other) => (other < self.others.len()).then(|| StampId::new(SLOTS + other as u32)),
        }
    }

    /// The bytes that it takes beside its own place.
    pub(super) fn heap_bytes(&self) -> usize {
        let others = if self.others.spilled() { self.others.capacity() * size_of::<Stamp>() } else { 0 };
        self.recents.capacity() * size_of::<Recent>() + others
    }
}
