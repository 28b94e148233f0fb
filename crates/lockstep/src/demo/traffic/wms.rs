//! The warehouse: counts of its shelves, and the shipment of every order that it hears of.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Assortment, Batch, CloudEvent, Traffic};
use crate::demo::measure::Counters;
use crate::demo::systems::sender::Outgoing;

/// How many events one batch has at most.
const BATCH_MAX: u32 = 20;
/// How many orders may be packed and not shipped.
const PACKED_MAX: usize = 4_096;

/// See the module.
pub(crate) struct Wms {
    assortment: Assortment,
    random: fastrand::Rng,
    to_ship: mpsc::Receiver<String>,
    /// Orders of which a part is shipped.
    packed: VecDeque<String>,
    counted: u64,
    sent: u64,
}

impl Wms {
    /// `to_ship` gives the keys of orders as the warehouse hears of them.
    pub(crate) fn new(assortment: Assortment, seed: u64, to_ship: mpsc::Receiver<String>) -> Self {
        let random = fastrand::Rng::with_seed(seed ^ 0x3a5);
        Self { assortment, random, to_ship, packed: VecDeque::new(), counted: 0, sent: 0 }
    }

    fn shipment(&mut self, now_us: i64) -> Option<(String, String)> {
        // What is packed goes out once enough is, so that a partial shipment stands for a while.
        let enough = self.packed.len() >= 64;
        let (key, whole) = match self.to_ship.try_recv() {
            Ok(key) if enough => {
                let first = self.packed.pop_front().unwrap_or_default();
                self.packed.push_back(key);
                (first, true)
            }
            Ok(key) => {
                let whole = self.random.u32(..3) > 0 || self.packed.len() >= PACKED_MAX;
                if !whole {
                    self.packed.push_back(key.clone());
                }
                (key, whole)
            }
            Err(_) => (self.packed.pop_front()?, true),
        };
        Some((format!("order/{key}"), shipped(&mut self.random, whole, now_us)))
    }

    fn count(&mut self, now_us: i64) -> (String, String) {
        let first_round = self.counted < u64::from(self.assortment.entities);
        let number = if first_round { self.counted as u32 } else { self.random.u32(..self.assortment.entities) };
        self.counted += 1;
        let on_hand = self.random.u32(..500);
        let counted_at = lockstep_connect::time::format_rfc3339(now_us);
        let data = format!(r#"{{"basis":"on_hand","counted_at":"{counted_at}","on_hand":{on_hand}}}"#);
        (format!("stock/{}@berlin", Assortment::sku(number)), data)
    }
}

fn shipped(random: &mut fastrand::Rng, whole: bool, now_us: i64) -> String {
    let at = lockstep_connect::time::format_rfc3339(now_us);
    let tracking = random.u64(10_000_000_000..99_999_999_999);
    if whole {
        format!(
            r#"{{"lifecycle":"shipped","shipped_at":"{at}","tracking":{{"carrier":"demo-parcel","number":"{tracking}"}}}}"#
        )
    } else {
        r#"{"lifecycle":"partially_shipped"}"#.to_owned()
    }
}

impl Traffic for Wms {
    fn next(&mut self, now_us: i64, changes_max: u32) -> Outgoing {
        let mut batch = Batch::new();
        for _ in 0..changes_max.clamp(1, BATCH_MAX) {
            // Every shelf is counted once at first; then shipments go before counts, but not all of the time.
            let counting = self.counted < u64::from(self.assortment.entities);
            let ship = self.random.u32(..10) < if counting { 2 } else { 8 };
            let shipment = if ship { self.shipment(now_us) } else { None };
            let (subject, data) = match shipment {
                Some(shipment) => shipment,
                None => self.count(now_us),
            };
            self.sent += 1;
            let event_type = if subject.starts_with("order/") { "order.shipped" } else { "stock.counted" };
            batch.push(&CloudEvent {
                source: "/demo/wms",
                id: format!("wms-{:x}-{}", self.assortment.run, self.sent),
                event_type,
                subject: &subject,
                at_us: now_us,
                sequence: None,
                data: &data,
            });
        }
        batch.finish()
    }
}

/// Ships every order that the warehouse hears of, whole, as soon as it can: what it does with the orders of a file.
pub(crate) async fn ship(
    run: u64,
    mut to_ship: mpsc::Receiver<String>,
    to_send: mpsc::Sender<Outgoing>,
    counters: Arc<Counters>,
) {
    let mut random = fastrand::Rng::with_seed(run);
    let mut sent = 0_u64;
    let mut keys = Vec::new();
    while to_ship.recv_many(&mut keys, BATCH_MAX as usize).await > 0 {
        let mut batch = Batch::new();
        let now_us = lockstep_hub::now_us();
        for key in keys.drain(..) {
            sent += 1;
            batch.push(&CloudEvent {
                source: "/demo/wms",
                id: format!("wms-{run:x}-{sent}"),
                event_type: "order.shipped",
                subject: &format!("order/{key}"),
                at_us: now_us,
                sequence: None,
                data: &shipped(&mut random, true, now_us),
            });
        }
        let outgoing = batch.finish();
        counters.offered.add(outgoing.changes.into());
        if to_send.send(outgoing).await.is_err() {
            return;
        }
    }
}
