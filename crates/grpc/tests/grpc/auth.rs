//! Who may call what.

use lockstep_api::Scope;
use lockstep_grpc::v1::{PublishRequest, PublishStreamRequest, SubscribeRequest};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

use crate::harness::{Server, expect, price, with_key};

#[tokio::test]
async fn every_call_needs_a_key_with_its_scope() {
    let server = Server::start().await;
    let reader = server.keys.create("reader", &[Scope::Read], None, None).unwrap();
    let writer = server.keys.create("writer", &[Scope::Write], Some("shop"), None).unwrap();
    let mut client = server.events().await;
    let publish = || PublishRequest { events: vec![price("1", "A", 1)], ..PublishRequest::default() };

    let status = client.publish(Request::new(publish())).await.unwrap_err();
    expect(&status, Code::Unauthenticated, "key-missing");
    let status = client.publish(with_key(publish(), "lsk_no_such")).await.unwrap_err();
    expect(&status, Code::Unauthenticated, "key-wrong");
    let status = client.publish(with_key(publish(), &reader)).await.unwrap_err();
    expect(&status, Code::PermissionDenied, "scope-missing");
    let nothing = tokio_stream::empty::<PublishStreamRequest>();
    let status = client.publish_stream(with_key(nothing, &reader)).await.unwrap_err();
    expect(&status, Code::PermissionDenied, "scope-missing");
    let status = client.subscribe(with_key(SubscribeRequest::default(), &writer)).await.unwrap_err();
    expect(&status, Code::PermissionDenied, "scope-missing");

    client.publish(with_key(publish(), &writer)).await.unwrap();
    let entity = server.hub.handle().entity("price", "A:retail:EUR").await.unwrap().unwrap();
    assert_eq!(entity.version, 1);
    client.subscribe(with_key(SubscribeRequest::default(), &reader)).await.unwrap();
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked() {
    let server = Server::start().await;
    let key = server.keys.create("importer", &[Scope::Write], Some("shop"), None).unwrap();
    let (send, batches) = tokio::sync::mpsc::channel(4);
    let mut client = server.events().await;
    let batch = |sequence| PublishStreamRequest { sequence, events: vec![price(&sequence.to_string(), "A", 1)] };
    send.send(batch(1)).await.unwrap();
    let mut acks = client.publish_stream(with_key(ReceiverStream::new(batches), &key)).await.unwrap().into_inner();
    assert_eq!(acks.message().await.unwrap().unwrap().sequence, 1);
    server.keys.revoke("importer").unwrap();
    send.send(batch(2)).await.unwrap();
    expect(&acks.message().await.unwrap_err(), Code::Unauthenticated, "key-wrong");
    drop((client, acks, send));
    server.stop().await;
}
