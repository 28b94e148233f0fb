//! Reserving: all or nothing, unless a part is allowed. The customer's own hold is left out, and replaced.

use std::hash::Hasher;

use compact_str::CompactString;
use smallvec::SmallVec;

use super::plan::{Plan, Planned};
use super::{Answered, Desk, conflict};
use crate::stock::available::Taken;
use crate::stock::command::{Answer, Reserve, StockRefusal};
use crate::stock::record::{LineFact, ReservationFact, ReservationState, StockBody};
use crate::stock::state::{NONE, Reservation, Stock};
use crate::stock::validate::{LINES_MAX, invalid};

/// SKUs that a command concerns.
pub(super) type Concerned = SmallVec<[u32; 4]>;

impl Desk<'_> {
    pub(super) fn reserve(&mut self, command: &Reserve) -> Answered {
        if !command.is_order {
            self.ends_well(command.expires_at_us)?;
        } else if command.expires_at_us <= self.now_us {
            return invalid("expires_at", "must be later than now");
        }
        let hash = request_hash(command);
        let mut own = None;
        if let Some(slot) = self.stock.slot(&command.id)
            && let Some(known) = self.stock.reservation(slot)
        {
            if known.owner != command.owner {
                return conflict(known, self.now_us, "taken over by another owner");
            }
            let repeats = known.request_hash == hash;
            match known.state_at(self.now_us) {
                ReservationState::Held | ReservationState::Committed | ReservationState::Consumed if repeats => {
                    return Ok(self.allocated(known));
                }
                ReservationState::Expired => {}
                ReservationState::Held if known.lines.iter().all(|line| line.consumed == 0) => own = Some(slot),
                _ => return conflict(known, self.now_us, "reserved anew"),
            }
        }
        let mut others = None;
        if let Some(id) = command.replaces.as_ref().filter(|id| **id != command.id)
            && let Some(slot) = self.stock.slot(id)
            && let Some(other) = self.stock.reservation(slot)
        {
            match other.state_at(self.now_us) {
                ReservationState::Held => others = Some(slot),
                ReservationState::Committed if command.is_order => others = Some(slot),
                ReservationState::Expired | ReservationState::Released => {}
                _ => return conflict(other, self.now_us, "replaced"),
            }
        }
        self.names_are_known(command)?;
        let concerned = self.concerned(command, own.into_iter().chain(others));
        concerned.iter().for_each(|sku| self.settle(*sku));

        let channel = self.stock.channel_names.find(&command.channel).unwrap_or(NONE);
        let mut plan = Plan {
            channel,
            allow_partial: command.allow_partial,
            allow_split: command.allow_split,
            backorder_until_us: command.backorder_until_us,
            ..Plan::default()
        };
        for slot in own.into_iter().chain(others) {
            plan.taken.extend(self.stock.given_back(slot));
        }
        for (number, item) in (0..).zip(&command.items) {
            plan.item(self.stock, number, item);
        }
        if plan.lines.is_empty() || (!command.allow_partial && !plan.shortfalls.is_empty()) {
            return Err(StockRefusal::Short(plan.shortfalls));
        }
        if plan.lines.len() > LINES_MAX {
            return invalid("items", format!("need more than the {LINES_MAX} lines that a reservation may have"));
        }
        if let Some(slot) = others {
            self.give_back(slot);
        }
        let lines: Vec<LineFact> = (0..).zip(&plan.lines).map(|(at, line)| self.new_line(at, line)).collect();
        let all_backordered = plan.lines.iter().all(|line| line.location == NONE);
        let fact = ReservationFact {
            id: command.id.to_string(),
            owner: command.owner.to_string(),
            channel: command.channel.to_string(),
            state: ReservationState::Held as i32,
            expires_at_us: command.expires_at_us,
            promised_at_us: self.now_us,
            priority: plan.lines.iter().map(|line| self.stock.priority(line.sku, channel)).max().unwrap_or(0),
            request_hash: hash,
            committed: false,
            lines: lines.clone(),
            fresh: true,
            occurred_at_us: self.now_us,
        };
        let event = if all_backordered { "reservation.backordered" } else { "reservation.held" };
        self.record(event, StockBody::Reservation(fact));
        if own.is_some() || others.is_some() {
            // What the own hold had and the new one has not goes to whom it was promised.
            concerned.iter().for_each(|sku| self.promote(*sku));
        }
        let state = ReservationState::Held;
        Ok(Answer::Reservation { state, lines, shortfalls: plan.shortfalls, repeated: false })
    }

    /// A hold ends in time, and not at once.
    pub(super) fn ends_well(&self, expires_at_us: i64) -> Result<(), StockRefusal> {
        let longest_us = self.stock.limits.hold_max_us;
        if expires_at_us <= self.now_us {
            return invalid("expires_at", "must be later than now");
        }
        if expires_at_us.saturating_sub(self.now_us) > longest_us {
            let longest_s = longest_us / 1_000_000;
            return invalid("expires_at", format!("must be at most {longest_s} s from now (`stock.hold_max_s`)"));
        }
        Ok(())
    }

    /// What a mistake in writing would make is refused: it would look as if there were nothing.
    fn names_are_known(&self, command: &Reserve) -> Result<(), StockRefusal> {
        let stock = &self.stock;
        if !command.is_order {
            stock.check_channel(&command.channel)?;
        }
        for item in &command.items {
            if !stock.knows(&item.sku) {
                let rule = format!("must be one that was counted or moved, is a kit or on order, not `{}`", item.sku);
                return invalid("items.sku", rule);
            }
            if let Some(location) = item.location.as_ref().filter(|name| stock.locations.find(name).is_none()) {
                return invalid("items.location", format!("must be one where something lies, not `{location}`"));
            }
        }
        Ok(())
    }

    /// The SKUs of a request, of kits their components, and of holds that it replaces.
    fn concerned(&self, command: &Reserve, own: impl Iterator<Item = u32>) -> Concerned {
        let mut all = Concerned::new();
        for item in &command.items {
            let Some(sku) = self.stock.sku_names.find(&item.sku) else { continue };
            match self.stock.skus[sku as usize].components() {
                [] => all.push(sku),
                components => all.extend(components.iter().map(|(component, _)| *component)),
            }
        }
        for slot in own {
            all.extend(self.stock.skus_of(slot));
        }
        if all.len() > 1 {
            all.sort_by_key(|sku| self.stock.sku_names.name(*sku));
            all.dedup();
        }
        all
    }

    pub(super) fn new_line(&self, number: u32, line: &Planned) -> LineFact {
        let location = if line.location == NONE { "" } else { self.stock.locations.name(line.location) };
        LineFact {
            line: number,
            item: line.item,
            sku: self.stock.sku_names.name(line.sku).to_owned(),
            location: location.to_owned(),
            quantity: line.quantity,
            open: line.quantity,
            ..LineFact::default()
        }
    }

    /// The first answer once more.
    fn allocated(&self, reservation: &Reservation) -> Answer {
        let lines = (0..reservation.lines.len()).map(|at| self.stock.line_fact(reservation, at)).collect();
        let state = reservation.state_at(self.now_us);
        Answer::Reservation { state, lines, shortfalls: Vec::new(), repeated: true }
    }
}

impl Stock {
    /// The SKUs of a reservation's lines.
    pub(super) fn skus_of(&self, slot: u32) -> Concerned {
        let mut all: Concerned = self.reservation(slot).into_iter().flat_map(|r| &r.lines).map(|l| l.sku).collect();
        if all.len() > 1 {
            all.sort_by_key(|sku| self.sku_names.name(*sku));
            all.dedup();
        }
        all
    }

    /// What a hold would give back, as something taken that is negative.
    fn given_back(&self, slot: u32) -> SmallVec<[Taken; 4]> {
        let Some(own) = self.reservation(slot) else { return SmallVec::new() };
        let one = |line: &crate::stock::state::Line| Taken {
            sku: line.sku,
            location: line.location,
            channel: own.channel,
            quantity: -line.counts,
        };
        own.lines.iter().map(one).collect()
    }
}

/// What makes a request the same as a repetition of it: all but its end, which every attempt sets anew.
fn request_hash(command: &Reserve) -> u64 {
    let mut hasher = crate::stock::state::Quick::default();
    let text = |hasher: &mut crate::stock::state::Quick, text: &CompactString| {
        // With its length, so that no two lists of texts read the same.
        hasher.write(&(text.len() as u64).to_le_bytes());
        hasher.write(text.as_bytes());
    };
    text(&mut hasher, &command.channel);
    for item in &command.items {
        text(&mut hasher, &item.sku);
        hasher.write(&item.quantity.to_le_bytes());
        hasher.write(&[u8::from(item.location.is_some())]);
        item.location.iter().for_each(|location| text(&mut hasher, location));
    }
    let flags = [u8::from(command.allow_partial), u8::from(command.allow_split)];
    hasher.write(&flags);
    hasher.write(&[u8::from(command.backorder_until_us.is_some())]);
    hasher.finish()
}
