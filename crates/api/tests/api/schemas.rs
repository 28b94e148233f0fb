//! `/v1/schemas`.

use crate::harness::Server;

#[tokio::test]
async fn every_kinds_schema_is_there_and_one() {
    let server = Server::start().await;
    let list = server.get("/v1/schemas").await.ok();
    let kinds: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|i| i["kind"].as_str().unwrap().to_owned()).collect();
    assert!(kinds.is_sorted() && kinds.contains(&"order".to_owned()), "{kinds:?}");
    for item in list["items"].as_array().unwrap() {
        let answer = server.get(item["href"].as_str().unwrap()).await;
        assert_eq!(answer.header("content-type"), "application/schema+json");
        jsonschema::meta::validate(&answer.ok()).unwrap();
    }
    server.get("/v1/schemas/spaceship").await.problem(404, "unknown-schema");
    server.stop().await;
}
