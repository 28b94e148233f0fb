//! Limits of size and time.

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, Setup, price};

/// Everything that the server says until it closes the connection.
async fn heard(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    // A reset instead of an end says the same.
    let _ = stream.read_to_end(&mut heard).await;
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_says_so_or_not() {
    let mut setup = Setup::default();
    setup.api.events_bytes_max = 1_000;
    let server = Server::with(setup).await;
    let headers = [("content-type", "application/cloudevents+json")];
    let answer = server.call(Method::POST, "/v1/events", &headers, vec![b' '; 1_001]).await;
    assert!(answer.problem(413, "body-too-large")["detail"].as_str().unwrap().contains("1000"));

    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/cloudevents+json\r\ntransfer-encoding: chunked\r\n\r\n",
        server.admin
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..3 {
        stream.write_all(format!("190\r\n{}\r\n", " ".repeat(400)).as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let heard = heard(&mut stream).await;
    assert!(heard.starts_with("HTTP/1.1 413") && heard.contains("body-too-large"), "{heard}");
    // The limit does not stand in the way of what is within it.
    server.event(&price("1", "A", 1)).await.ok();
    server.stop().await;
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let mut setup = Setup::default();
    setup.api.headers_max = 20;
    let server = Server::with(setup).await;
    let many: String = (0..30).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "a".repeat(40 * 1024));
    for headers in [many, large] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(format!("GET /healthz/live HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await.unwrap();
        let heard = heard(&mut stream).await;
        assert!(heard.starts_with("HTTP/1.1 431"), "{heard}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_headers_is_cut_off() {
    let mut setup = Setup::default();
    setup.api.header_read_timeout_ms = 50;
    let server = Server::with(setup).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /healthz/live HTTP/1.1\r\nhost:").await.unwrap();
    // The test ends only if the server closes the connection.
    let heard = heard(&mut stream).await;
    assert!(!heard.contains(" 200 "), "{heard}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_is_slow_with_its_body_is_408() {
    let mut setup = Setup::default();
    setup.api.body_read_timeout_ms = 50;
    let server = Server::with(setup).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/cloudevents+json\r\ncontent-length: 100\r\n\r\n{{",
        server.admin
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let heard = heard(&mut stream).await;
    assert!(heard.starts_with("HTTP/1.1 408") && heard.contains("body-timeout"), "{heard}");
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_one_to_end() {
    let mut setup = Setup::default();
    setup.api.connections_max = 1;
    let server = Server::with(setup).await;
    let request = b"GET /healthz/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    first.write_all(request).await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    second.write_all(b"GET /healthz/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    drop(first);
    assert!(heard(&mut second).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}
