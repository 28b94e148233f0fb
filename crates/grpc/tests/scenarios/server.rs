//! A real hub behind both of its servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lockstep_api::{Api, ApiOptions, ApiParts, Keys, Scope, WebhookSource};
use lockstep_connect::schema::Schemas;
use lockstep_core::Rules;
use lockstep_core::rules::StockOrders;
use lockstep_grpc::GrpcOptions;
use lockstep_hub::{Hub, HubOptions};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a test waits for a state before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is set up.
#[derive(Default)]
pub(crate) struct Setup {
    /// How orders reserve; not at all where it says nothing.
    pub(crate) orders: StockOrders,
    pub(crate) sources: Vec<WebhookSource>,
    /// That of an earlier server.
    pub(crate) folder: Option<TempDir>,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// A key that may do everything and speaks for the system `erp`.
    pub(crate) key: String,
    hub: Hub,
    stop: watch::Sender<()>,
    serving: Vec<JoinHandle<std::io::Result<()>>>,
    folder: TempDir,
}

impl Server {
    pub(crate) async fn with(setup: Setup) -> Self {
        let folder = setup.folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let mut options = HubOptions::new(folder.path().join("data"), Rules::new());
        options.rules.stock_orders = setup.orders;
        let hub = Hub::open(options).unwrap();
        let keys = Keys::open(folder.path().join("data/keys.json")).unwrap();
        // The folder of an earlier server has it already.
        keys.revoke("admin").unwrap();
        let key = keys.create("admin", &[Scope::Admin], Some("erp"), None).unwrap();
        let api = Api::new(ApiParts {
            hub: hub.handle(),
            sources: setup.sources,
            schemas: Arc::new(Schemas::builtin()),
            keys,
            hub_source: "/hubs/test".to_owned(),
            open_metrics: false,
            options: ApiOptions::default(),
        });
        let (stop, stopped) = watch::channel(());
        let told = |mut stopped: watch::Receiver<()>| async move {
            // The sender is dropped: that is the word.
            let _ = stopped.changed().await;
        };
        let (http, grpc) = (listen().await, listen().await);
        let addresses = (http.local_addr().unwrap(), grpc.local_addr().unwrap());
        let serving = vec![
            tokio::spawn(lockstep_api::serve(http, api.clone(), told(stopped.clone()))),
            tokio::spawn(lockstep_grpc::serve(grpc, api, GrpcOptions::default(), told(stopped))),
        ];
        Self { http: addresses.0, grpc: addresses.1, key, hub, stop, serving, folder }
    }

    /// Stops serving and the hub in order; the folder can be used again.
    pub(crate) async fn stop(self) -> TempDir {
        drop(self.stop);
        for serving in self.serving {
            serving.await.unwrap().unwrap();
        }
        assert!(self.hub.handle().stats().tallies().violations().is_empty());
        self.hub.shutdown().await;
        self.folder
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}
