//! What an order's document says that concerns stock.

use compact_str::CompactString;
use serde_json::Value;

use crate::decide::HUB;
use crate::decide::order::{Life, TRACKING_FIELD, rank, text};
use crate::entity::Entity;
use crate::order::{LIFECYCLE_FIELD, RANK_CLOSED, RANK_PLACED, RANK_SHIPPED};
use crate::stock::{Disposition, shipped_id};

/// Where an order names the hold of the cart that it was.
const CART_FIELD: &str = "cart";

/// See the module.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) key: CompactString,
    pub(super) channel: String,
    /// How far it has come; an order that does not say is placed.
    pub(super) rank: i32,
    /// It has need of goods that have not left yet.
    pub(super) is_wanted: bool,
    /// When all of it has left, as a system's word on its lifecycle says.
    pub(super) left_us: Option<i64>,
    pub(super) lines: Vec<Line>,
    /// Shipments and returns by the time when they happened.
    pub(super) shipments: Vec<Parcel>,
    pub(super) returns: Vec<Parcel>,
    /// What the cart's hold is called.
    pub(super) cart: Option<CompactString>,
}

/// A line of the order.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: String,
    pub(super) sku: CompactString,
    /// What was ordered and not cancelled.
    pub(super) quantity: i64,
}

/// A shipment or a return.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) id: String,
    pub(super) location: CompactString,
    pub(super) at_us: i64,
    /// The carrier's number; empty where it is not known.
    pub(super) tracking: String,
    /// The order's lines and how much of them.
    pub(super) lines: Vec<(String, i64)>,
    /// Of a return, where it is known.
    pub(super) disposition: Option<Disposition>,
}

impl Said {
    pub(super) fn of(order: &Entity) -> Self {
        let life = Life::of(order);
        let reached = if life.rank == i32::MIN { RANK_PLACED } else { life.rank };
        let string = |name: &str| {
            let json = order.value(name)?;
            serde_json::from_slice::<String>(json).ok().filter(|text| !text.is_empty())
        };
        let says = |name: &str| order.value(name).is_some_and(|json| *json == "true");
        let is_no_order = order.is_deleted() || says("test");
        // Also where something was shipped before that, or all the same: nobody waits for the rest of it.
        let is_cancelled = life.cancelled_us.is_some();
        let is_wanted = !is_no_order && !is_cancelled && (RANK_PLACED..RANK_SHIPPED).contains(&reached);
        // What the hub says of it itself follows from shipments, which are told by themselves. Archived after a cancel, it
        // has gone nowhere.
        let told = order.field(LIFECYCLE_FIELD).into_iter().flat_map(|field| &field.claims);
        let told = told.filter(|claim| order.system(claim.system) != HUB);
        let left = told.filter_map(|claim| {
            let rank = rank(&serde_json::from_slice::<String>(&claim.json).ok()?);
            let has_left = rank >= RANK_SHIPPED && (rank < RANK_CLOSED || life.cancelled_us.is_none());
            has_left.then_some(order.stamps[claim.start].occurred_at_us)
        });
        let left_us = left.min().filter(|_| !is_no_order);
        let channel = string("channel").or_else(|| Some(order.key.split_once(':')?.0.to_owned()));
        Self {
            key: order.key.clone(),
            channel: channel.unwrap_or_default(),
            rank: reached,
            is_wanted,
            left_us,
            lines: if is_no_order { Vec::new() } else { lines(order) },
            shipments: parcels(order, "shipments["),
            returns: parcels(order, "returns["),
            cart: string(CART_FIELD).map(Into::into),
        }
    }

    /// The parcel as every system tells of it: they have keys of their own for it, and the carrier's number in common.
    pub(super) fn told_as<'a>(&'a self, parcel: &'a Parcel) -> impl Iterator<Item = &'a Parcel> {
        let same = |other: &&Parcel| {
            other.id == parcel.id || (!parcel.tracking.is_empty() && other.tracking == parcel.tracking)
        };
        self.shipments.iter().filter(same)
    }

    /// What goods of a parcel are called where a system tells of the goods themselves: they have left once.
    pub(super) fn names(
        &self,
        parcel: &Parcel,
        reservation: &str,
        (sku, location): (&str, &str),
    ) -> Vec<(CompactString, CompactString)> {
        let told = self.told_as(parcel).filter(|told| !told.id.is_empty());
        told.map(|told| (HUB.into(), shipped_id(&told.id, reservation, sku, location))).collect()
    }

    pub(super) fn line(&self, id: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.id == id)
    }
}

fn lines(order: &Entity) -> Vec<Line> {
    let one = |json: &[u8]| -> Option<Line> {
        let line: Value = serde_json::from_slice(json).ok()?;
        let count = |name: &str| line.get(name).and_then(Value::as_i64).unwrap_or(0).max(0);
        let (id, sku) = (text(&line, "id"), text(&line, "sku"));
        (!sku.is_empty()).then(|| Line {
            id,
            sku: sku.into(),
            quantity: (count("ordered") - count("cancelled")).max(0),
        })
    };
    let of_lines = order.fields.iter().filter(|f| f.name.starts_with("lines[") && f.name != "lines[]");
    of_lines.filter_map(|field| one(field.value()?)).collect()
}

fn parcels(order: &Entity, prefix: &str) -> Vec<Parcel> {
    let of_items = order.fields.iter().filter(|f| f.name.starts_with(prefix) && !f.name.ends_with("[]"));
    let mut parcels: Vec<Parcel> = of_items
        .filter_map(|field| {
            let claim = field.winning()?;
            let item: Value = serde_json::from_slice(&claim.json).ok()?;
            let line = |line: &Value| {
                let quantity = line.get("quantity").and_then(Value::as_i64).filter(|quantity| *quantity > 0)?;
                Some((text(line, "id"), quantity))
            };
            Some(Parcel {
                id: field.name.strip_prefix(prefix)?.strip_suffix(']')?.to_owned(),
                location: text(&item, "location").into(),
                at_us: order.stamps[claim.start].occurred_at_us,
                tracking: text(&item, TRACKING_FIELD),
                lines: item.get("lines")?.as_array()?.iter().filter_map(line).collect(),
                disposition: match text(&item, "disposition").as_str() {
                    "restock" => Some(Disposition::Restock),
                    "damaged" => Some(Disposition::Damaged),
                    "lost" => Some(Disposition::Lost),
                    _ => None,
                },
            })
        })
        .collect();
    parcels.sort_by(|a, b| (a.at_us, &a.id).cmp(&(b.at_us, &b.id)));
    parcels
}
