//! What people met in other systems (the numbers are those of the acceptance scenarios), at the level of the core.

mod stock_support;

use lockstep_core::record::{Fact, Record};
use lockstep_core::stock::record::{MovementKind, ReservationState as State};
use lockstep_core::stock::{
    Answer, Command, Disposition, Goods, Item, OrderStep, PolicyOf, Reserve, StockRefusal, event_fact, for_order,
    parse_quantity, still_stands,
};
use stock_support::{MINUTE, Shop, lines_of, short_of, state_of, stock_fact};

#[test]
fn s01_the_last_unit_is_sold_once() {
    let mut shop = Shop::default();
    shop.count("A", "b", 1, 0);
    let answers: Vec<_> = (0..200).map(|n| shop.reserve(&format!("r{n}"), "A", 1)).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers[1..].iter().all(|a| short_of(a.clone()) == [(0, 1, 0)]));
    assert_eq!(shop.sums("A"), (1, 1, 0));
}

#[test]
fn s02_the_demand_on_a_shared_component_is_summed() {
    let mut shop = Shop::default();
    shop.count("bottle", "b", 108, 0);
    for kit in ["red", "white"] {
        let components = vec![("bottle".into(), 1)];
        shop.run(&Command::Sku { sku: kit.into(), scale: 0, components }).unwrap();
    }
    let both = shop.request("o", &[("red", 97), ("white", 23)]);
    assert_eq!(short_of(shop.run(&Command::Reserve(both))), [(1, 23, 11)]);
    assert_eq!((shop.atp("bottle"), shop.atp("red")), (108, 108));
    let both = shop.request("o", &[("red", 97), ("white", 11)]);
    shop.run(&Command::Reserve(both)).unwrap();
    assert_eq!((shop.atp("bottle"), shop.atp("white")), (0, 0));
}

#[test]
fn s03_a_thousand_orders_in_either_order_leave_nothing_behind() {
    let mut shop = Shop::default();
    shop.count("A", "b", 2_000, 0);
    shop.count("B", "b", 2_000, 0);
    for n in 0..1_000 {
        let items = if n % 2 == 0 { [("A", 1), ("B", 2)] } else { [("B", 2), ("A", 1)] };
        let request = shop.request(&format!("o{n}"), &items);
        lockstep_core::stock::decide(&mut shop.stock, &Command::Reserve(request), shop.now).answer.unwrap();
    }
    assert_eq!((shop.sums("A"), shop.sums("B")), ((2_000, 1_000, 1_000), (2_000, 2_000, 0)));
    for n in 0..1_000 {
        let release = Command::Release { id: format!("o{n}").into(), lines: Vec::new() };
        lockstep_core::stock::decide(&mut shop.stock, &release, shop.now).answer.unwrap();
    }
    assert_eq!((shop.sums("A"), shop.sums("B")), ((2_000, 0, 2_000), (2_000, 0, 2_000)));
    assert_eq!(shop.stock.check(0, |_| false), Vec::new());
}

#[test]
fn s04_a_customer_does_not_compete_with_the_own_hold() {
    let mut shop = Shop::default();
    shop.count("A", "b", 1, 0);
    shop.reserve("cart:x", "A", 1).unwrap();
    // The payment is declined, and the customer tries again: the same request, another one, and one of the order.
    assert_eq!(state_of(&shop.reserve("cart:x", "A", 1)), (State::Held, true));
    assert_eq!(short_of(shop.reserve("cart:x", "A", 2)), [(0, 2, 1)]);
    assert_eq!(short_of(shop.reserve("cart:y", "A", 1)), [(0, 1, 0)]);
    let placed = OrderStep::Placed {
        channel: "web".into(),
        items: vec![Item { sku: "A".into(), quantity: 1, location: None }],
        cart: Some("cart:x".into()),
        expires_at_us: shop.now + MINUTE,
        allow_split: false,
        backorder_until_us: None,
    };
    assert_eq!(lines_of(shop.run(&for_order("web:1", "web:1", placed))), [("A".into(), "b".into(), 1)]);
    assert_eq!(shop.told(2), ["reservation.released", "reservation.held"]);
    assert_eq!(shop.sums("A"), (1, 1, 0));
    // An id is not taken over by someone else.
    let stolen = Reserve { owner: "cart:z".into(), ..shop.request("web:1", &[("A", 1)]) };
    assert!(matches!(shop.run(&Command::Reserve(stolen)), Err(StockRefusal::Conflict { .. })));
}

#[test]
fn s05_a_hold_that_ends_during_payment_is_reserved_again_or_refused() {
    for sweep in [false, true] {
        let mut shop = Shop::default();
        shop.count("A", "b", 1, 0);
        shop.reserve("x", "A", 1).unwrap();
        shop.at(10);
        if sweep {
            assert_eq!(shop.run(&Command::Expire { limit: 10 }), Ok(Answer::Expired(1)));
            assert_eq!(shop.told(1), ["reservation.expired"]);
        }
        assert_eq!(shop.sums("A"), (1, 0, 1));
        // Free still: taken at once.
        assert_eq!(state_of(&shop.commit("x")), (State::Committed, false));
        assert_eq!(shop.sums("A"), (1, 1, 0));
        assert_eq!(shop.run(&Command::Expire { limit: 10 }), Ok(Answer::Expired(0)));

        let mut shop = Shop::default();
        shop.count("A", "b", 1, 0);
        shop.reserve("x", "A", 1).unwrap();
        shop.at(10);
        if sweep {
            shop.run(&Command::Expire { limit: 10 }).unwrap();
        }
        shop.reserve("y", "A", 1).unwrap();
        // Gone.
        assert_eq!(short_of(shop.commit("x")), [(0, 1, 0)]);
        assert!(matches!(shop.release("x"), Err(StockRefusal::Conflict { state: State::Expired, .. })));
        assert_eq!(shop.sums("A"), (1, 1, 0));
    }
}

#[test]
fn s06_three_signals_of_one_payment_commit_once() {
    let mut shop = Shop::default();
    shop.count("A", "b", 3, 0);
    shop.reserve("x", "A", 1).unwrap();
    let answers: Vec<_> = (0..3).map(|_| state_of(&shop.commit("x"))).collect();
    assert_eq!(answers, [(State::Committed, false), (State::Committed, true), (State::Committed, true)]);
    assert_eq!(shop.told(1), ["reservation.committed"]);
    assert_eq!(shop.sums("A"), (3, 1, 2));
}

#[test]
fn s11_open_orders_count_against_what_a_feed_says() {
    let mut shop = Shop::default();
    shop.count("A", "b", 30, -1);
    shop.reserve("orders", "A", 29).unwrap();
    shop.commit("orders").unwrap();
    shop.moved(MovementKind::Receipt, "A", "b", 50, 0);
    assert_eq!(shop.atp("A"), 51);
}

#[test]
fn s12_a_late_shipment_is_not_subtracted_twice() {
    let mut shop = Shop::default();
    shop.count("A", "b", 10, -10);
    shop.reserve("x", "A", 2).unwrap();
    shop.commit("x").unwrap();
    // Shipped at -5, not told yet; counted at 0.
    shop.count("A", "b", 8, 0);
    assert_eq!(shop.sums("A"), (8, 2, 6));
    shop.at(1).ship("x", "A", "b", 2, -5);
    assert_eq!(shop.sums("A"), (8, 0, 8));
    assert_eq!(shop.told(2), ["stock.shipped", "reservation.consumed"]);
}

#[test]
fn s14_a_count_below_what_is_reserved_is_accepted_and_told() {
    let mut shop = Shop::default();
    shop.count("A", "b", 5, -1);
    for n in 0..4 {
        shop.at(n).reserve(&format!("o{n}"), "A", 1).unwrap();
    }
    shop.commit("o0").unwrap();
    shop.commit("o3").unwrap();
    shop.at(5).count("A", "b", 2, 4);
    assert_eq!((shop.atp("A"), shop.shortage("A")), (0, 2));
    assert_eq!(shop.told(2), ["stock.counted", "stock.shortage_detected"]);
    // What is only held is proposed before what is committed, the newest first; and nothing is cancelled by itself.
    let last = stock_support::stock_fact(shop.records.last().unwrap()).body.clone();
    let Some(lockstep_core::stock::record::StockBody::Shortage(told)) = last else { panic!("{last:?}") };
    let proposed: Vec<_> = told.propose.iter().map(|p| (p.reservation.as_str(), p.quantity, p.committed)).collect();
    assert_eq!(proposed, [("o2", 1, false), ("o1", 1, false)]);
    assert_eq!(shop.sums("A"), (2, 4, -2));
    shop.release("o1").unwrap();
    assert_eq!(shop.shortage("A"), 1);
}

#[test]
fn s16_cancels_and_parts() {
    let mut shop = Shop::default();
    shop.count("A", "b", 100, -1);
    shop.reserve("web:1", "A", 5).unwrap();
    shop.commit("web:1").unwrap();
    shop.ship("web:1", "A", "b", 5, 0);
    let cancel = |key: &str| for_order(key, key, OrderStep::Cancelled);
    assert!(matches!(shop.run(&cancel("web:1")), Err(StockRefusal::Conflict { state: State::Consumed, .. })));
    assert_eq!(shop.sums("A"), (95, 0, 95));

    let mut shop = Shop::default();
    shop.count("A", "b", 100, -1);
    shop.reserve("web:2", "A", 10).unwrap();
    shop.commit("web:2").unwrap();
    shop.ship("web:2", "A", "b", 3, 0);
    assert_eq!(shop.sums("A"), (97, 7, 90));
    assert_eq!(state_of(&shop.run(&cancel("web:2"))), (State::Released, false));
    assert_eq!(state_of(&shop.run(&cancel("web:2"))), (State::Released, true));
    shop.moved(MovementKind::ReturnRestock, "A", "b", 1, 0);
    assert_eq!(shop.sums("A"), (98, 0, 98));
    let line = &shop.stock.reservation_view("web:2", shop.now).unwrap().lines[0];
    assert_eq!((line.quantity, line.open, line.consumed, line.released, line.expired), (10, 0, 3, 7, 0));
    // The warehouse ships what was cancelled: the goods have left all the same.
    shop.ship("web:2", "A", "b", 2, 0);
    assert_eq!(shop.sums("A"), (96, 0, 96));
}

#[test]
fn s18_nothing_is_released_that_was_not_reserved_and_nothing_allocated_twice() {
    let mut shop = Shop::default();
    shop.count("A", "b", 5, 0);
    assert_eq!(shop.release("x"), Err(StockRefusal::Unknown("x".into())));
    assert_eq!(shop.sums("A"), (5, 0, 5));
    let first = shop.reserve("x", "A", 2);
    assert_eq!(lines_of(shop.reserve("x", "A", 2)), lines_of(first));
    assert_eq!(shop.sums("A"), (5, 2, 3));
    shop.release("x").unwrap();
    assert_eq!(state_of(&shop.release("x")), (State::Released, true));
    assert!(matches!(shop.commit("x"), Err(StockRefusal::Conflict { state: State::Released, .. })));
    assert!(matches!(shop.reserve("x", "A", 2), Err(StockRefusal::Conflict { state: State::Released, .. })));
    assert_eq!(shop.sums("A"), (5, 0, 5));
}

#[test]
fn s22_a_need_is_split_where_that_is_allowed() {
    let mut shop = Shop::default();
    shop.count("A", "a", 2, 0);
    shop.count("A", "b", 3, 0);
    assert_eq!(short_of(shop.reserve("x", "A", 4)), [(0, 4, 3)]);
    let split = Reserve { allow_split: true, ..shop.request("x", &[("A", 4)]) };
    let lines = lines_of(shop.run(&Command::Reserve(split)));
    assert_eq!(lines, [("A".into(), "b".into(), 3), ("A".into(), "a".into(), 1)]);
    // The preferred location comes first, also where another has more.
    shop.release("x").unwrap();
    let locations = Some(vec!["a".into(), "b".into()]);
    shop.policy(PolicyOf { channel: "web".into(), locations, ..PolicyOf::default() });
    assert_eq!(lines_of(shop.reserve("y", "A", 1)), [("A".into(), "a".into(), 1)]);
}

#[test]
fn s25_numbers_stay_exact() {
    let mut shop = Shop::default();
    shop.run(&Command::Sku { sku: "cable".into(), scale: 1, components: Vec::new() }).unwrap();
    let metres = |text| parse_quantity(text, 1).unwrap();
    shop.count("cable", "b", metres("3140.0"), 0);
    shop.reserve("x", "cable", metres("3106.4")).unwrap();
    assert_eq!(shop.atp("cable"), metres("33.6"));
    assert_eq!(short_of(shop.reserve("y", "cable", metres("33.7"))), [(0, 337, 336)]);
    shop.reserve("y", "cable", metres("33.6")).unwrap();
    assert_eq!(shop.atp("cable"), 0);
    // Its digits stay what they are while something counts in them.
    let other = Command::Sku { sku: "cable".into(), scale: 2, components: Vec::new() };
    assert!(matches!(shop.run(&other), Err(StockRefusal::Invalid { field: "qty_scale", .. })));
}

#[test]
fn returns_come_back_as_what_they_are() {
    let mut shop = Shop::default();
    shop.count("A", "b", 10, -1);
    shop.reserve("web:1", "A", 3).unwrap();
    shop.commit("web:1").unwrap();
    shop.ship("web:1", "A", "b", 3, 0);
    for (number, disposition) in [Disposition::Restock, Disposition::Damaged, Disposition::Lost].into_iter().enumerate()
    {
        let goods = Goods {
            source: "wms".into(),
            movement: format!("return-{number}").into(),
            sku: "A".into(),
            location: "b".into(),
            quantity: 1,
            occurred_at_us: shop.now,
            also: vec![],
        };
        let command = for_order("web:1", "web:1", OrderStep::Returned(goods, disposition));
        assert_eq!(shop.run(&command), Ok(Answer::Applied));
        assert_eq!(shop.run(&command), Ok(Answer::Repeated));
    }
    let at = &shop.ask("A", "web").locations[0];
    assert_eq!((at.on_hand, at.damaged, at.usable), (9, 1, 8));
}

/// Of a reservation the last event says what stands, though most speak only of the lines that they have changed, or of none; and
/// of two that speak of the same, the older one does not.
#[test]
fn the_last_word_on_a_reservation_stands() {
    let mut shop = Shop::default();
    shop.count("A", "b", 9, 0);
    shop.count("B", "b", 9, 0);
    shop.count("B", "c", 9, 0);
    let order = shop.request("o", &[("A", 2), ("B", 4)]);
    let events = |shop: &Shop| -> Vec<Fact> {
        let fact = |record: &Record| event_fact(1, record.recorded_at_us, stock_fact(record));
        shop.records.iter().filter_map(fact).filter(|fact| fact.kind == "reservation").collect()
    };
    let stands = |shop: &Shop, fact: &Fact| {
        still_stands(&shop.stock, shop.stock.reservation_view("o", shop.now).as_ref(), fact).unwrap()
    };
    let extend = Command::Extend { id: "o".into(), expires_at_us: shop.now + 60 * MINUTE };
    let transfer = Command::Transfer { id: "o".into(), line: 1, location: "c".into(), quantity: 1 };
    let some = Command::Release { id: "o".into(), lines: vec![(1, 1)] };
    let mut told = 0;
    for (command, last) in [
        (Command::Reserve(order), "reservation.held"),
        (extend, "reservation.extended"),
        (transfer, "reservation.transferred"),
        (Command::Commit { id: "o".into() }, "reservation.committed"),
        (some, "reservation.released"),
    ] {
        shop.run(&command).unwrap();
        let all = events(&shop);
        assert!(all.len() > told && all.last().unwrap().event_type == last, "{last}");
        told = all.len();
        assert!(stands(&shop, all.last().unwrap()), "{last}");
        assert!(all[0].event_type == last || !stands(&shop, &all[0]), "what was held, after {last}");
    }
    shop.ship("o", "A", "b", 2, 1);
    let consumed = events(&shop).pop().unwrap();
    assert_eq!(consumed.event_type, "reservation.consumed");
    assert!(stands(&shop, &consumed));
    assert!(events(&shop).iter().filter(|of| of.event_type == "reservation.committed").all(|of| !stands(&shop, of)));
    shop.release("o").unwrap();
    assert!(stands(&shop, events(&shop).last().unwrap()));
    // Nothing more is known of it: its end stands, and what was before that does not.
    assert_eq!(still_stands(&shop.stock, None, events(&shop).last().unwrap()), Some(true));
    assert_eq!(still_stands(&shop.stock, None, &events(&shop)[0]), Some(false));
}
