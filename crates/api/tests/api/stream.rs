//! `/v1/stream`.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Server, Setup, price};

/// One block of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Block {
    id: String,
    pub(crate) event: String,
    data: String,
    comment: String,
    retry: String,
}

impl Block {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

pub(crate) struct Reader(BufReader<TcpStream>);

impl Reader {
    async fn open(server: &Server, query: &str, headers: &str) -> Self {
        let stream = TcpStream::connect(server.addr).await.unwrap();
        Self::on(stream, server, query, headers).await
    }

    /// Another stream than that of events.
    pub(crate) async fn of(server: &Server, path: &str) -> Self {
        Self::at(TcpStream::connect(server.addr).await.unwrap(), server, path, "").await
    }

    async fn on(stream: TcpStream, server: &Server, query: &str, headers: &str) -> Self {
        Self::at(stream, server, &format!("/v1/stream{query}"), headers).await
    }

    async fn at(mut stream: TcpStream, server: &Server, path: &str, headers: &str) -> Self {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{headers}\r\n", server.admin);
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }

    /// The answer's head.
    pub(crate) async fn head(&mut self) -> Vec<String> {
        let mut head = Vec::new();
        while let Some(line) = self.line().await.filter(|l| !l.is_empty()) {
            head.push(line);
        }
        head
    }

    /// The next block; `None` at the end. What frames the chunks is no line of a block.
    async fn block(&mut self) -> Option<Block> {
        let mut block = Block::default();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                if block != Block::default() {
                    return Some(block);
                }
                continue;
            }
            match line.split_once(": ") {
                Some(("id", text)) => block.id = text.to_owned(),
                Some(("event", text)) => block.event = text.to_owned(),
                Some(("data", text)) => block.data = text.to_owned(),
                Some(("retry", text)) => block.retry = text.to_owned(),
                Some(("", text)) => block.comment = text.to_owned(),
                _ => assert!(line.bytes().all(|b| b.is_ascii_hexdigit()), "{line}"),
            }
        }
    }

    /// The next event; comments are passed over.
    pub(crate) async fn event(&mut self) -> Option<Block> {
        loop {
            let block = self.block().await?;
            if !block.event.is_empty() {
                return Some(block);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_gives_events_as_they_happen() {
    let server = Server::start().await;
    server.event(&price("0", "A", 0)).await.ok();
    let mut reader = Reader::open(&server, "", "").await;
    let head = reader.head().await;
    assert_eq!(head[0], "HTTP/1.1 200 OK");
    assert!(head.iter().any(|l| l == "content-type: text/event-stream"), "{head:?}");
    assert_eq!(reader.block().await.unwrap().retry, "1000");
    // From now on: not the one before.
    server.event(&price("1", "A", 1)).await.ok();
    let event = reader.event().await.unwrap();
    assert_eq!((event.id.as_str(), event.event.as_str()), ("2", "price.changed"));
    let data = event.json();
    assert_eq!((&data["id"], &data["data"]["document"]["amount"]["minor"]), (&json!("2"), &json!(1)));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_id() {
    let server = Server::start().await;
    let batch: Vec<_> = (0..10).map(|n| price(&n.to_string(), &format!("SKU-{n}"), n)).collect();
    server.batch(&batch).await.ok();
    let mut reader = Reader::open(&server, "?after=1", "last-event-id: 7\r\n").await;
    reader.head().await;
    for position in 8..=10 {
        assert_eq!(reader.event().await.unwrap().id, position.to_string());
    }
    server.event(&price("live", "A", 1)).await.ok();
    assert_eq!(reader.event().await.unwrap().id, "11");
    let mut reader = Reader::open(&server, "?after=0&kind=price&key=SKU-4:retail:EUR", "").await;
    reader.head().await;
    assert_eq!(reader.event().await.unwrap().id, "5");
    for headers in ["last-event-id: x\r\n", "last-event-id: 99\r\n"] {
        let mut reader = Reader::open(&server, "", headers).await;
        assert!(reader.head().await[0].starts_with("HTTP/1.1 400"), "{headers}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_has_a_heartbeat_that_knows_what_was_passed_over() {
    let mut setup = Setup::default();
    setup.api.stream_heartbeat_ms = 20;
    let server = Server::with(setup).await;
    let mut reader = Reader::open(&server, "?kind=order", "").await;
    reader.head().await;
    server.event(&price("1", "A", 1)).await.ok();
    loop {
        let block = reader.block().await.unwrap();
        assert_eq!(block.data, "");
        if block.id == "1" {
            assert_eq!(block.comment, "heartbeat");
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let server = Server::start().await;
    let mut reader = Reader::open(&server, "", "").await;
    reader.head().await;
    assert!(reader.block().await.is_some());
    let stopped = tokio::spawn(server.stop());
    while reader.block().await.is_some() {}
    stopped.await.unwrap();
}

/// A connection that takes little before its reader reads.
async fn narrow(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(server.addr).await.unwrap()
}

/// Events far larger than what all buffers between server and client hold.
async fn flood(server: &Server) {
    let text = "x".repeat(200_000);
    for n in 0..100 {
        let mut event = price(&format!("flood-{n}"), "A", n);
        event["type"] = "product.changed".into();
        event["subject"] = format!("product/{n}").into();
        event["data"] = json!({"title": text});
        server.event(&event).await.ok();
    }
}

#[tokio::test]
async fn a_reader_that_falls_too_far_behind_is_told_and_cut_off() {
    let mut setup = Setup::default();
    setup.api.stream_behind_max = 20;
    let server = Server::with(setup).await;
    let mut reader = Reader::on(narrow(&server).await, &server, "", "").await;
    reader.head().await;
    flood(&server).await;
    let mut last = Block::default();
    let mut events = 0;
    while let Some(block) = reader.event().await {
        events += usize::from(block.event != "error");
        last = block;
    }
    assert!(events < 100, "all were sent");
    assert_eq!(last.event, "error", "{events}");
    let problem = last.json();
    assert_eq!(problem["code"], "too-slow");
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_starts_far_back_may_catch_up() {
    let mut setup = Setup::default();
    setup.api.stream_behind_max = 20;
    let server = Server::with(setup).await;
    flood(&server).await;
    let mut reader = Reader::on(narrow(&server).await, &server, "?after=0", "").await;
    reader.head().await;
    for position in 1..=100 {
        assert_eq!(reader.event().await.unwrap().id, position.to_string());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_takes_no_byte_for_too_long_is_cut_off() {
    let mut setup = Setup::default();
    setup.api.write_timeout_ms = 50;
    let server = Server::with(setup).await;
    let mut reader = Reader::on(narrow(&server).await, &server, "", "").await;
    reader.head().await;
    flood(&server).await;
    // The server ends the connection while nobody reads; only then is what the buffers hold read, and it is not all.
    server.until_connections(1).await;
    let mut events = 0;
    while reader.event().await.is_some() {
        events += 1;
    }
    assert!(events < 100, "all were sent");
    server.stop().await;
}
