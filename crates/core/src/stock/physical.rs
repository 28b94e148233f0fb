//! What the journal holds of goods themselves: counts, movements, and what follows from them.

use prost::Message;

/// What a count counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum CountBasis {
    /// Never written; what an unknown number reads as.
    Unspecified = 0,
    /// All that lies there.
    OnHand = 1,
    /// What is free: the warehouse has taken off what is unavailable and what it has allocated.
    Available = 2,
}

/// A count and what was made of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Counted {
    /// The SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// The location.
    #[prost(string, tag = "2")]
    pub location: String,
    /// Who counted.
    #[prost(string, tag = "3")]
    pub source: String,
    /// What it counts.
    #[prost(enumeration = "CountBasis", tag = "4")]
    pub basis: i32,
    /// What was counted.
    #[prost(sint64, tag = "5")]
    pub quantity: i64,
    /// When, microseconds since 1970 UTC.
    #[prost(int64, tag = "6")]
    pub as_of_us: i64,
    /// It is older than the count that stands: nothing changed.
    #[prost(bool, tag = "7")]
    pub ignored: bool,
    /// On hand at `as_of`.
    #[prost(sint64, tag = "8")]
    pub opening: i64,
    /// On hand now: with what moved since.
    #[prost(sint64, tag = "9")]
    pub on_hand: i64,
    /// What was added for lines that the warehouse had allocated; in `opening`.
    #[prost(sint64, tag = "10")]
    pub added_back: i64,
    /// It is many times the count before it: a person should look at it.
    #[prost(bool, tag = "11")]
    pub unusual: bool,
}

/// What a movement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MovementKind {
    /// Never written; what an unknown number reads as.
    Unspecified = 0,
    /// Goods came in.
    Receipt = 1,
    /// A correction, up or down; also a count told as a difference.
    Adjust = 2,
    /// Goods left.
    Ship = 3,
    /// Goods came back and can be sold.
    ReturnRestock = 4,
    /// Goods came back damaged.
    ReturnDamaged = 5,
    /// Goods were to come back and did not.
    ReturnLost = 6,
}

/// A movement and what it did.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Moved {
    /// The SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// The location.
    #[prost(string, tag = "2")]
    pub location: String,
    /// Who tells of it.
    #[prost(string, tag = "3")]
    pub source: String,
    /// Its id there.
    #[prost(string, tag = "4")]
    pub movement: String,
    /// What it is.
    #[prost(enumeration = "MovementKind", tag = "5")]
    pub kind: i32,
    /// How much, as it was told. Of a shipment 0 where its goods had left before: this only gives them further names.
    #[prost(sint64, tag = "6")]
    pub quantity: i64,
    /// When, microseconds since 1970 UTC.
    #[prost(int64, tag = "7")]
    pub occurred_at_us: i64,
    /// The reservation that it names; empty where it names none.
    #[prost(string, tag = "8")]
    pub reservation: String,
    /// What it changes on hand.
    #[prost(sint64, tag = "9")]
    pub on_hand_change: i64,
    /// What it changes of the damaged.
    #[prost(sint64, tag = "10")]
    pub damaged_change: i64,
    /// The count that stands has it already.
    #[prost(bool, tag = "11")]
    pub late: bool,
    /// On hand after it.
    #[prost(sint64, tag = "12")]
    pub on_hand: i64,
    /// The supply that it receives; empty where it names none.
    #[prost(string, tag = "13")]
    pub supply: String,
    /// What is still to come of that supply.
    #[prost(int64, tag = "14")]
    pub supply_open: i64,
    /// It consumed nothing of the reservation that it names: shipped after a cancel or an expiry.
    #[prost(bool, tag = "15")]
    pub unreserved: bool,
    /// Other names of it, which have no further effect.
    #[prost(message, repeated, tag = "16")]
    pub also: Vec<MovementName>,
}

/// A name of a movement.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MovementName {
    /// Who tells of it.
    #[prost(string, tag = "1")]
    pub source: String,
    /// Its id there.
    #[prost(string, tag = "2")]
    pub movement: String,
}

impl Moved {
    /// Every name of it, who tells of it and its id there; none where the hub has made it itself.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = (self.source.as_str(), self.movement.as_str());
        let also = self.also.iter().map(|name| (name.source.as_str(), name.movement.as_str()));
        std::iter::once(own).chain(also).filter(|(_, movement)| !movement.is_empty())
    }
}

/// What of the stock on hand can't be sold.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UnavailableSet {
    /// The SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// The location.
    #[prost(string, tag = "2")]
    pub location: String,
    /// Since when, microseconds since 1970 UTC.
    #[prost(int64, tag = "3")]
    pub as_of_us: i64,
    /// Damaged, with what was returned damaged since.
    #[prost(int64, tag = "4")]
    pub damaged: i64,
    /// Waiting for a check.
    #[prost(int64, tag = "5")]
    pub quality_control: i64,
    /// Blocked for another reason.
    #[prost(int64, tag = "6")]
    pub blocked: i64,
    /// It is older than what stands: nothing changed.
    #[prost(bool, tag = "7")]
    pub ignored: bool,
}

/// What a channel may sell has changed.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AvailabilityChanged {
    /// The SKU or kit.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// The channel.
    #[prost(string, tag = "2")]
    pub channel: String,
    /// Available to promise.
    #[prost(int64, tag = "3")]
    pub atp: i64,
    /// What was told before; missing the first time.
    #[prost(int64, optional, tag = "4")]
    pub before: Option<i64>,
    /// How old the oldest physical fact behind it is: its time; missing where there is none.
    #[prost(int64, optional, tag = "5")]
    pub as_of_us: Option<i64>,
}

/// More is promised than there is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShortageDetected {
    /// The SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// The location.
    #[prost(string, tag = "2")]
    pub location: String,
    /// How much is missing.
    #[prost(int64, tag = "3")]
    pub shortage: i64,
    /// How much was missing before.
    #[prost(int64, tag = "4")]
    pub before: i64,
    /// What is proposed to be served from elsewhere: the newest first, what is only held before what is committed.
    #[prost(message, repeated, tag = "5")]
    pub propose: Vec<Proposal>,
}

/// A line that is proposed to be served from elsewhere.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Proposal {
    /// The reservation.
    #[prost(string, tag = "1")]
    pub reservation: String,
    /// Its line.
    #[prost(uint32, tag = "2")]
    pub line: u32,
    /// How much of it.
    #[prost(int64, tag = "3")]
    pub quantity: i64,
    /// Whether it is committed: then it is never ended by the hub itself.
    #[prost(bool, tag = "4")]
    pub committed: bool,
}
