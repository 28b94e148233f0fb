//! What channels are told: what they may sell, where it is another number than they were told last. Once for many
//! commands, and for a limited number of SKUs, so that a SKU that is sold ten thousand times a second makes one event for each batch and channel.

use super::Stock;
use super::decide::Desk;
use super::record::{AvailabilityChanged, StockBody};

impl Stock {
    /// What a channel was last told that it may sell of a SKU.
    pub fn last_told(&self, sku: &str, channel: &str) -> Option<i64> {
        let (sku, channel) = (self.sku_names.find(sku)?, self.channel_names.find(channel)?);
        let told = &self.skus[sku as usize].rare.as_ref()?.published;
        told.iter().find(|(of, _)| *of == channel).map(|(_, atp)| *atp)
    }
}

pub(super) fn publish(desk: &mut Desk<'_>, skus_max: usize) {
    let mut touched = std::mem::take(&mut desk.stock.touched);
    let later = touched.split_off(skus_max.min(touched.len()));
    for at in 0..touched.len() {
        let node = &mut desk.stock.skus[touched[at] as usize];
        node.touched = false;
        // A kit changes with its components.
        touched.extend(node.rare.iter().flat_map(|rare| &rare.part_of));
    }
    touched.sort_by(|a, b| desk.stock.sku_names.name(*a).cmp(desk.stock.sku_names.name(*b)));
    touched.dedup();
    let mut channels: Vec<u32> = desk.stock.ruled.clone();
    channels.retain(|channel| desk.stock.channels[*channel as usize].declared);
    channels.sort_by(|a, b| desk.stock.channel_names.name(*a).cmp(desk.stock.channel_names.name(*b)));
    for sku in touched {
        let parts: Vec<u32> = desk.stock.skus[sku as usize].components().iter().map(|(part, _)| *part).collect();
        parts.into_iter().chain([sku]).for_each(|sku| desk.settle(sku));
        for channel in &channels {
            let stock = &desk.stock;
            let atp = stock.atp(sku, *channel);
            let told = stock.skus[sku as usize].rare.iter().flat_map(|rare| &rare.published);
            let before = told.clone().find(|(of, _)| of == channel).map(|(_, atp)| *atp);
            // Of what never had stock nobody needs to be told that there is none.
            if before.unwrap_or(0) == atp {
                continue;
            }
            let fact = AvailabilityChanged {
                sku: stock.sku_names.name(sku).to_owned(),
                channel: stock.channel_names.name(*channel).to_owned(),
                atp,
                before,
                as_of_us: stock.as_of_us(sku, *channel),
            };
            desk.record("stock.availability_changed", StockBody::Availability(fact));
        }
    }
    // Having been told is no change of what may be sold.
    for sku in std::mem::take(&mut desk.stock.touched) {
        desk.stock.skus[sku as usize].touched = false;
    }
    for sku in &later {
        desk.stock.skus[*sku as usize].touched = true;
    }
    desk.stock.touched = later;
}
