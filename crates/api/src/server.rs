//! Serving: the accept loop, the limits of a connection, the end of it all.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::Api;
use crate::options::ApiOptions;
use crate::slow::Impatient;

/// How long to wait after the system could not give a connection, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The least that the HTTP library takes.
const BUFFER_BYTES_MIN: usize = 8192;
/// What a connection reads ahead at most.
const BUFFER_BYTES: usize = 128 * 1024;
/// The number of headers that the HTTP library reads without allocating.
const HEADERS_USUAL: usize = 100;

/// Serves until `shutdown` is done. Then no connection is accepted any more, running requests get
/// [`ApiOptions::shutdown_timeout_ms`] to end, streams end at once.
///
/// The hub itself goes on; it is shut down after this has returned.
pub async fn serve(listener: TcpListener, api: Api, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let service = TowerToHyperService::new(api.router());
    accept_until(listener, &api, shutdown, |stream| {
        connection(stream, service.clone(), api.options.clone(), api.closing.subscribe())
    })
    .await
}

/// Accepts connections until `shutdown` is done, within the limits of the interface, and gives each to `connection`.
/// Then those that run get [`ApiOptions::shutdown_timeout_ms`] to end; [`Api::closing`] tells them to.
pub async fn accept_until<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    api: &Api,
    shutdown: impl Future<Output = ()>,
    connection: impl Fn(Impatient) -> F,
) -> io::Result<()> {
    let options = &api.options;
    let room = Arc::new(Semaphore::new(options.connections_max));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.as_mut() => break,
            accepted = accept(&listener, &room) => accepted,
            // Ended connections are put away as they end.
            Some(_) = connections.join_next() => continue,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are small and waited for. A connection that is already gone says so when it is read.
        let _ = stream.set_nodelay(true);
        let connection = connection(Impatient::new(stream, Duration::from_millis(options.write_timeout_ms)));
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
    }
    drop(listener);
    api.closing.send_replace(true);
    let within = Duration::from_millis(options.shutdown_timeout_ms);
    let ended = tokio::time::timeout(within, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(connections = connections.len(), "requests that did not end in time were cut off");
        connections.shutdown().await;
    }
    Ok(())
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(
    stream: Impatient,
    service: TowerToHyperService<axum::Router>,
    options: ApiOptions,
    mut closing: watch::Receiver<bool>,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(options.header_read_timeout_ms))
        .max_header_size(options.header_bytes_max)
        .max_buf_size(BUFFER_BYTES.max(options.header_bytes_max).max(BUFFER_BYTES_MIN));
    if options.headers_max != HEADERS_USUAL {
        http.max_headers(options.headers_max);
    }
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = crate::problem::chain(&error), "a connection ended early");
    }
}

async fn told(closing: &mut watch::Receiver<bool>) {
    // An error means that the whole interface is gone, which ends the connection as well.
    let _ = closing.wait_for(|closing| *closing).await;
}
