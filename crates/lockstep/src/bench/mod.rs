//! `lockstep bench`: what this machine does with it, beside what its disk does alone.
//!
//! Figures are taken in one run and belong together as ratios: machines differ and are noisy. Everything that
//! goes over HTTP is measured against the real binary in a process of its own, with the generator on the same
//! cores.

mod backlog;
mod breaker;
mod child;
mod client;
mod deliver;
mod disk;
mod end_to_end;
mod hub;
mod ingest;
mod isolation;
mod load;
mod memory;
mod orders;
mod paced;
mod propagation;
mod receiver;
mod replay;
mod reserve;
mod restart;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use lockstep_api::{Keys, Scope};
use serde::Serialize;

use crate::exit::{Exit, Failure, chain};
use crate::output::Output;

/// Measure what this machine does with it.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
    /// The folder to work in; a temporary one without it. Its disk is what is measured.
    #[arg(long, global = true, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Changes decided and durable, without a network.
    #[command(after_help = "Example:\n  lockstep bench hub --changes 2000000")]
    Hub {
        /// How many changes.
        #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        changes: u64,
        /// Over how many entities.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        entities: u64,
        /// Orders of 30 fields and 5 lines from three systems, instead of small stock documents from one.
        #[arg(long)]
        orders: bool,
    },
    /// Events in batches and signed single requests, over loopback.
    #[command(after_help = "Example:\n  lockstep bench ingest --seconds 10")]
    Ingest {
        /// How many connections.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
        connections: u64,
        /// How long each of the two parts runs.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// From a signed webhook to the acknowledged delivery, at a given rate.
    #[command(after_help = "Example:\n  lockstep bench end-to-end --rate 2000 --seconds 20")]
    EndToEnd(end_to_end::EndToEndArgs),
    /// Writers that wait until two destinations have confirmed: what waiting adds, and what is answered with one dead.
    #[command(after_help = "Example:\n  lockstep bench propagation --rate 500 --seconds 10")]
    Propagation(propagation::PropagationArgs),
    /// Ready again after kill -9, with a long journal.
    #[command(after_help = "Example:\n  lockstep bench restart --changes 5000000")]
    Restart {
        /// How many changes the journal has at least.
        #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        changes: u64,
        /// Over how many entities.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        entities: u64,
    },
    /// Deliveries a second, and the CPU time of one, to 1, 10 and 100 receivers; how long one takes at half that rate.
    #[command(after_help = "Example:\n  lockstep bench deliver --receivers 1,10,100")]
    Deliver(deliver::DeliverArgs),
    /// A destination that is down with very many events pending: memory, kill -9, and all of it delivered in order.
    #[command(after_help = "Example:\n  lockstep bench backlog --events 3000000")]
    Backlog {
        /// How many events are pending.
        #[arg(long, default_value_t = 3_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        events: u64,
        /// Of how many entities.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
        entities: u64,
    },
    /// Healthy destinations beside a dead and a very slow one with long backlogs, and while those are drained.
    #[command(after_help = "Example:\n  lockstep bench isolation --destinations 10 --rate 500")]
    Isolation(isolation::IsolationArgs),
    /// Attempts made against a dead destination, with a circuit breaker and without, and how soon it is served again.
    #[command(after_help = "Example:\n  lockstep bench breaker --seconds 600")]
    Breaker(breaker::BreakerArgs),
    /// Very many events sent once more to a new destination, beside live changes.
    #[command(after_help = "Example:\n  lockstep bench replay --events 1000000 --rate 1000")]
    Replay(replay::ReplayArgs),
    /// Stock reserved by many clients over gRPC, durable, beside PostgreSQL if there is one.
    #[command(after_help = "Examples:\n  lockstep bench reserve --seconds 10\n  \
                            lockstep bench reserve --open 1000000 --skus 100000")]
    Reserve(reserve::ReserveArgs),
    /// Make open reservations and wait to be killed: a part of `reserve --open`.
    #[command(hide = true, after_help = "Example:\n  lockstep bench fill-reservations --open 1000 --dir FOLDER")]
    FillReservations {
        #[arg(long)]
        open: u64,
        #[arg(long)]
        skus: u64,
    },
    /// Fill a data folder until killed: a part of `restart`.
    #[command(hide = true, after_help = "Example:\n  lockstep bench fill --dir FOLDER")]
    Fill {
        #[arg(long, default_value_t = 100_000)]
        entities: u64,
    },
}

/// Runs a benchmark.
pub async fn run(args: &BenchArgs, output: &Output) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| failed(&error);
    // Kept until the end: dropping it removes the folder.
    let temporary = match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display())).map_err(failed)?;
            None
        }
        None => Some(tempfile::tempdir().context("can't make a temporary folder").map_err(failed)?),
    };
    let dir = args.dir.clone().unwrap_or_else(|| temporary.as_ref().map_or_else(PathBuf::new, |t| t.path().to_owned()));
    match &args.bench {
        Bench::Hub { changes, entities, orders } => {
            let bar = output.progress(*changes, "changes");
            let figures =
                hub::run(&dir, *entities, *changes, *orders, |done| bar.set_position(done)).await.map_err(failed)?;
            bar.finish_and_clear();
            print(output, &figures, &figures.lines())
        }
        Bench::Ingest { connections, seconds } => {
            let figures = ingest::run(&dir, *connections, *seconds).await.map_err(failed)?;
            print(output, &figures, &figures.lines())
        }
        Bench::EndToEnd(args) => {
            let figures = end_to_end::run(&dir, args).await.map_err(failed)?;
            print(output, &figures, &figures.lines())
        }
        Bench::Propagation(args) => {
            let figures = propagation::run(&dir, args).await.map_err(failed)?;
            print(output, &figures, &figures.lines())
        }
        Bench::Restart { changes, entities } => {
            let bar = output.progress(*changes, "changes");
            let figures =
                restart::run(&dir, *changes, *entities, |done| bar.set_position(done)).await.map_err(failed)?;
            bar.finish_and_clear();
            print(output, &figures, &figures.lines())
        }
        Bench::Deliver(args) => {
            let figures = deliver::run(&dir, args).await.map_err(failed)?;
            print(output, &figures, &figures.lines())
        }
        Bench::Backlog { events, entities } => {
            let bar = output.progress(*events, "events");
            let figures =
                backlog::run(&dir, *events, *entities, |done| bar.set_position(done)).await.map_err(failed)?;
            bar.finish_and_clear();
            print(output, &figures, &figures.lines())
        }
        Bench::Isolation(args) => {
            let figures = isolation::run(&dir, args).await.map_err(failed)?;
            print(output, &figures, &figures.lines())
        }
        Bench::Breaker(args) => {
            let figures = breaker::run(&dir, args).await.map_err(failed)?;
            print(output, &figures, &figures.lines())
        }
        Bench::Replay(args) => {
            let bar = output.progress(args.events(), "events");
            let figures = replay::run(&dir, args, |done| bar.set_position(done)).await.map_err(failed)?;
            bar.finish_and_clear();
            print(output, &figures, &figures.lines())
        }
        Bench::Reserve(args) => reserve::run(&dir, args, output).await,
        Bench::FillReservations { open, skus } => {
            reserve::fill_reservations(&dir, *open, *skus, output).await.map(|()| Exit::Done).map_err(failed)
        }
        Bench::Fill { entities } => restart::fill(&dir, *entities, output).await.map(|()| Exit::Done).map_err(failed),
    }
}

fn failed(error: &anyhow::Error) -> Failure {
    Failure::usage("bench", chain(error.as_ref()))
}

/// Writes a configuration without sources and makes a key.
fn prepare_plain(dir: &Path) -> Result<String> {
    std::fs::write(dir.join("lockstep.toml"), "[hub]\nname = \"bench\"\n")?;
    std::fs::create_dir_all(dir.join("data"))?;
    let keys = Keys::open(crate::serve::keys_file(&dir.join("data")))?;
    Ok(keys.create("bench", &[Scope::Write, Scope::Read, Scope::Operate], Some("bench"), Some("bench"))?)
}

/// The secret of every destination.
fn write_secret(dir: &Path) -> Result<()> {
    Ok(std::fs::write(dir.join("out-secret"), "whsec_YmVuY2gtb25seS1zZWNyZXQtYmVuY2gtb25seQ==")?)
}

/// A destination in the configuration, with whatever else it is to say.
fn webhook(name: &str, address: std::net::SocketAddr, more: &str) -> String {
    format!(
        "\n[destinations.{name}]\nkind = \"webhook\"\nsystem = \"{name}\"\nurl = \"http://{address}/in\"\nsecrets = \
         [\"file:out-secret\"]\nallow_private_addresses = true\n{more}"
    )
}

/// An address where nobody listens: a port that was free a moment ago.
fn nobody() -> Result<std::net::SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn print(output: &Output, figures: &impl Serialize, lines: &[(String, String)]) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(figures)?;
    } else {
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in lines {
            output.line(&format!("{name:width$}  {value}"))?;
        }
    }
    Ok(Exit::Done)
}

/// A row of the printed figures.
fn row(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

/// A count with thousands set apart.
fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digit.is_ascii_digit() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as MiB.
fn mib(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / (1024.0 * 1024.0))
}
