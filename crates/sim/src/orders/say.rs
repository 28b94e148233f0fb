//! What is told of orders, their shipments and returns: few, and told again in part, late, or after a cancel.

use std::sync::LazyLock;

use fastrand::Rng;
use lockstep_core::rules::{OrderPolicy, StockOrders};
use lockstep_core::{Change, ChangeError, Field, Rules, path};
use serde_json::{Value, json};

use crate::generate::START_US;

/// How many orders there are.
const ORDERS: usize = 3;
/// How orders reserve.
pub const POLICY: OrderPolicy = OrderPolicy { backorder: true, allow_split: true, hold_us: 8_000_000, moves: true };

/// A document about an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// `order`, `shipment` or `return`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// When it was so.
    pub at_us: i64,
    /// Its fields.
    pub fields: Vec<(&'static str, Value)>,
}

/// All orders reserve.
pub fn rules() -> StockOrders {
    StockOrders { all: Some(POLICY), ..StockOrders::default() }
}

impl Told {
    /// It as intake makes it.
    ///
    /// # Errors
    /// Where it is not well-formed.
    pub fn change(&self) -> Result<Change, ChangeError> {
        static RULES: LazyLock<Rules> = LazyLock::new(Rules::new);
        let fields: Vec<Field> = self.fields.iter().map(|(name, value)| Field::new(*name, value.to_string())).collect();
        let fields = path::split(fields, RULES.parts(self.kind)).map_err(|e| ChangeError::FieldName(e.to_string()))?;
        Change::new(self.kind, &self.key, 0, self.at_us, fields)
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// One document, and whether the warehouse tells of it.
pub fn told(rng: &mut Rng) -> (Told, bool) {
    let number = rng.usize(1..=ORDERS);
    let order = format!("web:{number}");
    let at_us = START_US + rng.i64(0..20) * 1_000_000;
    let part = rng.usize(..3);
    let moved = |rng: &mut Rng| {
        let lines: Vec<Value> = vec![json!({"id": pick(rng, &["1", "2"]), "quantity": rng.i64(1..4)})];
        let mut fields = vec![("order", json!(order)), ("lines", json!(lines))];
        if rng.u8(..3) > 0 {
            fields.push(("location", json!(pick(rng, &["x", "y"]))));
        }
        fields
    };
    match rng.u8(..10) {
        0..6 => {
            let states =
                ["pending", "pending", "confirmed", "confirmed", "confirmed", "released", "cancelled", "shipped"];
            let mut lines = Vec::new();
            for (id, sku) in [("1", "cup"), ("2", "pot")] {
                if id == "1" || rng.bool() {
                    let cancelled = if rng.u8(..4) == 0 { 1 } else { 0 };
                    lines.push(json!({"id": id, "sku": sku, "ordered": rng.i64(1..5), "cancelled": cancelled}));
                }
            }
            let fields =
                vec![("channel", json!("web")), ("lifecycle", json!(pick(rng, &states))), ("lines", json!(lines))];
            (Told { kind: "order", key: order, at_us, fields }, false)
        }
        6..9 => (Told { kind: "shipment", key: format!("s{number}{part}"), at_us, fields: moved(rng) }, true),
        _ => {
            let mut fields = moved(rng);
            fields.push(("disposition", json!(pick(rng, &["restock", "restock", "lost"]))));
            (Told { kind: "return", key: format!("r{number}{part}"), at_us, fields }, true)
        }
    }
}
