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
mod sides;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{ChangeError, InputBody, Position, QuarantineReason, Refusal};
use thiserror::Error;

pub use history::History;
pub use other::Other;
pub use report::{
    Change, EntityDifference, FieldCount, FieldDifference, NewlyQuarantined, NewlyUnderstood, Said, Summary,
};

use delivery::{Delivery, Was};
use other::How;
use sides::Sides;

/// The most memory that entities take, where nothing else is asked for: it is a guest on the hub's machine.
pub const BYTES_MAX: usize = 1024 * 1024 * 1024;
/// What the name of an entity takes beside its text while names are collected, about.
const ID_BYTES: usize = 64;

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
    let mut run = Run {
        other,
        kind: range.kind.as_deref(),
        bytes_max: range.bytes_max,
        sides: Sides::new(other.rules()),
        summary: Summary { from: range.from.max(kept.first), kept_from: kept.first, ..Summary::default() },
        newly_quarantined: Vec::new(),
        waiting: BTreeMap::new(),
        understood: BTreeSet::new(),
    };
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

struct Run<'a> {
    other: &'a Other,
    kind: Option<&'a str>,
    bytes_max: usize,
    sides: Sides,
    summary: Summary,
    newly_quarantined: Vec<NewlyQuarantined>,
    /// What is in quarantine and would be understood, as far as it is listed.
    waiting: BTreeMap<Position, NewlyUnderstood>,
    /// All quarantined records that would be understood and were not released later.
    understood: BTreeSet<Position>,
}

impl Run<'_> {
    /// Both sides as they were before the range: of the entities that the range touches on either side.
    fn begin(
        &mut self,
        history: &mut History,
        kept_from: Position,
        step: &mut dyn FnMut(Position),
    ) -> Result<(), WhatIfError> {
        let Summary { from, to, .. } = self.summary;
        let (mut ids, mut bytes) = (BTreeSet::new(), 0);
        delivery::each(history, from, to, &mut *step, |delivery| {
            let proposal = self.other.proposal(&delivery)?;
            for id in other::touched(&delivery, proposal.as_ref(), self.kind) {
                let id_bytes = ID_BYTES + id.len();
                bytes += if ids.insert(id) { id_bytes } else { 0 };
            }
            self.room(bytes)
        })?;
        delivery::each(history, kept_from, from - 1, step, |delivery| {
            if let Was::Understood(facts) = delivery.was {
                for (position, fact) in &facts {
                    if ids.contains(&lockstep_core::entity_id(&fact.kind, &fact.key)) {
                        self.sides.happened(*position, delivery.recorded_at_us, fact);
                    }
                }
            }
            // What happened is held on both sides soon.
            self.room(2 * self.sides.bytes())
        })?;
        self.sides.part();
        Ok(())
    }

    fn room(&self, bytes: usize) -> Result<(), WhatIfError> {
        let (from, bytes_max) = (self.summary.from, self.bytes_max);
        if bytes > bytes_max { Err(WhatIfError::TooMuch { from, bytes_max }) } else { Ok(()) }
    }

    /// One delivery of the range, on both sides.
    fn delivery(&mut self, delivery: Delivery) -> Result<(), WhatIfError> {
        let proposal = self.other.proposal(&delivery)?;
        let kind = self.kind;
        let wanted = |name: &str| kind.is_none_or(|kind| kind == name);
        if let Was::Understood(facts) = &delivery.was {
            for (position, fact) in facts.iter().filter(|(_, fact)| wanted(&fact.kind)) {
                self.sides.happened(*position, delivery.recorded_at_us, fact);
            }
        }
        self.room(self.sides.bytes())?;
        // It would have been understood the first time, and so be a repetition now.
        if delivery.releases != 0 && self.understood.remove(&delivery.releases) {
            self.waiting.remove(&delivery.releases);
            return Ok(());
        }
        let Some(mut proposal) = proposal else { return Ok(()) };
        match proposal.how {
            How::Translated => self.summary.translated += 1,
            How::WithoutRaw => self.summary.without_raw += 1,
            How::WithoutSource => {
                *self.summary.without_source.entry(delivery.source.clone()).or_default() += 1;
            }
        }
        match (&mut proposal.input.body, &delivery.was) {
            (InputBody::Quarantine(_), Was::Quarantined(_)) => return Ok(()),
            (InputBody::Quarantine(reason), was) => {
                let reason = std::mem::take(reason);
                let about = match was {
                    Was::Understood(facts) => facts.iter().any(|(_, fact)| wanted(&fact.kind)),
                    _ => kind.is_none(),
                };
                if about {
                    self.quarantined(&delivery, reason);
                }
                return Ok(());
            }
            (InputBody::Changes(changes), was) => {
                let nothing = changes.is_empty();
                changes.retain(|change| wanted(&change.kind));
                match was {
                    Was::Understood(_) => self.summary.ignored += u64::from(nothing),
                    Was::Closed => {}
                    Was::Quarantined(reason) if kind.is_none() || !changes.is_empty() => {
                        let (code, changes) = (reason.code.clone(), changes.len());
                        self.understands(&delivery, code, changes);
                    }
                    // Of another kind: a release of it is no news either.
                    Was::Quarantined(_) => {}
                }
            }
        }
        self.sides.decide(delivery.position, delivery.recorded_at_us, proposal.input)
    }

    fn quarantined(&mut self, delivery: &Delivery, reason: QuarantineReason) {
        self.summary.newly_quarantined += 1;
        if self.newly_quarantined.len() < LISTED_MAX {
            let QuarantineReason { code, detail, at } = reason;
            let (position, source, delivery) = (delivery.position, delivery.source.clone(), delivery.id.clone());
            self.newly_quarantined.push(NewlyQuarantined { position, source, delivery, code, detail, at });
        }
    }

    fn understands(&mut self, delivery: &Delivery, code: String, changes: usize) {
        self.understood.insert(delivery.position);
        if self.waiting.len() < LISTED_MAX {
            let (position, source, delivery) = (delivery.position, delivery.source.clone(), delivery.id.clone());
            self.waiting.insert(position, NewlyUnderstood { position, source, delivery, code, changes });
        }
    }

    fn answer(self) -> Answer {
        let Self { sides, mut summary, newly_quarantined, waiting, understood, .. } = self;
        let mut fields: BTreeMap<(String, String), u64> = BTreeMap::new();
        for id in sides.ids() {
            let (difference, others) = sides.compare(id);
            summary.entities_compared += 1;
            summary.same_value_other_winner += others;
            let Some(difference) = difference else { continue };
            summary.entities_different += 1;
            summary.entities_added += u64::from(difference.change == Change::Added);
            summary.entities_removed += u64::from(difference.change == Change::Removed);
            for field in difference.fields {
                *fields.entry((difference.kind.clone(), field.field)).or_default() += 1;
            }
        }
        let counts = fields.into_iter().map(|((kind, field), count)| FieldCount { kind, field, count });
        summary.fields_different = counts.collect();
        // Stable: equal counts stay in order of name.
        summary.fields_different.sort_by_key(|count| std::cmp::Reverse(count.count));
        summary.newly_understood = understood.len() as u64;
        summary.different =
            summary.entities_different > 0 || summary.newly_quarantined > 0 || summary.newly_understood > 0;
        Answer { summary, newly_quarantined, newly_understood: waiting.into_values().collect(), sides }
    }
}

#[cfg(test)]
mod tests;
