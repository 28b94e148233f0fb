//! The loop: collect, load, decide, seal. The only place where state changes, on one thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::{Duration, Instant};

use lockstep_core::decide::MERGE_KIND;
use lockstep_core::record::{Body, Record};
use lockstep_core::{EntityId, Facts, Input, InputBody, Outcome, Position, Refusal, decide};
use lockstep_journal::Reader;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::delivery::{Controls, Report, ReportBody};
use crate::failure::Unavailable;
use crate::flush::{Flushed, ToFlusher};
use crate::handle::Answer;
use crate::journaler::{Deferred, Reply, Sealed, ToJournal, chain};
use crate::options::HubOptions;
use crate::state::rows::DeadLetterRow;
use crate::state::{State, incomplete, tally};
use crate::stats::Stats;
use crate::stock::invariants::Watch;
use crate::stock::retries::Retries;
use crate::time::Time;
use crate::view::View;

/// Inputs given together.
pub(crate) struct Submission {
    pub(crate) inputs: Vec<Input>,
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Result<Vec<Answer>, Unavailable>>,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) arrived: Instant,
}

/// A question to the loop.
pub(crate) struct Query(Box<dyn FnOnce(&mut View<'_>) -> Deferred + Send>);

impl Query {
    pub(crate) fn new(ask: impl FnOnce(&mut View<'_>) -> Deferred + Send + 'static) -> Self {
        Self(Box::new(ask))
    }
}

/// What reaches the loop.
pub(crate) enum Message {
    Submit(Submission),
    Ask(Query),
    Report(Report),
    /// What timers that are due have to say.
    Due(Vec<Input>),
    /// The flusher has said something.
    Wake,
    JournalFailed(Unavailable),
    JournalRecovered,
    Shutdown,
    /// The hub was dropped: nothing more is done, as after a crash.
    Crash,
}

/// Whether the loop takes inputs.
pub(crate) enum Mode {
    Normal,
    /// The disk is full: a probe is tried now and then.
    Full {
        next_probe: Instant,
        probing: bool,
    },
    /// What is on the disk is uncertain: reads go on, from what is known to be durable.
    Poisoned(Unavailable),
}

impl Message {
    fn inputs(&self) -> &[Input] {
        match self {
            Self::Submit(submission) => &submission.inputs,
            Self::Due(inputs) => inputs,
            _ => &[],
        }
    }
}

impl Mode {
    /// Why nothing may be written now.
    fn refuses(&self) -> Option<Unavailable> {
        match self {
            Self::Normal => None,
            Self::Full { .. } => Some(Unavailable::DiskFull),
            Self::Poisoned(cause) => Some(cause.clone()),
        }
    }
}

/// The bytes of records at which a batch is closed: a small change can make a large record, since an event
/// carries the whole document.
const RECORD_BYTES_MAX: usize = 32 * 1024 * 1024;
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// How many inputs are decided together: what they touch fits into the processor's cache.
const TOGETHER: usize = 16;
const INCOMPLETE_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Looper {
    pub(crate) options: HubOptions,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) to_self: Sender<Message>,
    pub(crate) journal: SyncSender<ToJournal>,
    pub(crate) flusher: Sender<ToFlusher>,
    pub(crate) flushed: Receiver<Flushed>,
    pub(crate) abandon: Arc<AtomicBool>,
    /// Tells the flusher not to take its time.
    pub(crate) hurry: Arc<AtomicBool>,
    pub(crate) state: State,
    pub(crate) facts: Facts,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) controls: Controls,
    pub(crate) clock: Clock,
    pub(crate) mode: Mode,
    /// What a batch that had grown too large has left for the next.
    pub(crate) carried: VecDeque<Message>,
    /// The kinds of which was told that entities have been incomplete for too long.
    pub(crate) warned: BTreeSet<String>,
    /// Whether the batch has merged or parted entities.
    pub(crate) has_merged: bool,
    /// Whether the hub was dropped.
    pub(crate) is_gone: bool,
    /// The invariants of stock, and how many SKUs were checked.
    pub(crate) watch: Watch,
    pub(crate) checked: u64,
    /// Who waits for stock that came.
    pub(crate) retries: Retries,
}

/// The loop's own times.
pub(crate) struct Clock {
    pub(crate) time: Time,
    /// Reports of an older generation speak of a delivery state that a failure has voided.
    pub(crate) generation: u64,
    pub(crate) last_flush: Instant,
    /// After a failed flush, when the next may be tried.
    pub(crate) not_before: Instant,
    pub(crate) last_figures: Instant,
    pub(crate) last_incomplete: Option<Instant>,
    pub(crate) last_retention: Instant,
    /// After timers could not be looked at or said, when that may be tried again.
    pub(crate) timers_not_before: Instant,
}

impl Clock {
    pub(crate) fn new(time: Time) -> Self {
        let now = time.now();
        Self {
            time,
            generation: 0,
            last_flush: now,
            not_before: now,
            last_figures: now,
            last_incomplete: None,
            last_retention: now,
            timers_not_before: now,
        }
    }
}

/// The batch that is being decided.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) records: Vec<Record>,
    bytes: usize,
    replies: Vec<Reply>,
    pub(crate) deferred: Vec<Deferred>,
}

impl Looper {
    pub(crate) fn run(mut self) {
        loop {
            let next = match self.carried.pop_front() {
                Some(message) => Ok(message),
                None => {
                    let wait = self.until_timer();
                    self.inbox.recv_timeout(wait)
                }
            };
            let ends = self.turn(next);
            if self.is_gone {
                return;
            }
            if ends {
                return self.close();
            }
        }
    }

    /// One turn with what is ready, without waiting for anything. Whether it was asked to end.
    pub(crate) fn step(&mut self) -> bool {
        let next = self.carried.pop_front().or_else(|| self.inbox.try_recv().ok());
        self.turn(next.ok_or(RecvTimeoutError::Timeout))
    }

    fn turn(&mut self, next: Result<Message, RecvTimeoutError>) -> bool {
        let mut messages = Vec::new();
        messages.extend(self.due());
        messages.extend(self.swept());
        messages.extend(self.served());
        match next {
            Ok(message) => self.collect(message, &mut messages),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => messages.push(Message::Shutdown),
        }
        let shutdown = !messages.is_empty() && self.batch(messages);
        if !self.is_gone {
            self.tick();
        }
        shutdown
    }

    /// Drains what is ready, under a count and a byte limit; never waits for more.
    fn collect(&mut self, first: Message, messages: &mut Vec<Message>) {
        let (mut inputs, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(message) = next {
            if let Message::Submit(submission) = &message {
                inputs += submission.inputs.len();
                bytes += submission.bytes;
            }
            messages.push(message);
            if inputs >= self.options.batch_inputs_max || bytes >= self.options.batch_bytes_max {
                return;
            }
            next = self.carried.pop_front().or_else(|| self.inbox.try_recv().ok());
        }
    }

    fn batch(&mut self, messages: Vec<Message>) -> bool {
        let first = self.facts.next;
        if self.facts.rules.any_echoes() {
            self.facts.sent = self.controls.sent();
        }
        let inputs = messages.iter().map(|m| m.inputs().len().max(1)).sum();
        let mut open = Open { records: Vec::with_capacity(inputs), ..Open::default() };
        self.state.file.begin_reading();
        let mut shutdown = false;
        let mut failed = None;
        let mut messages = messages.into_iter();
        while let Some(message) = messages.next() {
            if open.bytes > RECORD_BYTES_MAX && matches!(message, Message::Submit(_)) {
                self.carried.push_back(message);
                self.carried.extend(messages);
                break;
            }
            match message {
                Message::Submit(submission) => match self.refuses() {
                    None => self.decide(submission, &mut open),
                    Some(cause) => drop(submission.reply.send(Err(cause))),
                },
                Message::Ask(query) => {
                    let answer = query.0(&mut View { looper: self, open: &mut open });
                    open.deferred.push(answer);
                }
                Message::Report(report) => {
                    if matches!(self.mode, Mode::Normal) && report.generation == self.clock.generation {
                        self.take_report(report.body, &mut open);
                    }
                }
                Message::Due(inputs) => match self.refuses() {
                    None => {
                        self.say(inputs, &mut open);
                        self.serve(&mut open);
                    }
                    Some(_) => self.timers_later(),
                },
                Message::Wake => {}
                Message::JournalFailed(cause) => failed = Some(cause),
                Message::JournalRecovered => self.resume(),
                Message::Shutdown => shutdown = true,
                Message::Crash => self.is_gone = true,
            }
        }
        if self.refuses().is_none() {
            self.tell_channels(&mut open);
        }
        self.state.file.end_reading();
        self.seal(first, open);
        if let Some(cause) = failed {
            self.recover_from(cause);
        }
        shutdown
    }

    fn decide(&mut self, submission: Submission, open: &mut Open) {
        let Submission { inputs, reply, permit, arrived, .. } = submission;
        match self.decide_all(inputs, open) {
            Ok(answers) => open.replies.push(Reply { to: reply, answers, arrived, permit }),
            // What was decided before it stands: a repetition of it is known as one.
            Err(cause) => drop(reply.send(Err(cause))),
        }
    }

    pub(crate) fn decide_all(&mut self, inputs: Vec<Input>, open: &mut Open) -> Result<Vec<Answer>, Unavailable> {
        let mut answers = Vec::with_capacity(inputs.len());
        let mut refused_whole = None;
        let mut inputs = inputs.into_iter();
        while inputs.len() > 0 {
            let mut part = inputs.by_ref().take(TOGETHER).collect::<Vec<_>>().into_iter();
            while part.len() > 0 {
                let first = self.facts.next;
                let decided = self
                    .load(part.as_slice())
                    .and_then(|()| self.decide_part(&mut part, (&mut answers, &mut refused_whole), open));
                self.put_back(first);
                // Also where it came before: who waits has his turn between those who order now.
                if decided? || (self.retries.any() && self.serves_now()) {
                    self.serve(open);
                }
            }
        }
        Ok(answers)
    }

    /// Decides a few inputs of the hub's own of which nobody waits for an answer.
    pub(crate) fn decide_some(&mut self, inputs: Vec<Input>, open: &mut Open) -> Result<(), Unavailable> {
        let mut inputs = inputs.into_iter();
        while inputs.len() > 0 {
            let first = self.facts.next;
            let decided = self
                .load(inputs.as_slice())
                .and_then(|()| self.decide_part(&mut inputs, (&mut Vec::new(), &mut None), open));
            self.put_back(first);
            decided?;
        }
        Ok(())
    }

    /// Decides inputs, up to one by which stock comes for which orders wait: those are next. Whether there is one.
    fn decide_part(
        &mut self,
        inputs: &mut std::vec::IntoIter<Input>,
        (answers, refused_whole): (&mut Vec<Answer>, &mut Option<Refusal>),
        open: &mut Open,
    ) -> Result<bool, Unavailable> {
        let now = self.clock.time.now_us();
        for input in inputs {
            self.load_late(&input)?;
            let tally = tally(&mut self.state.tallies.sources, &input.source);
            // Who gets nothing when stock comes has said nothing, and nothing is kept of it.
            let is_retry = matches!(input.body, InputBody::Retry { .. });
            tally.received += u64::from(!is_retry);
            if let Some(refusal) = refused_whole {
                tally.refused += 1;
                answers.push(Err(refusal.clone()));
                continue;
            }
            let source = EntityId::new(&input.source);
            let request_key = input.request_key.as_ref().map(|(key, _)| key.clone());
            let first = self.facts.next;
            match decide::decide(&mut self.facts, input, now) {
                Ok(decision) => {
                    if decision.records.is_empty() {
                        let tally = tally_of(&mut self.state.tallies.sources, &source);
                        let repeated = matches!(decision.outcome, Outcome::Duplicate { .. });
                        *(if repeated { &mut tally.duplicate } else { &mut tally.superseded }) += u64::from(!is_retry);
                        let aside = std::mem::take(&mut self.facts.aside);
                        self.keep(first, aside, open);
                    } else if is_retry {
                        tally_of(&mut self.state.tallies.sources, &source).received += 1;
                    }
                    self.has_merged |= is_merge(decision.records.first());
                    self.watch.decided(&mut self.facts.stock, &decision.records);
                    for gate in &self.facts.gates {
                        self.state.gate(gate, now);
                    }
                    self.keep(first, decision.records, open);
                    answers.push(Ok(decision.outcome));
                }
                Err(refusal) => {
                    let aside = std::mem::take(&mut self.facts.aside);
                    self.keep(first, aside, open);
                    tally_of(&mut self.state.tallies.sources, &source).refused += 1;
                    // A reused request key speaks for the whole request.
                    let whole = matches!(&refusal, Refusal::KeyReused { key, .. } if Some(key) == request_key.as_ref());
                    if answers.is_empty() && whole {
                        *refused_whole = Some(refusal.clone());
                    }
                    answers.push(Err(refusal));
                }
            }
            if self.has_stock_come() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why nothing may be written now.
    pub(crate) fn refuses(&self) -> Option<Unavailable> {
        // A state file that can't be written must not fill the memory instead.
        let overfull = self.state.dirty_bytes() > 4 * self.options.flush_bytes_max;
        self.mode.refuses().or(overfull.then_some(Unavailable::Saturated { retry_after_s: 5 }))
    }

    /// Takes decided records into the batch.
    pub(crate) fn keep(&mut self, first: Position, records: Vec<Record>, open: &mut Open) {
        for (at, record) in records.iter().enumerate() {
            self.state.absorb(first + at as Position, record, false);
        }
        open.bytes += records.iter().map(Record::encoded_bytes).sum::<usize>();
        open.records.extend(records);
    }

    fn take_report(&mut self, body: ReportBody, open: &mut Open) {
        // A dead letter has one end. Whoever asks for a second one comes too late.
        let open_letter = match &body {
            ReportBody::Closed(closed) => Some((&closed.destination, closed.event)),
            ReportBody::DeadLettered(dead) if dead.again => Some((&dead.destination, dead.event)),
            _ => None,
        };
        // One that is open has its attempts already.
        if let ReportBody::DeadLettered(dead) = &body
            && dead.replay != 0
            && !matches!(self.dead_letter(&dead.destination, dead.event), Ok(None))
        {
            return;
        }
        if let Some((destination, event)) = open_letter
            && !matches!(self.dead_letter(destination, event), Ok(Some(_)))
        {
            return;
        }
        let body = match body {
            ReportBody::Progress(progress) => Body::Progress(progress),
            ReportBody::DeadLettered(dead) => Body::DeadLettered(dead),
            ReportBody::Closed(closed) => Body::DeadLetterClosed(closed),
        };
        self.record(body, open);
    }

    pub(crate) fn dead_letter(&self, destination: &str, event: Position) -> Result<Option<DeadLetterRow>, Unavailable> {
        self.state.dead_letter(destination, event).map_err(unreadable)
    }

    /// Records something that needs no decision.
    pub(crate) fn record(&mut self, body: Body, open: &mut Open) {
        let record = Record::new(self.clock.time.now_us(), body);
        let position = self.facts.next;
        self.facts.next += 1;
        self.state.absorb(position, &record, false);
        open.records.push(record);
    }

    /// Hands the batch to the journal. Waits while the journal still has one to take up: meanwhile the next
    /// batch grows in the inbox.
    pub(crate) fn seal(&mut self, first: Position, open: Open) {
        self.stats.decided.store(self.facts.next - 1, Ordering::Relaxed);
        let Open { records, replies, deferred, .. } = open;
        if records.is_empty() && replies.is_empty() && deferred.is_empty() {
            return;
        }
        // The journal's thread lives until this sender is dropped.
        let _ = self.journal.send(ToJournal::Batch(Sealed { first, records, replies, deferred }));
    }

    fn tick(&mut self) {
        self.stats.loop_alive_us.store(self.clock.time.now_us(), Ordering::Relaxed);
        while let Ok(flushed) = self.flushed.try_recv() {
            self.take_flushed(flushed);
        }
        self.watch_stock();
        self.tidy_stock();
        match &mut self.mode {
            Mode::Normal => {
                self.flush_if_due();
                self.retain();
            }
            Mode::Full { next_probe, probing } if !*probing && self.clock.time.now() >= *next_probe => {
                *probing = true;
                self.probe();
            }
            Mode::Full { .. } | Mode::Poisoned(_) => {}
        }
        if self.clock.time.since(self.clock.last_figures) >= TICK {
            self.figures();
        }
    }

    fn figures(&mut self) {
        self.clock.last_figures = self.clock.time.now();
        self.stats.cache_bytes.store(self.state.cache_bytes() as u64, Ordering::Relaxed);
        self.stats.dirty_bytes.store(self.state.dirty_bytes() as u64, Ordering::Relaxed);
        if let Ok(mut tallies) = self.stats.tallies.lock() {
            tallies.clone_from(&self.state.tallies);
        }
        if let Ok(mut invariants) = self.stats.invariants.lock() {
            self.watch.told(&mut invariants);
            invariants.waiting = self.facts.stock.suspects() as u64;
            invariants.checked = self.checked;
        }
        let now = self.clock.last_figures;
        if self.clock.last_incomplete.is_none_or(|last| now.saturating_duration_since(last) >= INCOMPLETE_EVERY) {
            self.clock.last_incomplete = Some(now);
            self.incomplete_figures();
        }
    }

    /// What is incomplete, for whoever looks at the figures, and a word in the log where it has been so for too long.
    fn incomplete_figures(&mut self) {
        let figures = match self.state.incomplete_figures(&self.facts.rules) {
            Ok(figures) => figures,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the incomplete entities can't be read");
                return;
            }
        };
        incomplete::warn(&figures, &mut self.warned, self.clock.time.now_us());
        if let Ok(mut incomplete) = self.stats.incomplete.lock() {
            *incomplete = figures;
        }
    }

    /// The last flush, so that the next start has nothing to fold. Losing it would lose nothing.
    fn close(mut self) {
        let undone = |message: Message| {
            if let Message::Submit(submission) = message {
                let _ = submission.reply.send(Err(Unavailable::ShuttingDown));
            }
        };
        self.inbox.try_iter().for_each(undone);
        if !matches!(self.mode, Mode::Normal) {
            return;
        }
        self.end_round();
        if self.state.position > self.state.flushed {
            self.begin_round();
            self.end_round();
        }
        self.figures();
    }
}

/// Whether a decision is one to merge entities, or to part them.
fn is_merge(first: Option<&Record>) -> bool {
    matches!(first.map(|r| &r.body), Some(Some(Body::Fact(fact))) if fact.kind == MERGE_KIND)
}

fn tally_of<'a>(tallies: &'a mut BTreeMap<String, crate::SourceTally>, name: &str) -> &'a mut crate::SourceTally {
    tally(tallies, name)
}

pub(crate) fn unreadable(error: impl std::error::Error) -> Unavailable {
    Unavailable::Read(chain(&error))
}
