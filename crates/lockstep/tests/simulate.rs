//! `lockstep simulate` with the real binary, beside a running hub and without one.

mod common;

use common::{Hub, folder, run, write};

fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn a_sale_is_tried_and_nothing_is_taken() {
    let folder = folder("[hub]\nname = \"stock\"\n");
    let hub = Hub::start(folder.path());
    hub.ask(&["stock", "count", "MUG", "berlin", "5"]).expect(0);
    hub.ask(&["stock", "count", "TEE", "berlin", "2"]).expect(0);
    hub.ask(&["stock", "count", "TEE", "hamburg", "2"]).expect(0);
    hub.ask(&["reserve", "MUG=1", "--channel", "web", "--id", "before", "--expires", "1h"]).expect(0);
    let csv = "reservation,sku,quantity,location\na,MUG,2,\na,TEE,1,hamburg\nb,MUG,3,\nb,TEE,1,\nc,TEE,2,berlin\n";
    write(folder.path(), "sale.csv", csv);
    let before = hub.get("/v1/stock/MUG/berlin");

    let tried = run(folder.path(), &["simulate", "sale.csv", "--channel", "web", "--all"]).expect(1).out;
    let rows: Vec<Vec<&str>> = tried.lines().map(cells).collect();
    assert_eq!(rows[1], ["a", "0", "MUG", "2", "2", "0", "0", "2 berlin"], "{tried}");
    assert_eq!(rows[2], ["a", "1", "TEE", "1", "1", "0", "0", "1 hamburg"]);
    // 4 are left before it, 2 after the first.
    assert_eq!(rows[3], ["b", "0", "MUG", "3", "0", "0", "1"]);
    assert_eq!(rows[4], ["b", "1", "TEE", "1", "0", "0", "0"]);
    assert_eq!(rows[5], ["not taken: another item of the request falls short"]);
    assert_eq!(rows[6], ["c", "0", "TEE", "2", "2", "0", "0", "2 berlin"]);
    assert_eq!(rows[9], ["MUG", "web", "5", "2", "0", "3", "2"], "{tried}");
    assert_eq!(rows[10], ["TEE", "web", "4", "3", "0", "1", "1"]);
    assert!(tried.contains("2 of 3 would be reserved whole, 2 items fall short; as of record "), "{tried}");
    let short = run(folder.path(), &["simulate", "sale.csv", "--channel", "web"]).expect(1).out;
    assert!(!short.contains("hamburg"), "{short}");

    let part = ["simulate", "sale.csv", "--channel", "web", "--allow-partial", "--json"];
    let lines = run(folder.path(), &part).expect(1).json_lines();
    assert_eq!((&lines[2]["taken"], &lines[2]["short"], &lines[3]["taken"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(lines.last().unwrap()["type"], "summary");
    assert_eq!(hub.get("/v1/stock/MUG/berlin")["terms"], before["terms"], "nothing is taken");
    let unknown = run(folder.path(), &["simulate", "sale.csv"]).expect(2);
    assert!(unknown.err.contains("names no channel"), "{}", unknown.err);

    // Killed, and read as it is: what the hub would answer is what was tried.
    drop(hub);
    let one = r#"[{"id": "d", "owner": "d", "channel": "web", "items": [{"sku": "MUG", "quantity": 4}]},
        {"id": "before", "owner": "before", "channel": "web", "items": [{"sku": "MUG", "quantity": 1}]}]"#;
    write(folder.path(), "one.json", one);
    let fits = run(folder.path(), &["simulate", "one.json", "--json"]).expect(0).json_lines();
    assert_eq!((&fits[0]["locations"]["berlin"], &fits[1]["refused"]), (&4.into(), &"it was reserved before".into()));
    let hub = Hub::start(folder.path());
    hub.ask(&["reserve", "MUG=4", "--channel", "web", "--id", "d", "--owner", "d"]).expect(0);
    run(folder.path(), &["simulate", "nothing.json"]).expect(2);
}
