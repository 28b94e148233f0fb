//! The loop after a failed append: what was decided and not written is taken back, a full disk is probed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lockstep_core::record::{Body, Probe};

use crate::delivery::Phase;
use crate::failure::{OpenError, Unavailable};
use crate::journaler::{ToJournal, chain};
use crate::looper::{Looper, Message, Mode, Open};
use crate::state::State;
use crate::stock::retries::Retries;

const PROBE_EVERY: Duration = Duration::from_millis(500);

impl Looper {
    /// Writes a record that means nothing: when it goes through, there is space again.
    pub(crate) fn probe(&mut self) {
        let to_self = self.to_self.clone();
        let mut open = Open::default();
        let first = self.facts.next;
        self.record(Body::Probe(Probe {}), &mut open);
        open.deferred.push(Box::new(move |durable| {
            if durable.is_ok() {
                // A closed inbox means shutdown.
                let _ = to_self.send(Message::JournalRecovered);
            }
        }));
        self.seal(first, open);
    }

    /// After a failed append: what was decided and not written has not happened. The state is read again from
    /// the file and the journal.
    pub(crate) fn recover_from(&mut self, cause: Unavailable) {
        if let Mode::Full { next_probe, probing } = &mut self.mode
            && cause == Unavailable::DiskFull
        {
            // Only a probe failed: it is the one thing to take back.
            self.facts.next = self.stats.durable.load(Ordering::Acquire) + 1;
            self.state.position = self.facts.next - 1;
            (*next_probe, *probing) = (self.clock.time.now() + PROBE_EVERY, false);
            // No flush is under way here, and the next one must be able to wait for the journal.
            self.abandon.store(false, Ordering::Release);
            let _ = self.journal.send(ToJournal::Reset);
            return;
        }
        self.clock.generation += 1;
        self.controls.phase_all(|_| Phase::Stopped);
        self.abandon.store(true, Ordering::Release);
        self.end_round();
        self.abandon.store(false, Ordering::Release);
        let _ = self.journal.send(ToJournal::Reset);
        self.mode = match self.reload() {
            Ok(()) if cause == Unavailable::DiskFull => {
                Mode::Full { next_probe: self.clock.time.now() + PROBE_EVERY, probing: false }
            }
            Ok(()) if cause == Unavailable::TooLarge => Mode::Normal,
            Ok(()) => Mode::Poisoned(cause),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the state can't be read again");
                Mode::Poisoned(Unavailable::Poisoned(chain(&error)))
            }
        };
        if matches!(self.mode, Mode::Normal) {
            self.restart_deliveries();
        }
    }

    pub(crate) fn restart_deliveries(&self) {
        let generation = self.clock.generation;
        let destinations = &self.state.tallies.destinations;
        self.controls.phase_all(|name| Phase::Running { generation, tally: destinations.get(name).cloned() });
    }

    pub(crate) fn reload(&mut self) -> Result<(), OpenError> {
        // What came is found again.
        self.retries = Retries::default();
        let file = self.state.file.reader()?;
        self.state = State::new(file, self.options.cache_bytes_max)?;
        let (rules, limits) = (self.options.rules.clone(), self.options.stock);
        self.facts = crate::open::recover(&mut self.state, &*self.reader, rules, limits, |_| Ok(()))?;
        Ok(())
    }

    pub(crate) fn resume(&mut self) {
        if !matches!(self.mode, Mode::Full { .. }) {
            return;
        }
        self.mode = Mode::Normal;
        self.stats.disk_full.store(false, Ordering::Relaxed);
        tracing::info!("the disk has space again: writes are accepted");
        self.restart_deliveries();
    }
}
