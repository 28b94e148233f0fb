//! Conservation counted once more from the journal alone: what was published, and what every destination says became of
//! it. What the hub keeps of sums while it runs is compared with that, and not trusted.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::record::{Body, DeadLetterEnd, Record};
use lockstep_core::{Event, Position};

use crate::failure::OpenError;
use crate::reading::decode;
use crate::stock::standing::Standing;
use crate::tally::{DestinationTally, Tallies};

/// How much of the journal one step reads.
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct DeliveryAudit {
    /// The sums that the state gives.
    pub tallies: Tallies,
    /// What does not add up, one sentence each; empty where all is well.
    pub broken: Vec<String>,
    /// Records read.
    pub records: u64,
    /// The first record that is kept. Where it is not the first ever, the sums are not counted again from the journal.
    pub first: Position,
}

/// What the journal alone says of a destination.
#[derive(Debug, Default)]
struct Recount {
    sums: DestinationTally,
    /// Events up to where it has looked.
    events: u64,
    /// Which of those that it calls open are events.
    open: u64,
    dead: BTreeSet<Position>,
}

impl Standing {
    /// Counts deliveries again and compares. `progress` hears of the records read.
    pub fn audit_deliveries(&mut self, mut progress: impl FnMut(Position)) -> Result<DeliveryAudit, OpenError> {
        let bounds = self.reader.bounds();
        let tallies = self.state.tallies.clone();
        let mut found = DeliveryAudit { first: bounds.first, broken: tallies.violations(), ..DeliveryAudit::default() };
        let mut counts: BTreeMap<String, Recount> = BTreeMap::new();
        counts.extend(tallies.destinations.keys().map(|name| (name.clone(), Recount::default())));
        let (mut published, mut next) = (0, bounds.first.max(1));
        // What was written since the state was read is not in its sums.
        let end = self.state.position + 1;
        while next < end {
            let entries = self.reader.read(next, STEP_BYTES)?;
            if entries.is_empty() {
                found.broken.push(format!("the journal ends before record {next} and should end at {}", end - 1));
                break;
            }
            for entry in entries.into_iter().take_while(|entry| entry.position < end) {
                next = entry.position + 1;
                found.records += 1;
                match decode(entry.position, entry.record) {
                    Ok(record) => {
                        published += u64::from(Event::is_in(&record));
                        count(entry.position, &record, &tallies, &mut counts, &mut found.broken);
                    }
                    Err(error) => found.broken.push(error.to_string()),
                }
            }
            progress(next - 1);
        }
        if found.first <= 1 {
            if published != tallies.published {
                found.broken.push(format!("the journal has {published} events, the sums say {}", tallies.published));
            }
            for (name, count) in &counts {
                let told = tallies.destinations.get(name).cloned().unwrap_or_default();
                found.broken.extend(count.compare(name, &told));
            }
        }
        found.tallies = tallies;
        Ok(found)
    }
}

fn count(
    position: Position,
    record: &Record,
    tallies: &Tallies,
    counts: &mut BTreeMap<String, Recount>,
    broken: &mut Vec<String>,
) {
    if Event::is_in(record) {
        for (name, tally) in &tallies.destinations {
            let Some(count) = counts.get_mut(name).filter(|_| position <= tally.read_to) else { continue };
            count.events += 1;
            count.open += u64::from(tally.open.contains(&position));
        }
    }
    let name = match &record.body {
        Some(Body::Progress(progress)) => &progress.destination,
        Some(Body::ReplayStarted(started)) if started.first => &started.destination,
        Some(Body::DeadLettered(dead)) => &dead.destination,
        Some(Body::DeadLetterClosed(closed)) => &closed.destination,
        _ => return,
    };
    let count = counts.entry(name.clone()).or_default();
    let sums = &mut count.sums;
    match &record.body {
        Some(Body::Progress(progress)) => {
            sums.delivered += progress.delivered;
            sums.filtered += progress.filtered;
            sums.skipped += progress.skipped;
            sums.superseded += progress.superseded.len() as u64;
            if progress.cursor < sums.cursor {
                broken.push(format!("destination {name}: record {position} takes it back to {}", progress.cursor));
            }
            sums.cursor = progress.cursor;
        }
        Some(Body::ReplayStarted(started)) => {
            sums.skipped += started.skipped;
            sums.cursor = started.until;
        }
        Some(Body::DeadLettered(dead)) => {
            sums.imported += u64::from(dead.origin.is_some() || dead.replay != 0);
            let is_new = count.dead.insert(dead.event);
            if is_new == dead.again {
                let wrong = if is_new { "is dead again and was not dead" } else { "became a dead letter twice" };
                broken.push(format!("destination {name}: event {} {wrong}", dead.event));
            }
        }
        Some(Body::DeadLetterClosed(closed)) => {
            if !count.dead.remove(&closed.event) {
                broken.push(format!("destination {name}: event {} was no dead letter and ended as one", closed.event));
            }
            match DeadLetterEnd::try_from(closed.end) {
                Ok(DeadLetterEnd::Delivered) => sums.delivered += 1,
                Ok(DeadLetterEnd::Superseded) => sums.superseded += 1,
                _ => sums.discarded += 1,
            }
        }
        _ => {}
    }
}

impl Recount {
    /// Sentences of what differs from the sums that the hub keeps, and of what does not add up.
    fn compare(&self, name: &str, told: &DestinationTally) -> Vec<String> {
        let mut broken = Vec::new();
        let sums = &self.sums;
        let dead = self.dead.len() as u64;
        let rows = [
            ("delivered", sums.delivered, told.delivered),
            ("filtered", sums.filtered, told.filtered),
            ("skipped", sums.skipped, told.skipped),
            ("brought in", sums.imported, told.imported),
            ("superseded", sums.superseded, told.superseded),
            ("discarded", sums.discarded, told.discarded),
            ("dead", dead, told.dead),
            ("open", self.open, told.open.len() as u64),
        ];
        for (what, counted, told) in rows.into_iter().filter(|(_, counted, told)| counted != told) {
            broken.push(format!("destination {name}: the journal has {counted} {what}, the sums say {told}"));
        }
        let accounted = DestinationTally { dead, ..sums.clone() }.accounted() + self.open;
        if accounted != self.events + sums.imported {
            broken.push(format!(
                "destination {name}: it has looked at {} events up to {}, {} were brought in, and {accounted} are accounted for",
                self.events, told.read_to, sums.imported
            ));
        }
        broken
    }
}
