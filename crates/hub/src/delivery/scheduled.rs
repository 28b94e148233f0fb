//! Hands dead letters to their destination's runner when they are to be sent again. What is planned is journaled, so a
//! restart begins anew with whatever is due then; asked for twice, the runner sends it once.

use std::sync::Arc;
use std::time::Duration;

use lockstep_core::Position;
use tokio::sync::Notify;

use crate::delivery::Retry;
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::looper::unreadable;
use crate::state::rows::DeadLetterRow;
use crate::stats::now_us;

/// How many are handed over before the next are looked for.
const STEP: usize = 256;
/// When those that were handed over and are still there are handed over again: a failure of the journal may have made
/// their runner forget them.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The longest wait, so that the end of the hub is noticed.
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) fn spawn(hub: HubHandle, name: String) {
    let Some(wake) = hub.controls.retries_wake(&name) else { return };
    tokio::spawn(async move {
        let mut after = (i64::MIN, 0);
        let mut handed_over = false;
        loop {
            let found = hub.due_retries(&name, after).await;
            let wait = match found {
                Err(Unavailable::ShuttingDown) => return,
                // It is looked for again when it can be answered.
                Err(_) => Duration::from_secs(1),
                Ok((due, _)) if !due.is_empty() => {
                    handed_over = true;
                    for row in due {
                        let Some(plan) = row.retry else { continue };
                        after = (plan.at_us, row.event);
                        let retry = Retry { event: row.event, record: row.record, by: plan.by };
                        if !hub.controls.retry(&name, retry).await {
                            return;
                        }
                    }
                    continue;
                }
                Ok((_, next_us)) => {
                    let until = next_us.map_or(WAIT_MAX, |at_us| {
                        Duration::from_micros(at_us.saturating_sub(now_us()).max(1_000) as u64)
                    });
                    until.min(if handed_over { AGAIN_AFTER } else { WAIT_MAX })
                }
            };
            handed_over = false;
            wait_for(&wake, wait).await;
            after = (i64::MIN, 0);
        }
    });
}

async fn wait_for(wake: &Arc<Notify>, wait: Duration) {
    // Either is a reason to look again.
    let _ = tokio::time::timeout(wait, wake.notified()).await;
}

impl HubHandle {
    async fn due_retries(
        &self,
        destination: &str,
        after: (i64, Position),
    ) -> Result<(Vec<DeadLetterRow>, Option<i64>), Unavailable> {
        let destination = destination.to_owned();
        self.ask(move |view| {
            let due = view.looper().state.due_retries(&destination, after, now_us(), STEP);
            due.map_err(unreadable)
        })
        .await
    }
}
