//! `bench backlog`: a destination that is down with very many events pending: what they take in memory, how soon the hub is
//! ready after kill -9, and how long until all is delivered, in order.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lockstep_core::Rules;
use lockstep_hub::{Hub, HubOptions};
use tokio::net::TcpListener;

use super::child::Serving;
use super::receiver::{self, Manner, Note, header};
use super::{count, hub, mib, nobody, row, webhook, write_secret};

/// What was measured.
#[derive(Debug, serde::Serialize)]
pub(super) struct BacklogFigures {
    /// Events that were pending.
    pub(super) events: u64,
    /// Entities.
    pub(super) entities: u64,
    /// The most memory of the hub while the destination was down.
    pub(super) memory_peak_down_bytes: u64,
    /// From the start of the process after kill -9 until `/healthz/ready` says 200.
    pub(super) ready_s: f64,
    /// From the destination's being there again to the last event.
    pub(super) drain_s: f64,
    /// The same as a rate.
    pub(super) drained_per_s: f64,
    /// From its being there again to the first event.
    pub(super) noticed_s: f64,
    /// The most memory of the hub while it was drained.
    pub(super) memory_peak_draining_bytes: u64,
    /// Requests that brought an event that had come before.
    pub(super) again: u64,
    /// Events that came after a newer one of their entity; must be 0.
    pub(super) out_of_order: u64,
}

impl BacklogFigures {
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        vec![
            row("events pending", count(self.events as f64)),
            row("entities", count(self.entities as f64)),
            row("peak memory while it is down", mib(self.memory_peak_down_bytes)),
            row("ready after kill -9", format!("{:.3} s", self.ready_s)),
            row("noticed that it is back after", format!("{:.3} s", self.noticed_s)),
            row("drained after", format!("{:.1} s", self.drain_s)),
            row("deliveries/s", count(self.drained_per_s)),
            row("peak memory while it is drained", mib(self.memory_peak_draining_bytes)),
            row("came again", count(self.again as f64)),
            row("out of order", count(self.out_of_order as f64)),
        ]
    }
}

/// What has arrived: the last event of each entity.
#[derive(Default)]
pub(super) struct Arrived {
    last: Mutex<HashMap<String, u64>>,
    events: AtomicU64,
    again: AtomicU64,
    out_of_order: AtomicU64,
}

impl Arrived {
    /// Has a receiver tell of what comes.
    pub(super) fn note(arrived: &Arc<Self>) -> Note {
        let arrived = arrived.clone();
        Arc::new(move |head, body| arrived.take(head, body))
    }

    fn take(&self, head: &str, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let subject = text.split_once("\"subject\":\"").and_then(|(_, rest)| rest.split('"').next());
        let (Some(subject), Some(id)) = (subject, header(head, "webhook-id").and_then(|id| id.parse().ok())) else {
            // Whatever it is, it is none of the events in their order.
            self.out_of_order.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(subject.to_owned(), id).unwrap_or(0);
        let count = match before {
            before if before < id => &self.events,
            before if before == id => &self.again,
            _ => &self.out_of_order,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that brought an event that had come before.
    pub(super) fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// Events that came after a newer one of their entity.
    pub(super) fn out_of_order(&self) -> u64 {
        self.out_of_order.load(Ordering::Relaxed)
    }

    /// How many have arrived, each counted once.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// Runs it.
pub(super) async fn run(dir: &Path, events: u64, entities: u64, progress: impl Fn(u64)) -> Result<BacklogFigures> {
    let filling = Hub::open(HubOptions::new(dir.join("data"), Rules::new()))?;
    hub::drive(&filling.handle(), entities, events, 1, &progress).await?;
    let events = hub::published(&filling.handle(), events).await;
    filling.shutdown().await;

    // Nobody listens there yet.
    let address = nobody()?;
    write_secret(dir)?;
    let erp = webhook("erp", address, "breaker = { probe_max_ms = 1000 }\n");
    let config = format!("[hub]\nname = \"bench\"\n{erp}");
    std::fs::write(dir.join("lockstep.toml"), config)?;
    let (config, data) = (dir.join("lockstep.toml"), dir.join("data"));
    let serving = Serving::start(&config, &data).await?;
    // Long enough for the window to be full and for several probes.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let memory_peak_down_bytes = serving.memory_peak_bytes();
    // SIGKILL.
    drop(serving);
    let serving = Serving::start(&config, &data).await?;
    let ready_s = serving.ready_after.as_secs_f64();
    tokio::time::sleep(Duration::from_secs(3)).await;

    let arrived = Arc::new(Arrived::default());
    let note = Arrived::note(&arrived);
    let listener = TcpListener::bind(address).await.context("the destination's port was taken meanwhile")?;
    let back = Instant::now();
    tokio::spawn(receiver::accept(listener, note, Manner::prompt(), || {}));
    let (mut noticed_s, mut last, mut since) = (None, 0, Instant::now());
    while arrived.events() < events {
        let now = arrived.events();
        if now != last {
            noticed_s.get_or_insert(back.elapsed().as_secs_f64());
            (last, since) = (now, Instant::now());
            progress(now);
        }
        if since.elapsed() > Duration::from_secs(60) {
            bail!("only {now} of {events} events were delivered");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let drain_s = back.elapsed().as_secs_f64();
    Ok(BacklogFigures {
        events,
        entities,
        memory_peak_down_bytes,
        ready_s,
        drain_s,
        drained_per_s: events as f64 / drain_s,
        noticed_s: noticed_s.unwrap_or(drain_s),
        memory_peak_draining_bytes: serving.memory_peak_bytes(),
        again: arrived.again(),
        out_of_order: arrived.out_of_order(),
    })
}
