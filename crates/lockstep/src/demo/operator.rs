//! The operator: sends dead letters again through the API, as a person would when a system is back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::ApiClient;
use super::measure::Counter;
use super::party::Party;

/// A dead letter that was sent again and is still there is left alone for this long.
const AGAIN: Duration = Duration::from_secs(15);
/// How many are asked for in one round, so that the systems' new deliveries go on beside them.
const ROUND_MAX: usize = 1_000;

/// See the module.
pub(crate) struct Operator {
    api: ApiClient,
    /// What was asked for: the dead letter's record and when.
    asked: HashMap<(String, u64), (u64, Instant)>,
    /// How often a dead letter was sent again.
    retried: Arc<Counter>,
}

impl Operator {
    pub(crate) fn new(api: ApiClient, retried: Arc<Counter>) -> Self {
        Self { api, asked: HashMap::new(), retried }
    }

    /// Looks once at the dead letters of all systems and has them sent again.
    pub(crate) async fn round(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.asked.retain(|_, (_, at)| now.duration_since(*at) < AGAIN);
        for party in Party::ALL {
            let mut after = None;
            let mut seen = 0;
            while seen < ROUND_MAX {
                let page = self.api.dead_letters(party.name(), after.as_deref()).await?;
                seen += page.items.len();
                for letter in page.items {
                    let known = self.asked.get(&(letter.destination.clone(), letter.event));
                    // A letter that died again has a new record.
                    if known.is_some_and(|(record, _)| *record == letter.record) {
                        continue;
                    }
                    if self.api.retry(&letter.destination, letter.event).await? {
                        self.retried.one();
                        self.asked.insert((letter.destination, letter.event), (letter.record, now));
                    }
                }
                after = page.next_after;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }
}
