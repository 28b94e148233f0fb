//! The handle by which everything else talks to the hub. Cheap to clone; every question that must be current
//! is asked of the loop, and its answer waits until what it was drawn from is durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use lockstep_core::record::{Attempt, Record};
use lockstep_core::{Entity, Input, Outcome, Position, Refusal};
use lockstep_journal::Reader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::delivery::Controls;
use crate::failure::Unavailable;
use crate::looper::{Message, Query, Submission};
use crate::oversight::Oversight;
use crate::reading::{EventFilter, EventStream, ReadError};
use crate::state::rows::{IncompleteEntity, QuarantineRow};
use crate::stats::Stats;
use crate::tail::Tail;

/// The answer to one input.
pub type Answer = Result<Outcome, Refusal>;

/// Inputs that have their place in the order and are not answered yet.
pub struct Enqueued(oneshot::Receiver<Result<Vec<Answer>, Unavailable>>);

impl Enqueued {
    /// Waits until their decisions are durable. One answer for each, in order.
    pub async fn answers(self) -> Result<Vec<Answer>, Unavailable> {
        self.0.await.unwrap_or(Err(Unavailable::ShuttingDown))
    }
}

/// A part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// Which quarantined deliveries to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuarantineFilter {
    /// Only those of this source.
    pub source: Option<String>,
    /// Only those after this record.
    pub after: Position,
    /// At most so many.
    pub limit: usize,
}

/// Which incomplete entities to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncompleteFilter {
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those that have been so since this moment or longer, microseconds since 1970 UTC.
    pub until_us: Option<i64>,
    /// Only those after this (kind, since, key).
    pub after: Option<(String, i64, String)>,
    /// At most so many.
    pub limit: usize,
}

/// See the module.
#[derive(Clone)]
pub struct HubHandle {
    pub(crate) inbox: Sender<Message>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) room_bytes: u32,
    pub(crate) stats: Arc<Stats>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) controls: Controls,
    pub(crate) oversight: Oversight,
}

impl HubHandle {
    /// Gives inputs to the loop and waits until their decisions are durable. One answer for each, in order.
    ///
    /// They are decided one after the other without anything between them, and written in one batch. Where the
    /// hub is saturated this fails at once instead of waiting: the caller's queue is the place to wait.
    pub async fn submit(&self, inputs: Vec<Input>) -> Result<Vec<Answer>, Unavailable> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        self.submit_now(inputs)?.answers().await
    }

    /// The same, come back from as soon as the inputs have their place in the order.
    pub(crate) fn submit_now(&self, inputs: Vec<Input>) -> Result<Enqueued, Unavailable> {
        let bytes: usize = inputs.iter().map(input_bytes).sum();
        // One submission larger than the whole room may still go in alone.
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_bytes);
        let Ok(permit) = self.room.clone().try_acquire_many_owned(permits) else {
            self.stats.saturated.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            return Err(Unavailable::Saturated { retry_after_s: 1 });
        };
        self.put(inputs, bytes, permit)
    }

    /// The same for a caller that has a queue of its own and reads no further meanwhile: waits for room instead of
    /// failing, and comes back as soon as the inputs have their place in the order, before they are decided.
    pub async fn enqueue(&self, inputs: Vec<Input>) -> Result<Enqueued, Unavailable> {
        let bytes: usize = inputs.iter().map(input_bytes).sum();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.room_bytes);
        // The semaphore is never closed; were it, the hub would be gone.
        let permit = self.room.clone().acquire_many_owned(permits).await.map_err(|_| Unavailable::ShuttingDown)?;
        self.put(inputs, bytes, permit)
    }

    fn put(&self, inputs: Vec<Input>, bytes: usize, permit: OwnedSemaphorePermit) -> Result<Enqueued, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let submission = Submission { inputs, bytes, reply, permit, arrived: std::time::Instant::now() };
        self.send(Message::Submit(submission))?;
        Ok(Enqueued(answer))
    }

    /// An entity as it is now; `None` where the hub does not know it.
    pub async fn entity(&self, kind: &str, key: &str) -> Result<Option<Arc<Entity>>, Unavailable> {
        let id = lockstep_core::entity_id(kind, key);
        self.ask(move |view| view.entity(&id)).await
    }

    /// An entity by its key, or by what a system calls it (`@shop/order_id/1001`), merged or not.
    pub async fn named(&self, kind: &str, key: &str) -> Result<Option<Arc<Entity>>, Unavailable> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.ask(move |view| view.named(&kind, &key)).await
    }

    /// The same, or what it is merged into: what readers see.
    pub async fn find(&self, kind: &str, key: &str) -> Result<Option<Arc<Entity>>, Unavailable> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.ask(move |view| view.find(&kind, &key)).await
    }

    /// Entities of a kind in the order of their keys, after `after`.
    pub async fn entities(&self, kind: &str, after: &str, limit: usize) -> Result<Page<Arc<Entity>>, Unavailable> {
        let (kind, after) = (kind.to_owned(), after.to_owned());
        self.ask(move |view| view.entities(&kind, &after, limit)).await
    }

    /// The name of the policy that decides a field (by its path) of a kind.
    pub async fn policy(&self, kind: &str, field: &str) -> Result<&'static str, Unavailable> {
        let (kind, field) = (kind.to_owned(), field.to_owned());
        self.ask(move |view| Ok(view.policy(&kind, &field))).await
    }

    /// Open quarantined deliveries, oldest first.
    pub async fn quarantine(&self, filter: QuarantineFilter) -> Result<Page<QuarantineRow>, Unavailable> {
        self.ask(move |view| view.quarantine(&filter)).await
    }

    /// Incomplete entities, by kind, the oldest first.
    pub async fn incomplete(&self, filter: IncompleteFilter) -> Result<Page<IncompleteEntity>, Unavailable> {
        self.ask(move |view| view.incomplete(&filter)).await
    }

    /// The record at a position.
    pub async fn record(&self, position: Position) -> Result<Option<Record>, ReadError> {
        if let Some(record) = self.tail.get(position) {
            return Ok(Some(record));
        }
        let reader = self.reader.clone();
        crate::reading::blocking(move || crate::reading::record(&*reader, position)).await
    }

    /// The history of an entity, newest first: follows the links from `from` (its latest position) back, at
    /// most `limit` records. The second value says where to go on; 0 at the beginning.
    pub async fn history(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<(Vec<(Position, Record)>, Position), ReadError> {
        let (reader, tail) = (self.reader.clone(), self.tail.clone());
        crate::reading::blocking(move || crate::reading::history(&*reader, &tail, from, limit)).await
    }

    /// At most `limit` events of an entity from `from` back, newest first: from its [`Entity::events_from`] on.
    pub(crate) async fn past_events(
        &self,
        from: Position,
        limit: usize,
    ) -> Result<crate::reading::PastEvents, ReadError> {
        let (reader, tail) = (self.reader.clone(), self.tail.clone());
        crate::reading::blocking(move || crate::reading::past_events(&*reader, &tail, from, limit)).await
    }

    /// Published events after a position, at most `limit`, with the position to go on from. Looks at a bounded
    /// part of the journal: fewer than `limit` (even none) does not mean the end, the position does.
    pub async fn events(
        &self,
        after: Position,
        filter: EventFilter,
        limit: usize,
    ) -> Result<crate::reading::EventPage, ReadError> {
        let reader = self.reader.clone();
        crate::reading::blocking(move || crate::reading::events(&*reader, after, &filter, limit)).await
    }

    /// Published events after a position, then live ones as they become durable.
    pub fn stream(&self, after: Position) -> EventStream {
        EventStream::new(self.tail.clone(), self.reader.clone(), after)
    }

    /// The first position kept and the next to be written.
    pub fn bounds(&self) -> lockstep_journal::Bounds {
        self.reader.bounds()
    }

    /// The hub's own figures.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The running destinations.
    pub fn destinations(&self) -> Vec<String> {
        self.controls.names()
    }

    /// The destinations that count as down, and since when (microseconds since 1970 UTC): nothing is sent to them
    /// but single probes.
    pub fn destinations_down(&self) -> BTreeMap<String, i64> {
        self.controls.down()
    }

    /// What each running destination is sent at the moment.
    pub fn destination_conditions(&self) -> BTreeMap<String, crate::delivery::Condition> {
        self.controls.conditions()
    }

    /// From now on events of a destination go so; at its next start as it is configured again. Whether it is running.
    pub fn set_cadence(&self, name: &str, cadence: lockstep_core::delivery::Cadence) -> bool {
        self.controls.set_cadence(name, cadence)
    }

    /// Reports of a destination's runner, to be journaled.
    pub(crate) fn report(&self, report: crate::delivery::Report) {
        // A closed inbox means shutdown; what is not journaled is delivered again with the same id.
        let _ = self.inbox.send(Message::Report(report));
    }

    /// Asks the loop; the answer waits for what it was drawn from to be durable.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut crate::view::View<'_>) -> Result<T, Unavailable> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let query = Query::new(move |view| {
            let result = question(view);
            Box::new(move |durable: Result<(), Unavailable>| {
                // The asker may have gone.
                let _ = reply.send(durable.and(result));
            })
        });
        self.send(Message::Ask(query))?;
        answer.await.unwrap_or(Err(Unavailable::ShuttingDown))
    }

    fn send(&self, message: Message) -> Result<(), Unavailable> {
        self.inbox.send(message).map_err(|_| Unavailable::ShuttingDown)
    }
}

/// What an input takes in memory, roughly: the bound is for memory, not for accounting.
fn input_bytes(input: &Input) -> usize {
    let body = match &input.body {
        lockstep_core::InputBody::Changes(changes) => {
            changes.iter().flat_map(|c| &c.fields).map(|f| f.name.len() + f.json.len() + 64).sum()
        }
        lockstep_core::InputBody::Quarantine(reason) => reason.detail.len(),
        lockstep_core::InputBody::Retry { order } => order.len(),
        lockstep_core::InputBody::Stock(commands) => commands.iter().map(|command| 256 + 128 * command.size()).sum(),
    };
    256 + body + input.raw.as_ref().map_or(0, |raw| raw.body.len())
}

/// All attempts of a dead letter's record.
pub(crate) fn attempts(record: &Record) -> &[Attempt] {
    match &record.body {
        Some(lockstep_core::record::Body::DeadLettered(dead)) => &dead.attempts,
        Some(lockstep_core::record::Body::DeadLetterClosed(closed)) => &closed.attempts,
        _ => &[],
    }
}
