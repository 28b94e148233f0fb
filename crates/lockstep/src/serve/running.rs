//! A hub with everything around it, started and stopped in the right order.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use lockstep_api::{Api, ApiOptions, ApiParts, Keys, WebhookSource};
use lockstep_connect::schema::Schemas;
use lockstep_hub::{Hub, HubHandle, HubOptions, OpenError};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
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
    /// The limits of the HTTP interface.
    pub api: ApiOptions,
    /// The hub as the source of its events.
    pub hub_source: String,
    /// Whether `/metrics` is given without a key.
    pub open_metrics: bool,
    /// The address and port to listen on.
    pub listen: String,
}

/// A running hub.
pub struct Running {
    address: SocketAddr,
    keys: Keys,
    hub: Hub,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
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
        match Self::around(&data_dir, parts.listen).await {
            Ok((keys, listener, address)) => {
                for way_out in parts.destinations {
                    hub.add_destination(&way_out.name, way_out.destination, way_out.options);
                }
                let api = Api::new(ApiParts {
                    hub: hub.handle(),
                    sources: parts.sources,
                    schemas: parts.schemas,
                    keys: keys.clone(),
                    hub_source: parts.hub_source,
                    open_metrics: parts.open_metrics,
                    options: parts.api,
                });
                let (stop, stopped) = oneshot::channel::<()>();
                let served = tokio::spawn(lockstep_api::serve(listener, api, async move {
                    // A dropped sender stops it too.
                    let _ = stopped.await;
                }));
                Ok(Self { address, keys, hub, stop, served })
            }
            Err(failure) => {
                hub.shutdown().await;
                Err(failure)
            }
        }
    }

    async fn around(data_dir: &std::path::Path, listen: String) -> Result<(Keys, TcpListener, SocketAddr), Failure> {
        let keys = Keys::open(super::keys_file(data_dir)).map_err(|error| Failure::usage("keys", chain(&error)))?;
        let listener = TcpListener::bind(&listen).await.map_err(|error| {
            let why = match error.kind() {
                ErrorKind::AddrInUse => {
                    "another process listens there; choose another with `listen` or --listen".to_owned()
                }
                ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
                _ => error.to_string(),
            };
            Failure::usage("listen", format!("can't listen on {listen}: {why}"))
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| Failure::usage("listen", format!("can't listen on {listen}: {error}")))?;
        Ok((keys, listener, address))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        // A server that has ended by itself hears nothing.
        let _ = self.stop.send(());
        if !self.served.is_finished()
            && let Err(error) = self.served.await
        {
            tracing::error!(%error, "the server ended in a panic");
        }
        self.hub.shutdown().await;
    }
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
