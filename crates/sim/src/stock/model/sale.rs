//! What a channel may have: policies, fences, caps, what is on order. As the design has it, sum by sum, each time anew.

use std::cmp::Reverse;

use lockstep_core::stock::record::ReservationState as State;
use lockstep_core::stock::{Command, PolicyOf};

use super::{Line, Model, Reservation};

/// A cap's window is counted in so many steps.
const WINDOW_STEPS: i64 = 32;
/// The reservation that a request would be, while it is tried.
const TRIAL: &str = "~";

/// What a channel has shipped of a SKU.
#[derive(Clone, Debug)]
pub(super) struct Sale {
    pub(super) channel: String,
    pub(super) sku: String,
    /// The end of the step in which it was.
    pub(super) until_us: i64,
    pub(super) quantity: i64,
}

/// What is wanted of one SKU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) sku: &'a str,
    pub(super) quantity: i64,
    /// Where it must come from.
    pub(super) only: Option<&'a str>,
    /// From several places.
    pub(super) split: bool,
    /// And from what is on order by then.
    pub(super) until_us: Option<i64>,
}

impl Model {
    /// What the most specific policy says that says something.
    pub(super) fn says<T>(
        &self,
        channel: &str,
        (sku, place): (&str, &str),
        part: impl Fn(&PolicyOf) -> Option<T>,
    ) -> Option<T> {
        let said = &self.channels.get(channel)?.said;
        let find = |key: (&str, &str)| said.get(&(key.0.to_owned(), key.1.to_owned())).and_then(&part);
        [(sku, place), (sku, ""), ("", "")].into_iter().find_map(find)
    }

    fn eligible(&self, sku: &str, channel: &str) -> Option<Vec<String>> {
        let list = |policy: &PolicyOf| Some(policy.locations.as_ref()?.iter().map(ToString::to_string).collect());
        self.says(channel, (sku, ""), list)
    }

    pub(super) fn is_eligible(&self, sku: &str, channel: &str, place: &str) -> bool {
        self.eligible(sku, channel).is_none_or(|all| all.iter().any(|one| one == place))
    }

    pub(super) fn priority(&self, sku: &str, channel: &str) -> i32 {
        self.says(channel, (sku, ""), |policy| policy.priority).unwrap_or(0)
    }

    /// What is open of reservations that are, by channel and place.
    fn open_where(&self, sku: &str, now_us: i64, is_it: impl Fn(&Reservation, &Line) -> bool) -> i64 {
        let open = self.reservations.values().filter(|r| r.is_open(now_us));
        let lines = open.flat_map(|r| r.lines.iter().map(move |line| (r, line)));
        lines.filter(|(r, line)| line.sku == sku && is_it(r, line)).map(|(_, line)| line.open).sum()
    }

    /// What a channel may take at a place: what is free there but for the fences of others. Where there is less than is
    /// fenced, the channel with the higher priority has its part first.
    pub(in crate::stock) fn usable(&self, sku: &str, place: &str, channel: &str, now_us: i64) -> i64 {
        if !self.is_eligible(sku, channel, place) {
            return 0;
        }
        let free = self.atf(sku, place, now_us).max(0);
        let mut fences: Vec<(Reverse<i32>, &str, i64)> = Vec::new();
        for other in self.channels.keys().filter(|other| self.is_eligible(sku, other, place)) {
            let Some(fence) = self.says(other, (sku, place), |policy| policy.fence) else { continue };
            let open = self.open_where(sku, now_us, |r, line| r.channel == *other && line.place == place);
            let used = self.fence_used.get(&(other.clone(), sku.to_owned(), place.to_owned()));
            let left = (fence - open - used.copied().unwrap_or(0)).max(0);
            fences.push((Reverse(self.priority(sku, other)), other, left));
        }
        fences.sort_unstable();
        let (mut left, mut of_others) = (free, 0);
        for (_, other, fence) in fences {
            let honoured = fence.min(left);
            left -= honoured;
            of_others += if other == channel { 0 } else { honoured };
        }
        free - of_others
    }

    /// What is left of a channel's cap.
    pub(super) fn cap_left(&self, sku: &str, channel: &str, now_us: i64) -> Option<i64> {
        let (cap, window_us) = self.says(channel, (sku, ""), |policy| policy.cap)?;
        let open = self.open_where(sku, now_us, |r, _| r.channel == channel);
        let sold = self.sales.iter().filter(|sale| sale.channel == channel && sale.sku == sku);
        let sold: i64 = sold.filter(|sale| sale.until_us > now_us - window_us).map(|sale| sale.quantity).sum();
        Some((cap - open - sold).max(0))
    }

    /// How much more may be promised of what is on order by a time.
    fn room(&self, sku: &str, channel: &str, until_us: i64, now_us: i64) -> i64 {
        let Some(limit) = self.says(channel, (sku, ""), |policy| policy.backorder_limit) else { return 0 };
        let due = self.supplies.iter().filter(|((of, _), supply)| of == sku && supply.eta_us <= until_us);
        let incoming: i64 = due.map(|(_, supply)| supply.open).sum();
        let own = self.open_where(sku, now_us, |r, line| r.channel == channel && line.place.is_empty());
        let all = self.open_where(sku, now_us, |_, line| line.place.is_empty());
        (limit - own).min(incoming - all).max(0)
    }

    /// Where a channel may take something, the preferred place first: as its policy lists them, otherwise where there is
    /// most.
    pub(super) fn usable_places(&self, sku: &str, channel: &str, now_us: i64) -> Vec<(String, i64)> {
        let places = self.places.keys().filter(|(of, _)| of == sku);
        let usable = places.map(|(_, place)| (place.clone(), self.usable(sku, place, channel, now_us)));
        let mut all: Vec<(String, i64)> = usable.filter(|(_, usable)| *usable > 0).collect();
        match self.eligible(sku, channel) {
            Some(list) => all.sort_by_key(|(place, _)| list.iter().position(|listed| listed == place)),
            None => all.sort_by_key(|(place, usable)| (Reverse(*usable), place.clone())),
        }
        all
    }

    /// Whether a piece can be had.
    pub(super) fn fits(&self, piece: Piece<'_>, channel: &str, now_us: i64) -> bool {
        let Piece { sku, quantity, only, split, until_us } = piece;
        if self.cap_left(sku, channel, now_us).is_some_and(|left| left < quantity) {
            return false;
        }
        let places = self.usable_places(sku, channel, now_us).into_iter();
        let usable: Vec<i64> =
            places.filter(|(place, _)| only.is_none_or(|only| only == place)).map(|(_, usable)| usable).collect();
        let there: i64 = usable.iter().sum();
        // What must come from one place is not promised of what arrives at another.
        let room = until_us.filter(|_| only.is_none()).map(|until_us| self.room(sku, channel, until_us, now_us));
        let most = match room {
            _ if usable.iter().any(|usable| *usable >= quantity) => quantity,
            Some(room) => there + room,
            None if split => there,
            None => 0,
        };
        most >= quantity
    }

    /// What a channel is told that it may sell.
    pub(in crate::stock) fn atp(&self, sku: &str, channel: &str, now_us: i64) -> i64 {
        if let Some(components) = self.kits.get(sku) {
            return components.iter().map(|(sku, per)| self.atp(sku, channel, now_us) / per).min().unwrap_or(0);
        }
        let sum: i64 = self.usable_places(sku, channel, now_us).iter().map(|(_, usable)| usable).sum();
        let sum = self.cap_left(sku, channel, now_us).map_or(sum, |cap| cap.min(sum));
        (sum - self.says(channel, (sku, ""), |policy| policy.buffer).unwrap_or(0)).max(0)
    }

    /// What a SKU or kit takes of which SKUs.
    pub(super) fn takes(&self, sku: &str) -> Vec<(String, i64)> {
        self.kits.get(sku).cloned().unwrap_or_else(|| vec![(sku.to_owned(), 1)])
    }

    /// Whether the lines could be had, one after the other; `until_us` is up to when something may be on order.
    ///
    /// # Errors
    /// In words, where they could not.
    pub(super) fn try_lines(
        mut self,
        lines: &[Line],
        channel: &str,
        until_us: Option<i64>,
        now_us: i64,
    ) -> Result<(), String> {
        for line in lines {
            let cap = self.cap_left(&line.sku, channel, now_us).unwrap_or(i64::MAX);
            let most = match until_us {
                _ if !line.place.is_empty() => self.usable(&line.sku, &line.place, channel, now_us),
                Some(until_us) => self.room(&line.sku, channel, until_us, now_us),
                None => 0,
            };
            if line.quantity < 1 || line.quantity != line.open || line.quantity > most.min(cap) {
                return Err(format!(
                    "{line:?} was made for {channel}, where {most} could be had, and {cap} by the cap"
                ));
            }
            let trial = self.reservations.entry(TRIAL.to_owned()).or_default();
            (trial.state, trial.channel) = (State::Committed, channel.to_owned());
            trial.lines.push(line.clone());
        }
        let waits = lines
            .iter()
            .find(|line| line.place.is_empty() && !self.usable_places(&line.sku, channel, now_us).is_empty());
        waits.map_or(Ok(()), |line| Err(format!("{line:?} waits for supply, and is there")))
    }

    /// Counts what has left of a reservation against the fence and the cap of its channel.
    pub(super) fn sold(&mut self, channel: &str, (sku, place): (&str, &str), quantity: i64, now_us: i64) {
        if self.says(channel, (sku, place), |policy| policy.fence).is_some() {
            let key = (channel.to_owned(), sku.to_owned(), place.to_owned());
            *self.fence_used.entry(key).or_default() += quantity;
        }
        let cap = self.says(channel, (sku, ""), |policy| policy.cap);
        if let Some((_, window_us)) = cap.filter(|(_, window_us)| *window_us > 0) {
            let step_us = (window_us / WINDOW_STEPS).max(1);
            let until_us = (now_us / step_us + 1) * step_us;
            self.sales.push(Sale { channel: channel.to_owned(), sku: sku.to_owned(), until_us, quantity });
        }
    }

    /// When what was sold stops counting against a cap.
    pub(in crate::stock) fn window_ends<'a>(&'a self, command: &'a Command) -> impl Iterator<Item = i64> + 'a {
        let channel = match command {
            Command::Reserve(wanted) => Some(wanted.channel.as_str()),
            Command::Commit { id } => self.reservations.get(id.as_str()).map(|known| known.channel.as_str()),
            _ => None,
        };
        let sales = self.sales.iter().filter(move |sale| Some(sale.channel.as_str()) == channel);
        sales.filter_map(|sale| {
            let (_, window_us) = self.says(&sale.channel, (&sale.sku, ""), |policy| policy.cap)?;
            Some(sale.until_us + window_us)
        })
    }

    /// What is still to come of a supply.
    pub(in crate::stock) fn on_order(&self, sku: &str, supply: &str) -> i64 {
        self.supplies.get(&(sku.to_owned(), supply.to_owned())).map_or(0, |supply| supply.open)
    }

    /// Sets or takes away a policy: of its fence nothing is used yet.
    pub(super) fn set_policy(&mut self, policy: &PolicyOf) {
        let key = (policy.sku.to_string(), policy.location.to_string());
        let channel = self.channels.entry(policy.channel.to_string()).or_default();
        let before =
            if policy.removed { channel.said.remove(&key) } else { channel.said.insert(key.clone(), policy.clone()) };
        if before.and_then(|before| before.fence) == policy.fence {
            return;
        }
        // What is used of a fence is of that one: it begins anew with another, where it is that one which counts.
        let said = &channel.said;
        let has = |sku: &str, place: &str| said.get(&(sku.into(), place.into())).is_some_and(|of| of.fence.is_some());
        self.fence_used.retain(|(channel, sku, place), _| {
            let other = *channel != *policy.channel || (!policy.sku.is_empty() && *sku != *policy.sku);
            let elsewhere = !policy.location.is_empty() && *place != *policy.location;
            let own_here = policy.location.is_empty() && has(sku, place);
            let own = policy.sku.is_empty() && has(sku, "");
            other || elsewhere || own_here || own
        });
    }

    /// Whether a policy is in force already.
    pub(super) fn has_policy(&self, policy: &PolicyOf) -> bool {
        let key = (policy.sku.to_string(), policy.location.to_string());
        let known = self.channels.get(policy.channel.as_str()).and_then(|channel| channel.said.get(&key));
        known.map_or(policy.removed, |known| known == policy)
    }
}
