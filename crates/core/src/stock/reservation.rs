//! A reservation and its lines.

use std::cmp::Reverse;

use compact_str::CompactString;
use smallvec::SmallVec;

use super::record::ReservationState;
use super::sku::Turn;

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) id: CompactString,
    pub(super) owner: CompactString,
    pub(super) channel: u32,
    pub(super) state: ReservationState,
    pub(super) committed: bool,
    pub(super) dirty: bool,
    pub(super) priority: i32,
    pub(super) promised_at_us: i64,
    pub(super) expires_at_us: i64,
    pub(super) request_hash: u64,
    pub(super) lines: SmallVec<[Line; 1]>,
}

/// A line of a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) sku: u32,
    /// [`NONE`] while it is backordered.
    pub(super) location: u32,
    pub(super) item: u32,
    /// Where it stands in the SKU's list of open lines; [`NONE`] where it does not.
    pub(super) place: u32,
    /// What of it is in the sums.
    pub(super) counts: i64,
    pub(super) quantity: i64,
    pub(super) open: i64,
    pub(super) consumed: i64,
    pub(super) released: i64,
    pub(super) expired: i64,
    pub(super) acknowledged_at_us: i64,
}

impl Reservation {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, ReservationState::Held | ReservationState::Committed)
    }

    /// A hold whose time is over, whether that is written down or not.
    pub(super) fn is_expired(&self, now_us: i64) -> bool {
        match self.state {
            ReservationState::Expired => true,
            ReservationState::Held => self.expires_at_us <= now_us,
            _ => false,
        }
    }

    /// Where it stands at a time.
    pub(super) fn state_at(&self, now_us: i64) -> ReservationState {
        if self.is_expired(now_us) { ReservationState::Expired } else { self.state }
    }

    pub(super) fn turn(&self, line: u32) -> Turn {
        (Reverse(self.priority), self.promised_at_us, self.id.clone(), line)
    }
}
