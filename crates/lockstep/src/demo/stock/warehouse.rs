//! The warehouse of the sale: counts its shelves, puts on them what comes, ships what is paid for, and tells the hub, which
//! may hear of all that late and out of order.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use lockstep_connect::time::format_rfc3339;
use lockstep_hub::now_us;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::desk::{Desk, Said};
use super::{ARTICLES, LOCATION, Opening, article};

/// How many units of an article there are to begin with, at most.
const FIRST_UNITS_MAX: i64 = 6;
/// How many units come at once, at most.
const UNITS_MAX: i64 = 4;
/// How many receipts there are for a hundred carts: fewer units than buyers want.
const RECEIPTS_PER_CENT: f64 = 8.0;
/// How many receipts go before a count.
const RECEIPTS_PER_COUNT: u64 = 3;
/// How long packing takes.
const PACKING_MS_MAX: u64 = 150;

/// See the module.
pub(super) struct Warehouse {
    pub(super) desk: Arc<Desk>,
    pub(super) opening: Opening,
    pub(super) seed: u64,
    /// Carts a second of all fronts.
    pub(super) carts_per_s: f64,
    /// Reservations that are paid.
    pub(super) to_pack: mpsc::Receiver<String>,
}

/// The first count of every shelf.
pub(super) async fn first_count(desk: &Arc<Desk>, run: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts = JoinSet::new();
    for of in 0..ARTICLES {
        desk.sale.tally().came(of, random.i64(1..=FIRST_UNITS_MAX), now_us());
        counts.spawn(count(desk.clone(), of, format!("count-{run:x}-first-{of}")));
    }
    while counts.join_next().await.is_some() {}
}

impl Warehouse {
    /// Works until the time is over and the fronts have closed, and all that is paid is shipped.
    pub(super) async fn run(mut self) {
        let mut random = fastrand::Rng::with_seed(self.seed ^ 0x5e1f);
        let every = Duration::from_secs_f64(100.0 / (self.carts_per_s * RECEIPTS_PER_CENT));
        let mut deliveries = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        deliveries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut works = JoinSet::new();
        let mut came = 0_u64;
        loop {
            tokio::select! {
                paid = self.to_pack.recv() => {
                    let Some(id) = paid else { break };
                    works.spawn(ship(self.desk.clone(), id, Duration::from_millis(random.u64(..PACKING_MS_MAX))));
                }
                _ = deliveries.tick(), if !self.opening.is_over() => {
                    came += 1;
                    let name = format!("{:x}-{came}", self.opening.run);
                    let (of, units) = (random.usize(..ARTICLES), random.i64(1..=UNITS_MAX));
                    works.spawn(receive(self.desk.clone(), of, units, format!("receipt-{name}")));
                    if came.is_multiple_of(RECEIPTS_PER_COUNT) {
                        works.spawn(count(self.desk.clone(), random.usize(..ARTICLES), format!("count-{name}")));
                    }
                }
                Some(_) = works.join_next() => {}
            }
        }
        while works.join_next().await.is_some() {}
    }
}

/// Tells how many units lie on a shelf.
async fn count(desk: Arc<Desk>, of: usize, key: String) {
    let (at_us, on_hand) = desk.sale.tally().counted(of, now_us());
    let path = format!("/v1/stock/{}/{LOCATION}/count", article(of));
    let body = json!({"basis": "on_hand", "quantity": on_hand, "as_of": format_rfc3339(at_us)});
    let said = desk.ask(Method::PUT, &path, &key, &body).await;
    taken(&desk, &key, &said);
}

/// Puts units on a shelf, and tells of it.
async fn receive(desk: Arc<Desk>, of: usize, units: i64, key: String) {
    let at_us = desk.sale.tally().came(of, units, now_us());
    let path = format!("/v1/stock/{}/{LOCATION}/movements", article(of));
    let body = json!({"movement": key, "kind": "receipt", "quantity": units, "occurred_at": format_rfc3339(at_us)});
    let said = desk.ask(Method::POST, &path, &key, &body).await;
    taken(&desk, &key, &said);
}

fn taken(desk: &Desk, key: &str, said: &Said) {
    // A count that comes after a younger one is ignored: the younger one has it.
    let is_taken = |told: &Value| ["applied", "ignored", "duplicate"].iter().any(|well| told["outcome"] == *well);
    match said {
        Said::Done(told) if is_taken(told) => {}
        Said::Done(told) => desk.sale.tally().wrong(format!("{key} was answered {told}")),
        Said::Conflict(code) => desk.sale.tally().wrong(format!("{key} was refused: {code}")),
        Said::Nothing => {}
    }
}

/// Takes from the shelves what is paid for, and tells of it.
async fn ship(desk: Arc<Desk>, id: String, packing: Duration) {
    tokio::time::sleep(packing).await;
    let Some((units, at_us)) = desk.sale.tally().left(&id, now_us()) else { return };
    let goods: Vec<Value> =
        units.iter().map(|(of, count)| json!({"sku": article(*of), "location": LOCATION, "quantity": count})).collect();
    let path = format!("/v1/reservations/{id}/consume");
    let body = json!({"goods": goods, "occurred_at": format_rfc3339(at_us), "movement": format!("parcel-{id}")});
    match desk.ask(Method::POST, &path, &format!("{id}-consume"), &body).await {
        Said::Done(told) if told["state"] == "consumed" => desk.sale.tally().shipped(&id),
        Said::Done(told) => desk.sale.tally().wrong(format!("{id} was shipped and is {told}")),
        Said::Conflict(code) => desk.sale.tally().wrong(format!("the shipment of {id} was refused: {code}")),
        Said::Nothing => {}
    }
}
