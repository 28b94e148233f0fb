//! Settings: safety stock, policies, kits, supplies. Saying again what is so already records nothing.

use compact_str::CompactString;

use super::{Answered, Desk};
use crate::stock::command::{Answer, PolicyOf};
use crate::stock::record::{Component, PolicySet, SafetySet, SkuSet, StockBody, SupplySet};
use crate::stock::state::{LineRef, NONE, Policy, Stock};
use crate::stock::validate::invalid;

impl Desk<'_> {
    pub(super) fn safety(&mut self, sku: &CompactString, location: &CompactString, quantity: i64) -> Answered {
        if self.known(sku, location).safety == quantity {
            return Ok(Answer::Repeated);
        }
        let fact = SafetySet { sku: sku.to_string(), location: location.to_string(), quantity };
        self.record("stock.adjusted", StockBody::Safety(fact));
        self.settle_named(sku);
        Ok(Answer::Applied)
    }

    pub(super) fn policy(&mut self, command: &PolicyOf) -> Answered {
        if self.stock.has_policy(command) {
            return Ok(Answer::Repeated);
        }
        let fact = PolicySet {
            channel: command.channel.to_string(),
            sku: command.sku.to_string(),
            location: command.location.to_string(),
            restricted: command.locations.is_some(),
            locations: command.locations.iter().flatten().map(CompactString::to_string).collect(),
            fence: command.fence,
            cap: command.cap.map(|cap| cap.0),
            cap_window_us: command.cap.map_or(0, |cap| cap.1),
            buffer: command.buffer,
            backorder_limit: command.backorder_limit,
            priority: command.priority,
            removed: command.removed,
        };
        self.record("", StockBody::Policy(fact));
        if command.sku.is_empty() {
            self.settle_all();
        } else {
            self.settle_named(&command.sku);
        }
        Ok(Answer::Applied)
    }

    pub(super) fn sku(&mut self, sku: &CompactString, scale: u32, components: &[(CompactString, i64)]) -> Answered {
        for (component, _) in components {
            let known = self.stock.sku_names.find(component);
            if known.is_some_and(|known| !self.stock.skus[known as usize].components().is_empty()) {
                return invalid("components.sku", format!("`{component}` is a kit itself: name its components"));
            }
        }
        if let Some(known) = self.stock.sku_names.find(sku) {
            let node = &self.stock.skus[known as usize];
            let name = |number: u32| self.stock.sku_names.name(number);
            let same = node.components().iter().map(|(of, per)| (name(*of), *per));
            if node.scale == scale && same.eq(components.iter().map(|(of, per)| (of.as_str(), *per))) {
                return Ok(Answer::Repeated);
            }
            // By what counts: whether it is written down that a hold is over makes no difference.
            let counts = |of: &LineRef| {
                let line = self.stock.reservation(of.slot).and_then(|r| r.lines.get(of.line as usize));
                line.is_some_and(|line| line.counts > 0)
            };
            let is_used = node.lines.iter().any(counts) || node.locations.iter().any(|at| at.on_hand != 0);
            if is_used && node.scale != scale {
                return invalid("qty_scale", format!("stays {} while there is stock or a reservation", node.scale));
            }
            if is_used && !components.is_empty() {
                return invalid("components", "can't be given to a SKU that has stock of its own");
            }
            if !components.is_empty() && node.rare.as_ref().is_some_and(|rare| !rare.part_of.is_empty()) {
                return invalid("components", "can't be given to a component of another kit");
            }
        } else if scale == 0 && components.is_empty() {
            return Ok(Answer::Repeated);
        }
        let one = |(sku, quantity): &(CompactString, i64)| Component { sku: sku.to_string(), quantity: *quantity };
        let fact = SkuSet { sku: sku.to_string(), scale, components: components.iter().map(one).collect() };
        self.record("", StockBody::Sku(fact));
        Ok(Answer::Applied)
    }

    pub(super) fn supply(
        &mut self,
        supply: &CompactString,
        sku: &CompactString,
        location: &CompactString,
        open: i64,
        eta_us: i64,
    ) -> Answered {
        let known = self.stock.sku_names.find(sku).and_then(|sku| self.stock.skus[sku as usize].rare.as_ref());
        let known = known.and_then(|rare| rare.supplies.iter().find(|known| known.id == supply));
        let same = match known {
            None => open == 0,
            Some(known) => {
                (known.open, known.eta_us, self.stock.locations.name(known.location))
                    == (open, eta_us, location.as_str())
            }
        };
        if same {
            return Ok(Answer::Repeated);
        }
        let (supply, location) = (supply.to_string(), location.to_string());
        let fact = SupplySet { supply, sku: sku.to_string(), location, open, eta_us };
        self.record("", StockBody::Supply(fact));
        Ok(Answer::Applied)
    }
}

impl Stock {
    /// Whether a policy is in force already.
    fn has_policy(&self, command: &PolicyOf) -> bool {
        let channel = self.channel_names.find(&command.channel).map(|number| &self.channels[number as usize]);
        let known = if command.sku.is_empty() {
            channel.filter(|of| of.declared).map(|of| &of.base)
        } else {
            let sku = self.sku_names.find(&command.sku);
            let location =
                if command.location.is_empty() { Some(NONE) } else { self.locations.find(&command.location) };
            channel.zip(sku.zip(location)).and_then(|(of, key)| of.special.get(&key))
        };
        let Some(known) = known else { return command.removed };
        let find = |names: &Vec<CompactString>| names.iter().map(|name| self.locations.find(name)).collect();
        // A location that is not known yet is in no policy.
        let locations = match command.locations.as_ref().map(find) {
            None => None,
            Some(Some(all)) => Some(all),
            Some(None) => return false,
        };
        let said = Policy {
            locations,
            fence: command.fence,
            cap: command.cap,
            buffer: command.buffer,
            backorder_limit: command.backorder_limit,
            priority: command.priority,
        };
        !command.removed && *known == said
    }
}
