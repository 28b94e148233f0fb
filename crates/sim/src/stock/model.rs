//! The auditor's own arithmetic of stock: nothing is summed beforehand, everything is worked out from the counts,
//! movements and reservations each time. It shares no code with the hub's.

mod owned;
mod predict;
mod sale;
mod turn;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::stock::record::{MovementKind, ReservationState as State};
use lockstep_core::stock::{Command, Movement, PolicyOf, Reserve};

use sale::Sale;

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
    /// It is refused: nothing lies at the place, which the hub may know by name all the same, of a policy or a supply.
    ShortOrUnknown,
}

/// Everything that is known of stock.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub(super) places: BTreeMap<(String, String), Place>,
    pub(super) reservations: BTreeMap<String, Reservation>,
    channels: BTreeMap<String, Channel>,
    /// What kits are made of.
    kits: BTreeMap<String, Vec<(String, i64)>>,
    /// What is on order, by SKU and its id.
    supplies: BTreeMap<(String, String), Supply>,
    /// What has left of fences since they were set, by channel, SKU and place.
    fence_used: BTreeMap<(String, String, String), i64>,
    sales: Vec<Sale>,
    movements: BTreeSet<(String, String)>,
}

/// A channel: its policies by SKU and place, of which both may be empty.
#[derive(Clone, Debug, Default)]
struct Channel {
    said: BTreeMap<(String, String), PolicyOf>,
}

/// Goods on order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Supply {
    place: String,
    pub(super) open: i64,
    eta_us: i64,
}

/// A SKU at a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// When it was counted, and as what.
    counted: Option<(i64, i64)>,
    moved: Vec<(i64, i64)>,
    pub(super) safety: i64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Reservation {
    pub(super) state: State,
    pub(super) expires_at_us: i64,
    pub(super) lines: Vec<Line>,
    channel: String,
    priority: i32,
    promised_at_us: i64,
    committed: bool,
    wanted: Reserve,
}

/// A line; without a place it waits for supply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) item: u32,
    pub(crate) sku: String,
    pub(crate) place: String,
    pub(crate) quantity: i64,
    pub(crate) open: i64,
    pub(crate) consumed: i64,
    pub(crate) released: i64,
    pub(crate) expired: i64,
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
    /// What is held and committed at a place.
    pub(super) fn promised(&self, sku: &str, place: &str, now_us: i64) -> [i64; 2] {
        let mut sums = [0; 2];
        for r in self.reservations.values().filter(|r| r.is_open(now_us)) {
            let here = r.lines.iter().filter(|line| line.sku == sku && line.place == place);
            sums[usize::from(r.state == State::Committed)] += here.map(|line| line.open).sum::<i64>();
        }
        sums
    }

    /// Available to fulfil.
    fn atf(&self, sku: &str, place: &str, now_us: i64) -> i64 {
        let Some(known) = self.places.get(&(sku.to_owned(), place.to_owned())) else { return 0 };
        known.on_hand() - known.safety - self.promised(sku, place, now_us).iter().sum::<i64>()
    }

    pub(super) fn shortage(&self, sku: &str, place: &str, now_us: i64) -> i64 {
        let on_hand = self.places.get(&(sku.to_owned(), place.to_owned())).map_or(0, Place::on_hand);
        (self.promised(sku, place, now_us).iter().sum::<i64>() - on_hand).max(0)
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
            Command::Policy(policy) => self.set_policy(policy),
            Command::Sku { sku, components, .. } => {
                let parts = components.iter().map(|(sku, per)| (sku.to_string(), *per)).collect::<Vec<_>>();
                self.kits.remove(sku.as_str());
                if !parts.is_empty() {
                    self.kits.insert(sku.to_string(), parts);
                }
            }
            Command::Supply { supply, sku, location, open, eta_us } => {
                let known = Supply { place: location.to_string(), open: *open, eta_us: *eta_us };
                self.supplies.insert((sku.to_string(), supply.to_string()), known);
                self.supplies.retain(|_, supply| supply.open > 0);
            }
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
        let change = match moved.kind {
            MovementKind::Ship => -moved.quantity,
            MovementKind::ReturnLost => 0,
            _ => moved.quantity,
        };
        let place = self.place(&moved.sku, &moved.location);
        if place.is_after_count(moved.occurred_at_us) {
            place.moved.push((moved.occurred_at_us, change));
        }
        let supply = moved.supply.as_ref().map(|id| (moved.sku.to_string(), id.to_string()));
        if let Some(supply) = supply.and_then(|key| self.supplies.get_mut(&key)) {
            supply.open = (supply.open - moved.quantity).max(0);
        }
        self.supplies.retain(|_, supply| supply.open > 0);
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
            let channel = known.channel.clone();
            self.sold(&channel, (&moved.sku, &moved.location), moved.quantity - left, now_us);
        }
    }

    /// Everybody served who can be, and without the holds whose place a request takes.
    fn before(&self, wanted: &Reserve, now_us: i64) -> Self {
        let mut before = self.settled(now_us).into_owned();
        before.reservations.remove(wanted.id.as_str());
        if let Some(other) = &wanted.replaces {
            before.reservations.remove(other.as_str());
        }
        before
    }

    fn reserve(&mut self, wanted: &Reserve, now_us: i64, made: &[Line]) -> Result<(), String> {
        let mut left: BTreeMap<(u32, String), i64> = BTreeMap::new();
        for (number, item) in (0..).zip(&wanted.items) {
            for (sku, per) in self.takes(&item.sku) {
                left.insert((number, sku), per * item.quantity);
            }
        }
        for line in made {
            let item = wanted.items.get(line.item as usize);
            let is_there = item.and_then(|item| item.location.as_ref()).is_none_or(|only| *only == *line.place);
            let wanted = left.get_mut(&(line.item, line.sku.clone())).filter(|_| is_there);
            *wanted.ok_or_else(|| format!("nobody wanted {line:?}"))? -= line.quantity;
        }
        let pieces = left.len();
        let is_whole = wanted.allow_split || wanted.backorder_until_us.is_some() || made.len() == pieces;
        if left.values().any(|left| *left != 0) || !is_whole {
            return Err(format!("of {wanted:?} it made {made:?}, which leaves {left:?}"));
        }
        self.before(wanted, now_us).try_lines(made, &wanted.channel, wanted.backorder_until_us, now_us)?;
        let replaced = wanted.replaces.as_ref().filter(|other| **other != wanted.id);
        let replaced = replaced.and_then(|other| self.reservations.get_mut(other.as_str()));
        if let Some(other) = replaced.filter(|other| other.state_at(now_us) == State::Held) {
            other.lines.iter_mut().for_each(|line| line.released += std::mem::take(&mut line.open));
            other.state = State::Released;
        }
        let made = Reservation {
            state: State::Held,
            expires_at_us: wanted.expires_at_us,
            lines: made.to_vec(),
            channel: wanted.channel.to_string(),
            priority: made.iter().map(|line| self.priority(&line.sku, &wanted.channel)).max().unwrap_or(0),
            promised_at_us: now_us,
            committed: false,
            wanted: wanted.clone(),
        };
        self.reservations.insert(wanted.id.to_string(), made);
        Ok(())
    }

    pub(crate) fn commit(&mut self, id: &str, now_us: i64, made: &[Line]) -> Result<(), String> {
        let Some(mut known) = self.reservations.get(id).cloned() else { return Err(format!("{id} is committed")) };
        if known.state_at(now_us) == State::Expired {
            let mut again: BTreeMap<(u32, String), i64> = BTreeMap::new();
            let mut waited: BTreeMap<(u32, String), i64> = BTreeMap::new();
            for line in &mut known.lines {
                line.expired += std::mem::take(&mut line.open);
                let key = (line.item, line.sku.clone());
                *again.entry(key.clone()).or_default() += line.expired;
                *waited.entry(key).or_default() += if line.place.is_empty() { line.expired } else { 0 };
            }
            let made = made.get(known.lines.len()..).unwrap_or_default();
            for line in made {
                let key = (line.item, line.sku.clone());
                *again.entry(key.clone()).or_default() -= line.open;
                *waited.entry(key).or_default() -= if line.place.is_empty() { line.open } else { 0 };
            }
            // What was promised of goods that were there is not put off.
            if again.values().any(|left| *left != 0) || waited.values().any(|left| *left < 0) {
                return Err(format!("{id} was reserved again as {made:?}, which leaves {again:?}"));
            }
            self.settled(now_us).into_owned().try_lines(made, &known.channel, Some(i64::MAX), now_us)?;
            known.lines.extend(made.iter().cloned());
            known.promised_at_us = now_us;
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
