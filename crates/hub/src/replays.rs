//! Replays: begun, shown, cancelled, taken up again after a restart. What each does is in `delivery/replay.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lockstep_connect::destination::Destination;
use lockstep_core::Position;
use lockstep_core::record::{Body, ReplayEnded, ReplayStarted};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::delivery::{Replay, ReplayOrder};
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::reading::ReadError;
use crate::tally::{DestinationTally, Tallies};
use crate::view::View;

/// How many replays that have ended are remembered.
const ENDED_MAX: usize = 100;
/// How many may go on at once.
const RUNNING_MAX: usize = 16;

/// What a replay is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayRequest {
    /// The destination.
    pub destination: String,
    /// Events after this position.
    pub after: Position,
    /// Up to this one; `None`: the newest there is when it begins.
    pub until: Option<Position>,
    /// The newest event of each entity, instead of all events.
    pub state: bool,
    /// Only entities of this kind; empty: all.
    pub kind: String,
    /// Only the entity with this key; empty: all.
    pub key: String,
    /// Only events of this type, a `*` at the end stands for anything; empty: all.
    pub event_type: String,
    /// At most so many events a second; 0: as fast as it goes.
    pub rate_per_s: u32,
    /// Also events of which something newer is there.
    pub stale: bool,
    /// Who asks for it.
    pub by: String,
}

/// A replay, and how far it is. The counts are those of the pages that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayTally {
    /// The destination.
    pub destination: String,
    /// Events after this position.
    pub after: Position,
    /// Up to this one.
    pub until: Position,
    /// The newest event of each entity, instead of all events.
    pub state: bool,
    /// Only entities of this kind; empty: all.
    pub kind: String,
    /// Only the entity with this key; empty: all.
    pub key: String,
    /// Only events of this type; empty: all.
    pub event_type: String,
    /// At most so many events a second; 0: as fast as it goes.
    pub rate_per_s: u32,
    /// Also events of which something newer is there.
    pub stale: bool,
    /// Who asked for it.
    pub by: String,
    /// When it began, microseconds since 1970 UTC.
    pub started_at_us: i64,
    /// Every event up to here has ended.
    pub cursor: Position,
    /// Every entity up to this id has ended, where it is a snapshot.
    pub after_id: String,
    /// Delivered.
    pub delivered: u64,
    /// Kept back by the destination's filter.
    pub filtered: u64,
    /// Not sent, since something newer is there or on its way.
    pub stale_count: u64,
    /// Given up: they are dead letters.
    pub failed: u64,
    /// Not sent, since they are on their way anyway, or dead letters.
    pub passed: u64,
    /// When it ended, microseconds since 1970 UTC; none while it goes on.
    pub ended_at_us: Option<i64>,
    /// Who cancelled it.
    pub cancelled_by: Option<String>,
}

impl Tallies {
    pub(crate) fn replay_started(&mut self, position: Position, recorded_at_us: i64, started: &ReplayStarted) {
        if started.first {
            // The destination begins where its snapshot was taken.
            let destination = DestinationTally {
                cursor: started.until,
                read_to: started.until,
                skipped: started.skipped,
                skipped_to: started.until,
                taken: Some(0),
                ..DestinationTally::default()
            };
            self.destinations.insert(started.destination.clone(), destination);
        }
        let replay = ReplayTally {
            destination: started.destination.clone(),
            after: started.after,
            until: started.until,
            state: started.state,
            kind: started.kind.clone(),
            key: started.key.clone(),
            event_type: started.event_type.clone(),
            rate_per_s: started.rate_per_s,
            stale: started.stale,
            by: started.by.clone(),
            started_at_us: recorded_at_us,
            cursor: started.after,
            ..ReplayTally::default()
        };
        self.replays.insert(position, replay);
    }

    /// The state that a destination began with, where it did and that is still remembered.
    pub(crate) fn first_state(&self, destination: &str) -> Option<&ReplayTally> {
        self.replays
            .values()
            .find(|replay| replay.by == lockstep_core::decide::HUB && replay.destination == destination)
    }

    pub(crate) fn replay_progressed(&mut self, progress: &lockstep_core::record::ReplayProgress) {
        let Some(replay) = self.replays.get_mut(&progress.replay) else { return };
        replay.cursor = progress.cursor;
        replay.after_id.clone_from(&progress.after_id);
        replay.delivered += progress.delivered;
        replay.filtered += progress.filtered;
        replay.stale_count += progress.stale;
        replay.failed += progress.failed;
        replay.passed += progress.passed;
    }

    pub(crate) fn replay_ended(&mut self, recorded_at_us: i64, ended: &ReplayEnded) {
        if let Some(replay) = self.replays.get_mut(&ended.replay) {
            replay.ended_at_us = Some(recorded_at_us);
            replay.cancelled_by = ended.cancelled.then(|| ended.by.clone());
        }
        let over: Vec<Position> =
            self.replays.iter().filter(|(_, r)| r.ended_at_us.is_some()).map(|(id, _)| *id).collect();
        for id in over.iter().take(over.len().saturating_sub(ENDED_MAX)) {
            self.replays.remove(id);
        }
    }
}

/// Why a replay can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ReplayRefused {
    /// The destination is not running.
    #[error("`{0}` is not running")]
    NotRunning(String),
    /// As many go on as may.
    #[error("{RUNNING_MAX} replays go on already: cancel one, or wait for its end")]
    TooMany,
    /// The hub can't write it.
    #[error("the hub can't begin it now")]
    Hub(#[from] Unavailable),
}

/// The replays that go on, and where they send to.
#[derive(Clone, Default)]
pub(crate) struct Replays(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    destinations: BTreeMap<String, (Arc<dyn Destination>, mpsc::Sender<ReplayOrder>)>,
    tasks: BTreeMap<Position, JoinHandle<()>>,
}

impl Replays {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A destination is running.
    pub(crate) fn attach(&self, name: &str, destination: Arc<dyn Destination>, orders: mpsc::Sender<ReplayOrder>) {
        self.inner().destinations.insert(name.to_owned(), (destination, orders));
    }

    fn begin(&self, hub: HubHandle, id: Position, at: ReplayTally) {
        let mut inner = self.inner();
        inner.tasks.retain(|_, task| !task.is_finished());
        let Some((destination, orders)) = inner.destinations.get(&at.destination).cloned() else { return };
        let replay = Replay::new(hub, id, at, destination, orders);
        inner.tasks.entry(id).or_insert_with(|| tokio::spawn(replay.run()));
    }

    fn end(&self, id: Position) {
        if let Some(task) = self.inner().tasks.remove(&id) {
            task.abort();
        }
    }

    /// Ends all where they are. What has been sent of a page is sent again after the next start, with the same ids.
    pub(crate) fn end_all(&self) {
        let tasks = std::mem::take(&mut self.inner().tasks);
        tasks.into_values().for_each(|task| task.abort());
    }
}

impl HubHandle {
    /// Begins a replay; its id is the position of its record.
    pub async fn start_replay(&self, request: ReplayRequest) -> Result<Position, ReplayRefused> {
        if !self.controls.names().contains(&request.destination) {
            return Err(ReplayRefused::NotRunning(request.destination));
        }
        let begun = self.ask(move |view| view.start_replay(request)).await?;
        let (id, at) = begun.ok_or(ReplayRefused::TooMany)?;
        self.controls.replays.begin(self.clone(), id, at);
        Ok(id)
    }

    /// Ends a replay. `false` where there is none of that id that goes on.
    pub async fn cancel_replay(&self, id: Position, by: &str) -> Result<bool, Unavailable> {
        let by = by.to_owned();
        let cancelled = self.ask(move |view| view.cancel_replay(id, by)).await?;
        if cancelled {
            self.controls.replays.end(id);
        }
        Ok(cancelled)
    }

    /// The replays that go on and those that have ended last, by id.
    pub async fn replays(&self) -> Result<BTreeMap<Position, ReplayTally>, Unavailable> {
        self.ask(|view| Ok(view.looper().state.tallies.replays.clone())).await
    }

    /// Takes up again the replays to a destination that go on.
    pub(crate) fn take_up_replays(&self, destination: &str) {
        let replays = self.stats.tallies().replays;
        let of_it = replays.into_iter().filter(|(_, r)| r.destination == destination && r.ended_at_us.is_none());
        for (id, at) in of_it {
            self.controls.replays.begin(self.clone(), id, at);
        }
    }

    /// Has a new destination begin with a snapshot of what the hub has now, and then with what comes: both follow from one
    /// record, so nothing is between them. Where it has begun already, where it is.
    pub(crate) async fn begin_with_state(&self, destination: &str) -> Result<DestinationTally, Unavailable> {
        let name = destination.to_owned();
        let (tally, begun) = self.ask(move |view| view.begin_with_state(&name)).await?;
        if let Some((id, at)) = begun {
            self.controls.replays.begin(self.clone(), id, at);
        }
        Ok(tally)
    }

    /// The last position that was recorded before a moment (microseconds since 1970 UTC).
    pub async fn position_before(&self, at_us: i64) -> Result<Position, ReadError> {
        let reader = self.reader.clone();
        crate::reading::blocking(move || {
            let bounds = reader.bounds();
            // The first record from then on is among these.
            let (mut low, mut high) = (bounds.first, bounds.next);
            while low < high {
                let middle = low + (high - low) / 2;
                let is_before =
                    crate::reading::record(&*reader, middle)?.is_none_or(|record| record.recorded_at_us < at_us);
                if is_before { low = middle + 1 } else { high = middle }
            }
            Ok(low.saturating_sub(1))
        })
        .await
    }
}

impl View<'_> {
    pub(crate) fn record(&mut self, body: Body) {
        self.looper.record(body, self.open);
    }

    fn start_replay(&mut self, request: ReplayRequest) -> Result<Option<(Position, ReplayTally)>, Unavailable> {
        self.may_write()?;
        let tallies = &self.looper.state.tallies;
        if tallies.replays.values().filter(|replay| replay.ended_at_us.is_none()).count() >= RUNNING_MAX {
            return Ok(None);
        }
        let until = request.until.unwrap_or(tallies.last_event).min(tallies.last_event);
        let started = ReplayStarted {
            destination: request.destination,
            after: request.after.min(until),
            until,
            state: request.state,
            kind: request.kind,
            key: request.key,
            event_type: request.event_type,
            rate_per_s: request.rate_per_s,
            stale: request.stale,
            by: request.by,
            ..ReplayStarted::default()
        };
        Ok(self.begun(started))
    }

    fn begun(&mut self, started: ReplayStarted) -> Option<(Position, ReplayTally)> {
        let id = self.looper.facts.next;
        self.record(Body::ReplayStarted(started));
        Some((id, self.looper.state.tallies.replays.get(&id)?.clone()))
    }

    fn begin_with_state(
        &mut self,
        destination: &str,
    ) -> Result<(DestinationTally, Option<(Position, ReplayTally)>), Unavailable> {
        if let Some(tally) = self.looper.state.tallies.destinations.get(destination) {
            return Ok((tally.clone(), None));
        }
        self.may_write()?;
        let tallies = &self.looper.state.tallies;
        let started = ReplayStarted {
            destination: destination.to_owned(),
            until: tallies.last_event,
            state: true,
            by: lockstep_core::decide::HUB.to_owned(),
            first: true,
            skipped: tallies.published,
            ..ReplayStarted::default()
        };
        let begun = self.begun(started);
        Ok((self.looper.state.tallies.destinations.get(destination).cloned().unwrap_or_default(), begun))
    }

    fn cancel_replay(&mut self, id: Position, by: String) -> Result<bool, Unavailable> {
        self.may_write()?;
        if self.looper.state.tallies.replays.get(&id).is_none_or(|replay| replay.ended_at_us.is_some()) {
            return Ok(false);
        }
        self.record(Body::ReplayEnded(ReplayEnded { replay: id, cancelled: true, by }));
        Ok(true)
    }
}
