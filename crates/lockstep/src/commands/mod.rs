//! The commands, one file each.

pub mod check;
pub mod config;
pub mod conflict;
pub mod dlq;
pub mod entity;
pub mod events;
pub mod key;
pub mod leakage;
pub mod preference;
pub mod quarantine;
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

/// All problems of a configuration as one failure.
pub fn problems(problems: &[crate::config::Problem]) -> Failure {
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    let message = match errors.as_slice() {
        [one] => one.clone(),
        several => format!("the configuration has {} problems:\n  {}", several.len(), several.join("\n  ")),
    };
    Failure { exit: Exit::Usage, code: "configuration".to_owned(), message }
}
