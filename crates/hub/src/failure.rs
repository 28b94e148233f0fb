//! What the hub can't do, and why.

use std::path::PathBuf;

use thiserror::Error;

/// Why the hub can't answer now. What was not acknowledged has not happened for the caller.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unavailable {
    /// More waits than the hub is allowed to hold.
    #[error("the hub is saturated: try again in {retry_after_s} s")]
    Saturated {
        /// When to try again.
        retry_after_s: u32,
    },
    /// The disk is full; writes resume by themselves when there is space.
    #[error("the disk of the data folder is full: nothing is accepted until there is space")]
    DiskFull,
    /// A write or sync failed: what is on the disk is uncertain until the hub is started again.
    #[error("the journal is poisoned by a failed write ({0}): the hub must be started again")]
    Poisoned(String),
    /// Together, the decisions are larger than one append can be.
    #[error("what was sent together makes more than the journal can write at once: send it in smaller parts")]
    TooLarge,
    /// The hub is shutting down.
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// A read of the journal or the state file failed.
    #[error("the hub could not read its data: {0}")]
    Read(String),
}

impl Unavailable {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Saturated { .. } => "saturated",
            Self::DiskFull => "disk-full",
            Self::Poisoned(_) => "poisoned",
            Self::TooLarge => "body-too-large",
            Self::ShuttingDown => "shutting-down",
            Self::Read(_) => "read-failed",
        }
    }
}

/// Why a hub can't be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the data folder.
    #[error("the data folder {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The data folder can't be made or locked.
    #[error("the data folder {} can't be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The journal can't be opened.
    #[error("the journal can't be opened")]
    Journal(#[from] lockstep_journal::Error),
    /// The state file can't be opened or read.
    #[error("the state file can't be used")]
    State(#[from] rusqlite::Error),
    /// The state file is of another format than this version knows.
    #[error("the state file {} has format {found}, this version knows {known}; move it away to have it rebuilt", path.display())]
    StateFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The known one.
        known: i64,
    },
    /// The state is ahead of the journal: acknowledged records are missing.
    #[error(
        "the journal ends at record {journal_end} but the state was built up to record {state}: records are missing, restore the journal from a copy"
    )]
    JournalBehind {
        /// The journal's last record.
        journal_end: u64,
        /// The state's position.
        state: u64,
    },
    /// The state file is gone and the journal no longer begins at its first record.
    #[error(
        "the state was built up to record {state} but the journal begins at record {journal_first}: restore the state file from a copy"
    )]
    JournalAhead {
        /// The journal's first kept record.
        journal_first: u64,
        /// The state's position.
        state: u64,
    },
    /// A record can't be read.
    #[error("record {position} of the journal can't be decoded")]
    Record {
        /// Its position.
        position: u64,
        /// The cause.
        #[source]
        source: prost::DecodeError,
    },
    /// An image of stock can't be read.
    #[error("the stock in the state file can't be read; move the file away to have it rebuilt")]
    Stock(#[from] lockstep_core::stock::ImageError),
    /// A thread could not be started.
    #[error("a thread could not be started")]
    Thread(#[source] std::io::Error),
}
