//! What the hub itself works out of an order: its payments, shipments and returns as ledgers of items, the sums and
//! states that follow from them, exceptions, and tasks for a person. These are fields of the order that the hub owns,
//! said by the system [`HUB`](super::HUB); they follow from the set of items, not from the order of their arrival.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::change::{Change, Field};
use crate::entity::{DELETED_FIELD, Entity};
use crate::name;
use crate::order::{self, LIFECYCLE_FIELD};
use crate::record::Fact;
use crate::{EntityId, entity_id};

/// The kinds whose documents are items of an order, and the order's field for them.
/// The carrier's number of a shipment.
pub(super) const TRACKING_FIELD: &str = "tracking";

const LEDGERS: [(&str, &str); 3] = [("payment", "payments"), ("shipment", "shipments"), ("return", "returns")];

/// The field in which an item names its order.
const ORDER_FIELD: &str = "order";

/// The id of the order of which a change of that kind is an item.
pub(super) fn order_of<'a>(kind: &str, fields: impl IntoIterator<Item = &'a Field>) -> Option<EntityId> {
    LEDGERS.iter().find(|(item, _)| *item == kind)?;
    let field = fields.into_iter().find(|f| f.name == ORDER_FIELD)?;
    let key: String = serde_json::from_slice(&field.json).ok()?;
    crate::change::check_key(&key).is_ok().then(|| entity_id("order", &key))
}

/// Whether anything may follow for an order from an entity of this kind.
pub(super) fn is_about_orders(kind: &str) -> bool {
    kind == "order" || LEDGERS.iter().any(|(item, _)| *item == kind)
}

/// Where a change names the order of which it is an item.
pub(super) fn order_field(change: &Change) -> Option<usize> {
    LEDGERS.iter().find(|(item, _)| *item == change.kind)?;
    change.fields.iter().position(|f| f.name == ORDER_FIELD)
}

/// The key that a field names.
pub(super) fn key_of(field: &Field) -> Option<String> {
    serde_json::from_slice(&field.json).ok()
}

/// The order's key of an item that is folded already.
pub(super) fn order_of_entity(item: &Entity) -> Option<EntityId> {
    LEDGERS.iter().find(|(kind, _)| *kind == item.kind)?;
    order_of(&item.kind, &item.document())
}

/// What an item makes of its order: one entry of a ledger. Nothing where it says nothing new.
pub(super) fn item(item: &Entity, order: &Entity) -> Vec<Field> {
    let Some((_, ledger)) = LEDGERS.iter().find(|(kind, _)| *kind == item.kind) else { return Vec::new() };
    let json = if item.is_deleted() {
        Bytes::from_static(b"null")
    } else {
        let mut document = Vec::with_capacity(256);
        let fields = item.document();
        let kept: Vec<_> = fields.iter().filter(|f| f.name != ORDER_FIELD).collect();
        crate::path::assemble(&mut document, &kept);
        document.into()
    };
    let name = format!("{ledger}[{}]", item.key);
    if order.value(&name).is_some_and(|known| *known == json) { Vec::new() } else { vec![Field::new(name, json)] }
}

/// What follows for an order from its items and its life, where it differs from what is there, each with its time.
pub(super) fn derive(order: &Entity) -> Vec<(i64, Field)> {
    let mut out: Vec<(i64, String, Value)> = Vec::new();
    let ledger = |name: &str| -> (Vec<Value>, i64) {
        let prefix = format!("{name}[");
        let items = || order.fields.iter().filter(|f| f.name.starts_with(&prefix) && !f.name.ends_with("[]"));
        let values = items().filter_map(|f| serde_json::from_slice(f.value()?).ok());
        let last_us = items().filter_map(|f| Some(order.stamps[f.winning()?.start].occurred_at_us)).max().unwrap_or(0);
        (values.filter(|v: &Value| !v.is_null()).collect(), last_us)
    };
    let (payments, paid_us) = ledger("payments");
    let (shipments, shipped_us) = ledger("shipments");
    let (returns, returned_us) = ledger("returns");
    let mut life = Life::of(order);
    if !shipments.is_empty() || !returns.is_empty() {
        let moved_us = shipped_us.max(returned_us);
        let (mut counts, shipped) = fulfilment(order, &shipments, &returns);
        if let Some(state) = shipped {
            out.push((shipped_us, LIFECYCLE_FIELD.to_owned(), json!(state)));
            life.reach(state, shipped_us);
        }
        if life.rank == order::RANK_SHIPPED_IN_PART && life.cancelled_later() {
            counts.cancelled = counts.cancelled.max(counts.ordered - counts.shipped);
        }
        out.push((moved_us, "fulfilment".to_owned(), counts.shown()));
    }
    let cancels_rest = life.rank == order::RANK_SHIPPED_IN_PART && life.cancelled_later();
    if cancels_rest || order.value("remainder_cancelled").is_some() {
        let value = if cancels_rest { json!(true) } else { Value::Null };
        out.push((life.cancelled_us.unwrap_or(0).max(life.since_us), "remainder_cancelled".to_owned(), value));
    }
    for (name, is) in [
        ("cancel_after_shipment", life.rank >= order::RANK_SHIPPED && life.cancelled_later()),
        ("shipped_after_cancel", life.rank >= order::RANK_SHIPPED_IN_PART && life.cancelled_earlier()),
    ] {
        let field = format!("exceptions[{name}]");
        if is || order.value(&field).is_some() {
            let value = if is { json!({"kind": name}) } else { Value::Null };
            out.push((life.cancelled_us.unwrap_or(0).max(life.since_us), field, value));
        }
    }
    let mut holds = Vec::new();
    if !payments.is_empty() {
        let money = Money::of(order, &payments);
        let due = money.refund_due(life.is_cancelled());
        if money.expired() && life.rank < order::RANK_SHIPPED_IN_PART {
            holds.push("payment");
        }
        out.push((paid_us, "payment".to_owned(), money.shown()));
        if due > 0 || order.value("tasks[refund]").is_some() {
            let amount = json!({"amount": {"currency": money.currency, "minor": due}, "kind": "refund"});
            let task = if due > 0 { amount } else { Value::Null };
            out.push((paid_us.max(life.since_us), "tasks[refund]".to_owned(), task));
        }
    }
    let (lacks, stocked_us) = lacks_since(order);
    if lacks {
        holds.push("stock");
    }
    let has_held = order.field("holds").is_some_and(|f| f.claims.iter().any(|c| order.system(c.system) == super::HUB));
    if !holds.is_empty() || has_held {
        out.push((paid_us.max(stocked_us), "holds".to_owned(), json!(holds)));
    }
    let own = |name: &str| {
        let claims = &order.field(name)?.claims;
        Some(claims.iter().find(|c| order.system(c.system) == super::HUB)?.json.clone())
    };
    // What does not follow any more is not said any more.
    let json = |value: &Value| if value.is_null() { Vec::new() } else { canonical(value) };
    let field = |(at_us, name, value): (i64, String, Value)| (at_us, Field::new(name, json(&value)));
    out.into_iter().map(field).filter(|(_, f)| own(&f.name).is_none_or(|known| known != f.json)).collect()
}

/// Whether there is not enough for an order, and since when that is so or is not, as the hub has said of it itself.
fn lacks_since(order: &Entity) -> (bool, i64) {
    let Some(claim) = order.field(order::STOCK_FIELD).and_then(|field| field.winning()) else { return (false, 0) };
    let stock: Option<Value> = serde_json::from_slice(&claim.json).ok();
    let lacks = stock.is_some_and(|stock| stock.get("short").is_some_and(Value::is_object));
    (lacks, order.stamps[claim.start].occurred_at_us)
}

/// How far an order has come, and whether somebody has cancelled it: read from the claims, which do not depend on the
/// order in which they came.
pub(super) struct Life {
    pub(super) rank: i32,
    since_us: i64,
    /// When it was cancelled last, by whoever says so.
    pub(super) cancelled_us: Option<i64>,
}

impl Life {
    pub(super) fn of(order: &Entity) -> Self {
        let field = order.field(LIFECYCLE_FIELD);
        let winning = field.and_then(|f| f.winning());
        let state: Option<String> = winning.and_then(|claim| serde_json::from_slice(&claim.json).ok());
        Self {
            rank: state.as_deref().map_or(i32::MIN, rank),
            since_us: winning.map_or(0, |claim| order.stamps[claim.start].occurred_at_us),
            cancelled_us: Self::cancelled_us(order),
        }
    }

    fn cancelled_us(order: &Entity) -> Option<i64> {
        let said = order.field(LIFECYCLE_FIELD).into_iter().flat_map(|f| &f.claims);
        let said = said.filter(|c| c.json == "\"cancelled\"");
        let dated = order.field("cancelled_at").and_then(|f| f.winning()).filter(|c| c.json != "null");
        said.chain(dated).map(|claim| order.stamps[claim.start].occurred_at_us).max()
    }

    fn reach(&mut self, state: &str, at_us: i64) {
        if rank(state) > self.rank {
            (self.rank, self.since_us) = (rank(state), at_us);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.rank == rank("cancelled")
    }

    fn cancelled_later(&self) -> bool {
        self.cancelled_us.is_some_and(|at_us| at_us >= self.since_us)
    }

    fn cancelled_earlier(&self) -> bool {
        self.cancelled_us.is_some_and(|at_us| at_us < self.since_us)
    }
}

pub(super) fn rank(state: &str) -> i32 {
    order::LIFECYCLE.iter().find(|(name, _)| *name == state).map_or(i32::MIN, |(_, rank)| *rank)
}

/// Changes of the hub's own to an order, one for each time. `position` is the record that they follow: later ones count
/// more, whatever the time of what they follow from.
pub(super) fn changes(order: &Entity, mut fields: Vec<(i64, Field)>, position: u64) -> Vec<Change> {
    fields.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    let groups = fields.chunk_by(|a, b| a.0 == b.0);
    let change = |(number, group): (usize, &[(i64, Field)])| {
        let fields = group.iter().map(|(_, field)| field.clone()).collect();
        // Kind and key are those of an entity, the names are the hub's own: there is nothing to refuse.
        Change::new(order.kind.as_str(), order.key.as_str(), position + number as u64, group.first()?.0, fields).ok()
    };
    groups.enumerate().filter_map(change).collect()
}

/// Whether an order is cancelled, or has left, so that there is something that an API client may not do any more.
pub(super) fn is_settled(order: &Entity) -> bool {
    Life::of(order).rank >= rank("cancelled")
}

/// Why an API client may not make this change, in words; `None` where it may. What other systems report happened, and
/// is recorded whatever it means.
pub(super) fn refused(order: &Entity, fact: &Fact) -> Option<String> {
    let field = order.field(LIFECYCLE_FIELD)?;
    let claim = field.winning()?;
    let state: String = serde_json::from_slice(&claim.json).ok()?;
    let says = |name: &str| fact.fields.iter().find(|f| f.name == name);
    let advances =
        fact.changed.iter().filter_map(|at| fact.fields.get(*at as usize)).any(|f| f.name == LIFECYCLE_FIELD);
    // What happened before is heard of late, and what moves the order on has happened: neither is an edit.
    if advances || fact.occurred_at_us <= order.stamps[claim.start].occurred_at_us {
        return None;
    }
    if ["shipped", "delivered", "closed"].contains(&state.as_str()) && says_cancelled(fact) {
        return Some(format!("it is {state}: it can't be cancelled any more; take a return instead"));
    }
    if state != "cancelled" && state != "closed" {
        return None;
    }
    if says(LIFECYCLE_FIELD).is_some_and(|f| f.json != claim.json) {
        return Some(format!("it is {state}: place a new order instead of bringing it back"));
    }
    let edited = fact.changed.iter().find_map(|at| fact.fields.get(*at as usize))?;
    Some(format!("it is {state}: `{}` can't be changed any more", edited.name))
}

fn says_cancelled(fact: &Fact) -> bool {
    let says = |name: &str, is: fn(&[u8]) -> bool| fact.fields.iter().any(|f| f.name == name && is(&f.json));
    fact.system != super::HUB
        && (says(LIFECYCLE_FIELD, |json| json == b"\"cancelled\"")
            || says("cancelled_at", |json| !json.is_empty() && json != b"null"))
}

/// Units over all lines of an order.
struct Counts {
    ordered: i64,
    cancelled: i64,
    shipped: i64,
    returned: i64,
}

impl Counts {
    fn shown(&self) -> Value {
        let state = match self.shipped {
            0 => "unfulfilled",
            some if self.ordered == 0 || some < self.ordered - self.cancelled => "partial",
            _ => "fulfilled",
        };
        json!({
            "cancelled": self.cancelled, "ordered": self.ordered, "returned": self.returned, "shipped": self.shipped,
            "state": state,
        })
    }
}

/// The counts of an order, and what its shipments say of its life.
fn fulfilment(order: &Entity, shipments: &[Value], returns: &[Value]) -> (Counts, Option<&'static str>) {
    let units = |items: &[Value]| -> i64 {
        let lines = items.iter().filter_map(|item| item.get("lines")?.as_array()).flatten();
        lines.map(|line| line.get("quantity").and_then(Value::as_i64).unwrap_or(0)).sum()
    };
    let shipped = units(shipments) - units_told_again(shipments);
    let mut counts = Counts { ordered: 0, cancelled: 0, shipped, returned: units(returns) };
    let lines = order.fields.iter().filter(|f| f.name.starts_with("lines[") && f.name != "lines[]");
    for line in lines.filter_map(|f| serde_json::from_slice::<Value>(f.value()?).ok()) {
        let count = |name: &str| line.get(name).and_then(Value::as_i64).unwrap_or(0);
        counts.ordered += count("ordered");
        counts.cancelled += count("cancelled");
    }
    let lifecycle = match counts.shipped {
        0 => None,
        some if counts.ordered == 0 || some < counts.ordered - counts.cancelled => Some("partially_shipped"),
        _ => Some("shipped"),
    };
    (counts, lifecycle)
}

/// What is told of parcels beyond the most that one shipment tells of each: two systems tell of a parcel under keys of
/// their own, and the carrier's number says that it is one.
fn units_told_again(shipments: &[Value]) -> i64 {
    let mut most: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut again = 0;
    for shipment in shipments {
        let tracking = text(shipment, TRACKING_FIELD);
        let lines = shipment.get("lines").and_then(Value::as_array).filter(|_| !tracking.is_empty());
        for line in lines.into_iter().flatten() {
            let quantity = line.get("quantity").and_then(Value::as_i64).unwrap_or(0);
            let known = most.entry((tracking.clone(), text(line, "id"))).or_default();
            again += quantity.min(*known);
            *known = quantity.max(*known);
        }
    }
    again
}

/// Sums of an order's payment transactions, in minor units of one currency.
struct Money {
    currency: String,
    total: Option<i64>,
    authorized: i64,
    captured: i64,
    refunded: i64,
    charged_back: i64,
    ended: Option<&'static str>,
    /// What was captured when all that had been captured was refunded already.
    captured_late: i64,
}

impl Money {
    fn of(order: &Entity, payments: &[Value]) -> Self {
        let amount = |value: &Value| -> Option<(String, i64)> {
            Some((value.get("currency")?.as_str()?.to_owned(), value.get("minor")?.as_i64()?))
        };
        let total = order.value("total").and_then(|json| amount(&serde_json::from_slice(json).ok()?));
        let of = |payment: &Value| amount(payment.get("amount")?);
        let currency = total.as_ref().map(|(currency, _)| currency.clone());
        let currency = currency.or_else(|| payments.iter().find_map(of).map(|(currency, _)| currency));
        let mut money = Self {
            currency: currency.unwrap_or_default(),
            total: total.map(|(_, minor)| minor),
            authorized: 0,
            captured: 0,
            refunded: 0,
            charged_back: 0,
            ended: None,
            captured_late: 0,
        };
        let mut payments: Vec<&Value> = payments.iter().filter(|payment| has_gone_through(payment)).collect();
        // By the provider's time, refunds last among equals: the set decides, not the order of arrival.
        payments.sort_by_key(|p| (text(p, "occurred_at"), text(p, "kind"), p.to_string()));
        for payment in payments {
            let minor = of(payment).filter(|(currency, _)| *currency == money.currency).map_or(0, |(_, minor)| minor);
            match text(payment, "kind").as_str() {
                "auth" => {
                    money.authorized += minor;
                    // Another one was given: what ended before does not count.
                    money.ended = None;
                }
                "capture" => {
                    if money.refunded > 0 && money.refunded >= money.captured {
                        money.captured_late += minor;
                    }
                    money.captured += minor;
                }
                "refund" => money.refunded += minor,
                "chargeback" => money.charged_back += minor,
                "void" => money.ended = Some("voided"),
                "auth_expired" => {
                    money.ended = Some("expired");
                    // It is the authorization itself, where that has ended: it was given all the same.
                    money.authorized += if payment.get("auth_expires_at").is_some() { minor } else { 0 };
                }
                _ => {}
            }
        }
        money
    }

    /// What has to go back to the customer: money that came for a cancelled order, or after all was refunded.
    fn refund_due(&self, cancelled: bool) -> i64 {
        let held = self.captured - self.refunded - self.charged_back;
        if cancelled { held.max(0) } else { held.min(self.captured_late).max(0) }
    }

    /// Whether nothing can be captured any more and nothing was.
    fn expired(&self) -> bool {
        self.captured == 0 && self.ended == Some("expired")
    }

    fn state(&self) -> &'static str {
        let whole = self.total.unwrap_or(self.captured);
        match () {
            () if self.charged_back > 0 => "charged_back",
            () if self.captured > 0 && self.refunded >= self.captured => "refunded",
            () if self.refunded > 0 => "partially_refunded",
            () if self.captured > 0 && self.captured >= whole => "paid",
            () if self.captured > 0 => "partially_paid",
            () => self.ended.unwrap_or(if self.authorized > 0 { "authorized" } else { "none" }),
        }
    }

    fn shown(&self) -> Value {
        let mut sums: Map<String, Value> = [
            ("authorized", self.authorized),
            ("captured", self.captured),
            ("charged_back", self.charged_back),
            ("refunded", self.refunded),
        ]
        .into_iter()
        .map(|(name, minor)| (name.to_owned(), json!({"currency": self.currency, "minor": minor})))
        .collect();
        sums.insert("state".to_owned(), json!(self.state()));
        Value::Object(sums)
    }
}

pub(super) fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A transaction counts unless its source says that it did not go through, or not yet.
pub(super) fn has_gone_through(payment: &Value) -> bool {
    let status = text(payment, "status").to_ascii_lowercase();
    !["failure", "failed", "error", "declined", "pending"].contains(&status.as_str())
}

/// Compact JSON with sorted keys.
fn canonical(value: &Value) -> Vec<u8> {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<&String, Vec<u8>> = members.iter().map(|(k, v)| (k, canonical(v))).collect();
            let mut out = Vec::new();
            let members = sorted.iter().map(|(name, json)| (name.as_str(), json.as_slice()));
            crate::event::write_object(&mut out, members);
            out
        }
        other => other.to_string().into_bytes(),
    }
}

/// Whether a fact may have consequences for its order that the hub has to work out.
pub(super) fn concerns(order: &Entity, fact: &Fact) -> bool {
    let has_items = || LEDGERS.iter().any(|(_, ledger)| order.has_field_from(ledger));
    let has_exceptions = || order.has_field_from("exceptions[");
    fact.kind == "order"
        && !order.is_deleted()
        && name::field(&fact.fields, DELETED_FIELD).is_none()
        && (Life::cancelled_us(order).is_some() || has_items() || has_exceptions())
}
