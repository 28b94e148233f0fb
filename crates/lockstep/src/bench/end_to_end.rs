//! `bench end-to-end`: an open loop. Each request has its moment, whether or not those before it are answered,
//! and its latency counts from that moment: a stall is not left out by waiting for it (no coordinated omission).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;

use super::child::Serving;
use super::client::Client;
use super::disk::{RawLimit, raw_limit};
use super::ingest::{SECRET, prepare};
use super::orders::Orders;
use super::receiver::{self, Manner, Received};
use super::{count, mib, nobody, row, webhook, write_secret};

/// How to run it.
#[derive(Debug, Args)]
pub(super) struct EndToEndArgs {
    /// Signed orders a second.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How long.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many connections send.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// Run it again with a dead and a very slow destination beside the healthy one, and compare.
    #[arg(long)]
    neighbours: bool,
    /// How often, each time with new data: what is told is the run whose p99 is the median. A disk that stands still
    /// for a moment, which others on the same machine cause, then spoils one run and not the figure.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
}

/// Latencies of one run, from a request's moment to the receipt of its delivery at the destination.
#[derive(Debug, serde::Serialize)]
pub(super) struct Latencies {
    /// Median.
    pub p50_ms: f64,
    /// 95 of 100 are below.
    pub p95_ms: f64,
    /// 99 of 100 are below.
    pub p99_ms: f64,
    /// 999 of 1,000 are below.
    pub p999_ms: f64,
    /// The longest.
    pub(super) max_ms: f64,
    /// Deliveries.
    pub(super) delivered: u64,
    /// Offered rate, deliveries a second.
    pub(super) rate: u64,
    /// CPU time of the hub for one order, in and out, microseconds.
    pub(super) hub_cpu_us: f64,
    /// The most memory that the hub had.
    pub(super) memory_peak_bytes: u64,
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct EndToEndFigures {
    /// One healthy destination alone.
    pub(super) alone: Latencies,
    /// The healthy one beside a dead one and one that answers after 10 seconds.
    pub(super) beside_dead_and_slow: Option<Latencies>,
    /// The p99 beside the dead and the slow one, by that of alone: the median of the one by the median of the other.
    pub p99_ratio: Option<f64>,
    /// The p99 of each round alone.
    pub p99_alone_ms: Vec<f64>,
    /// The p99 of each round beside the others.
    pub p99_beside_ms: Vec<f64>,
    /// What the same disk does with one order in an append.
    pub(super) raw: RawLimit,
}

impl EndToEndFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let runs = [("alone", Some(&self.alone)), ("beside a dead and a slow one", self.beside_dead_and_slow.as_ref())];
        for (name, run) in runs.into_iter().filter_map(|(name, run)| Some((name, run?))) {
            lines.push(row(name, format!("{} orders/s, {} delivered", run.rate, count(run.delivered as f64))));
            let latency = format!(
                "{:.2} / {:.2} / {:.2} / {:.2} / {:.2} ms",
                run.p50_ms, run.p95_ms, run.p99_ms, run.p999_ms, run.max_ms
            );
            lines.push(row("  p50 / p95 / p99 / p99.9 / max", latency));
            lines.push(row("  hub CPU for an order", format!("{:.0} us", run.hub_cpu_us)));
            lines.push(row("  peak memory of the hub", mib(run.memory_peak_bytes)));
        }
        if self.p99_alone_ms.len() > 1 {
            let list = |p99_ms: &[f64]| p99_ms.iter().map(|ms| format!("{ms:.1}")).collect::<Vec<_>>().join(", ");
            lines.push(row("p99 of each round alone, ms", list(&self.p99_alone_ms)));
            if !self.p99_beside_ms.is_empty() {
                lines.push(row("p99 of each round beside, ms", list(&self.p99_beside_ms)));
            }
        }
        if let Some(ratio) = self.p99_ratio {
            lines.push(row("p99 beside them / alone", format!("{ratio:.2}")));
        }
        lines.push(row("raw limit of the disk, syncs/s", count(self.raw.syncs_per_s)));
        lines
    }
}

/// Runs it.
pub(super) async fn run(dir: &Path, args: &EndToEndArgs) -> Result<EndToEndFigures> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        alone.push(measure(&dir.join(format!("alone-{round}")), args, false).await?);
        if args.neighbours {
            beside.push(measure(&dir.join(format!("beside-{round}")), args, true).await?);
        }
    }
    let p99_ms = |runs: &[Latencies]| runs.iter().map(|run| run.p99_ms).collect::<Vec<_>>();
    let (p99_alone_ms, p99_beside_ms) = (p99_ms(&alone), p99_ms(&beside));
    let alone = median(alone).context("there is no round")?;
    let beside = median(beside);
    let p99_ratio = beside.as_ref().map(|b| b.p99_ms / alone.p99_ms);
    let raw = raw_limit(dir, 1.0, 4_096)?;
    Ok(EndToEndFigures { alone, beside_dead_and_slow: beside, p99_ratio, p99_alone_ms, p99_beside_ms, raw })
}

/// The run whose p99 is in the middle, the lower one of two.
fn median(mut runs: Vec<Latencies>) -> Option<Latencies> {
    runs.sort_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms));
    let middle = runs.len().checked_sub(1)? / 2;
    Some(runs.swap_remove(middle))
}

async fn measure(dir: &Path, args: &EndToEndArgs, neighbours: bool) -> Result<Latencies> {
    std::fs::create_dir_all(dir)?;
    let total = args.rate * args.seconds;
    // The connections are there before the first moment.
    let start = Instant::now() + Duration::from_secs(3);
    let received = Received::new(start, total);
    let mut ways_out = webhook("healthy", receiver::start(Some(received.clone()), Manner::prompt()).await?, "");
    if neighbours {
        ways_out.push_str(&webhook("dead", nobody()?, ""));
        let slow = receiver::start(None, Manner::slow(Duration::from_secs(10))).await?;
        ways_out.push_str(&webhook("slow", slow, ""));
    }
    write_secret(dir)?;
    prepare(dir, &ways_out)?;
    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    let cpu_before = serving.cpu_seconds();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..args.connections {
        let (rate, connections, address) = (args.rate, args.connections, serving.address);
        lanes.spawn(async move {
            let mut orders = Orders::new("shop", SECRET, lane, None)?;
            let mut client = Client::connect(address).await?;
            let mut request = Vec::with_capacity(16 * 1024);
            for number in (lane..total).step_by(connections as usize) {
                orders.next_traced(&mut request, Some(number));
                let moment = start + Duration::from_nanos(number * 1_000_000_000 / rate);
                tokio::time::sleep_until(moment.into()).await;
                loop {
                    match client.send(&request).await? {
                        200 => break,
                        429 => tokio::time::sleep(Duration::from_millis(5)).await,
                        status => bail!("the hub answered {status}: {}", client.answer()),
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane.context("a connection's task failed")??;
    }
    let patience = Instant::now() + Duration::from_secs(60);
    while received.count() < total {
        if Instant::now() > patience {
            bail!("only {} of {total} orders were delivered", received.count());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let hub_cpu_us = (serving.cpu_seconds() - cpu_before) / total as f64 * 1e6;
    let mut histogram = Histogram::<u64>::new(3)?;
    for number in 0..total {
        let moment_us = number * 1_000_000 / args.rate;
        let at_us = received.at_us(number).context("a delivery is missing")?;
        histogram.record(at_us.saturating_sub(moment_us).max(1))?;
    }
    let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(Latencies {
        p50_ms: ms(0.50),
        p95_ms: ms(0.95),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
        max_ms: histogram.max() as f64 / 1_000.0,
        delivered: received.count(),
        rate: args.rate,
        hub_cpu_us,
        memory_peak_bytes: serving.memory_peak_bytes(),
    })
}
