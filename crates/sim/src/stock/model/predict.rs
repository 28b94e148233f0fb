//! What has to become of a command, by what is known when it is decided.

use std::collections::BTreeSet;

use lockstep_core::stock::record::ReservationState as State;
use lockstep_core::stock::{Command, Count, Item, Reserve};

use super::{Model, Reservation, Said, movement};

/// How far ahead of the clock a word may be.
const AHEAD_MAX_US: i64 = 300_000_000;

impl Model {
    /// What has to become of a command now.
    pub fn predict(&self, command: &Command, now_us: i64) -> Said {
        match command {
            Command::Count(count) => self.predict_count(count, now_us),
            Command::Move(moved) if self.movements.contains(&movement(moved)) => Said::Repeated,
            Command::Move(moved) if moved.occurred_at_us - now_us > AHEAD_MAX_US => Said::Doubtful,
            Command::Move(_) => Said::Applied,
            Command::Safety { sku, location, quantity } => {
                let known = self.places.get(&(sku.to_string(), location.to_string()));
                if known.map_or(0, |place| place.safety) == *quantity { Said::Repeated } else { Said::Applied }
            }
            Command::Policy(policy) if self.channels.contains(policy.channel.as_str()) => Said::Repeated,
            Command::Policy(_) => Said::Applied,
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
            let same = known.wanted == wanted.items;
            match known.state_at(now_us) {
                State::Held | State::Committed | State::Consumed if same => return Said::Repeated,
                State::Expired => {}
                State::Held if known.lines.iter().all(|line| line.consumed == 0) => {}
                _ => return Said::Refused("reservation-state"),
            }
        }
        // No two items are of one SKU, so that none stands in another's way.
        let fits =
            |item: &Item| self.fits((&item.sku, item.quantity), item.location.as_deref(), now_us, wanted.id.as_str());
        if wanted.items.iter().all(fits) { Said::Applied } else { Said::Refused("stock-short") }
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
                match line.filter(|line| *quantity <= line.open && line.place != location.as_str()) {
                    None => Said::Refused("stock-invalid"),
                    Some(line) if self.fits((&line.sku, *quantity), Some(location.as_str()), now_us, "") => {
                        Said::Applied
                    }
                    Some(_) => Said::Refused("stock-short"),
                }
            }
            _ => Said::Refused("reservation-state"),
        }
    }

    /// An expired hold that is committed is reserved again.
    fn predict_again(&self, known: &Reservation, now_us: i64) -> Said {
        let again: Vec<(&str, i64)> = known
            .lines
            .iter()
            .map(|line| (line.sku.as_str(), line.open + line.expired))
            .filter(|(_, quantity)| *quantity > 0)
            .collect();
        let fits = |wanted: &(&str, i64)| self.fits(*wanted, None, now_us, "");
        if !again.iter().all(fits) {
            return Said::Refused("stock-short");
        }
        let skus: BTreeSet<&str> = again.iter().map(|(sku, _)| *sku).collect();
        if skus.len() == again.len() { Said::Applied } else { Said::AppliedOrShort }
    }
}
