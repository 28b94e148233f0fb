//! What the systems say: invented, by a seed, in a realistic mix.

mod erp;
mod marketplace;
mod pace;
mod shop;
mod wms;

use std::fmt::Write;

use super::systems::sender::Outgoing;

pub(crate) use erp::Erp;
pub(crate) use marketplace::Marketplace;
pub(crate) use pace::{Pace, drive};
pub(crate) use shop::{Shop, webhook_id};
pub(crate) use wms::{Wms, ship};

/// The currency of everything that is made up here.
pub(crate) const CURRENCY: &str = "EUR";

/// Says what a system says next.
pub(crate) trait Traffic: Send {
    /// The next message, about at most `changes_max` changes where it can choose.
    fn next(&mut self, now_us: i64, changes_max: u32) -> Outgoing;
}

/// What all generators know of the invented world.
#[derive(Clone, Debug)]
pub(crate) struct Assortment {
    /// How many articles, customers and shelves there are.
    pub(crate) entities: u32,
    /// What tells the ids of this run from those of another.
    pub(crate) run: u64,
}

impl Assortment {
    fn sku(number: u32) -> String {
        format!("SKU-{number:06}")
    }

    /// The price of an article to begin with, in cents.
    fn price_cents(number: u32) -> i64 {
        199 + i64::from(number.wrapping_mul(7_919) % 19_800)
    }
}

/// Cents as a decimal: `1099` is `10.99`.
fn decimal(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// One CloudEvent in JSON; `data` is JSON already.
struct CloudEvent<'a> {
    source: &'a str,
    id: String,
    event_type: &'a str,
    subject: &'a str,
    at_us: i64,
    sequence: Option<u64>,
    data: &'a str,
}

impl CloudEvent<'_> {
    fn write(&self, out: &mut String) {
        let Self { source, id, event_type, subject, data, .. } = self;
        let time = lockstep_connect::time::format_rfc3339(self.at_us);
        // Writing to a string can't fail.
        let _ = write!(
            out,
            r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"{event_type}","subject":"{subject}","time":"{time}","datacontenttype":"application/json""#
        );
        if let Some(sequence) = self.sequence {
            let _ = write!(out, r#","sequence":"{sequence}""#);
        }
        let _ = write!(out, r#","data":{data}}}"#);
    }
}

/// Several CloudEvents as one request.
struct Batch {
    body: String,
    events: u32,
}

const BATCHED: &str = "application/cloudevents-batch+json";
const STRUCTURED: &str = "application/cloudevents+json";

impl Batch {
    fn new() -> Self {
        Self { body: String::from("["), events: 0 }
    }

    fn push(&mut self, event: &CloudEvent<'_>) {
        if self.events > 0 {
            self.body.push(',');
        }
        event.write(&mut self.body);
        self.events += 1;
    }

    fn finish(mut self) -> Outgoing {
        self.body.push(']');
        Outgoing { id: String::new(), topic: BATCHED, body: self.body.into(), changes: self.events }
    }
}
