//! Another process reads the folder while the writer goes on, and leaves it as it was.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use lockstep_journal::conformance::{append, check, check_all};
use lockstep_journal::{Bounds, Error, Journal, Position, SqliteJournal};

use crate::support::{copy_of, open, options, segment, segments, wait_sealed};
use crate::{child, support};

const CHILD: &str = "beside::child_appends_when_asked";
const CHILD_WITH_STEPS: &str = "beside::child_appends_in_steps_when_asked";

#[test]
fn child_appends_when_asked() {
    let Some(dir) = child::dir(CHILD) else { return };
    append_when_asked(open(&dir));
}

#[test]
fn child_appends_in_steps_when_asked() {
    let Some(dir) = child::dir(CHILD_WITH_STEPS) else { return };
    append_when_asked(support::open_with_steps(&dir));
}

/// Appends for each line, says how far it is, and closes the journal in order when nothing more comes.
fn append_when_asked(mut journal: SqliteJournal) {
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "trim" => drop(journal.trim(journal.bounds().next).unwrap()),
            count => drop(append(&mut journal, count.parse().unwrap())),
        }
        let Bounds { first, next } = journal.bounds();
        // On a line of its own: the test program has begun one.
        println!("\nbounds {first} {next}");
    }
}

/// A writer in a process of its own.
struct Writer {
    child: Child,
    to: Option<ChildStdin>,
    from: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Writer {
    fn start(name: &str, dir: &Path) -> Self {
        let mut command = child::command(name, dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { to: child.stdin.take(), child, from }
    }

    fn ask(&mut self, what: &str) -> Bounds {
        writeln!(self.to.as_mut().unwrap(), "{what}").unwrap();
        for line in self.from.by_ref() {
            let line = line.unwrap();
            let Some((first, next)) = line.strip_prefix("bounds ").and_then(|b| b.split_once(' ')) else { continue };
            return Bounds { first: first.parse().unwrap(), next: next.parse().unwrap() };
        }
        panic!("the writer ended");
    }

    fn end(mut self) {
        self.to = None;
        assert!(self.child.wait().unwrap().success());
    }
}

/// All files and what is in them, but for SQLite's index of a log, which is memory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
    named.filter(|(name, _)| !name.ends_with("-shm")).map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

fn beside(dir: &Path) -> std::sync::Arc<dyn lockstep_journal::Reader> {
    SqliteJournal::open_beside(dir, &options()).unwrap()
}

#[test]
fn a_live_journal_is_read_and_its_writer_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(CHILD, dir.path());
    let mut next: Position = 1;
    let mut untouched = 0;
    for _ in 0..40 {
        let bounds = writer.ask("50");
        assert_eq!(bounds, Bounds { first: 1, next: next + 50 });
        next = bounds.next;
        // Later a second thread of the writer moves what is full.
        if segments(dir.path()).len() == 1 {
            let before = files(dir.path());
            check_all(&*beside(dir.path()), bounds);
            assert_eq!(files(dir.path()), before);
            untouched += 1;
        }
        let reader = beside(dir.path());
        check_all(&*reader, bounds);
        // Still open while the writer goes on, fills this segment and begins the next.
        writer.ask("200");
        next += 200;
        check_all(&*reader, bounds);
    }
    assert!(untouched > 0 && segments(dir.path()).len() > 5, "{untouched}, {:?}", segments(dir.path()));
    writer.end();
    let bounds = Bounds { first: 1, next };
    check_all(&*beside(dir.path()), bounds);
    check_all(&*open(dir.path()).reader(), bounds);
}

#[test]
fn a_log_is_moved_and_written_again_under_readers() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(CHILD_WITH_STEPS, dir.path());
    let mut bounds = writer.ask("50");
    let mut readers = vec![(beside(dir.path()), bounds)];
    let header = || std::fs::read(support::wal(dir.path(), 1)).ok().and_then(|log| Some(log.get(..32)?.to_vec()));
    let (mut seen, mut uses) = (header(), 1);
    while segments(dir.path()).len() == 1 {
        bounds = writer.ask("50");
        if header() == seen {
            continue;
        }
        (seen, uses) = (header(), uses + 1);
        if uses % 4 == 0 {
            readers.push((beside(dir.path()), bounds));
            readers.truncate(3);
            for (reader, bounds) in &readers {
                check_all(&**reader, *bounds);
            }
        }
    }
    assert!(uses > 5, "the log was begun {uses} times");
    for (reader, bounds) in &readers {
        check_all(&**reader, *bounds);
    }
    writer.end();
    check_all(&*open(dir.path()).reader(), bounds);
}

#[test]
fn a_file_that_was_complete_is_written_on_under_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = support::open_with_steps(dir.path());
    for _ in 0..30 {
        append(&mut journal, 50);
    }
    drop(journal);
    let mut writer = Writer::start(CHILD_WITH_STEPS, dir.path());
    let before = writer.ask("0");
    let reader = beside(dir.path());
    check_all(&*reader, before);
    let mut read = 0;
    while segments(dir.path()).len() == 1 {
        writer.ask("50");
        // The pages that it knows may not fit to those that it comes to now. But what it gives is right.
        match reader.read(1 + before.next / 2, usize::MAX) {
            Ok(entries) => {
                assert_eq!(check(&entries, 1 + before.next / 2), before.next);
                read += 1;
            }
            Err(error) => assert!(matches!(error, Error::Corrupt { .. }), "{error:?}"),
        }
    }
    assert!(read > 0);
    check_all(&*beside(dir.path()), writer.ask("0"));
    writer.end();
}

#[test]
fn a_closed_journal_is_left_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    while segments(dir.path()).len() < 4 {
        append(&mut journal, 50);
    }
    wait_sealed(&journal);
    let bounds = journal.bounds();
    drop(journal);
    let all = |dir: &Path| {
        let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        (names, files(dir))
    };
    let before = all(dir.path());
    let reader = beside(dir.path());
    check_all(&*reader, bounds);
    assert_eq!(reader.get(3).unwrap().unwrap().position, 3);
    drop(reader);
    assert_eq!(all(dir.path()), before, "no file more, none less, none changed");
}

#[test]
fn what_a_crash_left_is_read_up_to_the_last_whole_append() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path());
    append(&mut journal, 70);
    append(&mut journal, 30);
    let copy = copy_of(dir.path());
    drop(journal);
    let wal = support::wal(copy.path(), 1);
    let torn = std::fs::metadata(&wal).unwrap().len() - 100;
    std::fs::File::options().write(true).open(&wal).unwrap().set_len(torn).unwrap();
    let before = files(copy.path());
    check_all(&*beside(copy.path()), Bounds { first: 1, next: 71 });
    assert_eq!(files(copy.path()), before, "the torn end stays, for its owner to cut");
    check_all(&*open(copy.path()).reader(), Bounds { first: 1, next: 71 });
}

#[test]
fn what_is_trimmed_meanwhile_is_an_error_and_opening_again_tells() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::start(CHILD, dir.path());
    while segments(dir.path()).len() < 4 {
        writer.ask("50");
    }
    let reader = beside(dir.path());
    let bounds = writer.ask("trim");
    assert!(bounds.first > 1, "{bounds:?}");
    assert!(matches!(reader.read(1, 1000), Err(Error::Open { .. })), "its file is gone");
    drop(reader);
    let reader = beside(dir.path());
    check_all(&*reader, bounds);
    assert!(matches!(reader.read(1, 1000), Err(Error::Trimmed { position: 1, first }) if first == bounds.first));
    writer.end();
}

#[test]
fn a_folder_without_a_journal_stays_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let open = |dir: &Path| SqliteJournal::open_beside(dir, &options()).err();
    assert!(matches!(open(dir.path()), Some(Error::MissingSegment { position: 1, found: None, .. })));
    assert!(matches!(open(&dir.path().join("none")), Some(Error::Open { .. })));
    assert!(files(dir.path()).is_empty());

    std::fs::write(segment(dir.path(), 1), "not a journal but some text").unwrap();
    let before = files(dir.path());
    assert!(matches!(open(dir.path()), Some(Error::Corrupt { .. })));
    assert_eq!(files(dir.path()), before);
}
