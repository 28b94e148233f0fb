//! The virtual disk does what every journal must, and loses what a real one may lose, no more.

use lockstep_journal::{Batch, Error, Journal, conformance};
use sim::disk::{Disk, Fate};

struct Subject(Disk);

impl conformance::Subject for Subject {
    fn open(&mut self) -> Box<dyn Journal> {
        Box::new(self.0.open().expect("the journal opens"))
    }
}

mod suite {
    use super::*;
    lockstep_journal::conformance!(Subject(Disk::new(conformance::SEGMENT_BYTES_MAX)));
}

#[test]
fn a_failed_sync_leaves_the_whole_batch_or_none_of_it() {
    let mut outcomes = [0, 0];
    for kept_permille in (0..=1000).step_by(25) {
        for flipped in [false, true] {
            let disk = Disk::new(1000);
            let mut journal = disk.open().unwrap();
            conformance::append(&mut journal, 5);
            disk.fail_next_sync(Some(Fate { kept_permille, flipped }));
            let failed = journal.append(0, &conformance::batch(6, 3)).unwrap_err();
            assert!(matches!(failed, Error::Io { .. }), "{failed:?}");
            let refused = journal.append(0, &conformance::batch(6, 3)).unwrap_err();
            assert!(matches!(refused, Error::Poisoned { .. }), "{refused:?}");
            // Readers see nothing of it, and opening again finds out.
            assert_eq!(journal.reader().bounds().next, 6);
            drop(journal);
            let mut journal = disk.open().unwrap();
            let next = if kept_permille == 1000 && !flipped { 9 } else { 6 };
            outcomes[usize::from(next == 9)] += 1;
            conformance::check_all(&*journal.reader(), lockstep_journal::Bounds { first: 1, next });
            conformance::append(&mut journal, 2);
            conformance::check_all(
                &*disk.open().unwrap().reader(),
                lockstep_journal::Bounds { first: 1, next: next + 2 },
            );
        }
    }
    assert_eq!(outcomes, [81, 1]);
}

#[test]
fn a_full_disk_takes_nothing_and_then_goes_on() {
    let disk = Disk::new(1000);
    let mut journal = disk.open().unwrap();
    conformance::append(&mut journal, 5);
    disk.set_full(true);
    let mut one = Batch::new();
    one.push(&conformance::record(6));
    for _ in 0..3 {
        assert!(journal.append(0, &one).unwrap_err().is_retryable());
        assert!(journal.fence(1).unwrap_err().is_retryable());
    }
    disk.set_full(false);
    assert_eq!(journal.append(0, &one).unwrap(), 6);
    conformance::check_all(&*disk.open().unwrap().reader(), lockstep_journal::Bounds { first: 1, next: 7 });
}
