//! All invariants, over everything that a data folder has: stock as the state file and the journal give it, the same
//! folded once more from the journal alone, every record, and every order.

mod walk;

use std::collections::{BTreeMap, HashMap};

use lockstep_core::stock::{Contribution, Question, ReservationView, Violation};
use lockstep_core::{Entity, Position};

use self::walk::Walk;
use super::standing::Standing;
use crate::failure::OpenError;
use crate::reading::decode;

/// How much of the journal one step reads.
const STEP_BYTES: usize = 4 * 1024 * 1024;
/// How many violations are kept; the others are counted.
const KEPT_MAX: usize = 1_000;

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

impl Standing {
    /// Checks everything. `seen_days` is for how long deliveries are remembered, `reservation_days` for how long
    /// reservations that are over are kept; `progress` hears of the records read.
    pub fn verify(
        &mut self,
        seen_days: u32,
        reservation_days: u32,
        mut progress: impl FnMut(Position),
    ) -> Result<Verified, OpenError> {
        let bounds = self.reader.bounds();
        let mut found = Verified { first: bounds.first, ..Verified::default() };
        let over = self.orders(&mut found)?;
        let is_over = |owner: &str| over.contains_key(owner.strip_prefix("order/").unwrap_or(owner));
        found.all(self.facts.stock.check(self.state.recorded_at_us, is_over));
        let mut walk = Walk::new(bounds.first <= 1, seen_days);
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
        self.compare(&mut walk, i64::from(reservation_days.max(seen_days)) * 86_400_000_000, &mut found)?;
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
    fn compare(&mut self, walk: &mut Walk, kept_us: i64, found: &mut Verified) -> Result<(), OpenError> {
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
        for id in walk.again.iter().flat_map(|again| again.reservations()) {
            let is_removed = walk.ended.get(id).is_some_and(|ended_us| *ended_us < now_us.saturating_sub(kept_us));
            if !is_removed && ids.binary_search_by(|known| known.as_str().cmp(id)).is_err() {
                found.say(3, format!("reservation {id} is in the journal, and not in the state"));
            }
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
