//! Health and metrics.

use std::io::Write;
use std::process::{Command, Stdio};

use http::Method;
use lockstep_api::Scope;
use serde_json::json;

use crate::harness::{Server, Setup, price};

#[tokio::test]
async fn a_hub_that_makes_progress_is_ready() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz/live").await.ok(), json!({"live": true}));
    assert_eq!(server.get("/healthz/ready").await.ok(), json!({"ready": true, "stuck": []}));
    server.stop().await;
}

#[tokio::test]
async fn metrics_have_what_happened() {
    let server = Server::start().await;
    server.event(&price("1", "A", 1)).await.ok();
    server.event(&price("1", "A", 1)).await.ok();
    server.get("/nowhere").await;
    // The sums are those of the last batch, which may be a moment behind the answer.
    let counted = r#"lockstep_source_received_total{source="api:erp"} 2"#;
    let answer = server.until("/metrics", counted, |a| a.text().contains(counted)).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text();
    for line in [
        r#"lockstep_source_outcomes_total{source="api:erp",outcome="applied"} 1"#,
        r#"lockstep_source_outcomes_total{source="api:erp",outcome="duplicate"} 1"#,
        r#"lockstep_http_requests_total{route="/v1/events",method="POST",status="200"} 2"#,
        r#"lockstep_http_requests_total{route="none",method="GET",status="404"} 1"#,
        r#"lockstep_http_request_seconds_count{route="/v1/events"} 2"#,
        "lockstep_events_published_total 1",
        "lockstep_event_position 1",
        "lockstep_conservation_violations 0",
        "lockstep_ready 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn metrics_need_a_key_unless_they_are_open() {
    let server = Server::start().await;
    server.send(Method::GET, "/metrics", &[], "").await.problem(401, "key-missing");
    let write = format!("Bearer {}", server.keys.create("w", &[Scope::Write], Some("s"), None).unwrap());
    server.send(Method::GET, "/metrics", &[("authorization", &write)], "").await.problem(403, "scope-missing");
    server.stop().await;
    let server = Server::with(Setup { open_metrics: true, ..Setup::default() }).await;
    assert_eq!(server.send(Method::GET, "/metrics", &[], "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_metrics() {
    let server = Server::start().await;
    server.with_dead_letters(1).await;
    server.event(&price("1", "A", 1)).await.ok();
    let text = server.get("/metrics").await.text();
    server.stop().await;
    assert!(text.contains("lockstep_destination_pending"), "{text}");
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) if std::env::var("LOCKSTEP_REQUIRE_SERVICES").is_ok_and(|v| v == "1") => {
            panic!("promtool is needed and could not be started: {error}")
        }
        Err(error) => {
            eprintln!("skipped: promtool (of the Debian package prometheus) could not be started: {error}");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}
