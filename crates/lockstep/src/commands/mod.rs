//! The commands, one file each.

pub mod alert;
pub mod atp;
pub mod check;
pub mod config;
pub mod conflict;
pub mod delivery;
pub mod destination;
pub mod dlq;
pub mod entity;
pub mod events;
pub mod freshness;
pub mod invariants;
pub mod key;
pub mod leakage;
pub mod preference;
mod propagation;
pub mod quarantine;
pub mod replay;
pub mod reservation;
pub mod simulate;
pub mod stock;
pub mod webhook;
pub mod whatif;

use std::path::PathBuf;

use clap::Args;

use crate::config::{CONFIG_FILE, Loaded};
use crate::exit::{Exit, Failure};

/// Which configuration a command is about.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfigArgs {
    /// The configuration; without it `lockstep.toml` of the current folder, where there is one.
    #[arg(long, value_name = "FILE", env = "LOCKSTEP_CONFIG")]
    pub config: Option<PathBuf>,
}

impl ConfigArgs {
    /// The configuration as far as it can be read, with all problems of its shape. `None` where no file is
    /// named and there is none in the current folder.
    pub fn load(&self) -> Result<Option<Loaded>, Failure> {
        let path = match &self.config {
            Some(path) => path.clone(),
            None => {
                let here = PathBuf::from(CONFIG_FILE);
                if !here.exists() {
                    return Ok(None);
                }
                here
            }
        };
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage("configuration", format!("the configuration {} can't be read: {error}", path.display()))
        })?;
        Ok(Some(Loaded::parse(&path, text)))
    }

    /// The data folder of the configuration, or of the defaults.
    pub fn data_dir(&self) -> Result<PathBuf, Failure> {
        match self.load()? {
            None => Ok(crate::config::Config::default().hub.data_dir),
            Some(loaded) => match &loaded.config {
                Some(config) => Ok(loaded.data_dir(config)),
                None => Err(problems(&loaded.problems)),
            },
        }
    }
}

/// A position on the command line.
pub fn position(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a position is a whole number".to_owned())
}

/// A data folder that a command reads without a hub.
#[derive(Clone, Debug, Args)]
pub(crate) struct FolderArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The data folder, where it is not the configuration's.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// A data folder, and what of the configuration goes with it.
pub(crate) struct Folder {
    pub(crate) data_dir: PathBuf,
    pub(crate) limits: lockstep_core::stock::Limits,
    pub(crate) seen_days: u32,
    pub(crate) reservation_days: u32,
    pub(crate) hold_s: u32,
}

impl FolderArgs {
    pub(crate) fn open(&self) -> Result<Folder, Failure> {
        let loaded = self.config.load()?;
        let of = |config: &crate::config::Config, data_dir: PathBuf| Folder {
            data_dir: self.data_dir.clone().unwrap_or(data_dir),
            limits: config.stock.limits(config.hub.clock_skew_max_s),
            seen_days: config.hub.seen_days,
            reservation_days: config.stock.reservation_days(config.hub.seen_days),
            hold_s: config.stock.hold_s,
        };
        match &loaded {
            None => {
                let config = crate::config::Config::default();
                Ok(of(&config, config.hub.data_dir.clone()))
            }
            Some(loaded) => match &loaded.config {
                Some(config) => Ok(of(config, loaded.data_dir(config))),
                None => Err(problems(&loaded.problems)),
            },
        }
    }
}

impl Folder {
    pub(crate) fn not_read(&self, error: &lockstep_hub::OpenError) -> Failure {
        let message =
            format!("the data folder {} can't be read: {}", self.data_dir.display(), crate::exit::chain(error));
        Failure::usage("data-folder", message)
    }
}

/// A write of a command: what makes a repetition of it the same.
#[derive(Clone, Debug, Args)]
pub(crate) struct OnceArgs {
    /// What makes a repetition of this command the same; without it each run is a request of its own.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

impl OnceArgs {
    pub(crate) fn key(&self) -> String {
        self.idempotency_key.clone().unwrap_or_else(|| format!("cli-{:032x}", fastrand::u128(..)))
    }
}

/// A time on the command line.
pub(crate) fn timestamp(text: &str) -> Result<String, String> {
    match lockstep_connect::time::parse_rfc3339(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a time is written as RFC 3339 has it, for example 2026-03-01T09:30:00Z".to_owned()),
    }
}

/// All problems of a configuration as one failure.
pub fn problems(problems: &[crate::config::Problem]) -> Failure {
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    let message = match errors.as_slice() {
        [one] => one.clone(),
        several => format!("the configuration has {} problems:\n  {}", several.len(), several.join("\n  ")),
    };
    Failure { exit: Exit::Usage, code: "configuration".to_owned(), message }
}
