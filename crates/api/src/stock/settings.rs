//! What stands behind the arithmetic: items and kits, supplies, and what channels may have.

use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use lockstep_core::stock::{Command, PolicyOf};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Ask, StockOutcome, WriteProblems, time_of};
use crate::auth::Writer;
use crate::params::{Params, Segments};
use crate::problem::Problem;
use crate::{Api, operator};

/// What a SKU is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Item)]
pub(crate) struct ItemBody {
    /// How many decimal digits its quantities have, 0 for pieces. It stays while there is stock or a reservation.
    #[serde(default)]
    qty_scale: u32,
    /// What one kit is made of; empty where it is none.
    #[serde(default)]
    components: Vec<ComponentBody>,
}

/// A component of a kit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ItemComponent)]
pub(crate) struct ComponentBody {
    /// The SKU, which is no kit itself.
    sku: String,
    /// How much of it one kit takes.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
}

/// Goods on order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Supply)]
pub(crate) struct SupplyBody {
    /// The SKU.
    sku: String,
    /// Where they will arrive.
    location: String,
    /// What is still to come; 0 ends it.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
    /// When they are expected (RFC 3339).
    #[schema(format = DateTime)]
    eta: String,
}

/// What a channel may have. What is absent is left to the less specific policy, and where none says anything there is no
/// limit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChannelPolicy)]
pub(crate) struct PolicyBody {
    /// The locations that may serve it, the preferred first.
    locations: Option<Vec<String>>,
    /// What is ring-fenced for it, per SKU and location.
    fence: Option<i64>,
    /// The most that may be open, or sold within a time, per SKU.
    cap: Option<CapBody>,
    /// What is held back from the number that it is told.
    buffer: Option<i64>,
    /// The most that may be backordered, per SKU.
    backorder_limit: Option<i64>,
    /// Whom scarce goods go to first: the higher.
    priority: Option<i32>,
}

/// The most that a channel may have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Cap)]
pub(crate) struct CapBody {
    /// How much.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
    /// What was sold counts for so long, in seconds; 0: what is open counts alone.
    #[serde(default)]
    window_s: u32,
}

async fn said<T: serde::de::DeserializeOwned>(
    (api, caller): (&Api, &Writer),
    (names, form): (&[&str], &str),
    request: Request,
    command: impl FnOnce(&Ask, T) -> Result<Command, Problem>,
) -> Result<Response, Problem> {
    caller.speaks_for()?;
    let (parts, body) = request.into_parts();
    let (wanted, bytes) = operator::read::<T>(api, &parts.headers, body, form).await?;
    let mut payload: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    payload.push(&bytes);
    let ask = Ask::new(caller, &parts.headers, &payload)?;
    ask.one(api, command(&ask, wanted)?).await
}

/// Says what a SKU is: the digits of its quantities, and of a kit what it is made of. A SKU that nobody has said anything of
/// is counted in pieces.
#[utoipa::path(
    put,
    path = "/v1/items/{sku}",
    operation_id = "putItem",
    tag = "stock",
    params(
        ("sku" = String, Path, description = "The SKU"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = ItemBody, content_type = "application/json"),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn item(
    State(api): State<Api>,
    caller: Writer,
    Segments(sku): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |_: &Ask, wanted: ItemBody| {
        let components = wanted.components.into_iter().map(|of| (of.sku.into(), of.quantity)).collect();
        Ok(Command::Sku { sku: sku.as_str().into(), scale: wanted.qty_scale, components })
    };
    said((&api, &caller), (&["item", &sku], r#"{"qty_scale": 0, "components": []}"#), request, made).await
}

/// Says what is on order.
#[utoipa::path(
    put,
    path = "/v1/supplies/{id}",
    operation_id = "putSupply",
    tag = "stock",
    params(
        ("id" = String, Path, description = "The supply's id, for example the purchase order's and its line"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = SupplyBody, content_type = "application/json"),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn supply(
    State(api): State<Api>,
    caller: Writer,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let form = r#"{"sku": "...", "location": "...", "quantity": 1, "eta": "2026-03-01T09:30:00Z"}"#;
    let made = |ask: &Ask, wanted: SupplyBody| {
        Ok(Command::Supply {
            supply: id.as_str().into(),
            sku: wanted.sku.into(),
            location: wanted.location.into(),
            open: wanted.quantity,
            eta_us: time_of("eta", Some(&wanted.eta), ask.received_at_us)?,
        })
    };
    said((&api, &caller), (&["supply", &id], form), request, made).await
}

/// Sets what a channel may have, whole: for all SKUs, one, or one at one location. The policy for all SKUs also declares the
/// channel: from then on it is told what it may sell (`stock.availability_changed`).
#[utoipa::path(
    put,
    path = "/v1/channels/{channel}/policy",
    operation_id = "putChannelPolicy",
    tag = "stock",
    params(
        ("channel" = String, Path, description = "The channel"),
        ("sku" = Option<String>, Query, description = "The SKU; all where it is absent"),
        ("location" = Option<String>, Query, description = "The location, with `sku`; all where it is absent"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = PolicyBody, content_type = "application/json"),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn set_policy(
    State(api): State<Api>,
    caller: Writer,
    Segments(channel): Segments<String>,
    params: Params,
    request: Request,
) -> Result<Response, Problem> {
    params.only(&["sku", "location"])?;
    let (sku, location) = (params.text("sku").unwrap_or_default(), params.text("location").unwrap_or_default());
    let made = |_: &Ask, wanted: PolicyBody| {
        Ok(Command::Policy(PolicyOf {
            channel: channel.as_str().into(),
            sku: sku.into(),
            location: location.into(),
            locations: wanted.locations.map(|all| all.into_iter().map(Into::into).collect()),
            fence: wanted.fence,
            cap: wanted.cap.map(|cap| (cap.quantity, i64::from(cap.window_s) * 1_000_000)),
            buffer: wanted.buffer,
            backorder_limit: wanted.backorder_limit,
            priority: wanted.priority,
            removed: false,
        }))
    };
    said((&api, &caller), (&["policy", &channel, sku, location], r#"{"buffer": 1}"#), request, made).await
}

/// Takes a policy away.
#[utoipa::path(
    delete,
    path = "/v1/channels/{channel}/policy",
    operation_id = "deleteChannelPolicy",
    tag = "stock",
    params(
        ("channel" = String, Path, description = "The channel"),
        ("sku" = Option<String>, Query, description = "The SKU; all where it is absent"),
        ("location" = Option<String>, Query, description = "The location, with `sku`; all where it is absent"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn clear_policy(
    State(api): State<Api>,
    caller: Writer,
    Segments(channel): Segments<String>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.only(&["sku", "location"])?;
    let (sku, location) = (params.text("sku").unwrap_or_default(), params.text("location").unwrap_or_default());
    let payload = ["no-policy", channel.as_str(), sku, location].map(str::as_bytes);
    let ask = Ask::new(&caller, &headers, &payload)?;
    let policy = PolicyOf {
        channel: channel.as_str().into(),
        sku: sku.into(),
        location: location.into(),
        removed: true,
        ..PolicyOf::default()
    };
    ask.one(&api, Command::Policy(policy)).await
}
