//! The hub without threads, for simulation: the same loop, journaler, flusher and recovery, each taken one step
//! at a time by the caller, with a clock that the caller moves.
//!
//! Inputs and questions go through the [`HubHandle`] as ever; a future of it that has been polled once is in the
//! loop's inbox, and it is ready after the steps that answer it. What the handle reads from the journal by itself
//! (records, history, events) needs a runtime: read the journal instead. A drop is a crash.
//! Opening is one step; it still reads the journal ahead on a thread of its own, which changes no result.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lockstep_journal::Journal;

use crate::failure::OpenError;
use crate::flush::{Flushed, ToFlusher, Writing};
use crate::handle::HubHandle;
use crate::journaler::ToJournal;
use crate::open::{Parts, lock};
use crate::options::HubOptions;
use crate::time::Time;
pub use crate::time::VirtualTime;

/// As many batches as the loop may be ahead of the journal, as it is with threads: one is being appended, one
/// waits, and the loop holds one.
const AHEAD_MAX: usize = 3;
/// One turn of the loop sends a batch, a reset, a probe and a trim at most: it never waits for room.
const SLOTS: usize = 8;
/// How many entities one step of the flusher writes: few, so that much happens between them.
const PART: usize = 4;

/// See the module.
pub struct Stepped {
    parts: Parts,
    /// What the loop has sent and the journal has not taken up.
    sealed: VecDeque<ToJournal>,
    /// The round that is being written.
    writing: Option<Writing>,
    _lock: File,
}

impl Stepped {
    /// Opens a hub with the given journal, which goes by the given clock; the state file is in the data folder.
    ///
    /// The state is flushed by records and by time, whatever the options say of bytes: only there the loop waits
    /// for the flusher, which one thread can't.
    pub fn open(options: HubOptions, journal: Box<dyn Journal>, time: Arc<VirtualTime>) -> Result<Self, OpenError> {
        let lock = lock(&options.data_dir)?;
        let options = HubOptions { flush_bytes_max: usize::MAX / 8, ..options };
        let parts = Parts::open(options, journal, Time::Virtual(time), SLOTS)?;
        Ok(Self { parts, sealed: VecDeque::new(), writing: None, _lock: lock })
    }

    /// The handle by which everything else talks to the hub.
    pub fn handle(&self) -> HubHandle {
        self.parts.handle.clone()
    }

    /// One turn of the loop: what is ready, up to a batch, and what is due by the clock. `false` where it would
    /// wait for the journal.
    pub fn step_loop(&mut self) -> bool {
        if self.sealed.len() >= AHEAD_MAX {
            return false;
        }
        // To take a failure back, the loop waits until the flusher has given up or is done.
        if self.parts.looper.abandon.load(Ordering::Acquire) {
            self.step_flush();
        }
        self.parts.looper.step();
        self.sealed.extend(self.parts.journal_work.try_iter());
        true
    }

    /// The journaler takes up one thing: appends a batch and answers, for the most part. `false` where there is
    /// nothing for it.
    pub fn step_journal(&mut self) -> bool {
        let Some(work) = self.sealed.pop_front() else { return false };
        self.parts.journaler.step(work);
        true
    }

    /// Whether the flusher is in the middle of a round.
    pub fn is_flushing(&self) -> bool {
        self.writing.is_some()
    }

    /// The flusher takes up a round that the loop has begun, or writes a few of its entities, or ends it. `false` where
    /// there is none, or the journal does not have yet what it holds.
    pub fn step_flush(&mut self) -> bool {
        match self.flush_on() {
            Ok(None) => false,
            Ok(Some(None)) => true,
            Ok(Some(Some(flushed))) => self.flushed(flushed),
            Err(error) => self.flushed(Flushed::Failed(error)),
        }
    }

    /// What one step comes to: nothing to do, a part of a round, its end.
    fn flush_on(&mut self) -> Result<Option<Option<Flushed>>, rusqlite::Error> {
        let Parts { looper, flusher, flush_work, .. } = &mut self.parts;
        let begun = match &mut self.writing {
            Some(writing) => writing,
            None => match flush_work.try_recv() {
                Ok(ToFlusher::Round(round, changed)) => self.writing.insert(flusher.begin((round, changed))?),
                Ok(ToFlusher::Part(..)) | Err(_) => return Ok(None),
            },
        };
        if looper.abandon.load(Ordering::Acquire) {
            return Ok(Some(Some(Flushed::Abandoned)));
        }
        if let Some(slots) = begun.next_part(PART) {
            // The loop lives in the same place.
            flusher.put(begun, looper.state.give(&slots))?;
            if begun.together() > PART && flusher.is_durable(begun) {
                flusher.save(begun)?;
            }
            return Ok(Some(None));
        }
        if flusher.is_durable(begun) { flusher.end(begun).map(|flushed| Some(Some(flushed))) } else { Ok(None) }
    }

    fn flushed(&mut self, flushed: Flushed) -> bool {
        self.writing = None;
        self.parts.flusher.roll_back();
        // The loop lives in the same place.
        let _ = self.parts.flush_done.send(flushed);
        true
    }
}
