//! Stock as it stands. What is kept is what records say; sums over open lines are kept beside it, so that no question
//! needs a scan. They follow from the reservations and the time, and are never written anywhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use compact_str::CompactString;
use smallvec::SmallVec;

use super::record::ReservationState;

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

/// Names and their numbers. Numbers live as long as the process: nothing that is written or ordered depends on them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<CompactString, u32, State>,
    names: Vec<CompactString>,
}

impl Names {
    pub(super) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
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
}

impl Default for Limits {
    fn default() -> Self {
        Self { ahead_max_us: 300_000_000, fresh_for_us: 86_400_000_000, recents_max: 128 }
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
    pub(super) ids: HashMap<CompactString, u32, State>,
    pub(super) reservations: Vec<Option<Reservation>>,
    pub(super) free: Vec<u32>,
    /// Ends of holds, for the sweep; what no longer holds is passed over.
    pub(super) due: BinaryHeap<Reverse<(i64, u32)>>,
    /// How many ends were left when the list was last cleaned.
    pub(super) due_kept: usize,
    /// Movements that had their effect, by [`movement_hash`]: as the hub's seen deliveries, it loads those that a
    /// batch speaks of and drops what is on disk.
    pub seen: HashSet<u64, State>,
    /// SKUs whose availability may have changed since it was last published.
    pub(super) touched: Vec<u32>,
    pub(super) dirty_skus: Vec<u32>,
    pub(super) dirty_channels: Vec<u32>,
    pub(super) dirty_ids: Vec<CompactString>,
}

/// A SKU with all its locations.
#[derive(Clone, Debug, Default)]
pub(super) struct Sku {
    pub(super) locations: SmallVec<[Location; 1]>,
    /// Its open lines, in no order.
    pub(super) lines: Vec<LineRef>,
    /// Ends of its holds; what no longer holds is passed over.
    pub(super) expiring: BinaryHeap<Reverse<(i64, LineRef)>>,
    /// How many of its lines are held and count.
    pub(super) holding: usize,
    pub(super) scale: u32,
    pub(super) touched: bool,
    pub(super) dirty: bool,
    /// What few SKUs have.
    pub(super) rare: Option<Box<Rare>>,
}

/// A line of a reservation, by its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineRef {
    pub(super) slot: u32,
    pub(super) line: u32,
}

/// What few SKUs have.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    pub(super) components: Vec<(u32, i64)>,
    pub(super) part_of: Vec<u32>,
    pub(super) supplies: Vec<Supply>,
    pub(super) backorders: Vec<Backorders>,
    /// By channel and location: what was shipped of its fence since that was set.
    pub(super) fence_used: Vec<(u32, u32, i64)>,
    /// By channel: what was shipped, in steps of a part of the cap's window.
    pub(super) sales: Vec<Sale>,
    /// By channel, what was last published.
    pub(super) published: Vec<(u32, i64)>,
}

/// Goods on order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Supply {
    pub(super) id: CompactString,
    pub(super) location: u32,
    pub(super) open: i64,
    pub(super) eta_us: i64,
}

/// A channel's backorders of a SKU, in the order in which they are served.
#[derive(Clone, Debug)]
pub(super) struct Backorders {
    pub(super) channel: u32,
    pub(super) open: i64,
    pub(super) queue: BTreeMap<Turn, LineRef>,
}

/// Priority (the higher first), promised when, id, line.
pub(super) type Turn = (Reverse<i32>, i64, CompactString, u32);

/// What a channel sold of a SKU until a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sale {
    pub(super) channel: u32,
    pub(super) until_us: i64,
    pub(super) quantity: i64,
}

/// A SKU at a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) id: u32,
    pub(super) basis: i32,
    pub(super) on_hand: i64,
    /// On hand at `counted_at_us`, or at the last of the pruned movements where that is later.
    pub(super) opening: i64,
    pub(super) damaged: i64,
    pub(super) quality_control: i64,
    pub(super) blocked: i64,
    pub(super) safety: i64,
    /// Open lines that are held and not expired.
    pub(super) held: i64,
    /// Open lines that are committed.
    pub(super) committed: i64,
    /// `i64::MIN` where nobody counted.
    pub(super) counted_at_us: i64,
    pub(super) counted: i64,
    pub(super) unavailable_at_us: i64,
    /// The newest movement; `i64::MIN` where there was none.
    pub(super) moved_at_us: i64,
    pub(super) pruned_to_us: i64,
    pub(super) pruned: u64,
    /// Movements since the count, by time.
    pub(super) recents: Vec<Recent>,
    /// Open lines by channel.
    pub(super) by_channel: SmallVec<[(u32, i64); 1]>,
}

/// What happened since the count, to be added to one that comes later and is older.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recent {
    pub(super) at_us: i64,
    pub(super) on_hand: i64,
    pub(super) damaged: i64,
    /// What of an acknowledged line was shipped or given back.
    pub(super) acknowledged: i64,
    pub(super) acknowledged_at_us: i64,
}

impl Location {
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            basis: 0,
            on_hand: 0,
            opening: 0,
            damaged: 0,
            quality_control: 0,
            blocked: 0,
            safety: 0,
            held: 0,
            committed: 0,
            counted_at_us: i64::MIN,
            counted: 0,
            unavailable_at_us: i64::MIN,
            moved_at_us: i64::MIN,
            pruned_to_us: i64::MIN,
            pruned: 0,
            recents: Vec::new(),
            by_channel: SmallVec::new(),
        }
    }

    pub(super) fn unavailable(&self) -> i64 {
        self.damaged + self.quality_control + self.blocked
    }

    /// Available to fulfil: signed, never clamped.
    pub(super) fn atf(&self) -> i64 {
        self.on_hand - self.unavailable() - self.safety - self.held - self.committed
    }

    /// How much more is promised than there is.
    pub(super) fn shortage(&self) -> i64 {
        (self.held + self.committed - (self.on_hand - self.unavailable())).max(0)
    }

    pub(super) fn open_of(&self, channel: u32) -> i64 {
        self.by_channel.iter().find(|(of, _)| *of == channel).map_or(0, |(_, open)| *open)
    }
}

impl Sku {
    pub(super) fn location(&self, id: u32) -> Option<&Location> {
        self.locations.iter().find(|location| location.id == id)
    }

    pub(super) fn location_mut(&mut self, id: u32) -> &mut Location {
        let at = self.locations.iter().position(|location| location.id == id).unwrap_or_else(|| {
            self.locations.push(Location::new(id));
            self.locations.len() - 1
        });
        &mut self.locations[at]
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn components(&self) -> &[(u32, i64)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.components)
    }

    pub(super) fn is_backordered(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.backorders.iter().any(|of| !of.queue.is_empty()))
    }
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
}

impl Channel {
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

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) id: CompactString,
    pub(super) owner: CompactString,
    pub(super) channel: u32,
    pub(super) state: ReservationState,
    pub(super) committed: bool,
    pub(super) dirty: bool,
    pub(super) priority: i32,
    pub(super) promised_at_us: i64,
    pub(super) expires_at_us: i64,
    pub(super) request_hash: u64,
    pub(super) lines: SmallVec<[Line; 1]>,
}

/// A line of a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) sku: u32,
    /// [`NONE`] while it is backordered.
    pub(super) location: u32,
    pub(super) item: u32,
    /// Where it stands in the SKU's list of open lines; [`NONE`] where it does not.
    pub(super) place: u32,
    /// What of it is in the sums.
    pub(super) counts: i64,
    pub(super) quantity: i64,
    pub(super) open: i64,
    pub(super) consumed: i64,
    pub(super) released: i64,
    pub(super) expired: i64,
    pub(super) acknowledged_at_us: i64,
}

impl Reservation {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, ReservationState::Held | ReservationState::Committed)
    }

    /// A hold whose time is over, whether that is written down or not.
    pub(super) fn is_expired(&self, now_us: i64) -> bool {
        match self.state {
            ReservationState::Expired => true,
            ReservationState::Held => self.expires_at_us <= now_us,
            _ => false,
        }
    }

    /// Where it stands at a time.
    pub(super) fn state_at(&self, now_us: i64) -> ReservationState {
        if self.is_expired(now_us) { ReservationState::Expired } else { self.state }
    }

    pub(super) fn turn(&self, line: u32) -> Turn {
        (Reverse(self.priority), self.promised_at_us, self.id.clone(), line)
    }
}

/// The hash under which a movement is remembered. Changing it would forget every movement seen so far.
pub fn movement_hash(source: &str, movement: &str) -> u64 {
    crate::delivery_hash(source, movement)
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

    pub(super) fn slot(&self, id: &str) -> Option<u32> {
        self.ids.get(id).copied()
    }

    pub(super) fn new_slot(&mut self, id: &str) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.reservations.push(None);
            (self.reservations.len() - 1) as u32
        });
        self.ids.insert(id.into(), slot);
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
