use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_connect::destination::{Destination, PrepareError, Prepared, Sent};
use lockstep_core::record::{Body, DeadLettered, Fact, LetterOrigin, Record};
use lockstep_core::{Change, Event, Field, Input, InputBody, Rules};

use super::*;
use crate::delivery::DeliveryOptions;
use crate::{Hub, HubOptions};

/// A destination that takes everything.
struct Open;

#[async_trait]
impl Destination for Open {
    fn prepare(&self, event: &Event) -> Result<Option<Prepared>, PrepareError> {
        let id = event.position.to_string();
        Ok(Some(Prepared { id, body: bytes::Bytes::new(), content_type: "text/plain", trace: None, replay: None }))
    }

    async fn send(&self, _: &Prepared, _: u32) -> Sent {
        let (detail, response_head) = (String::new(), String::new());
        Sent { result: AttemptResult::Delivered, status: 200, detail, response_head, duration_us: 1 }
    }
}

/// A dead letter of another hub, of an event of an entity that is not known here.
fn foreign() -> DeadLettered {
    let fact = Fact {
        source: "wms".into(),
        system: "wms".into(),
        kind: "stock".into(),
        key: "a".into(),
        event_type: "stock.counted".into(),
        of: 1,
        ..Fact::default()
    };
    let event_record = Record::new(1, Body::Fact(Box::new(fact))).write();
    let origin = LetterOrigin { hub: "there".into(), event: 7, record: 8, event_record, ..LetterOrigin::default() };
    DeadLettered {
        destination: "erp".into(),
        kind: "stock".into(),
        key: "a".into(),
        event_type: "stock.counted".into(),
        reason: "rejected".into(),
        origin: Some(origin),
        ..DeadLettered::default()
    }
}

#[tokio::test]
async fn what_was_brought_in_does_not_say_how_far_events_were_sent() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubOptions::new(dir.path(), Rules::new())).unwrap();
    hub.add_destination("erp", Arc::new(Open), DeliveryOptions { system: "erp".into(), ..DeliveryOptions::default() });
    let handle = hub.handle();
    let crate::Imported::Opened(place) = handle.import_dead_letter(foreign()).await.unwrap() else {
        panic!("it is not known here")
    };
    let row = handle.dead_letter("erp", place).await.unwrap().unwrap();
    assert!(handle.retry_dead_letter(&row, "ops").await);
    let delivered = || handle.stats().tallies().destinations.get("erp").is_some_and(|erp| erp.delivered == 1);
    tokio::time::timeout(Duration::from_secs(60), async {
        while !delivered() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(handle.controls.sent()["erp"], 0, "no event of this hub was sent there");
    hub.shutdown().await;
}

/// A destination whose filter keeps everything back.
struct Shut;

#[async_trait]
impl Destination for Shut {
    fn prepare(&self, _: &Event) -> Result<Option<Prepared>, PrepareError> {
        Ok(None)
    }

    async fn send(&self, _: &Prepared, _: u32) -> Sent {
        unreachable!("nothing goes there")
    }
}

#[tokio::test]
async fn what_is_kept_back_was_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubOptions::new(dir.path(), Rules::new())).unwrap();
    hub.add_destination("erp", Arc::new(Shut), DeliveryOptions { system: "erp".into(), ..DeliveryOptions::default() });
    let handle = hub.handle();
    let change = Change::new("stock", "a", 0, 1, vec![Field::new("on_hand", "1".to_owned())]).unwrap();
    let input = Input {
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
    };
    handle.submit(vec![input]).await.unwrap().remove(0).unwrap();
    let filtered = || handle.stats().tallies().destinations.get("erp").is_some_and(|erp| erp.filtered == 1);
    tokio::time::timeout(Duration::from_secs(60), async {
        while !filtered() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(handle.controls.sent()["erp"], 0);
    hub.shutdown().await;
}
