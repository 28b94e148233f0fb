//! The journal's two traits on the log.

use std::sync::Arc;

use lockstep_journal::{BATCH_BYTES_MAX, Batch, Bounds, Entry, Epoch, Error, Journal, Position, Reader};

use super::Disk;
use super::log::Platter;

/// The journal on a [`Disk`].
#[derive(Debug)]
pub struct DiskJournal {
    disk: Disk,
    poisoned: Option<String>,
}

impl DiskJournal {
    pub(super) fn new(disk: Disk) -> Self {
        Self { disk, poisoned: None }
    }

    fn write(&mut self, write: impl FnOnce(&mut Platter) -> Result<(), Error>) -> Result<(), Error> {
        if let Some(cause) = &self.poisoned {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        let written = write(&mut self.disk.platter());
        if let Err(error @ Error::Io { .. }) = &written {
            self.poisoned = Some(error.to_string());
        }
        written
    }
}

impl Journal for DiskJournal {
    fn append(&mut self, epoch: Epoch, batch: &Batch) -> Result<Position, Error> {
        let current = self.epoch();
        if epoch != current {
            return Err(Error::Fenced { epoch, current });
        }
        let first = self.disk.next();
        if batch.is_empty() {
            return Ok(first);
        }
        let bytes = batch.bytes() + 4 * batch.len();
        if bytes > BATCH_BYTES_MAX {
            return Err(Error::TooLarge { bytes, bytes_max: BATCH_BYTES_MAX });
        }
        let mut payload = Vec::with_capacity(bytes);
        for record in batch.iter() {
            payload.extend_from_slice(&(record.len() as u32).to_le_bytes());
            payload.extend_from_slice(record);
        }
        let count = batch.len() as u32;
        self.write(|platter| platter.append(count, &payload))?;
        Ok(first)
    }

    fn fence(&mut self, epoch: Epoch) -> Result<(), Error> {
        let current = self.epoch();
        if epoch < current {
            return Err(Error::Fenced { epoch, current });
        }
        self.write(|platter| platter.fence(epoch))
    }

    fn epoch(&self) -> Epoch {
        self.disk.platter().epoch
    }

    fn bounds(&self) -> Bounds {
        self.disk.platter().bounds()
    }

    fn trim(&mut self, to: Position) -> Result<Bounds, Error> {
        Ok(self.disk.platter().trim(to))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.disk.reader()
    }
}

impl Reader for Disk {
    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<Entry>, Error> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        for batch in self.platter().batches(from)? {
            bytes += batch.payload.len();
            if !out.is_empty() && bytes > bytes_max {
                break;
            }
            out.extend(batch.entries(from));
        }
        Ok(out)
    }

    fn get(&self, position: Position) -> Result<Option<Entry>, Error> {
        Ok(self.platter().batches(position)?.next().and_then(|batch| batch.entries(position).next()))
    }

    fn bounds(&self) -> Bounds {
        self.platter().bounds()
    }
}
