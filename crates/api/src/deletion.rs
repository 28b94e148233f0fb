//! `DELETE /v1/entities/{kind}/{key}`: a system says that an entity is gone.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, header};
use lockstep_core::{Change, Input, InputBody, Outcome};
use lockstep_hub::now_us;
use serde_json::{Map, Value};

use crate::auth::Writer;
use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody};
use crate::trace::Trace;
use crate::view::{self, OutcomeBody};
use crate::{Api, entities, events};

/// Says that an entity is gone, as the system that the key speaks for.
///
/// It is the same as the CloudEvent `<kind>.deleted` with the time of now: whether it counts is decided as for every other
/// change, and a later word of the entity brings it back. A repetition with the same `Idempotency-Key` is answered with
/// `duplicate`. There is no 404: what another system tells of the entity may still be on its way.
#[utoipa::path(
    delete,
    path = "/v1/entities/{kind}/{key}",
    operation_id = "deleteEntity",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind"),
        ("key" = String, Path, description = "The key, percent-encoded where it has a slash"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
        ("If-Match" = Option<String>, Header, description = "The version that the entity must have, as its ETag"),
    ),
    responses(
        (status = 200, description = "Durable", body = OutcomeBody),
        (status = 400, description = "A header is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not write", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The order can't be changed so any more", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The entity has another version", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The hub does not know the kind, or the key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["write"])),
)]
pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Writer,
    Segments((kind, key)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (source, system) = caller.speaks_for()?;
    let received_at_us = now_us();
    let payload = format!("{}\0delete", lockstep_core::entity_id(&kind, &key));
    let invalid = |reason: &str, detail: String| Problem::new(Code::InvalidEvent, detail).with("reason", reason);
    let change = Change::deletion(kind, key, 0, received_at_us);
    let change = change.map_err(|error| invalid("change-invalid", error.to_string()))?;
    let request_key = events::required_key(&headers)?;
    let expected_version = entities::if_match(&headers)?;
    entities::validate(&api.schemas, &change.kind, &Value::Object(Map::new()))
        .map_err(|(_, detail)| invalid("schema", detail))?;
    let input = Input {
        source: source.to_owned(),
        system: system.to_owned(),
        // One key is for one request, whatever its method.
        delivery: format!("patch|{request_key}"),
        payload_hash: lockstep_core::payload_hash(payload.as_bytes()),
        reject_reuse: true,
        request_key: None,
        received_at_us,
        trace: Some(Trace::of(&headers).into_string()),
        raw: None,
        body: InputBody::Changes(vec![Change { expected_version, ..change }]),
        releases: None,
    };
    let outcome = events::answer_to_key(view::only(api.hub.submit(vec![input]).await?), &request_key)?;
    let mut response = view::json(&OutcomeBody::from(&outcome));
    if let Outcome::Applied { version, .. } = outcome {
        response.headers_mut().extend(entities::etag(version).map(|tag| (header::ETAG, tag)));
    }
    Ok(response)
}
