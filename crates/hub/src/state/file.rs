//! The state file: one SQLite database, written by the flusher, read by the loop. WAL with
//! `synchronous=NORMAL`: after a power cut it is as it was after some transaction, and the journal's tail brings it forward.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lockstep_core::Position;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};

use crate::failure::OpenError;
use crate::handle::QuarantineFilter;
use crate::state::dead_letters;
use crate::state::incomplete;
use crate::state::rows::QuarantineRow;
use crate::state::seen::{self, Run};
use crate::state::stock;
use crate::state::timers;
use crate::state::waiting;
use crate::tally::Tallies;

/// The format that this version writes. In format 1 no entity is ahead of the position for which the file stands; it is read
/// as ever.
const FORMAT: i64 = 2;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entity(id TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine(
  position INTEGER PRIMARY KEY, source TEXT NOT NULL, delivery TEXT NOT NULL, code TEXT NOT NULL, detail TEXT NOT NULL,
  at TEXT NOT NULL, received_at_us INTEGER NOT NULL);
";

/// What the file says of itself.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    /// The position for which it stands.
    pub(crate) position: Position,
    /// The newest record that anything in it has: the journal must have that.
    pub(crate) reached: Position,
    pub(crate) recorded_at_us: i64,
    pub(crate) tallies: Tallies,
}

fn make(connection: &Connection) -> Result<(), OpenError> {
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(seen::SCHEMA)?;
    dead_letters::make(connection)?;
    incomplete::prepare(connection)?;
    timers::make(connection)?;
    waiting::make(connection)?;
    stock::make(connection)?;
    Ok(())
}

/// One connection to the file.
pub(crate) struct StateFile {
    pub(crate) connection: Connection,
    path: PathBuf,
}

impl StateFile {
    /// Opens the file, makes it where it is not there, and refuses one of another format.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = Connection::open(path)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if !(0..=FORMAT).contains(&found) {
            return Err(OpenError::StateFormat { path: path.to_owned(), found, known: FORMAT });
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -16_000)?;
        make(&connection)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection, path: path.to_owned() })
    }

    /// How many pages the log has when it is moved into the file, from the next transaction on.
    pub(crate) fn move_log_at(&self, pages: u32) -> Result<(), rusqlite::Error> {
        self.connection.pragma_update(None, "wal_autocheckpoint", pages)
    }

    /// Opens the file to look at it as it is at this moment, beside a hub that may be writing it; where there is none, as
    /// an empty one in memory.
    pub(crate) fn beside(path: &Path) -> Result<Self, OpenError> {
        if !path.exists() {
            let connection = Connection::open_in_memory()?;
            make(&connection)?;
            return Ok(Self { connection, path: path.to_owned() });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if found != FORMAT {
            return Err(OpenError::StateFormat { path: path.to_owned(), found, known: FORMAT });
        }
        // One transaction, so that everything is read as of the same moment.
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, path: path.to_owned() })
    }

    /// Another connection, for reading.
    pub(crate) fn reader(&self) -> Result<Self, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.pragma_update(None, "cache_size", -6_000)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection, path: self.path.clone() })
    }

    /// Everything that is read from now on is read in one transaction: else every question would lock the file for itself,
    /// and nearly each is about something that the file does not have. It costs nothing where nothing is read.
    ///
    /// It must have an end before the loop hears that a round is written: what memory then gives up has to be found here.
    pub(crate) fn begin_reading(&self) {
        self.speak("BEGIN");
    }

    /// See [`Self::begin_reading`].
    pub(crate) fn end_reading(&self) {
        // A failure may have ended it already.
        if !self.connection.is_autocommit() {
            self.speak("COMMIT");
        }
    }

    fn speak(&self, sql: &str) {
        // Without it, each question is a transaction of its own, as true as this one.
        if let Err(error) = self.connection.prepare_cached(sql).and_then(|mut sql| sql.execute([])) {
            tracing::warn!(error = &error as &dyn std::error::Error, sql, "the state file's transaction");
        }
    }

    pub(crate) fn meta(&self) -> Result<Meta, rusqlite::Error> {
        let get = |key: &str| -> Result<Option<Vec<u8>>, rusqlite::Error> {
            let mut statement = self.connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
            statement.query_row([key], |row| row.get(0)).optional()
        };
        let number = |bytes: Option<Vec<u8>>| bytes.and_then(|b| b.try_into().ok()).map_or(0, i64::from_le_bytes);
        let unreadable =
            |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error));
        let tallies = match get("tallies")? {
            Some(json) => serde_json::from_slice(&json).map_err(unreadable)?,
            None => Tallies::default(),
        };
        let position = number(get("position")?) as Position;
        Ok(Meta {
            position,
            reached: (number(get("reached")?) as Position).max(position),
            recorded_at_us: number(get("recorded_at_us")?),
            tallies,
        })
    }

    pub(crate) fn write_meta(&self, meta: &Meta) -> Result<(), rusqlite::Error> {
        let tallies = serde_json::to_vec(&meta.tallies).unwrap_or_default();
        let mut put = self.connection.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)")?;
        put.execute(params!["position", (meta.position as i64).to_le_bytes()])?;
        self.write_reached(meta.reached)?;
        put.execute(params!["recorded_at_us", meta.recorded_at_us.to_le_bytes()])?;
        put.execute(params!["tallies", tallies])?;
        Ok(())
    }

    /// Says up to which record there is anything in the file.
    pub(crate) fn write_reached(&self, reached: Position) -> Result<(), rusqlite::Error> {
        let mut put = self.connection.prepare_cached("INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)")?;
        put.execute(params!["reached", (reached as i64).to_le_bytes()])?;
        Ok(())
    }

    pub(crate) fn entity(&self, id: &str) -> Result<Option<Bytes>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached("SELECT state FROM entity WHERE id = ?1")?;
        statement.query_row([id], |row| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?))).optional()
    }

    /// Entities whose ids begin with `prefix`, after `after`, in order.
    pub(crate) fn entities(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, rusqlite::Error> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, state FROM entity WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3")?;
        // The next prefix in order: '/' is followed by '0'.
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let row = |row: &Row<'_>| Ok((row.get(0)?, Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)));
        statement.query_map(params![after.max(prefix), end, limit as i64], row)?.collect()
    }

    /// Entities of all kinds after an id, in order.
    pub(crate) fn entities_after(&self, after: &str, limit: usize) -> Result<Vec<(String, Bytes)>, rusqlite::Error> {
        let mut statement =
            self.connection.prepare_cached("SELECT id, state FROM entity WHERE id > ?1 ORDER BY id LIMIT ?2")?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)));
        statement.query_map(params![after, limit as i64], row)?.collect()
    }

    pub(crate) fn seen_runs(&self) -> Result<Vec<Arc<Run>>, rusqlite::Error> {
        Ok(seen::load(&self.connection)?.into_iter().map(Arc::new).collect())
    }

    pub(crate) fn seen_lookup(&self, run: i64, hash: u64) -> Result<Option<Position>, rusqlite::Error> {
        seen::lookup(&self.connection, run, hash)
    }

    pub(crate) fn quarantine(
        &self,
        filter: &QuarantineFilter,
        limit: usize,
    ) -> Result<Vec<(Position, QuarantineRow)>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT position, source, delivery, code, detail, at, received_at_us FROM quarantine
             WHERE position > ?1 AND (?2 IS NULL OR source = ?2) ORDER BY position LIMIT ?3",
        )?;
        let row = |row: &Row<'_>| {
            let position = row.get::<_, i64>(0)? as Position;
            let held = QuarantineRow {
                position,
                source: row.get(1)?,
                delivery: row.get(2)?,
                code: row.get(3)?,
                detail: row.get(4)?,
                at: row.get(5)?,
                received_at_us: row.get(6)?,
            };
            Ok((position, held))
        };
        statement.query_map(params![filter.after as i64, filter.source, limit as i64], row)?.collect()
    }

    pub(crate) fn is_quarantined(&self, position: Position) -> Result<bool, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM quarantine WHERE position = ?1")?;
        statement.exists([position as i64])
    }

    /// The oldest record that an open quarantined delivery or dead letter still needs.
    pub(crate) fn oldest_needed(&self) -> Result<Option<Position>, rusqlite::Error> {
        let sql = "SELECT min(p) FROM (SELECT min(position) AS p FROM quarantine
                   UNION ALL SELECT min(event) FROM dead_letter UNION ALL SELECT min(record) FROM dead_letter)";
        let oldest: Option<i64> = self.connection.query_row(sql, [], |row| row.get(0))?;
        Ok(oldest.map(|p| p as Position))
    }
}
