//! `WatchAvailability`: what may be sold, and what it becomes.
//!
//! What has changed is a set of SKUs, and what is told of them is asked for only when there is room for it. So a reader
//! that is slow misses numbers that nobody needs any more, and nothing grows.

use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream::unfold;
use lockstep_api::{Api, Problem, current};
use lockstep_core::stock::AVAILABILITY_KIND;
use lockstep_core::{Event, Refusal};
use lockstep_hub::{EventStream, ReadError, StreamItem, Unavailable};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use super::questions::check_skus;
use super::tell;
use crate::status::status;
use crate::v1;

/// A reader of the journal that is further behind asks for everything anew instead of reading all that.
const BEHIND_MAX: u64 = 100_000;

/// The answer to a watch.
pub(super) type Watch = Pin<Box<dyn Stream<Item = Result<v1::WatchAvailabilityResponse, Status>> + Send>>;

/// Begins a watch.
pub(super) fn begin(api: &Api, request: v1::WatchAvailabilityRequest) -> Result<Watch, Problem> {
    check_skus(&request.skus)?;
    let key = |(at, sku): (usize, &String)| (format!("{sku}@{}", request.channel), at);
    let keys = request.skus.iter().enumerate().map(key).collect();
    let watching = Watching {
        // From before the first answer on, so that nothing falls between the two.
        stream: api.hub().stream(api.hub().bounds().next - 1),
        changed: (0..request.skus.len()).collect(),
        keys,
        request,
        closing: api.closing(),
        api: api.clone(),
    };
    let (responses, taken) = mpsc::channel(1);
    let (last_word, end) = oneshot::channel();
    tokio::spawn(async move {
        if let Err(end) = watching.run(responses).await {
            // Where nobody listens any more, nobody needs to know.
            let _ = last_word.send(end);
        }
    });
    let answer = unfold(Some((taken, end)), |state| async {
        let (mut taken, end) = state?;
        match taken.recv().await {
            Some(response) => Some((Ok(response), Some((taken, end)))),
            // The task has ended, so its last word is there or never will be.
            None => end.await.ok().map(|end| (Err(end), None)),
        }
    });
    Ok(Box::pin(answer))
}

struct Watching {
    api: Api,
    request: v1::WatchAvailabilityRequest,
    stream: EventStream,
    /// The SKUs' places in the request, by the key of the event that tells of each.
    keys: HashMap<String, usize>,
    /// The SKUs of which something is to be told, by their places.
    changed: BTreeSet<usize>,
    closing: watch::Receiver<bool>,
}

impl Watching {
    async fn run(mut self, responses: mpsc::Sender<v1::WatchAvailabilityResponse>) -> Result<(), Status> {
        loop {
            if self.stream.behind() > BEHIND_MAX {
                self.stream = self.api.hub().stream(self.api.hub().bounds().next - 1);
                self.changed.extend(0..self.request.skus.len());
            }
            let woken = tokio::select! {
                biased;
                () = responses.closed() => return Ok(()),
                // The sender lives as long as the api.
                _ = self.closing.wait_for(|closing| *closing) => Woken::Closing,
                permit = responses.reserve(), if !self.changed.is_empty() => Woken::Room(permit.ok()),
                item = self.stream.next() => Woken::Item(item),
            };
            match woken {
                Woken::Closing => return Err(status(&Unavailable::ShuttingDown.into())),
                Woken::Room(Some(permit)) => permit.send(self.response().await?),
                // The client has gone since.
                Woken::Room(None) => return Ok(()),
                Woken::Item(Ok(StreamItem::Events(events))) => {
                    let keys = &self.keys;
                    self.changed.extend(events.iter().filter_map(|event| at(keys, event)));
                }
                Woken::Item(Err(error)) => return Err(status(&error.into())),
            }
        }
    }

    /// What is now of the SKUs that have changed.
    async fn response(&mut self) -> Result<v1::WatchAvailabilityResponse, Status> {
        let changed = std::mem::take(&mut self.changed);
        let skus: Vec<_> = changed.into_iter().filter_map(|at| self.request.skus.get(at).cloned()).collect();
        let ask = || self.api.hub().availability_for(skus.clone(), &self.request.channel, None, 0);
        let of = current::ask(ask).await.map_err(|problem| status(&problem))?;
        let of = of.map_err(|refusal| status(&Problem::from(Refusal::Stock(refusal))))?;
        let items = of.into_iter().map(tell::availability).collect();
        Ok(v1::WatchAvailabilityResponse { items })
    }
}

/// What happens next.
enum Woken<'a> {
    Closing,
    Room(Option<mpsc::Permit<'a, v1::WatchAvailabilityResponse>>),
    Item(Result<StreamItem, ReadError>),
}

/// The place of the SKU that an event tells of.
fn at(keys: &HashMap<String, usize>, event: &Event) -> Option<usize> {
    let fact = &event.fact;
    if fact.kind == AVAILABILITY_KIND { keys.get(&fact.key).copied() } else { None }
}
