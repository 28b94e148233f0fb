//! A SKU with all that is known of it in one node: a SKU that is sold often stays near.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use compact_str::CompactString;
use smallvec::SmallVec;

/// A SKU with all its locations.
#[derive(Clone, Debug, Default)]
pub(super) struct Sku {
    pub(super) locations: SmallVec<[Location; 1]>,
    /// Its open lines, in no order.
    pub(super) lines: Vec<LineRef>,
    /// Ends of its holds; what no longer holds is passed over.
    pub(super) expiring: BinaryHeap<Reverse<(i64, LineRef)>>,
    /// No hold of it ends before this time: most questions need not look further.
    pub(super) ends_at_us: i64,
    /// How many of its lines are held and count.
    pub(super) holding: usize,
    pub(super) scale: u32,
    pub(super) touched: bool,
    /// It waits to be checked.
    pub(super) suspect: bool,
    pub(super) dirty: bool,
    /// Somebody waits for it,
    pub(super) watched: bool,
    /// and it was touched since it was last looked at.
    pub(super) stirred: bool,
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
