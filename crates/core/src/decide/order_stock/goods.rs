//! What has happened to an order's goods: they left, and some came back. What was moved once is kept in the order's book,
//! so that it is not moved again, whoever tells of it.

use std::collections::BTreeSet;

use compact_str::CompactString;

use super::book::{Moved, add};
use super::clerk::{Clerk, Sums};
use super::said::Parcel;
use crate::decide::HUB;
use crate::stock::{Disposition, Goods, OrderStep, OwnLine, for_order, joined, name_goods};

/// From where goods have left, and of which reservation.
struct Place {
    reservation: String,
    sku: CompactString,
    location: CompactString,
    quantity: i64,
}

impl Clerk<'_> {
    /// What has left by shipments, and what has left as the lifecycle says.
    pub(super) fn ship(&mut self) {
        // The warehouse may tell of goods by itself, and of the shipment after that: they have left once.
        let mut told = self.sums(|line| line.consumed);
        for (sku, quantity) in self.moved() {
            if let Some(left) = told.get_mut(&sku) {
                *left -= quantity;
            }
        }
        let order = self.order;
        for parcel in &order.shipments {
            for (line, quantity) in &parcel.lines {
                let shipped = |id: &str| self.book.shipped.get(id).and_then(|lines| lines.get(line)).copied();
                let known: i64 = order.told_as(parcel).map(|told| told.id.as_str()).filter_map(shipped).sum();
                // Another system has told of it, under another name.
                if known > 0 && shipped(&parcel.id).is_none() {
                    self.book.shipped.entry(parcel.id.clone()).or_default().insert(line.clone(), 0);
                    self.name_gone(line, parcel);
                }
                let mut left = (quantity - known).max(0);
                // What the lifecycle has told of before.
                let early = self.book.shipped.get_mut("").and_then(|lines| lines.get_mut(line));
                if let Some(early) = early.filter(|early| left > 0 && **early > 0) {
                    let same = (*early).min(left);
                    *early -= same;
                    left -= same;
                    add(&mut self.book.shipped, &parcel.id, line, same);
                    self.name_gone(line, parcel);
                }
                self.move_out(&parcel.id, line, left, parcel, &mut told);
            }
        }
        if let Some(lines) = self.book.shipped.get_mut("") {
            lines.retain(|_, quantity| *quantity > 0);
        }
        self.book.shipped.retain(|_, lines| !lines.is_empty());
        if let Some(at_us) = order.left_us {
            let whole = Parcel { at_us, ..Parcel::default() };
            for line in &order.lines {
                let left = line.quantity - self.book.shipped_of(&line.id);
                self.move_out("", &line.id, left, &whole, &mut told);
            }
        }
    }

    /// So much of a line has left.
    fn move_out(&mut self, item: &str, line: &str, quantity: i64, parcel: &Parcel, told: &mut Sums) {
        let order = self.order;
        let Some(sku) = order.line(line).map(|line| line.sku.clone()) else { return };
        if quantity <= 0 || !self.stock.knows(&sku) {
            return;
        }
        let parts = self.stock.takes(&sku);
        let of_part = |(sku, per): &(CompactString, i64)| told.get(sku).copied().unwrap_or(0).max(0) / per;
        let same = parts.iter().map(of_part).min().unwrap_or(0).min(quantity);
        let left = quantity - same;
        for (sku, per) in &parts {
            told.entry(sku.clone()).and_modify(|told| *told -= same.saturating_mul(*per));
        }
        if same > 0 {
            self.name_gone(line, parcel);
        }
        // Of all parcels together, which never becomes less: what the lifecycle has told of goes over to a parcel's name.
        let before = self.book.shipped_of(line);
        let Some(places) = (left > 0).then(|| self.places(&parts, left, &parcel.location)) else {
            return add_some(&mut self.book.shipped, item, line, same);
        };
        // Nobody knows where it lay: then it can't be taken from anywhere, until somebody says so.
        let Some(places) = places else { return add_some(&mut self.book.shipped, item, line, same) };
        for (number, place) in places.into_iter().enumerate() {
            let movement = self.movement("ship", item, line, (before, number));
            let mut goods = self.goods(movement, (place.sku, place.location), place.quantity, parcel.at_us);
            goods.also = order.names(parcel, &place.reservation, (&goods.sku, &goods.location));
            // It can be refused for what it is called; then the first of it is refused.
            let answer = self.ask(&for_order(&order.key, &place.reservation, OrderStep::Shipped(goods)));
            if answer.is_err() && number == 0 {
                return add_some(&mut self.book.shipped, item, line, same);
            }
        }
        add(&mut self.book.shipped, item, line, quantity);
    }

    /// Goods of a parcel had left before it was told of: who tells of them under its name after that tells nothing new.
    fn name_gone(&mut self, line: &str, parcel: &Parcel) {
        let order = self.order;
        let Some(sku) = order.line(line).map(|line| line.sku.clone()).filter(|sku| self.stock.knows(sku)) else {
            return;
        };
        let own = self.own_lines();
        for (sku, _) in self.stock.takes(&sku) {
            let from = |location: &CompactString| {
                if parcel.location.is_empty() { location.clone() } else { parcel.location.clone() }
            };
            let of_sku = own.iter().filter(|line| line.sku == sku);
            let mut places: BTreeSet<_> = of_sku.map(|l| (l.reservation.to_string(), from(&l.location))).collect();
            if places.is_empty() {
                places.insert((self.main_reservation(), parcel.location.clone()));
            }
            for (reservation, location) in places.into_iter().filter(|(_, location)| !location.is_empty()) {
                let names = order.names(parcel, &reservation, (&sku, &location));
                let goods = Goods {
                    also: names,
                    ..self.goods(CompactString::default(), (sku.clone(), location), 0, parcel.at_us)
                };
                self.records.extend(name_goods(self.stock, goods, &reservation, self.now_us));
            }
        }
    }

    /// The order's first reservation, or what it would be called.
    fn main_reservation(&self) -> String {
        self.book.reservations.first().cloned().unwrap_or_else(|| self.order.key.to_string())
    }

    /// From where goods have left, and of which reservation: SKU by SKU; nothing where somewhere is unknown.
    fn places(&self, parts: &[(CompactString, i64)], quantity: i64, location: &CompactString) -> Option<Vec<Place>> {
        let own = self.own_lines();
        let mut places = Vec::new();
        for (sku, per) in parts {
            let mut left = per.checked_mul(quantity)?;
            let mut of_sku: Vec<&OwnLine> = own.iter().filter(|line| line.sku == *sku).collect();
            // What was reserved where it left from, before what was reserved elsewhere.
            of_sku.sort_by_key(|line| line.location != *location);
            for line in of_sku.iter().filter(|line| line.open > 0) {
                let from = if location.is_empty() { &line.location } else { location };
                let part = line.open.min(left);
                if part > 0 && !from.is_empty() {
                    let reservation = line.reservation.to_string();
                    places.push(Place { reservation, sku: sku.clone(), location: from.clone(), quantity: part });
                    left -= part;
                }
            }
            if left > 0 {
                let was = || of_sku.iter().map(|line| &line.location).find(|location| !location.is_empty());
                let from = if location.is_empty() { was()? } else { location };
                let reservation = self.main_reservation();
                places.push(Place { reservation, sku: sku.clone(), location: from.clone(), quantity: left });
            }
        }
        Some(places)
    }

    /// What came back, as far as it had left, by what becomes of it.
    pub(super) fn take_back(&mut self) {
        let order = self.order;
        for parcel in &order.returns {
            let Some(disposition) = parcel.disposition else { continue };
            for (line, quantity) in &parcel.lines {
                let known = self.book.returned.get(&parcel.id).and_then(|lines| lines.get(line)).copied().unwrap_or(0);
                let away = self.book.shipped_of(line) - self.book.returned_of(line);
                let left = (quantity - known).min(away);
                if left > 0 && self.move_in(parcel, disposition, line, (known, left)) {
                    add(&mut self.book.returned, &parcel.id, line, left);
                }
            }
        }
    }

    fn move_in(&mut self, parcel: &Parcel, disposition: Disposition, line: &str, (known, left): (i64, i64)) -> bool {
        let order = self.order;
        let Some(sku) = order.line(line).map(|line| line.sku.clone()) else { return false };
        if !self.stock.knows(&sku) {
            return false;
        }
        let parts = self.stock.takes(&sku);
        let own = self.own_lines();
        let was = |sku: &CompactString| {
            own.iter().find(|line| line.sku == *sku && !line.location.is_empty()).map(|line| line.location.clone())
        };
        let place = |sku: &CompactString| match parcel.location.is_empty() {
            true => was(sku),
            false => Some(parcel.location.clone()),
        };
        let Some(places) = parts.iter().map(|(sku, _)| place(sku)).collect::<Option<Vec<_>>>() else { return false };
        for (number, ((sku, per), location)) in parts.into_iter().zip(places).enumerate() {
            let movement = self.movement("return", &parcel.id, line, (known, number));
            let goods = self.goods(movement, (sku, location), left.saturating_mul(per), parcel.at_us);
            let answer = self.ask(&for_order(&order.key, "", OrderStep::Returned(goods, disposition)));
            if answer.is_err() && number == 0 {
                return false;
            }
        }
        true
    }

    fn goods(
        &self,
        movement: CompactString,
        (sku, location): (CompactString, CompactString),
        quantity: i64,
        at_us: i64,
    ) -> Goods {
        // The hub's own word: a clock that is ahead has been dealt with where the document came in.
        let occurred_at_us = at_us.min(self.now_us);
        Goods { source: HUB.into(), movement, sku, location, quantity, occurred_at_us, also: Vec::new() }
    }

    /// An id of a movement that no other one has.
    fn movement(&self, kind: &str, item: &str, line: &str, (before, number): (i64, usize)) -> CompactString {
        joined(kind, &[&self.order.key, item, line, &before.to_string(), &number.to_string()])
    }

    /// What has left by the order's own account, by SKU.
    pub(super) fn moved(&self) -> Sums {
        let mut moved = Sums::new();
        for line in &self.order.lines {
            let shipped = self.book.shipped_of(&line.id);
            if shipped > 0 {
                for (sku, per) in self.stock.takes(&line.sku) {
                    *moved.entry(sku).or_default() += shipped.saturating_mul(per);
                }
            }
        }
        moved
    }
}

fn add_some(moved: &mut Moved, item: &str, line: &str, quantity: i64) {
    if quantity > 0 {
        add(moved, item, line, quantity);
    }
}
