//! `/v1/quarantine`.

use std::path::Path;

use lockstep_connect::pack::Pack;
use serde_json::json;

use crate::harness::{Server, Setup};
use crate::webhooks::{deliver, source, with_shopify};

const PACK: &str = r#"
name = "shop"
title = "A shop"
signature = "shopify"
[headers]
topic = "X-Shopify-Topic"
delivery_id = ["X-Shopify-Webhook-Id"]
[topics]
"prices/update" = "mappings/price.vrl"
"#;

/// A pack whose mapping reads the amount from this member.
fn pack(folder: &Path, member: &str) -> Pack {
    let folder = folder.join("shop");
    std::fs::create_dir_all(folder.join("mappings")).unwrap();
    std::fs::write(folder.join("pack.toml"), PACK).unwrap();
    let mapping = format!(
        r#"{{"kind": "price", "key": string!(.sku) + ":retail:EUR", "occurred_at": "2026-01-02T03:04:05Z",
            "fields": {{"amount": {{"minor": int!(.{member}), "currency": "EUR"}}}}}}"#
    );
    std::fs::write(folder.join("mappings/price.vrl"), mapping).unwrap();
    Pack::load(&folder).unwrap()
}

#[tokio::test]
async fn quarantined_deliveries_are_listed_in_parts() {
    let server = with_shopify(Setup::default()).await;
    for n in 0..5 {
        deliver(&server, "themes/publish", &format!("q{n}"), "{}").await.ok();
    }
    let page = server.get("/v1/quarantine?limit=3").await.ok();
    let ids: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|i| i["delivery"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, ["q0", "q1", "q2"]);
    let item = &page["items"][0];
    assert_eq!((&item["source"], &item["code"]), (&json!("shop"), &json!("unknown-topic")));
    let page = server.get(&format!("/v1/quarantine?after={}", page["next_after"])).await.ok();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_after"]), (2, &json!(null)));
    assert_eq!(server.get("/v1/quarantine?source=other").await.ok()["items"], json!([]));
    server.get("/v1/quarantine/99").await.problem(404, "unknown-quarantine");
    server.stop().await;
}

#[tokio::test]
async fn a_delivery_is_released_when_the_mapping_understands_it() {
    let packs = tempfile::tempdir().unwrap();
    let wrong = vec![source("shop", &pack(packs.path(), "cents"), false)];
    let server = Server::with(Setup { sources: wrong, ..Setup::default() }).await;
    let body = r#"{"sku":"A","price":1099}"#;
    let position = deliver(&server, "prices/update", "d1", body).await.ok()["position"].as_u64().unwrap();
    let problem = server.post(&format!("/v1/quarantine/{position}/release")).await.problem(422, "still-not-understood");
    assert_eq!(problem["reason"], "mapping-failed");
    assert!(problem["pointer"].as_str().unwrap().contains("price.vrl:"), "{problem}");
    assert_eq!(server.get(&format!("/v1/quarantine/{position}")).await.ok()["open"], true);

    // The mapping is mended, and the hub started with it.
    let folder = Some(server.stop().await);
    let right = vec![source("shop", &pack(packs.path(), "price"), false)];
    let server = Server::with(Setup { sources: right, folder, ..Setup::default() }).await;
    let released = server.post(&format!("/v1/quarantine/{position}/release")).await.ok();
    assert_eq!(released["outcome"], "applied");
    assert_eq!(server.get("/v1/entities/price/A:retail:EUR").await.ok()["document"]["amount"]["minor"], 1099);
    let history = server.get("/v1/entities/price/A:retail:EUR/history").await.ok();
    assert_eq!((&history["items"][0]["releases"], &history["items"][0]["delivery"]), (&json!(position), &json!("d1")));
    assert_eq!(server.get("/v1/quarantine").await.ok()["items"], json!([]));
    assert_eq!(server.get(&format!("/v1/quarantine/{position}")).await.ok()["open"], false);
    server.post(&format!("/v1/quarantine/{position}/release")).await.problem(409, "already-released");
    // The sender's own repetition is still known as one.
    assert_eq!(deliver(&server, "prices/update", "d1", body).await.ok()["outcome"], "duplicate");
    server.stop().await;
}

#[tokio::test]
async fn of_operators_who_release_one_at_once_the_first_does() {
    let packs = tempfile::tempdir().unwrap();
    let wrong = vec![source("shop", &pack(packs.path(), "cents"), false)];
    let server = Server::with(Setup { sources: wrong, ..Setup::default() }).await;
    let mut positions = Vec::new();
    for n in 0..10 {
        let body = format!(r#"{{"sku":"A-{n}","price":1099}}"#);
        let answer = deliver(&server, "prices/update", &format!("d{n}"), &body).await.ok();
        positions.push(answer["position"].as_u64().unwrap());
    }
    let folder = Some(server.stop().await);
    let right = vec![source("shop", &pack(packs.path(), "price"), false)];
    let server = Server::with(Setup { sources: right, folder, ..Setup::default() }).await;
    for (n, position) in positions.into_iter().enumerate() {
        let path = format!("/v1/quarantine/{position}/release");
        let answers = futures_util::future::join_all((0..8).map(|_| server.post(&path))).await;
        let (done, late): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        assert_eq!((done.len(), done[0].ok()["outcome"].as_str()), (1, Some("applied")));
        late.iter().for_each(|answer| drop(answer.problem(409, "already-released")));
        let history = server.get(&format!("/v1/entities/price/A-{n}:retail:EUR/history")).await.ok();
        assert_eq!(history["items"].as_array().unwrap().len(), 1, "recorded once");
    }
    server.stop().await;
}

#[tokio::test]
async fn one_whose_source_is_gone_or_that_is_none_is_not_released() {
    let server = with_shopify(Setup::default()).await;
    let position = deliver(&server, "themes/publish", "q", "{}").await.ok()["position"].as_u64().unwrap();
    server.post("/v1/quarantine/99/release").await.problem(404, "unknown-quarantine");
    server.post("/v1/quarantine/x/release").await.problem(400, "invalid-parameter");
    let folder = Some(server.stop().await);
    let server = Server::with(Setup { folder, ..Setup::default() }).await;
    server.post(&format!("/v1/quarantine/{position}/release")).await.problem(404, "unknown-source");
    server.stop().await;
}
