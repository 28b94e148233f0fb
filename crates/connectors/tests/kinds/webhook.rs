//! The webhook destination against real servers on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use lockstep_connect::destination::{Destination, Filter, Outlet, Sent, kit};
use lockstep_connect::signature::{Scheme, Secret, Verifier};
use lockstep_connectors::webhook::{WebhookConfig, WebhookDestination, WebhookError, chain};
use lockstep_connectors::{DestinationConfig, HttpClient, HttpError, HttpOptions};
use lockstep_core::delivery::AttemptResult;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::common::{self, Server, reply};

const OLD: &str = "whsec_aW52ZW50ZWQgc2VjcmV0IG51bWJlciBvbmU=";
const NEW: &str = "whsec_aW52ZW50ZWQgc2VjcmV0IG51bWJlciB0d28=";

/// A time limit that no healthy answer on loopback comes near, for tests that must not run into it.
const PATIENT_MS: u64 = 60_000;

fn config(url: &str, more: Value) -> WebhookConfig {
    let mut config = json!({"url": url, "allow_private_addresses": true, "timeout_ms": PATIENT_MS});
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

fn destination(config: &WebhookConfig) -> WebhookDestination {
    let outlet = Outlet::new("/hubs/test", config.filter.clone());
    WebhookDestination::new(config, &[Secret::new(NEW), Secret::new(OLD)], outlet).unwrap()
}

async fn send(destination: &WebhookDestination) -> Sent {
    let event = kit::event(41, "order", "web:7", &[("lifecycle", r#""confirmed""#), ("note", r#""für \"A\"""#)]);
    let prepared = destination.prepare(&event).unwrap().unwrap();
    destination.send(&prepared, 1).await
}

async fn send_to(url: &str, more: Value) -> Sent {
    send(&destination(&config(url, more))).await
}

/// A server that does with each connection what no HTTP server does. It gets the connection once the request is in.
async fn raw<F>(then: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // The body of an event ends with its document's and its data's brackets and the event's own.
            while !request.ends_with(b"}}}") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ended too early");
            }
            tokio::spawn(then(stream));
        }
    });
    address
}

#[tokio::test]
async fn keeps_to_the_contract_of_all_destinations() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let config = config(&server.url(), json!({"timeout_ms": 2_000}));
    let outlet = Outlet::new("/hubs/test", Filter::default());
    let destination = DestinationConfig::Webhook(config).build(&[Secret::new(NEW)], outlet).unwrap();
    kit::check(destination.as_ref(), &server).await;
}

#[tokio::test]
async fn what_is_replayed_says_so_and_keeps_its_id() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let destination = destination(&config(&server.url(), json!({})));
    let mut event = kit::event(41, "order", "web:7", &[("note", "1")]);
    for replay in [None, Some(77)] {
        event.replay = replay;
        let prepared = destination.prepare(&event).unwrap().unwrap();
        assert_eq!(destination.send(&prepared, 1).await.result, AttemptResult::Delivered);
    }
    let [live, replayed] = &server.got()[..] else { panic!("two requests") };
    let attribute = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["replay"].clone();
    assert_eq!((attribute(&live.body), attribute(&replayed.body)), (json!(null), json!("77")));
    assert!(!live.headers.contains_key("lockstep-replay"));
    assert_eq!(replayed.headers["lockstep-replay"], "77");
    assert_eq!(replayed.headers["webhook-id"], live.headers["webhook-id"]);
}

#[tokio::test]
async fn a_delivery_is_a_signed_cloud_event() {
    let server = Server::start(|_| reply(202, &[], "thank you")).await;
    let config = config(&server.url(), json!({"headers": {"Authorization": "Bearer hush", "X-Shop": "web"}}));
    let sent = send(&destination(&config)).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Delivered, 202), "{sent:?}");
    assert_eq!(sent.response_head, "thank you");

    let [got] = &server.got()[..] else { panic!("one request") };
    assert_eq!((&got.method, got.path.as_str()), (&Method::POST, "/hooks?to=lockstep"));
    let header = |name: &str| got.headers[name].to_str().unwrap();
    assert_eq!(header("webhook-id"), "41");
    assert_eq!(header("idempotency-key"), "41");
    assert_eq!(header("content-type"), "application/cloudevents+json");
    assert_eq!(header("content-length"), got.body.len().to_string());
    assert_eq!(header("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_eq!(header("user-agent"), concat!("lockstep/", env!("CARGO_PKG_VERSION")));
    assert_eq!(header("authorization"), "Bearer hush");
    assert_eq!(header("x-shop"), "web");
    assert_eq!(header("host"), server.address.to_string());
    assert!(!got.headers.contains_key("transfer-encoding"));

    // Both secrets of a rotation have signed; the timestamp is of now, or the verifier would call it stale.
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    for secret in [OLD, NEW] {
        let scheme = Scheme::named("standard-webhooks").unwrap();
        let verifier = Verifier::new(&scheme, vec![Secret::new(secret)]).unwrap();
        assert_eq!(verifier.verify(&got.headers, &got.body, now_s), Ok(()));
    }
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!(
        (&body["id"], &body["type"], &body["source"]),
        (&json!("41"), &json!("order.changed"), &json!("/hubs/test"))
    );
    assert_eq!(body["data"]["document"], json!({"lifecycle": "confirmed", "note": "für \"A\""}));
    assert!(!format!("{config:?}").contains("hush"), "a header's value may be a credential");
}

#[tokio::test]
async fn a_filtered_event_is_not_prepared() {
    let config = config("http://127.0.0.1:9/", json!({"filter": {"kinds": ["stock"], "systems_except": ["kit"]}}));
    let destination = destination(&config);
    assert_eq!(destination.prepare(&kit::event(1, "order", "1", &[("a", "1")])), Ok(None));
    assert_eq!(destination.prepare(&kit::event(1, "stock", "1", &[("a", "1")])), Ok(None));
    let mut event = kit::event(1, "stock", "1", &[("a", "1")]);
    event.fact.system = "wms".into();
    assert!(destination.prepare(&event).unwrap().is_some());
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::start(|_| reply(200, &[], "x".repeat(50_000))).await;
    let destination = destination(&config(&server.url(), json!({})));
    for _ in 0..20 {
        let sent = send(&destination).await;
        assert_eq!(sent.result, AttemptResult::Delivered);
        assert_eq!(sent.response_head.len(), 4_096, "the rest of the body is read but not kept");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn answers_have_their_classes() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let destination = destination(&config(&server.url(), json!({})));
    let throttled = |retry_after_ms| AttemptResult::Throttled { retry_after_ms };
    let cases = [
        (500, None, AttemptResult::Transient, "answered 500 Internal Server Error"),
        (503, None, AttemptResult::Transient, "answered 503 Service Unavailable"),
        (503, Some("3"), throttled(Some(3_000)), "answered 503 Service Unavailable"),
        (429, Some("120"), throttled(Some(120_000)), "answered 429 Too Many Requests"),
        (429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), throttled(Some(0)), "answered 429 Too Many Requests"),
        (408, None, AttemptResult::Transient, "answered 408 Request Timeout"),
        (401, None, AttemptResult::Unauthorized, "answered 401 Unauthorized"),
        (403, None, AttemptResult::Unauthorized, "answered 403 Forbidden"),
        (410, None, AttemptResult::Gone, "answered 410 Gone"),
    ];
    for (status, retry_after, result, detail) in cases {
        server.answer_with(move |_| {
            let headers: Vec<_> = retry_after.iter().map(|after| ("retry-after", *after)).collect();
            reply(status, &headers, "why")
        });
        let sent = send(&destination).await;
        assert_eq!((sent.result, sent.status, sent.detail.as_str()), (result, status, detail), "{status}");
        assert_eq!(sent.response_head, "why");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Server::start(|_| reply(200, &[], "")).await;
    let to = target.url();
    let server = Server::start(move |_| reply(307, &[("location", &to)], "")).await;
    let sent = send_to(&server.url(), json!({})).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Rejected, 307));
    assert!(sent.detail.contains(&target.url()) && sent.detail.contains("not followed"), "{}", sent.detail);
    assert_eq!(target.connections(), 0);
}

#[tokio::test]
async fn what_became_of_it_is_unknown_without_an_answer_in_time() {
    let server = Server::start(|_| common::Reply::Silence).await;
    let sent = send_to(&server.url(), json!({"timeout_ms": 50})).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Unknown, 0));
    assert_eq!(sent.detail, format!("no answer from {} within 50 ms", server.address));
    assert!(sent.duration_us >= 50_000, "{}", sent.duration_us);
}

#[tokio::test]
async fn nobody_listening_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sent = send_to(&format!("http://{address}/"), json!({})).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Transient, 0));
    assert!(sent.detail.starts_with(&format!("cannot connect to {address}: ")), "{}", sent.detail);
    assert!(sent.detail.contains("refused"), "{}", sent.detail);
}

#[tokio::test]
async fn what_became_of_it_is_unknown_after_a_reset() {
    let address = raw(|stream| async move {
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let sent = send_to(&format!("http://{address}/"), json!({})).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Unknown, 0), "{sent:?}");
    assert!(sent.detail.contains("broke"), "{}", sent.detail);
}

/// Sends the head of an answer with the beginning of its body, waits until the client has read on, and resets.
async fn reset_within_the_body(head: &'static str) -> Sent {
    let address = raw(move |stream| async move {
        let mut stream = stream;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    send_to(&format!("http://{address}/"), json!({})).await
}

#[tokio::test]
async fn once_the_status_is_there_it_counts() {
    // What a reset overtakes on its way is lost with it: then there was no status.
    let sent = reset_within_the_body("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await;
    match sent.status {
        200 => assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}"),
        _ => assert_eq!((sent.result, sent.status), (AttemptResult::Unknown, 0), "{sent:?}"),
    }

    // An orderly end within the body cannot overtake the head.
    let address = raw(|stream| async move {
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await.unwrap();
    })
    .await;
    let sent = send_to(&format!("http://{address}/"), json!({})).await;
    assert_eq!((sent.result, sent.status, sent.response_head.as_str()), (AttemptResult::Delivered, 200, "part"));
    assert!(sent.detail.contains("broke off"), "{}", sent.detail);

    // A body that never ends is given up at the time limit; the status stands.
    for (head, result) in [("200 OK", AttemptResult::Delivered), ("500 Oh", AttemptResult::Transient)] {
        let address = raw(move |stream| async move {
            let mut stream = stream;
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: 100\r\n\r\npart");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut end = [0];
            let _ = stream.read(&mut end).await;
        })
        .await;
        let sent = send_to(&format!("http://{address}/"), json!({"timeout_ms": 300})).await;
        assert_eq!((sent.result, sent.response_head.as_str()), (result, "part"), "{sent:?}");
        assert!(sent.detail.contains("in time"), "{}", sent.detail);
    }
}

#[tokio::test]
async fn an_endless_answer_costs_only_its_connection() {
    let (stopped, wait) = tokio::sync::oneshot::channel();
    let stopped = Arc::new(std::sync::Mutex::new(Some(stopped)));
    let address = raw(move |stream| {
        let stopped = Arc::clone(&stopped);
        async move {
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").await.unwrap();
            let mut written = 0_usize;
            while stream.write_all(&[b'x'; 1_024]).await.is_ok() {
                written += 1_024;
            }
            stopped.lock().unwrap().take().unwrap().send(written).unwrap();
        }
    })
    .await;
    let sent = send_to(&format!("http://{address}/"), json!({})).await;
    assert_eq!((sent.result, sent.status, sent.response_head.len()), (AttemptResult::Delivered, 200, 4_096));
    // The server's writing ends, since the connection is closed and not just left alone.
    assert!(wait.await.unwrap() < 100_000_000);
}

#[tokio::test]
async fn what_became_of_it_is_unknown_where_the_answer_is_not_http() {
    let address = raw(|stream| async move {
        let mut stream = stream;
        stream.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
    })
    .await;
    let sent = send_to(&format!("http://{address}/"), json!({})).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Unknown, 0), "{sent:?}");

    let server = Server::start(|_| reply(200, &[], "")).await;
    let sent = send_to(&server.url().replace("http:", "https:"), json!({})).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Transient, 0), "plain HTTP where TLS is expected: {sent:?}");
    assert!(server.got().is_empty());
}

mod private_addresses {
    use super::*;

    #[tokio::test]
    async fn literal_ones_are_refused_before_anything_is_built() {
        for url in
            ["http://127.0.0.1:9/", "http://10.1.2.3/", "http://[::1]/", "http://169.254.169.254/latest/meta-data"]
        {
            let config = config(url, json!({"allow_private_addresses": false}));
            let built = WebhookDestination::new(&config, &[Secret::new(NEW)], Outlet::new("/", Filter::default()));
            let error = built.err().unwrap();
            assert!(matches!(error, WebhookError::PrivateAddress(_)), "{url}: {error}");
            assert!(chain(&error).contains("allow_private_addresses"), "{error}");
        }
    }

    #[tokio::test]
    async fn names_that_lead_to_them_are_refused_when_resolved() {
        let server = Server::start(|_| reply(200, &[], "")).await;
        let port = server.address.port();
        // The last two are numbers that the system's resolver takes for 127.0.0.1.
        for host in ["localhost", "127.1", "2130706433"] {
            let url = format!("http://{host}:{port}/");
            let sent = send_to(&url, json!({"allow_private_addresses": false})).await;
            assert_eq!((sent.result, sent.status), (AttemptResult::Rejected, 0), "{host}: {sent:?}");
            assert!(sent.detail.contains("allow_private_addresses"), "{host}: {}", sent.detail);
            let sent = send_to(&url, json!({})).await;
            assert_eq!(sent.result, AttemptResult::Delivered, "{host}, allowed: {sent:?}");
        }
        assert_eq!(server.got().len(), 3, "only what was allowed has arrived");
    }

    #[tokio::test]
    async fn the_plain_client_refuses_them_too() {
        let server = Server::start(|_| reply(200, &[], "")).await;
        let client = HttpClient::new(HttpOptions::default()).unwrap();
        for host in ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"] {
            let url = format!("http://{host}:{}/", server.address.port());
            let answer = client.request(Method::GET, &url, HeaderMap::new(), "", Duration::from_secs(60)).await;
            assert!(matches!(answer, Err(HttpError::PrivateAddress(_))), "{host}: {answer:?}");
        }
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn the_client_gives_whole_answers() {
    let server = Server::start(|got| {
        let text = format!("{} {} {}", got.method, got.path, String::from_utf8_lossy(&got.body));
        reply(418, &[("x-kind", "teapot")], text)
    })
    .await;
    let options = HttpOptions { allow_private_addresses: true, response_bytes_max: 100_000, ..HttpOptions::default() };
    let client = HttpClient::new(options).unwrap();
    let patient = Duration::from_millis(PATIENT_MS);
    let answer = client.request(Method::PUT, &server.url(), HeaderMap::new(), "tea", patient).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.body), (418, &Bytes::from("PUT /hooks?to=lockstep tea")));
    assert_eq!(answer.headers["x-kind"], "teapot");

    for (length, fits) in [(100_000, true), (100_001, false)] {
        server.answer_with(move |_| reply(200, &[], vec![b'x'; length]));
        match client.request(Method::GET, &server.url(), HeaderMap::new(), "", patient).await {
            Ok(answer) => assert!(fits && answer.body.len() == length),
            Err(error) => assert!(!fits && matches!(error, HttpError::TooLarge { .. }), "{error}"),
        }
    }
    let answer = client.request(Method::GET, "ftp://x/", HeaderMap::new(), "", patient).await;
    assert!(matches!(answer, Err(HttpError::Url { .. })));
}

#[test]
fn configuration_says_what_would_be_right() {
    let check = |more: Value, part: &str| {
        let mut config = json!({"url": "https://shop.example/"});
        for (name, value) in more.as_object().unwrap() {
            config[name] = value.clone();
        }
        let config: WebhookConfig = serde_json::from_value(config).unwrap();
        let error = chain(&config.check().unwrap_err());
        assert!(error.contains(part), "{more}: {error}");
    };
    check(json!({"url": "shop.example"}), "`url`");
    check(json!({"url": "ftp://shop.example/"}), "https and http");
    check(json!({"url": "http://[::ffff:127.0.0.1]/"}), "allow_private_addresses");
    check(json!({"timeout_ms": 0}), "`timeout_ms` must be from 1");
    check(json!({"concurrency_max": 0}), "`concurrency_max` must be from 1");
    check(json!({"headers": {"Webhook-Id": "1"}}), "`headers.Webhook-Id`");
    check(json!({"headers": {"Host": "other"}}), "`headers.Host`");
    check(json!({"headers": {"a b": "1"}}), "`headers.a b`");
    check(json!({"headers": {"x": "a\nb"}}), "`headers.x`");
    check(json!({"signature": {"scheme": "hmac", "header": "a b"}}), "`signature` cannot be used: `header`");
    check(json!({"signature": {"scheme": "hmac", "header": "Host"}}), "`signature` cannot be in the header `host`");

    let defaults: DestinationConfig =
        serde_json::from_value(json!({"kind": "webhook", "url": "https://shop.example/"})).unwrap();
    let DestinationConfig::Webhook(config) = &defaults else { panic!("a webhook") };
    assert_eq!((config.timeout_ms, config.concurrency_max, config.allow_private_addresses), (5_000, 64, false));
    assert!(defaults.check().is_ok());
    for unknown in [
        json!({"kind": "webhook", "url": "https://x/", "uri": 1}),
        json!({"kind": "fax", "url": "https://x/"}),
        json!({"kind": "webhook", "url": "https://x/", "filter": {"kind": "order"}}),
    ] {
        assert!(serde_json::from_value::<DestinationConfig>(unknown.clone()).is_err(), "{unknown}");
    }
    let secretless = WebhookDestination::new(config, &[], Outlet::new("/", Filter::default()));
    assert!(matches!(secretless.err(), Some(WebhookError::Secrets(_))), "nothing goes out unsigned");
    let hmac = WebhookConfig {
        signature: Some(serde_json::from_value(json!({"scheme": "hmac", "header": "x-s"})).unwrap()),
        ..config.clone()
    };
    let secrets = [Secret::new(NEW), Secret::new(OLD)];
    let crowded = WebhookDestination::new(&hmac, &secrets, Outlet::new("/", Filter::default())).err().unwrap();
    assert!(chain(&crowded).contains("`signature.further_header`"), "{}", chain(&crowded));
}

#[tokio::test]
async fn several_events_go_as_one_signed_array() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let destination = destination(&config(&server.url(), json!({"batch": {"max": 10}})));
    assert_eq!(destination.batch().map(|batch| (batch.events_max, batch.window_ms)), Some((10, 20)));
    let prepare = |position, key: &str| {
        let event = kit::event(position, "order", key, &[("lifecycle", r#""confirmed""#)]);
        Arc::new(destination.prepare(&event).unwrap().unwrap())
    };
    let events = [prepare(41, "web:7"), prepare(43, "web:8")];
    for attempt in 1..3 {
        let sent = destination.send_batch(&events, attempt).await;
        assert_eq!((sent.result, sent.status), (AttemptResult::Delivered, 200), "{sent:?}");
    }
    let sent = destination.send_batch(&events[..1], 1).await;
    assert_eq!(sent.result, AttemptResult::Delivered, "{sent:?}");

    let [got, again, alone] = &server.got()[..] else { panic!("three requests") };
    let header = |name: &str| got.headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/cloudevents-batch+json");
    assert_eq!(header("lockstep-event-ids"), "41,43");
    assert_eq!((again.headers["webhook-id"].to_str().unwrap(), &again.body), (header("webhook-id"), &got.body));
    let ids = |body: &Bytes| {
        let body: Value = serde_json::from_slice(body).unwrap();
        body.as_array().unwrap().iter().map(|event| event["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&got.body), [json!("41"), json!("43")]);
    assert_eq!((ids(&alone.body), alone.headers["webhook-id"].to_str().unwrap()), (vec![json!("41")], "41"));
    let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    let verifier = Verifier::new(Scheme::named("standard-webhooks").unwrap(), vec![Secret::new(NEW)]).unwrap();
    assert_eq!(verifier.verify(&got.headers, &got.body, now_s), Ok(()), "what is signed is the whole request");
}

#[tokio::test]
async fn a_batch_has_its_bounds() {
    let check =
        |batch: Value| config("http://127.0.0.1:9/", json!({"batch": batch})).check().map_err(|e| e.to_string());
    assert_eq!(check(json!({})), Ok(()));
    assert_eq!(check(json!({"max": 501})), Err("`batch.max` must be from 1 to 500, not 501".to_owned()));
    assert_eq!(check(json!({"max": 0})), Err("`batch.max` must be from 1 to 500, not 0".to_owned()));
    assert_eq!(check(json!({"bytes_max": 0})), Err("`batch.bytes_max` must be from 1 to 67108864, not 0".to_owned()));
}
