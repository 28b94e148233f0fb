//! `cargo run -p sim --release -- --seeds 0..1000 --steps 300`: see docs/sim.md.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use sim::counts::Counts;
use sim::generate::history;
use sim::run::{Failed, keep_panics_quiet, run};
use sim::shrink::{Shrunk, shrink};

/// Runs the hub in a seeded virtual world, with crashes, disk faults and an unreliable network, and audits it.
#[derive(Parser)]
struct Options {
    /// Runs this seed only
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs the seeds from A up to before B
    #[arg(long, value_name = "A..B", value_parser = range, default_value = "0..100")]
    seeds: Range<u64>,
    /// Operations of each seed
    #[arg(long, default_value_t = 300)]
    steps: usize,
    /// Begins no further seed after so many seconds
    #[arg(long, value_name = "SECONDS")]
    time_s: Option<u64>,
    /// Seeds at a time; each runs on one thread [default: as many as there are cores]
    #[arg(long)]
    jobs: Option<usize>,
    /// Histories tried to shorten a failing one
    #[arg(long, default_value_t = 3000)]
    shrink_tries_max: usize,
    /// Prints the operations of the seed instead of running it
    #[arg(long, requires = "seed")]
    history: bool,
    /// Prints one JSON object instead of text
    #[arg(long)]
    json: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wanted = || format!("`{text}` must be a range of numbers like 0..100");
    let (from, to) = text.split_once("..").ok_or_else(wanted)?;
    let range = from.parse().map_err(|_| wanted())?..to.parse().map_err(|_| wanted())?;
    if range.is_empty() { Err(wanted()) } else { Ok(range) }
}

/// What came of all seeds.
#[derive(Default)]
struct Results {
    counts: Counts,
    /// All journals' hashes in one, whatever the order: the same seeds make the same one on every machine.
    digest: u64,
    broken: Vec<Broken>,
}

/// A seed that broke something.
struct Broken {
    seed: u64,
    first: Failed,
    shrunk: Shrunk,
}

fn main() -> ExitCode {
    let options = Options::parse();
    keep_panics_quiet();
    let seeds = options.seed.map_or(options.seeds.clone(), |seed| seed..seed + 1);
    if options.history {
        let (setup, ops) = history(seeds.start, options.steps);
        println!("{setup:?}");
        ops.iter().enumerate().for_each(|(at, op)| println!("{at:>5}  {op}"));
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    let Results { counts, digest, broken } = run_all(&options, seeds);
    if options.json {
        let failures: Vec<Value> = broken.iter().map(|b| failure_json(b, options.steps)).collect();
        let digest = format!("{digest:016x}");
        println!("{}", json!({ "counts": counts.json(), "digest": digest, "failures": failures }));
    } else {
        broken.iter().for_each(|b| print_failure(b, options.steps));
        for (name, count) in counts.rows() {
            println!("{:<16} {count:>10}", name.replace('_', " "));
        }
        println!("{:<16} {digest:016x}", "digest");
        println!("{:<16} {:>10.1}", "seconds", began.elapsed().as_secs_f64());
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs seeds side by side up to the first that breaks something.
fn run_all(options: &Options, seeds: Range<u64>) -> Results {
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let deadline = options.time_s.map(|s| Instant::now() + Duration::from_secs(s));
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new(Results::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while deadline.is_none_or(|deadline| Instant::now() < deadline) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let (setup, ops) = history(seed, options.steps);
                    let result = run(&setup, &ops);
                    let (counts, digest, broken) = match result {
                        Ok(passed) => (passed.counts, passed.digest, None),
                        Err(first) => {
                            // No further seed is begun.
                            next.store(seeds.end, Ordering::Relaxed);
                            let shrunk = shrink(&setup, &ops, first.clone(), options.shrink_tries_max);
                            ((*first.counts).clone(), 0, Some(Broken { seed, first, shrunk }))
                        }
                    };
                    if let Ok(mut results) = results.lock() {
                        results.counts.add(&counts);
                        results.digest ^= digest;
                        results.broken.extend(broken);
                    }
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn again(broken: &Broken, steps: usize) -> String {
    format!("cargo run -p sim --release -- --seed {} --steps {steps}", broken.seed)
}

fn print_failure(broken: &Broken, steps: usize) {
    let Broken { seed, first, shrunk } = broken;
    println!("seed {seed} broke a promise at step {}: {}", first.step, first.violation);
    println!("again: {}", again(broken, steps));
    println!(
        "the shortest history found in {} tries has {} steps and ends with: {}",
        shrunk.tried,
        shrunk.ops.len(),
        shrunk.failed.violation
    );
    shrunk.ops.iter().enumerate().for_each(|(at, op)| println!("{at:>5}  {op}"));
    if shrunk.failed.step >= shrunk.ops.len() {
        println!("       then everything heals and is delivered");
    }
    println!("setup: {:?}\n", history(*seed, 0).0);
}

fn failure_json(broken: &Broken, steps: usize) -> Value {
    let Broken { seed, first, shrunk } = broken;
    json!({
        "seed": seed,
        "step": first.step,
        "promise": first.violation.code,
        "detail": first.violation.detail,
        "again": again(broken, steps),
        "setup": format!("{:?}", history(*seed, 0).0),
        "shortened": {
            "tried": shrunk.tried,
            "detail": shrunk.failed.violation.detail,
            "history": shrunk.ops.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
    })
}
