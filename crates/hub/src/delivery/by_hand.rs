//! Dead letters that an operator has sent again.

use std::sync::Arc;

use lockstep_core::record::DeadLetterEnd;
use lockstep_core::{Event, Position};

use crate::delivery::queue::{Item, Letter};
use crate::delivery::runner::{Runner, bytes_of};
use crate::importing::LetterEvent;

/// How many of an entity's events are read at a time where newer ones are looked for.
const HISTORY_STEP: usize = 32;

impl Runner {
    pub(super) async fn retry_by_hand(
        &mut self,
        position: Position,
        record: Position,
        by: String,
    ) -> Result<(), RetryError> {
        // Asked for twice it is sent once; and what has ended meanwhile is not sent again.
        if self.window.is_retried(position) {
            return Ok(());
        }
        let row = self.hub.dead_letter(&self.name, position).await?;
        if row.is_none_or(|row| row.record != record) {
            return Ok(());
        }
        let attempts = self.hub.record(record).await?.map(|r| crate::handle::attempts(&r).to_vec()).unwrap_or_default();
        let Some(LetterEvent { event, origin }) = self.hub.letter_event(position).await? else {
            return Ok(());
        };
        let event = Arc::new(detached(event));
        let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
        let foreign = origin.as_ref().is_some_and(|origin| !origin.own);
        let letter = Letter { event: position, brought_in: origin.is_some(), foreign };
        let mut item = Item::new(event.clone(), bytes_of(&event));
        item.number = attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0);
        (item.attempts, item.manual, item.letter) = (attempts, Some(by), letter);
        if self.newer_was_delivered(&item.event, foreign).await? {
            self.close(&item, DeadLetterEnd::Superseded);
        } else {
            self.window.add(id.into(), item);
        }
        Ok(())
    }

    /// Whether something newer of the same entity is at the destination: sending the older one would take it
    /// back in time. Of an event of another hub's journal the position says nothing here, so the time must do; and what
    /// is on its way is newer too then, since it can't be put in order.
    async fn newer_was_delivered(&self, event: &Event, foreign: bool) -> Result<bool, RetryError> {
        if self.hub.brought_in_and_delivered(&self.name, event).await? {
            return Ok(true);
        }
        let Some(entity) = self.hub.entity(&event.fact.kind, &event.fact.key).await? else {
            // The ledger of stock is no entity. Of another hub's nothing is known here.
            return Ok(!foreign && self.hub.still_stands(event).await? == Some(false));
        };
        // The newest one mostly decides.
        let (mut at, mut step) = (entity.events_from(), 1);
        while at > 0 {
            let past = self.hub.past_events(at, step).await?;
            (at, step) = (past.next, HISTORY_STEP);
            for newer in past.events {
                let position = newer.position;
                let is_newer =
                    if foreign { newer.recorded_at_us >= event.recorded_at_us } else { position > event.position };
                if !is_newer {
                    return Ok(false);
                }
                // What its own system has said it has, though it is not sent it.
                let has =
                    matches!(self.destination.prepare(&newer), Ok(Some(_))) || self.destination.keeps_own_word(&newer);
                let reached = (foreign || self.window.is_settled(position))
                    && has
                    && self.hub.dead_letter(&self.name, position).await?.is_none();
                if reached {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Why a retry by hand can't begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum RetryError {
    #[error("the journal can't be read")]
    Read(#[from] crate::ReadError),
    #[error("the hub can't answer")]
    Hub(#[from] crate::Unavailable),
}

/// The event with its values copied: what was read from the disk is a slice of a whole batch, which a single
/// event that waits for long must not keep in memory.
fn detached(mut event: Event) -> Event {
    let fact = &mut event.fact;
    for field in fact.fields.iter_mut().chain(&mut fact.rest) {
        field.json = bytes::Bytes::copy_from_slice(&field.json);
    }
    fact.raw = None;
    event
}
