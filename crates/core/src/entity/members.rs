//! Entities that were found to be one. The one that stays has the claims of the others beside its own, under names of
//! their own: what the system `shop` says of the member `B` is a claim of `shop@B`. So no claim is ever mixed with another
//! one, each goes on by itself, and what was merged can be parted again exactly.

use std::collections::BTreeSet;

use compact_str::{CompactString, format_compact};

use super::{Claim, DELETED_FIELD, Entity, FieldState, NOBODY, Recent, StampId, Stamps};

/// Under which name a system's claims to a member are kept; the system's own where `member` is empty.
pub fn member_system(system: &str, member: &str) -> CompactString {
    if member.is_empty() { system.into() } else { format_compact!("{system}@{member}") }
}

/// The system and the member of such a name. The names of the hub's own systems begin with an `@`, which parts nothing.
fn parts_of(name: &str) -> (&str, Option<&str>) {
    match name.get(1..).and_then(|rest| rest.find('@')) {
        Some(at) => (&name[..=at], Some(&name[at + 2..])),
        None => (name, None),
    }
}

/// The system of a name, whichever member it speaks of.
pub fn base_system(name: &str) -> &str {
    parts_of(name).0
}

/// The key of the member that a name speaks of; none where it is the entity itself.
pub fn member_of(name: &str) -> Option<&str> {
    parts_of(name).1
}

impl Entity {
    /// Whether others are merged into it.
    pub fn has_members(&self) -> bool {
        self.systems.iter().any(|name| member_of(name).is_some())
    }

    /// The keys of those that are merged into it, also by way of others.
    pub fn members(&self) -> BTreeSet<&str> {
        self.systems.iter().filter_map(|name| member_of(name)).collect()
    }

    /// Takes the claims of another entity beside its own ones. Who wins is not decided by it.
    pub(crate) fn join(&mut self, member: &Self) {
        let has = |entity: &Self| entity.field(DELETED_FIELD).is_some();
        // Where one of them was ever deleted, all have to tell since when they have been there.
        let existence = (has(self) && !has(member)).then(|| member.existence());
        if has(member) && !has(self) {
            let own = self.existence();
            self.put_field(own);
        }
        let systems: Vec<u32> = member.systems.iter().map(|name| self.number_of_member(name, &member.key)).collect();
        let number = |system: u32| systems.get(system as usize).copied().unwrap_or(NOBODY);
        let mut slots = Vec::with_capacity(member.stamps.recents.len());
        for recent in &member.stamps.recents {
            let has_room = self.stamps.has_room();
            slots.push(has_room.then_some(self.stamps.recents.len()));
            if has_room {
                self.stamps.recents.push(Recent { system: number(recent.system), stamp: recent.stamp });
            }
        }
        for field in member.fields.iter().chain(&existence) {
            let copies = field.claims.iter().map(|claim| {
                let (run, whole) = moved(claim.run, |slot| slots.get(slot).copied().flatten());
                let last = if whole { claim.last } else { Some(claim.last(&member.stamps)) };
                let mut copy = Claim { system: number(claim.system), run, last, ..claim.clone() };
                copy.stamps_from(&member.stamps, &slots, &mut self.stamps);
                copy
            });
            let copies: Vec<Claim> = copies.collect();
            let name = field.name.as_str();
            match self.fields.binary_search_by(|f| f.name.as_str().cmp(name)) {
                Ok(at) => {
                    self.fields[at].claims.extend(copies);
                    self.fields[at].agree();
                }
                Err(_) => self.put_field(FieldState {
                    name: field.name.clone(),
                    winner: NOBODY,
                    claims: copies.into_iter().map(|claim| Claim { agrees: false, ..claim }).collect(),
                    ..FieldState::default()
                }),
            }
        }
    }

    /// Loses the claims of these members. Who wins then is not decided by it.
    pub(crate) fn part(&mut self, members: &[String]) {
        let stays = |name: &str| member_of(name).is_none_or(|key| !members.iter().any(|member| member == key));
        let mut systems = Vec::with_capacity(self.systems.len());
        let mut kept = 0;
        for name in &self.systems {
            systems.push(stays(name).then_some(kept));
            kept += u32::from(stays(name));
        }
        self.systems.retain(|name| stays(name));
        let number = |system: u32| systems.get(system as usize).copied().flatten();
        let before = std::mem::take(&mut self.stamps);
        let mut slots = Vec::with_capacity(before.recents.len());
        for recent in &before.recents {
            let recents = &mut self.stamps.recents;
            slots.push(number(recent.system).map(|_| recents.len()));
            recents.extend(number(recent.system).map(|system| Recent { system, stamp: recent.stamp }));
        }
        for field in &mut self.fields {
            let winner = field.winning().and_then(|claim| number(claim.system));
            field.claims.retain(|claim| number(claim.system).is_some());
            for claim in &mut field.claims {
                claim.system = number(claim.system).unwrap_or(NOBODY);
                claim.run = moved(claim.run, |slot| slots.get(slot).copied().flatten()).0;
                claim.stamps_from(&before, &slots, &mut self.stamps);
            }
            let at = winner.and_then(|winner| field.claims.iter().position(|claim| claim.system == winner));
            field.winner = at.map_or(NOBODY, |at| at as u32);
            field.agree();
        }
    }

    fn number_of_member(&mut self, name: &str, member: &str) -> u32 {
        // What was merged into the member before is known by its own key.
        let name = if member_of(name).is_some() { name.into() } else { member_system(name, member) };
        match self.system_number(&name) {
            Some(number) => number,
            None => {
                self.systems.push(name);
                self.systems.len() as u32 - 1
            }
        }
    }

    fn put_field(&mut self, field: FieldState) {
        if let Err(at) = self.fields.binary_search_by(|f| f.name.as_str().cmp(&field.name)) {
            self.fields.insert(at, field);
        }
    }
}

impl Claim {
    /// Refers to the same stamps in another list, where recent ones may have other places.
    fn stamps_from(&mut self, from: &Stamps, places: &[Option<usize>], to: &mut Stamps) {
        for stamp in self.stamps_mut() {
            *stamp = match stamp.place().ok().and_then(|slot| places.get(slot).copied().flatten()) {
                Some(slot) => StampId::recent(slot as u32),
                None => to.keep(from[*stamp]),
            };
        }
    }
}

/// Bits at other places, and whether all of them have one.
fn moved(bits: u64, place: impl Fn(usize) -> Option<usize>) -> (u64, bool) {
    let set = (0..u64::BITS as usize).filter(|slot| bits & 1 << slot != 0);
    set.fold((0, true), |(moved, whole), slot| match place(slot) {
        Some(to) => (moved | 1 << to, whole),
        None => (moved, false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_system_and_the_member() {
        assert_eq!(parts_of("shop"), ("shop", None));
        assert_eq!(parts_of("@hub"), ("@hub", None));
        assert_eq!(parts_of(""), ("", None));
        for (system, member) in [("shop", "B"), ("@operator", "S@berlin"), ("a", "ü@")] {
            assert_eq!(parts_of(&member_system(system, member)), (system, Some(member)));
        }
        assert_eq!(member_system("shop", ""), "shop");
    }
}
