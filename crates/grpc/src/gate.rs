//! What surrounds every call: who asks is known before anything of the call's messages is read, so that a stranger
//! can't make the hub hold them.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, Request};
use hyper::body::Incoming;
use lockstep_api::{Api, Key, Scope};
use tonic::Status;

use crate::reflection;
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

/// All calls that there are, `<service>/<method>`.
static CALLS: LazyLock<HashSet<String>> = LazyLock::new(|| reflection::methods().map(|(name, _)| name).collect());

/// The label of calls that are not here.
const NO_CALL: &str = "none";

/// The call's name among all that there are: anybody can invent calls, which must not become labels.
pub(crate) fn known(path: &str) -> &'static str {
    CALLS.get(path.trim_start_matches('/')).map_or(NO_CALL, String::as_str)
}

/// Counts a call. What a stream ends with is not known here: it has begun.
pub(crate) fn count(api: &Api, call: &str, headers: &HeaderMap) {
    // A call that fails before its first message has its status among the headers.
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
    api.count_call(call, status.unwrap_or(tonic::Code::Ok as u16));
}

/// Refuses who may not call. Health and reflection are open, as liveness and the interface's description are over HTTP.
pub(crate) fn guard(api: &Api, mut request: Request<Incoming>) -> Result<Request<Incoming>, Status> {
    if let Some(scope) = scope(request.uri().path()) {
        let key = api.authorize(request.headers(), scope).map_err(|problem| status(&problem))?;
        request.extensions_mut().insert(Caller(key));
    }
    Ok(request)
}

/// The caller of a call of our own services.
pub(crate) fn caller(extensions: &http::Extensions) -> Result<Arc<Key>, Status> {
    // The guard is around all of them; a service that is served without it is a mistake of ours.
    let Caller(key) = extensions.get::<Caller>().ok_or_else(|| Status::internal("the call has passed no guard"))?;
    Ok(key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_our_own_needs_a_scope_that_fits_it() {
        let own: Vec<_> = CALLS.iter().filter(|call| call.starts_with("lockstep.")).collect();
        assert_eq!(own.len(), 22, "{own:?}");
        for call in own {
            let asks = ["/Get", "/List", "/Watch", "/Subscribe"].iter().any(|verb| call.contains(verb));
            let scope = scope(&format!("/{call}"));
            assert_eq!(scope, Some(if asks { Scope::Read } else { Scope::Write }), "{call}");
        }
        assert_eq!(scope("/grpc.health.v1.Health/Check"), None);
        assert_eq!(scope("/lockstep.v1.Tomorrow/Call"), Some(Scope::Admin));
    }
}
