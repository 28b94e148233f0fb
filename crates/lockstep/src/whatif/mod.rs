//! What would be different: the kept history, run through other mappings and rules.
//!
//! On one side stands what really happened, folded from the journal; on the other what the core decides when each
//! delivery is translated by the other mappings and merged by the other rules. Nothing is written.
//!
//! In memory are the entities that the range touches, twice, within [`Range::bytes_max`]. Which ones that are is found
//! out first, so that of what is before the range nothing else has to be held.

mod delivery;
mod history;
mod other;
mod report;
mod run;
mod sides;

use lockstep_core::{ChangeError, Position, Refusal};
use thiserror::Error;

pub use history::History;
pub use other::Other;
pub use report::{
    Change, EntityDifference, FieldCount, FieldDifference, NewlyQuarantined, NewlyUnderstood, Said, Summary,
};

use run::Run;
use sides::Sides;

/// The most memory that entities take, where nothing else is asked for: it is a guest on the hub's machine.
pub const BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The most deliveries of each list of an answer; all of them are counted.
pub const LISTED_MAX: usize = 100_000;

/// Which part of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// From this record on.
    pub from: Position,
    /// Up to this one; without it to the end.
    pub to: Option<Position>,
    /// Only entities of this kind.
    pub kind: Option<String>,
    /// The most memory that the entities may take, about.
    pub bytes_max: usize,
}

impl Range {
    /// Everything from a record on.
    pub fn from(from: Position) -> Self {
        Self { from, to: None, kind: None, bytes_max: BYTES_MAX }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum WhatIfError {
    /// The journal failed.
    #[error("the journal can't be read")]
    Journal(#[from] lockstep_journal::Error),
    /// A record can't be decoded.
    #[error("record {position} can't be decoded")]
    Record {
        /// Its position.
        position: Position,
        /// The cause.
        #[source]
        source: lockstep_journal::Source,
    },
    /// A recorded change is not one that this version takes.
    #[error("the change of record {position} can't be proposed again")]
    Change {
        /// Its position.
        position: Position,
        /// The cause.
        #[source]
        source: ChangeError,
    },
    /// A recorded change is refused.
    #[error("the delivery of record {position} is refused")]
    Refused {
        /// Its position.
        position: Position,
        /// The cause.
        #[source]
        source: Refusal,
    },
    /// The range begins after the last record.
    #[error("the journal has the records {first} to {last}: nothing begins at {from}")]
    Beyond {
        /// What was asked for.
        from: Position,
        /// The first one that is kept.
        first: Position,
        /// The last one.
        last: Position,
    },
    /// The range ends before it begins.
    #[error("the range ends at {to}, before it begins at {from}")]
    Backwards {
        /// Its beginning.
        from: Position,
        /// Its end.
        to: Position,
    },
    /// The range touches too much to hold.
    #[error(
        "the entities that are touched from record {from} on take more than {} MiB: begin later, end earlier, ask for \
         one kind, or allow more with --memory-mib",
        bytes_max >> 20
    )]
    TooMuch {
        /// Where it began.
        from: Position,
        /// What is allowed.
        bytes_max: usize,
    },
}

/// What would be different.
pub struct Answer {
    /// In numbers.
    pub summary: Summary,
    /// Deliveries that were understood and would be quarantined, the first ones.
    pub newly_quarantined: Vec<NewlyQuarantined>,
    /// Deliveries that are in quarantine and would be understood, the first ones.
    pub newly_understood: Vec<NewlyUnderstood>,
    sides: Sides,
}

impl Answer {
    /// The entities that differ, in order of kind and key.
    pub fn differences(&self) -> impl Iterator<Item = EntityDifference> + '_ {
        self.sides.ids().into_iter().filter_map(|id| self.sides.compare(id).0)
    }
}

/// Runs the history through the other configuration. `progress` is told how many records of how many are done.
pub fn ask(
    history: &mut History,
    other: &Other,
    range: &Range,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Answer, WhatIfError> {
    let kept = history.bounds();
    let summary = Summary { from: range.from.max(kept.first), kept_from: kept.first, ..Summary::default() };
    let mut run = Run::new(other, range, summary);
    if kept.is_empty() {
        return Ok(run.answer());
    }
    let last = kept.next - 1;
    if range.from > last {
        return Err(WhatIfError::Beyond { from: range.from, first: kept.first, last });
    }
    let to = range.to.unwrap_or(last).min(last);
    if to < run.summary.from {
        return Err(WhatIfError::Backwards { from: run.summary.from, to });
    }
    let (from, to) = delivery::widen(history, run.summary.from, to)?;
    (run.summary.from, run.summary.to) = (from, to);
    let (before, within) = (from - kept.first, to - from + 1);
    // What is before the range is read only where there is something.
    let all = within + if before > 0 { within + before } else { 0 };
    let mut done = 0;
    let mut step = |_| {
        done += 1;
        progress(done, all);
    };
    if before > 0 {
        run.begin(history, kept.first, &mut step)?;
    }
    let mut records = 0;
    let seen = |position| {
        records += 1;
        step(position);
    };
    delivery::each(history, from, to, seen, |delivery| run.delivery(delivery))?;
    run.summary.records = records;
    Ok(run.answer())
}

#[cfg(test)]
mod tests;
