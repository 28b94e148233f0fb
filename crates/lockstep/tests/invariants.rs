//! The invariants of stock with the real binary: what a running hub says of them, and what `invariants check` finds in a
//! data folder that somebody has broken.

mod common;

use std::path::Path;

use common::{Hub, folder, run, until};

const CONFIG: &str = "[hub]\nname = \"stock\"\ndata_dir = \"data\"\n";

fn stop(hub: Hub) -> String {
    hub.signal("TERM");
    let (code, logs) = hub.ended();
    assert_eq!(code, 0, "{logs}");
    logs
}

/// Some stock, a reservation that is open, one that is over, and an order.
fn filled(folder: &Path) {
    let hub = Hub::start(folder);
    hub.ask(&["stock", "count", "MUG", "berlin", "10"]).expect(0);
    hub.ask(&["stock", "move", "MUG", "berlin", "receipt", "2"]).expect(0);
    hub.ask(&["reserve", "MUG=4", "--channel", "web", "--id", "cart-7", "--expires", "1h"]).expect(0);
    hub.ask(&["reserve", "MUG=3", "--channel", "web", "--id", "cart-8", "--expires", "1h"]).expect(0);
    hub.ask(&["commit", "cart-8"]).expect(0);
    hub.ask(&["stock", "move", "MUG", "berlin", "ship", "3", "--reservation", "cart-8"]).expect(0);
    let key = hub.key.clone();
    assert_eq!(hub.set(&key, "order/web:1", "o-1", r#"{"note": "x"}"#).0, 200);
    let ready = hub.http("GET", "/healthz/ready", &[], b"");
    assert_eq!((ready.0, ready.1.contains("invariant")), (200, false), "{}", ready.1);
    let open = run(folder, &["invariants", "check"]).expect(2);
    assert!(open.err.contains("in use"), "{}", open.err);
    stop(hub);
}

/// Changes an image in the state file as no hub would.
fn patch(folder: &Path, table: &str, find: &[u8], with: &[u8]) {
    let file = rusqlite::Connection::open(folder.join("data/state.sqlite")).unwrap();
    let rows: Vec<(i64, Vec<u8>)> = file
        .prepare(&format!("SELECT rowid, image FROM {table}"))
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut patched = 0;
    for (row, mut image) in rows {
        if let Some(at) = image.windows(find.len()).position(|part| part == find) {
            image.splice(at..at + find.len(), with.iter().copied());
            patched += file.execute(&format!("UPDATE {table} SET image = ?1 WHERE rowid = ?2"), (image, row)).unwrap();
        }
    }
    assert_eq!(patched, 1, "the image was not found");
}

/// Where it lies, and how much: 9 on hand is 18 in zigzag.
const NINE: &[u8] = b"berlin\x10\x01\x18\x12";
const FIFTEEN: &[u8] = b"berlin\x10\x01\x18\x1e";

#[test]
fn a_folder_that_is_whole_passes() {
    let folder = folder(CONFIG);
    filled(folder.path());
    let checked = run(folder.path(), &["invariants", "check"]).expect(0).out;
    assert!(checked.contains(" 1 SKUs, 2 reservations, 1 orders\n"), "{checked}");
    assert!(checked.ends_with("every invariant holds\n"), "{checked}");
    let json = run(folder.path(), &["invariants", "check", "--json"]).expect(0).json();
    assert_eq!((&json["whole"], &json["checked"]["reservations"]), (&true.into(), &2.into()), "{json}");
    // The state is looked at as well as made anew.
    for file in std::fs::read_dir(folder.path().join("data")).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap().to_string_lossy().starts_with("state.sqlite") {
            std::fs::remove_file(file).unwrap();
        }
    }
    run(folder.path(), &["invariants", "check"]).expect(0);
    let nowhere = run(folder.path(), &["invariants", "check", "--data-dir", "nowhere"]).expect(2);
    assert!(nowhere.err.contains("nowhere"), "{}", nowhere.err);
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn what_is_broken_is_found_by_the_command_and_by_a_running_hub() {
    let folder = folder(CONFIG);
    filled(folder.path());
    patch(folder.path(), "stock_sku", NINE, FIFTEEN);
    let found = run(folder.path(), &["invariants", "check"]).expect(1).out;
    assert!(found.contains("invariant 2: MUG@berlin: 15 on hand is not 10 + -1"), "{found}");
    assert!(found.contains("invariant 2: MUG@berlin: 15 on hand, and its last record says 9"), "{found}");
    assert!(found.contains("invariant 2: MUG@berlin: on hand 15, and the journal says 9"), "{found}");
    assert!(found.ends_with("3 violations\n"), "{found}");
    let json = run(folder.path(), &["invariants", "check", "--json"]).expect(1).json_lines();
    assert_eq!((json.len(), &json[3]["violations"]["2"]), (4, &3.into()));

    let hub = Hub::start(folder.path());
    let ready = until("the hub has found it", || {
        let (status, ready) = hub.http("GET", "/healthz/ready", &[], b"");
        // It goes on: every other SKU can be sold.
        assert_eq!(status, 200, "{ready}");
        ready.contains("invariant 2 of stock").then_some(ready)
    });
    assert!(ready.contains("is broken 1 times, first: MUG@berlin: 15 on hand is not 10 + -1"), "{ready}");
    let key = format!("Bearer {}", hub.key);
    let metrics = hub.http("GET", "/metrics", &[("authorization", &key)], b"").1;
    assert!(metrics.contains("lockstep_invariant_violations{invariant=\"2\"} 1\n"), "{metrics}");
    assert!(metrics.contains("lockstep_invariant_violations{invariant=\"1\"} 0\n"), "{metrics}");
    // Touched and looked at again, it is still one, and logged once. A count says what is there, and it is whole again.
    hub.ask(&["stock", "move", "MUG", "berlin", "receipt", "1"]).expect(0);
    hub.ask(&["stock", "count", "MUG", "berlin", "12"]).expect(0);
    until("it is whole again", || (!hub.http("GET", "/healthz/ready", &[], b"").1.contains("invariant")).then_some(()));
    let logs = stop(hub);
    assert_eq!(logs.matches("an invariant of stock is broken").count(), 1, "{logs}");
    assert_eq!(logs.matches("the invariants hold again").count(), 1, "{logs}");
}

#[test]
fn a_lost_write_and_a_reservation_that_is_wrong_are_found() {
    let folder = folder(CONFIG);
    filled(folder.path());
    // As if an older state had come back: a line of 4 that was one of 3.
    patch(folder.path(), "stock_reservation", b"berlin\x28\x04\x30\x04", b"berlin\x28\x03\x30\x03");
    let found = run(folder.path(), &["invariants", "check"]).expect(1).out;
    let line = "invariant 3: line 0 of cart-7: open 3 of 3 MUG@berlin, and the journal says open 4 of 4 MUG@berlin";
    assert!(found.contains(line), "{found}");
    assert!(found.contains("invariant 1: MUG@berlin: held 3, and the journal says 4"), "{found}");
}
