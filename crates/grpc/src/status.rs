//! A problem of the API as the status of a call: a code that every client knows, the stable code of Lockstep in the
//! details (`google.rpc.ErrorInfo`) and, for clients that can't read details, in the trailing metadata.

use std::collections::HashMap;

use bytes::Bytes;
use http::StatusCode;
use lockstep_api::{Code, Problem};
use prost::Message;
use prost_types::{Any, Duration};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code as GrpcCode, Status};

use crate::v1;

/// Whose codes the reasons are.
const DOMAIN: &str = "lockstep";
/// The trailing metadata with the stable code.
const CODE_KEY: &str = "lockstep-code";

/// `google.rpc.Status`, the content of `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Duration>,
}

/// The status of a call that is refused.
pub(crate) fn status(problem: &Problem) -> Status {
    let code = grpc_code(problem.code());
    log(problem, code);
    let metadata = particulars(problem);
    let reason = problem.code().name().to_uppercase().replace('-', "_");
    let mut details = vec![any("ErrorInfo", &ErrorInfo { reason, domain: DOMAIN.to_owned(), metadata })];
    let field = field(problem);
    if !field.is_empty() {
        let violation = FieldViolation { field, description: problem.detail().to_owned() };
        details.push(any("BadRequest", &BadRequest { field_violations: vec![violation] }));
    }
    if let Some(seconds) = problem.members().get("retry_after_s").and_then(seconds) {
        details.push(any("RetryInfo", &RetryInfo { retry_delay: Some(Duration { seconds, nanos: 0 }) }));
    }
    let message = if problem.detail().is_empty() { problem.code().title() } else { problem.detail() };
    let details = RpcStatus { code: code as i32, message: message.to_owned(), details }.encode_to_vec();
    let mut trailing = MetadataMap::new();
    trailing.insert(CODE_KEY, MetadataValue::from_static(problem.code().name()));
    Status::with_details_and_metadata(code, message, Bytes::from(details), trailing)
}

/// The same for a part of a call that goes on.
pub(crate) fn part(problem: &Problem) -> v1::Problem {
    v1::Problem {
        code: problem.code().name().to_owned(),
        detail: problem.detail().to_owned(),
        field: field(problem),
        particulars: particulars(problem),
    }
}

/// What everybody gets to see of it: a JSON pointer, or the name of a parameter as a pointer to it.
fn field(problem: &Problem) -> String {
    let text = |name| problem.members().get(name).and_then(|value| value.as_str());
    match (text("pointer"), text("parameter")) {
        (Some(pointer), _) => pointer.to_owned(),
        (None, Some(parameter)) => format!("/{parameter}"),
        (None, None) => String::new(),
    }
}

fn particulars(problem: &Problem) -> HashMap<String, String> {
    let told = problem.members().iter().filter(|(name, _)| !matches!(name.as_str(), "pointer" | "parameter"));
    told.map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect()
}

fn seconds(value: &serde_json::Value) -> Option<i64> {
    value.as_i64()
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: message.encode_to_vec() }
}

/// The code by which a client decides what to do. Where two fit, the one that says whether to repeat the call as it
/// is (UNAVAILABLE, RESOURCE_EXHAUSTED), from an earlier step (ABORTED), or not before something else has changed
/// (FAILED_PRECONDITION).
fn grpc_code(code: Code) -> GrpcCode {
    match code {
        Code::VersionMismatch | Code::TooSlow => return GrpcCode::Aborted,
        Code::AliasTaken => return GrpcCode::AlreadyExists,
        Code::MethodNotAllowed | Code::UnknownRoute => return GrpcCode::Unimplemented,
        _ => {}
    }
    match code.status() {
        StatusCode::UNAUTHORIZED => GrpcCode::Unauthenticated,
        StatusCode::FORBIDDEN => GrpcCode::PermissionDenied,
        StatusCode::NOT_FOUND => GrpcCode::NotFound,
        StatusCode::REQUEST_TIMEOUT => GrpcCode::DeadlineExceeded,
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => GrpcCode::FailedPrecondition,
        StatusCode::GONE => GrpcCode::OutOfRange,
        StatusCode::TOO_MANY_REQUESTS => GrpcCode::ResourceExhausted,
        StatusCode::SERVICE_UNAVAILABLE => GrpcCode::Unavailable,
        StatusCode::INTERNAL_SERVER_ERROR => GrpcCode::Internal,
        _ => GrpcCode::InvalidArgument,
    }
}

/// Failures of the hub are for its operator; refusals are for the caller and only seen when asked for.
fn log(problem: &Problem, status: GrpcCode) {
    let (code, detail) = (problem.code().name(), problem.detail());
    match status {
        GrpcCode::Internal => tracing::error!(code, detail, "a call failed"),
        GrpcCode::Unavailable => tracing::warn!(code, detail, "a call could not be served"),
        _ => tracing::debug!(code, detail, "a call was refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_that_is_none_of_the_vague_ones() {
        for code in Code::ALL {
            let status = grpc_code(*code);
            assert!(!matches!(status, GrpcCode::Ok | GrpcCode::Unknown | GrpcCode::Cancelled), "{}", code.name());
        }
    }

    #[test]
    fn a_status_says_code_field_and_when_to_come_back() {
        let problem = Problem::new(Code::InvalidEvent, "`id` is missing").with("pointer", "/events/0/id");
        let status = status(&problem.with("retry_after_s", 5));
        assert_eq!((status.code(), status.message()), (GrpcCode::InvalidArgument, "`id` is missing"));
        assert_eq!(status.metadata().get(CODE_KEY).unwrap(), "invalid-event");
        let rpc = RpcStatus::decode(status.details()).unwrap();
        assert_eq!((rpc.code, rpc.message.as_str()), (3, "`id` is missing"));
        let of = |name: &str| rpc.details.iter().find(|any| any.type_url.ends_with(name)).unwrap().value.as_slice();
        let info = ErrorInfo::decode(of("ErrorInfo")).unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_EVENT", "lockstep"));
        assert_eq!(BadRequest::decode(of("BadRequest")).unwrap().field_violations[0].field, "/events/0/id");
        assert_eq!(RetryInfo::decode(of("RetryInfo")).unwrap().retry_delay.unwrap().seconds, 5);
    }
}
