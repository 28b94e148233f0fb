//! State: what the journal has folded into, hot in memory, the rest in a file flushed behind.
//!
//! An entity is looked for in this order: changed since the last flush (`dirty`), being flushed, recently used
//! (two generations, bounded in bytes), the file. Changed entities are never dropped before the file has them.

pub(crate) mod file;
pub(crate) mod overlay;
pub(crate) mod rows;
pub(crate) mod seen;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use lockstep_core::record::{Body, DeadLetterEnd, FactOutcome, Record};
use lockstep_core::{Entity, Position, Seen, decide, delivery_hash};

use crate::reading::ReadError;
use crate::state::file::StateFile;
use crate::state::overlay::Overlay;
use crate::state::rows::{DeadLetterRow, QuarantineRow};
use crate::state::seen::{Run, SeenMap};
use crate::tally::Tallies;

/// What is flushed in one transaction: everything that changed up to a position.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) position: Position,
    pub(crate) recorded_at_us: i64,
    pub(crate) entities: HashMap<String, Bytes>,
    pub(crate) seen: SeenMap,
    pub(crate) overlay: Overlay,
    pub(crate) tallies: Tallies,
}

/// See the module.
pub(crate) struct State {
    pub(crate) file: StateFile,
    dirty: HashMap<String, Bytes>,
    dirty_bytes: usize,
    flushing: Arc<Snapshot>,
    young: HashMap<String, Bytes>,
    young_bytes: usize,
    old: HashMap<String, Bytes>,
    old_bytes: usize,
    cache_bytes_max: usize,
    recent: SeenMap,
    runs: Vec<Arc<Run>>,
    pub(crate) overlay: Overlay,
    pub(crate) tallies: Tallies,
    /// The last record folded in.
    pub(crate) position: Position,
    pub(crate) recorded_at_us: i64,
    /// The position of the last completed flush.
    pub(crate) flushed: Position,
    /// Whether the delivery whose facts are being folded has won anything so far.
    delivery_applied: bool,
}

/// What a map's entry costs beside its bytes.
const ENTRY_BYTES: usize = 96;

fn cost(id: &str, state: &[u8]) -> usize {
    id.len() + state.len() + ENTRY_BYTES
}

impl State {
    pub(crate) fn new(file: StateFile, cache_bytes_max: usize) -> Result<Self, rusqlite::Error> {
        let meta = file.meta()?;
        let runs = file.seen_runs()?;
        Ok(Self {
            file,
            dirty: HashMap::new(),
            dirty_bytes: 0,
            flushing: Arc::default(),
            young: HashMap::new(),
            young_bytes: 0,
            old: HashMap::new(),
            old_bytes: 0,
            cache_bytes_max,
            recent: SeenMap::default(),
            runs,
            overlay: Overlay::default(),
            tallies: meta.tallies,
            position: meta.position,
            recorded_at_us: meta.recorded_at_us,
            flushed: meta.position,
            delivery_applied: false,
        })
    }

    /// An entity's bytes from memory or the file.
    pub(crate) fn entity_bytes(&mut self, id: &str) -> Result<Option<Bytes>, rusqlite::Error> {
        if let Some(found) =
            self.dirty.get(id).or_else(|| self.flushing.entities.get(id)).or_else(|| self.young.get(id))
        {
            return Ok(Some(found.clone()));
        }
        if let Some((id, found)) = self.old.remove_entry(id) {
            self.old_bytes -= cost(&id, &found);
            self.remember(id, found.clone());
            return Ok(Some(found));
        }
        let found = self.file.entity(id)?;
        if let Some(bytes) = &found {
            self.remember(id.to_owned(), bytes.clone());
        }
        Ok(found)
    }

    /// An entity, decoded.
    pub(crate) fn entity(&mut self, id: &str) -> Result<Option<Entity>, StateError> {
        match self.entity_bytes(id)? {
            Some(bytes) => {
                Ok(Some(Entity::decode(bytes).map_err(|source| StateError::Entity { id: id.to_owned(), source })?))
            }
            None => Ok(None),
        }
    }

    /// Takes a changed entity.
    pub(crate) fn put(&mut self, id: String, entity: &Entity) {
        let bytes = entity.encode();
        // An older copy among the clean ones would come back to light after the flush.
        for (generation, total) in [(&mut self.young, &mut self.young_bytes), (&mut self.old, &mut self.old_bytes)] {
            if let Some(stale) = generation.remove(&id) {
                *total -= cost(&id, &stale);
            }
        }
        self.dirty_bytes += cost(&id, &bytes);
        let id_len = id.len();
        if let Some(before) = self.dirty.insert(id, bytes) {
            self.dirty_bytes -= id_len + before.len() + ENTRY_BYTES;
        }
    }

    fn remember(&mut self, id: String, bytes: Bytes) {
        self.young_bytes += cost(&id, &bytes);
        self.young.insert(id, bytes);
        if self.young_bytes > self.cache_bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
    }

    /// Bytes of changed entities that the file does not have.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
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
            // Stock is folded where it is held, not here.
            Some(Body::Probe(_) | Body::Stock(_)) | None => {}
        }
    }

    fn see(&mut self, hash: u64, position: Position, payload_hash: u64) {
        let payload_hash = Some(payload_hash);
        self.recent.entry(hash).or_insert(Seen { position, payload_hash });
    }

    /// Whether nothing is being flushed.
    pub(crate) fn is_settled(&self) -> bool {
        self.flushing.position == 0
    }

    /// Takes everything that changed, to be flushed. Only one snapshot may be under way.
    pub(crate) fn snapshot(&mut self) -> Arc<Snapshot> {
        self.dirty_bytes = 0;
        self.flushing = Arc::new(Snapshot {
            position: self.position,
            recorded_at_us: self.recorded_at_us,
            entities: std::mem::take(&mut self.dirty),
            seen: std::mem::take(&mut self.recent),
            overlay: std::mem::take(&mut self.overlay),
            tallies: self.tallies.clone(),
        });
        self.flushing.clone()
    }

    /// The snapshot under way is in the file.
    pub(crate) fn flushed(&mut self, runs: Vec<Arc<Run>>) {
        let done = std::mem::take(&mut self.flushing);
        self.flushed = done.position;
        self.runs = runs;
        if let Some(done) = Arc::into_inner(done) {
            for (id, bytes) in done.entities {
                if !self.dirty.contains_key(&id) {
                    self.remember(id, bytes);
                }
            }
        }
    }

    /// The snapshot under way could not be written: what it holds is changed again, under what came since.
    pub(crate) fn flush_failed(&mut self) {
        let back = std::mem::take(&mut self.flushing);
        for (id, bytes) in &back.entities {
            if !self.dirty.contains_key(id) {
                self.dirty_bytes += cost(id, bytes);
                self.dirty.insert(id.clone(), bytes.clone());
            }
        }
        for (hash, seen) in &back.seen {
            self.recent.insert(*hash, *seen);
        }
        let newer = std::mem::replace(&mut self.overlay, back.overlay.clone());
        self.overlay.put_over(newer);
    }

    /// The layers of lists that the file does not have yet, older first.
    pub(crate) fn overlays(&self) -> [&Overlay; 2] {
        [&self.flushing.overlay, &self.overlay]
    }

    /// Ids and bytes of a kind's entities that the file does not have yet.
    pub(crate) fn unflushed(&self, prefix: &str, after: &str) -> BTreeMap<String, Bytes> {
        let layers = self.flushing.entities.iter().chain(&self.dirty);
        let wanted = layers.filter(|(id, _)| id.starts_with(prefix) && id.as_str() > after);
        wanted.map(|(id, bytes)| (id.clone(), bytes.clone())).collect()
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
    #[error("the state of {id} can't be decoded")]
    Entity {
        id: String,
        #[source]
        source: prost::DecodeError,
    },
}
