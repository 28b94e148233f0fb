//! When events go to a destination: at once, together at the end of a window, or at the times of a schedule.

use super::Cron;
use crate::event::Event;
use crate::stock::STOCK_KIND;

/// When events go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cadence {
    /// Each as soon as it can.
    #[default]
    Live,
    /// What comes for an entity within a window goes at its end. The first event that comes begins it.
    Window {
        /// How long it is.
        window_ms: u64,
        /// Only the newest event of each entity goes, instead of all of them in order.
        latest_only: bool,
    },
    /// What comes goes at the next time of the schedule.
    Schedule {
        /// The schedule.
        cron: Cron,
        /// Only the newest event of each entity goes, instead of all of them in order.
        latest_only: bool,
    },
}

impl Cadence {
    /// Whether every event goes as soon as it can.
    pub fn is_live(&self) -> bool {
        *self == Self::Live
    }

    /// Whether only the newest event of each entity goes.
    pub fn latest_only(&self) -> bool {
        matches!(self, Self::Window { latest_only: true, .. } | Self::Schedule { latest_only: true, .. })
    }

    /// Whether something may go earlier than it says where there is too much to be held. A schedule is kept to: somebody
    /// may have reasons not to be sent anything at other times.
    pub fn may_end_early(&self) -> bool {
        matches!(self, Self::Window { .. })
    }

    /// From when on something may be sent that came at a time, and with it all of its entity that has come by then; `None`
    /// where that is at once.
    pub fn send_from(&self, came_us: i64) -> Option<i64> {
        match self {
            Self::Live => None,
            Self::Window { window_ms, .. } => {
                Some(came_us.saturating_add_unsigned(window_ms.saturating_mul(1_000))).filter(|until| *until > came_us)
            }
            Self::Schedule { cron, .. } => cron.next_after(came_us),
        }
    }
}

/// Whether an event of an entity says all that an older one of it does, so that the older one need not be sent. Documents do.
/// In the ledger of stock only a count says it of a count: what has moved, or is short, each says for itself.
pub fn supersedes(newer: &Event, older: &Event) -> bool {
    let (newer_fact, older_fact) = (&newer.fact, &older.fact);
    let is_count = |event_type: &str| event_type == "stock.counted" || event_type == "stock.deleted";
    let is_whole =
        newer_fact.kind != STOCK_KIND || is_count(&newer_fact.event_type) && is_count(&older_fact.event_type);
    newer.position > older.position
        && newer_fact.kind == older_fact.kind
        && newer_fact.key == older_fact.key
        && is_whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Fact;

    fn event(position: u64, event_type: &str, key: &str) -> Event {
        let kind = event_type.split('.').next().unwrap_or_default().to_owned();
        let fact = Fact { kind, key: key.into(), event_type: event_type.into(), ..Fact::default() };
        Event { position, recorded_at_us: 0, fact: Box::new(fact), replay: None }
    }

    #[test]
    fn only_what_says_all_of_it_stands_for_an_older_one() {
        for (newer, older, expected) in [
            (event(2, "product.changed", "A"), event(1, "product.created", "A"), true),
            (event(2, "product.deleted", "A"), event(1, "product.changed", "A"), true),
            (event(1, "product.changed", "A"), event(2, "product.changed", "A"), false),
            (event(2, "product.changed", "B"), event(1, "product.changed", "A"), false),
            (event(2, "price.changed", "A"), event(1, "product.changed", "A"), false),
            (event(2, "stock.counted", "A@1"), event(1, "stock.counted", "A@1"), true),
            (event(2, "stock.moved", "A@1"), event(1, "stock.moved", "A@1"), false),
            (event(2, "stock.counted", "A@1"), event(1, "stock.moved", "A@1"), false),
            (event(2, "stock.moved", "A@1"), event(1, "stock.counted", "A@1"), false),
        ] {
            assert_eq!(supersedes(&newer, &older), expected, "{newer:?} {older:?}");
        }
    }

    /// What a destination gets: the events (entity, when they came) by a cadence, as (entity, event, when).
    fn run(cadence: &Cadence, events: &[(u8, i64)]) -> Vec<(u8, usize, i64)> {
        let mut sent = Vec::new();
        for entity in 0..4 {
            let of_it: Vec<_> = events.iter().enumerate().filter(|(_, (of, _))| *of == entity).collect();
            let mut at = 0;
            while let Some((number, (_, came))) = of_it.get(at) {
                let Some(until) = cadence.send_from(*came) else {
                    sent.push((entity, *number, *came));
                    at += 1;
                    continue;
                };
                let together = of_it[at..].iter().take_while(|(_, (_, came))| *came < until).count();
                let skipped = if cadence.latest_only() { together - 1 } else { 0 };
                let goes = of_it[at + skipped..at + together].iter();
                sent.extend(goes.map(|(number, _)| (entity, *number, until)));
                at += together;
            }
        }
        sent
    }

    fn cadences() -> impl Strategy<Value = Cadence> {
        let window = |(window_ms, latest_only)| Cadence::Window { window_ms, latest_only };
        let schedule = |(minutes, latest_only): (u32, bool)| Cadence::Schedule {
            cron: format!("*/{minutes} * * * *").parse().expect("a schedule"),
            latest_only,
        };
        prop_oneof![
            Just(Cadence::Live),
            (0u64..300_000, any::<bool>()).prop_map(window),
            (1u32..60, any::<bool>()).prop_map(schedule),
        ]
    }

    proptest! {
        #[test]
        fn it_is_never_early_never_later_than_a_window_and_the_newest_always_goes(
            cadence in cadences(), waits in proptest::collection::vec((0u8..4, 0i64..200_000_000), 1..60),
        ) {
            let mut now = 1_000_000_i64;
            let events: Vec<_> = waits.iter().map(|(entity, wait)| { now += wait; (*entity, now) }).collect();
            let sent = run(&cadence, &events);
            if !cadence.latest_only() {
                prop_assert_eq!(sent.len(), events.len(), "nothing is left out");
            }
            for entity in 0..4 {
                let goes: Vec<_> = sent.iter().filter(|(of, ..)| *of == entity).collect();
                prop_assert!(goes.is_sorted_by_key(|(_, number, at)| (*number, *at)), "in order");
                let newest = events.iter().rposition(|(of, _)| *of == entity);
                prop_assert_eq!(goes.last().map(|(_, number, _)| *number), newest);
            }
            let longest = match &cadence {
                Cadence::Live => 0,
                Cadence::Window { window_ms, .. } => *window_ms as i64 * 1_000,
                Cadence::Schedule { .. } => 3_600_000_000,
            };
            for (_, number, at) in &sent {
                let came = events[*number].1;
                prop_assert!(*at >= came && *at - came <= longest, "{} {}", came, at);
            }
        }
    }
}
