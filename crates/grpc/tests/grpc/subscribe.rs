//! `Subscribe`.

use lockstep_api::ApiOptions;
use lockstep_grpc::v1::{PublishedEvent, SubscribeRequest, SubscribeResponse};
use tonic::Code;
use tonic::codec::Streaming;

use crate::harness::{PATIENCE, Server, Setup, expect, price};

/// Reads so many events.
async fn take(stream: &mut Streaming<SubscribeResponse>, count: usize) -> Vec<PublishedEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(stream.message().await.unwrap().unwrap().events);
    }
    assert_eq!(events.len(), count);
    events
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let server = Server::start().await;
    server.publish(vec![price("0", "A", 0)]).await;
    let mut stream = server.subscribe(SubscribeRequest::default()).await;
    server.publish(vec![price("1", "A", 1)]).await;
    // From now on: not the one before.
    let [event] = take(&mut stream, 1).await.try_into().unwrap();
    assert_eq!((event.position, event.r#type.as_str(), event.version), (2, "price.changed", 2));
    assert_eq!((event.kind.as_str(), event.key.as_str()), ("price", "A:retail:EUR"));
    assert_eq!((event.system.as_str(), event.source.as_str()), ("erp", "/hubs/test"));
    assert_eq!(event.changed_fields, ["amount"]);
    assert_eq!(event.occurred_at.unwrap().seconds, 1_767_323_001);
    let document: serde_json::Value = serde_json::from_str(&event.document_json).unwrap();
    assert_eq!(document["amount"]["minor"], 1);
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let server = Server::start().await;
    server.publish((0..10).map(|n| price(&n.to_string(), &format!("SKU-{n}"), n)).collect()).await;
    let after = |position| SubscribeRequest { after_position: Some(position), ..SubscribeRequest::default() };
    let mut stream = server.subscribe(after(7)).await;
    let positions: Vec<_> = take(&mut stream, 3).await.iter().map(|e| e.position).collect();
    assert_eq!(positions, [8, 9, 10]);
    server.publish(vec![price("live", "A", 1)]).await;
    assert_eq!(take(&mut stream, 1).await[0].position, 11);
    let mut all = server.subscribe(after(0)).await;
    assert_eq!(take(&mut all, 11).await[0].position, 1);
    let status = server.events().await.subscribe(server.request(after(99))).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "invalid-parameter");
    drop((stream, all));
    server.stop().await;
}

#[tokio::test]
async fn a_filter_lets_through_what_was_asked_for_and_tells_the_position_of_the_rest() {
    let api = ApiOptions { stream_heartbeat_ms: 20, ..ApiOptions::default() };
    let server = Server::with(Setup { api, ..Setup::default() }).await;
    server.publish((0..5).map(|n| price(&n.to_string(), &format!("SKU-{n}"), n)).collect()).await;
    let filter = SubscribeRequest {
        after_position: Some(0),
        kind: "price".to_owned(),
        key: "SKU-2:retail:EUR".to_owned(),
        r#type: "price.changed".to_owned(),
    };
    let mut stream = server.subscribe(filter).await;
    assert_eq!(take(&mut stream, 1).await[0].position, 3);
    let passed = stream.message().await.unwrap().unwrap();
    assert_eq!((passed.events.len(), passed.position), (0, 5));
    let key_alone = SubscribeRequest { key: "A".to_owned(), ..SubscribeRequest::default() };
    let status = server.events().await.subscribe(server.request(key_alone)).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "invalid-parameter");
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_reader_far_behind_catches_up_from_the_disk() {
    let hub = |options: &mut lockstep_hub::HubOptions| options.tail_bytes_max = 65_536;
    let server = Server::with(Setup { hub: Some(Box::new(hub)), ..Setup::default() }).await;
    for chunk in 0..10 {
        let batch = (0..200).map(|n| price(&format!("{chunk}-{n}"), &format!("SKU-{chunk}-{n}"), n));
        server.publish(batch.collect()).await;
    }
    let from_the_first = SubscribeRequest { after_position: Some(0), ..SubscribeRequest::default() };
    let mut stream = server.subscribe(from_the_first).await;
    let events = take(&mut stream, 2_000).await;
    assert!(events.iter().map(|e| e.position).eq(1..=2_000));
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_so() {
    let api = ApiOptions { stream_behind_max: 100, ..ApiOptions::default() };
    let server = Server::with(Setup { api, ..Setup::default() }).await;
    let mut stream = server.subscribe(SubscribeRequest::default()).await;
    // It takes one event while twenty are published: what the connection holds fills up, then it falls behind.
    let note = "x".repeat(64 * 1024);
    let (mut read, mut sent) = (0, 0);
    let until = std::time::Instant::now() + PATIENCE;
    let status = loop {
        let batch = (sent..sent + 20).map(|n| {
            let mut event = price(&n.to_string(), &format!("SKU-{n}"), 1);
            event.data_json = format!(r#"{{"amount":{{"minor":{n},"currency":"EUR"}},"note":"{note}"}}"#);
            event
        });
        server.publish(batch.collect()).await;
        sent += 20;
        match stream.message().await {
            Ok(Some(response)) => read += response.events.len(),
            Ok(None) => panic!("it ended without a word"),
            Err(status) => break status,
        }
        assert!(std::time::Instant::now() < until, "{read} of {sent} and never cut off");
    };
    expect(&status, Code::Aborted, "too-slow");
    assert!(read < sent, "{read} of {sent}");
    assert!(status.message().contains("after_position"), "{status:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_subscription_ends_with_the_server() {
    let mut server = Server::start().await;
    let mut stream = server.subscribe(SubscribeRequest::default()).await;
    server.begin_stop();
    expect(&stream.message().await.unwrap_err(), Code::Unavailable, "shutting-down");
    server.stop().await;
}
