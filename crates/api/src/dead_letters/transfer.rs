//! Dead letters out of a hub and into one, as JSON lines.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use lockstep_core::record;
use lockstep_hub::{DeadLetterRow, ImportError, Imported, LetterEvent, ReadError};
use serde::Serialize;
use utoipa::ToSchema;

use super::filter::{self, FilterParams};
use super::line::Line;
use crate::auth::{Operator, Reader};
use crate::params::Params;
use crate::problem::{self, Code, Problem, ProblemBody};
use crate::{Api, body, current, view};

const LINES: &str = "application/x-ndjson";
/// The largest body of an import.
const IMPORT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most lines of one.
const IMPORT_LINES_MAX: usize = 1_000;

/// What came of a line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportedLine)]
pub(crate) struct LineOutcome {
    /// Its number in the body, from 1.
    line: usize,
    /// `imported`: it is an open dead letter now. `known`: it was brought in before. `open`: it is this hub's own, and
    /// open. `pending`: it is this hub's own, and its event is still on its way. `settled`: it is this hub's own, and
    /// was delivered or overtaken meanwhile. `invalid`: it can't be taken, `detail` says why.
    outcome: &'static str,
    /// Its destination, where the line can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    /// The event under which this hub has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<u64>,
    /// Why it can't be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What came of an import.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportAnswer {
    /// How many are open dead letters now that were not here before.
    imported: usize,
    /// How many can't be taken.
    invalid: usize,
    /// Each line, in order; empty ones are left out.
    items: Vec<LineOutcome>,
}

/// Dead letters with everything that is kept of them, one JSON document a line: what an import takes.
///
/// A part with fewer lines than `limit` is the last; go on after the last line's `place`.
#[utoipa::path(
    get,
    path = "/v1/dead-letters/export",
    operation_id = "exportDeadLetters",
    tag = "dead letters",
    params(
        FilterParams,
        ("after" = Option<String>, Query, description = "Where to go on: `place` of the last line before"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "The lines", body = String, content_type = "application/x-ndjson"),
        (status = 400, description = "A parameter is not valid", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such destination", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn export(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    let known: Vec<&str> = filter::NAMES.iter().chain(&["after", "limit"]).copied().collect();
    params.only(&known)?;
    let filter = filter::read(&api, &params, params.limit(100, 1000)?)?;
    let page = current::ask(|| api.hub.dead_letters(filter.clone())).await?;
    // One at a time, as the reader takes them: a part need not fit into memory.
    let lines = stream::iter(page.items).then(move |row| {
        let api = api.clone();
        async move { line_of(&api, &row).await }
    });
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(LINES))];
    Ok((headers, Body::from_stream(lines)).into_response())
}

async fn line_of(api: &Api, row: &DeadLetterRow) -> Result<Bytes, ReadError> {
    let letter = api.hub.letter_event(row.event).await?;
    let dead = match api.hub.record(row.record).await?.and_then(|record| record.body) {
        Some(record::Body::DeadLettered(dead)) => dead,
        _ => Box::default(),
    };
    // What has been settled and dropped since the list was made is left out.
    let Some(LetterEvent { event, origin }) = letter else { return Ok(Bytes::new()) };
    let line = Line::of(row, &dead, event, origin.as_ref(), &api.hub_source);
    Ok([line.write(), Bytes::from_static(b"\n")].concat().into())
}

/// Brings dead letters in that were exported here or elsewhere. Doing so again has no further effect.
///
/// None is sent by it. One that is sent again later never goes over what is newer of its entity.
#[utoipa::path(
    post,
    path = "/v1/dead-letters/import",
    operation_id = "importDeadLetters",
    tag = "dead letters",
    request_body(content = String, content_type = "application/x-ndjson", description = "At most 1000 lines and 16 MiB"),
    responses(
        (status = 200, description = "What came of each line", body = ImportAnswer),
        (status = 400, description = "Too many lines", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not operate", body = ProblemBody, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON lines by its content type", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The hub can't write now", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["operate"])),
)]
pub(crate) async fn import(
    State(api): State<Api>,
    caller: Operator,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let (parts, body) = request.into_parts();
    lines_content(&parts.headers)?;
    let body = body::read(&parts.headers, body, IMPORT_BYTES_MAX, &api.options).await?;
    let lines: Vec<_> =
        (1..).zip(body.split(|b| *b == b'\n')).filter(|(_, text)| !text.trim_ascii().is_empty()).collect();
    if lines.len() > IMPORT_LINES_MAX {
        let detail = format!("at most {IMPORT_LINES_MAX} lines can be taken at once, not {}", lines.len());
        return Err(Problem::new(Code::InvalidBody, detail));
    }
    let mut answer = ImportAnswer { imported: 0, invalid: 0, items: Vec::with_capacity(lines.len()) };
    for (number, text) in lines {
        let outcome = take(&api, number, text, &caller.0.name).await?;
        answer.imported += usize::from(outcome.outcome == "imported");
        answer.invalid += usize::from(outcome.outcome == "invalid");
        answer.items.push(outcome);
    }
    Ok(view::json(&answer))
}

fn lines_content(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if given.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(LINES) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("`Content-Type` must be `{LINES}`")))
}

/// Takes one line in. What is wrong with it is its outcome; what is wrong with the hub ends the import.
async fn take(api: &Api, line: usize, text: &[u8], by: &str) -> Result<LineOutcome, Problem> {
    let invalid = |destination: Option<String>, detail: String| {
        Ok(LineOutcome { line, outcome: "invalid", destination, event: None, detail: Some(detail) })
    };
    let read = match Line::read(text) {
        Ok(read) => read,
        Err(detail) => return invalid(None, detail),
    };
    let destination = read.destination.clone();
    if crate::destinations::check_known(api, &destination).is_err() {
        return invalid(Some(destination.clone()), format!("there is no destination `{destination}` here"));
    }
    let letter = match read.letter(by) {
        Ok(letter) => letter,
        Err(detail) => return invalid(Some(destination), detail),
    };
    let (outcome, event) = match api.hub.import_dead_letter(letter).await {
        Ok(Imported::Opened(event)) => ("imported", event),
        Ok(Imported::Known(event)) => ("known", event),
        Ok(Imported::Open(event)) => ("open", event),
        Ok(Imported::Pending(event)) => ("pending", event),
        Ok(Imported::Settled(event)) => ("settled", event),
        Err(error @ ImportError::NoEvent) => return invalid(Some(destination), problem::chain(&error)),
        Err(ImportError::Read(error)) => return Err(error.into()),
        Err(ImportError::Hub(error)) => return Err(error.into()),
    };
    Ok(LineOutcome { line, outcome, destination: Some(destination), event: Some(event), detail: None })
}
