//! What watches the hub's own figures: how fresh each destination is, what somebody has to be told of, and whose changes
//! have reached everyone.
//!
//! It runs beside the loop and asks it for next to nothing. What it finds out it says as the system `@hub`, through the
//! same way in as everything else: so it is journaled, published, delivered, and known after a restart.

mod alerts;
mod freshness;
mod reached;
pub(crate) mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::handle::HubHandle;
use crate::stats::now_us;

pub use alerts::{AlertError, AlertRow, AlertRule, Figure, Silence};
pub use freshness::FreshnessRow;

/// What is to be watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OversightOptions {
    /// How old what is not there yet may be, by domain (a kind of entities), microseconds.
    pub limits_us: BTreeMap<String, i64>,
    /// What somebody is told of.
    pub rules: Vec<AlertRule>,
    /// The sources that are told when their changes have reached everyone.
    pub tell_reached: BTreeSet<String>,
    /// How often it looks, milliseconds; a second where it is 0.
    pub interval_ms: u64,
}

/// What was found when it last looked.
#[derive(Debug, Default)]
pub(crate) struct Found {
    freshness: Vec<FreshnessRow>,
}

/// Shared by all handles of a hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oversight {
    found: Arc<Mutex<Found>>,
    /// Held while something is said: what is said of an alert is said one after the other.
    book: Arc<tokio::sync::Mutex<alerts::Book>>,
}

impl Oversight {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn book(&self) -> tokio::sync::MutexGuard<'_, alerts::Book> {
        self.book.lock().await
    }
}

impl HubHandle {
    /// How fresh each domain with a limit is at each destination, and in the hub itself, when that was last looked at.
    pub fn freshness(&self) -> Vec<FreshnessRow> {
        self.oversight.found().freshness.clone()
    }

    /// How fresh a domain is in the hub itself.
    pub fn freshness_here(&self, domain: &str) -> Option<FreshnessRow> {
        let found = self.oversight.found();
        found.freshness.iter().find(|row| row.destination == freshness::HERE && row.domain == domain).cloned()
    }
}

/// Watches until the hub ends.
pub(crate) async fn watch(hub: HubHandle, options: OversightOptions) {
    let every = Duration::from_millis(if options.interval_ms == 0 { 1_000 } else { options.interval_ms });
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut freshness = freshness::Watcher::new(&hub, options.limits_us);
    let mut reached = reached::Watcher::new(options.tell_reached);
    let mut alerts = alerts::Watcher::new(options.rules);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = freshness.follow() => continue,
            () = reached.follow() => continue,
        }
        let now_us = now_us();
        let rows = freshness.look(&hub, now_us).await;
        if let Some(rows) = &rows {
            hub.oversight.found().freshness.clone_from(rows);
        }
        alerts.look(&hub, rows.as_deref(), now_us).await;
        reached.look(&hub, now_us).await;
    }
}
