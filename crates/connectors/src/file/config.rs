//! The configuration of a file destination.

use std::path::Path;

use lockstep_connect::destination::Filter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::webhook::TIMEOUT_MS_MAX;

/// A destination that appends each event to a file as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The folder of the files, relative to the configuration; it is made where it is not there.
    #[schemars(length(min = 1))]
    pub folder: String,
    /// What the files' names begin with, for example `orders` of `orders-20260301T090000.000Z.jsonl`.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// Which events go there; all of them without it.
    #[serde(default)]
    pub filter: Filter,
    /// A file with a VRL mapping, which makes what is kept out of the CloudEvent: the line is then
    /// `{"id": "<event id>", "data": <what the mapping comes to>}`; `null` keeps the event back. Without it the line is
    /// the CloudEvent.
    #[serde(default)]
    pub mapping: Option<String>,
    /// A file does not grow beyond this many bytes, unless a single line does: then the next one begins.
    #[serde(default = "rotate_bytes_max")]
    #[schemars(range(min = 1))]
    pub rotate_bytes_max: u64,
    /// After so many seconds the next line begins a new file; 0: time begins none.
    #[serde(default = "rotate_after_s")]
    pub rotate_after_s: u64,
    /// How long a line may take to be on the disk.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 1, max = TIMEOUT_MS_MAX))]
    pub timeout_ms: u64,
    /// How many lines may be under way at once; they share one sync of the disk.
    #[serde(default = "concurrency_max")]
    #[schemars(range(min = 1))]
    pub concurrency_max: u32,
}

fn prefix() -> String {
    "events".to_owned()
}

fn rotate_bytes_max() -> u64 {
    64 * 1_024 * 1_024
}

fn rotate_after_s() -> u64 {
    86_400
}

fn timeout_ms() -> u64 {
    10_000
}

fn concurrency_max() -> u32 {
    256
}

/// Why a file destination cannot be made.
#[derive(Debug, Error)]
#[error("`{field}` {problem}")]
pub struct FileConfigError {
    /// The field.
    pub field: &'static str,
    /// What would be right.
    pub problem: String,
}

impl FileConfig {
    /// Everything that can be said without touching the disk: what is wrong with it, if anything.
    pub fn check(&self) -> Result<(), FileConfigError> {
        let wrong = |field, problem: String| Err(FileConfigError { field, problem });
        if self.folder.is_empty() {
            return wrong("folder", "must not be empty".to_owned());
        }
        let is_good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if self.prefix.is_empty() || self.prefix.len() > 100 || !self.prefix.bytes().all(is_good) {
            let problem = format!("must be up to 100 letters, digits, `.`, `_` and `-`, not `{}`", self.prefix);
            return wrong("prefix", problem);
        }
        let concurrency_max = u64::from(self.concurrency_max);
        for (field, value, max) in [
            ("rotate_bytes_max", self.rotate_bytes_max, u64::MAX),
            ("timeout_ms", self.timeout_ms, TIMEOUT_MS_MAX),
            ("concurrency_max", concurrency_max, 10_000),
        ] {
            if value == 0 || value > max {
                return wrong(field, format!("must be from 1 to {max}, not {value}"));
            }
        }
        Ok(())
    }

    /// Has a relative folder lie below this one.
    pub fn set_base(&mut self, base: &Path) {
        self.folder = base.join(&self.folder).display().to_string();
    }
}
