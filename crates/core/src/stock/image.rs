//! Stock on disk: one image for each SKU, channel and reservation, written when it has changed. Sums over open lines are
//! not in them; they follow from the reservations.
//!
//! To read stock: channels, then SKUs, then reservations, then the records since.

use bytes::Bytes;
use compact_str::CompactString;
use prost::Message;
use smallvec::SmallVec;
use thiserror::Error;

use super::fold;
use super::form::{ChannelImage, SkuImage, Used, read_location, write_location};
use super::quantity::QUANTITY_MAX;
use super::record::{Component, PolicySet, ReservationFact, ReservationState, StockBody, StockFact, SupplySet};
use super::state::{Line, NONE, Reservation, Sale, Stock, Supply};

/// What has changed since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// SKUs.
    pub skus: Vec<CompactString>,
    /// Channels.
    pub channels: Vec<CompactString>,
    /// Reservations.
    pub reservations: Vec<CompactString>,
}

/// Why an image can't be read.
#[derive(Debug, Error)]
pub enum ImageError {
    /// It is not in its form.
    #[error("the image can't be read")]
    Form(#[from] prost::DecodeError),
    /// A part of it is not what can have been written.
    #[error("the image has a `{0}` that was never written")]
    Content(&'static str),
}

fn is_quantity(quantities: &[i64]) -> Result<(), ImageError> {
    // Three parts of the stock are unavailable.
    let is_in = |q: &i64| (-4 * QUANTITY_MAX..=4 * QUANTITY_MAX).contains(q);
    if quantities.iter().all(is_in) { Ok(()) } else { Err(ImageError::Content("quantity")) }
}

impl Stock {
    /// What has changed since this was last called.
    pub fn take_dirty(&mut self) -> Dirty {
        let skus = std::mem::take(&mut self.dirty_skus);
        let channels = std::mem::take(&mut self.dirty_channels);
        let ids = std::mem::take(&mut self.dirty_ids);
        for id in &ids {
            let slot = self.slot(id).and_then(|slot| self.reservations.get_mut(slot as usize)?.as_mut());
            slot.into_iter().for_each(|reservation| reservation.dirty = false);
        }
        skus.iter().for_each(|sku| self.skus[*sku as usize].dirty = false);
        channels.iter().for_each(|channel| self.channels[*channel as usize].dirty = false);
        Dirty {
            skus: skus.into_iter().map(|sku| self.sku_names.name(sku).into()).collect(),
            channels: channels.into_iter().map(|channel| self.channel_names.name(channel).into()).collect(),
            reservations: ids,
        }
    }

    /// Takes a reservation that has come to its end out of memory, once it is on disk. Whoever speaks of it again has to
    /// have it read again first, as every reservation that a batch speaks of.
    pub fn forget(&mut self, id: &str) -> bool {
        let Some(slot) = self.slot(id) else { return false };
        if self.reservation(slot).is_none_or(|r| r.is_open() || r.dirty) {
            return false;
        }
        self.ids.remove(id);
        let forgotten = self.reservations[slot as usize].take();
        self.free.push(slot);
        forgotten.into_iter().for_each(|reservation| self.leave_channel(reservation.channel));
        true
    }

    /// Whether a reservation is open, by what is written down of it; nothing where it is not in memory.
    pub fn is_open(&self, id: &str) -> Option<bool> {
        Some(self.reservation(self.slot(id)?)?.is_open())
    }

    /// How much has changed since that was last taken.
    pub fn dirty_len(&self) -> usize {
        self.dirty_skus.len() + self.dirty_channels.len() + self.dirty_ids.len()
    }

    /// The SKUs that are known, also those that nothing is known of but their name.
    pub fn skus(&self) -> impl Iterator<Item = &str> {
        (0..self.skus.len() as u32).map(|sku| self.sku_names.name(sku))
    }

    /// The reservations that are in memory, in no order.
    pub fn reservations(&self) -> impl Iterator<Item = &str> {
        self.reservations.iter().flatten().map(|reservation| reservation.id.as_str())
    }

    /// How many reservations are in memory, and how many lines of them are open.
    pub fn sizes(&self) -> (usize, usize) {
        (self.ids.len(), self.skus.iter().map(|node| node.lines.len()).sum())
    }

    /// The image of a SKU.
    pub fn sku_image(&self, sku: &str) -> Option<Bytes> {
        let node = &self.skus[self.sku_names.find(sku)? as usize];
        let mut image = SkuImage { sku: sku.to_owned(), scale: node.scale, ..SkuImage::default() };
        image.locations = node.locations.iter().map(|at| write_location(self.locations.name(at.id), at)).collect();
        let channel = |number| self.channel_names.name(number).to_owned();
        let location = |number| self.locations.name(number).to_owned();
        if let Some(rare) = &node.rare {
            let part = |(sku, quantity): &(u32, i64)| Component {
                sku: self.sku_names.name(*sku).to_owned(),
                quantity: *quantity,
            };
            image.components = rare.components.iter().map(part).collect();
            let supply = |of: &Supply| SupplySet {
                supply: of.id.to_string(),
                location: location(of.location),
                open: of.open,
                eta_us: of.eta_us,
                ..SupplySet::default()
            };
            image.supplies = rare.supplies.iter().map(supply).collect();
            let fence = |(of, at, quantity): &(u32, u32, i64)| Used {
                channel: channel(*of),
                location: location(*at),
                quantity: *quantity,
                until_us: 0,
            };
            image.fence_used = rare.fence_used.iter().map(fence).collect();
            let used = |of, until_us, quantity| Used { channel: channel(of), until_us, quantity, ..Used::default() };
            image.sales = rare.sales.iter().map(|sale| used(sale.channel, sale.until_us, sale.quantity)).collect();
            image.published = rare.published.iter().map(|(of, atp)| used(*of, 0, *atp)).collect();
        }
        Some(image.encode_to_vec().into())
    }

    /// Reads a SKU that is not there yet. What is reserved of it comes with the reservations.
    ///
    /// # Errors
    /// Where the bytes are no image of a SKU; nothing is changed then.
    pub fn load_sku(&mut self, bytes: Bytes) -> Result<(), ImageError> {
        let image = SkuImage::decode(bytes)?;
        let all = image.locations.iter();
        for at in all.clone() {
            is_quantity(&[at.on_hand, at.opening, at.damaged, at.quality_control, at.blocked, at.safety, at.counted])?;
            at.recents.iter().try_for_each(|r| is_quantity(&[r.on_hand, r.damaged, r.acknowledged]))?;
        }
        if image.components.iter().any(|part| part.quantity < 1 || part.sku == image.sku) {
            return Err(ImageError::Content("component"));
        }
        let used = [&image.fence_used, &image.sales, &image.published];
        used.iter().flat_map(|used| used.iter()).try_for_each(|used| is_quantity(&[used.quantity]))?;
        image.supplies.iter().try_for_each(|supply| is_quantity(&[supply.open]))?;

        let sku = self.sku_number(&image.sku);
        let components: Vec<(u32, i64)> =
            image.components.iter().map(|part| (self.sku_number(&part.sku), part.quantity)).collect();
        self.make_kit(sku, components);
        self.skus[sku as usize].scale = image.scale;
        // What comes from a disk is looked at once, also where nobody speaks of it.
        self.suspect(sku);
        for at in all {
            let number = self.locations.number(&at.location);
            read_location(self.skus[sku as usize].location_mut(number), at);
        }
        let number = |used: &Used, stock: &mut Self| stock.pinned_channel(&used.channel);
        let supplies = image.supplies.iter().map(|of| Supply {
            id: of.supply.as_str().into(),
            location: self.locations.number(&of.location),
            open: of.open,
            eta_us: of.eta_us,
        });
        let supplies: Vec<Supply> = supplies.collect();
        let fences = image.fence_used.iter();
        let fence_used: Vec<(u32, u32, i64)> =
            fences.map(|used| (number(used, self), self.locations.number(&used.location), used.quantity)).collect();
        let sales = image.sales.iter();
        let sales: Vec<Sale> = sales
            .map(|used| Sale { channel: number(used, self), until_us: used.until_us, quantity: used.quantity })
            .collect();
        let published: Vec<(u32, i64)> =
            image.published.iter().map(|used| (number(used, self), used.quantity)).collect();
        if !(supplies.is_empty() && fence_used.is_empty() && sales.is_empty() && published.is_empty()) {
            let rare = self.skus[sku as usize].rare_mut();
            (rare.supplies, rare.fence_used, rare.sales, rare.published) = (supplies, fence_used, sales, published);
        }
        Ok(())
    }

    /// The image of a channel.
    pub fn channel_image(&self, channel: &str) -> Option<Bytes> {
        let of = &self.channels[self.channel_names.find(channel)? as usize];
        let name = |location: u32| self.locations.name(location).to_owned();
        let one = |sku: u32, location: u32, policy: &super::state::Policy| PolicySet {
            channel: channel.to_owned(),
            sku: self.sku_names.name(sku).to_owned(),
            location: name(location),
            restricted: policy.locations.is_some(),
            locations: policy.locations.iter().flatten().map(|at| name(*at)).collect(),
            fence: policy.fence,
            cap: policy.cap.map(|cap| cap.0),
            cap_window_us: policy.cap.map_or(0, |cap| cap.1),
            buffer: policy.buffer,
            backorder_limit: policy.backorder_limit,
            priority: policy.priority,
            removed: false,
        };
        let mut policies: Vec<PolicySet> = Vec::new();
        if of.declared {
            policies.push(one(NONE, NONE, &of.base));
        }
        policies.extend(of.special.iter().map(|((sku, location), policy)| one(*sku, *location, policy)));
        // Numbers differ from run to run: written is what has an order of its own.
        policies.sort_by(|a, b| (&a.sku, &a.location).cmp(&(&b.sku, &b.location)));
        Some(ChannelImage { channel: channel.to_owned(), policies }.encode_to_vec().into())
    }

    /// Reads a channel that is not there yet. Channels come before SKUs.
    ///
    /// # Errors
    /// Where the bytes are no image of a channel; nothing is changed then.
    pub fn load_channel(&mut self, bytes: Bytes) -> Result<(), ImageError> {
        let image = ChannelImage::decode(bytes)?;
        for policy in &image.policies {
            let of = [policy.fence, policy.cap, policy.buffer, policy.backorder_limit];
            of.into_iter().flatten().try_for_each(|quantity| is_quantity(&[quantity]))?;
        }
        let at_us = self.clock_us;
        for policy in image.policies {
            fold(self, at_us, &StockFact { body: Some(StockBody::Policy(policy)), ..StockFact::default() });
        }
        let number = self.pinned_channel(&image.channel);
        self.channels[number as usize].dirty = false;
        self.dirty_channels.retain(|dirty| *dirty != number);
        Ok(())
    }

    /// The image of a reservation.
    pub fn reservation_image(&self, id: &str) -> Option<Bytes> {
        let reservation = self.reservation(self.slot(id)?)?;
        let fact = ReservationFact {
            id: id.to_owned(),
            owner: reservation.owner.to_string(),
            channel: self.channel_names.name(reservation.channel).to_owned(),
            state: reservation.state as i32,
            expires_at_us: reservation.expires_at_us,
            promised_at_us: reservation.promised_at_us,
            priority: reservation.priority,
            request_hash: reservation.request_hash,
            committed: reservation.committed,
            lines: (0..reservation.lines.len()).map(|at| self.line_fact(reservation, at)).collect(),
            fresh: false,
            occurred_at_us: 0,
        };
        Some(fact.encode_to_vec().into())
    }

    /// Reads a reservation that is not there yet.
    ///
    /// # Errors
    /// Where the bytes are no image of a reservation, or it is there; nothing is changed then.
    pub fn load_reservation(&mut self, bytes: Bytes) -> Result<(), ImageError> {
        let fact = ReservationFact::decode(bytes)?;
        if self.slot(&fact.id).is_some() {
            return Err(ImageError::Content("id"));
        }
        for (number, line) in (0..).zip(&fact.lines) {
            let parts = [line.open, line.consumed, line.released, line.expired];
            is_quantity(&parts)?;
            let sum: i64 = parts.iter().sum();
            if line.line != number || sum != line.quantity || parts.iter().any(|part| *part < 0) {
                return Err(ImageError::Content("line"));
            }
        }
        let channel = self.channel_number(&fact.channel);
        self.channels[channel as usize].reservations += 1;
        let mut reservation = Reservation {
            id: fact.id.as_str().into(),
            owner: fact.owner.as_str().into(),
            channel,
            state: fact.state(),
            committed: fact.committed,
            dirty: false,
            priority: fact.priority,
            promised_at_us: fact.promised_at_us,
            expires_at_us: fact.expires_at_us,
            request_hash: fact.request_hash,
            lines: SmallVec::new(),
        };
        for line in &fact.lines {
            let location = if line.location.is_empty() { NONE } else { self.locations.number(&line.location) };
            reservation.lines.push(Line {
                sku: self.sku_number(&line.sku),
                location,
                item: line.item,
                place: NONE,
                counts: 0,
                quantity: line.quantity,
                open: line.open,
                consumed: line.consumed,
                released: line.released,
                expired: line.expired,
                acknowledged_at_us: line.acknowledged_at_us,
            });
        }
        let slot = self.new_slot(&fact.id);
        for line in 0..reservation.lines.len() {
            self.count(&mut reservation, slot, line);
        }
        if reservation.state == ReservationState::Held {
            self.due.push(std::cmp::Reverse((reservation.expires_at_us, slot)));
        }
        self.reservations[slot as usize] = Some(reservation);
        Ok(())
    }
}
