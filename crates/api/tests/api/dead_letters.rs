//! `/v1/dead-letters`.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server};

fn items(answer: &Answer) -> Vec<Value> {
    answer.json()["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn dead_letters_are_listed_in_parts() {
    let server = Server::start().await;
    server.with_dead_letters(5).await;
    let page = server.get("/v1/dead-letters?limit=3").await.ok();
    let events: Vec<_> = page["items"].as_array().unwrap().iter().map(|i| i["event"].as_u64().unwrap()).collect();
    assert_eq!(events.len(), 3);
    let after = page["next_after"].as_str().unwrap();
    let page = server.get(&format!("/v1/dead-letters?limit=3&destination=erp&after={after}")).await.ok();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_after"]), (2, &json!(null)));
    let item = &page["items"][0];
    assert_eq!(
        (&item["destination"], &item["kind"], &item["reason"]),
        (&json!("erp"), &json!("price"), &json!("rejected"))
    );
    server.get("/v1/dead-letters?destination=nobody").await.problem(404, "unknown-destination");
    server.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_its_event_request_and_attempts() {
    let server = Server::start().await;
    server.with_dead_letters(1).await;
    let item = items(&server.get("/v1/dead-letters").await).remove(0);
    let shown = server.get(&format!("/v1/dead-letters/erp/{}", item["event"])).await.ok();
    assert_eq!(shown["event_body"]["type"], "price.changed");
    assert_eq!(shown["event_body"]["id"], item["event"].to_string());
    assert!(shown["request"]["text"].as_str().unwrap().contains("\"document\""), "{shown}");
    let attempt = &shown["attempt_list"][0];
    assert_eq!(
        (&attempt["number"], &attempt["status"], &attempt["response_head"]),
        (&json!(1), &json!(422), &json!("closed"))
    );
    server.get("/v1/dead-letters/erp/99").await.problem(404, "unknown-dead-letter");
    server.get("/v1/dead-letters/nobody/1").await.problem(404, "unknown-destination");
    server.get("/v1/dead-letters/erp/x").await.problem(400, "invalid-parameter");
    server.stop().await;
}

#[tokio::test]
async fn a_retried_dead_letter_is_delivered_and_leaves_the_list() {
    let server = Server::start().await;
    let door = server.with_dead_letters(2).await;
    door.open();
    let first = items(&server.get("/v1/dead-letters").await).remove(0)["event"].clone();
    let answer = server.post(&format!("/v1/dead-letters/erp/{first}/retry")).await;
    assert_eq!((answer.status, answer.json()), (202, json!({"retried": 1, "next_after": null})));
    let left = server.until("/v1/dead-letters", "one left", |a| items(a).len() == 1).await;
    assert_ne!(items(&left)[0]["event"], first);
    server.post(&format!("/v1/dead-letters/erp/{first}/retry")).await.problem(404, "unknown-dead-letter");
    server.stop().await;
}

#[tokio::test]
async fn all_dead_letters_of_a_destination_are_retried() {
    let server = Server::start().await;
    let door = server.with_dead_letters(5).await;
    door.open();
    let answer = server.post("/v1/dead-letters/erp/retry?limit=3").await;
    assert_eq!((answer.status, &answer.json()["retried"]), (202, &json!(3)));
    let next = answer.json()["next_after"].clone();
    let answer = server.post(&format!("/v1/dead-letters/erp/retry?after={next}")).await;
    assert_eq!(answer.json(), json!({"retried": 2, "next_after": null}));
    server.until("/v1/dead-letters", "none left", |a| items(a).is_empty()).await;
    server.until("/v1/destinations/erp", "all delivered", |a| a.json()["delivered"] == 5).await;
    server.post("/v1/dead-letters/nobody/retry").await.problem(404, "unknown-destination");
    server.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_discarded_with_a_reason() {
    let server = Server::start().await;
    server.with_dead_letters(1).await;
    let event = items(&server.get("/v1/dead-letters").await).remove(0)["event"].clone();
    let path = format!("/v1/dead-letters/erp/{event}/discard");
    let headers = [("content-type", "application/json")];
    let discard = |body: &'static str| server.call(Method::POST, &path, &headers, body);
    discard("").await.problem(400, "invalid-body");
    discard(r#"{"reason":" "}"#).await.problem(400, "invalid-body");
    discard(r#"{"because":"x"}"#).await.problem(400, "invalid-body");
    server.post(&path).await.problem(415, "unsupported-media-type");
    assert_eq!(discard(r#"{"reason":"a test order"}"#).await.status, 204);
    assert!(items(&server.get("/v1/dead-letters").await).is_empty());
    discard(r#"{"reason":"again"}"#).await.problem(404, "unknown-dead-letter");
    server.until("/v1/destinations/erp", "one discarded", |a| a.json()["discarded"] == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_destination_that_is_not_running_gets_nothing() {
    let server = Server::start().await;
    server.with_dead_letters(1).await;
    let event = items(&server.get("/v1/dead-letters").await).remove(0)["event"].clone();
    // The next hub in the same folder has no such destination.
    let folder = server.stop().await;
    let server = Server::with(crate::harness::Setup { folder: Some(folder), ..Default::default() }).await;
    assert_eq!(server.get("/v1/destinations/erp").await.ok()["running"], false);
    server.post(&format!("/v1/dead-letters/erp/{event}/retry")).await.problem(409, "destination-not-running");
    server.post("/v1/dead-letters/erp/retry").await.problem(409, "destination-not-running");
    server.stop().await;
}
