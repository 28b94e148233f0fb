//! Conservation: what came in and what became of it, for every source and destination. Nothing may be
//! missing: the sums are checked while running and are the oracle of the crash tests.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::Position;
use lockstep_core::record::Parked;
use serde::{Deserialize, Serialize};

use crate::replays::ReplayTally;

/// What became of a source's deliveries. `received` is counted when a delivery reaches the loop, the outcomes
/// when they are decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceTally {
    /// Deliveries that reached the loop.
    pub received: u64,
    /// Seen before.
    pub duplicate: u64,
    /// At least one field won.
    pub applied: u64,
    /// Nothing of it won.
    pub superseded: u64,
    /// Kept for a person.
    pub quarantined: u64,
    /// Refused with an error to its sender (a reused key, another version): nothing recorded.
    pub refused: u64,
}

impl SourceTally {
    /// Received minus all outcomes; 0 whenever the loop is between two inputs.
    pub fn imbalance(&self) -> i64 {
        let out = self.duplicate + self.applied + self.superseded + self.quarantined + self.refused;
        self.received as i64 - out as i64
    }
}

/// Where a destination stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationTally {
    /// Every event up to here is settled.
    pub cursor: Position,
    /// How far it has looked beyond the cursor.
    pub read_to: Position,
    /// Events between the two that are not settled; as many as its window has.
    pub open: BTreeSet<Position>,
    /// Those of them that wait long for their next attempt.
    #[serde(default)]
    pub parked: Vec<Parked>,
    /// Events published before it was added, which it was not to have.
    pub skipped: u64,
    /// The last position that it was not to have; 0 where it has everything, or where that was not noted yet.
    #[serde(default)]
    pub skipped_to: Position,
    /// How many events it has looked at, beside those skipped: counted where they come in. None where a part of them was
    /// looked at before that was noted.
    #[serde(default)]
    pub taken: Option<u64>,
    /// Delivered events, retried dead letters among them.
    pub delivered: u64,
    /// Events that its filter kept back.
    pub filtered: u64,
    /// How many of those its own system had just said itself.
    #[serde(default)]
    pub own_words: u64,
    /// Open dead letters.
    pub dead: u64,
    /// Dead letters given up by an operator.
    pub discarded: u64,
    /// Events of which a newer one of the same entity was sent instead, and dead letters overtaken by one.
    pub superseded: u64,
    /// Dead letters beside those of published events, open or not: brought in from outside, or given up in a replay.
    #[serde(default)]
    pub imported: u64,
}

impl DestinationTally {
    /// Whether an event is settled: delivered, filtered, superseded, dead or given up.
    pub fn is_settled(&self, event: Position) -> bool {
        event <= self.cursor || (event <= self.read_to && !self.open.contains(&event))
    }

    /// All events that are accounted for.
    pub fn accounted(&self) -> u64 {
        self.skipped + self.delivered + self.filtered + self.dead + self.discarded + self.superseded
    }

    /// Events that it has looked at and of which nobody knows what became of them (negative: that became more than one
    /// thing); 0 where all is well.
    pub fn unaccounted(&self) -> i64 {
        let Some(taken) = self.taken else { return 0 };
        (taken + self.skipped + self.imported) as i64 - (self.accounted() + self.open.len() as u64) as i64
    }

    /// Events that are still to be settled: `published` is the hub's count of all events.
    pub fn pending(&self, published: u64) -> i64 {
        (published + self.imported) as i64 - self.accounted() as i64
    }
}

/// All sums of a hub, a fold of its journal (repetitions and refusals, of which nothing is journaled, are
/// kept with the state and may lose the last seconds in a crash, on both sides of the sum).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tallies {
    /// Published events.
    pub published: u64,
    /// The position of the last published event.
    pub last_event: Position,
    /// By source.
    pub sources: BTreeMap<String, SourceTally>,
    /// By destination.
    pub destinations: BTreeMap<String, DestinationTally>,
    /// The replays that go on and those that have ended last, by id.
    #[serde(default)]
    pub replays: BTreeMap<Position, ReplayTally>,
}

impl Tallies {
    /// The sums that do not add up, in words; empty when all is well.
    pub fn violations(&self) -> Vec<String> {
        let sources = self.sources.iter().filter(|(_, t)| t.imbalance() != 0).map(|(name, t)| {
            format!("source {name}: received {} but accounted for {}", t.received, t.received as i64 - t.imbalance())
        });
        let destinations = self.destinations.iter().filter_map(|(name, t)| {
            let pending = t.pending(self.published);
            let drained = t.read_to >= self.last_event && t.open.is_empty();
            let lost = t.unaccounted();
            if lost != 0 {
                let (accounted, open) = (t.accounted(), t.open.len());
                return Some(format!(
                    "destination {name}: {} events taken up, {} brought in, {accounted} accounted for and {open} open",
                    t.taken.unwrap_or(0) + t.skipped,
                    t.imported
                ));
            }
            (pending < 0 || (drained && pending != 0)).then(|| {
                format!(
                    "destination {name}: {} events published, {} brought in, {} accounted for, cursor {}",
                    self.published,
                    t.imported,
                    t.accounted(),
                    t.cursor
                )
            })
        });
        sources.chain(destinations).collect()
    }
}
