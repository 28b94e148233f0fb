//! `/v1/events`.

use http::Method;
use lockstep_api::Scope;
use serde_json::json;

use crate::harness::{Server, Setup, price, price_path};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");

#[tokio::test]
async fn one_event_in_structured_mode_is_recorded_and_published() {
    let server = Server::start().await;
    let answer = server.event(&price("1", "SKU-1", 1099)).await.ok();
    assert_eq!(answer["refused"], 0);
    let result = &answer["results"][0];
    assert_eq!(
        (&result["outcome"], &result["version"], &result["changed"]),
        (&json!("applied"), &json!(1), &json!(true))
    );
    let position = result["position"].as_u64().unwrap();
    let event = server.get(&format!("/v1/events/{position}")).await;
    assert_eq!(event.header("content-type"), "application/cloudevents+json");
    let event = event.ok();
    assert_eq!(event["id"], position.to_string());
    assert_eq!(event["type"], "price.changed");
    assert_eq!(event["subject"], "price/SKU-1:retail:EUR");
    assert_eq!(event["source"], "/hubs/test");
    assert_eq!(event["data"]["document"]["amount"], json!({"minor": 1099, "currency": "EUR"}));
    server.stop().await;
}

#[tokio::test]
async fn a_batch_is_answered_event_by_event_in_its_order() {
    let server = Server::start().await;
    let batch: Vec<_> = (0..100).map(|n| price(&n.to_string(), &format!("SKU-{n}"), n)).collect();
    let answer = server.batch(&batch).await.ok();
    let positions: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|r| r["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (1..=100).collect::<Vec<_>>());
    assert_eq!(server.batch(&[]).await.ok(), json!({"results": [], "refused": 0}));
    server.stop().await;
}

#[tokio::test]
async fn binary_mode_has_the_attributes_in_headers() {
    let server = Server::start().await;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "b1"),
        ("ce-source", "/erp"),
        ("ce-type", "price.changed"),
        ("ce-subject", "price/SKU-9:retail:EUR"),
        ("content-type", "application/json"),
    ];
    let answer =
        server.call(Method::POST, "/v1/events", &headers, r#"{"amount":{"minor":5,"currency":"EUR"}}"#).await.ok();
    assert_eq!(answer["results"][0]["outcome"], "applied");
    assert_eq!(server.get(&price_path("SKU-9")).await.ok()["document"]["amount"]["minor"], 5);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_event_is_a_duplicate_even_without_a_time() {
    let server = Server::start().await;
    let mut event = price("1", "SKU-1", 1);
    event.as_object_mut().unwrap().remove("time");
    let first = server.event(&event).await.ok()["results"][0]["position"].clone();
    let again = server.event(&event).await.ok();
    assert_eq!(again["results"][0], json!({"outcome": "duplicate", "duplicate_of": first}));
    server.stop().await;
}

#[tokio::test]
async fn a_key_reused_with_another_payload_is_422() {
    let server = Server::start().await;
    server.event(&price("1", "SKU-1", 1)).await.ok();
    let problem = server.event(&price("1", "SKU-1", 2)).await.problem(422, "key-reused");
    assert_eq!(problem["first_use"], 1);
    // The same id of another source is another event.
    let mut other = price("1", "SKU-1", 2);
    other["source"] = "/pim".into();
    assert_eq!(server.event(&other).await.ok()["results"][0]["outcome"], "applied");
    server.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_reused_with_another_payload_refuses_the_whole_request() {
    let server = Server::start().await;
    let headers = [("content-type", "application/cloudevents-batch+json"), ("idempotency-key", "\"k1\"")];
    let first = json!([price("1", "A", 1), price("2", "B", 1)]).to_string();
    let send = |body: String| server.call(Method::POST, "/v1/events", &headers, body);
    assert_eq!(send(first.clone()).await.ok()["refused"], 0);
    // Bare and quoted are the same key; a repetition is answered as one.
    let bare = [headers[0], ("idempotency-key", "k1")];
    let again = server.call(Method::POST, "/v1/events", &bare, first).await.ok();
    assert_eq!(again["results"][1]["outcome"], "duplicate");
    send(json!([price("3", "C", 1), price("4", "D", 1)]).to_string()).await.problem(422, "key-reused");
    for sku in ["C", "D"] {
        server.get(&price_path(sku)).await.problem(404, "unknown-entity");
    }
    let bad = [headers[0], ("idempotency-key", "\"\"")];
    let problem = server.call(Method::POST, "/v1/events", &bad, "[]").await.problem(400, "invalid-header");
    assert_eq!(problem["parameter"], "Idempotency-Key");
    server.stop().await;
}

#[tokio::test]
async fn an_invalid_event_refuses_the_whole_request_and_names_the_field() {
    let server = Server::start().await;
    let mut bad = price("2", "B", 1);
    bad.as_object_mut().unwrap().remove("subject");
    let problem = server.batch(&[price("1", "A", 1), bad]).await.problem(422, "invalid-event");
    assert_eq!(problem["pointer"], "/1/subject");
    let wrong = server
        .event(&json!({"specversion": "1.0", "id": "1", "source": "/erp", "type": "price.changed",
        "subject": "price/A:retail:EUR", "data": {"amount": {"minor": "ten", "currency": "EUR"}}}))
        .await;
    let problem = wrong.problem(422, "invalid-event");
    assert!(problem["pointer"].as_str().unwrap().starts_with("/data/amount"), "{problem}");
    assert_eq!(problem["reason"], "schema");
    assert_eq!(server.get("/v1/events").await.ok()["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_json_is_400_and_what_is_no_event_type_415() {
    let server = Server::start().await;
    let post =
        |headers: &'static [(&str, &str)], body: &'static str| server.call(Method::POST, "/v1/events", headers, body);
    post(&[STRUCTURED], "{").await.problem(400, "invalid-body");
    post(&[("content-type", "application/json")], "{}").await.problem(415, "unsupported-media-type");
    post(&[STRUCTURED, ("content-encoding", "gzip")], "{}").await.problem(415, "unsupported-media-type");
    server.stop().await;
}

#[tokio::test]
async fn an_expected_version_that_is_not_the_current_one_is_412() {
    let server = Server::start().await;
    server.event(&price("1", "A", 1)).await.ok();
    let with = |id: &str, minor| (price(id, "A", minor).to_string(), [STRUCTURED, ("if-match", "\"1\"")]);
    let (body, headers) = with("2", 2);
    assert_eq!(server.call(Method::POST, "/v1/events", &headers, body).await.ok()["results"][0]["version"], 2);
    let (body, headers) = with("3", 3);
    let answer = server.call(Method::POST, "/v1/events", &headers, body).await;
    assert_eq!(answer.problem(412, "version-mismatch")["current_version"], 2);
    assert_eq!(answer.header("etag"), "\"2\"");
    // In a batch it goes by the event's own attribute; the others are taken.
    let mut expecting = price("4", "A", 4);
    expecting["expectedversion"] = "1".into();
    let answer = server.batch(&[expecting, price("5", "B", 5)]).await.ok();
    assert_eq!(answer["refused"], 1);
    assert_eq!(answer["results"][0]["code"], "version-mismatch");
    assert_eq!(answer["results"][0]["current_version"], 2);
    assert_eq!(answer["results"][1]["outcome"], "applied");
    let headers = [("content-type", "application/cloudevents-batch+json"), ("if-match", "\"1\"")];
    server.call(Method::POST, "/v1/events", &headers, "[]").await.problem(400, "invalid-header");
    server.stop().await;
}

#[tokio::test]
async fn writes_count_under_the_keys_source_and_speak_for_its_system() {
    let server = Server::start().await;
    let key = server.keys.create("pim", &[Scope::Write], Some("pim"), Some("pim-feed")).unwrap();
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), STRUCTURED];
    server.send(Method::POST, "/v1/events", &headers, price("1", "A", 1).to_string()).await.ok();
    let history = server.get(&format!("{}/history", price_path("A"))).await.ok();
    assert_eq!((&history["items"][0]["source"], &history["items"][0]["system"]), (&json!("pim-feed"), &json!("pim")));
    let counted = r#"lockstep_source_outcomes_total{source="pim-feed",outcome="applied"} 1"#;
    server.until("/metrics", counted, |a| a.text().contains(counted)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_key_without_a_system_cannot_write() {
    let server = Server::start().await;
    let key = server.keys.create("root", &[Scope::Admin], None, None).unwrap();
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), STRUCTURED];
    server
        .send(Method::POST, "/v1/events", &headers, price("1", "A", 1).to_string())
        .await
        .problem(403, "system-missing");
    server.stop().await;
}

#[tokio::test]
async fn the_trace_of_the_event_or_else_of_the_request_is_carried_on() {
    const OWN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const REQUEST: &str = "00-11111111111111111111111111111111-2222222222222222-01";
    let server = Server::start().await;
    let mut own = price("1", "A", 1);
    own["traceparent"] = OWN.into();
    let headers = [STRUCTURED, ("traceparent", REQUEST)];
    server.call(Method::POST, "/v1/events", &headers, own.to_string()).await.ok();
    server.call(Method::POST, "/v1/events", &headers, price("2", "A", 2).to_string()).await.ok();
    server.event(&price("3", "A", 3)).await.ok();
    let events = server.get("/v1/events").await.ok();
    assert_eq!(events["items"][0]["traceparent"], OWN);
    assert_eq!(events["items"][1]["traceparent"], REQUEST);
    assert_eq!(events["items"][2]["traceparent"].as_str().unwrap().len(), OWN.len());
    server.stop().await;
}

#[tokio::test]
async fn events_are_listed_by_position_and_filter() {
    let server = Server::start().await;
    let batch: Vec<_> = (0..5).map(|n| price(&n.to_string(), &format!("SKU-{n}"), n)).collect();
    server.batch(&batch).await.ok();
    let mut product = price("p", "x", 1);
    product["type"] = "product.changed".into();
    product["subject"] = "product/SKU-0".into();
    product["data"] = json!({"title": "Lamp"});
    server.event(&product).await.ok();
    let page = server.get("/v1/events?limit=2").await.ok();
    assert_eq!(
        (page["items"].as_array().unwrap().len(), &page["next_after"], &page["at_end"]),
        (2, &json!(2), &json!(false))
    );
    let page = server.get("/v1/events?after=2&limit=1000").await.ok();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["at_end"]), (4, &json!(true)));
    let kinds = server.get("/v1/events?kind=product").await.ok();
    assert_eq!(kinds["items"][0]["type"], "product.created");
    assert_eq!(server.get("/v1/events?type=product.created").await.ok()["items"].as_array().unwrap().len(), 1);
    let one = server.get("/v1/events?kind=price&key=SKU-3%3Aretail%3AEUR").await.ok();
    assert_eq!(one["items"][0]["subject"], "price/SKU-3:retail:EUR");
    let plain =
        server.call(Method::GET, "/v1/events?limit=3", &[("accept", "application/cloudevents-batch+json")], "").await;
    assert_eq!(plain.header("content-type"), "application/cloudevents-batch+json");
    assert_eq!(plain.ok().as_array().unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_query_parameter_that_is_not_valid_is_400_and_named() {
    let server = Server::start().await;
    for (path, name) in [
        ("/v1/events?limit=0", "limit"),
        ("/v1/events?limit=1001", "limit"),
        ("/v1/events?limit=ten", "limit"),
        ("/v1/events?after=-1", "after"),
        ("/v1/events?after=7", "after"),
        ("/v1/events?kinds=price", "kinds"),
        ("/v1/events?kind=a&kind=b", "kind"),
        ("/v1/events?key=a", "key"),
        ("/v1/events/zero", "position"),
        ("/v1/stream?after=x", "after"),
        ("/v1/entities/Price", "kind"),
        ("/v1/quarantine?after=x", "after"),
        ("/v1/dead-letters?after=x", "after"),
    ] {
        let problem = server.get(path).await.problem(400, "invalid-parameter");
        assert_eq!(problem["parameter"], name, "{path}: {problem}");
    }
    server.get("/v1/events/1").await.problem(404, "unknown-event");
    server.stop().await;
}

#[tokio::test]
async fn a_large_batch_is_taken_and_one_with_too_many_events_refused() {
    let mut setup = Setup::default();
    setup.api.events_max = 3_000;
    let server = Server::with(setup).await;
    let batch: Vec<_> = (0..3_000).map(|n| price(&n.to_string(), &format!("SKU-{n}"), n)).collect();
    assert_eq!(server.batch(&batch).await.ok()["results"].as_array().unwrap().len(), 3_000);
    let batch: Vec<_> = (0..3_001).map(|n| price(&format!("x{n}"), &format!("SKU-{n}"), n)).collect();
    server.batch(&batch).await.problem(413, "body-too-large");
    server.stop().await;
}

#[tokio::test]
async fn a_time_too_far_ahead_is_refused_with_the_limit_and_leaves_nothing() {
    let limit = Setup { hub: Box::new(|hub| hub.rules.skew_max_us = Some(300_000_000)), ..Setup::default() };
    let server = Server::with(limit).await;
    let decided = || server.hub.handle().stats().decided.load(std::sync::atomic::Ordering::Relaxed);
    let in_s = |s: i64| lockstep_connect::time::format_rfc3339(lockstep_hub::now_us() + s * 1_000_000);
    let ahead = |id: &str, sku: &str, s| {
        let mut event = price(id, sku, 5);
        event["time"] = in_s(s).into();
        event
    };
    let problem = server.event(&ahead("1", "A", 3_600)).await.problem(422, "clock-skew");
    assert_eq!((&problem["pointer"], &problem["limit_s"]), (&json!("/time"), &json!(300)));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("`time`") && detail.contains("300 s"), "{detail}");
    let time = in_s(3_600);
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/erp"),
        ("ce-type", "price.changed"),
        ("ce-subject", "price/A:retail:EUR"),
        ("ce-time", time.as_str()),
        ("content-type", "application/json"),
    ];
    let body = r#"{"amount":{"minor":5,"currency":"EUR"}}"#;
    let problem = server.call(Method::POST, "/v1/events", &binary, body).await.problem(422, "clock-skew");
    assert_eq!(problem["parameter"], "ce-time");
    assert_eq!(decided(), 0, "nothing was recorded");

    // In a batch each has its own answer, and where nothing was taken the request is refused.
    let answer = server.batch(&[ahead("3", "B", 3_600), ahead("4", "C", 200)]).await.ok();
    assert_eq!((&answer["refused"], &answer["results"][0]["code"]), (&json!(1), &json!("clock-skew")));
    assert!(answer["results"][0]["detail"].as_str().unwrap().contains("300 s"), "{answer}");
    assert_eq!((&answer["results"][1]["outcome"], decided()), (&json!("applied"), 1));
    server.batch(&[ahead("5", "B", 3_600), ahead("6", "B", 4_000)]).await.problem(422, "clock-skew");
    assert_eq!(server.get("/v1/quarantine").await.ok()["items"], json!([]));
    // With the clock mended the same event is taken: the refusal did not use its id up.
    assert_eq!(server.event(&ahead("1", "A", 0)).await.ok()["results"][0]["outcome"], "applied");
    server.stop().await;
}
