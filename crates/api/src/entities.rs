//! `/v1/entities`: what is known, and changing fields of one.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use lockstep_connect::schema::Schemas;
use lockstep_core::change::{check_key, check_kind};
use std::sync::Arc;

use lockstep_core::{Change, Entity, Field, Input, InputBody, Outcome, Position, path};
use lockstep_hub::now_us;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::auth::{Reader, Writer};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::trace::Trace;
use crate::view::{self, OutcomeBody};
use crate::{Api, body, current, events, freshness};

/// An entity's current document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entity)]
pub(crate) struct EntityBody {
    /// Its kind.
    kind: String,
    /// Its key within its kind.
    key: String,
    /// How often its document has changed; in quotes it is the ETag.
    version: u64,
    /// When it was first heard of (RFC 3339, UTC).
    #[schema(format = DateTime)]
    created_at: String,
    /// When its document last changed (RFC 3339, UTC).
    #[schema(format = DateTime)]
    updated_at: String,
    /// The winning value of each field.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    document: Box<RawValue>,
    /// Whether it is deleted: its document is what was said of it before, or by others. Absent where it is not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    /// Whether fields are missing without which nobody is told of it. Absent where none are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    incomplete: bool,
    /// The name by which it was asked for, where that is an external id, or the key of one that is merged into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_for: Option<String>,
    /// The keys of the entities that are merged into it. Absent where none are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<String>,
    /// The key of the entity that it is merged into: its document is what was said by its own key. In lists only.
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_into: Option<String>,
}

impl EntityBody {
    pub(crate) fn asked_for(entity: &Entity, key: String) -> Self {
        Self { asked_for: (entity.key != key).then_some(key), ..Self::from(entity) }
    }
}

impl From<&Entity> for EntityBody {
    fn from(entity: &Entity) -> Self {
        Self {
            kind: entity.kind.to_string(),
            key: entity.key.to_string(),
            version: entity.version,
            created_at: view::time(entity.created_at_us),
            updated_at: view::time(entity.updated_at_us),
            document: view::raw(&entity.document_json()),
            deleted: entity.is_deleted(),
            incomplete: entity.incomplete,
            asked_for: None,
            members: entity.members().into_iter().map(str::to_owned).collect(),
            merged_into: (!entity.merged_into.is_empty()).then(|| entity.merged_into.to_string()),
        }
    }
}

/// A part of the entities of a kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntityList {
    /// In the order of their keys.
    items: Vec<EntityBody>,
    /// Where the next part goes on; null at the end.
    next_after: Option<String>,
}

/// The entities of a kind, in the order of their keys.
#[utoipa::path(
    get,
    path = "/v1/entities/{kind}",
    operation_id = "listEntities",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind, for example `order`"),
        ("after" = Option<String>, Query, description = "Only keys after this one"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the list; empty where the kind is not known", body = EntityList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(
    State(api): State<Api>,
    _caller: Reader,
    Segments(kind): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["after", "limit"])?;
    check_kind(&kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
    let limit = params.limit(100, 1000)?;
    let after = params.text("after").unwrap_or_default();
    let page = current::ask(|| api.hub.entities(&kind, after, limit)).await?;
    let next_after = page.items.last().filter(|_| page.more).map(|e| e.key.to_string());
    let items = page.items.iter().map(|e| EntityBody::from(&**e)).collect();
    let mut response = view::json(&EntityList { items, next_after });
    freshness::tell(&api, &kind, response.headers_mut());
    Ok(response)
}

/// An entity as it is now.
#[utoipa::path(
    get,
    path = "/v1/entities/{kind}/{key}",
    operation_id = "getEntity",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind"),
        ("key" = String, Path, description = "The key, or what a system calls it (`@shop/order_id/1001`); percent-encoded where it has a slash"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client has: 304 where one of them is current"),
    ),
    responses(
        (status = 200, description = "The entity; its `ETag` is its version in quotes", body = EntityBody, headers(
            ("ETag" = String, description = "The version in quotes"),
            ("Lockstep-Freshness" = String, description = "How fresh the hub itself is, where the domain has a limit: `current`, or `delayed; why=source; since=\"...\"`"),
        )),
        (status = 304, description = "The client has the current version"),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such entity", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(name): Segments<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let entity = find(&api, &name).await?;
    let Some(tag) = etag(entity.version) else {
        return Ok(view::json(&EntityBody::asked_for(&entity, name.1)));
    };
    let mut response = if has_current(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        view::json(&EntityBody::asked_for(&entity, name.1))
    };
    response.headers_mut().insert(header::ETAG, tag);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    freshness::tell(&api, &entity.kind, response.headers_mut());
    Ok(response)
}

/// Sets fields of an entity, as the system that the key speaks for.
///
/// The body is a JSON object of the fields to set; the others stay as they are. Whether they win is decided as for
/// every other change. A repetition with the same `Idempotency-Key` is answered with `duplicate`.
#[utoipa::path(
    patch,
    path = "/v1/entities/{kind}/{key}",
    operation_id = "patchEntity",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind"),
        ("key" = String, Path, description = "The key, or what a system calls it (`@shop/order_id/1001`); percent-encoded where it has a slash"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
        ("If-Match" = Option<String>, Header, description = "The version that the entity must have, as its ETag"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: the entity must not exist yet"),
    ),
    request_body(description = "The fields to set", content(
        (serde_json::Map<String, serde_json::Value> = "application/json"),
        (serde_json::Map<String, serde_json::Value> = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, description = "Durable", body = OutcomeBody),
        (status = 400, description = "The body is not a JSON object, or a header is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not write", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The order can't be changed so any more, or an external id belongs to another entity", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "The external id belongs to no entity", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The entity has another version", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A field is not valid, or the key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["write"])),
)]
pub(crate) async fn patch(
    State(api): State<Api>,
    caller: Writer,
    Segments((kind, key)): Segments<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (source, system) = caller.speaks_for()?;
    check_kind(&kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
    check_key(&key).map_err(|e| Problem::parameter("key", e.to_string()))?;
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    let request_key = events::required_key(&headers)?;
    let expected_version = if_match(&headers)?.or(if_none_match_any(&headers)?);
    json_content(&headers)?;
    let body = body::read(&headers, body, api.options.body_bytes_max, &api.options).await?;
    let received_at_us = now_us();
    let fields: Value = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(Code::InvalidBody, format!("the body must be a JSON object of fields: {e}")))?;
    let invalid = |pointer: &str, reason: &str, detail: String| {
        Problem::new(Code::InvalidEvent, detail).with("pointer", pointer).with("reason", reason)
    };
    if !fields.is_object() {
        return Err(Problem::new(Code::InvalidBody, "the body must be a JSON object of fields"));
    }
    validate(&api.schemas, &kind, &fields).map_err(|(pointer, detail)| invalid(&pointer, "schema", detail))?;
    let fields = match fields {
        Value::Object(fields) => to_fields(fields),
        _ => Vec::new(),
    };
    let fields = path::split(fields, api.schemas.parts(&kind))
        .map_err(|error| invalid(&error.pointer(), "schema", error.to_string()))?;
    let mut payload = lockstep_core::entity_id(&kind, &key).as_bytes().to_vec();
    payload.push(0);
    payload.extend_from_slice(&body);
    let mut change =
        Change::new(kind, key, 0, received_at_us, fields).map_err(|e| invalid("", "change-invalid", e.to_string()))?;
    change.expected_version = expected_version;
    let input = Input {
        source: source.to_owned(),
        system: system.to_owned(),
        delivery: format!("patch|{request_key}"),
        payload_hash: lockstep_core::payload_hash(&payload),
        reject_reuse: true,
        request_key: None,
        received_at_us,
        trace: Some(Trace::of(&headers).into_string()),
        raw: None,
        body: InputBody::Changes(vec![change]),
        releases: None,
    };
    let outcome = events::answer_to_key(view::only(api.hub.submit(vec![input]).await?), &request_key)?;
    let mut response = view::json(&OutcomeBody::from(&outcome));
    if let Outcome::Applied { version, .. } = outcome {
        response.headers_mut().extend(etag(version).map(|tag| (header::ETAG, tag)));
    }
    Ok(response)
}

/// Fields as the hub keeps them: each value as compact JSON with its keys sorted.
fn to_fields(fields: Map<String, Value>) -> Vec<Field> {
    fields.into_iter().map(|(name, value)| Field::new(name, compact(&value))).collect()
}

/// A value as the hub keeps it.
pub(crate) fn compact(value: &Value) -> Vec<u8> {
    let mut json = Vec::with_capacity(64);
    write_sorted(&mut json, value);
    json
}

/// Compact JSON whose keys are sorted, however the map at hand orders them.
fn write_sorted(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            out.push(b'{');
            for (at, (name, value)) in entries.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                lockstep_core::event::write_string(out, name);
                out.push(b':');
                write_sorted(out, value);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (at, value) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_sorted(out, value);
            }
            out.push(b']');
        }
        Value::String(text) => lockstep_core::event::write_string(out, text),
        plain => out.extend_from_slice(plain.to_string().as_bytes()),
    }
}

/// Checks fields by the schema of their kind: a pointer into them and what would be right.
pub(crate) fn validate(schemas: &Schemas, kind: &str, fields: &Value) -> Result<(), (String, String)> {
    schemas.validate(kind, fields).map_err(|violation| (violation.pointer.clone(), violation.to_string()))
}

/// The entity of that kind and key, merged or not.
pub(crate) async fn named(api: &Api, (kind, key): &(String, String)) -> Result<Arc<Entity>, Problem> {
    check_kind(kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
    check_key(key).map_err(|e| Problem::parameter("key", e.to_string()))?;
    let unknown = || Problem::new(Code::UnknownEntity, format!("there is no entity `{kind}/{key}`"));
    current::ask(|| api.hub.named(kind, key)).await?.ok_or_else(unknown)
}

/// The entity of that kind and key, or what it is merged into.
pub(crate) async fn find(api: &Api, (kind, key): &(String, String)) -> Result<Arc<Entity>, Problem> {
    check_kind(kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
    check_key(key).map_err(|e| Problem::parameter("key", e.to_string()))?;
    match current::ask(|| api.hub.find(kind, key)).await? {
        Some(entity) => Ok(entity),
        None => Err(Problem::new(Code::UnknownEntity, format!("there is no entity `{kind}/{key}`"))),
    }
}

/// A position in a path.
pub(crate) fn position(text: &str) -> Result<Position, Problem> {
    match text.parse() {
        Ok(position) if (1..=i64::MAX as u64).contains(&position) => Ok(position),
        _ => Err(Problem::parameter("position", format!("a position is a whole number from 1 on, not `{text}`"))),
    }
}

/// A version as an ETag.
pub(crate) fn etag(version: u64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}

/// The version that `If-Match` asks for.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let quoted = value.to_str().ok().and_then(|t| t.trim().strip_prefix('"')?.strip_suffix('"'));
    match quoted.and_then(|v| v.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(Problem::header("If-Match", "`If-Match` must be one ETag of the entity, for example `\"5\"`")),
    }
}

/// `If-None-Match: *` asks that there is no such entity yet.
fn if_none_match_any(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    match headers.get(header::IF_NONE_MATCH).map(HeaderValue::as_bytes) {
        None => Ok(None),
        Some(b"*") => Ok(Some(0)),
        Some(_) => {
            Err(Problem::header("If-None-Match", "`If-None-Match` can only be `*` here: the entity must not exist yet"))
        }
    }
}

fn has_current(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let tag = tag.to_str().unwrap_or_default();
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    given.flat_map(|v| v.split(',')).map(str::trim).any(|v| v == "*" || v.strip_prefix("W/").unwrap_or(v) == tag)
}

/// Refuses a body that does not call itself JSON.
pub(crate) fn json_content(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence == "application/merge-patch+json" {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, "`Content-Type` must be `application/json`"))
}
