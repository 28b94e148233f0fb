//! The sending half of a system: signs or authenticates, sends, and sends again until it is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use lockstep_connect::signature::Verifier;
use lockstep_connectors::HttpClient;
use lockstep_hub::now_us;
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::demo::faults::{Faults, Sending};
use crate::demo::measure::Counters;

/// How long one request may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait before a request is sent again.
const AGAIN_MS_MAX: u64 = 1_000;
/// How many requests may wait for a free connection of their system.
const WAITING_MAX: usize = 256;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// What makes every attempt the same delivery; CloudEvents carry theirs inside.
    pub(crate) id: String,
    /// The webhook's topic, or the media type of CloudEvents.
    pub(crate) topic: &'static str,
    /// The body.
    pub(crate) body: Bytes,
    /// How many changes it is about.
    pub(crate) changes: u32,
}

/// How a system proves who it is.
pub(crate) enum Proof {
    /// Signed webhooks as Shopify sends them.
    Shopify(Verifier),
    /// CloudEvents with an API key.
    Key(HeaderValue),
}

/// What a sender is made of.
pub(crate) struct Sender {
    pub(crate) client: HttpClient,
    pub(crate) url: String,
    pub(crate) proof: Proof,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Option<Arc<Faults>>,
    /// Set when nothing is to be tried again any more.
    pub(crate) give_up: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<OneResult<'a>>,
}

#[derive(Deserialize)]
struct OneResult<'a> {
    outcome: &'a str,
}

/// A system's connections; what is given to them is sent in about the order in which it was given.
pub(crate) struct Lane {
    to_send: mpsc::Sender<Outgoing>,
    workers: JoinSet<()>,
}

impl Lane {
    /// So many requests at once.
    pub(crate) fn start(sender: Sender, concurrency: usize) -> Self {
        let sender = Arc::new(sender);
        let (to_send, waiting) = mpsc::channel(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            workers.spawn(work(sender.clone(), waiting.clone()));
        }
        Self { to_send, workers }
    }

    /// Where to give what is to be sent; it waits where too much does already.
    pub(crate) fn input(&self) -> mpsc::Sender<Outgoing> {
        self.to_send.clone()
    }

    /// Waits until everything is acknowledged. All other inputs must be dropped for it to end.
    pub(crate) async fn drain(self) {
        drop(self.to_send);
        let mut workers = self.workers;
        while workers.join_next().await.is_some() {}
    }
}

async fn work(sender: Arc<Sender>, waiting: Arc<Mutex<mpsc::Receiver<Outgoing>>>) {
    loop {
        let next = waiting.lock().await.recv().await;
        let Some(outgoing) = next else { return };
        sender.deliver(&outgoing).await;
        sender.counters.finished.add(outgoing.changes.into());
    }
}

impl Sender {
    /// Sends until it is acknowledged or refused.
    async fn deliver(&self, outgoing: &Outgoing) {
        self.counters.sent.add(outgoing.changes.into());
        let headers = self.headers(outgoing);
        let mut attempt = 0;
        loop {
            let sending = self.faults.as_ref().map_or(Sending::Well, |faults| faults.sending());
            if sending != Sending::Well {
                self.counters.faults_sent.one();
            }
            if let Sending::Late(time) = sending {
                tokio::time::sleep(time).await;
            }
            let request = self.client.request(Method::POST, &self.url, headers.clone(), outgoing.body.clone(), TIMEOUT);
            let answer = match sending {
                // The request is dropped with its connection, wherever it is by then.
                Sending::Cuts(time) => tokio::time::timeout(time, request).await.ok(),
                _ => Some(request.await),
            };
            let wait_ms = match answer {
                Some(Ok(answer)) if answer.status.is_success() => {
                    self.count(outgoing, &answer.body);
                    if sending != Sending::Twice || attempt > 0 {
                        return;
                    }
                    0
                }
                Some(Ok(answer)) if is_passing(answer.status) => {
                    if answer.status == StatusCode::TOO_MANY_REQUESTS {
                        self.counters.throttled.one();
                    }
                    let asked = answer.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
                    // The demo asks again sooner than it is told: how long the hub is busy is what it measures.
                    asked.map_or_else(|| backoff_ms(attempt), |s| (s * 1_000).min(50 + fastrand::u64(..50)))
                }
                // Too late to cancel: the order has left, and the marketplace will take a return instead.
                Some(Ok(answer)) if is_too_late(answer.status, &answer.body) => {
                    self.counters.accepted.add(outgoing.changes.into());
                    return;
                }
                Some(Ok(answer)) => {
                    self.counters.refused.one();
                    self.refused(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)));
                    return;
                }
                Some(Err(_)) | None => backoff_ms(attempt),
            };
            if self.give_up.load(Ordering::Relaxed) {
                return;
            }
            attempt += 1;
            self.counters.retried.one();
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    fn headers(&self, outgoing: &Outgoing) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        match &self.proof {
            Proof::Key(key) => {
                headers.insert(AUTHORIZATION, key.clone());
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(outgoing.topic));
            }
            Proof::Shopify(signer) => {
                let at_us = now_us();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                for (name, text) in [
                    ("x-shopify-topic", outgoing.topic),
                    ("x-shopify-shop-domain", "demo-shop.example"),
                    ("x-shopify-api-version", "2026-04"),
                    ("x-shopify-webhook-id", &outgoing.id),
                    ("x-shopify-event-id", &outgoing.id),
                    ("x-shopify-triggered-at", &lockstep_connect::time::format_rfc3339(at_us)),
                ] {
                    // All of them are made of visible ASCII here.
                    if let Ok(value) = HeaderValue::from_str(text) {
                        headers.insert(HeaderName::from_static(name), value);
                    }
                }
                headers.extend(signer.sign_headers(&outgoing.id, at_us / 1_000_000, &outgoing.body));
            }
        }
        headers
    }

    fn refused(&self, answer: String) {
        tracing::error!(url = self.url, answer, "the hub refused a request of the demo");
        // Only the first is told.
        let _ = self.counters.refusal.set(answer);
    }

    fn count(&self, outgoing: &Outgoing, body: &[u8]) {
        let one = |outcome: &str, changes: u64| match outcome {
            "duplicate" => self.counters.duplicates.add(changes),
            "quarantined" => self.counters.quarantined.add(changes),
            "refused" => self.counters.refused.add(changes),
            _ => self.counters.accepted.add(changes),
        };
        match &self.proof {
            Proof::Shopify(_) => match serde_json::from_slice::<OneResult<'_>>(body) {
                Ok(result) => one(result.outcome, outgoing.changes.into()),
                Err(error) => self.unreadable(&error),
            },
            Proof::Key(_) => match serde_json::from_slice::<Results<'_>>(body) {
                Ok(results) => results.results.iter().for_each(|result| one(result.outcome, 1)),
                Err(error) => self.unreadable(&error),
            },
        }
    }

    fn unreadable(&self, error: &serde_json::Error) {
        self.counters.refused.one();
        self.refused(format!("an answer can't be read: {error}"));
    }
}

/// Whether an answer says that the order has come too far for this.
fn is_too_late(status: StatusCode, body: &[u8]) -> bool {
    let code = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|problem| Some(problem.get("code")? == "order-state"));
    status == StatusCode::CONFLICT && code == Some(true)
}

/// Whether an answer says that it may work later.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
}

/// How long to wait before the next attempt: longer each time, and never the same for all.
pub(crate) fn backoff_ms(attempt: u32) -> u64 {
    let bound_ms = (10_u64 << attempt.min(10)).min(AGAIN_MS_MAX);
    1 + fastrand::u64(..bound_ms)
}
