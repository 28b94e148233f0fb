//! `/v1/reservations/{id}/...`: what becomes of a reservation.

use axum::extract::{Request, State};
use axum::response::Response;
use lockstep_core::stock::record::MovementKind;
use lockstep_core::stock::{Command, Movement};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::reservations::{ReservationBody, answer, ends};
use super::{Ask, WriteProblems, time_of};
use crate::auth::Writer;
use crate::params::Segments;
use crate::problem::{Code, Problem};
use crate::{Api, operator, view};

/// What to give back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    /// How much of which line; all that is open where it is empty.
    #[serde(default)]
    lines: Vec<ReleaseLine>,
}

/// A line to give back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReleaseLine {
    /// Its number.
    line: u32,
    /// How much of it.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
}

/// A new end.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extend {
    /// Until when it holds (RFC 3339).
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// For how many seconds from now, where `expires_at` is absent; as the hub is configured where both
    /// are.
    hold_s: Option<u32>,
}

/// What was shipped.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consume {
    /// The shipped goods.
    goods: Vec<Shipped>,
    /// When they left (RFC 3339); now where it is absent.
    #[schema(format = DateTime)]
    occurred_at: Option<String>,
    /// The shipment's id in the system that tells of it. A SKU of it from a location has one effect, however often and by
    /// which way it is told. The `Idempotency-Key` where it is absent.
    movement: Option<String>,
}

/// Goods of a shipment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shipped {
    /// The SKU.
    sku: String,
    /// Where it was shipped from.
    location: String,
    /// How much.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
}

/// What is to be served from elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transfer {
    /// The line.
    line: u32,
    /// Where to.
    location: String,
    /// How much of it.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
}

/// What the warehouse took over.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledge {
    /// The location; all where it is absent.
    location: Option<String>,
    /// When (RFC 3339); now where it is absent.
    #[schema(format = DateTime)]
    at: Option<String>,
}

/// A step of a reservation: reads the body, which may be absent where the default of it says something, and decides.
async fn step<T: DeserializeOwned + Default>(
    api: &Api,
    caller: &Writer,
    (id, name, form): (&str, &str, &str),
    request: Request,
    commands: impl FnOnce(&Ask, T) -> Result<Vec<Command>, Problem>,
) -> Result<Response, Problem> {
    caller.speaks_for()?;
    let (parts, body) = request.into_parts();
    let has_body = axum::body::HttpBody::size_hint(&body).exact() != Some(0);
    let (wanted, bytes) = match has_body {
        true => operator::read::<T>(api, &parts.headers, body, form).await?,
        false => Default::default(),
    };
    let ask = Ask::new(caller, &parts.headers, &[name.as_bytes(), id.as_bytes(), &bytes])?;
    let commands = commands(&ask, wanted)?;
    let (said, after) = ask.say_about(api, commands, id, false).await?;
    Ok(view::json(&answer(id, said, &after.reservation)?))
}

/// A body that can't be absent.
fn given<T>(wanted: Option<T>, form: &str) -> Result<T, Problem> {
    wanted.ok_or_else(|| Problem::new(Code::InvalidBody, format!("the body must be `{form}`")))
}

/// Nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Makes a hold last: it no longer ends by itself. One that has expired is reserved again at once, or it is 409.
#[utoipa::path(
    post,
    path = "/v1/reservations/{id}/commit",
    operation_id = "commitReservation",
    tag = "stock",
    params(
        ("id" = String, Path, description = "Its id"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    responses((status = 200, description = "The reservation", body = ReservationBody), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn commit(
    State(api): State<Api>,
    caller: Writer,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |_: &Ask, _: Nothing| Ok(vec![Command::Commit { id: id.as_str().into() }]);
    step(&api, &caller, (&id, "commit", "{}"), request, made).await
}

/// Gives back what is open, or a part of it.
#[utoipa::path(
    post,
    path = "/v1/reservations/{id}/release",
    operation_id = "releaseReservation",
    tag = "stock",
    params(
        ("id" = String, Path, description = "Its id"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Option<Release>, content_type = "application/json"),
    responses((status = 200, description = "The reservation", body = ReservationBody), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn release(
    State(api): State<Api>,
    caller: Writer,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |_: &Ask, wanted: Release| {
        let lines = wanted.lines.into_iter().map(|of| (of.line, of.quantity)).collect();
        Ok(vec![Command::Release { id: id.as_str().into(), lines }])
    };
    step(&api, &caller, (&id, "release", r#"{"lines": [{"line": 0, "quantity": 1}]}"#), request, made).await
}

/// Moves the end of a hold.
#[utoipa::path(
    post,
    path = "/v1/reservations/{id}/extend",
    operation_id = "extendReservation",
    tag = "stock",
    params(
        ("id" = String, Path, description = "Its id"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Option<Extend>, content_type = "application/json"),
    responses((status = 200, description = "The reservation", body = ReservationBody), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn extend(
    State(api): State<Api>,
    caller: Writer,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |ask: &Ask, wanted: Extend| {
        let expires_at_us =
            ends(wanted.expires_at.as_deref(), wanted.hold_s, (api.options.hold_s, ask.received_at_us))?;
        Ok(vec![Command::Extend { id: id.as_str().into(), expires_at_us }])
    };
    step(&api, &caller, (&id, "extend", r#"{"hold_s": 900}"#), request, made).await
}

/// Ships goods of a reservation: they leave the stock on hand, and what was reserved of them is consumed.
#[utoipa::path(
    post,
    path = "/v1/reservations/{id}/consume",
    operation_id = "consumeReservation",
    tag = "stock",
    params(
        ("id" = String, Path, description = "Its id"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Consume, content_type = "application/json"),
    responses((status = 200, description = "The reservation", body = ReservationBody), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn consume(
    State(api): State<Api>,
    caller: Writer,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let form = r#"{"goods": [{"sku": "...", "location": "...", "quantity": 1}]}"#;
    // Goods that have left can't be refused; but those of a reservation that was never there are a mistake.
    super::reservations::find(&api, &id).await?;
    let made = |ask: &Ask, wanted: Option<Consume>| {
        let wanted = given(wanted, form)?;
        if wanted.goods.is_empty() {
            return Err(Problem::new(Code::StockInvalid, "`goods` must be at least one")
                .with("pointer", "/goods")
                .with("reason", "must be at least one"));
        }
        let occurred_at_us = time_of("occurred_at", wanted.occurred_at.as_deref(), ask.received_at_us)?;
        let shipment = wanted.movement.as_deref().unwrap_or(ask.key());
        let ship = |goods: Shipped| Movement {
            source: ask.system().into(),
            id: shipment.into(),
            sku: goods.sku.into(),
            location: goods.location.into(),
            kind: MovementKind::Ship,
            quantity: goods.quantity,
            occurred_at_us,
            reservation: Some(id.as_str().into()),
            ..Movement::default()
        };
        let mut all: Vec<Movement> = Vec::with_capacity(wanted.goods.len());
        for goods in wanted.goods {
            let shipped = ship(goods);
            // All of them or none: what is not well-formed is found before the first is decided.
            Command::Move(shipped.clone()).check().map_err(lockstep_core::Refusal::Stock)?;
            // Two lines of the same goods are one movement, as the shipment is one.
            match all.iter_mut().find(|other| (&other.sku, &other.location) == (&shipped.sku, &shipped.location)) {
                Some(same) => same.quantity = same.quantity.saturating_add(shipped.quantity),
                None => all.push(shipped),
            }
        }
        let commands: Vec<Command> = all.into_iter().map(|shipped| Command::Move(shipped.of_shipment())).collect();
        commands.iter().try_for_each(Command::check).map_err(lockstep_core::Refusal::Stock)?;
        Ok(commands)
    };
    step(&api, &caller, (&id, "consume", form), request, made).await
}

/// Has a part of a line served from another location: released there and reserved here in one step.
#[utoipa::path(
    post,
    path = "/v1/reservations/{id}/transfer",
    operation_id = "transferReservation",
    tag = "stock",
    params(
        ("id" = String, Path, description = "Its id"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Transfer, content_type = "application/json"),
    responses((status = 200, description = "The reservation", body = ReservationBody), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn transfer(
    State(api): State<Api>,
    caller: Writer,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let form = r#"{"line": 0, "location": "...", "quantity": 1}"#;
    let made = |_: &Ask, wanted: Option<Transfer>| {
        let Transfer { line, location, quantity } = given(wanted, form)?;
        Ok(vec![Command::Transfer { id: id.as_str().into(), line, location: location.into(), quantity }])
    };
    step(&api, &caller, (&id, "transfer", form), request, made).await
}

/// Says that the warehouse has taken over what is open: its counts of what is available leave it out from then on.
#[utoipa::path(
    post,
    path = "/v1/reservations/{id}/acknowledge",
    operation_id = "acknowledgeReservation",
    tag = "stock",
    params(
        ("id" = String, Path, description = "Its id"),
        ("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same"),
    ),
    request_body(content = Option<Acknowledge>, content_type = "application/json"),
    responses((status = 200, description = "The reservation", body = ReservationBody), WriteProblems),
    security(("key" = ["write"])),
)]
pub(crate) async fn acknowledge(
    State(api): State<Api>,
    caller: Writer,
    Segments(id): Segments<String>,
    request: Request,
) -> Result<Response, Problem> {
    let made = |ask: &Ask, wanted: Acknowledge| {
        let at_us = time_of("at", wanted.at.as_deref(), ask.received_at_us)?;
        let location = wanted.location.unwrap_or_default().into();
        Ok(vec![Command::Acknowledge { id: id.as_str().into(), location, at_us }])
    };
    step(&api, &caller, (&id, "acknowledge", r#"{"location": "..."}"#), request, made).await
}
