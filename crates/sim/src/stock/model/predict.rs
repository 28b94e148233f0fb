//! What has to become of a command, by what is known when it is decided.

use std::collections::BTreeSet;

use lockstep_core::stock::record::ReservationState as State;
use lockstep_core::stock::{Command, Count, Reserve};

use super::sale::Piece;
use super::{Line, Model, Reservation, Said, Supply, movement};

/// How far ahead of the clock a word may be.
const AHEAD_MAX_US: i64 = 300_000_000;

impl Model {
    /// What has to become of a command now. Whoever waits for supply is served before it.
    pub fn predict(&self, command: &Command, now_us: i64) -> Said {
        self.settled(now_us).predict_settled(command, now_us)
    }

    fn predict_settled(&self, command: &Command, now_us: i64) -> Said {
        match command {
            Command::Count(count) => self.predict_count(count, now_us),
            Command::Move(moved) if self.movements.contains(&movement(moved)) => Said::Repeated,
            Command::Move(moved) if moved.occurred_at_us - now_us > AHEAD_MAX_US => Said::Doubtful,
            Command::Move(_) => Said::Applied,
            Command::Safety { sku, location, quantity } => {
                let known = self.places.get(&(sku.to_string(), location.to_string()));
                if known.map_or(0, |place| place.safety) == *quantity { Said::Repeated } else { Said::Applied }
            }
            Command::Policy(policy) => {
                if self.has_policy(policy) {
                    Said::Repeated
                } else {
                    Said::Applied
                }
            }
            Command::Sku { sku, components, .. } => {
                // Kits are of SKUs that are none, and have no stock of their own.
                let known = self.kits.get(sku.as_str()).map_or(&[][..], Vec::as_slice);
                let same = known.len() == components.len()
                    && known.iter().zip(components).all(|(a, b)| (a.0.as_str(), a.1) == (b.0.as_str(), b.1));
                if same { Said::Repeated } else { Said::Applied }
            }
            Command::Supply { supply, sku, location, open, eta_us } => {
                let known = self.supplies.get(&(sku.to_string(), supply.to_string()));
                let said = Supply { place: location.to_string(), open: *open, eta_us: *eta_us };
                let same = known.map_or(*open == 0, |known| *known == said);
                if same { Said::Repeated } else { Said::Applied }
            }
            Command::Reserve(wanted) => self.predict_reserve(wanted, now_us),
            Command::Extend { expires_at_us, .. } if *expires_at_us <= now_us => Said::Refused("stock-invalid"),
            Command::Commit { id }
            | Command::Release { id, .. }
            | Command::Extend { id, .. }
            | Command::Transfer { id, .. } => match self.reservations.get(id.as_str()) {
                None => Said::Refused("unknown-reservation"),
                Some(known) => self.predict_step(command, known, now_us),
            },
            _ => Said::Refused("stock-invalid"),
        }
    }

    fn predict_count(&self, count: &Count, now_us: i64) -> Said {
        if count.as_of_us - now_us > AHEAD_MAX_US {
            return Said::Doubtful;
        }
        let known = self.places.get(&(count.sku.to_string(), count.location.to_string()));
        match known.and_then(|place| place.counted) {
            Some((at_us, _)) if count.as_of_us < at_us => Said::Ignored,
            Some((at_us, counted)) if count.as_of_us == at_us && counted == count.quantity => Said::Repeated,
            Some((at_us, _)) if count.as_of_us == at_us => Said::Doubtful,
            _ => Said::Applied,
        }
    }

    fn predict_reserve(&self, wanted: &Reserve, now_us: i64) -> Said {
        if wanted.expires_at_us <= now_us {
            return Said::Refused("stock-invalid");
        }
        if let Some(known) = self.reservations.get(wanted.id.as_str()) {
            match known.state_at(now_us) {
                State::Held | State::Committed | State::Consumed if same_request(&known.wanted, wanted) => {
                    return Said::Repeated;
                }
                State::Expired => {}
                State::Held if known.lines.iter().all(|line| line.consumed == 0) => {}
                _ => return Said::Refused("reservation-state"),
            }
        }
        let replaced = wanted.replaces.as_ref().filter(|other| **other != wanted.id);
        if let Some(other) = replaced.and_then(|other| self.reservations.get(other.as_str()))
            && matches!(other.state_at(now_us), State::Committed | State::Consumed)
        {
            return Said::Refused("reservation-state");
        }
        let mut ruled = self.channels.iter().filter(|(_, of)| !of.said.is_empty()).map(|(name, _)| name.as_str());
        let is_ruled = |name: &str| self.channels.get(name).is_some_and(|of| !of.said.is_empty());
        if ruled.next().is_some() && !is_ruled(&wanted.channel) {
            return Said::Refused("stock-invalid");
        }
        let is_known = |sku: &str| self.kits.contains_key(sku) || self.knows(sku, now_us);
        if wanted.items.iter().any(|item| !is_known(&item.sku)) {
            return Said::Refused("stock-invalid");
        }
        let mut places = wanted.items.iter().filter_map(|item| item.location.as_deref());
        if !places.all(|place| self.has_place(place)) {
            return Said::ShortOrUnknown;
        }
        let pieces: Vec<(String, i64, Option<&str>)> = wanted
            .items
            .iter()
            .flat_map(|item| {
                let takes = self.takes(&item.sku).into_iter();
                takes.map(|(sku, per)| (sku, per * item.quantity, item.location.as_deref()))
            })
            .collect();
        let before = self.before(wanted, now_us);
        let fits = |(sku, quantity, only): &(String, i64, Option<&str>)| {
            let (split, until_us) = (wanted.allow_split, wanted.backorder_until_us);
            before.fits(Piece { sku, quantity: *quantity, only: *only, split, until_us }, &wanted.channel, now_us)
        };
        fit_all(pieces.iter().all(fits), pieces.iter().map(|(sku, ..)| sku.as_str()))
    }

    fn has_place(&self, place: &str) -> bool {
        self.places.keys().any(|(_, known)| known == place)
    }

    fn predict_step(&self, command: &Command, known: &Reservation, now_us: i64) -> Said {
        let state = known.state_at(now_us);
        let is_open = known.is_open(now_us);
        match command {
            Command::Commit { .. } => match state {
                State::Committed => Said::Repeated,
                State::Consumed if known.committed => Said::Repeated,
                State::Held => Said::Applied,
                State::Expired => self.predict_again(known, now_us),
                _ => Said::Refused("reservation-state"),
            },
            Command::Release { lines, .. } if is_open => {
                let is_there = |(number, quantity): &(u32, i64)| {
                    known.lines.get(*number as usize).is_some_and(|line| *quantity <= line.open)
                };
                if lines.iter().all(is_there) { Said::Applied } else { Said::Refused("stock-invalid") }
            }
            Command::Release { .. } if state == State::Released => Said::Repeated,
            Command::Extend { expires_at_us, .. } if state == State::Held => {
                if known.expires_at_us == *expires_at_us {
                    Said::Repeated
                } else {
                    Said::Applied
                }
            }
            Command::Transfer { line, location, quantity, .. } if is_open => {
                let line = known.lines.get(*line as usize);
                let can_move =
                    |line: &&Line| *quantity <= line.open && !line.place.is_empty() && line.place != location.as_str();
                match line.filter(can_move) {
                    None => Said::Refused("stock-invalid"),
                    Some(line) if self.usable(&line.sku, location, &known.channel, now_us) >= *quantity => {
                        Said::Applied
                    }
                    Some(_) if self.has_place(location) => Said::Refused("stock-short"),
                    Some(_) => Said::ShortOrUnknown,
                }
            }
            _ => Said::Refused("reservation-state"),
        }
    }

    /// An expired hold that is committed is reserved again.
    fn predict_again(&self, known: &Reservation, now_us: i64) -> Said {
        let again = known.lines.iter().map(|line| (line, line.open + line.expired));
        let again: Vec<Piece<'_>> = again
            .filter(|(_, quantity)| *quantity > 0)
            .map(|(line, quantity)| {
                // What waited for supply may wait again; the rest must be there.
                let until_us = line.place.is_empty().then_some(i64::MAX);
                Piece { sku: &line.sku, quantity, only: None, split: false, until_us }
            })
            .collect();
        let fits = |piece: &Piece<'_>| self.fits(*piece, &known.channel, now_us);
        fit_all(again.iter().all(fits), again.iter().map(|piece| piece.sku))
    }
}

/// Pieces that can each be had can all be had where no two are of one SKU, and none stands in another's way.
fn fit_all<'a>(each: bool, skus: impl ExactSizeIterator<Item = &'a str>) -> Said {
    let count = skus.len();
    let different: BTreeSet<&str> = skus.collect();
    match each {
        false => Said::Refused("stock-short"),
        true if different.len() == count => Said::Applied,
        true => Said::AppliedOrShort,
    }
}

/// Whether a request is another one's repetition: its end may be another.
fn same_request(one: &Reserve, other: &Reserve) -> bool {
    let said = |of: &Reserve| (of.channel.clone(), of.allow_partial, of.allow_split, of.backorder_until_us.is_some());
    said(one) == said(other) && one.items == other.items
}
