//! The list of entities of which nobody is told, because fields are missing: what the state file does not have yet of it,
//! and what it has. So nobody ever has to look through all entities for them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::decide::Gate;
use lockstep_core::{Entity, Rules};
use rusqlite::{Connection, params};

use crate::handle::IncompleteFilter;
use crate::state::rows::IncompleteRow;
use crate::state::{State, StateError};
use crate::stats::IncompleteFigure;

pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS incomplete(
  kind TEXT NOT NULL, key TEXT NOT NULL, since_us INTEGER NOT NULL, PRIMARY KEY(kind, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS incomplete_since ON incomplete(kind, since_us, key);
";

/// Kind and key.
type Name = (String, String);

/// What the state file does not have yet. What is both closed and opened here was opened last.
#[derive(Clone, Debug, Default)]
pub(crate) struct IncompleteOverlay {
    opened: BTreeMap<Name, i64>,
    closed: BTreeSet<Name>,
}

impl IncompleteOverlay {
    fn take(&mut self, gate: &Gate, at_us: i64) {
        let name = (gate.kind.to_string(), gate.key.to_string());
        if gate.incomplete {
            self.opened.insert(name, at_us);
        } else {
            self.opened.remove(&name);
            self.closed.insert(name);
        }
    }

    /// Lays a newer overlay over this one.
    pub(crate) fn put_over(&mut self, newer: Self) {
        for name in newer.closed {
            self.opened.remove(&name);
            self.closed.insert(name);
        }
        self.opened.extend(newer.opened);
    }

    /// Writes it to the file.
    pub(crate) fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let mut delete = connection.prepare_cached("DELETE FROM incomplete WHERE kind = ?1 AND key = ?2")?;
        for (kind, key) in &self.closed {
            delete.execute([kind, key])?;
        }
        let mut put = connection.prepare_cached("INSERT OR REPLACE INTO incomplete VALUES (?1, ?2, ?3)")?;
        for ((kind, key), since_us) in &self.opened {
            put.execute(params![kind, key, since_us])?;
        }
        Ok(())
    }

    fn hides(&self, name: &Name) -> bool {
        self.closed.contains(name) || self.opened.contains_key(name)
    }
}

/// Makes the list. In a file of before there was one, it is made from the entities.
pub(crate) fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    let there = "SELECT count(*) FROM sqlite_master WHERE name = 'incomplete'";
    let is_new = connection.query_row(there, [], |row| row.get::<_, i64>(0))? == 0;
    connection.execute_batch(SCHEMA)?;
    if !is_new {
        return Ok(());
    }
    let mut entities = connection.prepare("SELECT state FROM entity")?;
    let mut rows = entities.query([])?;
    while let Some(row) = rows.next()? {
        let bytes = bytes::Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?);
        // What can't be read is reported where it is asked for.
        if let Some(entity) = Entity::decode(bytes).ok().filter(|entity| entity.incomplete) {
            let put = "INSERT INTO incomplete VALUES (?1, ?2, ?3)";
            connection.execute(put, params![entity.kind.as_str(), entity.key.as_str(), entity.created_at_us])?;
        }
    }
    Ok(())
}

/// How many of each kind the file has.
pub(crate) fn counts(connection: &Connection) -> Result<BTreeMap<String, u64>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT kind, count(*) FROM incomplete GROUP BY kind")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    rows.collect()
}

impl State {
    /// Takes into the list what a record has made of an entity.
    pub(crate) fn gate(&mut self, gate: &Gate, at_us: i64) {
        self.overlay.incomplete.take(gate, at_us);
        let count = self.incomplete.entry(gate.kind.to_string()).or_default();
        *count = if gate.incomplete { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Whether the list has an entity.
    pub(crate) fn is_listed_incomplete(&self, kind: &str, key: &str) -> Result<bool, rusqlite::Error> {
        if !self.incomplete.contains_key(kind) {
            return Ok(false);
        }
        let name = (kind.to_owned(), key.to_owned());
        for layer in self.overlays().into_iter().rev().map(|layer| &layer.incomplete) {
            if layer.hides(&name) {
                return Ok(layer.opened.contains_key(&name));
            }
        }
        let mut listed =
            self.file.connection.prepare_cached("SELECT 1 FROM incomplete WHERE kind = ?1 AND key = ?2")?;
        listed.exists([kind, key])
    }

    /// The incomplete entities, the oldest of each kind first.
    pub(crate) fn incomplete(&self, filter: &IncompleteFilter) -> Result<(Vec<IncompleteRow>, bool), StateError> {
        let mut found = Vec::new();
        let (after_kind, after) = match &filter.after {
            Some((kind, since_us, key)) => (kind.as_str(), (*since_us, key.as_str())),
            None => ("", (i64::MIN, "")),
        };
        let kinds = self.incomplete.iter().filter(|(kind, count)| {
            **count > 0 && kind.as_str() >= after_kind && filter.kind.as_ref().is_none_or(|wanted| wanted == *kind)
        });
        for (kind, _) in kinds {
            let after = if kind == after_kind { after } else { (i64::MIN, "") };
            self.incomplete_of(kind, after, filter.until_us, filter.limit + 1 - found.len(), &mut found)?;
            if found.len() > filter.limit {
                found.truncate(filter.limit);
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }

    fn incomplete_of(
        &self,
        kind: &str,
        after: (i64, &str),
        until_us: Option<i64>,
        limit: usize,
        found: &mut Vec<IncompleteRow>,
    ) -> Result<(), StateError> {
        let until_us = until_us.unwrap_or(i64::MAX);
        let [older, newer] = self.overlays();
        let (older, newer) = (&older.incomplete, &newer.incomplete);
        let row = |key: &str, since_us| IncompleteRow { kind: kind.to_owned(), key: key.to_owned(), since_us };
        let mut rows: BTreeMap<(i64, String), IncompleteRow> = BTreeMap::new();
        let of_kind = |((of, key), since_us): (&Name, &i64)| {
            let passes = of == kind && (*since_us, key.as_str()) > after && *since_us <= until_us;
            passes.then(|| ((*since_us, key.clone()), row(key, *since_us)))
        };
        let older_opened = older.opened.iter().filter(|(name, _)| !newer.hides(name));
        rows.extend(older_opened.chain(&newer.opened).filter_map(of_kind));
        let mut statement = self.file.connection.prepare_cached(
            "SELECT key, since_us FROM incomplete WHERE kind = ?1 AND (since_us, key) > (?2, ?3) AND since_us <= ?4
             ORDER BY since_us, key",
        )?;
        let mut on_disk = statement.query(params![kind, after.0, after.1, until_us])?;
        let mut taken = 0;
        // Read only as far as need be: the first of the file that still stand.
        while taken < limit
            && let Some(next) = on_disk.next()?
        {
            let (key, since_us): (String, i64) = (next.get(0)?, next.get(1)?);
            let name = (kind.to_owned(), key);
            if !older.hides(&name) && !newer.hides(&name) {
                taken += 1;
                rows.insert((since_us, name.1.clone()), row(&name.1, since_us));
            }
        }
        found.extend(rows.into_values().take(limit));
        Ok(())
    }

    /// How many of each kind there are, and the oldest of them.
    pub(crate) fn incomplete_figures(&self, rules: &Rules) -> Result<Vec<IncompleteFigure>, StateError> {
        let mut figures = Vec::new();
        for (kind, count) in &self.incomplete {
            let mut oldest = Vec::new();
            if *count > 0 {
                self.incomplete_of(kind, (i64::MIN, ""), None, 1, &mut oldest)?;
            }
            figures.push(IncompleteFigure {
                kind: kind.clone(),
                count: *count,
                oldest: oldest.pop().map(|row| (row.key, row.since_us)),
                limit_us: rules.domain(kind).and_then(|domain| domain.incomplete_after_us),
            });
        }
        Ok(figures)
    }
}

/// Tells once when entities of a kind have been incomplete for too long; again only after none was.
pub(crate) fn warn(figures: &[IncompleteFigure], warned: &mut BTreeSet<String>, now_us: i64) {
    for figure in figures {
        let overdue = figure.overdue(now_us);
        if overdue.is_none() {
            warned.remove(&figure.kind);
        } else if let Some(overdue) = overdue.filter(|_| warned.insert(figure.kind.clone())) {
            tracing::warn!(kind = figure.kind, count = figure.count, "{overdue}");
        }
    }
}
