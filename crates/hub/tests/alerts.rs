//! An alert follows from what is seen; what can't be read is no reason to end it.

mod common;

use common::{Scripted, input, looked, looks, open};
use lockstep_core::alert::{Status, Timing};
use lockstep_core::delivery::AttemptResult;
use lockstep_hub::delivery::{DeliveryOptions, Start};
use lockstep_hub::{AlertRule, EventFilter, Figure, HubHandle, OversightOptions};

async fn lag(handle: &HubHandle) -> Status {
    let all = handle.alerts().await.unwrap();
    all.iter().find(|row| row.rule == "lag").map(|row| row.alert.status).unwrap_or_default()
}

#[tokio::test]
async fn an_alert_stands_while_its_figure_can_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    // One that has no room takes nothing up: how far it is behind is read from the journal.
    let options = DeliveryOptions { start: Start::Beginning, window_events_max: 0, ..DeliveryOptions::default() };
    hub.add_destination("erp", Scripted::new(|_, _| AttemptResult::Delivered), options);
    handle.submit(vec![input("wms", "1", "A", 1, 1)]).await.unwrap();
    let rule =
        AlertRule { name: "lag".to_owned(), figure: Figure::LagS, above: 0.0, timing: Timing::default(), ..looks() };
    hub.oversee(OversightOptions { rules: vec![looks(), rule], interval_ms: 5, ..OversightOptions::default() });
    looked(&handle).await;
    assert_eq!(lag(&handle).await, Status::Open);

    // Everything that follows the cursor is of no use.
    let mut files = std::fs::read_dir(dir.path().join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.find(|path| path.extension().is_some_and(|ending| ending == "journal")).unwrap();
    let file = rusqlite::Connection::open(segment).unwrap();
    file.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    let damage = |by: i64| file.execute("UPDATE batch SET checksum = checksum + ?1 WHERE first <= 2", [by]).unwrap();
    assert!(damage(1) > 0);
    assert!(handle.flow("erp").await.is_err());
    looked(&handle).await;
    assert_eq!(lag(&handle).await, Status::Open, "nobody knows that it is over");
    damage(-1);
    assert!(handle.flow("erp").await.is_ok());
    looked(&handle).await;
    assert_eq!(lag(&handle).await, Status::Open);
    let filter = EventFilter { kind: Some("alert".into()), key: Some("lag/erp".into()), ..EventFilter::default() };
    let told = handle.events(0, filter, 100).await.unwrap().events;
    assert_eq!(told.iter().map(|event| event.fact.event_type.as_str()).collect::<Vec<_>>(), ["alert.opened"]);
    hub.shutdown().await;
}
