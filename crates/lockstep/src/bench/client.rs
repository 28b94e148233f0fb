//! A keep-alive HTTP/1.1 client that costs the generator as little as possible, so that the figures are the
//! hub's. It speaks only to this program's own server.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Client {
    /// Connects.
    pub(super) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("can't connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 * 1024], filled: 0 })
    }

    /// A GET without a key; gives the status.
    pub(super) async fn get(&mut self, path: &str) -> Result<u16> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).await
    }

    /// Sends a whole request and reads its whole answer; gives the status.
    pub(super) async fn send(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.filled = 0;
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[self.filled..]).await?;
            if read == 0 {
                bail!("the server closed the connection");
            }
            self.filled += read;
            let answer = &self.buffer[..self.filled];
            let Some(head) = find(answer, b"\r\n\r\n") else { continue };
            let length = content_length(&answer[..head]).context("an answer without content-length")?;
            if self.filled >= head + 4 + length {
                let status = answer.get(9..12).and_then(|s| std::str::from_utf8(s).ok()).and_then(|s| s.parse().ok());
                return status.context("an answer without a status");
            }
        }
    }

    /// A request whose answer is JSON; anything else than success is an error.
    pub(super) async fn ask(&mut self, method: &str, path: &str, key: &str, body: &str) -> Result<Value> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let status = self.send(request.as_bytes()).await?;
        if !(200..300).contains(&status) {
            bail!("the hub answered {status}: {}", self.answer());
        }
        let body = find(&self.buffer[..self.filled], b"\r\n\r\n").map_or(0, |head| head + 4);
        serde_json::from_slice(&self.buffer[body..self.filled]).context("the answer is no JSON")
    }

    /// The last answer as text, for an error's message.
    pub(super) fn answer(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.filled.min(2_000)]).into_owned()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let line =
        head.lines().find(|line| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case("content-length:")))?;
    line[15..].trim().parse().ok()
}
