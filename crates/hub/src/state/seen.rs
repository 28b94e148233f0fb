//! Which deliveries were seen before.
//!
//! Ids are remembered as 64-bit hashes with the record of their first delivery, in sorted runs: one run a
//! flush, written once, merged in tiers, dropped whole when it is too old. A filter in memory (about 1.5 bytes
//! an id) answers for nearly every new id that it is new, without touching the disk; a hit is proved by
//! reading the record.

use lockstep_core::{Position, Seen};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Ids of the last seconds.
pub(crate) type SeenMap = hashbrown::HashMap<u64, Seen>;

/// How many runs of a tier are merged into one of the next.
const FAN_IN: usize = 8;
/// Ids in one row.
const CHUNK: usize = 256;
const ENTRY: usize = 16;

/// A run: its ids are in the file, its filter is here.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: i64,
    pub(crate) tier: u32,
    /// When its newest id was recorded.
    pub(crate) recorded_at_us: i64,
    filter: Filter,
}

impl Run {
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.filter.may_contain(hash)
    }
}

/// A blocked Bloom filter (Putze, Sanders, Singler, 2007): one cache line a look-up, 12 bits an id, 6 bits set
/// in one block of 512, about 1 % false hits.
#[derive(Debug)]
struct Filter {
    words: Vec<u64>,
}

const BLOCK_WORDS: usize = 8;
const BITS_PER_ID: usize = 12;
const PROBES: u32 = 6;

impl Filter {
    fn for_ids(count: usize) -> Self {
        let blocks = (count * BITS_PER_ID).div_ceil(BLOCK_WORDS * 64).max(1);
        Self { words: vec![0; blocks * BLOCK_WORDS] }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let words = bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap_or_default())).collect();
        Self { words }
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// The block by the hash's high half, the bits in it by a remix, so that the two are independent.
    fn block_and_bits(&self, hash: u64) -> (usize, u64) {
        let blocks = (self.words.len() / BLOCK_WORDS) as u64;
        let block = ((hash >> 32) * blocks) >> 32;
        (block as usize * BLOCK_WORDS, hash.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn insert(&mut self, hash: u64) {
        let (start, mut bits) = self.block_and_bits(hash);
        for _ in 0..PROBES {
            let bit = (bits & 511) as usize;
            self.words[start + bit / 64] |= 1 << (bit % 64);
            bits >>= 9;
        }
    }

    fn may_contain(&self, hash: u64) -> bool {
        if self.words.is_empty() {
            return false;
        }
        let (start, mut bits) = self.block_and_bits(hash);
        for _ in 0..PROBES {
            let bit = (bits & 511) as usize;
            if self.words[start + bit / 64] & (1 << (bit % 64)) == 0 {
                return false;
            }
            bits >>= 9;
        }
        true
    }
}

/// SQLite's integers are signed: keeps the order of unsigned hashes.
fn ordered(hash: u64) -> i64 {
    (hash ^ (1 << 63)) as i64
}

/// The tables.
pub(crate) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS seen_run(
  id INTEGER PRIMARY KEY, tier INTEGER NOT NULL, recorded_at_us INTEGER NOT NULL, filter BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen_chunk(run INTEGER NOT NULL, first INTEGER NOT NULL, ids BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS seen_chunk_by_first ON seen_chunk(run, first);
";

/// All runs, oldest first.
pub(crate) fn load(connection: &Connection) -> Result<Vec<Run>, rusqlite::Error> {
    let mut statement = connection.prepare("SELECT id, tier, recorded_at_us, filter FROM seen_run ORDER BY id")?;
    let run = |row: &Row<'_>| {
        let filter = Filter::from_bytes(row.get_ref(3)?.as_blob()?);
        Ok(Run { id: row.get(0)?, tier: row.get(1)?, recorded_at_us: row.get(2)?, filter })
    };
    statement.query_map([], run)?.collect()
}

/// The record of an id in a run.
pub(crate) fn lookup(connection: &Connection, run: i64, hash: u64) -> Result<Option<Position>, rusqlite::Error> {
    let mut statement = connection
        .prepare_cached("SELECT ids FROM seen_chunk WHERE run = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1")?;
    let find = |row: &Row<'_>| {
        let ids = row.get_ref(0)?.as_blob()?;
        let (mut low, mut high) = (0, ids.len() / ENTRY);
        while low < high {
            let middle = (low + high) / 2;
            let (found, position) = entry(ids, middle);
            match found.cmp(&hash) {
                std::cmp::Ordering::Equal => return Ok(Some(position)),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    };
    Ok(statement.query_row(params![run, ordered(hash)], find).optional()?.flatten())
}

fn entry(ids: &[u8], at: usize) -> (u64, Position) {
    let word = |from: usize| u64::from_le_bytes(ids[from..from + 8].try_into().unwrap_or_default());
    (word(at * ENTRY), word(at * ENTRY + 8))
}

/// Writes a sorted run.
struct Writer<'c> {
    connection: &'c Connection,
    run: i64,
    first: u64,
    chunk: Vec<u8>,
    filter: Filter,
}

impl<'c> Writer<'c> {
    fn new(connection: &'c Connection, run: i64, count: usize) -> Self {
        Self { connection, run, first: 0, chunk: Vec::with_capacity(CHUNK * ENTRY), filter: Filter::for_ids(count) }
    }

    fn push(&mut self, hash: u64, position: Position) -> Result<(), rusqlite::Error> {
        if self.chunk.is_empty() {
            self.first = hash;
        }
        self.filter.insert(hash);
        self.chunk.extend_from_slice(&hash.to_le_bytes());
        self.chunk.extend_from_slice(&position.to_le_bytes());
        if self.chunk.len() == CHUNK * ENTRY { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), rusqlite::Error> {
        if !self.chunk.is_empty() {
            let mut statement =
                self.connection.prepare_cached("INSERT INTO seen_chunk(run, first, ids) VALUES (?1, ?2, ?3)")?;
            statement.execute(params![self.run, ordered(self.first), self.chunk])?;
            self.chunk.clear();
        }
        Ok(())
    }

    fn finish(mut self, tier: u32, recorded_at_us: i64) -> Result<Run, rusqlite::Error> {
        self.write()?;
        self.connection.execute(
            "INSERT INTO seen_run(id, tier, recorded_at_us, filter) VALUES (?1, ?2, ?3, ?4)",
            params![self.run, tier, recorded_at_us, self.filter.to_bytes()],
        )?;
        Ok(Run { id: self.run, tier, recorded_at_us, filter: self.filter })
    }
}

fn next_id(connection: &Connection) -> Result<i64, rusqlite::Error> {
    // Also above runs that are retired but not removed yet.
    let sql =
        "SELECT 1 + max(coalesce((SELECT max(id) FROM seen_run), 0), coalesce((SELECT max(run) FROM seen_chunk), 0))";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Adds the ids of a flush as a run.
pub(crate) fn add(connection: &Connection, seen: &SeenMap, recorded_at_us: i64) -> Result<Run, rusqlite::Error> {
    let mut ids: Vec<(u64, Position)> = seen.iter().map(|(hash, seen)| (*hash, seen.position)).collect();
    ids.sort_unstable();
    let mut writer = Writer::new(connection, next_id(connection)?, ids.len());
    for (hash, position) in ids {
        writer.push(hash, position)?;
    }
    writer.finish(0, recorded_at_us)
}

/// Takes a run out of the list; a restart does not load it again. Its ids stay until they are removed, since
/// a reader may still know the run.
pub(crate) fn retire(connection: &Connection, run: i64) -> Result<(), rusqlite::Error> {
    connection.execute("DELETE FROM seen_run WHERE id = ?1", [run])?;
    Ok(())
}

/// Removes a retired run's ids.
pub(crate) fn remove(connection: &Connection, run: i64) -> Result<(), rusqlite::Error> {
    connection.execute("DELETE FROM seen_chunk WHERE run = ?1", [run])?;
    Ok(())
}

/// Runs that were retired and not removed before the last stop.
pub(crate) fn retired(connection: &Connection) -> Result<Vec<i64>, rusqlite::Error> {
    let mut found = Vec::new();
    let mut at = i64::MIN;
    loop {
        // Steps from run to run through the index instead of reading it whole.
        let next: Option<i64> =
            connection.query_row("SELECT min(run) FROM seen_chunk WHERE run > ?1", [at], |row| row.get(0))?;
        let Some(run) = next else { return Ok(found) };
        let listed: Option<i64> =
            connection.query_row("SELECT id FROM seen_run WHERE id = ?1", [run], |row| row.get(0)).optional()?;
        found.extend(listed.is_none().then_some(run));
        at = run;
    }
}

/// The runs to be merged now, where a tier has enough of them.
pub(crate) fn to_merge<'r>(runs: impl Iterator<Item = &'r Run> + Clone) -> Option<(u32, Vec<i64>)> {
    let tiers = runs.clone().map(|run| run.tier).max()?;
    (0..=tiers).find_map(|tier| {
        let ids: Vec<i64> = runs.clone().filter(|run| run.tier == tier).map(|run| run.id).collect();
        (ids.len() >= FAN_IN).then_some((tier, ids))
    })
}

/// Merges runs into one of the next tier. The old ones stay until they are removed: readers may still know them.
pub(crate) fn merge(connection: &Connection, tier: u32, runs: &[&Run]) -> Result<Run, rusqlite::Error> {
    let count: usize = runs.iter().map(|run| run.filter.words.len() * 64 / BITS_PER_ID).sum();
    let recorded_at_us = runs.iter().map(|run| run.recorded_at_us).max().unwrap_or(0);
    let mut statements = Vec::with_capacity(runs.len());
    for _ in runs {
        statements.push(connection.prepare("SELECT ids FROM seen_chunk WHERE run = ?1 ORDER BY first")?);
    }
    let mut cursors = Vec::with_capacity(runs.len());
    for (statement, run) in statements.iter_mut().zip(runs) {
        cursors.push(Cursor { rows: statement.query([run.id])?, ids: Vec::new(), at: 0 });
    }
    let mut writer = Writer::new(connection, next_id(connection)?, count);
    let mut heap = std::collections::BinaryHeap::with_capacity(cursors.len());
    for (number, cursor) in cursors.iter_mut().enumerate() {
        heap.extend(cursor.next()?.map(|id| std::cmp::Reverse((id, number))));
    }
    let mut last = None;
    while let Some(std::cmp::Reverse(((hash, position), number))) = heap.pop() {
        // The first delivery of an id is the one that counts; positions ascend within equal hashes.
        if last != Some(hash) {
            writer.push(hash, position)?;
            last = Some(hash);
        }
        heap.extend(cursors[number].next()?.map(|id| std::cmp::Reverse((id, number))));
    }
    writer.finish(tier + 1, recorded_at_us)
}

struct Cursor<'s> {
    rows: rusqlite::Rows<'s>,
    ids: Vec<u8>,
    at: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Result<Option<(u64, Position)>, rusqlite::Error> {
        if self.at * ENTRY >= self.ids.len() {
            let Some(row) = self.rows.next()? else { return Ok(None) };
            self.ids.clear();
            self.ids.extend_from_slice(row.get_ref(0)?.as_blob()?);
            self.at = 0;
        }
        let found = entry(&self.ids, self.at);
        self.at += 1;
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
    }

    fn ids(range: std::ops::Range<u64>) -> SeenMap {
        let hash = |n: u64| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes());
        range.map(|n| (hash(n), Seen { position: n + 1, payload_hash: None })).collect()
    }

    #[test]
    fn every_id_is_found_and_few_others_are_suspected() {
        let connection = database();
        let seen = ids(0..5_000);
        let run = add(&connection, &seen, 7).unwrap();
        for (hash, s) in &seen {
            assert!(run.may_contain(*hash));
            assert_eq!(lookup(&connection, run.id, *hash).unwrap(), Some(s.position));
        }
        let suspected = ids(5_000..15_000).keys().filter(|hash| run.may_contain(**hash)).count();
        assert!(suspected < 300, "{suspected} of 10000 new ids would be looked up on the disk");
        for hash in ids(5_000..5_100).keys() {
            assert_eq!(lookup(&connection, run.id, *hash).unwrap(), None);
        }
        let loaded = load(&connection).unwrap();
        assert_eq!(loaded.len(), 1);
        assert!(seen.keys().all(|hash| loaded[0].may_contain(*hash)));
    }

    #[test]
    fn merged_runs_keep_every_id_with_its_first_record() {
        let connection = database();
        let runs: Vec<Run> =
            (0..8).map(|n| add(&connection, &ids(n * 700..n * 700 + 1_000), n as i64).unwrap()).collect();
        let (tier, numbers) = to_merge(runs.iter()).unwrap();
        assert_eq!((tier, numbers.len()), (0, 8));
        let merged = merge(&connection, tier, &runs.iter().collect::<Vec<_>>()).unwrap();
        for run in &runs {
            retire(&connection, run.id).unwrap();
        }
        assert_eq!(retired(&connection).unwrap(), numbers);
        for run in numbers {
            remove(&connection, run).unwrap();
        }
        assert!(retired(&connection).unwrap().is_empty());
        assert_eq!((merged.tier, merged.recorded_at_us), (1, 7));
        for (hash, seen) in ids(0..5_900) {
            assert!(merged.may_contain(hash));
            assert_eq!(lookup(&connection, merged.id, hash).unwrap(), Some(seen.position));
        }
        assert!(to_merge(std::iter::once(&merged)).is_none());
    }
}
