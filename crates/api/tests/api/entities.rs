//! `/v1/entities`.

use http::Method;
use lockstep_api::Scope;
use serde_json::json;

use crate::harness::{Server, price, price_path};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn an_entity_has_its_version_as_etag_and_304_where_the_client_has_it() {
    let server = Server::start().await;
    server.event(&price("1", "A", 1099)).await.ok();
    let answer = server.get(&price_path("A")).await;
    assert_eq!(answer.header("etag"), "\"1\"");
    let entity = answer.ok();
    assert_eq!(
        (&entity["kind"], &entity["key"], &entity["version"]),
        (&json!("price"), &json!("A:retail:EUR"), &json!(1))
    );
    assert_eq!(entity["document"], json!({"amount": {"currency": "EUR", "minor": 1099}}));
    for tag in ["\"1\"", "W/\"1\"", "\"7\", \"1\"", "*"] {
        let answer = server.call(Method::GET, &price_path("A"), &[("if-none-match", tag)], "").await;
        assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, "\"1\""), "{tag}");
    }
    server.event(&price("2", "A", 1199)).await.ok();
    let answer = server.call(Method::GET, &price_path("A"), &[("if-none-match", "\"1\"")], "").await;
    assert_eq!((answer.status, answer.header("etag")), (200, "\"2\""));
    server.get(&price_path("B")).await.problem(404, "unknown-entity");
    server.stop().await;
}

#[tokio::test]
async fn keys_may_have_any_character_percent_encoded() {
    let server = Server::start().await;
    for (at, (key, path)) in [
        ("web:1001", "web:1001"),
        ("SKU-1@berlin", "SKU-1@berlin"),
        ("a/b c%", "a%2Fb%20c%25"),
        ("größe", "gr%C3%B6%C3%9Fe"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = price(&at.to_string(), "x", 1);
        event["type"] = "product.changed".into();
        event["subject"] = format!("product/{key}").into();
        event["data"] = json!({"title": "Lamp"});
        server.event(&event).await.ok();
        for suffix in ["", "/history", "/explain"] {
            let entity = server.get(&format!("/v1/entities/product/{path}{suffix}")).await.ok();
            assert_eq!(entity["key"], key);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn entities_are_listed_in_the_order_of_their_keys() {
    let server = Server::start().await;
    let batch: Vec<_> = [3, 1, 2, 0].iter().map(|n| price(&n.to_string(), &format!("SKU-{n}"), *n)).collect();
    server.batch(&batch).await.ok();
    let page = server.get("/v1/entities/price?limit=3").await.ok();
    let keys: Vec<_> = page["items"].as_array().unwrap().iter().map(|e| e["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["SKU-0:retail:EUR", "SKU-1:retail:EUR", "SKU-2:retail:EUR"]);
    let after = page["next_after"].as_str().unwrap();
    let page = server.get(&format!("/v1/entities/price?limit=3&after={after}")).await.ok();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_after"]), (1, &json!(null)));
    assert_eq!(server.get("/v1/entities/nothing").await.ok()["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn fields_are_set_by_patch_with_the_version_that_is_expected() {
    let server = Server::start().await;
    let patch = |key: &'static str, extra: Option<(&'static str, &'static str)>, body: &'static str| {
        let server = &server;
        async move {
            let mut headers = vec![JSON, ("idempotency-key", key)];
            headers.extend(extra);
            server.call(Method::PATCH, "/v1/entities/product/SKU-1", &headers, body).await
        }
    };
    let answer = patch("k1", Some(("if-none-match", "*")), r#"{"title":"Lamp","vendor":"Acme"}"#).await;
    assert_eq!((answer.header("etag"), &answer.ok()["version"]), ("\"1\"", &json!(1)));
    patch("k2", Some(("if-none-match", "*")), r#"{"title":"Torch"}"#).await.problem(412, "version-mismatch");
    let answer = patch("k3", Some(("if-match", "\"1\"")), r#"{"title":"Torch"}"#).await;
    assert_eq!(answer.header("etag"), "\"2\"");
    let entity = server.get("/v1/entities/product/SKU-1").await.ok();
    assert_eq!(entity["document"], json!({"title": "Torch", "vendor": "Acme"}));
    let problem =
        patch("k4", Some(("if-match", "\"1\"")), r#"{"title":"Lantern"}"#).await.problem(412, "version-mismatch");
    assert_eq!(problem["current_version"], 2);
    // A repetition is one, whatever the version is by now; the key with other content is refused.
    assert_eq!(patch("k3", Some(("if-match", "\"1\"")), r#"{"title":"Torch"}"#).await.ok()["outcome"], "duplicate");
    let reused = patch("k3", None, r#"{"title":"Lantern"}"#).await.problem(422, "key-reused");
    let detail = reused["detail"].as_str().unwrap();
    assert_eq!(detail, "the `Idempotency-Key` `k3` was used before with another payload");
    server.stop().await;
}

#[tokio::test]
async fn a_patch_that_is_not_valid_says_what_would_be_right() {
    let server = Server::start().await;
    let patch = |headers: &'static [(&str, &str)], body: &'static str| {
        server.call(Method::PATCH, "/v1/entities/price/A:retail:EUR", headers, body)
    };
    patch(&[JSON], "{}").await.problem(400, "idempotency-key-missing");
    patch(&[JSON, ("idempotency-key", "a")], "{").await.problem(400, "invalid-body");
    patch(&[JSON, ("idempotency-key", "a")], "[]").await.problem(400, "invalid-body");
    patch(&[("idempotency-key", "a")], "{}").await.problem(415, "unsupported-media-type");
    patch(&[JSON, ("idempotency-key", "a")], "{}").await.problem(422, "invalid-event");
    patch(&[JSON, ("idempotency-key", "a"), ("if-match", "1")], "{}").await.problem(400, "invalid-header");
    patch(&[JSON, ("idempotency-key", "a"), ("if-none-match", "\"1\"")], "{}").await.problem(400, "invalid-header");
    let problem = patch(&[JSON, ("idempotency-key", "a")], r#"{"amount":{"minor":"1","currency":"EUR"}}"#).await;
    assert_eq!(problem.problem(422, "invalid-event")["pointer"], "/amount/minor");
    server.stop().await;
}

#[tokio::test]
async fn history_tells_what_was_said_newest_first() {
    let server = Server::start().await;
    for n in 1..=5 {
        server.event(&price(&n.to_string(), "A", n)).await.ok();
    }
    let path = format!("{}/history", price_path("A"));
    let page = server.get(&format!("{path}?limit=2")).await.ok();
    let versions = |page: &serde_json::Value| -> Vec<u64> {
        page["items"].as_array().unwrap().iter().map(|i| i["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(versions(&page), [5, 4]);
    let item = &page["items"][0];
    assert_eq!(item["fields"], json!({"amount": {"currency": "EUR", "minor": 5}}));
    assert_eq!(
        (&item["outcome"], &item["event_type"], &item["changed"]),
        (&json!("applied"), &json!("price.changed"), &json!(["amount"]))
    );
    assert_eq!((&item["rulings"][0]["winner"], &item["rulings"][0]["rule"]), (&json!("erp"), &json!("only")));
    assert_eq!(item["occurred_at"], "2026-01-02T03:00:05.000000Z");
    let next = page["next_from"].as_u64().unwrap();
    let page = server.get(&format!("{path}?from={next}")).await.ok();
    assert_eq!((versions(&page), &page["next_from"]), (vec![3, 2, 1], &json!(null)));
    // A record of another entity is not part of it.
    let other = server.event(&price("x", "B", 1)).await.ok()["results"][0]["position"].clone();
    server.get(&format!("{path}?from={other}")).await.problem(400, "invalid-parameter");
    server.stop().await;
}

#[tokio::test]
async fn explain_tells_who_won_and_who_lost_and_why() {
    let server = Server::start().await;
    let key = server.keys.create("pim", &[Scope::Write], Some("pim"), None).unwrap();
    let bearer = format!("Bearer {key}");
    let later = price("1", "A", 1299);
    server.event(&price("1", "A", 1099)).await.ok();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/cloudevents+json")];
    server.send(Method::POST, "/v1/events", &headers, later.to_string()).await.ok();
    let path = format!("{}/explain", price_path("A"));
    let explained = server.get(&path).await.ok();
    let field = &explained["fields"][0];
    assert_eq!(
        (&field["field"], &field["rule"], &field["value"]["minor"]),
        (&json!("amount"), &json!("latest"), &json!(1299))
    );
    assert_eq!((&field["winner"]["system"], &field["winner"]["position"]), (&json!("pim"), &json!(2)));
    let loser = &field["losers"][0];
    assert_eq!(
        (&loser["system"], &loser["value"]["minor"], &loser["reason"]),
        (&json!("erp"), &json!(1099), &json!("pim wrote later"))
    );
    assert_eq!(server.get(&format!("{path}?field=amount")).await.ok()["fields"].as_array().unwrap().len(), 1);
    server.get(&format!("{path}?field=colour")).await.problem(404, "unknown-field");
    server.stop().await;
}

#[tokio::test]
async fn an_entity_is_deleted_like_by_an_event_and_comes_back_by_a_later_word() {
    let server = Server::start().await;
    server.event(&price("1", "A", 1099)).await.ok();
    let path = price_path("A");
    let delete = |key: &'static str, more: Option<(&'static str, &'static str)>| {
        let (server, path) = (&server, &path);
        async move {
            let headers: Vec<_> = [("idempotency-key", key)].into_iter().chain(more).collect();
            server.call(Method::DELETE, path, &headers, "").await
        }
    };
    server.call(Method::DELETE, &path, &[], "").await.problem(400, "idempotency-key-missing");
    let problem = delete("d1", Some(("if-match", "\"7\""))).await.problem(412, "version-mismatch");
    assert_eq!(problem["current_version"], 1);
    delete("d1", Some(("if-match", "7"))).await.problem(400, "invalid-header");
    assert_eq!(server.get(&path).await.ok()["deleted"], json!(null), "nothing was recorded");

    let answer = delete("d2", Some(("if-match", "\"1\""))).await;
    assert_eq!((answer.header("etag"), &answer.ok()["outcome"]), ("\"2\"", &json!("applied")));
    let entity = server.get(&path).await.ok();
    assert_eq!((&entity["deleted"], &entity["document"]), (&json!(true), &json!({})));
    let events = server.get("/v1/events?kind=price&after=1").await.ok();
    assert_eq!((&events["items"][0]["type"], events["items"].as_array().unwrap().len()), (&json!("price.deleted"), 1));
    assert_eq!(delete("d2", None).await.ok()["outcome"], "duplicate");
    // One key is for one request.
    let patch = |key: &'static str| {
        let headers = [JSON, ("idempotency-key", key)];
        let body = r#"{"amount":{"minor":5,"currency":"EUR"}}"#;
        let (server, path) = (&server, &path);
        async move { server.call(Method::PATCH, path, &headers, body).await }
    };
    patch("d2").await.problem(422, "key-reused");
    assert_eq!(patch("p1").await.ok()["outcome"], "applied");
    let entity = server.get(&path).await.ok();
    assert_eq!((&entity["deleted"], &entity["document"]["amount"]["minor"]), (&json!(null), &json!(5)));

    // Of what nobody has told yet it is known as well: an older word of it comes too late.
    server.call(Method::DELETE, &price_path("B"), &[("idempotency-key", "d3")], "").await.ok();
    assert_eq!(server.event(&price("2", "B", 5)).await.ok()["results"][0]["outcome"], "superseded");
    assert_eq!(server.get(&price_path("B")).await.ok()["deleted"], true);
    let key = [("idempotency-key", "d4")];
    server.call(Method::DELETE, "/v1/entities/Price/A", &key, "").await.problem(422, "invalid-event");
    for own in ["conflict", "preference"] {
        server.call(Method::DELETE, &format!("/v1/entities/{own}/A"), &key, "").await.problem(422, "invalid-event");
    }
    let reader = server.keys.create("reader", &[Scope::Read], None, None).unwrap();
    let bearer = format!("Bearer {reader}");
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "d5")];
    server.send(Method::DELETE, &path, &headers, "").await.problem(403, "scope-missing");
    server.stop().await;
}
