//! Open dead letters, and when they are to be sent again: what the state file has, and over it what it does not have yet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lockstep_core::Position;
use lockstep_core::record::{Attempt, DeadLetterClosed, DeadLetterEnd, DeadLettered, RetriesScheduled};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::delivery::ATTEMPTS_MAX;
use crate::state::State;
use crate::state::file::StateFile;
use crate::state::overlay::{DeadLetterKey, Overlay};
use crate::state::rows::DeadLetterRow;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS dead_letter(
  destination TEXT NOT NULL, event INTEGER NOT NULL, record INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
  event_type TEXT NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, dead_at_us INTEGER NOT NULL,
  PRIMARY KEY(destination, event)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter_retry(
  destination TEXT NOT NULL, event INTEGER NOT NULL, at_us INTEGER NOT NULL, by TEXT NOT NULL,
  PRIMARY KEY(destination, event)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dead_letter_delivered(
  destination TEXT NOT NULL, id TEXT NOT NULL, event_at_us INTEGER NOT NULL, PRIMARY KEY(destination, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dead_letter_retry_at ON dead_letter_retry(destination, at_us, event);
";

/// What a file does not have that was written before dead letters could be filtered by it.
const ADDED: &str = "
ALTER TABLE dead_letter ADD COLUMN status INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letter ADD COLUMN detail TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter ADD COLUMN minor INTEGER;
ALTER TABLE dead_letter ADD COLUMN currency TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letter ADD COLUMN promised_at_us INTEGER;
ALTER TABLE dead_letter ADD COLUMN event_at_us INTEGER NOT NULL DEFAULT 0;
";

/// The columns as [`row`] reads them.
const COLUMNS: &str =
    "d.destination, d.event, d.record, d.kind, d.key, d.event_type, d.reason, d.attempts, d.dead_at_us,
  d.status, d.detail, d.minor, d.currency, d.promised_at_us, d.event_at_us, r.at_us, r.by";
const JOINED: &str =
    "dead_letter d LEFT JOIN dead_letter_retry r ON r.destination = d.destination AND r.event = d.event";

/// As much of an attempt's detail is in the list.
const DETAIL_CHARS_MAX: usize = 300;

/// Makes the tables, and adds what an older file lacks.
pub(super) fn make(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch(SCHEMA)?;
    let has = "SELECT 1 FROM pragma_table_info('dead_letter') WHERE name = 'detail'";
    if connection.query_row(has, [], |_| Ok(())).optional()?.is_none() {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(ADDED)?;
        transaction.commit()?;
    }
    Ok(())
}

/// How many attempts were made: of many, not all are kept, and the numbers of those that are tell.
fn attempts(kept: &[Attempt]) -> u32 {
    let last = kept.last().filter(|_| kept.len() >= ATTEMPTS_MAX);
    last.map_or(0, |last| last.number).max(kept.len() as u32)
}

/// The row of a dead letter that a record tells of.
pub(super) fn row_of(record: Position, recorded_at_us: i64, dead: &DeadLettered) -> DeadLetterRow {
    let last = dead.attempts.last();
    DeadLetterRow {
        destination: dead.destination.clone(),
        event: dead.event,
        record,
        kind: dead.kind.clone(),
        key: dead.key.clone(),
        event_type: dead.event_type.clone(),
        reason: dead.reason.clone(),
        attempts: attempts(&dead.attempts),
        dead_at_us: recorded_at_us,
        status: last.map_or(0, |attempt| attempt.status),
        detail: last.map(|attempt| attempt.detail.chars().take(DETAIL_CHARS_MAX).collect()).unwrap_or_default(),
        minor: dead.minor,
        currency: dead.currency.clone(),
        promised_at_us: dead.promised_at_us,
        event_at_us: if dead.event_at_us == 0 { recorded_at_us } else { dead.event_at_us },
        retry: None,
    }
}

fn row(row: &Row<'_>) -> Result<DeadLetterRow, rusqlite::Error> {
    let at_us: Option<i64> = row.get(15)?;
    let by: Option<String> = row.get(16)?;
    let dead_at_us = row.get(8)?;
    let event_at_us: i64 = row.get(14)?;
    Ok(DeadLetterRow {
        destination: row.get(0)?,
        event: row.get::<_, i64>(1)? as Position,
        record: row.get::<_, i64>(2)? as Position,
        kind: row.get(3)?,
        key: row.get(4)?,
        event_type: row.get(5)?,
        reason: row.get(6)?,
        attempts: row.get(7)?,
        dead_at_us,
        status: row.get(9)?,
        detail: row.get(10)?,
        minor: row.get(11)?,
        currency: row.get(12)?,
        promised_at_us: row.get(13)?,
        event_at_us: if event_at_us == 0 { dead_at_us } else { event_at_us },
        retry: at_us.map(|at_us| RetryPlan { at_us, by: by.unwrap_or_default() }),
    })
}

/// When a dead letter is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RetryPlan {
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// Who asked for it.
    pub by: String,
}

/// What the file does not have yet of when dead letters are to be sent again.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryOverlay {
    /// `None`: not any more.
    plans: BTreeMap<DeadLetterKey, Option<RetryPlan>>,
    by_time: BTreeSet<(String, i64, Position)>,
}

impl RetryOverlay {
    pub(crate) fn set(&mut self, key: DeadLetterKey, plan: Option<RetryPlan>) {
        if let Some(plan) = &plan {
            self.by_time.insert((key.0.clone(), plan.at_us, key.1));
        }
        let at_us = plan.as_ref().map(|plan| plan.at_us);
        if let Some(Some(before)) = self.plans.insert(key.clone(), plan)
            && Some(before.at_us) != at_us
        {
            self.by_time.remove(&(key.0, before.at_us, key.1));
        }
    }

    pub(crate) fn take(&mut self, scheduled: &RetriesScheduled) {
        for (event, at_us) in scheduled.events.iter().zip(&scheduled.at_us) {
            let plan = (*at_us != 0).then(|| RetryPlan { at_us: *at_us, by: scheduled.by.clone() });
            self.set((scheduled.destination.clone(), *event), plan);
        }
    }

    /// Lays a newer one over this.
    pub(crate) fn put_over(&mut self, newer: Self) {
        for (key, plan) in newer.plans {
            self.set(key, plan);
        }
    }

    fn due(&self, destination: &str, after: (i64, Position)) -> impl Iterator<Item = (i64, Position)> {
        let from = Bound::Excluded((destination.to_owned(), after.0, after.1));
        let of_it = self.by_time.range((from, Bound::Unbounded));
        of_it.take_while(move |(name, ..)| name == destination).map(|(_, at_us, event)| (*at_us, *event))
    }
}

/// Destination and entity of a dead letter that was brought in and delivered.
type Delivered = (String, String);

/// The newest event of each entity that was delivered of those brought in, as far as the file does not have it yet: nothing
/// older of that entity is sent again, and its history here does not tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeliveredOverlay(BTreeMap<Delivered, i64>);

impl DeliveredOverlay {
    pub(crate) fn take(&mut self, closed: &DeadLetterClosed) {
        if !closed.entity.is_empty() && closed.end == DeadLetterEnd::Delivered as i32 {
            let name = (closed.destination.clone(), closed.entity.clone());
            let newest = self.0.entry(name).or_insert(closed.event_at_us);
            *newest = closed.event_at_us.max(*newest);
        }
    }

    /// Lays a newer one over this.
    pub(crate) fn put_over(&mut self, newer: Self) {
        for (name, at_us) in newer.0 {
            let newest = self.0.entry(name).or_insert(at_us);
            *newest = at_us.max(*newest);
        }
    }

    fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let mut put = connection.prepare_cached(
            "INSERT INTO dead_letter_delivered VALUES (?1, ?2, ?3) ON CONFLICT(destination, id)
             DO UPDATE SET event_at_us = max(event_at_us, excluded.event_at_us)",
        )?;
        for ((destination, id), at_us) in &self.0 {
            put.execute(params![destination, id, at_us])?;
        }
        Ok(())
    }
}

/// Writes what an overlay has of dead letters.
pub(crate) fn write(overlay: &Overlay, connection: &Connection) -> Result<(), rusqlite::Error> {
    let mut delete = connection.prepare_cached("DELETE FROM dead_letter WHERE destination = ?1 AND event = ?2")?;
    for (destination, event) in &overlay.dead_closed {
        delete.execute(params![destination, *event as i64])?;
    }
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO dead_letter(destination, event, record, kind, key, event_type, reason, attempts,
           dead_at_us, status, detail, minor, currency, promised_at_us, event_at_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    for row in overlay.dead_opened.values() {
        put.execute(params![
            row.destination,
            row.event as i64,
            row.record as i64,
            row.kind,
            row.key,
            row.event_type,
            row.reason,
            row.attempts,
            row.dead_at_us,
            row.status,
            row.detail,
            row.minor,
            row.currency,
            row.promised_at_us,
            row.event_at_us,
        ])?;
    }
    let mut forget =
        connection.prepare_cached("DELETE FROM dead_letter_retry WHERE destination = ?1 AND event = ?2")?;
    let mut plan = connection.prepare_cached("INSERT OR REPLACE INTO dead_letter_retry VALUES (?1, ?2, ?3, ?4)")?;
    overlay.delivered.write(connection)?;
    for ((destination, event), planned) in &overlay.retries.plans {
        match planned {
            Some(RetryPlan { at_us, by }) => plan.execute(params![destination, *event as i64, at_us, by])?,
            None => forget.execute(params![destination, *event as i64])?,
        };
    }
    Ok(())
}

impl StateFile {
    fn dead_letter(&self, destination: &str, event: Position) -> Result<Option<DeadLetterRow>, rusqlite::Error> {
        let sql = format!("SELECT {COLUMNS} FROM {JOINED} WHERE d.destination = ?1 AND d.event = ?2");
        self.connection.prepare_cached(&sql)?.query_row(params![destination, event as i64], row).optional()
    }
}

impl State {
    /// When the newest event of an entity was decided that was delivered of those brought in from outside.
    pub(crate) fn brought_in_and_delivered_us(
        &self,
        destination: &str,
        id: &str,
    ) -> Result<Option<i64>, rusqlite::Error> {
        let mut statement = self
            .file
            .connection
            .prepare_cached("SELECT event_at_us FROM dead_letter_delivered WHERE destination = ?1 AND id = ?2")?;
        let on_disk: Option<i64> = statement.query_row([destination, id], |row| row.get(0)).optional()?;
        let name = (destination.to_owned(), id.to_owned());
        let newer = self.overlays().into_iter().filter_map(|layer| layer.delivered.0.get(&name).copied());
        Ok(newer.chain(on_disk).max())
    }

    /// An open dead letter.
    pub(crate) fn dead_letter(
        &self,
        destination: &str,
        event: Position,
    ) -> Result<Option<DeadLetterRow>, rusqlite::Error> {
        let key = (destination.to_owned(), event);
        for layer in self.overlays().into_iter().rev() {
            if let Some(row) = layer.dead_opened.get(&key) {
                return Ok(Some(self.with_plan(row.clone())));
            }
            if layer.dead_closed.contains(&key) {
                return Ok(None);
            }
        }
        Ok(self.file.dead_letter(destination, event)?.map(|row| self.with_plan(row)))
    }

    /// The row with what the overlays say of its retry.
    fn with_plan(&self, mut row: DeadLetterRow) -> DeadLetterRow {
        let key = (row.destination, row.event);
        let plan = self.overlays().into_iter().rev().find_map(|layer| layer.retries.plans.get(&key));
        if let Some(plan) = plan {
            row.retry.clone_from(plan);
        }
        row.destination = key.0;
        row
    }

    /// The next open dead letters in the order of destination and event.
    pub(crate) fn dead_letters_after(
        &self,
        after: &DeadLetterKey,
        destination: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRow>, rusqlite::Error> {
        let first = destination.map(|name| (name.to_owned(), 0));
        let after = first.as_ref().filter(|first| *first > after).unwrap_or(after);
        let is_wanted = |name: &str| destination.is_none_or(|wanted| wanted == name);
        let [older, newer] = self.overlays();
        let hides = |layer: &Overlay, key: &DeadLetterKey| {
            layer.dead_closed.contains(key) || layer.dead_opened.contains_key(key)
        };
        let open = |layer: &Overlay| -> Vec<DeadLetterRow> {
            let range = layer.dead_opened.range((Bound::Excluded(after), Bound::Unbounded));
            let of_it = range.take_while(|((name, _), _)| is_wanted(name));
            let standing = of_it.filter(|(key, _)| std::ptr::eq(layer, newer) || !hides(newer, key));
            standing.take(limit).map(|(_, row)| row.clone()).collect()
        };
        let mut found: BTreeMap<DeadLetterKey, DeadLetterRow> = BTreeMap::new();
        found.extend(open(older).into_iter().chain(open(newer)).map(|row| ((row.destination.clone(), row.event), row)));
        let sql = format!(
            "SELECT {COLUMNS} FROM {JOINED} WHERE (d.destination, d.event) > (?1, ?2) ORDER BY d.destination, d.event"
        );
        let mut statement = self.file.connection.prepare_cached(&sql)?;
        let mut on_disk = statement.query(params![after.0, after.1 as i64])?;
        let mut taken = 0;
        // Read only as far as need be: the first of the file that still stand.
        while taken < limit
            && let Some(next) = on_disk.next()?
        {
            let next = row(next)?;
            if !is_wanted(&next.destination) {
                break;
            }
            let key = (next.destination.clone(), next.event);
            if !hides(older, &key) && !hides(newer, &key) {
                taken += 1;
                found.insert(key, next);
            }
        }
        Ok(found.into_values().take(limit).map(|row| self.with_plan(row)).collect())
    }

    /// The dead letters of a destination that are to be sent again by now, after `after` in the order of time and event;
    /// and when the one behind them is due.
    pub(crate) fn due_retries(
        &self,
        destination: &str,
        after: (i64, Position),
        now_us: i64,
        limit: usize,
    ) -> Result<(Vec<DeadLetterRow>, Option<i64>), rusqlite::Error> {
        let [older, newer] = self.overlays().map(|layer| &layer.retries);
        let mut all: BTreeSet<(i64, Position)> = newer.due(destination, after).take(limit + 1).collect();
        let key = |event: Position| (destination.to_owned(), event);
        let stands = |(_, event): &(i64, Position)| !newer.plans.contains_key(&key(*event));
        all.extend(older.due(destination, after).filter(stands).take(limit + 1));
        let mut statement = self.file.connection.prepare_cached(
            "SELECT at_us, event FROM dead_letter_retry WHERE destination = ?1 AND (at_us, event) > (?2, ?3)
             ORDER BY at_us, event",
        )?;
        let mut on_disk = statement.query(params![destination, after.0, after.1 as i64])?;
        let mut taken = 0;
        while taken <= limit
            && let Some(next) = on_disk.next()?
        {
            let (at_us, event) = (next.get(0)?, next.get::<_, i64>(1)? as Position);
            if !newer.plans.contains_key(&key(event)) && !older.plans.contains_key(&key(event)) {
                taken += 1;
                all.insert((at_us, event));
            }
        }
        let mut due = Vec::new();
        for (at_us, event) in all {
            if at_us > now_us || due.len() >= limit {
                return Ok((due, Some(at_us)));
            }
            due.extend(self.dead_letter(destination, event)?);
        }
        Ok((due, None))
    }
}
