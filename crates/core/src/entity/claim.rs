//! What one system says of one field, and since when: its latest *run*.
//!
//! Most deliveries carry the whole document, so each seems to write every field. What a system really wrote shows in
//! the set of its observations in the order of their stamps: a value's run begins where the value is first seen, and
//! the system's write of the field happened there. A late document extends a run to the front, or splits it, or lies
//! before it. To place it, a claim keeps the run's start, the stamps within it (as far as they are among the entity's
//! recent ones) and its bound: the last observation before the run, which said something else.

use super::{Stamp, StampId, Stamps};
use crate::json::Json;

/// How many observations of each system an entity remembers.
pub const RECENT_MAX: usize = 8;

/// What one system says of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The system's number in [`Entity::systems`](super::Entity::systems).
    pub system: u32,
    /// The first observation of the run: when the system wrote this value.
    pub start: StampId,
    /// The last observation of the run, where it is not among the recent ones of `run`.
    pub last: Option<StampId>,
    /// The last observation before the run: it said something else.
    pub bound: Option<StampId>,
    /// The recent observations in the run, a bit for each number in [`Stamps::recents`].
    pub run: u64,
    /// The system has this value because it was sent to it: it confirms, and claims nothing.
    pub echo: bool,
    /// Its value is the field's. It follows from both, and spares looking at them again: see
    /// [`FieldState::agree`](super::FieldState::agree).
    pub(crate) agrees: bool,
    /// The value as compact JSON; empty where the system says nothing of the field any more.
    pub json: Json,
}

/// What an observation does to its system's claim to a field. It is recorded, so that folding decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Effect {
    /// The newest, and another value: a run begins, the one before it ends.
    Starts = 0,
    /// The value of the run: the run has one more observation.
    Joins = 1,
    /// Another value in the middle of the run: what came after it is the run now.
    Splits = 2,
    /// Another value, before the run: the run can't reach back beyond it.
    Bounds = 3,
    /// Older than what is known before the run, or of a lower rank.
    Ignored = 4,
    /// A value of a higher rank: it begins a run whenever it was said.
    Rises = 5,
    /// Said before the system is known to have said nothing of it any more.
    Silenced = 6,
    /// As `Starts`, but the value is what was sent to this system.
    Echoes = 7,
}

impl Effect {
    /// Whether the observation is what its system says now.
    pub fn is_current(self) -> bool {
        matches!(self, Self::Starts | Self::Joins | Self::Rises | Self::Echoes)
    }
}

/// What the pure step from claim to claim needs to know of an observation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) system: u32,
    pub(crate) stamp: StampId,
    /// Its number among the recent ones.
    pub(crate) slot: Option<u32>,
    pub(crate) json: &'a [u8],
    /// See [`Entity::silence`](super::Entity::silence): where its system has no claim, or says nothing any more.
    pub(crate) silence: Option<StampId>,
}

impl Claim {
    /// The last observation of the run.
    pub fn last(&self, stamps: &Stamps) -> StampId {
        self.within(stamps).fold(self.last.unwrap_or(self.start), |a, b| stamps.later(a, b))
    }

    fn within(&self, stamps: &Stamps) -> impl Iterator<Item = StampId> + use<> {
        let (mut run, slots) = (self.run, stamps.recents.len() as u32);
        std::iter::from_fn(move || {
            let slot = run.trailing_zeros();
            // The lowest bit is taken off; without one there is no such slot either.
            run &= run.wrapping_sub(1);
            (slot < slots).then(|| StampId::recent(slot))
        })
    }

    /// The first observation of the run after this one, with which the run begins where it is split there.
    pub fn first_after(&self, stamp: &Stamp, stamps: &Stamps) -> StampId {
        let after = self.within(stamps).chain(self.last).filter(|other| stamps[*other].order(stamp).is_gt());
        after.reduce(|a, b| if stamps[b].order(&stamps[a]).is_lt() { b } else { a }).unwrap_or(self.start)
    }

    /// All references to stamps.
    pub(super) fn stamps_mut(&mut self) -> impl Iterator<Item = &mut StampId> {
        [Some(&mut self.start), self.last.as_mut(), self.bound.as_mut()].into_iter().flatten()
    }

    /// The recent observation of that number is about to be no recent one any more.
    pub(super) fn forget(&mut self, slot: u32, stamps: &Stamps) {
        let (bit, gone) = (1 << slot, StampId::recent(slot));
        if self.run & bit == 0 {
            return;
        }
        self.run &= !bit;
        // The usual case: the oldest one goes, and the run has later ones.
        if self.within(stamps).next().is_some_and(|other| stamps[other].order(&stamps[gone]).is_gt()) {
            return;
        }
        let last = stamps.later(self.last(stamps), gone);
        let is_gone = |id: StampId| stamps[id].order(&stamps[gone]).is_eq();
        if is_gone(last) && !is_gone(self.start) {
            self.last = Some(gone);
        }
    }

    /// Up to when the system is known to say this. One that says nothing (any more) does so by its silence.
    fn until(&self, silence: Option<StampId>, stamps: &Stamps) -> StampId {
        let last = self.last(stamps);
        silence.filter(|_| self.json.is_empty()).map_or(last, |silence| stamps.later(last, silence))
    }

    /// What an observation of the same system with the same value does to this claim.
    pub(crate) fn repeated(&self, stamp: &Stamp, stamps: &Stamps) -> Effect {
        let beyond = self.bound.is_some_and(|bound| stamp.order(&stamps[bound]).is_lt());
        if beyond { Effect::Ignored } else { Effect::Joins }
    }

    /// What an observation of the same system does to this claim. `ranks` are those of the new value and of the
    /// claim's.
    pub(crate) fn effect(
        &self,
        (stamp, json): (&Stamp, &[u8]),
        ranks: (i64, i64),
        silence: Option<StampId>,
        stamps: &Stamps,
    ) -> Effect {
        if self.json == *json {
            return self.repeated(stamp, stamps);
        }
        if ranks.0 != ranks.1 {
            return if ranks.0 > ranks.1 { Effect::Rises } else { Effect::Ignored };
        }
        // Two values of one stamp come from two deliveries that nothing tells apart: then the value decides.
        let values = || json.cmp(&*self.json);
        if stamp.order(&stamps[self.until(silence, stamps)]).then_with(values).is_gt() {
            Effect::Starts
        } else if stamp.order(&stamps[self.start]).then_with(values).is_lt() {
            let beyond = self.bound.is_some_and(|bound| stamp.order(&stamps[bound]).is_le());
            if beyond { Effect::Ignored } else { Effect::Bounds }
        } else {
            Effect::Splits
        }
    }

    /// The first claim of a system to a field.
    pub(crate) fn first(observed: &Observed<'_>, effect: Effect) -> Self {
        let run = observed.slot.map_or(0, |slot| 1 << slot);
        let Observed { system, stamp: start, silence: bound, .. } = *observed;
        let new = Self { system, start, json: Json::of(observed.json), ..Self::default() };
        match (effect, bound) {
            (Effect::Silenced, Some(silence)) => {
                Self { start: silence, bound: Some(start), json: Json::default(), ..new }
            }
            (Effect::Rises, _) => Self { run, ..new },
            (Effect::Echoes, _) => Self { run, bound, echo: true, ..new },
            _ => Self { run, bound, ..new },
        }
    }

    /// Does to the claim what was decided.
    pub(crate) fn apply(&mut self, observed: &Observed<'_>, effect: Effect, stamps: &Stamps) {
        let bit = observed.slot.map_or(0, |slot| 1u64 << slot);
        let stamp = &stamps[observed.stamp];
        match effect {
            Effect::Starts | Effect::Rises | Effect::Echoes => {
                let ended = self.until(observed.silence, stamps);
                *self = Self {
                    system: self.system,
                    start: observed.stamp,
                    last: None,
                    bound: (effect != Effect::Rises).then_some(ended),
                    run: bit,
                    echo: effect == Effect::Echoes,
                    agrees: false,
                    json: Json::of(observed.json),
                };
            }
            Effect::Joins => {
                if observed.slot.is_none() && stamp.order(&stamps[self.last(stamps)]).is_gt() {
                    self.last = Some(observed.stamp);
                }
                self.run |= bit;
                if stamp.order(&stamps[self.start]).is_lt() {
                    if self.run & !bit == 0 && self.last.is_none() {
                        self.last = Some(self.start);
                    }
                    self.start = observed.stamp;
                }
            }
            Effect::Splits => {
                let after = self.first_after(stamp, stamps);
                let silent = self.until(observed.silence, stamps);
                self.start = if stamps[after].order(stamp).is_gt() { after } else { silent };
                self.bound = Some(observed.stamp);
                for (slot, recent) in stamps.recents.iter().enumerate() {
                    if recent.stamp.order(stamp).is_le() {
                        self.run &= !(1 << slot);
                    }
                }
            }
            Effect::Bounds => self.bound = Some(observed.stamp),
            Effect::Ignored | Effect::Silenced => {}
        }
    }
}
