//! `bench propagation`: writers who wait with `until=delivered:...`. An open loop, as for `end-to-end`: what waiting adds is
//! counted from the moment at which the slower of the two named destinations has answered to that of the writer's answer.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::task::JoinSet;

use super::child::Serving;
use super::client::Client;
use super::receiver::{self, Manner, Received};
use super::{count, mib, nobody, prepare_plain, row, webhook, write_secret};

/// How long who names the dead destination waits.
const WAIT_S: u64 = 1;

/// How to run it.
#[derive(Debug, Args)]
pub(super) struct PropagationArgs {
    /// Events a second, each with a writer who waits.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many connections send.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// How long the slow destination takes to answer, in milliseconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    slow_ms: u64,
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct PropagationFigures {
    /// Writers that waited for two destinations, each second.
    pub(super) rate: u64,
    /// How many of them were answered 200.
    pub(super) confirmed: u64,
    /// From the slower destination's answer to the writer's: median.
    pub(super) added_p50_ms: f64,
    /// 99 of 100 are below.
    pub(super) added_p99_ms: f64,
    /// The longest.
    pub(super) added_max_ms: f64,
    /// From a request's moment to its answer: median.
    pub(super) whole_p50_ms: f64,
    /// 99 of 100 are below.
    pub(super) whole_p99_ms: f64,
    /// Writers that named a destination that nobody listens at, in the same time.
    pub(super) dead_asked: u64,
    /// How many of them were told 202, with that destination missing and no other.
    pub(super) dead_right: u64,
    /// The most memory that the hub had.
    pub(super) memory_peak_bytes: u64,
}

impl PropagationFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        vec![
            row("writers/s that wait", format!("{}, {} confirmed", self.rate, count(self.confirmed as f64))),
            row(
                "added after the slowest, p50 / p99 / max",
                format!("{:.2} / {:.2} / {:.2} ms", self.added_p50_ms, self.added_p99_ms, self.added_max_ms),
            ),
            row("whole request, p50 / p99", format!("{:.2} / {:.2} ms", self.whole_p50_ms, self.whole_p99_ms)),
            row("right answers with one dead", format!("{} of {}", self.dead_right, self.dead_asked)),
            row("peak memory of the hub", mib(self.memory_peak_bytes)),
        ]
    }
}

/// Runs it.
pub(super) async fn run(dir: &Path, args: &PropagationArgs) -> Result<PropagationFigures> {
    let total = args.rate * args.seconds;
    // The connections are there before the first moment.
    let start = Instant::now() + Duration::from_secs(3);
    let (fast, slow) = (Received::new(start, total), Received::new(start, total));
    // A port that was free a moment ago: nobody listens there.
    let dead = nobody()?;
    let ways_out = [
        ("fast", receiver::start(Some(fast.clone()), Manner::prompt()).await?),
        ("slow", receiver::start(Some(slow.clone()), Manner::slow(Duration::from_millis(args.slow_ms))).await?),
        ("dead", dead),
    ];
    let key = prepare(dir, &ways_out)?;
    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    let work = Arc::new(Work { address: serving.address, key, start, rate: args.rate });
    let mut lanes = JoinSet::new();
    for lane in 0..args.connections {
        let (work, step) = (work.clone(), args.connections as usize);
        lanes.spawn(async move { work.live((lane..total).step_by(step)).await });
    }
    let mut asking = JoinSet::new();
    for lane in 0..16 {
        let (work, rounds) = (work.clone(), (args.seconds / WAIT_S).saturating_sub(1).max(1));
        asking.spawn(async move { work.with_one_dead(lane, rounds).await });
    }
    let (mut added, mut whole) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    while let Some(lane) = lanes.join_next().await {
        for (number, answered_us) in lane.context("a connection's task failed")?? {
            let slowest = [&fast, &slow].into_iter().filter_map(|to| to.at_us(number)).max();
            let slowest_us = slowest.context("an event was confirmed that was not delivered")?;
            added.record(answered_us.saturating_sub(slowest_us).max(1))?;
            whole.record(answered_us.saturating_sub(number * 1_000_000 / args.rate).max(1))?;
        }
    }
    let (mut dead_asked, mut dead_right) = (0, 0);
    while let Some(lane) = asking.join_next().await {
        let (asked, right) = lane.context("a connection's task failed")??;
        dead_asked += asked;
        dead_right += right;
    }
    let ms = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(PropagationFigures {
        rate: args.rate,
        confirmed: added.len(),
        added_p50_ms: ms(&added, 0.50),
        added_p99_ms: ms(&added, 0.99),
        added_max_ms: added.max() as f64 / 1_000.0,
        whole_p50_ms: ms(&whole, 0.50),
        whole_p99_ms: ms(&whole, 0.99),
        dead_asked,
        dead_right,
        memory_peak_bytes: serving.memory_peak_bytes(),
    })
}

fn prepare(dir: &Path, ways_out: &[(&str, std::net::SocketAddr)]) -> Result<String> {
    write_secret(dir)?;
    let key = prepare_plain(dir)?;
    let config: String = ways_out.iter().map(|(name, address)| webhook(name, *address, "")).collect();
    std::fs::write(dir.join("lockstep.toml"), format!("[hub]\nname = \"bench\"\n{config}"))?;
    Ok(key)
}

/// What all connections know.
struct Work {
    address: std::net::SocketAddr,
    key: String,
    start: Instant,
    rate: u64,
}

impl Work {
    /// Sends these numbers, each at its moment; gives when each was answered, microseconds after the start.
    async fn live(&self, numbers: impl Iterator<Item = u64>) -> Result<Vec<(u64, u64)>> {
        let mut client = Client::connect(self.address).await?;
        let mut answered = Vec::new();
        for number in numbers {
            let request = self.request("fast,slow", 30, &format!("live-{number}"), Some(number));
            let moment = self.start + Duration::from_nanos(number * 1_000_000_000 / self.rate);
            tokio::time::sleep_until(moment.into()).await;
            match client.send(request.as_bytes()).await? {
                200 => answered.push((number, self.start.elapsed().as_micros() as u64)),
                status => bail!("the hub answered {status}: {}", client.answer()),
            }
        }
        Ok(answered)
    }

    /// Names a destination that is dead; gives how often, and how often the answer was right.
    async fn with_one_dead(&self, lane: u64, rounds: u64) -> Result<(u64, u64)> {
        let mut client = Client::connect(self.address).await?;
        let mut right = 0;
        tokio::time::sleep_until(self.start.into()).await;
        for round in 0..rounds {
            let request = self.request("fast,dead", WAIT_S, &format!("dead-{lane}-{round}"), None);
            let status = client.send(request.as_bytes()).await?;
            let answer = client.answer();
            let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let body: Value = serde_json::from_str(body).with_context(|| format!("the answer is no JSON: {answer}"))?;
            let missing = &body["reached"]["unreached"];
            right += u64::from(
                status == 202 && body["reached"]["missing"] == 1 && missing[0]["destination"].as_str() == Some("dead"),
            );
        }
        Ok((rounds, right))
    }

    fn request(&self, names: &str, wait_s: u64, id: &str, trace: Option<u64>) -> String {
        let body = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"product.changed","subject":"product/{id}","datacontenttype":"application/json","data":{{"title":"Merino half-zip pullover with contrast seams, relaxed fit","season":"winter"}}}}"#
        );
        let trace = trace.map(|t| format!("traceparent: 00-{:032x}-00000000000000b7-01\r\n", t + 1));
        format!(
            "POST /v1/events?until=delivered:{names} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/cloudevents+json\r\nprefer: wait={wait_s}\r\n{}content-length: {}\r\n\r\n{body}",
            self.key,
            trace.unwrap_or_default(),
            body.len()
        )
    }
}
