//! One attempt: a request on its way with what it is about.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::Event;
use lockstep_core::delivery::AttemptResult;
use lockstep_core::record::Attempt;

use crate::delivery::queue::Item;
use crate::stats::now_us;

/// What is said of a destination's own fault; the log has where it is.
const PANICKED: &str = "the destination's code panicked: that is a fault of the hub, please report it";

/// What is sent together: mostly one event, with the name of its entity.
pub(super) type Flight = Vec<(String, Item)>;

/// An attempt under way comes back with what it was about and its generation.
pub(super) struct Done {
    pub(super) generation: u64,
    pub(super) flight: Flight,
    pub(super) at_us: i64,
    /// The number that the destination was told.
    pub(super) number: u32,
    pub(super) sent: Sent,
}

/// What a destination makes of an event. Where that panics, the event is to blame, and not all that comes after it.
pub(super) fn prepare(destination: &dyn Destination, event: &Event) -> Result<Option<Prepared>, PrepareError> {
    let prepared = std::panic::catch_unwind(AssertUnwindSafe(|| destination.prepare(event)));
    prepared.unwrap_or_else(|_| Err(PrepareError { message: PANICKED.to_owned(), at: None }))
}

/// Makes an attempt.
pub(super) async fn attempt(generation: u64, destination: Arc<dyn Destination>, flight: Flight) -> Done {
    let at_us = now_us();
    // Numbers never go back, and those sent together have one.
    let number = flight.iter().map(|(_, item)| item.number).max().unwrap_or(0).saturating_add(1);
    let prepared: Vec<Arc<Prepared>> = flight.iter().filter_map(|(_, item)| item.prepared.clone()).collect();
    let failed = |result, detail: &str| Sent {
        result,
        status: 0,
        detail: detail.to_owned(),
        response_head: String::new(),
        duration_us: 0,
    };
    let sending = async {
        match &prepared[..] {
            [_, ..] if destination.batch().is_some() => destination.send_batch(&prepared, number).await,
            [one] => destination.send(one, number).await,
            // `prepare` has run for every item that gets here.
            _ => failed(AttemptResult::Poison, "not prepared"),
        }
    };
    // What it has sent by then is not known.
    let sent = AssertUnwindSafe(sending).catch_unwind().await;
    let sent = sent.unwrap_or_else(|_| failed(AttemptResult::Unknown, PANICKED));
    Done { generation, flight, at_us, number, sent }
}

/// The record of an attempt of an item.
pub(super) fn record(item: &Item, (number, at_us): (u32, i64), sent: &Sent) -> Attempt {
    Attempt {
        number,
        at_us,
        duration_us: sent.duration_us,
        status: u32::from(sent.status),
        detail: sent.detail.clone(),
        response_head: sent.response_head.clone(),
        manual: item.manual.is_some(),
        class: sent.result.name().to_owned(),
    }
}
