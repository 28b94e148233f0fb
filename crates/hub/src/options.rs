//! How a hub is opened.

use std::path::PathBuf;

use lockstep_core::{Rules, stock};

/// A hub's options; the defaults are for one machine with two cores and a few hundred MB.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The data folder: journal, state file, lock.
    pub data_dir: PathBuf,
    /// The rules in force.
    pub rules: Rules,
    /// What stock is told of the world around it.
    pub stock: stock::Limits,
    /// The bytes of entities kept in memory. What has changed and is not flushed counts, and is never dropped.
    pub cache_bytes_max: usize,
    /// The bytes of inputs that may wait for the loop; more is refused as saturated.
    pub queue_bytes_max: usize,
    /// The most inputs decided in one batch.
    pub batch_inputs_max: usize,
    /// The most bytes of inputs decided in one batch.
    pub batch_bytes_max: usize,
    /// The state is flushed when the journal's tail beyond it has this many records,
    pub flush_records_max: u64,
    /// or when the changed entities in memory have this many bytes,
    pub flush_bytes_max: usize,
    /// or this long after the last flush.
    pub flush_interval_ms: u64,
    /// The size at which a journal segment is closed and a new one begun.
    pub segment_bytes_max: u64,
    /// How long delivery ids are remembered.
    pub seen_days: u32,
    /// How long reservations that are over are kept, by the time of records; never shorter than `seen_days`, so that a
    /// repeated request finds what it was about.
    pub reservation_days: u32,
    /// The bytes of recent records kept in memory for live readers and deliveries.
    pub tail_bytes_max: usize,
    /// Segments whose records are all older than this may be dropped; never what is still needed.
    pub retention_days: Option<u32>,
}

impl HubOptions {
    /// For how long reservations that are over are kept, in microseconds.
    pub(crate) fn reservations_kept_us(&self) -> i64 {
        i64::from(self.reservation_days.max(self.seen_days)) * 86_400_000_000
    }

    /// The defaults, with the given data folder and rules.
    pub fn new(data_dir: impl Into<PathBuf>, rules: Rules) -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            data_dir: data_dir.into(),
            rules,
            stock: stock::Limits::default(),
            cache_bytes_max: 224 * MIB,
            queue_bytes_max: 32 * MIB,
            batch_inputs_max: 4096,
            batch_bytes_max: 8 * MIB,
            flush_records_max: 400_000,
            flush_bytes_max: 144 * MIB,
            flush_interval_ms: 5_000,
            segment_bytes_max: 128 * MIB as u64,
            seen_days: 7,
            reservation_days: 30,
            tail_bytes_max: 16 * MIB,
            retention_days: None,
        }
    }
}
