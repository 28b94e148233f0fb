//! The journal: one totally ordered, durable sequence of records.
//!
//! A record is opaque bytes here. The hub appends records in batches; a batch is written and synced
//! as a whole or not at all. Everything else of a hub is derived from what this crate keeps.
//!
//! What it never knows: what a record means, HTTP, configuration files, clocks.
//!
//! Two backends stand behind the one trait [`Journal`]: [`MemoryJournal`] for tests and
//! [`SqliteJournal`] for one machine without any other service. Both pass the suite in
//! [`conformance`].
//!
//! ```
//! use lockstep_journal::{Batch, Journal, MemoryJournal};
//!
//! let mut journal = MemoryJournal::new();
//! let mut batch = Batch::new();
//! batch.push(b"one");
//! batch.push(b"two");
//! journal.fence(1)?;
//! assert_eq!(journal.append(1, &batch)?, 1);
//! let entries = journal.reader().read(2, 1024)?;
//! assert_eq!(entries[0].record.as_ref(), b"two");
//! # Ok::<(), lockstep_journal::Error>(())
//! ```

mod batch;
#[doc(hidden)]
pub mod conformance;
mod error;
mod memory;
mod sqlite;

use std::sync::Arc;

use bytes::Bytes;

pub use batch::{BATCH_BYTES_MAX, Batch};
pub use error::{Error, Source};
pub use memory::MemoryJournal;
pub use sqlite::{Report, SqliteJournal, SqliteOptions};

/// The place of a record in the total order. The first record ever has position 1.
pub type Position = u64;

/// The number of an ownership of the journal. A later owner has a higher one.
pub type Epoch = u64;

/// One record and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record's place in the total order.
    pub position: Position,
    /// The record itself: a slice of the buffer that its whole batch was decompressed to. Keeping
    /// one entry keeps that buffer.
    pub record: Bytes,
}

/// What a journal holds: the positions `first..next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The first position that is still kept.
    pub first: Position,
    /// The position that the next record gets. Equal to `first` where nothing is kept.
    pub next: Position,
}

impl Bounds {
    /// How many records are kept.
    pub fn len(&self) -> u64 {
        self.next - self.first
    }

    /// Whether no record is kept.
    pub fn is_empty(&self) -> bool {
        self.next == self.first
    }
}

/// The one writer's side of a journal.
pub trait Journal: Send {
    /// Appends the records of `batch` in one atomic step and returns the position of the first one.
    ///
    /// The records are durable when it returns. An empty batch writes nothing and returns the
    /// position that the next record will get; the epoch is checked all the same.
    ///
    /// After [`Error::Full`] nothing was written and the same append may be tried again. After any
    /// other failure of the disk the journal is poisoned: it refuses every later write, and only
    /// opening it again tells whether the batch is there.
    ///
    /// # Errors
    /// [`Error::Fenced`], [`Error::Full`], [`Error::TooLarge`], [`Error::Poisoned`], [`Error::Io`].
    fn append(&mut self, epoch: Epoch, batch: &Batch) -> Result<Position, Error>;

    /// From now on only `epoch` may append. Durable when it returns. The current epoch may be given
    /// again; a new journal has epoch 0.
    ///
    /// # Errors
    /// [`Error::Fenced`] for an epoch lower than the current one; else as for `append`.
    fn fence(&mut self, epoch: Epoch) -> Result<(), Error>;

    /// The epoch that may append.
    fn epoch(&self) -> Epoch;

    /// What is kept.
    fn bounds(&self) -> Bounds;

    /// Drops the whole segments whose records are all before `to`, never more, and returns what is
    /// kept then. The segment that is being written is never dropped.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::Io`].
    fn trim(&mut self, to: Position) -> Result<Bounds, Error>;

    /// A reader of this journal. Readers are independent of the writer and of each other; each of
    /// their calls sees what is durable at the time of that call.
    fn reader(&self) -> Arc<dyn Reader>;
}

/// The readers' side of a journal: shared, and safe to use from many threads.
pub trait Reader: Send + Sync {
    /// The entries from `from` on, in order.
    ///
    /// Whole batches are read, and the first one is cut so that it begins at `from`. A batch that
    /// would take the uncompressed bytes read over `bytes_max` is left for the next call, but at
    /// least one batch is read if there is one. Empty at or after the end.
    ///
    /// # Errors
    /// [`Error::Trimmed`] where `from` is before the first kept position, [`Error::Corrupt`],
    /// [`Error::UnknownFormat`], [`Error::Open`], [`Error::Io`].
    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<Entry>, Error>;

    /// The entry at one position; `None` at or after the end. The last few batches are kept, so that
    /// neighbouring calls are cheap.
    ///
    /// # Errors
    /// As for [`Reader::read`].
    fn get(&self, position: Position) -> Result<Option<Entry>, Error>;

    /// What is kept and durable.
    fn bounds(&self) -> Bounds;
}
