//! What can go wrong, each with one stable meaning.

use std::path::PathBuf;

use crate::{Epoch, Position};

/// The cause beneath an [`Error`].
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// A failure of a journal or of its reader.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another owner has taken the journal over. The one who sees this must stop writing.
    #[error("epoch {epoch} may not write to the journal: it belongs to epoch {current}")]
    Fenced {
        /// The epoch that tried.
        epoch: Epoch,
        /// The epoch that owns the journal.
        current: Epoch,
    },
    /// The position is no longer kept.
    #[error("position {position} is no longer kept: the journal begins at {first}")]
    Trimmed {
        /// The position asked for.
        position: Position,
        /// The first one that is kept.
        first: Position,
    },
    /// What is stored is not what was written.
    #[error("{} is damaged at position {position}: {what}", segment.display())]
    Corrupt {
        /// The damaged file.
        segment: PathBuf,
        /// The position from which on this file cannot be trusted.
        position: Position,
        /// What does not fit.
        what: String,
        /// The cause beneath, where there is one.
        #[source]
        source: Option<Source>,
    },
    /// Records are missing between, before or after the files that are there.
    #[error(
        "{} lacks the segment that begins at position {position}{}",
        dir.display(),
        found.map(|found| format!(": the next one there begins at {found}")).unwrap_or_default()
    )]
    MissingSegment {
        /// The journal's folder.
        dir: PathBuf,
        /// The first position that is missing.
        position: Position,
        /// Where the next segment that is there begins; `None` where there is none.
        found: Option<Position>,
    },
    /// No room on the disk. Nothing was written; the same call may be tried again.
    #[error("no room on the disk for the journal: nothing was written")]
    Full {
        /// The cause beneath.
        #[source]
        source: Source,
    },
    /// The batch is larger than a journal takes. Nothing was written.
    #[error("a batch of {bytes} bytes is too large for the journal: at most {bytes_max} are taken")]
    TooLarge {
        /// The bytes of the batch.
        bytes: usize,
        /// The most that is taken.
        bytes_max: usize,
    },
    /// An earlier write or sync failed, so that what is on the disk is not known. Open the journal
    /// again to find out.
    #[error("the journal refuses to write since a write or sync failed; open it again ({cause})")]
    Poisoned {
        /// The failure that poisoned it, with its whole chain of causes.
        cause: String,
    },
    /// The file was written by another program or by a later version.
    #[error("{} has {found}, but this version reads {known}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
        /// What is understood.
        known: String,
    },
    /// A file or folder could not be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file or folder.
        path: PathBuf,
        /// The cause beneath.
        #[source]
        source: Source,
    },
    /// Reading or writing failed.
    #[error("cannot {what}")]
    Io {
        /// What was being done, as in "sync the folder".
        what: String,
        /// The cause beneath.
        #[source]
        source: Source,
    },
}

impl Error {
    /// A short name that never changes, for programs to match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Fenced { .. } => "journal_fenced",
            Self::Trimmed { .. } => "journal_trimmed",
            Self::Corrupt { .. } => "journal_corrupt",
            Self::MissingSegment { .. } => "journal_missing_segment",
            Self::Full { .. } => "journal_full",
            Self::TooLarge { .. } => "journal_batch_too_large",
            Self::Poisoned { .. } => "journal_poisoned",
            Self::UnknownFormat { .. } => "journal_unknown_format",
            Self::Open { .. } => "journal_open",
            Self::Io { .. } => "journal_io",
        }
    }

    /// Whether nothing was written and the same call may be tried again later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. })
    }

    /// The whole chain of causes in one line, for a cause that must outlive its error.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        // A full disk keeps its own meaning wherever it is met: it passes by itself.
        if source.kind() == std::io::ErrorKind::StorageFull {
            Self::Full { source: source.into() }
        } else {
            Self::Io { what: what.into(), source: source.into() }
        }
    }
}
