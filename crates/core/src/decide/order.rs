//! What the hub itself works out of an order: its payments, shipments and returns as ledgers of items, the sums and
//! states that follow from them, exceptions, and tasks for a person. These are fields of the order that the hub owns,
//! said by the system [`HUB`](super::HUB); they follow from the set of items, not from the order of their arrival.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::change::{Change, Field};
use crate::entity::{DELETED_FIELD, Entity};
use crate::entity_id;
use crate::order::{self, LIFECYCLE_FIELD};
use crate::record::Fact;

/// The kinds whose documents are items of an order, and the order's field for them.
const LEDGERS: [(&str, &str); 3] = [("payment", "payments"), ("shipment", "shipments"), ("return", "returns")];

/// The field in which an item names its order.
const ORDER_FIELD: &str = "order";

/// The id of the order of which a change of that kind is an item.
pub(super) fn order_of<'a>(kind: &str, fields: impl IntoIterator<Item = &'a Field>) -> Option<String> {
    LEDGERS.iter().find(|(item, _)| *item == kind)?;
    let field = fields.into_iter().find(|f| f.name == ORDER_FIELD)?;
    let key: String = serde_json::from_slice(&field.json).ok()?;
    crate::change::check_key(&key).is_ok().then(|| entity_id("order", &key))
}

/// The order's key of an item that is folded already.
pub(super) fn order_of_entity(item: &Entity) -> Option<String> {
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
    if order.value(&name) == Some(&json) { Vec::new() } else { vec![Field::new(name, json)] }
}

/// What follows for an order from its items and its life, where it differs from what is there.
pub(super) fn derive(order: &Entity, fact: &Fact, before: Option<&Bytes>, now_us: i64) -> Vec<Field> {
    let mut out = Vec::new();
    let ledger = |name: &str| -> Vec<Value> {
        let prefix = format!("{name}[");
        let items = order.fields.iter().filter(|f| f.name.starts_with(&prefix) && !f.name.ends_with("[]"));
        items.filter_map(|f| serde_json::from_slice(f.value()?).ok()).filter(|v: &Value| !v.is_null()).collect()
    };
    let (payments, shipments, returns) = (ledger("payments"), ledger("shipments"), ledger("returns"));
    let state = |json: Option<&Bytes>| -> Option<String> { json.and_then(|json| serde_json::from_slice(json).ok()) };
    let rank = |state: &Option<String>| {
        let known = |name: &String| order::LIFECYCLE.iter().find(|(state, _)| state == name).map(|(_, rank)| *rank);
        state.as_ref().and_then(known).unwrap_or(i32::MIN)
    };
    let (was, is) = (state(before), state(order.value(LIFECYCLE_FIELD)));
    let cancels = says_cancelled(fact);

    let mut is_rank = rank(&is);
    if !shipments.is_empty() || !returns.is_empty() {
        let cancelled_rest = cancels || order.value("remainder_cancelled").is_some_and(|json| json == "true");
        let (fulfilment, lifecycle) = fulfilment(order, &shipments, &returns, cancelled_rest);
        out.push(("fulfilment".to_owned(), fulfilment));
        is_rank = is_rank.max(rank(&lifecycle.map(str::to_owned)));
        out.extend(lifecycle.map(|lifecycle| (LIFECYCLE_FIELD.to_owned(), json!(lifecycle))));
    }
    if cancels && is.as_deref() == Some("partially_shipped") {
        out.push(("remainder_cancelled".to_owned(), json!(true)));
    }
    let shipped = is_rank >= order::RANK_SHIPPED_IN_PART;
    if cancels && is_rank >= order::RANK_SHIPPED {
        let since_us = order.field(LIFECYCLE_FIELD).and_then(|f| f.winning()).map(|c| c.start.occurred_at_us);
        let later = since_us.is_none_or(|since_us| fact.occurred_at_us >= since_us);
        out.push(exception(if later { "cancel_after_shipment" } else { "shipped_after_cancel" }, fact));
    } else if was.as_deref() == Some("cancelled") && shipped {
        out.push(exception("shipped_after_cancel", fact));
    }
    if !payments.is_empty() {
        let money = Money::of(order, &payments);
        let due = money.refund_due(is.as_deref() == Some("cancelled") && !shipped);
        let expired = money.expired(&payments, now_us) && !shipped;
        out.push(("payment".to_owned(), money.shown()));
        let task = if due > 0 {
            json!({"amount": {"currency": money.currency, "minor": due}, "kind": "refund"})
        } else {
            Value::Null
        };
        if due > 0 || order.value("tasks[refund]").is_some() {
            out.push(("tasks[refund]".to_owned(), task));
        }
        if expired
            || order.field("holds").is_some_and(|f| f.claims.iter().any(|c| order.system(c.system) == super::HUB))
        {
            out.push(("holds".to_owned(), if expired { json!(["payment"]) } else { json!([]) }));
        }
    }
    let own = |name: &str| {
        let claims = &order.field(name)?.claims;
        Some(claims.iter().find(|c| order.system(c.system) == super::HUB)?.json.clone())
    };
    let field = |(name, value): (String, Value)| Field::new(name, canonical(&value));
    out.into_iter().map(field).filter(|f| own(&f.name).as_ref() != Some(&f.json)).collect()
}

/// A change of the hub's own to an order; `None` where there is nothing to say. `position` is the record that it
/// follows: a later one counts more, whatever the time of what it follows from.
pub(super) fn change(order: &Entity, fields: Vec<Field>, position: u64, occurred_at_us: i64) -> Option<Change> {
    let change = Change::new(order.kind.as_str(), order.key.as_str(), position, occurred_at_us, fields);
    // Kind and key are those of an entity, the names are the hub's own: it fails only without a field.
    change.ok()
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
    if advances || fact.occurred_at_us <= claim.start.occurred_at_us {
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

fn exception(name: &str, fact: &Fact) -> (String, Value) {
    let value = json!({"delivery": fact.delivery, "kind": name, "system": fact.system});
    (format!("exceptions[{name}]"), value)
}

/// Counts of units over all lines, the state that follows, and what it says of the order's life.
fn fulfilment(
    order: &Entity,
    shipments: &[Value],
    returns: &[Value],
    cancelled_rest: bool,
) -> (Value, Option<&'static str>) {
    let units = |items: &[Value]| -> BTreeMap<String, i64> {
        let mut by_line = BTreeMap::new();
        for line in items.iter().filter_map(|item| item.get("lines")?.as_array()).flatten() {
            let id = line.get("id").map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
            let quantity = line.get("quantity").and_then(Value::as_i64).unwrap_or(0);
            *by_line.entry(id.unwrap_or_default()).or_insert(0) += quantity;
        }
        by_line
    };
    let lines = order.fields.iter().filter(|f| f.name.starts_with("lines[") && f.name != "lines[]");
    let lines = lines.filter_map(|f| serde_json::from_slice::<Value>(f.value()?).ok());
    let (mut ordered, mut cancelled) = (0, 0);
    for line in lines {
        let count = |name: &str| line.get(name).and_then(Value::as_i64).unwrap_or(0);
        ordered += count("ordered");
        cancelled += count("cancelled");
    }
    let shipped: i64 = units(shipments).values().sum();
    let returned: i64 = units(returns).values().sum();
    if cancelled_rest {
        cancelled = cancelled.max(ordered - shipped);
    }
    let wanted = ordered - cancelled;
    let (state, lifecycle) = match shipped {
        0 => ("unfulfilled", None),
        some if ordered == 0 || some < wanted => ("partial", Some("partially_shipped")),
        // What was cancelled was so after a part had gone: the order stays what it was.
        _ if cancelled_rest => ("fulfilled", Some("partially_shipped")),
        _ => ("fulfilled", Some("shipped")),
    };
    let value = json!({
        "cancelled": cancelled, "ordered": ordered, "returned": returned, "shipped": shipped, "state": state
    });
    (value, lifecycle)
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
                "auth" => money.authorized += minor,
                "capture" => {
                    if money.refunded > 0 && money.refunded >= money.captured {
                        money.captured_late += minor;
                    }
                    money.captured += minor;
                }
                "refund" => money.refunded += minor,
                "chargeback" => money.charged_back += minor,
                "void" => money.ended = Some("voided"),
                "auth_expired" => money.ended = Some("expired"),
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
    fn expired(&self, payments: &[Value], now_us: i64) -> bool {
        let until = |p: &Value| crate::time::rfc3339_us(&text(p, "auth_expires_at"));
        let over = payments.iter().filter(|p| text(p, "kind") == "auth").filter_map(until).max();
        self.captured == 0
            && self.authorized > 0
            && (self.ended == Some("expired") || over.is_some_and(|until_us| until_us <= now_us))
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

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A transaction counts unless its source says that it did not go through, or not yet.
fn has_gone_through(payment: &Value) -> bool {
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
    let has_items = || order.fields.iter().any(|f| LEDGERS.iter().any(|(_, l)| f.name.starts_with(*l)));
    let said = |name: &str| fact.fields.iter().any(|f| f.name == name);
    fact.kind == "order"
        && !order.is_deleted()
        && !said(DELETED_FIELD)
        && (says_cancelled(fact) || has_items() || (said(LIFECYCLE_FIELD) && was_cancelled(order)))
}

fn was_cancelled(order: &Entity) -> bool {
    let claims = order.field(LIFECYCLE_FIELD).map(|f| f.claims.as_slice()).unwrap_or_default();
    claims.iter().any(|c| c.json == "\"cancelled\"") || order.value("cancelled_at").is_some_and(|json| json != "null")
}
