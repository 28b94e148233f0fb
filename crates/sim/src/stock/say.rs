//! What is asked of stock: few SKUs, places and reservations, so that they meet.

use fastrand::Rng;
use lockstep_core::stock::record::{CountBasis, MovementKind};
use lockstep_core::stock::{Command, Count, Item, Movement, PolicyOf, Reserve};

use crate::generate::START_US;

/// The SKUs.
pub const SKUS: [&str; 2] = ["cup", "pot"];
/// The places.
pub const PLACES: [&str; 2] = ["x", "y"];
/// The channel, and the one system that counts and moves.
pub const CHANNEL: &str = "web";
const SYSTEM: &str = "wms";
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

/// One command.
pub fn command(rng: &mut Rng) -> Command {
    let (named, at) = (pick(rng, &SKUS), pick(rng, &PLACES));
    let reservation = format!("r{}", rng.usize(..RESERVATIONS));
    let (sku, location, id) = (named.into(), at.into(), reservation.as_str().into());
    match rng.u8(..100) {
        0..8 => {
            // Now and then one that nobody can believe.
            let ahead_us = if rng.u8(..12) == 0 { 7_200_000_000 } else { 0 };
            let (quantity, as_of_us) = (rng.i64(0..12), instant(rng) + ahead_us);
            let (source, basis) = (SYSTEM.into(), CountBasis::OnHand);
            Command::Count(Count { source, sku, location, basis, quantity, as_of_us })
        }
        8..26 => {
            let kind = pick(
                rng,
                &[MovementKind::Receipt, MovementKind::Receipt, MovementKind::Adjust, MovementKind::ReturnRestock],
            );
            let quantity = if kind == MovementKind::Adjust { rng.i64(-3..4) } else { rng.i64(1..6) };
            moved(rng, (named, at), kind, quantity, None)
        }
        26..42 => {
            let quantity = rng.i64(1..4);
            let reservation = (rng.u8(..6) > 0).then_some(reservation);
            moved(rng, (named, at), MovementKind::Ship, quantity, reservation)
        }
        42..45 => Command::Safety { sku, location, quantity: rng.i64(0..3) },
        45..48 => Command::Policy(PolicyOf { channel: CHANNEL.into(), ..PolicyOf::default() }),
        48..72 => {
            let mut items = vec![item(rng, named)];
            if rng.u8(..3) == 0 {
                // No SKU twice: then no item stands in another's way.
                items.extend(SKUS.iter().find(|other| **other != named).map(|other| item(rng, other)));
            }
            let owner = format!("cart-{reservation}").into();
            let expires_at_us = instant(rng);
            Command::Reserve(Reserve { id, owner, channel: CHANNEL.into(), expires_at_us, items, ..Reserve::default() })
        }
        72..82 => Command::Commit { id },
        82..90 => {
            let lines = if rng.bool() { Vec::new() } else { vec![(rng.u32(..3), rng.i64(1..3))] };
            Command::Release { id, lines }
        }
        90..94 => Command::Extend { id, expires_at_us: instant(rng) },
        _ => Command::Transfer { id, line: rng.u32(..3), location, quantity: rng.i64(1..4) },
    }
}

fn item(rng: &mut Rng, sku: &str) -> Item {
    let location = (rng.u8(..4) == 0).then(|| pick(rng, &PLACES).into());
    Item { sku: sku.into(), quantity: rng.i64(1..5), location }
}

fn moved(
    rng: &mut Rng,
    (sku, location): (&str, &str),
    kind: MovementKind,
    quantity: i64,
    reservation: Option<String>,
) -> Command {
    let id = format!("m{}", rng.usize(..MOVEMENTS)).into();
    let occurred_at_us = instant(rng);
    let (source, sku, location) = (SYSTEM.into(), sku.into(), location.into());
    let reservation = reservation.map(Into::into);
    Command::Move(Movement { source, id, sku, location, kind, quantity, occurred_at_us, reservation, supply: None })
}
