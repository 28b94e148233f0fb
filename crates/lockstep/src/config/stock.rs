//! `[stock]`: what the arithmetic of stock is told of the world around it.
//!
//! What channels may have (fences, caps, buffers) is not here: it changes while the hub runs, SKU by SKU, and decides
//! reservations, so it has its place in the journal, between them.

use std::collections::BTreeMap;

use lockstep_core::stock::Limits;
use lockstep_core::stock::record::CountBasis;
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
    /// The systems whose word of kind `stock` goes into the ledger, and what their number means where a document does
    /// not say. What other systems say of stock stays a document.
    pub feeds: BTreeMap<String, FeedBasis>,
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
        let Limits { fresh_for_us, recents_max, .. } = Limits::default();
        Self {
            fresh_for_s: u32::try_from(fresh_for_us / 1_000_000).unwrap_or(u32::MAX),
            movements_max: recents_max,
            hold_s: lockstep_api::ApiOptions::default().hold_s,
            feeds: BTreeMap::new(),
        }
    }
}

impl StockConfig {
    /// What stock is told; `ahead_max_s` is how far a clock may be ahead, 0 for any.
    pub fn limits(&self, ahead_max_s: u64) -> Limits {
        let ahead_max_us = i64::try_from(ahead_max_s.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        Limits {
            ahead_max_us: if ahead_max_us == 0 { i64::MAX } else { ahead_max_us },
            fresh_for_us: i64::from(self.fresh_for_s) * 1_000_000,
            recents_max: self.movements_max,
        }
    }
}
