//! A system that receives deliveries, and notes whatever is not as promised.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What one receiver got.
#[derive(Default)]
pub(crate) struct Got {
    /// The entity and number of each event, by its id.
    pub(crate) events: HashMap<u64, (String, u64)>,
    /// How often an event came that had come before.
    pub(crate) again: u64,
    /// The number of each entity's last event that was new.
    last: HashMap<String, u64>,
    /// What is not as promised.
    pub(crate) wrong: Vec<String>,
}

impl Got {
    fn take(&mut self, id: u64, entity: &str, number: u64) {
        if let Some(before) = self.events.get(&id) {
            self.again += 1;
            if (before.0.as_str(), before.1) != (entity, number) {
                self.wrong.push(format!("event {id} was {before:?} and is {entity} {number}"));
            }
            return;
        }
        self.events.insert(id, (entity.to_owned(), number));
        let last = self.last.insert(entity.to_owned(), number).unwrap_or(0);
        if last >= number {
            self.wrong.push(format!("{entity}: {number} came after {last}"));
        }
    }
}

/// A receiver.
#[derive(Default)]
pub(crate) struct Receiver {
    pub(crate) got: Mutex<Got>,
}

impl Receiver {
    /// How many different events it has.
    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap().events.len()
    }

    pub(crate) async fn start(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = receiver.clone();
                // A connection that is cut within a request ends its task; the request has not arrived.
                tokio::spawn(async move { receiver.serve(stream).await });
            }
        });
        address
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        loop {
            let head = loop {
                if let Some(head) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break head;
                }
                read(&mut stream, &mut buffer).await?;
            };
            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
            let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let length: usize = header("content-length:").unwrap().parse().unwrap();
            let id: u64 = header("webhook-id:").unwrap().parse().unwrap();
            let end = head + 4 + length;
            while buffer.len() < end {
                read(&mut stream, &mut buffer).await?;
            }
            let event: Value = serde_json::from_slice(&buffer[head + 4..end]).expect("a CloudEvent");
            let number = event["data"]["document"]["number"].as_u64().expect("a number");
            self.got.lock().unwrap().take(id, event["subject"].as_str().expect("a subject"), number);
            buffer.drain(..end);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nthanks a lot").await?;
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
