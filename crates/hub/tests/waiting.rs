//! Orders that wait for stock: they get it when it comes, in the order in which they were placed, once, whatever happens to
//! the hub meanwhile.

mod common;

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::options;
use lockstep_core::record::{Body, Record};
use lockstep_core::rules::{OrderPolicy, StockOrders};
use lockstep_core::stock::record::CountBasis;
use lockstep_core::stock::{Command, Count, Item, PolicyOf, Reserve};
use lockstep_core::{Change, Field, Input, InputBody, Rules, path};
use lockstep_hub::HubOptions;
use lockstep_hub::stepped::{Stepped, VirtualTime};
use lockstep_journal::{Journal, MemoryJournal};
use serde_json::{Value, json};

/// The beginning of 2026.
const START_US: i64 = 1_767_225_600_000_000;

/// A hub with a clock that is moved by hand, and the journal that outlives it.
struct World {
    dir: tempfile::TempDir,
    journal: MemoryJournal,
    time: Arc<VirtualTime>,
    hub: Option<Stepped>,
    deliveries: u64,
}

impl World {
    fn new() -> Self {
        let (dir, time) = (tempfile::tempdir().unwrap(), Arc::new(VirtualTime::new(START_US)));
        let mut world = Self { dir, journal: MemoryJournal::new(), time, hub: None, deliveries: 0 };
        world.open();
        world
    }

    fn open(&mut self) {
        let mut rules = Rules::new();
        rules.stock_orders = StockOrders { all: Some(OrderPolicy::default()), ..StockOrders::default() };
        let options = HubOptions { flush_interval_ms: 1_000, rules, ..options(self.dir.path()) };
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
        while self.hub.as_mut().unwrap().step_flush() {}
        self.work();
    }

    fn input(&mut self, body: InputBody) -> Input {
        self.deliveries += 1;
        Input {
            source: "shop".into(),
            system: "shop".into(),
            delivery: format!("d{}", self.deliveries),
            payload_hash: self.deliveries,
            reject_reuse: false,
            request_key: None,
            received_at_us: self.time.now_us(),
            trace: None,
            raw: None,
            body,
            releases: None,
        }
    }

    /// Gives inputs together, and has the loop decide them; `journaled` also all that follows.
    fn give(&mut self, bodies: Vec<InputBody>, journaled: bool) {
        let inputs: Vec<Input> = bodies.into_iter().map(|body| self.input(body)).collect();
        let handle = self.hub.as_ref().unwrap().handle();
        let mut answer = Box::pin(async move { handle.submit(inputs).await });
        let mut context = Context::from_waker(Waker::noop());
        assert!(answer.as_mut().poll(&mut context).is_pending());
        if !journaled {
            assert!(self.hub.as_mut().unwrap().step_loop());
            return;
        }
        self.work();
        let Poll::Ready(Ok(answers)) = answer.as_mut().poll(&mut context) else { panic!("it was not answered") };
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }

    fn order(&mut self, key: &str, channel: &str, units: i64) {
        let body = self.ordered(key, channel, units);
        self.give(vec![body], true);
    }

    fn ordered(&self, key: &str, channel: &str, units: i64) -> InputBody {
        self.ordered_of("A", key, channel, units)
    }

    fn ordered_of(&self, sku: &str, key: &str, channel: &str, units: i64) -> InputBody {
        let lines = json!([{"id": "1", "sku": sku, "ordered": units}]);
        let all = [("channel", json!(channel)), ("lifecycle", json!("confirmed")), ("lines", lines)];
        let fields = all.into_iter().map(|(name, value)| Field::new(name, value.to_string())).collect();
        let fields = path::split(fields, Rules::new().parts("order")).unwrap();
        InputBody::Changes(vec![Change::new("order", key, 0, self.time.now_us(), fields).unwrap()])
    }

    /// Each count a moment later than the one before.
    fn counted(&self, quantity: i64) -> InputBody {
        self.time.advance(Duration::from_millis(1));
        self.counted_of("A", quantity)
    }

    fn counted_of(&self, sku: &str, quantity: i64) -> InputBody {
        let (source, sku, location, as_of_us) = ("wms".into(), sku.into(), "b".into(), self.time.now_us());
        let count = Count { source, sku, location, basis: CountBasis::OnHand, quantity, as_of_us, ..Count::default() };
        InputBody::Stock(vec![Command::Count(count)])
    }

    fn count(&mut self, quantity: i64) {
        let body = self.counted(quantity);
        self.give(vec![body], true);
    }

    fn records(&self) -> Vec<Record> {
        let entries = self.journal.reader().read(1, usize::MAX).unwrap();
        entries.into_iter().map(|entry| Record::read(entry.record).unwrap()).collect()
    }

    /// Orders that need much more than comes, more of them than are looked at at once, and after them one that needs little.
    fn crowd(&mut self, count: usize) {
        self.count(0);
        for number in 0..count {
            self.time.advance(Duration::from_millis(1));
            self.order(&format!("much-{number:02}"), "web", 10);
        }
        self.time.advance(Duration::from_millis(1));
        self.order("little", "web", 1);
    }

    /// The orders that got their stock by the hub's own word, in that order.
    fn got(&self) -> Vec<String> {
        let got = |record: &Record| match &record.body {
            Some(Body::Fact(fact)) if fact.index == 0 && fact.delivery.starts_with("stock-came|") => {
                let stock = fact.fields.iter().find(|field| field.name == "stock").unwrap();
                let stock: Value = serde_json::from_slice(&stock.json).unwrap();
                assert_eq!(stock["short"], Value::Null, "it says so only of who got it");
                Some(fact.key.clone())
            }
            _ => None,
        };
        self.records().iter().filter_map(got).collect()
    }
}

#[test]
fn the_first_that_was_placed_gets_the_unit_that_comes() {
    let mut world = World::new();
    world.count(0);
    // Not in the order of their keys.
    for key in ["b", "a", "c"] {
        world.time.advance(Duration::from_millis(1));
        world.order(key, "web", 1);
    }
    let before = world.records().len();
    world.work();
    assert_eq!(world.records().len(), before, "nothing comes, and nothing is said");
    world.count(1);
    assert_eq!(world.got(), ["b"]);
    world.count(3);
    assert_eq!(world.got(), ["b", "a", "c"]);
}

#[test]
fn who_waits_comes_before_who_orders_in_the_same_breath() {
    let mut world = World::new();
    world.count(0);
    world.order("first", "web", 2);
    world.time.advance(Duration::from_millis(1));
    let bodies = vec![world.counted(2), world.ordered("late", "web", 1)];
    world.give(bodies, true);
    assert_eq!(world.got(), ["first"]);
}

#[test]
fn who_comes_late_has_his_turn_however_often_a_little_comes_and_is_sold() {
    for together in [true, false] {
        let mut world = World::new();
        world.crowd(20);
        // One unit, which somebody orders right away, before all who wait could be looked at.
        let mut bodies = Vec::new();
        for number in 0..3 {
            bodies.extend([world.counted(number + 1), world.ordered(&format!("new-{number}"), "web", 1)]);
        }
        if together {
            world.give(bodies, true);
        } else {
            while !bodies.is_empty() {
                let two = bodies.drain(..2).collect();
                world.give(two, true);
            }
        }
        assert_eq!(world.got(), ["little"], "he is looked at when the second one comes; together: {together}");
    }
}

#[test]
fn what_comes_meanwhile_goes_on_with_who_was_not_looked_at_and_then_round() {
    let mut world = World::new();
    world.crowd(20);
    let bodies = vec![world.counted(1), world.counted(201)];
    world.give(bodies, true);
    let much = |numbers: std::ops::Range<usize>| numbers.map(|number| format!("much-{number:02}"));
    let expected: Vec<String> = much(16..20).chain(["little".to_owned()]).chain(much(0..16)).collect();
    assert_eq!(world.got(), expected, "each once, and everybody");
    let end = world.records().len();
    world.work();
    assert_eq!(world.records().len(), end);
}

#[test]
fn who_waits_for_something_else_is_not_kept_waiting() {
    let mut world = World::new();
    world.crowd(40);
    let (none, first, late) =
        (world.counted_of("B", 0), world.ordered_of("B", "first", "web", 1), world.ordered_of("B", "late", "web", 1));
    world.give(vec![none, first], true);
    // Those who wait for A are looked at for long.
    let bodies = vec![world.counted(5), world.counted_of("B", 1), late];
    world.give(bodies, true);
    assert_eq!(world.got(), ["first", "little"]);
}

#[test]
fn the_channel_with_the_higher_priority_comes_first() {
    let mut world = World::new();
    world.count(0);
    let policy = |channel: &str, priority| {
        let policy = PolicyOf { channel: channel.into(), priority: Some(priority), ..PolicyOf::default() };
        InputBody::Stock(vec![Command::Policy(policy)])
    };
    world.give(vec![policy("web", 1), policy("club", 5)], true);
    world.order("w", "web", 1);
    world.time.advance(Duration::from_millis(1));
    world.order("c", "club", 1);
    world.count(1);
    assert_eq!(world.got(), ["c"]);
    world.count(2);
    assert_eq!(world.got(), ["c", "w"]);
}

#[test]
fn the_end_of_a_hold_serves_who_waits() {
    let mut world = World::new();
    world.count(1);
    let hold = Reserve {
        id: "cart".into(),
        owner: "cart".into(),
        channel: "web".into(),
        expires_at_us: world.time.now_us() + 60_000_000,
        items: vec![Item { sku: "A".into(), quantity: 1, location: None }],
        ..Reserve::default()
    };
    world.give(vec![InputBody::Stock(vec![Command::Reserve(hold)])], true);
    world.order("a", "web", 1);
    world.time.advance(Duration::from_secs(59));
    world.work();
    assert_eq!(world.got(), [""; 0]);
    world.time.advance(Duration::from_secs(1));
    world.work();
    assert_eq!(world.got(), ["a"]);
}

#[test]
fn who_waits_is_found_after_a_restart() {
    for flushed in [true, false] {
        for lost in ["nothing", "the state file", "the index"] {
            let mut world = World::new();
            world.count(0);
            world.order("a", "web", 1);
            world.order("b", "web", 1);
            if flushed {
                world.flush();
            }
            world.hub = None;
            match lost {
                "the state file" => std::fs::remove_file(world.state_file()).unwrap(),
                // As a version has left it that did not have one.
                "the index" => {
                    rusqlite::Connection::open(world.state_file())
                        .unwrap()
                        .execute_batch("DROP TABLE waiting")
                        .unwrap();
                }
                _ => {}
            }
            world.open();
            world.work();
            assert_eq!(world.got(), [""; 0]);
            world.count(1);
            assert_eq!(world.got(), ["a"], "without {lost}, flushed: {flushed}");
            world.crash();
            world.work();
            if flushed {
                world.flush();
                world.crash();
            }
            world.count(2);
            assert_eq!(world.got(), ["a", "b"], "without {lost}, flushed: {flushed}");
        }
    }
}

#[test]
fn an_order_that_says_nothing_of_its_channel_is_served_as_all_others() {
    let mut world = World::new();
    world.count(0);
    world.order("in-memory", "", 1);
    world.count(1);
    assert_eq!(world.got(), ["in-memory"]);
    world.order("in-the-file", "", 1);
    world.flush();
    world.order("after-a-crash", "", 1);
    world.count(2);
    assert_eq!(world.got(), ["in-memory", "in-the-file"]);
    world.crash();
    world.count(3);
    assert_eq!(world.got(), ["in-memory", "in-the-file", "after-a-crash"]);
}

#[test]
fn a_crash_between_the_stock_and_who_waits_for_it_loses_neither() {
    let mut world = World::new();
    world.count(0);
    // More than are looked at at once.
    for number in 0..40 {
        world.time.advance(Duration::from_millis(1));
        world.order(&format!("o-{number:02}"), "web", 1);
    }
    world.flush();
    world.time.advance(Duration::from_millis(1));
    let body = world.counted(30);
    world.give(vec![body], false);
    // The batch with the stock, and with the first who get it, is in the journal; the next one is not.
    assert!(world.hub.as_mut().unwrap().step_journal());
    assert!(world.hub.as_mut().unwrap().step_loop());
    let some = world.got().len();
    assert!((1..30).contains(&some), "{some}");
    world.crash();
    world.work();
    let expected: Vec<String> = (0..30).map(|number| format!("o-{number:02}")).collect();
    assert_eq!(world.got(), expected, "each once, in their order");
    let end = world.records().len();
    world.crash();
    world.work();
    assert_eq!(world.records().len(), end, "who gets nothing leaves no trace");
}
