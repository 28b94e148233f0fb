//! What one system says of one field, and since when: its latest *run*.
//!
//! Most deliveries carry the whole document, so each seems to write every field. What a system really wrote shows in
//! the set of its observations in the order of their stamps: a value's run begins where the value is first seen, and
//! the system's write of the field happened there. A late document extends a run to the front, or splits it, or lies
//! before it. To place it, a claim keeps the run's start, the stamps within it (as far as they are among the entity's
//! recent ones) and its bound: the last observation before the run, which said something else.

use std::sync::Arc;

use super::{Recent, Stamp};
use crate::json::Json;

/// How many observations of each system an entity remembers.
pub const RECENT_MAX: usize = 8;

/// What one system says of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The system's number in [`Entity::systems`](super::Entity::systems).
    pub system: u32,
    /// The first observation of the run: when the system wrote this value.
    pub start: Arc<Stamp>,
    /// The last observation of the run, where it is not among the recent ones of `run`.
    pub last: Option<Arc<Stamp>>,
    /// The last observation before the run: it said something else.
    pub bound: Option<Arc<Stamp>>,
    /// The recent observations in the run, a bit for each number in [`Entity::recents`](super::Entity::recents).
    pub run: u64,
    /// The system has this value because it was sent to it: it confirms, and claims nothing.
    pub echo: bool,
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
#[derive(Clone, Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) system: u32,
    pub(crate) stamp: &'a Arc<Stamp>,
    /// Its number among the recent ones.
    pub(crate) slot: Option<u32>,
    pub(crate) json: &'a [u8],
    /// See [`Entity::silence`](super::Entity::silence): where its system has no claim, or says nothing any more.
    pub(crate) silence: Option<Arc<Stamp>>,
}

impl Claim {
    /// The last observation of the run.
    pub fn last<'a>(&'a self, recents: &'a [Recent]) -> &'a Arc<Stamp> {
        let kept = self.last.as_ref().unwrap_or(&self.start);
        self.within(recents).fold(kept, |a, b| if a.order(b).is_lt() { b } else { a })
    }

    fn within<'a>(&self, recents: &'a [Recent]) -> impl Iterator<Item = &'a Arc<Stamp>> + use<'a> {
        let mut run = self.run;
        std::iter::from_fn(move || {
            let slot = run.trailing_zeros() as usize;
            // The lowest bit is taken off; without one there is no such slot either.
            run &= run.wrapping_sub(1);
            recents.get(slot).map(|recent| &recent.stamp)
        })
    }

    /// The first observation of the run after this one, with which the run begins where it is split there.
    pub fn first_after<'a>(&'a self, stamp: &Stamp, recents: &'a [Recent]) -> &'a Arc<Stamp> {
        let after = self.within(recents).chain(&self.last).filter(|other| other.order(stamp).is_gt());
        after.reduce(|a, b| if b.order(a).is_lt() { b } else { a }).unwrap_or(&self.start)
    }

    /// The observation of that number is not kept any more.
    pub(super) fn forget(&mut self, slot: u32, stamp: &Arc<Stamp>, recents: &[Recent]) {
        let was_last = self.last(recents).order(stamp).is_eq();
        self.run &= !(1 << slot);
        if was_last && self.start.order(stamp).is_ne() {
            self.last = Some(stamp.clone());
        }
    }

    /// Up to when the system is known to say this. One that says nothing (any more) does so by its silence.
    fn until<'a>(&'a self, silence: Option<&'a Arc<Stamp>>, recents: &'a [Recent]) -> &'a Arc<Stamp> {
        let last = self.last(recents);
        silence.filter(|silence| self.json.is_empty() && silence.order(last).is_gt()).unwrap_or(last)
    }

    /// What an observation of the same system does to this claim. `ranks` are those of the new value and of the
    /// claim's.
    pub(crate) fn effect(
        &self,
        (stamp, json): (&Stamp, &[u8]),
        ranks: (i64, i64),
        silence: Option<&Arc<Stamp>>,
        recents: &[Recent],
    ) -> Effect {
        if self.json == *json {
            let beyond = self.bound.as_ref().is_some_and(|bound| stamp.order(bound).is_lt());
            return if beyond { Effect::Ignored } else { Effect::Joins };
        }
        if ranks.0 != ranks.1 {
            return if ranks.0 > ranks.1 { Effect::Rises } else { Effect::Ignored };
        }
        // Two values of one stamp come from two deliveries that nothing tells apart: then the value decides.
        let values = || json.cmp(&*self.json);
        if stamp.order(self.until(silence, recents)).then_with(values).is_gt() {
            Effect::Starts
        } else if stamp.order(&self.start).then_with(values).is_lt() {
            let beyond = self.bound.as_ref().is_some_and(|bound| stamp.order(bound).is_le());
            if beyond { Effect::Ignored } else { Effect::Bounds }
        } else {
            Effect::Splits
        }
    }

    /// The first claim of a system to a field.
    pub(crate) fn first(observed: &Observed<'_>, effect: Effect) -> Self {
        let bit = observed.slot.map_or(0, |slot| 1 << slot);
        let bound = observed.silence.clone();
        let (start, json) = (observed.stamp.clone(), Json::of(observed.json));
        let new = Self { system: observed.system, start, json, ..Self::default() };
        match (effect, &observed.silence) {
            (Effect::Silenced, Some(silence)) => {
                Self { start: silence.clone(), bound: Some(observed.stamp.clone()), json: Json::default(), ..new }
            }
            (Effect::Rises, _) => Self { run: bit, ..new },
            (Effect::Echoes, _) => Self { run: bit, bound, echo: true, ..new },
            _ => Self { run: bit, bound, ..new },
        }
    }

    /// Does to the claim what was decided.
    pub(crate) fn apply(&mut self, observed: &Observed<'_>, effect: Effect, recents: &[Recent]) {
        let bit = observed.slot.map_or(0, |slot| 1u64 << slot);
        match effect {
            Effect::Starts | Effect::Rises | Effect::Echoes => {
                let ended = self.until(observed.silence.as_ref(), recents).clone();
                *self = Self {
                    system: self.system,
                    start: observed.stamp.clone(),
                    last: None,
                    bound: (effect != Effect::Rises).then_some(ended),
                    run: bit,
                    echo: effect == Effect::Echoes,
                    json: Json::of(observed.json),
                };
            }
            Effect::Joins => {
                if observed.slot.is_none() && observed.stamp.order(self.last(recents)).is_gt() {
                    self.last = Some(observed.stamp.clone());
                }
                self.run |= bit;
                if observed.stamp.order(&self.start).is_lt() {
                    if self.run & !bit == 0 && self.last.is_none() {
                        self.last = Some(self.start.clone());
                    }
                    self.start = observed.stamp.clone();
                }
            }
            Effect::Splits => {
                let after = self.first_after(observed.stamp, recents);
                let silent = self.until(observed.silence.as_ref(), recents);
                self.start = if after.order(observed.stamp).is_gt() { after } else { silent }.clone();
                self.bound = Some(observed.stamp.clone());
                for (slot, recent) in recents.iter().enumerate() {
                    if recent.stamp.order(observed.stamp).is_le() {
                        self.run &= !(1 << slot);
                    }
                }
            }
            Effect::Bounds => self.bound = Some(observed.stamp.clone()),
            Effect::Ignored | Effect::Silenced => {}
        }
    }
}
