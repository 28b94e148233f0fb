//! The equations, term by term: one row, one command, one result.

mod stock_support;

use lockstep_core::stock::record::{CountBasis, MovementKind, ReservationState as State};
use lockstep_core::stock::{
    Answer, Command, Item, Limits, Movement, PolicyOf, Reserve, Shortfall, StockRefusal, Unavailable,
};
use stock_support::{MINUTE, Shop, count, lines_of, movement, short_of, state_of};

fn of(channel: &str) -> PolicyOf {
    PolicyOf { channel: channel.into(), ..PolicyOf::default() }
}

fn reserve_for(shop: &mut Shop, channel: &str, id: &str, quantity: i64) -> Result<Answer, StockRefusal> {
    let request = Reserve { channel: channel.into(), ..shop.request(id, &[("A", quantity)]) };
    shop.run(&Command::Reserve(request))
}

#[test]
fn channels_that_nobody_speaks_of_any_more_leave_the_memory() {
    let mut shop = Shop::default();
    shop.run(&count("A", "b", CountBasis::OnHand, 5, 0)).unwrap();
    let take = |number: i64, minute: i64| {
        let items = vec![Item { sku: "A".into(), quantity: 1, location: None }];
        let name = compact_str::format_compact!("made-up-{number}");
        let expires_at_us = Shop::minute(minute);
        Command::Reserve(Reserve {
            id: name.clone(),
            owner: name.clone(),
            channel: name,
            expires_at_us,
            items,
            ..Reserve::default()
        })
    };
    for number in 0..1_000 {
        shop.run(&take(number, 60)).unwrap();
        let id = compact_str::format_compact!("made-up-{number}");
        shop.run(&Command::Release { id: id.clone(), lines: vec![] }).unwrap();
        shop.stock.take_dirty();
        assert!(shop.stock.forget(&id));
    }
    assert_eq!(shop.stock.channels_len(), 0);
    // A number that was another channel's begins anew, and one with a policy stays.
    let policy = PolicyOf { channel: "made-up-1".into(), cap: Some((1, 0)), ..PolicyOf::default() };
    shop.run(&take(1, 60)).unwrap();
    shop.run(&Command::Policy(policy)).unwrap();
    assert_eq!(shop.ask("A", "made-up-1").cap_remaining, Some(0));
    let id: compact_str::CompactString = "made-up-1".into();
    shop.run(&Command::Release { id: id.clone(), lines: vec![] }).unwrap();
    shop.stock.take_dirty();
    assert!(shop.stock.forget(&id));
    assert_eq!((shop.stock.channels_len(), shop.ask("A", "made-up-1").cap_remaining), (1, Some(1)));
}

#[test]
fn a_fence_keeps_what_is_used_of_it_while_it_is_the_same() {
    let mut shop = Shop::default();
    shop.run(&count("A", "b", CountBasis::OnHand, 10, 0)).unwrap();
    let policy = |fence: i64, buffer: i64| {
        Command::Policy(PolicyOf {
            channel: "shop".into(),
            fence: Some(fence),
            buffer: Some(buffer),
            ..PolicyOf::default()
        })
    };
    shop.run(&policy(4, 0)).unwrap();
    shop.run(&Command::Policy(PolicyOf { channel: "web".into(), ..PolicyOf::default() })).unwrap();
    let items = vec![Item { sku: "A".into(), quantity: 3, location: None }];
    let (id, channel, expires_at_us) = ("o1".into(), "shop".into(), Shop::minute(60));
    shop.run(&Command::Reserve(Reserve {
        id,
        owner: "o1".into(),
        channel,
        expires_at_us,
        items,
        ..Reserve::default()
    }))
    .unwrap();
    shop.ship("o1", "A", "b", 3, 0);
    let left = |shop: &mut Shop| shop.ask("A", "web").locations[0].fenced[0].1;
    assert_eq!(left(&mut shop), 1);
    shop.run(&policy(4, 2)).unwrap();
    assert_eq!(left(&mut shop), 1, "only the buffer is another");
    shop.run(&policy(5, 2)).unwrap();
    assert_eq!(left(&mut shop), 5, "a fence that is set anew has nothing used of it");
}

#[test]
fn whether_a_sku_may_become_another_does_not_depend_on_when_expiries_are_written() {
    for is_swept in [false, true] {
        let mut shop = Shop::default();
        shop.run(&count("A", "b", CountBasis::OnHand, 1, 0)).unwrap();
        let items = vec![Item { sku: "A".into(), quantity: 1, location: None }];
        let (id, channel, expires_at_us) = ("o1".into(), "web".into(), Shop::minute(5));
        shop.run(&Command::Reserve(Reserve {
            id,
            owner: "o1".into(),
            channel,
            expires_at_us,
            items,
            ..Reserve::default()
        }))
        .unwrap();
        shop.at(1).run(&count("A", "b", CountBasis::OnHand, 0, 1)).unwrap();
        let finer = Command::Sku { sku: "A".into(), scale: 2, components: vec![] };
        assert!(shop.run(&finer).is_err(), "it is still promised");
        shop.at(6);
        if is_swept {
            shop.run(&Command::Expire { limit: 9 }).unwrap();
        }
        assert_eq!(shop.run(&finer), Ok(Answer::Applied), "swept: {is_swept}");
    }
}

#[test]
fn available_to_fulfil_is_on_hand_less_everything_that_has_a_claim() {
    let mut shop = Shop::default();
    shop.count("A", "b", 100, 0);
    shop.run(&Command::Safety { sku: "A".into(), location: "b".into(), quantity: 5 }).unwrap();
    let unavailable = Unavailable {
        sku: "A".into(),
        location: "b".into(),
        as_of_us: shop.now,
        damaged: 3,
        quality_control: 2,
        blocked: 1,
    };
    shop.run(&Command::Unavailable(unavailable)).unwrap();
    shop.reserve("held", "A", 10).unwrap();
    shop.reserve("committed", "A", 20).unwrap();
    shop.commit("committed").unwrap();
    let asked = shop.ask("A", "web");
    let at = &asked.locations[0];
    assert_eq!((at.on_hand, at.damaged + at.quality_control + at.blocked, at.safety), (100, 6, 5));
    assert_eq!((at.held, at.committed, at.atf, at.usable, asked.atp), (10, 20, 59, 59, 59));
    let holders: Vec<_> = at.holders.iter().map(|h| (h.reservation.as_str(), h.open, h.expires_at_us)).collect();
    assert_eq!(holders, [("held", 10, Some(shop.now + 10 * MINUTE)), ("committed", 20, None)]);
}

#[test]
fn a_short_location_does_not_hide_what_another_has() {
    let mut shop = Shop::default();
    shop.count("A", "a", 10, -1);
    shop.count("A", "b", 10, -1);
    let item = Item { sku: "A".into(), quantity: 10, location: Some("a".into()) };
    let request = Reserve { items: vec![item], ..shop.request("x", &[]) };
    shop.run(&Command::Reserve(request)).unwrap();
    shop.count("A", "a", 2, 0);
    assert_eq!(shop.sums("A"), (12, 10, 2));
    assert_eq!((shop.atp("A"), shop.shortage("A")), (10, 8));
}

#[test]
fn safety_stock_blocks_new_reservations_and_nothing_else() {
    let mut shop = Shop::default();
    shop.count("A", "b", 10, -1);
    shop.reserve("x", "A", 8).unwrap();
    shop.run(&Command::Safety { sku: "A".into(), location: "b".into(), quantity: 5 }).unwrap();
    assert_eq!(shop.sums("A"), (10, 8, -3));
    assert_eq!(shop.shortage("A"), 0);
    assert_eq!(short_of(shop.reserve("y", "A", 1)), [(0, 1, 0)]);
    shop.commit("x").unwrap();
    shop.ship("x", "A", "b", 8, 0);
    assert_eq!(shop.sums("A"), (2, 0, -3));
}

#[test]
fn fences_are_drawn_down_and_restored_but_not_by_a_shipment() {
    let mut shop = Shop::default();
    shop.count("A", "b", 100, -1);
    let fence = PolicyOf { sku: "A".into(), location: "b".into(), fence: Some(30), ..of("shop") };
    shop.policy(fence.clone());
    shop.policy(of("web"));
    let web = |shop: &mut Shop| shop.ask("A", "web").atp;
    assert_eq!((web(&mut shop), shop.ask("A", "shop").atp), (70, 100));
    reserve_for(&mut shop, "shop", "s1", 10).unwrap();
    assert_eq!((web(&mut shop), shop.ask("A", "shop").atp), (70, 90));
    reserve_for(&mut shop, "shop", "s2", 5).unwrap();
    shop.release("s2").unwrap();
    assert_eq!(web(&mut shop), 70);
    assert_eq!(short_of(reserve_for(&mut shop, "web", "w", 71)), [(0, 71, 70)]);
    // Shipped: used up, so that 20 stay fenced of the 90 that are left.
    shop.commit("s1").unwrap();
    shop.ship("s1", "A", "b", 10, 0);
    assert_eq!((web(&mut shop), shop.ask("A", "shop").atp), (70, 90));
    // Set anew: whole again. The same once more: nothing.
    shop.policy(PolicyOf { fence: Some(31), ..fence.clone() });
    assert_eq!(web(&mut shop), 59);
    assert_eq!(shop.run(&Command::Policy(PolicyOf { fence: Some(31), ..fence })), Ok(Answer::Repeated));
    // What ends by itself restores it too.
    reserve_for(&mut shop, "shop", "s3", 31).unwrap();
    assert_eq!((web(&mut shop), shop.ask("A", "shop").atp), (59, 59));
    assert_eq!((shop.at(10).ask("A", "web").atp, shop.ask("A", "shop").atp), (59, 90));
}

#[test]
fn fences_beyond_the_stock_are_honoured_by_priority() {
    let mut shop = Shop::default();
    shop.count("A", "b", 10, 0);
    shop.policy(PolicyOf { priority: Some(2), fence: Some(8), ..of("shop") });
    shop.policy(PolicyOf { priority: Some(1), fence: Some(8), ..of("market") });
    let atp = |shop: &mut Shop, channel| shop.ask("A", channel).atp;
    assert_eq!((atp(&mut shop, "shop"), atp(&mut shop, "market"), atp(&mut shop, "web")), (8, 2, 0));
    let fenced = shop.ask("A", "web").locations[0].fenced.clone();
    assert_eq!(fenced, [("shop".into(), 8, 8), ("market".into(), 8, 2)]);
}

#[test]
fn a_cap_counts_what_is_open_and_what_was_sold_within_its_window() {
    let mut shop = Shop::default();
    shop.count("A", "b", 100, -1);
    shop.policy(PolicyOf { cap: Some((10, 60 * MINUTE)), ..of("web") });
    assert_eq!(shop.atp("A"), 10);
    shop.reserve("x", "A", 4).unwrap();
    assert_eq!((shop.atp("A"), shop.ask("A", "web").cap_remaining), (6, Some(6)));
    assert_eq!(short_of(shop.reserve("y", "A", 7)), [(0, 7, 6)]);
    shop.commit("x").unwrap();
    shop.ship("x", "A", "b", 4, 0);
    assert_eq!((shop.at(59).atp("A"), shop.ask("A", "market").atp), (6, 96));
    // The window is counted in steps of a 32nd: never less than what was sold within it.
    assert_eq!(shop.at(62).atp("A"), 10);
}

#[test]
fn a_buffer_is_held_back_from_what_is_told_and_not_from_an_order() {
    let mut shop = Shop::default();
    shop.count("A", "b", 10, 0);
    shop.policy(PolicyOf { buffer: Some(3), ..of("web") });
    assert_eq!(shop.atp("A"), 7);
    shop.reserve("x", "A", 9).unwrap();
    assert_eq!((shop.atp("A"), shop.sums("A")), (0, (10, 9, 1)));
}

#[test]
fn the_most_specific_policy_counts_part_by_part() {
    let mut shop = Shop::default();
    shop.count("A", "a", 10, 0);
    shop.count("A", "b", 20, 0);
    shop.count("B", "a", 10, 0);
    shop.policy(PolicyOf { buffer: Some(1), locations: Some(vec!["a".into()]), ..of("web") });
    shop.policy(PolicyOf { sku: "A".into(), locations: Some(vec!["b".into()]), ..of("web") });
    assert_eq!((shop.atp("A"), shop.atp("B")), (19, 9));
    shop.policy(PolicyOf { sku: "A".into(), removed: true, ..of("web") });
    assert_eq!(shop.atp("A"), 9);
    let wrong = PolicyOf { location: "a".into(), sku: "A".into(), cap: Some((1, 0)), ..of("web") };
    let refused = shop.run(&Command::Policy(wrong)).unwrap_err();
    assert_eq!(refused.to_string(), "`location` has a `fence` only: set the rest for `channel` or `channel:sku`");
}

#[test]
fn a_kit_has_what_its_components_give() {
    let mut shop = Shop::default();
    shop.count("box", "b", 10, 0);
    shop.count("bottle", "b", 31, 0);
    shop.policy(of("web"));
    let components = vec![("box".into(), 1), ("bottle".into(), 6)];
    shop.run(&Command::Sku { sku: "case".into(), scale: 0, components }).unwrap();
    assert_eq!(shop.atp("case"), 5);
    assert_eq!(
        shop.publish(),
        [("bottle", 31), ("box", 10), ("case", 5)].map(|(sku, atp)| (sku.to_owned(), "web".to_owned(), atp))
    );
    assert_eq!(
        lines_of(shop.reserve("x", "case", 2)),
        [("box".into(), "b".into(), 2), ("bottle".into(), "b".into(), 12)]
    );
    assert_eq!((shop.atp("case"), shop.atp("bottle"), shop.atp("box")), (3, 19, 8));
    let told = shop.publish();
    assert_eq!(told[2], ("case".to_owned(), "web".to_owned(), 3));
    assert_eq!(shop.publish(), []);
    // In part: whole kits only.
    let partial = Reserve { allow_partial: true, ..shop.request("y", &[("case", 5)]) };
    let answer = shop.run(&Command::Reserve(partial)).unwrap();
    let Answer::Reservation { shortfalls, lines, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(shortfalls, [Shortfall { item: 0, sku: "case".into(), requested: 5, available: 3 }]);
    assert_eq!(lines.iter().map(|line| line.open).collect::<Vec<_>>(), [3, 18]);
    // It has no stock of its own.
    let counted = shop.run(&count("case", "b", CountBasis::OnHand, 1, 0));
    assert!(matches!(counted, Err(StockRefusal::Invalid { field: "sku", .. })));
}

#[test]
fn backorders_are_promised_of_what_is_on_order_and_served_before_new_sales() {
    let mut shop = Shop::default();
    shop.count("A", "b", 2, -1);
    let eta_us = Shop::minute(100);
    let supply = |open| Command::Supply { supply: "po-1".into(), sku: "A".into(), location: "b".into(), open, eta_us };
    shop.run(&supply(20)).unwrap();
    shop.policy(PolicyOf { backorder_limit: Some(12), ..of("web") });
    shop.policy(PolicyOf { backorder_limit: Some(50), priority: Some(9), ..of("vip") });
    let asked = shop.ask("A", "web");
    assert_eq!((asked.atp, asked.ato, asked.incoming, asked.backordered), (2, 14, 20, 0));
    let on_order = |shop: &mut Shop, channel: &str, id: &str, quantity| {
        let request = Reserve {
            channel: channel.into(),
            backorder_until_us: Some(eta_us),
            ..shop.request(id, &[("A", quantity)])
        };
        shop.run(&Command::Reserve(request))
    };
    // Two from the shelf, five of what is on order.
    assert_eq!(
        lines_of(on_order(&mut shop, "web", "w1", 7)),
        [("A".into(), "b".into(), 2), ("A".into(), "".into(), 5)]
    );
    assert_eq!((shop.ask("A", "web").ato, shop.ask("A", "vip").ato), (7, 15));
    assert_eq!(short_of(on_order(&mut shop, "web", "w2", 8)), [(0, 8, 0)]);
    shop.at(1);
    on_order(&mut shop, "web", "w2", 7).unwrap();
    assert_eq!(shop.told(1), ["reservation.backordered"]);
    on_order(&mut shop, "vip", "v", 3).unwrap();
    for id in ["w1", "w2", "v"] {
        shop.commit(id).unwrap();
    }
    assert_eq!(shop.sums("A"), (2, 2, 0));
    // Nine arrive: first the priority, then who was promised first; nothing is left to a new sale.
    let receipt = movement("r1", MovementKind::Receipt, "A", "b", 9, 1);
    let receipt = Command::Move(Movement { supply: Some("po-1".into()), ..receipt });
    assert_eq!(shop.run(&receipt), Ok(Answer::Applied));
    assert_eq!(shop.told(4)[0], "stock.received");
    assert_eq!(shop.told(3), ["reservation.promoted"; 3]);
    let open = |shop: &Shop, id| {
        let lines = shop.stock.reservation_view(id, shop.now).unwrap().lines;
        lines.iter().filter(|line| line.open > 0).map(|l| (l.location.clone(), l.open)).collect::<Vec<_>>()
    };
    assert_eq!(open(&shop, "v"), [("b".into(), 3)]);
    assert_eq!(open(&shop, "w1"), [("b".into(), 7)]);
    assert_eq!(open(&shop, "w2"), [("".into(), 6), ("b".into(), 1)]);
    let asked = shop.ask("A", "web");
    assert_eq!((shop.sums("A"), asked.incoming, asked.backordered), ((11, 11, 0), 11, 6));
    assert_eq!(short_of(shop.reserve("new", "A", 1)), [(0, 1, 0)]);
    assert_eq!(shop.run(&receipt), Ok(Answer::Repeated));
    // What is given back goes to them first, too.
    shop.release("w1").unwrap();
    assert_eq!(open(&shop, "w2"), [("b".into(), 7)]);
    assert_eq!(shop.sums("A"), (11, 10, 1));
}

#[test]
fn a_count_of_what_is_available_adds_back_what_the_warehouse_had_allocated() {
    let mut shop = Shop::default();
    shop.count("A", "b", 10, -30);
    for id in ["x", "y", "z"] {
        shop.reserve(id, "A", 2).unwrap();
        shop.commit(id).unwrap();
    }
    let accept = |shop: &mut Shop, id: &str, minute| {
        shop.run(&Command::Acknowledge { id: id.into(), location: "b".into(), at_us: Shop::minute(minute) }).unwrap()
    };
    accept(&mut shop, "x", -20);
    accept(&mut shop, "y", -20);
    // The warehouse has 10, has allocated 4, and does not know of `z`.
    shop.count_available("A", "b", 6, -10);
    assert_eq!(shop.sums("A"), (10, 6, 4));
    // `x` had left before the count, which we hear now: it was not allocated any more.
    shop.ship("x", "A", "b", 2, -15);
    assert_eq!(shop.sums("A"), (8, 4, 4));
    // `y` leaves after it.
    shop.ship("y", "A", "b", 2, -5);
    assert_eq!(shop.sums("A"), (6, 2, 4));
    // It had known of `z` at the count, we hear now: its number had left it out.
    accept(&mut shop, "z", -12);
    assert_eq!(shop.sums("A"), (8, 2, 6));
    // The next count is older than the shipment of `y`: that is taken off, and it was allocated then.
    shop.count_available("A", "b", 4, -8);
    assert_eq!(shop.sums("A"), (6, 2, 4));
}

#[test]
fn counts_that_are_older_twins_or_from_the_future() {
    let mut shop = Shop::default();
    shop.count("A", "b", 10, -10);
    assert_eq!(shop.count("A", "b", 12, -20), Answer::Ignored);
    assert_eq!(shop.told(1), [""]);
    assert_eq!(shop.count("A", "b", 10, -10), Answer::Repeated);
    let code = |answer: Answer| match answer {
        Answer::Quarantined(reason) => reason.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(shop.count("A", "b", 11, -10)), "count-differs");
    assert_eq!(code(shop.count("A", "b", 11, 6)), "clock-skew");
    assert_eq!(shop.count("A", "b", 11, 5), Answer::Applied);
    assert_eq!(code(shop.moved(MovementKind::Receipt, "A", "b", 1, 6)), "clock-skew");
}

#[test]
fn movements_since_are_added_to_an_older_count_as_long_as_they_are_remembered() {
    let mut shop = Shop::with(Limits { recents_max: 4, ..Limits::default() });
    shop.count("A", "b", 100, -60);
    shop.moved(MovementKind::Receipt, "A", "b", 5, -40);
    shop.moved(MovementKind::Adjust, "A", "b", -2, -20);
    assert_eq!(shop.sums("A").0, 103);
    // A count that says what was there before the adjustment.
    shop.count("A", "b", 104, -30);
    assert_eq!(shop.sums("A").0, 102);
    // One that the count has already.
    shop.moved(MovementKind::Receipt, "A", "b", 7, -35);
    assert_eq!(shop.sums("A").0, 102);
    for minute in -19..-14 {
        shop.moved(MovementKind::Receipt, "A", "b", 1, minute);
    }
    assert_eq!(shop.sums("A").0, 107);
    // Some are given up by now: a count before them can't be worked out.
    assert!(matches!(shop.count("A", "b", 50, -19), Answer::Quarantined(reason) if reason.code == "count-too-old"));
    shop.count("A", "b", 50, -16);
    assert_eq!(shop.sums("A").0, 51);
}

#[test]
fn a_transfer_is_validated_where_it_goes() {
    let mut shop = Shop::default();
    shop.count("A", "a", 5, 0);
    shop.count("A", "b", 2, 0);
    shop.reserve("x", "A", 4).unwrap();
    let to =
        |location: &str, quantity| Command::Transfer { id: "x".into(), line: 0, location: location.into(), quantity };
    assert_eq!(short_of(shop.run(&to("b", 3))), [(0, 3, 2)]);
    let nowhere = shop.run(&to("nowhere", 1));
    assert!(matches!(nowhere, Err(StockRefusal::Invalid { field: "location", .. })), "{nowhere:?}");
    assert_eq!(state_of(&shop.run(&to("b", 2))), (State::Held, false));
    assert_eq!(shop.told(1), ["reservation.transferred"]);
    let at = shop.ask("A", "web").locations;
    assert_eq!([(at[0].held, at[0].atf), (at[1].held, at[1].atf)], [(2, 3), (2, 0)]);
    // Shipped from where it was not reserved: it goes over, and is consumed there.
    shop.commit("x").unwrap();
    shop.count("A", "b", 4, 1);
    shop.at(2).ship("x", "A", "b", 4, 2);
    let at = shop.ask("A", "web").locations;
    assert_eq!([(at[0].committed, at[0].on_hand), (at[1].committed, at[1].on_hand)], [(0, 5), (0, 0)]);
    assert_eq!(shop.stock.reservation_view("x", shop.now).unwrap().state, State::Consumed);
}

#[test]
fn an_answer_says_how_old_it_is() {
    let mut shop = Shop::with(Limits { fresh_for_us: 5 * MINUTE, ..Limits::default() });
    shop.count("A", "a", 5, -4);
    shop.count("A", "b", 2, -1);
    let asked = shop.ask("A", "web");
    assert_eq!((asked.as_of_us, asked.age_us, asked.is_fresh), (Some(Shop::minute(-4)), Some(4 * MINUTE), true));
    assert!(!shop.at(2).ask("A", "web").is_fresh);
    shop.policy(PolicyOf { locations: Some(vec!["b".into()]), ..of("web") });
    assert!(shop.ask("A", "web").is_fresh);
    let unknown = shop.ask("Z", "web");
    assert_eq!((unknown.atp, unknown.as_of_us, unknown.is_fresh), (0, None, false));
}

#[test]
fn a_hold_can_be_extended_while_it_holds() {
    let mut shop = Shop::default();
    shop.count("A", "b", 1, 0);
    shop.reserve("x", "A", 1).unwrap();
    let until = |minute| Command::Extend { id: "x".into(), expires_at_us: Shop::minute(minute) };
    assert_eq!(state_of(&shop.run(&until(20))), (State::Held, false));
    assert_eq!(state_of(&shop.run(&until(20))), (State::Held, true));
    assert_eq!(shop.at(19).atp("A"), 0);
    assert_eq!(shop.run(&Command::Expire { limit: 9 }), Ok(Answer::Expired(0)));
    assert_eq!(shop.at(20).atp("A"), 1);
    assert!(matches!(shop.run(&until(30)), Err(StockRefusal::Conflict { state: State::Expired, .. })));
    let refused = shop.run(&until(20)).unwrap_err();
    assert_eq!(refused.to_string(), "`expires_at` must be later than now");
}
