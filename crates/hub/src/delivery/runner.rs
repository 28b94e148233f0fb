//! A destination's runner: reads events, keeps a bounded window of them under way, lets the pure
//! `delivery::next` say what follows each attempt, and reports to the loop.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use lockstep_connect::destination::{Destination, Sent};
use lockstep_core::delivery::{AttemptResult, Next, next};
use lockstep_core::record::{Attempt, Body, DeadLetterClosed, DeadLetterEnd, DeadLettered, Progress};
use lockstep_core::{Event, Position};
use tokio::sync::mpsc::Receiver;
use tokio::time::MissedTickBehavior;

use crate::delivery::queue::{Item, Window};
use crate::delivery::{Control, DeliveryOptions, Report, ReportBody, Start};
use crate::handle::HubHandle;
use crate::reading::{EventStream, StreamItem};
use crate::stats::now_us;
use crate::tally::DestinationTally;

/// How far back a retry by hand looks for newer deliveries of its entity.
const HISTORY_MAX: usize = 1_000;
/// How long a delivery under way is waited for at shutdown.
const END_WAIT: Duration = Duration::from_secs(5);

struct Runner {
    hub: HubHandle,
    name: String,
    destination: Arc<dyn Destination>,
    options: DeliveryOptions,
    generation: u64,
    window: Window,
    stream: EventStream,
    delivered: u64,
    filtered: u64,
    skipped: u64,
    paused: bool,
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
    let controls = hub.controls.register(&name);
    let mut skipped = 0;
    let tally = tally.unwrap_or_else(|| match options.start {
        Start::Beginning => DestinationTally::default(),
        Start::Now => {
            let tallies = hub.stats.tallies();
            skipped = tallies.published;
            DestinationTally { cursor: tallies.last_event, ..DestinationTally::default() }
        }
    });
    let stream = hub.stream(tally.cursor);
    let window = Window::after(tally.cursor, tally.settled);
    let runner = Runner {
        hub,
        name,
        destination,
        options,
        generation: 0,
        window,
        stream,
        delivered: 0,
        filtered: 0,
        skipped,
        paused: false,
    };
    tokio::spawn(runner.run(controls));
}

impl Runner {
    async fn run(mut self, mut controls: Receiver<Control>) {
        let mut flying = FuturesUnordered::new();
        let mut report = tokio::time::interval(Duration::from_millis(self.options.report_interval_ms.max(1)));
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !self.paused {
                self.window.wake(now_us());
                while flying.len() < self.options.concurrency_max
                    && let Some((id, item)) = self.window.next()
                {
                    if let Some((id, item)) = self.prepare(id, item) {
                        flying.push(attempt(self.generation, self.destination.clone(), id, item));
                    }
                }
            }
            let room = self.window.events() < self.options.window_events_max
                && self.window.bytes() < self.options.window_bytes_max;
            let retry_in = self.window.next_retry_us().map(|at_us| (at_us - now_us()).max(0) as u64);
            tokio::select! {
                biased;
                control = controls.recv() => match control {
                    Some(Control::End(done)) => {
                        // What is under way may finish: fewer deliveries have to be repeated.
                        while let Ok(Some(done)) = tokio::time::timeout(END_WAIT, flying.next()).await {
                            self.take(done);
                        }
                        self.report_progress();
                        if let Some(done) = done.lock().ok().and_then(|mut done| done.take()) {
                            // The asker may have gone.
                            let _ = done.send(());
                        }
                        return;
                    }
                    None => return,
                    Some(control) => self.obey(control).await,
                },
                Some(done) = flying.next(), if !flying.is_empty() => self.take(done),
                () = tokio::time::sleep(Duration::from_micros(retry_in.unwrap_or(0))), if !self.paused && retry_in.is_some() => {}
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

    fn take_events(&mut self, events: Vec<Arc<Event>>) {
        for event in events {
            if self.window.is_settled(event.position) {
                continue;
            }
            let bytes = event.fact.fields.iter().chain(&event.fact.rest).map(|f| f.name.len() + f.json.len()).sum::<usize>() + 512;
            let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
            self.window.add(id, Item { event, bytes, prepared: None, attempts: Vec::new(), round: 0, manual: None });
        }
        self.window.read_to(self.stream.position());
    }

    /// Filters and maps. What is kept back or can't be mapped is settled here.
    fn prepare(&mut self, id: String, mut item: Item) -> Option<(String, Item)> {
        if item.manual.is_some() && self.window.overtaken(&id, item.event.position) {
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
            Ok(None) => self.filtered += 1,
            Err(error) => {
                let number = item.attempts.len() as u32 + 1;
                item.attempts.push(Attempt { number, at_us: now_us(), detail: error.to_string(), manual: item.manual.is_some(), ..Attempt::default() });
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
        item.round += 1;
        let now = now_us();
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
                tracing::debug!(destination = self.name, event = item.event.position, number, detail = sent.detail, "attempt failed");
                item.attempts.push(attempt_record(number, at_us, &sent, item.manual.is_some()));
                self.window.retry_at(id, item, again_us);
            }
            Next::DeadLetter { reason } => {
                tracing::warn!(destination = self.name, event = item.event.position, reason, detail = sent.detail, "delivery given up");
                item.attempts.push(attempt_record(number, at_us, &sent, item.manual.is_some()));
                self.dead_letter(&item, reason);
                self.window.settle(&id, &item, false);
            }
        }
    }

    fn dead_letter(&self, item: &Item, reason: &str) {
        self.tell(ReportBody::DeadLettered(DeadLettered {
            destination: self.name.clone(),
            event: item.event.position,
            kind: item.event.fact.kind.clone(),
            key: item.event.fact.key.clone(),
            reason: reason.to_owned(),
            attempts: item.attempts.clone(),
            request: item.prepared.as_ref().map(|p| p.body.clone()).unwrap_or_default(),
            event_type: item.event.fact.event_type.clone(),
            again: item.manual.is_some(),
        }));
    }

    fn close(&self, item: &Item, end: DeadLetterEnd) {
        self.tell(ReportBody::Closed(DeadLetterClosed {
            destination: self.name.clone(),
            event: item.event.position,
            end: end as i32,
            reason: String::new(),
            by: item.manual.clone().unwrap_or_default(),
            attempts: item.attempts.clone(),
        }));
    }

    /// Journals how far it has come. Only when something was settled: a progress record alone must not cause
    /// the next one.
    fn report_progress(&mut self) {
        if self.delivered == 0 && self.filtered == 0 && self.skipped == 0 {
            return;
        }
        let progress = Progress {
            destination: self.name.clone(),
            cursor: self.window.cursor(),
            settled: self.window.settled().iter().copied().collect(),
            delivered: std::mem::take(&mut self.delivered),
            filtered: std::mem::take(&mut self.filtered),
            skipped: std::mem::take(&mut self.skipped),
        };
        self.tell(ReportBody::Progress(progress));
    }

    fn tell(&self, body: ReportBody) {
        self.hub.report(Report { generation: self.generation, body });
    }

    async fn obey(&mut self, control: Control) {
        match control {
            Control::Stop => self.paused = true,
            Control::Restart { generation, tally } => {
                self.generation = generation;
                self.stream = self.hub.stream(tally.cursor);
                self.window = Window::after(tally.cursor, tally.settled);
                (self.delivered, self.filtered, self.skipped) = (0, 0, 0);
                self.paused = false;
            }
            Control::Retry { event, record, by } => {
                if let Err(error) = self.retry_by_hand(event, record, by).await {
                    tracing::error!(destination = self.name, event, error = &error as &dyn std::error::Error, "a dead letter can't be read");
                }
            }
            Control::End(_) => {}
        }
    }

    async fn retry_by_hand(&mut self, position: Position, record: Position, by: String) -> Result<(), crate::ReadError> {
        let attempts = self.hub.record(record).await?.map(|r| crate::handle::attempts(&r).to_vec()).unwrap_or_default();
        let Some(event) = self.hub.record(position).await?.and_then(|r| Event::of(position, r)) else {
            return Ok(());
        };
        let id = lockstep_core::entity_id(&event.fact.kind, &event.fact.key);
        let item = Item { event: Arc::new(event), bytes: 512, prepared: None, attempts, round: 0, manual: Some(by) };
        if self.newer_was_delivered(&item.event).await? {
            self.close(&item, DeadLetterEnd::Superseded);
        } else {
            self.window.add(id, item);
        }
        Ok(())
    }

    /// Whether something newer of the same entity is at the destination: sending the older one would take it
    /// back in time.
    async fn newer_was_delivered(&self, event: &Event) -> Result<bool, crate::ReadError> {
        let Ok(Some(entity)) = self.hub.entity(&event.fact.kind, &event.fact.key).await else { return Ok(false) };
        let (later, _) = self.hub.history(entity.position, HISTORY_MAX).await?;
        for (position, record) in later.into_iter().take_while(|(position, _)| *position > event.position) {
            let recorded = matches!(&record.body, Some(Body::Fact(_)));
            let Some(newer) = Event::of(position, record).filter(|_| recorded) else { continue };
            let reached = self.window.is_settled(position)
                && matches!(self.destination.prepare(&newer), Ok(Some(_)))
                && matches!(self.hub.dead_letter(&self.name, position).await, Ok(None));
            if reached {
                return Ok(true);
            }
        }
        Ok(false)
    }
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
