//! How deliveries to a destination go: how far it is behind, and what attempts came to lately.

use lockstep_core::Position;
use lockstep_core::delivery::Counts;

use crate::handle::HubHandle;
use crate::reading::{EventFilter, ReadError};
use crate::stats::now_us;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// Events still to be settled.
    pub pending: u64,
    /// The oldest of them, and when the hub decided it (microseconds since 1970 UTC).
    pub oldest: Option<(Position, i64)>,
    /// When something was last delivered since the start of the hub, microseconds since 1970 UTC.
    pub last_success_us: Option<i64>,
    /// Entities whose events are held until a window ends, or the schedule has its next time.
    pub held: usize,
    /// Entities whose events wait until another one has arrived.
    pub waiting: usize,
    /// Attempts of the last five minutes, as far as the hub has run.
    pub minutes: Counts,
    /// Attempts of the last day, as far as the hub has run.
    pub day: Counts,
}

impl Flow {
    /// How old the oldest event is that is not settled, microseconds; 0 where there is none.
    pub fn lag_us(&self, now_us: i64) -> i64 {
        self.oldest.map_or(0, |(_, at_us)| now_us.saturating_sub(at_us).max(0))
    }
}

impl HubHandle {
    /// How old the oldest event of a kind is that a destination has not settled, microseconds; 0 where there is none. Of
    /// what it has not taken up yet nobody knows the kind: all of that is younger than the newest that it has.
    pub(crate) fn behind_us(&self, name: &str, kind: &str, pending: u64, now_us: i64) -> i64 {
        let Some((health, _)) = self.controls.health(name) else { return 0 };
        let (oldest, newest, open) = health.board.oldest_of(kind);
        let unread = newest.filter(|_| pending > open as u64);
        oldest.or(unread).map_or(0, |at_us| now_us.saturating_sub(at_us).max(0))
    }

    /// Whether an event of a kind waits for its retry.
    pub(crate) fn is_retrying(&self, name: &str, kind: &str) -> bool {
        self.controls.health(name).is_some_and(|(health, _)| health.board.is_retrying(kind))
    }

    /// How deliveries to a destination go.
    pub async fn flow(&self, name: &str) -> Result<Flow, ReadError> {
        let (pending, cursor) = self.stats.with_tallies(|tallies| {
            let tally = tallies.destinations.get(name);
            let published = tallies.published;
            tally.map_or((published, 0), |tally| (tally.pending(published).max(0) as u64, tally.cursor))
        });
        let mut flow = Flow { pending, ..Flow::default() };
        let line = self.controls.health(name);
        if let Some((health, _)) = &line {
            (flow.last_success_us, flow.minutes, flow.day) = health.board.lately(now_us());
            flow.oldest = health.board.oldest();
            let condition = health.condition();
            (flow.held, flow.waiting) = (condition.held, condition.waiting);
        }
        if flow.oldest.is_none() && pending > 0 {
            // Nobody has taken it up: what follows the cursor is by definition not settled.
            let cursor = cursor.max(self.bounds().first.saturating_sub(1));
            let page = self.events(cursor, EventFilter::default(), 1).await?;
            // The sums are a moment old.
            let ended = |position| line.as_ref().is_some_and(|(health, _)| health.board.end_of(position).is_some());
            let oldest = page.events.first().filter(|event| !ended(event.position));
            flow.oldest = oldest.map(|event| (event.position, event.recorded_at_us));
        }
        Ok(flow)
    }
}
