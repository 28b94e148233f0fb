//! What orders do to stock: their documents alone, in whatever order they come, decide what is reserved and moved.

mod stock_support;

use lockstep_core::record::Body;
use lockstep_core::rules::OrderPolicy;
use lockstep_core::stock::record::{CountBasis, MovementKind, ReservationState as State};
use lockstep_core::stock::{Command, Movement, PolicyOf};
use lockstep_core::{Facts, Rules, entity_id};
use serde_json::{Value, json};
use stock_support::orders::World;
use stock_support::{MINUTE, Shop, count};

#[test]
fn an_order_reserves_when_it_is_placed_and_gives_back_when_it_is_cancelled() {
    let mut world = World::new();
    world.count("A", "b", 10);
    world.order(1, "confirmed", 4);
    assert_eq!((world.sums("A"), world.state("web:1")), ((10, 4, 6), Some(State::Committed)));
    assert_eq!(world.at("/stock"), json!({"reservations": ["web:1"]}));
    let view = world.facts.stock.reservation_view("web:1", world.now).unwrap();
    assert_eq!((view.owner.as_str(), view.channel.as_str()), ("web:1", "web"));

    // The same once more, from whoever has it, and in one that is late.
    for minute in [1, 2, 0] {
        let before = world.records.len();
        world.order(minute, "confirmed", 4);
        assert_eq!(world.records.len(), before + 1, "it says nothing about stock");
    }
    world.order(5, "cancelled", 4);
    assert_eq!((world.sums("A"), world.state("web:1")), ((10, 0, 10), Some(State::Released)));
    world.order(4, "confirmed", 4);
    assert_eq!(world.sums("A"), (10, 0, 10));
}

#[test]
fn a_cancel_that_comes_first_reserves_nothing() {
    let mut world = World::new();
    world.count("A", "b", 10);
    world.order(5, "cancelled", 4);
    world.order(1, "confirmed", 4);
    assert_eq!((world.sums("A"), world.state("web:1")), ((10, 0, 10), None));
}

#[test]
fn skus_that_stock_does_not_know_are_left_alone() {
    let mut world = World::new();
    world.order(1, "confirmed", 4);
    world.count("B", "b", 10);
    world.order(2, "confirmed", 4);
    assert_eq!((world.at("/stock"), world.at("/holds")), (Value::Null, Value::Null));
    // Known from now on, it is open all the same.
    world.count("A", "b", 10);
    world.order(3, "confirmed", 4);
    assert_eq!(world.sums("A"), (10, 4, 6));
}

#[test]
fn an_order_takes_the_place_of_its_cart() {
    for commits in [false, true] {
        let mut world = World::new();
        world.count("A", "b", 4);
        world.hold("cart-7", 4);
        if commits {
            world.command(Command::Commit { id: "cart-7".into() });
        }
        let lines = json!([{"id": "l", "sku": "A", "ordered": 4}]);
        world.say("shop", "order/web:1", 1, json!({"lifecycle": "confirmed", "cart": "cart-7", "lines": lines}));
        assert_eq!(world.sums("A"), (4, 4, 0));
        assert_eq!((world.state("cart-7"), world.state("web:1")), (Some(State::Released), Some(State::Committed)));
        assert_eq!(world.at("/holds"), Value::Null);
    }
}

#[test]
fn a_reservation_under_the_key_of_an_order_is_that_of_the_order() {
    let mut world = World::new();
    world.count("A", "b", 4);
    world.hold("web:1", 4);
    world.order(1, "confirmed", 3);
    assert_eq!((world.sums("A"), world.state("web:1")), ((4, 3, 1), Some(State::Committed)));
}

#[test]
fn an_edit_gives_back_or_reserves_the_difference() {
    let mut world = World::new();
    world.count("A", "b", 10);
    world.order(1, "confirmed", 4);
    world.order(2, "confirmed", 1);
    assert_eq!(world.sums("A"), (10, 1, 9));
    world.order(3, "confirmed", 6);
    assert_eq!((world.sums("A"), world.at("/stock/reservations")), ((10, 6, 4), json!(["web:1", "web:1~2"])));
    // More than there is: what it has it keeps, and waits.
    world.order(4, "confirmed", 11);
    assert_eq!((world.sums("A"), world.at("/holds")), ((10, 6, 4), json!(["stock"])));
    assert_eq!(world.at("/stock/short"), json!({"A": 5}));
    world.order(5, "cancelled", 11);
    assert_eq!((world.sums("A"), world.at("/holds")), ((10, 0, 10), json!([])));
}

#[test]
fn an_order_that_is_deleted_gives_back_and_one_that_is_there_again_reserves_anew() {
    let mut world = World::new();
    world.count("A", "b", 10);
    world.order(1, "confirmed", 4);
    world.delete(2);
    assert_eq!((world.sums("A"), world.state("web:1")), ((10, 0, 10), Some(State::Released)));
    world.order(3, "confirmed", 4);
    assert_eq!((world.sums("A"), world.state("web:1~2")), ((10, 4, 6), Some(State::Committed)));
    assert_eq!(world.state("web:1"), Some(State::Released));
}

#[test]
fn an_order_without_stock_is_held_or_backordered() {
    let mut world = World::new();
    world.count("A", "b", 3);
    world.order(1, "confirmed", 4);
    assert_eq!((world.sums("A"), world.at("/holds")), ((3, 0, 3), json!(["stock"])));
    assert_eq!(world.at("/stock"), json!({"reservations": [], "short": {"A": 4}}));
    world.command(count("A", "b", CountBasis::OnHand, 5, -1));
    world.order(2, "confirmed", 4);
    assert_eq!((world.sums("A"), world.at("/holds")), ((5, 4, 1), json!([])));

    let mut world = World::with(OrderPolicy { backorder: true, ..OrderPolicy::default() });
    let policy = PolicyOf { channel: "web".into(), backorder_limit: Some(5), ..PolicyOf::default() };
    world.command(Command::Policy(policy));
    world.count("A", "b", 3);
    world.command(Command::Supply {
        supply: "po".into(),
        sku: "A".into(),
        location: "b".into(),
        open: 9,
        eta_us: Shop::minute(60),
    });
    world.order(1, "confirmed", 4);
    assert_eq!((world.sums("A"), world.at("/holds")), ((3, 3, 0), Value::Null));
    world.command(count("A", "b", CountBasis::OnHand, 5, -1));
    assert_eq!(world.sums("A"), (5, 4, 1), "the backorder is served before new sales");
}

#[test]
fn a_hold_that_ends_during_payment_is_reserved_again_or_the_order_is_held() {
    for others in [false, true] {
        let mut world = World::new();
        world.count("A", "b", 1);
        world.order(1, "pending", 1);
        assert_eq!(world.state("web:1"), Some(State::Held));
        world.now += 20 * MINUTE;
        // Saying the same again does not make the hold last longer.
        world.order(2, "pending", 1);
        assert_eq!((world.sums("A"), world.state("web:1")), ((1, 0, 1), Some(State::Expired)));
        if others {
            world.hold("cart-y", 1);
        }
        world.order(3, "confirmed", 1);
        let (state, holds) = if others { (State::Expired, json!(["stock"])) } else { (State::Committed, Value::Null) };
        assert_eq!((world.sums("A").1, world.state("web:1"), world.at("/holds")), (1, Some(state), holds));
    }
}

#[test]
fn shipments_consume_and_returns_restock_by_disposition() {
    let mut world = World::new();
    world.count("A", "b", 100);
    world.order(1, "confirmed", 10);
    world.ship("s1", 3);
    world.ship("s1", 3);
    assert_eq!((world.sums("A"), world.at("/lifecycle")), ((97, 7, 90), json!("partially_shipped")));
    world.order(5, "cancelled", 10);
    assert_eq!((world.sums("A"), world.at("/remainder_cancelled")), ((97, 0, 97), json!(true)));
    world.take_back("r1", 1, "restock");
    world.take_back("r1", 1, "restock");
    world.take_back("r2", 1, "lost");
    assert_eq!(world.sums("A"), (98, 0, 98));
    // More than has left can't come back.
    world.take_back("r3", 9, "restock");
    assert_eq!(world.sums("A"), (99, 0, 99));
    let moved = json!({"reservations": ["web:1"], "shipped": {"s1": {"l": 3}},
        "returned": {"r1": {"l": 1}, "r2": {"l": 1}, "r3": {"l": 1}}});
    assert_eq!(world.at("/stock"), moved);
}

#[test]
fn a_cancelled_order_that_is_shipped_all_the_same_takes_goods() {
    let mut world = World::new();
    world.count("A", "b", 5);
    world.order(1, "confirmed", 5);
    world.order(2, "cancelled", 5);
    let lines = json!([{"id": "l", "quantity": 5}]);
    world.say("wms", "shipment/s1", 5, json!({"order": "web:1", "lines": lines}));
    // The shipment does not say from where: from where it was reserved.
    assert_eq!((world.sums("A"), world.state("web:1")), ((0, 0, 0), Some(State::Released)));
    assert_eq!(world.at("/exceptions/0/kind"), "shipped_after_cancel");
    assert_eq!(world.at("/lifecycle"), "shipped");
}

#[test]
fn the_rest_of_a_cancelled_order_of_which_a_part_is_shipped_is_not_reserved_again() {
    let mut world = World::new();
    world.count("A", "b", 5);
    world.order(1, "confirmed", 5);
    world.order(2, "cancelled", 5);
    let lines = json!([{"id": "l", "quantity": 2}]);
    world.say("wms", "shipment/s1", 5, json!({"order": "web:1", "location": "b", "lines": lines}));
    assert_eq!((world.sums("A"), world.at("/lifecycle")), ((3, 0, 3), json!("partially_shipped")));
}

#[test]
fn a_parcel_that_two_systems_tell_of_has_left_once() {
    let mut world = World::new();
    world.count("A", "b", 9);
    world.order(1, "confirmed", 5);
    let parcel = |units: i64, tracking: &str| {
        let lines = json!([{"id": "l", "quantity": units}]);
        json!({"order": "web:1", "location": "b", "lines": lines, "tracking": tracking})
    };
    world.say("shop", "shipment/web:f1", 2, parcel(2, "T1"));
    // The warehouse tells of it later, as what happened earlier, and at first not of all that is in it.
    world.say("wms", "shipment/wms:77", 1, parcel(1, "T1"));
    world.say("wms", "shipment/wms:77", 3, parcel(2, "T1"));
    assert_eq!(world.sums("A"), (7, 3, 4));
    assert_eq!(world.at("/fulfilment/shipped"), json!(2));
    // Another parcel is another one, also where nobody knows its number.
    world.say("wms", "shipment/wms:78", 4, parcel(2, "T2"));
    world.ship("s9", 1);
    assert_eq!((world.sums("A"), world.state("web:1")), ((4, 0, 4), Some(State::Consumed)));
    assert_eq!((world.at("/fulfilment/shipped"), world.at("/lifecycle")), (json!(5), json!("shipped")));
}

#[test]
fn what_was_promised_of_a_supply_stays_promised_when_that_is_taken_back() {
    let mut world = World::with(OrderPolicy { backorder: true, ..OrderPolicy::default() });
    let limit = PolicyOf { channel: "web".into(), backorder_limit: Some(9), ..PolicyOf::default() };
    world.command(Command::Policy(limit));
    let supply = |open| {
        let (supply, sku, location) = ("po-1".into(), "A".into(), "b".into());
        Command::Supply { supply, sku, location, open, eta_us: Shop::minute(60) }
    };
    world.command(supply(5));
    world.order(1, "confirmed", 4);
    assert_eq!(world.state("web:1"), Some(State::Committed));
    // Nobody has the goods any more, and the order is told of once more.
    world.command(supply(0));
    world.order(2, "released", 4);
    assert_eq!((world.state("web:1"), world.at("/holds")), (Some(State::Committed), Value::Null));
    world.count("A", "b", 9);
    assert_eq!(world.sums("A"), (9, 4, 5));
}

#[test]
fn what_is_given_back_of_one_reservation_does_not_stay_with_another_of_the_same_order() {
    let mut world = World::with(OrderPolicy { backorder: true, ..OrderPolicy::default() });
    let policy = PolicyOf { channel: "web".into(), backorder_limit: Some(5), ..PolicyOf::default() };
    world.command(Command::Policy(policy));
    let (supply, sku, location) = ("po".into(), "A".into(), "b".into());
    world.command(Command::Supply { supply, sku, location, open: 5, eta_us: Shop::minute(60) });
    world.count("A", "b", 1);
    world.order(1, "pending", 1);
    world.order(2, "pending", 2);
    assert_eq!(world.at("/stock/reservations"), json!(["web:1", "web:1~2"]), "the second waits for supply");
    // What the first gives back is what the second waits for.
    world.order(3, "cancelled", 2);
    assert_eq!(world.sums("A"), (1, 0, 1));
    assert_eq!((world.state("web:1"), world.state("web:1~2")), (Some(State::Released), Some(State::Released)));
}

#[test]
fn what_the_lifecycle_says_has_left_is_not_taken_twice() {
    let mut world = World::new();
    world.count("A", "b", 9);
    world.order(1, "confirmed", 5);
    world.order(2, "shipped", 5);
    assert_eq!((world.sums("A"), world.state("web:1")), ((4, 0, 4), Some(State::Consumed)));
    world.ship("s1", 2);
    world.ship("s2", 3);
    assert_eq!((world.sums("A"), world.at("/stock/shipped")), ((4, 0, 4), json!({"s1": {"l": 2}, "s2": {"l": 3}})));

    // Nor is it left out where the order has become larger since, with its goods under a parcel's name.
    let mut world = World::new();
    world.count("A", "b", 9);
    world.order(1, "confirmed", 1);
    world.order(2, "shipped", 1);
    world.ship("s1", 1);
    assert_eq!(world.sums("A"), (8, 0, 8));
    world.order(3, "shipped", 3);
    assert_eq!((world.sums("A"), world.at("/stock/shipped")), ((6, 0, 6), json!({"": {"l": 2}, "s1": {"l": 1}})));

    // The shipment may be told before the order.
    let mut world = World::new();
    world.count("A", "b", 9);
    world.ship("s1", 5);
    assert_eq!(world.sums("A"), (9, 0, 9));
    world.order(1, "confirmed", 5);
    assert_eq!(world.sums("A"), (4, 0, 4));

    // And the warehouse may have told of the goods by itself.
    let mut world = World::new();
    world.count("A", "b", 9);
    world.order(1, "confirmed", 5);
    let moved = Movement {
        source: "wms".into(),
        id: "m1".into(),
        sku: "A".into(),
        location: "b".into(),
        kind: MovementKind::Ship,
        quantity: 5,
        occurred_at_us: world.now,
        reservation: Some("web:1".into()),
        ..Movement::default()
    };
    world.command(Command::Move(moved));
    world.ship("s1", 5);
    assert_eq!(world.sums("A"), (4, 0, 4));
}

/// The warehouse's, or somebody's, own word of goods of the order.
fn consume(shipment: &str, source: &str, quantity: i64, at: i64) -> Command {
    let moved = Movement {
        source: source.into(),
        id: shipment.into(),
        sku: "A".into(),
        location: "b".into(),
        kind: MovementKind::Ship,
        quantity,
        occurred_at_us: at,
        reservation: Some("web:1".into()),
        ..Movement::default()
    };
    Command::Move(moved.of_shipment())
}

#[test]
fn goods_that_had_left_before_their_shipment_was_told_of_are_not_taken_again_under_its_name() {
    let parcel = |location: Option<&str>| {
        let lines = json!([{"id": "l", "quantity": 2}]);
        json!({"order": "web:1", "location": location, "lines": lines, "tracking": "T1"})
    };
    for how in ["by the lifecycle", "under another name", "as another system's shipment"] {
        for location in [Some("b"), None] {
            let mut world = World::new();
            world.count("A", "b", 9);
            world.order(1, "confirmed", 2);
            let at = world.now;
            match how {
                "by the lifecycle" => world.order(2, "shipped", 2),
                "under another name" => drop(world.command(consume("m1", "wms", 2, at))),
                _ => world.say("shop", "shipment/f1", 2, parcel(location)),
            }
            assert_eq!(world.sums("A"), (7, 0, 7), "{how}");
            world.say("wms", "shipment/wms:77", 3, parcel(location));
            let (published, version) = (world.records.len(), world.at("/stock"));
            for shipment in ["wms:77", "77"] {
                world.command(consume(shipment, "wms", 2, at));
                assert_eq!(world.sums("A"), (7, 0, 7), "{how}, {location:?}: {shipment}");
            }
            assert_eq!((world.records.len(), world.at("/stock")), (published, version), "nothing is new about it");
            // Saying the document once more does not say more of its names either.
            world.say("wms", "shipment/wms:77", 4, parcel(location));
            assert_eq!(world.records.len(), published + 1, "{how}");
            // Another parcel is another one, and its goods leave though nobody has reserved them.
            world.command(consume("78", "wms", 1, at));
            assert_eq!(world.sums("A"), (6, 0, 6), "{how}");
        }
    }
}

#[test]
fn goods_of_a_shipment_that_a_document_told_of_are_not_taken_again() {
    let mut world = World::new();
    world.count("A", "b", 9);
    world.order(1, "confirmed", 5);
    let lines = json!([{"id": "l", "quantity": 2}]);
    let parcel = json!({"order": "web:1", "location": "b", "lines": lines, "tracking": "T1"});
    world.say("wms", "shipment/wms:77", 1, parcel.clone());
    world.say("shop", "shipment/f1", 2, parcel);
    assert_eq!(world.sums("A"), (7, 3, 4));
    // The warehouse tells of the goods by themselves, under the document's key, and as it is called at home.
    let at = world.now;
    for shipment in ["wms:77", "77"] {
        world.command(consume(shipment, "wms", 2, at));
        assert_eq!(world.sums("A"), (7, 3, 4), "{shipment}");
    }
    // So does another system, under the parcel's own key.
    world.command(consume("wms:77", "carrier", 2, at));
    assert_eq!(world.sums("A"), (7, 3, 4));
    // Another parcel is another one, as is one of another system that has the same number.
    world.command(consume("78", "wms", 1, at));
    world.command(consume("77", "carrier", 1, at));
    assert_eq!(world.sums("A"), (5, 1, 4));
}

#[test]
fn orders_and_parcels_with_bars_in_their_keys_are_not_taken_for_each_other() {
    let mut world = World::new();
    world.count("A", "b", 9);
    let parcel =
        |order: &str, line: &str| json!({"order": order, "location": "b", "lines": [{"id": line, "quantity": 1}]});
    let order = |line: &str| json!({"lifecycle": "confirmed", "lines": [{"id": line, "sku": "A", "ordered": 1}]});
    // Joined without care, order, parcel and line of both read the same.
    world.say("shop", "order/web:1", 1, order("x|y|l"));
    world.say("shop", "order/web:1|x", 1, order("l"));
    world.say("wms", "shipment/s", 2, parcel("web:1", "x|y|l"));
    world.say("wms", "shipment/y|s", 2, parcel("web:1|x", "l"));
    let moved = |record: &lockstep_core::Record| match &record.body {
        Some(Body::Stock(fact)) => match &fact.body {
            Some(lockstep_core::stock::record::StockBody::Moved(moved)) => Some(moved.movement.clone()),
            _ => None,
        },
        _ => None,
    };
    let names: Vec<String> = world.records.iter().filter_map(moved).collect();
    assert_eq!(names, ["ship|web:1|s|x%7Cy%7Cl|0|0", "ship|web:1%7Cx|y%7Cs|l|0|0"]);
    assert_eq!(world.sums("A"), (7, 0, 7));
}

#[test]
fn a_kit_is_reserved_and_shipped_by_its_components() {
    let mut world = World::new();
    world.command(Command::Sku { sku: "A".into(), scale: 0, components: vec![("C".into(), 2), ("D".into(), 1)] });
    world.count("C", "b", 9);
    world.count("D", "b", 9);
    world.order(1, "confirmed", 3);
    assert_eq!((world.sums("C"), world.sums("D")), ((9, 6, 3), (9, 3, 6)));
    world.ship("s1", 2);
    assert_eq!((world.sums("C"), world.sums("D")), ((5, 2, 3), (7, 1, 6)));
    world.order(5, "cancelled", 3);
    assert_eq!((world.sums("C"), world.sums("D")), ((5, 0, 5), (7, 0, 7)));
}

#[test]
fn an_order_needs_a_split_or_waits() {
    for allow_split in [true, false] {
        let mut world = World::with(OrderPolicy { allow_split, ..OrderPolicy::default() });
        world.count("A", "a", 2);
        world.count("A", "b", 3);
        world.order(1, "confirmed", 4);
        let (reserved, holds) = if allow_split { (4, Value::Null) } else { (0, json!(["stock"])) };
        assert_eq!((world.sums("A").1, world.at("/holds")), (reserved, holds));
    }
}

#[test]
fn the_records_alone_make_the_same_stock() {
    let mut world = World::new();
    world.count("A", "b", 9);
    world.order(1, "confirmed", 5);
    world.ship("s1", 2);
    world.order(9, "cancelled", 5);
    world.take_back("r1", 1, "restock");
    let mut again = Facts::new(Rules::new());
    for (position, record) in (1..).zip(&world.records) {
        match &record.body {
            Some(Body::Stock(fact)) => lockstep_core::stock::fold(&mut again.stock, record.recorded_at_us, fact),
            Some(Body::Fact(fact)) => {
                let entity = again.entities.entry(entity_id(&fact.kind, &fact.key)).or_default();
                lockstep_core::fold::fold(std::sync::Arc::make_mut(entity), position, record.recorded_at_us, fact);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(again.stock.check(0, |_| false).is_empty(), "{:?}", again.stock.check(0, |_| false));
    let view = |facts: &Facts| facts.stock.reservation_view("web:1", world.now);
    assert_eq!(view(&again), view(&world.facts));
    assert_eq!(again.entities["order/web:1"].document_json(), world.facts.entities["order/web:1"].document_json());
}
