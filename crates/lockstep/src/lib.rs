//! Lockstep: the configuration, the commands, and how everything is wired together.
//!
//! This crate decides nothing about data: it reads the configuration, opens the hub, puts sources, destinations
//! and the API around it, and ends them in order. The commands that speak to a running hub use nothing but its
//! HTTP API.

pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod exit;
pub mod logging;
pub mod output;
pub mod remote;
pub mod serve;
mod show;
pub mod time;
pub mod whatif;

use std::process::ExitCode;

use clap::Parser;

/// The whole program: reads the command line, runs the command, and says by its exit code how it went.
pub fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let json = cli.json;
    match cli::run(cli) {
        Ok(code) => code,
        // Whoever reads the output has enough of it: no fault, and nothing to say.
        Err(failure) if failure.exit == exit::Exit::Done => ExitCode::SUCCESS,
        Err(failure) => {
            if json {
                eprintln!("{}", failure.json());
            } else {
                eprintln!("lockstep: {failure}");
            }
            failure.exit.into()
        }
    }
}

/// Help that was asked for, or a command line that can't be understood: for a program, where it asked for JSON.
fn misused(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json");
    if json && error.use_stderr() {
        eprintln!("{}", cli::usage(error).json());
    } else {
        // Whoever closed the stream does not want it.
        let _ = error.print();
    }
    // clap has no other codes than these two.
    if error.use_stderr() { exit::Exit::Usage.into() } else { exit::Exit::Done.into() }
}
