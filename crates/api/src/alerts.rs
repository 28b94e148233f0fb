//! `/v1/alerts` and `/v1/silences`: what somebody has to be told of, who has taken it on, and when to be quiet.

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use lockstep_core::alert::Status;
use lockstep_hub::{AlertError, AlertRow, Silence, now_us};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Operator, Reader};
use crate::operator::{check_reason, read};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, current, view};

/// The longest silence, seconds: a month.
const SILENCE_MAX_S: u64 = 31 * 86_400;

/// An alert.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alert)]
pub(crate) struct AlertBody {
    /// Its rule.
    rule: String,
    /// What it is about: a destination, a source, `<domain>/<destination>`, or `hub`.
    subject: String,
    /// `open`, `acknowledged` or `resolved`.
    #[schema(example = "open")]
    status: &'static str,
    /// Who owns the rule.
    owner: String,
    /// Who was told last.
    to: String,
    /// How many further ones were told because nobody had acknowledged it.
    level: usize,
    /// The figure when something was last told of it.
    value: f64,
    /// The same in a sentence.
    detail: String,
    /// When it was last opened (RFC 3339).
    opened_at: String,
    /// Who has acknowledged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<String>,
    /// What that one had to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_reason: Option<String>,
}

/// The alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertList {
    /// By rule and subject.
    items: Vec<AlertBody>,
}

/// A silence.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Silence)]
pub(crate) struct SilenceBody {
    /// Its id.
    id: String,
    /// Only of this rule; null: of all.
    rule: Option<String>,
    /// Only about this subject; null: about all.
    subject: Option<String>,
    /// When it ends (RFC 3339).
    until: String,
    /// Why.
    reason: String,
    /// Who wanted it.
    by: String,
}

/// The silences.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SilenceList {
    /// Those that are not over, by id.
    items: Vec<SilenceBody>,
}

/// A wish for quiet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SilenceWish {
    /// Only of this rule; absent: of all.
    rule: Option<String>,
    /// Only about this subject; absent: about all.
    subject: Option<String>,
    /// For how many seconds, up to a month.
    for_s: u64,
    /// Why.
    reason: String,
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcknowledgeWish {
    /// Why, for whoever looks at it later.
    reason: String,
}

impl From<AlertRow> for AlertBody {
    fn from(row: AlertRow) -> Self {
        let (by, reason) = row.acknowledged.unzip();
        Self {
            rule: row.rule,
            subject: row.subject,
            status: row.alert.status.name(),
            owner: row.owner,
            to: row.to,
            level: row.alert.level,
            value: row.value,
            detail: row.detail,
            opened_at: view::time(row.alert.opened_us),
            acknowledged_by: by,
            acknowledged_reason: reason,
        }
    }
}

impl From<Silence> for SilenceBody {
    fn from(silence: Silence) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: silence.id,
            rule: given(silence.rule),
            subject: given(silence.subject),
            until: view::time(silence.until_us),
            reason: silence.reason,
            by: silence.by,
        }
    }
}

fn problem(error: AlertError, unknown: (Code, String)) -> Problem {
    match error {
        AlertError::Unknown => Problem::new(unknown.0, unknown.1),
        AlertError::NotOpen(_) => Problem::new(Code::AlertNotOpen, error.to_string()),
        AlertError::TooMany => Problem::new(Code::Saturated, error.to_string()),
        AlertError::Hub(error) => error.into(),
    }
}

/// Alerts, by rule and subject: those that are open or acknowledged where nothing else is asked for.
#[utoipa::path(
    get,
    path = "/v1/alerts",
    operation_id = "listAlerts",
    tag = "alerts",
    params(("status" = Option<String>, Query, description = "`open`, `acknowledged`, `resolved` or `all`")),
    responses(
        (status = 200, description = "The alerts", body = AlertList),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only(&["status"])?;
    let status = params.text("status");
    if let Some(status) = status.filter(|status| *status != "all" && Status::of_name(status).is_none()) {
        let detail = format!("`status` must be `open`, `acknowledged`, `resolved` or `all`, not `{status}`");
        return Err(Problem::parameter("status", detail));
    }
    let is_wanted = |row: &AlertRow| match status {
        None => row.alert.status != Status::Resolved,
        Some("all") => true,
        Some(status) => row.alert.status.name() == status,
    };
    let rows = current::ask(|| api.hub.alerts()).await?.into_iter().filter(|row| row.was_opened() && is_wanted(row));
    Ok(view::json(&AlertList { items: rows.map(AlertBody::from).collect() }))
}

/// Takes an open alert on: nobody further is told of it.
#[utoipa::path(
    post,
    path = "/v1/alerts/{rule}/{subject}/acknowledge",
    operation_id = "acknowledgeAlert",
    tag = "alerts",
    params(
        ("rule" = String, Path, description = "The alert's rule"),
        ("subject" = String, Path, description = "What it is about, percent-encoded where it has a slash"),
    ),
    request_body(content = AcknowledgeWish, content_type = "application/json"),
    responses(
        (status = 200, description = "It is acknowledged", body = AlertBody),
        (status = 400, description = "The body or a parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such alert", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The alert is not open", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn acknowledge(
    State(api): State<Api>,
    caller: Operator,
    Segments((rule, subject)): Segments<(String, String)>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let wish: AcknowledgeWish = wish(&api, request, r#"{"reason": "..."}"#).await?;
    check_reason(&wish.reason)?;
    let row = api.hub.acknowledge(&rule, &subject, &caller.0.name, &wish.reason).await;
    let unknown = || (Code::UnknownAlert, format!("there is no alert of the rule `{rule}` about `{subject}`"));
    Ok(view::json(&AlertBody::from(row.map_err(|error| problem(error, unknown()))?)))
}

/// Silences that are not over, by id.
#[utoipa::path(
    get,
    path = "/v1/silences",
    operation_id = "listSilences",
    tag = "alerts",
    responses(
        (status = 200, description = "The silences", body = SilenceList),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn silences(State(api): State<Api>, _caller: Reader) -> Result<Response, Problem> {
    let silences = current::ask(|| api.hub.silences()).await?;
    Ok(view::json(&SilenceList { items: silences.into_iter().map(SilenceBody::from).collect() }))
}

/// Tells nothing of a rule, about a subject, or at all, for a time. What still holds afterwards is told then.
#[utoipa::path(
    post,
    path = "/v1/silences",
    operation_id = "postSilence",
    tag = "alerts",
    request_body(content = SilenceWish, content_type = "application/json"),
    responses(
        (status = 201, description = "It is quiet", body = SilenceBody),
        (status = 400, description = "The body is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "There are too many silences", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn silence(
    State(api): State<Api>,
    caller: Operator,
    request: HttpRequest,
) -> Result<Response, Problem> {
    let wish: SilenceWish = wish(&api, request, r#"{"for_s": 3600, "reason": "..."}"#).await?;
    check_reason(&wish.reason)?;
    if !(1..=SILENCE_MAX_S).contains(&wish.for_s) {
        let detail = format!("`for_s` must be 1 to {SILENCE_MAX_S} (a month), not {}", wish.for_s);
        return Err(Problem::new(Code::InvalidBody, detail).with("pointer", "/for_s"));
    }
    let silence = Silence {
        id: format!("{:016x}", fastrand::u64(..)),
        rule: wish.rule.unwrap_or_default(),
        subject: wish.subject.unwrap_or_default(),
        until_us: now_us().saturating_add(wish.for_s as i64 * 1_000_000),
        reason: wish.reason,
        by: caller.0.name.clone(),
    };
    api.hub.silence(silence.clone()).await.map_err(|error| problem(error, (Code::UnknownSilence, String::new())))?;
    let mut response = view::json(&SilenceBody::from(silence));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Ends a silence now.
#[utoipa::path(
    delete,
    path = "/v1/silences/{id}",
    operation_id = "deleteSilence",
    tag = "alerts",
    params(("id" = String, Path, description = "The silence")),
    responses(
        (status = 204, description = "It is over"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such silence", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn unsilence(
    State(api): State<Api>,
    caller: Operator,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    let ended = api.hub.unsilence(&id, &caller.0.name).await;
    let unknown = || (Code::UnknownSilence, format!("there is no silence `{id}`, or it is over"));
    ended.map_err(|error| problem(error, unknown()))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn wish<T: serde::de::DeserializeOwned>(api: &Api, request: HttpRequest, form: &str) -> Result<T, Problem> {
    let (parts, body): (http::request::Parts, Body) = request.into_parts();
    let headers: &HeaderMap = &parts.headers;
    Ok(read(api, headers, body, form).await?.0)
}
