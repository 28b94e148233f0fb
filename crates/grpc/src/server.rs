//! Serving: HTTP/2 with prior knowledge, on a port of its own. What ends TLS stands before it, as for HTTP.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lockstep_api::{Api, Impatient, accept_until};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::calls::Calls;
use crate::health::Health;
use crate::stock::Stocks;
use crate::v1::event_service_server::EventServiceServer;
use crate::v1::stock_service_server::StockServiceServer;
use crate::{Events, reflection};

/// What a client may send of a stream before the server has read it.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same of all streams of a connection.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What is kept for a stream that its client does not read.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Limits beside those of [`lockstep_api::ApiOptions`], which hold here too: bytes and events of a request,
/// connections, headers, how far a reader may fall behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcOptions {
    /// The most calls at once on a connection; more wait at the client.
    pub streams_max: u32,
    /// A connection without traffic is asked for a sign of life this often.
    pub keep_alive_interval_ms: u64,
    /// A connection that does not give it within this time is closed.
    pub keep_alive_timeout_ms: u64,
    /// The most batches of a publishing stream that are under way at once.
    pub batches_in_flight_max: usize,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            streams_max: 100,
            keep_alive_interval_ms: 30_000,
            keep_alive_timeout_ms: 20_000,
            batches_in_flight_max: 64,
        }
    }
}

/// Serves until `shutdown` is done. Then no connection is accepted any more, unary calls are answered, publishing
/// streams acknowledge what they have taken, and endless answers end.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    options: GrpcOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let calls = Arc::new(calls(&api, &options)?);
    accept_until(listener, &api, shutdown, |stream| connection(stream, calls.clone(), api.clone(), options.clone()))
        .await
}

fn calls(api: &Api, options: &GrpcOptions) -> io::Result<Calls> {
    let events = Events { api: api.clone(), batches_in_flight_max: options.batches_in_flight_max };
    let health = Routes::new(HealthServer::new(Health { api: api.clone() }));
    Ok(Calls {
        api: api.clone(),
        events: EventServiceServer::new(events).max_decoding_message_size(api.options().events_bytes_max),
        stock: StockServiceServer::new(Stocks { api: api.clone() })
            .max_decoding_message_size(api.options().body_bytes_max),
        others: reflection::add(health).map_err(io::Error::other)?.prepare(),
    })
}

async fn connection(stream: Impatient, calls: Arc<Calls>, api: Api, options: GrpcOptions) {
    let service = service_fn(move |request| {
        let calls = calls.clone();
        async move { calls.answer(request).await }
    });
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(u32::try_from(api.options().header_bytes_max).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Duration::from_millis(options.keep_alive_interval_ms))
        .keep_alive_timeout(Duration::from_millis(options.keep_alive_timeout_ms));
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut closing = api.closing();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn told(closing: &mut watch::Receiver<bool>) {
    // An error means that the whole interface is gone, which ends the connection as well.
    let _ = closing.wait_for(|closing| *closing).await;
}
