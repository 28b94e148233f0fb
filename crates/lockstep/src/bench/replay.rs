//! `bench replay`: very many events sent once more to a new destination beside live changes to another one: what that does to
//! the live ones.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use lockstep_core::Rules;
use lockstep_hub::{Hub, HubOptions};
use serde_json::json;
use tokio::net::TcpListener;

use super::backlog::Arrived;
use super::child::Serving;
use super::client::Client;
use super::paced::{Paced, Plan, TICKS_PER_S, ms};
use super::receiver::{self, Manner, Received};
use super::{count, hub, mib, prepare_plain, row, webhook, write_secret};

/// How to run it.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// How many events are sent once more.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
    /// Of how many entities.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    entities: u64,
    /// Live changes a second.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=20_000))]
    rate: u64,
    /// How long live changes come before, alone.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// At most so many replayed events a second; 0: as fast as it goes.
    #[arg(long, default_value_t = 5_000)]
    replay_rate: u64,
}

impl ReplayArgs {
    /// How many events there are to be.
    pub(super) fn events(&self) -> u64 {
        self.events
    }
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct ReplayFigures {
    /// Events that were replayed.
    pub(super) events: u64,
    /// How long that took.
    pub(super) seconds: f64,
    /// The same as a rate.
    pub(super) replayed_per_s: f64,
    /// Live changes a second.
    pub(super) rate: u64,
    /// From a live change's moment to its receipt, before the replay: median.
    pub(super) p50_alone_ms: f64,
    /// 99 of 100 are below.
    pub(super) p99_alone_ms: f64,
    /// The same during the replay: median.
    pub(super) p50_beside_ms: f64,
    /// 99 of 100 are below.
    pub(super) p99_beside_ms: f64,
    /// The p99 during the replay by that of before.
    pub(super) p99_ratio: f64,
    /// Replayed events that came after a newer one of their entity; must be 0.
    pub(super) out_of_order: u64,
    /// The most memory that the hub had.
    pub(super) memory_peak_bytes: u64,
}

impl ReplayFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        vec![
            row("events replayed", count(self.events as f64)),
            row("replayed/s", count(self.replayed_per_s)),
            row("took", format!("{:.1} s", self.seconds)),
            row("live changes/s", count(self.rate as f64)),
            row("p50 / p99 alone", format!("{:.2} / {:.2} ms", self.p50_alone_ms, self.p99_alone_ms)),
            row("p50 / p99 beside the replay", format!("{:.2} / {:.2} ms", self.p50_beside_ms, self.p99_beside_ms)),
            row("p99 beside the replay / alone", format!("{:.2}", self.p99_ratio)),
            row("out of order", count(self.out_of_order as f64)),
            row("peak memory of the hub", mib(self.memory_peak_bytes)),
        ]
    }
}

/// A replay may take so long.
const REPLAY_MAX_S: u64 = 1_800;

/// Runs it.
pub(super) async fn run(dir: &Path, args: &ReplayArgs, progress: impl Fn(u64)) -> Result<ReplayFigures> {
    let key = prepare_plain(dir)?;
    write_secret(dir)?;
    let filling = Hub::open(HubOptions::new(dir.join("data"), Rules::new()))?;
    hub::drive(&filling.handle(), args.entities, args.events, 1, &progress).await?;
    let events = hub::published(&filling.handle(), args.events).await;
    let until = filling.handle().stats().tallies().last_event;
    filling.shutdown().await;

    let start = Instant::now();
    let live = Received::new(start, args.rate * (args.seconds + REPLAY_MAX_S));
    let to_live = receiver::start(Some(live.clone()), Manner::prompt()).await?;
    let (arrived, listener) = (Arc::new(Arrived::default()), TcpListener::bind("127.0.0.1:0").await?);
    // The new one gets what is live as well.
    let config = format!(
        "[hub]\nname = \"bench\"\n{}{}",
        webhook("live", to_live, "start = \"now\"\n"),
        webhook("fresh", listener.local_addr()?, "start = \"now\"\n")
    );
    tokio::spawn(receiver::accept(listener, Arrived::note(&arrived), Manner::prompt(), || {}));
    std::fs::write(dir.join("lockstep.toml"), config)?;
    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    let ends = [live];
    let each = args.rate / TICKS_PER_S;
    let plan = Plan { first: 0, each, ticks: args.seconds * TICKS_PER_S };
    let sent = Paced::start(serving.address, &key, plan).await?.whole().await?;
    let alone = sent.latencies(start, &ends).await?;

    let plan = Plan { first: sent.numbers.end, each, ticks: REPLAY_MAX_S * TICKS_PER_S };
    let paced = Paced::start(serving.address, &key, plan).await?;
    let mut client = Client::connect(serving.address).await?;
    let order = json!({ "destination": "fresh", "until": until, "rate_per_s": args.replay_rate, "stale": "send" });
    let replay = client.ask("POST", "/v1/replays", &key, &order.to_string()).await?;
    let id = replay["id"].as_u64().with_context(|| format!("the replay has no id: {replay}"))?;
    let began = Instant::now();
    let replayed = loop {
        let now = client.ask("GET", &format!("/v1/replays/{id}"), &key, "").await?;
        progress(arrived.events());
        match now["status"].as_str() {
            Some("running") if paced.has_ended() => bail!("the replay did not end in {REPLAY_MAX_S} s: {now}"),
            Some("running") => tokio::time::sleep(Duration::from_millis(50)).await,
            Some("done") => break now["delivered"].as_u64().unwrap_or(0),
            _ => bail!("the replay ended otherwise: {now}"),
        }
    };
    if replayed < events {
        bail!("only {replayed} of {events} events were replayed");
    }
    let seconds = began.elapsed().as_secs_f64();
    let beside = paced.stop().await?.latencies(start, &ends).await?;
    let (p99_alone_ms, p99_beside_ms) = (ms(&alone, 0.99), ms(&beside, 0.99));
    Ok(ReplayFigures {
        events: replayed,
        seconds,
        replayed_per_s: replayed as f64 / seconds,
        rate: args.rate,
        p50_alone_ms: ms(&alone, 0.50),
        p99_alone_ms,
        p50_beside_ms: ms(&beside, 0.50),
        p99_beside_ms,
        p99_ratio: p99_beside_ms / p99_alone_ms,
        out_of_order: arrived.out_of_order(),
        memory_peak_bytes: serving.memory_peak_bytes(),
    })
}
