//! Reservations that are over are kept for a time, and no longer: those of orders for as long as the order.

mod common;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::options;
use lockstep_core::stock::record::{CountBasis, ReservationState};
use lockstep_core::stock::{Command, Count, Item, Limits, Reserve};
use lockstep_core::{Change, Field, Input, InputBody, Outcome};
use lockstep_hub::stepped::{Stepped, VirtualTime};
use lockstep_hub::{HubOptions, Standing};
use lockstep_journal::{SqliteJournal, SqliteOptions};

/// The beginning of 2026.
const START_US: i64 = 1_767_225_600_000_000;
const DAY: u64 = 86_400;
const KEPT_DAYS: u32 = 30;

/// A hub with a clock that is moved by hand.
struct World {
    dir: tempfile::TempDir,
    time: Arc<VirtualTime>,
    hub: Option<Stepped>,
    deliveries: u32,
}

impl World {
    fn new() -> Self {
        let time = Arc::new(VirtualTime::new(START_US));
        let mut world = Self { dir: tempfile::tempdir().unwrap(), time, hub: None, deliveries: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        let options = HubOptions { flush_interval_ms: 1_000, reservation_days: KEPT_DAYS, ..options(self.dir.path()) };
        let journal = SqliteJournal::open(&self.dir.path().join("journal"), SqliteOptions::default()).unwrap();
        self.hub = Some(Stepped::open(options, Box::new(journal), self.time.clone()).unwrap());
    }

    fn state_file(&self) -> PathBuf {
        self.dir.path().join("state.sqlite")
    }

    /// What comes of something that is asked of the loop.
    fn answer<T>(&mut self, asked: impl Future<Output = T>) -> T {
        let mut asked = pin!(asked);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..12 {
            if let Poll::Ready(answer) = asked.as_mut().poll(&mut context) {
                return answer;
            }
            let hub = self.hub.as_mut().unwrap();
            assert!(hub.step_loop());
            while hub.step_journal() {}
        }
        panic!("no answer");
    }

    fn give(&mut self, body: InputBody) -> Outcome {
        self.deliveries += 1;
        let delivery = self.deliveries.to_string();
        let input = Input {
            source: "shop".into(),
            system: "shop".into(),
            payload_hash: lockstep_core::payload_hash(delivery.as_bytes()),
            delivery,
            reject_reuse: true,
            request_key: None,
            received_at_us: self.time.now_us(),
            trace: None,
            raw: None,
            body,
            releases: None,
        };
        let handle = self.hub.as_ref().unwrap().handle();
        self.answer(async move { handle.submit(vec![input]).await }).unwrap().remove(0).unwrap()
    }

    fn say(&mut self, command: Command) {
        self.give(InputBody::Stock(vec![command]));
    }

    fn count(&mut self) {
        let (source, sku, location, as_of_us) = ("wms".into(), "a".into(), "berlin".into(), self.time.now_us());
        let basis = CountBasis::OnHand;
        self.say(Command::Count(Count { source, sku, location, basis, quantity: 100, as_of_us, ..Count::default() }));
    }

    fn reserve(&mut self, id: &str, owner: &str, quantity: i64) {
        self.say(Command::Reserve(Reserve {
            id: id.into(),
            owner: owner.into(),
            channel: "web".into(),
            expires_at_us: self.time.now_us() + 3_600_000_000,
            items: vec![Item { sku: "a".into(), quantity, location: None }],
            ..Reserve::default()
        }));
    }

    fn release(&mut self, id: &str) {
        self.say(Command::Release { id: id.into(), lines: Vec::new() });
    }

    fn state(&mut self, id: &str) -> Option<ReservationState> {
        let (handle, id) = (self.hub.as_ref().unwrap().handle(), id.to_owned());
        self.answer(async move { handle.reservation(&id).await }).unwrap().map(|view| view.state)
    }

    /// Days go by, then something is recorded, and the state file has it.
    fn pass(&mut self, days: u64) {
        self.time.advance(Duration::from_secs(days * DAY));
        // What is in memory only because it was asked for leaves it with a batch.
        self.count();
        self.time.advance(Duration::from_secs(1));
        self.count();
        let hub = self.hub.as_mut().unwrap();
        while hub.step_flush() {
            hub.step_loop();
            while hub.step_journal() {}
        }
    }

    /// The reservations of the state file.
    fn rows(&self) -> Vec<String> {
        let file = rusqlite::Connection::open(self.state_file()).unwrap();
        let mut rows = file.prepare("SELECT id FROM stock_reservation ORDER BY id").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// The process is gone, everything is checked, and there is another one.
    fn check(&mut self) {
        self.hub = None;
        verify(self.dir.path());
        self.open();
    }
}

fn verify(dir: &Path) {
    let mut standing = Standing::alone(dir, Limits::default()).unwrap();
    let found = standing.verify(7, KEPT_DAYS, |_| {}).unwrap();
    assert!(found.broken.is_empty(), "{:?}", found.broken);
    assert!(found.stock_records > 0);
}

#[test]
fn what_is_over_for_long_is_removed_and_an_orders_reservation_is_not() {
    let mut world = World::new();
    world.count();
    let fields = vec![Field::new("number", "1".to_owned())];
    let order = Change::new("order", "web:1", 0, START_US, fields).unwrap();
    world.give(InputBody::Changes(vec![order]));
    for (id, owner) in [("cart", "cart"), ("web:1", "web:1"), ("web:1~2", "web:1"), ("late", "cart-2")] {
        world.reserve(id, owner, 1);
    }
    world.reserve("open", "somebody", 1);
    world.say(Command::Commit { id: "open".into() });
    ["cart", "web:1", "web:1~2"].into_iter().for_each(|id| world.release(id));
    world.pass(0);
    world.pass(20);
    // The hold that nobody gave back has expired, and that is written down now.
    world.pass(9);
    assert_eq!(world.state("cart"), Some(ReservationState::Released));
    assert_eq!(world.rows(), ["cart", "late", "open", "web:1", "web:1~2"]);
    world.check();

    world.pass(1);
    assert_eq!((world.state("cart"), world.state("late")), (None, Some(ReservationState::Expired)));
    assert_eq!(world.state("web:1~2"), Some(ReservationState::Released));
    assert_eq!(world.rows().len(), 5, "it goes a day later");
    world.check();
    // A new one of that name has nothing to do with it.
    world.pass(2);
    assert_eq!(world.rows(), ["late", "open", "web:1", "web:1~2"]);
    world.check();
    world.reserve("cart", "somebody else", 2);
    assert_eq!(world.state("cart"), Some(ReservationState::Held));

    world.pass(40);
    world.pass(2);
    assert_eq!(world.rows(), ["cart", "open", "web:1", "web:1~2"]);
    for id in ["web:1", "web:1~2"] {
        assert_eq!(world.state(id), Some(ReservationState::Released), "{id}");
    }
    assert_eq!(world.state("open"), Some(ReservationState::Committed));
    world.check();

    // From the journal alone it is the same.
    world.hub = None;
    std::fs::remove_file(world.state_file()).unwrap();
    world.open();
    world.pass(1);
    assert_eq!(world.state("web:1"), Some(ReservationState::Released));
    assert_eq!(world.state("cart"), Some(ReservationState::Expired));
    world.check();
}
