//! Where an event stands at each destination, and writers who wait for it.

use std::sync::Arc;

use http::Method;
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::Domain;
use lockstep_core::Event;
use lockstep_core::delivery::{AttemptResult, RetryPolicy};
use lockstep_hub::delivery::{DeliveryOptions, Start};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::{Answer, Server, Setup, price, price_path};
use crate::stream::Reader;

/// What a [`Port`] does with deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Takes,
    Rejects,
    Fails,
    Holds,
    Filters,
}

/// A destination that does what it is told.
pub(crate) struct Port(watch::Sender<Mode>);

impl Port {
    pub(crate) fn set(&self, mode: Mode) {
        self.0.send_replace(mode);
    }
}

#[async_trait::async_trait]
impl Destination for Port {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let id = event.position.to_string();
        let body = event.document_json();
        let prepared = Prepared { id, body, content_type: "application/json", trace: None, replay: None };
        Ok((*self.0.borrow() != Mode::Filters).then_some(prepared))
    }

    async fn send(&self, _prepared: &Prepared, _attempt: u32) -> Sent {
        let mode = *self.0.subscribe().wait_for(|mode| *mode != Mode::Holds).await.unwrap();
        let (result, status) = match mode {
            Mode::Rejects => (AttemptResult::Rejected, 422),
            Mode::Fails => (AttemptResult::Transient, 503),
            _ => (AttemptResult::Delivered, 200),
        };
        Sent { result, status, detail: format!("answered {status}"), response_head: String::new(), duration_us: 1 }
    }
}

pub(crate) fn add(server: &Server, name: &str, mode: Mode) -> Arc<Port> {
    let port = Arc::new(Port(watch::Sender::new(mode)));
    // Whoever fails waits longer than any test.
    let retry =
        RetryPolicy { retries_max: 3, backoff_first_ms: 900_000, backoff_max_ms: 900_000, ..RetryPolicy::default() };
    let start = if name.starts_with("late") { Start::Now } else { Start::Beginning };
    let options = DeliveryOptions { retry, start, report_interval_ms: 5, ..DeliveryOptions::default() };
    server.hub.add_destination(name, port.clone(), options);
    port
}

fn at(answer: &Answer, name: &str) -> Value {
    let body = answer.json();
    let all = body["destinations"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|one| one["destination"] == name).unwrap_or_default()
}

fn is(name: &'static str, state: &'static str) -> impl Fn(&Answer) -> bool {
    move |answer| at(answer, name)["state"] == state
}

async fn post(server: &Server, query: &str, wait: &str, event: &Value) -> Answer {
    let mut headers = vec![("content-type", "application/cloudevents+json")];
    if !wait.is_empty() {
        headers.push(("prefer", wait));
    }
    server.call(Method::POST, &format!("/v1/events{query}"), &headers, event.to_string()).await
}

#[tokio::test]
async fn an_event_is_shown_with_where_it_stands_at_each_destination() {
    let server = Server::start().await;
    for (name, mode) in
        [("search", Mode::Takes), ("erp", Mode::Rejects), ("cache", Mode::Fails), ("mail", Mode::Filters)]
    {
        add(&server, name, mode);
    }
    let wms = add(&server, "wms", Mode::Holds);
    server.event(&price("1", "A", 1)).await.ok();
    let second = server.event(&price("2", "A", 2)).await.ok()["results"][0]["position"].clone();
    server.until("/v1/destinations/mail", "both events", |a| a.json()["published"] == 2).await;
    add(&server, "late", Mode::Takes);
    let first = "/v1/events/1/propagation";
    let states =
        [("search", "delivered"), ("erp", "dead"), ("cache", "parked"), ("mail", "filtered"), ("late", "skipped")];
    for (name, state) in states {
        server.until(first, state, is(name, state)).await;
    }
    let shown = server.get(first).await;
    let body = shown.ok();
    assert_eq!(
        (&body["complete"], &body["type"], &body["key"]),
        (&json!(false), &json!("price.changed"), &json!("A:retail:EUR"))
    );
    assert_eq!(at(&shown, "wms")["state"], "pending");
    assert!(at(&shown, "search")["at"].is_string(), "{body}");
    let parked = at(&shown, "cache");
    assert_eq!(
        (&parked["attempts"], &parked["reason"], &parked["behind"]),
        (&json!(1), &json!("answered 503"), &json!(null))
    );
    assert!(parked["next_attempt_at"].is_string());
    let dead = at(&shown, "erp");
    assert_eq!((&dead["reason"], &dead["dead_letter"]), (&json!("rejected"), &json!("/v1/dead-letters/erp/1")));
    assert_eq!(server.get(dead["dead_letter"].as_str().unwrap()).await.ok()["event"], 1);
    // What waits behind a parked event of its entity is parked as well, and says behind which.
    let second = server.get(&format!("/v1/events/{second}/propagation")).await;
    assert_eq!((&at(&second, "cache")["state"], &at(&second, "cache")["behind"]), (&json!("parked"), &json!(1)));

    let headers = [("content-type", "application/json")];
    let discard = "/v1/dead-letters/erp/1/discard";
    assert_eq!(server.call(Method::POST, discard, &headers, r#"{"reason": "x"}"#).await.status, 204);
    server.until(first, "a discarded dead letter", is("erp", "discarded")).await;
    server.get("/v1/events/99/propagation").await.problem(404, "unknown-event");
    server.get("/v1/events/x/propagation").await.problem(400, "invalid-parameter");
    wms.set(Mode::Takes);
    server.stop().await;
}

#[tokio::test]
async fn what_the_journal_tells_is_told_after_a_restart() {
    let server = Server::start().await;
    add(&server, "search", Mode::Takes);
    add(&server, "mail", Mode::Filters);
    let erp = add(&server, "erp", Mode::Rejects);
    add(&server, "gone", Mode::Takes);
    add(&server, "cache", Mode::Takes);
    // The events of interest are in the middle of many.
    for n in 1..=120_i64 {
        server.event(&price(&n.to_string(), &format!("S{}", n % 7), n)).await.ok();
        if n == 60 {
            server.until("/v1/destinations/erp", "dead letters", |a| a.json()["dead"] == 60).await;
            erp.set(Mode::Takes);
        }
    }
    for name in ["search", "gone", "cache", "erp", "mail"] {
        server.until(&format!("/v1/destinations/{name}"), "nothing pending", |a| a.json()["pending"] == 0).await;
    }
    let page = server.get("/v1/events?limit=1000").await.ok();
    let position = |n: usize| page["items"][n]["id"].as_str().unwrap().to_owned();
    let (dead, sent) = (position(10), position(100));
    let folder = server.stop().await;

    let server = Server::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    add(&server, "search", Mode::Takes);
    add(&server, "mail", Mode::Filters);
    add(&server, "erp", Mode::Takes);
    let shown = server.get(&format!("/v1/events/{sent}/propagation")).await;
    assert_eq!(shown.ok()["complete"], true);
    let states = ["search", "mail", "erp", "gone"].map(|name| at(&shown, name)["state"].clone());
    assert_eq!(states, [json!("delivered"), json!("filtered"), json!("delivered"), json!("settled")]);
    let (told, recorded) = (at(&shown, "search"), shown.json()["recorded_at"].clone());
    assert_eq!(told["at"], json!(null), "the moment is not kept");
    assert!(told["by"].as_str() >= recorded.as_str(), "{told} {recorded}");
    assert_eq!(at(&shown, "gone")["running"], false);
    let shown = server.get(&format!("/v1/events/{dead}/propagation")).await;
    assert_eq!(at(&shown, "erp")["state"], "dead");
    server.post(&format!("/v1/dead-letters/erp/{dead}/retry")).await;
    // Something newer of its entity is there already.
    server.until(&format!("/v1/events/{dead}/propagation"), "the retry's end", is("erp", "superseded")).await;
    let folder = server.stop().await;

    let server = Server::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    let shown = server.get(&format!("/v1/events/{dead}/propagation")).await;
    assert_eq!(at(&shown, "erp")["state"], "superseded", "the journal knows how a dead letter ended");
    server.stop().await;
}

#[tokio::test]
async fn a_writer_waits_until_destinations_have_confirmed() {
    let server = Server::start().await;
    add(&server, "search", Mode::Takes);
    let cache = add(&server, "cache", Mode::Takes);
    let both = "?until=delivered:search,cache";
    let answer = post(&server, both, "wait=30", &price("1", "A", 1)).await;
    let reached = answer.ok()["reached"].clone();
    assert_eq!((&reached["delivered"], &reached["events"], &reached["missing"]), (&json!(true), &json!(1), &json!(0)));
    assert_eq!(answer.header("preference-applied"), "wait=30");

    cache.set(Mode::Holds);
    let answer = post(&server, both, "respond-async", &price("2", "A", 2)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let reached = answer.json()["reached"].clone();
    let missing: Vec<_> = reached["unreached"].as_array().unwrap().iter().map(|one| &one["destination"]).collect();
    assert!(missing.contains(&&json!("cache")), "{reached}");
    assert_eq!(server.get(&price_path("A")).await.ok()["version"], 2, "the commit stands either way");

    // Whoever says the same again, and whoever says nothing new, waits for what the entity has come to.
    for id in ["2", "3"] {
        let again = post(&server, "?until=delivered:cache", "wait=0", &price(id, "A", 2)).await;
        assert_eq!((again.status, &again.json()["reached"]["events"]), (202, &json!(1)), "{}", again.text());
        assert_eq!(again.json()["reached"]["unreached"][0]["state"], "pending");
    }
    let event = price("4", "A", 3);
    let waiting = post(&server, "?until=delivered:cache", "wait=30", &event);
    let (answer, ()) = tokio::join!(waiting, async {
        server.until("/v1/events?after=0", "the event", |a| a.json()["items"].as_array().unwrap().len() == 3).await;
        cache.set(Mode::Takes);
    });
    assert_eq!(answer.ok()["reached"]["delivered"], true);
    server.stop().await;
}

#[tokio::test]
async fn who_can_not_confirm_any_more_is_answered_at_once() {
    let server = Server::start().await;
    add(&server, "search", Mode::Takes);
    let mail = add(&server, "mail", Mode::Filters);
    let wms = add(&server, "wms", Mode::Holds);
    // Nobody waits a minute here: the test's own patience is shorter than that of a request that hangs.
    let answer = post(&server, "?until=delivered:search,mail,wms", "wait=60", &price("1", "A", 1)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let unreached = answer.json()["reached"]["unreached"].as_array().unwrap().clone();
    let state = |name: &str| unreached.iter().find(|one| one["destination"] == name).map(|one| one["state"].clone());
    assert_eq!((state("mail"), state("wms")), (Some(json!("filtered")), Some(json!("pending"))));
    mail.set(Mode::Rejects);
    let answer = post(&server, "?until=delivered:mail,wms", "wait=60", &price("2", "B", 1)).await;
    let first = answer.json()["reached"]["unreached"][0].clone();
    assert_eq!((answer.status, &first["state"], &first["reason"]), (202, &json!("dead"), &json!("rejected")));
    assert_eq!(first["dead_letter"], format!("/v1/dead-letters/mail/{}", first["event"]));
    wms.set(Mode::Takes);
    server.stop().await;
}

#[tokio::test]
async fn what_nobody_is_told_of_is_not_delivered() {
    let requires = |options: &mut lockstep_hub::HubOptions| {
        let domain = Domain { kind: "price".into(), required: vec!["valid_from".into()], ..Domain::default() };
        options.rules.declare(domain);
    };
    let server = Server::with(Setup { hub: Box::new(requires), ..Setup::default() }).await;
    add(&server, "search", Mode::Takes);
    // Nobody waits a minute here.
    let answer = post(&server, "?until=delivered:search", "wait=60", &price("1", "A", 1)).await;
    let reached = answer.json()["reached"].clone();
    assert_eq!((answer.status, &reached["delivered"]), (202, &json!(false)), "{reached}");
    assert_eq!((&reached["events"], &reached["unpublished"]), (&json!(0), &json!(1)));
    let mut whole = price("2", "A", 2);
    whole["data"]["valid_from"] = json!("2026-01-02T00:00:00Z");
    let answer = post(&server, "?until=delivered:search", "wait=60", &whole).await;
    let reached = answer.ok()["reached"].clone();
    assert_eq!((&reached["events"], &reached["unpublished"]), (&json!(1), &json!(0)));
    server.stop().await;
}

#[tokio::test]
async fn what_can_not_be_waited_for_is_refused_before_anything_is_written() {
    let server = Server::start().await;
    add(&server, "search", Mode::Takes);
    for (query, status, code) in [
        ("?until=delivered:search,nobody", 404, "unknown-destination"),
        ("?until=delivered:", 400, "invalid-parameter"),
        ("?until=delivered:search,search", 400, "invalid-parameter"),
        ("?until=sent:search", 400, "invalid-parameter"),
        ("?wait=2", 400, "invalid-parameter"),
    ] {
        post(&server, query, "", &price("1", "A", 1)).await.problem(status, code);
    }
    server.get(&price_path("A")).await.problem(404, "unknown-entity");
    let refused = post(&server, "?until=delivered:search", "", &json!({})).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    server.stop().await;
}

#[tokio::test]
async fn a_stream_tells_each_change_and_ends_when_all_is_settled() {
    let server = Server::start().await;
    let wms = add(&server, "wms", Mode::Holds);
    let cache = add(&server, "cache", Mode::Fails);
    server.event(&price("1", "A", 1)).await.ok();
    server.until("/v1/events/1/propagation", "parked", is("cache", "parked")).await;
    let mut stream = Reader::of(&server, "/v1/events/1/propagation/stream").await;
    assert!(stream.head().await[0].ends_with("200 OK"));
    let states = |body: &Value| {
        let all = body["destinations"].as_array().unwrap();
        all.iter().map(|one| one["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let begin = stream.event().await.unwrap();
    assert_eq!((begin.event.as_str(), states(&begin.json())), ("propagation", vec!["parked".into(), "pending".into()]));
    wms.set(Mode::Takes);
    let next = stream.event().await.unwrap().json();
    assert_eq!((states(&next), &next["complete"]), (vec!["parked".into(), "delivered".into()], &json!(false)));
    drop(stream);
    cache.set(Mode::Takes);

    wms.set(Mode::Holds);
    server.event(&price("2", "B", 1)).await.ok();
    let position = server.get("/v1/events?limit=10").await.ok()["items"][1]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/events/{position}/propagation");
    server.until(&path, "the cache", is("cache", "delivered")).await;
    let mut stream = Reader::of(&server, &format!("{path}/stream")).await;
    stream.head().await;
    assert_eq!(stream.event().await.unwrap().json()["complete"], false);
    wms.set(Mode::Takes);
    assert_eq!(stream.event().await.unwrap().json()["complete"], true);
    assert_eq!(stream.event().await, None, "there is nothing more to tell");
    server.stop().await;
}
