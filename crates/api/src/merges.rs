//! `POST /v1/entities/{kind}/{key}/merge` and `/unmerge`: two entities are found to be one, or not to be after all.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use lockstep_core::change::{check_key, check_kind};
use lockstep_core::decide::{INTO_FIELD, MERGE_KIND, may_merge};
use lockstep_core::{Entity, Field, entity_id};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::auth::Operator;
use crate::entities::EntityBody;
use crate::operator::{self, DECISION_FIELD, Word, change};
use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody};
use crate::view::{self, OutcomeBody};
use crate::{Api, current, entities};

/// Into which entity another one goes, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Merge {
    /// The key of the entity that stays, or what a system calls it. It is of the same kind.
    into: String,
    /// The reason, for whoever looks at it later.
    reason: String,
}

/// Why a merge is undone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unmerge {
    /// The reason, for whoever looks at it later.
    reason: String,
}

/// What became of a merge, or of its undoing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Merged {
    /// What became of the input.
    outcome: OutcomeBody,
    /// After a merge the entity that stays; after its undoing the one that is back.
    entity: EntityBody,
}

/// Merges an entity into another one, because they are one.
///
/// What was said of both then counts as if it had been said of the one that stays, and so does what is said later by either
/// key. Reads by the key of the one that goes, and by its external ids, answer with the one that stays. Destinations are told
/// that the one that goes is deleted, and how the other one changes. It can be undone exactly.
#[utoipa::path(
    post,
    path = "/v1/entities/{kind}/{key}/merge",
    operation_id = "mergeEntity",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind"),
        ("key" = String, Path, description = "The key of the entity that goes, or what a system calls it; percent-encoded where it has a slash"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Merge, content_type = "application/json"),
    responses(
        (status = 200, description = "Durable", body = Merged),
        (status = 400, description = "The body, a header or a parameter is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such entity", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "One of them is merged already", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The two are the same, entities of this kind are never merged, or the key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn merge(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let form = r#"{"into": "<key>", "reason": "..."}"#;
    let (asked, body) = operator::read::<Merge>(&api, &parts.headers, body, form).await?;
    operator::check_reason(&asked.reason)?;
    check_key(&asked.into).map_err(|e| Problem::new(Code::InvalidBody, e.to_string()).with("pointer", "/into"))?;
    let word = word(&caller, &parts.headers, "merge", &name, &body)?;
    let goes = match find(&api, &name).await {
        Ok(goes) => goes,
        Err(problem) => return repeated(&api, &word, &name, problem).await,
    };
    let into = (name.0.clone(), asked.into.clone());
    let stays = match find(&api, &into).await {
        Ok(stays) if stays.key != goes.key => stays,
        Ok(_) => {
            let detail = format!("`{}` can't be merged into itself", goes.id());
            let problem = Problem::new(Code::MergeInvalid, detail).with("pointer", "/into");
            return repeated(&api, &word, &name, problem).await;
        }
        Err(problem) => return repeated(&api, &word, &name, problem.with("pointer", "/into")).await,
    };
    say(&api, &word, &goes, Some(&stays.key), &asked.reason).await
}

/// Undoes a merge: the entity is one of its own again.
///
/// Both are as they would be had they never been merged: what was said meanwhile by either key is said of that one.
#[utoipa::path(
    post,
    path = "/v1/entities/{kind}/{key}/unmerge",
    operation_id = "unmergeEntity",
    tag = "entities",
    params(
        ("kind" = String, Path, description = "The kind"),
        ("key" = String, Path, description = "The key of the entity that was merged into another one, or what a system calls it; percent-encoded where it has a slash"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Unmerge, content_type = "application/json"),
    responses(
        (status = 200, description = "Durable", body = Merged),
        (status = 400, description = "The body, a header or a parameter is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such entity", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is not merged", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Entities of this kind are never merged, or the key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn unmerge(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (Unmerge { reason }, body) = operator::read(&api, &parts.headers, body, r#"{"reason": "..."}"#).await?;
    operator::check_reason(&reason)?;
    let word = word(&caller, &parts.headers, "unmerge", &name, &body)?;
    match find(&api, &name).await {
        Ok(comes) => say(&api, &word, &comes, None, &reason).await,
        Err(problem) => repeated(&api, &word, &name, problem).await,
    }
}

fn word(
    caller: &Operator,
    headers: &HeaderMap,
    action: &str,
    (kind, key): &(String, String),
    body: &[u8],
) -> Result<Word, Problem> {
    check_kind(kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
    check_key(key).map_err(|e| Problem::parameter("key", e.to_string()))?;
    if !may_merge(kind) {
        let detail = format!("entities of the kind `{kind}` are never merged: each stands for what happened once");
        return Err(Problem::new(Code::MergeInvalid, detail));
    }
    Word::new(caller, headers, &[action.as_bytes(), entity_id(kind, key).as_bytes(), body])
}

/// The entity of that name, merged or not.
async fn find(api: &Api, (kind, key): &(String, String)) -> Result<Arc<Entity>, Problem> {
    let unknown = || Problem::new(Code::UnknownEntity, format!("there is no entity `{kind}/{key}`"));
    current::ask(|| api.hub.named(kind, key)).await?.ok_or_else(unknown)
}

/// The answer to what can't be done: where it was done before, that of a repetition.
async fn repeated(api: &Api, word: &Word, name: &(String, String), problem: Problem) -> Result<Response, Problem> {
    let outcome = word.or_repeated(api, problem).await?;
    let entity = EntityBody::from(&*entities::find(api, name).await?);
    Ok(view::json(&Merged { outcome: OutcomeBody::from(&outcome), entity }))
}

/// Writes the document of a merge; what follows for the entities is decided with it.
async fn say(api: &Api, word: &Word, goes: &Entity, into: Option<&str>, reason: &str) -> Result<Response, Problem> {
    let key = goes.id();
    let known = current::ask(|| api.hub.entity(MERGE_KIND, &key)).await?;
    let at = [INTO_FIELD, DECISION_FIELD]
        .map(|field| operator::after(known.as_deref(), field, word.received_at_us))
        .into_iter()
        .fold(word.received_at_us, i64::max);
    let action = if into.is_some() { "merge" } else { "unmerge" };
    let decision = word.decision(action, reason, [(INTO_FIELD, Value::from(into))]);
    let into = Field::new(INTO_FIELD, entities::compact(&Value::from(into)));
    let said = change(MERGE_KIND, &key, at, vec![into, decision]);
    let outcome = word.say(api, vec![said]).await?;
    let outcome = outcome.ok_or_else(|| Problem::new(Code::ReadFailed, "the answer was lost"))?;
    let name = (goes.kind.to_string(), goes.key.to_string());
    let entity = EntityBody::asked_for(&*entities::find(api, &name).await?, name.1);
    Ok(view::json(&Merged { outcome: OutcomeBody::from(&outcome), entity }))
}
