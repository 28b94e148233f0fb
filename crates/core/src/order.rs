//! An order's lifecycle: one of its three dimensions (payment and fulfilment are the others), ranked.

use crate::merge::BusinessState;

/// The field that holds the lifecycle.
pub const LIFECYCLE_FIELD: &str = "lifecycle";

/// The field that holds the lines.
pub const LINES_FIELD: &str = "lines";

/// The field that holds why the order must not go on.
pub const HOLDS_FIELD: &str = "holds";

/// The field that holds what the order has of stock: its reservations, what was moved for it, and what it lacks.
pub const STOCK_FIELD: &str = "stock";

/// What the hub works out itself; what others say of it is a divergence.
pub const DERIVED_FIELDS: [&str; 9] = [
    "payment",
    "fulfilment",
    "remainder_cancelled",
    STOCK_FIELD,
    "payments[]",
    "shipments[]",
    "returns[]",
    "exceptions[]",
    "tasks[]",
];

/// The states and their ranks. A cancel (45) beats everything before physical shipment and loses to it.
pub const LIFECYCLE: [(&str, i32); 10] = [
    ("draft", 0),
    ("pending", 10),
    ("confirmed", 20),
    ("allocated", 30),
    ("released", 40),
    ("cancelled", 45),
    ("partially_shipped", 50),
    ("shipped", 60),
    ("delivered", 70),
    ("closed", 80),
];

/// The rank from which on an order is placed.
pub const RANK_PLACED: i32 = 10;
/// The rank from which on it is agreed, so that what it has of stock lasts.
pub const RANK_CONFIRMED: i32 = 20;
/// The rank of an order that is cancelled.
pub const RANK_CANCELLED: i32 = 45;
/// The rank from which on a part of an order has left.
pub const RANK_SHIPPED_IN_PART: i32 = 50;
/// The rank from which on all of an order has left.
pub const RANK_SHIPPED: i32 = 60;

/// The rank of an order that is over.
pub const RANK_CLOSED: i32 = 80;

/// The lifecycle as a merge policy.
pub fn lifecycle_states() -> BusinessState {
    BusinessState { states: LIFECYCLE.iter().map(|(name, rank)| ((*name).to_owned(), *rank)).collect() }
}
