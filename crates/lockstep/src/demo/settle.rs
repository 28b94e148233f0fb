//! When everything is said: waiting until the hub has told it to everyone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_hub::{DestinationTally, Tallies};

use super::measure::Counters;
use super::party::Party;
use super::text::{grouped, signed};

/// Nothing moving for this long means that something is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(45);

/// Watches whether it still goes on.
pub(crate) struct Progress {
    last: u64,
    moved_at: Instant,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { last: 0, moved_at: Instant::now() }
    }

    /// Whether nothing has moved for too long.
    pub(crate) fn is_stuck(&mut self, tallies: &Tallies, answered: u64) -> bool {
        let mut now = answered;
        for source in tallies.sources.values() {
            now = now.wrapping_add(source.received);
        }
        for destination in tallies.destinations.values() {
            // A dead letter that dies again is no progress; one more or one less is.
            now = now
                .wrapping_mul(31)
                .wrapping_add(destination.accounted())
                .wrapping_mul(31)
                .wrapping_add(destination.dead);
        }
        if now != self.last {
            self.last = now;
            self.moved_at = Instant::now();
        }
        self.moved_at.elapsed() > STUCK_AFTER
    }
}

/// Where a destination stands.
pub(crate) fn standing(tallies: &Tallies, party: Party) -> DestinationTally {
    tallies.destinations.get(party.name()).cloned().unwrap_or_default()
}

/// How many changes the systems have told the hub of; what the sale asks of stock has ways in of its own.
pub(crate) fn changes(tallies: &Tallies) -> u64 {
    Party::ALL.iter().filter_map(|party| tallies.sources.get(party.name())).map(|tally| tally.received).sum()
}

/// How many changes of a system the hub has recorded; those that it has seen before are not recorded again.
pub(crate) fn recorded(tallies: &Tallies, party: Party) -> u64 {
    tallies.sources.get(party.name()).map_or(0, |t| t.applied + t.superseded + t.quarantined + t.refused)
}

/// What is not settled yet, one sentence for each system; nothing when all is.
pub(crate) fn open(tallies: &Tallies) -> Vec<String> {
    let mut open = Vec::new();
    for party in Party::ALL {
        let tally = standing(tallies, party);
        let pending = tally.pending(tallies.published);
        if pending != 0 || tally.cursor < tallies.last_event || tally.dead > 0 {
            open.push(format!(
                "{}: {} of {} events pending, {} dead letters open",
                party.name(),
                signed(pending),
                grouped(tallies.published),
                grouped(tally.dead),
            ));
        }
    }
    open
}

/// Whether all that was said has arrived everywhere.
pub(crate) fn is_all(tallies: &Tallies, counters: &[Arc<Counters>], ships_all: bool) -> bool {
    // The hub's sums are drawn now and then: they are those of the end once they have all that was said. Whether all is
    // said is asked after the sums, since what they tell may be why more is to be said.
    open(tallies).is_empty() && all_said(counters, ships_all) && has_all(tallies, counters)
}

/// Whether every change that was made up is acknowledged, and every order that was heard of is shipped.
fn all_said(counters: &[Arc<Counters>], ships_all: bool) -> bool {
    let wms = &counters[Party::Wms.index()];
    (!ships_all || wms.to_ship.get() == wms.offered.get())
        && counters.iter().all(|c| c.offered.get() == c.finished.get())
}

/// Whether the hub's sums have every change that was said.
fn has_all(tallies: &Tallies, counters: &[Arc<Counters>]) -> bool {
    Party::ALL.iter().all(|party| recorded(tallies, *party) == counters[party.index()].sent.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_named() {
        let mut tallies = Tallies { published: 10, last_event: 12, ..Tallies::default() };
        for party in Party::ALL {
            let tally = DestinationTally { cursor: 12, delivered: 4, filtered: 6, ..DestinationTally::default() };
            tallies.destinations.insert(party.name().to_owned(), tally);
        }
        assert_eq!(open(&tallies), Vec::<String>::new());
        if let Some(tally) = tallies.destinations.get_mut("erp") {
            tally.delivered = 3;
            tally.dead = 1;
        }
        assert_eq!(open(&tallies), ["erp: 0 of 10 events pending, 1 dead letters open"]);
        tallies.destinations.remove("wms");
        assert_eq!(open(&tallies).len(), 2);
    }
}
