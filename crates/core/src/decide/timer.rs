//! Timers: what the hub itself has to say of an entity at an instant, unless something else happens before.
//!
//! Which timers an entity has follows from its state alone, so the index of them is folded like everything else, and a
//! timer that is due comes back as an ordinary input. What it says ends it: saying so and ending are one record.

use serde_json::Value;

use super::Facts;
use super::HUB;
use super::order::{has_gone_through, order_of_entity, text};
use crate::change::{Change, Field, Input, InputBody};
use crate::entity::Entity;
use crate::json::Json;
use crate::record::Fact;
use crate::time::rfc3339_us;
use crate::{EntityId, Position, entity_id};

const PAYMENT_KIND: &str = "payment";
const KIND_FIELD: &str = "kind";
const EXPIRES_FIELD: &str = "auth_expires_at";
/// For which `auth_expires_at` the hub has said that it is over.
const EXPIRED_FIELD: &str = "auth_expired_at";

/// What a timer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerKind {
    /// An authorization can't be captured any more: `auth_expires_at` of a payment.
    AuthorizationExpires,
}

/// A timer of an entity. The order is that in which they are due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When it is due, microseconds since 1970 UTC.
    pub due_us: i64,
    /// What it is about.
    pub kind: TimerKind,
    /// The entity's id.
    pub id: String,
}

impl TimerKind {
    /// All kinds.
    pub const ALL: [Self; 1] = [Self::AuthorizationExpires];

    /// Its stable name, by which it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::AuthorizationExpires => "authorization-expires",
        }
    }

    /// The kind of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of the entities that have such timers.
    pub fn entity_kind(self) -> &'static str {
        match self {
            Self::AuthorizationExpires => PAYMENT_KIND,
        }
    }

    /// When an entity's timer of this kind is due; `None` where it has none.
    pub fn due_us(self, entity: &Entity) -> Option<i64> {
        match self {
            Self::AuthorizationExpires => expires_us(entity),
        }
    }
}

/// When an authorization ends that stands and of which nobody has said yet that it has ended.
fn expires_us(payment: &Entity) -> Option<i64> {
    let expires = payment.value(EXPIRES_FIELD)?;
    let stands = payment.value(KIND_FIELD).is_some_and(|json| json == "\"auth\"") && !payment.is_deleted();
    if !stands || hub_says(payment, EXPIRED_FIELD) == Some(expires) {
        return None;
    }
    if let Some(status) = payment.value("status")
        && !has_gone_through(&serde_json::json!({ "status": serde_json::from_slice::<Value>(status).ok()? }))
    {
        return None;
    }
    rfc3339_us(&serde_json::from_slice::<String>(expires).ok()?)
}

/// What the hub itself says of a field.
fn hub_says<'a>(entity: &'a Entity, field: &str) -> Option<&'a Json> {
    let claims = &entity.field(field)?.claims;
    claims.iter().find(|c| entity.system(c.system) == HUB).map(|c| &c.json).filter(|json| !json.is_empty())
}

/// The id of the entity that a timer's word depends on, beside its own.
pub fn depends_on(entity: &Entity) -> Option<EntityId> {
    order_of_entity(entity)
}

/// What a due timer has to say, as an input that follows record `next - 1`. `None` where there is nothing to say (any
/// more): then the timer may be forgotten.
pub fn input(timer: &Timer, entity: &Entity, order: Option<&Entity>, next: Position, now_us: i64) -> Option<Input> {
    let due_us = timer.kind.due_us(entity).filter(|due_us| *due_us == timer.due_us)?;
    let change = match timer.kind {
        TimerKind::AuthorizationExpires => {
            if order.is_some_and(|order| is_used(order, &entity.key)) {
                return None;
            }
            let fields = vec![
                Field::new(KIND_FIELD, "\"auth_expired\""),
                Field::new(EXPIRED_FIELD, entity.value(EXPIRES_FIELD)?.to_bytes()),
            ];
            // An authorization that was told of after its end has ended all the same.
            let told_us = entity.stamps[entity.field(KIND_FIELD)?.winning()?.start].occurred_at_us;
            let at_us = due_us.max(told_us.saturating_add(1));
            Change::new(entity.kind.as_str(), entity.key.as_str(), next, at_us, fields).ok()?
        }
    };
    // The entity's record makes it another one each time: what ends a timer is the word itself, not its being known.
    let delivery = format!("{}|{}|{due_us}|{}", timer.kind.name(), timer.id, entity.position);
    Some(Input {
        source: HUB.to_owned(),
        system: HUB.to_owned(),
        payload_hash: crate::payload_hash(delivery.as_bytes()),
        delivery,
        reject_reuse: false,
        request_key: None,
        received_at_us: now_us,
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![change]),
        releases: None,
    })
}

/// Whether an authorization was captured or given back: it is over, but did not expire.
fn is_used(order: &Entity, key: &str) -> bool {
    let payments = order.fields.iter().filter(|f| f.name.starts_with("payments[") && f.name != "payments[]");
    let payments = payments.filter_map(|f| serde_json::from_slice::<Value>(f.value()?).ok());
    let uses = |p: &Value| text(p, "parent") == key && ["capture", "void"].contains(&text(p, KIND_FIELD).as_str());
    payments.into_iter().any(|payment| uses(&payment) && has_gone_through(&payment))
}

/// Takes back that an authorization has expired, where it was prolonged: its new end counts from now on. `position` is
/// the record that this follows.
pub(super) fn taken_back(facts: &Facts, fact: &Fact) -> Option<Change> {
    if fact.kind != PAYMENT_KIND {
        return None;
    }
    let entity = facts.entities.get(&entity_id(&fact.kind, &fact.key)).filter(|entity| !entity.is_deleted())?;
    let position = facts.next;
    let said = hub_says(entity, EXPIRED_FIELD)?;
    let expires = entity.value(EXPIRES_FIELD)?;
    if said == expires {
        return None;
    }
    let at_us = entity.stamps[entity.field(EXPIRES_FIELD)?.winning()?.start].occurred_at_us;
    let empty = |name: &str| Field::new(name, bytes::Bytes::new());
    let fields = vec![empty(EXPIRED_FIELD), empty(KIND_FIELD)];
    Change::new(entity.kind.as_str(), entity.key.as_str(), position, at_us, fields).ok()
}
