//! What the journal holds of stock, format 1: as in [`crate::record`], numbers and meanings never change.
//!
//! A fact says how things are *after* it (a line's quantities, a location's stock on hand), not what to do: folding
//! it never decides, and a reader of events needs nothing else.

use prost::Message;

pub use super::physical::*;
pub use super::settings::*;

/// One thing that happened to stock.
#[derive(Clone, PartialEq, Message)]
pub struct StockFact {
    /// The type of the published event: `reservation.held`, `stock.counted`, ...; empty where nobody is told.
    #[prost(string, tag = "1")]
    pub event_type: String,
    /// What happened.
    #[prost(oneof = "StockBody", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub body: Option<StockBody>,
    /// The number of this fact within its decision, from 0.
    #[prost(uint32, tag = "12")]
    pub index: u32,
    /// How many facts the decision has.
    #[prost(uint32, tag = "13")]
    pub of: u32,
    /// How the command came, on the decision's first fact only; the hub fills it in.
    #[prost(message, optional, boxed, tag = "14")]
    pub origin: Option<Box<StockOrigin>>,
}

/// How a command came, by which its repetition is known.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StockOrigin {
    /// The way in.
    #[prost(string, tag = "1")]
    pub source: String,
    /// The delivery's id within the source.
    #[prost(string, tag = "2")]
    pub delivery: String,
    /// The hash of the delivery's payload.
    #[prost(fixed64, tag = "3")]
    pub payload_hash: u64,
    /// The request's `Idempotency-Key`; empty where there is none.
    #[prost(string, tag = "4")]
    pub request_key: String,
    /// The hash of the whole request, with `request_key`.
    #[prost(fixed64, tag = "5")]
    pub request_hash: u64,
    /// When the hub received it, microseconds since 1970 UTC.
    #[prost(int64, tag = "6")]
    pub received_at_us: i64,
    /// The W3C `traceparent`; empty where there is none.
    #[prost(string, tag = "7")]
    pub trace: String,
    /// The system that it speaks for.
    #[prost(string, tag = "8")]
    pub system: String,
    /// The quarantined record that it releases; 0 where none.
    #[prost(uint64, tag = "9")]
    pub releases: crate::Position,
}

/// What can happen to stock.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StockBody {
    /// A reservation was made or went on.
    #[prost(message, tag = "2")]
    Reservation(ReservationFact),
    /// A count was told.
    #[prost(message, tag = "3")]
    Counted(Counted),
    /// Goods moved.
    #[prost(message, tag = "4")]
    Moved(Moved),
    /// Goods became available or unavailable where they lie.
    #[prost(message, tag = "5")]
    Unavailable(UnavailableSet),
    /// The safety stock was set.
    #[prost(message, tag = "6")]
    Safety(SafetySet),
    /// A channel's policy was set.
    #[prost(message, tag = "7")]
    Policy(PolicySet),
    /// What a SKU is: its scale and, for a kit, its components.
    #[prost(message, tag = "8")]
    Sku(SkuSet),
    /// What is on order was set.
    #[prost(message, tag = "9")]
    Supply(SupplySet),
    /// What a channel is told that it may sell.
    #[prost(message, tag = "10")]
    Availability(AvailabilityChanged),
    /// More is promised than there is.
    #[prost(message, tag = "11")]
    Shortage(ShortageDetected),
}

/// Where a reservation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ReservationState {
    /// Never written; what an unknown number reads as.
    Unspecified = 0,
    /// Held until `expires_at`.
    Held = 1,
    /// Held without an end.
    Committed = 2,
    /// Shipped, to its last open piece.
    Consumed = 3,
    /// Given back.
    Released = 4,
    /// It ended by itself.
    Expired = 5,
}

/// A reservation after what happened to it. It is also how one is kept on disk, then with all its lines.
#[derive(Clone, PartialEq, Message)]
pub struct ReservationFact {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The cart or order that it is for.
    #[prost(string, tag = "2")]
    pub owner: String,
    /// The channel that sells.
    #[prost(string, tag = "3")]
    pub channel: String,
    /// Where it stands.
    #[prost(enumeration = "ReservationState", tag = "4")]
    pub state: i32,
    /// Until when it holds, microseconds since 1970 UTC; counts while it is held.
    #[prost(int64, tag = "5")]
    pub expires_at_us: i64,
    /// When it was promised, microseconds since 1970 UTC.
    #[prost(int64, tag = "6")]
    pub promised_at_us: i64,
    /// Its channel's priority when it was promised; the higher is served first.
    #[prost(sint32, tag = "7")]
    pub priority: i32,
    /// The hash of what was asked for, by which a repetition is known.
    #[prost(fixed64, tag = "8")]
    pub request_hash: u64,
    /// Whether it was ever committed.
    #[prost(bool, tag = "9")]
    pub committed: bool,
    /// The lines that changed, as they are now.
    #[prost(message, repeated, tag = "10")]
    pub lines: Vec<LineFact>,
    /// These lines replace all that it had.
    #[prost(bool, tag = "11")]
    pub fresh: bool,
    /// When it happened, microseconds since 1970 UTC: a shipment's own time where one caused it.
    #[prost(int64, tag = "12")]
    pub occurred_at_us: i64,
}

/// A line of a reservation: `quantity = open + consumed + released + expired`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LineFact {
    /// Its number within the reservation, from 0.
    #[prost(uint32, tag = "1")]
    pub line: u32,
    /// The number of the item of the request that it serves, from 0.
    #[prost(uint32, tag = "2")]
    pub item: u32,
    /// The SKU; of a kit, a component.
    #[prost(string, tag = "3")]
    pub sku: String,
    /// Where it is reserved; empty while it is backordered.
    #[prost(string, tag = "4")]
    pub location: String,
    /// What it was made for.
    #[prost(int64, tag = "5")]
    pub quantity: i64,
    /// What is still to come of it.
    #[prost(int64, tag = "6")]
    pub open: i64,
    /// What was shipped of it.
    #[prost(int64, tag = "7")]
    pub consumed: i64,
    /// What was given back of it, or went on to another line.
    #[prost(int64, tag = "8")]
    pub released: i64,
    /// What ended by itself.
    #[prost(int64, tag = "9")]
    pub expired: i64,
    /// When the warehouse took it over, microseconds since 1970 UTC; 0 where it did not.
    #[prost(int64, tag = "10")]
    pub acknowledged_at_us: i64,
}
