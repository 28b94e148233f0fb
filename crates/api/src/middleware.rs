//! What surrounds every request: problems get their body, requests are counted, failures logged.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};

use crate::Api;
use crate::problem::{Code, Problem};
use crate::trace::Trace;

/// The label of requests that no route takes.
const NO_ROUTE: &str = "none";

pub(crate) async fn surround(State(api): State<Api>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    // Only a problem's answer needs the trace; cloning the header costs next to nothing.
    let parent = request.headers().get("traceparent").cloned();
    let mut response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut headers = HeaderMap::new();
        headers.extend(parent.map(|value| (http::HeaderName::from_static("traceparent"), value)));
        let trace = Trace::of(&headers);
        let rendered = problem.render(Some(&format!("urn:trace:{}", trace.id())));
        let before = std::mem::replace(&mut response, rendered);
        for (name, value) in before.headers() {
            // `Allow` and the like; the length was that of the empty body.
            if name != header::CONTENT_LENGTH && !response.headers().contains_key(name) {
                response.headers_mut().insert(name.clone(), value.clone());
            }
        }
        log(&problem, route, &method, &trace);
    }
    api.http.count(route, &method, response.status(), began.elapsed());
    response
}

/// Failures of the hub are for its operator; refusals are for the caller and only seen when asked for.
fn log(problem: &Problem, route: &str, method: &Method, trace: &Trace) {
    let (code, detail, trace) = (problem.code().name(), problem.detail(), trace.id());
    if problem.code().status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(code, detail, trace, route, %method, "a request failed");
    } else if problem.code().status().is_server_error() {
        tracing::warn!(code, detail, trace, route, %method, "a request could not be served");
    } else {
        tracing::debug!(code, detail, trace, route, %method, "a request was refused");
    }
}

pub(crate) async fn unknown_route(request: Request) -> Response {
    let detail = format!("there is nothing at `{}`; `/openapi.json` says what there is", request.uri().path());
    Problem::new(Code::UnknownRoute, detail).into_response()
}

pub(crate) async fn unknown_method(request: Request) -> Response {
    let detail = format!("`{}` does not take {}", request.uri().path(), request.method());
    Problem::new(Code::MethodNotAllowed, detail).into_response()
}
