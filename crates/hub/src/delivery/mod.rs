//! Delivery: one ordered stream of events a destination, keys in parallel, outcomes reported back to the loop
//! and journaled. What is delivered and not yet journaled is delivered again after a crash, with the same id.

mod queue;
mod runner;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_core::Position;
use lockstep_core::delivery::RetryPolicy;
use lockstep_core::record::{DeadLetterClosed, DeadLettered, Progress};
use tokio::sync::{mpsc, oneshot};

use crate::tally::DestinationTally;

pub(crate) use runner::spawn as spawn_runner;

/// Where a destination that the hub has not known begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first event that the journal has.
    #[default]
    Beginning,
    /// With the next event.
    Now,
}

/// How to deliver to one destination.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// When to try again, and how often.
    pub retry: RetryPolicy,
    /// The most requests under way at once.
    pub concurrency_max: usize,
    /// The most events taken up and not settled; the others wait in the journal.
    pub window_events_max: usize,
    /// The most bytes of such events.
    pub window_bytes_max: usize,
    /// How often progress is journaled.
    pub report_interval_ms: u64,
    /// Where it begins when it is new.
    pub start: Start,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            concurrency_max: 32,
            window_events_max: 4_096,
            window_bytes_max: 8 * 1024 * 1024,
            report_interval_ms: 100,
            start: Start::Beginning,
        }
    }
}

/// What a runner tells the loop.
pub(crate) struct Report {
    pub(crate) generation: u64,
    pub(crate) body: ReportBody,
}

pub(crate) enum ReportBody {
    Progress(Progress),
    DeadLettered(DeadLettered),
    Closed(DeadLetterClosed),
}

/// What a runner is told.
#[derive(Clone)]
pub(crate) enum Control {
    /// Send a dead letter again.
    Retry { event: Position, record: Position, by: String },
    /// Forget everything under way: the journal does not have it.
    Stop,
    /// Begin again from here.
    Restart { generation: u64, tally: DestinationTally },
    /// Report what is done and end.
    End(Arc<Mutex<Option<oneshot::Sender<()>>>>),
}

/// How many orders of an operator may wait at one destination.
const CONTROLS_MAX: usize = 1_024;

/// The ways to the runners.
#[derive(Clone, Default)]
pub(crate) struct Controls(Arc<Mutex<BTreeMap<String, mpsc::Sender<Control>>>>);

impl Controls {
    fn register(&self, name: &str) -> mpsc::Receiver<Control> {
        let (sender, receiver) = mpsc::channel(CONTROLS_MAX);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), sender);
        receiver
    }

    fn get(&self, name: &str) -> Option<mpsc::Sender<Control>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    pub(crate) async fn send(&self, name: &str, control: Control) -> bool {
        match self.get(name) {
            Some(sender) => sender.send(control).await.is_ok(),
            None => false,
        }
    }

    /// From the loop, which never waits for a runner.
    pub(crate) fn send_now(&self, name: &str, control: Control) {
        if let Some(sender) = self.get(name)
            && let Err(error) = sender.try_send(control)
        {
            tracing::error!(destination = name, %error, "a destination does not take orders");
        }
    }

    pub(crate) fn broadcast(&self, control: &Control) {
        for name in self.names() {
            self.send_now(&name, control.clone());
        }
    }

    /// Ends all runners, after a last report of what they have done.
    pub(crate) async fn stop(&self) {
        for name in self.names() {
            let (done, ended) = oneshot::channel();
            if self.send(&name, Control::End(Arc::new(Mutex::new(Some(done))))).await {
                // An error means that the runner has ended already.
                let _ = ended.await;
            }
        }
    }
}
