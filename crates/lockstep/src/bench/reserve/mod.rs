//! `bench reserve`: stock reserved over gRPC, durable before the answer, beside what PostgreSQL does with the same.

mod alone;
mod calls;
mod figures;
mod open;
#[cfg(feature = "postgres")]
mod postgres;
mod work;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use self::alone::Alone;
use self::calls::Caller;
use self::figures::{CaseFigures, Compared, ReserveFigures};
use self::work::{Case, sell};
use super::child::Serving;
use super::disk::raw_limit;
use super::prepare_plain;
use crate::exit::Exit;
use crate::output::Output;

pub(super) use open::fill as fill_reservations;

/// What is measured.
#[derive(Debug, Args)]
pub(super) struct ReserveArgs {
    /// How many clients, each with a connection of its own and one request at a time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    clients: u64,
    /// How long each case runs.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Over how many SKUs; orders take five of them.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(5..=10_000_000))]
    skus: u64,
    /// How many reservations of each case are given to the hub alone, without a network; 0 leaves that out.
    #[arg(long, default_value_t = 300_000)]
    alone: u64,
    /// The same on a PostgreSQL, in the same run: a database of its own, whose tables `lockstep_bench_...` are made
    /// anew. Needs a build with `--features postgres`; `cargo xtask bench-postgres` does all of it.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Instead: so many open reservations over the SKUs. Memory, the time to restart, and availability with them.
    #[arg(long, value_name = "NUMBER")]
    open: Option<u64>,
}

/// Runs it and prints what was measured.
pub(super) async fn run(dir: &Path, args: &ReserveArgs, output: &Output) -> Result<Exit, crate::exit::Failure> {
    let failed = |error: anyhow::Error| super::failed(&error);
    match args.open {
        Some(open) => {
            let figures = open::run(dir, (args.clients, args.seconds), open, args.skus).await.map_err(failed)?;
            super::print(output, &figures, &figures.lines())
        }
        None => {
            let figures = sold(dir, args).await.map_err(failed)?;
            super::print(output, &figures, &figures.lines())
        }
    }
}

async fn sold(dir: &Path, args: &ReserveArgs) -> Result<ReserveFigures> {
    let length = Duration::from_secs(args.seconds);
    let alone = match args.alone {
        0 => None,
        reservations => Some(alone::run(dir, args.skus, reservations).await?),
    };
    let ([hot, spread, orders], held) = over_grpc(dir, args, length).await?;
    // What a client waits for is a sync that it may share with all others.
    let bytes = alone.as_ref().map_or(300.0, |alone: &Alone| alone.spread_records * alone.record_bytes);
    let raw = raw_limit(dir, args.clients as f64, (args.clients as f64 * bytes) as usize)?;
    let postgres = match &args.postgres {
        Some(url) => Some(compared(url, args, length, [&hot, &spread, &orders]).await?),
        None => None,
    };
    Ok(ReserveFigures {
        clients: args.clients,
        skus: args.skus,
        seconds: args.seconds,
        hot_by_spread: hot.rate.reservations_per_s / spread.rate.reservations_per_s,
        ratio_to_raw: hot.rate.reservations_per_s / raw.records_per_s,
        hot,
        spread,
        orders,
        held,
        alone,
        raw,
        postgres,
    })
}

/// All cases against the real binary; gives also how many lines it holds in the end, which is what clients were told.
async fn over_grpc(dir: &Path, args: &ReserveArgs, length: Duration) -> Result<([CaseFigures; Case::ALL.len()], u64)> {
    let key = prepare_plain(dir)?;
    let mut serving = Serving::start(&dir.join("lockstep.toml"), &dir.join("data")).await?;
    let address = serving.grpc().await?;
    let mut counting = tokio::task::JoinSet::new();
    for (lane, mut caller) in (0..).zip(callers(address, &key, "count", args.clients).await?) {
        let (skus, step) = (args.skus, usize::try_from(args.clients)?);
        counting.spawn(async move {
            if lane == 0 {
                caller.open_channel().await?;
            }
            caller.count((lane..skus).step_by(step)).await
        });
    }
    while let Some(counted) = counting.join_next().await {
        counted.context("counting failed")??;
    }
    let mut all = Vec::with_capacity(Case::ALL.len());
    let mut lines = 0;
    for case in Case::ALL {
        let sellers = callers(address, &key, case.name(), args.clients).await?;
        let before = serving.cpu_seconds();
        let (rate, told) = sell(sellers, case, args.skus, length).await?;
        lines += told.lines;
        let hub_cpu = serving.cpu_seconds() - before;
        // The CPU time includes the first tenth, whose answers do not count.
        let reservations = rate.reservations_per_s * args.seconds as f64;
        all.push(CaseFigures { rate, hub_cpu_us: hub_cpu / reservations * 1e6 });
    }
    let held = Caller::connect(address, &key, "check".to_owned()).await?.held(args.skus).await?;
    if held != lines {
        anyhow::bail!("the hub holds {held} for {lines} lines that clients were told of");
    }
    Ok((all.try_into().map_err(|_| anyhow::anyhow!("a case was not measured"))?, held))
}

/// Clients, connected.
async fn callers(address: SocketAddr, key: &str, name: &str, clients: u64) -> Result<Vec<Caller>> {
    let mut callers = Vec::new();
    for lane in 0..clients {
        callers.push(Caller::connect(address, key, format!("{name}-{lane}")).await?);
    }
    Ok(callers)
}

#[cfg(feature = "postgres")]
async fn compared(url: &str, args: &ReserveArgs, length: Duration, hub: [&CaseFigures; 3]) -> Result<Compared> {
    let server = postgres::server(url).await?;
    let mut held = 0;
    let mut ways: Vec<[work::Rate; postgres::Way::ALL.len()]> = Vec::new();
    for case in Case::ALL {
        let mut rates = Vec::new();
        for way in postgres::Way::ALL {
            let sellers = postgres::sellers(url, case, way, (args.skus, args.clients)).await?;
            let (rate, told) = sell(sellers, case, args.skus, length).await?;
            postgres::check(url, told).await?;
            rates.push(rate);
            held += told.lines;
        }
        ways.push(rates.try_into().map_err(|_| anyhow::anyhow!("a way was not measured"))?);
    }
    let [hot, spread, orders]: [_; 3] = ways.try_into().map_err(|_| anyhow::anyhow!("a case was not measured"))?;
    Ok(Compared::new((server, held), [hot, spread, orders], hub))
}

#[cfg(not(feature = "postgres"))]
#[allow(clippy::unused_async, reason = "the other one waits")]
async fn compared(_: &str, _: &ReserveArgs, _: Duration, _: [&CaseFigures; 3]) -> Result<Compared> {
    anyhow::bail!("this build can't speak to PostgreSQL: build it with `--features postgres`")
}
