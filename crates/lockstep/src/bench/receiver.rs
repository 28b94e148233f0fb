//! The other end: receives deliveries and notes when it has answered each, known by its trace id.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When each numbered request was received, microseconds after the start; 0: not yet.
pub(super) struct Received {
    start: Instant,
    at_us: Vec<AtomicU64>,
    count: AtomicU64,
}

impl Received {
    /// Room for so many numbers.
    pub(super) fn new(start: Instant, numbers: u64) -> Arc<Self> {
        let at_us = (0..numbers).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { start, at_us, count: AtomicU64::new(0) })
    }

    /// How many were received.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// When a number was received.
    pub(super) fn at_us(&self, number: u64) -> Option<u64> {
        let at = self.at_us.get(number as usize)?.load(Ordering::Relaxed);
        (at != 0).then_some(at)
    }

    fn note(&self, number: u64) {
        let now = self.start.elapsed().as_micros() as u64;
        if let Some(at) = self.at_us.get(number as usize)
            && at.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts a receiver that answers 204 after `delay`.
pub(super) async fn start(received: Option<Arc<Received>>, delay: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, received.clone(), delay));
        }
    });
    Ok(address)
}

async fn serve(mut stream: TcpStream, received: Option<Arc<Received>>, delay: Duration) -> std::io::Result<()> {
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
        let header = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let length: usize = header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let number = header("traceparent").and_then(|t| u64::from_str_radix(t.get(19..35)?, 16).ok());
        while filled < head + 4 + length {
            filled += read(&mut stream, &mut buffer, filled).await?;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        if let (Some(received), Some(number)) = (&received, number) {
            received.note(number.saturating_sub(1));
        }
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
