//! What the hub says itself: documents of kinds of its own, and how they are read again.

use bytes::Bytes;
use lockstep_core::decide::HUB;
use lockstep_core::{Change, Entity, Field, Input, InputBody};
use serde_json::Value;

use crate::failure::Unavailable;
use crate::handle::HubHandle;
use crate::stats::now_us;

/// How many documents are read at a time.
const STEP: usize = 500;

/// Says what a document of the hub's own is from now on.
pub(crate) async fn say(hub: &HubHandle, kind: &str, key: &str, fields: Vec<(&str, Value)>) -> Result<(), Unavailable> {
    let now_us = now_us();
    // What was said before may be of a clock that was set back since.
    let last_us = match hub.entity(kind, key).await? {
        Some(known) => known.updated_at_us,
        None => i64::MIN,
    };
    let occurred_at_us = now_us.max(last_us.saturating_add(1));
    let field = |(name, value): (&str, Value)| Field::new(name, Bytes::from(value.to_string()));
    let mut fields: Vec<Field> = fields.into_iter().map(field).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    let change =
        Change { kind: kind.into(), key: key.into(), sequence: 0, occurred_at_us, fields, expected_version: None };
    let delivery = format!("{kind}|{key}|{occurred_at_us}");
    let input = Input {
        source: HUB.to_owned(),
        system: HUB.to_owned(),
        payload_hash: lockstep_core::payload_hash(delivery.as_bytes()),
        delivery,
        reject_reuse: false,
        request_key: None,
        received_at_us: now_us,
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![change]),
        releases: None,
    };
    for answer in hub.submit(vec![input]).await? {
        if let Err(refusal) = answer {
            tracing::error!(kind, key, %refusal, "what the hub says of itself was refused");
        }
    }
    Ok(())
}

/// All documents of a kind of the hub's own.
pub(super) async fn all(hub: &HubHandle, kind: &str) -> Result<Vec<std::sync::Arc<Entity>>, Unavailable> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = hub.entities(kind, &after, STEP).await?;
        all.extend(page.items.iter().filter(|entity| !entity.is_deleted()).cloned());
        match page.items.last() {
            Some(last) if page.more => after = last.key.to_string(),
            _ => return Ok(all),
        }
    }
}

/// The value of a field.
pub(crate) fn value(entity: &Entity, field: &str) -> Value {
    entity.value(field).and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default()
}

/// The text of a field; empty where there is none.
pub(crate) fn text(entity: &Entity, field: &str) -> String {
    value(entity, field).as_str().unwrap_or_default().to_owned()
}
