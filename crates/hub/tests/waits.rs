//! Events that wait until what they are about has arrived: a price for its product.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::recorder::{Recorder, said};
use common::{open, until, until_tallies};
use lockstep_core::delivery::degrade::Pin;
use lockstep_core::delivery::{AttemptResult, Cadence, Step, Then, WaitsFor};
use lockstep_hub::delivery::{DeliveryOptions, Standing};
use lockstep_hub::{DeadLetterFilter, HubHandle, Tallies};

fn price_for_product(key: Option<&str>) -> WaitsFor {
    WaitsFor {
        kind: "price".into(),
        awaited: "product".into(),
        destination: "shop".into(),
        key: key.map(str::to_owned),
        wait_max_us: None,
        then: Then::DeadLetter,
    }
}

fn with(waits_for: Vec<WaitsFor>) -> DeliveryOptions {
    DeliveryOptions { report_interval_ms: 5, waits_for, ..DeliveryOptions::default() }
}

async fn say(handle: &HubHandle, delivery: &str, kind: &str, key: &str, fields: &[(&str, &str)]) -> u64 {
    let answer = handle.submit(vec![said(delivery, kind, key, fields)]).await.unwrap().remove(0).unwrap();
    match answer {
        lockstep_core::Outcome::Applied { position, .. } => position,
        other => panic!("{other:?}"),
    }
}

async fn standing(handle: &HubHandle, position: u64, name: &str) -> Standing {
    let record = handle.record(position).await.unwrap().unwrap();
    let event = lockstep_core::Event::of(position, record).unwrap();
    handle.propagation_at(&event, name).await.unwrap().standing
}

fn reasons(handle: &HubHandle, name: &str) -> Vec<String> {
    handle.destination_conditions()[name].waits.iter().map(|wait| wait.reason.clone()).collect()
}

fn settled(tallies: &Tallies, name: &str) -> bool {
    tallies.destinations.get(name).is_some_and(|d| d.pending(tallies.published) == 0 && d.cursor >= tallies.last_event)
}

async fn audit(dir: &std::path::Path) {
    let mut standing = lockstep_hub::Standing::beside(dir, lockstep_core::stock::Limits::default()).unwrap();
    assert_eq!(standing.audit_deliveries(|_| {}).unwrap().broken, Vec::<String>::new());
}

#[tokio::test]
async fn a_price_waits_for_its_product_over_a_restart_and_other_prices_go() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let shop = Recorder::new(|_| AttemptResult::Delivered);
    hub.add_destination("shop", shop.clone(), with(vec![price_for_product(None)]));
    let handle = hub.handle();
    let first = say(&handle, "1", "price", "web:1", &[("amount", "5")]).await;
    let second = say(&handle, "2", "price", "web:1", &[("amount", "6")]).await;
    say(&handle, "3", "product", "web:2", &[("title", "\"Cup\"")]).await;
    say(&handle, "4", "price", "web:2", &[("amount", "7")]).await;
    until("the other two are there", || shop.entities() == ["product/web:2", "price/web:2"]).await;
    let said_so = ["waits for product web:1, which is not published to `shop` yet".to_owned()];
    until("it is said what is waited for", || reasons(&handle, "shop") == said_so).await;
    for position in [first, second] {
        let Standing::Parked(parked) = standing(&handle, position, "shop").await else { panic!("parked") };
        assert_eq!((parked.position, parked.attempts, &parked.detail), (first, 0, &said_so[0]));
    }
    hub.shutdown().await;

    let hub = open(dir.path());
    let handle = hub.handle();
    let shop = Recorder::new(|_| AttemptResult::Delivered);
    hub.add_destination("shop", shop.clone(), with(vec![price_for_product(None)]));
    until("it waits again", || reasons(&handle, "shop") == said_so).await;
    say(&handle, "5", "product", "web:1", &[("title", "\"Pot\"")]).await;
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "shop")).await;
    assert_eq!(shop.entities(), ["product/web:1", "price/web:1", "price/web:1"]);
    assert!(shop.taken()[1].1 < shop.taken()[2].1, "in order");
    assert_eq!(tallies.violations(), Vec::<String>::new());
    assert_eq!(handle.destination_conditions()["shop"].waiting, 0);
    hub.shutdown().await;
    audit(dir.path()).await;
}

#[tokio::test]
async fn what_is_awaited_must_arrive_as_it_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let takes = Arc::new(AtomicBool::new(false));
    let switch = takes.clone();
    let shop = Recorder::new(move |entity| match entity.starts_with("product/") && !switch.load(Ordering::Relaxed) {
        true => AttemptResult::Rejected,
        false => AttemptResult::Delivered,
    });
    hub.add_destination("shop", shop.clone(), with(vec![price_for_product(Some("product.id"))]));
    let handle = hub.handle();
    let product = say(&handle, "1", "product", "P-1", &[("title", "\"Pot\"")]).await;
    let of_it = |amount| [("amount", amount), ("product", r#"{"id": "P-1"}"#)];
    let price = say(&handle, "2", "price", "X-9", &of_it("5")).await;
    // One that names none waits for nothing.
    say(&handle, "3", "price", "X-8", &[("amount", "5")]).await;
    until("the one without a product is there", || shop.entities() == ["price/X-8"]).await;
    let said_so = [format!("waits for product P-1, of which event {product} is a dead letter of `shop`")];
    until("the dead letter is named", || reasons(&handle, "shop") == said_so).await;
    assert!(matches!(standing(&handle, price, "shop").await, Standing::Parked(_)));

    takes.store(true, Ordering::Relaxed);
    let filter = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let rows = handle.dead_letters(filter).await.unwrap().items;
    assert!(handle.retry_dead_letter(&rows[0], "test").await);
    let tallies =
        until_tallies(&handle, "all settled", |t| settled(t, "shop") && t.destinations["shop"].dead == 0).await;
    assert_eq!(shop.entities(), ["price/X-8", "product/P-1", "price/X-9"]);
    assert_eq!(tallies.violations(), Vec::<String>::new());

    // And one whose dead letter a person gives up is waited for no longer.
    takes.store(false, Ordering::Relaxed);
    let second = say(&handle, "4", "product", "P-2", &[("title", "\"Cup\"")]).await;
    say(&handle, "5", "price", "X-7", &[("product", r#"{"id": "P-2"}"#)]).await;
    until("it waits", || handle.destination_conditions()["shop"].waiting == 1).await;
    until_tallies(&handle, "a dead letter", |t| t.destinations["shop"].dead == 1).await;
    assert!(handle.discard_dead_letter("shop", second, "not wanted", "test").await.unwrap());
    until_tallies(&handle, "all settled", |t| settled(t, "shop")).await;
    assert_eq!(shop.entities().last().unwrap(), "price/X-7");
    hub.shutdown().await;
    audit(dir.path()).await;
}

/// Most systems tell whole documents again and again. Those are recorded, and publish nothing.
#[tokio::test]
async fn what_is_said_again_and_again_hides_nothing_that_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let takes = Arc::new(AtomicBool::new(false));
    let switch = takes.clone();
    let shop = Recorder::new(move |entity| match entity == "product/B" && !switch.load(Ordering::Relaxed) {
        true => AttemptResult::Rejected,
        false => AttemptResult::Delivered,
    });
    hub.add_destination("shop", shop.clone(), with(vec![price_for_product(None)]));
    say(&handle, "1", "product", "A", &[("title", "\"Pot\"")]).await;
    let refused = say(&handle, "2", "product", "B", &[("title", "\"Cup\"")]).await;
    until_tallies(&handle, "a dead letter", |t| t.destinations.get("shop").is_some_and(|d| d.dead == 1)).await;
    takes.store(true, Ordering::Relaxed);
    let newer = say(&handle, "3", "product", "B", &[("title", "\"Mug\"")]).await;
    let again = (0..1_100).flat_map(|n| [("A", "\"Pot\""), ("B", "\"Mug\"")].map(|it| (n, it)));
    let again = again.map(|(n, (key, title))| said(&format!("{key} {n}"), "product", key, &[("title", title)]));
    handle.submit(again.collect()).await.unwrap();
    let nothing_new = handle.entity("product", "B").await.unwrap().unwrap();
    assert!(nothing_new.position > newer + 1_100 && nothing_new.last_event == newer);

    // What waits for it knows that it is there.
    say(&handle, "4", "price", "A", &[("amount", "5")]).await;
    until("the price has gone", || shop.entities().contains(&"price/A".to_owned())).await;
    // A retry by hand knows that something newer is.
    let row = handle.dead_letter("shop", refused).await.unwrap().unwrap();
    assert!(handle.retry_dead_letter(&row, "test").await);
    let tallies = until_tallies(&handle, "no dead letter", |t| t.destinations["shop"].dead == 0).await;
    assert_eq!(tallies.destinations["shop"].superseded, 1);
    assert_eq!(shop.entities(), ["product/A", "product/B", "price/A"]);
    // A writer who says it again is told of the last event.
    let (found, _) = handle.history(nothing_new.position, 1).await.unwrap();
    let events = handle.events_of((found[0].0, 1), ("product", "B")).await.unwrap();
    assert_eq!(events, [newer]);
    // And a destination that begins with what stands gets everything that does.
    let late = Recorder::new(|_| AttemptResult::Delivered);
    let start = lockstep_hub::delivery::Start::State;
    hub.add_destination("late", late.clone(), DeliveryOptions { start, ..with(Vec::new()) });
    until("all that stands is there", || late.entities().len() == 3).await;
    hub.shutdown().await;
    audit(dir.path()).await;
}

#[tokio::test]
async fn one_destination_waits_for_what_another_one_has() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let lets = Arc::new(AtomicBool::new(false));
    let switch = lets.clone();
    let shop = Recorder::new(move |_| match switch.load(Ordering::Relaxed) {
        true => AttemptResult::Delivered,
        false => AttemptResult::Throttled { retry_after_ms: Some(1) },
    });
    let ads = Recorder::new(|_| AttemptResult::Delivered);
    let retry =
        lockstep_core::delivery::RetryPolicy { retries_max: 1_000_000, backoff_max_ms: 5, ..Default::default() };
    let budget = lockstep_core::delivery::BudgetPolicy { floor_per_s: 100_000, ..Default::default() };
    hub.add_destination("ads", ads.clone(), with(vec![price_for_product(None)]));
    hub.add_destination("shop", shop.clone(), DeliveryOptions { retry, budget, ..with(Vec::new()) });
    let handle = hub.handle();
    let product = say(&handle, "1", "product", "web:1", &[("title", "\"Pot\"")]).await;
    say(&handle, "2", "price", "web:1", &[("amount", "5")]).await;
    let said_so = [format!("waits for product web:1, of which event {product} is still to arrive at `shop`")];
    until("it is awaited at the other one", || reasons(&handle, "ads") == said_so).await;
    assert_eq!(ads.entities(), ["product/web:1"], "it has the product itself, that is not enough");
    lets.store(true, Ordering::Relaxed);
    until_tallies(&handle, "all settled", |t| settled(t, "ads") && settled(t, "shop")).await;
    assert_eq!(ads.entities(), ["product/web:1", "price/web:1"]);
    hub.shutdown().await;
    audit(dir.path()).await;
}

#[tokio::test]
async fn who_waits_too_long_is_a_dead_letter_or_goes() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let (strict, lax) = (Recorder::new(|_| AttemptResult::Delivered), Recorder::new(|_| AttemptResult::Delivered));
    let rule = |destination: &str, then| {
        let wait_max_us = Some(20_000);
        vec![WaitsFor { destination: destination.into(), wait_max_us, then, ..price_for_product(None) }]
    };
    hub.add_destination("strict", strict.clone(), with(rule("strict", Then::DeadLetter)));
    hub.add_destination("lax", lax.clone(), with(rule("lax", Then::Send)));
    let handle = hub.handle();
    let price = say(&handle, "1", "price", "web:1", &[("amount", "5")]).await;
    let tallies = until_tallies(&handle, "both settled", |t| settled(t, "strict") && settled(t, "lax")).await;
    assert_eq!((tallies.destinations["strict"].dead, tallies.destinations["lax"].delivered), (1, 1));
    assert_eq!((strict.entities(), lax.entities()), (vec![], vec!["price/web:1".to_owned()]));
    let row = handle.dead_letter("strict", price).await.unwrap().unwrap();
    assert_eq!(row.reason, "waited");
    assert!(row.detail.contains("waits for product web:1") && row.detail.contains("wait_max_s"), "{}", row.detail);
    // A retry by hand waits for nothing.
    assert!(handle.retry_dead_letter(&row, "test").await);
    let tallies = until_tallies(&handle, "it is there", |t| t.destinations["strict"].delivered == 1).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    audit(dir.path()).await;
}

#[tokio::test]
async fn more_may_wait_than_the_window_holds_and_what_they_wait_for_still_comes_in() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let shop = Recorder::new(|_| AttemptResult::Delivered);
    let few = DeliveryOptions { window_events_max: 10, ..with(vec![price_for_product(None)]) };
    let handle = hub.handle();
    for n in 0..35 {
        say(&handle, &format!("price {n}"), "price", &format!("web:{}", n % 30), &[("amount", &n.to_string())]).await;
    }
    hub.add_destination("shop", shop.clone(), few);
    until("all of them wait", || handle.destination_conditions()["shop"].waiting == 30).await;
    for n in 0..30 {
        say(&handle, &format!("product {n}"), "product", &format!("web:{n}"), &[("title", "\"Pot\"")]).await;
    }
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "shop")).await;
    assert_eq!((tallies.destinations["shop"].delivered, tallies.destinations["shop"].dead), (65, 0));
    let entities = shop.entities();
    for n in 0..30 {
        let at = |entity: String| entities.iter().position(|one| *one == entity).unwrap();
        assert!(at(format!("product/web:{n}")) < at(format!("price/web:{n}")), "{n}");
    }
    // Of more than four times as much the one that has waited longest is given up.
    for n in 0..50 {
        say(&handle, &format!("late {n}"), "price", &format!("late:{n}"), &[("amount", "1")]).await;
    }
    let tallies = until_tallies(&handle, "ten given up", |t| t.destinations["shop"].dead == 10).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    audit(dir.path()).await;
}

#[tokio::test]
async fn the_newest_price_waits_where_only_the_newest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let shop = Recorder::new(|_| AttemptResult::Delivered);
    let cadence = Cadence::Window { window_ms: 5, latest_only: true };
    hub.add_destination("shop", shop.clone(), DeliveryOptions { cadence, ..with(vec![price_for_product(None)]) });
    let handle = hub.handle();
    say(&handle, "1", "price", "web:1", &[("amount", "5")]).await;
    until("it waits", || handle.destination_conditions()["shop"].waiting == 1).await;
    for n in 2..6 {
        say(&handle, &n.to_string(), "price", "web:1", &[("amount", &n.to_string())]).await;
    }
    until_tallies(&handle, "four superseded", |t| t.destinations.get("shop").is_some_and(|d| d.superseded == 4)).await;
    say(&handle, "7", "product", "web:1", &[("title", "\"Pot\"")]).await;
    let tallies = until_tallies(&handle, "all settled", |t| settled(t, "shop")).await;
    assert_eq!(shop.entities(), ["product/web:1", "price/web:1"]);
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    audit(dir.path()).await;
}

#[tokio::test]
async fn how_long_one_waits_at_most_does_not_begin_anew_with_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let rule = || WaitsFor { wait_max_us: Some(3_600_000_000), ..price_for_product(None) };
    let waits = |t: &Tallies| -> Vec<(u64, u32, i64)> {
        let parked = t.destinations.get("shop").map(|shop| shop.parked.clone()).unwrap_or_default();
        parked.iter().map(|parked| (parked.event, parked.number, parked.again_at_us)).collect()
    };
    let hub = open(dir.path());
    hub.add_destination("shop", Recorder::new(|_| AttemptResult::Delivered), with(vec![rule()]));
    let handle = hub.handle();
    let first = say(&handle, "1", "price", "web:1", &[("amount", "5")]).await;
    let told = until_tallies(&handle, "the journal has it", |t| waits(t).len() == 1).await;
    let (event, number, until_us) = waits(&told)[0];
    assert_eq!((event, number), (first, 0));
    hub.shutdown().await;

    let hub = open(dir.path());
    hub.add_destination("shop", Recorder::new(|_| AttemptResult::Delivered), with(vec![rule()]));
    let handle = hub.handle();
    // With the next one that waits the first is told of again.
    let second = say(&handle, "2", "price", "web:2", &[("amount", "5")]).await;
    let told = until_tallies(&handle, "the journal has both", |t| waits(t).iter().any(|w| w.0 == second)).await;
    assert_eq!(waits(&told)[0], (first, 0, until_us));
    hub.shutdown().await;
}

#[tokio::test]
async fn an_entity_that_changes_all_the_time_has_waited_too_long_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let shop = Recorder::new(|_| AttemptResult::Delivered);
    let cadence = Cadence::Window { window_ms: 5, latest_only: true };
    let rule = WaitsFor { wait_max_us: Some(500_000), ..price_for_product(None) };
    hub.add_destination("shop", shop.clone(), DeliveryOptions { cadence, ..with(vec![rule]) });
    let handle = hub.handle();
    // At most so many, or it would never end.
    for n in 0..20_000 {
        say(&handle, &n.to_string(), "price", "web:1", &[("amount", &n.to_string())]).await;
        if handle.stats().tallies().destinations.get("shop").is_some_and(|shop| shop.dead > 0) {
            hub.shutdown().await;
            return audit(dir.path()).await;
        }
    }
    panic!("it never ends");
}

#[tokio::test]
async fn nobody_waits_too_long_for_what_is_paused() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let rule = |destination: &str| {
        let wait_max_us = Some(50_000);
        vec![WaitsFor { destination: destination.into(), wait_max_us, ..price_for_product(None) }]
    };
    let [shop, ads, twin] = [(); 3].map(|()| Recorder::new(|_| AttemptResult::Delivered));
    hub.add_destination("shop", shop.clone(), with(Vec::new()));
    hub.add_destination("ads", ads.clone(), with(rule("shop")));
    hub.add_destination("twin", twin.clone(), with(rule("twin")));
    let handle = hub.handle();
    let pin = || Pin { step: Step::Pause, until_us: None, by: "ops".into(), reason: "their maintenance".into() };
    let is_paused = |name: &str| handle.destination_conditions().get(name).is_some_and(|one| one.step == Step::Pause);
    // Its own wait is over long after that of one that waits beside it.
    let outlives = async |first: u64| {
        for n in first..first + 2 {
            say(&handle, &n.to_string(), "price", &format!("web:{n}"), &[("amount", "5")]).await;
            until_tallies(&handle, "given up", |t| t.destinations.get("twin").is_some_and(|one| one.dead == n)).await;
        }
        let tallies = handle.stats().tallies();
        assert_eq!(tallies.destinations.get("ads").map_or(0, |ads| ads.dead), 0);
    };
    handle.pin_flow("shop", pin()).await.unwrap();
    until("it is paused", || is_paused("shop")).await;
    outlives(1).await;
    until("they wait", || handle.destination_conditions()["ads"].waiting == 2).await;
    // Nor while it is paused itself.
    handle.pin_flow("ads", pin()).await.unwrap();
    until("that is paused", || is_paused("ads")).await;
    handle.release_flow("shop", "ops", "they are done").await.unwrap();
    until("it goes on", || !is_paused("shop")).await;
    outlives(3).await;
    handle.release_flow("ads", "ops", "they are done").await.unwrap();
    let tallies = until_tallies(&handle, "the time goes on", |t| t.destinations["ads"].dead == 4).await;
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
    audit(dir.path()).await;
}

#[tokio::test]
async fn how_long_one_may_wait_still_is_journaled_while_its_time_stands() {
    let dir = tempfile::tempdir().unwrap();
    let rule = || WaitsFor { wait_max_us: Some(3_600_000_000), ..price_for_product(None) };
    let until_us = |t: &Tallies| t.destinations.get("shop").and_then(|shop| Some(shop.parked.first()?.again_at_us));
    let hub = open(dir.path());
    hub.add_destination("shop", Recorder::new(|_| AttemptResult::Delivered), with(vec![rule()]));
    let handle = hub.handle();
    say(&handle, "1", "price", "web:1", &[("amount", "5")]).await;
    let before = until_us(&until_tallies(&handle, "the journal has it", |t| until_us(t).is_some()).await);
    let pin = Pin { step: Step::Pause, until_us: None, by: "ops".into(), reason: "their maintenance".into() };
    handle.pin_flow("shop", pin).await.unwrap();
    let is_paused = || handle.destination_conditions().get("shop").is_some_and(|one| one.step == Step::Pause);
    until("it is paused", is_paused).await;
    hub.shutdown().await;

    let hub = open(dir.path());
    let stood = until_us(&hub.handle().stats().tallies());
    assert!(stood > before, "{stood:?} after {before:?}");
    hub.shutdown().await;
}
