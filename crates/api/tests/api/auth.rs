//! API keys and scopes.

use http::Method;
use lockstep_api::Scope;

use crate::harness::{Server, price};

#[tokio::test]
async fn no_key_and_a_wrong_key_are_401() {
    let server = Server::start().await;
    let answer = server.send(Method::GET, "/v1/events", &[], "").await;
    answer.problem(401, "key-missing");
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    let mut other = server.admin.clone();
    other.pop();
    other.push(if server.admin.ends_with('0') { '1' } else { '0' });
    for header in
        [format!("Bearer {other}"), "Bearer nonsense".to_owned(), "Basic YTpi".to_owned(), "Bearer".to_owned()]
    {
        let answer = server.send(Method::GET, "/v1/events", &[("authorization", &header)], "").await;
        answer.problem(401, "key-wrong");
        assert!(answer.header("www-authenticate").contains("invalid_token"), "{header}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_scope_is_403() {
    let server = Server::start().await;
    let key = |scope: Scope| format!("Bearer {}", server.keys.create(scope.name(), &[scope], Some("s"), None).unwrap());
    let (read, write, operate) = (key(Scope::Read), key(Scope::Write), key(Scope::Operate));
    let status = async |method: Method, path: &str, key: &str| {
        let headers = [("authorization", key), ("content-type", "application/cloudevents+json")];
        let answer = server.send(method, path, &headers, price("1", "A", 1).to_string()).await;
        if answer.status == 403 {
            answer.problem(403, "scope-missing");
            assert!(answer.header("www-authenticate").contains("insufficient_scope"));
        }
        answer.status
    };
    assert_eq!(status(Method::POST, "/v1/events", &read).await, 403);
    assert_eq!(status(Method::POST, "/v1/events", &operate).await, 403);
    assert_eq!(status(Method::POST, "/v1/events", &write).await, 200);
    assert_eq!(status(Method::GET, "/v1/events", &write).await, 403);
    assert_eq!(status(Method::GET, "/v1/events", &read).await, 200);
    assert_eq!(status(Method::GET, "/v1/events", &operate).await, 200);
    for path in [
        "/v1/quarantine/1/release",
        "/v1/dead-letters/x/1/retry",
        "/v1/dead-letters/x/1/discard",
        "/v1/dead-letters/x/retry",
    ] {
        assert_eq!(status(Method::POST, path, &read).await, 403, "{path}");
        assert_eq!(status(Method::POST, path, &write).await, 403, "{path}");
        assert_ne!(status(Method::POST, path, &operate).await, 403, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_key_made_or_revoked_by_another_process_is_noticed() {
    let server = Server::start().await;
    let other = lockstep_api::Keys::open(server.folder().join("data/keys.json")).unwrap();
    let key = other.create("late", &[Scope::Read], None, None).unwrap();
    let bearer = format!("Bearer {key}");
    let until = async |status: u16| {
        let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
        while server.send(Method::GET, "/v1/events", &[("authorization", &bearer)], "").await.status != status {
            assert!(std::time::Instant::now() < deadline, "never {status}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let first = server.send(Method::GET, "/v1/events", &[("authorization", &bearer)], "").await;
    assert_eq!(first.status, 200, "a new key is valid at once");
    assert!(other.revoke("late").unwrap());
    until(401).await;
    server.stop().await;
}

#[tokio::test]
async fn health_the_document_and_webhooks_need_no_key() {
    let server = Server::start().await;
    for path in ["/healthz/live", "/healthz/ready", "/openapi.json"] {
        assert_eq!(server.send(Method::GET, path, &[], "").await.status, 200, "{path}");
    }
    server.send(Method::POST, "/v1/webhooks/nobody", &[], "").await.problem(404, "unknown-source");
    server.stop().await;
}
