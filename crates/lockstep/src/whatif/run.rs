//! One run through the history: what each delivery means on both sides, and what came of all of them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::{InputBody, Position, QuarantineReason};

use super::delivery::{self, Delivery, Was};
use super::history::History;
use super::other::{self, How, Other};
use super::report::{Change, FieldCount, NewlyQuarantined, NewlyUnderstood, Summary};
use super::sides::Sides;
use super::{Answer, LISTED_MAX, Range, WhatIfError};

/// What the name of an entity takes beside its text while names are collected, about.
const ID_BYTES: usize = 64;

/// See the module.
pub(super) struct Run<'a> {
    other: &'a Other,
    kind: Option<&'a str>,
    bytes_max: usize,
    sides: Sides,
    pub(super) summary: Summary,
    newly_quarantined: Vec<NewlyQuarantined>,
    /// What is in quarantine and would be understood, as far as it is listed.
    waiting: BTreeMap<Position, NewlyUnderstood>,
    /// All quarantined records that would be understood and were not released later.
    understood: BTreeSet<Position>,
}

impl<'a> Run<'a> {
    pub(super) fn new(other: &'a Other, range: &'a Range, summary: Summary) -> Self {
        Self {
            other,
            kind: range.kind.as_deref(),
            bytes_max: range.bytes_max,
            sides: Sides::new(other.rules()),
            summary,
            newly_quarantined: Vec::new(),
            waiting: BTreeMap::new(),
            understood: BTreeSet::new(),
        }
    }

    /// Both sides as they were before the range: of the entities that the range touches on either side.
    pub(super) fn begin(
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
                    if ids.contains(lockstep_core::entity_id(&fact.kind, &fact.key).as_str()) {
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
    pub(super) fn delivery(&mut self, delivery: Delivery) -> Result<(), WhatIfError> {
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
            // What clients ask of stock is no proposal of a source, and is not decided again.
            (InputBody::Stock(_) | InputBody::Retry { .. }, _) => return Ok(()),
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

    pub(super) fn answer(self) -> Answer {
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
