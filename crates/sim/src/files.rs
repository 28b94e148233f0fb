//! The hub's state file in a folder of its own: real SQLite, with what a power cut or a failing disk does to it.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

/// The database and its log. The third file (`-shm`) is made again.
const NAMES: [&str; 2] = ["state.sqlite", "state.sqlite-wal"];

/// What goes wrong with the simulation itself.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file.
    #[error("the state file's folder can't be used")]
    Io(#[from] std::io::Error),
    /// The database.
    #[error("the state file can't be prepared")]
    Sqlite(#[from] rusqlite::Error),
}

/// See the module.
#[derive(Debug)]
pub struct Files {
    dir: TempDir,
    written_back: Vec<Option<Vec<u8>>>,
}

impl Files {
    /// An empty folder, in memory where the system has a place for that.
    ///
    /// # Errors
    /// Where it can't be made.
    pub fn new() -> Result<Self, FilesError> {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
        Ok(Self { dir, written_back: vec![None, None] })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// From now on a power cut leaves what is there now.
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn write_back(&mut self) -> Result<(), FilesError> {
        for (name, copy) in NAMES.iter().zip(&mut self.written_back) {
            let path = self.dir.path().join(name);
            *copy = if path.exists() { Some(std::fs::read(path)?) } else { None };
        }
        Ok(())
    }

    /// Leaves what was last written back. No connection may be open.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn cut_power(&self) -> Result<(), FilesError> {
        self.remove()?;
        for (name, copy) in NAMES.iter().zip(&self.written_back) {
            if let Some(bytes) = copy {
                std::fs::write(self.path(name), bytes)?;
            }
        }
        Ok(())
    }

    /// Leaves nothing. No connection may be open.
    ///
    /// # Errors
    /// Where it can't be removed.
    pub fn remove(&self) -> Result<(), FilesError> {
        for name in NAMES.iter().chain(&["state.sqlite-shm"]) {
            let path = self.path(name);
            if path.exists() {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Lets every write to the file fail, or go through again.
    ///
    /// # Errors
    /// Where the file can't be prepared for that.
    pub fn set_failing(&self, failing: bool) -> Result<(), FilesError> {
        let path = self.path(NAMES[0]);
        if !path.exists() {
            return Ok(());
        }
        // No disk can be filled here without root; a trigger makes the same statement fail in the same place.
        let sql = if failing {
            "CREATE TRIGGER IF NOT EXISTS fault BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'no space'); END"
        } else {
            "DROP TRIGGER IF EXISTS fault"
        };
        Connection::open(path)?.execute_batch(sql)?;
        Ok(())
    }
}
