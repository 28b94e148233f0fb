//! The destination that is an HTTP interface, against real servers on loopback.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use lockstep_connect::destination::kit::{self, Behaviour, Peer, Received};
use lockstep_connect::destination::{Destination, Filter, Outlet, Prepared, Sent};
use lockstep_connect::signature::Secret;
use lockstep_connectors::DestinationConfig;
use lockstep_connectors::webhook::chain;
use lockstep_core::delivery::AttemptResult;
use lockstep_mapping::Program;
use serde_json::{Value, json};

use crate::common::{Got, Reply, Server, reply};

/// Puts orders under their keys, and deletes those that are cancelled.
const ORDERS: &str = r#"
    order = .data.document
    request = { "method": "PUT", "path": ["orders", .data.key], "headers": { "x-number": order.number }, "body": order }
    if order.lifecycle == "cancelled" { request = { "method": "DELETE", "path": ["orders", .data.key] } }
    request
"#;

fn built(config: Value, secrets: &[&str], mapping: Option<&str>) -> Result<Box<dyn Destination>, String> {
    let mut whole = json!({"kind": "http", "allow_private_addresses": true, "timeout_ms": 60_000});
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    if mapping.is_some() {
        whole["mapping"] = "maps/erp.vrl".into();
    }
    let config: DestinationConfig = serde_json::from_value(whole).map_err(|error| error.to_string())?;
    let mut outlet = Outlet::new("/hubs/test", Filter::default());
    if let Some(source) = mapping {
        outlet = outlet.with_mapping(Program::compile("maps/erp.vrl", source).unwrap());
    }
    let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    config.build(&secrets, outlet).map_err(|error| chain(&error))
}

fn prepared(destination: &dyn Destination, position: u64, fields: &[(&str, &str)]) -> Prepared {
    destination.prepare(&kit::event(position, "order", "web:7", fields)).unwrap().unwrap()
}

async fn send(destination: &dyn Destination, position: u64, fields: &[(&str, &str)]) -> Sent {
    destination.send(&prepared(destination, position, fields), 1).await
}

/// The base of an interface at this server.
fn base(server: &Server) -> String {
    format!("http://{}/api", server.address)
}

/// A server whose requests are as they were prepared where their body is.
struct Interface(Server);

#[async_trait]
impl Peer for Interface {
    async fn behave(&self, behaviour: Behaviour) {
        self.0.behave(behaviour).await;
    }

    async fn received(&self) -> Vec<Received> {
        self.0.received().await
    }

    fn is_same(&self, prepared: &Prepared, received: &Received) -> bool {
        let asked: Value = serde_json::from_slice(&prepared.body).unwrap();
        let body: Value = serde_json::from_slice(&received.body).unwrap();
        received.id == prepared.id && asked["body"] == body
    }
}

#[tokio::test]
async fn keeps_to_the_contract_of_all_destinations() {
    for mapping in [None, Some(ORDERS)] {
        let server = Interface(Server::start(|_| reply(200, &[], "")).await);
        let destination = built(json!({"url": base(&server.0), "timeout_ms": 2_000}), &[], mapping).unwrap();
        kit::check(destination.as_ref(), &server).await;
    }
}

#[tokio::test]
async fn a_mapping_makes_the_whole_request() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let config = json!({"url": base(&server), "headers": {"X-Key": "hush"}, "idempotency_header": "x-request-id"});
    let destination = built(config, &[], Some(ORDERS)).unwrap();
    let confirmed = [("lifecycle", r#""confirmed""#), ("number", "5"), ("total", "12345678901234567890.10")];
    let request = prepared(destination.as_ref(), 41, &confirmed);
    assert!(!String::from_utf8_lossy(&request.body).contains("hush"), "a dead letter shows no secret");
    assert_eq!(destination.send(&request, 1).await.result, AttemptResult::Delivered);
    send(destination.as_ref(), 42, &[("lifecycle", r#""cancelled""#)]).await;
    let [put, delete] = &server.got()[..] else { panic!("two requests") };
    let header = |got: &Got, name: &str| got.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!((&put.method, put.path.as_str()), (&Method::PUT, "/api/orders/web%3A7"));
    assert_eq!(header(put, "x-request-id").as_deref(), Some("41"));
    assert_eq!((header(put, "x-number").as_deref(), header(put, "x-key").as_deref()), (Some("5"), Some("hush")));
    assert_eq!(header(put, "content-type").as_deref(), Some("application/json"));
    assert_eq!(header(put, "idempotency-key"), None);
    assert!(header(put, "traceparent").is_some());
    assert_eq!((&delete.method, delete.path.as_str(), delete.body.len()), (&Method::DELETE, "/api/orders/web%3A7", 0));
    assert_eq!(header(delete, "content-type"), None);

    let failing = built(json!({"url": base(&server)}), &[], Some(r#"{ "path": "/../admin" }"#)).unwrap();
    let error = failing.prepare(&kit::event(1, "order", "1", &[])).unwrap_err();
    assert!(error.to_string().contains("must stay below `url`") && error.at.as_deref() == Some("maps/erp.vrl"));
}

#[tokio::test]
async fn what_is_replayed_says_so_also_where_a_mapping_makes_the_body() {
    let server = Server::start(|_| reply(200, &[], "")).await;
    let destination = built(json!({"url": base(&server)}), &[], Some(ORDERS)).unwrap();
    let mut event = kit::event(41, "order", "web:7", &[("number", "5")]);
    for replay in [None, Some(77)] {
        event.replay = replay;
        let prepared = destination.prepare(&event).unwrap().unwrap();
        assert_eq!(destination.send(&prepared, 1).await.result, AttemptResult::Delivered);
    }
    let [live, replayed] = &server.got()[..] else { panic!("two requests") };
    assert!(!live.headers.contains_key("lockstep-replay"));
    assert_eq!(replayed.headers["lockstep-replay"], "77");
    assert_eq!(replayed.headers["idempotency-key"], live.headers["idempotency-key"]);
}

/// A server that gives tokens and takes them: only the last one it gave.
struct Guarded {
    server: Server,
    given: Arc<AtomicUsize>,
}

impl Guarded {
    async fn start(expires_in: Value) -> Self {
        let given = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&given);
        let server = Server::start(move |got| match got.path.as_str() {
            "/token" if got.headers["authorization"] == "Basic aHViOnMlM0FjcmV0" => {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let answer =
                    json!({"access_token": format!("t{number}"), "token_type": "bearer", "expires_in": expires_in});
                reply(200, &[], answer.to_string())
            }
            "/token" => reply(401, &[], r#"{"error":"invalid_client","error_description":"who are you"}"#),
            _ => {
                let expected = format!("Bearer t{}", count.load(Ordering::SeqCst));
                let is_good = got.headers.get("authorization").is_some_and(|value| *value == expected);
                if is_good { reply(200, &[], "") } else { reply(401, &[], "") }
            }
        })
        .await;
        Self { server, given }
    }

    fn config(&self) -> Value {
        let token_url = format!("http://{}/token", self.server.address);
        json!({"url": base(&self.server), "oauth": {"token_url": token_url, "client_id": "hub", "scope": "a b"}})
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn many_requests_share_one_token_and_one_refresh() {
    let guarded = Guarded::start(json!(3_600)).await;
    let destination = built(guarded.config(), &["s:cret"], None).unwrap();
    let sends = |from: u64| join_all((from..from + 50).map(|at| send(destination.as_ref(), at, &[("a", "1")])));
    let all_delivered = |all: Vec<Sent>| all.iter().all(|sent| sent.result == AttemptResult::Delivered);
    assert!(all_delivered(sends(1).await));
    assert_eq!(guarded.given(), 1);
    let asked = guarded.server.got().into_iter().find(|got| got.path == "/token").unwrap();
    assert_eq!(asked.body, "grant_type=client_credentials&scope=a%20b");

    // The server forgets the token: each of fifty is refused, and one of them has a new one for all.
    guarded.given.fetch_add(1, Ordering::SeqCst);
    assert!(all_delivered(sends(100).await));
    assert_eq!(guarded.given(), 3, "one more was given");
}

#[tokio::test]
async fn a_token_is_not_used_until_its_last_moment() {
    let guarded = Guarded::start(json!("0")).await;
    let destination = built(guarded.config(), &["s:cret"], None).unwrap();
    for at in 1..4 {
        assert_eq!(send(destination.as_ref(), at, &[("a", "1")]).await.result, AttemptResult::Delivered);
    }
    assert_eq!(guarded.given(), 3, "what has ended already serves one request");
}

#[tokio::test]
async fn a_401_with_a_new_token_is_an_answer() {
    let guarded = Guarded::start(json!(null)).await;
    guarded.server.answer_with(|got| match got.path.as_str() {
        "/token" => reply(200, &[], r#"{"access_token":"t"}"#),
        _ => reply(401, &[], "never"),
    });
    let destination = built(guarded.config(), &["s:cret"], None).unwrap();
    let sent = send(destination.as_ref(), 1, &[("a", "1")]).await;
    assert_eq!((sent.status, sent.response_head.as_str()), (401, "never"));
    let paths: Vec<_> = guarded.server.got().iter().map(|got| got.path.clone()).collect();
    assert_eq!(paths, ["/token", "/api", "/token", "/api"], "once anew, and no more");
}

#[tokio::test]
async fn the_other_secret_of_a_rotation_is_tried() {
    let guarded = Guarded::start(json!(3_600)).await;
    let destination = built(guarded.config(), &["new one", "s:cret"], None).unwrap();
    assert_eq!(send(destination.as_ref(), 1, &[("a", "1")]).await.result, AttemptResult::Delivered);
    let wrong = built(guarded.config(), &["wrong"], None).unwrap();
    let sent = send(wrong.as_ref(), 1, &[("a", "1")]).await;
    assert_eq!(
        sent.detail,
        "no access token: `oauth.token_url` answered 401 Unauthorized: invalid_client: who are you"
    );
    assert_ne!(sent.result, AttemptResult::Delivered);
}

#[tokio::test]
async fn a_token_server_that_fails_is_asked_once_for_all_who_wait() {
    let guarded = Guarded::start(json!(null)).await;
    let check = |answer: fn() -> Reply, result: AttemptResult, part: &'static str| {
        let guarded = &guarded;
        async move {
            guarded.server.answer_with(move |_| answer());
            let before = guarded.server.got().len();
            let destination = built(guarded.config(), &["s:cret"], None).unwrap();
            let all = join_all((1..20).map(|at| send(destination.as_ref(), at, &[("a", "1")]))).await;
            for sent in all {
                assert_eq!(sent.result, result, "{sent:?}");
                assert!(sent.detail.contains(part) && sent.detail.starts_with("no access token: "), "{}", sent.detail);
            }
            assert_eq!(guarded.server.got().len() - before, 1, "{part}");
        }
    };
    check(|| reply(500, &[], ""), AttemptResult::Transient, "500 Internal Server Error").await;
    let throttled = AttemptResult::Throttled { retry_after_ms: Some(7_000) };
    check(|| reply(429, &[("retry-after", "7")], ""), throttled, "429").await;
    check(|| Reply::Cut, AttemptResult::Transient, "broke before the answer").await;
    // What a token server refuses is no word about the event: it must not become a dead letter.
    check(|| reply(404, &[], ""), AttemptResult::Unauthorized, "404 Not Found").await;
    check(|| reply(302, &[("location", "/login")], ""), AttemptResult::Unauthorized, "302 Found").await;

    for (answer, part) in [("<html>", "not the JSON of a token"), ("{}", "no `access_token`")] {
        guarded.server.answer_with(move |_| reply(200, &[], answer));
        let destination = built(guarded.config(), &["s:cret"], None).unwrap();
        let sent = send(destination.as_ref(), 1, &[("a", "1")]).await;
        assert!(sent.detail.contains(part), "{}", sent.detail);
    }
}

/// A store of documents with versions, which takes conditional writes.
async fn store() -> (Server, Arc<Mutex<HashMap<String, (u64, Bytes)>>>) {
    let documents: Arc<Mutex<HashMap<String, (u64, Bytes)>>> = Arc::default();
    let kept = Arc::clone(&documents);
    let server = Server::start(move |got| {
        let mut documents = kept.lock().unwrap();
        let there = documents.get(&got.path).cloned();
        let tag = |version: u64| format!("\"v{version}\"");
        if got.method == Method::GET {
            return match there {
                Some((version, body)) => reply(200, &[("etag", &tag(version))], body),
                None => reply(404, &[], ""),
            };
        }
        let header = |name: &str| got.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let now = there.as_ref().map(|(version, _)| tag(*version));
        let holds = match (header("if-match"), header("if-none-match")) {
            (Some(wanted), _) => now.as_deref() == Some(wanted.as_str()),
            (None, Some(_)) => now.is_none(),
            (None, None) => true,
        };
        if !holds {
            return reply(412, &[], "");
        }
        let version = there.map_or(1, |(version, _)| version + 1);
        documents.insert(got.path.clone(), (version, got.body.clone()));
        reply(200, &[("etag", &tag(version))], json!({"version": format!("v{version}")}).to_string())
    })
    .await;
    (server, documents)
}

fn asked(server: &Server) -> Vec<String> {
    let text = |got: &Got, name: &str| got.headers.get(name).map(|v| format!(" {name}: {}", v.to_str().unwrap()));
    let line = |got: Got| {
        let condition = text(&got, "if-match").or(text(&got, "if-none-match")).unwrap_or_default();
        format!("{}{condition}", got.method)
    };
    server.got().into_iter().map(line).collect()
}

#[tokio::test]
async fn what_was_written_last_is_the_condition_of_the_next_write() {
    for version_at in [json!(null), json!("/version")] {
        let (server, documents) = store().await;
        let conditional = json!({"remembered_max": 10, "version_at": version_at, "conflict": "overwrite"});
        let destination = built(json!({"url": base(&server), "conditional": conditional}), &[], Some(ORDERS)).unwrap();
        for at in 1..4 {
            assert_eq!(send(destination.as_ref(), at, &[("a", "1")]).await.result, AttemptResult::Delivered);
        }
        let first = ["GET", "PUT if-none-match: *", "PUT if-match: \"v1\"", "PUT if-match: \"v2\""];
        assert_eq!(asked(&server), first);
        if !version_at.is_null() {
            continue;
        }

        // Somebody else writes: the hub hears of it, looks at what is there, and its word counts.
        documents.lock().unwrap().values_mut().for_each(|(version, _)| *version = 9);
        let again = prepared(destination.as_ref(), 4, &[("a", "4")]);
        let sent = destination.send(&again, 1).await;
        assert_eq!((sent.result, sent.status), (AttemptResult::Transient, 412));
        assert!(sent.detail.contains("written again"), "{}", sent.detail);
        assert_eq!(destination.send(&again, 2).await.result, AttemptResult::Delivered);
        assert_eq!(asked(&server)[4..], ["PUT if-match: \"v3\"", "GET", "PUT if-match: \"v9\""]);
    }
}

#[tokio::test]
async fn a_conflict_is_what_the_configuration_says() {
    const CREATES: &str = r#"{ "method": "PUT", "path": ["orders", .data.key], "headers": { "If-None-Match": "*" }, "body": .data.document }"#;
    let (server, _) = store().await;
    let with = |conflict: &str, mapping: &str| {
        let conditional = json!({"conflict": conflict});
        built(json!({"url": base(&server), "conditional": conditional}), &[], Some(mapping)).unwrap()
    };
    let creates = with("delivered", CREATES);
    assert_eq!(send(creates.as_ref(), 1, &[("a", "1")]).await.status, 200);
    let sent = send(creates.as_ref(), 2, &[("a", "1")]).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Delivered, 412));
    assert_eq!(sent.detail, "answered 412 Precondition Failed: it is there already");
    for (conflict, part) in [("dead-letter", "somebody else"), ("overwrite", "the mapping's condition")] {
        let sent = send(with(conflict, CREATES).as_ref(), 3, &[("a", "3")]).await;
        assert_eq!((sent.result, sent.status), (AttemptResult::Rejected, 412));
        assert!(sent.detail.contains(part), "{}", sent.detail);
    }
}

#[tokio::test]
async fn an_own_attempt_that_had_no_answer_is_no_conflict() {
    const CREATES: &str = r#"{ "method": "PUT", "path": ["orders", .data.key], "headers": { "If-None-Match": "*" },
        "body": { "number": .data.document.number } }"#;
    // It takes what it is sent the first time, and cuts the connection; from then on the condition does not hold.
    let there: Arc<Mutex<Option<String>>> = Arc::default();
    let state = there.clone();
    let server = Server::start(move |got| {
        let mut there = state.lock().unwrap();
        match (got.method.clone(), there.clone()) {
            (Method::GET, Some(body)) => reply(200, &[("etag", "\"v1\"")], body),
            (Method::GET, None) => reply(404, &[], ""),
            (_, Some(_)) => reply(412, &[], ""),
            (_, None) => {
                let body: Value = serde_json::from_slice(&got.body).unwrap();
                *there = Some(json!({"id": 1, "number": body["number"]}).to_string());
                Reply::Cut
            }
        }
    })
    .await;
    for conflict in ["dead-letter", "overwrite"] {
        *there.lock().unwrap() = None;
        let conditional = json!({"conflict": conflict});
        let config = json!({"url": base(&server), "conditional": conditional});
        let destination = built(config, &[], Some(CREATES)).unwrap();
        let event = prepared(destination.as_ref(), 1, &[("number", "5")]);
        assert_eq!(destination.send(&event, 1).await.result, AttemptResult::Unknown);
        let sent = destination.send(&event, 2).await;
        assert_eq!((sent.result, sent.status), (AttemptResult::Delivered, 412), "{}", sent.detail);
        assert!(sent.detail.contains("what is there is what was asked for"), "{}", sent.detail);

        // What is there now is something else: a person decides, and nobody is blamed who may have done nothing.
        *there.lock().unwrap() = Some(json!({"number": 6}).to_string());
        let sent = destination.send(&event, 3).await;
        assert_eq!(sent.result, AttemptResult::Rejected);
        assert!(sent.detail.contains("an earlier attempt that had no answer"), "{}", sent.detail);
    }
    let gets = server.got().iter().filter(|got| got.method == Method::GET).count();
    assert_eq!(gets, 4, "one for each conflict");
}

#[tokio::test]
async fn an_own_attempt_that_does_not_count_is_no_conflict_either() {
    // The destination goes down, or the hub does, while a write is under way: that attempt uses up no number.
    let (server, documents) = store().await;
    let conditional = json!({"remembered_max": 10});
    let destination = built(json!({"url": base(&server), "conditional": conditional}), &[], Some(ORDERS)).unwrap();
    let event = prepared(destination.as_ref(), 1, &[("number", r#""5""#)]);
    assert_eq!(destination.send(&event, 1).await.result, AttemptResult::Delivered);
    documents.lock().unwrap().values_mut().for_each(|(version, _)| *version = 9);
    let sent = destination.send(&event, 1).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Delivered, 412), "{}", sent.detail);
    assert_eq!(asked(&server)[2..], ["PUT if-match: \"v1\"", "GET"]);
}

#[tokio::test]
async fn what_is_there_is_asked_for_as_it_was_written() {
    const TENANTS: &str = r#"{ "method": "PUT", "path": ["orders", .data.key], "body": { "number": .data.document.number },
        "headers": { "X-Tenant": .data.document.tenant, "Accept-Version": 2, "Content-Type": "application/merge-patch+json",
            "Content-Encoding": "identity", "If-Match": "\"v1\"", "X-HTTP-Method-Override": "PATCH" } }"#;
    // Each tenant has another one under the same address.
    let server = Server::start(|got| match (got.method.clone(), got.headers["x-tenant"].as_bytes()) {
        (Method::GET, b"blue") => reply(200, &[], r#"{"number": 5}"#),
        (Method::GET, _) => reply(200, &[], r#"{"number": 6}"#),
        _ => reply(412, &[], ""),
    })
    .await;
    let destination = built(json!({"url": base(&server)}), &[], Some(TENANTS)).unwrap();
    for (tenant, result) in [(r#""blue""#, AttemptResult::Delivered), (r#""red""#, AttemptResult::Rejected)] {
        let sent = send(destination.as_ref(), 1, &[("number", "5"), ("tenant", tenant)]).await;
        assert_eq!((sent.result, sent.status), (result, 412), "{}", sent.detail);
    }
    let asked = server.got().into_iter().filter(|got| got.method == Method::GET);
    for got in asked {
        assert_eq!(got.headers["accept-version"], "2");
        let of_the_write = ["content-type", "content-encoding", "content-length", "if-match", "x-http-method-override"];
        assert!(of_the_write.iter().all(|name| !got.headers.contains_key(*name)), "{:?}", got.headers);
    }

    // So is the version on which is written.
    let conditional = json!({"remembered_max": 10});
    let source = TENANTS.replace(r#""If-Match": "\"v1\"", "#, "");
    let destination = built(json!({"url": base(&server), "conditional": conditional}), &[], Some(&source)).unwrap();
    let before = server.got().len();
    send(destination.as_ref(), 2, &[("number", "5"), ("tenant", r#""blue""#)]).await;
    let look = &server.got()[before];
    assert_eq!((look.method.clone(), look.headers["x-tenant"].as_bytes()), (Method::GET, &b"blue"[..]));
}

#[tokio::test]
async fn what_is_there_may_not_be_read_at_all_or_not_now() {
    const WRITES: &str =
        r#"{ "method": "PUT", "path": "/a", "headers": { "If-Match": "\"v1\"" }, "body": { "number": 5 } }"#;
    let server = Server::start(|_| reply(412, &[], "")).await;
    let destination = built(json!({"url": base(&server)}), &[], Some(WRITES)).unwrap();
    let throttled = |ms| AttemptResult::Throttled { retry_after_ms: ms };
    for (status, after, result) in [
        // A credential that may only write: asking again would not help.
        (401, "1", AttemptResult::Rejected),
        (403, "1", AttemptResult::Rejected),
        (405, "1", AttemptResult::Rejected),
        (429, "7", throttled(Some(7_000))),
        (429, "", throttled(None)),
        (503, "3", throttled(Some(3_000))),
        (500, "1", AttemptResult::Transient),
    ] {
        server.answer_with(move |got| match got.method {
            Method::GET => reply(status, &[("retry-after", after)], ""),
            _ => reply(412, &[], ""),
        });
        let sent = send(destination.as_ref(), 1, &[("a", "1")]).await;
        assert_eq!((sent.result, sent.status), (result, 412), "{status}: {}", sent.detail);
    }
    server.answer_with(|got| if got.method == Method::GET { Reply::Cut } else { reply(412, &[], "") });
    assert_eq!(send(destination.as_ref(), 1, &[("a", "1")]).await.result, AttemptResult::Transient);
}

#[tokio::test]
async fn success_is_what_the_configuration_says() {
    let server = Server::start(|got| match got.method {
        Method::DELETE => reply(404, &[], ""),
        _ => reply(200, &[], r#"{"result":"queued"}"#),
    })
    .await;
    let success = json!({"statuses": [200, 404], "answer": {"/result": "done"}});
    let destination = built(json!({"url": base(&server), "success": success}), &[], Some(ORDERS)).unwrap();
    let sent = send(destination.as_ref(), 1, &[("a", "1")]).await;
    assert_eq!(sent.result, AttemptResult::Rejected);
    assert_eq!(sent.detail, "answered 200 OK: `success.answer` wants \"done\" at /result, and there is \"queued\"");
    let success = json!({"statuses": [204, 404]});
    let destination = built(json!({"url": base(&server), "success": success}), &[], Some(ORDERS)).unwrap();
    let gone = send(destination.as_ref(), 2, &[("lifecycle", r#""cancelled""#)]).await;
    assert_eq!((gone.result, gone.status), (AttemptResult::Delivered, 404));
}

#[tokio::test]
async fn a_version_that_can_not_be_asked_for_is_no_success_of_the_write() {
    let server = Server::start(|got| match got.method {
        Method::GET => reply(409, &[], "not now"),
        _ => reply(200, &[], ""),
    })
    .await;
    let config = json!({
        "url": base(&server),
        "conditional": {"remembered_max": 10},
        "success": {"statuses": [200, 409]},
    });
    let destination = built(config.clone(), &[], Some(ORDERS)).unwrap();
    let sent = send(destination.as_ref(), 1, &[("a", "1")]).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Rejected, 409));
    assert!(sent.detail.contains("asked for the version"), "{}", sent.detail);
    server.answer_with(|_| Reply::Cut);
    assert_eq!(send(destination.as_ref(), 2, &[("a", "1")]).await.result, AttemptResult::Transient);
    assert!(server.got().iter().all(|got| got.method == Method::GET), "nothing was written");
}

#[tokio::test]
async fn private_addresses_and_redirects_are_as_for_webhooks() {
    let target = Server::start(|_| reply(200, &[], "")).await;
    let to = base(&target);
    let server = Server::start(move |_| reply(307, &[("location", &to)], "")).await;
    let destination = built(json!({"url": base(&server)}), &[], None).unwrap();
    let sent = send(destination.as_ref(), 1, &[("a", "1")]).await;
    assert_eq!((sent.result, sent.status), (AttemptResult::Rejected, 307));
    assert_eq!(target.connections(), 0);

    let named = format!("http://localhost:{}/api", target.address.port());
    let config = json!({"url": named, "allow_private_addresses": false});
    let sent = send(built(config, &[], None).unwrap().as_ref(), 1, &[("a", "1")]).await;
    assert_eq!((sent.result, sent.status, target.connections()), (AttemptResult::Rejected, 0, 0));
    // The token's address as well: the secret goes there.
    let oauth = json!({"token_url": named, "client_id": "hub"});
    let config = json!({"url": "https://erp.example/", "oauth": oauth, "allow_private_addresses": false});
    let sent = send(built(config, &["s"], None).unwrap().as_ref(), 1, &[("a", "1")]).await;
    assert_eq!((sent.result, target.connections()), (AttemptResult::Rejected, 0), "{sent:?}");
    assert!(sent.detail.contains("allow_private_addresses"), "{}", sent.detail);
}

#[test]
fn configuration_says_what_would_be_right() {
    let check = |more: Value, secrets: &[&str], part: &str| {
        let mut config = json!({"url": "https://erp.example/api"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = built(config, secrets, None).err().unwrap_or_else(|| panic!("{more} is taken"));
        assert!(error.contains(part), "{more}: {error}");
    };
    let token = json!({"token_url": "https://login.example/", "client_id": "hub"});
    check(json!({"url": "erp.example"}), &[], "`url`");
    check(json!({"url": "https://erp.example/?a=1"}), &[], "`url` must end before the query");
    check(json!({"url": "http://10.0.0.1/", "allow_private_addresses": false}), &[], "`url` is refused");
    check(json!({"method": "post"}), &[], "`method` must be a method");
    check(json!({"timeout_ms": 0}), &[], "`timeout_ms` must be from 1");
    check(json!({"headers": {"Host": "x"}}), &[], "`headers.Host` is set by the hub");
    check(json!({"idempotency_header": "a b"}), &[], "`idempotency_header` must be");
    check(json!({"success": {"statuses": [100]}}), &[], "`success.statuses`");
    check(json!({"conditional": {"version_at": "/v"}}), &[], "`conditional.version_at`");
    check(json!({"conditional": {"remembered_max": 5, "version_at": "v"}}), &[], "`conditional.version_at`");
    check(json!({"oauth": token}), &[], "`secrets` must have the secret");
    check(json!({}), &["s"], "`secrets` are for `oauth`");
    check(json!({"oauth": token, "headers": {"Authorization": "x"}}), &["s"], "`headers.authorization`");
    check(json!({"oauth": {"token_url": "x", "client_id": "hub"}}), &["s"], "`oauth.token_url`");
    let own = json!({"token_url": "https://login.example/", "client_id": "hub", "parameters": {"scope": "a"}});
    check(json!({"oauth": own}), &["s"], "`oauth.parameters` must not have `scope`");
    check(json!({"oauth": {"token_url": "https://login.example/"}}), &["s"], "client_id");
}
