//! The index of orders that wait for stock, by SKU and in the order in which they get it: those that the state file has,
//! and over them what has changed since.
//!
//! It follows from the orders, as the index of timers does, and is written at the end of the round that writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lockstep_core::Entity;
use lockstep_core::decide::{Waiting, waiting};
use rusqlite::{Connection, OptionalExtension, params};

use crate::failure::OpenError;
use crate::state::State;
use crate::state::file::StateFile;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS waiting(
  id TEXT NOT NULL, sku TEXT NOT NULL, channel TEXT NOT NULL, placed_us INTEGER NOT NULL,
  PRIMARY KEY(id, sku)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting_turn ON waiting(sku, channel, placed_us, id);
";

/// When an order was placed, and its id: its place among those of its channel.
pub(crate) type Place = (i64, String);

/// The name that follows on another one, or the first.
type Next<'a> = &'a dyn Fn(Option<&str>) -> Result<Option<String>, rusqlite::Error>;

/// What the file does not have yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    /// For what an order waits from now on; for nothing where it waits no longer.
    orders: BTreeMap<String, Waiting>,
    /// SKU, channel, and whose turn it is when.
    turns: BTreeSet<(String, String, Place)>,
}

impl Changed {
    fn set(&mut self, id: &str, waiting: Waiting) {
        let turn = |sku: &String, of: &Waiting| (sku.clone(), of.channel.clone(), (of.placed_us, id.to_owned()));
        if let Some(before) = self.orders.remove(id) {
            for sku in &before.skus {
                self.turns.remove(&turn(sku, &before));
            }
        }
        self.turns.extend(waiting.skus.iter().map(|sku| turn(sku, &waiting)));
        self.orders.insert(id.to_owned(), waiting);
    }

    /// Takes an entity as it is now.
    pub(crate) fn put(&mut self, id: &str, entity: &Entity) {
        if let Some(waiting) = waiting(entity) {
            self.set(id, waiting);
        }
    }

    /// Lays newer changes over these.
    pub(crate) fn put_over(&mut self, newer: Self) {
        for (id, waiting) in newer.orders {
            self.set(&id, waiting);
        }
    }

    pub(crate) fn write(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let mut remove = connection.prepare_cached("DELETE FROM waiting WHERE id = ?1")?;
        let mut put =
            connection.prepare_cached("INSERT INTO waiting(id, sku, channel, placed_us) VALUES (?1, ?2, ?3, ?4)")?;
        for (id, waiting) in &self.orders {
            remove.execute([id])?;
            for sku in &waiting.skus {
                put.execute(params![id, sku.as_str(), waiting.channel.as_str(), waiting.placed_us])?;
            }
        }
        Ok(())
    }

    /// The next channel after that one with orders that wait for a SKU. An order's channel may be empty.
    fn channel_after(&self, sku: &str, after: Option<&str>) -> Option<&String> {
        // No channel's name has this at its end.
        let after = after.map(|after| format!("{after}\0")).unwrap_or_default();
        let from = (sku.to_owned(), after, (i64::MIN, String::new()));
        self.turns.range(from..).next().filter(|(of, ..)| of == sku).map(|(_, channel, _)| channel)
    }

    /// The next SKU after that one for which orders wait.
    fn sku_after(&self, after: &str) -> Option<&String> {
        let after = if after.is_empty() { String::new() } else { format!("{after}\0") };
        self.turns.range((after, String::new(), (i64::MIN, String::new()))..).next().map(|(sku, ..)| sku)
    }
}

fn is_there(connection: &Connection) -> Result<bool, rusqlite::Error> {
    let has = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'waiting'";
    Ok(connection.query_row(has, [], |_| Ok(())).optional()?.is_some())
}

/// Makes the index of a file that has none yet, from its orders.
pub(crate) fn make(connection: &Connection) -> Result<(), OpenError> {
    if is_there(connection)? {
        return Ok(());
    }
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    let mut found = Changed::default();
    let mut all = transaction.prepare("SELECT id, state FROM entity WHERE id > 'order/' AND id < 'order0'")?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let (id, state): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let entity = Entity::decode(state).map_err(|source| OpenError::Record { position: 0, source })?;
        found.put(&id, &entity);
    }
    drop(rows);
    drop(all);
    found.write(&transaction)?;
    transaction.commit()?;
    Ok(())
}

impl StateFile {
    /// The next value of a column, without looking at all rows that have the same.
    fn next(&self, sql: &str, values: &[&str]) -> Result<Option<String>, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0))
    }
}

impl State {
    /// The SKUs for which orders wait, as far as anything is known of it: some may wait no longer.
    pub(crate) fn skus_waited_for(&self) -> Result<BTreeSet<String>, rusqlite::Error> {
        let mut skus = BTreeSet::new();
        // A file of an older version is as it is, where it is only looked at.
        if is_there(&self.file.connection)? {
            let mut after = String::new();
            while let Some(sku) = self.file.next("SELECT min(sku) FROM waiting WHERE sku > ?1", &[&after])? {
                skus.insert(sku.clone());
                after = sku;
            }
        }
        for layer in [&self.round.waiting, &self.waiting] {
            let mut after = String::new();
            while let Some(sku) = layer.sku_after(&after) {
                skus.insert(sku.clone());
                after.clone_from(sku);
            }
        }
        Ok(skus)
    }

    /// The channels that have orders which may wait for a SKU.
    pub(crate) fn channels_waiting(&self, sku: &str) -> Result<BTreeSet<String>, rusqlite::Error> {
        let mut channels = BTreeSet::new();
        let mut add = |next: Next<'_>| {
            let mut after: Option<String> = None;
            while let Some(channel) = next(after.as_deref())? {
                channels.insert(channel.clone());
                after = Some(channel);
            }
            Ok::<_, rusqlite::Error>(())
        };
        let first = "SELECT min(channel) FROM waiting WHERE sku = ?1";
        let following = "SELECT min(channel) FROM waiting WHERE sku = ?1 AND channel > ?2";
        add(&|after| match after {
            None => self.file.next(first, &[sku]),
            Some(after) => self.file.next(following, &[sku, after]),
        })?;
        add(&|after| Ok(self.round.waiting.channel_after(sku, after).cloned()))?;
        add(&|after| Ok(self.waiting.channel_after(sku, after).cloned()))?;
        Ok(channels)
    }

    /// The orders of a channel that wait for a SKU, in their order, after a place in it and up to a limit.
    pub(crate) fn waiting(
        &self,
        (sku, channel): (&str, &str),
        after: Option<&Place>,
        limit: usize,
    ) -> Result<Vec<Place>, rusqlite::Error> {
        let least = (i64::MIN, String::new());
        let after = after.unwrap_or(&least);
        let mut places = BTreeSet::new();
        let mut statement = self.file.connection.prepare_cached(
            "SELECT placed_us, id FROM waiting WHERE sku = ?1 AND channel = ?2 AND (placed_us, id) > (?3, ?4)
             ORDER BY placed_us, id",
        )?;
        let mut rows = statement.query(params![sku, channel, after.0, after.1])?;
        // Read only as far as need be: the first of the file that still stand.
        while places.len() < limit
            && let Some(row) = rows.next()?
        {
            let place: Place = (row.get(0)?, row.get(1)?);
            if !self.waiting.orders.contains_key(&place.1) && !self.round.waiting.orders.contains_key(&place.1) {
                places.insert(place);
            }
        }
        let key = |place: Place| (sku.to_owned(), channel.to_owned(), place);
        let from = || Bound::Excluded(key(after.clone()));
        let is_it = |of: &&(String, String, Place)| of.0 == sku && of.1 == channel;
        let newer = self.waiting.turns.range((from(), Bound::Unbounded)).take_while(is_it);
        places.extend(newer.take(limit).map(|(.., place)| place.clone()));
        let older = self.round.waiting.turns.range((from(), Bound::Unbounded)).take_while(is_it);
        let stands = |of: &&(String, String, Place)| !self.waiting.orders.contains_key(&of.2.1);
        places.extend(older.filter(stands).take(limit).map(|(.., place)| place.clone()));
        Ok(places.into_iter().take(limit).collect())
    }
}
