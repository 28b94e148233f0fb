//! `[stock]`: what the arithmetic of stock is told of the world around it.
//!
//! What channels may have (fences, caps, buffers) is not here: it changes while the hub runs, SKU by SKU, and decides
//! reservations, so it has its place in the journal, between them.

use std::collections::BTreeMap;

use lockstep_core::Rules;
use lockstep_core::rules::{OrderPolicy, StockOrders};
use lockstep_core::stock::Limits;
use lockstep_core::stock::record::CountBasis;
use lockstep_hub::HubOptions;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stock: limits, and the systems whose word goes into its ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StockConfig {
    /// How old a count or movement may be, in seconds, for an answer about availability to count as fresh.
    #[schemars(range(min = 1))]
    pub fresh_for_s: u32,
    /// The most movements that are remembered per SKU and location, for a count that comes later and is older than
    /// they are.
    #[schemars(range(min = 2, max = 100_000))]
    pub movements_max: usize,
    /// For how many seconds a reservation holds that does not say for how long.
    #[schemars(range(min = 1))]
    pub hold_s: u32,
    /// For how many seconds at most a reservation may hold that is not an order's.
    #[schemars(range(min = 1))]
    pub hold_max_s: u32,
    /// For how many days a reservation that is over is kept, for whoever speaks of it again; then it is as if it had never
    /// been. Those of orders stay as long as the order does. At least `seen_days` of `[hub]`; without it 30, or those where
    /// they are more.
    #[schemars(range(min = 1))]
    pub reservation_days: Option<u32>,
    /// The systems whose word of kind `stock` goes into the ledger, and what their number means where a document does
    /// not say. What other systems say of stock stays a document.
    pub feeds: BTreeMap<String, FeedBasis>,
    /// The systems whose count is not taken where it is ten times the last one or more, and ten times what should be there by
    /// the ledger: a person looks at it first. Those of other systems are taken, and marked as `unusual`.
    pub strict: Vec<String>,
    /// What orders do to stock.
    pub orders: OrdersConfig,
}

/// What orders do to the stock of SKUs that the ledger knows: they reserve, give back, ship and return it. Of other SKUs
/// they do nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OrdersConfig {
    /// Whether orders reserve at all.
    pub reserve: bool,
    /// What becomes of an order of which there is not enough.
    pub short: ShortOrders,
    /// Whether one line of an order may come from several locations.
    pub split: bool,
    /// For how many seconds an order holds its goods that is not confirmed yet.
    #[schemars(range(min = 1))]
    pub hold_s: u32,
    /// Whether documents of kind `shipment` and `return`, and orders that say that they are shipped, move goods. Without
    /// it the warehouse tells of movements by itself.
    pub moves: bool,
    /// What is different for orders of single channels.
    pub channels: BTreeMap<String, ChannelOrders>,
}

/// What is different for orders of a channel; what is not given is as for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChannelOrders {
    /// Whether its orders reserve at all.
    pub reserve: Option<bool>,
    /// What becomes of an order of which there is not enough.
    pub short: Option<ShortOrders>,
    /// Whether one line of an order may come from several locations.
    pub split: Option<bool>,
    /// For how many seconds an order holds its goods that is not confirmed yet.
    #[schemars(range(min = 1))]
    pub hold_s: Option<u32>,
    /// Whether shipments and returns of its orders move goods.
    pub moves: Option<bool>,
}

/// What becomes of an order of which there is not enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShortOrders {
    /// It reserves nothing and is held (`holds` has `stock`), until there is enough when it is heard of again.
    #[default]
    Hold,
    /// What is missing is promised of what is on order, as far as the channel's backorder limit allows; else it is held.
    Backorder,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        let OrderPolicy { allow_split, hold_us, moves, .. } = OrderPolicy::default();
        Self {
            reserve: true,
            short: ShortOrders::Hold,
            split: allow_split,
            hold_s: u32::try_from(hold_us / 1_000_000).unwrap_or(u32::MAX),
            moves,
            channels: BTreeMap::new(),
        }
    }
}

impl OrdersConfig {
    /// The same as the core's rules have it.
    pub fn rules(&self) -> StockOrders {
        let policy = |of: &ChannelOrders| {
            let reserve = of.reserve.unwrap_or(self.reserve);
            reserve.then(|| OrderPolicy {
                backorder: of.short.unwrap_or(self.short) == ShortOrders::Backorder,
                allow_split: of.split.unwrap_or(self.split),
                hold_us: i64::from(of.hold_s.unwrap_or(self.hold_s)) * 1_000_000,
                moves: of.moves.unwrap_or(self.moves),
            })
        };
        let channels = self.channels.iter().map(|(name, of)| (name.clone(), policy(of))).collect();
        StockOrders { all: policy(&ChannelOrders::default()), channels }
    }
}

/// What a feed's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedBasis {
    /// All that lies there.
    OnHand,
    /// What is free: what can't be sold and what the system has allocated itself is taken off.
    Available,
}

impl From<FeedBasis> for CountBasis {
    fn from(basis: FeedBasis) -> Self {
        match basis {
            FeedBasis::OnHand => Self::OnHand,
            FeedBasis::Available => Self::Available,
        }
    }
}

impl Default for StockConfig {
    fn default() -> Self {
        let Limits { fresh_for_us, recents_max, hold_max_us, .. } = Limits::default();
        Self {
            fresh_for_s: u32::try_from(fresh_for_us / 1_000_000).unwrap_or(u32::MAX),
            movements_max: recents_max,
            hold_s: lockstep_api::ApiOptions::default().hold_s,
            hold_max_s: u32::try_from(hold_max_us / 1_000_000).unwrap_or(u32::MAX),
            reservation_days: None,
            feeds: BTreeMap::new(),
            strict: Vec::new(),
            orders: OrdersConfig::default(),
        }
    }
}

impl StockConfig {
    /// For how many days reservations that are over are kept.
    pub fn reservation_days(&self, seen_days: u32) -> u32 {
        self.reservation_days.unwrap_or_else(|| HubOptions::new("", Rules::new()).reservation_days.max(seen_days))
    }

    /// What stock is told; `ahead_max_s` is how far a clock may be ahead, 0 for any.
    pub fn limits(&self, ahead_max_s: u64) -> Limits {
        let ahead_max_us = i64::try_from(ahead_max_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        Limits {
            ahead_max_us: if ahead_max_us == 0 { i64::MAX } else { ahead_max_us },
            fresh_for_us: i64::from(self.fresh_for_s) * 1_000_000,
            recents_max: self.movements_max,
            hold_max_us: i64::from(self.hold_max_s) * 1_000_000,
        }
    }
}
