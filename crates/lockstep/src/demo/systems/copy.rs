//! A system's own copy of what it is told, in its own database file: as large as it may grow, memory stays small.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};

/// How many changes are gathered in one transaction. The copy need not survive a crash of the demo.
const TRANSACTION_CHANGES: u32 = 1_000;

const SCHEMA: &str = "
    PRAGMA journal_mode = MEMORY;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -4096;
    CREATE TABLE entity (
        kind TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL,
        document BLOB NOT NULL, UNIQUE (kind, key));
    CREATE TABLE delivery (id INTEGER PRIMARY KEY);
    BEGIN;";

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The copy has it.
    Applied,
    /// Its id was seen before.
    Repeated,
    /// The copy has something newer of this entity.
    Stale,
}

/// One entity of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) key: String,
    pub(crate) version: u64,
    pub(crate) document: Vec<u8>,
}

/// One delivery to be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivered<'a> {
    pub(crate) id: u64,
    pub(crate) kind: &'a str,
    pub(crate) key: &'a str,
    pub(crate) version: u64,
    pub(crate) document: &'a [u8],
}

/// See the module.
pub(crate) struct Copy(Mutex<Open>);

struct Open {
    connection: Connection,
    changes: u32,
}

impl Copy {
    /// An empty copy in a new file.
    pub(crate) fn create(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(Mutex::new(Open { connection, changes: 0 })))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery: by its id once, and never back in time. The id is the event's position.
    pub(crate) fn take(&self, delivered: Delivered<'_>) -> rusqlite::Result<Taken> {
        let mut open = self.lock();
        open.changes += 1;
        if open.changes >= TRANSACTION_CHANGES {
            open.changes = 0;
            open.connection.execute_batch("COMMIT; BEGIN;")?;
        }
        let id = delivered.id as i64;
        let new = open.connection.prepare_cached("INSERT OR IGNORE INTO delivery VALUES (?1)")?.execute([id])?;
        if new == 0 {
            return Ok(Taken::Repeated);
        }
        let mut put = open.connection.prepare_cached(
            "INSERT INTO entity VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (kind, key) DO UPDATE SET version = ?3, position = ?4, document = ?5 WHERE ?4 > position",
        )?;
        let changed =
            put.execute(params![delivered.kind, delivered.key, delivered.version as i64, id, delivered.document])?;
        Ok(if changed == 0 { Taken::Stale } else { Taken::Applied })
    }

    /// How many entities it has.
    pub(crate) fn len(&self) -> rusqlite::Result<u64> {
        let open = self.lock();
        open.connection.query_row("SELECT count(*) FROM entity", [], |row| row.get::<_, i64>(0)).map(|n| n as u64)
    }

    /// The entities of a kind after a key, in the order of their keys' bytes.
    pub(crate) fn page(&self, kind: &str, after: &str, limit: usize) -> rusqlite::Result<Vec<Held>> {
        let open = self.lock();
        let mut select = open.connection.prepare_cached(
            "SELECT key, version, document FROM entity WHERE kind = ?1 AND key > ?2 ORDER BY key LIMIT ?3",
        )?;
        let held = |row: &rusqlite::Row<'_>| {
            Ok(Held { key: row.get(0)?, version: row.get::<_, i64>(1)? as u64, document: row.get(2)? })
        };
        select.query_map(params![kind, after, limit as i64], held)?.collect()
    }

    /// The kinds that it has entities of.
    pub(crate) fn kinds(&self) -> rusqlite::Result<Vec<String>> {
        let open = self.lock();
        let mut kinds = Vec::new();
        let mut after = String::new();
        // One step of the index a kind, instead of all its entities.
        let mut next =
            open.connection.prepare_cached("SELECT kind FROM entity WHERE kind > ?1 ORDER BY kind LIMIT 1")?;
        while let Some(kind) = next.query_row([&after], |row| row.get::<_, String>(0)).optional()? {
            after.clone_from(&kind);
            kinds.push(kind);
        }
        Ok(kinds)
    }

    /// Writes everything to the file.
    pub(crate) fn commit(&self) -> rusqlite::Result<()> {
        self.lock().connection.execute_batch("COMMIT; BEGIN;")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_each_delivery_once_and_never_goes_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let copy = Copy::create(&dir.path().join("copy.sqlite")).expect("a new file");
        let take = |id, key, version, document: &str| {
            let delivered = Delivered { id, kind: "order", key, version, document: document.as_bytes() };
            copy.take(delivered).expect("room")
        };
        assert_eq!(take(5, "web:1", 2, "two"), Taken::Applied);
        assert_eq!(take(5, "web:1", 2, "two"), Taken::Repeated);
        assert_eq!(take(3, "web:1", 1, "one"), Taken::Stale);
        assert_eq!(take(9, "web:1", 3, "three"), Taken::Applied);
        assert_eq!(take(10, "web:0", 1, "other"), Taken::Applied);
        let held = copy.page("order", "", 10).expect("readable");
        let rows: Vec<_> = held.iter().map(|h| (h.key.as_str(), h.version, h.document.as_slice())).collect();
        assert_eq!(rows, [("web:0", 1, &b"other"[..]), ("web:1", 3, &b"three"[..])]);
        assert_eq!(copy.page("order", "web:0", 10).expect("readable").len(), 1);
        assert_eq!((copy.len().expect("readable"), copy.kinds().expect("readable")), (2, vec!["order".to_owned()]));
    }
}
