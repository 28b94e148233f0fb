//! What the journal holds of settings: safety stock, policies, kits, supplies.

use prost::Message;

/// The safety stock of a SKU at a location.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SafetySet {
    /// The SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// The location.
    #[prost(string, tag = "2")]
    pub location: String,
    /// How much no new reservation may touch.
    #[prost(int64, tag = "3")]
    pub quantity: i64,
}

/// A channel's policy, whole: for all SKUs, one SKU, or one SKU at one location.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PolicySet {
    /// The channel.
    #[prost(string, tag = "1")]
    pub channel: String,
    /// The SKU; empty for all.
    #[prost(string, tag = "2")]
    pub sku: String,
    /// The location; empty for all.
    #[prost(string, tag = "3")]
    pub location: String,
    /// Whether `locations` counts; otherwise all are eligible.
    #[prost(bool, tag = "4")]
    pub restricted: bool,
    /// The eligible locations, the preferred first.
    #[prost(string, repeated, tag = "5")]
    pub locations: Vec<String>,
    /// What is ring-fenced, per SKU and location.
    #[prost(int64, optional, tag = "6")]
    pub fence: Option<i64>,
    /// The most that may be open or sold within the window, per SKU.
    #[prost(int64, optional, tag = "7")]
    pub cap: Option<i64>,
    /// The window of the cap.
    #[prost(int64, tag = "8")]
    pub cap_window_us: i64,
    /// What is held back from the published number.
    #[prost(int64, optional, tag = "9")]
    pub buffer: Option<i64>,
    /// The most that may be backordered, per SKU.
    #[prost(int64, optional, tag = "10")]
    pub backorder_limit: Option<i64>,
    /// Whom scarce goods go to first: the higher.
    #[prost(sint32, optional, tag = "11")]
    pub priority: Option<i32>,
    /// The policy is taken away.
    #[prost(bool, tag = "12")]
    pub removed: bool,
}

/// What a SKU is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SkuSet {
    /// The SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// How many decimal digits its quantities have.
    #[prost(uint32, tag = "2")]
    pub scale: u32,
    /// What one of it is made of; none where it is no kit.
    #[prost(message, repeated, tag = "3")]
    pub components: Vec<Component>,
}

/// A component of a kit.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Component {
    /// The SKU.
    #[prost(string, tag = "1")]
    pub sku: String,
    /// How much of it one kit takes.
    #[prost(int64, tag = "2")]
    pub quantity: i64,
}

/// Goods on order.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SupplySet {
    /// The supply's id.
    #[prost(string, tag = "1")]
    pub supply: String,
    /// The SKU.
    #[prost(string, tag = "2")]
    pub sku: String,
    /// Where it will arrive.
    #[prost(string, tag = "3")]
    pub location: String,
    /// What is still to come; 0 ends it.
    #[prost(int64, tag = "4")]
    pub open: i64,
    /// When it is expected, microseconds since 1970 UTC.
    #[prost(int64, tag = "5")]
    pub eta_us: i64,
}
