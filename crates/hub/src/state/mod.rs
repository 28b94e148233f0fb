//! State: what the journal has folded into, hot in memory, the rest in a file written behind.
//!
//! An entity is looked for in memory first ([`cache`]), then in the file. In memory it is decoded, because nearly every
//! change would read and write one otherwise; the flusher encodes it. The loop takes an entity out to decide about it
//! and puts it back.
//!
//! The file is written in rounds. A round makes it stand for the position that the state had when the round began:
//! what is not an entity is handed over then, as it was; entities follow, as they are when the flusher asks for them,
//! which may be later. So on recovery an entity may have some of the records that are folded again.

pub(crate) mod cache;
pub(crate) mod dead_letters;
mod ended;
pub(crate) mod file;
pub(crate) mod incomplete;
pub(crate) mod overlay;
pub(crate) mod rows;
pub(crate) mod seen;
pub(crate) mod stock;
pub(crate) mod timers;
pub(crate) mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_core::record::{Body, DeadLetterEnd, FactOutcome, Record};
use lockstep_core::{Entity, EntityId, Position, Seen, decide, delivery_hash};

use crate::importing;
use crate::reading::ReadError;
use crate::state::cache::{Cache, Changed};
use crate::state::file::StateFile;
use crate::state::overlay::Overlay;
use crate::state::rows::QuarantineRow;
use crate::state::seen::{Run, SeenMap};
use crate::state::stock::{StockImages, StockState};
use crate::tally::{DestinationTally, Tallies};

/// What a round writes beside its entities: everything that changed up to the position at which it began.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) position: Position,
    pub(crate) recorded_at_us: i64,
    pub(crate) seen: SeenMap,
    pub(crate) overlay: Overlay,
    pub(crate) timers: timers::Changed,
    pub(crate) waiting: waiting::Changed,
    pub(crate) stock: StockImages,
    pub(crate) tallies: Tallies,
}

/// See the module.
pub(crate) struct State {
    pub(crate) file: StateFile,
    cache: Cache,
    /// The round under way.
    round: Arc<Round>,
    recent: SeenMap,
    runs: Vec<Arc<Run>>,
    pub(crate) overlay: Overlay,
    timers: timers::Changed,
    waiting: waiting::Changed,
    pub(crate) stock: StockState,
    /// When the next timer is due that the file has.
    file_timer_us: Option<i64>,
    pub(crate) tallies: Tallies,
    /// How many entities of each kind are incomplete.
    pub(crate) incomplete: BTreeMap<String, u64>,
    /// The last record folded in.
    pub(crate) position: Position,
    pub(crate) recorded_at_us: i64,
    /// The newest record that anything in the file had when it was opened.
    pub(crate) reached: Position,
    /// The position of the last completed flush.
    pub(crate) flushed: Position,
    /// Whether the delivery whose facts are being folded has won anything so far.
    delivery_applied: bool,
}

impl State {
    pub(crate) fn new(file: StateFile, cache_bytes_max: usize) -> Result<Self, rusqlite::Error> {
        let meta = file.meta()?;
        let runs = file.seen_runs()?;
        let incomplete = incomplete::counts(&file.connection)?;
        let file_timer_us = file.next_timer_us(i64::MIN)?;
        Ok(Self {
            file,
            cache: Cache::new(cache_bytes_max),
            round: Arc::default(),
            recent: SeenMap::default(),
            runs,
            overlay: Overlay::default(),
            timers: timers::Changed::default(),
            waiting: waiting::Changed::default(),
            stock: StockState::default(),
            file_timer_us,
            tallies: meta.tallies,
            incomplete,
            position: meta.position,
            recorded_at_us: meta.recorded_at_us,
            reached: meta.reached,
            flushed: meta.position,
            delivery_applied: false,
        })
    }

    /// An entity, to look at.
    pub(crate) fn entity(&mut self, id: &str) -> Result<Option<Arc<Entity>>, StateError> {
        if let Some(found) = self.cache.get(id) {
            return Ok(Some(found));
        }
        let found = self.read(id)?;
        if let Some(entity) = &found {
            self.cache.put(id.into(), entity.clone(), false);
        }
        Ok(found)
    }

    /// Takes an entity out. Whoever does it puts it back, changed or not.
    pub(crate) fn take(&mut self, id: &str) -> Result<Option<Arc<Entity>>, StateError> {
        match self.cache.take(id) {
            Some(found) => Ok(Some(found)),
            None => self.read(id),
        }
    }

    fn read(&self, id: &str) -> Result<Option<Arc<Entity>>, StateError> {
        let Some(bytes) = self.file.entity(id)? else { return Ok(None) };
        let decoded = Entity::decode(bytes).map_err(|source| StateError::Entity { id: id.to_owned(), source })?;
        Ok(Some(Arc::new(decoded)))
    }

    /// Puts a changed entity back, or a new one.
    pub(crate) fn put(&mut self, id: EntityId, entity: Arc<Entity>) {
        self.timers.put(&id, &entity);
        self.waiting.put(&id, &entity);
        self.cache.put(id, entity, true);
    }

    /// Puts back an entity that was not changed.
    pub(crate) fn give_back(&mut self, id: EntityId, entity: Arc<Entity>) {
        // One that does not exist is no entity.
        if entity.position > 0 {
            self.cache.put(id, entity, false);
        }
    }

    /// Bytes of entities and stock that have changed since the last round began.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.cache.changed_bytes() + self.stock.bytes()
    }

    /// Bytes of entities and stock that the file does not have as they are.
    pub(crate) fn unflushed_bytes(&self) -> usize {
        self.cache.unwritten_bytes() + self.stock.bytes() + self.round.stock.bytes()
    }

    /// Bytes of entities that the file has as they are.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache.bytes() - self.cache.unwritten_bytes()
    }

    /// Whether a delivery was seen before, with what tells a repetition from a reuse. `read` gives a record.
    pub(crate) fn seen(
        &self,
        hash: u64,
        read: impl Fn(Position) -> Result<Option<Record>, ReadError>,
        same: impl Fn(&Record) -> Option<Seen>,
    ) -> Result<Option<Seen>, StateError> {
        if let Some(seen) = self.recent.get(&hash).or_else(|| self.round.seen.get(&hash)) {
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
                // From its first word on, or never: what was not counted then can't be any more.
                let counts = if *tally == DestinationTally::default() { Some(0) } else { tally.taken };
                tally.taken = counts.zip(progress.taken).map(|(before, taken)| before + taken);
                tally.cursor = progress.cursor;
                tally.read_to = progress.read_to;
                tally.open = progress.open.iter().copied().collect();
                tally.parked.clone_from(&progress.parked);
                tally.delivered += progress.delivered;
                tally.filtered += progress.filtered;
                tally.own_words += progress.own_words;
                tally.superseded += progress.superseded.len() as u64;
                tally.skipped += progress.skipped;
                if progress.skipped > 0 {
                    // Its runner says so before it takes up the first event.
                    tally.skipped_to = progress.cursor;
                }
            }
            Some(Body::DeadLettered(dead)) => {
                let tally = tally(&mut self.tallies.destinations, &dead.destination);
                if let Some(origin) = &dead.origin {
                    if *tally == DestinationTally::default() {
                        // The first word of it: what it looks at is counted from here on.
                        tally.taken = Some(0);
                    }
                    tally.imported += 1;
                    tally.dead += 1;
                    self.see(importing::hash_of(&dead.destination, origin), position, 0);
                } else if dead.replay != 0 {
                    tally.imported += 1;
                    tally.dead += 1;
                } else if !dead.again {
                    tally.dead += 1;
                    // Its runner has reported it as open just before.
                    tally.open.remove(&dead.event);
                }
                self.overlay.open_dead_letter(dead_letters::row_of(position, record.recorded_at_us, dead));
            }
            Some(Body::DeadLetterClosed(closed)) => {
                let tally = tally(&mut self.tallies.destinations, &closed.destination);
                tally.dead = tally.dead.saturating_sub(1);
                match DeadLetterEnd::try_from(closed.end) {
                    Ok(DeadLetterEnd::Delivered) => tally.delivered += 1,
                    Ok(DeadLetterEnd::Superseded) => tally.superseded += 1,
                    _ => tally.discarded += 1,
                }
                self.overlay.delivered.take(closed);
                self.overlay.close_dead_letter(&closed.destination, closed.event);
                if closed.end != DeadLetterEnd::Discarded as i32 {
                    self.see(importing::hash_of_end(&closed.destination, closed.event), position, 0);
                }
            }
            Some(Body::QuarantineClosed(closed)) => {
                let tally = tally(&mut self.tallies.sources, &closed.source);
                tally.received += u64::from(count_received);
                tally.superseded += 1;
                self.overlay.close_quarantine(closed.position);
            }
            Some(Body::ReplayStarted(started)) => {
                self.tallies.replay_started(position, record.recorded_at_us, started);
            }
            Some(Body::ReplayProgress(progress)) => self.tallies.replay_progressed(progress),
            Some(Body::ReplayEnded(ended)) => self.tallies.replay_ended(record.recorded_at_us, ended),
            Some(Body::RetriesScheduled(scheduled)) => self.overlay.retries.take(scheduled),
            Some(Body::Stock(fact)) => self.absorb_stock(position, fact, count_received),
            Some(Body::Probe(_)) | None => {}
        }
    }

    pub(crate) fn see(&mut self, hash: u64, position: Position, payload_hash: u64) {
        let payload_hash = Some(payload_hash);
        self.recent.entry(hash).or_insert(Seen { position, payload_hash });
    }

    /// Whether no round is under way.
    pub(crate) fn is_settled(&self) -> bool {
        self.round.position == 0
    }

    /// Begins to write everything that changed: a round, and the entities for which the flusher is to ask. Only one may be
    /// under way.
    pub(crate) fn begin_round(&mut self) -> (Arc<Round>, Vec<Changed>) {
        self.round = Arc::new(Round {
            position: self.position,
            recorded_at_us: self.recorded_at_us,
            seen: std::mem::take(&mut self.recent),
            overlay: std::mem::take(&mut self.overlay),
            timers: std::mem::take(&mut self.timers),
            waiting: std::mem::take(&mut self.waiting),
            stock: self.stock.take(),
            tallies: self.tallies.clone(),
        });
        (self.round.clone(), self.cache.begin_round())
    }

    /// Some of the round's entities as they are now.
    pub(crate) fn give(&mut self, slots: &[u32]) -> Vec<(EntityId, Arc<Entity>)> {
        self.cache.give(slots)
    }

    /// The round under way is in the file.
    pub(crate) fn round_written(&mut self, runs: Vec<Arc<Run>>) {
        let written = std::mem::take(&mut self.round);
        self.flushed = written.position;
        self.stock.written(&written.stock);
        self.runs = runs;
        self.cache.round_written();
        self.look_again_for_timers();
    }

    /// The round under way is not in the file: what it holds has changed still, under what came since.
    pub(crate) fn round_given_up(&mut self) {
        let back = std::mem::take(&mut self.round);
        self.cache.round_given_up();
        for (hash, seen) in &back.seen {
            self.recent.insert(*hash, *seen);
        }
        let newer = std::mem::replace(&mut self.overlay, back.overlay.clone());
        self.overlay.put_over(newer);
        let newer = std::mem::replace(&mut self.timers, back.timers.clone());
        self.timers.put_over(newer);
        let newer = std::mem::replace(&mut self.waiting, back.waiting.clone());
        self.waiting.put_over(newer);
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
        [&self.round.overlay, &self.overlay]
    }

    /// A kind's entities that the file does not have as they are.
    pub(crate) fn unflushed(&self, prefix: &str, after: &str) -> BTreeMap<EntityId, Arc<Entity>> {
        let wanted = self.cache.unwritten().filter(|(id, _)| id.starts_with(prefix) && id.as_str() > after);
        wanted.map(|(id, entity)| (id.clone(), entity.clone())).collect()
    }
}

/// The tally of that name, without allocating where it is there.
pub(crate) fn tally<'a, T: Default>(tallies: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    if !tallies.contains_key(name) {
        tallies.insert(name.to_owned(), T::default());
    }
    tallies.get_mut(name).unwrap_or_else(|| unreachable!("it is there, or was put in just now"))
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
