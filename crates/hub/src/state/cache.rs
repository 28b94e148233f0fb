//! The entities in memory: decoded, found by id, bounded in bytes.
//!
//! One that has changed stays until the state file has it. What has changed is written in rounds, one round at a time:
//! beginning one costs nothing, the flusher then asks for its entities a few at a time and gets each as it is at that
//! moment. So an entity is there once, however long writing takes, and nothing that the loop does grows with their
//! number. The price is paid on recovery: the file may have an entity as it was after the position that the file stands
//! for, and an entity knows which of its records it has.
//!
//! What is to be dropped is found by a hand that goes round: what was used since it last came by is passed over once.

use std::sync::Arc;

use hashbrown::HashTable;
use lockstep_core::{Entity, EntityId};
use xxhash_rust::xxh3::xxh3_64;

/// How far the hand goes for each entity that comes in. Most of what it meets may have to stay.
const STEPS: usize = 16;

/// An entity that a round writes, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Changed {
    pub(crate) id: EntityId,
    pub(crate) slot: u32,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Cache {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: HashTable<u32>,
    bytes: usize,
    bytes_max: usize,
    hand: usize,
    /// What the next round writes.
    changed: Vec<Changed>,
    changed_bytes: usize,
    /// The last round that was begun; what it writes is what had changed when it was.
    round: u32,
    round_slots: Vec<u32>,
    round_bytes: usize,
    /// The last round that is in the file.
    written: u32,
}

#[derive(Default)]
struct Slot {
    id: EntityId,
    /// Taken out while it is decided about.
    entity: Option<Arc<Entity>>,
    bytes: u32,
    /// The round that writes its last change.
    round: u32,
    /// Whether that round has got it.
    is_given: bool,
    /// Whether it was used since the hand came by.
    is_used: bool,
}

fn hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

fn bytes_of(id: &str, entity: &Entity) -> u32 {
    /// The slot itself, its part of the index, and what a heap takes for two pieces.
    const SLOT_BYTES: usize = size_of::<Slot>() + 8 + 32;
    let heap = if id.len() > size_of::<EntityId>() { id.len() } else { 0 };
    u32::try_from(heap + entity.memory_bytes() + SLOT_BYTES).unwrap_or(u32::MAX)
}

impl Cache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Bytes of all entities in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of those that have changed since the last round began.
    pub(crate) fn changed_bytes(&self) -> usize {
        self.changed_bytes
    }

    /// Bytes of those that the file does not have as they are.
    pub(crate) fn unwritten_bytes(&self) -> usize {
        self.changed_bytes + self.round_bytes
    }

    fn find(&self, id: &str) -> Option<u32> {
        self.index.find(hash(id), |slot| self.slots[*slot as usize].id == id).copied()
    }

    /// An entity, to look at.
    pub(crate) fn get(&mut self, id: &str) -> Option<Arc<Entity>> {
        let slot = self.find(id)?;
        let slot = &mut self.slots[slot as usize];
        slot.is_used = true;
        slot.entity.clone()
    }

    /// Takes an entity out. Whoever does it puts it back, changed or not.
    pub(crate) fn take(&mut self, id: &str) -> Option<Arc<Entity>> {
        let slot = self.find(id)?;
        let slot = &mut self.slots[slot as usize];
        slot.is_used = true;
        slot.entity.take()
    }

    /// Puts an entity back or takes in a new one, changed or not.
    pub(crate) fn put(&mut self, id: EntityId, entity: Arc<Entity>, is_changed: bool) {
        let bytes = bytes_of(&id, &entity);
        let at = match self.find(&id) {
            Some(at) => at,
            None => self.add(&id),
        };
        self.uncount(at);
        let slot = &mut self.slots[at as usize];
        slot.entity = Some(entity);
        slot.bytes = bytes;
        // What the round under way writes and has not got yet, it gets as it is then.
        let is_awaited = slot.round > self.written && !slot.is_given;
        if is_changed && !is_awaited {
            slot.round = self.round + 1;
            slot.is_given = false;
            self.changed.push(Changed { id, slot: at });
        }
        self.count(at);
        self.make_room();
    }

    fn add(&mut self, id: &EntityId) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        self.slots[at as usize] = Slot { id: id.clone(), ..Slot::default() };
        let slots = &self.slots;
        self.index.insert_unique(hash(id), at, |slot| hash(&slots[*slot as usize].id));
        at
    }

    /// Where a slot's bytes are counted beside all.
    fn counter(&mut self, at: u32) -> Option<&mut usize> {
        let slot = &self.slots[at as usize];
        match slot.round {
            round if round <= self.written => None,
            round if round == self.round => Some(&mut self.round_bytes),
            _ => Some(&mut self.changed_bytes),
        }
    }

    fn count(&mut self, at: u32) {
        let bytes = self.slots[at as usize].bytes as usize;
        self.bytes += bytes;
        if let Some(counter) = self.counter(at) {
            *counter += bytes;
        }
    }

    fn uncount(&mut self, at: u32) {
        let bytes = self.slots[at as usize].bytes as usize;
        self.bytes -= bytes;
        if let Some(counter) = self.counter(at) {
            *counter -= bytes;
        }
    }

    fn make_room(&mut self) {
        for _ in 0..STEPS {
            if self.bytes <= self.bytes_max {
                return;
            }
            self.hand = if self.hand + 1 < self.slots.len() { self.hand + 1 } else { 0 };
            let slot = &mut self.slots[self.hand];
            if std::mem::take(&mut slot.is_used) || slot.round > self.written || slot.entity.is_none() {
                continue;
            }
            let slot = std::mem::take(slot);
            self.bytes -= slot.bytes as usize;
            self.free.push(self.hand as u32);
            let hand = self.hand as u32;
            if let Ok(found) = self.index.find_entry(hash(&slot.id), |at| *at == hand) {
                found.remove();
            }
        }
    }

    /// Begins a round: the entities that it writes. The one before has ended.
    pub(crate) fn begin_round(&mut self) -> Vec<Changed> {
        self.round += 1;
        self.round_bytes = std::mem::take(&mut self.changed_bytes);
        self.round_slots = self.changed.iter().map(|changed| changed.slot).collect();
        // As many again: it is filled at once.
        let next = Vec::with_capacity(self.changed.len());
        std::mem::replace(&mut self.changed, next)
    }

    /// Some of the round's entities as they are now.
    pub(crate) fn give(&mut self, slots: &[u32]) -> Vec<(EntityId, Arc<Entity>)> {
        let give = |at: &u32| {
            let slot = self.slots.get_mut(*at as usize)?;
            let entity = slot.entity.clone()?;
            slot.is_given = true;
            Some((slot.id.clone(), entity))
        };
        slots.iter().filter_map(give).collect()
    }

    /// The round is in the file.
    pub(crate) fn round_written(&mut self) {
        self.written = self.round;
        self.round_bytes = 0;
        self.round_slots = Vec::new();
    }

    /// The round is not in the file: what it was to write has changed still.
    pub(crate) fn round_given_up(&mut self) {
        for at in std::mem::take(&mut self.round_slots) {
            let slot = &mut self.slots[at as usize];
            if slot.round == self.round {
                slot.round += 1;
                slot.is_given = false;
                self.changed.push(Changed { id: slot.id.clone(), slot: at });
            }
        }
        self.changed_bytes += std::mem::take(&mut self.round_bytes);
    }

    /// Those that the file does not have as they are.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = (&EntityId, &Arc<Entity>)> {
        let of_round = self.round_slots.iter().map(|at| &self.slots[*at as usize]);
        let of_round = of_round.filter(|slot| slot.round == self.round);
        let changed = self.changed.iter().map(|changed| &self.slots[changed.slot as usize]);
        of_round.chain(changed).filter_map(|slot| Some((&slot.id, slot.entity.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entity(key: u8, version: u64) -> Arc<Entity> {
        Arc::new(Entity {
            kind: "product".into(),
            key: key.to_string().into(),
            version,
            position: version,
            ..Entity::default()
        })
    }

    fn id(key: u8) -> EntityId {
        lockstep_core::entity_id("product", &key.to_string())
    }

    #[derive(Clone, Debug)]
    enum Step {
        Change(u8),
        Look(u8),
        Begin,
        Give(usize),
        Written,
        Failed,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..40_u8).prop_map(Step::Change),
            3 => (0..40_u8).prop_map(Step::Look),
            1 => Just(Step::Begin),
            4 => (1..6_usize).prop_map(Step::Give),
            1 => Just(Step::Written),
            1 => Just(Step::Failed),
        ]
    }

    proptest! {
        /// Beside a file that is written as the flusher writes it: what is in memory or in the file is always the last
        /// version, the counters are what they count, and after a round the file has at least what stood at its beginning.
        #[test]
        fn nothing_is_lost_and_nothing_is_there_twice(steps in prop::collection::vec(step(), 1..200), room in 0..12_usize) {
            let one = bytes_of(&id(1), &entity(1, 1)) as usize;
            let mut cache = Cache::new(room * one);
            let mut truth: BTreeMap<u8, u64> = BTreeMap::new();
            let mut file: BTreeMap<EntityId, Arc<Entity>> = BTreeMap::new();
            type Round = (Vec<Changed>, BTreeMap<u8, u64>, BTreeMap<EntityId, Arc<Entity>>);
            let mut under_way: Option<Round> = None;
            let mut version = 0;
            for step in steps {
                match step {
                    Step::Change(key) => {
                        version += 1;
                        let before = cache.take(&id(key)).or_else(|| file.get(&id(key)).cloned());
                        prop_assert_eq!(before.map(|e| e.version), truth.get(&key).copied());
                        cache.put(id(key), entity(key, version), true);
                        truth.insert(key, version);
                    }
                    Step::Look(key) => {
                        let found = cache.take(&id(key)).or_else(|| file.get(&id(key)).cloned());
                        prop_assert_eq!(found.as_ref().map(|e| e.version), truth.get(&key).copied());
                        if let Some(found) = found {
                            cache.put(id(key), found, false);
                        }
                    }
                    Step::Begin if under_way.is_none() => {
                        under_way = Some((cache.begin_round(), truth.clone(), BTreeMap::new()));
                    }
                    Step::Give(count) => if let Some((asked, _, got)) = &mut under_way {
                        let slots: Vec<u32> = asked.drain(..count.min(asked.len())).map(|c| c.slot).collect();
                        let given = cache.give(&slots);
                        prop_assert_eq!(given.len(), slots.len());
                        got.extend(given);
                    },
                    Step::Written => if let Some((asked, at_begin, mut got)) = under_way.take() {
                        got.extend(cache.give(&asked.iter().map(|c| c.slot).collect::<Vec<_>>()));
                        file.extend(got);
                        cache.round_written();
                        for (key, version) in at_begin {
                            prop_assert!(file[&id(key)].version >= version);
                        }
                    },
                    Step::Failed => if under_way.take().is_some() {
                        cache.round_given_up();
                    },
                    Step::Begin => {}
                }
                let bytes: usize = cache.slots.iter().map(|s| s.bytes as usize).sum();
                prop_assert_eq!(cache.bytes(), bytes);
                let unwritten: usize = cache.unwritten().map(|(id, e)| bytes_of(id, e) as usize).sum();
                prop_assert_eq!(cache.unwritten_bytes(), unwritten);
                let changed: usize = cache.changed.iter().map(|c| cache.slots[c.slot as usize].bytes as usize).sum();
                prop_assert_eq!(cache.changed_bytes(), changed);
                prop_assert_eq!(cache.index.len() + cache.free.len(), cache.slots.len());
            }
        }
    }

    #[test]
    fn what_is_not_used_is_dropped_and_what_has_changed_is_not() {
        let one = bytes_of(&id(1), &entity(1, 1)) as usize;
        let mut cache = Cache::new(4 * one);
        for key in 0..4 {
            cache.put(id(key), entity(key, 1), true);
        }
        cache.put(id(100), entity(100, 1), false);
        assert_eq!(cache.unwritten().count(), 4, "what the file does not have is still there");
        let round = cache.begin_round();
        cache.give(&round.iter().map(|c| c.slot).collect::<Vec<_>>());
        cache.round_written();
        cache.get(&id(2));
        for key in 10..20 {
            cache.put(id(key), entity(key, 1), false);
            cache.get(&id(2));
        }
        assert!(cache.get(&id(2)).is_some(), "it is used all the time");
        assert!(cache.get(&id(0)).is_none());
        assert!(cache.bytes() <= 4 * one);
    }
}
