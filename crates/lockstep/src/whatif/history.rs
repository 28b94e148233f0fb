//! The kept history, read beside a hub that may be running.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_core::Position;
use lockstep_core::record::Record;
use lockstep_journal::{Bounds, Entry, Error, Reader, SqliteJournal, SqliteOptions};

use super::WhatIfError;

/// How much of the journal one step decodes.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// What a journal has kept, up to the moment when it was opened.
pub struct History {
    /// The journal's folder; `None` where the reader is not of one.
    folder: Option<PathBuf>,
    reader: Option<Arc<dyn Reader>>,
    bounds: Bounds,
}

impl History {
    /// Opens the journal of a data folder, which a running hub may have open too.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let folder = data_dir.join("journal");
        let reader = SqliteJournal::open_beside(&folder, &SqliteOptions::default())?;
        Ok(Self { bounds: reader.bounds(), folder: Some(folder), reader: Some(reader) })
    }

    /// The history that a journal of this process has.
    pub fn of(reader: Arc<dyn Reader>) -> Self {
        Self { bounds: reader.bounds(), folder: None, reader: Some(reader) }
    }

    /// What was kept when it was opened.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Calls `take` for each record from `from` to `to`, in order.
    pub(super) fn each(
        &mut self,
        from: Position,
        to: Position,
        mut take: impl FnMut(&mut Self, Position, Record) -> Result<(), WhatIfError>,
    ) -> Result<(), WhatIfError> {
        let mut next = from;
        while next <= to {
            let entries = self.read(|reader| reader.read(next, READ_BYTES))?;
            let Some(last) = entries.last() else { break };
            next = last.position + 1;
            for entry in entries.into_iter().take_while(|entry| entry.position <= to) {
                let position = entry.position;
                take(self, position, decode(entry)?)?;
            }
        }
        Ok(())
    }

    /// One record; `None` where it is not kept.
    pub(super) fn get(&mut self, position: Position) -> Result<Option<Record>, WhatIfError> {
        if !(self.bounds.first..self.bounds.next).contains(&position) {
            return Ok(None);
        }
        self.read(|reader| reader.get(position))?.map(decode).transpose()
    }

    /// A hub that is started, stopped or drops old files moves what is being read: what failed is tried once more
    /// with the folder as it is then.
    fn read<T>(&mut self, read: impl Fn(&dyn Reader) -> Result<T, Error>) -> Result<T, WhatIfError> {
        let reader = self.reader()?;
        let failed = match read(&*reader) {
            Ok(found) => return Ok(found),
            Err(error) if self.folder.is_none() => return Err(error.into()),
            Err(error) => error,
        };
        tracing::debug!(error = &failed as &dyn std::error::Error, "the journal is opened again");
        // All connections are closed before the files are looked at again.
        drop(reader);
        self.reader = None;
        let reader = self.reader()?;
        Ok(read(&*reader)?)
    }

    fn reader(&mut self) -> Result<Arc<dyn Reader>, Error> {
        match (&self.reader, &self.folder) {
            (Some(reader), _) => Ok(reader.clone()),
            (None, Some(folder)) => {
                let reader = SqliteJournal::open_beside(folder, &SqliteOptions::default())?;
                self.reader = Some(reader.clone());
                Ok(reader)
            }
            (None, None) => unreachable!("only a reader of a folder is given up"),
        }
    }
}

fn decode(entry: Entry) -> Result<Record, WhatIfError> {
    let position = entry.position;
    Record::read(entry.record).map_err(|source| WhatIfError::Record { position, source: source.into() })
}
