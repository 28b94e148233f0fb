//! The ERP: prices, in batches of CloudEvents.

use super::{Assortment, Batch, CURRENCY, CloudEvent, Traffic};
use crate::demo::systems::sender::Outgoing;

/// How many prices one batch has at most.
const BATCH_MAX: u32 = 20;

/// Sends the price list once, then changes of it.
pub(crate) struct Erp {
    assortment: Assortment,
    random: fastrand::Rng,
    sent: u64,
}

impl Erp {
    pub(crate) fn new(assortment: Assortment, seed: u64) -> Self {
        Self { assortment, random: fastrand::Rng::with_seed(seed ^ 0xe59), sent: 0 }
    }
}

impl Traffic for Erp {
    fn next(&mut self, now_us: i64, changes_max: u32) -> Outgoing {
        let mut batch = Batch::new();
        for _ in 0..changes_max.clamp(1, BATCH_MAX) {
            let first_round = self.sent < u64::from(self.assortment.entities);
            let number = if first_round { self.sent as u32 } else { self.random.u32(..self.assortment.entities) };
            let base = Assortment::price_cents(number);
            let minor = if first_round { base } else { base * self.random.i64(80..=110) / 100 };
            self.sent += 1;
            let subject = format!("price/{}:shop:{CURRENCY}", Assortment::sku(number));
            let valid_from = lockstep_connect::time::format_rfc3339(now_us);
            let data = format!(
                r#"{{"amount":{{"currency":"{CURRENCY}","minor":{minor}}},"list":"shop","valid_from":"{valid_from}"}}"#
            );
            batch.push(&CloudEvent {
                source: "/demo/erp",
                id: format!("erp-{:x}-{}", self.assortment.run, self.sent),
                event_type: "price.changed",
                subject: &subject,
                at_us: now_us,
                // The ERP counts the versions of its price list.
                sequence: Some(self.sent),
                data: &data,
            });
        }
        batch.finish()
    }
}
