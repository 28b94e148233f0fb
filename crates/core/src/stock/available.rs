//! What a channel may have: fences, caps, buffers, and what is on order. The arithmetic is in the documentation of
//! [`super`].

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::state::{Location, NONE, Stock};

/// What the request at hand has taken already (or gives back, negative), before it is a fact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) sku: u32,
    /// [`NONE`] for a backorder.
    pub(super) location: u32,
    pub(super) channel: u32,
    pub(super) quantity: i64,
}

/// See [`Taken`].
pub(super) type Taking = SmallVec<[Taken; 4]>;

/// Locations with what can be taken there.
pub(super) type Places = SmallVec<[(u32, i64); 4]>;

fn taken_of(taken: &[Taken], is_it: impl Fn(&Taken) -> bool) -> i64 {
    taken.iter().filter(|t| is_it(t)).map(|t| t.quantity).sum()
}

/// A channel's fence at a location: what is left of it, and what of that the stock covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) channel: u32,
    pub(super) remaining: i64,
    pub(super) honoured: i64,
}

impl Stock {
    /// The locations that may serve a channel, the preferred first; `None` where all may.
    pub(super) fn eligible(&self, sku: u32, channel: u32) -> Option<&[u32]> {
        self.channels.get(channel as usize)?.says(sku, NONE, |policy| policy.locations.as_deref())
    }

    pub(super) fn is_eligible(&self, sku: u32, channel: u32, location: u32) -> bool {
        self.eligible(sku, channel).is_none_or(|all| all.contains(&location))
    }

    pub(super) fn priority(&self, sku: u32, channel: u32) -> i32 {
        self.channels.get(channel as usize).and_then(|c| c.says(sku, NONE, |p| p.priority)).unwrap_or(0)
    }

    /// Available to fulfil, as the request at hand sees it.
    pub(super) fn atf(&self, sku: u32, at: &Location, taken: &[Taken]) -> i64 {
        at.atf() - taken_of(taken, |t| (t.sku, t.location) == (sku, at.id))
    }

    /// The fences at a location, the first served first: while they fit, each is honoured whole; where they do not, a
    /// channel with a higher priority comes first.
    pub(super) fn fences(&self, sku: u32, at: &Location, taken: &[Taken]) -> SmallVec<[Fence; 4]> {
        let mut fences: SmallVec<[Fence; 4]> = SmallVec::new();
        for channel in self.ruled.iter().copied() {
            let policies = &self.channels[channel as usize];
            if !policies.fences || !self.is_eligible(sku, channel, at.id) {
                continue;
            }
            let Some(fence) = policies.says(sku, at.id, |policy| policy.fence) else { continue };
            let used = self.skus[sku as usize].rare.as_ref().and_then(|rare| {
                rare.fence_used.iter().find(|used| (used.0, used.1) == (channel, at.id)).map(|used| used.2)
            });
            let mine = taken_of(taken, |t| (t.sku, t.location, t.channel) == (sku, at.id, channel));
            let remaining = (fence - at.open_of(channel) - mine - used.unwrap_or(0)).max(0);
            fences.push(Fence { channel, remaining, honoured: 0 });
        }
        fences.sort_by_key(|f| (Reverse(self.priority(sku, f.channel)), self.channel_names.name(f.channel)));
        let mut left = self.atf(sku, at, taken).max(0);
        for fence in &mut fences {
            fence.honoured = fence.remaining.min(left);
            left -= fence.honoured;
        }
        fences
    }

    /// What a channel may take at a location.
    pub(super) fn usable(&self, sku: u32, at: &Location, channel: u32, taken: &[Taken]) -> i64 {
        let free = self.atf(sku, at, taken).max(0);
        if free == 0 || !self.ruled.iter().any(|of| self.channels[*of as usize].fences) {
            return free;
        }
        let fences = self.fences(sku, at, taken);
        free - fences.iter().filter(|fence| fence.channel != channel).map(|fence| fence.honoured).sum::<i64>()
    }

    /// What is left of a channel's cap; `None` where there is none.
    pub(super) fn cap_remaining(&self, sku: u32, channel: u32, taken: &[Taken]) -> Option<i64> {
        let (cap, window_us) = self.channels.get(channel as usize)?.says(sku, NONE, |policy| policy.cap)?;
        let node = &self.skus[sku as usize];
        let open: i64 = node.locations.iter().map(|at| at.open_of(channel)).sum();
        let since_us = self.clock_us.saturating_sub(window_us);
        let (backordered, sold) = node.rare.as_ref().map_or((0, 0), |rare| {
            let sold = rare.sales.iter().filter(|sale| sale.channel == channel && sale.until_us > since_us);
            (rare.open_backorders(Some(channel)), sold.map(|sale| sale.quantity).sum())
        });
        let mine = taken_of(taken, |t| (t.sku, t.channel) == (sku, channel));
        Some((cap - open - backordered - sold - mine).max(0))
    }

    /// What a channel may take of a SKU that is no kit, everywhere together.
    pub(super) fn usable_in_all(&self, sku: u32, channel: u32, taken: &[Taken]) -> i64 {
        let all = &self.skus[sku as usize].locations;
        let eligible = all.iter().filter(|at| self.is_eligible(sku, channel, at.id));
        let sum = eligible.map(|at| self.usable(sku, at, channel, taken)).fold(0, i64::saturating_add);
        self.cap_remaining(sku, channel, taken).map_or(sum, |cap| cap.min(sum))
    }

    /// What a channel is told that it may sell.
    pub(super) fn atp(&self, sku: u32, channel: u32) -> i64 {
        let components = self.skus[sku as usize].components();
        if components.is_empty() {
            let due = self.due_to_backorders(sku);
            return (self.usable_in_all(sku, channel, &due) - self.buffer(sku, channel)).max(0);
        }
        let of = |(component, per): &(u32, i64)| self.atp(*component, channel) / per;
        components.iter().map(of).min().unwrap_or(0)
    }

    pub(super) fn buffer(&self, sku: u32, channel: u32) -> i64 {
        self.channels.get(channel as usize).and_then(|of| of.says(sku, NONE, |p| p.buffer)).unwrap_or(0)
    }

    /// What is on order and expected by then.
    pub(super) fn incoming(&self, sku: u32, until_us: i64) -> i64 {
        let supplies = self.skus[sku as usize].rare.iter().flat_map(|rare| &rare.supplies);
        supplies.filter(|supply| supply.eta_us <= until_us).map(|supply| supply.open).fold(0, i64::saturating_add)
    }

    pub(super) fn backordered(&self, sku: u32, channel: Option<u32>) -> i64 {
        self.skus[sku as usize].rare.as_ref().map_or(0, |rare| rare.open_backorders(channel))
    }

    /// How much more may be backordered: within the channel's limit, and of what is on order and not promised yet.
    pub(super) fn backorder_room(&self, sku: u32, channel: u32, until_us: i64, taken: &[Taken]) -> i64 {
        let limit = self.channels.get(channel as usize).and_then(|of| of.says(sku, NONE, |p| p.backorder_limit));
        let Some(limit) = limit else { return 0 };
        let mine = taken_of(taken, |t| (t.sku, t.location, t.channel) == (sku, NONE, channel));
        let of_all = taken_of(taken, |t| (t.sku, t.location) == (sku, NONE));
        let of_limit = limit - self.backordered(sku, Some(channel)) - mine;
        let of_incoming = self.incoming(sku, until_us) - self.backordered(sku, None) - of_all;
        of_limit.min(of_incoming).max(0)
    }
}

impl Stock {
    /// What is free and goes to backorders as soon as anything is decided of the SKU: holds have expired since. It is
    /// nothing that may be told to be free, or what is told would depend on when expiries are written down.
    pub(super) fn due_to_backorders(&self, sku: u32) -> Taking {
        let mut taken = Taking::new();
        let node = &self.skus[sku as usize];
        if !node.is_backordered() || node.locations.iter().all(|at| at.atf() <= 0) {
            return taken;
        }
        let all = node.rare.iter().flat_map(|rare| &rare.backorders);
        let mut turns: Vec<_> =
            all.flat_map(|of| of.queue.iter().map(|(turn, line)| (turn, of.channel, *line))).collect();
        turns.sort_by(|a, b| a.0.cmp(b.0));
        for (_, channel, of) in turns {
            if node.locations.iter().all(|at| self.atf(sku, at, &taken) <= 0) {
                break;
            }
            let line = self.reservation(of.slot).and_then(|r| r.lines.get(of.line as usize));
            let mut open = line.map_or(0, |line| line.counts);
            while open > 0
                && let Some((location, usable)) = self.places(sku, channel, &taken, None).first().copied()
            {
                let quantity = usable.min(open);
                open -= quantity;
                taken.push(Taken { sku, location, channel, quantity });
                taken.push(Taken { sku, location: NONE, channel, quantity: -quantity });
            }
        }
        taken
    }

    /// The locations with something to take for a channel, the preferred first: as its policy lists them, otherwise
    /// where there is most.
    pub(super) fn places(&self, sku: u32, channel: u32, taken: &[Taken], only: Option<u32>) -> Places {
        let eligible = self.eligible(sku, channel);
        let all = &self.skus[sku as usize].locations;
        let is_it = |id: u32| only.is_none_or(|only| only == id) && eligible.is_none_or(|e| e.contains(&id));
        let mut places: Places = all
            .iter()
            .filter(|at| is_it(at.id))
            .map(|at| (at.id, self.usable(sku, at, channel, taken)))
            .filter(|(_, usable)| *usable > 0)
            .collect();
        if places.len() > 1 {
            match eligible {
                Some(listed) => places.sort_by_key(|(id, _)| listed.iter().position(|other| other == id)),
                None => places
                    .sort_by(|a, b| b.1.cmp(&a.1).then_with(|| self.locations.name(a.0).cmp(self.locations.name(b.0)))),
            }
        }
        places
    }
}

impl super::state::Rare {
    pub(super) fn open_backorders(&self, channel: Option<u32>) -> i64 {
        let all = self.backorders.iter().filter(|of| channel.is_none_or(|channel| of.channel == channel));
        all.map(|of| of.open).sum()
    }
}
