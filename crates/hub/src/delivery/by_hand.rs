//! Dead letters that an operator has sent again.

use std::sync::Arc;

use lockstep_core::record::DeadLetterEnd;
use lockstep_core::{Event, Position};

use crate::delivery::queue::Item;
use crate::delivery::runner::{Runner, bytes_of};

/// How far back a retry by hand looks for newer deliveries of its entity.
const HISTORY_MAX: usize = 1_000;
/// How many records of it are read at a time.
const HISTORY_STEP: usize = 32;

impl Runner {
    pub(super) async fn retry_by_hand(
        &mut self,
        position: Position,
        record: Position,
        by: String,
    ) -> Result<(), RetryError> {
        // Asked for twice it is sent once; and what has ended meanwhile is not sent again.
        let row = self.hub.dead_letter(&self.name, position).await?;
        if self.window.is_retried(position) || row.is_none_or(|row| row.record != record) {
            return Ok(());
        }
        let attempts = self.hub.record(record).await?.map(|r| crate::handle::attempts(&r).to_vec()).unwrap_or_default();
        let Some(event) = self.hub.record(position).await?.and_then(|r| Event::of(position, r)) else {
            return Ok(());
        };
        let event = Arc::new(detached(event));
        let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
        let mut item = Item::new(event.clone(), bytes_of(&event));
        item.number = attempts.iter().map(|attempt| attempt.number).max().unwrap_or(0);
        (item.attempts, item.manual) = (attempts, Some(by));
        if self.newer_was_delivered(&item.event).await? {
            self.close(&item, DeadLetterEnd::Superseded);
        } else {
            self.window.add(id.into(), item);
        }
        Ok(())
    }

    /// Whether something newer of the same entity is at the destination: sending the older one would take it
    /// back in time.
    async fn newer_was_delivered(&self, event: &Event) -> Result<bool, RetryError> {
        let Some(entity) = self.hub.entity(&event.fact.kind, &event.fact.key).await? else { return Ok(false) };
        let mut at = entity.position;
        let mut looked_at = 0;
        while at > event.position && looked_at < HISTORY_MAX {
            let (later, next) = self.hub.history(at, HISTORY_STEP).await?;
            if later.is_empty() {
                break;
            }
            looked_at += later.len();
            at = next;
            for (position, record) in later.into_iter().take_while(|(position, _)| *position > event.position) {
                let Some(newer) = Event::of(position, record) else { continue };
                let reached = self.window.is_settled(position)
                    && matches!(self.destination.prepare(&newer), Ok(Some(_)))
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
