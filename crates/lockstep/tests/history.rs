//! Many clients at once, and SIGKILL at random moments: what they were told could have been told by one plain counter
//! that does one thing after the other.

mod common;

#[path = "history/checker.rs"]
mod checker;
#[path = "history/clients.rs"]
mod clients;
#[path = "history/model.rs"]
mod model;
#[path = "history/planted.rs"]
mod planted;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use checker::{Call, Verdict, check};
use clients::{SKUS, World};
use common::{Hub, folder, until};
use lockstep_hub::now_us;
use model::{Ask, Told};

const KILLS: u64 = 5;
const SELLERS: u64 = 6;

/// Starts the hub of the folder, and tells the clients where it is.
fn start(folder: &std::path::Path, world: &World) -> Hub {
    let hub = Hub::start(folder);
    *world.address.write().unwrap() = Some((hub.address, hub.key.clone()));
    hub
}

/// The calls of a SKU, with the moments at which holds may end.
fn history(world: &World, sku: usize) -> Vec<Call> {
    let mut calls = world.histories[sku].lock().unwrap().clone();
    let last = calls.iter().map(|call| call.ended).max().unwrap();
    let ends = calls.iter().filter_map(|call| match call.ask {
        Ask::Reserve { expires_at, .. } | Ask::Extend { expires_at, .. } => Some(expires_at),
        _ => None,
    });
    let mut ends: Vec<i64> = ends.filter(|at| *at <= last).collect();
    ends.sort_unstable();
    ends.dedup();
    calls.extend(ends.into_iter().map(Call::time));
    calls
}

/// How often each answer was given.
fn summary(calls: &[Call]) -> String {
    let count = |is: &dyn Fn(&Told) -> bool| calls.iter().filter(|call| call.told.as_ref().is_some_and(is)).count();
    let times = calls.iter().filter(|call| matches!(call.ask, Ask::Time { .. })).count();
    format!(
        "{} calls: {} done, {} short, {} in conflict, {} too late, {} looks, {} unanswered; {times} moments",
        calls.len() - times,
        count(&|told| *told == Told::Done) - times,
        count(&|told| matches!(told, Told::Short { .. })),
        count(&|told| *told == Told::Conflict),
        count(&|told| *told == Told::TooLate),
        count(&|told| matches!(told, Told::Terms { .. })),
        calls.iter().filter(|call| call.told.is_none()).count(),
    )
}

#[test]
fn what_many_clients_are_told_is_linearizable_through_kills() {
    let folder = folder("[hub]\nname = \"history\"\nflush_interval_ms = 100\n");
    let world = Arc::new(World::default());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let hub = start(folder.path(), &world);
    let authorization = format!("Bearer {}", hub.key);
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "policy"),
    ];
    assert_eq!(hub.http("PUT", "/v1/channels/web/policy", &headers, b"{}").0, 200);
    let since = now_us();
    for sku in 0..SKUS.len() {
        world.ask(sku, Ask::Count { quantity: 20, as_of: since }, &mut random, false);
    }
    let mut clients = Vec::new();
    for client in 0..=SELLERS {
        let (world, seed) = (world.clone(), random.u64(..));
        clients.push(std::thread::spawn(move || match client {
            0 => world.count(seed, since),
            _ => world.sell(seed),
        }));
    }
    let mut running = Some(hub);
    for _ in 0..KILLS {
        let enough = world.answered.load(Ordering::SeqCst) + random.u64(100..300);
        until("some more were answered", || (world.answered.load(Ordering::SeqCst) >= enough).then_some(()));
        // SIGKILL, with calls under way; the clients hear of it by their connections.
        drop(running.take());
        running = Some(start(folder.path(), &world));
    }
    world.stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("a client ended well");
    }
    for (sku, name) in SKUS.iter().enumerate() {
        // Nobody else asks any more.
        let last = world.ask(sku, Ask::Look, &mut random, false);
        assert!(matches!(last, Some(Told::Terms { .. })));
        let calls = history(&world, sku);
        println!("{name}: {}", summary(&calls));
        match check(calls.clone()) {
            Verdict::Good { steps } => println!("{name}: linearizable, {steps} steps"),
            Verdict::Bad { reached, stuck } => panic!("{name}: only {reached} calls in any order; then {stuck:#?}"),
        }
        planted(calls);
    }
    assert!(world.given_up.load(Ordering::SeqCst) > 0, "a kill left calls without an answer");
}

/// The same history with one wrong answer must be refused, or the check says nothing.
fn planted(calls: Vec<Call>) {
    let last = calls.iter().rposition(|call| matches!(call.ask, Ask::Look)).unwrap();
    let mut miscounted = calls.clone();
    if let Some(Told::Terms { on_hand, available, .. }) = &mut miscounted[last].told {
        *on_hand += 1_000;
        *available += 1_000;
    }
    assert!(!check(miscounted).is_good(), "goods from nowhere");
    let short = |call: &Call| matches!((&call.ask, &call.told), (Ask::Reserve { .. }, Some(Told::Short { .. })));
    let refused = calls.iter().position(short).expect("somebody was refused");
    let mut oversold = calls;
    let Call { ask, told, .. } = &mut oversold[refused];
    if let (Ask::Reserve { quantity, .. }, Some(told)) = (ask, told) {
        (*quantity, *told) = (1_000_000, Told::Done);
    }
    assert!(!check(oversold).is_good(), "a promise of what nobody has");
}
