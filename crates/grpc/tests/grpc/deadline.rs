//! A client that begins a call and does not come to its end.

use lockstep_api::ApiOptions;
use lockstep_grpc::v1::{GetReservationRequest, PublishStreamRequest, Reservation};
use tokio_stream::{Stream, StreamExt};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::harness::{Server, Setup, expect, price};

/// A call that takes one message, given a stream of them.
async fn slow(
    server: &Server,
    messages: impl Stream<Item = GetReservationRequest> + Send + 'static,
) -> Result<Reservation, Status> {
    let mut grpc = Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/lockstep.v1.StockService/GetReservation");
    grpc.client_streaming(server.request(messages), path, ProstCodec::default()).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_message_that_does_not_come_ends_its_call_and_no_stream() {
    let api = ApiOptions { body_read_timeout_ms: 50, ..ApiOptions::default() };
    let server = Server::with(Setup { api, ..Setup::default() }).await;
    let (send, batches) = tokio::sync::mpsc::channel(1);
    let batches = tokio_stream::wrappers::ReceiverStream::new(batches);
    let mut acks = server.events().await.publish_stream(server.request(batches)).await.unwrap().into_inner();

    let message = GetReservationRequest { reservation_id: "r".to_owned() };
    let none = slow(&server, tokio_stream::pending()).await.unwrap_err();
    expect(&none, Code::DeadlineExceeded, "body-timeout");
    assert_eq!(none.message(), "the message must arrive within 50 ms");
    let without_end = slow(&server, tokio_stream::once(message.clone()).chain(tokio_stream::pending())).await;
    expect(&without_end.unwrap_err(), Code::DeadlineExceeded, "body-timeout");
    let whole = slow(&server, tokio_stream::once(message)).await;
    expect(&whole.unwrap_err(), Code::NotFound, "unknown-reservation");

    // Opened before all of them, and as long as its client likes.
    send.send(PublishStreamRequest { sequence: 1, events: vec![price("1", "A", 1)] }).await.unwrap();
    assert_eq!(acks.message().await.unwrap().unwrap().sequence, 1);
    drop((send, acks));
    server.stop().await;
}
