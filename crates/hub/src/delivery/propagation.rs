//! Where single events stand at each destination, and waiting for it.
//!
//! The runners' boards know what happened lately, to the moment. What is older is told from the sums, the list of dead
//! letters and the journal: so it is known whether an event is settled, whether it is or was a dead letter, and about
//! when; that it was delivered and not filtered follows from the destination's filter as it is now, which says the same
//! of the same event as long as nobody has changed it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_connect::destination::Destination;
use lockstep_core::record::DeadLetterEnd;
use lockstep_core::{Event, Position, entity_id};

use super::board::{End, Parked, Watch};
use super::settled::{Settled, settled};
use super::{Controls, Health};
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::reading::ReadError;
use crate::state::rows::DeadLetterRow;

/// How many events at destinations may be watched at once, of all who wait together: some hundred bytes each.
pub const WATCHED_MAX: usize = 65_536;
/// How often who waits looks into the sums, for what his ear has missed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many events that have not arrived are named.
const UNREACHED_MAX: usize = 100;
/// How many of an entity's events are looked at for the one that a destination's first state had.
const HISTORY_MAX: usize = 64;

/// Where an event stands at one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Delivered,
    /// It is to be sent, or under way.
    Pending,
    /// Its key waits for a retry, or until something else has arrived: this event, or one before it.
    Parked(Parked),
    /// It was given up, and is in the list of dead letters.
    Dead(Box<DeadLetterRow>),
    /// The filter keeps it back, or its own system has said it.
    Filtered,
    /// A newer event of its entity stands for it, and is sent instead; or it was a dead letter, and something newer of its
    /// entity was delivered.
    Superseded {
        /// The one that stands for it, where that is remembered.
        by: Option<Position>,
    },
    /// It was a dead letter, and a person gave it up.
    Discarded,
    /// It was published before the destination was added, which was not to have it.
    Skipped,
    /// It is settled, and more than that is not known: the destination is not running, so that its filter can't be
    /// asked, or the record by which it was settled, or by which its dead letter ended, is too far away.
    Settled,
}

impl Standing {
    /// Whether nothing more becomes of it by itself.
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Pending | Self::Parked(_))
    }
}

/// Where an event stands at one destination, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagated {
    /// The destination.
    pub destination: String,
    /// Whether deliveries to it are running.
    pub running: bool,
    /// Since when it counts as down, microseconds since 1970 UTC.
    pub down_since_us: Option<i64>,
    /// Where the event stands.
    pub standing: Standing,
    /// When it came to that, microseconds since 1970 UTC, where the runner remembers it.
    pub at_us: Option<i64>,
    /// When it had come to that at the latest, where only the journal tells.
    pub by_us: Option<i64>,
}

/// Why it can't be told.
#[derive(Debug, thiserror::Error)]
pub enum PropagationError {
    /// The journal can't be read.
    #[error("the journal can't be read")]
    Read(#[from] ReadError),
    /// The hub can't answer.
    #[error("the hub can't answer")]
    Hub(#[from] Unavailable),
}

/// An event that a destination has not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// The event.
    pub event: Position,
    /// Where it stands there.
    pub at: Propagated,
}

/// What waiting came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// How many events were to be confirmed, by each destination.
    pub events: usize,
    /// How many confirmations are missing.
    pub missing: usize,
    /// What is missing, the oldest first; a bounded part of it.
    pub unreached: Vec<Unreached>,
    /// Whether there was no waiting because too many wait already.
    pub crowded: bool,
}

impl Controls {
    pub(super) fn health(&self, name: &str) -> Option<(Arc<Health>, Arc<dyn Destination>)> {
        self.lines().get(name).map(|line| (line.health.clone(), line.destination.clone()))
    }

    fn watch(&self, names: &[String], positions: &[Position]) -> Option<Watch> {
        let count = u32::try_from(names.len() * positions.len()).ok()?;
        let share = self.watches.clone().try_acquire_many_owned(count).ok()?;
        let boards = names.iter().map(|name| self.health(name).map(|(health, _)| health)).collect::<Option<_>>()?;
        Some(Watch::new(boards, positions, share))
    }
}

impl HubHandle {
    /// Where an event stands at every destination that there is or was, by name.
    pub async fn propagation(&self, event: &Event) -> Result<Vec<Propagated>, PropagationError> {
        let mut names: BTreeSet<String> = self.controls.names().into_iter().collect();
        self.stats.with_tallies(|tallies| names.extend(tallies.destinations.keys().cloned()));
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            all.push(self.propagation_at(event, &name).await?);
        }
        Ok(all)
    }

    /// Where an event stands at one destination.
    pub async fn propagation_at(&self, event: &Event, name: &str) -> Result<Propagated, PropagationError> {
        let line = self.controls.health(name);
        let known = line.as_ref().and_then(|(health, _)| health.board.end_of(event.position));
        let (is_settled, is_skipped) = self.stats.with_tallies(|tallies| {
            let tally = tallies.destinations.get(name);
            let skipped = tally.is_some_and(|tally| event.position <= tally.skipped_to);
            (tally.is_some_and(|tally| tally.is_settled(event.position)), skipped)
        });
        let mut told = Propagated {
            destination: name.to_owned(),
            running: line.is_some(),
            down_since_us: line.as_ref().and_then(|(health, _)| health.down_since_us()),
            standing: Standing::Pending,
            at_us: None,
            by_us: None,
        };
        match known {
            Some((End::Delivered, at_us)) => (told.standing, told.at_us) = (Standing::Delivered, Some(at_us)),
            Some((End::Filtered, at_us)) => (told.standing, told.at_us) = (Standing::Filtered, Some(at_us)),
            Some((End::Superseded { by }, at_us)) => {
                (told.standing, told.at_us) = (Standing::Superseded { by: Some(by).filter(|by| *by > 0) }, Some(at_us));
            }
            Some((End::Dead, _)) => self.tell_settled(event, line.map(|(_, to)| to), &mut told).await?,
            None if is_skipped => self.tell_skipped(event, line.map(|(_, to)| to), &mut told).await?,
            None if is_settled => self.tell_settled(event, line.map(|(_, to)| to), &mut told).await?,
            None => {
                let id = entity_id(&event.fact.kind, &event.fact.key);
                let parked = line.and_then(|(health, _)| health.board.parked_before(&id, event.position));
                told.standing = parked.map_or(Standing::Pending, Standing::Parked);
            }
        }
        Ok(told)
    }

    /// What became of an event that was published before the destination was added: it may have come with the state.
    async fn tell_skipped(
        &self,
        event: &Event,
        destination: Option<Arc<dyn Destination>>,
        told: &mut Propagated,
    ) -> Result<(), PropagationError> {
        told.standing = Standing::Skipped;
        let name = told.destination.clone();
        let Some(state) = self.stats.with_tallies(|tallies| tallies.first_state(&name).cloned()) else { return Ok(()) };
        if let Some(row) = self.dead_letter(&name, event.position).await? {
            told.at_us = Some(row.dead_at_us);
            told.standing = Standing::Dead(Box::new(row));
            return Ok(());
        }
        if state.cancelled_by.is_some() {
            return Ok(());
        }
        let Some(entity) = self.entity(&event.fact.kind, &event.fact.key).await? else { return Ok(()) };
        // The state is of each entity the newest event that the destination takes.
        let goes = |event: &Event| destination.as_ref().map(|to| matches!(to.prepare(event), Ok(Some(_)) | Err(_)));
        let past = self.past_events(entity.events_from(), HISTORY_MAX).await?;
        let taken: Vec<Position> =
            past.events.iter().filter(|event| goes(event) == Some(true)).map(|event| event.position).collect();
        let newest = taken.iter().find(|position| **position <= state.until);
        let is_over = state.ended_at_us.is_some();
        (told.standing, told.by_us) = match (goes(event), newest) {
            (Some(false), _) => (Standing::Filtered, None),
            (Some(true), Some(newest)) if event.position < *newest => {
                (Standing::Superseded { by: Some(*newest) }, state.ended_at_us)
            }
            (Some(true), Some(newest)) if *newest == event.position && !is_over => (Standing::Pending, None),
            (Some(true), Some(newest)) if *newest == event.position && taken.first() == Some(newest) => {
                (Standing::Delivered, state.ended_at_us)
            }
            // It came with the state, or what is newer came before its turn.
            _ => (if is_over { Standing::Settled } else { Standing::Pending }, state.ended_at_us),
        };
        Ok(())
    }

    /// What the list of dead letters and the journal tell of an event that is settled.
    async fn tell_settled(
        &self,
        event: &Event,
        destination: Option<Arc<dyn Destination>>,
        told: &mut Propagated,
    ) -> Result<(), PropagationError> {
        if let Some(row) = self.dead_letter(&told.destination, event.position).await? {
            told.at_us = Some(row.dead_at_us);
            told.standing = Standing::Dead(Box::new(row));
            return Ok(());
        }
        let (reader, name, position) = (self.reader.clone(), told.destination.clone(), event.position);
        let found = crate::reading::blocking(move || settled(&*reader, &name, position)).await?;
        told.by_us = found.as_ref().map(|found| found.by_us);
        told.standing = match found {
            Some(Settled { dead: true, closed, .. }) => {
                told.by_us = closed.map(|(_, at_us)| at_us);
                match closed.map(|(end, _)| end) {
                    Some(DeadLetterEnd::Delivered) => Standing::Delivered,
                    Some(DeadLetterEnd::Superseded) => Standing::Superseded { by: None },
                    Some(DeadLetterEnd::Discarded) => Standing::Discarded,
                    Some(DeadLetterEnd::Unspecified) | None => Standing::Settled,
                }
            }
            // By which record was not found: it may be one that gave it up.
            None => Standing::Settled,
            Some(Settled { superseded: true, .. }) => Standing::Superseded { by: None },
            Some(_) => match destination.map(|to| to.prepare(event)) {
                Some(Ok(Some(_))) => Standing::Delivered,
                Some(Ok(None)) => Standing::Filtered,
                // It can't be mapped any more, or nobody is there to say.
                Some(Err(_)) | None => Standing::Settled,
            },
        };
        Ok(())
    }

    /// Waits for something to happen to an event at these destinations; `None` where one of them is not running or too
    /// many wait already.
    pub fn watch_event(&self, event: Position, names: &[String]) -> Option<Watch> {
        self.controls.watch(names, &[event])
    }

    /// The events of an input's records; where it has published none, the last one of its entity, which says what it
    /// said.
    pub async fn events_of(
        &self,
        (first, count): (Position, u32),
        entity: (&str, &str),
    ) -> Result<Vec<Position>, PropagationError> {
        let mut events = Vec::new();
        for position in first..first + Position::from(count) {
            if self.record(position).await?.is_some_and(|record| Event::is_in(&record)) {
                events.push(position);
            }
        }
        if !events.is_empty() {
            return Ok(events);
        }
        let (kind, key) = entity;
        let Some(found) = self.find(kind, key).await? else { return Ok(events) };
        let mut at = found.events_from();
        while at > 0 && events.is_empty() {
            let past = self.past_events(at, 1).await?;
            events.extend(past.events.iter().map(|event| event.position));
            at = past.next;
        }
        Ok(events)
    }

    /// Waits until each of these destinations has confirmed each of these events, or a newer one of its entity that stands
    /// for it, until one of them can't any more
    /// because it keeps the event back or has given it up, or until the time is over. The loop knows nothing of it.
    pub async fn until_delivered(
        &self,
        events: &[Position],
        names: &[String],
        wait: Duration,
    ) -> Result<Reached, PropagationError> {
        let deadline = Instant::now() + wait;
        let mut reached = Reached { events: events.len(), ..Reached::default() };
        let mut left: BTreeSet<(Position, usize)> =
            events.iter().flat_map(|event| (0..names.len()).map(|number| (*event, number))).collect();
        let watch = self.controls.watch(names, events);
        reached.crowded = watch.is_none() && !left.is_empty();
        let mut is_over = !self.look(&mut left, names).await?;
        while let Some(watch) = &watch
            && !left.is_empty()
            && !is_over
        {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            if tokio::time::timeout(rest.min(LOOK_EVERY), watch.changed()).await.is_err() {
                is_over = !self.look(&mut left, names).await?;
            }
            for (number, event, end) in watch.take() {
                match end {
                    End::Delivered | End::Superseded { by: 0 } => drop(left.remove(&(event, number))),
                    // What becomes of the one that stands for it is heard next.
                    End::Superseded { .. } => {}
                    End::Filtered | End::Dead => is_over = true,
                }
            }
        }
        reached.missing = left.len();
        for (event, number) in left.into_iter().take(UNREACHED_MAX) {
            if let Some(event) = self.event(event).await? {
                let at = self.propagation_at(&event, &names[number]).await?;
                // It may have arrived since.
                if at.standing == Standing::Delivered {
                    reached.missing -= 1;
                } else {
                    reached.unreached.push(Unreached { event: event.position, at });
                }
            }
        }
        Ok(reached)
    }

    /// Takes out what has arrived already. Whether everything else still can.
    async fn look(&self, left: &mut BTreeSet<(Position, usize)>, names: &[String]) -> Result<bool, PropagationError> {
        let lines: Vec<_> = names.iter().map(|name| self.controls.health(name)).collect();
        // Of one that another one stands for: how that one ended.
        let end = |number: usize, event| lines[number].as_ref().and_then(|(health, _)| health.board.last_end_of(event));
        let mut can_arrive = true;
        left.retain(|(event, number)| match end(*number, *event) {
            Some(End::Delivered | End::Superseded { by: 0 }) => false,
            Some(End::Superseded { .. }) => true,
            Some(_) => {
                can_arrive = false;
                true
            }
            None => true,
        });
        let settled: Vec<_> = self.stats.with_tallies(|tallies| {
            let is_settled = |(event, number): &&(Position, usize)| {
                tallies.destinations.get(&names[*number]).is_some_and(|tally| tally.is_settled(*event))
            };
            left.iter().filter(is_settled).copied().collect()
        });
        for (event, number) in settled {
            if !can_arrive {
                break;
            }
            let Some(known) = self.event(event).await? else { continue };
            match self.propagation_at(&known, &names[number]).await?.standing {
                Standing::Delivered => drop(left.remove(&(event, number))),
                Standing::Superseded { .. } => match self.newer_arrived(&names[number], &known).await? {
                    Some(true) => drop(left.remove(&(event, number))),
                    Some(false) => can_arrive = false,
                    None => {}
                },
                _ => can_arrive = false,
            }
        }
        Ok(can_arrive)
    }

    async fn event(&self, position: Position) -> Result<Option<Event>, ReadError> {
        Ok(self.record(position).await?.and_then(|record| Event::of(position, record)))
    }
}

#[cfg(test)]
mod tests;
