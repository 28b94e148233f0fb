//! Stock in the state file: an image of each SKU, channel and reservation, written with the rest of a flush.
//!
//! Stock itself is in memory, see [`lockstep_core::stock`]; here is what of it the file does not have yet. Reservations
//! that are over leave the memory once the file has them, and come back when somebody speaks of them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lockstep_core::Position;
use lockstep_core::stock::record::{StockBody, StockFact};
use lockstep_core::stock::{Limits, Stock, movement_hash};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::failure::OpenError;
use crate::state::file::StateFile;
use crate::state::{State, StateError, ended, tally};

/// The tables. Images are kept beside the names by which they are found.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS stock_sku(sku TEXT PRIMARY KEY, image BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS stock_channel(channel TEXT PRIMARY KEY, image BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS stock_reservation(id TEXT PRIMARY KEY, open INTEGER NOT NULL, image BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS stock_reservation_open ON stock_reservation(id) WHERE open = 1;
";

/// Makes the tables where they are not there.
pub(crate) fn make(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch(SCHEMA)?;
    ended::prepare(connection)
}

/// What one image costs in memory beside its bytes.
const IMAGE_BYTES: usize = 128;
/// When so much of stock has changed, images of it are made before the flush asks for them: the loop must not stand
/// still for all of them at once.
const COLLECT_AT: usize = 1_024;

/// Images that the file does not have.
#[derive(Clone, Debug, Default)]
pub(crate) struct StockImages {
    skus: BTreeMap<String, Bytes>,
    channels: BTreeMap<String, Bytes>,
    /// With whether it is open.
    reservations: BTreeMap<String, (bool, Bytes)>,
    bytes: usize,
}

impl StockImages {
    fn collect(&mut self, stock: &mut Stock) {
        let dirty = stock.take_dirty();
        for sku in dirty.skus {
            if let Some(image) = stock.sku_image(&sku) {
                self.bytes += image.len() + IMAGE_BYTES;
                let before = self.skus.insert(sku.into(), image);
                self.bytes -= before.map_or(0, |image| image.len() + IMAGE_BYTES);
            }
        }
        for channel in dirty.channels {
            if let Some(image) = stock.channel_image(&channel) {
                self.bytes += image.len() + IMAGE_BYTES;
                let before = self.channels.insert(channel.into(), image);
                self.bytes -= before.map_or(0, |image| image.len() + IMAGE_BYTES);
            }
        }
        for id in dirty.reservations {
            if let (Some(open), Some(image)) = (stock.is_open(&id), stock.reservation_image(&id)) {
                self.bytes += image.len() + IMAGE_BYTES;
                let before = self.reservations.insert(id.into(), (open, image));
                self.bytes -= before.map_or(0, |(_, image)| image.len() + IMAGE_BYTES);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn put_over(&mut self, newer: Self) {
        self.skus.extend(newer.skus);
        self.channels.extend(newer.channels);
        self.reservations.extend(newer.reservations);
        let images = self.skus.values().chain(self.channels.values());
        let images = images.chain(self.reservations.values().map(|(_, image)| image));
        self.bytes = images.map(|image| image.len() + IMAGE_BYTES).sum();
    }

    /// Writes them; what ended up to the time of the newest record has ended at that time, as far as the file knows.
    /// Removes what was over `kept_us` before it.
    pub(crate) fn write(
        &self,
        connection: &Connection,
        recorded_at_us: i64,
        kept_us: i64,
    ) -> Result<(), rusqlite::Error> {
        let mut put = connection.prepare_cached(
            "INSERT INTO stock_sku(sku, image) VALUES (?1, ?2) ON CONFLICT(sku) DO UPDATE SET image = excluded.image",
        )?;
        for (sku, image) in &self.skus {
            put.execute(params![sku, image.as_ref()])?;
        }
        let mut put = connection.prepare_cached(
            "INSERT INTO stock_channel(channel, image) VALUES (?1, ?2)
             ON CONFLICT(channel) DO UPDATE SET image = excluded.image",
        )?;
        for (channel, image) in &self.channels {
            put.execute(params![channel, image.as_ref()])?;
        }
        let mut put = connection.prepare_cached(
            "INSERT INTO stock_reservation(id, open, image, ended_us) VALUES (?1, ?2, ?3, ?4) ON CONFLICT(id)
             DO UPDATE SET open = excluded.open, image = excluded.image, ended_us = excluded.ended_us",
        )?;
        let mut ended = 0;
        for (id, (open, image)) in &self.reservations {
            ended += usize::from(!open);
            put.execute(params![id, open, image.as_ref(), (!open).then_some(recorded_at_us)])?;
        }
        ended::remove(connection, recorded_at_us.saturating_sub(kept_us), ended)
    }
}

/// Stock between the memory and the file.
#[derive(Debug, Default)]
pub(crate) struct StockState {
    images: StockImages,
    /// Reservations that may be over and that the file has: memory can do without them.
    over: VecDeque<String>,
}

impl StockState {
    /// Takes what has changed, where that has become much; `all` where it is to be flushed.
    pub(crate) fn collect(&mut self, stock: &mut Stock, all: bool) {
        if all || stock.dirty_len() >= COLLECT_AT {
            self.images.collect(stock);
        }
    }

    /// A reservation was looked at that may be over.
    pub(crate) fn looked_at(&mut self, id: &str) {
        self.over.push_back(id.to_owned());
    }

    /// Takes reservations that are over out of memory, a few at a time.
    pub(crate) fn forget(&mut self, stock: &mut Stock, count: usize) {
        let count = count.min(self.over.len());
        for id in self.over.drain(..count) {
            // One that was reserved anew stays, and so does one that has changed: the next flush brings it back here.
            stock.forget(&id);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.images.bytes()
    }

    pub(crate) fn take(&mut self) -> StockImages {
        std::mem::take(&mut self.images)
    }

    pub(crate) fn written(&mut self, written: &StockImages) {
        let over = written.reservations.iter().filter(|(_, (open, _))| !open);
        self.over.extend(over.map(|(id, _)| id.clone()));
    }

    pub(crate) fn put_back(&mut self, back: &StockImages) {
        let newer = std::mem::replace(&mut self.images, back.clone());
        self.images.put_over(newer);
    }
}

impl State {
    /// Folds what of a record of stock is not stock: what was seen, and the sums.
    pub(crate) fn absorb_stock(&mut self, position: Position, fact: &StockFact, count_received: bool) {
        if let Some(origin) = &fact.origin {
            self.see(lockstep_core::delivery_hash(&origin.source, &origin.delivery), position, origin.payload_hash);
            if !origin.request_key.is_empty() {
                let hash = lockstep_core::decide::request_key_hash(&origin.source, &origin.request_key);
                self.see(hash, position, origin.request_hash);
            }
            if origin.releases != 0 {
                self.overlay.close_quarantine(origin.releases);
            }
            let tally = tally(&mut self.tallies.sources, &origin.source);
            tally.received += u64::from(count_received);
            tally.applied += 1;
        }
        if let Some(StockBody::Moved(moved)) = &fact.body {
            for (source, movement) in moved.names() {
                self.see(movement_hash(source, movement), position, 0);
            }
        }
        if !fact.event_type.is_empty() {
            self.tallies.published += 1;
            self.tallies.last_event = position;
        }
    }

    /// Stock as the file has it, but for reservations that are over.
    pub(crate) fn stock(&self, limits: Limits) -> Result<Stock, OpenError> {
        let mut stock = Stock::new(limits);
        let connection = &self.file.connection;
        let image = |row: &Row<'_>| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?));
        // In this order: each needs what is before it.
        for (sql, load) in [
            ("SELECT image FROM stock_channel", Stock::load_channel as fn(&mut Stock, Bytes) -> _),
            ("SELECT image FROM stock_sku", Stock::load_sku),
            ("SELECT image FROM stock_reservation WHERE open = 1", Stock::load_reservation),
        ] {
            for bytes in connection.prepare(sql)?.query_map([], image)? {
                load(&mut stock, bytes?)?;
            }
        }
        // What had expired by then can't hold again, whatever the clock says now.
        stock.tick(self.recorded_at_us);
        Ok(stock)
    }

    /// Has a reservation in memory that is written or is to be. Whether it was not there before.
    pub(crate) fn load_reservation(&self, stock: &mut Stock, id: &str) -> Result<bool, StateError> {
        self.load_reservation_since(stock, id, i64::MIN)
    }

    /// The same, but for one that was over before a time, which nobody gets to see any more.
    pub(crate) fn load_reservation_since(
        &self,
        stock: &mut Stock,
        id: &str,
        since_us: i64,
    ) -> Result<bool, StateError> {
        if stock.is_open(id).is_some() {
            return Ok(false);
        }
        let unwritten = [&self.stock.images, &self.round.stock];
        let unwritten = unwritten.into_iter().find_map(|images| images.reservations.get(id));
        let image = match unwritten {
            // It was forgotten before the file had it.
            Some((_, image)) => Some(image.clone()),
            None => self.file.reservation(id, since_us)?,
        };
        match image {
            Some(image) => stock.load_reservation(image).map(|()| true).map_err(StateError::from),
            None => Ok(false),
        }
    }
}

impl StateFile {
    /// The ids of all reservations that the file has.
    pub(crate) fn reservations(&self) -> Result<Vec<String>, rusqlite::Error> {
        self.connection.prepare("SELECT id FROM stock_reservation")?.query_map([], |row| row.get(0))?.collect()
    }

    fn reservation(&self, id: &str, since_us: i64) -> Result<Option<Bytes>, rusqlite::Error> {
        let mut statement =
            self.connection.prepare_cached("SELECT image, ended_us FROM stock_reservation WHERE id = ?1")?;
        let row =
            |row: &Row<'_>| Ok((Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?), row.get::<_, Option<i64>>(1)?));
        let Some((image, ended_us)) = statement.query_row([id], row).optional()? else { return Ok(None) };
        let is_gone =
            ended_us.is_some_and(|ended_us| ended_us < since_us) && !ended::is_of_order(&self.connection, id, &image)?;
        Ok((!is_gone).then_some(image))
    }
}
