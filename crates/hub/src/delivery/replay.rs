//! A replay: events of the journal, or a snapshot of the entities, once more to one destination, beside live traffic.
//!
//! It looks for what to send a page at a time, hands each event to the destination's runner, and journals how far it is
//! when the whole page has ended: a restart sends a page again, with the same ids. Unless told otherwise it sends nothing
//! of which something newer exists that the destination takes: that is there, or comes by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use lockstep_connect::destination::Destination;
use lockstep_core::record::{Body, Fact, ReplayEnded, ReplayProgress};
use lockstep_core::{Entity, EntityId, Event, Position};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::replay_queue::{Outcome, ReplayOrder, Ticket};
use crate::delivery::runner::bytes_of;
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::looper::unreadable;
use crate::reading::{EventFilter, ReadError};
use crate::replays::ReplayTally;

/// How many events or entities are looked at together.
const PAGE: usize = 200;
/// How many may be under way at the destination, so that live ones have room beside them.
const FLYING_MAX: usize = 64;
/// How many of an entity's events are read at a time where the newest one is looked for that the destination takes.
const HISTORY_STEP: usize = 32;
/// How many entities' newest events are remembered.
const NEWEST_MAX: usize = 65_536;
/// How soon something is tried again that could not be done.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How much may be sent at once after a pause, in time at the configured rate.
const BURST: Duration = Duration::from_millis(20);

/// Why a replay can't go on now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("the journal can't be read")]
    Read(#[from] ReadError),
    #[error("the hub can't answer")]
    Hub(#[from] Unavailable),
    #[error("the destination has ended")]
    Gone,
}

/// The newest event of an entity that the destination takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newest {
    At(Position),
    None,
    /// The journal no longer has its history so far back.
    Dropped,
}

/// What the loop knows of an entity and of an event of it.
struct Look {
    entity: Option<Arc<Entity>>,
    is_dead: bool,
}

struct Pace {
    every: Duration,
    next: Instant,
}

impl Pace {
    async fn turn(&mut self) {
        if self.every.is_zero() {
            return;
        }
        let now = Instant::now();
        self.next = self.next.max(now.checked_sub(BURST).unwrap_or(now)) + self.every;
        if self.next > now {
            tokio::time::sleep_until(self.next).await;
        }
    }
}

pub(crate) struct Replay {
    hub: HubHandle,
    id: Position,
    destination: Arc<dyn Destination>,
    orders: mpsc::Sender<ReplayOrder>,
    at: ReplayTally,
    pace: Pace,
    newest: HashMap<EntityId, (Position, Newest)>,
}

impl Replay {
    pub(crate) fn new(
        hub: HubHandle,
        id: Position,
        at: ReplayTally,
        destination: Arc<dyn Destination>,
        orders: mpsc::Sender<ReplayOrder>,
    ) -> Self {
        let every = if at.rate_per_s == 0 { Duration::ZERO } else { Duration::from_secs(1) / at.rate_per_s };
        let pace = Pace { every, next: Instant::now() };
        Self { hub, id, destination, orders, at, pace, newest: HashMap::new() }
    }

    /// Runs until its end, or until the destination or the hub has ended.
    pub(crate) async fn run(mut self) {
        loop {
            match self.page().await {
                Ok(true) => {}
                Ok(false) | Err(ReplayError::Gone | ReplayError::Hub(Unavailable::ShuttingDown)) => return,
                Err(error) => {
                    tracing::warn!(replay = self.id, error = &error as &dyn std::error::Error, "a replay waits");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    /// Sends a page and journals how far that is. Whether there is more to do.
    async fn page(&mut self) -> Result<bool, ReplayError> {
        let mut progress = ReplayProgress { replay: self.id, cursor: self.at.cursor, ..ReplayProgress::default() };
        let (events, ends) = if self.at.state {
            let (events, after_id) = self.entities(&mut progress).await?;
            let ends = after_id.is_none();
            progress.after_id = after_id.unwrap_or_else(|| self.at.after_id.clone());
            (events, ends)
        } else {
            let filter = EventFilter {
                kind: Some(self.at.kind.clone()).filter(|kind| !kind.is_empty()),
                key: Some(self.at.key.clone()).filter(|key| !key.is_empty()),
                event_type: None,
            };
            let page = self.hub.events(self.at.cursor, filter, PAGE).await?;
            let until = self.at.until;
            progress.cursor = page.next_after.min(until);
            let ends = page.next_after >= until || page.at_end;
            let wanted = page.events.into_iter().filter(|e| e.position <= until && self.is_wanted(e));
            (wanted.collect(), ends)
        };
        self.send_all(events, &mut progress).await?;
        loop {
            match self.report(progress.clone(), ends).await {
                Ok(goes_on) => {
                    self.at.cursor = progress.cursor;
                    self.at.after_id = progress.after_id;
                    return Ok(goes_on && !ends);
                }
                Err(Unavailable::ShuttingDown) => return Err(ReplayError::Gone),
                // What was sent was sent: only saying so is tried again.
                Err(_) => tokio::time::sleep(AGAIN_AFTER).await,
            }
        }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        let fact = &event.fact;
        (self.at.kind.is_empty() || self.at.kind == fact.kind)
            && (self.at.key.is_empty() || self.at.key == fact.key)
            && match self.at.event_type.strip_suffix('*') {
                Some(start) => fact.event_type.starts_with(start),
                None => self.at.event_type.is_empty() || self.at.event_type == fact.event_type,
            }
    }

    /// The next entities' newest events, and after which entity to go on. What was published since the replay began is
    /// left to live traffic.
    async fn entities(&mut self, progress: &mut ReplayProgress) -> Result<(Vec<Event>, Option<String>), ReplayError> {
        let (kind, after) = (self.at.kind.clone(), self.at.after_id.clone());
        let entities = self.hub.ask(move |view| view.entities_after(&kind, &after, PAGE)).await?;
        let after_id = (entities.len() == PAGE).then(|| entities.last().map(|e| e.id().into())).flatten();
        let mut events = Vec::new();
        for entity in entities {
            if !entity.merged_into.is_empty() || !entity.published {
                continue;
            }
            match self.newest(&entity).await? {
                Newest::At(position) if position <= self.at.until => {
                    let record = self.hub.record(position).await?;
                    events.extend(record.and_then(|record| Event::of(position, record)));
                }
                Newest::At(_) => progress.passed += 1,
                Newest::None => progress.filtered += 1,
                Newest::Dropped => events.push(snapshot(&entity)),
            }
        }
        events.retain(|event| self.is_wanted(event));
        Ok((events, after_id))
    }

    /// Sends events, in order for each key, and waits until each has ended.
    async fn send_all(&mut self, events: Vec<Event>, progress: &mut ReplayProgress) -> Result<(), ReplayError> {
        let mut left: BTreeMap<Position, Arc<Event>> = BTreeMap::new();
        for mut event in events {
            event.replay = Some(self.id);
            left.insert(event.position, Arc::new(event));
        }
        let (to, mut told) = mpsc::channel(PAGE);
        while !left.is_empty() {
            let round: Vec<Arc<Event>> = left.values().cloned().collect();
            // Before anything is looked at: what is published later is delivered later.
            let checked_to = self.hub.bounds().next - 1;
            let looks = self.look(&round).await?;
            let mut flying = 0;
            let mut again = 0;
            for (event, look) in round.into_iter().zip(looks) {
                let outcome = self.check(&event, &look).await?;
                let position = event.position;
                if let Some(outcome) = outcome {
                    count(progress, outcome);
                    left.remove(&position);
                    continue;
                }
                self.pace.turn().await;
                let ticket = Ticket::new(self.id, position, self.at.stale, to.clone());
                let order = ReplayOrder { bytes: bytes_of(&event), event, checked_to, ticket };
                self.orders.send(order).await.map_err(|_| ReplayError::Gone)?;
                flying += 1;
                while flying >= FLYING_MAX
                    && let Some(told) = told.recv().await
                {
                    flying -= 1;
                    again += usize::from(!take(&mut left, told, progress));
                }
            }
            while flying > 0
                && let Some(told) = told.recv().await
            {
                flying -= 1;
                again += usize::from(!take(&mut left, told, progress));
            }
            if again > 0 {
                // The runner forgot them with a failure of the journal, or more was delivered than it remembers.
                if self.orders.is_closed() {
                    return Err(ReplayError::Gone);
                }
                tokio::time::sleep(BURST).await;
            }
        }
        Ok(())
    }

    async fn look(&self, events: &[Arc<Event>]) -> Result<Vec<Look>, ReplayError> {
        let name = self.at.destination.clone();
        let asked: Vec<_> =
            events.iter().map(|e| (lockstep_core::entity_id(&e.fact.kind, &e.fact.key), e.position)).collect();
        let looks = self.hub.ask(move |view| {
            let look = |(id, position): (EntityId, Position)| {
                let is_dead = view.dead_letter(&name, position)?.is_some();
                Ok(Look { entity: view.entity(&id)?, is_dead })
            };
            asked.into_iter().map(look).collect::<Result<Vec<_>, Unavailable>>()
        });
        Ok(looks.await?)
    }

    /// What comes of an event without its being sent, if anything.
    async fn check(&mut self, event: &Event, look: &Look) -> Result<Option<Outcome>, ReplayError> {
        if look.is_dead {
            return Ok(Some(Outcome::Passed));
        }
        if self.at.stale {
            return Ok(None);
        }
        let newest = match &look.entity {
            Some(entity) => self.newest(entity).await?,
            // What is no document has no history to tell whether it is the newest.
            None => return Ok(Some(Outcome::Stale)),
        };
        Ok(matches!(newest, Newest::At(position) if position > event.position).then_some(Outcome::Stale))
    }

    /// An entity's newest event that the destination takes and that is no dead letter.
    async fn newest(&mut self, entity: &Entity) -> Result<Newest, ReplayError> {
        let id = entity.id();
        if let Some((at, newest)) = self.newest.get(&id)
            && *at == entity.position
        {
            return Ok(*newest);
        }
        let newest = self.search(entity.events_from()).await?;
        if self.newest.len() >= NEWEST_MAX {
            self.newest.clear();
        }
        self.newest.insert(id, (entity.position, newest));
        Ok(newest)
    }

    async fn search(&self, from: Position) -> Result<Newest, ReplayError> {
        // Down to its first one: an entity that is left out comes by nothing else. Reading takes its time in this task alone.
        let (mut at, mut step) = (from, 1);
        while at > 0 {
            if self.orders.is_closed() {
                return Err(ReplayError::Gone);
            }
            let past = self.hub.past_events(at, step).await?;
            for event in past.events {
                // What its own system has said it has, though it is not sent it.
                if matches!(self.destination.prepare(&event), Ok(None)) && !self.destination.keeps_own_word(&event) {
                    continue;
                }
                if self.hub.dead_letter(&self.at.destination, event.position).await?.is_none() {
                    return Ok(Newest::At(event.position));
                }
            }
            if past.is_cut {
                return Ok(Newest::Dropped);
            }
            (at, step) = (past.next, HISTORY_STEP);
            tokio::task::yield_now().await;
        }
        Ok(Newest::None)
    }

    /// Journals how far it is. Whether it still is to go on.
    async fn report(&self, progress: ReplayProgress, ends: bool) -> Result<bool, Unavailable> {
        let id = self.id;
        self.hub
            .ask(move |view| {
                view.may_write()?;
                let replays = &view.looper().state.tallies.replays;
                if replays.get(&id).is_none_or(|replay| replay.ended_at_us.is_some()) {
                    return Ok(false);
                }
                view.record(Body::ReplayProgress(progress));
                if ends {
                    view.record(Body::ReplayEnded(ReplayEnded { replay: id, ..ReplayEnded::default() }));
                }
                Ok(true)
            })
            .await
    }
}

/// Takes an outcome. `false` where the event is to be looked at again.
fn take(
    left: &mut BTreeMap<Position, Arc<Event>>,
    (event, outcome): (Position, Outcome),
    progress: &mut ReplayProgress,
) -> bool {
    if outcome == Outcome::Again {
        return false;
    }
    count(progress, outcome);
    left.remove(&event);
    true
}

fn count(progress: &mut ReplayProgress, outcome: Outcome) {
    match outcome {
        Outcome::Delivered => progress.delivered += 1,
        Outcome::Filtered => progress.filtered += 1,
        Outcome::Stale => progress.stale += 1,
        Outcome::Failed => progress.failed += 1,
        Outcome::Passed => progress.passed += 1,
        Outcome::Again => {}
    }
}

/// An entity as an event, where the journal no longer has the one that told of it last.
fn snapshot(entity: &Entity) -> Event {
    let mut fields = entity.document();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let fact = Fact {
        kind: entity.kind.to_string(),
        key: entity.key.to_string(),
        system: lockstep_core::decide::HUB.to_owned(),
        source: lockstep_core::decide::HUB.to_owned(),
        of: 1,
        changed: (0..fields.len() as u32).collect(),
        fields,
        version: entity.version,
        occurred_at_us: entity.updated_at_us,
        received_at_us: entity.updated_at_us,
        event_type: if entity.is_deleted() {
            format!("{}.deleted", entity.kind)
        } else {
            format!("{}.changed", entity.kind)
        },
        deleted: entity.is_deleted(),
        ..Fact::default()
    };
    Event { position: entity.position, recorded_at_us: entity.updated_at_us, fact: Box::new(fact), replay: None }
}

impl crate::view::View<'_> {
    /// Entities of a kind, or of all where it is empty, after an id, in the order of ids.
    fn entities_after(&mut self, kind: &str, after: &str, limit: usize) -> Result<Vec<Arc<Entity>>, Unavailable> {
        let state = &self.looper.state;
        let mut all: BTreeMap<EntityId, Arc<Entity>> = BTreeMap::new();
        let (prefix, stored) = if kind.is_empty() {
            (String::new(), state.file.entities_after(after, limit))
        } else {
            let prefix = format!("{kind}/");
            let stored = state.file.entities(&prefix, after, limit);
            (prefix, stored)
        };
        for (id, bytes) in stored.map_err(unreadable)? {
            all.insert(id.into(), Arc::new(Entity::decode(bytes).map_err(unreadable)?));
        }
        all.extend(state.unflushed(&prefix, after));
        Ok(all.into_values().take(limit).collect())
    }
}
