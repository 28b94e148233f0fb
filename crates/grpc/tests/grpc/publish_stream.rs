//! `PublishStream`.

use lockstep_grpc::GrpcOptions;
use lockstep_grpc::v1::{Outcome, PublishStreamRequest, PublishStreamResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::codec::Streaming;

use crate::harness::{GatedJournal, PATIENCE, Server, Setup, expect, price};

async fn open(server: &Server) -> (mpsc::Sender<PublishStreamRequest>, Streaming<PublishStreamResponse>) {
    let (send, batches) = mpsc::channel(1);
    let acks = server.events().await.publish_stream(server.request(ReceiverStream::new(batches))).await;
    (send, acks.unwrap().into_inner())
}

fn batch(sequence: u64, minor: i64) -> PublishStreamRequest {
    PublishStreamRequest { sequence, events: vec![price(&sequence.to_string(), "A", minor)] }
}

#[tokio::test]
async fn batches_are_acknowledged_in_order() {
    let server = Server::start().await;
    let (send, mut acks) = open(&server).await;
    let sending = tokio::spawn(async move {
        for sequence in 1..=500 {
            send.send(batch(sequence, i64::try_from(sequence).unwrap())).await.unwrap();
        }
    });
    for sequence in 1..=500 {
        let ack = acks.message().await.unwrap().unwrap();
        assert_eq!((ack.sequence, ack.problem), (sequence, None));
        // Each is later than the one before it, so it wins only where their order was kept.
        assert_eq!(
            ack.results.iter().map(|r| (r.outcome(), r.version)).collect::<Vec<_>>(),
            [(Outcome::Applied, Some(sequence))]
        );
    }
    sending.await.unwrap();
    assert!(acks.message().await.unwrap().is_none(), "it ends when the client has said all");
    server.stop().await;
}

#[tokio::test]
async fn an_acknowledgement_comes_after_the_sync_and_the_client_is_held_back() {
    let (journal, gate) = GatedJournal::with_gate();
    let grpc = GrpcOptions { batches_in_flight_max: 4, ..GrpcOptions::default() };
    let server = Server::with(Setup { journal: Some(journal), grpc, ..Setup::default() }).await;
    gate.close();
    let (send, mut acks) = open(&server).await;
    // Far more than what the server reads ahead and what HTTP/2 holds for it.
    let filler = " ".repeat(256 * 1024);
    let sending = tokio::spawn(async move {
        for sequence in 1..=64 {
            let mut batch = batch(sequence, i64::try_from(sequence).unwrap());
            batch.events[0].data_json.push_str(&filler);
            send.send(batch).await.unwrap();
        }
    });
    gate.until_waiting().await;
    assert!(futures_util::poll!(Box::pin(acks.message())).is_pending(), "acknowledged before it was durable");
    assert!(!sending.is_finished(), "16 MiB were taken while nothing could be written");
    gate.open();
    for sequence in 1..=64 {
        assert_eq!(acks.message().await.unwrap().unwrap().sequence, sequence);
    }
    sending.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_stream_waits_for_room_where_a_single_call_is_refused() {
    let (journal, gate) = GatedJournal::with_gate();
    let hub = |options: &mut lockstep_hub::HubOptions| options.queue_bytes_max = 4 * 1024;
    let server = Server::with(Setup { journal: Some(journal), hub: Some(Box::new(hub)), ..Setup::default() }).await;
    gate.close();
    let (send, mut acks) = open(&server).await;
    let long = "x".repeat(2_000);
    let sending = tokio::spawn(async move {
        for sequence in 1..=8 {
            let mut batch = batch(sequence, i64::try_from(sequence).unwrap());
            let data = format!(r#"{{"amount":{{"minor":{sequence},"currency":"EUR"}},"note":"{long}"}}"#);
            batch.events[0].data_json = data;
            send.send(batch).await.unwrap();
        }
    });
    gate.until_waiting().await;
    let saturated = || async {
        let one = lockstep_grpc::v1::PublishRequest {
            events: vec![price("single", "B", 1)],
            ..lockstep_grpc::v1::PublishRequest::default()
        };
        server.events().await.publish(server.request(one)).await
    };
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            // It may still find room before the stream has filled it; then it waits for the gate like all others.
            let call = tokio::time::timeout(std::time::Duration::from_millis(100), saturated()).await;
            if let Ok(Err(status)) = call {
                return status;
            }
        }
    });
    expect(&refused.await.unwrap(), Code::ResourceExhausted, "saturated");
    gate.open();
    for sequence in 1..=8 {
        let ack = acks.message().await.unwrap().unwrap();
        assert_eq!((ack.sequence, ack.results[0].outcome()), (sequence, Outcome::Applied));
    }
    sending.await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_bad_batch_is_told_in_its_place_and_the_stream_goes_on() {
    let server = Server::start().await;
    let (send, mut acks) = open(&server).await;
    let mut bad = batch(2, 2);
    bad.events[0].subject.clear();
    let sending = tokio::spawn(async move {
        for batch in [batch(1, 1), bad, batch(3, 3), PublishStreamRequest { sequence: 4, events: vec![] }, batch(4, 4)]
        {
            send.send(batch).await.unwrap();
        }
        send
    });
    assert_eq!(acks.message().await.unwrap().unwrap().results[0].outcome(), Outcome::Applied);
    let refused = acks.message().await.unwrap().unwrap();
    let problem = refused.problem.unwrap();
    assert_eq!((refused.sequence, problem.field.as_str()), (2, "/events/0/subject"));
    assert_eq!(acks.message().await.unwrap().unwrap().sequence, 3);
    let empty = acks.message().await.unwrap().unwrap();
    assert_eq!((empty.sequence, empty.results.len()), (4, 0));
    // The same number again can't be acknowledged clearly.
    expect(&acks.message().await.unwrap_err(), Code::InvalidArgument, "invalid-parameter");
    drop(sending.await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn what_was_taken_is_acknowledged_when_the_server_stops() {
    let (journal, gate) = GatedJournal::with_gate();
    let mut server = Server::with(Setup { journal: Some(journal), ..Setup::default() }).await;
    gate.close();
    let (send, mut acks) = open(&server).await;
    send.send(batch(1, 1)).await.unwrap();
    gate.until_waiting().await;
    server.begin_stop();
    gate.open();
    assert_eq!(acks.message().await.unwrap().unwrap().sequence, 1);
    expect(&acks.message().await.unwrap_err(), Code::Unavailable, "shutting-down");
    drop(send);
    server.stop().await;
}
