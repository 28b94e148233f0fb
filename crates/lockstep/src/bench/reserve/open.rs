//! Many open reservations: what they cost in memory, how soon a killed hub has them again, and how fast it then says
//! what may be sold.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use lockstep_core::Rules;
use lockstep_hub::{Hub, HubOptions};

use super::calls::Caller;
use super::work::{Case, ON_HAND, busy};
use super::{alone, callers};
use crate::bench::child::{Serving, binary};
use crate::bench::{count, memory, mib, prepare_plain, row};
use crate::output::Output;

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct OpenFigures {
    /// Open reservations.
    pub(super) open: u64,
    /// SKUs that they are spread over.
    pub(super) skus: u64,
    /// The most memory of the process that made them.
    pub(super) memory_peak_filling_bytes: u64,
    /// From the start of the process after kill -9 until it was ready.
    pub(super) ready_s: f64,
    /// The most memory of the process that was started again, before it was asked anything.
    pub(super) memory_peak_restarted_bytes: u64,
    /// That of a hub with the same SKUs and no reservation: the rest is what the reservations take.
    pub(super) memory_peak_without_bytes: u64,
    /// What an open reservation takes.
    pub(super) bytes_of_a_reservation: f64,
    /// Availability of a SKU, asked by one client: half of the answers took at most this.
    pub(super) availability_p50_ms: f64,
    /// 99 of 100.
    pub(super) availability_p99_ms: f64,
    /// Asked by all clients at once: answers a second.
    pub(super) availability_per_s: f64,
    /// Asked by all clients at once: 99 of 100 took at most this.
    pub(super) availability_busy_p99_ms: f64,
}

impl OpenFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        vec![
            row("open reservations", count(self.open as f64)),
            row("SKUs", count(self.skus as f64)),
            row("peak memory while reserving", mib(self.memory_peak_filling_bytes)),
            row("ready after kill -9", format!("{:.3} s", self.ready_s)),
            row("peak memory after the restart", mib(self.memory_peak_restarted_bytes)),
            row("the same without reservations", mib(self.memory_peak_without_bytes)),
            row("memory of an open reservation", format!("{:.0} bytes", self.bytes_of_a_reservation)),
            row(
                "availability p50 / p99, one client",
                format!("{:.2} / {:.2} ms", self.availability_p50_ms, self.availability_p99_ms),
            ),
            row("availability answers/s, all clients", count(self.availability_per_s)),
            row("availability p99, all clients", format!("{:.2} ms", self.availability_busy_p99_ms)),
        ]
    }
}

/// Makes the reservations, says so, and then waits to be killed.
pub(in crate::bench) async fn fill(dir: &Path, open: u64, skus: u64, output: &Output) -> Result<()> {
    let hub = Hub::open(HubOptions::new(dir.join("data"), Rules::new()))?;
    let handle = hub.handle();
    alone::stock_up(&handle, skus).await?;
    alone::fill(&handle, Case::Spread, skus, open).await?;
    output.line("full")?;
    std::future::pending().await
}

/// Runs it.
pub(super) async fn run(dir: &Path, (clients, seconds): (u64, u64), open: u64, skus: u64) -> Result<OpenFigures> {
    let without = dir.join("without");
    std::fs::create_dir_all(&without)?;
    filled(&without, 0, skus).await?;
    let (_, serving) = restarted(&without).await?;
    let memory_peak_without_bytes = serving.memory_peak_bytes();
    drop(serving);

    let memory_peak_filling_bytes = filled(dir, open, skus).await?;
    let (key, mut serving) = restarted(dir).await?;
    let memory_peak_restarted_bytes = serving.memory_peak_bytes();
    let address = serving.grpc().await?;
    let length = Duration::from_secs(seconds);
    let one = callers(address, &key, "one", 1).await?;
    let (alone, _) = ask(one, skus, length).await?;
    let all = callers(address, &key, "all", clients).await?;
    let (together, availability_per_s) = ask(all, skus, length).await?;
    let ms = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e3;
    Ok(OpenFigures {
        open,
        skus,
        memory_peak_filling_bytes,
        ready_s: serving.ready_after.as_secs_f64(),
        memory_peak_restarted_bytes,
        memory_peak_without_bytes,
        bytes_of_a_reservation: memory_peak_restarted_bytes.saturating_sub(memory_peak_without_bytes) as f64
            / open.max(1) as f64,
        availability_p50_ms: ms(&alone, 0.5),
        availability_p99_ms: ms(&alone, 0.99),
        availability_per_s,
        availability_busy_p99_ms: ms(&together, 0.99),
    })
}

/// Has a process of its own fill the folder, and kills it. Gives the most memory that it had.
async fn filled(dir: &Path, open: u64, skus: u64) -> Result<u64> {
    let mut filling = Command::new(binary()?)
        .args(["bench", "fill-reservations", "--open", &open.to_string(), "--skus", &skus.to_string(), "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .context("can't start the filling process")?;
    let out = filling.stdout.take().context("the filling process has no output")?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map(|_| line)
    });
    let line = line.await??;
    let peak = memory::peak_bytes_of(filling.id());
    // SIGKILL, with what is not yet flushed.
    filling.kill()?;
    filling.wait()?;
    if line.trim() != "full" {
        bail!("the filling process ended before it had made all reservations");
    }
    Ok(peak)
}

/// Starts a hub in a folder that was filled, and waits for what a restart leaves to do in the background.
async fn restarted(dir: &Path) -> Result<(String, Serving)> {
    let key = prepare_plain(dir)?;
    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok((key, serving))
}

/// Keeps clients asking what may be sold.
async fn ask(callers: Vec<Caller>, skus: u64, length: Duration) -> Result<(Histogram<u64>, f64)> {
    busy(callers, length, move |mut caller: Caller, mut random| async move {
        let available = caller.availability(random.u64(..skus)).await?;
        if !(0..=ON_HAND).contains(&available) {
            bail!("{available} are said to be available of {ON_HAND}");
        }
        Ok((caller, random))
    })
    .await
}
