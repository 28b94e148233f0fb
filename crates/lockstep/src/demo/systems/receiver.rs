//! The receiving half of a system: a real HTTP server that verifies what it is told before it believes it.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lockstep_connect::signature::Verifier;
use lockstep_hub::now_us;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::copy::{Copy, Delivered, Taken};
use crate::demo::faults::{Faults, Reception};
use crate::demo::measure::Counters;

/// The largest delivery that a system takes.
const BODY_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// What a receiver is made of.
pub(crate) struct Receiver {
    pub(crate) verifier: Verifier,
    pub(crate) copy: Arc<Copy>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Option<Arc<Faults>>,
    /// Where the keys of orders go that are to be shipped, in the system that ships.
    pub(crate) to_ship: Option<mpsc::Sender<String>>,
}

/// The connection is cut instead of answering.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
struct Cut;

#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    version: u64,
    #[serde(borrow)]
    document: &'a RawValue,
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow, default)]
    lifecycle: Cow<'a, str>,
}

impl Receiver {
    /// Listens on a free port and serves until the returned task is aborted.
    pub(crate) async fn listen(self) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(serve(listener, Arc::new(self)));
        Ok((address, serving))
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
        if request.method() != Method::POST || request.uri().path() != "/lockstep" {
            return Ok(status(StatusCode::NOT_FOUND));
        }
        let (parts, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else { return Err(Cut) };
        let body = body.to_bytes();
        self.counters.received.one();
        if self.verifier.verify(&parts.headers, &body, now_us() / 1_000_000).is_err() {
            self.counters.rejected.one();
            return Ok(status(StatusCode::UNAUTHORIZED));
        }
        self.counters.verified.one();

        let reception = self.faults.as_ref().map_or(Reception::Well, |faults| faults.reception());
        if reception != Reception::Well {
            self.counters.faults_received.one();
        }
        match reception {
            Reception::Fails => return Ok(status(StatusCode::INTERNAL_SERVER_ERROR)),
            Reception::CutsBefore => return Err(Cut),
            Reception::Slow(time) => tokio::time::sleep(time).await,
            Reception::Well | Reception::CutsAfter => {}
        }
        let answer = self.take(&parts.headers, &body);
        if reception == Reception::CutsAfter { Err(Cut) } else { Ok(status(answer)) }
    }

    fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let id_of_header = headers.get("webhook-id").and_then(|id| id.to_str().ok());
        let told: Option<Told<'_>> = serde_json::from_slice(body).ok();
        let told = told.filter(|told| id_of_header == Some(&*told.id));
        let Some((told, id)) = told.and_then(|told| told.id.parse().ok().map(|id| (told, id))) else {
            self.counters.malformed.one();
            return StatusCode::BAD_REQUEST;
        };
        let Told { data: Data { kind, key, version, document }, .. } = told;
        let document = document.get();
        let delivered = Delivered { id, kind: &kind, key: &key, version, document: document.as_bytes() };
        match self.copy.take(delivered) {
            Ok(Taken::Applied) => {}
            Ok(Taken::Repeated) => {
                self.counters.repeated.one();
                return StatusCode::OK;
            }
            Ok(Taken::Stale) => self.counters.stale.one(),
            Err(error) => {
                tracing::error!(%error, "a system can't write its copy");
                return StatusCode::INTERNAL_SERVER_ERROR;
            }
        }
        if let Some(to_ship) = &self.to_ship
            && kind == "order"
            && serde_json::from_str(document).is_ok_and(|order: Order<'_>| order.lifecycle == "confirmed")
        {
            // A warehouse with more work than it can remember leaves the rest for another day.
            if to_ship.try_send(key.into_owned()).is_ok() {
                self.counters.to_ship.one();
            }
        }
        StatusCode::OK
    }
}

async fn serve(listener: TcpListener, receiver: Arc<Receiver>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a system could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let receiver = receiver.clone();
        connections.spawn(async move {
            // A connection that is gone says so when it is read.
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let receiver = receiver.clone();
                async move { receiver.answer(request).await }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new());
            // Ends with an error when it is cut on purpose, or by the other side.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
