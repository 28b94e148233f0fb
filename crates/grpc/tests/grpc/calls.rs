//! What a client finds without a key: reflection and health.

use lockstep_grpc::v1::PublishRequest;
use tonic::codec::Streaming;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use crate::harness::{GatedJournal, Server, Setup, price};

const SERVICES: [&str; 5] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "lockstep.v1.EventService",
    "lockstep.v1.StockService",
];

#[tokio::test]
async fn reflection_lists_the_services_and_describes_them() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let server = Server::start().await;
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let ask = |message| v1::ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("lockstep.v1.EventService".to_owned())),
    ];
    let mut answers = client.server_reflection_info(tokio_stream::iter(questions)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = next(&mut answers).await.message_response else {
        panic!("no list")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    names.sort();
    assert_eq!(names, SERVICES);
    let Some(MessageResponse::FileDescriptorResponse(file)) = next(&mut answers).await.message_response else {
        panic!("no file")
    };
    let file: prost_types::FileDescriptorProto =
        prost::Message::decode(file.file_descriptor_proto[0].as_slice()).unwrap();
    assert_eq!(file.name(), "lockstep/v1/events.proto");
    drop((client, answers));
    server.stop().await;
}

#[tokio::test]
async fn older_tools_find_the_same() {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;
    let server = Server::start().await;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let question = v1alpha::ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = client.server_reflection_info(tokio_stream::iter([question])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = next(&mut answers).await.message_response else {
        panic!("no list")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    names.sort();
    assert_eq!(names, SERVICES);
    drop((client, answers));
    server.stop().await;
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    stream.message().await.unwrap().unwrap()
}

#[tokio::test]
async fn health_is_readiness() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", "lockstep.v1.EventService", "lockstep.v1.StockService"] {
        let answer = client.check(of(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(client.check(of("nobody")).await.unwrap_err().code(), Code::NotFound);
    let mut unknown = client.watch(of("nobody")).await.unwrap().into_inner();
    assert_eq!(next(&mut unknown).await.status(), ServingStatus::ServiceUnknown);
    drop((unknown, client));
    server.stop().await;
}

#[tokio::test]
async fn who_watches_health_hears_of_the_end() {
    let mut server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.status(), ServingStatus::Serving);
    server.begin_stop();
    assert_eq!(next(&mut watch).await.status(), ServingStatus::NotServing);
    assert!(watch.message().await.unwrap().is_none(), "then it ends");
    drop((watch, client));
    server.stop().await;
}

#[tokio::test]
async fn a_call_under_way_is_answered_when_the_server_stops() {
    let (journal, gate) = GatedJournal::with_gate();
    let mut server = Server::with(Setup { journal: Some(journal), ..Setup::default() }).await;
    gate.close();
    let mut client = server.events().await;
    let publish = PublishRequest { events: vec![price("1", "A", 1)], ..PublishRequest::default() };
    let request = server.request(publish);
    let call = tokio::spawn(async move { client.publish(request).await });
    gate.until_waiting().await;
    server.begin_stop();
    gate.open();
    assert_eq!(call.await.unwrap().unwrap().into_inner().results.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_here_is_unimplemented() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let path = "/lockstep.v1.NoService/Nothing".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<PublishRequest, PublishRequest>::default();
    let request: Request<PublishRequest> = server.request(PublishRequest::default());
    assert_eq!(grpc.unary(request, path, codec).await.unwrap_err().code(), Code::Unimplemented);
    drop(grpc);
    server.stop().await;
}
