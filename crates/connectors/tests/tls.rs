//! TLS against a real server: what is trusted, and what is not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use lockstep_connectors::{HttpClient, HttpError, HttpOptions};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const AUTHORITY: &[u8] = include_bytes!("fixtures/authority.der");
const LOCALHOST: &[u8] = include_bytes!("fixtures/localhost.der");
const LOCALHOST_KEY: &[u8] = include_bytes!("fixtures/localhost.key.der");

/// A TLS server with a certificate for `localhost` that answers every request. Returns its port.
fn serve() -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(LOCALHOST_KEY));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(LOCALHOST)], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let mut request = Vec::new();
            let mut buffer = [0; 1_024];
            // A client that does not trust the certificate goes away: then the next one.
            while let Ok(count @ 1..) = tls.read(&mut buffer) {
                request.extend_from_slice(&buffer[..count]);
                if request.ends_with(b"\r\n\r\n") {
                    let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nsafe");
                    break;
                }
            }
        }
    });
    port
}

async fn get(host: &str, roots_der: Vec<Vec<u8>>) -> Result<String, HttpError> {
    let url = format!("https://{host}:{}/", serve());
    let client = HttpClient::new(HttpOptions { allow_private_addresses: true, roots_der, ..HttpOptions::default() })?;
    let answer = client.request(Method::GET, &url, HeaderMap::new(), "", Duration::from_secs(60)).await?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn a_trusted_certificate_for_the_host_is_taken() {
    assert_eq!(get("localhost", vec![AUTHORITY.to_vec()]).await.unwrap(), "safe");
}

#[tokio::test]
async fn others_are_not() {
    let unknown_authority = get("localhost", vec![]).await.unwrap_err();
    let another_host = get("127.0.0.1", vec![AUTHORITY.to_vec()]).await.unwrap_err();
    for error in [unknown_authority, another_host] {
        assert!(matches!(error, HttpError::Connect { .. }), "{error:?}");
        let text = lockstep_connectors::webhook::chain(&error);
        assert!(text.contains("certificate"), "{text}");
    }
    let no_certificate = get("localhost", vec![b"nonsense".to_vec()]).await.unwrap_err();
    assert!(matches!(no_certificate, HttpError::Tls { .. }), "{no_certificate:?}");
}
