//! The index of timers by time: those that the state file has, and over them what has changed since.
//!
//! It follows from the entities, and is written at the end of the round that writes them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{Entity, Timer, TimerKind};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::failure::OpenError;
use crate::state::State;
use crate::state::file::StateFile;

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS timer(
  id TEXT NOT NULL, kind TEXT NOT NULL, due_us INTEGER NOT NULL, PRIMARY KEY(id, kind)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS timer_due ON timer(due_us);
";

/// What the file does not have yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    /// When a timer is due from now on; `None` where there is none any more.
    due_us: BTreeMap<(String, TimerKind), Option<i64>>,
    by_time: BTreeSet<Timer>,
}

impl Changed {
    fn set(&mut self, id: &str, kind: TimerKind, due_us: Option<i64>) {
        let timer = |due_us| Timer { due_us, kind, id: id.to_owned() };
        if let Some(before) = self.due_us.insert((id.to_owned(), kind), due_us).flatten() {
            self.by_time.remove(&timer(before));
        }
        self.by_time.extend(due_us.map(timer));
    }

    /// Takes an entity as it is now.
    pub(crate) fn put(&mut self, id: &str, entity: &Entity) {
        for kind in TimerKind::ALL.into_iter().filter(|kind| entity.kind == kind.entity_kind()) {
            self.set(id, kind, kind.due_us(entity));
        }
    }

    /// Lays newer changes over these.
    pub(crate) fn put_over(&mut self, newer: Self) {
        for ((id, kind), due_us) in newer.due_us {
            self.set(&id, kind, due_us);
        }
    }

    pub(crate) fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let mut remove = connection.prepare_cached("DELETE FROM timer WHERE id = ?1 AND kind = ?2")?;
        let mut put =
            connection.prepare_cached("INSERT OR REPLACE INTO timer(id, kind, due_us) VALUES (?1, ?2, ?3)")?;
        for ((id, kind), due_us) in &self.due_us {
            match due_us {
                Some(due_us) => put.execute(params![id, kind.name(), due_us])?,
                None => remove.execute(params![id, kind.name()])?,
            };
        }
        Ok(())
    }
}

/// Makes the index of a file that has none yet, from its entities.
pub(crate) fn make(connection: &Connection) -> Result<(), OpenError> {
    let has = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'timer'";
    if connection.query_row(has, [], |_| Ok(())).optional()?.is_some() {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    for kind in TimerKind::ALL {
        let mut found = Changed::default();
        let (from, to) = (format!("{}/", kind.entity_kind()), format!("{}0", kind.entity_kind()));
        let mut all = transaction.prepare("SELECT id, state FROM entity WHERE id > ?1 AND id < ?2")?;
        let mut rows = all.query(params![from, to])?;
        while let Some(row) = rows.next()? {
            let (id, state): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let entity = Entity::decode(state).map_err(|source| OpenError::Record { position: 0, source })?;
            if kind.due_us(&entity).is_some() {
                found.put(&id, &entity);
            }
        }
        found.write(&transaction)?;
    }
    transaction.commit()?;
    Ok(())
}

impl StateFile {
    /// The timers that are due by then, up to a limit, the earliest first.
    fn timers(&self, until_us: i64, limit: usize) -> Result<Vec<Timer>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT due_us, kind, id FROM timer WHERE due_us <= ?1 ORDER BY due_us, kind, id LIMIT ?2",
        )?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?));
        let rows: Vec<(i64, String, String)> =
            statement.query_map(params![until_us, limit as i64], row)?.collect::<Result<_, _>>()?;
        // A kind of a newer version is left to that.
        let timer =
            |(due_us, kind, id): (i64, String, String)| Some(Timer { due_us, kind: TimerKind::of_name(&kind)?, id });
        Ok(rows.into_iter().filter_map(timer).collect())
    }

    /// When the first timer after that is due.
    pub(crate) fn next_timer_us(&self, after_us: i64) -> Result<Option<i64>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached("SELECT min(due_us) FROM timer WHERE due_us > ?1")?;
        statement.query_row([after_us], |row| row.get(0))
    }
}

impl State {
    /// When the next timer may be due.
    pub(crate) fn next_timer_us(&self) -> Option<i64> {
        let layers = [&self.round.timers, &self.timers];
        let changed = layers.into_iter().filter_map(|layer| layer.by_time.first()).map(|timer| timer.due_us);
        changed.chain(self.file_timer_us).min()
    }

    /// The timers that are due, the earliest first, up to a limit.
    pub(crate) fn due_timers(&mut self, now_us: i64, limit: usize) -> Result<Vec<Timer>, rusqlite::Error> {
        let mut due = BTreeSet::new();
        if self.file_timer_us.is_some_and(|due_us| due_us <= now_us) {
            // So many of the file's may be over already.
            let asked = limit + self.round.timers.due_us.len() + self.timers.due_us.len();
            let rows = self.file.timers(now_us, asked)?;
            let all = rows.len() < asked;
            due.extend(rows.into_iter().filter(|t| self.changed_timer(t).is_none()));
            if all && due.len() <= limit {
                // Those are handed out now: they are not looked for again before the file is another.
                self.file_timer_us = self.file.next_timer_us(now_us)?;
            }
        }
        for layer in [&self.round.timers, &self.timers] {
            let until = layer.by_time.iter().take_while(|timer| timer.due_us <= now_us);
            due.extend(until.filter(|t| self.changed_timer(t) == Some(Some(t.due_us))).take(limit).cloned());
        }
        Ok(due.into_iter().take(limit).collect())
    }

    /// What has become of a timer since the file was written, where anything has.
    fn changed_timer(&self, timer: &Timer) -> Option<Option<i64>> {
        let key = (timer.id.clone(), timer.kind);
        self.timers.due_us.get(&key).or_else(|| self.round.timers.due_us.get(&key)).copied()
    }

    /// A timer has nothing to say.
    pub(crate) fn forget_timer(&mut self, timer: &Timer) {
        self.timers.set(&timer.id, timer.kind, None);
    }

    /// What was handed out could not be said: the file's are looked for again.
    pub(crate) fn look_again_for_timers(&mut self) {
        self.file_timer_us = Some(i64::MIN);
    }
}
