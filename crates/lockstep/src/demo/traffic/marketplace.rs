//! The marketplace: its orders as single CloudEvents, already in the hub's own terms.

use std::collections::VecDeque;
use std::fmt::Write;

use super::{Assortment, CURRENCY, CloudEvent, STRUCTURED, Traffic};
use crate::demo::systems::sender::Outgoing;

/// How many orders may still be cancelled.
const OPEN_MAX: usize = 512;

/// See the module.
pub(crate) struct Marketplace {
    assortment: Assortment,
    random: fastrand::Rng,
    open: VecDeque<String>,
    placed: u64,
    sent: u64,
}

impl Marketplace {
    pub(crate) fn new(assortment: Assortment, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ 0x3a7ce);
        Self { assortment, random, open: VecDeque::new(), placed: 0, sent: 0 }
    }

    fn order(&mut self, now_us: i64) -> (String, String) {
        self.placed += 1;
        let number = format!("M-{:x}-{}", self.assortment.run & 0xffff, 100_000 + self.placed);
        let mut lines = String::new();
        let mut total = 0;
        for at in 0..self.random.u32(1..=3) {
            let article = self.random.u32(..self.assortment.entities);
            let (ordered, price) = (self.random.i64(1..=3), Assortment::price_cents(article));
            total += ordered * price;
            let comma = if at > 0 { "," } else { "" };
            // Writing to a string can't fail.
            let _ = write!(
                lines,
                r#"{comma}{{"id":"{}","ordered":{ordered},"sku":"{}","title":"Article {article}","unit_price":{{"currency":"{CURRENCY}","minor":{price}}}}}"#,
                at + 1,
                Assortment::sku(article),
            );
        }
        let placed_at = lockstep_connect::time::format_rfc3339(now_us);
        let data = format!(
            r#"{{"channel":"marketplace","currency":"{CURRENCY}","lifecycle":"confirmed","lines":[{lines}],"number":"{number}","payment_status":"paid","placed_at":"{placed_at}","shipping_address":{{"city":"Utrecht","country":"NL","line1":"Kanaalweg {}","name":"Buyer {}","postal_code":"3526 KL"}},"total":{{"currency":"{CURRENCY}","minor":{total}}}}}"#,
            self.random.u32(1..200),
            self.random.u32(..self.assortment.entities),
        );
        let subject = format!("order/marketplace:{number}");
        if self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back(subject.clone());
        (subject, data)
    }
}

impl Traffic for Marketplace {
    fn next(&mut self, now_us: i64, _changes_max: u32) -> Outgoing {
        // One order in twenty is cancelled, some of them too late.
        let cancel = self.random.u32(..20) == 0 && !self.open.is_empty();
        let (event_type, (subject, data)) = if cancel {
            let at = self.random.usize(..self.open.len());
            let subject = self.open.remove(at).unwrap_or_default();
            let cancelled_at = lockstep_connect::time::format_rfc3339(now_us);
            let data =
                format!(r#"{{"cancel_reason":"customer","cancelled_at":"{cancelled_at}","lifecycle":"cancelled"}}"#);
            ("order.cancelled", (subject, data))
        } else {
            ("order.placed", self.order(now_us))
        };
        self.sent += 1;
        let id = format!("marketplace-{:x}-{}", self.assortment.run, self.sent);
        let mut body = String::with_capacity(1_024);
        CloudEvent {
            source: "/demo/marketplace",
            id: id.clone(),
            event_type,
            subject: &subject,
            at_us: now_us,
            sequence: None,
            data: &data,
        }
        .write(&mut body);
        Outgoing { id, topic: STRUCTURED, body: body.into(), changes: 1 }
    }
}
