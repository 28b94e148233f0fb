//! Stock in the loop: what a command needs is loaded, what it changed is written behind, holds that are over are swept,
//! and channels are told what they may sell, once for each batch.

pub(crate) mod invariants;
mod reads;
pub(crate) mod retries;
pub(crate) mod standing;
pub(crate) mod verify;

use lockstep_core::decide::stock::sweep;
use lockstep_core::record::{Body, Record};
use lockstep_core::stock::record::StockBody;
use lockstep_core::stock::{Command, movement_hash, publish};
use lockstep_core::{Position, Seen};

use crate::looper::{Looper, Message, Mode, Open};
use crate::state::StateError;

pub use reads::{After, Ledger, LedgerEntry};

/// How many holds one batch writes down as expired: it frees nothing, so it can wait.
const SWEPT_AT_ONCE: usize = 256;
/// Of how many SKUs a batch tells what may be sold; a policy can touch all of them.
const TOLD_AT_ONCE: usize = 1_024;
/// How many reservations that are over leave the memory in a round: more than a batch ends.
const FORGOTTEN_AT_ONCE: usize = 8_192;

impl Looper {
    /// What deciding commands needs: the reservations that they speak of, and whether their movements were seen.
    pub(crate) fn load_stock(&mut self, commands: &[Command]) -> Result<(), StateError> {
        for command in commands {
            for id in command.reservations() {
                self.load_reservation(id)?;
            }
            if let Command::Move(movement) = command {
                for (source, id) in movement.names() {
                    self.load_movement(source, id)?;
                }
            }
        }
        Ok(())
    }

    /// Has a reservation in memory, also one that is over, as long as it is kept.
    pub(crate) fn load_reservation(&mut self, id: &str) -> Result<(), StateError> {
        let since_us = self.state.recorded_at_us.saturating_sub(self.options.reservations_kept_us());
        if self.state.load_reservation_since(&mut self.facts.stock, id, since_us)? {
            self.state.stock.looked_at(id);
        }
        Ok(())
    }

    fn load_movement(&mut self, source: &str, id: &str) -> Result<(), StateError> {
        let hash = movement_hash(source, id);
        let read = |position| crate::reading::record(&*self.reader, position);
        let same = |record: &Record| match &record.body {
            Some(Body::Stock(fact)) => match &fact.body {
                Some(StockBody::Moved(moved)) if moved.names().any(|name| name == (source, id)) => {
                    Some(Seen { position: 0, payload_hash: None })
                }
                _ => None,
            },
            _ => None,
        };
        if self.state.seen(hash, read, same)?.is_some() {
            self.facts.stock.seen.insert(hash);
        }
        Ok(())
    }

    /// The hub's word that holds are over, where some are.
    pub(crate) fn swept(&mut self) -> Option<Message> {
        if !matches!(self.mode, Mode::Normal) || self.clock.time.now() < self.clock.timers_not_before {
            return None;
        }
        let now_us = self.clock.time.now_us();
        if self.facts.stock.next_end_us().is_some_and(|end_us| end_us <= now_us) {
            return Some(Message::Due(vec![sweep(self.facts.next, SWEPT_AT_ONCE, now_us)]));
        }
        // A batch of nothing tells channels what the last one has left to tell.
        self.facts.stock.is_touched().then(|| Message::Due(Vec::new()))
    }

    /// Tells channels what they may sell, where that has changed.
    pub(crate) fn tell_channels(&mut self, open: &mut Open) {
        if self.facts.stock.is_touched() {
            let now_us = self.clock.time.now_us();
            let records = publish(&mut self.facts.stock, TOLD_AT_ONCE, now_us);
            let first = self.facts.next;
            self.facts.next += records.len() as Position;
            self.keep(first, records, open);
        }
    }

    /// Checks the invariants of what has changed, a bounded part of it.
    pub(crate) fn watch_stock(&mut self) {
        let now_us = self.clock.time.now_us();
        self.checked += self.watch.check(&mut self.facts.stock, now_us);
    }

    /// After a batch: what is changed is made ready to be written, what is over leaves the memory.
    pub(crate) fn tidy_stock(&mut self) {
        self.state.stock.collect(&mut self.facts.stock, false);
        self.state.stock.forget(&mut self.facts.stock, FORGOTTEN_AT_ONCE);
    }
}
