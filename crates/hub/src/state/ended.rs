//! Reservations that are over: kept for a time in the state file, for whoever speaks of them again, then removed. Else the
//! file would have every cart that there ever was.
//!
//! By the time of records, not by a clock: whoever folds the same records finds the same. Nobody gets to see one that is
//! over for longer than it is to be kept; it is removed a day after that, so that none goes while a command is decided that
//! speaks of it, and what a restart folds anew finds all that was there. One of an order stays as long as the order does:
//! what an order has had decides what it still needs.

use lockstep_core::entity_id;
use lockstep_core::stock::record::ReservationFact;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// For how much longer one is in the file than it can be seen.
const REMOVED_LATER_US: i64 = 86_400_000_000;
/// How many a flush removes where fewer have ended since the one before.
const REMOVED_AT_ONCE: usize = 4_096;

/// Adds what a file does not have yet that was written before reservations were removed.
pub(super) fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    let has = "SELECT 1 FROM pragma_table_info('stock_reservation') WHERE name = 'ended_us'";
    if connection.query_row(has, [], |_| Ok(())).optional()?.is_none() {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch("ALTER TABLE stock_reservation ADD COLUMN ended_us INTEGER")?;
        let recorded = "SELECT value FROM meta WHERE key = 'recorded_at_us'";
        let recorded: Option<Vec<u8>> = transaction.query_row(recorded, [], |row| row.get(0)).optional()?;
        let recorded_at_us = recorded.and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes);
        transaction.execute("UPDATE stock_reservation SET ended_us = ?1 WHERE open = 0", [recorded_at_us])?;
        transaction.commit()?;
    }
    connection.execute_batch(
        "CREATE INDEX IF NOT EXISTS stock_reservation_ended ON stock_reservation(ended_us) WHERE ended_us IS NOT NULL",
    )
}

/// Removes those that were over before a time, a bounded number: more than the `ended` that this flush has written.
pub(super) fn remove(connection: &Connection, before_us: i64, ended: usize) -> Result<(), rusqlite::Error> {
    let before_us = before_us.saturating_sub(REMOVED_LATER_US);
    let count = REMOVED_AT_ONCE.max(ended.saturating_mul(2)) as i64;
    let mut over = connection
        .prepare_cached("SELECT id, image FROM stock_reservation WHERE ended_us < ?1 ORDER BY ended_us LIMIT ?2")?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?));
    let over: Vec<(String, Vec<u8>)> = over.query_map(params![before_us, count], row)?.collect::<Result<_, _>>()?;
    let mut remove = connection.prepare_cached("DELETE FROM stock_reservation WHERE id = ?1")?;
    let mut keep = connection.prepare_cached("UPDATE stock_reservation SET ended_us = NULL WHERE id = ?1")?;
    for (id, image) in over {
        if is_of_order(connection, &id, &image)? {
            keep.execute([id])?
        } else {
            remove.execute([id])?
        };
    }
    Ok(())
}

/// Whether there is an order that a reservation is of: by the reservation's id, or by its owner. What can't be read is
/// taken for one: it must not go unseen.
pub(super) fn is_of_order(connection: &Connection, id: &str, image: &[u8]) -> Result<bool, rusqlite::Error> {
    let Ok(ReservationFact { owner, .. }) = ReservationFact::decode(image) else { return Ok(true) };
    let owner = owner.strip_prefix("order/").unwrap_or(&owner);
    let mut order = connection.prepare_cached("SELECT 1 FROM entity WHERE id IN (?1, ?2)")?;
    order.exists(params![entity_id("order", id).as_str(), entity_id("order", owner).as_str()])
}
