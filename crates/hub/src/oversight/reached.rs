//! Tells sources that their changes have reached everyone. What is said follows from the events of each source and from how
//! far each destination has settled everything; the loop is asked for nothing until there is something to say.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_core::reached::{PROPAGATION_KIND, Reach};
use lockstep_core::{Event, Position};
use serde_json::json;

use super::said;
use crate::DeadLetterFilter;
use crate::delivery::PropagationError;
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::reading::{EventStream, StreamItem};
use crate::tally::Tallies;

/// A reader that is so many records behind leaves out what is between: each source may have had an event there.
const BEHIND_MAX: u64 = 100_000;
/// How many dead letters are looked at before something is said, and how many at a time.
const DEAD_MAX: usize = 2_000;
const DEAD_STEP: usize = 500;
/// How many of them are named.
const NAMED_MAX: usize = 100;

/// See the module.
pub(super) struct Watcher {
    sources: BTreeMap<String, Reach>,
    /// None until it is known what was said before.
    stream: Option<EventStream>,
}

/// The open dead letters of a source's events in a part of the journal.
#[derive(Debug, Default)]
struct GivenUp {
    count: u64,
    positions: BTreeSet<Position>,
    /// There may be more: not all were looked at.
    more: bool,
}

impl Watcher {
    pub(super) fn new(sources: BTreeSet<String>) -> Self {
        Self { sources: sources.into_iter().map(|name| (name, Reach::default())).collect(), stream: None }
    }

    /// Takes in the next events. Without sources to tell there is nothing to know.
    pub(super) async fn follow(&mut self) {
        let Some(stream) = &mut self.stream else { return std::future::pending().await };
        match stream.next().await {
            Ok(StreamItem::Events(events)) => {
                for event in events {
                    if let Some(reach) = self.sources.get_mut(event.fact.source.as_str()) {
                        reach.take(event.position);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "events can't be read to tell sources that they have arrived"
                );
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }

    /// Looks at how far destinations are and says what follows. What can't be said now is said when it can.
    pub(super) async fn look(&mut self, hub: &HubHandle, now_us: i64) {
        if self.sources.is_empty() {
            return;
        }
        match &self.stream {
            None => {
                if let Err(error) = self.begin(hub).await {
                    tracing::warn!(%error, "what sources were told can't be read; trying again");
                    return;
                }
            }
            Some(stream) if stream.behind() > BEHIND_MAX => {
                let last_event = hub.stats().with_tallies(|tallies| tallies.last_event);
                self.sources.values_mut().for_each(|reach| reach.take(last_event));
                self.stream = Some(hub.stream(last_event));
            }
            Some(_) => {}
        }
        let names = hub.destinations();
        let floor = hub.stats().with_tallies(|tallies| floor(&names, tallies));
        for (source, reach) in &mut self.sources {
            let Some(position) = reach.look(floor) else { continue };
            match tell(hub, source, (reach.told(), position), &names, now_us).await {
                Ok(()) => reach.tell(position),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "that changes have reached everyone can't be said now"
                    );
                    return;
                }
            }
        }
    }

    /// Reads what was said before the hub was started, and goes on from there.
    async fn begin(&mut self, hub: &HubHandle) -> Result<(), Unavailable> {
        for (source, reach) in &mut self.sources {
            *reach = Reach::new(told(hub, source).await?);
        }
        let (last_event, spoken) = hub.stats().with_tallies(|tallies| {
            let spoken: BTreeSet<String> = tallies.sources.keys().cloned().collect();
            (tallies.last_event, spoken)
        });
        let earliest = self.sources.values().map(Reach::told).min().unwrap_or(last_event);
        let from = earliest.max(last_event.saturating_sub(BEHIND_MAX));
        for (source, reach) in &mut self.sources {
            // What is further back is not read again: one that ever said something may have said it there.
            if reach.told() < from && spoken.contains(source) {
                reach.take(from);
            }
        }
        self.stream = Some(hub.stream(from));
        Ok(())
    }
}

/// Up to where everything is settled at all of these destinations.
fn floor(names: &[String], tallies: &Tallies) -> Position {
    // One that is still being sent the state with which it begins does not have what came before.
    let is_beginning = |name: &str| tallies.first_state(name).is_some_and(|state| state.ended_at_us.is_none());
    let settled = |name: &String| match tallies.destinations.get(name) {
        Some(tally) if !is_beginning(name) => tally.cursor,
        _ => 0,
    };
    names.iter().map(settled).min().unwrap_or(Position::MAX)
}

/// What a source was last told.
async fn told(hub: &HubHandle, source: &str) -> Result<Position, Unavailable> {
    let said = hub.entity(PROPAGATION_KIND, source).await?;
    Ok(said.and_then(|said| said::value(&said, "position").as_u64()).unwrap_or(0))
}

async fn tell(
    hub: &HubHandle,
    source: &str,
    (after, position): (Position, Position),
    destinations: &[String],
    now_us: i64,
) -> Result<(), PropagationError> {
    // An answer that did not come does not mean that it was not said.
    if told(hub, source).await? >= position {
        return Ok(());
    }
    let given_up = given_up(hub, source, (after, position), destinations).await?;
    let fields = vec![
        ("after", json!(after)),
        ("given_up", json!(given_up.count)),
        ("given_up_more", json!(given_up.more)),
        ("given_up_positions", json!(given_up.positions)),
        ("position", json!(position)),
        ("reached_at", json!(lockstep_connect::time::format_rfc3339(now_us))),
        ("reached_us", json!(now_us)),
        ("source", json!(source)),
    ];
    Ok(said::say(hub, PROPAGATION_KIND, source, fields).await?)
}

/// The open dead letters of a source's events after one position, up to another.
async fn given_up(
    hub: &HubHandle,
    source: &str,
    (after, until): (Position, Position),
    destinations: &[String],
) -> Result<GivenUp, PropagationError> {
    let has_dead =
        |name: &&String, tallies: &Tallies| tallies.destinations.get(*name).is_some_and(|tally| tally.dead > 0);
    let names: Vec<&String> =
        hub.stats().with_tallies(|tallies| destinations.iter().filter(|name| has_dead(name, tallies)).collect());
    let (mut found, mut looked_at) = (GivenUp::default(), 0);
    for name in names {
        let mut place = Some((name.clone(), after));
        while place.is_some() {
            let destination = Some(name.clone());
            let filter =
                DeadLetterFilter { destination, after: place, limit: DEAD_STEP, ..DeadLetterFilter::default() };
            let looked = hub.look_through_dead_letters(filter).await?;
            place = looked.next_after;
            for row in looked.items {
                if row.event > until {
                    place = None;
                    break;
                }
                if looked_at >= DEAD_MAX {
                    found.more = true;
                    return Ok(found);
                }
                looked_at += 1;
                // One that was brought in from outside is no event of the journal.
                let event = hub.record(row.event).await?.and_then(|record| Event::of(row.event, record));
                if event.is_some_and(|event| event.fact.source == source) {
                    found.count += 1;
                    if found.positions.len() < NAMED_MAX {
                        found.positions.insert(row.event);
                    }
                }
            }
        }
    }
    Ok(found)
}
