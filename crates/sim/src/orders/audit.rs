//! See the module above.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::decide::HUB;
use lockstep_core::record::{Body, Fact, Record};
use lockstep_core::stock::record::{Moved, ReservationFact, StockBody, StockFact};
use lockstep_core::{Event, Field};
use serde_json::Value;

use super::say::POLICY;
use crate::stock::audit::{PROMOTED, StockAudit, line, reservation};
use crate::stock::model::Line;
use crate::violation::{Violation, violated};

/// The ranks of the states that are said, as far as stock is concerned.
const PLACED: i64 = 10;
const CONFIRMED: i64 = 20;
const SHIPPED: i64 = 60;
/// What a document says where goods left although it was cancelled: its lifecycle says where they are.
const AFTER_CANCEL: &str = "shipped_after_cancel";

/// What is known of orders.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Their documents, as published last.
    documents: BTreeMap<String, Value>,
    /// What the hub has moved, by what, order, shipment or return, and line.
    moved: BTreeMap<[String; 4], i64>,
    /// The input at hand.
    open: Option<Open>,
    /// How many decisions about orders were checked, and how many of these found the order short.
    pub checked: u64,
    /// See `checked`.
    pub short: u64,
    /// How often one got its stock when that came.
    pub retried: u64,
}

/// An input about orders whose records are being read.
#[derive(Clone, Debug)]
struct Open {
    now_us: i64,
    orders: BTreeSet<String>,
    /// What was done to stock since the last word about an order.
    group: Vec<(i64, StockFact)>,
    /// It is the hub's own word that stock came, and nothing is said of the order yet.
    is_retry: bool,
}

/// Whether a fact is the hub's own word that stock came for an order.
pub fn is_retry(fact: &Fact) -> bool {
    fact.source == HUB && fact.kind == "order" && fact.delivery.starts_with("stock-came|")
}

/// Where those words begin in a journal: with what was done to stock for the order, which has no origin of its own.
pub fn retries(records: &[(u64, Record)]) -> BTreeSet<u64> {
    let begins = |at: usize| {
        let Some(Body::Fact(fact)) = &records[at].1.body else { return None };
        if !is_retry(fact) || fact.index != 0 {
            return None;
        }
        let before = match &records.get(at.checked_sub(1)?)?.1.body {
            // A decision that has its end here is another one.
            Some(Body::Stock(stock)) if stock.origin.is_none() && stock.index + 1 < stock.of => stock.index as u64 + 1,
            _ => 0,
        };
        Some(records[at].0 - before)
    };
    (0..records.len()).filter_map(begins).collect()
}

impl StockAudit {
    /// Takes a record about an order, a shipment or a return; `document` is what was published of it.
    ///
    /// # Errors
    /// In words, where what was done to stock can't be.
    pub fn order_fact(&mut self, now_us: i64, fact: &Fact, document: Option<Value>) -> Result<(), String> {
        let goes_on = self.orders.open.as_mut().is_some_and(|open| std::mem::take(&mut open.is_retry));
        if fact.index == 0 && !goes_on {
            self.begin_orders(now_us, false)?;
        }
        self.take_group()?;
        if fact.kind == "order" {
            if let Some(open) = &mut self.orders.open {
                open.orders.insert(fact.key.clone());
            }
            self.orders.documents.extend(document.map(|document| (fact.key.clone(), document)));
        }
        Ok(())
    }

    /// The records of an input about orders begin here, or those of the hub's own word that stock came for one.
    pub(crate) fn begin_orders(&mut self, now_us: i64, is_retry: bool) -> Result<(), String> {
        self.end_orders()?;
        self.orders.retried += u64::from(is_retry);
        self.orders.open = Some(Open { now_us, orders: BTreeSet::new(), group: Vec::new(), is_retry });
        Ok(())
    }

    /// Where nothing happens any more, no order is held while its stock is there.
    ///
    /// # Errors
    /// The first that is.
    pub fn quiet(&self, now_us: i64) -> Result<(), Violation> {
        for (order, document) in &self.orders.documents {
            let told = document["stock"]["short"].as_object().into_iter().flatten();
            let short = told.filter_map(|(sku, quantity)| Some((sku.clone(), quantity.as_i64()?)));
            let short: BTreeMap<String, i64> = short.collect();
            let until_us = POLICY.backorder.then_some(i64::MAX);
            let could = || self.model.could_have(&short, "web", (POLICY.allow_split, until_us), now_us);
            if !short.is_empty() && could() {
                let detail = format!("{order} is held for {short:?}, and could have it, with {document}");
                return violated("held", detail);
            }
        }
        Ok(())
    }

    /// Takes a fact that came without a word of where it is from; false where it is of no order.
    pub(crate) fn is_of_orders(&mut self, now_us: i64, fact: &StockFact) -> bool {
        let is_told = matches!(&fact.body, Some(StockBody::Availability(_)));
        let open = self.orders.open.as_mut().filter(|_| fact.origin.is_none() && !is_told);
        open.map(|open| open.group.push((now_us, fact.clone()))).is_some()
    }

    /// What is read from now on is of something else.
    pub(crate) fn end_orders(&mut self) -> Result<(), String> {
        self.take_group()?;
        let Some(open) = self.orders.open.take() else { return Ok(()) };
        open.orders.iter().try_for_each(|order| self.check_order(order, open.now_us))
    }

    /// Lets what was done to stock have its effect.
    fn take_group(&mut self) -> Result<(), String> {
        let group = self.orders.open.as_mut().map(|open| std::mem::take(&mut open.group)).unwrap_or_default();
        let mut last: BTreeMap<String, ReservationFact> = BTreeMap::new();
        for (now_us, fact) in group {
            let Some(body) = &fact.body else { continue };
            if let StockBody::Reservation(of) = body {
                let made: Vec<Line> = of.lines.iter().map(line).collect();
                match fact.event_type.as_str() {
                    PROMOTED => self.model.promoted(&of.id, now_us, |model| reservation(model, of))?,
                    "reservation.held" | "reservation.backordered" => {
                        let until_us = POLICY.backorder.then_some(i64::MAX);
                        self.model.adopt(of, &made, (POLICY.allow_split, until_us), now_us)?;
                    }
                    "reservation.committed" => self.model.commit(&of.id, now_us, &made)?,
                    "reservation.released" => self.model.give_back(&of.id, &made, now_us)?,
                    // With the movement.
                    "reservation.consumed" => {}
                    other => return Err(format!("no order does {other}: {of:?}")),
                }
                last.insert(of.id.clone(), of.clone());
                continue;
            }
            if let StockBody::Moved(of) = body {
                self.model.move_once(of, now_us)?;
                self.orders.note(of)?;
            }
            self.fact(now_us, body)?;
        }
        last.values().try_for_each(|of| reservation(&self.model, of))
    }

    /// An order has what its document says that it needs, or says itself what it lacks.
    fn check_order(&mut self, order: &str, now_us: i64) -> Result<(), String> {
        let Some(document) = self.orders.documents.get(order) else { return Ok(()) };
        let wrong = |detail: String| Err(format!("{order}: {detail}, with {document}"));
        self.orders.checked += 1;
        let rank = rank(document);
        let late = document["exceptions"].as_array().is_some_and(|all| all.iter().any(|e| e["kind"] == AFTER_CANCEL));
        let is_cancelled = late || document["lifecycle"] == "cancelled" || document["remainder_cancelled"] == true;
        let has = self.model.of_owner(order, now_us);
        let booked = |ledger: &str, line: &str| -> i64 {
            let items = document["stock"][ledger].as_object().into_iter().flat_map(|items| items.values());
            items.filter_map(|lines| lines[line].as_i64()).sum()
        };
        let lines = document["lines"].as_array().map_or(&[][..], Vec::as_slice);
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let mut lacks: BTreeMap<String, i64> = BTreeMap::new();
        for line in lines {
            let (id, sku) = (text(line, "id"), text(line, "sku"));
            let ordered = line["ordered"].as_i64().unwrap_or(0) - line["cancelled"].as_i64().unwrap_or(0);
            let sums = has.get(&sku).copied().unwrap_or_default();
            let left = ordered.max(0) - sums.consumed.max(booked("shipped", &id));
            let is_wanted = !is_cancelled && (PLACED..SHIPPED).contains(&rank) && self.model.knows(&sku, now_us);
            let need = if is_wanted { left.max(0) } else { 0 };
            if sums.open > need {
                return wrong(format!("it has {} of {sku} and needs {need}", sums.open));
            }
            // What it was promised for a time, and did not confirm within it, it is not given again.
            let had = sums.open + if rank < CONFIRMED { sums.expired } else { 0 };
            if need > had {
                lacks.insert(sku.clone(), need - had);
            }
            if booked("returned", &id) > booked("shipped", &id) {
                return wrong(format!("more of line {id} came back than had left"));
            }
            has.get(&sku)
                .filter(|sums| rank >= CONFIRMED && sums.held > 0)
                .map_or(Ok(()), |sums| wrong(format!("it is confirmed, and {} of {sku} are only held", sums.held)))?;
        }
        let gone = has.iter().find(|(sku, sums)| sums.open > 0 && !lines.iter().any(|line| line["sku"] == **sku));
        if let Some((sku, sums)) = gone {
            return wrong(format!("it has {} of {sku} and no such line", sums.open));
        }
        let told = |(sku, quantity): (&String, &Value)| Some((sku.clone(), quantity.as_i64()?));
        let short: BTreeMap<String, i64> =
            document["stock"]["short"].as_object().into_iter().flatten().filter_map(told).collect();
        let is_held = document["holds"].as_array().is_some_and(|holds| holds.iter().any(|hold| hold == "stock"));
        if short != lacks || is_held == lacks.is_empty() {
            return wrong(format!("it lacks {lacks:?}"));
        }
        if !lacks.is_empty() {
            self.orders.short += 1;
            let until_us = POLICY.backorder.then_some(i64::MAX);
            if self.model.could_have(&lacks, "web", (POLICY.allow_split, until_us), now_us) {
                return wrong(format!("it lacks {lacks:?}, and could have it"));
            }
        }
        self.orders.parcels(order, document, |sku| self.model.knows(sku, now_us))
    }
}

/// What an event tells of; its shipments and returns by their keys, which the list itself does not have.
pub fn document(event: &Event) -> Value {
    let mut document: Value = serde_json::from_slice(&event.document_json()).unwrap_or_default();
    for list in ["shipments", "returns"] {
        let item = |field: &&Field| {
            let key =
                field.name.strip_prefix(list)?.strip_prefix('[')?.strip_suffix(']').filter(|key| !key.is_empty())?;
            Some((key.to_owned(), serde_json::from_slice(&field.json).ok()?))
        };
        let items: serde_json::Map<String, Value> = event.document().iter().filter_map(item).collect();
        document[list] = Value::Object(items);
    }
    document
}

fn rank(document: &Value) -> i64 {
    match document["lifecycle"].as_str() {
        Some("draft") => 0,
        Some("confirmed") => CONFIRMED,
        Some("released") => 40,
        Some("cancelled") => 45,
        Some("partially_shipped") => 50,
        Some("shipped" | "delivered" | "closed") => SHIPPED,
        _ => PLACED,
    }
}

impl Orders {
    /// Whether the records of an input about orders are being read.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Notes what the hub has moved for an order: `<what>|<order>|<shipment or return>|<line>|...`.
    fn note(&mut self, of: &Moved) -> Result<(), String> {
        let parts: Vec<&str> = of.movement.split('|').collect();
        let [what, order, item, line, ..] = parts[..] else { return Err(format!("nobody moved {of:?}")) };
        let key = [what, order, item, line].map(str::to_owned);
        *self.moved.entry(key).or_default() += of.quantity;
        Ok(())
    }

    /// What was told of each shipment from a place has left, and never more than that.
    fn parcels(&self, order: &str, document: &Value, knows: impl Fn(&str) -> bool) -> Result<(), String> {
        for (list, what, book) in [("shipments", "ship", "shipped"), ("returns", "return", "returned")] {
            for (id, parcel) in document[list].as_object().into_iter().flatten() {
                for line in parcel["lines"].as_array().into_iter().flatten() {
                    let number = line["id"].as_str().unwrap_or_default();
                    let told = line["quantity"].as_i64().unwrap_or(0);
                    let booked = document["stock"][book][id][number].as_i64().unwrap_or(0);
                    let key = [what, order, id.as_str(), number].map(str::to_owned);
                    let moved = self.moved.get(&key).copied().unwrap_or(0);
                    if moved > booked {
                        return Err(format!(
                            "{order}: {moved} of line {number} moved for {id}, of {booked} in {document}"
                        ));
                    }
                    let is_line = |of: &&Value| of["id"] == *number;
                    let line = document["lines"].as_array().into_iter().flatten().find(is_line);
                    let is_there = line.is_some_and(|line| knows(line["sku"].as_str().unwrap_or_default()));
                    if what == "ship" && parcel["location"].is_string() && is_there && booked < told {
                        return Err(format!(
                            "{order}: {booked} of line {number} left by {id}, of {told} in {document}"
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}
