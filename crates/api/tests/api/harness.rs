//! A real hub behind a real server, and a client for it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use lockstep_api::{Api, ApiOptions, ApiParts, Keys, Scope, WebhookSource, serve};
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_connect::schema::Schemas;
use lockstep_core::delivery::AttemptResult;
use lockstep_core::{Event, Rules};
use lockstep_hub::delivery::DeliveryOptions;
use lockstep_hub::{Hub, HubOptions};
use lockstep_journal::{Batch, Bounds, Epoch, Error as JournalError, Journal, MemoryJournal, Position, Reader};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for a state before it gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How a server is set up.
pub(crate) struct Setup {
    pub(crate) api: ApiOptions,
    pub(crate) hub: Box<dyn FnOnce(&mut HubOptions)>,
    pub(crate) journal: Option<Box<dyn Journal>>,
    pub(crate) sources: Vec<WebhookSource>,
    pub(crate) open_metrics: bool,
    pub(crate) folder: Option<TempDir>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            api: ApiOptions::default(),
            hub: Box::new(|_| {}),
            journal: None,
            sources: Vec::new(),
            open_metrics: false,
            folder: None,
        }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) hub: Hub,
    pub(crate) keys: Keys,
    /// A key that may do everything and speaks for the system `erp`.
    pub(crate) admin: String,
    folder: TempDir,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let folder = setup.folder.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let mut options = HubOptions::new(folder.path().join("data"), Rules::new());
        (setup.hub)(&mut options);
        let hub = match setup.journal {
            Some(journal) => Hub::open_with(options, journal).unwrap(),
            None => Hub::open(options).unwrap(),
        };
        let keys = Keys::open(folder.path().join("data/keys.json")).unwrap();
        // The folder of an earlier server has it already.
        keys.revoke("admin").unwrap();
        let admin = keys.create("admin", &[Scope::Admin], Some("erp"), None).unwrap();
        let api = Api::new(ApiParts {
            hub: hub.handle(),
            sources: setup.sources,
            schemas: Arc::new(Schemas::builtin()),
            keys: keys.clone(),
            hub_source: "/hubs/test".to_owned(),
            open_metrics: setup.open_metrics,
            options: setup.api,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            // A dropped sender stops the server as well.
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(listener, api, shutdown));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { addr, hub, keys, admin, folder, client, stop: Some(stop), serving }
    }

    /// Stops serving and the hub in order; the folder can be used again.
    pub(crate) async fn stop(mut self) -> TempDir {
        drop(self.stop.take());
        self.serving.await.unwrap().unwrap();
        self.hub.shutdown().await;
        self.folder
    }

    /// Tells the server to stop as soon as a record is decided, and opens the gate only when it no longer accepts
    /// connections.
    pub(crate) fn stop_once_decided(&mut self, gate: GateHandle) {
        let (hub, addr, stop) = (self.hub.handle(), self.addr, self.stop.take());
        tokio::spawn(async move {
            while hub.stats().decided.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            drop(stop);
            while tokio::net::TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
            gate.set(Gate::Open);
        });
    }

    pub(crate) fn uri(&self, path: &str) -> Uri {
        format!("http://{}{path}", self.addr).parse().unwrap()
    }

    /// A request with exactly these headers.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(self.uri(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A request with the admin's key.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let bearer = format!("Bearer {}", self.admin);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.send(method, path, &all, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.call(Method::POST, path, &[], "").await
    }

    /// Sends one structured event.
    pub(crate) async fn event(&self, event: &Value) -> Answer {
        self.call(Method::POST, "/v1/events", &[("content-type", "application/cloudevents+json")], event.to_string())
            .await
    }

    /// Sends a batch of events.
    pub(crate) async fn batch(&self, events: &[Value]) -> Answer {
        let body = Value::from(events.to_vec()).to_string();
        self.call(Method::POST, "/v1/events", &[("content-type", "application/cloudevents-batch+json")], body).await
    }

    /// Waits until a GET answers with something that is so.
    pub(crate) async fn until(&self, path: &str, what: &str, is: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if is(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} never had {what}: {} {}", answer.status, answer.text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The JSON of an answer that must be 200.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The problem of an answer that must say no with this status and code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:problem-type:lockstep:{code}"));
        assert!(
            problem["title"].is_string() && problem["instance"].as_str().unwrap().starts_with("urn:trace:"),
            "{problem}"
        );
        problem
    }
}

/// A price event for a SKU. The higher the price, the later it is: a later event wins.
pub(crate) fn price(id: &str, sku: &str, minor: i64) -> Value {
    let (minutes, seconds) = (minor / 60 % 60, minor % 60);
    serde_json::json!({
        "specversion": "1.0",
        "id": id,
        "source": "/erp",
        "type": "price.changed",
        "subject": format!("price/{sku}:retail:EUR"),
        "time": format!("2026-01-02T03:{minutes:02}:{seconds:02}Z"),
        "datacontenttype": "application/json",
        "data": {"amount": {"minor": minor, "currency": "EUR"}},
    })
}

/// The path of that price.
pub(crate) fn price_path(sku: &str) -> String {
    format!("/v1/entities/price/{sku}:retail:EUR")
}

/// What a [`GatedJournal`] does with appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// They go through.
    Open,
    /// They wait.
    Closed,
    /// They fail for want of space.
    Full,
    /// They fail for another reason.
    Broken,
}

/// The gate's handle.
#[derive(Clone)]
pub(crate) struct GateHandle(Arc<(Mutex<Gate>, Condvar)>);

impl GateHandle {
    pub(crate) fn set(&self, gate: Gate) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = gate;
        self.0.1.notify_all();
    }

    fn pass(&self) -> Gate {
        let gate = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *self.0.1.wait_while(gate, |gate| *gate == Gate::Closed).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GateHandle {
    fn drop(&mut self) {
        // A test that fails with the gate closed must not leave the journal's thread waiting.
        if std::thread::panicking() {
            self.set(Gate::Open);
        }
    }
}

/// A journal whose disk can be full, slow or broken at will.
pub(crate) struct GatedJournal {
    journal: MemoryJournal,
    gate: GateHandle,
}

impl GatedJournal {
    pub(crate) fn with_gate() -> (Box<dyn Journal>, GateHandle) {
        let gate = GateHandle(Arc::new((Mutex::new(Gate::Open), Condvar::new())));
        (Box::new(Self { journal: MemoryJournal::new(), gate: gate.clone() }), gate)
    }
}

impl Journal for GatedJournal {
    fn append(&mut self, epoch: Epoch, batch: &Batch) -> Result<Position, JournalError> {
        match self.gate.pass() {
            Gate::Full => {
                Err(JournalError::Full { source: std::io::Error::from(std::io::ErrorKind::StorageFull).into() })
            }
            Gate::Broken => Err(JournalError::Poisoned { cause: "the disk is gone".to_owned() }),
            Gate::Open | Gate::Closed => self.journal.append(epoch, batch),
        }
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

/// What a [`Door`] does with deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doorkeeper {
    /// Takes them.
    Takes,
    /// Rejects them.
    Rejects,
    /// Lets them wait.
    Holds,
}

/// A destination that takes, rejects or holds what it is sent, at will.
pub(crate) struct Door(tokio::sync::watch::Sender<Doorkeeper>);

impl Door {
    pub(crate) fn open(&self) {
        self.0.send_replace(Doorkeeper::Takes);
    }

    pub(crate) fn hold(&self) {
        self.0.send_replace(Doorkeeper::Holds);
    }
}

#[async_trait::async_trait]
impl Destination for Door {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let body = lockstep_connect::cloudevents::to_structured(event, "/hubs/test");
        let id = event.position.to_string();
        Ok(Some(Prepared {
            id,
            body,
            content_type: lockstep_connect::cloudevents::STRUCTURED,
            trace: None,
            replay: None,
        }))
    }

    async fn send(&self, _prepared: &Prepared, _attempt: u32) -> Sent {
        let keeper = *self.0.subscribe().wait_for(|keeper| *keeper != Doorkeeper::Holds).await.unwrap();
        let (result, status, head) = match keeper {
            Doorkeeper::Takes => (AttemptResult::Delivered, 200, "open"),
            _ => (AttemptResult::Rejected, 422, "closed"),
        };
        Sent { result, status, detail: format!("answered {status}"), response_head: head.to_owned(), duration_us: 1 }
    }
}

impl Server {
    /// Adds a destination that rejects everything until it is opened.
    pub(crate) fn add_door(&self, name: &str) -> Arc<Door> {
        let door = Arc::new(Door(tokio::sync::watch::Sender::new(Doorkeeper::Rejects)));
        self.hub.add_destination(name, door.clone(), DeliveryOptions::default());
        door
    }

    /// Adds the destination `erp`, and so many events that it rejects.
    pub(crate) async fn with_dead_letters(&self, count: usize) -> Arc<Door> {
        let door = self.add_door("erp");
        let batch: Vec<_> = (0..count).map(|n| price(&format!("dead-{n}"), &format!("DEAD-{n}"), 1)).collect();
        self.batch(&batch).await.ok();
        let all = |a: &Answer| a.json()["items"].as_array().is_some_and(|items| items.len() == count);
        self.until("/v1/dead-letters", "all dead letters", all).await;
        door
    }

    /// Waits until the server has at most so many connections.
    pub(crate) async fn until_connections(&self, most: usize) {
        let port = format!(":{:04X}", self.addr.port());
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Established ones (state 01) whose own side is the server's port.
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let mut rows = table.lines().skip(1).map(|l| l.split_whitespace().collect::<Vec<_>>());
            let open = rows.by_ref().filter(|row| row[1].ends_with(&port) && row[3] == "01").count();
            if open <= most {
                return;
            }
            assert!(Instant::now() < deadline, "{open} connections stay");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
