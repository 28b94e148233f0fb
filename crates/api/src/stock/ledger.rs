//! `/v1/stock/{sku}/{location}/ledger`: what happened to a SKU at a location, as the journal has it.

use axum::extract::State;
use axum::response::Response;
use lockstep_core::stock::ledger_document;
use lockstep_core::stock::record::StockBody;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::ReadProblems;
use crate::auth::Reader;
use crate::params::{Params, Segments};
use crate::problem::{Problem, ProblemBody};
use crate::{Api, events, view};

/// A part of a ledger.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StockLedger)]
pub(crate) struct LedgerBody {
    /// The SKU.
    sku: String,
    /// The location.
    location: String,
    /// What happened, oldest first.
    items: Vec<LedgerItem>,
    /// Where the next part goes on. A part with few items, even with none, is not the end.
    next_after: u64,
    /// Whether this is all there is now.
    at_end: bool,
}

/// One thing that happened.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LedgerItem)]
pub(crate) struct LedgerItem {
    /// Its position in the journal.
    position: u64,
    /// When the hub decided it (RFC 3339, UTC).
    #[schema(format = DateTime)]
    recorded_at: String,
    /// The type of the event; absent where nobody was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    /// What is known after it.
    document: Value,
    /// The way in of whoever caused it; absent where the hub did by itself, or with the record before.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The system of whoever caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// The delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<String>,
    /// The W3C trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// What happened to a SKU at a location, oldest first: counts, movements, reservations, settings.
#[utoipa::path(
    get,
    path = "/v1/stock/{sku}/{location}/ledger",
    operation_id = "getStockLedger",
    tag = "stock",
    params(
        ("sku" = String, Path, description = "The SKU"),
        ("location" = String, Path, description = "The location"),
        ("after" = Option<u64>, Query, description = "Only what is after this position; 0 or absent: from the oldest kept"),
        ("limit" = Option<u64>, Query, description = "At most so many, 1 to 1000; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "A part of the ledger", body = LedgerBody),
        (status = 410, description = "That part of the journal is no longer kept", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments((sku, location)): Segments<(String, String)>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["after", "limit"])?;
    let after = params.position("after")?.unwrap_or(0);
    let limit = params.limit(100, 1000)?;
    events::check_after(&api, "after", after)?;
    let page = api.hub.ledger(&sku, &location, after, limit).await?;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let item = |entry: &lockstep_hub::LedgerEntry| {
        let origin = entry.fact.origin.as_deref();
        LedgerItem {
            position: entry.position,
            recorded_at: view::time(entry.recorded_at_us),
            event_type: some(&entry.fact.event_type),
            document: entry.fact.body.as_ref().map_or(Value::Null, |body: &StockBody| ledger_document(body)),
            source: origin.and_then(|o| some(&o.source)),
            system: origin.and_then(|o| some(&o.system)),
            delivery: origin.and_then(|o| some(&o.delivery)),
            trace: origin.and_then(|o| some(&o.trace)),
        }
    };
    let items = page.entries.iter().map(item).collect();
    Ok(view::json(&LedgerBody { sku, location, items, next_after: page.next_after, at_end: page.at_end }))
}
