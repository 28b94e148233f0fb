//! The flusher: writes rounds of the state to the file, behind the journal, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use lockstep_core::{Entity, EntityId, Position};
use rusqlite::{Connection, params};

use crate::looper::Message;
use crate::state::cache::Changed;
use crate::state::dead_letters;
use crate::state::file::{Meta, StateFile};
use crate::state::seen::{self, Run};
use crate::state::{Round, State};
use crate::stats::Stats;

/// How many entities are asked for at once: few enough that the loop does not notice,
const PART: usize = 1_000;
/// and how many such requests may wait for the loop's answer. What the loop changes while the flusher holds it is copied.
const PARTS_AHEAD: u64 = 3;
/// How many are asked for where there is no hurry: between them the flusher rests,
const PACED_PART: usize = 100;
/// so many times as long as it took to write them. Whoever waits for an answer has the processor then.
const RESTS: u32 = 4;
const REST_MAX: Duration = Duration::from_millis(50);
/// How many are written in one transaction, and how large the file's log grows before it is moved into the file:
/// every sync of the journal waits for what the disk is writing at that moment. With much at once the same pages are
/// written less often,
const TOGETHER: usize = 2_000;
const LOG_PAGES: u32 = 4_000;
/// and with little, which is for when there is no hurry, a stall is one that nobody notices.
const PACED_TOGETHER: usize = 200;
const PACED_LOG_PAGES: u32 = 500;
/// How often the flusher looks whether it has to give up.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What the loop tells the flusher.
pub(crate) enum ToFlusher {
    /// To write a round, and for which entities it is to ask.
    Round(Arc<Round>, Vec<Changed>),
    /// What it asked for, with the number of the request.
    Part(u64, Vec<(EntityId, Arc<Entity>)>),
}

/// What the flusher tells the loop.
pub(crate) enum Flushed {
    /// It wants some of the round's entities: the number of the request, and their slots.
    Wants(u64, Vec<u32>),
    /// The round is in the file; these are the runs of seen deliveries from now on.
    Done(Vec<Arc<Run>>),
    /// It was given up because the journal did not take what the round holds.
    Abandoned,
    /// It could not be written.
    Failed(rusqlite::Error),
}

/// The flusher's thread.
pub(crate) struct Flusher {
    pub(crate) file: StateFile,
    pub(crate) stats: Arc<Stats>,
    /// Raised by the loop to give up waiting for the journal.
    pub(crate) abandon: Arc<AtomicBool>,
    /// Raised by the loop where memory, or somebody, waits for the end of the round.
    pub(crate) hurry: Arc<AtomicBool>,
    pub(crate) seen_us: i64,
    /// For how long reservations that are over are kept.
    pub(crate) reservations_kept_us: i64,
    pub(crate) runs: Vec<Arc<Run>>,
    /// Runs that the loop may still look into until it has heard of their successor.
    pub(crate) retired: Vec<i64>,
    /// The number of the last request.
    pub(crate) asked: u64,
}

/// A round that is being written.
pub(crate) struct Writing {
    round: Arc<Round>,
    /// What is still to be asked for, the last one first.
    left: Vec<Changed>,
    /// The newest record that any of it has: the journal must have it before the file.
    reached: Position,
    /// How many entities the open transaction has.
    together: usize,
}

impl Flusher {
    pub(crate) fn run(mut self, work: Receiver<ToFlusher>, done: Sender<Flushed>, wake: Sender<Message>) {
        while let Ok(message) = work.recv() {
            // An answer that nobody waits for any more is of a round that was given up.
            let ToFlusher::Round(round, changed) = message else { continue };
            let ask = |number, slots| {
                // The loop may sleep, and what it waits for is messages.
                let _ = done.send(Flushed::Wants(number, slots));
                let _ = wake.send(Message::Wake);
            };
            let result = match self.round((round, changed), &work, ask) {
                Ok(Some(writing)) => self.end(&writing),
                Ok(None) => Ok(Flushed::Abandoned),
                Err(error) => Err(error),
            };
            let result = result.unwrap_or_else(Flushed::Failed);
            if !matches!(result, Flushed::Done(_)) {
                self.roll_back();
            }
            if done.send(result).is_err() {
                return;
            }
        }
    }

    /// Writes a round's entities and waits until the journal has what they hold. `None` where it has to give up.
    fn round(
        &mut self,
        round: (Arc<Round>, Vec<Changed>),
        answers: &Receiver<ToFlusher>,
        ask: impl Fn(u64, Vec<u32>),
    ) -> Result<Option<Writing>, rusqlite::Error> {
        let mut writing = self.begin(round)?;
        let first = self.asked + 1;
        let mut answered = self.asked;
        loop {
            let hurries = self.hurry.load(Ordering::Relaxed);
            let (ahead, part) = if hurries { (PARTS_AHEAD, PART) } else { (1, PACED_PART) };
            while self.asked - answered < ahead
                && let Some(slots) = writing.next_part(part)
            {
                self.asked += 1;
                ask(self.asked, slots);
            }
            if answered == self.asked {
                break;
            }
            match answers.recv_timeout(LOOK_EVERY) {
                Ok(ToFlusher::Part(number, entities)) if number >= first => {
                    answered = number;
                    let began = Instant::now();
                    self.put(&mut writing, entities)?;
                    if writing.together >= if hurries { TOGETHER } else { PACED_TOGETHER } {
                        if !self.wait_until_durable(&writing) {
                            return Ok(None);
                        }
                        self.file.move_log_at(if hurries { LOG_PAGES } else { PACED_LOG_PAGES })?;
                        self.save(&mut writing)?;
                    }
                    if !hurries {
                        std::thread::park_timeout((began.elapsed() * RESTS).min(REST_MAX));
                    }
                }
                // Of a round that was given up.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if self.abandon.load(Ordering::Acquire) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
        Ok(self.wait_until_durable(&writing).then_some(writing))
    }

    /// The file must never be ahead of the journal.
    fn wait_until_durable(&self, writing: &Writing) -> bool {
        while !self.is_durable(writing) {
            if self.abandon.load(Ordering::Acquire) {
                return false;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        true
    }

    /// Writes a round of a state that nobody else works on, and of which the journal has everything.
    pub(crate) fn write_all(&mut self, state: &mut State) -> Result<(), rusqlite::Error> {
        let round = state.begin_round();
        let written = self.begin(round).and_then(|writing| self.write_parts(state, writing));
        match &written {
            Ok(()) => state.round_written(self.runs.clone()),
            Err(_) => {
                self.roll_back();
                state.round_given_up();
            }
        }
        written
    }

    fn write_parts(&mut self, state: &mut State, mut writing: Writing) -> Result<(), rusqlite::Error> {
        while let Some(slots) = writing.next_part(PART) {
            self.put(&mut writing, state.give(&slots))?;
        }
        self.end(&writing).map(drop)
    }

    /// Begins to write a round.
    pub(crate) fn begin(&mut self, (round, mut left): (Arc<Round>, Vec<Changed>)) -> Result<Writing, rusqlite::Error> {
        self.file.connection.execute_batch("BEGIN IMMEDIATE")?;
        // In the order of the file's index, neighbours share pages.
        left.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Writing { reached: round.position, round, left, together: 0 })
    }

    /// Writes some of the round's entities.
    pub(crate) fn put(
        &mut self,
        writing: &mut Writing,
        entities: Vec<(EntityId, Arc<Entity>)>,
    ) -> Result<(), rusqlite::Error> {
        let mut put = self.file.connection.prepare_cached(
            "INSERT INTO entity(id, state) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET state = excluded.state",
        )?;
        writing.together += entities.len();
        for (id, entity) in entities {
            writing.reached = writing.reached.max(entity.position);
            let encoded = entity.encode();
            // The loop copies what it changes while it is shared.
            drop(entity);
            put.execute(params![id.as_str(), encoded.as_ref()])?;
        }
        Ok(())
    }

    /// Whether the journal has everything that the round's entities hold.
    pub(crate) fn is_durable(&self, writing: &Writing) -> bool {
        self.stats.durable.load(Ordering::Acquire) >= writing.reached
    }

    /// Ends the transaction in the middle of a round, and begins another. The file has some entities as they are then;
    /// what it stands for is still the round before.
    pub(crate) fn save(&self, writing: &mut Writing) -> Result<(), rusqlite::Error> {
        writing.together = 0;
        self.file.write_reached(writing.reached)?;
        self.file.connection.execute_batch("COMMIT; BEGIN IMMEDIATE")
    }

    /// Gives up what was begun.
    pub(crate) fn roll_back(&self) {
        if !self.file.connection.is_autocommit()
            && let Err(error) = self.file.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a flush could not be taken back");
        }
    }

    /// Writes the rest of a round and ends its transaction.
    pub(crate) fn end(&mut self, writing: &Writing) -> Result<Flushed, rusqlite::Error> {
        let (runs, retired) = self.write_rest(&writing.round, writing.reached)?;
        self.file.connection.execute_batch("COMMIT")?;
        (self.runs, self.retired) = (runs, retired);
        Ok(Flushed::Done(self.runs.clone()))
    }

    /// What is not an entity.
    fn write_rest(&self, round: &Round, reached: Position) -> Result<(Vec<Arc<Run>>, Vec<i64>), rusqlite::Error> {
        let transaction = &self.file.connection;
        let overlay = &round.overlay;
        for position in &overlay.quarantine_closed {
            transaction.prepare_cached("DELETE FROM quarantine WHERE position = ?1")?.execute([*position as i64])?;
        }
        for row in overlay.quarantine_opened.values() {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO quarantine VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    row.position as i64,
                    row.source,
                    row.delivery,
                    row.code,
                    row.detail,
                    row.at,
                    row.received_at_us
                ])?;
        }
        dead_letters::write(overlay, transaction)?;
        overlay.incomplete.write(transaction)?;
        round.timers.write(transaction)?;
        round.waiting.write(transaction)?;
        round.stock.write(transaction, round.recorded_at_us, self.reservations_kept_us)?;
        let seen = self.write_seen(transaction, round)?;
        self.file.write_meta(&Meta {
            position: round.position,
            reached,
            recorded_at_us: round.recorded_at_us,
            tallies: round.tallies.clone(),
        })?;
        Ok(seen)
    }

    fn write_seen(
        &self,
        transaction: &Connection,
        round: &Round,
    ) -> Result<(Vec<Arc<Run>>, Vec<i64>), rusqlite::Error> {
        for run in &self.retired {
            seen::remove(transaction, *run)?;
        }
        let mut runs = self.runs.clone();
        let mut retired = Vec::new();
        if !round.seen.is_empty() {
            runs.push(Arc::new(seen::add(transaction, &round.seen, round.recorded_at_us)?));
        }
        let expired_us = round.recorded_at_us - self.seen_us;
        retired.extend(runs.iter().filter(|run| run.recorded_at_us < expired_us).map(|run| run.id));
        runs.retain(|run| run.recorded_at_us >= expired_us);
        while let Some((tier, ids)) = seen::to_merge(runs.iter().map(AsRef::as_ref)) {
            let parts: Vec<&Run> = runs.iter().filter(|run| ids.contains(&run.id)).map(AsRef::as_ref).collect();
            let merged = seen::merge(transaction, tier, &parts)?;
            runs.retain(|run| !ids.contains(&run.id));
            runs.push(Arc::new(merged));
            retired.extend(ids);
        }
        for run in &retired {
            seen::retire(transaction, *run)?;
        }
        Ok((runs, retired))
    }
}

impl Writing {
    /// How many entities the open transaction has.
    pub(crate) fn together(&self) -> usize {
        self.together
    }

    /// The slots of the next entities to be asked for.
    pub(crate) fn next_part(&mut self, count: usize) -> Option<Vec<u32>> {
        let from = self.left.len().saturating_sub(count);
        let part: Vec<u32> = self.left.drain(from..).rev().map(|changed| changed.slot).collect();
        (!part.is_empty()).then_some(part)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn flusher(dir: &std::path::Path) -> Flusher {
        let file = StateFile::open(&dir.join("state.sqlite")).unwrap();
        Flusher {
            file,
            stats: Arc::new(Stats::default()),
            abandon: Arc::new(AtomicBool::new(false)),
            hurry: Arc::new(AtomicBool::new(true)),
            seen_us: i64::MAX,
            reservations_kept_us: i64::MAX,
            runs: Vec::new(),
            retired: Vec::new(),
            asked: 0,
        }
    }

    fn round(position: Position, count: u32) -> ToFlusher {
        let id = |slot: u32| lockstep_core::entity_id("product", &slot.to_string());
        let changed = (0..count).map(|slot| Changed { id: id(slot), slot }).collect();
        ToFlusher::Round(Arc::new(Round { position, ..Round::default() }), changed)
    }

    fn given(slots: &[u32], position: Position) -> Vec<(EntityId, Arc<Entity>)> {
        let one = |slot: &u32| {
            let (kind, key) = ("product".into(), slot.to_string().into());
            let entity = Entity { kind, key, position, ..Entity::default() };
            (entity.id(), Arc::new(entity))
        };
        slots.iter().map(one).collect()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test that sends a few messages")]
    fn what_is_answered_to_a_round_that_was_given_up_is_written_by_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let flusher = flusher(dir.path());
        let reader = flusher.file.reader().unwrap();
        let (stats, abandon) = (flusher.stats.clone(), flusher.abandon.clone());
        let ((to_flusher, work), (done, flushed), (wake, woken)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let thread = std::thread::spawn(move || flusher.run(work, done, wake));

        // It asks for several parts before it has the first, and gives up with all of them outstanding.
        to_flusher.send(round(10, 5_000)).unwrap();
        let mut asked = Vec::new();
        while asked.len() < PARTS_AHEAD as usize {
            let Flushed::Wants(number, slots) = flushed.recv().unwrap() else { panic!("it asks first") };
            assert!(matches!(woken.recv(), Ok(Message::Wake)));
            asked.push((number, slots));
        }
        abandon.store(true, Ordering::Release);
        assert!(matches!(flushed.recv(), Ok(Flushed::Abandoned)));
        abandon.store(false, Ordering::Release);
        for (number, slots) in asked {
            to_flusher.send(ToFlusher::Part(number, given(&slots, 10))).unwrap();
        }

        // The next round saves in its middle, what is not durable waits, and nothing of the first one is there.
        stats.durable.store(20, Ordering::Release);
        to_flusher.send(round(20, 5_000)).unwrap();
        let mut left = 5_000;
        loop {
            match flushed.recv().unwrap() {
                Flushed::Wants(number, slots) => {
                    left -= slots.len();
                    // The last part is newer than what the journal has.
                    to_flusher.send(ToFlusher::Part(number, given(&slots, if left == 0 { 30 } else { 20 }))).unwrap();
                    if left == 0 {
                        assert_eq!(reader.meta().unwrap().position, 0, "it stands for nothing before its end");
                        stats.durable.store(30, Ordering::Release);
                    }
                }
                Flushed::Done(_) => break,
                Flushed::Abandoned | Flushed::Failed(_) => panic!("the round is written"),
            }
        }
        let meta = reader.meta().unwrap();
        assert_eq!((meta.position, meta.reached), (20, 30));
        let all = reader.entities("product/", "product/", 10_000).unwrap();
        assert_eq!(all.len(), 5_000);
        let oldest = all.into_iter().map(|(_, bytes)| Entity::decode(bytes).unwrap().position).min();
        assert_eq!(oldest, Some(20));
        drop(to_flusher);
        thread.join().unwrap();
    }
}
