//! The sale of scarce articles: shop and marketplace compete for the same few units through reservations, the warehouse
//! counts, receives and ships, and a tally of their own says whether ever more was promised than there was.
//!
//! | module | is |
//! |---|---|
//! | `desk` | a party's way to the hub's stock, with one key for all attempts |
//! | `carts` | the buyers of a front |
//! | `warehouse` | the shelves |
//! | `promise`, `tally` | what there was and what was promised, as the parties know it |
//! | `audit` | the hub's stock, and what the fronts show, beside the tally |
//! | `figures` | the sale in the table and at the end |

pub(crate) mod audit;
mod carts;
pub(crate) mod desk;
pub(crate) mod figures;
mod promise;
pub(crate) mod tally;
mod warehouse;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::measure::Counter;
use super::party::Party;
use carts::Front;
use desk::{Desk, Said};
use tally::Tally;
use warehouse::Warehouse;

/// How many articles are scarce.
pub(crate) const ARTICLES: usize = 8;
/// Where they all lie.
pub(crate) const LOCATION: &str = "vault";
/// Who sells them; each is a channel, and told what it may sell.
pub(crate) const FRONTS: [Party; 2] = [Party::Shop, Party::Marketplace];
/// How many paid reservations may wait for the warehouse.
const TO_PACK_MAX: usize = 1_024;

/// The name of an article: not one of those that orders are about.
pub(crate) fn article(number: usize) -> String {
    format!("RARE-{:02}", number + 1)
}

/// The way in by which a party speaks of stock, beside that of its other changes.
pub(crate) fn source(party: Party) -> String {
    format!("{}-stock", party.name())
}

/// What all of the sale know.
#[derive(Debug)]
pub(crate) struct Sale {
    tally: Mutex<Tally>,
    /// Requests sent again, with the same key.
    pub(crate) repeated: Counter,
}

impl Sale {
    pub(crate) fn new() -> Self {
        Self { tally: Mutex::new(Tally::new((0..ARTICLES).map(article).collect())), repeated: Counter::default() }
    }

    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the sale is on.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) began: Instant,
    pub(crate) duration: Duration,
    /// Set when its time is over before.
    pub(crate) stop: Arc<AtomicBool>,
    /// What tells the ids of this run from those of another.
    pub(crate) run: u64,
}

impl Opening {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() >= self.duration || self.is_stopped()
    }

    /// How many of so many a second are due by now.
    fn due(&self, per_s: f64) -> u64 {
        (per_s * self.began.elapsed().min(self.duration).as_secs_f64()) as u64
    }
}

/// Those who hold the sale: the fronts' ways to the hub and the warehouse's.
pub(crate) struct Sellers {
    pub(crate) fronts: [Arc<Desk>; FRONTS.len()],
    pub(crate) shelves: Arc<Desk>,
    /// What buyers and goods follow from.
    pub(crate) seed: u64,
    pub(crate) carts_per_s: u32,
}

impl Sellers {
    /// Tells the hub of the channels and of what lies on the shelves, before the first buyer comes.
    pub(crate) async fn prepare(&self, run: u64) {
        for front in FRONTS {
            declare(&self.shelves, front, run).await;
        }
        warehouse::first_count(&self.shelves, run, self.seed).await;
    }

    /// Holds the sale; the task ends when the last buyer has left and all that is paid is shipped.
    pub(crate) fn hold(self, opening: Opening) -> JoinHandle<()> {
        let Self { fronts: [shop, marketplace], shelves, seed, carts_per_s } = self;
        let carts_per_s = f64::from(carts_per_s);
        let (to_pack, paid) = mpsc::channel(TO_PACK_MAX);
        let warehouse = Warehouse { desk: shelves, opening: opening.clone(), seed, carts_per_s, to_pack: paid };
        let front = |party: Party, desk: Arc<Desk>| Front {
            name: party.name(),
            desk,
            opening: opening.clone(),
            seed: seed ^ ((party.index() as u64 + 1) << 40),
            per_s: carts_per_s / FRONTS.len() as f64,
            to_pack: to_pack.clone(),
        };
        let (shop, marketplace) = (front(FRONTS[0], shop), front(FRONTS[1], marketplace));
        tokio::spawn(async move {
            tokio::join!(shop.run(), marketplace.run(), warehouse.run());
        })
    }
}

/// Makes a front a channel that is told what it may sell.
async fn declare(desk: &Desk, front: Party, run: u64) {
    let path = format!("/v1/channels/{}/policy", front.name());
    let key = format!("policy-{run:x}-{}", front.name());
    if let Said::Conflict(code) = desk.ask(Method::PUT, &path, &key, &json!({})).await {
        desk.sale.tally().wrong(format!("the channel {} was refused: {code}", front.name()));
    }
}

#[cfg(test)]
mod tests;
