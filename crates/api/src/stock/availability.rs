//! `/v1/availability`: what a channel may sell, and how old the facts behind the answer are.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use lockstep_core::stock::{Availability, Contribution, Holder};
use serde::Serialize;
use utoipa::ToSchema;

use super::{HOLDERS_MAX, ReadProblems, SKUS_MAX, time_of};
use crate::auth::Reader;
use crate::params::Params;
use crate::problem::Problem;
use crate::{Api, current, view};

/// What a channel may sell.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AvailabilityList {
    /// The channel; empty for one without policies, which may have all.
    channel: String,
    /// An answer for each SKU, in their order.
    items: Vec<AvailabilityBody>,
}

/// How old the physical facts behind an answer are.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Freshness {
    /// The time of the oldest physical fact (RFC 3339, UTC); null where there is none.
    #[schema(format = DateTime)]
    pub(super) as_of: Option<String>,
    /// How many seconds ago that was.
    pub(super) age_s: Option<i64>,
    /// Whether that is within the hub's limit. `false`: ask whoever counts before you rely on the answer.
    pub(super) fresh: bool,
}

/// What a channel may sell of a SKU or kit, with every term of the equation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Availability)]
pub(crate) struct AvailabilityBody {
    /// The SKU or kit.
    sku: String,
    /// Available to promise: `max(0, min(sum of usable, cap_remaining) - buffer)`; of a kit what its components give.
    available: i64,
    /// Available to order by the time asked for: `available` and what is on order, as far as it may be promised.
    available_to_order: i64,
    /// What is left of the channel's cap; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    cap_remaining: Option<i64>,
    /// What is held back from `available`.
    buffer: i64,
    /// On order and expected by the time asked for.
    incoming: i64,
    /// Open backorders of all channels.
    backordered: i64,
    /// What every location gives.
    locations: Vec<ContributionBody>,
    /// What every component of a kit gives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<ComponentBody>,
    /// How old the facts are.
    #[serde(flatten)]
    freshness: Freshness,
}

/// A component of a kit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KitPart)]
pub(crate) struct ComponentBody {
    /// How much of it one kit takes.
    per_kit: i64,
    /// What is available of it.
    #[schema(no_recursion)]
    of: AvailabilityBody,
}

/// One location's part: `available_to_fulfil = on_hand - damaged - quality_control - blocked - safety_stock - held -
/// committed`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StockTerms)]
pub(crate) struct ContributionBody {
    /// The location.
    pub(super) location: String,
    /// Whether it may serve the channel.
    eligible: bool,
    /// What lies there.
    on_hand: i64,
    /// Of it: damaged.
    damaged: i64,
    /// Of it: waiting for a check.
    quality_control: i64,
    /// Of it: blocked for another reason.
    blocked: i64,
    /// What no new reservation may touch.
    safety_stock: i64,
    /// Open lines that are held and not expired.
    held: i64,
    /// Open lines that are committed.
    committed: i64,
    /// What is left; negative where more is promised than there is.
    available_to_fulfil: i64,
    /// What is fenced for other channels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fences: Vec<FenceBody>,
    /// What the channel may take: 0 where the location may not serve it.
    usable: i64,
    /// How much more is promised than there is.
    shortage: i64,
    /// The time of its count, or of its newest movement (RFC 3339, UTC).
    #[schema(format = DateTime)]
    as_of: Option<String>,
    /// Who is behind `held` and `committed`, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<HolderBody>,
}

/// What is fenced for another channel.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fence)]
pub(crate) struct FenceBody {
    /// The channel.
    channel: String,
    /// What is left of its fence.
    remaining: i64,
    /// What of that there is stock for.
    honoured: i64,
}

/// An open line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Holder)]
pub(crate) struct HolderBody {
    /// The reservation.
    reservation: String,
    /// The cart or order that it is for.
    owner: String,
    /// Its channel.
    channel: String,
    /// What is open of it.
    open: i64,
    /// Until when it holds (RFC 3339, UTC); null where it is committed.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl From<&Holder> for HolderBody {
    fn from(of: &Holder) -> Self {
        Self {
            reservation: of.reservation.to_string(),
            owner: of.owner.to_string(),
            channel: of.channel.to_string(),
            open: of.open,
            expires_at: of.expires_at_us.map(view::time),
        }
    }
}

impl From<&Contribution> for ContributionBody {
    fn from(of: &Contribution) -> Self {
        let fences = of.fenced.iter().map(|(channel, remaining, honoured)| FenceBody {
            channel: channel.to_string(),
            remaining: *remaining,
            honoured: *honoured,
        });
        Self {
            location: of.location.to_string(),
            eligible: of.is_eligible,
            on_hand: of.on_hand,
            damaged: of.damaged,
            quality_control: of.quality_control,
            blocked: of.blocked,
            safety_stock: of.safety,
            held: of.held,
            committed: of.committed,
            available_to_fulfil: of.atf,
            fences: fences.collect(),
            usable: of.usable,
            shortage: of.shortage,
            as_of: of.as_of_us.map(view::time),
            holders: of.holders.iter().map(HolderBody::from).collect(),
        }
    }
}

impl From<&Availability> for AvailabilityBody {
    fn from(of: &Availability) -> Self {
        Self {
            sku: of.sku.to_string(),
            available: of.atp,
            available_to_order: of.ato,
            cap_remaining: of.cap_remaining,
            buffer: of.buffer,
            incoming: of.incoming,
            backordered: of.backordered,
            locations: of.locations.iter().map(ContributionBody::from).collect(),
            components: of.components.iter().map(|(per, of)| ComponentBody { per_kit: *per, of: of.into() }).collect(),
            freshness: Freshness::of(of.as_of_us, of.age_us, of.is_fresh),
        }
    }
}

impl Freshness {
    pub(super) fn of(as_of_us: Option<i64>, age_us: Option<i64>, fresh: bool) -> Self {
        Self { as_of: as_of_us.map(view::time), age_s: age_us.map(|age_us| age_us.max(0) / 1_000_000), fresh }
    }

    /// Of several answers the oldest.
    pub(super) fn oldest(all: &[Availability]) -> Self {
        let as_of_us = all.iter().filter_map(|of| of.as_of_us).min();
        Self::of(as_of_us, all.iter().filter_map(|of| of.age_us).max(), all.iter().all(|of| of.is_fresh))
    }

    /// As headers too, so that a cache or a proxy can look at it.
    pub(super) fn put(&self, response: &mut Response) {
        let headers = response.headers_mut();
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if let Some(as_of) = &self.as_of {
            put("stock-as-of", as_of.clone());
        }
        if let Some(age_s) = self.age_s {
            put("stock-age", age_s.to_string());
        }
        put("stock-fresh", self.fresh.to_string());
        put("cache-control", "no-store".to_owned());
    }
}

/// What a channel may sell now, of one SKU or of many.
///
/// The answer comes from the loop that also decides reservations. The headers `Stock-As-Of`, `Stock-Age` (seconds) and
/// `Stock-Fresh` say how old the oldest physical fact behind it is, over all SKUs.
#[utoipa::path(
    get,
    path = "/v1/availability",
    operation_id = "getAvailability",
    tag = "stock",
    params(
        ("sku" = Vec<String>, Query, description = "The SKU or kit; several: `sku=A&sku=B`, 1000 at most, as far as they fit the hub's `header_bytes_max`. A comma is a part of the SKU"),
        ("channel" = Option<String>, Query, description = "The channel: one that has a policy, where any has; without it no channel's limits count"),
        ("at" = Option<String>, Query, description = "Until when what is on order counts (RFC 3339); now where it is absent"),
        ("holders" = Option<u64>, Query, description = "How many holders to name for each location, 0 to 100; 0 where it is absent"),
    ),
    responses(
        (status = 200, description = "What may be sold, and why", body = AvailabilityList),
        ReadProblems,
    ),
    security(("key" = ["read"])),
)]
pub(crate) async fn show(State(api): State<Api>, _caller: Reader, params: Params) -> Result<Response, Problem> {
    params.only_once(&["sku", "channel", "at", "holders"], &["sku"])?;
    let skus: Vec<String> = params.all("sku").map(str::to_owned).collect();
    if skus.is_empty() || skus.len() > SKUS_MAX {
        let detail = format!("`sku` must be given 1 to {SKUS_MAX} times, not {}", skus.len());
        return Err(Problem::parameter("sku", detail));
    }
    if skus.iter().any(String::is_empty) {
        return Err(Problem::parameter("sku", "`sku` must not be empty"));
    }
    let holders = params.number("holders", 0..=HOLDERS_MAX)?.unwrap_or(0);
    let channel = params.text("channel").unwrap_or_default();
    let until_us = match params.text("at") {
        None => None,
        at => Some(time_of("at", at, 0).map_err(|problem| Problem::parameter("at", problem.detail()))?),
    };
    let all = current::ask(|| api.hub.availability_for(skus.clone(), channel, until_us, holders)).await?;
    let all = all.map_err(lockstep_core::Refusal::Stock)?;
    let freshness = Freshness::oldest(&all);
    let items = all.iter().map(AvailabilityBody::from).collect();
    let mut response = view::json(&AvailabilityList { channel: channel.to_owned(), items });
    freshness.put(&mut response);
    Ok(response)
}
