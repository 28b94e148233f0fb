//! `/v1/replays`.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, price};

async fn start(server: &Server, body: Value) -> Answer {
    server.call(Method::POST, "/v1/replays", &[("content-type", "application/json")], body.to_string()).await
}

#[tokio::test]
async fn a_replay_is_started_shown_listed_and_cancelled() {
    let server = Server::start().await;
    let door = server.add_door("erp");
    door.open();
    let batch: Vec<_> = (0..20).map(|n| price(&format!("p-{n}"), &format!("P-{}", n % 5), n + 1)).collect();
    server.batch(&batch).await.ok();
    server.until("/v1/destinations/erp", "all delivered", |a| a.json()["delivered"] == 20).await;

    let begun = start(&server, json!({"destination": "erp", "rate_per_s": 0})).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let path = format!("/v1/replays/{}", begun.json()["id"]);
    let done = server.until(&path, "it is through", |a| a.json()["status"] == "done").await.json();
    assert_eq!((&done["delivered"], &done["skipped_stale"], &done["progress"]), (&json!(5), &json!(15), &json!(1.0)));
    let all = json!({"destination": "erp", "rate_per_s": 0, "stale": "send", "type": "price.*", "from_time": "2020-01-01T00:00:00Z"});
    let path = format!("/v1/replays/{}", start(&server, all).await.json()["id"]);
    let done = server.until(&path, "it is through", |a| a.json()["status"] == "done").await.json();
    assert_eq!((&done["delivered"], &done["from"]), (&json!(20), &json!(0)));
    let state = json!({"destination": "erp", "rate_per_s": 0, "source": "state"});
    let path = format!("/v1/replays/{}", start(&server, state).await.json()["id"]);
    let done = server.until(&path, "it is through", |a| a.json()["status"] == "done").await.json();
    assert_eq!(done["delivered"], 5);
    let future = json!({"destination": "erp", "from_time": "2200-01-01T00:00:00Z"});
    let path = format!("/v1/replays/{}", start(&server, future).await.json()["id"]);
    assert_eq!(server.until(&path, "it is through", |a| a.json()["status"] == "done").await.json()["delivered"], 0);

    // So slowly that it is still there to be cancelled.
    let slow = start(&server, json!({"destination": "erp", "rate_per_s": 1, "stale": "send"})).await.json();
    let path = format!("/v1/replays/{}", slow["id"]);
    for _ in 0..2 {
        assert_eq!(server.call(Method::DELETE, &path, &[], "").await.status, 204);
        assert_eq!(server.get(&path).await.ok()["status"], "cancelled");
    }
    assert_eq!(server.get("/v1/replays").await.ok()["items"].as_array().unwrap().len(), 5);
    assert_eq!(server.get("/v1/destinations/erp").await.ok()["delivered"], 20, "replays are counted apart");

    for (wrong, status, code) in [
        (json!({}), 400, "invalid-body"),
        (json!({"destination": "nobody"}), 404, "unknown-destination"),
        (json!({"destination": "erp", "from": 1, "from_time": "2020-01-01T00:00:00Z"}), 400, "invalid-body"),
        (json!({"destination": "erp", "from_time": "soon"}), 400, "invalid-body"),
        (json!({"destination": "erp", "source": "state", "from": 3}), 400, "invalid-body"),
        (json!({"destination": "erp", "source": "state", "stale": "send"}), 400, "invalid-body"),
        (json!({"destination": "erp", "speed": 3}), 400, "invalid-body"),
    ] {
        start(&server, wrong).await.problem(status, code);
    }
    server.get("/v1/replays/1").await.problem(404, "unknown-replay");
    server.stop().await;
}
