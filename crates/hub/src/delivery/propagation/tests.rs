use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::record::Fact;
use lockstep_core::{Change, Event, Field, Input, InputBody, Rules, entity_id};

use super::*;
use crate::delivery::DeliveryOptions;
use crate::{Hub, HubOptions};

/// A destination that never answers.
struct Silent;

#[async_trait]
impl Destination for Silent {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let id = event.position.to_string();
        Ok(Some(Prepared { id, body: bytes::Bytes::new(), content_type: "text/plain", trace: None, replay: None }))
    }

    async fn send(&self, _: &Prepared, _: u32) -> Sent {
        std::future::pending().await
    }
}

fn input() -> Input {
    let change = Change::new("stock", "a", 0, 1, vec![Field::new("on_hand", "1".to_owned())]).unwrap();
    Input {
        source: "wms".into(),
        system: "wms".into(),
        delivery: "1".into(),
        payload_hash: 1,
        reject_reuse: false,
        request_key: None,
        received_at_us: crate::now_us(),
        trace: None,
        raw: None,
        body: InputBody::Changes(vec![change]),
        releases: None,
    }
}

#[tokio::test]
async fn what_was_given_up_and_is_not_in_the_journal_yet_is_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubOptions::new(dir.path(), Rules::new())).unwrap();
    hub.add_destination("erp", Arc::new(Silent), DeliveryOptions::default());
    let handle = hub.handle();
    let answers = handle.submit(vec![input()]).await.unwrap();
    let Ok(lockstep_core::Outcome::Applied { position, .. }) = answers[0] else { panic!("{answers:?}") };
    // As its runner says it, a moment before the loop has heard of it.
    let (health, _) = handle.controls.health("erp").unwrap();
    health.board.ended(&entity_id("stock", "a"), position, End::Dead);
    let reached = handle.until_delivered(&[position], &["erp".to_owned()], Duration::from_secs(60)).await.unwrap();
    assert_eq!(reached.missing, 1);
    assert_eq!(reached.unreached[0].at.standing, Standing::Settled);
}

#[tokio::test]
async fn whether_something_newer_of_the_ledger_has_arrived_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubOptions::new(dir.path(), Rules::new())).unwrap();
    let handle = hub.handle();
    for (kind, event_type, expected) in [
        ("stock", "stock.counted", None),
        ("availability", "availability.changed", None),
        // A document of which nothing is known can't have a newer one.
        ("stock", "stock.changed", Some(false)),
        ("price", "price.changed", Some(false)),
    ] {
        let fact = Fact { kind: kind.into(), key: "a@1".into(), event_type: event_type.into(), ..Fact::default() };
        let event = Event { position: 1, recorded_at_us: 1, fact: Box::new(fact), replay: None };
        assert_eq!(handle.newer_arrived("erp", &event).await.unwrap(), expected, "{event_type}");
    }
    hub.shutdown().await;
}
