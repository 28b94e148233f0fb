//! What is wrong before any resource is asked.

use http::Method;

use crate::harness::Server;

#[tokio::test]
async fn an_unknown_route_is_a_problem() {
    let server = Server::start().await;
    for path in ["/", "/v1", "/v2/events", "/v1/entities/a/b/c"] {
        server.get(path).await.problem(404, "unknown-route");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_that_says_which_are_right() {
    let server = Server::start().await;
    let answer = server.call(Method::DELETE, "/v1/events", &[], "").await;
    answer.problem(405, "method-not-allowed");
    assert!(answer.header("allow").contains("GET") && answer.header("allow").contains("POST"), "{:?}", answer.headers);
    server.stop().await;
}

#[tokio::test]
async fn a_problem_names_the_requests_trace() {
    let server = Server::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let problem =
        server.call(Method::GET, "/nowhere", &[("traceparent", trace)], "").await.problem(404, "unknown-route");
    assert_eq!(problem["instance"], "urn:trace:0af7651916cd43dd8448eb211c80319c");
    server.stop().await;
}
