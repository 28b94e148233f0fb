//! The loop: decisions, repetitions, restarts, queries.

mod common;

use common::{input, open, options, until};
use lockstep_core::{Input, InputBody, Outcome, QuarantineReason, Raw, Refusal};
use lockstep_hub::{EventFilter, Hub, HubOptions, OpenError, QuarantineFilter, StreamItem};

#[tokio::test]
async fn a_change_is_durable_found_explained_and_published() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let answers = handle.submit(vec![input("wms", "d1", "a@x", 1, 5), input("wms", "d2", "a@x", 2, 6)]).await.unwrap();
    assert_eq!(answers[1], Ok(Outcome::Applied { position: 2, count: 1, version: 2, changed: true }));
    let entity = handle.entity("stock", "a@x").await.unwrap().unwrap();
    assert_eq!((entity.version, entity.value("on_hand").unwrap().as_ref()), (2, b"6".as_ref()));
    let (history, more) = handle.history(entity.position, 10).await.unwrap();
    assert_eq!((history.iter().map(|(p, _)| *p).collect::<Vec<_>>(), more), (vec![2, 1], 0));
    let page = handle.events(0, EventFilter::default(), 10).await.unwrap();
    assert_eq!((page.events.len(), page.next_after), (2, 2));
    assert_eq!(page.events[0].fact.event_type, "stock.counted");
    assert!(handle.entity("stock", "b@x").await.unwrap().is_none());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_repetition_after_restarts_gets_the_first_record() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        // Flushed at shutdown and not flushed at a drop: the memory of deliveries survives both.
        let hub = open(dir.path());
        let handle = hub.handle();
        let again = handle.submit(vec![input("wms", "first", "a@x", 1, 5)]).await.unwrap();
        if round == 0 {
            assert_eq!(again, [Ok(Outcome::Applied { position: 1, count: 1, version: 1, changed: true })]);
        } else {
            assert_eq!(again, [Ok(Outcome::Duplicate { of: 1 })], "round {round}");
        }
        let api = |hash| Input { reject_reuse: true, payload_hash: hash, ..input("api", "key", "b@x", 1, 5) };
        let answer = handle.submit(vec![api(1)]).await.unwrap().remove(0);
        assert!(answer.is_ok());
        let reused = handle.submit(vec![api(2)]).await.unwrap().remove(0);
        assert_eq!(reused, Err(Refusal::KeyReused { key: "key".into(), of: 2 }));
        hub.shutdown().await;
    }
}

#[tokio::test]
async fn many_deliveries_are_remembered_over_many_flushes() {
    let dir = tempfile::tempdir().unwrap();
    // Every few records a flush, so that runs are made and merged.
    let small = || HubOptions { flush_records_max: 50, cache_bytes_max: 20_000, ..options(dir.path()) };
    let hub = Hub::open(small()).unwrap();
    let handle = hub.handle();
    for n in 0..600_u64 {
        let inputs = (0..5)
            .map(|k| input("wms", &format!("{n}-{k}"), &format!("{}@x", (n * 5 + k) % 700), n as i64, n))
            .collect();
        handle.submit(inputs).await.unwrap();
        if n % 20 == 0 {
            until("flushed", || handle.stats().flushed.load(std::sync::atomic::Ordering::Relaxed) + 500 > n * 5).await;
        }
    }
    hub.shutdown().await;
    let hub = Hub::open(small()).unwrap();
    let handle = hub.handle();
    for n in (0..600_u64).step_by(7) {
        let answer = handle.submit(vec![input("wms", &format!("{n}-3"), "zzz@x", 1, n)]).await.unwrap().remove(0);
        assert_eq!(answer, Ok(Outcome::Duplicate { of: n * 5 + 4 }));
    }
    let mut keys: Vec<String> = Vec::new();
    loop {
        let after = keys.last().cloned().unwrap_or_default();
        let page = handle.entities("stock", &after, 100).await.unwrap();
        keys.extend(page.items.iter().map(|e| e.key.to_string()));
        if !page.more {
            break;
        }
    }
    assert_eq!(keys.len(), 700, "the list has every entity once");
    assert!(keys.is_sorted());
    let tallies = handle.stats().tallies();
    assert_eq!(tallies.violations(), Vec::<String>::new());
    hub.shutdown().await;
}

#[tokio::test]
async fn quarantine_is_listed_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    let raw = Raw { topic: "orders/create".into(), headers: vec![], body: "{}".into() };
    let reason = QuarantineReason { code: "schema".into(), detail: "wrong".into(), at: "/total".into() };
    let held = Input { body: InputBody::Quarantine(reason), raw: Some(raw), ..input("shop", "d1", "a", 1, 1) };
    let answer = handle.submit(vec![held.clone()]).await.unwrap().remove(0);
    assert_eq!(answer, Ok(Outcome::Quarantined { position: 1 }));
    let again = handle.submit(vec![held]).await.unwrap().remove(0);
    assert_eq!(again, Ok(Outcome::Duplicate { of: 1 }));
    let filter = || QuarantineFilter { limit: 10, ..QuarantineFilter::default() };
    assert_eq!(handle.quarantine(filter()).await.unwrap().items.len(), 1);
    hub.shutdown().await;

    let hub = open(dir.path());
    let handle = hub.handle();
    let rows = handle.quarantine(filter()).await.unwrap().items;
    assert_eq!((rows[0].position, rows[0].at.as_str()), (1, "/total"));
    let released = Input { releases: Some(1), ..input("shop", "d1", "a", 1, 1) };
    let answers = handle.submit(vec![released.clone(), released.clone()]).await.unwrap();
    assert!(matches!(answers[0], Ok(Outcome::Applied { .. })));
    assert_eq!(answers[1], Err(Refusal::Released { position: 1 }), "in the same batch");
    assert_eq!(handle.submit(vec![released]).await.unwrap(), [Err(Refusal::Released { position: 1 })]);
    assert!(handle.quarantine(filter()).await.unwrap().items.is_empty());
    hub.shutdown().await;
    let hub = open(dir.path());
    assert!(hub.handle().quarantine(filter()).await.unwrap().items.is_empty());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_stream_gives_what_is_there_and_then_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::open(HubOptions { tail_bytes_max: 1, ..options(dir.path()) }).unwrap();
    let handle = hub.handle();
    for n in 0..50 {
        handle.submit(vec![input("wms", &format!("a{n}"), "a@x", n, n as u64)]).await.unwrap();
    }
    let mut stream = handle.stream(10);
    let mut seen = Vec::new();
    let mut sent = 50;
    while seen.len() < 60 {
        let StreamItem::Events(events) = stream.next().await.unwrap();
        seen.extend(events.into_iter().map(|e| e.position));
        if sent < 70 {
            handle.submit(vec![input("wms", &format!("a{sent}"), "a@x", sent, sent as u64)]).await.unwrap();
            sent += 1;
        }
    }
    assert_eq!(seen, (11..=70).collect::<Vec<u64>>());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_folder_in_use_is_refused_and_a_lost_state_file_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    let handle = hub.handle();
    for n in 0..100_u64 {
        handle.submit(vec![input("wms", &n.to_string(), &format!("{}@x", n % 7), n as i64, n)]).await.unwrap();
    }
    assert!(matches!(Hub::open(options(dir.path())), Err(OpenError::InUse(_))));
    until("counted", || handle.stats().tallies().published == 100).await;
    let before = handle.stats().tallies();
    hub.shutdown().await;
    for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] {
        let _ = std::fs::remove_file(dir.path().join(name));
    }
    let hub = open(dir.path());
    let handle = hub.handle();
    assert_eq!(handle.entity("stock", "3@x").await.unwrap().unwrap().value("on_hand").unwrap().as_ref(), b"94");
    assert_eq!(handle.stats().tallies(), before);
    assert_eq!(handle.submit(vec![input("wms", "5", "5@x", 1, 5)]).await.unwrap(), [Ok(Outcome::Duplicate { of: 6 })]);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_journal_that_lost_acknowledged_records_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.handle().submit(vec![input("wms", "1", "a@x", 1, 1)]).await.unwrap();
    hub.shutdown().await;
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let refused = Hub::open(options(dir.path()));
    assert!(matches!(refused, Err(OpenError::JournalBehind { journal_end: 0, state: 1 })), "{:?}", refused.err());
}

/// A round that was cut off leaves entities that are newer than what the file stands for.
#[tokio::test]
async fn a_journal_that_ends_before_anything_in_the_state_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let hub = open(dir.path());
    hub.handle().submit(vec![input("wms", "1", "a@x", 1, 1)]).await.unwrap();
    hub.shutdown().await;
    let file = rusqlite::Connection::open(dir.path().join("state.sqlite")).unwrap();
    file.execute("UPDATE meta SET value = ?1 WHERE key = 'reached'", [2_i64.to_le_bytes()]).unwrap();
    drop(file);
    let refused = Hub::open(options(dir.path()));
    assert!(matches!(refused, Err(OpenError::JournalBehind { journal_end: 1, state: 2 })), "{:?}", refused.err());
}
