//! What was done to stock for an order, as the order's own document keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decide::HUB;
use crate::entity::Entity;
use crate::order::STOCK_FIELD;

/// Quantities by the item of a ledger (a shipment, a return), and in it by the order's line.
pub(super) type Moved = BTreeMap<String, BTreeMap<String, i64>>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Book {
    /// Its reservations, the oldest first.
    pub(super) reservations: Vec<String>,
    /// What came back, by return.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) returned: Moved,
    /// What has left, by shipment; under no name what has left as the order's lifecycle says, without a shipment. Nothing (0)
    /// under a name of one that has another name here too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) shipped: Moved,
    /// What there is not enough of, by SKU.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) short: BTreeMap<String, i64>,
}

impl Book {
    /// What the hub has said of an order.
    pub(super) fn of(order: &Entity) -> Self {
        let claims = order.field(STOCK_FIELD).into_iter().flat_map(|field| &field.claims);
        let own = claims.into_iter().find(|claim| order.system(claim.system) == HUB);
        own.and_then(|claim| serde_json::from_slice(&claim.json).ok()).unwrap_or_default()
    }

    pub(super) fn json(&self) -> Vec<u8> {
        // Texts and numbers only: it can't fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The id of an order's reservation after so many others: the first has the order's own key.
    pub(super) fn name(order: &str, before: usize) -> String {
        if before == 0 { order.to_owned() } else { format!("{order}~{}", before + 1) }
    }

    /// What has left of a line.
    pub(super) fn shipped_of(&self, line: &str) -> i64 {
        of_line(&self.shipped, line)
    }

    /// What came back of a line.
    pub(super) fn returned_of(&self, line: &str) -> i64 {
        of_line(&self.returned, line)
    }
}

fn of_line(moved: &Moved, line: &str) -> i64 {
    moved.values().filter_map(|lines| lines.get(line)).sum()
}

/// Adds to what was moved.
pub(super) fn add(moved: &mut Moved, item: &str, line: &str, quantity: i64) {
    *moved.entry(item.to_owned()).or_default().entry(line.to_owned()).or_default() += quantity;
}
