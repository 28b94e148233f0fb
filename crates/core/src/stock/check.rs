//! The invariants, over stock as it stands: what is broken is said in words, nothing is mended.
//!
//! Of the ten, these are of stock alone: 1 (sums), 2 (on hand), 3 (lines), 4 (what is reserved is there), 8 (consumed
//! where reserved) and 10 (no open reservation of what is over). 7 is held by the hub's deliveries and [`Stock::seen`],
//! 9 by the hub; 5 and 6 are of orders and payments.

use std::collections::BTreeMap;
use std::fmt;

use compact_str::CompactString;

use super::record::{ReservationState, StockBody, StockFact};
use super::reservation::Reservation;
use super::state::{LineRef, NONE, Stock};

/// What is broken.
pub type Violations = Vec<Violation>;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Its number, 1 to 10.
    pub invariant: u8,
    /// What is broken, in words: which SKU or reservation, and both numbers.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.detail)
    }
}

/// A SKU that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The SKU.
    pub sku: CompactString,
    /// How much work it was: its locations and open lines.
    pub size: usize,
    /// What is broken.
    pub broken: Violations,
}

fn say(broken: &mut Violations, invariant: u8, detail: String) {
    broken.push(Violation { invariant, detail });
}

fn parts(r: &Reservation, number: usize, broken: &mut Violations) {
    let Some(line) = r.lines.get(number) else { return };
    let parts = [line.open, line.consumed, line.released, line.expired];
    let sum: i64 = parts.iter().sum();
    if sum != line.quantity || parts.iter().any(|part| *part < 0) {
        let detail = format!(
            "line {number} of {} is of {}, and open {} + consumed {} + released {} + expired {} is {sum}",
            r.id, line.quantity, line.open, line.consumed, line.released, line.expired
        );
        say(broken, 3, detail);
    }
}

impl Stock {
    /// Checks one SKU with its open lines: cheap enough after each fold.
    pub fn check_sku(&self, sku: &str) -> Violations {
        let mut broken = Violations::new();
        if let Some(sku) = self.sku_names.find(sku) {
            self.check_one(sku, &mut broken);
        }
        broken
    }

    /// Checks everything. `is_over` says of an owner that it can have no open reservation any more. `now_us` is when that
    /// was asked: what stock has seen of the time ends with its own last word, and a hold may have run out since.
    pub fn check(&self, now_us: i64, is_over: impl Fn(&str) -> bool) -> Violations {
        let now_us = now_us.max(self.clock_us);
        let mut broken = Violations::new();
        (0..self.skus.len() as u32).for_each(|sku| self.check_one(sku, &mut broken));
        let mut open = 0;
        for (slot, reservation) in (0..).zip(&self.reservations) {
            let Some(r) = reservation else { continue };
            let id = &r.id;
            if self.slot(id) != Some(slot) {
                say(&mut broken, 1, format!("reservation {id} is not found under its id"));
            }
            if r.is_open() && !r.is_expired(now_us) && is_over(&r.owner) {
                say(&mut broken, 10, format!("reservation {id} is open, and its owner {} is over", r.owner));
            }
            for (number, line) in (0..).zip(&r.lines) {
                parts(r, number as usize, &mut broken);
                if line.location == NONE && line.consumed > 0 {
                    say(&mut broken, 8, format!("line {number} of {id} is consumed and was never reserved anywhere"));
                }
                if line.open > 0 && !r.is_open() {
                    say(&mut broken, 3, format!("line {number} of {id} is open, and the reservation is {:?}", r.state));
                }
                let listed = self.skus[line.sku as usize].lines.get(line.place as usize);
                open += usize::from(line.open > 0);
                if (line.open > 0) != (listed == Some(&LineRef { slot, line: number })) {
                    say(&mut broken, 1, format!("line {number} of {id} is not where its SKU has it"));
                }
            }
            if r.is_open() && r.lines.iter().all(|line| line.open == 0) {
                say(&mut broken, 3, format!("reservation {id} is {:?} with nothing open", r.state));
            }
        }
        let listed: usize = self.skus.iter().map(|node| node.lines.len()).sum();
        if listed != open {
            say(&mut broken, 1, format!("{listed} open lines are listed, and there are {open}"));
        }
        broken
    }

    /// Checks the next SKU that was touched since it was last checked, if there is one.
    pub fn check_next(&mut self) -> Option<Checked> {
        let sku = self.suspects.pop_front()?;
        self.skus[sku as usize].suspect = false;
        let node = &self.skus[sku as usize];
        let size = 1 + node.locations.len() + node.lines.len();
        let mut broken = Violations::new();
        self.check_one(sku, &mut broken);
        Some(Checked { sku: self.sku_names.name(sku).into(), size, broken })
    }

    /// How many SKUs wait to be checked.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// Whether a fact that has just been folded reserves more than there is (4): only goods and the safety stock may
    /// bring a location below nothing, never a reservation.
    pub fn check_reserved(&mut self, fact: &StockFact) -> Violations {
        let mut broken = Violations::new();
        let Some(StockBody::Reservation(of)) = &fact.body else { return broken };
        if !of.fresh {
            return broken;
        }
        for line in of.lines.iter().filter(|line| line.open > 0 && !line.location.is_empty()) {
            let sku = self.sku_names.find(&line.sku);
            // What has expired by now has given way.
            sku.into_iter().for_each(|sku| self.advance(sku));
            let node = sku.map(|sku| &self.skus[sku as usize]);
            let at = self.locations.find(&line.location).and_then(|location| node?.location(location));
            let atf = at.map_or(0, |at| at.atf());
            if atf < 0 {
                let (sku, location, id, open) = (&line.sku, &line.location, &of.id, line.open);
                say(&mut broken, 4, format!("{id} reserved {open} of {sku}@{location}, which leaves {atf}"));
            }
        }
        broken
    }

    /// Checks the lines of a reservation that is in memory, open or over.
    pub fn check_reservation(&self, id: &str) -> Violations {
        let mut broken = Violations::new();
        if let Some(r) = self.slot(id).and_then(|slot| self.reservation(slot)) {
            (0..r.lines.len()).for_each(|number| parts(r, number, &mut broken));
        }
        broken
    }

    fn check_one(&self, sku: u32, broken: &mut Violations) {
        let (node, name) = (&self.skus[sku as usize], self.sku_names.name(sku));
        // By location: held, committed; by location and channel: open.
        let (mut sums, mut by_channel) = (BTreeMap::<u32, [i64; 2]>::new(), BTreeMap::<(u32, u32), i64>::new());
        let mut holding = 0;
        for of in &node.lines {
            let Some(r) = self.reservation(of.slot) else {
                say(broken, 1, format!("{name} lists a line of no reservation"));
                continue;
            };
            let Some(line) = r.lines.get(of.line as usize).filter(|line| line.sku == sku) else {
                say(broken, 1, format!("{name} lists line {} of {}, which is not its own", of.line, r.id));
                continue;
            };
            let is_held = r.state == ReservationState::Held;
            // One that is over leaves the sums when the SKU is next looked at, and stays out.
            let may_count = line.counts == line.open || (line.counts == 0 && r.is_expired(self.clock_us));
            if !may_count {
                say(broken, 1, format!("line {} of {} counts {} of {}", of.line, r.id, line.counts, line.open));
            }
            holding += usize::from(is_held && line.counts > 0);
            parts(r, of.line as usize, broken);
            sums.entry(line.location).or_default()[usize::from(!is_held)] += line.counts;
            *by_channel.entry((line.location, r.channel)).or_default() += line.counts;
        }
        if holding != node.holding {
            say(broken, 1, format!("{name} has {} holds, and counts {}", holding, node.holding));
        }
        for at in &node.locations {
            let place = self.locations.name(at.id);
            let [held, committed] = sums.get(&at.id).copied().unwrap_or_default();
            if (at.held, at.committed) != (held, committed) {
                say(
                    broken,
                    1,
                    format!(
                        "{name}@{place}: held {} and committed {}, and the lines say {held} and {committed}",
                        at.held, at.committed
                    ),
                );
            }
            for (channel, open) in &at.by_channel {
                if by_channel.get(&(at.id, *channel)).copied().unwrap_or(0) != *open {
                    say(
                        broken,
                        1,
                        format!(
                            "{name}@{place}: {open} open of channel {}, and the lines say {}",
                            self.channel_names.name(*channel),
                            by_channel.get(&(at.id, *channel)).copied().unwrap_or(0)
                        ),
                    );
                }
            }
            let since: i64 = at.recents.iter().filter(|r| r.at_us > at.counted_at_us).map(|r| r.on_hand).sum();
            if at.on_hand != at.opening + since {
                say(broken, 2, format!("{name}@{place}: {} on hand is not {} + {since}", at.on_hand, at.opening));
            }
            if at.damaged < 0 || at.quality_control < 0 || at.blocked < 0 || at.safety < 0 {
                say(broken, 2, format!("{name}@{place}: something unavailable or the safety stock is negative"));
            }
            if !at.recents.is_sorted_by_key(|r| r.at_us) {
                say(broken, 2, format!("{name}@{place}: movements are not in the order of their times"));
            }
        }
        for of in node.rare.iter().flat_map(|rare| &rare.backorders) {
            let open = by_channel.get(&(NONE, of.channel)).copied().unwrap_or(0);
            if of.open != open {
                say(broken, 1, format!("{name}: {} backordered, and the lines say {open}", of.open));
            }
        }
    }
}
