//! `Publish`.

use lockstep_grpc::v1::{Outcome, PublishRequest};
use tonic::Code;

use crate::harness::{GatedJournal, Server, Setup, expect, price};

fn request(events: Vec<lockstep_grpc::v1::Event>) -> PublishRequest {
    PublishRequest { events, ..PublishRequest::default() }
}

#[tokio::test]
async fn each_event_has_its_result() {
    let server = Server::start().await;
    let mut client = server.events().await;
    let first = client.publish(server.request(request(vec![price("1", "A", 5)]))).await.unwrap().into_inner();
    let [one] = first.results.as_slice() else { panic!("{first:?}") };
    assert_eq!((one.outcome(), one.position, one.version, one.changed), (Outcome::Applied, Some(1), Some(1), true));

    // Older, repeated, with another version, and good.
    let stale = lockstep_grpc::v1::Event { expected_version: Some(9), ..price("4", "A", 7) };
    let batch = vec![price("2", "A", 3), price("1", "A", 5), stale, price("5", "B", 1)];
    let results = client.publish(server.request(request(batch))).await.unwrap().into_inner().results;
    let outcomes: Vec<_> = results.iter().map(|r| r.outcome()).collect();
    assert_eq!(outcomes, [Outcome::Superseded, Outcome::Duplicate, Outcome::Refused, Outcome::Applied]);
    assert_eq!(results[1].duplicate_of, Some(1));
    let problem = results[2].problem.as_ref().unwrap();
    assert_eq!((problem.code.as_str(), problem.particulars["current_version"].as_str()), ("version-mismatch", "1"));
    // What it says is what the hub has.
    let price = server.hub.handle().entity("price", "A:retail:EUR").await.unwrap().unwrap();
    assert_eq!(price.version, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_request_of_which_nothing_was_taken_fails() {
    let server = Server::start().await;
    let mut client = server.events().await;
    server.publish(vec![price("1", "A", 5)]).await;
    let stale = lockstep_grpc::v1::Event { expected_version: Some(9), ..price("2", "A", 6) };
    let status = client.publish(server.request(request(vec![stale]))).await.unwrap_err();
    expect(&status, Code::Aborted, "version-mismatch");
    let status = client.publish(server.request(request(vec![price("1", "A", 6)]))).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "key-reused");
    server.stop().await;
}

#[tokio::test]
async fn one_bad_event_refuses_the_request_before_anything_is_recorded() {
    let server = Server::start().await;
    let mut client = server.events().await;
    let bad = |event| request(vec![price("1", "A", 1), event]);
    let at = |field: &str| format!("/events/1/{field}");
    let base = || price("2", "A", 2);
    let cases = [
        (lockstep_grpc::v1::Event { id: String::new(), ..base() }, at("id")),
        (lockstep_grpc::v1::Event { subject: "order/1".to_owned(), ..base() }, at("subject")),
        (lockstep_grpc::v1::Event { data_json: "{".to_owned(), ..base() }, at("data_json")),
        (
            lockstep_grpc::v1::Event { data_json: r#"{"amount":{"minor":"x","currency":"EUR"}}"#.to_owned(), ..base() },
            at("data_json/amount/minor"),
        ),
        (
            lockstep_grpc::v1::Event { time: Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), ..base() },
            at("time"),
        ),
    ];
    for (event, field) in cases {
        let status = client.publish(server.request(bad(event))).await.unwrap_err();
        expect(&status, Code::InvalidArgument, "invalid-event");
        assert!(String::from_utf8_lossy(status.details()).contains(&field), "{field}: {status:?}");
    }
    assert_eq!(server.hub.handle().bounds().next, 1, "nothing was recorded");
    server.stop().await;
}

#[tokio::test]
async fn a_request_with_a_key_can_be_repeated_but_not_changed() {
    let server = Server::start().await;
    let mut client = server.events().await;
    let keyed = |events| PublishRequest { events, idempotency_key: "import-7".to_owned() };
    let send = keyed(vec![price("1", "A", 1), price("2", "B", 1)]);
    client.publish(server.request(send.clone())).await.unwrap();
    let again = client.publish(server.request(send)).await.unwrap().into_inner();
    assert!(again.results.iter().all(|r| r.outcome() == Outcome::Duplicate), "{again:?}");
    let status = client.publish(server.request(keyed(vec![price("3", "C", 1)]))).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "key-reused");
    let wrong = PublishRequest { events: vec![], idempotency_key: "a\"b".to_owned() };
    let status = client.publish(server.request(wrong)).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "invalid-parameter");
    server.stop().await;
}

#[tokio::test]
async fn a_request_is_answered_after_the_sync() {
    let (journal, gate) = GatedJournal::with_gate();
    let server = Server::with(Setup { journal: Some(journal), ..Setup::default() }).await;
    gate.close();
    let mut client = server.events().await;
    let request = server.request(request(vec![price("1", "A", 1)]));
    let mut call = tokio::spawn(async move { client.publish(request).await });
    gate.until_waiting().await;
    assert!(futures_util::poll!(&mut call).is_pending(), "answered before it was durable");
    gate.open();
    assert_eq!(call.await.unwrap().unwrap().into_inner().results[0].outcome(), Outcome::Applied);
    server.stop().await;
}

#[tokio::test]
async fn what_is_larger_than_allowed_is_refused() {
    let api = lockstep_api::ApiOptions { events_max: 2, events_bytes_max: 4096, ..Default::default() };
    let server = Server::with(Setup { api, ..Setup::default() }).await;
    let mut client = server.events().await;
    let many = (0..3).map(|n| price(&n.to_string(), "A", n)).collect();
    let status = client.publish(server.request(request(many))).await.unwrap_err();
    expect(&status, Code::InvalidArgument, "body-too-large");
    let large = lockstep_grpc::v1::Event { data_json: " ".repeat(5000), ..price("1", "A", 1) };
    let status = client.publish(server.request(request(vec![large]))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    server.stop().await;
}
