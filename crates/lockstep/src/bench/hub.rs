//! `bench hub`: changes decided and durable, without a network.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lockstep_core::{Input, Outcome, Rules};
use lockstep_hub::{Hub, HubHandle, HubOptions, Unavailable, now_us};

use super::disk::{RawLimit, raw_limit};
use super::load::{Changes, Orders};
use super::{count, memory, mib, row};

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct HubFigures {
    /// Changes decided and durable.
    pub(super) changes: u64,
    /// How long it took.
    pub(super) seconds: f64,
    /// The figure.
    pub(super) changes_per_s: f64,
    /// Entities that they are spread over.
    pub(super) entities: u64,
    /// Journal appends.
    pub(super) batches: u64,
    /// Bytes of a record, encoded and not compressed.
    pub(super) record_bytes: f64,
    /// What the same disk does with the same bytes in the same batches.
    pub(super) raw: RawLimit,
    /// `changes_per_s` by the raw limit.
    pub(super) ratio_to_raw: f64,
    /// The most memory that the process had.
    pub(super) memory_peak_bytes: u64,
}

impl HubFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        vec![
            row("changes/s, decided and durable", count(self.changes_per_s)),
            row("changes", count(self.changes as f64)),
            row("entities", count(self.entities as f64)),
            row("changes in a batch", count(self.raw.batch_records)),
            row("bytes of a record", count(self.record_bytes)),
            row("raw limit of the disk, records/s", count(self.raw.records_per_s)),
            row("ratio to the raw limit", format!("{:.3}", self.ratio_to_raw)),
            row("peak memory", mib(self.memory_peak_bytes)),
        ]
    }
}

/// How many inputs a caller gives at once, and how many callers there are.
const TOGETHER: usize = 256;
const CALLERS: u64 = 12;

/// Keeps the hub busy until `total` changes are durable.
pub(super) async fn drive(handle: &HubHandle, entities: u64, total: u64, run: u64, done: impl Fn(u64)) -> Result<()> {
    drive_with(
        handle,
        total,
        |lane| {
            let mut changes = Changes::new(entities, lane, run);
            move |now| changes.next(now)
        },
        done,
    )
    .await
}

/// The same with inputs of any kind: `make` gives each caller what makes its inputs.
async fn drive_with<M>(handle: &HubHandle, total: u64, make: impl Fn(u64) -> M, done: impl Fn(u64)) -> Result<()>
where
    M: FnMut(i64) -> Input + Send + 'static,
{
    let share = total / CALLERS;
    let mut callers = tokio::task::JoinSet::new();
    for lane in 0..CALLERS {
        let handle = handle.clone();
        let mut next = make(lane);
        callers.spawn(async move {
            let mut left = share + if lane == 0 { total % CALLERS } else { 0 };
            while left > 0 {
                let count = left.min(TOGETHER as u64);
                let now = now_us();
                let mut inputs: Vec<_> = (0..count).map(|_| next(now)).collect();
                loop {
                    match handle.submit(inputs).await {
                        Ok(answers) => {
                            let applied = |a: &_| matches!(a, Ok(Outcome::Applied { .. } | Outcome::Superseded { .. }));
                            if let Some(other) = answers.iter().find(|a| !applied(a)) {
                                bail!("a new change was answered {other:?}");
                            }
                            break;
                        }
                        Err(Unavailable::Saturated { .. }) => {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            inputs = (0..count).map(|_| next(now)).collect();
                        }
                        Err(error) => bail!("the hub refused a change: {error}"),
                    }
                }
                left -= count;
            }
            Ok(())
        });
    }
    let finished = async {
        while let Some(result) = callers.join_next().await {
            result??;
        }
        Ok(())
    };
    tokio::pin!(finished);
    let before = handle.stats().durable.load(Ordering::Relaxed);
    loop {
        tokio::select! {
            result = &mut finished => return result,
            () = tokio::time::sleep(Duration::from_millis(200)) => done(handle.stats().durable.load(Ordering::Relaxed) - before),
        }
    }
}

/// Runs the benchmark in an empty folder.
pub(super) async fn run(
    dir: &Path,
    entities: u64,
    changes: u64,
    orders: bool,
    progress: impl Fn(u64),
) -> Result<HubFigures> {
    let hub = Hub::open(HubOptions::new(dir.join("data"), Rules::new())).context("the hub can't be opened")?;
    let handle = hub.handle();
    // Every entity exists before the clock starts.
    let make = |run| {
        move |lane| {
            let (mut stock, mut whole) = (Changes::new(entities, lane, run), Orders::new(entities, lane, run));
            move |now| if orders { whole.next(now) } else { stock.next(now) }
        }
    };
    drive_with(&handle, entities, make(1), |_| {}).await?;
    let batches_before = handle.stats().batches.load(Ordering::Relaxed);
    let began = Instant::now();
    drive_with(&handle, changes, make(2), progress).await?;
    let seconds = began.elapsed().as_secs_f64();
    let batches = (handle.stats().batches.load(Ordering::Relaxed) - batches_before).max(1);
    let sample = handle.record(handle.bounds().next - 1).await?.context("the last record is missing")?;
    let record_bytes = sample.encoded_bytes() as f64;
    hub.shutdown().await;
    let batch_records = changes as f64 / batches as f64;
    let raw = raw_limit(dir, batch_records, (batch_records * record_bytes) as usize)?;
    let changes_per_s = changes as f64 / seconds;
    Ok(HubFigures {
        changes,
        seconds,
        changes_per_s,
        entities,
        batches,
        record_bytes,
        raw,
        ratio_to_raw: changes_per_s / raw.records_per_s,
        memory_peak_bytes: memory::peak_bytes(),
    })
}

/// How many events an empty hub has published once so many changes are durable: what an entity had said later already is
/// none.
pub(super) async fn published(handle: &HubHandle, changes: u64) -> u64 {
    loop {
        let tallies = handle.stats().tallies();
        // The sums are shown a little behind.
        if tallies.sources.values().map(|source| source.applied + source.superseded).sum::<u64>() >= changes {
            return tallies.published;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
