//! Timers: what is due is said by the hub itself, once, whatever happens to the hub meanwhile.

mod common;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::options;
use lockstep_core::record::{Body, Fact, Record};
use lockstep_core::{Change, Field, Input, InputBody};
use lockstep_hub::HubOptions;
use lockstep_hub::stepped::{Stepped, VirtualTime};
use lockstep_journal::{Journal, MemoryJournal};

/// The beginning of 2026.
const START_US: i64 = 1_767_225_600_000_000;

/// A hub with a clock that is moved by hand, and the journal that outlives it.
struct World {
    dir: tempfile::TempDir,
    journal: MemoryJournal,
    time: Arc<VirtualTime>,
    hub: Option<Stepped>,
}

impl World {
    fn new() -> Self {
        let time = Arc::new(VirtualTime::new(START_US));
        let mut world = Self { dir: tempfile::tempdir().unwrap(), journal: MemoryJournal::new(), time, hub: None };
        world.open();
        world
    }

    fn open(&mut self) {
        let options = HubOptions { flush_interval_ms: 1_000, ..options(self.dir.path()) };
        let hub = Stepped::open(options, Box::new(self.journal.clone()), self.time.clone()).unwrap();
        self.hub = Some(hub);
    }

    /// The process is gone, and there is another one.
    fn crash(&mut self) {
        self.hub = None;
        self.open();
    }

    fn state_file(&self) -> std::path::PathBuf {
        self.dir.path().join("state.sqlite")
    }

    /// All that there is to do now.
    fn work(&mut self) {
        let hub = self.hub.as_mut().unwrap();
        for _ in 0..12 {
            assert!(hub.step_loop());
            while hub.step_journal() {}
        }
    }

    /// The state file has everything.
    fn flush(&mut self) {
        self.time.advance(Duration::from_secs(1));
        self.work();
        assert!(self.hub.as_mut().unwrap().step_flush(), "a flush was due");
        self.work();
    }

    fn pass(&mut self, seconds: u64) {
        self.time.advance(Duration::from_secs(seconds));
        self.work();
    }

    /// The payment provider's word of an authorization that ends so many seconds after the beginning of 2026.
    fn authorize(&mut self, key: &str, expires_s: u64) {
        let expires =
            format!("\"2026-01-01T{:02}:{:02}:{:02}Z\"", expires_s / 3600, expires_s / 60 % 60, expires_s % 60);
        let fields = vec![Field::new("auth_expires_at", expires), Field::new("kind", "\"auth\"")];
        let input = Input {
            source: "psp".into(),
            system: "psp".into(),
            delivery: format!("{key} until {expires_s}"),
            payload_hash: 1,
            reject_reuse: false,
            request_key: None,
            received_at_us: self.time.now_us(),
            trace: None,
            raw: None,
            body: InputBody::Changes(vec![Change::new("payment", key, 0, self.time.now_us(), fields).unwrap()]),
            releases: None,
        };
        let handle = self.hub.as_ref().unwrap().handle();
        let mut answer = Box::pin(async move { handle.submit(vec![input]).await });
        let mut context = Context::from_waker(Waker::noop());
        assert!(answer.as_mut().poll(&mut context).is_pending());
        self.work();
        let Poll::Ready(Ok(answers)) = answer.as_mut().poll(&mut context) else { panic!("it was not answered") };
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }

    fn records(&self) -> Vec<Record> {
        let entries = self.journal.reader().read(1, usize::MAX).unwrap();
        entries.into_iter().map(|entry| Record::read(entry.record).unwrap()).collect()
    }

    /// What the hub itself has said: the payment, when it was so, and when it was recorded, in seconds.
    fn said(&self) -> Vec<(String, i64, i64)> {
        let seconds = |at_us: i64| (at_us - START_US) / 1_000_000;
        let said = |record: &Record| match &record.body {
            Some(Body::Fact(fact)) if fact.system == "@hub" => {
                assert_eq!(fact.event_type, "payment.auth_expired");
                assert_eq!(value(fact, "kind"), b"\"auth_expired\"");
                Some((fact.key.clone(), seconds(fact.occurred_at_us), seconds(record.recorded_at_us)))
            }
            _ => None,
        };
        self.records().iter().filter_map(said).collect()
    }
}

fn value<'a>(fact: &'a Fact, name: &str) -> &'a [u8] {
    fact.fields.iter().find(|field| field.name == name).map_or(b"", |field| &field.json)
}

#[test]
fn an_authorization_expires_at_its_instant_once() {
    let mut world = World::new();
    world.authorize("a", 60);
    world.pass(59);
    assert_eq!(world.said(), []);
    world.pass(1);
    assert_eq!(world.said(), [("a".into(), 60, 60)]);
    world.pass(3_600);
    world.authorize("a", 60);
    world.pass(1);
    assert_eq!(world.said().len(), 1);
}

#[test]
fn it_expires_in_a_hub_that_was_not_there_at_that_instant() {
    for flushed in [true, false] {
        for lost in ["nothing", "the state file", "the index"] {
            let mut world = World::new();
            world.authorize("a", 60);
            world.authorize("b", 7_200);
            if flushed {
                world.flush();
            }
            world.hub = None;
            match lost {
                "the state file" => std::fs::remove_file(world.state_file()).unwrap(),
                // As a version before timers has left it.
                "the index" => {
                    rusqlite::Connection::open(world.state_file()).unwrap().execute_batch("DROP TABLE timer").unwrap()
                }
                _ => {}
            }
            world.time.advance(Duration::from_secs(100));
            world.open();
            world.work();
            let expected = [("a".to_owned(), 60, if flushed { 101 } else { 100 })];
            assert_eq!(world.said(), expected, "without {lost}, flushed: {flushed}");
            for again in 0..3 {
                world.crash();
                world.pass(1);
                if again == 1 {
                    world.flush();
                }
                assert_eq!(world.said(), expected, "without {lost}, flushed: {flushed}");
            }
            world.pass(7_200);
            assert_eq!(world.said().len(), 2, "without {lost}, flushed: {flushed}");
        }
    }
}

#[test]
fn what_is_decided_and_not_written_is_said_again() {
    let mut world = World::new();
    world.authorize("a", 60);
    world.flush();
    world.time.advance(Duration::from_secs(100));
    assert!(world.hub.as_mut().unwrap().step_loop());
    assert_eq!(world.said(), [], "decided, and not in the journal");
    world.crash();
    world.work();
    assert_eq!(world.said().len(), 1);
}

#[test]
fn a_new_end_moves_the_timer_that_the_file_has() {
    let mut world = World::new();
    world.authorize("a", 60);
    world.flush();
    world.pass(10);
    world.authorize("a", 600);
    world.pass(100);
    assert_eq!(world.said(), []);
    world.flush();
    world.crash();
    world.pass(600);
    assert_eq!(world.said().len(), 1);
}

/// Many of them, with flushes and crashes between: the same each time.
fn many() -> Vec<Record> {
    let mut world = World::new();
    for number in 0..600_u64 {
        world.authorize(&format!("p-{number}"), 2_000 + number * 7_919 % 600);
        if number % 100 == 50 {
            world.flush();
        }
    }
    // More at once than a batch takes, then a few each time.
    world.pass(2_300);
    for round in 0..40 {
        world.pass(10);
        match round % 7 {
            3 => world.flush(),
            5 => world.crash(),
            _ => {}
        }
    }
    let said = world.said();
    let mut keys: Vec<_> = said.iter().map(|(key, ..)| key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((said.len(), keys.len()), (600, 600), "each once");
    assert!(said.is_sorted_by_key(|(_, due, _)| *due), "the earliest first");
    assert!(said.iter().all(|(_, due, recorded)| due <= recorded), "none before its time");
    world.records()
}

#[test]
fn many_expire_each_once_and_the_same_each_time() {
    assert!(many() == many());
}
