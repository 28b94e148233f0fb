//! Asks of stock what an order lacks, and gives back what it has no need of: first what has happened to the goods, then
//! what is promised.

use std::collections::BTreeMap;

use compact_str::CompactString;

use super::book::{Book, add};
use super::said::{Parcel, Said};
use crate::order::{RANK_CANCELLED, RANK_CONFIRMED};
use crate::record::Record;
use crate::rules::OrderPolicy;
use crate::stock::record::ReservationState;
use crate::stock::{
    Answer, Command, Disposition, Goods, Item, NAME_BYTES_MAX, OrderStep, OwnLine, Stock, StockRefusal, decide,
    for_order,
};

/// Quantities by SKU.
type Sums = BTreeMap<CompactString, i64>;

/// See the module.
pub(super) struct Clerk<'a> {
    stock: &'a mut Stock,
    order: &'a Said,
    policy: OrderPolicy,
    book: Book,
    now_us: i64,
    records: Vec<Record>,
}

impl<'a> Clerk<'a> {
    pub(super) fn new(stock: &'a mut Stock, order: &'a Said, policy: OrderPolicy, book: Book, now_us: i64) -> Self {
        Self { stock, order, policy, book, now_us, records: Vec::new() }
    }

    /// What the order has now, and what was recorded on the way.
    pub(super) fn done(self) -> (Book, Vec<Record>) {
        (self.book, self.records)
    }

    pub(super) fn work(&mut self) {
        // Somebody has reserved for it under its own key: then that is its reservation.
        if self.book.reservations.is_empty() && self.stock.state_of(&self.order.key, self.now_us).is_some() {
            self.book.reservations.push(self.order.key.to_string());
        }
        if self.policy.moves {
            self.ship();
            self.take_back();
        }
        let wanted = self.wanted();
        if !wanted.is_empty() && self.order.rank >= RANK_CONFIRMED {
            self.confirm();
        }
        self.give_back(&wanted);
        self.book.short.clear();
        let missing = self.missing(&wanted);
        if !missing.is_empty() {
            self.reserve(&missing);
        } else if self.order.rank == RANK_CANCELLED && self.book.reservations.is_empty() {
            self.let_go_of_cart();
        }
    }

    fn ask(&mut self, command: &Command) -> Result<Answer, StockRefusal> {
        let decision = decide(self.stock, command, self.now_us);
        // Also of a refusal: backorders that were due to be served before it.
        self.records.extend(decision.records);
        decision.answer
    }

    fn own_lines(&self) -> Vec<OwnLine> {
        self.stock.lines_of(&self.book.reservations, self.now_us)
    }

    /// What has left by shipments, and what has left as the lifecycle says.
    fn ship(&mut self) {
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
                let known = self.book.shipped.get(&parcel.id).and_then(|lines| lines.get(line)).copied().unwrap_or(0);
                let mut left = (quantity - known).max(0);
                // What the lifecycle has told of before.
                let early = self.book.shipped.get_mut("").and_then(|lines| lines.get_mut(line));
                if let Some(early) = early.filter(|early| left > 0 && **early > 0) {
                    let same = (*early).min(left);
                    *early -= same;
                    left -= same;
                    add(&mut self.book.shipped, &parcel.id, line, same);
                }
                self.move_out(&parcel.id, line, left, parcel, &mut told);
            }
        }
        if let Some(lines) = self.book.shipped.get_mut("") {
            lines.retain(|_, quantity| *quantity > 0);
        }
        self.book.shipped.retain(|_, lines| !lines.is_empty());
        if let Some(at_us) = order.left_us {
            let whole = Parcel { id: String::new(), location: "".into(), at_us, lines: Vec::new(), disposition: None };
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
        let before = self.book.shipped.get(item).and_then(|lines| lines.get(line)).copied().unwrap_or(0);
        let Some(places) = (left > 0).then(|| self.places(&parts, left, &parcel.location)) else {
            return add_some(&mut self.book.shipped, item, line, same);
        };
        // Nobody knows where it lay: then it can't be taken from anywhere, until somebody says so.
        let Some(places) = places else { return add_some(&mut self.book.shipped, item, line, same) };
        for (number, (reservation, sku, location, quantity)) in places.into_iter().enumerate() {
            let movement = self.movement("ship", item, line, (before, number));
            let goods = self.goods(movement, sku, location, quantity, parcel.at_us);
            // It can be refused for what it is called; then the first of it is refused.
            let answer = self.ask(&for_order(&order.key, &reservation, OrderStep::Shipped(goods)));
            if answer.is_err() && number == 0 {
                return add_some(&mut self.book.shipped, item, line, same);
            }
        }
        add(&mut self.book.shipped, item, line, quantity);
    }

    /// From where goods have left, and of which reservation: SKU by SKU; nothing where somewhere is unknown.
    #[allow(clippy::type_complexity, reason = "used once, right above")]
    fn places(
        &self,
        parts: &[(CompactString, i64)],
        quantity: i64,
        location: &CompactString,
    ) -> Option<Vec<(String, CompactString, CompactString, i64)>> {
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
                    places.push((line.reservation.to_string(), sku.clone(), from.clone(), part));
                    left -= part;
                }
            }
            if left > 0 {
                let was = || of_sku.iter().map(|line| &line.location).find(|location| !location.is_empty());
                let from = if location.is_empty() { was()? } else { location };
                let reservation = self.book.reservations.first().cloned();
                let reservation = reservation.unwrap_or_else(|| self.order.key.to_string());
                places.push((reservation, sku.clone(), from.clone(), left));
            }
        }
        Some(places)
    }

    /// What came back, as far as it had left, by what becomes of it.
    fn take_back(&mut self) {
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
            let goods = self.goods(movement, sku, location, left.saturating_mul(per), parcel.at_us);
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
        sku: CompactString,
        location: CompactString,
        quantity: i64,
        at_us: i64,
    ) -> Goods {
        // The hub's own word: a clock that is ahead has been dealt with where the document came in.
        let occurred_at_us = at_us.min(self.now_us);
        Goods { source: crate::decide::HUB.into(), movement, sku, location, quantity, occurred_at_us }
    }

    /// An id of a movement that no other one has. What is too long for one is told by its hash.
    fn movement(&self, kind: &str, item: &str, line: &str, (before, number): (i64, usize)) -> CompactString {
        let id = format!("{kind}|{}|{item}|{line}|{before}|{number}", self.order.key);
        if id.len() <= NAME_BYTES_MAX && !id.chars().any(char::is_control) {
            return id.into();
        }
        compact_str::format_compact!("{kind}|{:016x}", crate::payload_hash(id.as_bytes()))
    }

    /// What the order still needs, by SKU.
    fn wanted(&self) -> Sums {
        let mut wanted = Sums::new();
        if !self.order.is_wanted {
            return wanted;
        }
        for line in self.order.lines.iter().filter(|line| self.stock.knows(&line.sku)) {
            for (sku, per) in self.stock.takes(&line.sku) {
                *wanted.entry(sku).or_default() += line.quantity.saturating_mul(per);
            }
        }
        let consumed = self.sums(|line| line.consumed);
        let moved = self.moved();
        let of = |sums: &Sums, sku: &CompactString| sums.get(sku).copied().unwrap_or(0);
        for (sku, quantity) in &mut wanted {
            *quantity -= of(&consumed, sku).max(of(&moved, sku));
        }
        wanted.retain(|_, quantity| *quantity > 0);
        wanted
    }

    /// What has left by the order's own account, by SKU.
    fn moved(&self) -> Sums {
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

    fn sums(&self, part: impl Fn(&OwnLine) -> i64) -> Sums {
        let mut sums = Sums::new();
        for line in self.own_lines() {
            *sums.entry(line.sku.clone()).or_default() += part(&line);
        }
        sums
    }

    /// What is only held lasts from now on; what had run out is reserved again, where that can be.
    fn confirm(&mut self) {
        for id in self.book.reservations.clone() {
            let state = self.stock.state_of(&id, self.now_us);
            if matches!(state, Some(ReservationState::Held | ReservationState::Expired)) {
                // Where there is not enough any more, it is missing, and is asked for below.
                let _ = self.ask(&for_order(&self.order.key, &id, OrderStep::Confirmed));
            }
        }
    }

    /// Gives back what is more than wanted: what waits for supply first, then the newest.
    fn give_back(&mut self, wanted: &Sums) {
        let mut more = self.sums(|line| line.open);
        for (sku, quantity) in wanted {
            more.entry(sku.clone()).and_modify(|open| *open -= quantity);
        }
        let mut lines = self.own_lines();
        lines.reverse();
        lines.sort_by_key(|line| !line.location.is_empty());
        let mut back: BTreeMap<CompactString, Vec<(u32, i64)>> = BTreeMap::new();
        for line in lines {
            let Some(more) = more.get_mut(&line.sku).filter(|more| **more > 0) else { continue };
            let part = line.open.min(*more);
            if part > 0 {
                *more -= part;
                back.entry(line.reservation).or_default().push((line.number, part));
            }
        }
        for (id, lines) in back {
            // It is open, and has these lines: there is nothing to refuse.
            let _ = self.ask(&Command::Release { id, lines });
        }
    }

    /// What the order needs and does not have. What it was promised for a time only, and did not confirm within it, it is
    /// not given again for saying the same once more.
    fn missing(&self, wanted: &Sums) -> Sums {
        let is_confirmed = self.order.rank >= RANK_CONFIRMED;
        let has = self.sums(|line| line.open + if is_confirmed { 0 } else { line.expired });
        let missing = wanted.iter().map(|(sku, wanted)| (sku.clone(), wanted - has.get(sku).copied().unwrap_or(0)));
        missing.filter(|(_, missing)| *missing > 0).collect()
    }

    fn reserve(&mut self, missing: &Sums) {
        let order = self.order;
        let is_first = self.book.reservations.is_empty();
        let whole = || {
            let known = order.lines.iter().filter(|line| line.quantity > 0 && self.stock.knows(&line.sku));
            known.map(|line| Item { sku: line.sku.clone(), quantity: line.quantity, location: None }).collect()
        };
        let rest = || {
            let item = |(sku, quantity): (&CompactString, &i64)| (sku.clone(), *quantity);
            missing.iter().map(item).map(|(sku, quantity)| Item { sku, quantity, location: None }).collect()
        };
        let items: Vec<Item> = if is_first && self.book.shipped.is_empty() { whole() } else { rest() };
        let is_open = |id: &&CompactString| {
            let state = self.stock.state_of(id, self.now_us);
            matches!(state, Some(ReservationState::Held | ReservationState::Committed))
        };
        let id = Book::name(&order.key, self.book.reservations.len());
        let placed = OrderStep::Placed {
            channel: order.channel.as_str().into(),
            items,
            cart: order.cart.as_ref().filter(|_| is_first).filter(is_open).cloned(),
            expires_at_us: self.now_us.saturating_add(self.policy.hold_us),
            allow_split: self.policy.allow_split,
            backorder_until_us: self.policy.backorder.then_some(i64::MAX),
        };
        if self.ask(&for_order(&order.key, &id, placed)).is_err() {
            let short = missing.iter().map(|(sku, quantity)| (sku.to_string(), *quantity));
            self.book.short = short.collect();
            return;
        }
        if order.rank >= RANK_CONFIRMED {
            // It is held, and has just been so: it can be committed.
            let _ = self.ask(&for_order(&order.key, &id, OrderStep::Confirmed));
        }
        self.book.reservations.push(id);
    }

    /// An order that is cancelled before it has got anything: its cart has no need of the goods either.
    fn let_go_of_cart(&mut self) {
        let Some(cart) = &self.order.cart else { return };
        let state = self.stock.state_of(cart, self.now_us);
        if matches!(state, Some(ReservationState::Held | ReservationState::Committed)) {
            // It is open: it can be given back.
            let _ = self.ask(&for_order(&self.order.key, cart, OrderStep::Cancelled));
        }
    }
}

fn add_some(moved: &mut super::book::Moved, item: &str, line: &str, quantity: i64) {
    if quantity > 0 {
        add(moved, item, line, quantity);
    }
}
