//! `/v1/webhooks/{source}`.

use std::sync::Arc;

use http::Method;
use lockstep_api::WebhookSource;
use lockstep_connect::pack::Pack;
use lockstep_connect::schema::Schemas;
use lockstep_connect::signature::{Scheme, Secret, Verifier};
use lockstep_connect::source::Source;
use lockstep_connect::translate::{Options, Translator};
use lockstep_hub::now_us;
use serde_json::json;

use crate::harness::{Answer, Gate, GatedJournal, Server, Setup};

const SECRET: &str = "not-a-real-secret";
const ORDER: &str = include_str!("../../../../packs/shopify/samples/orders_create.json");

/// A source with that pack.
pub(crate) fn source(name: &str, pack: &Pack, keep_raw: bool) -> WebhookSource {
    let options = Options {
        source: name.to_owned(),
        system: format!("{name}-system"),
        channel: Some("web".to_owned()),
        currency: Some("EUR".to_owned()),
    };
    let translator = Translator::new(pack, Arc::new(Schemas::builtin()), options).unwrap();
    let scheme = pack.signature().cloned().unwrap();
    WebhookSource {
        source: Source::new(name, format!("{name}-system"), Arc::new(translator)),
        verifier: Verifier::new(&scheme, vec![Secret::new(SECRET)]).unwrap(),
        keep_raw,
    }
}

pub(crate) async fn with_shopify(setup: Setup) -> Server {
    let sources = vec![source("shop", &Pack::builtin("shopify").unwrap(), false)];
    Server::with(Setup { sources, ..setup }).await
}

/// Sends a delivery signed like Shopify's.
pub(crate) async fn deliver(server: &Server, topic: &str, id: &str, body: &str) -> Answer {
    deliver_with(server, topic, id, body, &[]).await
}

async fn deliver_with(server: &Server, topic: &str, id: &str, body: &str, more: &[(&str, &str)]) -> Answer {
    let scheme = Scheme::named("shopify").unwrap();
    let signer = Verifier::new(&scheme, vec![Secret::new(SECRET)]).unwrap();
    let signed = signer.sign_headers(id, now_us() / 1_000_000, body.as_bytes());
    let mut headers =
        vec![("content-type", "application/json"), ("x-shopify-topic", topic), ("x-shopify-webhook-id", id)];
    headers.extend(signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())));
    headers.extend_from_slice(more);
    server.send(Method::POST, "/v1/webhooks/shop", &headers, body.to_owned()).await
}

#[tokio::test]
async fn a_signed_order_is_recorded_and_published_with_its_trace() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let server = with_shopify(Setup::default()).await;
    let answer = deliver_with(&server, "orders/create", "d1", ORDER, &[("traceparent", TRACE)]).await.ok();
    assert_eq!((&answer["outcome"], &answer["version"]), (&json!("applied"), &json!(1)));
    let events = server.get("/v1/events?kind=order").await.ok();
    let event = &events["items"][0];
    assert_eq!(event["type"], "order.placed");
    assert_eq!(event["traceparent"], TRACE);
    assert_eq!(event["data"]["system"], "shop-system");
    assert!(event["subject"].as_str().unwrap().starts_with("order/web:"), "{event}");
    // Without one, and with one that is not valid, a trace begins here.
    for (id, more) in [("d2", &[][..]), ("d3", &[("traceparent", "00-0-0-00")])] {
        let position = deliver_with(&server, "themes/publish", id, "{}", more).await.ok()["position"].clone();
        let made = server.get(&format!("/v1/quarantine/{position}")).await.ok()["trace"].clone();
        assert_eq!(made.as_str().map(str::len), Some(TRACE.len()), "{made}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_missing_or_malformed_signature_is_401_and_nothing_is_stored_but_a_counter() {
    let server = with_shopify(Setup::default()).await;
    let post = |headers: &'static [(&str, &str)]| server.send(Method::POST, "/v1/webhooks/shop", headers, ORDER);
    post(&[]).await.problem(401, "missing-signature");
    post(&[("x-shopify-hmac-sha256", "???")]).await.problem(401, "malformed-signature");
    let wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let answer = server.send(Method::POST, "/v1/webhooks/shop", &[("x-shopify-hmac-sha256", wrong)], ORDER).await;
    answer.problem(401, "wrong-signature");
    assert!(server.get("/metrics").await.text().contains("\nlockstep_unauthentic_total 3\n"));
    assert_eq!(server.get("/v1/events").await.ok(), json!({"items": [], "next_after": 0, "at_end": true}));
    assert_eq!(server.get("/v1/quarantine").await.ok()["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_stale_signature_is_401() {
    let scheme = Scheme::named("standard-webhooks").unwrap();
    let secret = || vec![Secret::new("whsec_bm90LWEtcmVhbC1zZWNyZXQ=")];
    let mut shop = source("shop", &Pack::builtin("shopify").unwrap(), false);
    shop.verifier = Verifier::new(&scheme, secret()).unwrap();
    let server = Server::with(Setup { sources: vec![shop], ..Setup::default() }).await;
    let signer = Verifier::new(&scheme, secret()).unwrap();
    for (at_s, code) in [(now_us() / 1_000_000 - 3_600, "stale-timestamp"), (now_us() / 1_000_000, "")] {
        let signed = signer.sign_headers("m1", at_s, b"{}");
        let headers: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let answer = server.send(Method::POST, "/v1/webhooks/shop", &headers, "{}").await;
        if code.is_empty() {
            assert_eq!(answer.ok()["outcome"], "quarantined");
        } else {
            answer.problem(401, code);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_delivery_id_seen_before_is_200_with_the_first_outcome_and_counted() {
    let server = with_shopify(Setup::default()).await;
    let first = deliver(&server, "orders/create", "d1", ORDER).await.ok();
    let again = deliver(&server, "orders/create", "d1", ORDER).await.ok();
    assert_eq!(again, json!({"outcome": "duplicate", "duplicate_of": first["position"]}));
    let counted = r#"lockstep_source_outcomes_total{source="shop",outcome="duplicate"} 1"#;
    server.until("/metrics", counted, |a| a.text().contains(counted)).await;
    assert_eq!(server.get("/v1/events").await.ok()["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn what_is_authentic_but_not_understood_is_quarantined_whole_and_answered_200() {
    let server = with_shopify(Setup::default()).await;
    for (id, topic, body, code) in [
        ("q1", "orders/create", "{not json", "not-json"),
        ("q2", "themes/publish", "{}", "unknown-topic"),
        ("q3", "orders/create", r#"{"hello":"world"}"#, "mapping-failed"),
    ] {
        let answer = deliver(&server, topic, id, body).await.ok();
        assert_eq!(answer["outcome"], "quarantined", "{id}");
        let shown = server.get(&format!("/v1/quarantine/{}", answer["position"])).await.ok();
        assert_eq!(shown["code"], code, "{shown}");
        assert_eq!(
            (&shown["topic"], &shown["delivery"], &shown["body"]["text"]),
            (&json!(topic), &json!(id), &json!(body))
        );
        let headers = shown["headers"].to_string();
        assert!(headers.contains("x-shopify-webhook-id") && !headers.contains("hmac"), "{headers}");
        // A repetition of it is one, too.
        assert_eq!(deliver(&server, topic, id, body).await.ok()["duplicate_of"], answer["position"]);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_an_unknown_source_404() {
    let mut setup = Setup::default();
    setup.api.webhook_bytes_max = 100;
    let server = with_shopify(setup).await;
    deliver(&server, "orders/create", "d1", ORDER).await.problem(413, "body-too-large");
    server.send(Method::POST, "/v1/webhooks/other", &[], ORDER).await.problem(404, "unknown-source");
    server.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_503_and_the_repetition_goes_in_when_there_is_space() {
    let (journal, gate) = GatedJournal::with_gate();
    let server = with_shopify(Setup { journal: Some(journal), ..Setup::default() }).await;
    gate.set(Gate::Full);
    deliver(&server, "orders/create", "d1", ORDER).await.problem(503, "disk-full");
    gate.set(Gate::Open);
    server.until("/healthz/ready", "space again", |ready| ready.status == 200).await;
    assert_eq!(deliver(&server, "orders/create", "d1", ORDER).await.ok()["outcome"], "applied");
    server.stop().await;
}

#[tokio::test]
async fn raw_input_is_kept_where_it_is_asked_for() {
    for keep in [false, true] {
        let sources = vec![source("shop", &Pack::builtin("shopify").unwrap(), keep)];
        let server = Server::with(Setup { sources, ..Setup::default() }).await;
        let position = deliver(&server, "orders/create", "d1", ORDER).await.ok()["position"].as_u64().unwrap();
        let record = server.hub.handle().record(position).await.unwrap().unwrap();
        let Some(lockstep_core::record::Body::Fact(fact)) = record.body else { panic!("not a fact") };
        assert_eq!(fact.raw.map(|raw| raw.body), keep.then(|| ORDER.into()));
        server.stop().await;
    }
}

#[tokio::test]
async fn the_unsigned_ping_of_a_shop_is_answered_and_nothing_else_is() {
    let pack = |name: &str| source(name, &Pack::builtin(name).unwrap(), false);
    let server = Server::with(Setup { sources: vec![pack("woocommerce"), pack("shopify")], ..Setup::default() }).await;
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded; charset=UTF-8");
    let post = |source: &'static str, headers: &'static [(&str, &str)], body: &'static str| {
        let server = &server;
        async move { server.send(Method::POST, &format!("/v1/webhooks/{source}"), headers, body).await }
    };
    assert_eq!(post("woocommerce", &[FORM], "webhook_id=12").await.ok(), json!({"outcome": "ping"}));
    for (headers, body) in [
        (&[FORM][..], "webhook_id=12&order=1"),
        (&[FORM], "webhook_id="),
        (&[FORM], "webhook_id=x"),
        (&[FORM], "webhook_id=123456789012345678901"),
        (&[FORM], "Webhook_id=12"),
        (&[FORM], "webhook_id=12\n"),
        (&[("content-type", "application/json")], "webhook_id=12"),
        (&[], "webhook_id=12"),
        (&[FORM, ("x-wc-webhook-topic", "order.created")], "webhook_id=12"),
    ] {
        post("woocommerce", headers, body).await.problem(401, "missing-signature");
    }
    let signed = &[FORM, ("x-wc-webhook-signature", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")];
    post("woocommerce", signed, "webhook_id=12").await.problem(401, "wrong-signature");
    post("shopify", &[FORM], "webhook_id=12").await.problem(401, "missing-signature");
    assert!(server.get("/metrics").await.text().contains("\nlockstep_unauthentic_total 11\n"));
    assert_eq!(server.hub.handle().stats().decided.load(std::sync::atomic::Ordering::Relaxed), 0);
    server.stop().await;
}
