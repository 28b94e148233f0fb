//! All invariants, over everything that a data folder has: stock as the state file and the journal give it, the same
//! folded once more from the journal alone, every record, and every order.

use std::collections::{BTreeMap, HashMap};

use lockstep_core::record::{Body, Record};
use lockstep_core::stock::record::{CountBasis, Counted, Moved, ReservationFact, StockBody, StockFact};
use lockstep_core::stock::{self, Contribution, Limits, Question, ReservationView, Stock, Violation};
use lockstep_core::{Entity, Position, delivery_hash};

use super::standing::Standing;
use crate::failure::OpenError;
use crate::reading::decode;

/// How much of the journal one step reads.
const STEP_BYTES: usize = 4 * 1024 * 1024;
/// How many violations are kept; the others are counted.
const KEPT_MAX: usize = 1_000;
/// So many movements after a count are remembered by the hub; with more, what a late count comes to is not followed.
const MOVEMENTS_MAX: usize = 128;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// The violations, the first thousand.
    pub broken: Vec<Violation>,
    /// How many there are of each invariant.
    pub counts: BTreeMap<u8, u64>,
    /// Records read.
    pub records: u64,
    /// Among them those of stock.
    pub stock_records: u64,
    /// Deliveries, requests with a key and movements of which an effect is recorded.
    pub effects: u64,
    /// SKUs.
    pub skus: u64,
    /// Reservations, open or over.
    pub reservations: u64,
    /// Orders.
    pub orders: u64,
    /// The first record that is kept. Where it is not the first ever, stock can't be folded from the journal alone, and
    /// (4) is not checked.
    pub first: Position,
}

impl Verified {
    fn say(&mut self, invariant: u8, detail: String) {
        *self.counts.entry(invariant).or_default() += 1;
        if self.broken.len() < KEPT_MAX {
            self.broken.push(Violation { invariant, detail });
        }
    }

    fn all(&mut self, broken: Vec<Violation>) {
        broken.into_iter().for_each(|one| self.say(one.invariant, one.detail));
    }
}

/// What reading the journal remembers.
struct Walk {
    /// Stock from the journal alone, where that goes back to the first record.
    again: Option<Stock>,
    /// What is on hand, by SKU and location, and the movements since the count.
    places: HashMap<(String, String), Place>,
    /// Effects by their hash: the record, and when.
    seen: HashMap<u64, (Position, i64)>,
    seen_us: i64,
    recorded_at_us: i64,
    /// Where the goods of the decision under way went from.
    shipped_from: String,
}

#[derive(Default)]
struct Place {
    on_hand: i64,
    /// When, and what it changed.
    moved: Vec<(i64, i64)>,
}

impl Standing {
    /// Checks everything. `seen_days` is for how long deliveries are remembered; `progress` hears of the records read.
    pub fn verify(&mut self, seen_days: u32, mut progress: impl FnMut(Position)) -> Result<Verified, OpenError> {
        let bounds = self.reader.bounds();
        let mut found = Verified { first: bounds.first, ..Verified::default() };
        let over = self.orders(&mut found)?;
        found.all(self.facts.stock.check(|owner| over.contains_key(owner.strip_prefix("order/").unwrap_or(owner))));
        let mut walk = Walk {
            again: (bounds.first <= 1).then(|| Stock::new(Limits::default())),
            places: HashMap::new(),
            seen: HashMap::new(),
            seen_us: i64::from(seen_days) * 86_400_000_000,
            recorded_at_us: i64::MIN,
            shipped_from: String::new(),
        };
        let mut next = bounds.first.max(1);
        while next < bounds.next {
            let entries = self.reader.read(next, STEP_BYTES)?;
            if entries.is_empty() {
                found.say(9, format!("the journal ends before record {next} and should end at {}", bounds.next - 1));
                break;
            }
            for entry in entries {
                let position = entry.position;
                if position != next {
                    found.say(9, format!("record {position} follows on {}: records are missing", next - 1));
                }
                next = position + 1;
                match decode(position, entry.record) {
                    Ok(record) => walk.record(position, &record, &mut found),
                    Err(error) => found.say(9, error.to_string()),
                }
            }
            progress(next - 1);
        }
        self.compare(&mut walk, &mut found)?;
        Ok(found)
    }

    /// Checks every order (5, 6). Those that can have no open reservation any more.
    fn orders(&mut self, found: &mut Verified) -> Result<HashMap<String, String>, OpenError> {
        let mut over = HashMap::new();
        let mut after = String::new();
        loop {
            let page = self.state.file.entities("order/", &after, 1_000)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            let unflushed = self.state.unflushed("order/", "");
            for (id, bytes) in page {
                if !unflushed.contains_key(id.as_str()) {
                    let entity = Entity::decode(bytes).map_err(|source| OpenError::Record { position: 0, source })?;
                    order(&entity, &mut over, found);
                }
            }
        }
        for entity in self.state.unflushed("order/", "").values() {
            order(entity, &mut over, found);
        }
        Ok(over)
    }

    /// Holds stock against itself: as the state gives it, as the journal does, and each place's last word.
    fn compare(&mut self, walk: &mut Walk, found: &mut Verified) -> Result<(), OpenError> {
        let now_us = self.state.recorded_at_us;
        let stock = &mut self.facts.stock;
        let skus: Vec<String> = stock.skus().map(str::to_owned).collect();
        found.skus = skus.len() as u64;
        for sku in &skus {
            let question = Question { sku, channel: "", until_us: now_us, holders_max: 0 };
            let here = stock.availability(&question, now_us).locations;
            for at in &here {
                let place = walk.places.get(&(sku.clone(), at.location.to_string()));
                if let Some(place) = place.filter(|place| place.on_hand != at.on_hand) {
                    let (is, was) = (at.on_hand, place.on_hand);
                    found.say(2, format!("{sku}@{}: {is} on hand, and its last record says {was}", at.location));
                }
            }
            let Some(again) = &mut walk.again else { continue };
            same_terms(sku, &here, &again.availability(&question, now_us).locations, found);
        }
        let mut ids: Vec<String> = self.state.file.reservations()?;
        ids.extend(self.facts.stock.reservations().map(str::to_owned));
        ids.sort_unstable();
        ids.dedup();
        found.reservations = ids.len() as u64;
        for id in &ids {
            self.state.load_reservation(&mut self.facts.stock, id).map_err(crate::open::state_error)?;
            let was_open = self.facts.stock.is_open(id) == Some(true);
            if !was_open {
                found.all(self.facts.stock.check_reservation(id));
            }
            if let Some(again) = &walk.again {
                let (is, was) = (self.facts.stock.reservation_view(id, now_us), again.reservation_view(id, now_us));
                if is != was {
                    same_reservation(id, is.as_ref(), was.as_ref(), found);
                }
            }
            self.facts.stock.forget(id);
        }
        let more = walk.again.as_ref().map_or(0, |again| again.reservations().count());
        if more > ids.len() {
            let detail = format!("the journal has {more} reservations, and the state {}", ids.len());
            found.say(3, detail);
        }
        Ok(())
    }
}

/// Where a reservation differs, as the state has it and as the journal does.
fn same_reservation(id: &str, is: Option<&ReservationView>, was: Option<&ReservationView>, found: &mut Verified) {
    let (Some(is), Some(was)) = (is, was) else {
        let (there, missing) = if is.is_some() { ("state", "journal") } else { ("journal", "state") };
        return found.say(3, format!("reservation {id} is in the {there}, and not in the {missing}"));
    };
    if (is.state, is.expires_at_us) != (was.state, was.expires_at_us) {
        let detail = format!("reservation {id} is {:?}, and the journal says {:?}", is.state, was.state);
        found.say(3, detail);
    }
    let line = |view: &ReservationView, at: usize| {
        view.lines.get(at).map_or_else(
            || "nothing".to_owned(),
            |line| {
                let parts = [("consumed", line.consumed), ("released", line.released), ("expired", line.expired)];
                let parts = parts.iter().filter(|(_, part)| *part != 0).map(|(name, part)| format!(", {name} {part}"));
                let parts: String = parts.collect();
                format!("open {}{parts} of {} {}@{}", line.open, line.quantity, line.sku, line.location)
            },
        )
    };
    for at in (0..is.lines.len().max(was.lines.len())).filter(|at| is.lines.get(*at) != was.lines.get(*at)) {
        let (is, was) = (line(is, at), line(was, at));
        found.say(3, format!("line {at} of {id}: {is}, and the journal says {was}"));
    }
}

/// The terms of a SKU, from the state and from the journal.
fn same_terms(sku: &str, here: &[Contribution], again: &[Contribution], found: &mut Verified) {
    let terms = |at: &Contribution| {
        let physical = [("on hand", at.on_hand), ("damaged", at.damaged), ("safety", at.safety)];
        let more = [("quality control", at.quality_control), ("blocked", at.blocked)];
        let promised = [("held", at.held), ("committed", at.committed)];
        physical.into_iter().chain(more).map(|term| (2, term)).chain(promised.map(|term| (1, term)))
    };
    for at in here {
        let other = again.iter().find(|other| other.location == at.location);
        let Some(other) = other else {
            found.say(2, format!("{sku}@{} is in the state, and not in the journal", at.location));
            continue;
        };
        for ((invariant, (name, is)), (_, (_, was))) in terms(at).zip(terms(other)).filter(|(a, b)| a != b) {
            found.say(invariant, format!("{sku}@{}: {name} {is}, and the journal says {was}", at.location));
        }
    }
    for other in again.iter().filter(|other| !here.iter().any(|at| at.location == other.location)) {
        found.say(2, format!("{sku}@{} is in the journal, and not in the state", other.location));
    }
}

impl Walk {
    fn record(&mut self, position: Position, record: &Record, found: &mut Verified) {
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
                self.moved(position, moved, found);
            }
            Some(StockBody::Counted(counted)) if !counted.ignored => self.counted(position, counted, found),
            Some(StockBody::Reservation(of)) => self.reservation(position, of, found),
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

/// The sums of an order (5, 6), as the hub derives them from its items.
fn order(entity: &Entity, over: &mut HashMap<String, String>, found: &mut Verified) {
    found.orders += 1;
    let document = |name: &str| entity.value(name).and_then(|json| serde_json::from_slice(json).ok());
    let key = &entity.key;
    let lifecycle: Option<String> =
        document("lifecycle").and_then(|value: serde_json::Value| Some(value.as_str()?.to_owned()));
    if let Some(state) =
        lifecycle.filter(|state| ["cancelled", "shipped", "delivered", "closed"].contains(&state.as_str()))
    {
        over.insert(key.to_string(), state);
    }
    let fulfilment: serde_json::Value = document("fulfilment").unwrap_or_default();
    let count = |name: &str| fulfilment[name].as_i64().unwrap_or(0);
    let (ordered, cancelled, shipped, returned) =
        (count("ordered"), count("cancelled"), count("shipped"), count("returned"));
    if ordered > 0 && shipped > ordered - cancelled {
        found.say(5, format!("order {key}: {shipped} shipped of {ordered} ordered and {cancelled} cancelled"));
    }
    if returned > shipped {
        found.say(5, format!("order {key}: {returned} returned of {shipped} shipped"));
    }
    let payment: serde_json::Value = document("payment").unwrap_or_default();
    let minor = |name: &str| payment[name]["minor"].as_i64().unwrap_or(0);
    let (authorized, captured, refunded) = (minor("authorized"), minor("captured"), minor("refunded"));
    // A sale is captured without having been authorized apart.
    if authorized > 0 && captured > authorized {
        found.say(6, format!("order {key}: {captured} captured of {authorized} authorized"));
    }
    if refunded > captured {
        found.say(6, format!("order {key}: {refunded} refunded of {captured} captured"));
    }
}
