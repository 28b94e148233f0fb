//! What can be asked of stock, as plain data, and what it must look like.

use compact_str::CompactString;
use thiserror::Error;

use super::record::{CountBasis, LineFact, MovementKind, ReservationState};
use crate::QuarantineReason;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A count of what lies somewhere.
    Count(Count),
    /// Goods moved; a count told as a difference is an `Adjust`.
    Move(Movement),
    /// What of the stock on hand can't be sold.
    Unavailable(Unavailable),
    /// Sets the safety stock of a SKU at a location.
    Safety {
        /// The SKU.
        sku: CompactString,
        /// The location.
        location: CompactString,
        /// How much no new reservation may touch.
        quantity: i64,
    },
    /// Sets or takes away a policy.
    Policy(PolicyOf),
    /// Says what a SKU is.
    Sku {
        /// The SKU.
        sku: CompactString,
        /// How many decimal digits its quantities have.
        scale: u32,
        /// What one kit is made of, each with its quantity; none where it is no kit.
        components: Vec<(CompactString, i64)>,
    },
    /// Sets what is still to come of a supply; 0 ends it.
    Supply {
        /// Its id.
        supply: CompactString,
        /// The SKU.
        sku: CompactString,
        /// Where it will arrive.
        location: CompactString,
        /// What is still to come.
        open: i64,
        /// When it is expected.
        eta_us: i64,
    },
    /// Reserves.
    Reserve(Reserve),
    /// Makes a hold last: no expiry any more.
    Commit {
        /// The reservation.
        id: CompactString,
    },
    /// Gives back.
    Release {
        /// The reservation.
        id: CompactString,
        /// How much of which line; none is all that is open.
        lines: Vec<(u32, i64)>,
    },
    /// Moves the end of a hold.
    Extend {
        /// The reservation.
        id: CompactString,
        /// Its new end.
        expires_at_us: i64,
    },
    /// Moves a part of a line to another location: released there and reserved here in one step.
    Transfer {
        /// The reservation.
        id: CompactString,
        /// The line.
        line: u32,
        /// Where to.
        location: CompactString,
        /// How much of it.
        quantity: i64,
    },
    /// The warehouse has taken over what is open of a reservation: its own counts of what is available leave it out.
    Acknowledge {
        /// The reservation.
        id: CompactString,
        /// The location; empty for all.
        location: CompactString,
        /// When.
        at_us: i64,
    },
    /// Writes down holds that have expired, the earliest first. It frees nothing: they stopped counting before.
    Expire {
        /// At most so many.
        limit: usize,
    },
}

impl Command {
    /// The reservations that it speaks of: they have to be in memory when it is decided.
    pub fn reservations(&self) -> impl Iterator<Item = &CompactString> {
        let (one, other) = match self {
            Self::Reserve(reserve) => (Some(&reserve.id), reserve.replaces.as_ref()),
            Self::Move(movement) => (movement.reservation.as_ref(), None),
            Self::Commit { id }
            | Self::Release { id, .. }
            | Self::Extend { id, .. }
            | Self::Transfer { id, .. }
            | Self::Acknowledge { id, .. } => (Some(id), None),
            Self::Count(_)
            | Self::Unavailable(_)
            | Self::Safety { .. }
            | Self::Policy(_)
            | Self::Sku { .. }
            | Self::Supply { .. }
            | Self::Expire { .. } => (None, None),
        };
        one.into_iter().chain(other)
    }
}

impl Command {
    /// How many parts it has: what it takes in memory goes by that.
    pub fn size(&self) -> usize {
        match self {
            Self::Reserve(reserve) => reserve.items.len(),
            Self::Sku { components, .. } => components.len(),
            Self::Policy(policy) => policy.locations.as_ref().map_or(0, Vec::len),
            Self::Release { lines, .. } => lines.len(),
            _ => 0,
        }
    }
}

/// See [`Command::Count`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Who counted.
    pub source: CompactString,
    /// The SKU.
    pub sku: CompactString,
    /// The location.
    pub location: CompactString,
    /// What the number means.
    pub basis: CountBasis,
    /// The number.
    pub quantity: i64,
    /// When it was true, microseconds since 1970 UTC.
    pub as_of_us: i64,
    /// One that looks absurd is doubted, and not only marked.
    pub is_strict: bool,
    /// Whoever tells of it says that it is true: it is not doubted for looking absurd, but marked.
    pub is_confirmed: bool,
}

/// See [`Command::Move`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Movement {
    /// Who tells of it.
    pub source: CompactString,
    /// Its id there: it has one effect.
    pub id: CompactString,
    /// The SKU.
    pub sku: CompactString,
    /// The location.
    pub location: CompactString,
    /// What it is.
    pub kind: MovementKind,
    /// How much; of an `Adjust` the difference.
    pub quantity: i64,
    /// When, microseconds since 1970 UTC.
    pub occurred_at_us: i64,
    /// The reservation that a shipment consumes.
    pub reservation: Option<CompactString>,
    /// The supply that a receipt is of.
    pub supply: Option<CompactString>,
    /// Other names of the same movement, who tells of it and its id there: who tells of it by one of them later tells
    /// nothing new.
    pub also: Vec<(CompactString, CompactString)>,
}

/// See [`Command::Unavailable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The SKU.
    pub sku: CompactString,
    /// The location.
    pub location: CompactString,
    /// When it was true, microseconds since 1970 UTC.
    pub as_of_us: i64,
    /// Damaged.
    pub damaged: i64,
    /// Waiting for a check.
    pub quality_control: i64,
    /// Blocked for another reason.
    pub blocked: i64,
}

/// A policy and what it is for: a channel, a channel's SKU, or that at one location. The most specific that says
/// something counts, for each of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyOf {
    /// The channel.
    pub channel: CompactString,
    /// The SKU; empty for all.
    pub sku: CompactString,
    /// The location; empty for all.
    pub location: CompactString,
    /// The locations that may serve it, the preferred first; nothing where all may.
    pub locations: Option<Vec<CompactString>>,
    /// What is ring-fenced, per SKU and location.
    pub fence: Option<i64>,
    /// The most that may be open, or sold within the window (microseconds), per SKU.
    pub cap: Option<(i64, i64)>,
    /// What is held back from the published number.
    pub buffer: Option<i64>,
    /// The most that may be backordered, per SKU.
    pub backorder_limit: Option<i64>,
    /// Whom scarce goods go to first: the higher.
    pub priority: Option<i32>,
    /// Takes the policy away.
    pub removed: bool,
}

/// See [`Command::Reserve`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// The id of the reservation. A hold that has it is replaced.
    pub id: CompactString,
    /// The cart or order that it is for.
    pub owner: CompactString,
    /// The channel that sells.
    pub channel: CompactString,
    /// Until when it holds, microseconds since 1970 UTC.
    pub expires_at_us: i64,
    /// What is wanted.
    pub items: Vec<Item>,
    /// Take what there is where there is not enough.
    pub allow_partial: bool,
    /// One item may come from several locations.
    pub allow_split: bool,
    /// What is missing may be promised of what is on order by then, microseconds since 1970 UTC. An item may come in
    /// parts then, and from several locations.
    pub backorder_until_us: Option<i64>,
    /// Another hold of the same customer, which this one takes the place of.
    pub replaces: Option<CompactString>,
    /// It is for an order, which is sold already: it takes the place of another one also where that is committed, as its
    /// checkout has done that; its channel is what the order says; and it holds as long as orders do.
    pub is_order: bool,
}

/// One item of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The SKU or kit.
    pub sku: CompactString,
    /// How much.
    pub quantity: i64,
    /// Where it must come from; nothing where any eligible location will do.
    pub location: Option<CompactString>,
}

/// What of an item can't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The item's number in the request, from 0.
    pub item: u32,
    /// Its SKU.
    pub sku: CompactString,
    /// What was asked for.
    pub requested: i64,
    /// What could be had, after the items before it.
    pub available: i64,
}

/// Why a command is refused: nothing is recorded of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StockRefusal {
    /// A field is not what it must be.
    #[error("`{field}` {rule}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What would be right.
        rule: String,
    },
    /// There is no such reservation.
    #[error("there is no reservation `{0}`")]
    Unknown(CompactString),
    /// There is not enough.
    #[error("not enough stock: {}", shortfalls(.0))]
    Short(Vec<Shortfall>),
    /// The reservation is not where the command believes it to be.
    #[error("reservation `{id}` is {}: it can't be {wanted}", super::state_name(*.state))]
    Conflict {
        /// The reservation.
        id: CompactString,
        /// Where it stands.
        state: ReservationState,
        /// What was to be done with it.
        wanted: &'static str,
    },
}

impl StockRefusal {
    /// A stable code of it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "stock-invalid",
            Self::Unknown(_) => "unknown-reservation",
            Self::Short(_) => "stock-short",
            Self::Conflict { .. } => "reservation-state",
        }
    }
}

fn shortfalls(short: &[Shortfall]) -> String {
    let one = |s: &Shortfall| format!("{} of {} `{}` (item {})", s.available, s.requested, s.sku, s.item);
    short.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It had an effect.
    Applied,
    /// It had had its effect before.
    Repeated,
    /// It is older than what is known: recorded, without an effect.
    Ignored,
    /// It can't be believed: a person shall look at it. Nothing is recorded by stock.
    Quarantined(QuarantineReason),
    /// It had an effect, or had it before; this is the reservation now.
    Reservation {
        /// Where it stands.
        state: ReservationState,
        /// Its lines, of a new reservation only: what was allocated where. Where a line has no location it is
        /// backordered.
        lines: Vec<LineFact>,
        /// What of the request is missing, where a part was allowed.
        shortfalls: Vec<Shortfall>,
        /// It had had its effect before.
        repeated: bool,
    },
    /// So many holds were written down as expired.
    Expired(usize),
}
