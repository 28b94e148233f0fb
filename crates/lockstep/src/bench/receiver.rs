//! The other end: receives deliveries and notes when it has answered each, known by its trace id.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is done with each delivery: its head in lower case, and its body.
pub(super) type Note = Arc<dyn Fn(&str, &[u8]) + Send + Sync>;

/// When each numbered request was received, microseconds after the start; 0: not yet.
pub(super) struct Received {
    start: Instant,
    at_us: Vec<AtomicU64>,
    count: AtomicU64,
    taken: AtomicU64,
    connections: AtomicU64,
}

impl Received {
    /// Room for so many numbers.
    pub(super) fn new(start: Instant, numbers: u64) -> Arc<Self> {
        let at_us = (0..numbers).map(|_| AtomicU64::new(0)).collect();
        let (count, taken, connections) = <(AtomicU64, AtomicU64, AtomicU64)>::default();
        Arc::new(Self { start, at_us, count, taken, connections })
    }

    /// How many numbered ones were received.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How many were received at all, numbered or not.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many connections there were.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// When a number was received.
    pub(super) fn at_us(&self, number: u64) -> Option<u64> {
        let at = self.at_us.get(number as usize)?.load(Ordering::Relaxed);
        (at != 0).then_some(at)
    }

    fn note(&self, head: &str, body: &[u8]) {
        let now = self.start.elapsed().as_micros() as u64;
        let number = |trace: &str| Some(u64::from_str_radix(trace.get(19..35)?, 16).ok()?.saturating_sub(1));
        if header(head, "content-type") == Some("application/cloudevents-batch+json") {
            // Each event of a batch has its own.
            let text = String::from_utf8_lossy(body);
            for event in text.split("\"specversion\"").skip(1) {
                self.note_one(event.split_once("\"traceparent\":\"").and_then(|(_, trace)| number(trace)), now);
            }
            return;
        }
        self.note_one(header(head, "traceparent").and_then(number), now);
    }

    fn note_one(&self, number: Option<u64>, now: u64) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        if let Some(at) = number.and_then(|number| self.at_us.get(number as usize))
            && at.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A header's value in a head.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// How the other end answers; it may change.
#[derive(Default)]
pub(super) struct Manner {
    delay_ms: AtomicU64,
    is_broken: AtomicBool,
}

impl Manner {
    /// 204 at once.
    pub(super) fn prompt() -> Arc<Self> {
        Arc::default()
    }

    /// 204 after a while.
    pub(super) fn slow(delay: Duration) -> Arc<Self> {
        Arc::new(Self { delay_ms: AtomicU64::new(delay.as_millis() as u64), is_broken: AtomicBool::new(false) })
    }

    /// 503 at once.
    pub(super) fn broken() -> Arc<Self> {
        Arc::new(Self { delay_ms: AtomicU64::new(0), is_broken: AtomicBool::new(true) })
    }

    /// 204 at once from now on.
    pub(super) fn mend(&self) {
        self.delay_ms.store(0, Ordering::Relaxed);
        self.is_broken.store(false, Ordering::Relaxed);
    }

    async fn answer(&self) -> &'static [u8] {
        let delay_ms = self.delay_ms.load(Ordering::Relaxed);
        if delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
        match self.is_broken.load(Ordering::Relaxed) {
            true => b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            false => b"HTTP/1.1 204 No Content\r\n\r\n",
        }
    }
}

/// Starts a receiver.
pub(super) async fn start(received: Option<Arc<Received>>, manner: Arc<Manner>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let counted = received.clone();
    let note: Note = Arc::new(move |head, body| {
        if let Some(received) = &received {
            received.note(head, body);
        }
    });
    let connected = move || {
        if let Some(received) = &counted {
            received.connections.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::spawn(accept(listener, note, manner, connected));
    Ok(address)
}

/// Takes what comes to a listener, for ever.
pub(super) async fn accept(listener: TcpListener, note: Note, manner: Arc<Manner>, connected: impl Fn() + Send) {
    while let Ok((stream, _)) = listener.accept().await {
        connected();
        tokio::spawn(serve(stream, note.clone(), manner.clone()));
    }
}

async fn serve(mut stream: TcpStream, note: Note, manner: Arc<Manner>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut filled = 0;
    loop {
        let head = loop {
            if let Some(head) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
                break head;
            }
            filled += read(&mut stream, &mut buffer, filled).await?;
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let length: usize = header(&text, "content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        while filled < head + 4 + length {
            filled += read(&mut stream, &mut buffer, filled).await?;
        }
        let answer = manner.answer().await;
        // Who has given up waiting sends it again, and counts on nothing that is done with it now.
        if let Some(Ok(0)) = stream.peek(&mut [0]).now_or_never() {
            return Ok(());
        }
        stream.write_all(answer).await?;
        note(&text, &buffer[head + 4..head + 4 + length]);
        buffer.copy_within(head + 4 + length..filled, 0);
        filled -= head + 4 + length;
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, filled: usize) -> std::io::Result<usize> {
    if filled == buffer.len() {
        buffer.resize(buffer.len() * 2, 0);
    }
    match stream.read(&mut buffer[filled..]).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read),
    }
}
