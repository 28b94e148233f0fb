//! Servers on loopback for destinations to talk to.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lockstep_connect::destination::kit::{Behaviour, Peer, Received};
use tokio::net::{TcpListener, TcpStream};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// How the server answers, by what it got.
pub(crate) type Answer = Box<dyn Fn(&Got) -> Reply + Send + Sync>;

pub(crate) enum Reply {
    /// An answer.
    Answer(Response<Full<Bytes>>),
    /// The connection is cut.
    Cut,
    /// Nothing, for ever.
    Silence,
}

pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Reply::Answer(response.body(Full::new(body.into())).unwrap())
}

/// A real HTTP server on loopback.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Mutex<Arc<Answer>>,
    got: Mutex<Vec<Got>>,
    connections: AtomicUsize,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Got) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Answer = Box::new(answer);
        let state = Arc::new(State {
            answer: Mutex::new(Arc::new(answer)),
            got: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(connection(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks?to=lockstep", self.address)
    }

    pub(crate) fn answer_with(&self, answer: impl Fn(&Got) -> Reply + Send + Sync + 'static) {
        let answer: Answer = Box::new(answer);
        *locked(&self.state.answer) = Arc::new(answer);
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        locked(&self.state.got).clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let got = Got {
                method: head.method,
                path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
                headers: head.headers,
                body,
            };
            let answer = Arc::clone(&locked(&state.answer));
            locked(&state.got).push(got.clone());
            match answer(&got) {
                Reply::Answer(response) => Ok(response),
                Reply::Cut => Err(io::Error::other("cut on purpose")),
                Reply::Silence => match std::future::pending::<Infallible>().await {},
            }
        }
    });
    // A cut connection ends with an error, as it should.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

#[async_trait]
impl Peer for Server {
    async fn behave(&self, behaviour: Behaviour) {
        self.answer_with(move |_| match behaviour {
            Behaviour::Accept => reply(204, &[], ""),
            Behaviour::Fail => reply(500, &[], "out of order"),
            Behaviour::Throttle { wait_ms } => reply(429, &[("retry-after", &(wait_ms / 1_000).to_string())], ""),
            Behaviour::Reject => reply(422, &[], "no such order"),
            Behaviour::Cut => Reply::Cut,
            Behaviour::Silent => Reply::Silence,
        });
    }

    async fn received(&self) -> Vec<Received> {
        let received = |got: Got| {
            let id = got.headers.get("idempotency-key").and_then(|id| id.to_str().ok()).unwrap_or_default();
            Received { id: id.to_owned(), body: got.body.clone() }
        };
        self.got().into_iter().map(received).collect()
    }
}
