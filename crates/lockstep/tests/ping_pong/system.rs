//! A system on both ends: it keeps a copy that it overwrites with whatever it is told, and after every change, its own
//! or not, it sends its whole document. What it sends waits for a time by chance, so documents overtake each other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::wire::{Wire, header};
use crate::common::{SECRET as SOURCE_SECRET, sign};

/// With which the hub signs what it tells.
pub(crate) const SECRET: &str = "whsec_cGluZy1wb25nLXNlY3JldC0wMTIzNDU2Nzg5";
/// How long what is sent waits, at most.
const DELAY_MAX_MS: u64 = 30;
const CONNECTIONS: usize = 4;

pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    state: Mutex<State>,
    waits: Condvar,
    updates: AtomicU64,
    echoes: AtomicU64,
    repeated: AtomicU64,
}

#[derive(Default)]
struct State {
    copies: HashMap<String, Value>,
    /// What is to be sent, by the time when it is due.
    queue: BTreeMap<(Instant, u64), Value>,
    /// Queued, or on its way.
    unsent: usize,
    seen: HashSet<String>,
    clock_us: u64,
    number: u64,
}

impl System {
    /// Listens to the hub.
    pub(crate) fn listen(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            name,
            address,
            listener,
            state: Mutex::default(),
            waits: Condvar::new(),
            updates: AtomicU64::new(0),
            echoes: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }
    }

    /// Begins to take and to send.
    pub(crate) fn speak(self: &Arc<Self>, hub: SocketAddr) {
        let system = self.clone();
        std::thread::spawn(move || {
            for stream in system.listener.incoming().flatten() {
                let system = system.clone();
                std::thread::spawn(move || {
                    let mut wire = Wire::new(stream);
                    while let Some((head, body)) = wire.receive() {
                        let status = if system.takes(&head, &body) { "200 OK" } else { "401 Unauthorized" };
                        if wire.send(&format!("HTTP/1.1 {status}\r\n"), b"").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        for _ in 0..CONNECTIONS {
            let system = self.clone();
            std::thread::spawn(move || system.send_all(hub));
        }
    }

    /// Takes what it is told, and has it sent back.
    fn takes(&self, head: &str, body: &[u8]) -> bool {
        let id = header(head, "webhook-id").unwrap_or_default();
        let at = header(head, "webhook-timestamp").unwrap_or_default();
        // The head is in lower case here, and a signature is not: the comparison does not care.
        let expected = sign::standard(SECRET, id, at, body).to_lowercase();
        if header(head, "webhook-signature") != Some(&expected) {
            return false;
        }
        let event: Value = serde_json::from_slice(body).unwrap();
        let mut state = self.state.lock().unwrap();
        if !state.seen.insert(id.to_owned()) {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let key = event["data"]["key"].as_str().unwrap().to_owned();
        state.copies.insert(key.clone(), event["data"]["document"].clone());
        self.echoes.fetch_add(1, Ordering::Relaxed);
        self.queue(&mut state, &key);
        true
    }

    /// A person changes something in this system.
    pub(crate) fn update(&self, key: &str, number: usize) {
        let mut state = self.state.lock().unwrap();
        let copy = state.copies.entry(key.to_owned()).or_insert_with(|| json!({ "title": "new", "amount": 0 }));
        match number % 2 {
            0 => copy["title"] = json!(format!("{} {number}", self.name)),
            _ => copy["amount"] = json!(fastrand::u32(..1_000)),
        }
        self.updates.fetch_add(1, Ordering::Relaxed);
        self.queue(&mut state, key);
    }

    /// Its whole document, at the time of the change, to be sent after a while.
    fn queue(&self, state: &mut State, key: &str) {
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        state.clock_us = now_us.max(state.clock_us + 1);
        state.number += 1;
        state.unsent += 1;
        let due = Instant::now() + Duration::from_millis(fastrand::u64(..=DELAY_MAX_MS));
        let said = json!({ "id": key, "changed_at_us": state.clock_us, "wish": state.copies[key] });
        let number = state.number;
        state.queue.insert((due, number), said);
        self.waits.notify_one();
    }

    fn send_all(&self, hub: SocketAddr) {
        let mut wire = None;
        loop {
            let (number, said) = self.next();
            let body = said.to_string();
            let signature = sign::hmac(SOURCE_SECRET.as_bytes(), body.as_bytes());
            let head = format!(
                "POST /v1/webhooks/{} HTTP/1.1\r\nhost: {hub}\r\ncontent-type: application/json\r\nx-id: {number}\r\n\
                 x-shopify-hmac-sha256: {signature}\r\n",
                self.name
            );
            loop {
                if wire.is_none() {
                    wire = Wire::connect(hub).ok();
                }
                // The hub has ended, and so has the test.
                let Some(open) = &mut wire else { return };
                let answer = open.send(&head, body.as_bytes()).ok().and_then(|()| open.receive());
                match answer {
                    Some((head, _)) if head.starts_with("http/1.1 200") => break,
                    Some(_) => {}
                    None => wire = None,
                }
            }
            self.state.lock().unwrap().unsent -= 1;
        }
    }

    /// Waits for what is due next.
    fn next(&self) -> (u64, Value) {
        let mut state = self.state.lock().unwrap();
        loop {
            let now = Instant::now();
            let due = state.queue.first_key_value().map(|((due, _), _)| *due);
            state = match due {
                Some(due) if due <= now => {
                    let ((_, number), said) = state.queue.pop_first().unwrap();
                    return (number, said);
                }
                Some(due) => self.waits.wait_timeout(state, due - now).unwrap().0,
                None => self.waits.wait(state).unwrap(),
            };
        }
    }

    /// Whether all that it has to say is said.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().unwrap().unsent == 0
    }

    pub(crate) fn copy(&self, key: &str) -> Option<Value> {
        self.state.lock().unwrap().copies.get(key).cloned()
    }

    pub(crate) fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    pub(crate) fn told(&self) -> u64 {
        self.echoes.load(Ordering::Relaxed) + self.repeated()
    }

    pub(crate) fn echoes(&self) -> u64 {
        self.echoes.load(Ordering::Relaxed)
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }
}
