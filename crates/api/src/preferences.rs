//! `/v1/preferences`: the systems that a person has decided to prefer always for a field.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use lockstep_core::change::check_kind;
use lockstep_core::decide::PREFERENCE_KIND;
use lockstep_core::path::{is_list, list_of};
use std::sync::Arc;

use lockstep_core::{Change, Entity, Field};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::auth::{Operator, Reader};
use crate::conflicts::part;
use crate::operator::{self, DECISION_FIELD, Word, change};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, current, entities, view};

/// A system that is always preferred for a field.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preference)]
pub(crate) struct PreferenceBody {
    /// The kind of entities.
    kind: String,
    /// The field; `lines[]` is every item of that list.
    field: String,
    /// The system.
    system: String,
    /// `action`, `by`, `at` and `reason` of the person's decision.
    #[schema(value_type = Option<serde_json::Value>)]
    decision: Option<Box<RawValue>>,
    /// When it was last set (RFC 3339, UTC).
    #[schema(format = DateTime)]
    updated_at: String,
}

impl PreferenceBody {
    /// The preference of a document; none where it was cleared.
    fn of(document: &Entity) -> Option<Self> {
        let (kind, field) = document.key.split_once(':')?;
        let system: Option<String> = serde_json::from_slice(document.value("system")?).ok()?;
        Some(Self {
            kind: kind.to_owned(),
            field: field.to_owned(),
            system: system?,
            decision: document.value(DECISION_FIELD).map(|json| view::raw(json)),
            updated_at: view::time(document.updated_at_us),
        })
    }
}

/// A part of the preferences.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreferenceList {
    /// By kind and field.
    items: Vec<PreferenceBody>,
    /// Where the next part goes on; null at the end.
    next_after: Option<String>,
}

/// Which system is preferred, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prefer {
    /// The system.
    system: String,
    /// The reason, for whoever looks at it later.
    reason: String,
}

/// The preferences that are in force.
#[utoipa::path(
    get,
    path = "/v1/preferences",
    operation_id = "listPreferences",
    tag = "conflicts",
    params(
        ("after" = Option<String>, Query, description = "Where to go on: `next_after` of the part before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the list", body = PreferenceList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&["after", "limit"])?;
    let limit = params.limit(100, 1000)?;
    let after = params.text("after").unwrap_or_default();
    let (items, next_after) = part(&api, (PREFERENCE_KIND, ""), after, limit, PreferenceBody::of).await?;
    Ok(view::json(&PreferenceList { items, next_after }))
}

/// Prefers a system for a field, in all entities of a kind.
///
/// The field's policy must be `review`. What the preferred system says then needs no person, and what others say opens
/// no conflict. A conflict that is open already stays open until it is decided, or until a system speaks of the field.
#[utoipa::path(
    put,
    path = "/v1/preferences/{kind}/{field}",
    operation_id = "setPreference",
    tag = "conflicts",
    params(
        ("kind" = String, Path, description = "The kind of entities"),
        ("field" = String, Path, description = "The field, or the path of its part: `customer.email`, `lines[]` for every item; percent-encoded"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Prefer, content_type = "application/json"),
    responses(
        (status = 204, description = "It is in force and durable"),
        (status = 400, description = "The body, a header or a parameter is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The field's policy is not `review`, or the key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn set(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    check_name(&name)?;
    let (parts, body) = request.into_parts();
    let form = r#"{"system": "...", "reason": "..."}"#;
    let (Prefer { system, reason }, body) = operator::read(&api, &parts.headers, body, form).await?;
    operator::check_reason(&reason)?;
    if !crate::is_system_name(&system) {
        let detail =
            format!("`system` must be a system's name, 1 to 64 characters of a-z, 0-9, ., _ and -, not `{system}`");
        return Err(Problem::new(Code::InvalidBody, detail).with("pointer", "/system"));
    }
    let word = word(&caller, &parts.headers, "prefer", &name, &body)?;
    let (kind, field) = (name.0.as_str(), name.1.as_str());
    if current::ask(|| api.hub.policy(kind, field)).await? != "review" {
        word.or_repeated(&api, not_reviewed(kind, field)).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    say(&api, &word, &name, Some(&system), &reason).await
}

/// Prefers no system for a field any more.
#[utoipa::path(
    delete,
    path = "/v1/preferences/{kind}/{field}",
    operation_id = "clearPreference",
    tag = "conflicts",
    params(
        ("kind" = String, Path, description = "The kind of entities"),
        ("field" = String, Path, description = "The field, or the path of its part; percent-encoded"),
        ("reason" = String, Query, description = "Why, for whoever looks at it later"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    responses(
        (status = 204, description = "It is no longer in force"),
        (status = 400, description = "A header or a parameter is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No system is preferred for this field", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn clear(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String)>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.only(&["reason"])?;
    check_name(&name)?;
    let reason = params.text("reason").unwrap_or_default();
    if reason.trim().is_empty() {
        return Err(Problem::parameter("reason", "`reason` must say why"));
    }
    let word = word(&caller, &headers, "clear", &name, reason.as_bytes())?;
    if find(&api, &name).await?.as_deref().and_then(PreferenceBody::of).is_none() {
        let detail = format!("no system is preferred for `{}` of `{}`", name.1, name.0);
        word.or_repeated(&api, Problem::new(Code::UnknownPreference, detail)).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    say(&api, &word, &name, None, reason).await
}

fn word(
    caller: &Operator,
    headers: &HeaderMap,
    action: &str,
    name: &(String, String),
    payload: &[u8],
) -> Result<Word, Problem> {
    Word::new(caller, headers, &[action.as_bytes(), key(name).as_bytes(), payload])
}

fn key((kind, field): &(String, String)) -> String {
    format!("{kind}:{field}")
}

fn check_name((kind, field): &(String, String)) -> Result<(), Problem> {
    check_kind(kind).map_err(|e| Problem::parameter("kind", e.to_string()))?;
    match list_of(field) {
        Some(list) if !is_list(field) => {
            let detail =
                format!("`{field}` is an item of one entity: a preference is for `{list}`, every item of the list");
            Err(Problem::parameter("field", detail))
        }
        _ => Ok(()),
    }
}

/// The document of a preference.
pub(crate) async fn find(api: &Api, name: &(String, String)) -> Result<Option<Arc<Entity>>, Problem> {
    let key = key(name);
    current::ask(|| api.hub.entity(PREFERENCE_KIND, &key)).await
}

/// Writes the document of a preference; the hub has it in force with the same record.
async fn say(
    api: &Api,
    word: &Word,
    name: &(String, String),
    system: Option<&str>,
    reason: &str,
) -> Result<Response, Problem> {
    let known = find(api, name).await?;
    word.say(api, vec![says(word, name, known.as_deref(), system, reason)]).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The change that sets or clears a preference; `known` is its document, where there is one.
pub(crate) fn says(
    word: &Word,
    name: &(String, String),
    known: Option<&Entity>,
    system: Option<&str>,
    reason: &str,
) -> Change {
    let decision = word.decision(if system.is_some() { "prefer" } else { "clear" }, reason, []);
    let at = operator::after(known, DECISION_FIELD, word.received_at_us);
    let fields = vec![Field::new("system", entities::compact(&Value::from(system))), decision];
    change(PREFERENCE_KIND, &key(name), at, fields)
}

/// Where no system can be preferred.
pub(crate) fn not_reviewed(kind: &str, field: &str) -> Problem {
    let detail = format!("the policy of `{field}` of `{kind}` is not `review`: no system can be preferred for it");
    Problem::new(Code::NotReviewed, detail)
}
