//! `bench ingest`: events in batches of 100, and signed Shopify orders one by one, over loopback.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lockstep_api::{Keys, Scope};

use super::child::Serving;
use super::client::Client;
use super::disk::{RawLimit, raw_limit};
use super::orders::Orders;
use super::{count, mib, row};

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct IngestFigures {
    /// Connections that the generator held.
    pub(super) connections: u64,
    /// CloudEvents of about 500 bytes, 100 a request, durable before the answer.
    pub(super) events_per_s: f64,
    /// Bytes of one event.
    pub(super) event_bytes: f64,
    /// Signed orders, one a request, through the pack's mapping, durable before the answer.
    pub(super) singles_per_s: f64,
    /// Bytes of one order.
    pub(super) single_bytes: f64,
    /// CPU time of the hub for one order, microseconds; the rest of the cores is the generator's.
    pub(super) single_hub_cpu_us: f64,
    /// CPU time of the hub for one event, microseconds.
    pub(super) event_hub_cpu_us: f64,
    /// What the same disk does with 100 such events in an append.
    pub(super) raw: RawLimit,
    /// `events_per_s` by the raw limit.
    pub(super) ratio_to_raw: f64,
    /// The most memory that the hub had.
    pub(super) memory_peak_bytes: u64,
}

impl IngestFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        vec![
            row("events/s, 100 a request", count(self.events_per_s)),
            row("bytes of an event", count(self.event_bytes)),
            row("signed orders/s, one a request", count(self.singles_per_s)),
            row("bytes of an order", count(self.single_bytes)),
            row("hub CPU for an order", format!("{:.0} us", self.single_hub_cpu_us)),
            row("hub CPU for an event", format!("{:.1} us", self.event_hub_cpu_us)),
            row("raw limit of the disk, events/s", count(self.raw.records_per_s)),
            row("ratio to the raw limit", format!("{:.3}", self.ratio_to_raw)),
            row("peak memory of the hub", mib(self.memory_peak_bytes)),
        ]
    }
}

pub(super) const SECRET: &str = "bench-only-secret";
const BATCH: u64 = 100;
const ENTITIES: u64 = 100_000;

/// The configuration: one Shopify source, no destination.
pub(super) fn config(more: &str) -> String {
    format!(
        "[hub]\nname = \"bench\"\n\n[sources.shop]\nsystem = \"shop\"\npack = \"shopify\"\nsecrets = [\"file:secret\"]\nchannel = \"web\"\ncurrency = \"EUR\"\n{more}"
    )
}

/// Writes configuration and secret, makes a key.
pub(super) fn prepare(dir: &Path, more: &str) -> Result<String> {
    std::fs::write(dir.join("secret"), SECRET)?;
    std::fs::write(dir.join("lockstep.toml"), config(more))?;
    std::fs::create_dir_all(dir.join("data"))?;
    let keys = Keys::open(crate::serve::keys_file(&dir.join("data")))?;
    let text = keys.create("bench", &[Scope::Write, Scope::Read], Some("bench"), Some("bench"))?;
    Ok(text)
}

/// Runs both parts.
pub(super) async fn run(dir: &Path, connections: u64, seconds: u64) -> Result<IngestFigures> {
    let key = prepare(dir, "")?;
    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    let length = Duration::from_secs(seconds);
    let started_cpu = serving.cpu_seconds();
    let (requests, bytes, took) = drive(&serving, connections, length, |lane| {
        let mut batches = Batches::new(lane, &key);
        Ok(move |out: &mut Vec<u8>| batches.next(out))
    })
    .await?;
    let middle_cpu = serving.cpu_seconds();
    let events = requests * BATCH;
    let events_per_s = events as f64 / took;
    let event_bytes = bytes as f64 / events as f64;
    let (singles, single_total, single_took) = drive(&serving, connections, length, |lane| {
        let mut orders = Orders::new("shop", SECRET, lane, Some(ENTITIES))?;
        Ok(move |out: &mut Vec<u8>| orders.next(out))
    })
    .await?;
    let end_cpu = serving.cpu_seconds();
    let memory_peak_bytes = serving.memory_peak_bytes();
    drop(serving);
    let raw = raw_limit(dir, BATCH as f64, (event_bytes * BATCH as f64) as usize)?;
    Ok(IngestFigures {
        connections,
        events_per_s,
        event_bytes,
        singles_per_s: singles as f64 / single_took,
        single_bytes: single_total as f64 / singles as f64,
        single_hub_cpu_us: (end_cpu - middle_cpu) / singles as f64 * 1e6,
        event_hub_cpu_us: (middle_cpu - started_cpu) / events as f64 * 1e6,
        ratio_to_raw: events_per_s / raw.records_per_s,
        raw,
        memory_peak_bytes,
    })
}

/// Keeps every connection busy; gives the requests answered 200, their bytes and the seconds.
async fn drive<M, N>(serving: &Serving, connections: u64, length: Duration, make: M) -> Result<(u64, u64, f64)>
where
    M: Fn(u64) -> Result<N>,
    N: FnMut(&mut Vec<u8>) + Send + 'static,
{
    let mut lanes = tokio::task::JoinSet::new();
    let began = Instant::now();
    for lane in 0..connections {
        let mut next = make(lane)?;
        let address = serving.address;
        lanes.spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut request = Vec::with_capacity(128 * 1024);
            let (mut answered, mut bytes) = (0_u64, 0_u64);
            while began.elapsed() < length {
                next(&mut request);
                loop {
                    match client.send(&request).await? {
                        200 => break,
                        429 => tokio::time::sleep(Duration::from_millis(5)).await,
                        status => bail!("the hub answered {status}: {}", client.answer()),
                    }
                }
                answered += 1;
                bytes += request.len() as u64;
            }
            anyhow::Ok((answered, bytes))
        });
    }
    let (mut answered, mut bytes) = (0, 0);
    while let Some(lane) = lanes.join_next().await {
        let (lane_answered, lane_bytes) = lane.context("a connection's task failed")??;
        answered += lane_answered;
        bytes += lane_bytes;
    }
    Ok((answered, bytes, began.elapsed().as_secs_f64()))
}

/// Batches of CloudEvents.
struct Batches {
    random: fastrand::Rng,
    lane: u64,
    number: u64,
    head: String,
    body: String,
}

impl Batches {
    fn new(lane: u64, key: &str) -> Self {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: application/cloudevents-batch+json\r\ncontent-length: "
        );
        Self { random: fastrand::Rng::with_seed(lane), lane, number: 0, head, body: String::new() }
    }

    fn next(&mut self, out: &mut Vec<u8>) {
        self.body.clear();
        self.body.push('[');
        for at in 0..BATCH {
            self.number += 1;
            let comma = if at == 0 { "" } else { "," };
            let sku = self.random.u64(..ENTITIES);
            let _ = write!(
                self.body,
                r#"{comma}{{"specversion":"1.0","id":"{:x}-{:x}","source":"/bench","type":"stock.counted","subject":"stock/SKU-{sku:07}@berlin","time":"2026-02-03T{:02}:{:02}:{:02}.{:03}Z","datacontenttype":"application/json","data":{{"on_hand":{},"safety_stock":5,"basis":"on_hand","counted_at":"2026-02-03T10:11:12Z","bin":"B-17-04-C","note":"cycle count by handheld 0042, second shift, zone north, verified","unavailable":{{"damaged":0,"quality_control":1,"blocked":0}}}}}}"#,
                self.lane,
                self.number,
                self.number / 3_600_000 % 24,
                self.number / 60_000 % 60,
                self.number / 1_000 % 60,
                self.number % 1_000,
                self.number % 977,
            );
        }
        self.body.push(']');
        out.clear();
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.body.as_bytes());
    }
}
