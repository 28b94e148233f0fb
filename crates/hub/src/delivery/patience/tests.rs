use super::*;

const S: i64 = 1_000_000;

fn need(destination: &str, id: &str) -> Need {
    let (kind, key) = id.split_once('/').expect("kind and key");
    Need { destination: destination.into(), kind: kind.into(), key: key.into(), id: id.into() }
}

fn begin(patience: &mut Patience, id: &str, before: Option<Since>, wait_s: i64, now_s: i64) -> Since {
    let limit = Limit { wait_max_us: Some(wait_s * S), then: Then::DeadLetter, ..Limit::default() };
    patience.begin(id, (1, before), vec![need("shop", "product/1")], limit, now_s * S)
}

#[test]
fn the_one_that_has_waited_longest_is_the_oldest_however_often_others_look_again() {
    let mut patience = Patience::default();
    // By their names they are in another order than by age.
    let ids: Vec<String> = (0..200).map(|n| format!("price/{}", (n * 77) % 200)).collect();
    for (at_s, id) in ids.iter().enumerate() {
        begin(&mut patience, id, None, 1_000, at_s as i64);
    }
    let mut looked = BTreeSet::new();
    for _ in 0..4 {
        looked.extend(patience.look_again(64));
    }
    assert_eq!(looked.len(), 200, "each has its turn");
    for id in &ids {
        assert_eq!(patience.oldest().as_ref(), Some(id));
        patience.end(id);
    }
    assert_eq!((patience.oldest(), patience.over(i64::MAX)), (None, None));
}

#[test]
fn an_entity_that_changes_again_and_again_has_waited_all_the_time() {
    let mut patience = Patience::default();
    let mut since = begin(&mut patience, "price/1", None, 60, 0);
    for now_s in 1..60 {
        assert_eq!(patience.over(now_s * S), None);
        since = begin(&mut patience, "price/1", Some(since), 60, now_s);
    }
    assert_eq!(patience.over(60 * S).as_deref(), Some("price/1"));
    // One that waits elsewhere from now on has not waited less for that.
    let limit = Limit { wait_max_us: Some(60 * S), then: Then::Send, ..Limit::default() };
    patience.begin("price/1", (2, Some(since)), vec![need("ads", "product/1")], limit, 60 * S);
    assert_eq!(patience.over(60 * S).as_deref(), Some("price/1"));
    let wait = patience.end("price/1").expect("it waits");
    assert_eq!((wait.event, wait.then, patience.over(i64::MAX)), (2, Then::Send, None));
}

#[test]
fn the_time_in_which_nothing_could_arrive_does_not_count() {
    let mut patience = Patience::default();
    let nobody = |_: &str| false;
    let shop = |name: &str| name == "shop";
    begin(&mut patience, "price/1", None, 60, 0);
    let limit = Limit { wait_max_us: Some(60 * S), then: Then::DeadLetter, ..Limit::default() };
    patience.begin("price/2", (2, None), vec![need("ads", "product/1")], limit, 0);
    assert_eq!(patience.waits_for("price/1", "waits for product 1"), Some(60 * S));
    assert_eq!(patience.waits_for("price/1", "waits for product 1"), None, "that is no news");
    assert!(patience.pass(10 * S, nobody).is_empty());
    assert!(patience.pass(10 * S, shop).is_empty());
    assert!(patience.pass(5_000 * S, shop).is_empty());
    assert_eq!(patience.over(5_000 * S).as_deref(), Some("price/2"), "where it waits there is no pause");
    patience.end("price/2");
    assert_eq!(patience.over(5_000 * S), None);
    // Its 50 seconds go on, and it is told so.
    let later = patience.pass(6_000 * S, nobody);
    assert_eq!(later, [("price/1".to_owned(), 1, "waits for product 1".to_owned(), 6_050 * S)]);
    assert!(patience.pass(6_049 * S, nobody).is_empty());
    assert_eq!(patience.over(6_049 * S), None);
    assert_eq!(patience.over(6_050 * S).as_deref(), Some("price/1"));
    assert_eq!(patience.shown(5).0, 1);
}

#[test]
fn whoever_waits_hears_of_what_is_awaited_by_its_other_names_too() {
    let mut patience = Patience::default();
    begin(&mut patience, "price/1", None, 60, 0);
    assert!(patience.next().is_some());
    patience.goes_by("price/1", vec!["product/2".into()]);
    patience.answered("price/1");
    assert!(patience.next().is_some(), "it may have ended before it was listened to");
    patience.goes_by("price/1", vec!["product/2".into()]);
    patience.answered("price/1");
    assert!(patience.next().is_none(), "that is no news");
    for awaited in ["product/1", "product/2"] {
        patience.ear.ended(awaited);
        assert_eq!(patience.ear.take(), BTreeSet::from(["price/1".to_owned()]), "{awaited}");
    }
    patience.end("price/1");
    patience.ear.ended("product/2");
    assert!(patience.ear.take().is_empty());
}

#[test]
fn who_has_waited_since_before_the_start_has_no_more_time_than_before_but_some() {
    let mut patience = Patience::default();
    let mut begin = |id: &str, to_s: i64| {
        let limit = Limit { wait_max_us: Some(600 * S), to_us: Some(to_s * S), journaled: true, ..Limit::default() };
        patience.begin(id, (1, None), vec![need("shop", "product/1")], limit, 1_000 * S);
    };
    begin("price/late", 300);
    begin("price/1", 1_060);
    begin("price/never", 9_999);
    let journaled: Vec<i64> = patience.journaled(0).map(|(_, until_us)| until_us / S).collect();
    assert_eq!(journaled, [1_060, 1_010, 1_600]);
    assert_eq!(patience.over(1_009 * S), None, "what it waits for may be the next to go");
    assert_eq!(patience.over(1_010 * S).as_deref(), Some("price/late"));
    assert!(!patience.stands_for_the_journal());
    patience.pass(1_010 * S, |_| true);
    assert!(patience.stands_for_the_journal());
}
