//! Orders that wait for stock: of which SKUs, in which order they get it, and the hub's own word that it has come.

use super::book::Book;
use super::said::Said;
use crate::Position;
use crate::change::{Input, InputBody};
use crate::decide::HUB;
use crate::entity::Entity;
use crate::time::rfc3339_us;

const PLACED_FIELD: &str = "placed_at";
const HOLDS_FIELD: &str = "holds";

/// For what an order waits. Who has the higher priority of its channel comes first, then who has placed it earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Of what there is not enough; nothing where it waits no longer.
    pub skus: Vec<String>,
    /// Its channel.
    pub channel: String,
    /// When it was placed, as it says itself, else when the hub heard of it first; microseconds since 1970 UTC.
    pub placed_us: i64,
}

/// For what an order waits. `None` of what is no order, or one that the hub has never put on hold: nearly all of them, for
/// which this costs next to nothing.
pub fn waiting(order: &Entity) -> Option<Waiting> {
    if order.kind != "order" {
        return None;
    }
    let holds = order.field(HOLDS_FIELD)?;
    holds.claims.iter().find(|claim| order.system(claim.system) == HUB)?;
    let short = Book::of(order).short;
    if short.is_empty() {
        return Some(Waiting::default());
    }
    let placed = order.value(PLACED_FIELD).and_then(|json| serde_json::from_slice::<String>(json).ok());
    Some(Waiting {
        skus: short.into_keys().collect(),
        channel: Said::of(order).channel,
        placed_us: placed.and_then(|placed| rfc3339_us(&placed)).unwrap_or(order.created_at_us),
    })
}

/// The hub's own word that stock of a SKU came for an order that waits for it.
pub fn retry(sku: &str, order: &Entity, now_us: i64) -> Input {
    let position: Position = order.position;
    // Where it succeeds the order has another record, and where it does not nothing is kept of it.
    let delivery = format!("stock-came|{sku}|{}|{position}", order.key);
    Input {
        source: HUB.to_owned(),
        system: HUB.to_owned(),
        payload_hash: crate::payload_hash(delivery.as_bytes()),
        delivery,
        reject_reuse: false,
        request_key: None,
        received_at_us: now_us,
        trace: None,
        raw: None,
        body: InputBody::Retry { order: order.key.to_string() },
        releases: None,
    }
}
