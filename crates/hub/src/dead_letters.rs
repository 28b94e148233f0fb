//! Dead letters for whoever operates the hub: looked through a part at a time, so that neither memory nor the loop's time
//! grows with how many there are.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lockstep_core::Position;
use lockstep_core::record::{Body, DeadLetterClosed, DeadLetterEnd, RetriesScheduled};

use crate::delivery::Retry;
use crate::failure::Unavailable;
use crate::handle::{HubHandle, Page};
use crate::looper::unreadable;
use crate::state::rows::DeadLetterRow;
use crate::view::View;

/// How many dead letters the loop looks at before it does something else.
const STEP: usize = 500;

/// Which dead letters: those that meet every condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only those of this destination.
    pub destination: Option<String>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those of the entity with this key.
    pub key: Option<String>,
    /// Only events of this type; a `*` at the end stands for anything.
    pub event_type: Option<String>,
    /// Only those given up for this reason.
    pub reason: Option<String>,
    /// Only those whose last attempt was answered with this HTTP status; 0: that had no answer.
    pub status: Option<u32>,
    /// Only those given up at this moment or before, microseconds since 1970 UTC.
    pub dead_until_us: Option<i64>,
    /// Only those given up at this moment or after, microseconds since 1970 UTC.
    pub dead_from_us: Option<i64>,
    /// Only those in whose last attempt's detail this stands, whatever its case.
    pub text: Option<String>,
    /// Only those whose value is in this currency.
    pub currency: Option<String>,
    /// Only those that are to be sent again, or only those that are not.
    pub scheduled: Option<bool>,
    /// Only those after this (destination, event).
    pub after: Option<(String, Position)>,
    /// At most so many.
    pub limit: usize,
}

impl DeadLetterFilter {
    /// Whether it has any condition.
    pub fn is_selective(&self) -> bool {
        let everything = Self { after: self.after.clone(), limit: self.limit, ..Self::default() };
        *self != everything
    }

    fn passes(&self, row: &DeadLetterRow) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let is_type = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => row.event_type.starts_with(start),
            None => *wanted == row.event_type,
        };
        let says = |text: &String| row.detail.to_ascii_lowercase().contains(&text.to_ascii_lowercase());
        is(&self.destination, &row.destination)
            && is(&self.kind, &row.kind)
            && is(&self.key, &row.key)
            && is(&self.reason, &row.reason)
            && is(&self.currency, &row.currency)
            && self.event_type.as_ref().is_none_or(is_type)
            && self.status.is_none_or(|status| status == row.status)
            && self.dead_until_us.is_none_or(|until_us| row.dead_at_us <= until_us)
            && self.dead_from_us.is_none_or(|from_us| row.dead_at_us >= from_us)
            && self.text.as_ref().is_none_or(says)
            && self.scheduled.is_none_or(|scheduled| scheduled == row.retry.is_some())
    }
}

/// What to do with many dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkAction {
    /// Nothing: how many there are.
    Count,
    /// To send them again.
    Retry {
        /// When, microseconds since 1970 UTC.
        at_us: i64,
        /// Over how long from then on; all of an entity at the same moment, so that they stay in order.
        over_us: i64,
    },
    /// Not to send them again as was planned.
    Unschedule,
    /// To give them up.
    Discard {
        /// Why.
        reason: String,
    },
}

/// A part of the open dead letters that has been looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Those that met the filter.
    pub items: Vec<DeadLetterRow>,
    /// Where to go on; none at the end.
    pub next_after: Option<(String, Position)>,
}

/// A place in a list by impact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImpactOrder {
    /// The moment of which the impacts are, microseconds since 1970 UTC.
    pub as_of_us: i64,
    /// The impact there.
    pub impact: u64,
    /// The destination and the event there.
    pub place: (String, Position),
}

impl HubHandle {
    /// The next open dead letters, by destination and event: looks at a bounded number, so that few found (even none)
    /// does not mean the end.
    pub async fn look_through_dead_letters(&self, filter: DeadLetterFilter) -> Result<Looked, Unavailable> {
        self.ask(move |view| view.look_through(&filter)).await
    }

    /// Does something to the next open dead letters, as [`HubHandle::look_through_dead_letters`] finds them; how many it
    /// were, and where to go on.
    pub async fn bulk_dead_letters(
        &self,
        filter: DeadLetterFilter,
        action: BulkAction,
        by: &str,
    ) -> Result<(usize, Option<(String, Position)>), Unavailable> {
        let by = by.to_owned();
        self.ask(move |view| view.bulk(&filter, &action, &by)).await
    }

    /// Open dead letters, by destination and event.
    pub async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Page<DeadLetterRow>, Unavailable> {
        let mut page = Page { items: Vec::new(), more: false };
        let mut left = filter;
        loop {
            let limit = left.limit;
            let looked = self.look_through_dead_letters(left.clone()).await?;
            left.limit -= looked.items.len().min(limit);
            page.items.extend(looked.items);
            page.more = looked.next_after.is_some();
            if !page.more || left.limit == 0 {
                return Ok(page);
            }
            left.after = looked.next_after;
        }
    }

    /// Open dead letters that matter most, as of a moment. Looks at all of them, and keeps no more than a page.
    pub async fn dead_letters_by_impact(
        &self,
        filter: DeadLetterFilter,
        as_of_us: i64,
        after: Option<ImpactOrder>,
    ) -> Result<Page<DeadLetterRow>, Unavailable> {
        // In this order: the greatest impact first, then as without one.
        type Place = (Reverse<u64>, String, Position);
        let place = |row: &DeadLetterRow| (Reverse(row.impact(as_of_us)), row.destination.clone(), row.event);
        let after: Option<Place> = after.map(|after| (Reverse(after.impact), after.place.0, after.place.1));
        let limit = filter.limit;
        let mut left = DeadLetterFilter { after: None, limit: STEP, ..filter };
        let mut best: BTreeMap<Place, DeadLetterRow> = BTreeMap::new();
        let mut more = false;
        loop {
            let looked = self.look_through_dead_letters(left.clone()).await?;
            for row in looked.items {
                let place = place(&row);
                if after.as_ref().is_none_or(|after| place > *after) {
                    best.insert(place, row);
                }
                if best.len() > limit {
                    more = true;
                    best.pop_last();
                }
            }
            left.after = looked.next_after;
            if left.after.is_none() {
                return Ok(Page { items: best.into_values().collect(), more });
            }
        }
    }

    /// One open dead letter.
    pub async fn dead_letter(&self, destination: &str, event: Position) -> Result<Option<DeadLetterRow>, Unavailable> {
        let destination = destination.to_owned();
        self.ask(move |view| view.dead_letter(&destination, event)).await
    }

    /// Sends an open dead letter again, in its entity's order. The outcome is journaled; it can be read from
    /// the list of dead letters. `false` where there is no such destination running.
    pub async fn retry_dead_letter(&self, row: &DeadLetterRow, by: &str) -> bool {
        let retry = Retry { event: row.event, record: row.record, by: by.to_owned() };
        self.controls.retry(&row.destination, retry).await
    }

    /// Plans when an open dead letter is sent again, or with `None` that it is not. `false` where there is no such open
    /// dead letter.
    pub async fn schedule_retry(
        &self,
        destination: &str,
        event: Position,
        at_us: Option<i64>,
        by: &str,
    ) -> Result<bool, Unavailable> {
        let (destination, by) = (destination.to_owned(), by.to_owned());
        self.ask(move |view| {
            view.may_write()?;
            if view.dead_letter(&destination, event)?.is_none() {
                return Ok(false);
            }
            view.schedule(destination, vec![(event, at_us.unwrap_or(0))], &by);
            Ok(true)
        })
        .await
    }

    /// Gives an open dead letter up. `false` where there is no such open dead letter.
    pub async fn discard_dead_letter(
        &self,
        destination: &str,
        event: Position,
        reason: &str,
        by: &str,
    ) -> Result<bool, Unavailable> {
        let (destination, reason, by) = (destination.to_owned(), reason.to_owned(), by.to_owned());
        self.ask(move |view| {
            view.may_write()?;
            if view.dead_letter(&destination, event)?.is_none() {
                return Ok(false);
            }
            view.discard(destination, event, &reason, &by);
            Ok(true)
        })
        .await
    }
}

impl View<'_> {
    pub(crate) fn may_write(&self) -> Result<(), Unavailable> {
        self.looper.refuses().map_or(Ok(()), Err)
    }

    pub(crate) fn dead_letter(
        &mut self,
        destination: &str,
        event: Position,
    ) -> Result<Option<DeadLetterRow>, Unavailable> {
        self.looper.dead_letter(destination, event)
    }

    fn look_through(&self, filter: &DeadLetterFilter) -> Result<Looked, Unavailable> {
        let after = filter.after.clone().unwrap_or_default();
        let state = &self.looper.state;
        let rows = state.dead_letters_after(&after, filter.destination.as_deref(), STEP).map_err(unreadable)?;
        let key = |row: &DeadLetterRow| (row.destination.clone(), row.event);
        let mut next_after = (rows.len() == STEP).then(|| rows.last().map(key)).flatten();
        let mut items = Vec::new();
        for row in rows.into_iter().filter(|row| filter.passes(row)) {
            if items.len() >= filter.limit {
                next_after = items.last().map(key);
                break;
            }
            items.push(row);
        }
        Ok(Looked { items, next_after })
    }

    fn bulk(
        &mut self,
        filter: &DeadLetterFilter,
        action: &BulkAction,
        by: &str,
    ) -> Result<(usize, Option<(String, Position)>), Unavailable> {
        if *action != BulkAction::Count {
            self.may_write()?;
        }
        let Looked { items, next_after } = self.look_through(filter)?;
        let count = items.len();
        match action {
            BulkAction::Count => {}
            BulkAction::Discard { reason } => {
                items.into_iter().for_each(|row| self.discard(row.destination, row.event, reason, by));
            }
            BulkAction::Unschedule => self.schedule_all(items, by, |_| 0),
            BulkAction::Retry { at_us, over_us } => {
                self.schedule_all(items, by, |row| at_us.saturating_add(share(row, *over_us)));
            }
        }
        Ok((count, next_after))
    }

    fn schedule_all(&mut self, rows: Vec<DeadLetterRow>, by: &str, at_us: impl Fn(&DeadLetterRow) -> i64) {
        for of_one in rows.chunk_by(|a, b| a.destination == b.destination) {
            if let Some(first) = of_one.first() {
                let events = of_one.iter().map(|row| (row.event, at_us(row))).collect();
                self.schedule(first.destination.clone(), events, by);
            }
        }
    }

    fn schedule(&mut self, destination: String, events: Vec<(Position, i64)>, by: &str) {
        let (events, at_us) = events.into_iter().unzip();
        self.looper.controls.look_for_retries(&destination);
        let scheduled = RetriesScheduled { destination, events, at_us, by: by.to_owned() };
        self.looper.record(Body::RetriesScheduled(scheduled), self.open);
    }

    fn discard(&mut self, destination: String, event: Position, reason: &str, by: &str) {
        let closed = DeadLetterClosed {
            destination,
            event,
            end: DeadLetterEnd::Discarded as i32,
            reason: reason.to_owned(),
            by: by.to_owned(),
            ..DeadLetterClosed::default()
        };
        self.looper.record(Body::DeadLetterClosed(closed), self.open);
    }
}

/// When within a duration an entity has its turn: it follows from the entity, so that all of it come at once and in order,
/// and asking again gives the same.
fn share(row: &DeadLetterRow, over_us: i64) -> i64 {
    let id = lockstep_core::entity_id(&row.kind, &row.key);
    let hash = lockstep_core::payload_hash(id.as_bytes());
    ((u128::from(hash) * over_us.max(0) as u128) >> 64) as i64
}
