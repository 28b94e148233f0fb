//! The loop and the flusher: when a round begins, what becomes of it, and what the journal need not keep any more.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lockstep_core::Position;

use crate::flush::{Flushed, ToFlusher};
use crate::journaler::{ToJournal, chain};
use crate::looper::Looper;

/// After a failed flush, when the next may be tried.
const FLUSH_AGAIN: Duration = Duration::from_secs(1);
const RETENTION_EVERY: Duration = Duration::from_secs(60);

impl Looper {
    pub(crate) fn flush_if_due(&mut self) {
        let behind = self.state.position - self.state.flushed;
        let hurries = self.state.unflushed_bytes() > self.options.flush_bytes_max / 2
            || behind >= 2 * self.options.flush_records_max;
        self.hurry.store(hurries, Ordering::Relaxed);
        if behind == 0 || !self.state.is_settled() {
            // What changes must not outgrow memory: where half as much again has changed as a flush begins with, the loop
            // waits for the flusher. What that asks for meanwhile, it gets.
            while !self.state.is_settled() && self.state.unflushed_bytes() / 3 > self.options.flush_bytes_max / 2 {
                let Ok(flushed) = self.flushed.recv() else { break };
                self.take_flushed(flushed);
            }
            return;
        }
        let due = behind >= self.options.flush_records_max
            || self.state.dirty_bytes() >= self.options.flush_bytes_max
            || self.clock.time.since(self.clock.last_flush) >= Duration::from_millis(self.options.flush_interval_ms);
        if due && self.clock.time.now() >= self.clock.not_before {
            self.clock.last_flush = self.clock.time.now();
            self.begin_round();
        }
    }

    pub(crate) fn set_stuck(&self, what: Option<String>) {
        if let Ok(mut stuck) = self.stats.stuck.lock() {
            *stuck = what.into_iter().collect();
        }
    }

    pub(crate) fn take_flushed(&mut self, flushed: Flushed) {
        match flushed {
            Flushed::Wants(number, slots) => {
                let _ = self.flusher.send(ToFlusher::Part(number, self.state.give(&slots)));
            }
            Flushed::Done(runs) => {
                self.set_stuck(None);
                self.state.round_written(runs);
                self.stats.flushed.store(self.state.flushed, Ordering::Relaxed);
            }
            Flushed::Abandoned => self.state.round_given_up(),
            Flushed::Failed(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the state could not be flushed; it is tried again"
                );
                self.state.round_given_up();
                // Not at once: what it failed of may need a while.
                self.clock.not_before = self.clock.time.now() + FLUSH_AGAIN;
                self.set_stuck(Some(format!("the state file can't be written ({})", chain(&error))));
            }
        }
    }

    /// Has everything written that has changed.
    pub(crate) fn begin_round(&mut self) {
        self.state.stock.collect(&mut self.facts.stock, true);
        let (round, changed) = self.state.begin_round();
        // The flusher lives as long as the loop.
        let _ = self.flusher.send(ToFlusher::Round(round, changed));
    }

    /// Waits until the round under way is over.
    pub(crate) fn end_round(&mut self) {
        self.hurry.store(true, Ordering::Relaxed);
        while !self.state.is_settled()
            && let Ok(flushed) = self.flushed.recv()
        {
            self.take_flushed(flushed);
        }
    }

    /// Drops old segments, never what is still needed: by the state, a destination, an open quarantine or a
    /// dead letter.
    pub(crate) fn retain(&mut self) {
        let Some(days) = self.options.retention_days else { return };
        if self.clock.time.since(self.clock.last_retention) < RETENTION_EVERY {
            return;
        }
        self.clock.last_retention = self.clock.time.now();
        let cutoff_us = self.clock.time.now_us() - i64::from(days) * 86_400_000_000;
        let cursors = self.state.tallies.destinations.values().map(|t| t.cursor + 1).min();
        let overlays = self.state.overlays();
        let held = overlays.iter().filter_map(|o| o.quarantine_opened.keys().next().copied()).min();
        let dead = overlays.iter().flat_map(|o| o.dead_opened.values().map(|row| row.event.min(row.record))).min();
        let Ok(on_disk) = self.state.file.oldest_needed() else { return };
        let needed = [cursors, held, dead, on_disk].into_iter().flatten().fold(self.state.flushed + 1, Position::min);
        let mut to = self.reader.bounds().first;
        let mut end = needed;
        // Records are in the order of time: the first one that is young enough.
        while to < end {
            let middle = to + (end - to) / 2;
            match crate::reading::record(&*self.reader, middle) {
                Ok(Some(record)) if record.recorded_at_us < cutoff_us => to = middle + 1,
                _ => end = middle,
            }
        }
        let _ = self.journal.send(ToJournal::Trim(to));
    }
}
