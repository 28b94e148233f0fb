//! The auditor's own arithmetic of stock: nothing is summed beforehand, everything is worked out from the counts,
//! movements and reservations each time. It shares no code with the hub's.

mod predict;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::stock::record::{MovementKind, ReservationState as State};
use lockstep_core::stock::{Command, Item, Movement, Reserve};

/// What has to become of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It has an effect.
    Applied,
    /// It is older than what is known, and is recorded only.
    Ignored,
    /// It was so already: nothing is recorded.
    Repeated,
    /// It can't be believed: nothing is recorded.
    Doubtful,
    /// It is refused, with this code.
    Refused(&'static str),
    /// It has an effect or is refused: which depends on where a line is taken from, which is for the hub to choose.
    AppliedOrShort,
}

/// Everything that is known of stock.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub(super) places: BTreeMap<(String, String), Place>,
    pub(super) reservations: BTreeMap<String, Reservation>,
    pub(super) channels: BTreeSet<String>,
    movements: BTreeSet<(String, String)>,
}

/// A SKU at a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// When it was counted, and as what.
    counted: Option<(i64, i64)>,
    moved: Vec<(i64, i64)>,
    pub(super) safety: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Reservation {
    pub(super) state: State,
    pub(super) expires_at_us: i64,
    pub(super) lines: Vec<Line>,
    committed: bool,
    wanted: Vec<Item>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) item: u32,
    pub(super) sku: String,
    pub(super) place: String,
    pub(super) quantity: i64,
    pub(super) open: i64,
    pub(super) consumed: i64,
    pub(super) released: i64,
    pub(super) expired: i64,
}

impl Place {
    pub(super) fn on_hand(&self) -> i64 {
        let (at_us, counted) = self.counted.unwrap_or((i64::MIN, 0));
        counted + self.moved.iter().filter(|(moved_us, _)| *moved_us > at_us).map(|(_, change)| change).sum::<i64>()
    }

    fn is_after_count(&self, at_us: i64) -> bool {
        self.counted.is_none_or(|(counted_us, _)| at_us > counted_us)
    }
}

impl Reservation {
    pub(super) fn state_at(&self, now_us: i64) -> State {
        if self.state == State::Held && self.expires_at_us <= now_us { State::Expired } else { self.state }
    }

    fn is_open(&self, now_us: i64) -> bool {
        matches!(self.state_at(now_us), State::Held | State::Committed)
    }

    fn close(&mut self, state: State) {
        if self.lines.iter().all(|line| line.open == 0) {
            self.state = state;
        }
    }

    /// A part of a line goes to a place: the number of the line that has it then.
    fn move_line(&mut self, from: usize, place: &str, quantity: i64) -> usize {
        let (item, sku) = (self.lines[from].item, self.lines[from].sku.clone());
        self.lines[from].open -= quantity;
        self.lines[from].released += quantity;
        let there = self.lines.iter().position(|l| (l.item, &l.sku, l.place.as_str()) == (item, &sku, place));
        let to = there.unwrap_or_else(|| {
            self.lines.push(Line { item, sku, place: place.to_owned(), ..Line::default() });
            self.lines.len() - 1
        });
        self.lines[to].quantity += quantity;
        self.lines[to].open += quantity;
        to
    }
}

impl Model {
    /// What is held and committed at a place, but for one reservation's.
    pub(super) fn promised(&self, sku: &str, place: &str, now_us: i64, but: &str) -> [i64; 2] {
        let mut sums = [0; 2];
        for (_, r) in self.reservations.iter().filter(|(id, r)| *id != but && r.is_open(now_us)) {
            let here = r.lines.iter().filter(|line| line.sku == sku && line.place == place);
            sums[usize::from(r.state == State::Committed)] += here.map(|line| line.open).sum::<i64>();
        }
        sums
    }

    /// Available to fulfil.
    pub(super) fn atf(&self, sku: &str, place: &str, now_us: i64, but: &str) -> i64 {
        let Some(known) = self.places.get(&(sku.to_owned(), place.to_owned())) else { return 0 };
        known.on_hand() - known.safety - self.promised(sku, place, now_us, but).iter().sum::<i64>()
    }

    /// Available to promise, over all places.
    pub(super) fn atp(&self, sku: &str, now_us: i64) -> i64 {
        let places = self.places.keys().filter(|(of, _)| of == sku);
        places.map(|(_, place)| self.atf(sku, place, now_us, "").max(0)).sum()
    }

    pub(super) fn shortage(&self, sku: &str, place: &str, now_us: i64) -> i64 {
        let on_hand = self.places.get(&(sku.to_owned(), place.to_owned())).map_or(0, Place::on_hand);
        (self.promised(sku, place, now_us, "").iter().sum::<i64>() - on_hand).max(0)
    }

    /// Whether one of the places has so much.
    fn fits(&self, (sku, quantity): (&str, i64), only: Option<&str>, now_us: i64, but: &str) -> bool {
        let places = self.places.keys().filter(|(of, place)| of == sku && only.is_none_or(|only| only == place));
        places.into_iter().any(|(_, place)| self.atf(sku, place, now_us, but) >= quantity)
    }

    /// Lets a command have its effect; `made` are the lines that the hub made, of which only where they are taken from
    /// is believed, and only where there was enough.
    ///
    /// # Errors
    /// In words, where what was made can't be.
    pub(super) fn apply(&mut self, command: &Command, now_us: i64, made: &[Line]) -> Result<(), String> {
        match command {
            Command::Count(count) => {
                let place = self.place(&count.sku, &count.location);
                place.counted = Some((count.as_of_us, count.quantity));
            }
            Command::Move(moved) => self.move_goods(moved, now_us),
            Command::Safety { sku, location, quantity } => self.place(sku, location).safety = *quantity,
            Command::Policy(policy) => drop(self.channels.insert(policy.channel.to_string())),
            Command::Reserve(wanted) => self.reserve(wanted, now_us, made)?,
            Command::Commit { id } => self.commit(id, now_us, made)?,
            Command::Release { id, lines } => {
                if let Some(known) = self.reservations.get_mut(id.as_str()) {
                    let all = || (0..known.lines.len() as u32).map(|at| (at, known.lines[at as usize].open)).collect();
                    let lines: Vec<(u32, i64)> = if lines.is_empty() { all() } else { lines.clone() };
                    for (number, quantity) in lines {
                        known.lines[number as usize].open -= quantity;
                        known.lines[number as usize].released += quantity;
                    }
                    known.close(State::Released);
                }
            }
            Command::Extend { id, expires_at_us } => {
                if let Some(known) = self.reservations.get_mut(id.as_str()) {
                    known.expires_at_us = *expires_at_us;
                }
            }
            Command::Transfer { id, line, location, quantity } => {
                if let Some(known) = self.reservations.get_mut(id.as_str()) {
                    known.move_line(*line as usize, location, *quantity);
                }
            }
            _ => return Err("nobody asked for this".to_owned()),
        }
        Ok(())
    }

    fn place(&mut self, sku: &str, place: &str) -> &mut Place {
        self.places.entry((sku.to_owned(), place.to_owned())).or_default()
    }

    fn move_goods(&mut self, moved: &Movement, now_us: i64) {
        self.movements.insert(movement(moved));
        let change = if moved.kind == MovementKind::Ship { -moved.quantity } else { moved.quantity };
        let place = self.place(&moved.sku, &moved.location);
        if place.is_after_count(moved.occurred_at_us) {
            place.moved.push((moved.occurred_at_us, change));
        }
        let known = moved.reservation.as_ref().and_then(|id| self.reservations.get_mut(id.as_str()));
        let Some(known) = known.filter(|known| known.is_open(now_us)) else { return };
        let mut left = moved.quantity;
        // What is reserved there goes first; goods that have left can't be refused, so the rest comes over.
        let count = known.lines.len();
        for here in [true, false] {
            for at in 0..count {
                let line = &known.lines[at];
                let is_here = line.place == moved.location.as_str();
                let quantity = line.open.min(left);
                if line.sku != moved.sku.as_str() || quantity == 0 || is_here != here {
                    continue;
                }
                left -= quantity;
                let to = if here { at } else { known.move_line(at, &moved.location, quantity) };
                known.lines[to].open -= quantity;
                known.lines[to].consumed += quantity;
            }
        }
        if left < moved.quantity {
            known.close(State::Consumed);
        }
    }

    fn reserve(&mut self, wanted: &Reserve, now_us: i64, made: &[Line]) -> Result<(), String> {
        if made.len() != wanted.items.len() {
            return Err(format!("{} lines for {} items", made.len(), wanted.items.len()));
        }
        for ((number, line), item) in (0..).zip(made).zip(&wanted.items) {
            let at = item.location.as_ref().map_or(line.place.as_str(), |location| location.as_str());
            let quantity = item.quantity;
            let right = Line {
                item: number,
                sku: item.sku.to_string(),
                place: at.to_owned(),
                quantity,
                open: quantity,
                ..Line::default()
            };
            let left = self.atf(&item.sku, at, now_us, wanted.id.as_str()) - quantity;
            if *line != right || left < 0 {
                return Err(format!("{line:?} was reserved for {item:?}, which leaves {left}"));
            }
        }
        let made = Reservation {
            state: State::Held,
            expires_at_us: wanted.expires_at_us,
            lines: made.to_vec(),
            committed: false,
            wanted: wanted.items.clone(),
        };
        self.reservations.insert(wanted.id.to_string(), made);
        Ok(())
    }

    fn commit(&mut self, id: &str, now_us: i64, made: &[Line]) -> Result<(), String> {
        let Some(mut known) = self.reservations.get(id).cloned() else { return Err(format!("{id} is committed")) };
        if known.state_at(now_us) == State::Expired {
            let mut again: BTreeMap<(u32, String), i64> = BTreeMap::new();
            for line in &mut known.lines {
                line.expired += std::mem::take(&mut line.open);
                *again.entry((line.item, line.sku.clone())).or_default() += line.expired;
            }
            let mut taken: BTreeMap<(&str, &str), i64> = BTreeMap::new();
            for line in made.get(known.lines.len()..).unwrap_or_default() {
                *again.entry((line.item, line.sku.clone())).or_default() -= line.open;
                *taken.entry((&line.sku, &line.place)).or_default() += line.open;
            }
            if again.values().any(|left| *left != 0) {
                return Err(format!("{id} was reserved again as {made:?}, which leaves {again:?}"));
            }
            if let Some(((sku, place), _)) =
                taken.iter().find(|((sku, place), quantity)| self.atf(sku, place, now_us, "") < **quantity)
            {
                return Err(format!("{id} was reserved again as {made:?}, more than {sku}@{place} had"));
            }
            known.lines.extend(made.get(known.lines.len()..).unwrap_or_default().iter().cloned());
        }
        (known.state, known.committed) = (State::Committed, true);
        self.reservations.insert(id.to_owned(), known);
        Ok(())
    }

    /// A hold that is over is written down as that.
    pub(super) fn expire(&mut self, id: &str, now_us: i64) -> Result<(), String> {
        let known = self.reservations.get_mut(id);
        let over = known.filter(|known| known.state == State::Held && known.expires_at_us <= now_us);
        let Some(known) = over else { return Err(format!("{id} was written down as expired, and is not")) };
        known.state = State::Expired;
        known.lines.iter_mut().for_each(|line| line.expired += std::mem::take(&mut line.open));
        Ok(())
    }
}

fn movement(moved: &Movement) -> (String, String) {
    (moved.source.to_string(), moved.id.to_string())
}
