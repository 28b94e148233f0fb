//! Orders of which there is not enough, when stock comes.

mod stock_support;

use lockstep_core::decide::{Waiting, waiting};
use lockstep_core::record::Body;
use lockstep_core::rules::OrderPolicy;
use lockstep_core::stock::record::{CountBasis, MovementKind};
use lockstep_core::stock::{Command, Item, PolicyOf, Reserve};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use stock_support::orders::World;
use stock_support::{MINUTE, Shop, count, movement};

fn waits(world: &World, order: &str) -> Option<Waiting> {
    waiting(&world.facts.entities[format!("order/{order}").as_str()])
}

#[test]
fn an_order_that_gets_nothing_leaves_no_trace_and_one_that_does_is_held_no_longer() {
    let mut world = World::new();
    world.count("A", "b", 1);
    world.order_of("web:1", 1, "confirmed", &[("A", 3)]);
    assert!(world.is_held("web:1") && world.arrived().is_empty());
    let waits_for = Waiting { skus: vec!["A".into()], channel: "web".into(), placed_us: world.now };
    assert_eq!(waits(&world, "web:1"), Some(waits_for));

    world.command(count("A", "b", CountBasis::OnHand, 2, -1));
    assert_eq!(world.arrived(), ["A"]);
    let (before, entity) = (world.records.len(), world.facts.entities["order/web:1"].clone());
    for _ in 0..3 {
        assert!(!world.retry("web:1", "A"), "there are 2, and it needs 3");
    }
    assert_eq!((world.records.len(), world.arrived()), (before, vec![]));
    assert_eq!(world.facts.entities["order/web:1"], entity);

    world.command(count("A", "b", CountBasis::OnHand, 3, 0));
    assert_eq!(world.arrived(), ["A"]);
    assert!(world.retry("web:1", "A"));
    assert!(!world.is_held("web:1"));
    assert_eq!((world.sums("A"), waits(&world, "web:1")), ((3, 3, 0), Some(Waiting::default())));
    let last = world.records.iter().rev().find_map(|record| match &record.body {
        Some(Body::Fact(fact)) => Some((fact.source.clone(), fact.delivery.clone(), fact.index + 1 == fact.of)),
        _ => None,
    });
    let (source, delivery, is_last) = last.unwrap();
    assert!(delivery.starts_with("stock-came|A|web:1|"), "{delivery}");
    assert_eq!((source.as_str(), is_last), ("@hub", true));
    assert!(!world.retry("web:1", "A"), "it has what it needs");
}

#[test]
fn an_order_that_says_when_it_was_placed_has_that_turn() {
    let mut world = World::new();
    world.count("A", "b", 0);
    let lines = json!([{"id": "l", "sku": "A", "ordered": 1}]);
    let fields = json!({"lifecycle": "confirmed", "lines": lines, "placed_at": "2026-01-01T00:00:00Z"});
    world.say("shop", "order/web:1", 1, fields);
    assert_eq!(waits(&world, "web:1").unwrap().placed_us, 1_767_225_600_000_000);
    world.order(2, "cancelled", 1);
    assert_eq!(waits(&world, "web:1"), Some(Waiting::default()));
}

#[test]
fn whatever_brings_stock_is_an_arrival_and_nothing_else_is() {
    let supply = |open| Command::Supply {
        supply: "po".into(),
        sku: "A".into(),
        location: "b".into(),
        open,
        eta_us: Shop::minute(60),
    };
    let moved = |kind, quantity| Command::Move(movement(&format!("{kind:?}"), kind, "A", "b", quantity, 0));
    let policy = |cap| PolicyOf { channel: "web".into(), cap, ..PolicyOf::default() };
    type Arrives = (&'static str, Command, bool);
    let all: [Arrives; 9] = [
        ("a receipt", moved(MovementKind::Receipt, 1), true),
        ("a return", moved(MovementKind::ReturnRestock, 1), true),
        ("a damaged return", moved(MovementKind::ReturnDamaged, 1), false),
        ("a loss", moved(MovementKind::Adjust, -1), false),
        ("a release", Command::Release { id: "hold".into(), lines: vec![] }, true),
        ("a commit", Command::Commit { id: "hold".into() }, false),
        ("less to keep back", Command::Safety { sku: "A".into(), location: "b".into(), quantity: 0 }, true),
        ("a smaller cap", Command::Policy(policy(Some((1, 0)))), false),
        ("a supply for who may promise of it", supply(5), true),
    ];
    for (what, command, arrives) in all {
        let mut world = World::new();
        let limit = PolicyOf { channel: "web".into(), backorder_limit: Some(9), ..PolicyOf::default() };
        world.command(Command::Policy(limit));
        world.count("A", "b", 9);
        world.hold("hold", 3);
        world.command(Command::Safety { sku: "A".into(), location: "b".into(), quantity: 2 });
        world.order_of("web:1", 1, "confirmed", &[("A", 9)]);
        assert!(world.is_held("web:1") && world.arrived().is_empty(), "{what}");
        world.command(command);
        assert_eq!(!world.arrived().is_empty(), arrives, "{what}");
    }
}

#[test]
fn the_end_of_a_hold_and_of_a_caps_window_bring_stock() {
    let mut world = World::new();
    world.count("A", "b", 1);
    world.hold("hold", 1);
    world.order_of("web:1", 1, "confirmed", &[("A", 1)]);
    world.now += 16 * MINUTE;
    world.command(Command::Expire { limit: 9 });
    assert_eq!(world.arrived(), ["A"]);
    assert!(world.retry("web:1", "A"));

    let mut world = World::new();
    let cap = PolicyOf { channel: "web".into(), cap: Some((1, 60 * MINUTE)), ..PolicyOf::default() };
    world.command(Command::Policy(cap));
    world.count("A", "b", 9);
    world.order(1, "confirmed", 1);
    world.ship("s", 1);
    world.order_of("web:2", 1, "confirmed", &[("A", 1)]);
    assert!(world.is_held("web:2") && world.arrived().is_empty());
    let end_us = world.facts.stock.next_wake_us().expect("a window ends");
    assert!(end_us > world.now + 59 * MINUTE);
    world.now = end_us - 1;
    assert!(!world.facts.stock.may_have_arrived(world.now));
    world.now = end_us;
    assert_eq!(world.arrived(), ["A"]);
    assert!(world.retry("web:2", "A") && !world.is_held("web:2"));
}

#[test]
fn a_kit_of_other_parts_is_another_need() {
    let mut world = World::new();
    let kit = |of: &str| Command::Sku { sku: "K".into(), scale: 0, components: vec![(of.into(), 1)] };
    world.command(kit("A"));
    world.count("A", "b", 0);
    world.count("B", "b", 5);
    world.order_of("web:1", 1, "confirmed", &[("K", 2)]);
    assert_eq!(waits(&world, "web:1").unwrap().skus, ["A"]);
    world.command(kit("B"));
    assert!(world.facts.stock.arrivals(world.now).iter().any(|arrival| arrival.sku == "A" && arrival.concerns_all));
    assert!(world.retry("web:1", "A"));
    assert_eq!(world.sums("B"), (5, 2, 3));
}

#[test]
fn what_is_given_back_in_the_middle_of_a_delivery_is_an_arrival_for_who_became_short_in_it() {
    for gives_back_last in [true, false] {
        let mut world = World::new();
        world.count("A", "b", 8);
        world.order_of("web:1", 1, "confirmed", &[("A", 3)]);
        world.order_of("web:2", 1, "confirmed", &[("A", 9)]);
        assert!(world.is_held("web:2") && world.arrived().is_empty(), "5 are left, which is remembered");
        let (takes, short) = (("web:3", "confirmed", &[("A", 3)][..]), ("web:4", "confirmed", &[("A", 4)][..]));
        let gives = ("web:1", "cancelled", &[("A", 3)][..]);
        let delivery = if gives_back_last { [takes, short, gives] } else { [takes, gives, short] };
        world.orders_of(2, &delivery);
        assert_eq!((world.sums("A").1, world.is_held("web:4")), (if gives_back_last { 3 } else { 7 }, gives_back_last));
        assert_eq!(!world.arrived().is_empty(), gives_back_last);
        assert_eq!(world.retry("web:4", "A"), gives_back_last);
        assert!(!world.is_held("web:4"));
    }
}

#[test]
fn a_policy_that_is_taken_away_lets_its_channel_take_what_others_may() {
    let mut world = World::new();
    let cap = PolicyOf { channel: "web".into(), cap: Some((1, 0)), ..PolicyOf::default() };
    world.command(Command::Policy(cap.clone()));
    world.count("A", "b", 9);
    world.order_of("web:1", 1, "confirmed", &[("A", 4)]);
    assert!(world.is_held("web:1") && world.arrived().is_empty());
    world.command(Command::Policy(PolicyOf { removed: true, cap: None, ..cap }));
    assert_eq!(world.arrived(), ["A"], "whoever has no policy could take no more than before, but this channel can");
    assert!(world.retry("web:1", "A") && !world.is_held("web:1"));
}

/// What may happen to stock while orders wait.
#[derive(Clone, Debug)]
enum Step {
    Order {
        key: u8,
        minute: i64,
        state: &'static str,
        units: (i64, i64),
    },
    /// Several in one delivery, by key.
    Orders(Vec<(u8, &'static str, i64)>),
    Counted {
        sku: &'static str,
        place: &'static str,
        units: i64,
    },
    Moved {
        sku: &'static str,
        place: &'static str,
        units: i64,
    },
    Held {
        id: u8,
        units: i64,
    },
    Released {
        id: u8,
    },
    Safety {
        place: &'static str,
        units: i64,
    },
    Policy {
        sku: &'static str,
        cap: Option<(i64, i64)>,
        fence: Option<i64>,
        places: Option<&'static str>,
        limit: Option<i64>,
        removed: bool,
    },
    Kit {
        part: &'static str,
        per: i64,
    },
    Supply {
        sku: &'static str,
        open: i64,
    },
    Passed {
        minutes: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let sku = || prop_oneof![Just("A"), Just("B")];
    let place = || prop_oneof![Just("x"), Just("y")];
    let state = || prop_oneof![1 => Just("pending"), 4 => Just("confirmed"), 1 => Just("cancelled")];
    let orders = vec((0..4_u8, state(), 1..5_i64), 2..5);
    let policy = (
        prop_oneof![3 => Just(""), 1 => Just("A")],
        proptest::option::weighted(0.3, (0..6_i64, prop_oneof![Just(0), Just(20 * MINUTE)])),
        proptest::option::weighted(0.3, 0..4_i64),
        proptest::option::weighted(0.3, place()),
        proptest::option::weighted(0.5, 0..6_i64),
        proptest::bool::weighted(0.2),
    );
    prop_oneof![
        8 => (0..4_u8, 0..9_i64, state(), (1..5_i64, 0..3_i64))
            .prop_map(|(key, minute, state, units)| Step::Order { key, minute, state, units }),
        4 => orders.prop_map(Step::Orders),
        4 => (sku(), place(), 0..6_i64).prop_map(|(sku, place, units)| Step::Counted { sku, place, units }),
        4 => (sku(), place(), -3..4_i64).prop_map(|(sku, place, units)| Step::Moved { sku, place, units }),
        3 => (0..3_u8, 1..4_i64).prop_map(|(id, units)| Step::Held { id, units }),
        2 => (0..3_u8).prop_map(|id| Step::Released { id }),
        1 => (place(), 0..4_i64).prop_map(|(place, units)| Step::Safety { place, units }),
        3 => policy.prop_map(|(sku, cap, fence, places, limit, removed)| {
            Step::Policy { sku, cap, fence, places, limit, removed }
        }),
        1 => (sku(), 1..3_i64).prop_map(|(part, per)| Step::Kit { part, per }),
        2 => (sku(), 0..5_i64).prop_map(|(sku, open)| Step::Supply { sku, open }),
        2 => (1..15_i64).prop_map(|minutes| Step::Passed { minutes }),
    ]
}

fn take(world: &mut World, number: usize, step: &Step) {
    let at_us = world.now;
    match *step {
        Step::Order { key, minute, state, units: (units, kits) } => {
            let minute = (world.now - Shop::minute(0)) / MINUTE + minute;
            world.order_of(&format!("web:{key}"), minute, state, &[("A", units), ("K", kits)]);
        }
        Step::Orders(ref orders) => {
            // Each once, as it is in a delivery.
            let orders: std::collections::BTreeMap<_, _> =
                orders.iter().map(|(key, state, units)| (format!("web:{key}"), (*state, [("A", *units)]))).collect();
            let orders: Vec<_> =
                orders.iter().map(|(key, (state, units))| (key.as_str(), *state, &units[..])).collect();
            let minute = (world.now - Shop::minute(0)) / MINUTE;
            world.orders_of(minute, &orders);
        }
        Step::Counted { sku, place, units } => {
            let minute = (world.now - Shop::minute(0)) / MINUTE;
            world.try_command(count(sku, place, CountBasis::OnHand, units, minute));
        }
        Step::Moved { sku, place, units } => {
            let minute = (world.now - Shop::minute(0)) / MINUTE;
            let moved = movement(&format!("m{number}"), MovementKind::Adjust, sku, place, units, minute);
            world.try_command(Command::Move(moved));
        }
        Step::Held { id, units } => {
            let id = format!("h{id}");
            world.try_command(Command::Reserve(Reserve {
                id: id.as_str().into(),
                owner: id.as_str().into(),
                channel: "web".into(),
                expires_at_us: at_us + 15 * MINUTE,
                items: vec![Item { sku: "A".into(), quantity: units, location: None }],
                ..Reserve::default()
            }));
        }
        Step::Released { id } => {
            world.try_command(Command::Release { id: format!("h{id}").into(), lines: Vec::new() });
        }
        Step::Safety { place, units } => {
            world.try_command(Command::Safety { sku: "A".into(), location: place.into(), quantity: units });
        }
        Step::Policy { sku, cap, fence, places, limit, removed } => world.try_command(Command::Policy(PolicyOf {
            channel: if number.is_multiple_of(3) { "market".into() } else { "web".into() },
            sku: sku.into(),
            locations: places.map(|place| vec![place.into()]),
            cap,
            fence,
            backorder_limit: limit,
            removed,
            ..PolicyOf::default()
        })),
        Step::Kit { part, per } => {
            world.try_command(Command::Sku { sku: "K".into(), scale: 0, components: vec![(part.into(), per)] });
        }
        Step::Supply { sku, open } => world.try_command(Command::Supply {
            supply: "po".into(),
            sku: sku.into(),
            location: "x".into(),
            open,
            eta_us: at_us + 60 * MINUTE,
        }),
        Step::Passed { minutes } => world.now += minutes * MINUTE,
    }
}

fn orders(world: &World) -> Vec<String> {
    let ids = world.facts.entities.keys().filter_map(|id| id.strip_prefix("order/"));
    let mut keys: Vec<String> = ids.map(str::to_owned).collect();
    keys.sort();
    keys
}

/// The hub's part: holds that are over are written down, and whoever waits for what came is looked at, where there is
/// anything for him.
fn serve(world: &mut World) {
    world.command(Command::Expire { limit: usize::MAX });
    for round in 0.. {
        assert!(round < 100, "it never comes to an end");
        let arrivals = world.facts.stock.arrivals(world.now);
        if arrivals.is_empty() {
            return;
        }
        for arrival in arrivals {
            for order in orders(world) {
                let wants = waits(world, &order).is_some_and(|waiting| waiting.skus.contains(&arrival.sku));
                if wants && (arrival.concerns_all || world.facts.stock.may_take(&arrival.sku, "web")) {
                    world.retry(&order, &arrival.sku);
                }
            }
        }
    }
}

/// What an order has.
fn open(world: &World, order: &str) -> i64 {
    let is_own = |id: &&str| world.facts.stock.reservation_view(id, world.now).is_some_and(|view| view.owner == order);
    let own: Vec<String> = world.facts.stock.reservations().filter(is_own).map(str::to_owned).collect();
    world.facts.stock.lines_of(&own, world.now).iter().map(|line| line.open).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// An order that waits gets its stock as soon as there is enough: to look at it once more without an arrival is in
    /// vain.
    #[test]
    fn no_order_stays_held_while_its_stock_is_there(
        steps in vec(step(), 1..40),
        backorder in any::<bool>(),
        allow_split in any::<bool>(),
    ) {
        let mut world = World::with(OrderPolicy { backorder, allow_split, ..OrderPolicy::default() });
        world.count("A", "x", 2);
        world.count("B", "y", 1);
        for (number, step) in steps.iter().enumerate() {
            take(&mut world, number, step);
            serve(&mut world);
            for order in orders(&world) {
                let first = waits(&world, &order).and_then(|waiting| waiting.skus.first().cloned());
                let Some(sku) = first else { continue };
                let document = world.facts.entities[format!("order/{order}").as_str()].document_json();
                let before = open(&world, &order);
                // What it needs may be another thing by now, where a kit is: it may give back, and gets nothing.
                world.retry(&order, &sku);
                let gets_nothing = open(&world, &order) <= before && world.is_held(&order);
                prop_assert!(gets_nothing, "{order} was {document:?} after {step:?}");
            }
        }
    }
}
