//! The form of stock on disk: Protocol Buffers; numbers and meanings never change.

use prost::Message;

use super::record::{Component, PolicySet, SupplySet};
use super::state::{Location, Recent};

#[derive(Clone, PartialEq, Message)]
pub(super) struct SkuImage {
    #[prost(string, tag = "1")]
    pub(super) sku: String,
    #[prost(uint32, tag = "2")]
    pub(super) scale: u32,
    #[prost(message, repeated, tag = "3")]
    pub(super) locations: Vec<LocationImage>,
    #[prost(message, repeated, tag = "4")]
    pub(super) components: Vec<Component>,
    #[prost(message, repeated, tag = "5")]
    pub(super) supplies: Vec<SupplySet>,
    #[prost(message, repeated, tag = "6")]
    pub(super) fence_used: Vec<Used>,
    #[prost(message, repeated, tag = "7")]
    pub(super) sales: Vec<Used>,
    #[prost(message, repeated, tag = "8")]
    pub(super) published: Vec<Used>,
}

/// A quantity of a channel: at a location, until a time, or neither.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Used {
    #[prost(string, tag = "1")]
    pub(super) channel: String,
    #[prost(string, tag = "2")]
    pub(super) location: String,
    #[prost(int64, tag = "3")]
    pub(super) until_us: i64,
    #[prost(int64, tag = "4")]
    pub(super) quantity: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LocationImage {
    #[prost(string, tag = "1")]
    pub(super) location: String,
    #[prost(int32, tag = "2")]
    pub(super) basis: i32,
    #[prost(sint64, tag = "3")]
    pub(super) on_hand: i64,
    #[prost(sint64, tag = "4")]
    pub(super) opening: i64,
    #[prost(int64, tag = "5")]
    pub(super) damaged: i64,
    #[prost(int64, tag = "6")]
    pub(super) quality_control: i64,
    #[prost(int64, tag = "7")]
    pub(super) blocked: i64,
    #[prost(int64, tag = "8")]
    pub(super) safety: i64,
    #[prost(int64, optional, tag = "9")]
    pub(super) counted_at_us: Option<i64>,
    #[prost(sint64, tag = "10")]
    pub(super) counted: i64,
    #[prost(int64, optional, tag = "11")]
    pub(super) unavailable_at_us: Option<i64>,
    #[prost(int64, optional, tag = "12")]
    pub(super) moved_at_us: Option<i64>,
    #[prost(int64, optional, tag = "13")]
    pub(super) pruned_to_us: Option<i64>,
    #[prost(uint64, tag = "14")]
    pub(super) pruned: u64,
    #[prost(message, repeated, tag = "15")]
    pub(super) recents: Vec<RecentImage>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct RecentImage {
    #[prost(int64, tag = "1")]
    pub(super) at_us: i64,
    #[prost(sint64, tag = "2")]
    pub(super) on_hand: i64,
    #[prost(sint64, tag = "3")]
    pub(super) damaged: i64,
    #[prost(int64, tag = "4")]
    pub(super) acknowledged: i64,
    #[prost(int64, tag = "5")]
    pub(super) acknowledged_at_us: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ChannelImage {
    #[prost(string, tag = "1")]
    pub(super) channel: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) policies: Vec<PolicySet>,
}

fn some(at_us: i64) -> Option<i64> {
    (at_us != i64::MIN).then_some(at_us)
}

/// A location as it is written.
pub(super) fn write_location(name: &str, at: &Location) -> LocationImage {
    let recent = |r: &Recent| RecentImage {
        at_us: r.at_us,
        on_hand: r.on_hand,
        damaged: r.damaged,
        acknowledged: r.acknowledged,
        acknowledged_at_us: r.acknowledged_at_us,
    };
    LocationImage {
        location: name.to_owned(),
        basis: at.basis,
        on_hand: at.on_hand,
        opening: at.opening,
        damaged: at.damaged,
        quality_control: at.quality_control,
        blocked: at.blocked,
        safety: at.safety,
        counted_at_us: some(at.counted_at_us),
        counted: at.counted,
        unavailable_at_us: some(at.unavailable_at_us),
        moved_at_us: some(at.moved_at_us),
        pruned_to_us: some(at.pruned_to_us),
        pruned: at.pruned,
        recents: at.recents.iter().map(recent).collect(),
    }
}

/// A location as it was written.
pub(super) fn read_location(at: &mut Location, image: &LocationImage) {
    let recent = |r: &RecentImage| Recent {
        at_us: r.at_us,
        on_hand: r.on_hand,
        damaged: r.damaged,
        acknowledged: r.acknowledged,
        acknowledged_at_us: r.acknowledged_at_us,
    };
    at.basis = image.basis;
    at.on_hand = image.on_hand;
    at.opening = image.opening;
    at.damaged = image.damaged;
    at.quality_control = image.quality_control;
    at.blocked = image.blocked;
    at.safety = image.safety;
    at.counted_at_us = image.counted_at_us.unwrap_or(i64::MIN);
    at.counted = image.counted;
    at.unavailable_at_us = image.unavailable_at_us.unwrap_or(i64::MIN);
    at.moved_at_us = image.moved_at_us.unwrap_or(i64::MIN);
    at.pruned_to_us = image.pruned_to_us.unwrap_or(i64::MIN);
    at.pruned = image.pruned;
    at.recents = image.recents.iter().map(recent).collect();
}
