//! `/v1/destinations`.

use serde_json::json;

use crate::harness::{Server, price};

#[tokio::test]
async fn a_destination_shows_where_it_stands() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/destinations").await.ok(), json!({"items": []}));
    let door = server.add_door("erp");
    server.event(&price("1", "A", 1)).await.ok();
    let settled = |field: &'static str| move |answer: &crate::harness::Answer| answer.json()["items"][0][field] == 1;
    server.until("/v1/destinations", "one dead letter", settled("dead")).await;
    door.open();
    server.event(&price("2", "B", 1)).await.ok();
    let list = server.until("/v1/destinations", "one delivered", settled("delivered")).await.ok();
    let item = &list["items"][0];
    assert_eq!((&item["name"], &item["running"], &item["published"]), (&json!("erp"), &json!(true), &json!(2)));
    assert_eq!((&item["pending"], &item["dead"]), (&json!(0), &json!(1)));
    let shown = server.get("/v1/destinations/erp").await.ok();
    assert_eq!(shown["lag_s"], 0.0);
    server.get("/v1/destinations/nobody").await.problem(404, "unknown-destination");
    server.stop().await;
}

#[tokio::test]
async fn one_that_is_behind_says_how_old_its_oldest_event_is() {
    let server = Server::start().await;
    let door = server.add_door("erp");
    door.hold();
    server.event(&price("1", "A", 1)).await.ok();
    let behind = server
        .until("/v1/destinations/erp", "lag", |a| {
            a.status == 200 && a.json()["pending"] == 1 && a.json()["lag_s"].as_f64() > Some(0.0)
        })
        .await
        .ok();
    assert_eq!(behind["pending"], 1);
    door.open();
    server.until("/v1/destinations/erp", "nothing pending", |a| a.json()["pending"] == 0).await;
    server.stop().await;
}
