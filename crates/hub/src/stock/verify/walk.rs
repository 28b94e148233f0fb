//! The journal, record by record: what each says must follow on those before it.

use std::collections::HashMap;

use lockstep_core::record::{Body, Record};
use lockstep_core::stock::record::{
    CountBasis, Counted, Moved, ReservationFact, ReservationState, StockBody, StockFact,
};
use lockstep_core::stock::{self, Limits, Stock};
use lockstep_core::{Position, delivery_hash};

use super::Verified;

/// So many movements after a count are remembered by the hub; with more, what a late count comes to is not followed.
const MOVEMENTS_MAX: usize = 128;

/// What reading the journal remembers.
pub(super) struct Walk {
    /// Stock from the journal alone, where that goes back to the first record.
    pub(super) again: Option<Stock>,
    /// What is on hand, by SKU and location, and the movements since the count.
    pub(super) places: HashMap<(String, String), Place>,
    /// When reservations that are over were last heard of.
    pub(super) ended: HashMap<String, i64>,
    /// Effects by their hash: the record, and when.
    seen: HashMap<u64, (Position, i64)>,
    seen_us: i64,
    recorded_at_us: i64,
    /// Where the goods of the decision under way went from.
    shipped_from: String,
}

#[derive(Default)]
pub(super) struct Place {
    pub(super) on_hand: i64,
    /// When, and what it changed.
    moved: Vec<(i64, i64)>,
}

impl Walk {
    /// `whole` says that the journal goes back to its first record.
    pub(super) fn new(whole: bool, seen_days: u32) -> Self {
        Self {
            again: whole.then(|| Stock::new(Limits::default())),
            places: HashMap::new(),
            ended: HashMap::new(),
            seen: HashMap::new(),
            seen_us: i64::from(seen_days) * 86_400_000_000,
            recorded_at_us: i64::MIN,
            shipped_from: String::new(),
        }
    }

    pub(super) fn record(&mut self, position: Position, record: &Record, found: &mut Verified) {
        found.records += 1;
        if record.recorded_at_us < self.recorded_at_us {
            found.say(9, format!("record {position} is of an earlier time than the one before it"));
        }
        self.recorded_at_us = record.recorded_at_us;
        match &record.body {
            Some(Body::Fact(fact)) if fact.index == 0 && !fact.delivery.is_empty() => {
                let what = || format!("delivery {} of {}", fact.delivery, fact.source);
                self.once(position, delivery_hash(&fact.source, &fact.delivery), what, found);
            }
            Some(Body::Stock(fact)) => self.stock(position, fact, found),
            _ => {}
        }
    }

    /// Every effect once (7), as long as it is remembered.
    fn once(&mut self, position: Position, hash: u64, what: impl Fn() -> String, found: &mut Verified) {
        found.effects += 1;
        let before = self.seen.insert(hash, (position, self.recorded_at_us));
        if let Some((first, at_us)) = before.filter(|(_, at_us)| self.recorded_at_us - at_us < self.seen_us) {
            let days = (self.recorded_at_us - at_us) / 86_400_000_000;
            found.say(7, format!("{} has an effect in record {first} and, {days} days later, in {position}", what()));
        }
    }

    fn stock(&mut self, position: Position, fact: &StockFact, found: &mut Verified) {
        found.stock_records += 1;
        if let Some(origin) = &fact.origin {
            self.shipped_from.clear();
            let what = || format!("delivery {} of {}", origin.delivery, origin.source);
            self.once(position, delivery_hash(&origin.source, &origin.delivery), what, found);
            if !origin.request_key.is_empty() {
                let hash = lockstep_core::decide::request_key_hash(&origin.source, &origin.request_key);
                let what = || format!("request {} of {}", origin.request_key, origin.source);
                self.once(position, hash, what, found);
            }
        }
        match &fact.body {
            Some(StockBody::Moved(moved)) => {
                if !moved.movement.is_empty() {
                    let what = || format!("movement {} of {}", moved.movement, moved.source);
                    self.once(position, stock::movement_hash(&moved.source, &moved.movement), what, found);
                }
                // Parts of one parcel may share a name that nobody has used by then; but what is told by it after them
                // would be an effect more.
                for name in &moved.also {
                    let hash = stock::movement_hash(&name.source, &name.movement);
                    self.seen.entry(hash).or_insert((position, self.recorded_at_us));
                }
                self.moved(position, moved, found);
            }
            Some(StockBody::Counted(counted)) if !counted.ignored => self.counted(position, counted, found),
            Some(StockBody::Reservation(of)) => {
                self.reservation(position, of, found);
                match of.state() {
                    ReservationState::Held | ReservationState::Committed => self.ended.remove(&of.id),
                    _ => self.ended.insert(of.id.clone(), self.recorded_at_us),
                };
            }
            _ => {}
        }
        if let Some(again) = &mut self.again {
            stock::fold(again, self.recorded_at_us, fact);
            for one in again.check_reserved(fact) {
                found.say(one.invariant, format!("record {position}: {}", one.detail));
            }
        }
    }

    fn moved(&mut self, position: Position, moved: &Moved, found: &mut Verified) {
        self.shipped_from.clone_from(&moved.location);
        let known = self.places.contains_key(&(moved.sku.clone(), moved.location.clone()));
        let place = self.places.entry((moved.sku.clone(), moved.location.clone())).or_default();
        let expected = place.on_hand + moved.on_hand_change;
        // What was before the first record that is kept nobody can say.
        if moved.on_hand != expected && (known || self.again.is_some()) {
            let (sku, location, is) = (&moved.sku, &moved.location, moved.on_hand);
            found.say(2, format!("record {position}: {sku}@{location} has {is} on hand, and should have {expected}"));
        }
        place.on_hand = moved.on_hand;
        place.moved.push((moved.occurred_at_us, moved.on_hand_change));
    }

    fn counted(&mut self, position: Position, counted: &Counted, found: &mut Verified) {
        let place = self.places.entry((counted.sku.clone(), counted.location.clone())).or_default();
        let since = place.moved.iter().filter(|(at_us, _)| *at_us > counted.as_of_us);
        let expected = counted.quantity + since.clone().map(|(_, change)| change).sum::<i64>();
        let is_followed = self.again.is_some() && place.moved.len() <= MOVEMENTS_MAX;
        // What the warehouse had allocated at the time is in the record itself for the other basis.
        if counted.basis() == CountBasis::OnHand && is_followed && counted.on_hand != expected {
            let (sku, location, is) = (&counted.sku, &counted.location, counted.on_hand);
            found.say(2, format!("record {position}: {sku}@{location} has {is} on hand, and should have {expected}"));
        }
        place.on_hand = counted.on_hand;
        place.moved.retain(|(at_us, _)| *at_us > counted.as_of_us);
    }

    fn reservation(&self, position: Position, of: &ReservationFact, found: &mut Verified) {
        for line in &of.lines {
            let sum = line.open + line.consumed + line.released + line.expired;
            let parts = [line.open, line.consumed, line.released, line.expired];
            if sum != line.quantity || parts.iter().any(|part| *part < 0) {
                let (number, id, quantity) = (line.line, &of.id, line.quantity);
                found.say(
                    3,
                    format!("record {position}: line {number} of {id} is of {quantity}, and its parts are {sum}"),
                );
            }
        }
        // The lines before it, which only the fold of the whole journal knows.
        let known = self.again.as_ref().and_then(|again| again.reservation_view(&of.id, self.recorded_at_us));
        let Some(known) = known.filter(|_| !of.fresh) else { return };
        for line in &of.lines {
            let before = known.lines.iter().find(|before| before.line == line.line);
            let (id, number, is) = (&of.id, line.line, &line.location);
            if line.consumed > before.map_or(0, |before| before.consumed) && *is != self.shipped_from {
                let from = &self.shipped_from;
                found.say(8, format!("record {position}: line {number} of {id} is of `{is}`, the goods left `{from}`"));
            }
            if let Some(before) = before.filter(|before| (&before.location, &before.sku) != (is, &line.sku)) {
                let was = &before.location;
                found.say(8, format!("record {position}: line {number} of {id} went from `{was}` to `{is}`"));
            }
        }
    }
}
