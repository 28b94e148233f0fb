//! What is asked of stock: few SKUs, places and reservations, so that they meet.

use fastrand::Rng;
use lockstep_core::stock::record::{CountBasis, MovementKind};
use lockstep_core::stock::{Command, Count, Item, Movement, PolicyOf, Reserve};

use crate::generate::START_US;

/// The SKUs.
const SKUS: [&str; 2] = ["cup", "pot"];
/// A kit of them, which is none at times.
const KIT: &str = "set";
/// All that can be sold.
pub const ITEMS: [&str; 3] = ["cup", "pot", KIT];
/// The places.
pub const PLACES: [&str; 2] = ["x", "y"];
/// The channels.
pub const CHANNELS: [&str; 2] = ["app", "web"];
/// The one system that counts and moves.
const SYSTEM: &str = "wms";
/// The window of every cap that has one, so that a longer one never counts what a shorter one has dropped.
const WINDOW_US: i64 = 32_000_000;
/// How many supplies there are.
const SUPPLIES: usize = 4;
/// How many reservations there are, and movements: a few are told twice, under different deliveries.
pub const RESERVATIONS: usize = 8;
const MOVEMENTS: usize = 60;

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// An instant around which the world's clock passes.
fn instant(rng: &mut Rng) -> i64 {
    START_US + rng.i64(0..60) * 1_000_000
}

/// An instant that is mostly there already.
fn soon(rng: &mut Rng) -> i64 {
    if rng.u8(..3) == 0 { instant(rng) } else { START_US }
}

/// One command.
pub fn command(rng: &mut Rng) -> Command {
    let (named, at) = (pick(rng, &SKUS), pick(rng, &PLACES));
    let reservation = format!("r{}", rng.usize(..RESERVATIONS));
    let (sku, location, id) = (named.into(), at.into(), reservation.as_str().into());
    match rng.u8(..116) {
        0..8 => {
            // Now and then one that nobody can believe.
            let ahead_us = if rng.u8(..12) == 0 { 7_200_000_000 } else { 0 };
            let (quantity, as_of_us) = (rng.i64(0..12), instant(rng) + ahead_us);
            let (source, basis) = (SYSTEM.into(), CountBasis::OnHand);
            Command::Count(Count { source, sku, location, basis, quantity, as_of_us, ..Count::default() })
        }
        8..26 => {
            let kind = pick(
                rng,
                &[MovementKind::Receipt, MovementKind::Receipt, MovementKind::Adjust, MovementKind::ReturnRestock],
            );
            let quantity = if kind == MovementKind::Adjust { rng.i64(-3..4) } else { rng.i64(1..6) };
            let mut moved = moved(rng, (named, at), kind, quantity);
            if kind == MovementKind::Receipt && rng.bool() {
                moved.supply = Some(supply(rng).into());
            }
            Command::Move(moved)
        }
        26..42 => {
            let quantity = rng.i64(1..4);
            let reservation = (rng.u8(..6) > 0).then_some(id);
            Command::Move(Movement { reservation, ..moved(rng, (named, at), MovementKind::Ship, quantity) })
        }
        42..45 => Command::Safety { sku, location, quantity: rng.i64(0..3) },
        45..64 => setting(rng),
        64..88 => Command::Reserve(reserve(rng, &reservation)),
        88..98 => Command::Commit { id },
        98..106 => {
            let lines = if rng.bool() { Vec::new() } else { vec![(rng.u32(..3), rng.i64(1..3))] };
            Command::Release { id, lines }
        }
        106..110 => Command::Extend { id, expires_at_us: instant(rng) },
        _ => Command::Transfer { id, line: rng.u32(..3), location, quantity: rng.i64(1..4) },
    }
}

/// What channels may have, what kits are made of, what is on order.
pub fn setting(rng: &mut Rng) -> Command {
    let (named, at) = (pick(rng, &SKUS), pick(rng, &PLACES));
    match rng.u8(..19) {
        0..8 => Command::Policy(policy(rng, named, at)),
        8..11 => {
            let components = match rng.u8(..4) {
                0 => Vec::new(),
                1 => vec![("cup".into(), 1)],
                _ => vec![("cup".into(), 1), ("pot".into(), rng.i64(1..3))],
            };
            Command::Sku { sku: KIT.into(), scale: 0, components }
        }
        _ => {
            let (supply, open, eta_us) = (supply(rng).into(), rng.i64(0..12), soon(rng));
            Command::Supply { supply, sku: named.into(), location: at.into(), open, eta_us }
        }
    }
}

fn supply(rng: &mut Rng) -> String {
    format!("s{}", rng.usize(..SUPPLIES))
}

fn some<T>(rng: &mut Rng, one_of: u8, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (rng.u8(..one_of) == 0).then(|| make(rng))
}

/// Whole, and so mostly of a channel alone: what is not said is not limited.
fn policy(rng: &mut Rng, sku: &str, place: &str) -> PolicyOf {
    let channel = pick(rng, &CHANNELS).into();
    let fence = |rng: &mut Rng| rng.i64(0..5);
    let (sku, location) = match rng.u8(..6) {
        0 => {
            let fence = Some(fence(rng));
            return PolicyOf { channel, sku: sku.into(), location: place.into(), fence, ..PolicyOf::default() };
        }
        1 | 2 => (sku, ""),
        _ => ("", ""),
    };
    let removed = rng.u8(..6) == 0;
    if removed {
        return PolicyOf { channel, sku: sku.into(), location: location.into(), removed, ..PolicyOf::default() };
    }
    let places: [&[&str]; 4] = [&["x"], &["y"], &["x", "y"], &["y", "x"]];
    PolicyOf {
        channel,
        sku: sku.into(),
        location: location.into(),
        locations: some(rng, 4, |rng| pick(rng, &places).iter().map(|place| (*place).into()).collect()),
        fence: some(rng, 3, fence),
        cap: some(rng, 4, |rng| (rng.i64(2..16), pick(rng, &[0, WINDOW_US]))),
        buffer: some(rng, 3, |rng| rng.i64(0..4)),
        backorder_limit: (rng.u8(..4) > 0).then(|| rng.i64(0..10)),
        priority: some(rng, 3, |rng| rng.i32(0..3)),
        removed,
    }
}

fn reserve(rng: &mut Rng, id: &str) -> Reserve {
    let named = pick(rng, &ITEMS);
    let mut items = vec![item(rng, named)];
    if rng.u8(..3) == 0 {
        // No item twice; but a kit may want what another item wants.
        items.extend(ITEMS.iter().find(|other| **other != named).map(|other| item(rng, other)));
    }
    Reserve {
        id: id.into(),
        owner: format!("cart-{id}").into(),
        channel: pick(rng, &CHANNELS).into(),
        expires_at_us: instant(rng),
        items,
        allow_split: rng.u8(..4) == 0,
        backorder_until_us: some(rng, 2, |rng| instant(rng) + 30_000_000),
        replaces: some(rng, 12, |rng| format!("r{}", rng.usize(..RESERVATIONS)).into()),
        ..Reserve::default()
    }
}

fn item(rng: &mut Rng, sku: &str) -> Item {
    let location = (rng.u8(..4) == 0).then(|| pick(rng, &PLACES).into());
    Item { sku: sku.into(), quantity: rng.i64(1..5), location }
}

fn moved(rng: &mut Rng, (sku, location): (&str, &str), kind: MovementKind, quantity: i64) -> Movement {
    let id = format!("m{}", rng.usize(..MOVEMENTS)).into();
    let occurred_at_us = instant(rng);
    let (source, sku, location) = (SYSTEM.into(), sku.into(), location.into());
    Movement { source, id, sku, location, kind, quantity, occurred_at_us, ..Movement::default() }
}
