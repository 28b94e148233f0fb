//! The document of the interface: committed, and true.

use std::collections::BTreeSet;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};

use crate::conflicts::Desk;
use crate::harness::{Answer, Server, Setup, price};
use crate::webhooks::{deliver, with_shopify};

fn document() -> Value {
    serde_json::from_str(&lockstep_api::openapi()).unwrap()
}

#[test]
fn the_committed_document_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json");
    let generated = lockstep_api::openapi();
    if std::env::var("LOCKSTEP_WRITE_GOLDEN").is_ok_and(|v| v == "1") {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "openapi.json is not what the code says; look at the change and write it with LOCKSTEP_WRITE_GOLDEN=1"
    );
}

#[tokio::test]
async fn the_served_document_is_the_generated_one() {
    let server = Server::start().await;
    assert_eq!(server.get("/openapi.json").await.ok(), document());
    server.stop().await;
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let operations = operations(&document());
    let names: BTreeSet<_> = operations.iter().map(|(_, _, o)| o["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.len(), operations.len());
}

/// Every operation: its method, its path and what is said of it.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Ok(method) = method.to_uppercase().parse() {
                found.push((method, path.clone(), operation.clone()));
            }
        }
    }
    found
}

/// Checks an answer by what is documented for it.
#[track_caller]
fn check(document: &Value, method: &Method, template: &str, answer: &Answer) {
    let operation = &document["paths"][template][method.as_str().to_lowercase()];
    assert!(operation.is_object(), "{method} {template} is not documented");
    let response = &operation["responses"][answer.status.to_string()];
    assert!(
        response.is_object(),
        "{method} {template} answers {} without a word about it: {}",
        answer.status,
        answer.text()
    );
    let Some(content) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{method} {template}: {}", answer.text());
        return;
    };
    let media_type = answer.header("content-type").split(';').next().unwrap();
    let schema = &content.get(media_type).unwrap_or_else(|| panic!("{method} {template} has {media_type}"))["schema"];
    if !media_type.ends_with("json") || media_type.ends_with("ndjson") {
        return;
    }
    let whole = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [schema], "components": document["components"]});
    let validator = jsonschema::validator_for(&whole).unwrap();
    let value = answer.json();
    let errors: Vec<_> = validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{method} {template}: {errors:?}\n{value}");
    // What is not documented must not be there either.
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        let known = properties(document, &document["components"]["schemas"][name]);
        let unknown: Vec<_> = value.as_object().unwrap().keys().filter(|k| !known.contains(*k)).collect();
        assert!(unknown.is_empty(), "{method} {template} has {unknown:?} besides {known:?}");
    }
}

fn properties(document: &Value, schema: &Value) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for part in schema["allOf"].as_array().into_iter().flatten() {
        match part["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
            Some(name) => names.extend(properties(document, &document["components"]["schemas"][name])),
            None => names.extend(properties(document, part)),
        }
    }
    names
}

#[tokio::test]
async fn every_documented_path_answers_with_a_documented_answer() {
    let server = Server::start().await;
    let document = document();
    for (method, template, operation) in operations(&document) {
        if template == "/v1/stream" {
            // Its answer has no end; it has tests of its own.
            continue;
        }
        let path = template
            .replace("{position}", "1")
            .replace("{event}", "1")
            .replace("{kind}", "order")
            .replace("{key}", "web:1")
            .replace("{field}", "note")
            .replace("{source}", "shop")
            .replace("{destination}", "erp")
            .replace("{name}", "erp")
            .replace("{system}", "shop")
            .replace("{type}", "id")
            .replace("{id}", "1")
            .replace("{rule}", "late")
            .replace("{subject}", "erp")
            .replace("{sku}", "A")
            .replace("{location}", "berlin")
            .replace("{channel}", "web");
        assert!(!path.contains('{'), "{path}");
        let answer = server.call(method.clone(), &path, &[], "").await;
        check(&document, &method, &template, &answer);
        if answer.status >= 400 && answer.status != 503 {
            let code = answer.json()["code"].clone();
            assert!(code != "unknown-route" && code != "method-not-allowed", "{method} {path}: {code}");
        }
        // What asks for a key in the document asks for one in fact, and the other way round.
        let keyless = server.send(method.clone(), &path, &[], "").await;
        let secured = operation["security"].as_array().is_some_and(|s| !s.is_empty());
        assert_eq!(keyless.status == 401, secured, "{method} {template}: {}", keyless.text());
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_answered_about_conflicts_is_as_documented() {
    let desk = Desk::with(Setup::default()).await;
    desk.disagree().await;
    let document = document();
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let (one, reverse) = ("/v1/conflicts/{kind}/{key}/{field}", "/v1/conflicts/{kind}/{key}/{field}/reverse");
    let resolve = "/v1/conflicts/{kind}/{key}/{field}/resolve";
    let preference = "/v1/preferences/{kind}/{field}";
    let prefer = r#"{"prefer": "erp", "always": true, "reason": "x"}"#;
    let rows = [
        (&get, "/v1/conflicts", "", "", 200),
        (&get, one, "", "", 200),
        (&post, reverse, "", r#"{"reason": "x"}"#, 409),
        (&post, resolve, "", r#"{"value": 7, "reason": "x"}"#, 422),
        (&post, resolve, "", prefer, 200),
        (&get, one, "", "", 200),
        (&get, "/v1/conflicts", "?status=resolved", "", 200),
        (&get, "/v1/preferences", "", "", 200),
        (&post, resolve, "", r#"{"value": "x", "reason": "x"}"#, 409),
        (&post, reverse, "", r#"{"reason": "x"}"#, 200),
        (&put, preference, "", r#"{"system": "erp", "reason": "x"}"#, 204),
        (&delete, preference, "?reason=x", "", 204),
        (&delete, preference, "?reason=x", "", 404),
    ];
    for (number, (method, template, query, body, status)) in rows.into_iter().enumerate() {
        let path = template.replace("{kind}", "order").replace("{key}", "web:1").replace("{field}", "note") + query;
        let key = number.to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let answer = desk.server.call(method.clone(), &path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        check(&document, method, template, &answer);
    }
    desk.server.stop().await;
}

#[tokio::test]
async fn what_is_answered_is_as_documented() {
    let server = with_shopify(Setup::default()).await;
    let document = document();
    let post = Method::POST;
    let delivered = deliver(&server, "themes/publish", "q", "{}").await;
    check(&document, &post, "/v1/webhooks/{source}", &delivered);
    let kept = delivered.ok()["position"].to_string();
    check(&document, &post, "/v1/webhooks/{source}", &deliver(&server, "themes/publish", "q", "{}").await);
    server.with_dead_letters(1).await;
    let dead = server.get("/v1/dead-letters").await.json()["items"][0]["event"].to_string();
    let mut later = price("2", "A", 2);
    later["expectedversion"] = "9".into();
    let json_type = ("content-type", "application/json");
    let cloud = ("content-type", "application/cloudevents+json");
    let batch = ("content-type", "application/cloudevents-batch+json");
    let one = price("1", "A", 1).to_string();
    let mixed = json!([price("1", "A", 1), price("3", "B", 1), later]).to_string();
    let refused = json!([price("1", "A", 7)]).to_string();
    let retry_dead = format!("/v1/dead-letters/erp/{dead}/retry");
    let discard_dead = format!("/v1/dead-letters/erp/{dead}/discard");
    let show_dead = format!("/v1/dead-letters/erp/{dead}");
    let show_kept = format!("/v1/quarantine/{kept}");
    let release_kept = format!("/v1/quarantine/{kept}/release");
    let get = Method::GET;
    type Row<'a> = (&'a Method, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, u16);
    let patch = Method::PATCH;
    let price_template = "/v1/entities/{kind}/{key}";
    let rows: &[Row<'_>] = &[
        (&post, "/v1/events", "/v1/events", &[cloud], &one, 200),
        (&post, "/v1/events", "/v1/events", &[batch], &mixed, 200),
        (&post, "/v1/events", "/v1/events", &[batch], &refused, 422),
        (&post, "/v1/events", "/v1/events", &[cloud], "{}", 422),
        (&get, "/v1/events", "/v1/events", &[], "", 200),
        (&get, "/v1/events", "/v1/events", &[("accept", "application/cloudevents-batch+json")], "", 200),
        (&get, "/v1/events", "/v1/events?limit=0", &[], "", 400),
        (&get, "/v1/events/{position}", "/v1/events/2", &[], "", 200),
        (&get, "/v1/entities/{kind}", "/v1/entities/price", &[], "", 200),
        (&get, "/v1/entities/{kind}", "/v1/entities/price?limit=1", &[], "", 200),
        (&get, price_template, "/v1/entities/price/A:retail:EUR", &[], "", 200),
        (&get, price_template, "/v1/entities/price/A:retail:EUR", &[("if-none-match", "\"1\"")], "", 304),
        (
            &patch,
            price_template,
            "/v1/entities/product/A",
            &[json_type, ("idempotency-key", "k")],
            r#"{"title":"x"}"#,
            200,
        ),
        (
            &patch,
            price_template,
            "/v1/entities/product/A",
            &[json_type, ("idempotency-key", "l"), ("if-match", "\"9\"")],
            r#"{"title":"y"}"#,
            412,
        ),
        (&get, "/v1/entities/{kind}/{key}/history", "/v1/entities/price/A:retail:EUR/history", &[], "", 200),
        (&get, "/v1/entities/{kind}/{key}/explain", "/v1/entities/price/A:retail:EUR/explain", &[], "", 200),
        (&get, "/v1/destinations", "/v1/destinations", &[], "", 200),
        (&get, "/v1/destinations/{name}", "/v1/destinations/erp", &[], "", 200),
        (&get, "/v1/dead-letters", "/v1/dead-letters", &[], "", 200),
        (&get, "/v1/dead-letters/{destination}/{event}", &show_dead, &[], "", 200),
        (&post, "/v1/dead-letters/{destination}/{event}/retry", &retry_dead, &[], "", 202),
        (&post, "/v1/dead-letters/{destination}/retry", "/v1/dead-letters/erp/retry?limit=1", &[], "", 202),
        (
            &post,
            "/v1/dead-letters/{destination}/{event}/discard",
            &discard_dead,
            &[json_type],
            r#"{"reason":"x"}"#,
            204,
        ),
        (&get, "/v1/quarantine", "/v1/quarantine", &[], "", 200),
        (&get, "/v1/quarantine/{position}", &show_kept, &[], "", 200),
        (&post, "/v1/quarantine/{position}/release", &release_kept, &[], "", 422),
        (&get, "/v1/schemas", "/v1/schemas", &[], "", 200),
        (&get, "/v1/schemas/{kind}", "/v1/schemas/order", &[], "", 200),
        (&get, "/healthz/ready", "/healthz/ready", &[], "", 200),
    ];
    for (method, template, path, headers, body, status) in rows {
        let answer = server.call((*method).clone(), path, headers, body.to_string()).await;
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text());
        check(&document, method, template, &answer);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_answered_about_stock_is_as_documented() {
    let server = Server::start().await;
    let document = document();
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let (one, ledger) = ("/v1/stock/{sku}/{location}", "/v1/stock/{sku}/{location}/ledger");
    let (count, moved) = ("/v1/stock/{sku}/{location}/count", "/v1/stock/{sku}/{location}/movements");
    let (policy, reservation) = ("/v1/channels/{channel}/policy", "/v1/reservations/{id}");
    let reserve = r#"{"id": "r", "owner": "r", "channel": "web", "items": [{"sku": "KIT", "quantity": 1}]}"#;
    let short = r#"{"owner": "s", "channel": "web", "items": [{"sku": "A", "quantity": 99}]}"#;
    let part = r#"{"id": "p", "owner": "p", "channel": "web", "allow_partial": true, "items": [{"sku": "A", "quantity": 99}]}"#;
    let eta = r#"{"sku": "A", "location": "berlin", "quantity": 5, "eta": "2030-01-01T00:00:00Z"}"#;
    let goods = r#"{"goods": [{"sku": "A", "location": "berlin", "quantity": 1}]}"#;
    let rows = [
        (&put, count, "", r#"{"basis": "on_hand", "quantity": 10}"#, 200),
        (&put, count, "", r#"{"basis": "on_hand"}"#, 400),
        (&post, moved, "", r#"{"kind": "receipt", "quantity": 5}"#, 200),
        (&post, moved, "", r#"{"kind": "receipt", "quantity": -5}"#, 422),
        (&put, "/v1/stock/{sku}/{location}/safety-stock", "", r#"{"quantity": 1}"#, 200),
        (&put, "/v1/stock/{sku}/{location}/unavailable", "", r#"{"damaged": 1}"#, 200),
        (&put, "/v1/items/{sku}", "KIT", r#"{"components": [{"sku": "A", "quantity": 2}]}"#, 200),
        (&put, "/v1/supplies/{id}", "", eta, 200),
        (&put, policy, "", r#"{"buffer": 1, "cap": {"quantity": 50, "window_s": 60}}"#, 200),
        (&put, policy, "?sku=A&location=berlin", r#"{"fence": 1}"#, 200),
        (&delete, policy, "?sku=A&location=berlin", "", 200),
        (&post, "/v1/reservations", "", reserve, 201),
        (&post, "/v1/reservations", "", reserve, 200),
        (&post, "/v1/reservations", "", short, 409),
        (&post, "/v1/reservations", "", part, 201),
        (&get, reservation, "", "", 200),
        (&post, "/v1/reservations/{id}/extend", "", r#"{"hold_s": 60}"#, 200),
        (&post, "/v1/reservations/{id}/acknowledge", "", "{}", 200),
        (&post, "/v1/reservations/{id}/commit", "", "", 200),
        (&post, "/v1/reservations/{id}/transfer", "", r#"{"line": 0, "location": "paris", "quantity": 1}"#, 422),
        (&post, "/v1/reservations/{id}/consume", "", goods, 200),
        (&post, "/v1/reservations/{id}/consume", "", r#"{"goods": []}"#, 422),
        (&post, "/v1/reservations/{id}/release", "", r#"{"lines": [{"line": 0, "quantity": 1}]}"#, 200),
        (&post, "/v1/reservations/{id}/commit", "", "", 409),
        (&get, "/v1/availability", "?sku=A&sku=KIT&sku=B&channel=web&at=2030-02-01T00:00:00Z&holders=5", "", 200),
        (&get, one, "", "", 200),
        (&get, ledger, "", "", 200),
        (&get, ledger, "?after=999", "", 400),
    ];
    for (number, (method, template, query, body, status)) in rows.into_iter().enumerate() {
        let sku = if query == "KIT" { query } else { "A" };
        let query = if query == "KIT" { "" } else { query };
        let path = template.replace("{sku}", sku).replace("{location}", "berlin").replace("{channel}", "web");
        let path = path.replace("{id}", "r") + query;
        let key = number.to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let answer = server.call(method.clone(), &path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        check(&document, method, template, &answer);
    }
    server.stop().await;
}
