//! Histories that are right, and histories as of a hub that sells twice.

use super::*;

const S: i64 = 1_000_000;

/// One article with so many units on its shelf.
fn with(units: i64) -> Tally {
    let mut tally = Tally::new(vec!["RARE-01".to_owned()]);
    tally.came(0, units, 0);
    tally
}

fn hold(tally: &mut Tally, id: &str, units: i64, (from_s, to_s): (i64, i64)) {
    tally.held(id, &vec![(0, units)], to_s * S, from_s * S);
}

#[test]
fn what_there_is_can_be_promised_again_and_again() {
    let mut tally = with(3);
    hold(&mut tally, "a", 2, (1, 5));
    hold(&mut tally, "b", 1, (1, 9));
    // `a` is over at 5; `c` has its units from then on.
    hold(&mut tally, "c", 2, (5, 9));
    tally.ran_out("a", 6 * S);
    tally.sold("c", 6 * S);
    // `b` may have gone to `d` before the answer to `b` is here.
    tally.giving_back("b");
    hold(&mut tally, "d", 1, (6, 9));
    tally.given_back("b");
    tally.refused();
    let (units, at_us) = tally.left("c", 7 * S).expect("it is sold");
    assert_eq!((units, at_us), (vec![(0, 2)], 7 * S));
    tally.shipped("c");
    let open = BTreeMap::from([("d".to_owned(), 1)]);
    assert_eq!(tally.stand(0, 7 * S), Stand { on_hand: 1, held: 1, committed: 0, open });
    assert_eq!(tally.stand(0, 9 * S), Stand { on_hand: 1, ..Stand::default() });
    let sums = Sums {
        carts: 5,
        reserved: 4,
        refused: 1,
        ran_out: 1,
        given_back: 1,
        units_there: 3,
        units_sold: 2,
        units_shipped: 2,
        ..Sums::default()
    };
    assert_eq!((tally.sums(), tally.told()), (sums, &[][..]));
    let ended: Vec<_> = tally.ended().into_iter().map(|ended| (ended.id, ended.end.state(), ended.units)).collect();
    let expected = [("a", "expired", 2), ("b", "released", 1), ("c", "consumed", 2)];
    assert_eq!(ended, expected.map(|(id, state, units)| (id.to_owned(), state, units)));
}

#[test]
fn two_holds_of_one_unit_are_oversold() {
    let mut tally = with(1);
    hold(&mut tally, "a", 1, (1, 9));
    hold(&mut tally, "b", 1, (8, 20));
    assert_eq!(tally.sums().oversold, 1);
    assert_eq!(tally.told(), ["oversold: 2 of RARE-01 promised with b, 1 there"]);
    // It stays so, whatever comes later.
    tally.ran_out("a", 9 * S);
    assert_eq!(tally.sums().oversold, 1);
}

#[test]
fn a_hold_that_is_committed_after_another_took_its_place_is_oversold() {
    let mut tally = with(2);
    hold(&mut tally, "a", 2, (1, 2));
    hold(&mut tally, "b", 2, (3, 9));
    assert_eq!(tally.sums().oversold, 0);
    tally.sold("a", 4 * S);
    assert_eq!((tally.sums().oversold, tally.sums().units_sold), (2, 2));
}

#[test]
fn what_has_left_cannot_be_promised_again() {
    let mut tally = with(2);
    hold(&mut tally, "a", 2, (1, 9));
    tally.sold("a", 2 * S);
    assert!(tally.left("a", 3 * S).is_some());
    tally.shipped("a");
    // A hub that counts the shelf as full after the parcel has left.
    hold(&mut tally, "b", 1, (4, 9));
    assert_eq!(tally.sums().oversold, 1);
    tally.sold("b", 5 * S);
    assert!(tally.left("b", 6 * S).is_some());
    assert_eq!((tally.sums().oversold, tally.sums().units_shipped), (1, 3));
}

#[test]
fn a_promise_that_is_not_kept_is_wrong() {
    let mut tally = with(2);
    hold(&mut tally, "a", 1, (1, 9));
    tally.ran_out("a", 8 * S);
    hold(&mut tally, "b", 1, (1, 9));
    hold(&mut tally, "b", 1, (1, 9));
    tally.shipped("c");
    assert_eq!((tally.sums().wrong, tally.sums().oversold), (3, 0));
    assert!(tally.told()[0].starts_with("a was not kept"), "{:?}", tally.told());
}

#[test]
fn nothing_happens_twice_at_one_time() {
    let mut tally = with(5);
    let came_us = tally.came(0, 1, 7);
    assert_eq!((came_us, tally.counted(0, 7), tally.counted(0, 3)), (7, (8, 6), (9, 6)));
}
