//! `/v1/dead-letters`.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, Setup, price};
use crate::propagation::{Mode, add};

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
async fn what_is_to_be_retried_at_once_is_retried_after_a_restart_as_well() {
    let server = Server::start().await;
    let erp = add(&server, "erp", Mode::Rejects);
    server.event(&price("1", "A", 1)).await.ok();
    server.until("/v1/dead-letters", "one", |a| items(a).len() == 1).await;
    // It is tried, and waits for longer than the server runs.
    erp.set(Mode::Fails);
    let event = items(&server.get("/v1/dead-letters").await).remove(0)["event"].clone();
    assert_eq!(server.post(&format!("/v1/dead-letters/erp/{event}/retry")).await.status, 202);
    assert!(items(&server.get("/v1/dead-letters").await)[0]["retry_at"].is_string());
    let folder = server.stop().await;
    let server = Server::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    add(&server, "erp", Mode::Takes);
    server.until("/v1/dead-letters", "none left", |a| items(a).is_empty()).await;
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

#[tokio::test]
async fn conditions_choose_and_impact_orders() {
    let server = Server::start().await;
    server.with_dead_letters(5).await;
    let count = async |query: &str| items(&server.get(&format!("/v1/dead-letters?{query}")).await).len();
    let rows = [
        ("kind=price", 5),
        ("kind=order", 0),
        ("type=price.*", 5),
        ("type=price.placed", 0),
        ("reason=rejected", 5),
        ("reason=poison", 0),
        ("status=422", 5),
        ("status=0", 0),
        ("text=ANSWERED%20422", 5),
        ("text=nothing", 0),
        ("age_min_s=3600", 0),
        ("age_max_s=3600", 5),
        ("currency=EUR", 5),
        ("currency=USD", 0),
        ("scheduled=false", 5),
        ("scheduled=true", 0),
        ("key=DEAD-1:retail:EUR", 1),
    ];
    for (query, found) in rows {
        assert_eq!(count(query).await, found, "{query}");
    }
    for wrong in ["status=-1", "age_min_s=x", "scheduled=perhaps", "order=size", "kinds=x", "order=impact&after=4@erp"]
    {
        server.get(&format!("/v1/dead-letters?{wrong}")).await.problem(400, "invalid-parameter");
    }
    let mut by_impact = Vec::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("/v1/dead-letters?order=impact&limit=2{after}")).await.ok();
        by_impact.extend(page["items"].as_array().unwrap().iter().map(|i| i["event"].as_u64().unwrap()));
        match page["next_after"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    by_impact.sort_unstable();
    by_impact.dedup();
    assert_eq!(by_impact.len(), 5, "each once");
    let summary = server.get("/v1/dead-letters/summary?destination=erp").await.ok();
    let group = &summary["groups"][0];
    assert_eq!((&summary["count"], &group["count"], &group["reason"]), (&json!(5), &json!(5), &json!("rejected")));
    assert_eq!(group["statuses"], json!({"422": 5}));
    assert!(group["values"]["EUR"].as_i64().unwrap() > 0, "{group}");
    server.stop().await;
}

#[tokio::test]
async fn many_are_sent_again_planned_taken_back_and_given_up() {
    let server = Server::start().await;
    let door = server.with_dead_letters(5).await;
    server.post("/v1/dead-letters/retry").await.problem(400, "invalid-parameter");
    server.post("/v1/dead-letters/retry?destination=nobody").await.problem(404, "unknown-destination");
    server.post("/v1/dead-letters/retry?all=true&at=soon").await.problem(400, "invalid-parameter");
    let dry = server.post("/v1/dead-letters/retry?reason=rejected&dry_run=true&limit=2").await;
    assert_eq!((dry.status, dry.json()), (202, json!({"count": 5, "dry_run": true, "next_after": null})));
    let planned = server.post("/v1/dead-letters/retry?kind=price&at=2200-01-01T00:00:00Z&over_s=3600&limit=3").await;
    assert_eq!(planned.json()["count"], 3);
    let next = planned.json()["next_after"].as_str().unwrap().to_owned();
    let rest = format!("/v1/dead-letters/retry?kind=price&at=2200-01-01T00:00:00Z&after={next}");
    assert_eq!(server.post(&rest).await.json(), json!({"count": 2, "dry_run": false, "next_after": null}));
    let listed = items(&server.get("/v1/dead-letters?scheduled=true").await);
    assert!(listed.len() == 5 && listed.iter().all(|i| i["retry_at"].as_str().unwrap().starts_with("2200-01-01T0")));

    let first = listed[0]["event"].clone();
    assert_eq!(server.post(&format!("/v1/dead-letters/erp/{first}/cancel")).await.status, 204);
    assert_eq!(server.post("/v1/dead-letters/cancel?scheduled=true").await.json()["count"], 4);
    assert!(items(&server.get("/v1/dead-letters?scheduled=true").await).is_empty());
    let again = format!("/v1/dead-letters/erp/{first}/retry?at=2200-01-01T00:00:00Z");
    assert_eq!(server.post(&again).await.status, 202);
    assert_eq!(
        server.get(&format!("/v1/dead-letters/erp/{first}")).await.ok()["retry_at"],
        "2200-01-01T00:00:00.000000Z"
    );

    let headers = [("content-type", "application/json")];
    let discard = async |query: &str| {
        server.call(Method::POST, &format!("/v1/dead-letters/discard?{query}"), &headers, r#"{"reason":"x"}"#).await
    };
    discard("").await.problem(400, "invalid-parameter");
    assert_eq!(discard("scheduled=true&dry_run=true").await.json()["count"], 1);
    assert_eq!(discard("scheduled=true").await.json()["count"], 1);
    door.open();
    assert_eq!(server.post("/v1/dead-letters/retry?all=true").await.json()["count"], 4);
    server.until("/v1/dead-letters", "none left", |a| items(a).is_empty()).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_exported_can_be_imported_once() {
    let server = Server::start().await;
    let door = server.with_dead_letters(3).await;
    let lines = server.get("/v1/dead-letters/export?limit=2").await.text();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(lines.lines().count(), 2);
    let rest = server.get(&format!("/v1/dead-letters/export?limit=2&after={}", last["place"].as_str().unwrap())).await;
    assert_eq!(rest.text().lines().count(), 1);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["attempts"][0]["status"], &first["event_body"]["type"]), (&json!(422), &json!("price.changed")));

    let import = async |server: &Server, body: String| {
        let headers = [("content-type", "application/x-ndjson")];
        server.call(Method::POST, "/v1/dead-letters/import", &headers, body).await
    };
    let outcomes = |answer: &Answer| -> Vec<String> {
        items(answer).iter().map(|item| item["outcome"].as_str().unwrap().to_owned()).collect()
    };
    let mut wrong = first.clone();
    wrong["kind"] = "order".into();
    let mut elsewhere = first.clone();
    elsewhere["destination"] = "nobody".into();
    let mut other_form = first.clone();
    other_form["format"] = "x".into();
    let answer = import(&server, format!("{lines}\nhm\n{wrong}\n{elsewhere}\n{other_form}\n")).await;
    assert_eq!(outcomes(&answer), ["open", "open", "invalid", "invalid", "invalid", "invalid"]);
    assert_eq!((answer.json()["imported"].as_u64(), answer.json()["invalid"].as_u64()), (Some(0), Some(4)));
    let details: Vec<_> = items(&answer).iter().filter_map(|i| i["detail"].as_str().map(str::to_owned)).collect();
    assert!(
        details[1].contains("`kind`") && details[2].contains("nobody") && details[3].contains("`format`"),
        "{details:?}"
    );
    server.post("/v1/dead-letters/import").await.problem(415, "unsupported-media-type");

    let discard = [("content-type", "application/json")];
    let path = "/v1/dead-letters/discard?all=true";
    assert_eq!(server.call(Method::POST, path, &discard, r#"{"reason":"x"}"#).await.json()["count"], 3);
    assert_eq!(outcomes(&import(&server, lines.clone()).await), ["imported", "imported"]);
    assert_eq!(outcomes(&import(&server, lines.clone()).await), ["known", "known"]);
    let listed = items(&server.get("/v1/dead-letters").await);
    let shown = server.get(&format!("/v1/dead-letters/erp/{}", listed[0]["event"])).await.ok();
    assert_eq!(
        (&shown["event_body"]["id"], &shown["imported"]["event"]),
        (&first["event_body"]["id"], &first["event"])
    );
    assert_eq!(shown["attempt_list"].as_array().unwrap().len(), 1);
    door.open();
    assert_eq!(server.post("/v1/dead-letters/retry?all=true").await.json()["count"], 2);
    server.until("/v1/dead-letters", "none left", |a| items(a).is_empty()).await;
    server
        .until("/v1/destinations/erp", "brought in and delivered", |a| {
            (&a.json()["imported"], &a.json()["delivered"], &a.json()["pending"]) == (&json!(2), &json!(2), &json!(0))
        })
        .await;
    server.stop().await;
}
