//! `/v1/destinations/{name}/mode`: how much a flow gets, and changing it by hand.

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use lockstep_connect::time::parse_rfc3339;
use lockstep_core::delivery::Step;
use lockstep_core::delivery::degrade::Pin;
use lockstep_hub::delivery::{FlowError, FlowMode};
use lockstep_hub::now_us;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Operator;
use crate::destinations::check_known;
use crate::operator::{check_reason, read};
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, view};

/// How much a flow (a destination with its filter) gets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Flow)]
pub(crate) struct FlowBody {
    /// `real-time`; `queue`: everything in order, with fewer requests under way; `micro-batch`: the newest of each entity
    /// within a window; `pause`: nothing but probes, by hand nothing at all.
    #[schema(example = "real-time")]
    mode: &'static str,
    /// Whether a person has decided so: then it stays until it is released, or until `until`.
    by_hand: bool,
    /// The step before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    /// Since when it is so (RFC 3339). Absent where it was never otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// When what a person has decided is over by itself (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// The figures that led to it, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The person's reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Who it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

/// How much a flow is to get.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModeWish {
    /// `real-time`, `queue`, `micro-batch` or `pause`.
    #[schema(example = "pause")]
    mode: String,
    /// Why, for whoever looks at it later.
    reason: String,
    /// When it is over by itself (RFC 3339); without it when it is released.
    until: Option<String>,
}

impl From<&FlowMode> for FlowBody {
    fn from(mode: &FlowMode) -> Self {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            mode: mode.step.name(),
            by_hand: mode.pin.is_some(),
            from: mode.since_us.map(|_| mode.from.name()),
            since: mode.since_us.map(view::time),
            until: mode.pin.as_ref().and_then(|pin| pin.until_us).map(view::time),
            why: given(&mode.why),
            reason: given(&mode.reason),
            by: given(&mode.by),
        }
    }
}

fn problem(name: &str, error: FlowError) -> Problem {
    match error {
        FlowError::Unknown => {
            Problem::new(Code::DestinationNotRunning, format!("the destination `{name}` is not running"))
        }
        FlowError::NotPinned => Problem::new(
            Code::FlowNotPinned,
            format!("the mode of `{name}` is not set by hand, so nothing is released"),
        ),
        FlowError::Hub(error) => error.into(),
    }
}

/// Holds a flow on a step, whatever its figures say, until it is released or until a time.
///
/// Journaled and in force when it is answered, also after a restart. What is under way then still ends.
#[utoipa::path(
    post,
    path = "/v1/destinations/{name}/mode",
    operation_id = "setDestinationMode",
    tag = "destinations",
    params(("name" = String, Path, description = "The destination")),
    request_body(content = ModeWish, content_type = "application/json"),
    responses(
        (status = 200, description = "It is so", body = FlowBody),
        (status = 400, description = "The body is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The destination is not running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn set(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<String>,
    request: HttpRequest,
) -> Result<Response, Problem> {
    check_known(&api, &name)?;
    let (parts, body) = request.into_parts();
    let form = r#"{"mode": "pause", "reason": "..."}"#;
    let wish: ModeWish = read(&api, &parts.headers, body, form).await?.0;
    check_reason(&wish.reason)?;
    let Some(step) = Step::of_name(&wish.mode) else {
        let detail = format!("`mode` must be `real-time`, `queue`, `micro-batch` or `pause`, not `{}`", wish.mode);
        return Err(Problem::new(Code::InvalidBody, detail).with("pointer", "/mode"));
    };
    let until_us = match &wish.until {
        None => None,
        Some(text) => Some(parse_rfc3339(text).filter(|until_us| *until_us > now_us()).ok_or_else(|| {
            let detail = format!("`until` must be a time in RFC 3339 that is still to come, not `{text}`");
            Problem::new(Code::InvalidBody, detail).with("pointer", "/until")
        })?),
    };
    let pin = Pin { step, until_us, by: caller.0.name.clone(), reason: wish.reason };
    let mode = api.hub.pin_flow(&name, pin).await.map_err(|error| problem(&name, error))?;
    Ok(view::json(&FlowBody::from(&mode)))
}

/// Ends what was set by hand: the flow goes on as it was before, and by itself.
#[utoipa::path(
    delete,
    path = "/v1/destinations/{name}/mode",
    operation_id = "releaseDestinationMode",
    tag = "destinations",
    params(
        ("name" = String, Path, description = "The destination"),
        ("reason" = Option<String>, Query, description = "Why, for whoever looks at it later"),
    ),
    responses(
        (status = 200, description = "It goes by itself", body = FlowBody),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is not set by hand, or the destination is not running", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn release(
    State(api): State<Api>,
    caller: Operator,
    Segments(name): Segments<String>,
    params: Params,
) -> Result<Response, Problem> {
    check_known(&api, &name)?;
    params.only(&["reason"])?;
    let reason = params.text("reason").unwrap_or_default();
    let mode = api.hub.release_flow(&name, &caller.0.name, reason).await.map_err(|error| problem(&name, error))?;
    Ok(view::json(&FlowBody::from(&mode)))
}
