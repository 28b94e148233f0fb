//! The way of every call: counted, its caller known, its one message given a time, then handed to its service. The hub's
//! own services are reached by their names and not through a router, whose boxes cost more than what a short call does.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use lockstep_api::Api;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::service::Routes;

use crate::stock::Stocks;
use crate::v1::event_service_server::EventServiceServer;
use crate::v1::stock_service_server::StockServiceServer;
use crate::{Events, deadline, gate};

/// All services.
pub(crate) struct Calls {
    pub(crate) api: Api,
    pub(crate) events: EventServiceServer<Events>,
    pub(crate) stock: StockServiceServer<Stocks>,
    /// Health and reflection, which also answer what is not there.
    pub(crate) others: Routes,
}

impl Calls {
    /// Answers a call; what is wrong with it is a status, so nothing fails.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let call = gate::known(request.uri().path());
        let response = match gate::guard(&self.api, request) {
            Ok(request) => self.hand_over(request).await?,
            Err(status) => status.into_http(),
        };
        gate::count(&self.api, call, response.headers());
        Ok(response)
    }

    async fn hand_over(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let is_of = |service: &str| {
            let rest = request.uri().path().strip_prefix("/lockstep.v1.").and_then(|path| path.strip_prefix(service));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let (stock, events) = (is_of("StockService"), is_of("EventService"));
        let request = deadline::limit(&self.api, request);
        if stock {
            return self.stock.clone().call(request).await;
        }
        if events {
            return self.events.clone().call(request).await;
        }
        self.others.clone().call(request).await
    }
}
