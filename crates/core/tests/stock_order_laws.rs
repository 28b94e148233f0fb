//! What must hold of orders and stock in whatever order their documents come.

mod stock_support;

use lockstep_core::Outcome;
use lockstep_core::stock::{Command, Reserve};
use proptest::prelude::*;
use serde_json::json;
use stock_support::MINUTE;
use stock_support::orders::World;

/// What may be heard of an order, of its goods, and of those who want the same.
#[derive(Clone, Debug)]
enum Said {
    Order { minute: i64, system: &'static str, state: &'static str, units: i64, cart: bool },
    Shipped { key: u8, units: i64, minute: i64 },
    Returned { key: u8, units: i64, disposition: &'static str },
    Counted { units: i64 },
    Held { cart: bool, units: i64 },
    Deleted { minute: i64 },
    Passed { minutes: i64 },
}

const STATES: [&str; 7] = ["draft", "pending", "confirmed", "cancelled", "partially_shipped", "shipped", "closed"];

fn order(states: &'static [&'static str], units: std::ops::Range<i64>) -> impl Strategy<Value = Said> {
    let system = prop_oneof![Just("shop"), Just("oms")];
    (0..9_i64, system, proptest::sample::select(states), units, any::<bool>())
        .prop_map(|(minute, system, state, units, cart)| Said::Order { minute, system, state, units, cart })
}

fn parcel(dispositions: &'static [&'static str]) -> impl Strategy<Value = Said> {
    let disposition = proptest::sample::select(dispositions);
    prop_oneof![
        (0..3_u8, 1..4_i64, 0..9_i64).prop_map(|(key, units, minute)| Said::Shipped { key, units, minute }),
        (0..3_u8, 1..4_i64, disposition).prop_map(|(key, units, disposition)| Said::Returned {
            key,
            units,
            disposition
        }),
    ]
}

fn anything() -> impl Strategy<Value = Said> {
    prop_oneof![
        5 => order(&STATES, 0..6),
        4 => parcel(&["restock", "damaged", "lost"]),
        1 => (0..9_i64).prop_map(|units| Said::Counted { units }),
        2 => (any::<bool>(), 1..4_i64).prop_map(|(cart, units)| Said::Held { cart, units }),
        1 => (0..9_i64).prop_map(|minute| Said::Deleted { minute }),
        1 => (1..12_i64).prop_map(|minutes| Said::Passed { minutes }),
    ]
}

fn tell(world: &mut World, said: &Said) {
    match said {
        Said::Order { minute, system, state, units, cart } => {
            let lines = json!([{"id": "l", "sku": "A", "ordered": units}, {"id": "k", "sku": "B", "ordered": 1}]);
            let mut fields = json!({"lifecycle": state, "lines": lines});
            if *cart {
                fields["cart"] = json!("cart");
            }
            world.say(system, "order/web:1", *minute, fields);
        }
        Said::Shipped { key, units, minute } => {
            let lines = json!([{"id": "l", "quantity": units}]);
            world.say(
                "wms",
                &format!("shipment/s{key}"),
                *minute,
                json!({"order": "web:1", "location": "b", "lines": lines}),
            );
        }
        Said::Returned { key, units, disposition } => world.take_back(&format!("r{key}"), *units, disposition),
        Said::Counted { units } => {
            let minute = -1 - (*units);
            world.command(stock_support::count(
                "A",
                "b",
                lockstep_core::stock::record::CountBasis::OnHand,
                *units,
                minute,
            ));
        }
        Said::Held { cart, units } => {
            let id = if *cart { "cart" } else { "another" };
            let item = lockstep_core::stock::Item { sku: "A".into(), quantity: *units, location: None };
            let expires_at_us = world.now + 15 * MINUTE;
            let (id, channel) = (id.into(), "web".into());
            let hold = Reserve { owner: id, channel, expires_at_us, items: vec![item], ..Reserve::default() };
            world.try_command(Command::Reserve(Reserve { id: hold.owner.clone(), ..hold }));
        }
        Said::Deleted { minute } => world.delete(*minute),
        Said::Passed { minutes } => world.now += minutes * MINUTE,
    }
}

/// What the order's own reservations have open of a SKU.
fn open(world: &World, sku: &str) -> i64 {
    let reservations = world.at("/stock/reservations");
    let ids = reservations.as_array().into_iter().flatten().filter_map(|id| id.as_str());
    let ids: Vec<String> = ids.map(str::to_owned).collect();
    world.facts.stock.lines_of(&ids, world.now).iter().filter(|line| line.sku == sku).map(|line| line.open).sum()
}

/// Units of a ledger of the order that were moved.
fn moved(world: &World, what: &str) -> i64 {
    let ledger = world.at(&format!("/stock/{what}"));
    let items = ledger.as_object().into_iter().flatten().filter_map(|(_, lines)| lines.as_object());
    items.flatten().filter(|(line, _)| *line == "l").filter_map(|(_, units)| units.as_i64()).sum()
}

proptest! {
    /// [`World`] checks after every word that no sum is negative or wrong, that each line is open + consumed + released +
    /// expired, and that what is cancelled or closed has nothing open.
    #[test]
    fn stock_is_whole_after_whatever_is_heard(said in proptest::collection::vec(anything(), 1..24)) {
        let mut world = World::new();
        world.count("A", "b", 8);
        world.count("B", "b", 3);
        for word in &said {
            tell(&mut world, word);
            if !world.is_known() {
                continue;
            }
            let ordered: i64 = world.at("/lines").as_array().into_iter().flatten()
                .filter(|line| line["id"] == "l").filter_map(|line| line["ordered"].as_i64()).sum();
            prop_assert!(open(&world, "A") <= ordered, "no more is open than was ordered: {} of {ordered}", open(&world, "A"));
            prop_assert!(moved(&world, "returned") <= moved(&world, "shipped"), "no more came back than had left");
            let state = world.at("/lifecycle");
            if state == "cancelled" || state == "closed" || state == "shipped" || world.is_deleted() {
                prop_assert_eq!((open(&world, "A"), open(&world, "B")), (0, 0), "{} has something open", state);
            }
        }
    }

    #[test]
    fn a_repetition_has_no_effect_on_stock(
        said in proptest::collection::vec(anything(), 1..16).prop_map(distinct),
    ) {
        let mut world = World::new();
        world.count("A", "b", 8);
        world.count("B", "b", 3);
        for word in &said {
            tell(&mut world, word);
            if matches!(word, Said::Order { .. } | Said::Shipped { .. } | Said::Returned { .. } | Said::Deleted { .. }) {
                let before = (world.sums("A"), world.sums("B"));
                tell(&mut world, word);
                prop_assert_eq!((world.sums("A"), world.sums("B")), before, "{:?}", word);
            }
        }
    }

    /// Where there is enough of everything, it makes no difference in which order it is heard of. (An order that was
    /// shipped whole and grows after that stays shipped, so here none is; and of more than had left, what is heard of first
    /// is what came back, so here all comes back in the same state.)
    #[test]
    fn the_order_of_arrival_makes_no_difference(
        (said, again) in proptest::collection::vec(
            prop_oneof![order(&["pending", "confirmed", "cancelled"], 9..14), parcel(&["restock"])], 1..9,
        ).prop_map(distinct).prop_flat_map(|said| (Just(said.clone()), Just(said).prop_shuffle())),
    ) {
        let mut ends = Vec::new();
        for said in [said, again] {
            let mut world = World::new();
            world.count("A", "b", 100);
            world.count("B", "b", 100);
            said.iter().for_each(|word| tell(&mut world, word));
            let moved = (moved(&world, "shipped"), moved(&world, "returned"));
            ends.push((world.sums("A"), world.sums("B"), moved));
        }
        prop_assert_eq!(ends[0], ends[1]);
    }
}

/// No two words of one moment about the same thing: which of them is the last is nobody's to say.
fn distinct(said: Vec<Said>) -> Vec<Said> {
    let mut known = std::collections::BTreeSet::new();
    let new = |word: &Said| match word {
        Said::Order { minute, .. } => known.insert(format!("o{minute}")),
        Said::Shipped { key, .. } => known.insert(format!("s{key}")),
        Said::Returned { key, .. } => known.insert(format!("r{key}")),
        Said::Deleted { minute } => known.insert(format!("o{minute}")),
        Said::Counted { .. } | Said::Held { .. } | Said::Passed { .. } => true,
    };
    let mut new = new;
    said.into_iter().filter(|word| new(word)).collect()
}

#[test]
fn a_short_history_is_what_it_seems() {
    let mut world = World::new();
    world.count("A", "b", 8);
    tell(&mut world, &Said::Order { minute: 1, system: "shop", state: "confirmed", units: 5, cart: false });
    tell(&mut world, &Said::Shipped { key: 1, units: 2, minute: 2 });
    assert_eq!((open(&world, "A"), moved(&world, "shipped")), (3, 2));
    let outcome: Outcome = world.command(Command::Release { id: "web:1".into(), lines: vec![] });
    assert!(matches!(outcome, Outcome::Stock { .. }));
    assert_eq!(open(&world, "A"), 0);
}

/// What the hub has derived of an order since is no later word of anybody.
#[test]
fn a_deletion_that_is_heard_late_ends_the_order_and_its_reservations() {
    let mut world = World::new();
    world.count("A", "b", 8);
    tell(&mut world, &Said::Order { minute: 1, system: "oms", state: "confirmed", units: 5, cart: false });
    tell(&mut world, &Said::Passed { minutes: 6 });
    tell(&mut world, &Said::Shipped { key: 1, units: 2, minute: 6 });
    assert_eq!(open(&world, "A"), 3);
    tell(&mut world, &Said::Deleted { minute: 3 });
    assert!(world.is_deleted());
    assert_eq!(open(&world, "A"), 0);
    // Another parcel is a fact, and brings nothing back; the system's own later word does.
    tell(&mut world, &Said::Shipped { key: 2, units: 1, minute: 8 });
    assert!(world.is_deleted());
    tell(&mut world, &Said::Order { minute: 9, system: "shop", state: "confirmed", units: 5, cart: false });
    assert!(!world.is_deleted());
    assert_eq!((open(&world, "A"), moved(&world, "shipped")), (2, 3));
}
