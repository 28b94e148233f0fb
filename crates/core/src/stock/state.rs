//! Stock as it stands. What is kept is what records say; sums over open lines are kept beside it, so that no question
//! needs a scan. They follow from the reservations and the time, and are never written anywhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use compact_str::CompactString;

pub(super) use super::reservation::{Line, Reservation};
pub(super) use super::sku::{Backorders, LineRef, Location, Rare, Recent, Sale, Sku, Supply, Turn};
use super::watch::Watch;

/// No location: backordered. Also no place in a list, and no SKU in a policy.
pub(super) const NONE: u32 = u32::MAX;

/// A fixed hasher of short texts and numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }

    // Ends a text: there is nothing after it.
    fn write_u8(&mut self, _: u8) {}

    // Is a hash already.
    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type State = BuildHasherDefault<Quick>;

/// Names and their numbers. A number lives as long as the process, unless its name is forgotten: nothing that is written
/// or ordered depends on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<CompactString, u32, State>,
    names: Vec<CompactString>,
    /// Numbers whose names are forgotten.
    free: Vec<u32>,
}

impl Names {
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.names.push(CompactString::default());
            (self.names.len() - 1) as u32
        });
        self.names[number as usize] = name.into();
        self.numbers.insert(name.into(), number);
        number
    }

    /// Gives a number to the next new name.
    fn forget(&mut self, number: u32) {
        let name = std::mem::take(&mut self.names[number as usize]);
        self.numbers.remove(&name);
        self.free.push(number);
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(super) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", CompactString::as_str)
    }
}

/// What the core is told of the world around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far ahead of the hub's clock a count or movement may be.
    pub ahead_max_us: i64,
    /// How old a physical fact may be for an answer to count as fresh.
    pub fresh_for_us: i64,
    /// The most movements that are remembered per SKU and location, for a count that comes later.
    pub recents_max: usize,
    /// How far ahead the end of a hold may be that is not an order's.
    pub hold_max_us: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ahead_max_us: 300_000_000,
            fresh_for_us: 86_400_000_000,
            recents_max: 128,
            hold_max_us: 30 * 86_400_000_000,
        }
    }
}

/// All stock.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    pub(super) limits: Limits,
    /// No question is answered for an earlier time than this: what expired by then has stopped counting for good.
    pub(super) clock_us: i64,
    pub(super) sku_names: Names,
    pub(super) skus: Vec<Sku>,
    pub(super) locations: Names,
    pub(super) channel_names: Names,
    pub(super) channels: Vec<Channel>,
    /// Those that have policies, in no order: anybody can name a channel, but only these are looked through.
    pub(super) ruled: Vec<u32>,
    pub(super) ids: HashMap<CompactString, u32, State>,
    pub(super) reservations: Vec<Option<Reservation>>,
    pub(super) free: Vec<u32>,
    /// The slot that was asked for last: only a short cut.
    pub(super) last_slot: u32,
    /// Ends of holds, for the sweep; what no longer holds is passed over.
    pub(super) due: BinaryHeap<Reverse<(i64, u32)>>,
    /// How many ends were left when the list was last cleaned.
    pub(super) due_kept: usize,
    /// Movements that had their effect, by [`movement_hash`]: as the hub's seen deliveries, it loads those that a
    /// batch speaks of and drops what is on disk.
    pub seen: HashSet<u64, State>,
    /// SKUs whose availability may have changed since it was last published.
    pub(super) touched: Vec<u32>,
    /// SKUs that were touched since their invariants were last checked.
    pub(super) suspects: VecDeque<u32>,
    pub(super) watch: Watch,
    pub(super) dirty_skus: Vec<u32>,
    pub(super) dirty_channels: Vec<u32>,
    pub(super) dirty_ids: Vec<CompactString>,
}

/// What a channel may have, for all SKUs, one, or one at one location.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) locations: Option<Vec<u32>>,
    pub(super) fence: Option<i64>,
    pub(super) cap: Option<(i64, i64)>,
    pub(super) buffer: Option<i64>,
    pub(super) backorder_limit: Option<i64>,
    pub(super) priority: Option<i32>,
}

/// A channel and its policies.
#[derive(Clone, Debug, Default)]
pub(super) struct Channel {
    /// It is told what it may sell.
    pub(super) declared: bool,
    /// Some policy of it has a fence.
    pub(super) fences: bool,
    pub(super) base: Policy,
    /// By SKU and location; [`NONE`] for all locations.
    pub(super) special: BTreeMap<(u32, u32), Policy>,
    pub(super) dirty: bool,
    /// Something else than a reservation speaks of it.
    pub(super) pinned: bool,
    /// How many reservations in memory are of it.
    pub(super) reservations: usize,
}

impl Channel {
    /// Whether some policy is for it.
    pub(super) fn is_ruled(&self) -> bool {
        self.declared || !self.special.is_empty()
    }

    /// Whether a policy has a fence at a location that is more specific than the channel's, or than the SKU's.
    pub(super) fn has_own_fence(&self, sku: u32, location: u32, than_channel: bool) -> bool {
        let of = |location| self.special.get(&(sku, location)).is_some_and(|policy| policy.fence.is_some());
        of(location) || (than_channel && of(NONE))
    }

    /// What the most specific policy says that says something.
    pub(super) fn says<'a, T>(&'a self, sku: u32, location: u32, part: impl Fn(&'a Policy) -> Option<T>) -> Option<T> {
        if !self.special.is_empty() {
            let of = |location| self.special.get(&(sku, location)).and_then(&part);
            if let Some(said) = of(location).or_else(|| of(NONE)) {
                return Some(said);
            }
        }
        part(&self.base)
    }
}

/// The hash under which a movement is remembered. Changing it would forget every movement seen so far.
pub fn movement_hash(source: &str, movement: &str) -> u64 {
    // Apart from delivery ids, which the hub remembers beside them.
    crate::delivery_hash(&format!("{source}\u{1}movement"), movement)
}

impl Stock {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn sku_number(&mut self, sku: &str) -> u32 {
        let number = self.sku_names.number(sku);
        if number as usize == self.skus.len() {
            self.skus.push(Sku::default());
        }
        number
    }

    pub(super) fn channel_number(&mut self, channel: &str) -> u32 {
        let number = self.channel_names.number(channel);
        if number as usize == self.channels.len() {
            self.channels.push(Channel::default());
        }
        number
    }

    /// The same of a channel that more than reservations speak of: it is kept.
    pub(super) fn pinned_channel(&mut self, channel: &str) -> u32 {
        let number = self.channel_number(channel);
        self.channels[number as usize].pinned = true;
        number
    }

    /// A reservation is no longer of a channel. One that nothing speaks of any more leaves the memory: else whoever makes
    /// up names could fill it.
    pub(super) fn leave_channel(&mut self, number: u32) {
        let channel = &mut self.channels[number as usize];
        channel.reservations -= 1;
        if channel.reservations == 0 && !channel.pinned {
            *channel = Channel::default();
            self.channel_names.forget(number);
        }
    }

    /// After a change of a channel's policies.
    pub(super) fn index_channel(&mut self, number: u32) {
        self.ruled.retain(|other| *other != number);
        if self.channels[number as usize].is_ruled() {
            self.ruled.push(number);
        }
    }

    /// How many names of channels are in memory.
    pub fn channels_len(&self) -> usize {
        self.channel_names.numbers.len()
    }

    pub(super) fn slot(&self, id: &str) -> Option<u32> {
        // One command asks for its reservation several times.
        match self.reservation(self.last_slot) {
            Some(last) if last.id == id => Some(self.last_slot),
            _ => self.ids.get(id).copied(),
        }
    }

    pub(super) fn new_slot(&mut self, id: &str) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.reservations.push(None);
            (self.reservations.len() - 1) as u32
        });
        self.ids.insert(id.into(), slot);
        self.last_slot = slot;
        slot
    }

    pub(super) fn reservation(&self, slot: u32) -> Option<&Reservation> {
        self.reservations.get(slot as usize)?.as_ref()
    }

    pub(super) fn touch(&mut self, sku: u32) {
        let node = &mut self.skus[sku as usize];
        if !node.touched {
            node.touched = true;
            self.touched.push(sku);
        }
        if node.watched {
            self.stir(sku);
        }
        self.suspect(sku);
    }

    /// Has a SKU's invariants checked when its turn comes.
    pub(super) fn suspect(&mut self, sku: u32) {
        let node = &mut self.skus[sku as usize];
        if !node.suspect {
            node.suspect = true;
            self.suspects.push_back(sku);
        }
    }

    pub(super) fn soil(&mut self, sku: u32) {
        let node = &mut self.skus[sku as usize];
        if !node.dirty {
            node.dirty = true;
            self.dirty_skus.push(sku);
        }
        self.touch(sku);
    }
}
