//! What surrounds every call: who asks is known before anything of the call's messages is read, so that a stranger
//! can't make the hub hold them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use lockstep_api::{Api, Key, Scope};
use tonic::Status;

use crate::status::status;

/// What a call of one of the hub's own services needs. One without a line needs the strongest scope there is.
fn scope(path: &str) -> Option<Scope> {
    let call = path.strip_prefix("/lockstep.v1.")?;
    Some(match call {
        "EventService/Publish" | "EventService/PublishStream" => Scope::Write,
        "EventService/Subscribe" => Scope::Read,
        _ => match call.strip_prefix("StockService/") {
            Some(call) if ["Get", "List", "Watch"].iter().any(|verb| call.starts_with(verb)) => Scope::Read,
            Some(_) => Scope::Write,
            None => Scope::Admin,
        },
    })
}

/// The caller of a call, as [`guard`] has found it.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Arc<Key>);

/// Refuses who may not call. Health and reflection are open, as liveness and the interface's description are over HTTP.
pub(crate) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if let Some(scope) = scope(request.uri().path()) {
        match api.authorize(request.headers(), scope) {
            Ok(key) => {
                request.extensions_mut().insert(Caller(key));
            }
            Err(problem) => return status(&problem).into_http(),
        }
    }
    next.run(request).await
}

/// The caller of a call of our own services.
pub(crate) fn caller(extensions: &http::Extensions) -> Result<Arc<Key>, Status> {
    // The guard is around all of them; a service that is served without it is a mistake of ours.
    let Caller(key) = extensions.get::<Caller>().ok_or_else(|| Status::internal("the call has passed no guard"))?;
    Ok(key.clone())
}
