//! The invariants, over stock as it stands: what is broken is said in words, nothing is mended.
//!
//! Of the ten, these are of stock alone: 1 (sums), 2 (on hand), 3 (lines), 5 (of a reservation: shipped at most what was
//! not given back), 8 (consumed where reserved: a line never changes its location) and 10 (no open reservation of
//! what is over). 4 is held by every decision, 7 by the hub's deliveries and [`Stock::seen`], 9 by the hub; 6 is of
//! payments.

use std::collections::BTreeMap;

use super::record::ReservationState;
use super::state::{LineRef, NONE, Stock};

/// What is broken, in words.
pub type Violations = Vec<String>;

impl Stock {
    /// Checks one SKU with its open lines: cheap enough after each fold.
    pub fn check_sku(&self, sku: &str) -> Violations {
        let mut broken = Violations::new();
        if let Some(sku) = self.sku_names.find(sku) {
            self.check_one(sku, &mut broken);
        }
        broken
    }

    /// Checks everything. `is_over` says of an owner that it can have no open reservation any more.
    pub fn check(&self, is_over: impl Fn(&str) -> bool) -> Violations {
        let mut broken = Violations::new();
        (0..self.skus.len() as u32).for_each(|sku| self.check_one(sku, &mut broken));
        let mut open = 0;
        for (slot, reservation) in (0..).zip(&self.reservations) {
            let Some(r) = reservation else { continue };
            let id = &r.id;
            if self.slot(id) != Some(slot) {
                broken.push(format!("reservation {id} is not found under its id"));
            }
            if r.is_open() && !r.is_expired(self.clock_us) && is_over(&r.owner) {
                broken.push(format!("reservation {id} is open, and its owner {} is over", r.owner));
            }
            for (number, line) in (0..).zip(&r.lines) {
                let parts = [line.open, line.consumed, line.released, line.expired];
                if parts.iter().sum::<i64>() != line.quantity || parts.iter().any(|part| *part < 0) {
                    broken.push(format!("line {number} of {id}: {} is not the sum of {parts:?}", line.quantity));
                }
                if line.location == NONE && line.consumed > 0 {
                    broken.push(format!("line {number} of {id} is consumed and was never reserved anywhere"));
                }
                if line.open > 0 && !r.is_open() {
                    broken.push(format!("line {number} of {id} is open, and the reservation is {:?}", r.state));
                }
                let listed = self.skus[line.sku as usize].lines.get(line.place as usize);
                open += usize::from(line.open > 0);
                if (line.open > 0) != (listed == Some(&LineRef { slot, line: number })) {
                    broken.push(format!("line {number} of {id} is not where its SKU has it"));
                }
            }
            if r.is_open() && r.lines.iter().all(|line| line.open == 0) {
                broken.push(format!("reservation {id} is {:?} with nothing open", r.state));
            }
        }
        let listed: usize = self.skus.iter().map(|node| node.lines.len()).sum();
        if listed != open {
            broken.push(format!("{listed} open lines are listed, and there are {open}"));
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
                broken.push(format!("{name} lists a line of no reservation"));
                continue;
            };
            let Some(line) = r.lines.get(of.line as usize).filter(|line| line.sku == sku) else {
                broken.push(format!("{name} lists line {} of {}, which is not its own", of.line, r.id));
                continue;
            };
            let is_held = r.state == ReservationState::Held;
            // One that is over leaves the sums when the SKU is next looked at, and stays out.
            let may_count = line.counts == line.open || (line.counts == 0 && r.is_expired(self.clock_us));
            if !may_count {
                broken.push(format!("line {} of {} counts {} of {}", of.line, r.id, line.counts, line.open));
            }
            holding += usize::from(is_held && line.counts > 0);
            sums.entry(line.location).or_default()[usize::from(!is_held)] += line.counts;
            *by_channel.entry((line.location, r.channel)).or_default() += line.counts;
        }
        if holding != node.holding {
            broken.push(format!("{name} has {} holds, and counts {}", holding, node.holding));
        }
        for at in &node.locations {
            let place = self.locations.name(at.id);
            let [held, committed] = sums.get(&at.id).copied().unwrap_or_default();
            if (at.held, at.committed) != (held, committed) {
                broken.push(format!(
                    "{name}@{place}: held {} and committed {}, and the lines say {held} and {committed}",
                    at.held, at.committed
                ));
            }
            for (channel, open) in &at.by_channel {
                if by_channel.get(&(at.id, *channel)).copied().unwrap_or(0) != *open {
                    broken.push(format!("{name}@{place}: {open} open of {}", self.channel_names.name(*channel)));
                }
            }
            let since: i64 = at.recents.iter().filter(|r| r.at_us > at.counted_at_us).map(|r| r.on_hand).sum();
            if at.on_hand != at.opening + since {
                broken.push(format!("{name}@{place}: {} on hand is not {} + {since}", at.on_hand, at.opening));
            }
            if at.damaged < 0 || at.quality_control < 0 || at.blocked < 0 || at.safety < 0 {
                broken.push(format!("{name}@{place}: something unavailable or the safety stock is negative"));
            }
            if !at.recents.is_sorted_by_key(|r| r.at_us) {
                broken.push(format!("{name}@{place}: movements are not in the order of their times"));
            }
        }
        for of in node.rare.iter().flat_map(|rare| &rare.backorders) {
            let open = by_channel.get(&(NONE, of.channel)).copied().unwrap_or(0);
            if of.open != open {
                broken.push(format!("{name}: {} backordered, and the lines say {open}", of.open));
            }
        }
    }
}
