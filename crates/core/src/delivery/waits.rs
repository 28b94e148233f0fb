//! Flows that wait for each other: an event that goes only when what it is about has arrived.

use crate::event::Event;
use crate::{EntityId, Position, entity_id};

/// What events of a kind wait for at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitsFor {
    /// The kind of those that wait.
    pub kind: String,
    /// The kind of the entity that they wait for.
    pub awaited: String,
    /// Where that must have arrived.
    pub destination: String,
    /// Where the key of that one stands in the document of the one that waits (`product_id`, `product.id`); none where it
    /// is the same key.
    pub key: Option<String>,
    /// How long one waits at most, microseconds; none where it is as long as it takes.
    pub wait_max_us: Option<i64>,
    /// What becomes of one that has waited for so long.
    pub then: Then,
}

/// What becomes of an event that has waited for too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// It is sent all the same.
    Send,
}

impl WaitsFor {
    /// The key of what an event waits for; `None` where it is of another kind, or names none.
    pub fn key_of(&self, event: &Event) -> Option<String> {
        if event.fact.kind != self.kind {
            return None;
        }
        let Some(path) = &self.key else { return Some(event.fact.key.clone()) };
        match event.value_at(path)? {
            serde_json::Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The id of the entity with this key.
    pub fn entity(&self, key: &str) -> EntityId {
        entity_id(&self.awaited, key)
    }
}

/// Where an event of the awaited entity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is there, or nothing is to come of it there: the filter kept it back, or a person gave it up.
    There,
    /// It is to be sent, or under way.
    Open,
    /// It is a dead letter.
    Dead,
    /// A newer event of its entity is sent instead.
    Overtaken,
}

/// Whether what an event waits for has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// It has.
    Arrived,
    /// There is none yet.
    Absent,
    /// This event of it is to arrive first.
    Open(Position),
    /// This event of it would have to arrive first, and is a dead letter.
    Dead(Position),
}

/// Whether an event at `position` may go: the newest event of the awaited entity that was published before it is there, or a
/// newer one is. Where none was published before it, any one will do.
///
/// It is fed the events of the awaited entity, the newest first, until it says so.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    position: Position,
    newest: Option<(Position, Arrival)>,
}

impl Look {
    /// A look for an event.
    pub fn of(position: Position) -> Self {
        Self { position, newest: None }
    }

    /// Whether events newer than those to come are open or dead, so that one of those may only seem to be there.
    pub fn is_in_doubt(&self) -> bool {
        self.newest.is_some()
    }

    /// Takes the next older event. What it comes to, once that is clear.
    pub fn next(&mut self, position: Position, arrival: Arrival) -> Option<Awaited> {
        match arrival {
            Arrival::There => return Some(Awaited::Arrived),
            Arrival::Overtaken => {}
            // Of several that are not there the one that may still arrive says more.
            Arrival::Open if !matches!(self.newest, Some((_, Arrival::Open))) => {
                self.newest = Some((position, arrival))
            }
            Arrival::Dead if self.newest.is_none() => self.newest = Some((position, arrival)),
            Arrival::Open | Arrival::Dead => {}
        }
        (position < self.position).then(|| self.end())
    }

    /// What it comes to where there are no more events.
    pub fn end(&self) -> Awaited {
        match self.newest {
            Some((position, Arrival::Dead)) => Awaited::Dead(position),
            Some((position, _)) => Awaited::Open(position),
            None => Awaited::Absent,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn look(position: Position, events: &[(Position, Arrival)]) -> Awaited {
        let mut look = Look::of(position);
        let mut newest_first = events.iter().rev();
        let found = newest_first.find_map(|(at, arrival)| look.next(*at, *arrival));
        found.unwrap_or_else(|| look.end())
    }

    #[test]
    fn it_goes_when_what_was_said_before_it_is_there() {
        use Arrival::*;
        for (position, events, expected) in [
            (5, &[][..], Awaited::Absent),
            (5, &[(3, There)], Awaited::Arrived),
            (5, &[(3, Open)], Awaited::Open(3)),
            (5, &[(3, Dead)], Awaited::Dead(3)),
            (5, &[(2, There), (3, Open)], Awaited::Open(3)),
            (5, &[(2, There), (3, Dead)], Awaited::Dead(3)),
            // What came after it need not be there, but will do.
            (5, &[(3, There), (7, Open)], Awaited::Arrived),
            (5, &[(3, Dead), (7, There)], Awaited::Arrived),
            (5, &[(3, Dead), (7, Open)], Awaited::Open(7)),
            (5, &[(7, Open)], Awaited::Open(7)),
            (5, &[(7, Dead)], Awaited::Dead(7)),
            (5, &[(7, There), (8, Open)], Awaited::Arrived),
            // One that another one is sent for is there when that one is.
            (5, &[(2, There), (3, Overtaken), (7, Open)], Awaited::Open(7)),
            (5, &[(3, Overtaken), (7, Dead)], Awaited::Dead(7)),
            (5, &[(3, Overtaken), (7, There)], Awaited::Arrived),
        ] {
            assert_eq!(look(position, events), expected, "{position}: {events:?}");
        }
    }

    fn arrival() -> impl Strategy<Value = Arrival> {
        prop_oneof![Just(Arrival::There), Just(Arrival::Open), Just(Arrival::Dead), Just(Arrival::Overtaken)]
    }

    proptest! {
        #[test]
        fn it_goes_exactly_when_something_is_there_that_is_not_older_than_the_newest_before_it(
            arrivals in proptest::collection::vec(arrival(), 0..8), position in 0u64..20,
        ) {
            // Even positions, so that the event itself (odd) is none of them.
            let events: Vec<_> = (1u64..).map(|at| at * 2).zip(arrivals).collect();
            let position = position * 2 + 1;
            let newest_before = events.iter().rev().map(|(at, _)| *at).find(|at| *at < position).unwrap_or(0);
            let may_go = events.iter().any(|(at, arrival)| *at >= newest_before && *arrival == Arrival::There);
            prop_assert_eq!(look(position, &events) == Awaited::Arrived, may_go);
        }

        #[test]
        fn once_all_is_there_nothing_waits(count in 1u64..8, position in 0u64..20) {
            let events: Vec<_> = (1..=count).map(|at| (at * 2, Arrival::There)).collect();
            prop_assert_eq!(look(position, &events), Awaited::Arrived);
        }
    }
}
