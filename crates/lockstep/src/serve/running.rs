//! A hub with everything around it, started and stopped in the right order.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lockstep_api::{Api, ApiOptions, ApiParts, Keys, WebhookSource};
use lockstep_connect::schema::Schemas;
use lockstep_grpc::GrpcOptions;
use lockstep_hub::{Hub, HubHandle, HubOptions, OpenError, OversightOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::ResolvedDestination;
use crate::exit::{Failure, chain};

/// What a running hub is made of.
pub struct Parts {
    /// The hub.
    pub hub: HubOptions,
    /// The schemas of all kinds.
    pub schemas: Arc<Schemas>,
    /// The ways in.
    pub sources: Vec<WebhookSource>,
    /// The ways out.
    pub destinations: Vec<ResolvedDestination>,
    /// What the hub watches of itself.
    pub oversight: OversightOptions,
    /// The limits of the HTTP interface.
    pub api: ApiOptions,
    /// The hub as the source of its events.
    pub hub_source: String,
    /// Whether `/metrics` is given without a key.
    pub open_metrics: bool,
    /// The address and port to listen on.
    pub listen: String,
    /// How to listen for gRPC, where that is wanted.
    pub grpc: Option<GrpcParts>,
}

/// How to listen for gRPC.
pub struct GrpcParts {
    /// The address and port. Without it the loopback address with the port after that of HTTP.
    pub listen: Option<String>,
    /// The limits.
    pub options: GrpcOptions,
}

/// A running hub.
pub struct Running {
    address: SocketAddr,
    keys: Keys,
    hub: Hub,
    grpc_address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    served: JoinHandle<std::io::Result<()>>,
}

/// What waits to be served.
struct Doors {
    keys: Keys,
    http: TcpListener,
    address: SocketAddr,
    grpc: Option<(TcpListener, SocketAddr, GrpcOptions)>,
}

impl Running {
    /// Opens the data folder, starts the deliveries and listens. Whatever is in the way is one sentence.
    pub async fn start(parts: Parts) -> Result<Self, Failure> {
        let data_dir = parts.hub.data_dir.clone();
        let options = parts.hub;
        // Recovery reads from the disk for a while: a signal must be heard meanwhile.
        let opened = tokio::task::spawn_blocking(move || Hub::open(options)).await;
        let hub = match opened {
            Ok(Ok(hub)) => hub,
            Ok(Err(error)) => return Err(not_opened(&data_dir, &error)),
            Err(error) => {
                return Err(Failure::usage("data-folder", format!("opening the data folder failed: {error}")));
            }
        };
        match Self::around(&data_dir, &parts.listen, parts.grpc).await {
            Ok(Doors { keys, http, address, grpc }) => {
                for way_out in parts.destinations {
                    hub.add_destination(&way_out.name, way_out.destination, way_out.options);
                }
                hub.oversee(parts.oversight);
                let api = Api::new(ApiParts {
                    hub: hub.handle(),
                    sources: parts.sources,
                    schemas: parts.schemas,
                    keys: keys.clone(),
                    hub_source: parts.hub_source,
                    open_metrics: parts.open_metrics,
                    options: parts.api,
                });
                let stop = watch::Sender::new(false);
                let grpc_address = grpc.as_ref().map(|(_, address, _)| *address);
                let served = tokio::spawn(serve(api, http, grpc, stop.subscribe()));
                Ok(Self { address, grpc_address, keys, hub, stop, served })
            }
            Err(failure) => {
                hub.shutdown().await;
                Err(failure)
            }
        }
    }

    async fn around(data_dir: &std::path::Path, http_listen: &str, grpc: Option<GrpcParts>) -> Result<Doors, Failure> {
        let keys = Keys::open(super::keys_file(data_dir)).map_err(|error| Failure::usage("keys", chain(&error)))?;
        let (http, address) = bind(http_listen, "choose another with `listen` or --listen").await?;
        let grpc = match grpc {
            Some(GrpcParts { listen, options }) => {
                let listen = listen.unwrap_or_else(|| beside(address, http_listen));
                let other =
                    "choose another with `listen` of [grpc] or --grpc-listen, or turn gRPC off with `enabled = false`";
                let (listener, address) = bind(&listen, other).await?;
                Some((listener, address, options))
            }
            None => None,
        };
        Ok(Doors { keys, http, address, grpc })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for gRPC.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// The hub.
    pub fn handle(&self) -> HubHandle {
        self.hub.handle()
    }

    /// The API keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Waits until serving has ended by itself, which it does not unless something is broken, and says why.
    pub async fn ended(&mut self) -> String {
        match (&mut self.served).await {
            Ok(Ok(())) => "the server stopped".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Ends in order: no new requests, running ones are answered, deliveries under way are reported, everything
    /// is flushed.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if !self.served.is_finished()
            && let Err(error) = self.served.await
        {
            tracing::error!(%error, "the server ended in a panic");
        }
        self.hub.shutdown().await;
    }
}

/// Serves both until the end is told; where one of them ends by itself, so does the other.
async fn serve(
    api: Api,
    http: TcpListener,
    grpc: Option<(TcpListener, SocketAddr, GrpcOptions)>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let told = |mut stop: watch::Receiver<bool>| async move {
        // A dropped sender stops it too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let http = lockstep_api::serve(http, api.clone(), told(stop.clone()));
    match grpc {
        Some((listener, _, options)) => {
            let grpc = lockstep_grpc::serve(listener, api, options, told(stop));
            tokio::try_join!(http, grpc).map(|_| ())
        }
        None => http.await,
    }
}

async fn bind(listen: &str, other: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => format!("another process listens there; {other}"),
            ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
            _ => error.to_string(),
        };
        Failure::usage("listen", format!("can't listen on {listen}: {why}"))
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The loopback address with the port after that of HTTP, which listens on `address` because of `listen`. Where HTTP was
/// given any free port, so is this: nobody can know that the next one is free as well.
fn beside(address: SocketAddr, listen: &str) -> String {
    let ip = if address.ip().is_loopback() { address.ip() } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let any = listen.ends_with(":0");
    let port = if any { 0 } else { address.port().checked_add(1).unwrap_or(0) };
    SocketAddr::new(ip, port).to_string()
}

fn not_opened(data_dir: &std::path::Path, error: &OpenError) -> Failure {
    let message = match error {
        OpenError::State(cause) => format!(
            "the state file {} can't be used: {cause}; move it away to have it rebuilt",
            data_dir.join("state.sqlite").display()
        ),
        other => chain(other),
    };
    Failure::usage("data-folder", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_beside_http_on_the_loopback_address() {
        let of = |address: &str, listen: &str| beside(address.parse().unwrap(), listen);
        assert_eq!(of("127.0.0.1:7070", "127.0.0.1:7070"), "127.0.0.1:7071");
        assert_eq!(of("0.0.0.0:8080", "0.0.0.0:8080"), "127.0.0.1:8081");
        assert_eq!(of("[::1]:7070", "[::1]:7070"), "[::1]:7071");
        assert_eq!(of("127.0.0.1:40123", "127.0.0.1:0"), "127.0.0.1:0");
        assert_eq!(of("127.0.0.1:65535", "127.0.0.1:65535"), "127.0.0.1:0");
    }
}
