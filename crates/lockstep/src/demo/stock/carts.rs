//! The buyers of one front, the shop's or the marketplace's: each puts scarce articles into a cart, thinks, and pays, gives
//! them back, or walks away.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use lockstep_hub::now_us;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::desk::{Desk, Said};
use super::promise::Units;
use super::{ARTICLES, LOCATION, Opening, article};

/// How often it is looked how many buyers are due.
const LOOK: Duration = Duration::from_millis(10);
/// How many carts a front has at once; more buyers wait at the door.
const CARTS_MAX: usize = 1_024;
/// How long a hold lasts whose buyer walks away, or takes about as long.
const SHORT_S: u32 = 1;
/// How long others last.
const LONG_S: u32 = 60;

/// What a buyer is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mind {
    /// Pays.
    Pays,
    /// Pays when the hold is about to run out: just before, or just after.
    PaysLate,
    /// Pays, and wants the money back before it is shipped.
    Regrets,
    /// Gives the cart back.
    GivesBack,
    /// Leaves without a word.
    WalksAway,
}

/// One buyer.
#[derive(Clone, Debug)]
struct Buyer {
    id: String,
    units: Units,
    mind: Mind,
    thinks: Duration,
}

/// A reservation as the hub tells of it.
#[derive(Debug, Deserialize)]
struct Reservation {
    id: String,
    state: String,
    expires_at: Option<String>,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    sku: String,
    location: Option<String>,
    quantity: i64,
}

/// One front and those who buy there.
pub(super) struct Front {
    /// The channel.
    pub(super) name: &'static str,
    pub(super) desk: Arc<Desk>,
    pub(super) opening: Opening,
    pub(super) seed: u64,
    /// Carts a second.
    pub(super) per_s: f64,
    /// Where the reservations go that are paid.
    pub(super) to_pack: mpsc::Sender<String>,
}

impl Front {
    /// Lets buyers in until the time is over, and waits until the last one has left.
    pub(super) async fn run(self) {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buyers = JoinSet::new();
        let mut came = 0_u64;
        loop {
            // Asked before it is counted who is due, so that all have come who were to.
            let is_over = self.opening.is_over();
            let due = self.opening.due(self.per_s);
            if self.opening.is_stopped() || (is_over && came >= due) {
                break;
            }
            tokio::select! {
                _ = looks.tick() => {}
                Some(_) = buyers.join_next() => continue,
            }
            while came < due && buyers.len() < CARTS_MAX {
                came += 1;
                let buyer = Buyer::new(&mut random, format!("{}-{:x}-{came}", self.name, self.opening.run));
                buyers.spawn(buyer.buy(self.name, self.desk.clone(), self.to_pack.clone()));
            }
        }
        while buyers.join_next().await.is_some() {}
    }
}

impl Buyer {
    fn new(random: &mut fastrand::Rng, id: String) -> Self {
        let first = random.usize(..ARTICLES);
        let mut units = vec![(first, random.i64(1..=2))];
        if random.u32(..5) == 0 {
            units.push(((first + random.usize(1..ARTICLES)) % ARTICLES, 1));
        }
        let mind = match random.u32(..100) {
            0..45 => Mind::Pays,
            45..55 => Mind::PaysLate,
            55..65 => Mind::Regrets,
            65..85 => Mind::GivesBack,
            _ => Mind::WalksAway,
        };
        let about_ms = u64::from(SHORT_S) * 1_000;
        let thinks_ms = match mind {
            Mind::PaysLate => random.u64(about_ms - 100..about_ms + 400),
            _ => random.u64(5..400),
        };
        Self { id, units, mind, thinks: Duration::from_millis(thinks_ms) }
    }

    async fn buy(self, channel: &'static str, desk: Arc<Desk>, to_pack: mpsc::Sender<String>) {
        let Some(expires_at_us) = self.reserve(channel, &desk).await else { return };
        tokio::time::sleep(self.thinks).await;
        match self.mind {
            Mind::Pays | Mind::PaysLate => {
                if self.pay(&desk).await {
                    // A warehouse that takes no more orders is at the end of the run.
                    let _ = to_pack.send(self.id).await;
                }
            }
            Mind::Regrets => {
                if self.pay(&desk).await {
                    tokio::time::sleep(self.thinks).await;
                    self.give_back(&desk).await;
                }
            }
            Mind::GivesBack => self.give_back(&desk).await,
            Mind::WalksAway => {
                let left_us = (expires_at_us - now_us()).max(0).unsigned_abs();
                tokio::time::sleep(Duration::from_micros(left_us)).await;
                // The timer and the clock need not agree to the microsecond.
                while now_us() < expires_at_us {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                desk.sale.tally().ran_out(&self.id, now_us());
            }
        }
    }

    /// Gives until when the units are held; nothing where they are not.
    async fn reserve(&self, channel: &str, desk: &Desk) -> Option<i64> {
        let hold_s = if matches!(self.mind, Mind::PaysLate | Mind::WalksAway) { SHORT_S } else { LONG_S };
        let items: Vec<Value> =
            self.units.iter().map(|(of, count)| json!({"sku": article(*of), "quantity": count})).collect();
        let body = json!({"id": self.id, "owner": self.id, "channel": channel, "hold_s": hold_s, "items": items});
        let key = format!("{}-reserve", self.id);
        let said = desk.ask(Method::POST, "/v1/reservations", &key, &body).await;
        let mut tally = desk.sale.tally();
        let told = match said {
            Said::Done(told) => told,
            Said::Conflict(code) if code == "stock-short" => {
                tally.refused();
                return None;
            }
            Said::Conflict(code) => {
                tally.wrong(format!("{} was refused: {code}", self.id));
                return None;
            }
            Said::Nothing => return None,
        };
        let told = serde_json::from_value::<Reservation>(told).ok().filter(|told| self.is_mine(told));
        let Some(told) = told else {
            tally.wrong(format!("{} was answered with another reservation", self.id));
            return None;
        };
        let expires_at_us = told.expires_at.as_deref().and_then(lockstep_connect::time::parse_rfc3339);
        // Where the answer was lost, the hold may be over when the buyer hears of it.
        match (told.state.as_str(), expires_at_us) {
            ("held" | "expired", Some(expires_at_us)) => {
                tally.held(&self.id, &self.units, expires_at_us, now_us());
                Some(expires_at_us)
            }
            (state, _) => {
                tally.wrong(format!("{} was reserved and is {state}", self.id));
                None
            }
        }
    }

    /// Whether a reservation is of what was asked for.
    fn is_mine(&self, told: &Reservation) -> bool {
        let mut asked: Vec<_> = self.units.iter().map(|(of, count)| (article(*of), *count)).collect();
        let mut had: Vec<_> = told.lines.iter().map(|line| (line.sku.clone(), line.quantity)).collect();
        asked.sort_unstable();
        had.sort_unstable();
        told.id == self.id && asked == had && told.lines.iter().all(|line| line.location.as_deref() == Some(LOCATION))
    }

    /// Whether the units are sold.
    async fn pay(&self, desk: &Desk) -> bool {
        match self.step(desk, "commit").await {
            Said::Done(told) if told["state"] == "committed" => {
                desk.sale.tally().sold(&self.id, now_us());
                return true;
            }
            Said::Done(told) => desk.sale.tally().wrong(format!("{} was committed and is {told}", self.id)),
            // The hold was over, and another has the units.
            Said::Conflict(_) => desk.sale.tally().ran_out(&self.id, now_us()),
            Said::Nothing => {}
        }
        false
    }

    async fn give_back(&self, desk: &Desk) {
        desk.sale.tally().giving_back(&self.id);
        match self.step(desk, "release").await {
            Said::Done(told) if told["state"] == "released" => desk.sale.tally().given_back(&self.id),
            Said::Done(told) => desk.sale.tally().wrong(format!("{} was released and is {told}", self.id)),
            Said::Conflict(_) => desk.sale.tally().ran_out(&self.id, now_us()),
            Said::Nothing => {}
        }
    }

    async fn step(&self, desk: &Desk, step: &str) -> Said {
        let path = format!("/v1/reservations/{}/{step}", self.id);
        desk.ask(Method::POST, &path, &format!("{}-{step}", self.id), &json!({})).await
    }
}
