//! Everything that is run around the code: one runner for a desk and for CI, so that what passes
//! on one passes on the other. `cargo xtask help` lists the commands.

mod changelog;
mod ci;
mod fragments;
mod metadata;
mod postgres;
mod python;
mod run;
mod services;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::bail;

const HELP: &str = "\
cargo xtask <command>

  tidy [--only NAME]...   formatting, lints, docs, crate arrows, purity of core, licences, text
                          rules and changelog fragments; prints every problem
                          `tidy --list` names the checks
  services                installs what the tests need besides Rust
  test [-- ARGS]          services, the real binary, then every test; ARGS go to `cargo test`
  ci                      tidy, test and a short demo: all that CI runs
  bench-postgres [ARGS]   installs PostgreSQL 15 from Debian, starts one of its own, and runs
                          `lockstep bench reserve` beside it; ARGS go to that. `--debug` before
                          them: the debug build, only to see that it works
  changelog [VERSION]     moves the fragments of changelog.d/ into CHANGELOG.md as one release
                          (default: the workspace's version)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command and says whether everything it looked at was in order.
fn dispatch(arguments: &[String]) -> anyhow::Result<bool> {
    let root = run::root()?;
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", arguments),
    };
    match command {
        "tidy" => tidy::command(&root, rest),
        "services" => {
            nothing_after(command, rest)?;
            services::command(&root)
        }
        "test" => test::command(&root, rest),
        "ci" => {
            nothing_after(command, rest)?;
            ci::command(&root)
        }
        "bench-postgres" => postgres::command(&root, rest),
        "changelog" => changelog::command(&root, rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(true)
        }
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}

fn nothing_after(command: &str, rest: &[String]) -> anyhow::Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(first) => bail!("`{command}` takes no arguments, got `{first}`"),
    }
}
