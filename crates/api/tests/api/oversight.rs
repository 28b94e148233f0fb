//! Freshness, alerts and silences, conservation and how deliveries go.

use http::Method;
use lockstep_core::alert::Timing;
use lockstep_hub::{AlertRule, Figure, OversightOptions, now_us};
use serde_json::{Value, json};

use crate::harness::{Answer, Server, Setup, price, price_path};
use crate::propagation::{Mode, add};

const LIMIT_US: i64 = 300_000;

fn watched(rules: Vec<AlertRule>) -> OversightOptions {
    let limits_us = [("price".to_owned(), LIMIT_US)].into();
    OversightOptions { limits_us, rules, interval_ms: 10, ..OversightOptions::default() }
}

/// A price that was set a moment ago.
fn fresh(id: &str, sku: &str) -> Value {
    let mut event = price(id, sku, 1);
    event["time"] = lockstep_connect::time::format_rfc3339(now_us()).into();
    event
}

fn row(answer: &Answer, destination: &str) -> Value {
    let body = answer.json();
    let rows = body["items"].as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|row| row["destination"] == destination).unwrap_or_default()
}

fn is(destination: &'static str, state: &'static str) -> impl Fn(&Answer) -> bool {
    move |answer| row(answer, destination)["state"] == state
}

async fn types(server: &Server, kind: &str) -> Vec<String> {
    let page = server.get(&format!("/v1/events?kind={kind}&limit=1000")).await.ok();
    page["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn each_destination_is_as_fresh_as_what_it_has() {
    let server = Server::start().await;
    add(&server, "search", Mode::Takes);
    let wms = add(&server, "wms", Mode::Holds);
    add(&server, "cache", Mode::Fails);
    add(&server, "erp", Mode::Rejects);
    server.hub.oversee(watched(Vec::new()));
    server.until("/v1/freshness", "all current", |a| a.json()["items"].as_array().is_some_and(|i| i.len() == 5)).await;
    assert_eq!(server.get("/v1/freshness").await.ok()["items"][0]["state"], "current");
    server.event(&fresh("1", "A")).await.ok();
    for (name, state, why) in [("wms", "delayed", "ours"), ("cache", "delayed", "target"), ("erp", "partial", "target")]
    {
        let told = server.until("/v1/freshness", state, is(name, state)).await;
        assert_eq!(row(&told, name)["why"], why, "{name}");
    }
    let told = server.get("/v1/freshness").await;
    assert_eq!((&row(&told, "search")["state"], &row(&told, "erp")["dead"]), (&json!("current"), &json!(1)));
    assert_eq!(row(&told, "wms")["breach_in_s"], 0.0, "the limit is exceeded");
    assert!(row(&told, "wms")["behind_s"].as_f64() > Some(0.3), "{}", told.text());
    let only = server.get("/v1/freshness?destination=wms&domain=price").await.ok();
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    server.get("/v1/freshness?of=wms").await.problem(400, "invalid-parameter");
    assert_eq!(server.get(&price_path("A")).await.header("lockstep-freshness"), "current");
    assert_eq!(server.get("/v1/entities/product").await.header("lockstep-freshness"), "", "it has no limit");

    wms.set(Mode::Takes);
    server.until("/v1/freshness", "current again", is("wms", "current")).await;
    let told = server.get("/v1/entities/freshness/price%2Fwms").await.ok();
    assert_eq!((&told["document"]["state"], &told["document"]["why"]), (&json!("current"), &json!(null)));
    assert!(types(&server, "freshness").await.iter().all(|name| name == "freshness.changed"));
    // A source that tells late makes the hub itself late, and says so on reads.
    server.event(&price("2", "B", 1)).await.ok();
    let told = server.until("/v1/freshness", "a late source", is("@hub", "delayed")).await;
    assert_eq!(row(&told, "@hub")["why"], "source");
    let header = server.get(&price_path("B")).await.header("lockstep-freshness").to_owned();
    assert!(header.starts_with("delayed; why=source; since=\""), "{header}");
    let metrics = server.get("/metrics").await.text();
    for line in [
        r#"lockstep_freshness_state{destination="erp",domain="price"} 2"#,
        r#"lockstep_freshness_state{destination="@hub",domain="price"} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }

    let since = row(&server.get("/v1/freshness").await, "erp")["since"].clone();
    server.until("/v1/entities/freshness/price%2Ferp", "said", |a| a.status == 200).await;
    let folder = server.stop().await;
    let server = Server::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    add(&server, "erp", Mode::Rejects);
    server.hub.oversee(watched(Vec::new()));
    let told = server.until("/v1/freshness", "still partial", is("erp", "partial")).await;
    assert_eq!(row(&told, "erp")["since"], since, "it is so since before the restart");
    server.stop().await;
}

fn dead_rule(escalate_us: Vec<i64>) -> AlertRule {
    AlertRule {
        name: "dead".to_owned(),
        figure: Figure::DeadLetters,
        above: 0.0,
        of: vec!["erp".to_owned()],
        within_us: 1_000_000,
        owner: "integration".to_owned(),
        to: vec!["ops".to_owned(), "lead".to_owned()],
        timing: Timing { holds_us: 0, calm_us: 20_000, escalate_us },
    }
}

fn alert(answer: &Answer) -> Value {
    answer.json()["items"][0].clone()
}

async fn wish(server: &Server, path: &str, body: Value) -> Answer {
    server.call(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
}

#[tokio::test]
async fn an_alert_is_opened_escalated_acknowledged_and_resolved_also_over_a_restart() {
    let server = Server::start().await;
    add(&server, "erp", Mode::Rejects);
    server.hub.oversee(watched(vec![dead_rule(vec![50_000])]));
    server.event(&fresh("1", "A")).await.ok();
    let told = server.until("/v1/alerts", "an escalated alert", |a| alert(a)["level"] == 1).await;
    let shown = alert(&told);
    assert_eq!(
        (&shown["rule"], &shown["subject"], &shown["status"], &shown["to"], &shown["owner"]),
        (&json!("dead"), &json!("erp"), &json!("open"), &json!("lead"), &json!("integration"))
    );
    assert_eq!(types(&server, "alert").await, ["alert.opened", "alert.escalated"]);
    let path = "/v1/alerts/dead/erp/acknowledge";
    wish(&server, path, json!({"reason": " "})).await.problem(400, "invalid-body");
    wish(&server, "/v1/alerts/dead/nobody/acknowledge", json!({"reason": "x"})).await.problem(404, "unknown-alert");
    let taken = wish(&server, path, json!({"reason": "on it"})).await.ok();
    assert_eq!((&taken["status"], &taken["acknowledged_by"]), (&json!("acknowledged"), &json!("admin")));
    wish(&server, path, json!({"reason": "me too"})).await.problem(409, "alert-not-open");
    let folder = server.stop().await;

    let server = Server::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    add(&server, "erp", Mode::Takes);
    let known = server.get("/v1/alerts").await;
    assert_eq!(
        (&alert(&known)["status"], &alert(&known)["acknowledged_reason"]),
        (&json!("acknowledged"), &json!("on it"))
    );
    server.hub.oversee(watched(vec![dead_rule(vec![50_000])]));
    assert_eq!(server.post("/v1/dead-letters/erp/retry").await.status, 202);
    let over = |a: &Answer| alert(a)["status"] == "resolved";
    server.until("/v1/alerts?status=resolved", "a resolved alert", over).await;
    assert_eq!(
        types(&server, "alert").await,
        ["alert.opened", "alert.escalated", "alert.acknowledged", "alert.resolved"]
    );
    assert_eq!(server.get("/v1/alerts").await.ok(), json!({"items": []}));
    server.get("/v1/alerts?status=gone").await.problem(400, "invalid-parameter");
    server.stop().await;
}

#[tokio::test]
async fn in_a_silence_nothing_is_opened_and_afterwards_what_still_holds() {
    let server = Server::start().await;
    let erp = add(&server, "erp", Mode::Rejects);
    let quiet = wish(&server, "/v1/silences", json!({"rule": "dead", "for_s": 3600, "reason": "maintenance"})).await;
    assert_eq!(quiet.status, 201, "{}", quiet.text());
    let id = quiet.json()["id"].as_str().unwrap().to_owned();
    wish(&server, "/v1/silences", json!({"for_s": 0, "reason": "x"})).await.problem(400, "invalid-body");
    wish(&server, "/v1/silences", json!({"for_s": 5})).await.problem(400, "invalid-body");
    let folder = server.stop().await;

    let server = Server::with(Setup { folder: Some(folder), ..Setup::default() }).await;
    add(&server, "erp", Mode::Rejects);
    let known = server.get("/v1/silences").await.ok();
    assert_eq!((&known["items"][0]["id"], &known["items"][0]["subject"]), (&json!(id), &json!(null)), "it is kept");
    // A rule that is not silenced shows that all was looked at.
    let other = AlertRule { name: "loud".to_owned(), ..dead_rule(Vec::new()) };
    server.hub.oversee(watched(vec![dead_rule(Vec::new()), other]));
    server.event(&fresh("1", "A")).await.ok();
    let told = server.until("/v1/alerts", "the other alert", |a| alert(a)["status"] == "open").await;
    assert_eq!(told.json()["items"].as_array().unwrap().len(), 1, "{}", told.text());
    assert_eq!(alert(&told)["rule"], "loud");
    let ended = server.call(Method::DELETE, &format!("/v1/silences/{id}"), &[], "").await;
    assert_eq!(ended.status, 204, "{}", ended.text());
    server.until("/v1/alerts", "both alerts", |a| a.json()["items"].as_array().unwrap().len() == 2).await;
    server.call(Method::DELETE, &format!("/v1/silences/{id}"), &[], "").await.problem(404, "unknown-silence");

    // A rule that is taken out of the configuration leaves no alert behind that nobody can end.
    server.hub.oversee(watched(vec![dead_rule(Vec::new())]));
    let over = server.until("/v1/alerts?status=resolved", "a resolved alert", |a| alert(a)["rule"] == "loud").await;
    assert_eq!(alert(&over)["detail"], "its rule is not there any more");
    assert_eq!(alert(&server.get("/v1/alerts").await)["rule"], "dead");
    erp.set(Mode::Takes);
    server.stop().await;
}

#[tokio::test]
async fn a_destination_shows_how_its_deliveries_go_and_that_none_is_lost() {
    let server = Server::start().await;
    let erp = add(&server, "erp", Mode::Takes);
    server.batch(&[price("1", "A", 1), price("2", "B", 1), price("3", "C", 1)]).await.ok();
    server.until("/v1/destinations/erp", "deliveries", |a| a.json()["delivered"] == 3).await;
    erp.set(Mode::Rejects);
    server.event(&price("4", "D", 1)).await.ok();
    let shown = server.until("/v1/destinations/erp", "a dead letter", |a| a.json()["dead"] == 1).await.ok();
    assert_eq!(shown["attempts_5m"], json!({"succeeded": 3, "failed": 1, "success_ratio": 0.75}));
    assert_eq!((&shown["attempts_1d"], &shown["unaccounted"]), (&shown["attempts_5m"], &json!(0)));
    assert!(shown["last_success_at"].is_string());
    erp.set(Mode::Holds);
    let event = server.event(&price("5", "E", 1)).await.ok()["results"][0]["position"].clone();
    let behind = |a: &Answer| a.json()["oldest_pending"] == event;
    let shown = server.until("/v1/destinations/erp", "something pending", behind).await.ok();
    assert!(shown["lag_s"].as_f64() > Some(0.0), "{shown}");
    let metrics = server.get("/metrics").await.text();
    for line in [
        r#"lockstep_destination_unaccounted{destination="erp"} 0"#,
        r#"lockstep_destination_attempts_lately{destination="erp",window="5m",result="succeeded"} 3"#,
        r#"lockstep_destination_success_ratio{destination="erp",window="1d"} 0.75"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    let found = server.get("/v1/conservation").await.ok();
    assert_eq!((&found["holds"], &found["violations"]), (&json!(true), &json!([])));
    erp.set(Mode::Takes);
    server.stop().await;
}
