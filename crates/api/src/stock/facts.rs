//! `/v1/stock/{sku}/{location}/...`: what is told of goods: counts, movements, what can't be sold, safety stock.

use axum::extract::{Request, State};
use axum::response::Response;
use lockstep_core::stock::record::{CountBasis, MovementKind};
use lockstep_core::stock::{Command, Count, Movement, Unavailable};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Ask, StockOutcome, WriteProblems, time_of};
use crate::auth::Writer;
use crate::params::Segments;
use crate::problem::Problem;
use crate::{Api, operator};

/// A count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StockCount)]
pub(crate) struct CountBody {
    /// What the number means: `on_hand` is all that lies there; `available` is what is free, after the warehouse has
    /// taken off what can't be sold and what it has allocated.
    basis: Basis,
    /// The number; a warehouse that has oversold may tell a negative one.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
    /// When it was true (RFC 3339); now where it is absent.
    #[schema(format = DateTime)]
    as_of: Option<String>,
    /// Somebody has looked at it, and it is true: where the system's counts are taken strictly (`stock.strict`), this one is
    /// taken although it is many times what was to be expected, and marked as `unusual`.
    #[serde(default)]
    confirmed: bool,
}

/// What a count counts.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CountBasis)]
pub(crate) enum Basis {
    /// All that lies there.
    OnHand,
    /// What is free.
    Available,
}

/// A movement.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = StockMovement)]
pub(crate) struct MovementBody {
    /// Its id in the system that tells of it: it has one effect, however often it is told. The `Idempotency-Key` where
    /// it is absent. Of a `ship` with a `reservation` the shipment's, as of `consume`.
    movement: Option<String>,
    /// What it is.
    kind: Kind,
    /// How much; of an `adjust` the difference, up or down.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
    /// When (RFC 3339); now where it is absent. What was before the last count does not change what is on hand: the
    /// count has it.
    #[schema(format = DateTime)]
    occurred_at: Option<String>,
    /// The reservation that a `ship` consumes.
    reservation: Option<String>,
    /// The supply that a `receipt` is of.
    supply: Option<String>,
}

/// What a movement is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MovementKind)]
pub(crate) enum Kind {
    /// Goods came in.
    Receipt,
    /// A correction, up or down.
    Adjust,
    /// Goods left.
    Ship,
    /// Goods came back and can be sold.
    ReturnRestock,
    /// Goods came back damaged.
    ReturnDamaged,
    /// Goods were to come back and did not.
    ReturnLost,
}

/// What of the stock on hand can't be sold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UnavailableStock)]
pub(crate) struct UnavailableBody {
    /// Damaged.
    #[serde(default)]
    damaged: i64,
    /// Waiting for a check.
    #[serde(default)]
    quality_control: i64,
    /// Blocked for another reason.
    #[serde(default)]
    blocked: i64,
    /// When it was true (RFC 3339); now where it is absent.
    #[schema(format = DateTime)]
    as_of: Option<String>,
}

/// The safety stock.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SafetyStock)]
pub(crate) struct SafetyBody {
    /// How much no new reservation may touch. What is promised already is not concerned.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
}

type Place = (String, String);

async fn said<T: serde::de::DeserializeOwned>(
    (api, caller): (&Api, &Writer),
    (name, form): (&str, &str),
    place: &Place,
    request: Request,
    command: impl FnOnce(&Ask, T) -> Result<Command, Problem>,
) -> Result<Response, Problem> {
    caller.speaks_for()?;
    let (parts, body) = request.into_parts();
    let (wanted, bytes) = operator::read::<T>(api, &parts.headers, body, form).await?;
    let payload = [name.as_bytes(), place.0.as_bytes(), place.1.as_bytes(), bytes.as_ref()];
    let ask = Ask::new(caller, &parts.headers, &payload)?;
    ask.one(api, command(&ask, wanted)?).await
}

/// Tells a count of what lies at a location.
///
/// It never opens, closes or shrinks a reservation. An older one than the last is ignored, and recorded. Another number of
/// the same time is refused; so is one that is many times what was to be expected, where the system's counts are taken
/// strictly (`stock.strict`), unless it is `confirmed`.
#[utoipa::path(
    put,
    path = "/v1/stock/{sku}/{location}/count",
    operation_id = "putStockCount",
    tag = "stock",
    params(
        ("sku" = String, Path, description = "The SKU"),
        ("location" = String, Path, description = "The location"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = CountBody, content_type = "application/json"),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn count(
    State(api): State<Api>,
    caller: Writer,
    Segments(place): Segments<Place>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |ask: &Ask, wanted: CountBody| {
        let basis = match wanted.basis {
            Basis::OnHand => CountBasis::OnHand,
            Basis::Available => CountBasis::Available,
        };
        Ok(Command::Count(Count {
            source: ask.system().into(),
            sku: place.0.as_str().into(),
            location: place.1.as_str().into(),
            basis,
            quantity: wanted.quantity,
            as_of_us: time_of("as_of", wanted.as_of.as_deref(), ask.received_at_us)?,
            is_strict: false,
            is_confirmed: wanted.confirmed,
        }))
    };
    said((&api, &caller), ("count", r#"{"basis": "on_hand", "quantity": 1}"#), &place, request, made).await
}

/// Tells of goods that moved.
#[utoipa::path(
    post,
    path = "/v1/stock/{sku}/{location}/movements",
    operation_id = "postStockMovement",
    tag = "stock",
    params(
        ("sku" = String, Path, description = "The SKU"),
        ("location" = String, Path, description = "The location"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = MovementBody, content_type = "application/json"),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn movement(
    State(api): State<Api>,
    caller: Writer,
    Segments(place): Segments<Place>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |ask: &Ask, wanted: MovementBody| {
        let kind = match wanted.kind {
            Kind::Receipt => MovementKind::Receipt,
            Kind::Adjust => MovementKind::Adjust,
            Kind::Ship => MovementKind::Ship,
            Kind::ReturnRestock => MovementKind::ReturnRestock,
            Kind::ReturnDamaged => MovementKind::ReturnDamaged,
            Kind::ReturnLost => MovementKind::ReturnLost,
        };
        let movement = Movement {
            source: ask.system().into(),
            id: wanted.movement.as_deref().unwrap_or(ask.key()).into(),
            sku: place.0.as_str().into(),
            location: place.1.as_str().into(),
            kind,
            quantity: wanted.quantity,
            occurred_at_us: time_of("occurred_at", wanted.occurred_at.as_deref(), ask.received_at_us)?,
            reservation: wanted.reservation.map(Into::into),
            supply: wanted.supply.map(Into::into),
            also: Vec::new(),
        };
        Ok(Command::Move(movement.of_shipment()))
    };
    said((&api, &caller), ("movement", r#"{"kind": "receipt", "quantity": 1}"#), &place, request, made).await
}

/// Says what of the stock on hand can't be sold.
#[utoipa::path(
    put,
    path = "/v1/stock/{sku}/{location}/unavailable",
    operation_id = "putUnavailableStock",
    tag = "stock",
    params(
        ("sku" = String, Path, description = "The SKU"),
        ("location" = String, Path, description = "The location"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = UnavailableBody, content_type = "application/json"),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn unavailable(
    State(api): State<Api>,
    caller: Writer,
    Segments(place): Segments<Place>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |ask: &Ask, wanted: UnavailableBody| {
        Ok(Command::Unavailable(Unavailable {
            sku: place.0.as_str().into(),
            location: place.1.as_str().into(),
            as_of_us: time_of("as_of", wanted.as_of.as_deref(), ask.received_at_us)?,
            damaged: wanted.damaged,
            quality_control: wanted.quality_control,
            blocked: wanted.blocked,
        }))
    };
    said((&api, &caller), ("unavailable", r#"{"damaged": 1}"#), &place, request, made).await
}

/// Sets the safety stock: what no new reservation may touch.
#[utoipa::path(
    put,
    path = "/v1/stock/{sku}/{location}/safety-stock",
    operation_id = "putSafetyStock",
    tag = "stock",
    params(
        ("sku" = String, Path, description = "The SKU"),
        ("location" = String, Path, description = "The location"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = SafetyBody, content_type = "application/json"),
    responses((status = 200, description = "Durable", body = StockOutcome), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn safety(
    State(api): State<Api>,
    caller: Writer,
    Segments(place): Segments<Place>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |_: &Ask, SafetyBody { quantity }: SafetyBody| {
        Ok(Command::Safety { sku: place.0.as_str().into(), location: place.1.as_str().into(), quantity })
    };
    said((&api, &caller), ("safety-stock", r#"{"quantity": 1}"#), &place, request, made).await
}
