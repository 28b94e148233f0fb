//! SKUs of which somebody waits for stock: it is noticed when more can be taken of them than before, by whatever made it
//! so (a count, a receipt, a return, a release, the end of a hold, a supply, another policy). It follows from stock as it
//! stands and from who waits, and is written nowhere.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::state::{NONE, Stock};

/// What could be taken, by channel and place; in place of a location also one of the following.
type Levels = SmallVec<[((u32, u32), i64); 8]>;
/// Everywhere together, under the channel's cap.
const ALL: u32 = NONE - 1;
/// What is left of the channel's cap.
const CAP: u32 = NONE - 2;
/// Of no channel: nobody knows the SKU any more, so whoever waits for it waits no longer.
const UNKNOWN: u32 = NONE - 3;

/// The SKUs that are watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// With what could be taken when they were last looked at, and when a cap's window next ends.
    of: BTreeMap<u32, (Levels, i64)>,
    /// Those that were touched since.
    stirred: Vec<u32>,
    /// Those that are part of another kit than before, or are another kit, watched or not.
    reformed: BTreeSet<u32>,
    /// When windows end.
    ends: BTreeSet<(i64, u32)>,
}

/// Stock of a SKU came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The SKU.
    pub sku: String,
    /// Whoever waits may need something else by now: it does not matter how much of this SKU there is.
    pub concerns_all: bool,
}

impl Stock {
    /// Tells from now on when more can be taken of a SKU than now, or than later when that is less; also where others
    /// wait for it: what they have seen may have been more.
    pub fn watch(&mut self, sku: &str) {
        let Some(number) = self.sku_names.find(sku) else { return };
        self.advance(number);
        if !std::mem::replace(&mut self.skus[number as usize].watched, true) {
            self.look(number);
        } else if let Some((before, _)) = self.watch.of.get(&number) {
            let least = compared(&self.levels(number), before).map(|(key, level, was)| (key, level.min(was))).collect();
            self.watch.of.entry(number).and_modify(|(levels, _)| *levels = least);
        }
    }

    /// The same, as if all that there is had just come.
    pub fn watch_anew(&mut self, sku: &str) {
        let Some(number) = self.sku_names.find(sku) else { return };
        self.skus[number as usize].watched = true;
        self.watch.of.insert(number, (Levels::new(), i64::MAX));
        self.stir(number);
    }

    /// Nobody waits for it any more.
    pub fn unwatch(&mut self, sku: &str) {
        let Some(number) = self.sku_names.find(sku) else { return };
        self.skus[number as usize].watched = false;
        if let Some((_, end_us)) = self.watch.of.remove(&number) {
            self.watch.ends.remove(&(end_us, number));
        }
    }

    /// A SKU was touched that is watched.
    pub(super) fn stir(&mut self, sku: u32) {
        let node = &mut self.skus[sku as usize];
        if !node.stirred {
            node.stirred = true;
            self.watch.stirred.push(sku);
        }
    }

    /// What a kit is made of has changed, and with it what is needed by those who want it.
    pub(super) fn reform(&mut self, sku: u32) {
        self.watch.reformed.insert(sku);
    }

    /// When the next window of a cap ends that may have kept somebody waiting.
    pub fn next_wake_us(&self) -> Option<i64> {
        self.watch.ends.first().map(|(end_us, _)| *end_us)
    }

    /// Whether [`Self::arrivals`] may have something to tell. Nearly always it has not, and this costs nothing.
    pub fn may_have_arrived(&self, now_us: i64) -> bool {
        !self.watch.stirred.is_empty()
            || !self.watch.reformed.is_empty()
            || self.watch.ends.first().is_some_and(|(end_us, _)| *end_us <= now_us)
    }

    /// The watched SKUs of which more can be taken than when they were last looked at, by name.
    pub fn arrivals(&mut self, now_us: i64) -> Vec<Arrival> {
        let now_us = self.tick(now_us);
        while let Some((_, sku)) = self.watch.ends.first().copied().filter(|(end_us, _)| *end_us <= now_us) {
            self.watch.ends.pop_first();
            self.stir(sku);
        }
        let reformed = std::mem::take(&mut self.watch.reformed);
        for sku in &reformed {
            self.stir(*sku);
        }
        let mut arrivals = Vec::new();
        for sku in std::mem::take(&mut self.watch.stirred) {
            // What has expired by now comes as well, and is no reason to look once more.
            self.advance(sku);
            self.skus[sku as usize].stirred = false;
            let concerns_all = reformed.contains(&sku);
            if self.skus[sku as usize].watched && (self.look(sku) || concerns_all) {
                arrivals.push(Arrival { sku: self.sku_names.name(sku).to_owned(), concerns_all });
            }
        }
        self.watch.stirred.clear();
        arrivals.sort_by(|a, b| a.sku.cmp(&b.sku));
        arrivals
    }

    /// Whether a channel's order may get anything of a SKU now, or needs it no longer.
    pub fn may_take(&self, sku: &str, channel: &str) -> bool {
        let Some(number) = self.sku_names.find(sku) else { return true };
        let channel = self.channel_names.find(channel).unwrap_or(NONE);
        let cap = self.cap_remaining(number, channel, &[]);
        let room = || cap != Some(0) && self.backorder_room(number, channel, i64::MAX, &[]) > 0;
        self.usable_in_all(number, channel, &[]) > 0 || room() || !self.knows(sku)
    }

    /// A channel's priority where there is not enough of a SKU for all; the higher comes first.
    pub fn priority_of(&self, sku: &str, channel: &str) -> i32 {
        let (sku, channel) = (self.sku_names.find(sku), self.channel_names.find(channel));
        sku.zip(channel).map_or(0, |(sku, channel)| self.priority(sku, channel))
    }

    /// Looks what can be taken of a SKU; whether any of it is more than before.
    fn look(&mut self, sku: u32) -> bool {
        let (levels, end_us) = (self.levels(sku), self.window_end_us(sku));
        let before = self.watch.of.insert(sku, (levels.clone(), end_us));
        let (before, was_end_us) = before.unwrap_or((Levels::new(), i64::MAX));
        self.watch.ends.remove(&(was_end_us, sku));
        if end_us < i64::MAX {
            self.watch.ends.insert((end_us, sku));
        }
        compared(&levels, &before).any(|(_, level, was)| level > was)
    }

    fn levels(&self, sku: u32) -> Levels {
        let mut levels = Levels::new();
        // All channels without a policy can take the same, also those of which stock has not heard yet.
        for channel in self.ruled.iter().copied().chain([NONE]) {
            for at in &self.skus[sku as usize].locations {
                if self.is_eligible(sku, channel, at.id) {
                    levels.push(((channel, at.id), self.usable(sku, at, channel, &[])));
                }
            }
            levels.push(((channel, ALL), self.usable_in_all(sku, channel, &[])));
            levels.push(((channel, NONE), self.backorder_room(sku, channel, i64::MAX, &[])));
            // Where there is none, it is as large as can be: one that is taken away lets more be taken.
            levels.push(((channel, CAP), self.cap_remaining(sku, channel, &[]).unwrap_or(i64::MAX)));
        }
        let is_unknown = !self.knows(self.sku_names.name(sku));
        levels.push(((NONE, UNKNOWN), i64::from(is_unknown)));
        levels
    }

    /// When the next sale leaves the window of a channel's cap.
    fn window_end_us(&self, sku: u32) -> i64 {
        let sales = self.skus[sku as usize].rare.iter().flat_map(|rare| &rare.sales);
        let end = |sale: &super::state::Sale| {
            let (_, window_us) = self.channels.get(sale.channel as usize)?.says(sku, NONE, |policy| policy.cap)?;
            Some(sale.until_us.saturating_add(window_us)).filter(|end_us| *end_us > self.clock_us)
        };
        sales.filter_map(end).min().unwrap_or(i64::MAX)
    }
}

/// Each of the levels now, and what it was: 0 where there was nothing of it. A channel that has got a policy since then, or
/// has none any more, is compared with those that have none.
fn compared<'a>(now: &'a Levels, before: &'a Levels) -> impl Iterator<Item = ((u32, u32), i64, i64)> + use<'a> {
    let has = |levels: &Levels, channel| levels.iter().any(|((of, at), _)| (*of, *at) == (channel, ALL));
    let channels = |levels: &'a Levels| levels.iter().filter(|((_, at), _)| *at == ALL).map(|((of, _), _)| *of);
    let gone = channels(before).filter(move |channel| !has(now, *channel));
    channels(now).chain(gone).flat_map(move |channel| {
        let stands_for = |levels: &Levels| if has(levels, channel) { channel } else { NONE };
        let (as_now, as_before) = (stands_for(now), stands_for(before));
        let was = move |at: u32| before.iter().find(|(of, _)| *of == (as_before, at)).map_or(0, |(_, level)| *level);
        let of_it = now.iter().filter(move |((of, _), _)| *of == as_now);
        of_it.map(move |((_, at), level)| ((channel, *at), *level, was(*at)))
    })
}
