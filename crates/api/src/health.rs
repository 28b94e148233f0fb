//! Liveness, and readiness, which is progress: it says what is stuck.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lockstep_hub::Readiness;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Api, view};

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// Always true.
    live: bool,
}

/// Whether the hub makes progress.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// Whether writes are accepted and get through.
    ready: bool,
    /// What is stuck or broken, one sentence each. A destination that is stuck does not make the hub unready, and neither
    /// does an invariant of stock that is broken.
    stuck: Vec<String>,
}

/// Whether the process answers.
#[utoipa::path(
    get,
    path = "/healthz/live",
    operation_id = "getLive",
    tag = "operating",
    responses((status = 200, description = "It does", body = Live)),
)]
pub(crate) async fn live() -> Response {
    view::json(&Live { live: true })
}

/// Whether the hub makes progress, and what is stuck.
#[utoipa::path(
    get,
    path = "/healthz/ready",
    operation_id = "getReady",
    tag = "operating",
    responses(
        (status = 200, description = "Writes are accepted and get through", body = Ready),
        (status = 503, description = "They do not", body = Ready),
    ),
)]
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let Readiness { ready, stuck } = api.readiness();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, view::json(&Ready { ready, stuck })).into_response()
}

impl Api {
    /// Whether writes are accepted and get through, and what is stuck.
    pub fn readiness(&self) -> Readiness {
        let mut readiness = self.hub.stats().readiness();
        if *self.closing.borrow() {
            readiness.ready = false;
            readiness.stuck.push("the hub is shutting down".to_owned());
        }
        readiness
    }
}
