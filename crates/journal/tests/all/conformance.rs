//! Both backends pass the one suite.

use lockstep_journal::conformance::{self as suite, SEGMENT_BYTES_MAX, Subject};
use lockstep_journal::{Journal, MemoryJournal, SqliteJournal, SqliteOptions};
use tempfile::TempDir;

use crate::support;

struct Memory(MemoryJournal);

impl Subject for Memory {
    fn open(&mut self) -> Box<dyn Journal> {
        Box::new(self.0.clone())
    }
}

struct Sqlite(TempDir);

impl Subject for Sqlite {
    fn open(&mut self) -> Box<dyn Journal> {
        // A folder that does not exist yet, and a name that a URI would misread.
        Box::new(support::open(&self.0.path().join("a journal? #1 100%")))
    }
}

mod memory {
    use super::*;
    lockstep_journal::conformance!(Memory(MemoryJournal::with_segment_bytes_max(SEGMENT_BYTES_MAX)));
}

mod sqlite {
    use super::*;
    lockstep_journal::conformance!(Sqlite(tempfile::tempdir().unwrap()));
}

/// Readers on more threads and segments than there are connections wait for each other.
#[test]
fn one_connection_is_enough_for_all_readers() {
    struct One(TempDir);
    impl Subject for One {
        fn open(&mut self) -> Box<dyn Journal> {
            let options = SqliteOptions { reader_connections_max: 1, ..support::options() };
            Box::new(SqliteJournal::open(self.0.path(), options).unwrap())
        }
    }
    let mut subject = One(tempfile::tempdir().unwrap());
    suite::reading_beside_appending_sees_only_whole_batches(&mut subject);
}
