//! `bench deliver`: how many deliveries a second, and what one costs, to 1, 10 and 100 receivers; and how long one takes
//! at half that rate, from the moment of a change to its receipt.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use lockstep_core::Rules;
use lockstep_hub::{Hub, HubOptions};

use super::child::Serving;
use super::client::Client;
use super::receiver::{self, Received};
use super::{count, hub, mib, prepare_plain, row};

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

/// How many entities there are, and how often changes are sent in the second part.
const ENTITIES: u64 = 10_000;
const TICKS_PER_S: u64 = 100;

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
    let mut ends = Vec::new();
    let mut config = "[hub]\nname = \"bench\"\n".to_owned();
    for number in 0..receivers {
        let received = Received::new(start, slots);
        let address = receiver::start(Some(received.clone()), Duration::ZERO).await?;
        ends.push(received);
        config.push_str(&destination(&format!("d{number:03}"), address, args.batch));
    }
    std::fs::write(dir.join("out-secret"), "whsec_YmVuY2gtb25seS1zZWNyZXQtYmVuY2gtb25seQ==")?;
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
    let ticks = args.seconds * TICKS_PER_S;
    let latencies = at_a_rate(&serving, &key, (ticks, each), start, &ends).await?;
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(DeliverFigures {
        receivers,
        deliveries: whole,
        deliveries_per_s,
        hub_cpu_us: cpu / made * 1e6,
        connections: ends.iter().map(|end| end.connections()).sum(),
        half_rate_per_s: (each * TICKS_PER_S * receivers) as f64,
        p50_ms: ms(0.50),
        p95_ms: ms(0.95),
        p99_ms: ms(0.99),
        p999_ms: ms(0.999),
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

/// Sends changes at their moments, and gives how long each took to each receiver.
async fn at_a_rate(
    serving: &Serving,
    key: &str,
    (ticks, each): (u64, u64),
    start: Instant,
    ends: &[Arc<Received>],
) -> Result<Histogram<u64>> {
    let mut client = Client::connect(serving.address).await?;
    let first = Instant::now() + Duration::from_millis(500);
    let moment = |tick: u64| first + Duration::from_micros(tick * 1_000_000 / TICKS_PER_S);
    let mut request = Vec::new();
    for tick in 0..ticks {
        write_request(&mut request, key, tick * each, each);
        tokio::time::sleep_until(moment(tick).into()).await;
        loop {
            match client.send(&request).await? {
                200 => break,
                429 => tokio::time::sleep(Duration::from_millis(1)).await,
                status => bail!("the hub answered {status}: {}", client.answer()),
            }
        }
    }
    let numbers = ticks * each;
    let patience = Instant::now() + Duration::from_secs(60);
    while ends.iter().any(|end| end.count() < numbers) {
        if Instant::now() > patience {
            bail!("not all changes were delivered");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut latencies = Histogram::<u64>::new(3)?;
    for end in ends {
        for number in 0..numbers {
            let due_us = (moment(number / each) - start).as_micros() as u64;
            let at_us = end.at_us(number).context("a delivery is missing")?;
            latencies.record(at_us.saturating_sub(due_us).max(1))?;
        }
    }
    Ok(latencies)
}

/// A request with changes, each known by its trace.
fn write_request(out: &mut Vec<u8>, key: &str, first: u64, each: u64) {
    let mut body = String::from("[");
    for number in first..first + each {
        let comma = if number == first { "" } else { "," };
        let sku = number % ENTITIES;
        let _ = write!(
            body,
            r#"{comma}{{"specversion":"1.0","id":"half-{number}","source":"/bench","type":"stock.counted","subject":"stock/half-{sku:05}@berlin","sequence":"{number}","traceparent":"00-{:032x}-00000000000000b7-01","data":{{"on_hand":{number},"basis":"on_hand","bin":"B-17-04-C","note":"cycle count by handheld 0042, second shift, zone north, verified"}}}}"#,
            number + 1
        );
    }
    body.push(']');
    out.clear();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: \
         application/cloudevents-batch+json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}

fn destination(name: &str, address: std::net::SocketAddr, batch: u64) -> String {
    let batch = if batch > 1 { format!("batch = {{ max = {batch} }}\n") } else { String::new() };
    format!(
        "\n[destinations.{name}]\nkind = \"webhook\"\nsystem = \"{name}\"\nurl = \"http://{address}/in\"\nsecrets = \
         [\"file:out-secret\"]\nallow_private_addresses = true\n{batch}"
    )
}
