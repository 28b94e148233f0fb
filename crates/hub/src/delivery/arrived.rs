//! Whether an entity's events have arrived at a destination: for events that wait for it.

use lockstep_core::delivery::{Arrival, Awaited, Look};
use lockstep_core::stock::{EVENT_TYPES, LEDGER_KINDS};
use lockstep_core::{EntityId, Event, Position, entity_id};

use super::board::End;
use super::propagation::{PropagationError, Standing};
use crate::handle::HubHandle;

/// How far back the events of an entity are looked at,
const HISTORY_MAX: usize = 256;
/// and how many at a time.
const HISTORY_STEP: usize = 16;

impl HubHandle {
    /// Whether an event at a position may go that waits for an entity at a destination, and that entity's id.
    pub(super) async fn awaited(
        &self,
        destination: &str,
        (kind, key): (&str, &str),
        position: Position,
    ) -> Result<(Awaited, Option<EntityId>), PropagationError> {
        let mut look = Look::of(position);
        let Some(entity) = self.find(kind, key).await? else { return Ok((look.end(), None)) };
        let id = Some(entity_id(&entity.kind, &entity.key));
        let to = self.controls.health(destination).map(|(_, to)| to);
        let (mut at, mut looked_at, mut seen, mut is_cut) = (entity.events_from(), 0, false, false);
        while at > 0 && looked_at < HISTORY_MAX {
            // The newest one mostly decides.
            let step = if looked_at == 0 { 1 } else { HISTORY_STEP };
            let past = self.past_events(at, step).await?;
            looked_at += past.events.len();
            (at, is_cut) = (past.next, past.is_cut);
            for event in past.events {
                // What is kept back until it is whole is as if it had not been said yet.
                if to.as_ref().is_some_and(|to| to.is_incomplete(&event)) {
                    continue;
                }
                seen = true;
                let arrival = self.arrival(destination, &event, look.is_in_doubt()).await?;
                if let Some(found) = look.next(event.position, arrival) {
                    return Ok((found, id));
                }
            }
        }
        // What the journal has dropped had been settled everywhere; what is kept back now may not have been then.
        let is_forgotten = !seen && is_cut;
        Ok((if is_forgotten { Awaited::Arrived } else { look.end() }, id))
    }

    /// Where an event stands, as far as it matters to those that wait. `in_doubt`: a newer one is not there, so it is to be
    /// known whether this one is, or that one is sent instead.
    async fn arrival(&self, name: &str, event: &Event, in_doubt: bool) -> Result<Arrival, PropagationError> {
        let known = self.controls.health(name).and_then(|(health, _)| health.board.end_of(event.position));
        match known {
            Some((End::Delivered | End::Filtered | End::Superseded { by: 0 }, _)) => return Ok(Arrival::There),
            Some((End::Superseded { .. }, _)) => return Ok(Arrival::Overtaken),
            Some((End::Dead, _)) | None => {}
        }
        let (is_settled, is_skipped) = self.stats.with_tallies(|tallies| {
            let tally = tallies.destinations.get(name);
            let skipped = tally.is_some_and(|tally| event.position <= tally.skipped_to);
            (tally.is_some_and(|tally| tally.is_settled(event.position)), skipped)
        });
        if is_skipped {
            return Ok(Arrival::There);
        }
        if self.dead_letter(name, event.position).await?.is_some() {
            return Ok(Arrival::Dead);
        }
        // It may be on its way to the list, or off it; whoever waits looks again.
        if !is_settled {
            return Ok(if known.is_some() { Arrival::Dead } else { Arrival::Open });
        }
        if in_doubt && matches!(self.propagation_at(event, name).await?.standing, Standing::Superseded { .. }) {
            return Ok(Arrival::Overtaken);
        }
        Ok(Arrival::There)
    }

    /// Whether an event of the same entity that is newer has arrived. `None` where one still may.
    pub(super) async fn newer_arrived(&self, name: &str, event: &Event) -> Result<Option<bool>, PropagationError> {
        // What the ledger of stock says is of no entity, so its newer events can't be listed.
        let (kind, event_type) = (event.fact.kind.as_str(), event.fact.event_type.as_str());
        if LEDGER_KINDS.contains(&kind) || EVENT_TYPES.contains(&event_type) {
            return Ok(None);
        }
        let Some(entity) = self.entity(&event.fact.kind, &event.fact.key).await? else { return Ok(Some(false)) };
        let past = self.past_events(entity.events_from(), HISTORY_MAX).await?;
        let mut may_arrive = false;
        for newer in past.events.into_iter().take_while(|newer| newer.position > event.position) {
            match self.propagation_at(&newer, name).await?.standing {
                Standing::Delivered => return Ok(Some(true)),
                Standing::Pending | Standing::Parked(_) => may_arrive = true,
                _ => {}
            }
        }
        Ok(if may_arrive { None } else { Some(false) })
    }
}
