//! The sums over open lines: how a line comes into them and leaves them, and how time takes expired holds out.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::record::ReservationState;
use super::state::{Backorders, LineRef, NONE, Reservation, Stock};

/// Below this a list of ends is not worth cleaning.
const COMPACT_MIN: usize = 32;

impl Stock {
    /// The time that counts: it never goes back, since what has expired can't hold again.
    pub fn tick(&mut self, now_us: i64) -> i64 {
        self.clock_us = self.clock_us.max(now_us);
        self.clock_us
    }

    /// Takes a SKU's expired holds out of its sums. Each hold is looked at once, however often this is called.
    pub(super) fn advance(&mut self, sku: u32) {
        let now_us = self.clock_us;
        if self.skus[sku as usize].ends_at_us > now_us {
            return;
        }
        let mut lapsed = false;
        while let Some(Reverse((at_us, of))) = self.skus[sku as usize].expiring.peek().copied()
            && at_us <= now_us
        {
            self.skus[sku as usize].expiring.pop();
            let Some(mut reservation) = self.reservations.get_mut(of.slot as usize).and_then(Option::take) else {
                continue;
            };
            let is_its = reservation.lines.get(of.line as usize).is_some_and(|line| line.sku == sku);
            if is_its && reservation.state == ReservationState::Held && reservation.expires_at_us <= now_us {
                self.uncount(&mut reservation, of.line as usize);
                lapsed = true;
            }
            self.reservations[of.slot as usize] = Some(reservation);
        }
        let node = &mut self.skus[sku as usize];
        node.ends_at_us = node.expiring.peek().map_or(i64::MAX, |Reverse((at_us, _))| *at_us);
        if lapsed {
            self.touch(sku);
        }
    }

    /// Puts a line into the sums, and into its SKU's list.
    pub(super) fn count(&mut self, reservation: &mut Reservation, slot: u32, number: usize) {
        let is_open = reservation.is_open();
        let line = &mut reservation.lines[number];
        if !is_open || line.open == 0 {
            self.unlist(reservation, slot, number);
            return;
        }
        let node = &mut self.skus[line.sku as usize];
        let of = LineRef { slot, line: number as u32 };
        line.counts = line.open;
        if line.place == NONE {
            line.place = node.lines.len() as u32;
            node.lines.push(of);
        }
        let (sku, open, channel) = (line.sku, line.open, reservation.channel);
        if line.location == NONE {
            let turn = reservation.turn(number as u32);
            let all = &mut node.rare_mut().backorders;
            let at = all.iter().position(|of| of.channel == channel).unwrap_or_else(|| {
                all.push(Backorders { channel, open: 0, queue: BTreeMap::new() });
                all.len() - 1
            });
            all[at].open += open;
            all[at].queue.insert(turn, of);
        } else {
            let location = node.location_mut(line.location);
            match location.by_channel.iter_mut().find(|(of, _)| *of == channel) {
                Some(sum) => sum.1 += open,
                None => location.by_channel.push((channel, open)),
            }
            let is_held = reservation.state == ReservationState::Held;
            *(if is_held { &mut location.held } else { &mut location.committed }) += open;
        }
        if reservation.state == ReservationState::Held {
            node.holding += 1;
            node.ends_at_us = node.ends_at_us.min(reservation.expires_at_us);
            node.expiring.push(Reverse((reservation.expires_at_us, of)));
            if node.expiring.len() > 2 * node.holding + COMPACT_MIN {
                // The reservation at hand is out of its slot, so its own entry is put back by hand.
                let reservations = &self.reservations;
                node.expiring.retain(|Reverse((at_us, of))| {
                    let kept = reservations.get(of.slot as usize).and_then(Option::as_ref);
                    of.slot == slot
                        || kept.is_some_and(|r| {
                            r.state == ReservationState::Held
                                && r.expires_at_us == *at_us
                                && r.lines.get(of.line as usize).is_some_and(|l| l.counts > 0)
                        })
                });
            }
        }
        self.touch(sku);
    }

    /// Takes a line out of the sums.
    pub(super) fn uncount(&mut self, reservation: &mut Reservation, number: usize) {
        let counts = std::mem::take(&mut reservation.lines[number].counts);
        if counts == 0 {
            return;
        }
        let (line, channel) = (reservation.lines[number], reservation.channel);
        let is_held = reservation.state == ReservationState::Held;
        let node = &mut self.skus[line.sku as usize];
        if line.location == NONE {
            let turn = reservation.turn(number as u32);
            if let Some(of) = node.rare_mut().backorders.iter_mut().find(|of| of.channel == channel) {
                of.open -= counts;
                of.queue.remove(&turn);
            }
            node.rare_mut().backorders.retain(|of| !of.queue.is_empty());
        } else {
            let location = node.location_mut(line.location);
            if let Some(at) = location.by_channel.iter().position(|(of, _)| *of == channel) {
                location.by_channel[at].1 -= counts;
                if location.by_channel[at].1 == 0 {
                    // The channel's number may be another one's tomorrow.
                    location.by_channel.swap_remove(at);
                }
            }
            *(if is_held { &mut location.held } else { &mut location.committed }) -= counts;
        }
        if is_held {
            node.holding -= 1;
        }
        self.touch(line.sku);
    }

    /// Takes a line out of its SKU's list.
    pub(super) fn unlist(&mut self, reservation: &mut Reservation, slot: u32, number: usize) {
        let line = &mut reservation.lines[number];
        let place = std::mem::replace(&mut line.place, NONE);
        if place == NONE {
            return;
        }
        let lines = &mut self.skus[line.sku as usize].lines;
        lines.swap_remove(place as usize);
        let Some(moved) = lines.get(place as usize).copied() else { return };
        let other = if moved.slot == slot {
            Some(reservation)
        } else {
            self.reservations.get_mut(moved.slot as usize).and_then(Option::as_mut)
        };
        if let Some(line) = other.and_then(|other| other.lines.get_mut(moved.line as usize)) {
            line.place = place;
        }
    }

    /// When the next hold ends that is not written down as ended.
    pub fn next_end_us(&mut self) -> Option<i64> {
        while let Some(Reverse((at_us, slot))) = self.due.peek().copied() {
            let holds = |r: &Reservation| r.state == ReservationState::Held && r.expires_at_us == at_us;
            if self.reservation(slot).is_some_and(holds) {
                return Some(at_us);
            }
            self.due.pop();
        }
        None
    }

    /// Whether there may be something to tell channels.
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Cleans the sweep's list when most of it holds no more.
    pub(super) fn compact_due(&mut self) {
        if self.due.len() > 2 * self.due_kept + COMPACT_MIN {
            let reservations = &self.reservations;
            self.due.retain(|Reverse((at_us, slot))| {
                let kept = reservations.get(*slot as usize).and_then(Option::as_ref);
                kept.is_some_and(|r| r.state == ReservationState::Held && r.expires_at_us == *at_us)
            });
            self.due_kept = self.due.len();
        }
    }

    /// Says what a kit is made of.
    pub(super) fn make_kit(&mut self, kit: u32, components: Vec<(u32, i64)>) {
        let before = self.skus[kit as usize].components().to_vec();
        for (component, _) in &before {
            self.skus[*component as usize].rare_mut().part_of.retain(|of| *of != kit);
        }
        for (component, _) in &components {
            self.skus[*component as usize].rare_mut().part_of.push(kit);
        }
        if before != components {
            let parts = before.iter().chain(&components).map(|(component, _)| *component);
            parts.chain([kit]).for_each(|sku| self.reform(sku));
        }
        if !components.is_empty() || self.skus[kit as usize].rare.is_some() {
            self.skus[kit as usize].rare_mut().components = components;
        }
    }
}
