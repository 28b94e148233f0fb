//! An open loop: so many changes a second are offered, whatever becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Traffic;
use crate::demo::measure::Counters;
use crate::demo::systems::sender::Outgoing;

/// How often it is looked how much is due: the burst of one look must not be the latency that is measured.
const LOOK: Duration = Duration::from_millis(2);

/// How much a system offers, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Changes a second.
    pub(crate) per_s: f64,
    /// When it began.
    pub(crate) began: Instant,
    /// How long it goes on.
    pub(crate) duration: Duration,
    /// Whether messages are put out of order on purpose, by this seed.
    pub(crate) reorder: Option<u64>,
    /// Set when its time is over before.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Pace {
    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.duration || self.stop.load(Ordering::Relaxed)
    }
}

/// Gives what is due to a system's connections until its time is over. Where they can't keep up it waits for them,
/// and the offered rate is not reached: the table shows it.
pub(crate) async fn drive(
    pace: Pace,
    mut traffic: Box<dyn Traffic>,
    to_send: mpsc::Sender<Outgoing>,
    counters: Arc<Counters>,
) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut offered = 0_u64;
    let mut reorder = pace.reorder.map(Reorder::new);
    loop {
        looks.tick().await;
        let since = pace.began.elapsed();
        let due = (pace.per_s * since.min(pace.duration).as_secs_f64()) as u64;
        while offered < due {
            let outgoing = traffic.next(lockstep_hub::now_us(), (due - offered).min(1_000) as u32);
            offered += u64::from(outgoing.changes);
            counters.offered.add(outgoing.changes.into());
            let outgoing = match &mut reorder {
                Some(reorder) => reorder.pass(outgoing),
                None => Some(outgoing),
            };
            if let Some(outgoing) = outgoing
                && to_send.send(outgoing).await.is_err()
            {
                return;
            }
            // Where the connections can't keep up, the time is over all the same.
            if pace.is_over() {
                break;
            }
        }
        if since >= pace.duration || pace.is_over() {
            break;
        }
    }
    for outgoing in reorder.into_iter().flat_map(|reorder| reorder.held) {
        if to_send.send(outgoing).await.is_err() {
            return;
        }
    }
}

/// Holds some messages back and lets later ones go first.
struct Reorder {
    random: fastrand::Rng,
    held: Vec<Outgoing>,
}

/// How many are held back at most.
const HELD_MAX: usize = 32;

impl Reorder {
    fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), held: Vec::new() }
    }

    /// What goes out instead of this one; nothing where it is held back.
    fn pass(&mut self, outgoing: Outgoing) -> Option<Outgoing> {
        if self.random.u32(..10) > 0 {
            return Some(outgoing);
        }
        if self.held.len() < HELD_MAX && self.random.bool() {
            self.held.push(outgoing);
            return None;
        }
        self.held.push(outgoing);
        let at = self.random.usize(..self.held.len());
        Some(self.held.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reordering_loses_nothing() {
        let outgoing = |number: u32| Outgoing { id: number.to_string(), topic: "", body: "".into(), changes: 1 };
        let mut reorder = Reorder::new(3);
        let mut out: Vec<_> = (0..1_000).filter_map(|number| reorder.pass(outgoing(number))).collect();
        out.append(&mut reorder.held);
        let mut ids: Vec<u32> = out.iter().filter_map(|o| o.id.parse().ok()).collect();
        assert!(!ids.is_sorted());
        ids.sort_unstable();
        assert_eq!(ids, (0..1_000).collect::<Vec<_>>());
    }
}
