//! What is done to stock for orders: told by the hub, and taken over where it can be.

use std::collections::BTreeMap;

use lockstep_core::stock::record::{Moved, ReservationFact, ReservationState as State};
use lockstep_core::stock::{Item, Movement, Reserve};

use super::sale::Piece;
use super::{Line, Model};

/// What the reservations of one owner have of a SKU.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) open: i64,
    /// Of that: what is held only.
    pub(crate) held: i64,
    pub(crate) consumed: i64,
    pub(crate) expired: i64,
}

impl Model {
    /// A reservation that an order has made.
    pub(crate) fn adopt(
        &mut self,
        of: &ReservationFact,
        made: &[Line],
        (allow_split, backorder_until_us): (bool, Option<i64>),
        now_us: i64,
    ) -> Result<(), String> {
        if let Some(known) = self.reservations.get(&of.id).filter(|known| known.is_open(now_us)) {
            return Err(format!("{of:?} was made, and there was {known:?}"));
        }
        let count = made.iter().map(|line| line.item + 1).max().unwrap_or(0);
        let mut items = vec![Item::default(); count as usize];
        for line in made {
            let item = &mut items[line.item as usize];
            item.sku = line.sku.as_str().into();
            item.quantity += line.quantity;
        }
        let wanted = Reserve {
            id: of.id.as_str().into(),
            owner: of.owner.as_str().into(),
            channel: of.channel.as_str().into(),
            expires_at_us: of.expires_at_us,
            items,
            allow_split,
            backorder_until_us,
            ..Reserve::default()
        };
        self.reserve(&wanted, now_us, made)
    }

    /// A part of what is open was given back.
    pub(crate) fn give_back(&mut self, id: &str, told: &[Line], now_us: i64) -> Result<(), String> {
        let known = self.reservations.get_mut(id).filter(|known| known.is_open(now_us));
        let known = known.ok_or_else(|| format!("{id} was given back, and is not open"))?;
        for (line, told) in known.lines.iter_mut().zip(told) {
            let part = line.open - told.open;
            if part < 0 {
                return Err(format!("{id}: {told:?} was given back of {line:?}"));
            }
            line.open -= part;
            line.released += part;
        }
        known.close(State::Released);
        Ok(())
    }

    /// Goods moved, which they can once.
    pub(crate) fn move_once(&mut self, of: &Moved, now_us: i64) -> Result<(), String> {
        let moved = Movement {
            source: of.source.as_str().into(),
            id: of.movement.as_str().into(),
            sku: of.sku.as_str().into(),
            location: of.location.as_str().into(),
            kind: of.kind(),
            quantity: of.quantity,
            occurred_at_us: of.occurred_at_us,
            reservation: (!of.reservation.is_empty()).then(|| of.reservation.as_str().into()),
            ..Movement::default()
        };
        if self.movements.contains(&super::movement(&moved)) {
            return Err(format!("{of:?} moved before"));
        }
        self.move_goods(&moved, now_us);
        Ok(())
    }

    /// What the reservations of an owner have, by SKU.
    pub(crate) fn of_owner(&self, owner: &str, now_us: i64) -> BTreeMap<String, Sums> {
        let mut all: BTreeMap<String, Sums> = BTreeMap::new();
        for known in self.reservations.values().filter(|known| known.wanted.owner == owner) {
            let state = known.state_at(now_us);
            for line in &known.lines {
                let sums = all.entry(line.sku.clone()).or_default();
                sums.consumed += line.consumed;
                sums.expired += line.expired;
                match state {
                    State::Expired => sums.expired += line.open,
                    _ => sums.open += line.open,
                }
                sums.held += if state == State::Held { line.open } else { 0 };
            }
        }
        all
    }

    /// Whether anybody has told of a SKU where it lies or that it is on order, or somebody was promised of it.
    pub(crate) fn knows(&self, sku: &str, now_us: i64) -> bool {
        let open = self.reservations.values().filter(|known| known.is_open(now_us));
        let is_promised = open.flat_map(|known| &known.lines).any(|line| line.sku == sku && line.open > 0);
        let is_on_order = self.supplies.keys().any(|(of, _)| of == sku);
        is_promised || is_on_order || self.places.keys().any(|(of, _)| of == sku)
    }

    /// Whether all of it could be had now.
    pub(crate) fn could_have(
        &self,
        lacks: &BTreeMap<String, i64>,
        channel: &str,
        (split, until_us): (bool, Option<i64>),
        now_us: i64,
    ) -> bool {
        let settled = self.settled(now_us);
        let piece = |(sku, quantity): (&'_ String, &i64)| {
            settled.fits(Piece { sku, quantity: *quantity, only: None, split, until_us }, channel, now_us)
        };
        lacks.iter().all(piece)
    }

    /// Whose names all are known by.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.reservations.keys().cloned().collect()
    }
}
