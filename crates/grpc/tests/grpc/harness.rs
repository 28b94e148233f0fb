//! A real hub behind a real server, and clients for it.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use lockstep_api::{Api, ApiOptions, ApiParts, Keys, Scope};
use lockstep_connect::schema::Schemas;
use lockstep_core::Rules;
use lockstep_grpc::v1::event_service_client::EventServiceClient;
use lockstep_grpc::v1::stock_service_client::StockServiceClient;
use lockstep_grpc::v1::{Event, PublishRequest, SubscribeRequest, SubscribeResponse};
use lockstep_grpc::{GrpcOptions, serve};
use lockstep_hub::{Hub, HubOptions};
use lockstep_journal::{Batch, Bounds, Epoch, Error as JournalError, Journal, MemoryJournal, Position, Reader};
use prost_types::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::codec::Streaming;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// How long a test waits for a state before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a test changes of the hub's options.
pub(crate) type Change = Box<dyn FnOnce(&mut HubOptions)>;

/// How a server is set up.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) api: ApiOptions,
    pub(crate) grpc: GrpcOptions,
    pub(crate) hub: Option<Change>,
    pub(crate) journal: Option<Box<dyn Journal>>,
}

/// A running server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) hub: Hub,
    pub(crate) keys: Keys,
    /// A key that may do everything and speaks for the system `erp`.
    pub(crate) admin: String,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = HubOptions::new(folder.path().join("data"), Rules::new());
        if let Some(change) = setup.hub {
            change(&mut options);
        }
        let hub = match setup.journal {
            Some(journal) => Hub::open_with(options, journal).unwrap(),
            None => Hub::open(options).unwrap(),
        };
        let keys = Keys::open(folder.path().join("data/keys.json")).unwrap();
        let admin = keys.create("admin", &[Scope::Admin], Some("erp"), None).unwrap();
        let api = Api::new(ApiParts {
            hub: hub.handle(),
            sources: Vec::new(),
            schemas: Arc::new(Schemas::builtin()),
            keys: keys.clone(),
            hub_source: "/hubs/test".to_owned(),
            open_metrics: false,
            options: setup.api,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            // A dropped sender stops the server as well.
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(listener, api, setup.grpc, shutdown));
        Self { addr, hub, keys, admin, stop: Some(stop), serving, _folder: folder }
    }

    /// Tells the server to stop.
    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Stops serving and the hub, in order.
    pub(crate) async fn stop(mut self) {
        self.begin_stop();
        self.serving.await.unwrap().unwrap();
        self.hub.shutdown().await;
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.addr)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel().await)
    }

    pub(crate) async fn stock(&self) -> StockServiceClient<Channel> {
        StockServiceClient::new(self.channel().await)
    }

    /// A request with the admin's key.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        with_key(message, &self.admin)
    }

    /// Publishes with the admin's key; all must be taken.
    pub(crate) async fn publish(&self, events: Vec<Event>) {
        let request = PublishRequest { events, ..PublishRequest::default() };
        self.events().await.publish(self.request(request)).await.unwrap();
    }

    /// A subscription that stands.
    pub(crate) async fn subscribe(&self, request: SubscribeRequest) -> Streaming<SubscribeResponse> {
        let mut stream = self.events().await.subscribe(self.request(request)).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().events.len(), 0, "the first says only that it stands");
        stream
    }
}

/// A request with a key.
pub(crate) fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {key}")).unwrap());
    request
}

/// A price event for a SKU. The higher the price, the later it is: a later event wins.
pub(crate) fn price(id: &str, sku: &str, minor: i64) -> Event {
    Event {
        id: id.to_owned(),
        source: "/erp".to_owned(),
        r#type: "price.changed".to_owned(),
        subject: format!("price/{sku}:retail:EUR"),
        time: Some(Timestamp { seconds: 1_767_323_000 + minor, nanos: 0 }),
        data_json: format!(r#"{{"amount": {{"minor": {minor}, "currency": "EUR"}}}}"#),
        ..Event::default()
    }
}

/// A status that must have this code, and this one of Lockstep.
#[track_caller]
pub(crate) fn expect(status: &Status, code: Code, name: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(status.metadata().get("lockstep-code").map(|v| v.to_str().unwrap()), Some(name), "{status:?}");
    assert!(!status.details().is_empty(), "{status:?}");
}

/// The handle of a [`GatedJournal`].
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<Held>, Condvar)>);

#[derive(Default)]
struct Held {
    closed: bool,
    waiting: usize,
}

impl Gate {
    /// Appends wait from now on.
    pub(crate) fn close(&self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Appends go through.
    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).closed = false;
        self.0.1.notify_all();
    }

    /// Waits until an append waits.
    pub(crate) async fn until_waiting(&self) {
        let wait = async {
            while self.0.0.lock().unwrap_or_else(PoisonError::into_inner).waiting == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("nothing is appended");
    }

    fn pass(&self) {
        let mut held = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.waiting += 1;
        let mut held = self.0.1.wait_while(held, |held| held.closed).unwrap_or_else(PoisonError::into_inner);
        held.waiting -= 1;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A test that fails with the gate closed must not leave the journal's thread waiting.
        if std::thread::panicking() {
            self.open();
        }
    }
}

/// A journal whose disk is slow at will.
pub(crate) struct GatedJournal {
    journal: MemoryJournal,
    gate: Gate,
}

impl GatedJournal {
    pub(crate) fn with_gate() -> (Box<dyn Journal>, Gate) {
        let gate = Gate::default();
        (Box::new(Self { journal: MemoryJournal::new(), gate: gate.clone() }), gate)
    }
}

impl Journal for GatedJournal {
    fn append(&mut self, epoch: Epoch, batch: &Batch) -> Result<Position, JournalError> {
        self.gate.pass();
        self.journal.append(epoch, batch)
    }

    fn fence(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        self.journal.fence(epoch)
    }

    fn epoch(&self) -> Epoch {
        self.journal.epoch()
    }

    fn bounds(&self) -> Bounds {
        self.journal.bounds()
    }

    fn trim(&mut self, to: Position) -> Result<Bounds, JournalError> {
        self.journal.trim(to)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.journal.reader()
    }
}
