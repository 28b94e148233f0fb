//! How much each flow gets: the pure machine of the core, fed once a second with how the flow goes, and a person's word. What
//! it comes to is told to the runner, and said as a document of the hub's own: so it is published, and known after a
//! restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_connect::time::format_rfc3339;
use lockstep_core::Entity;
use lockstep_core::delivery::degrade::{Degrade, FLOW_KIND, Pin, Share, Turn, event};
use lockstep_core::delivery::{Cadence, DegradePolicy, Figures, Step};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::delivery::DeliveryOptions;
use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::oversight::said;
use crate::stats::now_us;

/// What the runner is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) step: Step,
    /// Whether a person has decided so: then a pause has not even probes.
    pub(crate) by_hand: bool,
    /// How many requests may be under way at once; `None`: as many as otherwise.
    pub(crate) requests_max: Option<usize>,
    /// Over how long only the newest of each key goes, in micro-batches.
    pub(crate) window_ms: u64,
}

impl Mode {
    /// When events go, where that is not as it is configured. A schedule is kept to.
    pub(super) fn cadence(&self, configured: &Cadence) -> Option<Cadence> {
        let window = |window_ms: u64| Cadence::Window { window_ms: window_ms.max(self.window_ms), latest_only: true };
        (self.step == Step::MicroBatch).then(|| match configured {
            Cadence::Live => window(0),
            Cadence::Window { window_ms, .. } => window(*window_ms),
            Cadence::Schedule { cron, .. } => Cadence::Schedule { cron: cron.clone(), latest_only: true },
        })
    }
}

/// On which step a flow is, and how it came there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlowMode {
    /// The step.
    pub step: Step,
    /// The one before; the same where only a pin has come or gone.
    pub from: Step,
    /// Since when it is on it, microseconds since 1970 UTC; `None` where it was never on another.
    pub since_us: Option<i64>,
    /// The step without a pin.
    pub automatic: Step,
    /// What a person has decided and is in force.
    pub pin: Option<Pin>,
    /// Who has caused it; empty where the hub has.
    pub by: String,
    /// What that one had to say.
    pub reason: String,
    /// The figures then, in a sentence.
    pub why: String,
}

/// Why a flow's step can't be changed by hand.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// No such destination is running.
    #[error("there is no running destination of this name")]
    Unknown,
    /// It is not pinned.
    #[error("its step is not pinned by hand")]
    NotPinned,
    /// The hub can't write now.
    #[error("the hub can't answer")]
    Hub(#[from] Unavailable),
}

#[derive(Debug)]
struct Book {
    degrade: Degrade,
    share: Share,
    mode: FlowMode,
    /// What could not be said yet.
    unsaid: bool,
}

/// What is known of one flow.
#[derive(Debug)]
pub(crate) struct Keeping {
    policy: DegradePolicy,
    requests_max: usize,
    every: Duration,
    /// Held while something is said: what is said of a flow is said one after the other. `None` until what was said before
    /// the hub was started has been read.
    book: tokio::sync::Mutex<Option<Book>>,
    mode: watch::Sender<Option<Mode>>,
    shown: Mutex<FlowMode>,
}

impl Keeping {
    pub(super) fn new(options: &DeliveryOptions) -> Arc<Self> {
        Arc::new(Self {
            policy: options.degrade,
            requests_max: options.concurrency_max,
            every: Duration::from_millis(options.degrade_interval_ms.max(1)),
            book: tokio::sync::Mutex::default(),
            mode: watch::Sender::new(None),
            shown: Mutex::default(),
        })
    }

    /// What the runner is to do; nothing at all before that is known.
    pub(super) fn mode(&self) -> watch::Receiver<Option<Mode>> {
        self.mode.subscribe()
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, FlowMode> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what was said before the hub was started, where that has not been done.
    async fn book<'a>(
        &self,
        book: &'a mut Option<Book>,
        hub: &HubHandle,
        name: &str,
    ) -> Result<&'a mut Book, Unavailable> {
        if let Some(known) = book {
            return Ok(known);
        }
        let said = hub.entity(FLOW_KIND, name).await?;
        let now_us = now_us();
        let mut mode = said.as_deref().filter(|said| !said.is_deleted()).map(remembered).unwrap_or_default();
        let since_us = mode.since_us.unwrap_or(i64::MIN / 2);
        let degrade = Degrade::new(self.policy, mode.automatic, mode.pin.clone(), since_us);
        // The configuration may not allow any more what it was.
        let unsaid = degrade.step() != mode.step;
        if unsaid {
            let why = "the configuration does not allow that step any more".to_owned();
            (mode.from, mode.since_us, mode.why) = (mode.step, Some(now_us), why);
            (mode.by, mode.reason) = (String::new(), String::new());
        }
        (mode.step, mode.automatic) = (degrade.step(), degrade.automatic());
        let share = Share::new(self.requests_max, self.policy.concurrency_percent);
        let book = book.insert(Book { degrade, share, mode, unsaid });
        self.apply(book);
        Ok(book)
    }

    /// Has what is in the book done.
    fn apply(&self, book: &Book) {
        let step = book.degrade.step();
        let mode = Mode {
            step,
            by_hand: book.degrade.pinned().is_some(),
            requests_max: (step > Step::RealTime).then(|| book.share.now()),
            window_ms: self.policy.window_ms,
        };
        self.mode.send_if_modified(|before| before.replace(mode) != Some(mode));
        self.shown().clone_from(&book.mode);
    }

    /// Takes in how the flow goes.
    async fn look(&self, hub: &HubHandle, name: &str) -> Result<(), Unavailable> {
        let mut book = self.book.lock().await;
        let book = self.book(&mut book, hub, name).await?;
        let (seen, now_us) = (hub.figures(name), now_us());
        let turn = book.degrade.take(&seen, now_us);
        if let Some(turn) = turn {
            let why = if turn.is_over { "the time by hand was over".to_owned() } else { sentence(&seen) };
            // What was not said yet is said with it.
            let from = if book.unsaid { book.mode.from } else { turn.from };
            let turn = Turn { from, ..turn };
            book.mode = after(&book.degrade, turn, (String::new(), String::new()), why);
            book.unsaid = true;
            let (from, step) = (turn.from.name(), turn.to.name());
            tracing::warn!(destination = name, from, step, why = book.mode.why, "a flow has gone to another step");
            book.share.reset();
        } else if book.degrade.step() > Step::RealTime {
            book.share.take(&seen, self.policy.after_us.max(1), now_us);
        }
        // The effect does not wait until it can be said: it may be needed for just that.
        self.apply(book);
        if book.unsaid {
            say(hub, name, &book.mode).await?;
            book.unsaid = false;
        }
        Ok(())
    }

    /// Does what a person wants. Where it can't be said, it has not happened.
    async fn by_hand(
        &self,
        hub: &HubHandle,
        name: &str,
        word: (String, String),
        change: impl FnOnce(&mut Degrade, i64) -> Option<Turn>,
    ) -> Result<FlowMode, FlowError> {
        let mut book = self.book.lock().await;
        let book = self.book(&mut book, hub, name).await?;
        let mut degrade = book.degrade.clone();
        let turn = change(&mut degrade, now_us()).ok_or(FlowError::NotPinned)?;
        let mode = after(&degrade, turn, word, sentence(&hub.figures(name)));
        say(hub, name, &mode).await?;
        (book.degrade, book.mode, book.unsaid) = (degrade, mode, false);
        book.share.reset();
        self.apply(book);
        let (from, step, by, reason) = (turn.from.name(), turn.to.name(), &book.mode.by, &book.mode.reason);
        tracing::info!(destination = name, from, step, by, reason, "a flow's step was changed by hand");
        Ok(book.mode.clone())
    }
}

/// Keeps a flow until its runner ends.
pub(super) async fn keep(hub: HubHandle, name: String, keeping: Arc<Keeping>) {
    let mut ticks = tokio::time::interval(keeping.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = keeping.mode.closed() => return,
            _ = ticks.tick() => {}
        }
        match keeping.look(&hub, &name).await {
            Ok(()) => {}
            Err(Unavailable::ShuttingDown) => return,
            Err(error) => tracing::debug!(destination = name, %error, "a flow's step can't be read or said now"),
        }
    }
}

impl HubHandle {
    /// How a flow goes, as its runner last saw it.
    fn figures(&self, name: &str) -> Figures {
        let pending = self.stats.with_tallies(|tallies| {
            let published = tallies.published;
            // One that has nothing to report yet has no sums yet.
            let tally = tallies.destinations.get(name);
            tally.map_or(published, |tally| tally.pending(published).max(0) as u64)
        });
        let seen = self.controls.health(name).map(|(health, _)| *health.figures());
        Figures { pending, ..seen.unwrap_or_default() }
    }

    /// On which step each running flow is.
    pub fn flow_modes(&self) -> BTreeMap<String, FlowMode> {
        self.controls.modes()
    }

    /// Whether a person has paused a flow.
    pub(crate) fn is_paused_by_hand(&self, name: &str) -> bool {
        let mode = self.controls.keeping(name).map(|keeping| keeping.shown().clone());
        mode.is_some_and(|mode| mode.step == Step::Pause && mode.pin.is_some())
    }

    /// Holds a flow on a step until it is released, or until a time. Back when that is journaled and in force.
    pub async fn pin_flow(&self, name: &str, pin: Pin) -> Result<FlowMode, FlowError> {
        let keeping = self.controls.keeping(name).ok_or(FlowError::Unknown)?;
        let word = (pin.by.clone(), pin.reason.clone());
        keeping.by_hand(self, name, word, |degrade, now_us| Some(degrade.pin(pin, now_us))).await
    }

    /// Ends that: the flow goes on as it was before, and by itself.
    pub async fn release_flow(&self, name: &str, by: &str, reason: &str) -> Result<FlowMode, FlowError> {
        let keeping = self.controls.keeping(name).ok_or(FlowError::Unknown)?;
        keeping.by_hand(self, name, (by.to_owned(), reason.to_owned()), Degrade::release).await
    }
}

fn after(degrade: &Degrade, turn: Turn, (by, reason): (String, String), why: String) -> FlowMode {
    FlowMode {
        step: turn.to,
        from: turn.from,
        since_us: Some(degrade.since_us()).filter(|since_us| *since_us > 0),
        automatic: degrade.automatic(),
        pin: degrade.pinned().cloned(),
        by,
        reason,
        why,
    }
}

/// The figures in a sentence.
fn sentence(seen: &Figures) -> String {
    let mut text = format!("the oldest event has waited {:.1} s, {} are pending", seen.lag_s, seen.pending);
    if let (Some(percent), Some(ms)) = (seen.failing_percent, seen.latency_ms) {
        text += &format!(", {percent:.0} % of the last minute's attempts failed, one took {ms:.0} ms");
    }
    if seen.down_s > 0.0 {
        text += &format!(", the destination has been down for {:.0} s", seen.down_s);
    }
    text
}

async fn say(hub: &HubHandle, name: &str, mode: &FlowMode) -> Result<(), Unavailable> {
    let given = |text: &str| Some(text).filter(|text| !text.is_empty()).map_or(Value::Null, |text| json!(text));
    let until_us = mode.pin.as_ref().and_then(|pin| pin.until_us);
    let fields = vec![
        ("automatic", json!(mode.automatic.name())),
        ("by", given(&mode.by)),
        ("destination", json!(name)),
        ("event", json!(event(mode.from, mode.step))),
        ("from", json!(mode.from.name())),
        ("pinned", json!(mode.pin.is_some())),
        ("reason", given(&mode.reason)),
        ("since", mode.since_us.map_or(Value::Null, |at_us| json!(format_rfc3339(at_us)))),
        ("since_us", json!(mode.since_us)),
        ("to", json!(mode.step.name())),
        ("until", until_us.map_or(Value::Null, |at_us| json!(format_rfc3339(at_us)))),
        ("until_us", json!(until_us)),
        ("why", given(&mode.why)),
    ];
    said::say(hub, FLOW_KIND, name, fields).await
}

fn remembered(said: &Entity) -> FlowMode {
    let step = |field| Step::of_name(&said::text(said, field)).unwrap_or_default();
    let (by, reason) = (said::text(said, "by"), said::text(said, "reason"));
    let until_us = said::value(said, "until_us").as_i64();
    let is_pinned = said::value(said, "pinned") == true;
    FlowMode {
        step: step("to"),
        from: step("from"),
        since_us: said::value(said, "since_us").as_i64(),
        automatic: step("automatic"),
        pin: is_pinned.then(|| Pin { step: step("to"), until_us, by: by.clone(), reason: reason.clone() }),
        by,
        reason,
        why: said::text(said, "why"),
    }
}
