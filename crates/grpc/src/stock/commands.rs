//! What each message asks of stock.

use lockstep_api::{Code, Problem};
use lockstep_core::stock::record::{CountBasis, MovementKind};
use lockstep_core::stock::{Command, Count, Item, Movement, PolicyOf, Reserve, Unavailable};
use prost_types::Timestamp;

use crate::convert::time_us;
use crate::v1;

/// Who asks, and when.
pub(super) struct Asked<'a> {
    /// The system that the key speaks for: it counts, and its movements have their ids.
    pub(super) system: &'a str,
    pub(super) now_us: i64,
}

/// A request that writes.
pub(super) trait Write: prost::Message + Default {
    /// Its call, so that the same key for two calls is no repetition.
    const CALL: &'static str;
    fn idempotency_key(&self) -> &str;
    fn command(self, asked: &Asked<'_>) -> Result<Command, Problem>;
}

/// One that is about a reservation, which is the answer.
pub(super) trait OfReservation: Write {
    fn reservation_id(&self) -> &str;
}

fn required(field: &'static str, at: Option<Timestamp>) -> Result<i64, Problem> {
    let missing = || {
        let detail = format!("`{field}` is missing: it must be a time");
        Problem::new(Code::StockInvalid, detail).with("pointer", format!("/{field}"))
    };
    at_us(field, at.as_ref().ok_or_else(missing)?)
}

fn at_us(field: &str, at: &Timestamp) -> Result<i64, Problem> {
    time_us(Code::StockInvalid, at, || format!("/{field}"))
}

fn or_now(field: &str, at: Option<Timestamp>, asked: &Asked<'_>) -> Result<i64, Problem> {
    at.map_or(Ok(asked.now_us), |at| at_us(field, &at))
}

fn chosen<T: TryFrom<i32> + PartialEq>(field: &str, number: i32, unspecified: &T) -> Result<T, Problem> {
    T::try_from(number).ok().filter(|value| value != unspecified).ok_or_else(|| {
        let detail = format!("`{field}` must be one of its names other than the unspecified one, not {number}");
        Problem::new(Code::StockInvalid, detail).with("pointer", format!("/{field}"))
    })
}

fn given(text: String) -> Option<compact_str::CompactString> {
    (!text.is_empty()).then(|| text.into())
}

macro_rules! writes {
    ($($message:ident, $call:literal, |$request:ident, $asked:ident| $command:expr;)+) => {
        $(impl Write for v1::$message {
            const CALL: &'static str = $call;

            fn idempotency_key(&self) -> &str {
                &self.idempotency_key
            }

            fn command(self, $asked: &Asked<'_>) -> Result<Command, Problem> {
                let $request = self;
                Ok($command)
            }
        })+
    };
}

macro_rules! of_reservation {
    ($($message:ident)+) => {
        $(impl OfReservation for v1::$message {
            fn reservation_id(&self) -> &str {
                &self.reservation_id
            }
        })+
    };
}

of_reservation! { ReserveRequest CommitRequest ReleaseRequest ExtendRequest TransferRequest AcknowledgeRequest }

writes! {
    ReserveRequest, "reserve", |request, _asked| Command::Reserve(Reserve {
        id: request.reservation_id.into(),
        owner: request.owner.into(),
        channel: request.channel.into(),
        expires_at_us: required("expires_at", request.expires_at)?,
        items: request.items.into_iter().map(item).collect(),
        allow_partial: request.allow_partial,
        allow_split: request.allow_split,
        backorder_until_us: request.backorder_until.map(|at| at_us("backorder_until", &at)).transpose()?,
        replaces: given(request.replaces_reservation_id),
        is_order: false,
    });
    CommitRequest, "commit", |request, _asked| Command::Commit { id: request.reservation_id.into() };
    ReleaseRequest, "release", |request, _asked| Command::Release {
        id: request.reservation_id.into(),
        lines: request.lines.iter().map(|of| (of.line, of.quantity)).collect(),
    };
    ExtendRequest, "extend", |request, _asked| Command::Extend {
        id: request.reservation_id.into(),
        expires_at_us: required("expires_at", request.expires_at)?,
    };
    TransferRequest, "transfer", |request, _asked| Command::Transfer {
        id: request.reservation_id.into(),
        line: request.line,
        location: request.to_location.into(),
        quantity: request.quantity,
    };
    AcknowledgeRequest, "acknowledge", |request, asked| Command::Acknowledge {
        id: request.reservation_id.into(),
        location: request.location.into(),
        at_us: or_now("acknowledged_at", request.acknowledged_at, asked)?,
    };
    ConsumeRequest, "consume", |request, asked| Command::Move(Movement::of_shipment(Movement {
        source: asked.system.into(),
        id: request.movement_id.into(),
        sku: request.sku.into(),
        location: request.location.into(),
        kind: MovementKind::Ship,
        quantity: request.quantity,
        occurred_at_us: or_now("occurred_at", request.occurred_at, asked)?,
        reservation: Some(request.reservation_id.into()),
        ..Movement::default()
    }));
    MoveRequest, "move", |request, asked| Command::Move(Movement::of_shipment(Movement {
        source: asked.system.into(),
        id: request.movement_id.into(),
        sku: request.sku.into(),
        location: request.location.into(),
        kind: chosen("kind", request.kind, &MovementKind::Unspecified)?,
        quantity: request.quantity,
        occurred_at_us: or_now("occurred_at", request.occurred_at, asked)?,
        reservation: given(request.reservation_id),
        supply: given(request.supply_id),
        also: Vec::new(),
    }));
    CountRequest, "count", |request, asked| Command::Count(Count {
        source: asked.system.into(),
        sku: request.sku.into(),
        location: request.location.into(),
        basis: chosen("basis", request.basis, &CountBasis::Unspecified)?,
        quantity: request.quantity,
        as_of_us: required("as_of", request.as_of)?,
        is_strict: false,
        is_confirmed: request.confirmed,
    });
    SetUnavailableRequest, "unavailable", |request, asked| Command::Unavailable(Unavailable {
        sku: request.sku.into(),
        location: request.location.into(),
        as_of_us: or_now("as_of", request.as_of, asked)?,
        damaged: request.damaged_quantity,
        quality_control: request.quality_control_quantity,
        blocked: request.blocked_quantity,
    });
    SetSafetyStockRequest, "safety", |request, _asked| Command::Safety {
        sku: request.sku.into(),
        location: request.location.into(),
        quantity: request.quantity,
    };
    SetSupplyRequest, "supply", |request, _asked| Command::Supply {
        supply: request.supply_id.into(),
        sku: request.sku.into(),
        location: request.location.into(),
        open: request.open_quantity,
        eta_us: required("expected_at", request.expected_at)?,
    };
    SetSkuRequest, "sku", |request, _asked| Command::Sku {
        sku: request.sku.into(),
        scale: request.scale,
        components: request.components.into_iter().map(|of| (of.sku.into(), of.quantity)).collect(),
    };
    SetPolicyRequest, "policy", |request, _asked| Command::Policy(PolicyOf {
        channel: request.channel.into(),
        sku: request.sku.into(),
        location: request.location.into(),
        locations: request.locations.map(|of| of.locations.into_iter().map(Into::into).collect()),
        fence: request.fence_quantity,
        cap: request.cap.map(|cap| (cap.quantity, cap.window_us)),
        buffer: request.buffer_quantity,
        backorder_limit: request.backorder_limit_quantity,
        priority: request.priority,
        removed: request.remove,
    });
}

fn item(item: v1::ReserveItem) -> Item {
    Item { sku: item.sku.into(), quantity: item.quantity, location: given(item.location) }
}
