//! HTTP/1.1 as far as two programs on one machine need it: messages with a length, on connections that stay open.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One end of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        TcpStream::connect(address).map(Self::new)
    }

    /// The head of the next message in lower case, and its body; `None` where the other side has ended.
    pub(crate) fn receive(&mut self) -> Option<(String, Vec<u8>)> {
        let mut part = [0; 16_384];
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
                let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                if self.read.len() >= end + 4 + length {
                    let body = self.read[end + 4..end + 4 + length].to_vec();
                    self.read.drain(..end + 4 + length);
                    return Some((head, body));
                }
            }
            match self.stream.read(&mut part) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.read.extend_from_slice(&part[..length]),
            }
        }
    }

    pub(crate) fn send(&mut self, head: &str, body: &[u8]) -> std::io::Result<()> {
        let head = format!("{head}content-length: {}\r\n\r\n", body.len());
        self.stream.write_all(&[head.as_bytes(), body].concat())
    }
}

/// A header of a head in lower case.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
