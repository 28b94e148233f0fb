//! `bench deliver`: how many deliveries a second, and what one costs, to 1, 10 and 100 receivers; and how long one takes
//! at half that rate, from the moment of a change to its receipt.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use lockstep_core::Rules;
use lockstep_hub::{Hub, HubOptions};

use super::child::Serving;
use super::paced::{Paced, Plan, TICKS_PER_S, ms};
use super::receiver::{self, Manner, Received};
use super::{count, hub, mib, prepare_plain, row, webhook, write_secret};

/// How to run it.
#[derive(Debug, Args)]
pub(super) struct DeliverArgs {
    /// To how many receivers, one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    receivers: Vec<u64>,
    /// How many deliveries each run makes, over all receivers.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    deliveries: u64,
    /// How long changes come at half the rate.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Events in one request, where a receiver takes several; 1: none does.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=500))]
    batch: u64,
}

/// What was measured with so many receivers.
#[derive(Debug, serde::Serialize)]
pub(super) struct DeliverFigures {
    /// How many receivers.
    pub(super) receivers: u64,
    /// Deliveries acknowledged.
    pub(super) deliveries: u64,
    /// The figure: each received and acknowledged, connections kept.
    pub(super) deliveries_per_s: f64,
    /// CPU time of the hub for one, microseconds; the rest of the cores is the receivers'.
    pub(super) hub_cpu_us: f64,
    /// Connections that the receivers saw.
    pub(super) connections: u64,
    /// The offered rate of the second part, deliveries a second.
    pub(super) half_rate_per_s: f64,
    /// From a change's moment to its receipt, at that rate: median.
    pub(super) p50_ms: f64,
    /// 95 of 100 are below.
    pub(super) p95_ms: f64,
    /// 99 of 100 are below.
    pub(super) p99_ms: f64,
    /// 999 of 1,000 are below.
    pub(super) p999_ms: f64,
    /// The longest.
    pub(super) max_ms: f64,
    /// The most memory that the hub had.
    pub(super) memory_peak_bytes: u64,
}

/// All of it.
#[derive(Debug, serde::Serialize)]
pub(super) struct AllFigures {
    /// Events in one request at most.
    pub(super) batch: u64,
    /// By the number of receivers.
    pub(super) runs: Vec<DeliverFigures>,
}

impl AllFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for run in &self.runs {
            lines.push(row("receivers", run.receivers));
            lines.push(row("  deliveries/s", count(run.deliveries_per_s)));
            lines.push(row("  hub CPU for a delivery", format!("{:.1} us", run.hub_cpu_us)));
            lines.push(row("  deliveries", count(run.deliveries as f64)));
            lines.push(row("  connections", run.connections));
            let latency = format!(
                "{:.2} / {:.2} / {:.2} / {:.2} / {:.2} ms",
                run.p50_ms, run.p95_ms, run.p99_ms, run.p999_ms, run.max_ms
            );
            let name = format!("  p50 / p95 / p99 / p99.9 / max at {}/s", count(run.half_rate_per_s));
            lines.push(row(&name, latency));
            lines.push(row("  peak memory of the hub", mib(run.memory_peak_bytes)));
        }
        lines
    }
}

/// Runs it.
pub(super) async fn run(dir: &Path, args: &DeliverArgs) -> Result<AllFigures> {
    let mut runs = Vec::with_capacity(args.receivers.len());
    for receivers in &args.receivers {
        runs.push(measure(&dir.join(format!("to-{receivers}")), args, *receivers).await?);
    }
    Ok(AllFigures { batch: args.batch, runs })
}

/// Of how many entities the deliveries are whose rate is measured.
const ENTITIES: u64 = 10_000;

async fn measure(dir: &Path, args: &DeliverArgs, receivers: u64) -> Result<DeliverFigures> {
    std::fs::create_dir_all(dir)?;
    let key = prepare_plain(dir)?;
    // Everything is in the journal before there is anyone to tell.
    let events = (args.deliveries / receivers).max(1);
    let filling = Hub::open(HubOptions::new(dir.join("data"), Rules::new()))?;
    hub::drive(&filling.handle(), ENTITIES, events, 1, |_| {}).await?;
    let events = hub::published(&filling.handle(), events).await;
    filling.shutdown().await;

    let start = Instant::now();
    let slots = args.seconds * TICKS_PER_S * 1_000;
    let batch = if args.batch > 1 { format!("batch = {{ max = {} }}\n", args.batch) } else { String::new() };
    let mut ends = Vec::new();
    let mut config = "[hub]\nname = \"bench\"\n".to_owned();
    for number in 0..receivers {
        let received = Received::new(start, slots);
        let address = receiver::start(Some(received.clone()), Manner::prompt()).await?;
        ends.push(received);
        config.push_str(&webhook(&format!("d{number:03}"), address, &batch));
    }
    write_secret(dir)?;
    std::fs::write(dir.join("lockstep.toml"), config)?;

    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    let (began, cpu_began, before) = (Instant::now(), serving.cpu_seconds(), taken(&ends));
    let whole = events * receivers;
    wait_for(&ends, whole).await?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), serving.cpu_seconds() - cpu_began);
    let made = whole.saturating_sub(before).max(1) as f64;
    let deliveries_per_s = made / seconds;

    // Each tick some changes, so that all deliveries together come at half the rate.
    let each = ((deliveries_per_s / 2.0 / receivers as f64 / TICKS_PER_S as f64).round() as u64).clamp(1, 1_000);
    let plan = Plan { first: 0, each, ticks: args.seconds * TICKS_PER_S };
    let sent = Paced::start(serving.address, &key, plan).await?.whole().await?;
    let latencies = sent.latencies(start, &ends).await?;
    Ok(DeliverFigures {
        receivers,
        deliveries: whole,
        deliveries_per_s,
        hub_cpu_us: cpu / made * 1e6,
        connections: ends.iter().map(|end| end.connections()).sum(),
        half_rate_per_s: (each * TICKS_PER_S * receivers) as f64,
        p50_ms: ms(&latencies, 0.50),
        p95_ms: ms(&latencies, 0.95),
        p99_ms: ms(&latencies, 0.99),
        p999_ms: ms(&latencies, 0.999),
        max_ms: latencies.max() as f64 / 1_000.0,
        memory_peak_bytes: serving.memory_peak_bytes(),
    })
}

fn taken(ends: &[Arc<Received>]) -> u64 {
    ends.iter().map(|end| end.taken()).sum()
}

async fn wait_for(ends: &[Arc<Received>], whole: u64) -> Result<()> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = taken(ends);
        if now >= whole {
            return Ok(());
        }
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(60) {
            bail!("only {now} of {whole} deliveries were made");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
