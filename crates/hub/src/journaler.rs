//! The journal's thread: appends one sealed batch after the other and announces what is durable. While it
//! syncs a batch, the loop decides the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use lockstep_core::Position;
use lockstep_core::record::Record;
use lockstep_journal::{Batch, Epoch, Error as JournalError, Journal};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::failure::Unavailable;
use crate::handle::Answer;
use crate::looper::Message;
use crate::stats::Stats;
use crate::tail::{Tail, TailBatch};

/// A buffer that has grown beyond this is not kept.
const BUFFER_KEPT_BYTES: usize = 32 * 1024 * 1024;

/// An answer that waits for the sync.
pub(crate) struct Reply {
    pub(crate) to: oneshot::Sender<Result<Vec<Answer>, Unavailable>>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) arrived: Instant,
    /// Gives the room back when the answer is out.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Something else that waits for the sync.
pub(crate) type Deferred = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;

/// A decided batch.
pub(crate) struct Sealed {
    pub(crate) first: Position,
    pub(crate) records: Vec<Record>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) deferred: Vec<Deferred>,
}

/// What the loop tells the journal's thread.
pub(crate) enum ToJournal {
    Batch(Sealed),
    /// After a failure: everything sent before this is void.
    Reset,
    /// Drop whole segments below this position.
    Trim(Position),
}

/// See the module.
pub(crate) struct Journaler {
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) epoch: Epoch,
    pub(crate) stats: Arc<Stats>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) inbox: Sender<Message>,
    /// Raised with a failure: a flush must not wait for what will never be durable.
    pub(crate) abandon: Arc<AtomicBool>,
    pub(crate) buffer: Batch,
    /// What was decided on top of a failed batch is void with it, up to the loop's word that it has taken it back.
    pub(crate) void: Option<Unavailable>,
    pub(crate) poisoned: Option<Unavailable>,
}

impl Journaler {
    pub(crate) fn run(mut self, work: Receiver<ToJournal>) {
        while let Ok(work) = work.recv() {
            self.step(work);
        }
    }

    pub(crate) fn step(&mut self, work: ToJournal) {
        match work {
            ToJournal::Batch(sealed) => {
                let poisoned = self.poisoned.as_ref().filter(|_| !sealed.records.is_empty());
                if let Some(cause) = self.void.as_ref().or(poisoned) {
                    return refuse(sealed, cause);
                }
                if let Err((sealed, cause)) = self.append(sealed) {
                    refuse(sealed, &cause);
                    self.abandon.store(true, Ordering::Release);
                    // The loop may be gone at shutdown.
                    let _ = self.inbox.send(Message::JournalFailed(cause.clone()));
                    if matches!(cause, Unavailable::Poisoned(_)) {
                        self.poisoned = Some(cause.clone());
                    }
                    self.void = Some(cause);
                }
            }
            ToJournal::Reset => self.void = None,
            ToJournal::Trim(to) => {
                if let Err(error) = self.journal.trim(to) {
                    tracing::warn!(error = &error as &dyn std::error::Error, to, "old segments could not be dropped");
                }
            }
        }
    }

    fn append(&mut self, sealed: Sealed) -> Result<(), (Sealed, Unavailable)> {
        if sealed.records.is_empty() {
            announce(sealed.replies, sealed.deferred, &self.stats);
            return Ok(());
        }
        if self.buffer.bytes() > BUFFER_KEPT_BYTES {
            self.buffer = Batch::default();
        }
        self.buffer.clear();
        for record in &sealed.records {
            self.buffer.push_with(|out| {
                out.reserve(record.encoded_len());
                record.encode_raw(out);
            });
        }
        let bytes = self.buffer.bytes();
        let began = Instant::now();
        match self.journal.append(self.epoch, &self.buffer) {
            Ok(first) if first == sealed.first => {
                self.stats.append.record_us(began.elapsed().as_micros() as u64);
                self.stats.batches.fetch_add(1, Ordering::Relaxed);
                let last = first + sealed.records.len() as Position - 1;
                self.stats.durable.store(last, Ordering::Release);
                // Decoded records take about three times their encoded bytes.
                self.tail.push(TailBatch::new(first, sealed.records, bytes * 3));
                announce(sealed.replies, sealed.deferred, &self.stats);
                Ok(())
            }
            Ok(first) => {
                let cause =
                    format!("the journal wrote a batch at record {first} that was decided for {}", sealed.first);
                Err((sealed, self.poison(cause)))
            }
            Err(JournalError::Full { .. }) => {
                self.stats.disk_full.store(true, Ordering::Relaxed);
                tracing::error!("the disk of the data folder is full: writes are refused until there is space");
                Err((sealed, Unavailable::DiskFull))
            }
            Err(JournalError::TooLarge { .. }) => {
                self.buffer = Batch::default();
                Err((sealed, Unavailable::TooLarge))
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal failed");
                let cause = chain(&error);
                Err((sealed, self.poison(cause)))
            }
        }
    }

    fn poison(&self, cause: String) -> Unavailable {
        if let Ok(mut poisoned) = self.stats.poisoned.lock() {
            *poisoned = Some(cause.clone());
        }
        Unavailable::Poisoned(cause)
    }
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn announce(replies: Vec<Reply>, deferred: Vec<Deferred>, stats: &Stats) {
    for Reply { to, answers, arrived, permit } in replies {
        stats.commit.record_us(arrived.elapsed().as_micros() as u64);
        drop(permit);
        // The caller may have gone; what it sent is recorded all the same.
        let _ = to.send(Ok(answers));
    }
    for answer in deferred {
        answer(Ok(()));
    }
}

fn refuse(sealed: Sealed, cause: &Unavailable) {
    for reply in sealed.replies {
        let _ = reply.to.send(Err(cause.clone()));
    }
    for answer in sealed.deferred {
        answer(Err(cause.clone()));
    }
}
