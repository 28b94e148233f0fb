//! Physical facts: they can't be refused, only disbelieved. A count never opens, closes or shrinks a reservation.

use super::{Answered, Desk};
use crate::QuarantineReason;
use crate::stock::command::{Answer, Count, Movement, StockRefusal, Unavailable};
use crate::stock::order::Goods;
use crate::stock::quantity::QUANTITY_MAX;
use crate::stock::record::{
    CountBasis, Counted, LineFact, Moved, MovementKind, MovementName, Proposal, ReservationState, ShortageDetected,
    StockBody, UnavailableSet,
};
use crate::stock::state::{Location, NONE, Reservation, movement_hash};
use crate::stock::validate::invalid;

/// From so many times the last count on one looks absurd: a slip of a digit, or boxes counted as pieces.
const UNUSUAL_TIMES: i64 = 10;
/// The most lines that are proposed to be served from elsewhere.
const PROPOSALS_MAX: usize = 64;

impl Desk<'_> {
    pub(super) fn count(&mut self, count: &Count) -> Answered {
        self.not_a_kit(&count.sku)?;
        if let Some(reason) = self.ahead("as_of", count.as_of_us) {
            return Ok(Answer::Quarantined(reason));
        }
        let known = self.known(&count.sku, &count.location);
        let ignored = count.as_of_us < known.counted_at_us;
        if count.as_of_us == known.counted_at_us {
            if (count.quantity, count.basis as i32) == (known.counted, known.basis) {
                return Ok(Answer::Repeated);
            }
            let detail = format!("another count of {} has the same as_of and says {}", count.sku, known.counted);
            return Ok(quarantined("count-differs", detail));
        }
        if !ignored && count.as_of_us < known.pruned_to_us {
            let detail = format!("the count is older than the {} movements remembered since", known.recents.len());
            return Ok(quarantined("count-too-old", detail));
        }
        let is_known = known.counted_at_us != i64::MIN && known.basis == count.basis as i32 && known.counted > 0;
        // What came since the last count is no slip: by the ledger a true count has it.
        let expected = known.counted.max(self.countable(count, &known));
        let unusual = !ignored && is_known && count.quantity >= expected.saturating_mul(UNUSUAL_TIMES);
        if unusual && count.is_strict && !count.is_confirmed {
            let (sku, location, quantity) = (&count.sku, &count.location, count.quantity);
            return Ok(Answer::Quarantined(QuarantineReason {
                code: "count-unusual".into(),
                detail: format!(
                    "the count of {sku} at {location} says {quantity}, where {expected} was to be expected: \
                     {UNUSUAL_TIMES} times that or more is looked at by a person (`stock.strict`), and taken when it is \
                     released, or told again with `confirmed`"
                ),
                at: "/quantity".into(),
            }));
        }
        let since: i64 = known.recents.iter().filter(|r| r.at_us > count.as_of_us).map(|r| r.on_hand).sum();
        let (added_back, opening) = match count.basis {
            CountBasis::Available => {
                let allocated = self.allocated_at(count, &known);
                (allocated, count.quantity + known.unavailable() + allocated)
            }
            _ => (0, count.quantity),
        };
        let on_hand = opening + since;
        within("quantity", on_hand)?;
        let fact = Counted {
            sku: count.sku.to_string(),
            location: count.location.to_string(),
            source: count.source.to_string(),
            basis: count.basis as i32,
            quantity: count.quantity,
            as_of_us: count.as_of_us,
            ignored,
            opening: if ignored { known.opening } else { opening },
            on_hand: if ignored { known.on_hand } else { on_hand },
            added_back: if ignored { 0 } else { added_back },
            unusual,
        };
        let event = if ignored { "" } else { "stock.counted" };
        self.physical(&count.sku, &count.location, |desk| desk.record(event, StockBody::Counted(fact)));
        Ok(if ignored { Answer::Ignored } else { Answer::Applied })
    }

    /// What a count would say now if the ledger is right.
    fn countable(&self, count: &Count, known: &Location) -> i64 {
        match count.basis {
            CountBasis::Available => known.on_hand - known.unavailable() - self.allocated_at(count, known),
            _ => known.on_hand,
        }
    }

    /// What the warehouse had allocated at the time of its count: lines that it had taken over by then, with what was
    /// shipped or given back of such lines since.
    fn allocated_at(&self, count: &Count, known: &Location) -> i64 {
        let was = |at_us: i64| at_us != 0 && at_us <= count.as_of_us;
        let Some(sku) = self.stock.sku_names.find(&count.sku) else { return 0 };
        let lines = self.stock.skus[sku as usize].lines.iter();
        let lines = lines.filter_map(|of| self.stock.reservation(of.slot)?.lines.get(of.line as usize));
        let open: i64 = lines.filter(|l| l.location == known.id && was(l.acknowledged_at_us)).map(|l| l.counts).sum();
        let since = known.recents.iter().filter(|r| r.at_us > count.as_of_us && was(r.acknowledged_at_us));
        open + since.map(|r| r.acknowledged).sum::<i64>()
    }

    /// The warehouse had taken a line over before its count, and we hear of it after: the count left the line out.
    pub(super) fn add_back(&mut self, line: &LineFact) -> Result<(), StockRefusal> {
        let known = self.known(&line.sku, &line.location);
        if known.basis != CountBasis::Available as i32 || line.acknowledged_at_us > known.counted_at_us {
            return Ok(());
        }
        within("on_hand", known.on_hand + line.open)?;
        let fact = Moved {
            sku: line.sku.clone(),
            location: line.location.clone(),
            kind: MovementKind::Adjust as i32,
            quantity: line.open,
            occurred_at_us: line.acknowledged_at_us,
            on_hand_change: line.open,
            late: true,
            on_hand: known.on_hand + line.open,
            ..Moved::default()
        };
        let (sku, location) = (line.sku.clone(), line.location.clone());
        self.physical(&sku, &location, |desk| desk.record("stock.adjusted", StockBody::Moved(fact)));
        Ok(())
    }

    pub(super) fn move_goods(&mut self, movement: &Movement) -> Answered {
        self.not_a_kit(&movement.sku)?;
        if movement.names().any(|(source, id)| self.stock.seen.contains(&movement_hash(source, id))) {
            return Ok(Answer::Repeated);
        }
        if let Some(reason) = self.ahead("occurred_at", movement.occurred_at_us) {
            return Ok(Answer::Quarantined(reason));
        }
        let known = self.known(&movement.sku, &movement.location);
        let late = movement.occurred_at_us <= known.counted_at_us;
        let quantity = movement.quantity;
        let (change, event) = match movement.kind {
            MovementKind::Receipt => (quantity, "stock.received"),
            MovementKind::Ship => (-quantity, "stock.shipped"),
            MovementKind::ReturnRestock | MovementKind::ReturnDamaged => (quantity, "stock.returned"),
            MovementKind::ReturnLost => (0, "stock.returned"),
            MovementKind::Adjust | MovementKind::Unspecified => (quantity, "stock.adjusted"),
        };
        let consumed = self.consumed(movement, &known);
        let is_damaged = movement.kind == MovementKind::ReturnDamaged;
        let damaged = is_damaged && movement.occurred_at_us > known.unavailable_at_us;
        // The count has it already; but a line that it added back was no longer there.
        let on_hand_change = if late { -consumed.added_back } else { change };
        within("quantity", known.on_hand + on_hand_change)?;
        let supply = movement.supply.as_ref().and_then(|id| {
            let sku = self.stock.sku_names.find(&movement.sku)?;
            self.stock.skus[sku as usize].rare.as_ref()?.supplies.iter().find(|supply| supply.id == *id)
        });
        let fact = Moved {
            sku: movement.sku.to_string(),
            location: movement.location.to_string(),
            source: movement.source.to_string(),
            movement: movement.id.to_string(),
            kind: movement.kind as i32,
            quantity,
            occurred_at_us: movement.occurred_at_us,
            reservation: movement.reservation.clone().unwrap_or_default().into(),
            on_hand_change,
            damaged_change: if damaged { quantity } else { 0 },
            late,
            on_hand: known.on_hand + on_hand_change,
            supply: movement.supply.clone().unwrap_or_default().into(),
            supply_open: supply.map_or(0, |supply| (supply.open - quantity).max(0)),
            unreserved: movement.reservation.is_some() && consumed.steps.is_empty(),
            also: movement.also.iter().map(|(source, movement)| named(source, movement)).collect(),
        };
        self.physical(&movement.sku, &movement.location, |desk| {
            desk.record(event, StockBody::Moved(fact));
            desk.consume(movement, consumed);
        });
        Ok(Answer::Applied)
    }

    /// Records further names of goods that have left already.
    pub(super) fn name_goods(&mut self, goods: Goods, reservation: &str) {
        let mut names = goods.also.iter();
        let Some((source, movement)) = names.next() else { return };
        let fact = Moved {
            sku: goods.sku.to_string(),
            location: goods.location.to_string(),
            source: source.to_string(),
            movement: movement.to_string(),
            kind: MovementKind::Ship as i32,
            occurred_at_us: goods.occurred_at_us,
            reservation: reservation.to_owned(),
            on_hand: self.known(&goods.sku, &goods.location).on_hand,
            also: names.map(|(source, movement)| named(source, movement)).collect(),
            ..Moved::default()
        };
        self.record("", StockBody::Moved(fact));
    }

    /// Whether goods that move together can each move so; nothing is decided of them yet. What can't be said of one of
    /// them is the answer to all.
    pub(super) fn foresee(&self, movements: &[&Movement]) -> Answered {
        for (at, movement) in movements.iter().enumerate() {
            self.not_a_kit(&movement.sku)?;
            if let Some(reason) = self.ahead("occurred_at", movement.occurred_at_us) {
                return Ok(Answer::Quarantined(reason));
            }
            // As if all of them changed the same number, in the same direction.
            let same = |other: &&&Movement| (&other.sku, &other.location) == (&movement.sku, &movement.location);
            let sizes = movements[..=at].iter().filter(same).map(|other| other.quantity.saturating_abs());
            let on_hand = self.known(&movement.sku, &movement.location).on_hand;
            let most = sizes.fold(on_hand.saturating_abs(), i64::saturating_add);
            within("quantity", most)?;
        }
        Ok(Answer::Applied)
    }

    /// Which lines a shipment consumes: those of its location first. What is reserved elsewhere, or backordered, goes
    /// over to where it was shipped from: goods that have left can't be refused.
    fn consumed(&self, movement: &Movement, known: &Location) -> Consumed {
        let mut consumed = Consumed::default();
        let slot = movement.reservation.as_ref().and_then(|id| self.stock.slot(id));
        let reservation = slot.and_then(|slot| self.stock.reservation(slot));
        let (Some(slot), Some(reservation)) = (slot, reservation) else { return consumed };
        let Some(sku) = self.stock.sku_names.find(&movement.sku) else { return consumed };
        if !reservation.is_open() || reservation.is_expired(self.now_us) {
            return consumed;
        }
        consumed.slot = slot;
        let mut left = movement.quantity;
        let is_here = |location: u32| location == known.id && location != NONE;
        for here in [true, false] {
            for (number, line) in (0..).zip(&reservation.lines) {
                let quantity = line.open.min(left);
                if line.sku != sku || quantity == 0 || is_here(line.location) != here {
                    continue;
                }
                left -= quantity;
                consumed.steps.push((number, quantity, here));
                let counted_at_us = known.counted_at_us;
                let was_added = line.acknowledged_at_us != 0 && line.acknowledged_at_us <= counted_at_us;
                if here && was_added && known.basis == CountBasis::Available as i32 {
                    consumed.added_back += quantity;
                }
            }
        }
        consumed
    }

    fn consume(&mut self, movement: &Movement, consumed: Consumed) {
        let to = self.stock.locations.number(&movement.location);
        for (number, quantity, here) in &consumed.steps {
            let Some(reservation) = self.stock.reservation(consumed.slot) else { return };
            let mut fact = self.fact_of(reservation);
            fact.occurred_at_us = movement.occurred_at_us;
            if *here {
                fact.lines.push(self.stock.line_fact(reservation, *number as usize));
            } else {
                fact.lines = self.moved_lines(reservation, *number, to, *quantity);
            }
            if let Some(line) = fact.lines.last_mut() {
                line.open -= quantity;
                line.consumed += quantity;
            }
            if closes(reservation, &fact.lines) {
                fact.state = ReservationState::Consumed as i32;
            }
            self.record("reservation.consumed", StockBody::Reservation(fact));
        }
    }

    pub(super) fn unavailable(&mut self, command: &Unavailable) -> Answered {
        self.not_a_kit(&command.sku)?;
        if let Some(reason) = self.ahead("as_of", command.as_of_us) {
            return Ok(Answer::Quarantined(reason));
        }
        let known = self.known(&command.sku, &command.location);
        let ignored = command.as_of_us < known.unavailable_at_us;
        let since = known.recents.iter().filter(|r| r.at_us > command.as_of_us).map(|r| r.damaged);
        let fact = UnavailableSet {
            sku: command.sku.to_string(),
            location: command.location.to_string(),
            as_of_us: command.as_of_us,
            damaged: command.damaged + since.sum::<i64>(),
            quality_control: command.quality_control,
            blocked: command.blocked,
            ignored,
        };
        if command.as_of_us == known.unavailable_at_us {
            let same = (fact.damaged, fact.quality_control, fact.blocked)
                == (known.damaged, known.quality_control, known.blocked);
            let detail = format!("another word on what of {} is unavailable has the same as_of", command.sku);
            return Ok(if same { Answer::Repeated } else { quarantined("count-differs", detail) });
        }
        let event = if ignored { "" } else { "stock.adjusted" };
        self.physical(&command.sku, &command.location, |desk| desk.record(event, StockBody::Unavailable(fact)));
        Ok(if ignored { Answer::Ignored } else { Answer::Applied })
    }

    /// Records a physical fact. A shortage that it brings is told, and what it frees goes to backorders first.
    fn physical(&mut self, sku: &str, location: &str, record: impl FnOnce(&mut Self)) {
        let before = self.shortage(sku, location);
        record(self);
        let Some(number) = self.stock.sku_names.find(sku) else { return };
        let shortage = self.shortage(sku, location);
        if shortage > before {
            let at = self.stock.locations.number(location);
            let propose = self.proposals(number, at, shortage);
            let (sku, location) = (sku.to_owned(), location.to_owned());
            let fact = ShortageDetected { sku, location, shortage, before, propose };
            self.record("stock.shortage_detected", StockBody::Shortage(fact));
        }
        self.promote(number);
    }

    /// Which lines to serve from elsewhere: what is only held before what is committed, the newest first.
    fn proposals(&self, sku: u32, location: u32, shortage: i64) -> Vec<Proposal> {
        let lines = self.stock.skus[sku as usize].lines.iter();
        let mut open: Vec<_> = lines
            .filter_map(|of| Some((self.stock.reservation(of.slot)?, of.line)))
            .filter_map(|(r, number)| Some((r, number, r.lines.get(number as usize)?)))
            .filter(|(_, _, line)| line.location == location && line.counts > 0)
            .collect();
        let is_held = |r: &Reservation| r.state == ReservationState::Held;
        open.sort_by(|(a, an, _), (b, bn, _)| {
            (is_held(b), b.promised_at_us, &b.id, bn).cmp(&(is_held(a), a.promised_at_us, &a.id, an))
        });
        let mut left = shortage;
        let mut propose = Vec::new();
        for (reservation, line, open) in open.into_iter().take(PROPOSALS_MAX) {
            let quantity = open.counts.min(left);
            if quantity == 0 {
                break;
            }
            left -= quantity;
            let committed = !is_held(reservation);
            propose.push(Proposal { reservation: reservation.id.to_string(), line, quantity, committed });
        }
        propose
    }

    /// The location as it stands; an empty one where it is new.
    pub(super) fn known(&self, sku: &str, location: &str) -> Location {
        let found = self.stock.sku_names.find(sku).zip(self.stock.locations.find(location));
        let known = found.and_then(|(sku, location)| self.stock.skus[sku as usize].location(location));
        known.cloned().unwrap_or_else(|| Location::new(self.stock.locations.find(location).unwrap_or(NONE)))
    }

    fn shortage(&self, sku: &str, location: &str) -> i64 {
        let found = self.stock.sku_names.find(sku).zip(self.stock.locations.find(location));
        let known = found.and_then(|(sku, location)| self.stock.skus[sku as usize].location(location));
        known.map_or(0, Location::shortage)
    }

    fn not_a_kit(&self, sku: &str) -> Result<(), StockRefusal> {
        let kit =
            self.stock.sku_names.find(sku).is_some_and(|sku| !self.stock.skus[sku as usize].components().is_empty());
        if kit { invalid("sku", "is a kit, which has no stock of its own: name its components") } else { Ok(()) }
    }
}

/// What a shipment takes of its reservation.
#[derive(Debug, Default)]
struct Consumed {
    slot: u32,
    /// Line, quantity, and whether it is reserved where it was shipped from.
    steps: Vec<(u32, i64, bool)>,
    /// What of it the count that stands had added back.
    added_back: i64,
}

/// Whether nothing is open any more with these lines in place.
fn closes(reservation: &Reservation, lines: &[LineFact]) -> bool {
    let others = (0..).zip(&reservation.lines).filter(|(number, _)| !lines.iter().any(|line| line.line == *number));
    others.map(|(_, line)| line.open).sum::<i64>() == 0 && lines.iter().all(|line| line.open == 0)
}

fn within(field: &'static str, on_hand: i64) -> Result<(), StockRefusal> {
    if (-QUANTITY_MAX..=QUANTITY_MAX).contains(&on_hand) {
        Ok(())
    } else {
        invalid(field, format!("would make the stock on hand {on_hand}, beyond {QUANTITY_MAX}"))
    }
}

fn named(source: &str, movement: &str) -> MovementName {
    MovementName { source: source.to_owned(), movement: movement.to_owned() }
}

fn quarantined(code: &str, detail: String) -> Answer {
    Answer::Quarantined(QuarantineReason { code: code.into(), detail, at: "/as_of".into() })
}
