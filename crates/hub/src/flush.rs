//! The flusher: writes snapshots of the state to the file, behind the journal, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use rusqlite::params;

use crate::state::Snapshot;
use crate::state::file::{Meta, StateFile};
use crate::state::seen::{self, Run};
use crate::stats::Stats;

/// What came of a flush.
pub(crate) enum Flushed {
    /// It is in the file; these are the runs of seen deliveries from now on.
    Done(Vec<Arc<Run>>),
    /// It was given up because the journal did not take what the snapshot holds.
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
    pub(crate) seen_us: i64,
    pub(crate) runs: Vec<Arc<Run>>,
    /// Runs that the loop may still look into until it has heard of their successor.
    pub(crate) retired: Vec<i64>,
}

impl Flusher {
    pub(crate) fn run(mut self, snapshots: Receiver<Arc<Snapshot>>, done: Sender<Flushed>) {
        while let Ok(snapshot) = snapshots.recv() {
            let result = if self.wait_until_durable(&snapshot) { self.flush(&snapshot) } else { Flushed::Abandoned };
            if done.send(result).is_err() {
                return;
            }
        }
    }

    /// What comes of a snapshot now; the snapshot again where that is not known before the journal has taken it.
    pub(crate) fn step(&mut self, snapshot: Arc<Snapshot>) -> Result<Flushed, Arc<Snapshot>> {
        if self.is_durable(&snapshot) {
            return Ok(self.flush(&snapshot));
        }
        if self.abandon.load(Ordering::Acquire) { Ok(Flushed::Abandoned) } else { Err(snapshot) }
    }

    fn flush(&mut self, snapshot: &Snapshot) -> Flushed {
        match self.write(snapshot) {
            Ok(()) => Flushed::Done(self.runs.clone()),
            Err(error) => Flushed::Failed(error),
        }
    }

    fn is_durable(&self, snapshot: &Snapshot) -> bool {
        self.stats.durable.load(Ordering::Acquire) >= snapshot.position
    }

    /// The file must never be ahead of the journal.
    fn wait_until_durable(&self, snapshot: &Snapshot) -> bool {
        while !self.is_durable(snapshot) {
            if self.abandon.load(Ordering::Acquire) {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        true
    }

    pub(crate) fn write(&mut self, snapshot: &Snapshot) -> Result<(), rusqlite::Error> {
        let transaction = self.file.connection.unchecked_transaction()?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO entity(id, state) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET state = excluded.state",
            )?;
            // In the order of the index, neighbours share pages.
            for (id, entity) in snapshot.take_entities() {
                put.execute(params![id.as_str(), entity.encode().as_ref()])?;
            }
        }
        let overlay = &snapshot.overlay;
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
        for (destination, event) in &overlay.dead_closed {
            transaction
                .prepare_cached("DELETE FROM dead_letter WHERE destination = ?1 AND event = ?2")?
                .execute(params![destination, *event as i64])?;
        }
        for row in overlay.dead_opened.values() {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO dead_letter VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
                .execute(params![
                    row.destination,
                    row.event as i64,
                    row.record as i64,
                    row.kind,
                    row.key,
                    row.event_type,
                    row.reason,
                    row.attempts,
                    row.dead_at_us
                ])?;
        }
        overlay.incomplete.write(&transaction)?;
        snapshot.timers.write(&transaction)?;
        snapshot.stock.write(&transaction)?;
        let (runs, retired) = self.write_seen(&transaction, snapshot)?;
        self.file.write_meta(&Meta {
            position: snapshot.position,
            recorded_at_us: snapshot.recorded_at_us,
            tallies: snapshot.tallies.clone(),
        })?;
        transaction.commit()?;
        (self.runs, self.retired) = (runs, retired);
        Ok(())
    }

    fn write_seen(
        &self,
        transaction: &rusqlite::Transaction<'_>,
        snapshot: &Snapshot,
    ) -> Result<(Vec<Arc<Run>>, Vec<i64>), rusqlite::Error> {
        for run in &self.retired {
            seen::remove(transaction, *run)?;
        }
        let mut runs = self.runs.clone();
        let mut retired = Vec::new();
        if !snapshot.seen.is_empty() {
            runs.push(Arc::new(seen::add(transaction, &snapshot.seen, snapshot.recorded_at_us)?));
        }
        let expired_us = snapshot.recorded_at_us - self.seen_us;
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
