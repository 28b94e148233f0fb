//! A history from a seed. Each seed has its own mixture: some have no faults at all, some hardly anything else
//! (Groce et al., "Swarm testing", 2012).

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::disk::Fate;
use crate::op::{Content, Message, Op, Said};
use crate::orders::say::told;
use crate::rules::{FIELDS, KEYS, LIST, Sequences, WAYS, item};
use crate::stock::say::{command, setting};

/// The clock of the world begins here, and the sources' clocks around it.
pub const START_US: i64 = 1_700_000_000_000_000;

/// How a run is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// The most inputs in a batch.
    pub batch_inputs_max: usize,
    /// Records behind which the state is flushed.
    pub flush_records_max: u64,
    /// Or after so long.
    pub flush_interval_ms: u64,
    /// Bytes of clean entities in memory.
    pub cache_bytes_max: usize,
    /// Bytes of inputs that may wait.
    pub queue_bytes_max: usize,
    /// The size of the journal's segments.
    pub segment_bytes_max: usize,
}

/// A setup and what happens in it.
pub fn history(seed: u64, steps: usize) -> (Setup, Vec<Op>) {
    let mut rng = Rng::with_seed(seed);
    let setup = Setup {
        batch_inputs_max: rng.usize(1..=12),
        flush_records_max: rng.u64(1..=60),
        flush_interval_ms: *pick(&mut rng, &[50, 500, 5_000, 60_000]),
        cache_bytes_max: *pick(&mut rng, &[0, 2_000, 100_000]),
        queue_bytes_max: *pick(&mut rng, &[2_000, 10_000, 1_000_000, 1_000_000]),
        segment_bytes_max: *pick(&mut rng, &[500, 5_000, 1_000_000]),
    };
    let weights = weights(&mut rng);
    let settings_left = *pick(&mut rng, &[0, 6, 12]);
    let mut sources = Sources { rng, spoken: BTreeMap::new(), said: Vec::new(), settings_left };
    let ops = (0..steps).map(|_| sources.op(&weights)).collect();
    (setup, ops)
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

/// The kinds of operations with how often they come, and whether a seed may do without them.
const KINDS: [(Kind, u32, bool); 22] = [
    (Kind::Say, 120, false),
    (Kind::Stock, 240, true),
    (Kind::Order, 60, true),
    (Kind::Arrive, 160, false),
    (Kind::Duplicate, 25, true),
    (Kind::Lose, 20, true),
    (Kind::LoseAnswer, 15, true),
    (Kind::SendAgain, 15, false),
    (Kind::Loop, 130, false),
    (Kind::Journal, 120, false),
    (Kind::Flush, 50, false),
    (Kind::Pass, 40, false),
    (Kind::Read, 25, true),
    (Kind::Release, 15, true),
    (Kind::WriteBack, 10, true),
    (Kind::Crash, 12, true),
    (Kind::Restart, 6, true),
    (Kind::Full, 5, true),
    (Kind::Space, 30, false),
    (Kind::SyncFails, 5, true),
    (Kind::StateFails, 4, true),
    (Kind::StateHeals, 8, false),
];

#[derive(Clone, Copy)]
enum Kind {
    Say,
    Stock,
    Order,
    Arrive,
    Duplicate,
    Lose,
    LoseAnswer,
    SendAgain,
    Loop,
    Journal,
    Flush,
    Pass,
    Read,
    Release,
    WriteBack,
    Crash,
    Restart,
    Full,
    Space,
    SyncFails,
    StateFails,
    StateHeals,
}

fn weights(rng: &mut Rng) -> Vec<(Kind, u32)> {
    let mut weigh = |(kind, weight, optional): &(Kind, u32, bool)| {
        let factors: &[u32] = if *optional { &[0, 1, 2, 4] } else { &[1, 2, 4] };
        (*kind, weight * *pick(rng, factors))
    };
    KINDS.iter().map(&mut weigh).collect()
}

struct Sources {
    rng: Rng,
    /// How often each system has spoken of each entity: a hub remembers only so many of its observations.
    spoken: BTreeMap<(&'static str, &'static str, &'static str), usize>,
    said: Vec<Message>,
    /// So many commands to stock are settings first: what is short, fenced or on order shall matter from the start.
    settings_left: usize,
}

impl Sources {
    fn op(&mut self, weights: &[(Kind, u32)]) -> Op {
        let mut at = self.rng.u32(..weights.iter().map(|(_, weight)| *weight).sum::<u32>());
        let kind = weights.iter().find(|(_, weight)| {
            let found = at < *weight;
            at = at.saturating_sub(*weight);
            found
        });
        let rng = &mut self.rng;
        // Most things come in order, so that disorder is not all there is.
        let any = |rng: &mut Rng| if rng.bool() { 0 } else { rng.usize(..64) };
        match kind.map_or(Kind::Loop, |(kind, _)| *kind) {
            Kind::Say => Op::Say(Box::new(self.message())),
            Kind::Stock => Op::Say(Box::new(self.command())),
            Kind::Order => Op::Say(Box::new(self.order())),
            Kind::Arrive => Op::Arrive { pick: any(rng), count: rng.usize(1..=4) },
            Kind::Duplicate => Op::Duplicate { pick: rng.usize(..64) },
            Kind::Lose => Op::Lose { pick: rng.usize(..64) },
            Kind::LoseAnswer => Op::LoseAnswer { pick: rng.usize(..64) },
            Kind::SendAgain => Op::SendAgain,
            Kind::Loop => Op::Loop,
            Kind::Journal => Op::Journal,
            Kind::Flush => Op::Flush,
            Kind::Pass => Op::Pass { ms: *pick(rng, &[1, 20, 100, 600, 2_000, 10_000]) },
            Kind::Read => Op::Read { pick: rng.usize(..64) },
            Kind::Release => Op::Release { pick: rng.usize(..64) },
            Kind::WriteBack => Op::WriteBack,
            Kind::Crash => Op::Crash { power: rng.bool(), writing: rng.bool().then(|| fate(rng)) },
            Kind::Restart => Op::Restart,
            Kind::Full => Op::Full,
            Kind::Space => Op::Space,
            Kind::SyncFails => Op::SyncFails(fate(rng)),
            Kind::StateFails => Op::StateFails,
            Kind::StateHeals => Op::StateHeals,
        }
    }

    /// A command to stock, by the one way in that is an API: it wants to know of what it got wrong.
    fn command(&mut self) -> Message {
        let number = self.said.len();
        let left = self.settings_left;
        self.settings_left = left.saturating_sub(1);
        let command = if left > 0 { setting(&mut self.rng) } else { command(&mut self.rng) };
        let content = Content::Stock(Box::new(command));
        let way = WAYS.iter().position(|way| way.is_api).unwrap_or(0);
        let (delivery, payload) = (format!("s{number}"), number as u64 + 1);
        let message = Message { way, delivery, payload, request_key: None, content };
        self.said.push(message.clone());
        message
    }

    /// A document about an order that reserves, by the shop or by the warehouse.
    fn order(&mut self) -> Message {
        let number = self.said.len();
        let (told, by_warehouse) = told(&mut self.rng);
        let system = if by_warehouse { "wms" } else { "shop" };
        let way = WAYS.iter().position(|way| way.system == system).unwrap_or(0);
        let (delivery, payload) = (format!("o{number}"), number as u64 + 1);
        let content = Content::Order(Box::new(told));
        let message = Message { way, delivery, payload, request_key: None, content };
        self.said.push(message.clone());
        message
    }

    fn message(&mut self) -> Message {
        let number = self.said.len();
        let rng = &mut self.rng;
        let way = rng.usize(..WAYS.len());
        let is_api = WAYS[way].is_api;
        let mut delivery = format!("d{number}");
        let mut request_key = (is_api && rng.u8(..3) == 0).then(|| format!("k{number}"));
        // An id or key that was used before, for something else.
        if rng.u8(..12) == 0
            && let Some(before) = self.said.iter().rev().find(|m| m.way == way && !m.is_stock() && !m.is_order())
        {
            if before.request_key.is_some() && rng.bool() {
                request_key.clone_from(&before.request_key);
            } else {
                delivery.clone_from(&before.delivery);
            }
        }
        let broken = !is_api && rng.u8(..12) == 0;
        let count = *pick(rng, &[1, 1, 1, 1, 2, 3]);
        let count = if !broken && rng.u8(..40) == 0 { 0 } else { count };
        let mut said: Vec<Said> = (0..count).filter_map(|_| change(rng, &mut self.spoken, way)).collect();
        if is_api
            && rng.u8(..4) == 0
            && let Some(first) = said.first_mut()
        {
            first.expected = Some(rng.u64(..4));
        }
        // Released, one that proposes nothing would be closed without a word.
        let content = if broken && !said.is_empty() { Content::Broken(said) } else { Content::Changes(said) };
        let message = Message { way, delivery, payload: number as u64 + 1, request_key, content };
        self.said.push(message.clone());
        message
    }
}

fn fate(rng: &mut Rng) -> Fate {
    let kept_permille = if rng.bool() { 1000 } else { rng.u16(..1000) };
    Fate { kept_permille, flipped: rng.u8(..4) == 0 }
}

/// The most observations of an entity by one system.
const SPOKEN_MAX: usize = lockstep_core::entity::RECENT_MAX;

fn change(
    rng: &mut Rng,
    spoken: &mut BTreeMap<(&'static str, &'static str, &'static str), usize>,
    way: usize,
) -> Option<Said> {
    let kind = *pick(rng, &["job", "job", "product", "stock"]);
    let numbered = match WAYS[way].sequences {
        Sequences::None => false,
        Sequences::Always => true,
        Sequences::Mixed => rng.bool(),
    };
    let deletes = rng.u8(..10) == 0;
    let mut fields: Vec<_> = FIELDS.iter().filter(|row| row.kind == kind).collect();
    while fields.len() > 1 && rng.u8(..3) == 0 {
        fields.remove(rng.usize(..fields.len()));
    }
    let mut values: Vec<_> = fields.into_iter().map(|row| (row.name, *pick(rng, row.values))).collect();
    // A list is given whole: with the items that it names, and no others.
    let list = values.iter().find(|(name, _)| *name == LIST).map(|(_, json)| *json);
    let named = |name: &str| item(name).is_some_and(|item| list.is_some_and(|json| json.contains(item)));
    values.retain(|(name, _)| item(name).is_none() || named(name));
    for row in FIELDS.iter().filter(|row| row.kind == kind && named(row.name)) {
        if !values.iter().any(|(name, _)| *name == row.name) {
            values.push((row.name, *pick(rng, row.values)));
        }
    }
    values.sort_unstable();
    if deletes {
        values.clear();
    } else if values.is_empty() {
        return None;
    }
    let first = rng.usize(..KEYS.len());
    let mut keys = KEYS.iter().cycle().skip(first).take(KEYS.len());
    let system = WAYS[way].system;
    let key = *keys.find(|key| spoken.get(&(system, kind, **key)).is_none_or(|count| *count < SPOKEN_MAX))?;
    *spoken.entry((system, kind, key)).or_default() += 1;
    Some(Said {
        kind,
        key,
        sequence: if numbered { rng.u64(1..=10) } else { 0 },
        // Few instants, so that there are ties.
        at_us: START_US + rng.i64(0..20) * 1_000_000,
        deletes,
        fields: values,
        expected: None,
    })
}
