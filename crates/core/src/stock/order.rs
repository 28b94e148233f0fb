//! What an order does to stock: each step of its life as the command that follows from it. The first reservation of an
//! order has the order's key as its id, so that every signal of the same step meets the same reservation, and has one
//! effect.
//!
//! | step of the order | command | where it comes twice, late, or too early |
//! |---|---|---|
//! | placed | reserve, in the place of the cart's hold | the same request: the first answer |
//! | confirmed | commit | repeated: the first answer; expired: reserved again at once, or not enough |
//! | cancelled | release what is open | shipped whole: a conflict (409); never reserved: unknown, no effect |
//! | shipped | ship, which consumes | cancelled before: goods have left all the same, and nothing is consumed |
//! | returned | return with its disposition | by movement id |
//! | refunded | nothing | money only |
//! | reinstated | reserve under a new id | the old one stays released |

use compact_str::CompactString;

use super::command::{Command, Item, Movement, Reserve};
use super::record::MovementKind;

/// A step of an order's life that concerns stock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderStep {
    /// It was placed.
    Placed {
        /// The channel.
        channel: CompactString,
        /// What was ordered.
        items: Vec<Item>,
        /// The hold of the cart that it was, whose place it takes.
        cart: Option<CompactString>,
        /// Until when the hold lasts, for payment.
        expires_at_us: i64,
        /// One item may come from several locations.
        allow_split: bool,
        /// What is missing may be promised of what is on order by then.
        backorder_until_us: Option<i64>,
    },
    /// Its payment is authorized, and it is confirmed.
    Confirmed,
    /// What is not shipped of it is cancelled.
    Cancelled,
    /// The warehouse took over what it has to ship from a location.
    Accepted {
        /// The location.
        location: CompactString,
        /// When.
        at_us: i64,
    },
    /// A part of it was shipped.
    Shipped(Goods),
    /// A part of it came back.
    Returned(Goods, Disposition),
}

/// Goods of an order that moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goods {
    /// Who tells of it.
    pub source: CompactString,
    /// The id of the movement there, for example the shipment's id and its line.
    pub movement: CompactString,
    /// The SKU.
    pub sku: CompactString,
    /// The location.
    pub location: CompactString,
    /// How much.
    pub quantity: i64,
    /// When, microseconds since 1970 UTC.
    pub occurred_at_us: i64,
    /// Other names of the movement, see [`Movement::also`].
    pub also: Vec<(CompactString, CompactString)>,
}

/// What becomes of goods that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// They can be sold again.
    Restock,
    /// They are there, and can't be sold.
    Damaged,
    /// They did not arrive.
    Lost,
}

/// The command that follows from a step of an order, by the order's key (`web:1001`) and that of its reservation.
pub fn for_order(order: &str, reservation: &str, step: OrderStep) -> Command {
    let id = CompactString::from(reservation);
    match step {
        OrderStep::Placed { channel, items, cart, expires_at_us, allow_split, backorder_until_us } => {
            Command::Reserve(Reserve {
                id,
                owner: order.into(),
                channel,
                expires_at_us,
                items,
                allow_partial: false,
                allow_split,
                backorder_until_us,
                replaces: cart,
                is_order: true,
            })
        }
        OrderStep::Confirmed => Command::Commit { id },
        OrderStep::Cancelled => Command::Release { id, lines: Vec::new() },
        OrderStep::Accepted { location, at_us } => Command::Acknowledge { id, location, at_us },
        OrderStep::Shipped(goods) => moved(goods, MovementKind::Ship, Some(id)),
        OrderStep::Returned(goods, disposition) => {
            let kind = match disposition {
                Disposition::Restock => MovementKind::ReturnRestock,
                Disposition::Damaged => MovementKind::ReturnDamaged,
                Disposition::Lost => MovementKind::ReturnLost,
            };
            moved(goods, kind, None)
        }
    }
}

fn moved(goods: Goods, kind: MovementKind, reservation: Option<CompactString>) -> Command {
    Command::Move(Movement {
        source: goods.source,
        id: goods.movement,
        sku: goods.sku,
        location: goods.location,
        kind,
        quantity: goods.quantity,
        occurred_at_us: goods.occurred_at_us,
        reservation,
        supply: None,
        also: goods.also,
    })
}
