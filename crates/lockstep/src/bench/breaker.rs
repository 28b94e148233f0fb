//! `bench breaker`: one destination with a circuit breaker and one without, both dead for a while: how many attempts each
//! gets, and how soon they are served again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use tokio::net::TcpListener;

use super::child::Serving;
use super::client::Client;
use super::paced::{Paced, Plan, TICKS_PER_S};
use super::receiver::{self, Manner, Note};
use super::{count, prepare_plain, row, webhook, write_secret};

/// How to run it.
#[derive(Debug, Args)]
pub(super) struct BreakerArgs {
    /// How long both answer 503.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Changes a second meanwhile.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(100..=5_000))]
    rate: u64,
    /// The longest wait between two probes, seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    probe_max_s: u64,
}

/// One of the two.
#[derive(Debug, serde::Serialize)]
pub(super) struct One {
    /// Requests that it got while it was dead.
    pub(super) attempts: u64,
    /// Events given up by the end of that time.
    pub(super) dead_letters: u64,
    /// Events that waited by then.
    pub(super) pending: u64,
    /// From its being well again until the next delivery.
    pub(super) recovered_s: f64,
    /// Events delivered in the end.
    pub(super) delivered: u64,
}

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct BreakerFigures {
    /// How long both were dead.
    pub(super) seconds: u64,
    /// Events of that time.
    pub(super) events: u64,
    /// The longest wait between two probes.
    pub(super) probe_max_s: u64,
    /// With a breaker.
    pub(super) with: One,
    /// Without.
    pub(super) without: One,
}

impl BreakerFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let mut lines = vec![
            row("dead for", format!("{} s", self.seconds)),
            row("events meanwhile", count(self.events as f64)),
            row("longest wait between probes", format!("{} s", self.probe_max_s)),
        ];
        for (name, one) in [("with a breaker", &self.with), ("without", &self.without)] {
            lines.push(row(name, format!("{} attempts", count(one.attempts as f64))));
            lines.push(row("  dead letters", count(one.dead_letters as f64)));
            lines.push(row("  pending", count(one.pending as f64)));
            lines.push(row("  well again, next delivery after", format!("{:.2} s", one.recovered_s)));
            lines.push(row("  delivered in the end", count(one.delivered as f64)));
        }
        lines
    }
}

/// Runs it.
pub(super) async fn run(dir: &Path, args: &BreakerArgs) -> Result<BreakerFigures> {
    let key = prepare_plain(dir)?;
    write_secret(dir)?;
    let with = Ending::start().await?;
    let without = Ending::start().await?;
    let breaker = format!("breaker = {{ probe_max_ms = {} }}\n", args.probe_max_s * 1_000);
    let config = format!(
        "[hub]\nname = \"bench\"\n{}{}",
        webhook("with", with.address, &breaker),
        webhook("without", without.address, "breaker = { failing_keys = 0, failing_percent = 0 }\n")
    );
    std::fs::write(dir.join("lockstep.toml"), config)?;
    let serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    let plan = Plan { first: 0, each: args.rate / TICKS_PER_S, ticks: args.seconds * TICKS_PER_S };
    let sent = Paced::start(serving.address, &key, plan).await?.whole().await?;
    let events = sent.numbers.end;
    let ends = [("with", &with), ("without", &without)];
    let mut then = Vec::new();
    for (name, end) in ends {
        then.push((end.taken.load(Ordering::Relaxed), destination(&serving, &key, name).await?));
        end.manner.mend();
    }
    let well = Instant::now();
    let mut recovered_s = [None, None];
    let patience = Duration::from_secs(args.probe_max_s * 2 + 60);
    loop {
        let mut settled = true;
        for (((name, end), (taken, _)), recovered_s) in ends.iter().zip(&then).zip(&mut recovered_s) {
            if end.taken.load(Ordering::Relaxed) > *taken {
                recovered_s.get_or_insert(well.elapsed().as_secs_f64());
            }
            settled &= destination(&serving, &key, name).await?["pending"] == 0;
        }
        if settled {
            break;
        }
        if well.elapsed() > patience {
            bail!("not everything was settled {} s after both were well again", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut all = Vec::new();
    for (((name, _), (attempts, before)), recovered_s) in ends.iter().zip(then).zip(recovered_s) {
        let after = destination(&serving, &key, name).await?;
        all.push(One {
            attempts,
            dead_letters: number(&before, "dead")?,
            pending: number(&before, "pending")?,
            recovered_s: recovered_s.unwrap_or(0.0),
            delivered: number(&after, "delivered")?,
        });
    }
    let (Some(without), Some(with)) = (all.pop(), all.pop()) else { bail!("there were two") };
    Ok(BreakerFigures { seconds: args.seconds, events, probe_max_s: args.probe_max_s, with, without })
}

/// A receiver that is dead until it is mended.
struct Ending {
    address: std::net::SocketAddr,
    taken: Arc<AtomicU64>,
    manner: Arc<Manner>,
}

impl Ending {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, taken, manner) = (listener.local_addr()?, Arc::<AtomicU64>::default(), Manner::broken());
        let counted = taken.clone();
        let note: Note = Arc::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        tokio::spawn(receiver::accept(listener, note, manner.clone(), || {}));
        Ok(Self { address, taken, manner })
    }
}

async fn destination(serving: &Serving, key: &str, name: &str) -> Result<Value> {
    Client::connect(serving.address).await?.ask("GET", &format!("/v1/destinations/{name}"), key, "").await
}

fn number(of: &Value, name: &str) -> Result<u64> {
    of[name].as_u64().with_context(|| format!("the destination has no `{name}`"))
}
