//! Telling a source that its changes have reached everyone: which of its events are settled at every destination. Pure:
//! its events, and how far all destinations have come, come in as data.

use std::collections::VecDeque;

use crate::Position;

/// The kind of what is said of it: `propagation/<source>`.
pub const PROPAGATION_KIND: &str = "propagation";
/// How many places are kept at which nothing can be told yet. An even number.
const KEPT_MAX: usize = 64;

/// How far the events of a source have reached everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// What was last told.
    told: Position,
    /// The newest event that there was at each look since, oldest first.
    kept: VecDeque<Position>,
    /// The newest event.
    newest: Position,
}

impl Reach {
    /// As it was last told.
    pub fn new(told: Position) -> Self {
        Self { told, kept: VecDeque::new(), newest: told }
    }

    /// The source has an event, or may have had one up to here.
    pub fn take(&mut self, event: Position) {
        self.newest = self.newest.max(event);
    }

    /// Looks at how far every destination has settled everything: up to where the source can be told that all of its events
    /// are settled, where there is something new to tell.
    pub fn look(&mut self, floor: Position) -> Option<Position> {
        if self.newest > self.kept.back().copied().unwrap_or(self.told) {
            if self.kept.len() >= KEPT_MAX {
                // While a destination stands still places only get further apart: the newest one stays.
                let mut number = 0;
                self.kept.retain(|_| {
                    number += 1;
                    number % 2 == 0
                });
            }
            self.kept.push_back(self.newest);
        }
        self.kept.iter().rev().find(|place| **place <= floor).copied()
    }

    /// It was told.
    pub fn tell(&mut self, position: Position) {
        self.told = self.told.max(position);
        self.newest = self.newest.max(position);
        while self.kept.front().is_some_and(|place| *place <= position) {
            self.kept.pop_front();
        }
    }

    /// What was last told.
    pub fn told(&self) -> Position {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_told_once_everyone_has_it_and_several_changes_together() {
        let mut reach = Reach::new(0);
        assert_eq!(reach.look(100), None, "there is nothing to tell");
        reach.take(3);
        assert_eq!(reach.look(2), None);
        reach.take(5);
        reach.take(8);
        assert_eq!(reach.look(7), Some(3), "5 was never the newest when it was looked at");
        reach.tell(3);
        assert_eq!(reach.look(7), None, "once");
        assert_eq!(reach.look(8), Some(8));
        assert_eq!(reach.look(9), Some(8), "what could not be said is said again");
        reach.tell(8);
        assert_eq!(reach.look(100), None);
        let mut reach = Reach::new(8);
        reach.take(5);
        reach.take(8);
        assert_eq!(reach.look(100), None, "it was told before");
    }

    proptest! {
        #[test]
        fn it_only_goes_on_tells_everything_at_last_and_is_bounded(
            steps in proptest::collection::vec((0u64..4, 0u64..6), 1..400),
        ) {
            let (mut reach, mut newest, mut floor, mut told) = (Reach::new(0), 0, 0, 0);
            let mut is_new = false;
            for (events, settled) in steps {
                for _ in 0..events {
                    newest += 1;
                    reach.take(newest);
                    is_new = true;
                }
                floor = newest.min(floor + settled / 2);
                if let Some(position) = reach.look(floor) {
                    prop_assert!(position > told && position <= floor);
                    reach.tell(position);
                    told = position;
                }
                prop_assert!(reach.kept.len() <= KEPT_MAX);
            }
            let last = reach.look(newest);
            prop_assert_eq!(last, (is_new && told < newest).then_some(newest));
        }
    }
}
