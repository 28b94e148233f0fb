//! From a fact to stock. This is the only way in which stock changes, live and on replay, and it never decides. (That
//! a hold stops counting when its time is over is no change: it follows from the time, see [`super::sums`].)

use smallvec::SmallVec;

use super::record::{
    Counted, LineFact, Moved, MovementKind, PolicySet, ReservationFact, ReservationState, SkuSet, StockBody, StockFact,
    SupplySet, UnavailableSet,
};
use super::state::{Channel, Line, Location, NONE, Policy, Recent, Reservation, Sale, Stock, Supply, movement_hash};

/// In how many steps a cap's window is counted.
const WINDOW_STEPS: i64 = 32;

/// Folds one fact.
pub fn fold(stock: &mut Stock, recorded_at_us: i64, fact: &StockFact) {
    stock.clock_us = stock.clock_us.max(recorded_at_us);
    match &fact.body {
        Some(StockBody::Reservation(fact)) => reservation(stock, recorded_at_us, fact),
        Some(StockBody::Counted(fact)) => counted(stock, fact),
        Some(StockBody::Moved(fact)) => moved(stock, fact),
        Some(StockBody::Unavailable(fact)) => unavailable(stock, fact),
        Some(StockBody::Safety(fact)) => at(stock, &fact.sku, &fact.location).safety = fact.quantity,
        Some(StockBody::Policy(fact)) => policy(stock, fact),
        Some(StockBody::Sku(fact)) => sku(stock, fact),
        Some(StockBody::Supply(fact)) => supply(stock, fact),
        Some(StockBody::Availability(fact)) => {
            let channel = stock.pinned_channel(&fact.channel);
            let sku = stock.sku_number(&fact.sku);
            stock.soil(sku);
            set(&mut stock.skus[sku as usize].rare_mut().published, channel, fact.atp);
        }
        Some(StockBody::Shortage(_)) | None => {}
    }
}

/// The SKU at the location, made where it is new.
fn at<'a>(stock: &'a mut Stock, sku: &str, location: &str) -> &'a mut Location {
    let (sku, location) = (stock.sku_number(sku), stock.locations.number(location));
    stock.soil(sku);
    stock.skus[sku as usize].location_mut(location)
}

fn set(list: &mut Vec<(u32, i64)>, key: u32, value: i64) {
    match list.iter_mut().find(|(of, _)| *of == key) {
        Some(entry) => entry.1 = value,
        None => list.push((key, value)),
    }
}

fn reservation(stock: &mut Stock, recorded_at_us: i64, fact: &ReservationFact) {
    let slot = stock.slot(&fact.id).unwrap_or_else(|| stock.new_slot(&fact.id));
    let channel = stock.channel_number(&fact.channel);
    stock.channels[channel as usize].reservations += 1;
    let known = stock.reservations[slot as usize].take();
    let before = known.as_ref().map(|known| known.channel);
    let mut reservation = known.unwrap_or_else(|| Reservation {
        id: fact.id.as_str().into(),
        owner: Default::default(),
        channel,
        state: ReservationState::Unspecified,
        committed: false,
        dirty: false,
        priority: 0,
        promised_at_us: 0,
        expires_at_us: i64::MIN,
        request_hash: 0,
        lines: SmallVec::new(),
    });
    for line in 0..reservation.lines.len() {
        stock.uncount(&mut reservation, line);
    }
    if fact.fresh {
        for line in 0..reservation.lines.len() {
            stock.unlist(&mut reservation, slot, line);
        }
        reservation.lines.clear();
    }
    reservation.owner = fact.owner.as_str().into();
    reservation.channel = channel;
    reservation.state = fact.state();
    reservation.committed = fact.committed;
    reservation.priority = fact.priority;
    reservation.promised_at_us = fact.promised_at_us;
    reservation.request_hash = fact.request_hash;
    let ends_anew = reservation.expires_at_us != fact.expires_at_us;
    reservation.expires_at_us = fact.expires_at_us;
    for given in &fact.lines {
        line(stock, &mut reservation, given, fact.occurred_at_us, recorded_at_us);
    }
    for line in 0..reservation.lines.len() {
        stock.count(&mut reservation, slot, line);
    }
    if reservation.state == ReservationState::Held && ends_anew {
        stock.due.push(std::cmp::Reverse((reservation.expires_at_us, slot)));
    }
    if !reservation.dirty {
        reservation.dirty = true;
        stock.dirty_ids.push(reservation.id.clone());
    }
    stock.reservations[slot as usize] = Some(reservation);
    // Its lines have left the sums of the channel that it had before.
    before.into_iter().for_each(|before| stock.leave_channel(before));
    stock.compact_due();
}

fn line(stock: &mut Stock, reservation: &mut Reservation, given: &LineFact, occurred_at_us: i64, recorded_at_us: i64) {
    let number = given.line as usize;
    if number == reservation.lines.len() {
        let sku = stock.sku_number(&given.sku);
        let location = if given.location.is_empty() { NONE } else { stock.locations.number(&given.location) };
        let line = Line { sku, location, item: given.item, place: NONE, ..Line::default() };
        reservation.lines.push(line);
    }
    // One beyond the next is none that was ever written.
    let Some(line) = reservation.lines.get_mut(number) else { return };
    let before = *line;
    line.quantity = given.quantity;
    line.open = given.open;
    line.consumed = given.consumed;
    line.released = given.released;
    line.expired = given.expired;
    line.acknowledged_at_us = given.acknowledged_at_us;
    let (sku, location, channel) = (line.sku, line.location, reservation.channel);
    let after = *line;
    if location != NONE {
        // What expired is left out: whether that is written down makes no difference to a count.
        let gone = after.consumed + after.released - before.consumed - before.released;
        if before.acknowledged_at_us != 0 && gone > 0 {
            let recent = Recent {
                at_us: occurred_at_us,
                acknowledged: gone,
                acknowledged_at_us: before.acknowledged_at_us,
                ..Recent::default()
            };
            let recents_max = stock.limits.recents_max;
            remember(stock.skus[sku as usize].location_mut(location), recent, recents_max);
            stock.soil(sku);
        }
        if after.consumed > before.consumed {
            sold(stock, sku, location, channel, after.consumed - before.consumed, recorded_at_us);
        }
    }
}

/// Counts what was shipped against the fence and the cap of its channel.
fn sold(stock: &mut Stock, sku: u32, location: u32, channel: u32, quantity: i64, at_us: i64) {
    let policies = &stock.channels[channel as usize];
    let fenced = policies.fences && policies.says(sku, location, |policy| policy.fence).is_some();
    let cap = policies.says(sku, NONE, |policy| policy.cap);
    if !fenced && cap.is_none() {
        return;
    }
    stock.soil(sku);
    let rare = stock.skus[sku as usize].rare_mut();
    if fenced {
        match rare.fence_used.iter_mut().find(|used| (used.0, used.1) == (channel, location)) {
            Some(used) => used.2 += quantity,
            None => rare.fence_used.push((channel, location, quantity)),
        }
    }
    if let Some((_, window_us)) = cap.filter(|(_, window_us)| *window_us > 0) {
        rare.sales.retain(|sale| sale.channel != channel || sale.until_us > at_us.saturating_sub(window_us));
        let step_us = (window_us / WINDOW_STEPS).max(1);
        let until_us = (at_us.div_euclid(step_us) + 1).saturating_mul(step_us);
        match rare.sales.iter_mut().find(|sale| (sale.channel, sale.until_us) == (channel, until_us)) {
            Some(sale) => sale.quantity += quantity,
            None => rare.sales.push(Sale { channel, until_us, quantity }),
        }
    }
}

fn counted(stock: &mut Stock, fact: &Counted) {
    if fact.ignored {
        return;
    }
    let location = at(stock, &fact.sku, &fact.location);
    location.basis = fact.basis;
    location.counted = fact.quantity;
    location.counted_at_us = fact.as_of_us;
    location.opening = fact.opening;
    location.on_hand = fact.on_hand;
    let damaged_since_us = location.unavailable_at_us;
    location.recents.retain(|r| r.at_us > fact.as_of_us || (r.damaged != 0 && r.at_us > damaged_since_us));
}

fn moved(stock: &mut Stock, fact: &Moved) {
    stock.seen.extend(fact.names().map(|(source, movement)| movement_hash(source, movement)));
    if fact.kind() == MovementKind::Ship && fact.quantity == 0 {
        // Names only.
        return;
    }
    let recents_max = stock.limits.recents_max;
    let location = at(stock, &fact.sku, &fact.location);
    location.moved_at_us = location.moved_at_us.max(fact.occurred_at_us);
    location.on_hand += fact.on_hand_change;
    location.damaged += fact.damaged_change;
    let damaged = if fact.kind() == MovementKind::ReturnDamaged { fact.quantity } else { 0 };
    let recent = Recent { at_us: fact.occurred_at_us, on_hand: fact.on_hand_change, damaged, ..Recent::default() };
    if fact.late {
        location.opening += fact.on_hand_change;
        if damaged != 0 && fact.damaged_change != 0 {
            remember(location, Recent { on_hand: 0, ..recent }, recents_max);
        }
    } else {
        remember(location, recent, recents_max);
    }
    if !fact.supply.is_empty() {
        let sku = stock.sku_number(&fact.sku);
        let supplies = &mut stock.skus[sku as usize].rare_mut().supplies;
        if let Some(supply) = supplies.iter_mut().find(|supply| supply.id == fact.supply) {
            supply.open = fact.supply_open;
        }
        supplies.retain(|supply| supply.open > 0);
    }
}

/// Keeps what happened for a count that comes later, by time. Beyond the limit the older half is given up: a count that
/// is older than these can't be believed any more.
fn remember(location: &mut Location, recent: Recent, recents_max: usize) {
    let counts = recent.at_us > location.counted_at_us;
    if recent.at_us <= location.pruned_to_us {
        if counts {
            location.opening += recent.on_hand;
        }
        location.pruned += 1;
        return;
    }
    if !counts && recent.damaged == 0 {
        return;
    }
    let place = location.recents.partition_point(|other| other.at_us <= recent.at_us);
    location.recents.insert(place, recent);
    if location.recents.len() > recents_max {
        let given_up = location.recents.len() - recents_max / 2;
        for old in location.recents.drain(..given_up) {
            if old.at_us > location.counted_at_us {
                location.opening += old.on_hand;
            }
            location.pruned_to_us = old.at_us;
            location.pruned += 1;
        }
    }
}

fn unavailable(stock: &mut Stock, fact: &UnavailableSet) {
    if fact.ignored {
        return;
    }
    let location = at(stock, &fact.sku, &fact.location);
    location.unavailable_at_us = fact.as_of_us;
    location.damaged = fact.damaged;
    location.quality_control = fact.quality_control;
    location.blocked = fact.blocked;
    let counted_at_us = location.counted_at_us;
    location.recents.retain(|r| r.at_us > counted_at_us || (r.damaged != 0 && r.at_us > fact.as_of_us));
}

fn policy(stock: &mut Stock, fact: &PolicySet) {
    let channel = stock.channel_number(&fact.channel);
    let sku = if fact.sku.is_empty() { NONE } else { stock.sku_number(&fact.sku) };
    let location = if fact.location.is_empty() { NONE } else { stock.locations.number(&fact.location) };
    let locations = fact.locations.iter().map(|name| stock.locations.number(name)).collect();
    let policy = Policy {
        locations: fact.restricted.then_some(locations),
        fence: fact.fence,
        cap: fact.cap.map(|cap| (cap, fact.cap_window_us)),
        buffer: fact.buffer,
        backorder_limit: fact.backorder_limit,
        priority: fact.priority,
    };
    let of: &mut Channel = &mut stock.channels[channel as usize];
    if !of.dirty {
        of.dirty = true;
        stock.dirty_channels.push(channel);
    }
    of.pinned = true;
    let fence = policy.fence.filter(|_| !fact.removed);
    let before = if sku == NONE {
        of.declared = !fact.removed;
        let base = if fact.removed { Policy::default() } else { policy };
        std::mem::replace(&mut of.base, base).fence
    } else if fact.removed {
        of.special.remove(&(sku, location)).and_then(|policy| policy.fence)
    } else {
        of.special.insert((sku, location), policy).and_then(|policy| policy.fence)
    };
    of.fences = of.base.fence.is_some() || of.special.values().any(|policy| policy.fence.is_some());
    stock.index_channel(channel);
    let all = 0..stock.skus.len() as u32;
    for number in if sku == NONE { all } else { sku..sku + 1 } {
        stock.touch(number);
        let of = &stock.channels[channel as usize];
        let Some(rare) = stock.skus[number as usize].rare.as_mut().filter(|_| fence != before) else { continue };
        let used = rare.fence_used.len();
        // A fence that is set anew has nothing used of it yet; one of its own that a SKU or a location has stays as it is.
        rare.fence_used.retain(|used| {
            used.0 != channel
                || (location != NONE && used.1 != location)
                || (location == NONE && of.has_own_fence(number, used.1, sku == NONE))
        });
        if rare.fence_used.len() != used {
            stock.soil(number);
        }
    }
}

fn sku(stock: &mut Stock, fact: &SkuSet) {
    let number = stock.sku_number(&fact.sku);
    let components: Vec<(u32, i64)> =
        fact.components.iter().map(|of| (stock.sku_number(&of.sku), of.quantity)).collect();
    stock.make_kit(number, components);
    stock.skus[number as usize].scale = fact.scale;
    stock.soil(number);
}

fn supply(stock: &mut Stock, fact: &SupplySet) {
    let (sku, location) = (stock.sku_number(&fact.sku), stock.locations.number(&fact.location));
    stock.soil(sku);
    let supplies = &mut stock.skus[sku as usize].rare_mut().supplies;
    supplies.retain(|supply| supply.id != fact.supply);
    if fact.open > 0 {
        let id = fact.supply.as_str().into();
        supplies.push(Supply { id, location, open: fact.open, eta_us: fact.eta_us });
    }
}
