//! A destination's runner: reads events, keeps a bounded window of them under way, lets the pure
//! `delivery::next` say what follows each attempt, and reports to the loop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use lockstep_connect::destination::{Destination, Sent};
use lockstep_core::delivery::{AttemptResult, Breaker, Next, Permit, Worth, next};
use lockstep_core::record::{Attempt, DeadLetterClosed, DeadLetterEnd, DeadLettered, Progress};
use lockstep_core::{Event, Position};
use tokio::time::MissedTickBehavior;

use crate::delivery::queue::{Item, Letter, Window};
use crate::delivery::replay_queue::Outcome;
use crate::delivery::{DeliveryOptions, Ends, Health, Phase, Report, ReportBody, Retry, Start};
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::importing::LetterEvent;
use crate::reading::{EventStream, StreamItem};
use crate::stats::now_us;
use crate::tally::DestinationTally;

/// How far back a retry by hand looks for newer deliveries of its entity.
const HISTORY_MAX: usize = 1_000;
/// How many records of it are read at a time.
const HISTORY_STEP: usize = 32;
/// How often the log is told of deliveries that were given up.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// How long a delivery under way is waited for at shutdown.
const END_WAIT: Duration = Duration::from_secs(5);

struct Runner {
    hub: HubHandle,
    name: String,
    destination: Arc<dyn Destination>,
    options: DeliveryOptions,
    generation: u64,
    window: Window,
    breaker: Breaker,
    health: Arc<Health>,
    stream: EventStream,
    delivered: u64,
    filtered: u64,
    own_words: u64,
    skipped: u64,
    /// Something else than a count has changed that must be journaled.
    moved: bool,
    paused: bool,
    /// Deliveries given up since the log was told, and when it was.
    given_up: u64,
    warned: Option<Instant>,
    /// Where it began, for when the journal does not even know it.
    origin: (DestinationTally, u64),
}

/// An attempt under way comes back with its key and generation.
struct Done {
    generation: u64,
    id: String,
    item: Item,
    at_us: i64,
    sent: Sent,
}

/// Starts a runner.
pub(crate) fn spawn(
    hub: HubHandle,
    name: String,
    destination: Arc<dyn Destination>,
    options: DeliveryOptions,
    tally: Option<DestinationTally>,
) {
    let ends = hub.controls.register(&name, &options.system, &destination);
    tokio::spawn(async move {
        let mut skipped = 0;
        let tally = match tally {
            Some(tally) => tally,
            None => {
                let (tally, events_before) = origin(&hub, &name, options.start).await;
                skipped = events_before;
                tally
            }
        };
        hub.take_up_replays(&name);
        let stream = hub.stream(tally.cursor);
        let window = Window::after(tally.cursor, tally.read_to, tally.open.clone());
        let breaker = Breaker::new(options.breaker);
        ends.health.sent_to.fetch_max(tally.read_to, Ordering::Relaxed);
        let runner = Runner {
            hub,
            name,
            destination,
            options,
            generation: 0,
            window,
            breaker,
            health: ends.health.clone(),
            stream,
            delivered: 0,
            filtered: 0,
            own_words: 0,
            skipped,
            moved: false,
            paused: false,
            given_up: 0,
            warned: None,
            origin: (tally, skipped),
        };
        runner.run(ends).await;
    });
}

/// Where a new destination begins, and how many events it is not to have: those before it, and those that
/// retention has dropped.
async fn origin(hub: &HubHandle, name: &str, start: Start) -> (DestinationTally, u64) {
    let tallies = hub.stats.tallies();
    let at = |cursor| DestinationTally { cursor, read_to: cursor, ..DestinationTally::default() };
    let first = hub.bounds().first;
    match start {
        Start::State => loop {
            match hub.begin_with_state(name).await {
                // What it is not to have is journaled with it.
                Ok(tally) => return (tally, 0),
                Err(Unavailable::ShuttingDown) => return (at(tallies.last_event), 0),
                Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        },
        Start::Now => (at(tallies.last_event), tallies.published),
        Start::Beginning if first <= 1 => (at(0), 0),
        Start::Beginning => {
            let mut kept = 0;
            let mut stream = hub.stream(first - 1);
            while stream.position() < tallies.last_event {
                match stream.next().await {
                    Ok(StreamItem::Events(events)) => {
                        kept += events.iter().filter(|e| e.position <= tallies.last_event).count() as u64;
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "kept events can't be counted");
                        break;
                    }
                }
            }
            (at(first - 1), tallies.published.saturating_sub(kept))
        }
    }
}

impl Runner {
    async fn run(mut self, ends: Ends) {
        let Ends { mut orders, mut replays, mut phase, mut end, .. } = ends;
        let mut flying = FuturesUnordered::new();
        let mut report = tokio::time::interval(Duration::from_millis(self.options.report_interval_ms.max(1)));
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while !self.paused
                && flying.len() < self.options.concurrency_max
                && let Some((id, item)) = self.next()
            {
                if let Some((id, item)) = self.prepare(id, item) {
                    flying.push(attempt(self.generation, self.destination.clone(), id, item));
                } else {
                    self.breaker.unprobed();
                }
            }
            let room = self.window.events() < self.options.window_events_max
                && self.window.bytes() < self.options.window_bytes_max;
            let wake_in = self.next_us().map(|at_us| (at_us - now_us()).max(0) as u64);
            tokio::select! {
                biased;
                changed = phase.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = phase.borrow_and_update().clone();
                    if matches!(&now, Phase::Running { generation, .. } if *generation != self.generation) {
                        // An attempt under way must not arrive after what is sent next.
                        let _ = tokio::time::timeout(END_WAIT, async { while flying.next().await.is_some() {} }).await;
                        flying.clear();
                    }
                    self.enter(now);
                },
                done = end.recv() => {
                    // What is under way may finish: fewer deliveries have to be repeated.
                    while let Ok(Some(done)) = tokio::time::timeout(END_WAIT, flying.next()).await {
                        self.take(done);
                    }
                    self.report_progress();
                    if let Some(done) = done {
                        // The asker may have gone.
                        let _ = done.send(());
                    }
                    return;
                },
                Some(Retry { event, record, by }) = orders.recv(), if room && !self.paused => {
                    if let Err(error) = self.retry_by_hand(event, record, by).await {
                        tracing::error!(destination = self.name, event, error = &error as &dyn std::error::Error, "a dead letter can't be sent again");
                    }
                },
                Some(order) = replays.recv(), if room && !self.paused => self.window.replay(order),
                Some(done) = flying.next(), if !flying.is_empty() => self.take(done),
                () = tokio::time::sleep(Duration::from_micros(wake_in.unwrap_or(0))), if !self.paused && wake_in.is_some() => {}
                _ = report.tick() => self.report_progress(),
                read = self.stream.next(), if room && !self.paused => match read {
                    Ok(StreamItem::Events(events)) => self.take_events(events),
                    Err(error) => {
                        tracing::error!(destination = self.name, error = &error as &dyn std::error::Error, "events can't be read; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                },
            }
        }
    }

    /// What may be sent now, if anything.
    fn next(&mut self) -> Option<(String, Item)> {
        let now = now_us();
        let permit = self.breaker.permit(now);
        if matches!(permit, Permit::Wait(_)) {
            return None;
        }
        self.window.wake(now);
        let next = self.window.next()?;
        self.health.sent_to.fetch_max(next.1.event.position, Ordering::Relaxed);
        if permit == Permit::Probe {
            self.breaker.probe();
        }
        Some(next)
    }

    /// When there is something to be done that nothing else wakes for: a retry, or a probe.
    fn next_us(&self) -> Option<i64> {
        match self.breaker.permit(now_us()) {
            Permit::Free => self.window.next_retry_us(),
            // With nothing to send, it is the next event that wakes.
            Permit::Wait(Some(probe_us)) if self.window.is_ready() => Some(probe_us),
            Permit::Wait(Some(probe_us)) => self.window.next_retry_us().map(|retry_us| retry_us.max(probe_us)),
            Permit::Wait(None) => None,
            Permit::Probe => self.window.next_retry_us(),
        }
    }

    fn take_events(&mut self, events: Vec<Arc<Event>>) {
        for event in events {
            if self.window.is_settled(event.position) {
                continue;
            }
            let bytes = bytes_of(&event);
            let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
            self.window.add(
                id.into(),
                Item {
                    event,
                    bytes,
                    prepared: None,
                    attempts: Vec::new(),
                    round: 0,
                    manual: None,
                    letter: Letter::default(),
                    replay: None,
                },
            );
        }
        self.window.read_to(self.stream.position());
    }

    /// Filters and maps. What is kept back or can't be mapped is settled here.
    fn prepare(&mut self, id: String, mut item: Item) -> Option<(String, Item)> {
        if self.window.is_too_late(&id, &item) {
            self.close(&item, DeadLetterEnd::Superseded);
            self.window.settle(&id, &item, false);
            return None;
        }
        if item.prepared.is_some() {
            return Some((id, item));
        }
        match self.destination.prepare(&item.event) {
            Ok(Some(prepared)) => {
                item.prepared = Some(Arc::new(prepared));
                return Some((id, item));
            }
            Ok(None) if item.manual.is_some() => self.close(&item, DeadLetterEnd::Discarded),
            Ok(None) => {
                self.filtered += 1;
                self.own_words += u64::from(self.destination.keeps_own_word(&item.event));
            }
            Err(error) => {
                let number = item.attempts.len() as u32 + 1;
                item.attempts.push(Attempt {
                    number,
                    at_us: now_us(),
                    detail: error.to_string(),
                    manual: item.manual.is_some(),
                    ..Attempt::default()
                });
                self.dead_letter(&item, "poison");
            }
        }
        self.window.settle(&id, &item, false);
        None
    }

    fn take(&mut self, done: Done) {
        let Done { generation, id, mut item, at_us, sent } = done;
        if generation != self.generation {
            return;
        }
        let number = item.attempts.last().map_or(0, |a| a.number) + 1;
        let now = now_us();
        if !self.breaker_takes(&id, &sent, now) {
            self.window.put_back(id, item);
            return;
        }
        item.round += 1;
        match next(&self.options.retry, item.round, sent.result, now, fastrand::u64(..)) {
            Next::Delivered => {
                let received_at_us = item.event.fact.received_at_us;
                if item.manual.is_some() {
                    item.attempts.push(attempt_record(number, at_us, &sent, true));
                    self.close(&item, DeadLetterEnd::Delivered);
                } else {
                    self.hub.stats.end_to_end.record_us((now - received_at_us).max(0) as u64);
                    self.delivered += 1;
                }
                self.window.settle(&id, &item, true);
            }
            Next::RetryAt { at_us: again_us } => {
                tracing::debug!(
                    destination = self.name,
                    event = item.event.position,
                    number,
                    detail = sent.detail,
                    "attempt failed"
                );
                item.attempts.push(attempt_record(number, at_us, &sent, item.manual.is_some()));
                self.window.retry_at(id, item, again_us);
            }
            Next::DeadLetter { reason } => {
                self.warn_given_up(item.event.position, reason, &sent.detail);
                item.attempts.push(attempt_record(number, at_us, &sent, item.manual.is_some()));
                self.dead_letter(&item, reason);
                self.window.settle(&id, &item, false);
            }
        }
    }

    /// Whether an attempt counts; the log is told when the destination goes down and comes back.
    fn breaker_takes(&mut self, id: &str, sent: &Sent, now_us: i64) -> bool {
        let before = self.breaker.open_since_us();
        let counts = self.breaker.take(xxhash_rust::xxh3::xxh3_64(id.as_bytes()), sent.result, now_us);
        let after = self.breaker.open_since_us();
        if before != after {
            self.health.down_since_us.store(after.unwrap_or(0), Ordering::Relaxed);
            match before {
                None => tracing::warn!(
                    destination = self.name,
                    detail = sent.detail,
                    "the destination seems to be down: deliveries wait until a probe gets through"
                ),
                Some(since_us) => {
                    let down_s = (now_us - since_us) as f64 / 1e6;
                    tracing::info!(destination = self.name, down_s, "the destination answers again");
                }
            }
        }
        counts
    }

    /// One line now and then, with how many there were: a dead destination must not fill the log. Every dead
    /// letter is in the list with all its attempts.
    fn warn_given_up(&mut self, event: Position, reason: &str, detail: &str) {
        self.given_up += 1;
        let now = Instant::now();
        if self.warned.is_some_and(|last| now.duration_since(last) < WARN_EVERY) {
            return;
        }
        self.warned = Some(now);
        let count = std::mem::take(&mut self.given_up);
        tracing::warn!(destination = self.name, count, event, reason, detail, "deliveries given up");
    }

    fn dead_letter(&mut self, item: &Item, reason: &str) {
        if item.manual.is_none() {
            // So that the journal has the event as open before it hears of its end.
            self.moved = true;
            self.report_progress();
            self.moved = true;
        }
        let worth = Worth::of(&item.event);
        self.tell(ReportBody::DeadLettered(Box::new(DeadLettered {
            destination: self.name.clone(),
            event: if item.manual.is_some() { item.letter.event } else { item.event.position },
            kind: item.event.fact.kind.clone(),
            key: item.event.fact.key.clone(),
            reason: reason.to_owned(),
            attempts: item.attempts.clone(),
            request: item.prepared.as_ref().map(|p| p.body.clone()).unwrap_or_default(),
            event_type: item.event.fact.event_type.clone(),
            again: item.manual.is_some() && item.replay.is_none(),
            replay: item.replay.as_ref().map_or(0, |ticket| ticket.replay),
            minor: worth.value.as_ref().map(|(minor, _)| *minor),
            currency: worth.value.map(|(_, currency)| currency).unwrap_or_default(),
            promised_at_us: worth.promised_at_us,
            event_at_us: item.event.recorded_at_us,
            origin: None,
        })));
        if let Some(ticket) = &item.replay {
            ticket.tell(Outcome::Failed);
        }
    }

    fn close(&self, item: &Item, end: DeadLetterEnd) {
        if let Some(ticket) = &item.replay {
            return ticket.closed(end);
        }
        let (brought_in, fact) = (item.letter.brought_in, &item.event.fact);
        let entity = if brought_in { lockstep_core::entity_id(&fact.kind, &fact.key).into() } else { String::new() };
        self.tell(ReportBody::Closed(DeadLetterClosed {
            destination: self.name.clone(),
            event: item.letter.event,
            entity,
            event_at_us: if brought_in { item.event.recorded_at_us } else { 0 },
            end: end as i32,
            reason: String::new(),
            by: item.manual.clone().unwrap_or_default(),
            attempts: item.attempts.clone(),
        }));
    }

    /// Journals how far it has come. Only when something was settled: a progress record alone must not cause
    /// the next one.
    fn report_progress(&mut self) {
        if !self.moved && self.delivered == 0 && self.filtered == 0 && self.skipped == 0 {
            return;
        }
        self.moved = false;
        let progress = Progress {
            destination: self.name.clone(),
            cursor: self.window.cursor(),
            open: self.window.open().into_iter().collect(),
            delivered: std::mem::take(&mut self.delivered),
            filtered: std::mem::take(&mut self.filtered),
            own_words: std::mem::take(&mut self.own_words),
            skipped: std::mem::take(&mut self.skipped),
            read_to: self.window.seen_to(),
        };
        self.tell(ReportBody::Progress(progress));
    }

    fn tell(&self, body: ReportBody) {
        self.hub.report(Report { generation: self.generation, body });
    }

    fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Stopped => self.paused = true,
            Phase::Running { generation, tally } => {
                if generation != self.generation {
                    let (tally, skipped) = tally.map_or_else(|| self.origin.clone(), |tally| (tally, 0));
                    self.generation = generation;
                    self.stream = self.hub.stream(tally.cursor);
                    self.window = Window::after(tally.cursor, tally.read_to, tally.open);
                    (self.delivered, self.filtered, self.own_words, self.skipped) = (0, 0, 0, skipped);
                    // A probe under way was abandoned with everything else.
                    self.breaker.unprobed();
                }
                self.paused = false;
            }
        }
    }

    async fn retry_by_hand(&mut self, position: Position, record: Position, by: String) -> Result<(), RetryError> {
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
        let letter = Letter { event: position, brought_in: origin.is_some() };
        let foreign = origin.is_some_and(|origin| !origin.own);
        let item = Item {
            bytes: bytes_of(&event),
            event,
            prepared: None,
            attempts,
            round: 0,
            manual: Some(by),
            letter,
            replay: None,
        };
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
        let Some(entity) = self.hub.entity(&event.fact.kind, &event.fact.key).await? else { return Ok(false) };
        let mut at = entity.position;
        let mut looked_at = 0;
        while at > 0 && looked_at < HISTORY_MAX {
            // The newest one mostly decides.
            let step = if looked_at == 0 { 1 } else { HISTORY_STEP };
            let (later, next) = self.hub.history(at, step).await?;
            looked_at += later.len();
            at = next;
            for (position, record) in later {
                let newer =
                    if foreign { record.recorded_at_us >= event.recorded_at_us } else { position > event.position };
                if !newer {
                    return Ok(false);
                }
                let Some(newer) = Event::of(position, record) else { continue };
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
enum RetryError {
    #[error("the journal can't be read")]
    Read(#[from] crate::ReadError),
    #[error("the hub can't answer")]
    Hub(#[from] crate::Unavailable),
}

/// What an event takes in memory, roughly.
pub(super) fn bytes_of(event: &Event) -> usize {
    let fields = event.fact.fields.iter().chain(&event.fact.rest);
    let raw = event.fact.raw.as_ref().map_or(0, |raw| raw.body.len());
    512 + raw + fields.map(|f| f.name.len() + f.json.len() + 96).sum::<usize>()
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

async fn attempt(generation: u64, destination: Arc<dyn Destination>, id: String, item: Item) -> Done {
    let at_us = now_us();
    let number = item.attempts.last().map_or(0, |a| a.number) + 1;
    let sent = match &item.prepared {
        Some(prepared) => destination.send(prepared, number).await,
        // `prepare` has run for every item that gets here.
        None => Sent {
            result: AttemptResult::Poison,
            status: 0,
            detail: "not prepared".into(),
            response_head: String::new(),
            duration_us: 0,
        },
    };
    Done { generation, id, item, at_us, sent }
}

fn attempt_record(number: u32, at_us: i64, sent: &Sent, manual: bool) -> Attempt {
    Attempt {
        number,
        at_us,
        duration_us: sent.duration_us,
        status: u32::from(sent.status),
        detail: sent.detail.clone(),
        response_head: sent.response_head.clone(),
        manual,
    }
}
