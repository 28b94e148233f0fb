//! `POST /v1/conflicts/.../resolve` and `/reverse`: a person decides a conflict, or takes the decision back.

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use lockstep_core::decide::{CONFLICT_KIND, conflict_key};
use lockstep_core::merge::OPERATOR;
use lockstep_core::path::list_of;
use lockstep_core::{Change, Field, Outcome};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::auth::Operator;
use crate::conflicts::{ConflictBody, ConflictDetail, Found, find};
use crate::operator::{self, Word, change};
use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody};
use crate::view::{self, OutcomeBody};
use crate::{Api, entities, preferences, resolve_value};

/// How often a decision is made anew because the conflict changes while it is made.
const TRIES: usize = 5;

/// How a conflict is decided: by a system's value, or by another one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resolve {
    /// The system whose value is taken.
    prefer: Option<String>,
    /// The value, where it is no system's; checked by the schema of the kind.
    #[serde(default, deserialize_with = "there")]
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Value>,
    /// Why, for whoever looks at it later.
    reason: String,
    /// With `prefer`: this system is preferred for this field from now on, in all entities of this kind.
    #[serde(default)]
    always: bool,
}

/// A value that is given, also where it is null.
fn there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Why a decision is taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reverse {
    /// The reason, for whoever looks at it later.
    reason: String,
}

/// What became of a person's decision.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Settled {
    /// What became of the input.
    outcome: OutcomeBody,
    /// The conflict after it.
    conflict: ConflictDetail,
}

/// Decides a conflict, as a person.
///
/// The value is set as the system `@operator`: it stands until a system writes something else after it, which opens
/// the conflict again. The name of the API key, the reason and the time are kept with the conflict.
#[utoipa::path(
    post,
    path = "/v1/conflicts/{kind}/{key}/{field}/resolve",
    operation_id = "resolveConflict",
    tag = "conflicts",
    params(
        ("kind" = String, Path, description = "The entity's kind"),
        ("key" = String, Path, description = "The entity's key, percent-encoded where it has a slash"),
        ("field" = String, Path, description = "The field, or the path of its part; percent-encoded"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
        ("If-Match" = Option<String>, Header, description = "The version that the conflict must have, as its ETag: what was looked at is what is decided"),
    ),
    request_body(content = Resolve, content_type = "application/json"),
    responses(
        (status = 200, description = "Durable", body = Settled),
        (status = 400, description = "The body or a header is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such conflict", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The conflict is not open", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The conflict has another version", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The value is not valid, the system is no candidate, `always` can't be for this field, or the key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn resolve(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let form = r#"{"prefer": "<system>" or "value": ..., "reason": "...", "always": false}"#;
    let expected = entities::if_match(&parts.headers)?;
    let (asked, body) = operator::read::<Resolve>(&api, &parts.headers, body, form).await?;
    operator::check_reason(&asked.reason)?;
    let invalid = |pointer: &str, detail: &str| Problem::new(Code::InvalidBody, detail).with("pointer", pointer);
    if asked.prefer.is_some() == asked.value.is_some() {
        return Err(invalid("", "either `prefer` must name a system, or `value` must be given"));
    }
    if asked.always && asked.prefer.as_deref().is_none_or(|system| !crate::is_system_name(system)) {
        return Err(invalid("/always", "`always` is only for a system that `prefer` names"));
    }
    let word = word(&caller, &parts.headers, "resolve", &name, &body)?;
    // Of an item, the list is meant: the same key in another list is another item.
    let preferred = (name.0.clone(), list_of(&name.2).unwrap_or_else(|| name.2.clone()));
    let known = if asked.always { preferences::find(&api, &preferred).await? } else { None };
    let always = |system: &str| preferences::says(&word, &preferred, known.as_deref(), Some(system), &asked.reason);
    settle(&api, &word, &name, expected, |found| resolution(&api, &word, found, &asked, always)).await
}

/// Takes a person's decision back: what the systems say counts again, and where they disagree the conflict is open.
#[utoipa::path(
    post,
    path = "/v1/conflicts/{kind}/{key}/{field}/reverse",
    operation_id = "reverseConflict",
    tag = "conflicts",
    params(
        ("kind" = String, Path, description = "The entity's kind"),
        ("key" = String, Path, description = "The entity's key, percent-encoded where it has a slash"),
        ("field" = String, Path, description = "The field, or the path of its part; percent-encoded"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
        ("If-Match" = Option<String>, Header, description = "The version that the conflict must have, as its ETag"),
    ),
    request_body(content = Reverse, content_type = "application/json"),
    responses(
        (status = 200, description = "Durable", body = Settled),
        (status = 400, description = "The body or a header is missing or not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such conflict", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "No person's decision is in force", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The conflict has another version", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The key was used with other content", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The hub is saturated; `Retry-After` says when to try again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn reverse(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let expected = entities::if_match(&parts.headers)?;
    let (Reverse { reason }, body) = operator::read(&api, &parts.headers, body, r#"{"reason": "..."}"#).await?;
    operator::check_reason(&reason)?;
    let word = word(&caller, &parts.headers, "reverse", &name, &body)?;
    settle(&api, &word, &name, expected, |found| reversal(&word, found, &reason)).await
}

fn word(
    caller: &Operator,
    headers: &http::HeaderMap,
    action: &str,
    (kind, key, field): &(String, String, String),
    body: &[u8],
) -> Result<Word, Problem> {
    Word::new(caller, headers, &[action.as_bytes(), conflict_key(kind, key, field).as_bytes(), body])
}

/// Makes the changes that a decision is and gives them to the hub. They hold for the conflict as it was looked at: where
/// it changes meanwhile, they are made anew, unless the caller said which version is meant.
async fn settle(
    api: &Api,
    word: &Word,
    name: &(String, String, String),
    expected: Option<u64>,
    changes: impl Fn(&Found) -> Result<Vec<Change>, Problem>,
) -> Result<Response, Problem> {
    for _ in 0..TRIES {
        let found = find(api, name).await?;
        let version = found.conflict.version;
        let outcome = if expected.is_some_and(|expected| expected != version) {
            Some(word.or_repeated(api, another_version(name, version)).await?)
        } else {
            match changes(&found) {
                Ok(changes) => word.say(api, changes).await?,
                Err(problem) => Some(word.or_repeated(api, problem).await?),
            }
        };
        if let Some(outcome) = outcome {
            return settled(api, name, &outcome).await;
        }
    }
    let version = find(api, name).await?.conflict.version;
    Err(another_version(name, version))
}

fn another_version((kind, key, field): &(String, String, String), version: u64) -> Problem {
    let detail = format!("the conflict about `{field}` of `{kind}/{key}` has changed: it has version {version}");
    Problem::new(Code::VersionMismatch, detail).with("current_version", version)
}

async fn settled(api: &Api, name: &(String, String, String), outcome: &Outcome) -> Result<Response, Problem> {
    let conflict = find(api, name).await?.detail();
    Ok(view::json(&Settled { outcome: OutcomeBody::from(outcome), conflict }))
}

fn resolution(
    api: &Api,
    word: &Word,
    found: &Found,
    asked: &Resolve,
    always: impl Fn(&str) -> Change,
) -> Result<Vec<Change>, Problem> {
    let body = ConflictBody::from(&*found.conflict);
    let (entity, name) = (&found.entity, found.field.as_str());
    if !body.is_open() {
        let detail =
            format!("the conflict about `{name}` of `{}` is {}, there is nothing to decide", entity.id(), body.status);
        return Err(Problem::new(Code::ConflictNotOpen, detail));
    }
    let (field, decision) = match (&asked.prefer, &asked.value) {
        (Some(system), _) => {
            let candidate = body.candidates.iter().find(|c| c.system == *system);
            let candidate = candidate.ok_or_else(|| no_candidate(&body, system))?;
            let json = candidate.value.get().as_bytes().to_vec();
            let more = [("system", system.as_str().into()), ("always", asked.always.into())];
            (Field::new(name, json), word.decision("prefer", &asked.reason, more))
        }
        (None, value) => {
            let value = value.clone().unwrap_or_default();
            let field = resolve_value::given(&api.schemas, entity, name, &value)?;
            (field, word.decision("value", &asked.reason, [("value", value)]))
        }
    };
    let mut changes = decided(word, found, field, decision);
    if let Some(system) = asked.prefer.as_ref().filter(|_| asked.always) {
        if !body.is_reviewed() {
            return Err(preferences::not_reviewed(&entity.kind, name));
        }
        changes.push(always(system));
    }
    Ok(changes)
}

fn no_candidate(conflict: &ConflictBody, system: &str) -> Problem {
    let known: Vec<_> = conflict.candidates.iter().map(|c| format!("`{}`", c.system)).collect();
    let detail = format!("`prefer` must be one of {}, not `{system}`", known.join(", "));
    Problem::new(Code::NoCandidate, detail).with("pointer", "/prefer")
}

fn reversal(word: &Word, found: &Found, reason: &str) -> Result<Vec<Change>, Problem> {
    let (entity, name) = (&found.entity, found.field.as_str());
    let own = entity.system_number(OPERATOR);
    let decided_before =
        entity.field(name).is_some_and(|f| f.claims.iter().any(|c| Some(c.system) == own && !c.json.is_empty()));
    if !decided_before {
        let detail = format!("no person's decision about `{name}` of `{}` is in force", entity.id());
        return Err(Problem::new(Code::NotDecided, detail));
    }
    // Emptied: the system says nothing of the field any more.
    Ok(decided(word, found, Field::new(name, Bytes::new()), word.decision("reverse", reason, [])))
}

/// The word, and who said it and why. That comes first, so that the event of what follows from the word has it.
fn decided(word: &Word, found: &Found, field: Field, decision: Field) -> Vec<Change> {
    let Found { conflict, entity, .. } = found;
    let at = |entity, field: &str| operator::after(Some(entity), field, word.received_at_us);
    let kept = change(CONFLICT_KIND, &conflict.key, at(conflict, operator::DECISION_FIELD), vec![decision]);
    let said = change(&entity.kind, &entity.key, at(entity, &field.name), vec![field]);
    vec![Change { expected_version: Some(conflict.version), ..kept }, said]
}
