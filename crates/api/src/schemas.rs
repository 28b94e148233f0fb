//! `/v1/schemas`: the JSON Schemas of the fields of each kind: the event catalog.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Reader;
use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, view};

/// The kinds that have a schema.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchemaList {
    /// By kind.
    items: Vec<SchemaItem>,
}

/// Where the schema of a kind is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchemaItem {
    /// The kind.
    #[schema(example = "order")]
    kind: String,
    /// Where its schema is.
    #[schema(example = "/v1/schemas/order")]
    href: String,
}

/// The kinds that have a schema.
#[utoipa::path(
    get,
    path = "/v1/schemas",
    operation_id = "listSchemas",
    tag = "schemas",
    responses(
        (status = 200, description = "All kinds", body = SchemaList),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn list(State(api): State<Api>, _caller: Reader) -> Result<Response, Problem> {
    let item = |kind: &str| SchemaItem { kind: kind.to_owned(), href: format!("/v1/schemas/{kind}") };
    Ok(view::json(&SchemaList { items: api.schemas.published().map(|(kind, _)| item(kind)).collect() }))
}

/// The JSON Schema of a kind's fields.
#[utoipa::path(
    get,
    path = "/v1/schemas/{kind}",
    operation_id = "getSchema",
    tag = "schemas",
    params(("kind" = String, Path, description = "The kind")),
    responses(
        (status = 200, description = "The schema (JSON Schema 2020-12)", body = serde_json::Value, content_type = "application/schema+json"),
        (status = 401, description = "No valid key", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The key may not read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no schema of this kind", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(kind): Segments<String>,
) -> Result<Response, Problem> {
    match api.schemas.published().find(|(known, _)| *known == kind) {
        Some((_, schema)) => Ok(view::json_bytes("application/schema+json", schema.to_string().into())),
        None => Err(Problem::new(Code::UnknownSchema, format!("there is no schema of the kind `{kind}`"))),
    }
}
