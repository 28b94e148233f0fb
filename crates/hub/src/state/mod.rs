//! State: what the journal has folded into, hot in memory, the rest in a file flushed behind.
//!
//! An entity is looked for in this order: changed since the last flush (`dirty`), being flushed, recently used
//! (two generations), the file. Changed entities are never dropped before the file has them. In memory they stay
//! decoded, because nearly every change would read and write one otherwise; the flusher encodes them.
//!
//! The loop takes an entity out to decide about it and puts it back. What is being flushed is shared with the flusher
//! until that one has written it: changing it before copies it.

pub(crate) mod file;
pub(crate) mod incomplete;
pub(crate) mod overlay;
pub(crate) mod rows;
pub(crate) mod seen;
pub(crate) mod stock;
pub(crate) mod timers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use lockstep_core::record::{Body, DeadLetterEnd, FactOutcome, Record};
use lockstep_core::{Entity, EntityId, Position, Seen, decide, delivery_hash};

use crate::reading::ReadError;
use crate::state::file::StateFile;
use crate::state::overlay::Overlay;
use crate::state::rows::{DeadLetterRow, QuarantineRow};
use crate::state::seen::{Run, SeenMap};
use crate::state::stock::{StockImages, StockState};
use crate::state::timers::Changed;
use crate::tally::Tallies;

/// What is flushed in one transaction: everything that changed up to a position.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    pub(crate) recorded_at_us: i64,
    /// What the flusher has not written yet. It lets go of each as soon as it can, since the loop copies what it
    /// changes meanwhile.
    entities: Mutex<Vec<(EntityId, Arc<Entity>)>>,
    pub(crate) seen: SeenMap,
    pub(crate) overlay: Overlay,
    pub(crate) timers: Changed,
    pub(crate) stock: StockImages,
    pub(crate) tallies: Tallies,
}

impl Snapshot {
    /// The entities, in the order of their ids; what is given is not kept.
    pub(crate) fn take_entities(&self) -> Vec<(EntityId, Arc<Entity>)> {
        let mut entities = std::mem::take(&mut *self.entities.lock().unwrap_or_else(PoisonError::into_inner));
        entities.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        entities
    }
}

type Kepts = HashMap<EntityId, Kept>;

/// See the module.
pub(crate) struct State {
    pub(crate) file: StateFile,
    dirty: Kepts,
    dirty_bytes: usize,
    flushing: Arc<Snapshot>,
    /// The entities of that snapshot, as far as they were not changed since.
    flushing_entities: Kepts,
    flushing_bytes: usize,
    /// What the snapshot took when it was taken. The flusher may have all of it, also what was changed since.
    snapshot_bytes: usize,
    young: Kepts,
    young_bytes: usize,
    old: Kepts,
    old_bytes: usize,
    cache_bytes_max: usize,
    /// Entities that are forgotten. Freeing them all at once would hold up the loop.
    forgotten: Vec<hashbrown::hash_map::IntoIter<EntityId, Kept>>,
    recent: SeenMap,
    runs: Vec<Arc<Run>>,
    pub(crate) overlay: Overlay,
    timers: Changed,
    pub(crate) stock: StockState,
    /// When the next timer is due that the file has.
    file_timer_us: Option<i64>,
    pub(crate) tallies: Tallies,
    /// How many entities of each kind are incomplete.
    pub(crate) incomplete: BTreeMap<String, u64>,
    /// The last record folded in.
    pub(crate) position: Position,
    pub(crate) recorded_at_us: i64,
    /// The position of the last completed flush.
    pub(crate) flushed: Position,
    /// The position of the last snapshot, where it was not in vain: what was changed later is dirty.
    snapshotted: Position,
    /// Whether the delivery whose facts are being folded has won anything so far.
    delivery_applied: bool,
}

/// An entity in memory, and about how many bytes it takes there.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) entity: Arc<Entity>,
    bytes: u32,
}

impl Kept {
    fn new(id: &str, entity: Arc<Entity>) -> Self {
        /// What a map's entry costs beside the id and the entity.
        const ENTRY_BYTES: usize = 80;
        let bytes = id.len() + entity.memory_bytes() + ENTRY_BYTES;
        Self { entity, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }
    }

    fn bytes(&self) -> usize {
        self.bytes as usize
    }
}

impl State {
    pub(crate) fn new(file: StateFile, cache_bytes_max: usize) -> Result<Self, rusqlite::Error> {
        let meta = file.meta()?;
        let runs = file.seen_runs()?;
        let incomplete = incomplete::counts(&file.connection)?;
        let file_timer_us = file.next_timer_us(i64::MIN)?;
        Ok(Self {
            file,
            dirty: HashMap::new(),
            dirty_bytes: 0,
            flushing: Arc::default(),
            flushing_entities: HashMap::new(),
            flushing_bytes: 0,
            snapshot_bytes: 0,
            young: HashMap::new(),
            young_bytes: 0,
            old: HashMap::new(),
            old_bytes: 0,
            cache_bytes_max,
            forgotten: Vec::new(),
            recent: SeenMap::default(),
            runs,
            overlay: Overlay::default(),
            timers: Changed::default(),
            stock: StockState::default(),
            file_timer_us,
            tallies: meta.tallies,
            incomplete,
            position: meta.position,
            recorded_at_us: meta.recorded_at_us,
            flushed: meta.position,
            snapshotted: meta.position,
            delivery_applied: false,
        })
    }

    /// An entity, to look at.
    pub(crate) fn entity(&mut self, id: &str) -> Result<Option<Arc<Entity>>, StateError> {
        let found = self.take(id)?;
        if let Some(entity) = &found {
            self.give_back(id.into(), entity.clone());
        }
        Ok(found)
    }

    /// Takes an entity out. Whoever does it puts it back, changed or not.
    pub(crate) fn take(&mut self, id: &str) -> Result<Option<Arc<Entity>>, StateError> {
        let layers = [
            (&mut self.dirty, &mut self.dirty_bytes),
            (&mut self.flushing_entities, &mut self.flushing_bytes),
            (&mut self.young, &mut self.young_bytes),
            (&mut self.old, &mut self.old_bytes),
        ];
        for (layer, total) in layers {
            if let Some(found) = layer.remove(id) {
                *total -= found.bytes();
                return Ok(Some(found.entity));
            }
        }
        let Some(bytes) = self.file.entity(id)? else { return Ok(None) };
        let decoded = Entity::decode(bytes).map_err(|source| StateError::Entity { id: id.to_owned(), source })?;
        Ok(Some(Arc::new(decoded)))
    }

    /// Frees a few of the forgotten entities.
    pub(crate) fn free(&mut self, count: usize) {
        for _ in 0..count {
            match self.forgotten.last_mut().map(Iterator::next) {
                Some(Some(entity)) => drop(entity),
                Some(None) => drop(self.forgotten.pop()),
                None => return,
            }
        }
    }

    /// Puts a changed entity back, or a new one.
    pub(crate) fn put(&mut self, id: EntityId, entity: Arc<Entity>) {
        // More than comes in.
        self.free(2);
        self.timers.put(&id, &entity);
        let kept = Kept::new(&id, entity);
        self.dirty_bytes += kept.bytes();
        if let Some(before) = self.dirty.insert(id, kept) {
            self.dirty_bytes -= before.bytes();
        }
    }

    /// Puts back an entity that was not changed: to where it came from.
    pub(crate) fn give_back(&mut self, id: EntityId, entity: Arc<Entity>) {
        if entity.position > self.snapshotted {
            self.put(id, entity);
        } else if entity.position > self.flushed {
            let kept = Kept::new(&id, entity);
            self.flushing_bytes += kept.bytes();
            self.flushing_entities.insert(id, kept);
        } else if entity.position > 0 {
            let kept = Kept::new(&id, entity);
            self.young_bytes += kept.bytes();
            self.young.insert(id, kept);
            self.make_room();
        }
    }

    /// Forgets clean entities where there are too many: first those that have not been looked at for longest.
    fn make_room(&mut self) {
        // What is changed counts, and some room is left for what is not.
        let room = self.cache_bytes_max.saturating_sub(self.unflushed_bytes());
        if self.young_bytes > room.max(self.cache_bytes_max / 8) / 2 {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.forgotten.push(forgotten.into_iter());
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
    }

    /// Bytes of changed entities and stock that the file does not have.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes + self.stock.bytes()
    }

    /// Bytes of changed entities, with those that are being flushed.
    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.dirty_bytes() + self.snapshot_bytes
    }

    /// Bytes of clean entities in memory.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// Whether a delivery was seen before, with what tells a repetition from a reuse. `read` gives a record.
    pub(crate) fn seen(
        &self,
        hash: u64,
        read: impl Fn(Position) -> Result<Option<Record>, ReadError>,
        same: impl Fn(&Record) -> Option<Seen>,
    ) -> Result<Option<Seen>, StateError> {
        if let Some(seen) = self.recent.get(&hash).or_else(|| self.flushing.seen.get(&hash)) {
            return Ok(Some(*seen));
        }
        for run in self.runs.iter().rev().filter(|run| run.may_contain(hash)) {
            if let Some(position) = self.file.seen_lookup(run.id, hash)? {
                // The hash found a record; only the record itself says whether it is the same delivery. Where
                // retention has dropped it, the hash must do.
                return Ok(match read(position)? {
                    Some(record) => same(&record).map(|seen| Seen { position, ..seen }),
                    None => Some(Seen { position, payload_hash: None }),
                });
            }
        }
        Ok(None)
    }

    /// Folds everything of a record but the entity.
    pub(crate) fn absorb(&mut self, position: Position, record: &Record, count_received: bool) {
        self.position = position;
        self.recorded_at_us = record.recorded_at_us;
        match &record.body {
            Some(Body::Fact(fact)) => {
                if fact.index == 0 {
                    self.delivery_applied = false;
                    self.see(delivery_hash(&fact.source, &fact.delivery), position, fact.payload_hash);
                    if !fact.request_key.is_empty() {
                        let hash = decide::request_key_hash(&fact.source, &fact.request_key);
                        self.see(hash, position, fact.request_hash);
                    }
                    if fact.releases != 0 {
                        self.overlay.close_quarantine(fact.releases);
                    }
                }
                self.delivery_applied |= fact.outcome == FactOutcome::Applied as i32;
                if fact.index + 1 >= fact.of {
                    let tally = tally(&mut self.tallies.sources, &fact.source);
                    tally.received += u64::from(count_received);
                    *(if self.delivery_applied { &mut tally.applied } else { &mut tally.superseded }) += 1;
                }
                if !fact.event_type.is_empty() {
                    self.tallies.published += 1;
                    self.tallies.last_event = position;
                }
            }
            Some(Body::Quarantined(held)) => {
                self.see(delivery_hash(&held.source, &held.delivery), position, held.payload_hash);
                let tally = tally(&mut self.tallies.sources, &held.source);
                tally.received += u64::from(count_received);
                tally.quarantined += 1;
                let reason = held.reason.clone().unwrap_or_default();
                self.overlay.open_quarantine(QuarantineRow {
                    position,
                    source: held.source.clone(),
                    delivery: held.delivery.clone(),
                    code: reason.code,
                    detail: reason.detail,
                    at: reason.at,
                    received_at_us: held.received_at_us,
                });
            }
            Some(Body::Progress(progress)) => {
                let tally = tally(&mut self.tallies.destinations, &progress.destination);
                tally.cursor = progress.cursor;
                tally.read_to = progress.read_to;
                tally.open = progress.open.iter().copied().collect();
                tally.delivered += progress.delivered;
                tally.filtered += progress.filtered;
                tally.own_words += progress.own_words;
                tally.skipped += progress.skipped;
            }
            Some(Body::DeadLettered(dead)) => {
                let tally = tally(&mut self.tallies.destinations, &dead.destination);
                if !dead.again {
                    tally.dead += 1;
                    // Its runner has reported it as open just before.
                    tally.open.remove(&dead.event);
                }
                self.overlay.open_dead_letter(DeadLetterRow {
                    destination: dead.destination.clone(),
                    event: dead.event,
                    record: position,
                    kind: dead.kind.clone(),
                    key: dead.key.clone(),
                    event_type: dead.event_type.clone(),
                    reason: dead.reason.clone(),
                    attempts: dead.attempts.len() as u32,
                    dead_at_us: record.recorded_at_us,
                });
            }
            Some(Body::DeadLetterClosed(closed)) => {
                let tally = tally(&mut self.tallies.destinations, &closed.destination);
                tally.dead = tally.dead.saturating_sub(1);
                match DeadLetterEnd::try_from(closed.end) {
                    Ok(DeadLetterEnd::Delivered) => tally.delivered += 1,
                    Ok(DeadLetterEnd::Superseded) => tally.superseded += 1,
                    _ => tally.discarded += 1,
                }
                self.overlay.close_dead_letter(&closed.destination, closed.event);
            }
            Some(Body::QuarantineClosed(closed)) => {
                let tally = tally(&mut self.tallies.sources, &closed.source);
                tally.received += u64::from(count_received);
                tally.superseded += 1;
                self.overlay.close_quarantine(closed.position);
            }
            Some(Body::Stock(fact)) => self.absorb_stock(position, fact, count_received),
            Some(Body::Probe(_)) | None => {}
        }
    }

    pub(crate) fn see(&mut self, hash: u64, position: Position, payload_hash: u64) {
        let payload_hash = Some(payload_hash);
        self.recent.entry(hash).or_insert(Seen { position, payload_hash });
    }

    /// Whether nothing is being flushed.
    pub(crate) fn is_settled(&self) -> bool {
        self.flushing.position == 0
    }

    /// Takes everything that changed, to be flushed. Only one snapshot may be under way.
    pub(crate) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.flushing_bytes = std::mem::take(&mut self.dirty_bytes);
        self.snapshot_bytes = self.flushing_bytes + self.stock.bytes();
        self.flushing_entities = std::mem::take(&mut self.dirty);
        // As large as it was: it is filled again at once.
        self.dirty.reserve(self.flushing_entities.len());
        self.snapshotted = self.position;
        let shared = self.flushing_entities.iter().map(|(id, kept)| (id.clone(), kept.entity.clone()));
        self.flushing = Arc::new(Snapshot {
            position: self.position,
            recorded_at_us: self.recorded_at_us,
            entities: Mutex::new(shared.collect()),
            seen: std::mem::take(&mut self.recent),
            overlay: std::mem::take(&mut self.overlay),
            timers: std::mem::take(&mut self.timers),
            stock: self.stock.take(),
            tallies: self.tallies.clone(),
        });
        self.flushing.clone()
    }

    /// The snapshot under way is in the file.
    pub(crate) fn flushed(&mut self, runs: Vec<Arc<Run>>) {
        let written = std::mem::take(&mut self.flushing);
        self.flushed = written.position;
        self.stock.written(&written.stock);
        self.snapshot_bytes = 0;
        self.runs = runs;
        let (done, bytes) = (std::mem::take(&mut self.flushing_entities), std::mem::take(&mut self.flushing_bytes));
        // The smaller map goes into the larger one.
        let (mut all, other) = if done.len() > self.young.len() {
            (done, std::mem::take(&mut self.young))
        } else {
            (std::mem::take(&mut self.young), done)
        };
        all.extend(other);
        self.young = all;
        self.young_bytes += bytes;
        self.make_room();
        self.look_again_for_timers();
    }

    /// The snapshot under way could not be written: what it holds is changed again, under what came since.
    pub(crate) fn flush_failed(&mut self) {
        let back = std::mem::take(&mut self.flushing);
        self.snapshotted = self.flushed;
        self.snapshot_bytes = 0;
        self.dirty.extend(std::mem::take(&mut self.flushing_entities));
        self.dirty_bytes += std::mem::take(&mut self.flushing_bytes);
        for (hash, seen) in &back.seen {
            self.recent.insert(*hash, *seen);
        }
        let newer = std::mem::replace(&mut self.overlay, back.overlay.clone());
        self.overlay.put_over(newer);
        let newer = std::mem::replace(&mut self.timers, back.timers.clone());
        self.timers.put_over(newer);
        self.stock.put_back(&back.stock);
    }

    /// Whether a record's delivery is in quarantine.
    pub(crate) fn is_quarantined(&self, position: Position) -> Result<bool, rusqlite::Error> {
        for layer in self.overlays().into_iter().rev() {
            if layer.quarantine_opened.contains_key(&position) {
                return Ok(true);
            }
            if layer.quarantine_closed.contains(&position) {
                return Ok(false);
            }
        }
        self.file.is_quarantined(position)
    }

    /// The layers of lists that the file does not have yet, older first.
    pub(crate) fn overlays(&self) -> [&Overlay; 2] {
        [&self.flushing.overlay, &self.overlay]
    }

    /// A kind's entities that the file does not have yet.
    pub(crate) fn unflushed(&self, prefix: &str, after: &str) -> BTreeMap<EntityId, Arc<Entity>> {
        let layers = self.flushing_entities.iter().chain(&self.dirty);
        let wanted = layers.filter(|(id, _)| id.starts_with(prefix) && id.as_str() > after);
        wanted.map(|(id, kept)| (id.clone(), kept.entity.clone())).collect()
    }
}

/// The tally of that name, without allocating where it is there.
pub(crate) fn tally<'a, T: Default>(tallies: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    if !tallies.contains_key(name) {
        tallies.insert(name.to_owned(), T::default());
    }
    tallies.entry(name.to_owned()).or_default()
}

/// Why state can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("the state file can't be read")]
    File(#[from] rusqlite::Error),
    #[error("a delivery seen before can't be looked up")]
    Journal(#[from] ReadError),
    #[error("an image of stock can't be read")]
    Stock(#[from] lockstep_core::stock::ImageError),
    #[error("the state of {id} can't be decoded")]
    Entity {
        id: String,
        #[source]
        source: prost::DecodeError,
    },
}
