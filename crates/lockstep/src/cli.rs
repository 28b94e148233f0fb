//! The command line: one list of commands, each in its own file of `commands/`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::bench::{self, BenchArgs};
use crate::commands::{
    alert, atp, check, config, conflict, delivery, destination, dlq, entity, events, freshness, invariants, key,
    leakage, preference, quarantine, replay, reservation, simulate, stock, webhook, whatif,
};
use crate::demo::{self, DemoArgs};
use crate::exit::{Exit, Failure, chain};
use crate::output::Output;
use crate::serve;

/// Keeps orders, stock, prices, products and customers in step in every system, live.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep",
    version,
    max_term_width = 110,
    after_help = "Example:\n  lockstep config example > lockstep.toml\n  lockstep check\n  lockstep serve\n\nExit codes: 0 done, 1 the answer is no, 2 usage, configuration or start, 3 hub unreachable, 4 refused."
)]
pub struct Cli {
    /// Print JSON: one document, or one a line for lists.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the hub.
    #[command(
        after_help = "Example:\n  lockstep serve --config lockstep.toml\n\nThe first line of output names the address. SIGTERM or SIGINT ends it in order: what was accepted is\nsynced and answered. A second signal ends it at once; nothing acknowledged is lost by that either."
    )]
    Serve(serve::ServeArgs),
    /// Run a hub with four simulated systems around it, and say at the end whether all are equal and nothing was oversold.
    #[command(after_help = "Example:\n  lockstep demo --duration 30s --rate 2000\n  lockstep demo --faults")]
    Demo(DemoArgs),
    /// Measure what this machine does with it, beside what its disk does alone.
    #[command(after_help = "Example:\n  lockstep bench hub")]
    Bench(BenchArgs),
    /// Check the configuration, its mappings and its packs; report every problem with file and line.
    #[command(after_help = "Example:\n  lockstep check --config lockstep.toml")]
    Check(check::CheckArgs),
    /// Run the kept history through another configuration and say what would be different. Writes nothing.
    #[command(
        after_help = "Example:\n  lockstep whatif --config other.toml --from 1\n  lockstep whatif --config other.toml --from 90000 --kind order --json\n\nExit codes: 0 nothing would be different, 1 something would be."
    )]
    Whatif(whatif::WhatifArgs),
    /// Print the configuration's JSON Schema, or an example of a configuration.
    #[command(after_help = "Example:\n  lockstep config example > lockstep.toml")]
    Config(config::ConfigCommandArgs),
    /// Read events: what the hub has published.
    #[command(after_help = "Example:\n  lockstep events tail --kind order")]
    Events(events::EventsArgs),
    /// Read an entity: its document, its history, and why each field is what it is.
    #[command(after_help = "Example:\n  lockstep entity explain order/web:1001")]
    Entity(entity::EntityArgs),
    /// Look at deliveries that were authentic but not understood, and release them.
    #[command(after_help = "Example:\n  lockstep quarantine list")]
    Quarantine(quarantine::QuarantineArgs),
    /// Look at destinations (what was delivered, what is pending, why one is down or paused), and pause one.
    #[command(after_help = "Example:\n  lockstep destination list")]
    Destination(destination::DestinationArgs),
    /// Look at how deliveries go, and check that nothing is lost.
    #[command(after_help = "Example:\n  lockstep delivery list\n  lockstep delivery audit")]
    Delivery(delivery::DeliveryArgs),
    /// Say how fresh each domain with a limit is, in the hub and at each destination.
    #[command(
        after_help = "Example:\n  lockstep freshness --domain order\n\nExit codes: 0 everything is current, 1 something is delayed, partial or unreliable."
    )]
    Freshness(freshness::FreshnessArgs),
    /// Look at alerts, acknowledge and silence them.
    #[command(after_help = "Example:\n  lockstep alert list")]
    Alert(alert::AlertArgs),
    /// Look at deliveries that were given up (dead letters), retry or discard them.
    #[command(after_help = "Example:\n  lockstep dlq list --destination erp")]
    Dlq(dlq::DlqArgs),
    /// Send events once more to one destination, from a position or a time or as the state is now.
    #[command(after_help = "Example:\n  lockstep replay start search --from-time 2026-03-01T00:00:00Z")]
    Replay(replay::ReplayArgs),
    /// Look at fields of which systems disagree (policy `review`), and decide them.
    #[command(after_help = "Example:\n  lockstep conflict list")]
    Conflict(conflict::ConflictArgs),
    /// List, set and clear the systems that are always preferred for a field (policy `review`).
    #[command(after_help = "Example:\n  lockstep preference list")]
    Preference(preference::PreferenceArgs),
    /// Say what a channel may sell of SKUs, and with --explain why: every term of the equation and who is behind it.
    #[command(
        after_help = "Example:\n  lockstep atp MUG-01 MUG-02 --channel web --explain\n\nExit codes: 0 something of each can be sold, 1 of one or more nothing can."
    )]
    Atp(atp::AtpArgs),
    /// Look at stock: what lies where, who holds it, what happened; count it and move it by hand.
    #[command(after_help = "Example:\n  lockstep stock show MUG-01 berlin")]
    Stock(stock::StockArgs),
    /// Reserve stock for a cart or an order, all or nothing.
    #[command(
        after_help = "Example:\n  lockstep reserve MUG-01=2 TEE-M=1@berlin --channel web --expires 15m --id cart-7 --idempotency-key k-7\n\nExit codes: 0 reserved (now or before), 1 there is not enough: what falls short is printed line by line."
    )]
    Reserve(reservation::ReserveArgs),
    /// Make a hold last: it does not expire any more.
    #[command(after_help = "Example:\n  lockstep commit cart-7")]
    Commit(reservation::StepArgs),
    /// Give a reservation back: all that is open of it, or a part of a line.
    #[command(after_help = "Example:\n  lockstep release cart-7\n  lockstep release cart-7 --line 0=1")]
    Release(reservation::ReleaseArgs),
    /// Try reservations on a copy of the stock of a data folder: what would be taken, what falls short. Writes nothing.
    #[command(
        after_help = "Example:\n  lockstep simulate flash-sale.csv --channel web\n  lockstep simulate requests.json --json\n\nExit codes: 0 everything would be reserved, 1 something falls short."
    )]
    Simulate(simulate::SimulateArgs),
    /// Check the invariants of stock and orders over a data folder.
    #[command(after_help = "Example:\n  lockstep invariants check")]
    Invariants(invariants::InvariantsArgs),
    /// Make and check the signatures of webhooks, without a hub.
    #[command(after_help = "Example:\n  lockstep webhook sign --scheme shopify --secret env:SHOP_SECRET order.json")]
    Webhook(webhook::WebhookArgs),
    /// Say what selling the same item twice costs a day at a synchronization interval, and at the lag of this hub.
    #[command(
        after_help = "Example:\n  lockstep leakage --orders-per-day 500 --interval 15m --order-value 1500 --oversell-rate 2% --lifetime-value 8000 --churn 30%\n  lockstep leakage --lag 50ms --json"
    )]
    Leakage(leakage::LeakageArgs),
    /// Make, list and revoke API keys.
    #[command(after_help = "Example:\n  lockstep key create --name erp --scopes read,write --system erp")]
    Key(key::KeyArgs),
}

/// Runs a command.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let output = Output::new(cli.json);
    let exit = match cli.command {
        Command::Demo(args) => return simulate(args, cli.json),
        Command::Bench(args) => all_cores()?.block_on(bench::run(&args, &output)),
        Command::Serve(args) => serve::run(&args, &output),
        Command::Check(args) => check::run(&args, &output),
        Command::Whatif(args) => whatif::run(&args, &output),
        Command::Config(args) => config::run(&args, &output),
        Command::Webhook(args) => webhook::run(&args, &output),
        Command::Key(args) => key::run(&args, &output),
        Command::Leakage(args) => wait(leakage::run(&args, &output)),
        Command::Simulate(args) => simulate::run(&args, &output),
        Command::Invariants(args) => invariants::run(&args, &output),
        Command::Events(args) => wait(events::run(&args, &output)),
        Command::Entity(args) => wait(entity::run(&args, &output)),
        Command::Quarantine(args) => wait(quarantine::run(&args, &output)),
        Command::Destination(args) => wait(destination::run(&args, &output)),
        Command::Delivery(args) => wait(delivery::run(&args, &output)),
        Command::Freshness(args) => wait(freshness::run(&args, &output)),
        Command::Alert(args) => wait(alert::run(&args, &output)),
        Command::Dlq(args) => wait(dlq::run(&args, &output)),
        Command::Replay(args) => wait(replay::run(&args, &output)),
        Command::Conflict(args) => wait(conflict::run(&args, &output)),
        Command::Preference(args) => wait(preference::run(&args, &output)),
        Command::Atp(args) => wait(atp::run(&args, &output)),
        Command::Stock(args) => wait(stock::run(&args, &output)),
        Command::Reserve(args) => wait(reservation::reserve(&args, &output)),
        Command::Commit(args) => wait(reservation::commit(&args, &output)),
        Command::Release(args) => wait(reservation::release(&args, &output)),
    }?;
    Ok(exit.into())
}

/// A command line that can't be understood, in one sentence.
pub fn usage(error: &clap::Error) -> Failure {
    use clap::error::ErrorKind;
    let missing = [ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ErrorKind::MissingSubcommand];
    let message = if missing.contains(&error.kind()) {
        "a command is missing: `--help` lists them".to_owned()
    } else {
        // What comes after it is for a person who is to read on.
        let text = error.render().to_string();
        let said = text.split("\n\nUsage:").next().unwrap_or_default().split("\n\nFor more information").next();
        let words: Vec<_> = said.unwrap_or_default().trim_start_matches("error: ").split_whitespace().collect();
        words.join(" ")
    };
    Failure::usage("usage", message)
}

fn simulate(args: DemoArgs, json: bool) -> Result<ExitCode, Failure> {
    all_cores()?.block_on(demo::run(args, json)).map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::usage("demo", chain(error.as_ref())),
    })
}

/// A runtime for what computes much.
fn all_cores() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().build().map_err(no_runtime)
}

/// Runs what speaks to a hub: on one thread, as it waits most of the time.
fn wait(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(no_runtime)?.block_on(command)
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::usage("runtime", format!("the runtime can't be started: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_takes_json() {
        fn walk(command: &clap::Command, path: &str) {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "`{path}` has no example:\n{help}");
            assert!(help.contains("--json"), "`{path}` takes no --json");
            assert!(command.get_about().is_some(), "`{path}` does not say what it does");
            for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
                walk(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        let mut command = Cli::command();
        command.build();
        walk(&command, "lockstep");
    }
}
