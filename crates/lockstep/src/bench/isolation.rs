//! `bench isolation`: some destinations among others, one of them dead and one very slow, each with a long backlog: what that
//! does to the others, and what draining the backlogs does to them once both are well again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use lockstep_core::Rules;
use lockstep_hub::{Hub, HubOptions};
use tokio::net::TcpListener;

use super::backlog::Arrived;
use super::child::Serving;
use super::paced::{Paced, Plan, Stretch, TICKS_PER_S, ms};
use super::receiver::{self, Manner, Received};
use super::{count, hub, mib, nobody, prepare_plain, row, webhook, write_secret};

/// How to run it.
#[derive(Debug, Args)]
pub(super) struct IsolationArgs {
    /// How many destinations, the dead and the slow one among them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=100))]
    destinations: u64,
    /// Changes a second; each goes to every destination.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(100..=20_000))]
    rate: u64,
    /// How long each part runs.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How many events are pending at the dead and at the slow one before.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    backlog: u64,
    /// How often, each time with new data; the figures are those of the rounds in the middle.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    rounds: u64,
}

/// The others' latencies, from a change's moment to its receipt, and the hub's memory.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Part {
    /// Median.
    pub(super) p50_ms: f64,
    /// 99 of 100 are below.
    pub(super) p99_ms: f64,
    /// The longest.
    pub(super) max_ms: f64,
    /// The most memory that the hub has had by its end.
    pub(super) memory_peak_bytes: u64,
}

/// How a backlog was drained.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Drained {
    /// The destination.
    pub(super) destination: &'static str,
    /// From its being well again until it had everything.
    pub(super) seconds: f64,
    /// Events a second.
    pub(super) per_s: f64,
    /// Events that came after a newer one of their entity; must be 0.
    pub(super) out_of_order: u64,
}

/// One round.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Round {
    /// The healthy ones alone.
    pub(super) alone: Part,
    /// Beside the dead and the slow one.
    pub(super) beside: Part,
    /// While the two are drained.
    pub(super) draining: Part,
    /// Of the two.
    pub(super) drained: Vec<Drained>,
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct IsolationFigures {
    /// Healthy destinations.
    pub(super) healthy: u64,
    /// Changes a second.
    pub(super) rate: u64,
    /// Events that were pending at each of the two.
    pub(super) backlog: u64,
    /// Each round.
    pub(super) rounds: Vec<Round>,
    /// The p99 beside the two by that of alone, of the medians.
    pub(super) p99_ratio: f64,
    /// The p99 while the two are drained by that of alone, of the medians.
    pub(super) p99_draining_ratio: f64,
}

impl IsolationFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            row("healthy destinations", self.healthy),
            row("changes/s", count(self.rate as f64)),
            row("pending at the dead and the slow one", count(self.backlog as f64)),
        ];
        let part = |part: &Part| {
            let Part { p50_ms, p99_ms, max_ms, memory_peak_bytes } = part;
            format!("{p50_ms:.2} / {p99_ms:.2} / {max_ms:.2} ms, {}", mib(*memory_peak_bytes))
        };
        for (number, round) in self.rounds.iter().enumerate() {
            lines.push(row(
                &format!("round {}", number + 1),
                "p50 / p99 / max of the healthy ones, peak memory of the hub",
            ));
            lines.push(row("  alone", part(&round.alone)));
            lines.push(row("  beside a dead and a slow one", part(&round.beside)));
            lines.push(row("  while those are drained", part(&round.draining)));
            for Drained { destination, seconds, per_s, out_of_order } in &round.drained {
                let text = format!("{} events/s, {seconds:.1} s, {out_of_order} out of order", count(*per_s));
                lines.push(row(&format!("  drained: {destination}"), text));
            }
        }
        lines.push(row("p99 beside them / alone", format!("{:.2}", self.p99_ratio)));
        lines.push(row("p99 while they are drained / alone", format!("{:.2}", self.p99_draining_ratio)));
        lines
    }
}

/// Runs it.
pub(super) async fn run(dir: &Path, args: &IsolationArgs) -> Result<IsolationFigures> {
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        let alone = Setting::new(&dir.join(format!("alone-{round}")), args, false).await?;
        let alone = alone.healthy(args, 0).await?;
        let (beside, draining, drained) = beside(&dir.join(format!("beside-{round}")), args).await?;
        rounds.push(Round { alone, beside, draining, drained });
    }
    let median = |p99: fn(&Round) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(p99).collect();
        all.sort_by(f64::total_cmp);
        all[(all.len() - 1) / 2]
    };
    let alone = median(|round| round.alone.p99_ms);
    Ok(IsolationFigures {
        healthy: args.destinations - 2,
        rate: args.rate,
        backlog: args.backlog,
        p99_ratio: median(|round| round.beside.p99_ms) / alone,
        p99_draining_ratio: median(|round| round.draining.p99_ms) / alone,
        rounds,
    })
}

/// A hub and its receivers.
struct Setting {
    serving: Serving,
    key: String,
    start: Instant,
    healthy: Vec<Arc<Received>>,
    /// Events before.
    events: u64,
    dead: std::net::SocketAddr,
    slow: Arc<Manner>,
    at_slow: Arc<Arrived>,
}

impl Setting {
    async fn new(dir: &Path, args: &IsolationArgs, neighbours: bool) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let key = prepare_plain(dir)?;
        write_secret(dir)?;
        let filling = Hub::open(HubOptions::new(dir.join("data"), Rules::new()))?;
        hub::drive(&filling.handle(), args.backlog.min(100_000), args.backlog, 1, |_| {}).await?;
        let events = hub::published(&filling.handle(), args.backlog).await;
        filling.shutdown().await;

        let start = Instant::now();
        let mut config = "[hub]\nname = \"bench\"\n".to_owned();
        let mut healthy = Vec::new();
        for number in 0..args.destinations - 2 {
            // The parts, and as long as draining may take.
            let received = Received::new(start, args.rate * (args.seconds + DRAIN_MAX_S));
            let address = receiver::start(Some(received.clone()), Manner::prompt()).await?;
            healthy.push(received);
            config.push_str(&webhook(&format!("d{number:03}"), address, "start = \"now\"\n"));
        }
        let (dead, slow, at_slow) = (nobody()?, Manner::slow(Duration::from_secs(10)), Arc::new(Arrived::default()));
        if neighbours {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            config.push_str(&webhook("slow", listener.local_addr()?, "breaker = { probe_max_ms = 1000 }\n"));
            config.push_str(&webhook("dead", dead, "breaker = { probe_max_ms = 1000 }\n"));
            tokio::spawn(receiver::accept(listener, Arrived::note(&at_slow), slow.clone(), || {}));
        }
        std::fs::write(dir.join("lockstep.toml"), config)?;
        let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
        Ok(Self { serving, key, start, healthy, events, dead, slow, at_slow })
    }

    /// Changes from a number on, for so many seconds.
    async fn paced(&self, args: &IsolationArgs, first: u64, seconds: u64) -> Result<Paced> {
        let plan = Plan { first, each: args.rate / TICKS_PER_S, ticks: seconds * TICKS_PER_S };
        Paced::start(self.serving.address, &self.key, plan).await
    }

    async fn part(&self, sent: &Stretch) -> Result<Part> {
        let latencies = sent.latencies(self.start, &self.healthy).await?;
        Ok(Part {
            p50_ms: ms(&latencies, 0.50),
            p99_ms: ms(&latencies, 0.99),
            max_ms: latencies.max() as f64 / 1_000.0,
            memory_peak_bytes: self.serving.memory_peak_bytes(),
        })
    }

    async fn healthy(&self, args: &IsolationArgs, first: u64) -> Result<Part> {
        let sent = self.paced(args, first, args.seconds).await?.whole().await?;
        self.part(&sent).await
    }
}

/// Draining may take so long.
const DRAIN_MAX_S: u64 = 300;

async fn beside(dir: &Path, args: &IsolationArgs) -> Result<(Part, Part, Vec<Drained>)> {
    let setting = Setting::new(dir, args, true).await?;
    let beside = setting.healthy(args, 0).await?;
    let first = args.seconds * TICKS_PER_S * (args.rate / TICKS_PER_S);
    let live = setting.paced(args, first, DRAIN_MAX_S).await?;

    // Both are well again, and live changes go on until they have all that there was by now.
    let (well, whole, at_dead) = (Instant::now(), setting.events + first, Arc::new(Arrived::default()));
    setting.slow.mend();
    let listener = TcpListener::bind(setting.dead).await?;
    tokio::spawn(receiver::accept(listener, Arrived::note(&at_dead), Manner::prompt(), || {}));
    let both = [("dead", &at_dead), ("slow", &setting.at_slow)];
    let before = setting.at_slow.events();
    let mut drained: Vec<Option<Drained>> = vec![None, None];
    while drained.iter().any(Option::is_none) {
        if live.has_ended() {
            let has: Vec<_> = both.iter().map(|(name, arrived)| format!("{name}: {}", arrived.events())).collect();
            bail!("not all of {whole} events were drained in {DRAIN_MAX_S} s ({})", has.join(", "));
        }
        for (slot, (destination, arrived)) in drained.iter_mut().zip(both) {
            if slot.is_none() && arrived.events() >= whole {
                let seconds = well.elapsed().as_secs_f64();
                let events = if destination == "slow" { whole - before } else { whole };
                let out_of_order = arrived.out_of_order();
                *slot = Some(Drained { destination, seconds, per_s: events as f64 / seconds, out_of_order });
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sent = live.stop().await?;
    let draining = setting.part(&sent).await?;
    Ok((beside, draining, drained.into_iter().flatten().collect()))
}
