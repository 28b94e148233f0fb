//! A full disk and a failed sync under the real process: writes are refused, reads go on, nothing acknowledged is
//! lost.

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use common::{Hub, folder, lockstep, until};
use serde_json::{Value, json};

fn put(hub: &Hub, id: u64) -> (u16, Value) {
    let event = json!({
        "specversion": "1.0", "id": id.to_string(), "source": "/faults", "type": "stock.counted",
        "subject": format!("stock/{}@x", id % 5), "sequence": id.to_string(),
        "data": { "on_hand": id, "note": "x".repeat(2_000) },
    });
    let authorization = format!("Bearer {}", hub.key);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/cloudevents+json")];
    let (status, answer) = hub.http("POST", "/v1/events", &headers, event.to_string().as_bytes());
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

fn on_hand(hub: &Hub, key: u64) -> Option<u64> {
    let authorization = format!("Bearer {}", hub.key);
    let path = format!("/v1/entities/stock/{key}@x");
    let (status, answer) = hub.http("GET", &path, &[("authorization", &authorization)], b"");
    if status == 404 {
        return None;
    }
    assert_eq!(status, 200, "{answer}");
    let entity: Value = serde_json::from_str(&answer).unwrap();
    Some(entity["document"]["on_hand"].as_u64().unwrap())
}

/// The newest acknowledged number of each key is what the hub says.
fn assert_kept(hub: &Hub, acknowledged: &[u64]) {
    for key in 0..5 {
        let newest = acknowledged.iter().copied().filter(|id| id % 5 == key).max();
        assert_eq!(on_hand(hub, key), newest, "key {key}");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let folder = folder("[hub]\nname = \"full\"\ndata_dir = \"disk/data\"\nflush_interval_ms = 100\n");
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    let namespace = ["--user", "--map-root-user", "--mount"];
    let mount = "mount -t tmpfs -o size=24m tmpfs disk";
    let possible =
        Command::new("unshare").args(namespace).args(["sh", "-c", mount]).current_dir(folder.path()).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        assert!(
            std::env::var_os("LOCKSTEP_REQUIRE_SERVICES").is_none(),
            "a small disk can't be mounted in a namespace"
        );
        eprintln!("skipped: a small disk can't be mounted in a namespace here");
        return;
    }
    let serve = format!(
        "{mount} && \"$0\" key create --name tests --scopes admin --system tests > tests.key && exec \"$0\" serve --listen 127.0.0.1:0"
    );
    let mut command = Command::new("unshare");
    command.args(namespace).args(["sh", "-c", &serve]).arg(lockstep().get_program());
    let hub = Hub::of(folder.path(), command);
    // The small disk as the hub sees it.
    let disk = PathBuf::from(format!("/proc/{}/root{}", hub.process(), folder.path().join("disk").display()));

    let mut acknowledged = Vec::new();
    let mut id = 0;
    for round in 0..3 {
        for _ in 0..20 {
            id += 1;
            assert_eq!(put(&hub, id).0, 200, "round {round}");
            acknowledged.push(id);
        }
        let mut filler = std::fs::File::create(disk.join("filler")).unwrap();
        while filler.write_all(&[0; 4_096]).is_ok() {}
        drop(filler);
        let refused = until("a write is refused", || {
            id += 1;
            let (status, answer) = put(&hub, id);
            if status == 200 {
                acknowledged.push(id);
                return None;
            }
            Some((status, answer))
        });
        assert_eq!((refused.0, refused.1["code"].as_str()), (503, Some("disk-full")), "{}", refused.1);
        assert_kept(&hub, &acknowledged);
        let (status, ready) = hub.http("GET", "/healthz/ready", &[], b"");
        assert_eq!(status, 503);
        assert!(ready.contains("full"), "{ready}");

        std::fs::remove_file(disk.join("filler")).unwrap();
        until("writes are accepted again", || {
            id += 1;
            let (status, _) = put(&hub, id);
            (status == 200).then(|| acknowledged.push(id))
        });
        assert_kept(&hub, &acknowledged);
        until("it is ready again", || (hub.http("GET", "/healthz/ready", &[], b"").0 == 200).then_some(()));
    }
}

#[test]
fn a_failed_sync_stops_writing_until_a_restart_and_loses_nothing() {
    let folder = folder("[hub]\nname = \"sync\"\n");
    let library = folder.path().join("fault.so");
    let source = common::write(folder.path(), "fault.c", include_str!("../../journal/tests/all/sync_fault.c"));
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).arg("-ldl").status();
    if !compiled.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("LOCKSTEP_REQUIRE_SERVICES").is_none(), "there is no C compiler `cc`");
        eprintln!("skipped: there is no C compiler `cc` here");
        return;
    }
    let trigger = folder.path().join("trigger");
    let made =
        common::run(folder.path(), &["key", "create", "--name", "tests", "--scopes", "admin", "--system", "tests"])
            .expect(0);
    common::write(folder.path(), "tests.key", &made.out);
    let mut command = lockstep();
    command.args(["serve", "--listen", "127.0.0.1:0"]).env("LD_PRELOAD", &library).env("LOCKSTEP_TEST_FAULT", &trigger);
    let hub = Hub::of(folder.path(), command);
    let acknowledged: Vec<u64> = (1..=20).collect();
    for id in &acknowledged {
        assert_eq!(put(&hub, *id).0, 200);
    }
    std::fs::write(&trigger, "sync").unwrap();
    let (status, refused) = put(&hub, 21);
    assert_eq!((status, refused["code"].as_str()), (503, Some("poisoned")), "{refused}");
    std::fs::remove_file(&trigger).unwrap();
    let (status, refused) = put(&hub, 22);
    assert_eq!((status, refused["code"].as_str()), (503, Some("poisoned")), "it never guesses: {refused}");
    assert_kept(&hub, &acknowledged);
    let (status, ready) = hub.http("GET", "/healthz/ready", &[], b"");
    assert_eq!(status, 503);
    assert!(ready.contains("poisoned"), "{ready}");
    drop(hub);

    let hub = Hub::start(folder.path());
    assert_eq!(on_hand(&hub, 0), Some(20));
    // Number 21 was never acknowledged: it may be there or not, and sent again it has one effect.
    assert!(matches!(put(&hub, 21).0, 200));
    assert_eq!(put(&hub, 26).0, 200);
    assert_eq!(on_hand(&hub, 1), Some(26));
}
