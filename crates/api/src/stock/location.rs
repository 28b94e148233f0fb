//! `/v1/stock/{sku}/{location}`: what lies there, what is promised of it, and to whom.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::availability::{ContributionBody, Freshness};
use super::{HOLDERS_MAX, ReadProblems};
use crate::auth::Reader;
use crate::params::{Params, Segments};
use crate::problem::{Code, Problem, ProblemBody};
use crate::{Api, current, view};

/// A SKU at a location: `available_to_fulfil = on_hand - damaged - quality_control - blocked - safety_stock - held -
/// committed`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StockAtLocation)]
pub(crate) struct StockBody {
    /// The SKU.
    sku: String,
    /// Every term of the equation, and who is behind them.
    terms: ContributionBody,
    /// How old the facts are.
    #[serde(flatten)]
    freshness: Freshness,
}

/// A SKU at a location: every term of the equation, and who holds what.
#[utoipa::path(
    get,
    path = "/v1/stock/{sku}/{location}",
    operation_id = "getStock",
    tag = "stock",
    params(
        ("sku" = String, Path, description = "The SKU"),
        ("location" = String, Path, description = "The location"),
        ("holders" = Option<u64>, Query, description = "How many holders to name, 0 to 100; 100 where it is absent"),
    ),
    responses(
        (status = 200, description = "The equation and its contributors", body = StockBody),
        (status = 404, description = "Nothing is known of this SKU here", body = ProblemBody, content_type = "application/problem+json"),
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
    params.only(&["holders"])?;
    let holders = params.number("holders", 0..=HOLDERS_MAX)?.unwrap_or(HOLDERS_MAX);
    let all = current::ask(|| api.hub.availability(vec![sku.clone()], "", None, holders)).await?;
    let of = all.first().ok_or_else(|| Problem::new(Code::ReadFailed, "the answer was lost"))?;
    let Some(here) = of.locations.iter().find(|here| here.location == location) else {
        return Err(Problem::new(Code::UnknownStock, format!("nothing is known of `{sku}` at `{location}`")));
    };
    let age_us = here.as_of_us.map(|as_of_us| of.at_us - as_of_us);
    let fresh = age_us.is_some_and(|age_us| age_us <= of.fresh_for_us);
    let freshness = Freshness::of(here.as_of_us, age_us, fresh);
    let mut response = view::json(&StockBody { sku, terms: here.into(), freshness: freshness.clone() });
    freshness.put(&mut response);
    Ok(response)
}
