//! The standard health service (`grpc.health.v1`): readiness, as `/healthz/ready` tells it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use lockstep_api::Api;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as Service;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How often a watched readiness is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The services whose health can be asked for; the empty name is the server as a whole.
const SERVICES: &[&str] = &["", "lockstep.v1.EventService", "lockstep.v1.StockService"];

/// See the module.
pub(crate) struct Health {
    pub(crate) api: Api,
}

impl Health {
    fn of(&self, service: &str) -> ServingStatus {
        match (SERVICES.contains(&service), self.api.readiness().ready) {
            (false, _) => ServingStatus::ServiceUnknown,
            (true, true) => ServingStatus::Serving,
            (true, false) => ServingStatus::NotServing,
        }
    }
}

#[tonic::async_trait]
impl Service for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.of(&request.get_ref().service) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("there is no service here named `{}`", request.get_ref().service)))
            }
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let watching = Watching { health: Self { api: self.api.clone() }, service, told: None };
        Ok(Response::new(Box::pin(unfold(Some(watching), |watching| async { watching?.next().await }))))
    }
}

struct Watching {
    health: Health,
    service: String,
    told: Option<ServingStatus>,
}

impl Watching {
    /// The status where it is another one than was told last; the one told while the server stops is the last.
    async fn next(mut self) -> Option<(Result<HealthCheckResponse, Status>, Option<Self>)> {
        let mut closing = self.health.api.closing();
        loop {
            let ends = *closing.borrow();
            let status = self.health.of(&self.service);
            if self.told != Some(status) {
                self.told = Some(status);
                let rest = (!ends).then_some(self);
                return Some((Ok(HealthCheckResponse { status: status.into() }), rest));
            }
            if ends {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                // The sender lives as long as the api.
                _ = closing.changed() => {}
            }
        }
    }
}
