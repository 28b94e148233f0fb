//! `/v1/aliases`: whom an external id belongs to.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use lockstep_core::alias::{ALIAS_KIND, Alias};
use lockstep_core::decide::holder;
use lockstep_core::{Change, Entity};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::auth::{Operator, Reader};
use crate::operator::{self, DECISION_FIELD, Word, change};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, current, view};

/// How often a removal is made anew because somebody else speaks of the external id meanwhile.
const TRIES: usize = 5;

/// Whom an external id belongs to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alias)]
pub(crate) struct AliasBody {
    /// The system that calls an entity so.
    system: String,
    /// What kind of id it is there.
    #[serde(rename = "type")]
    name: String,
    /// The external id.
    id: String,
    /// The kind of the entity.
    kind: String,
    /// The key of the entity.
    key: String,
    /// Since when it is known (RFC 3339, UTC).
    #[schema(format = DateTime)]
    since: String,
    /// What a person last did about it. Null where no person did anything.
    #[schema(value_type = Option<serde_json::Value>)]
    decision: Option<Box<RawValue>>,
}

/// The external id that a path names.
fn alias((system, name, id): &(String, String, String)) -> Result<Alias, Problem> {
    let text = format!("@{system}/{name}/{id}");
    Alias::parse(&text).ok_or_else(|| {
        let detail =
            format!("`{text}` is no external id: that is @<system>/<type>/<id>, the first two of a-z, 0-9, ., _ and -");
        Problem::parameter("id", detail)
    })
}

/// Its document, where it belongs to an entity.
async fn find(api: &Api, alias: &Alias) -> Result<(Arc<Entity>, (String, String)), Problem> {
    let document = current::ask(|| api.hub.entity(ALIAS_KIND, alias.key())).await?;
    let held = document.and_then(|document| holder(&document).map(|holder| (document, holder)));
    let unknown = || Problem::new(Code::AliasUnknown, format!("no entity has the external id `{alias}`"));
    held.ok_or_else(|| unknown().with("external_id", alias.to_string()))
}

/// Whom an external id belongs to.
#[utoipa::path(
    get,
    path = "/v1/aliases/{system}/{type}/{id}",
    operation_id = "getAlias",
    tag = "entities",
    params(
        ("system" = String, Path, description = "The system"),
        ("type" = String, Path, description = "What kind of id it is there, for example `order_id`"),
        ("id" = String, Path, description = "The external id, percent-encoded where it has a slash"),
    ),
    responses(
        (status = 200, description = "The entity", body = AliasBody),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No entity has this external id", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(name): Segments<(String, String, String)>,
) -> Result<Response, Problem> {
    let (document, (kind, key)) = find(&api, &alias(&name)?).await?;
    let (system, name, id) = name;
    Ok(view::json(&AliasBody {
        system,
        name,
        id,
        kind,
        key,
        since: view::time(document.updated_at_us),
        decision: document.value(DECISION_FIELD).map(|json| view::raw(json)),
    }))
}

/// Takes an external id from its entity, so that another one may have it.
///
/// It is given again to the first entity whose change names it.
#[utoipa::path(
    delete,
    path = "/v1/aliases/{system}/{type}/{id}",
    operation_id = "removeAlias",
    tag = "entities",
    params(
        ("system" = String, Path, description = "The system"),
        ("type" = String, Path, description = "What kind of id it is there"),
        ("id" = String, Path, description = "The external id, percent-encoded where it has a slash"),
        ("reason" = String, Query, description = "Why, for whoever looks at it later"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    responses(
        (status = 204, description = "It belongs to no entity any more"),
        (status = 400, description = "A header or a parameter is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No entity has this external id", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "It was given to others again and again meanwhile", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.only(&["reason"])?;
    let alias = alias(&name)?;
    let reason = params.text("reason").unwrap_or_default();
    if reason.trim().is_empty() {
        return Err(Problem::parameter("reason", "`reason` must say why"));
    }
    let word = Word::new(&caller, &headers, &[b"remove-alias", alias.key().as_bytes(), reason.as_bytes()])?;
    let mut version = 0;
    for _ in 0..TRIES {
        let document = match find(&api, &alias).await {
            Ok((document, _)) => document,
            Err(problem) => {
                word.or_repeated(&api, problem).await?;
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
        };
        version = document.version;
        let at = operator::after(Some(&document), DECISION_FIELD, word.received_at_us);
        // With this word the hub takes it from its entity.
        let said = change(ALIAS_KIND, alias.key(), at, vec![word.decision("remove", reason, [])]);
        if word.say(&api, vec![Change { expected_version: Some(version), ..said }]).await?.is_some() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let detail = format!("`{alias}` is given to entities again and again: it has version {version} now");
    Err(Problem::new(Code::VersionMismatch, detail).with("current_version", version))
}
