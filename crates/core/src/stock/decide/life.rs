//! The life of a reservation after it was made. Repeating what ended it gives the first answer; another end is a
//! conflict. A hold whose time is over is expired, whether that is written down or not.

use std::cmp::Reverse;

use super::plan::Plan;
use super::{Answered, Desk, conflict};
use crate::stock::command::{Answer, Shortfall, StockRefusal};
use crate::stock::record::{LineFact, ReservationFact, ReservationState, StockBody};
use crate::stock::state::{LineRef, NONE, Reservation, Turn};
use crate::stock::validate::invalid;
use compact_str::CompactString;

impl Desk<'_> {
    pub(super) fn commit(&mut self, id: &CompactString) -> Answered {
        let (slot, reservation) = self.find(id)?;
        match reservation.state_at(self.now_us) {
            ReservationState::Committed => return self.told(id, true),
            ReservationState::Consumed if reservation.committed => return self.told(id, true),
            ReservationState::Held => {}
            ReservationState::Expired => return self.commit_expired(slot),
            _ => return conflict(reservation, self.now_us, "committed"),
        }
        let mut fact = self.fact_of(reservation);
        fact.lines.extend(self.open_lines(reservation));
        fact.state = ReservationState::Committed as i32;
        fact.committed = true;
        self.record("reservation.committed", StockBody::Reservation(fact));
        self.told(id, false)
    }

    /// A hold that is over is reserved again at once, where it was or elsewhere, or there is a conflict.
    fn commit_expired(&mut self, slot: u32) -> Answered {
        let Some(reservation) = self.stock.reservation(slot) else { return Ok(Answer::Repeated) };
        let mut plan = Plan { channel: reservation.channel, backorder_until_us: Some(i64::MAX), ..Plan::default() };
        let mut fact = self.fact_of(reservation);
        for (number, line) in reservation.lines.iter().enumerate() {
            let mut ended = self.stock.line_fact(reservation, number);
            ended.expired += ended.open;
            ended.open = 0;
            let wanted = ended.expired;
            fact.lines.push(ended);
            if wanted == 0 {
                continue;
            }
            let filled = if line.location == NONE {
                plan.fill(self.stock, line.item, line.sku, wanted, None, plan.backorder_until_us)
            } else {
                let there = plan.fill(self.stock, line.item, line.sku, wanted, Some(line.location), None);
                there || plan.fill(self.stock, line.item, line.sku, wanted, None, None)
            };
            if !filled {
                let available = plan.most(self.stock, line.sku, None).min(wanted);
                let sku = self.stock.sku_names.name(line.sku).into();
                plan.shortfalls.push(Shortfall { item: line.item, sku, requested: wanted, available });
            }
        }
        if !plan.shortfalls.is_empty() {
            return Err(StockRefusal::Short(plan.shortfalls));
        }
        let first = fact.lines.len() as u32;
        let lines: Vec<LineFact> = (first..).zip(&plan.lines).map(|(at, line)| self.new_line(at, line)).collect();
        let id = reservation.id.clone();
        fact.lines.extend(lines.iter().cloned());
        fact.state = ReservationState::Committed as i32;
        fact.committed = true;
        // It has lost its turn.
        fact.promised_at_us = self.now_us;
        self.record("reservation.committed", StockBody::Reservation(fact));
        let answer = self.told(&id, false);
        answer.map(|answer| match answer {
            Answer::Reservation { state, shortfalls, repeated, .. } => {
                Answer::Reservation { state, lines, shortfalls, repeated }
            }
            other => other,
        })
    }

    pub(super) fn release(&mut self, id: &CompactString, lines: &[(u32, i64)]) -> Answered {
        let (slot, reservation) = self.find(id)?;
        match reservation.state_at(self.now_us) {
            ReservationState::Held | ReservationState::Committed => {}
            ReservationState::Released => return self.told(id, true),
            _ => return conflict(reservation, self.now_us, "released"),
        }
        if lines.is_empty() {
            self.give_back(slot);
        } else {
            let mut fact = self.fact_of(reservation);
            let mut after: Vec<LineFact> = self.all_lines(reservation);
            for (number, quantity) in lines {
                let Some(line) = after.get_mut(*number as usize) else {
                    return invalid("lines.line", format!("must be one of the {} lines", after.len()));
                };
                if *quantity > line.open {
                    return invalid("lines.quantity", format!("must be at most the {} that are open", line.open));
                }
                line.open -= quantity;
                line.released += quantity;
            }
            if after.iter().all(|line| line.open == 0) {
                fact.state = ReservationState::Released as i32;
            }
            after.retain(|line| lines.iter().any(|(number, _)| *number == line.line));
            fact.lines = after;
            self.record("reservation.released", StockBody::Reservation(fact));
        }
        self.stock.skus_of(slot).into_iter().for_each(|sku| self.settle(sku));
        self.told(id, false)
    }

    /// Releases all that is open.
    pub(super) fn give_back(&mut self, slot: u32) {
        let Some(reservation) = self.stock.reservation(slot) else { return };
        let mut fact = self.fact_of(reservation);
        fact.lines =
            self.open_lines(reservation).map(|l| LineFact { released: l.released + l.open, open: 0, ..l }).collect();
        fact.state = ReservationState::Released as i32;
        self.record("reservation.released", StockBody::Reservation(fact));
    }

    pub(super) fn extend(&mut self, id: &CompactString, expires_at_us: i64) -> Answered {
        self.ends_well(expires_at_us)?;
        let (_, reservation) = self.find(id)?;
        if reservation.state_at(self.now_us) != ReservationState::Held {
            return conflict(reservation, self.now_us, "extended");
        }
        if reservation.expires_at_us == expires_at_us {
            return self.told(id, true);
        }
        let fact = ReservationFact { expires_at_us, ..self.fact_of(reservation) };
        self.record("reservation.extended", StockBody::Reservation(fact));
        self.told(id, false)
    }

    pub(super) fn transfer(&mut self, id: &CompactString, number: u32, to: &CompactString, quantity: i64) -> Answered {
        let (_, reservation) = self.find(id)?;
        if !matches!(reservation.state_at(self.now_us), ReservationState::Held | ReservationState::Committed) {
            return conflict(reservation, self.now_us, "transferred");
        }
        let Some(line) = reservation.lines.get(number as usize).copied() else {
            return invalid("line", format!("must be one of the {} lines", reservation.lines.len()));
        };
        if line.location == NONE {
            return invalid("line", "is backordered: it has no location to leave");
        }
        if quantity > line.open {
            return invalid("quantity", format!("must be at most the {} that are open", line.open));
        }
        let target = self.stock.locations.find(to);
        if target.is_none() {
            return invalid("location", format!("must be one where something lies, not `{to}`"));
        }
        if target == Some(line.location) {
            return invalid("location", "must be another than the line's own");
        }
        let channel = reservation.channel;
        let found = target.and_then(|to| self.stock.places(line.sku, channel, &[], Some(to)).first().copied());
        let usable = found.map_or(0, |(_, usable)| usable);
        if usable < quantity {
            let sku = self.stock.sku_names.name(line.sku).into();
            let short = Shortfall { item: line.item, sku, requested: quantity, available: usable };
            return Err(StockRefusal::Short(vec![short]));
        }
        let (slot, reservation) = self.find(id)?;
        let mut fact = self.fact_of(reservation);
        fact.lines = self.moved_lines(reservation, number, target.unwrap_or(NONE), quantity);
        self.record("reservation.transferred", StockBody::Reservation(fact));
        self.stock.skus_of(slot).into_iter().for_each(|sku| self.promote(sku));
        self.told(id, false)
    }

    /// A part of a line goes to a location: to the line that the reservation has there, or to a new one.
    pub(super) fn moved_lines(&self, reservation: &Reservation, from: u32, to: u32, quantity: i64) -> Vec<LineFact> {
        let mut left = self.stock.line_fact(reservation, from as usize);
        left.open -= quantity;
        left.released += quantity;
        let is_it = |line: &&crate::stock::state::Line| {
            (line.item, line.location, line.acknowledged_at_us) == (left.item, to, 0)
                && self.stock.sku_names.name(line.sku) == left.sku
        };
        let there = reservation.lines.iter().position(|line| is_it(&line));
        let mut next = self.stock.line_fact(reservation, there.unwrap_or(usize::MAX));
        if there.is_none() {
            next.line = reservation.lines.len() as u32;
            next.item = left.item;
            next.sku.clone_from(&left.sku);
            next.location = self.stock.locations.name(to).to_owned();
        }
        next.quantity += quantity;
        next.open += quantity;
        vec![left, next]
    }

    /// Writes down what has expired, the earliest first.
    pub(super) fn expire(&mut self, limit: usize) -> Answered {
        let mut count = 0;
        let mut concerned = super::reserve::Concerned::new();
        while count < limit
            && let Some(Reverse((at_us, slot))) = self.stock.due.peek().copied()
            && at_us <= self.now_us
        {
            self.stock.due.pop();
            let over = |r: &&Reservation| r.state == ReservationState::Held && r.expires_at_us <= self.now_us;
            let Some(reservation) = self.stock.reservation(slot).filter(over) else { continue };
            let mut fact = self.fact_of(reservation);
            fact.lines =
                self.open_lines(reservation).map(|l| LineFact { expired: l.expired + l.open, open: 0, ..l }).collect();
            fact.state = ReservationState::Expired as i32;
            self.record("reservation.expired", StockBody::Reservation(fact));
            concerned.extend(self.stock.skus_of(slot));
            count += 1;
        }
        concerned.sort_by_key(|sku| self.stock.sku_names.name(*sku));
        concerned.dedup();
        concerned.into_iter().for_each(|sku| self.settle(sku));
        Ok(Answer::Expired(count))
    }

    /// Serves a SKU's backorders with what is free: the highest priority first, then who was promised first. It is
    /// served in part too, so that nothing that is free is left to a new sale.
    pub(super) fn promote(&mut self, sku: u32) {
        while self.stock.skus[sku as usize].is_backordered() {
            let rare = self.stock.skus[sku as usize].rare.iter();
            let mut first: Option<(&Turn, LineRef, (u32, i64))> = None;
            for of in rare.flat_map(|rare| &rare.backorders) {
                let Some((turn, line)) = of.queue.first_key_value() else { continue };
                if first.as_ref().is_some_and(|(other, ..)| *other < turn) {
                    continue;
                }
                if let Some(place) = self.stock.places(sku, of.channel, &[], None).first() {
                    first = Some((turn, *line, *place));
                }
            }
            let Some((_, of, (location, usable))) = first else { return };
            let Some(reservation) = self.stock.reservation(of.slot) else { return };
            let Some(line) = reservation.lines.get(of.line as usize) else { return };
            let mut fact = self.fact_of(reservation);
            fact.lines = self.moved_lines(reservation, of.line, location, usable.min(line.open));
            self.record("reservation.promoted", StockBody::Reservation(fact));
        }
    }

    pub(super) fn acknowledge(&mut self, id: &CompactString, location: &str, at_us: i64) -> Answered {
        if let Some(reason) = self.ahead("acknowledged_at", at_us) {
            return Ok(Answer::Quarantined(reason));
        }
        let (_, reservation) = self.find(id)?;
        if !matches!(reservation.state_at(self.now_us), ReservationState::Held | ReservationState::Committed) {
            return conflict(reservation, self.now_us, "acknowledged");
        }
        let is_meant = |l: &LineFact| l.acknowledged_at_us == 0 && !l.location.is_empty();
        let meant =
            self.open_lines(reservation).filter(|l| is_meant(l) && (location.is_empty() || l.location == location));
        let lines: Vec<LineFact> = meant.map(|l| LineFact { acknowledged_at_us: at_us, ..l }).collect();
        if lines.is_empty() {
            return self.told(id, true);
        }
        let fact = ReservationFact { lines: lines.clone(), ..self.fact_of(reservation) };
        // It is no step of the reservation's life: nobody is told.
        self.record("", StockBody::Reservation(fact));
        lines.iter().try_for_each(|line| self.add_back(line))?;
        self.told(id, false)
    }

    pub(super) fn all_lines(&self, reservation: &Reservation) -> Vec<LineFact> {
        (0..reservation.lines.len()).map(|at| self.stock.line_fact(reservation, at)).collect()
    }

    fn open_lines<'a>(&'a self, reservation: &'a Reservation) -> impl Iterator<Item = LineFact> + 'a {
        let open = reservation.lines.iter().enumerate().filter(|(_, line)| line.open > 0);
        open.map(|(at, _)| self.stock.line_fact(reservation, at))
    }
}
