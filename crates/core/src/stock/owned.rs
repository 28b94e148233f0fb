//! What an order needs to know of stock to follow it: which SKUs there are, what they are made of, and what its own
//! reservations have.

use compact_str::CompactString;

use super::record::ReservationState;
use super::state::{Reservation, Stock};

/// A line of one of an order's reservations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnLine {
    /// The reservation's id.
    pub reservation: CompactString,
    /// The line's number in it.
    pub number: u32,
    /// The SKU; of a kit, a component.
    pub sku: CompactString,
    /// Where it is reserved; empty while it is backordered.
    pub location: CompactString,
    /// Where the reservation stands now.
    pub state: ReservationState,
    /// What still counts: nothing where the reservation is over, or its time is.
    pub open: i64,
    /// What was shipped of it.
    pub consumed: i64,
    /// What ended by itself, whether that is written down or not.
    pub expired: i64,
}

impl Stock {
    /// Whether there is nothing that could be reserved.
    pub fn is_empty(&self) -> bool {
        self.skus.is_empty()
    }

    /// Whether somebody has told of a SKU where it lies, what it is made of, or that it is on order; or was promised of it
    /// before its supply was taken back.
    pub fn knows(&self, sku: &str) -> bool {
        let Some(number) = self.sku_names.find(sku) else { return false };
        let node = &self.skus[number as usize];
        let is_on_order = node.rare.as_ref().is_some_and(|rare| !rare.supplies.is_empty());
        let is_open = |reservation: &Reservation| reservation.is_open() && !reservation.is_expired(self.clock_us);
        let is_promised = || node.lines.iter().any(|of| self.reservation(of.slot).is_some_and(is_open));
        !node.locations.is_empty() || !node.components().is_empty() || is_on_order || is_promised()
    }

    /// What one of a SKU takes: of a kit its components, of another one itself.
    pub fn takes(&self, sku: &str) -> Vec<(CompactString, i64)> {
        let number = self.sku_names.find(sku);
        let components = number.map_or(&[][..], |number| self.skus[number as usize].components());
        match components {
            [] => vec![(sku.into(), 1)],
            some => some.iter().map(|(sku, per)| (self.sku_names.name(*sku).into(), *per)).collect(),
        }
    }

    /// Where a reservation stands at a time; nothing where there is none.
    pub fn state_of(&self, id: &str, now_us: i64) -> Option<ReservationState> {
        Some(self.reservation(self.slot(id)?)?.state_at(now_us.max(self.clock_us)))
    }

    /// The lines of reservations at a time.
    pub fn lines_of(&self, ids: &[String], now_us: i64) -> Vec<OwnLine> {
        let mut lines = Vec::new();
        for id in ids {
            let Some(view) = self.reservation_view(id, now_us) else { continue };
            let is_open = matches!(view.state, ReservationState::Held | ReservationState::Committed);
            lines.extend(view.lines.into_iter().map(|line| OwnLine {
                reservation: id.as_str().into(),
                number: line.line,
                sku: line.sku.into(),
                location: line.location.into(),
                state: view.state,
                open: if is_open { line.open } else { 0 },
                consumed: line.consumed,
                expired: line.expired + if is_open { 0 } else { line.open },
            }));
        }
        lines
    }
}
