//! The raw limit of the disk: append and fdatasync of the same bytes in the same batches, nothing else.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// What the disk alone can do.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct RawLimit {
    /// Bytes of one append.
    pub(super) batch_bytes: usize,
    /// Records of one append.
    pub(super) batch_records: f64,
    /// Appends with a sync, a second.
    pub(super) syncs_per_s: f64,
    /// Records a second at that pace.
    pub(super) records_per_s: f64,
}

/// Measures it for two seconds in the folder that the benchmark used.
pub(super) fn raw_limit(dir: &Path, batch_records: f64, batch_bytes: usize) -> Result<RawLimit> {
    let path = dir.join("raw-limit");
    let mut file = std::fs::File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
    // Bytes that a compressing file system could not make smaller.
    let mut random = fastrand::Rng::with_seed(1);
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(batch_bytes.max(1)).collect();
    let began = Instant::now();
    let mut syncs = 0_u64;
    let mut written = 0_u64;
    while began.elapsed() < Duration::from_secs(2) && written < 8 << 30 {
        file.write_all(&bytes)?;
        file.sync_data()?;
        syncs += 1;
        written += bytes.len() as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path)?;
    let syncs_per_s = syncs as f64 / seconds;
    Ok(RawLimit { batch_bytes, batch_records, syncs_per_s, records_per_s: syncs_per_s * batch_records })
}
