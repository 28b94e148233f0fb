//! The operator: sends dead letters again through the API, as a person would when a system is back.

use std::collections::HashMap;
use std::sync::Arc;

use super::api::ApiClient;
use super::measure::Counter;
use super::party::Party;

/// How many are asked for in one round, so that the systems' new deliveries go on beside them.
const ROUND_MAX: usize = 1_000;

/// See the module.
pub(crate) struct Operator {
    api: ApiClient,
    /// What was asked for: the record of the dead letter. Each is asked for once: when it dies again, it has a new one.
    asked: HashMap<(String, u64), u64>,
    /// How often a dead letter was sent again.
    retried: Arc<Counter>,
}

impl Operator {
    pub(crate) fn new(api: ApiClient, retried: Arc<Counter>) -> Self {
        Self { api, asked: HashMap::new(), retried }
    }

    /// Looks once at the dead letters of all systems and has them sent again.
    pub(crate) async fn round(&mut self) -> anyhow::Result<()> {
        for party in Party::ALL {
            let mut after = None;
            let mut asked = 0;
            while asked < ROUND_MAX {
                let page = self.api.dead_letters(party.name(), after.as_deref()).await?;
                for letter in page.items {
                    let name = (letter.destination, letter.event);
                    if self.asked.get(&name) == Some(&letter.record) {
                        continue;
                    }
                    if self.api.retry(&name.0, name.1).await? {
                        self.retried.one();
                        asked += 1;
                    }
                    self.asked.insert(name, letter.record);
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
