//! `/v1/reservations`: reserving stock, and looking at a reservation.

use std::collections::BTreeSet;

use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use lockstep_core::stock::record::{LineFact, ReservationState};
use lockstep_core::stock::{Answer, Command, Item, ReservationView, Reserve, Shortfall, state_name};
use lockstep_hub::After;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::availability::Freshness;
use super::{Ask, ReadProblems, Said, WriteProblems, time_of};
use crate::auth::{Reader, Writer};
use crate::params::Segments;
use crate::problem::{Code, Problem, ProblemBody, ShortfallBody};
use crate::{Api, current, operator, view};

/// What is to be reserved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReservationRequest)]
pub(crate) struct ReserveBody {
    /// The reservation's id; made from the `Idempotency-Key` where it is absent. A hold of the same owner that has it is
    /// replaced.
    id: Option<String>,
    /// The cart or order that it is for.
    owner: String,
    /// The channel that sells.
    channel: String,
    /// Until when it holds (RFC 3339).
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// For how many seconds it holds, where `expires_at` is absent; as the hub is configured where both are.
    hold_s: Option<u32>,
    /// What is wanted.
    items: Vec<ItemBody>,
    /// Take what there is where there is not enough.
    #[serde(default)]
    allow_partial: bool,
    /// One item may come from several locations.
    #[serde(default)]
    allow_split: bool,
    /// What is missing may be promised of what is on order by then (RFC 3339).
    #[schema(format = DateTime)]
    backorder_until: Option<String>,
    /// Another hold of the same customer, which this one takes the place of.
    replaces: Option<String>,
}

/// One item of a request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReservationItem)]
pub(crate) struct ItemBody {
    /// The SKU or kit.
    sku: String,
    /// How much.
    #[serde(deserialize_with = "super::whole")]
    quantity: i64,
    /// Where it must come from; any eligible location where it is absent.
    location: Option<String>,
}

/// A reservation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reservation)]
pub(crate) struct ReservationBody {
    /// Its id.
    id: String,
    /// The cart or order that it is for.
    owner: String,
    /// Its channel.
    channel: String,
    /// `held`, `committed`, `consumed`, `released` or `expired`.
    state: &'static str,
    /// Until when it holds (RFC 3339); absent where it does not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Its lines: what was allocated where.
    lines: Vec<LineBody>,
    /// What of the request is missing, in the answer to a request that allows a part.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shortfalls: Vec<ShortfallBody>,
    /// In the answer to a request to reserve: how old the physical facts are that it relies on.
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Freshness>,
    /// In the answer to a request: it had had its effect before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
}

/// A line of a reservation: `quantity = open + consumed + released + expired`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReservationLine)]
pub(crate) struct LineBody {
    /// Its number.
    line: u32,
    /// The number of the item of the request that it serves.
    item: u32,
    /// The SKU; of a kit, a component.
    sku: String,
    /// Where it is reserved; null while it is backordered.
    location: Option<String>,
    /// What it was made for.
    quantity: i64,
    /// What is still to come of it.
    open: i64,
    /// What was shipped of it.
    consumed: i64,
    /// What was given back of it, or went on to another line.
    released: i64,
    /// What ended by itself.
    expired: i64,
}

impl From<&LineFact> for LineBody {
    fn from(line: &LineFact) -> Self {
        Self {
            line: line.line,
            item: line.item,
            sku: line.sku.clone(),
            location: (!line.location.is_empty()).then(|| line.location.clone()),
            quantity: line.quantity,
            open: line.open,
            consumed: line.consumed,
            released: line.released,
            expired: line.expired,
        }
    }
}

impl From<&Shortfall> for ShortfallBody {
    fn from(of: &Shortfall) -> Self {
        Self { item: of.item, sku: of.sku.to_string(), requested: of.requested, available: of.available }
    }
}

impl ReservationBody {
    fn of(id: &str, view: &ReservationView) -> Self {
        let ends = matches!(view.state, ReservationState::Held | ReservationState::Expired);
        Self {
            id: id.to_owned(),
            owner: view.owner.to_string(),
            channel: view.channel.to_string(),
            state: state_name(view.state),
            expires_at: ends.then(|| view::time(view.expires_at_us)),
            lines: view.lines.iter().map(LineBody::from).collect(),
            shortfalls: Vec::new(),
            facts: None,
            repeated: false,
        }
    }
}

/// A reservation as it stands now.
pub(super) async fn find(api: &Api, id: &str) -> Result<ReservationBody, Problem> {
    let view = current::ask(|| api.hub.reservation(id)).await?;
    Ok(ReservationBody::of(id, &view.ok_or_else(|| unknown(id))?))
}

/// How a reservation stands, asked for after the write: where it could not be told with it.
pub(super) async fn after(api: &Api, id: &str, with_facts: bool) -> Result<After, Problem> {
    let reservation = current::ask(|| api.hub.reservation(id)).await?.ok_or_else(|| unknown(id))?;
    let mut facts = Vec::new();
    if with_facts {
        let skus: BTreeSet<String> = reservation.lines.iter().map(|line| line.sku.clone()).collect();
        let skus: Vec<String> = skus.into_iter().collect();
        facts = current::ask(|| api.hub.availability(skus.clone(), &reservation.channel, None, 0)).await?;
    }
    Ok(After { reservation, facts })
}

fn unknown(id: &str) -> Problem {
    Problem::new(Code::UnknownReservation, format!("there is no reservation `{id}`"))
}

/// The answer to a request about a reservation: as it stands after it, with what the decision has to say beside it.
pub(super) fn answer(id: &str, said: Said, reservation: &ReservationView) -> Result<ReservationBody, Problem> {
    let mut body = ReservationBody::of(id, reservation);
    match said {
        Said::Before { .. } => body.repeated = true,
        Said::Now { answers, .. } => {
            for answer in answers {
                if let Answer::Reservation { shortfalls, repeated, .. } =
                    answer.map_err(lockstep_core::Refusal::Stock)?
                {
                    body.shortfalls.extend(shortfalls.iter().map(ShortfallBody::from));
                    body.repeated |= repeated;
                }
            }
        }
    }
    Ok(body)
}

/// Reserves stock.
///
/// All or nothing, unless `allow_partial`: 409 says of each item what was asked for and what could be had. A repetition
/// with the same `Idempotency-Key` gets the reservation as it stands now.
#[utoipa::path(
    post,
    path = "/v1/reservations",
    operation_id = "reserve",
    tag = "stock",
    params(("Idempotency-Key" = String, Header, description = "What makes a repetition of this request the same")),
    request_body(content = ReserveBody, content_type = "application/json"),
    responses(
        (status = 201, description = "Reserved, and durable", body = ReservationBody),
        (status = 200, description = "It was reserved before", body = ReservationBody),
        WriteProblems,
    ),
    security(("key" = ["write"])),
)]
pub(crate) async fn reserve(State(api): State<Api>, caller: Writer, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    caller.speaks_for()?;
    let form = r#"{"owner": "...", "channel": "...", "items": [{"sku": "...", "quantity": 1}]}"#;
    let (wanted, bytes) = operator::read::<ReserveBody>(&api, &parts.headers, body, form).await?;
    let ask = Ask::new(&caller, &parts.headers, &[b"reserve", &bytes])?;
    let id = wanted.id.clone().unwrap_or_else(|| ask.derived_id());
    let command = wanted.command(&id, (api.options.hold_s, ask.received_at_us))?;
    let (said, after) = ask.say_about(&api, vec![command], &id, true).await?;
    let is_new = matches!(said, Said::Now { position, .. } if position != 0);
    let mut body = answer(&id, said, &after.reservation)?;
    let facts = Freshness::oldest(&after.facts);
    body.facts = Some(facts.clone());
    let mut response = view::json(&body);
    facts.put(&mut response);
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
        if let Ok(location) = HeaderValue::from_str(&format!("/v1/reservations/{}", in_path(&id))) {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
    Ok(response)
}

impl ReserveBody {
    fn command(self, id: &str, (usual_s, now_us): (u32, i64)) -> Result<Command, Problem> {
        let item = |item: ItemBody| Item {
            sku: item.sku.into(),
            quantity: item.quantity,
            location: item.location.map(Into::into),
        };
        let backorder_until_us =
            self.backorder_until.as_deref().map(|text| time_of("backorder_until", Some(text), now_us)).transpose()?;
        Ok(Command::Reserve(Reserve {
            id: id.into(),
            owner: self.owner.into(),
            channel: self.channel.into(),
            expires_at_us: ends(self.expires_at.as_deref(), self.hold_s, (usual_s, now_us))?,
            items: self.items.into_iter().map(item).collect(),
            allow_partial: self.allow_partial,
            allow_split: self.allow_split,
            backorder_until_us,
            replaces: self.replaces.map(Into::into),
            is_order: false,
        }))
    }
}

/// An id within a path: it may have any characters.
fn in_path(id: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    id.bytes().map(one).collect()
}

/// When a hold ends: `usual_s` from now, where it does not say.
pub(super) fn ends(
    expires_at: Option<&str>,
    hold_s: Option<u32>,
    (usual_s, now_us): (u32, i64),
) -> Result<i64, Problem> {
    let usual_us = now_us + i64::from(hold_s.unwrap_or(usual_s)) * 1_000_000;
    time_of("expires_at", expires_at, usual_us)
}

/// A reservation as it stands now.
#[utoipa::path(
    get,
    path = "/v1/reservations/{id}",
    operation_id = "getReservation",
    tag = "stock",
    params(("id" = String, Path, description = "Its id, percent-encoded where it has a slash")),
    responses(
        (status = 200, description = "The reservation", body = ReservationBody),
        (status = 404, description = "There is no such reservation, or it has been over for longer than `stock.reservation_days`", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(
    State(api): State<Api>,
    _caller: Reader,
    Segments(id): Segments<String>,
) -> Result<Response, Problem> {
    Ok(view::json(&find(&api, &id).await?))
}
