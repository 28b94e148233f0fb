//! `PublishStream`: batches in, acknowledgements out, in the same order.
//!
//! There is no queue and no task: who takes an acknowledgement makes the stream go on. A client that does not read
//! them, or sends faster than the hub writes, finds its messages unread, and HTTP/2 holds it back.

use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use futures_util::{FutureExt, Stream};
use http::HeaderMap;
use lockstep_api::{Api, Code, Problem, Scope};
use lockstep_hub::{Answer, Enqueued, Unavailable};
use tokio::sync::watch;
use tonic::Status;
use tonic::codec::Streaming;

use crate::convert::result;
use crate::publish::{common, inputs};
use crate::status::{part, status};
use crate::{Events, v1};

/// The answer to a publishing stream.
pub(crate) type Acknowledgements = Pin<Box<dyn Stream<Item = Result<v1::PublishStreamResponse, Status>> + Send>>;

/// A publishing stream.
pub(crate) struct Publishing {
    api: Api,
    headers: HeaderMap,
    /// What is still to be read; none at the end.
    batches: Option<Streaming<v1::PublishStreamRequest>>,
    last_sequence: Option<u64>,
    /// A batch that waits for room in the hub. No other may overtake it.
    entering: Option<(u64, BoxFuture<'static, Result<Enqueued, Unavailable>>)>,
    /// What is to be acknowledged, in order.
    under_way: VecDeque<(u64, Under)>,
    under_way_max: usize,
    /// What the stream ends with once everything that was taken is acknowledged.
    end: Option<Status>,
    closing: watch::Receiver<bool>,
}

/// Where a batch is.
enum Under {
    Way(BoxFuture<'static, Result<Vec<Answer>, Unavailable>>),
    Refused(Problem),
}

/// What happens next.
enum Woken {
    Answered(Result<Vec<Answer>, Unavailable>),
    Entered(Result<Enqueued, Unavailable>),
    Came(Result<Option<v1::PublishStreamRequest>, Status>),
    Closing,
}

impl Publishing {
    pub(crate) fn acknowledgements(
        service: &Events,
        headers: HeaderMap,
        batches: Streaming<v1::PublishStreamRequest>,
    ) -> Acknowledgements {
        let publishing = Self {
            closing: service.api.closing(),
            api: service.api.clone(),
            headers,
            batches: Some(batches),
            last_sequence: None,
            entering: None,
            under_way: VecDeque::new(),
            under_way_max: service.batches_in_flight_max,
            end: None,
        };
        Box::pin(unfold(Some(publishing), |publishing| async {
            let mut publishing = publishing?;
            match publishing.next().await {
                Some(Ok(response)) => Some((Ok(response), Some(publishing))),
                Some(Err(status)) => Some((Err(status), None)),
                None => None,
            }
        }))
    }

    /// The next acknowledgement, or the end.
    async fn next(&mut self) -> Option<Result<v1::PublishStreamResponse, Status>> {
        loop {
            if let Some((_, Under::Refused(_))) = self.under_way.front()
                && let Some((sequence, Under::Refused(problem))) = self.under_way.pop_front()
            {
                let problem = Some(part(&problem));
                return Some(Ok(v1::PublishStreamResponse { sequence, problem, results: Vec::new() }));
            }
            if self.batches.is_none() && self.under_way.is_empty() && self.entering.is_none() {
                return self.end.take().map(Err);
            }
            match self.wait().await {
                Woken::Answered(Ok(answers)) => {
                    let (sequence, _) = self.under_way.pop_front()?;
                    let results = answers.into_iter().map(result).collect();
                    return Some(Ok(v1::PublishStreamResponse { sequence, results, problem: None }));
                }
                // What comes after it would be acknowledged out of order, if at all.
                Woken::Answered(Err(why)) | Woken::Entered(Err(why)) => return Some(Err(status(&why.into()))),
                Woken::Entered(Ok(enqueued)) => {
                    let (sequence, _) = self.entering.take()?;
                    self.under_way.push_back((sequence, Under::Way(enqueued.answers().boxed())));
                }
                Woken::Came(Ok(Some(batch))) => {
                    if let Err(problem) = self.take(batch).await {
                        self.stop(status(&problem));
                    }
                }
                Woken::Came(Ok(None)) => self.batches = None,
                Woken::Came(Err(status)) => self.stop(status),
                Woken::Closing => self.stop(status(&Unavailable::ShuttingDown.into())),
            }
        }
    }

    /// Reads no more; what was taken is acknowledged first.
    fn stop(&mut self, end: Status) {
        self.batches = None;
        self.end = Some(end);
    }

    async fn wait(&mut self) -> Woken {
        let room = self.under_way.len() < self.under_way_max && self.entering.is_none();
        let front = self.under_way.front_mut();
        let reading = self.batches.is_some();
        tokio::select! {
            biased;
            answers = answered(front) => Woken::Answered(answers),
            entered = entered(self.entering.as_mut()) => Woken::Entered(entered),
            // The sender lives as long as the api.
            _ = self.closing.wait_for(|closing| *closing), if reading => Woken::Closing,
            came = came(self.batches.as_mut()), if room => Woken::Came(came),
        }
    }

    /// Takes a batch in. What is wrong with it alone is told in its place; an error ends the stream.
    async fn take(&mut self, batch: v1::PublishStreamRequest) -> Result<(), Problem> {
        // Whoever lost the right meanwhile publishes no more.
        let key = self.api.authorize(&self.headers, Scope::Write)?;
        let sequence = batch.sequence;
        if self.last_sequence.is_some_and(|last| sequence <= last) {
            let last = self.last_sequence.unwrap_or_default();
            let detail = format!("`sequence` must be higher than that of the batch before, {last}, not {sequence}");
            return Err(Problem::parameter("sequence", detail));
        }
        self.last_sequence = Some(sequence);
        match inputs(&self.api, &key, batch.events, common(&self.headers, None)).await {
            Ok(inputs) if inputs.is_empty() => {
                self.under_way.push_back((sequence, Under::Way(std::future::ready(Ok(Vec::new())).boxed())));
            }
            Ok(inputs) => {
                let hub = self.api.hub().clone();
                self.entering = Some((sequence, async move { hub.enqueue(inputs).await }.boxed()));
            }
            Err(problem) if problem.code() == Code::SystemMissing => return Err(problem),
            Err(problem) => self.under_way.push_back((sequence, Under::Refused(problem))),
        }
        Ok(())
    }
}

async fn answered(front: Option<&mut (u64, Under)>) -> Result<Vec<Answer>, Unavailable> {
    match front {
        Some((_, Under::Way(answers))) => answers.await,
        _ => std::future::pending().await,
    }
}

async fn entered(
    entering: Option<&mut (u64, BoxFuture<'static, Result<Enqueued, Unavailable>>)>,
) -> Result<Enqueued, Unavailable> {
    match entering {
        Some((_, entered)) => entered.await,
        None => std::future::pending().await,
    }
}

async fn came(
    batches: Option<&mut Streaming<v1::PublishStreamRequest>>,
) -> Result<Option<v1::PublishStreamRequest>, Status> {
    match batches {
        Some(batches) => batches.message().await,
        None => std::future::pending().await,
    }
}
