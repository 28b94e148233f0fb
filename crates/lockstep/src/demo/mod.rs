//! `lockstep demo`: a hub and four systems that end up equal, live.
//!
//! The hub is the real one, on an embedded store in a temporary folder, with its real HTTP API. Around it four
//! simulated systems speak real signed HTTP over loopback, each with a server and a client of its own. At the end
//! every system's copy is compared with the hub's state, entity by entity.
//!
//! | module | is |
//! |---|---|
//! | `world`, `wiring` | the hub and the systems, wired by a configuration file as any hub is |
//! | `systems` | the receiving half, the sending half and the copy of a system |
//! | `traffic` | what the systems make up and when they say it |
//! | `stock` | scarce articles, for which shop and marketplace compete |
//! | `orders` | orders of a file instead, and their sums |
//! | `faults` | what goes wrong on purpose |
//! | `session` | one run: say it, wait until it is settled |
//! | `verdict`, `report` | whether all are equal |
//! | `view`, `screen` | the live table |

mod api;
mod faults;
mod folder;
mod measure;
mod operator;
mod orders;
mod party;
mod report;
mod screen;
mod session;
mod settle;
mod stock;
mod systems;
pub(crate) mod text;
mod traffic;
mod verdict;
mod view;
mod wiring;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::exit::Exit;
use crate::logging::{self, LogFormat};
use folder::Folder;
use orders::file::survey;
use report::Report;
use screen::Screen;
use session::Session;
use world::{Plan, World};

/// Run a hub with four simulated systems around it, and say at the end whether all are equal and nothing was oversold.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How long the systems make changes, such as 30s or 2m.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = text::duration)]
    pub duration: Duration,
    /// How many changes a second they offer, all four together.
    #[arg(long, value_name = "CHANGES", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// What the made-up changes and the faults follow from.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// How many articles, customers and shelves there are.
    #[arg(long, value_name = "NUMBER", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub entities: u32,
    /// Send the orders of this file instead of made-up ones: .csv or .csv.gz in the layout of the UCI Online Retail
    /// set (InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country).
    ///
    /// Each invoice is an order with its own number. One whose number begins with C is a cancellation: an order in
    /// the state cancelled, with its negative quantities. A price with more than two digits after the point is kept
    /// as exact text beside the line. Sent as fast as the hub takes them; --duration, --rate, --entities and --carts do
    /// not matter then.
    #[arg(long, value_name = "FILE")]
    pub orders: Option<PathBuf>,
    /// How many carts a second compete for a few scarce articles, in the shop and the marketplace together; 0 for no such
    /// sale. With --orders there is none: the stock of that shop is not known.
    #[arg(long, value_name = "CARTS", default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=500))]
    pub carts: u32,
    /// Let the systems cut connections, delay, answer 500, repeat and reorder, and be out for a while.
    #[arg(long)]
    pub faults: bool,
    /// Keep everything in this new or empty folder: the hub's configuration and data, and the systems' copies.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// Runs the demo. The exit code is 0 where every copy equals the hub's state and nothing is missing, else 1.
pub async fn run(args: DemoArgs, json: bool) -> anyhow::Result<ExitCode> {
    // A table does not go together with a log; who wants one asks for it.
    if std::env::var_os(logging::FILTER_VARIABLE).is_some_and(|filter| !filter.is_empty()) {
        logging::start(LogFormat::Text)?;
    }
    let surveyed = match args.orders.clone() {
        Some(path) => {
            let read = tokio::task::spawn_blocking(move || survey(&path)).await;
            Some(read.context("reading the orders ended in a panic")??)
        }
        None => None,
    };
    let file_totals = surveyed.as_ref().map(|survey| survey.totals.clone());
    let folder = Folder::new(args.keep.as_deref())?;
    let plan = Plan {
        orders_of_file: args.orders.is_some(),
        faults: args.faults.then_some(args.seed),
        sells: args.orders.is_none() && args.carts > 0,
    };
    let world = World::start(folder.path(), &plan).await?;
    let mut session = Session::new(world, Screen::new(json), title(&args));
    let settled = session.run(&args, surveyed).await?;
    let report = Report::make(&session, settled, file_totals).await?;
    if json {
        println!("{}", report.json(&args));
    } else {
        let colour = session.screen.colour();
        session.screen.last(&report.table(&session, colour)).context("the output can't be written")?;
        session.screen.say(&report.text()).context("the output can't be written")?;
    }
    let exit = if report.is_equal() { Exit::Done } else { Exit::No };
    session.world.stop().await?;
    Ok(exit.into())
}

/// What is run, in a few words.
fn title(args: &DemoArgs) -> String {
    let faults = if args.faults { "   with faults" } else { "" };
    match &args.orders {
        Some(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            format!("orders of {name}   seed {}{faults}", args.seed)
        }
        None => format!("{} changes/s offered   seed {}{faults}", text::grouped(args.rate.into()), args.seed),
    }
}
