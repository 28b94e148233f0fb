//! The journal's disk: a log of checked frames in memory, of which only what was synced outlives a crash.
//!
//! It can be full, and a sync can fail. Of what was written without a sync, a part may be there after a crash:
//! opening the journal again finds out, by lengths and checksums, as a journal on a real disk does.

mod journal;
mod log;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_journal::{Error, Position, Reader};

pub use self::journal::DiskJournal;
use self::log::Platter;

/// What is left of a write whose sync failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// How much of it, in thousandths; 1000 is all of it.
    pub kept_permille: u16,
    /// Whether a bit of that is wrong.
    pub flipped: bool,
}

/// A disk. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Platter>>);

impl Disk {
    /// An empty disk, whose journal begins a new segment when one has so many bytes.
    pub fn new(segment_bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Platter::new(segment_bytes_max))))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        // Each change is made in one step at the end: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets writes fail for want of space, or go through again.
    pub fn set_full(&self, full: bool) {
        self.platter().full = full;
    }

    /// Lets the next sync of a batch fail, or none.
    pub fn fail_next_sync(&self, fate: Option<Fate>) {
        self.platter().failing = fate;
    }

    /// Whether a sync is still to fail.
    pub fn is_failing(&self) -> bool {
        self.platter().failing.is_some()
    }

    /// The position after the last durable record.
    pub fn next(&self) -> Position {
        self.platter().next
    }

    /// How often a torn end was found and cut off.
    pub fn torn(&self) -> u64 {
        self.platter().torn
    }

    /// How many syncs have failed.
    pub fn failed(&self) -> u64 {
        self.platter().failed
    }

    /// A hash of everything that is durable.
    pub fn digest(&self) -> u64 {
        self.platter().digest()
    }

    /// Opens the journal as the disk is now: finds its end, and cuts off what is not whole behind it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where something is wrong before the last sync.
    pub fn open(&self) -> Result<DiskJournal, Error> {
        self.platter().open()?;
        Ok(DiskJournal::new(self.clone()))
    }

    /// A reader of what is durable.
    pub fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }
}
