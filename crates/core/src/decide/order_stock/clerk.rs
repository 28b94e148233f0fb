//! Asks of stock what an order lacks, and gives back what it has no need of, after what has happened to the goods (see
//! [`goods`](super::goods)).

use std::collections::BTreeMap;

use compact_str::CompactString;

use super::book::Book;
use super::said::Said;
use crate::order::{RANK_CANCELLED, RANK_CONFIRMED};
use crate::record::Record;
use crate::rules::OrderPolicy;
use crate::stock::record::ReservationState;
use crate::stock::{Answer, Command, Item, OrderStep, OwnLine, Stock, StockRefusal, decide, for_order};

/// Quantities by SKU.
pub(super) type Sums = BTreeMap<CompactString, i64>;

/// See the module.
pub(super) struct Clerk<'a> {
    pub(super) stock: &'a mut Stock,
    pub(super) order: &'a Said,
    policy: OrderPolicy,
    pub(super) book: Book,
    pub(super) now_us: i64,
    pub(super) records: Vec<Record>,
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

    pub(super) fn ask(&mut self, command: &Command) -> Result<Answer, StockRefusal> {
        let decision = decide(self.stock, command, self.now_us);
        // Also of a refusal: backorders that were due to be served before it.
        self.records.extend(decision.records);
        decision.answer
    }

    pub(super) fn own_lines(&self) -> Vec<OwnLine> {
        self.stock.lines_of(&self.book.reservations, self.now_us)
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

    pub(super) fn sums(&self, part: impl Fn(&OwnLine) -> i64) -> Sums {
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

    /// Gives back what is more than wanted: what waits for supply first, then the newest. What is given back of one of its
    /// reservations may serve another one that waits for supply, so they are looked at anew after each.
    fn give_back(&mut self, wanted: &Sums) {
        let mut refused = 0;
        while refused < 2
            && let Some((id, lines)) = self.next_back(wanted)
        {
            // It is open and has these lines, but where others are served before anything is given back: then not again.
            refused += usize::from(self.ask(&Command::Release { id, lines }).is_err());
        }
    }

    /// What is next to be given back, of one reservation.
    fn next_back(&self, wanted: &Sums) -> Option<(CompactString, Vec<(u32, i64)>)> {
        let mut more = self.sums(|line| line.open);
        for (sku, quantity) in wanted {
            more.entry(sku.clone()).and_modify(|open| *open -= quantity);
        }
        let mut lines = self.own_lines();
        lines.reverse();
        lines.sort_by_key(|line| !line.location.is_empty());
        let mut next: Option<(CompactString, Vec<(u32, i64)>)> = None;
        for line in lines {
            let Some(more) = more.get_mut(&line.sku).filter(|more| **more > 0) else { continue };
            let part = line.open.min(*more);
            if part == 0 {
                continue;
            }
            *more -= part;
            match &mut next {
                None => next = Some((line.reservation, vec![(line.number, part)])),
                Some((id, parts)) if *id == line.reservation => parts.push((line.number, part)),
                Some(_) => {}
            }
        }
        next
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
            // From here on: what comes between this and the end of the batch must not be missed.
            missing.keys().for_each(|sku| self.stock.watch(sku));
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
