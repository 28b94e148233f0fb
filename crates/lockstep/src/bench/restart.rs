//! `bench restart`: a long journal, kill -9 under load, and how long until it is ready again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lockstep_core::Rules;
use lockstep_hub::{Hub, HubOptions};

use super::child::{Serving, binary};
use super::{count, hub, memory, mib, row};
use crate::output::Output;

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct RestartFigures {
    /// Durable records in the journal when it was killed.
    pub(super) records: u64,
    /// Entities.
    pub(super) entities: u64,
    /// Bytes of the data folder.
    pub(super) data_bytes: u64,
    /// From the start of the process until `/healthz/ready` says 200.
    pub(super) ready_s: f64,
    /// The most memory of the process that filled the journal.
    pub(super) memory_peak_filling_bytes: u64,
    /// The most memory of the process that was started again.
    pub(super) memory_peak_restarted_bytes: u64,
}

impl RestartFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        vec![
            row("records in the journal", count(self.records as f64)),
            row("entities", count(self.entities as f64)),
            row("data folder", mib(self.data_bytes)),
            row("ready after kill -9", format!("{:.3} s", self.ready_s)),
            row("peak memory while filling", mib(self.memory_peak_filling_bytes)),
            row("peak memory after the restart", mib(self.memory_peak_restarted_bytes)),
        ]
    }
}

/// Fills a folder and prints how far it is, until it is killed.
pub(super) async fn fill(dir: &Path, entities: u64, output: &Output) -> Result<()> {
    let hub = Hub::open(HubOptions::new(dir.join("data"), Rules::new()))?;
    let handle = hub.handle();
    let stats = handle.stats().clone();
    for run in 0.. {
        let print = |_: u64| drop(output.line(&stats.durable.load(Ordering::Relaxed).to_string()));
        hub::drive(&handle, entities, 10_000_000, run, print).await?;
    }
    Ok(())
}

/// Runs it.
pub(super) async fn run(dir: &Path, changes: u64, entities: u64, progress: impl Fn(u64)) -> Result<RestartFigures> {
    let mut filling = Command::new(binary()?)
        .args(["bench", "fill", "--entities", &entities.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .context("can't start the filling process")?;
    let out = filling.stdout.take().context("the filling process has no output")?;
    let mut memory_peak_filling_bytes = 0;
    let mut records = 0;
    for line in BufReader::new(out).lines() {
        records = line?.trim().parse().context("the filling process printed no number")?;
        memory_peak_filling_bytes = memory::peak_bytes_of(filling.id());
        progress(records);
        if records >= changes {
            break;
        }
    }
    // SIGKILL, in the middle of its work.
    filling.kill()?;
    filling.wait()?;
    if records < changes {
        bail!("the filling process ended after {records} records");
    }
    std::fs::write(dir.join("lockstep.toml"), "[hub]\nname = \"bench\"\n")?;
    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    // What a restart leaves to do in the background belongs to its memory.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(RestartFigures {
        records,
        entities,
        data_bytes: folder_bytes(&dir.join("data"))?,
        ready_s: serving.ready_after.as_secs_f64(),
        memory_peak_filling_bytes,
        memory_peak_restarted_bytes: serving.memory_peak_bytes(),
    })
}

fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
