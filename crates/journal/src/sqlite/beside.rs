//! Reading a folder that another process may be writing to, without changing what is stored.
//!
//! It takes no lock that the writer would wait for: SQLite's log lets a reader look at what was durable when it
//! began. Only SQLite's index of a log (`-shm`, shared memory that happens to be a file) is used together.

use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

use super::SqliteOptions;
use super::open::{first_marked, kept_positions};
use super::reader::{Cache, Pool, Shared};
use super::segment::{self, Segment};
use crate::{Error, Reader};

pub(super) fn open(dir: &Path, options: &SqliteOptions) -> Result<Arc<dyn Reader>, Error> {
    let (listed, _) = segment::list(dir)?;
    let positions = kept_positions(dir, &listed)?;
    let Some((&first, &last)) = positions.first().zip(positions.last()) else {
        let position = first_marked(dir)?.unwrap_or(1);
        return Err(Error::MissingSegment { dir: dir.to_owned(), position, found: None });
    };
    for &position in &positions {
        segment::check_header(&Segment::new(dir, position, false).path, position)?;
    }
    let segments: Vec<_> = positions.iter().map(|&first| Arc::new(Segment::of_another(dir, first))).collect();
    // What this sees was synced before: SQLite shows a transaction to others only then. A segment that the writer
    // begins from here on is not looked for.
    let path = Segment::new(dir, last, false).path;
    let is_complete = segment::file_bytes(&segment::wal_path(&path))? == 0;
    let db = segment::open_readable(&path, last, is_complete)?;
    let next = segment::next_position(&db, &path, last)?;
    Ok(Arc::new(Shared {
        dir: dir.to_owned(),
        segments: RwLock::new(segments),
        first: first.into(),
        next: next.into(),
        poison: OnceLock::new(),
        pool: Pool::new(options.reader_connections_max),
        cache: Cache::new(options.cache_batches_max, options.cache_bytes_max),
    }))
}
