//! Where wanted goods are taken from: the locations that may serve, the preferred first.

use smallvec::SmallVec;

use crate::stock::available::{Taken, Taking};
use crate::stock::command::{Item, Shortfall};
use crate::stock::quantity::QUANTITY_MAX;
use crate::stock::state::{NONE, Stock};

/// A line to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) item: u32,
    pub(super) sku: u32,
    /// [`NONE`] where it is backordered.
    pub(super) location: u32,
    pub(super) quantity: i64,
}

/// A plan being made: what it has taken counts against what follows.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) channel: u32,
    pub(super) allow_partial: bool,
    pub(super) allow_split: bool,
    pub(super) backorder_until_us: Option<i64>,
    pub(super) taken: Taking,
    pub(super) lines: SmallVec<[Planned; 2]>,
    pub(super) shortfalls: Vec<Shortfall>,
}

impl Plan {
    /// Plans an item, whole or, where that is allowed, in part. Of a kit every component.
    pub(super) fn item(&mut self, stock: &Stock, number: u32, item: &Item) {
        let granted = self.grant(stock, number, item);
        if granted.0 < item.quantity {
            let (sku, requested) = (item.sku.clone(), item.quantity);
            self.shortfalls.push(Shortfall { item: number, sku, requested, available: granted.1 });
        }
    }

    /// How much of an item is granted, and how much could be.
    fn grant(&mut self, stock: &Stock, number: u32, item: &Item) -> (i64, i64) {
        let Some(sku) = stock.sku_names.find(&item.sku) else { return (0, 0) };
        let only = match &item.location {
            None => None,
            Some(name) => match stock.locations.find(name) {
                Some(location) => Some(location),
                None => return (0, 0),
            },
        };
        let whole = [(sku, 1)];
        let components = match stock.skus[sku as usize].components() {
            [] => whole.as_slice(),
            components => components,
        };
        // What must come from one place is not promised of what may arrive at another.
        let until_us = self.backorder_until_us.filter(|_| only.is_none());
        if self.fill_all(stock, number, components, item.quantity, only, until_us) {
            return (item.quantity, item.quantity);
        }
        let most = |(component, per): &(u32, i64)| self.most(stock, *component, only) / per;
        let most = components.iter().map(most).min().unwrap_or(0).min(item.quantity);
        if self.allow_partial && most > 0 && self.fill_all(stock, number, components, most, only, None) {
            return (most, most);
        }
        (0, most)
    }

    /// Takes so many of every component, or nothing.
    fn fill_all(
        &mut self,
        stock: &Stock,
        item: u32,
        components: &[(u32, i64)],
        quantity: i64,
        only: Option<u32>,
        until_us: Option<i64>,
    ) -> bool {
        let mark = (self.taken.len(), self.lines.len());
        let filled = components.iter().all(|(component, per)| {
            let need = per.checked_mul(quantity).filter(|need| *need <= QUANTITY_MAX);
            need.is_some_and(|need| self.fill(stock, item, *component, need, only, until_us))
        });
        if !filled {
            self.taken.truncate(mark.0);
            self.lines.truncate(mark.1);
        }
        filled
    }

    /// Takes so much of a SKU: what lies there, and what is missing from what is on order, where that is allowed.
    pub(super) fn fill(
        &mut self,
        stock: &Stock,
        item: u32,
        sku: u32,
        need: i64,
        only: Option<u32>,
        until_us: Option<i64>,
    ) -> bool {
        let cap = stock.cap_remaining(sku, self.channel, &self.taken);
        if cap.is_some_and(|cap| cap < need) {
            return false;
        }
        let places = stock.places(sku, self.channel, &self.taken, only);
        let mut left = need;
        if let Some((location, _)) = places.iter().find(|(_, usable)| *usable >= need) {
            self.line(item, sku, *location, need);
            left = 0;
        } else if self.allow_split || until_us.is_some() {
            for (location, usable) in places {
                let quantity = usable.min(left);
                self.line(item, sku, location, quantity);
                left -= quantity;
                if left == 0 {
                    break;
                }
            }
        }
        let Some(until_us) = until_us.filter(|_| left > 0) else { return left == 0 };
        if stock.backorder_room(sku, self.channel, until_us, &self.taken) < left {
            return false;
        }
        self.line(item, sku, NONE, left);
        true
    }

    /// The most of a SKU that could be taken now.
    pub(super) fn most(&self, stock: &Stock, sku: u32, only: Option<u32>) -> i64 {
        let usable = stock.places(sku, self.channel, &self.taken, only).into_iter().map(|(_, usable)| usable);
        let most = if self.allow_split { usable.fold(0, i64::saturating_add) } else { usable.max().unwrap_or(0) };
        stock.cap_remaining(sku, self.channel, &self.taken).map_or(most, |cap| cap.min(most))
    }

    fn line(&mut self, item: u32, sku: u32, location: u32, quantity: i64) {
        self.lines.push(Planned { item, sku, location, quantity });
        self.taken.push(Taken { sku, location, channel: self.channel, quantity });
    }
}
