//! What is published of stock, in the form of every other event: a kind, a key and a whole document.

use bytes::Bytes;
use serde_json::{Value, json};

use super::record::{
    AvailabilityChanged, CountBasis, Counted, LineFact, Moved, MovementKind, ReservationFact, ReservationState,
    ShortageDetected, StockBody, StockFact, UnavailableSet,
};
use super::{ReservationView, Stock};
use crate::Position;
use crate::change::Field;
use crate::decide::HUB;
use crate::name;
use crate::record::{Fact, FactOutcome};
use crate::time::rfc3339;

/// The kind of events about a SKU at a location, `stock/<sku>@<location>`.
pub const STOCK_KIND: &str = "stock";
/// The kind of events about a reservation, `reservation/<id>`.
pub const RESERVATION_KIND: &str = "reservation";
/// The kind of events about what a channel may sell, `availability/<sku>@<channel>`.
pub const AVAILABILITY_KIND: &str = "availability";

/// The kinds of which the ledger alone publishes.
pub const LEDGER_KINDS: [&str; 2] = [RESERVATION_KIND, AVAILABILITY_KIND];

/// The types of all events that the ledger publishes.
pub const EVENT_TYPES: [&str; 16] = [
    "reservation.backordered",
    "reservation.committed",
    "reservation.consumed",
    "reservation.expired",
    "reservation.extended",
    "reservation.held",
    "reservation.promoted",
    "reservation.released",
    "reservation.transferred",
    "stock.adjusted",
    "stock.availability_changed",
    "stock.counted",
    "stock.received",
    "stock.returned",
    "stock.shipped",
    "stock.shortage_detected",
];

/// The name of a reservation's state.
pub fn state_name(state: ReservationState) -> &'static str {
    match state {
        ReservationState::Unspecified => "unspecified",
        ReservationState::Held => "held",
        ReservationState::Committed => "committed",
        ReservationState::Consumed => "consumed",
        ReservationState::Released => "released",
        ReservationState::Expired => "expired",
    }
}

/// The event of a record of stock; nothing where it published none. Its version is its position: there is one count of
/// all stock.
pub fn event_fact(position: Position, recorded_at_us: i64, stock: &StockFact) -> Option<Fact> {
    if stock.event_type.is_empty() {
        return None;
    }
    let at = |sku: &str, place: &str| format!("{sku}@{place}");
    let body = stock.body.as_ref()?;
    let (kind, key, occurred_at_us) = match body {
        StockBody::Reservation(fact) => {
            let at_us = if fact.occurred_at_us == 0 { recorded_at_us } else { fact.occurred_at_us };
            (RESERVATION_KIND, fact.id.clone(), at_us)
        }
        StockBody::Counted(fact) => (STOCK_KIND, at(&fact.sku, &fact.location), fact.as_of_us),
        StockBody::Moved(fact) => (STOCK_KIND, at(&fact.sku, &fact.location), fact.occurred_at_us),
        StockBody::Unavailable(fact) => (STOCK_KIND, at(&fact.sku, &fact.location), fact.as_of_us),
        StockBody::Safety(fact) => (STOCK_KIND, at(&fact.sku, &fact.location), recorded_at_us),
        StockBody::Shortage(fact) => (STOCK_KIND, at(&fact.sku, &fact.location), recorded_at_us),
        StockBody::Availability(fact) => (AVAILABILITY_KIND, at(&fact.sku, &fact.channel), recorded_at_us),
        StockBody::Policy(_) | StockBody::Sku(_) | StockBody::Supply(_) => return None,
    };
    let origin = stock.origin.as_deref();
    let fields = fields(ledger_document(body));
    Some(Fact {
        // What follows from a system's word is the hub's own.
        source: origin.map_or(HUB, |o| &o.source).to_owned(),
        system: origin.map_or(HUB, |o| &o.system).to_owned(),
        delivery: origin.map_or("", |o| &o.delivery).to_owned(),
        payload_hash: origin.map_or(0, |o| o.payload_hash),
        index: stock.index,
        of: stock.of,
        kind: kind.to_owned(),
        key,
        occurred_at_us,
        outcome: FactOutcome::Applied as i32,
        version: position,
        event_type: stock.event_type.clone(),
        changed: (0..fields.len() as u32).collect(),
        fields,
        trace: origin.map_or("", |o| &o.trace).to_owned(),
        received_at_us: origin.map_or(recorded_at_us, |o| o.received_at_us),
        ..Fact::default()
    })
}

/// What a record of stock says, as a document: of an event the same as is published.
pub fn ledger_document(body: &StockBody) -> Value {
    match body {
        StockBody::Reservation(fact) => reservation(fact),
        StockBody::Counted(fact) => counted(fact),
        StockBody::Moved(fact) => moved(fact),
        StockBody::Unavailable(fact) => unavailable(fact),
        StockBody::Safety(fact) => {
            json!({"sku": fact.sku, "location": fact.location, "safety_stock": fact.quantity})
        }
        StockBody::Shortage(fact) => shortage(fact),
        StockBody::Availability(fact) => availability(fact),
        StockBody::Supply(fact) => json!({
            "supply": fact.supply, "sku": fact.sku, "location": fact.location, "open": fact.open,
            "eta": rfc3339(fact.eta_us),
        }),
        StockBody::Policy(fact) => json!({"channel": fact.channel, "sku": fact.sku, "location": fact.location}),
        StockBody::Sku(fact) => json!({"sku": fact.sku, "qty_scale": fact.scale}),
    }
}

/// Whether an event of the ledger says what stands: what was last told of a SKU to a channel, or what a reservation is now, as
/// far as the event speaks of it. `None` for what says that something happened, which stays true.
pub fn still_stands(stock: &Stock, reservation: Option<&ReservationView>, fact: &Fact) -> Option<bool> {
    let said = |name: &str| {
        let field = name::field(&fact.fields, name)?;
        serde_json::from_slice::<Value>(&field.json).ok().filter(|value| !value.is_null())
    };
    let text = |name: &str| said(name).and_then(|value| value.as_str().map(str::to_owned));
    match fact.kind.as_str() {
        AVAILABILITY_KIND => {
            let told = stock.last_told(&text("sku")?, &text("channel")?);
            Some(said("available").and_then(|available| available.as_i64()) == told)
        }
        RESERVATION_KIND => {
            let state = text("state");
            let Some(now) = reservation else {
                // It is over, and nothing more is kept of it: how it ended was the last that was said.
                let ends = [ReservationState::Consumed, ReservationState::Released, ReservationState::Expired];
                return Some(ends.map(state_name).iter().any(|end| state.as_deref() == Some(end)));
            };
            let expires_at = (now.state == ReservationState::Held).then(|| rfc3339(now.expires_at_us));
            let same = state.as_deref() == Some(state_name(now.state)) && text("expires_at") == expires_at;
            // It speaks of the lines that it has changed.
            let lines: Vec<Value> = now.lines.iter().map(line).collect();
            let spoken_of = said("lines").and_then(|lines| lines.as_array().cloned()).unwrap_or_default();
            Some(same && spoken_of.iter().all(|line| lines.contains(line)))
        }
        _ => None,
    }
}

/// Sorted by name, as a fact's fields are.
fn fields(document: Value) -> Vec<Field> {
    let Value::Object(document) = document else { return Vec::new() };
    let mut fields: Vec<Field> =
        document.into_iter().map(|(name, value)| Field::new(name, Bytes::from(value.to_string()))).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    fields
}

fn reservation(fact: &ReservationFact) -> Value {
    let held = fact.state() == ReservationState::Held;
    json!({
        "id": fact.id,
        "owner": fact.owner,
        "channel": fact.channel,
        "state": state_name(fact.state()),
        "expires_at": held.then(|| rfc3339(fact.expires_at_us)),
        "promised_at": rfc3339(fact.promised_at_us),
        "lines": fact.lines.iter().map(line).collect::<Vec<_>>(),
    })
}

fn line(line: &LineFact) -> Value {
    let is_backordered = line.location.is_empty();
    json!({
        "line": line.line,
        "item": line.item,
        "sku": line.sku,
        "location": (!is_backordered).then_some(&line.location),
        "quantity": line.quantity,
        "open": line.open,
        "consumed": line.consumed,
        "released": line.released,
        "expired": line.expired,
    })
}

fn counted(fact: &Counted) -> Value {
    let basis = if fact.basis() == CountBasis::Available { "available" } else { "on_hand" };
    let mut document = json!({
        "sku": fact.sku,
        "location": fact.location,
        "counted": fact.quantity,
        "basis": basis,
        "counted_at": rfc3339(fact.as_of_us),
        "on_hand": fact.on_hand,
        "by": fact.source,
    });
    if fact.unusual {
        document["unusual"] = json!(true);
    }
    document
}

fn moved(fact: &Moved) -> Value {
    let kind = match fact.kind() {
        MovementKind::Unspecified | MovementKind::Adjust => "adjust",
        MovementKind::Receipt => "receipt",
        MovementKind::Ship => "ship",
        MovementKind::ReturnRestock => "return_restock",
        MovementKind::ReturnDamaged => "return_damaged",
        MovementKind::ReturnLost => "return_lost",
    };
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    json!({
        "sku": fact.sku,
        "location": fact.location,
        "movement": some(&fact.movement),
        "kind": kind,
        "quantity": fact.quantity,
        "moved_at": rfc3339(fact.occurred_at_us),
        "on_hand": fact.on_hand,
        "on_hand_change": fact.on_hand_change,
        "late": fact.late,
        "reservation": some(&fact.reservation),
        "unreserved": fact.unreserved,
        "supply": some(&fact.supply),
        "by": fact.source,
    })
}

fn unavailable(fact: &UnavailableSet) -> Value {
    json!({
        "sku": fact.sku,
        "location": fact.location,
        "unavailable": {
            "damaged": fact.damaged, "quality_control": fact.quality_control, "blocked": fact.blocked,
        },
        "unavailable_at": rfc3339(fact.as_of_us),
    })
}

fn shortage(fact: &ShortageDetected) -> Value {
    let propose = fact.propose.iter().map(|of| {
        json!({
            "reservation": of.reservation, "line": of.line, "quantity": of.quantity, "committed": of.committed,
        })
    });
    json!({
        "sku": fact.sku,
        "location": fact.location,
        "shortage": fact.shortage,
        "before": fact.before,
        "propose": propose.collect::<Vec<_>>(),
    })
}

fn availability(fact: &AvailabilityChanged) -> Value {
    json!({
        "sku": fact.sku,
        "channel": fact.channel,
        "available": fact.atp,
        "before": fact.before,
        "as_of": fact.as_of_us.map(rfc3339),
    })
}
