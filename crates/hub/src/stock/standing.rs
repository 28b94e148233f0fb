//! Stock as a data folder has it: read from the state file and the journal after it, without a hub and without
//! writing anything. What is asked of it is asked of a copy in memory.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use lockstep_core::stock::{self, Availability, Command, Limits, Question, StockDecision};
use lockstep_core::{Facts, Position, Rules};
use lockstep_journal::{Reader, SqliteJournal, SqliteOptions};

use crate::failure::{OpenError, Unavailable};
use crate::looper::unreadable;
use crate::open::{lock, recover};
use crate::state::State;
use crate::state::file::StateFile;

/// See the module.
pub struct Standing {
    pub(crate) state: State,
    pub(super) facts: Facts,
    pub(crate) reader: Arc<dyn Reader>,
    _lock: Option<File>,
}

impl Standing {
    /// Reads a data folder that a running hub may have open: as it was durable a moment ago.
    pub fn beside(data_dir: &Path, limits: Limits) -> Result<Self, OpenError> {
        Self::read(data_dir, limits, None)
    }

    /// Reads a data folder that no hub has open, and keeps it from being opened meanwhile.
    pub fn alone(data_dir: &Path, limits: Limits) -> Result<Self, OpenError> {
        // To take the lock would make a folder where there is none.
        let folder = |source| OpenError::Folder { path: data_dir.to_owned(), source };
        std::fs::metadata(data_dir.join("journal")).map_err(folder)?;
        let lock = lock(data_dir)?;
        Self::read(data_dir, limits, Some(lock))
    }

    fn read(data_dir: &Path, limits: Limits, lock: Option<File>) -> Result<Self, OpenError> {
        // The state first: whatever it has, the journal has too.
        let mut state = State::new(StateFile::beside(&data_dir.join("state.sqlite"))?, 0)?;
        let reader = SqliteJournal::open_beside(&data_dir.join("journal"), &SqliteOptions::default())?;
        let facts = recover(&mut state, &*reader, Rules::new(), limits, |_| Ok(()))?;
        Ok(Self { state, facts, reader, _lock: lock })
    }

    /// The last record that it has.
    pub fn position(&self) -> Position {
        self.state.position
    }

    /// When that was recorded, microseconds since 1970 UTC.
    pub fn recorded_at_us(&self) -> i64 {
        self.state.recorded_at_us
    }

    /// Decides a command as a hub would, on the copy: what comes after it finds what it has done.
    pub fn decide(&mut self, command: &Command, now_us: i64) -> Result<StockDecision, Unavailable> {
        for id in command.reservations() {
            self.state.load_reservation(&mut self.facts.stock, id).map_err(unreadable)?;
        }
        Ok(stock::decide(&mut self.facts.stock, command, now_us))
    }

    /// What a channel may sell of a SKU, after what was decided on the copy.
    pub fn availability(&mut self, sku: &str, channel: &str, now_us: i64) -> Availability {
        let question = Question { sku, channel, until_us: now_us, holders_max: 0 };
        self.facts.stock.availability(&question, now_us)
    }
}
