//! `lockstep whatif` beside a running hub and on the folder of one that has ended.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Hub, folder, lockstep, run, until, write};
use serde_json::{Value, json};

/// The shop's own mapping; `TOTAL` is where it takes the total from.
const ORDERS: &str = r#"{
  "kind": "order", "key": "web:" + to_string!(.id), "occurred_at": .updated_at,
  "fields": { "number": string!(.name), "total": { "minor": int!(.TOTAL), "currency": "EUR" } }
}
"#;

const SOURCE: &str = "\
[hub]
# The shop of these tests has a clock of its own.
clock_skew_max_s = 0

[systems.erp]

[sources.shop]
system = \"shop\"
mapping = \"maps/MAP.vrl\"
topic_header = \"x-topic\"
delivery_id_header = \"x-webhook-id\"
secrets = [\"env:SHOP_SECRET\"]
signature = { scheme = \"shopify\" }
";

fn config(map: &str, domains: &str) -> String {
    format!("{domains}{}", SOURCE.replace("MAP", map))
}

/// A folder with a hub's configuration and with others beside it.
fn hub_folder() -> tempfile::TempDir {
    let folder = folder(&config("shop", ""));
    let path = folder.path();
    write(path, "maps/shop.vrl", &ORDERS.replace("TOTAL", "gross"));
    write(path, "maps/net.vrl", &ORDERS.replace("TOTAL", "net"));
    write(path, "maps/broken.vrl", &ORDERS.replace("TOTAL", "missing"));
    let erp = "[domains.order.fields.total]\npolicy = \"owner\"\nowner = [\"erp\"]\n\n";
    write(path, "net.toml", &config("net", ""));
    write(path, "owner.toml", &config("shop", erp));
    write(path, "broken.toml", &config("broken", ""));
    folder
}

fn deliver(hub: &Hub, id: u64, gross: i64, updated: &str) {
    let body = json!({ "id": id, "name": format!("#{id}"), "gross": gross, "net": gross - 19, "updated_at": updated });
    let delivery = format!("{id}-{updated}");
    let (status, answer) = hub.deliver("shop", &[("x-topic", "order"), ("x-webhook-id", &delivery)], &body.to_string());
    assert_eq!((status, &answer["outcome"]), (200, &json!("applied")), "{answer}");
}

/// A hub with two orders from the shop, one total from the ERP and one delivery in quarantine.
fn started(folder: &Path) -> (Hub, String) {
    let hub = Hub::start(folder);
    let erp = run(folder, &["key", "create", "--name", "erp", "--scopes", "write", "--system", "erp"]).expect(0);
    let erp = erp.out.trim().to_owned();
    let (status, answer) = hub.set(&erp, "order/web:1", "r-1", r#"{"total":{"currency":"EUR","minor":500}}"#);
    assert_eq!(status, 200, "{answer}");
    // Later by the shop's clock than the ERP's write by the hub's.
    deliver(&hub, 1, 1099, "2999-05-01T10:00:00Z");
    deliver(&hub, 2, 2000, "2024-05-01T10:00:00Z");
    let (_, answer) = hub.deliver("shop", &[("x-webhook-id", "q")], r##"{"id":3,"name":"#3","net":81}"##);
    assert_eq!(answer["outcome"], "quarantined", "{answer}");
    (hub, erp)
}

/// What there is, by `type`.
fn by_type(lines: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut types: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in lines {
        types.entry(line["type"].as_str().unwrap().to_owned()).or_default().push(line);
    }
    types
}

fn eur(minor: i64) -> Value {
    json!({ "currency": "EUR", "minor": minor })
}

fn only(value: Value) -> Value {
    json!({ "value": value, "winner": "shop", "rule": "only" })
}

#[test]
fn the_same_configuration_makes_no_difference_beside_a_live_hub() {
    let folder = hub_folder();
    let (hub, _) = started(folder.path());
    let same = run(folder.path(), &["whatif", "--from", "1", "--json"]).expect(0);
    let summary = same.json();
    let number = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!((summary["type"].as_str(), summary["different"].as_bool()), (Some("summary"), Some(false)));
    assert_eq!((number("records"), number("translated"), number("without_raw")), (4, 3, 1));
    assert_eq!((number("entities_compared"), number("entities_different")), (2, 0));
    let text = run(folder.path(), &["whatif", "--from", "1"]).expect(0);
    let expected = "\
4 records from 1 to 4: 3 deliveries translated again, 1 without raw input taken as recorded
2 entities compared: 0 different, of them 0 added and 0 removed
nothing would be different
";
    assert_eq!((text.out.as_str(), text.err.as_str()), (expected, ""));
    // The secrets need not be there.
    let elsewhere =
        lockstep().current_dir(folder.path()).env_remove("SHOP_SECRET").args(["whatif", "--from", "1"]).output();
    assert!(elsewhere.unwrap().status.success());
    drop(hub);
}

#[test]
fn a_changed_mapping_a_changed_owner_and_a_broken_mapping_are_told_exactly() {
    let folder = hub_folder();
    let (hub, _) = started(folder.path());
    let ask =
        |args: &[&str]| by_type(run(folder.path(), &[&["whatif", "--json"], args].concat()).expect(1).json_lines());

    let net = ask(&["--config", "net.toml", "--from", "1"]);
    let changed = |key: &str, minor: i64, winner: &str, rule: &str| {
        let said = |minor| json!({ "value": eur(minor), "winner": winner, "rule": rule });
        json!({ "type": "entity", "kind": "order", "key": key, "change": "changed",
            "fields": [{ "field": "total", "now": said(minor), "what_if": said(minor - 19) }] })
    };
    let added = json!({ "type": "entity", "kind": "order", "key": "web:3", "change": "added", "fields": [
        { "field": "number", "now": null, "what_if": only(json!("#3")) },
        { "field": "total", "now": null, "what_if": only(eur(81)) },
    ]});
    let expected = [changed("web:1", 1099, "shop", "latest"), changed("web:2", 2000, "shop", "only"), added];
    assert_eq!(net["entity"], expected);
    let understood = json!({ "type": "newly-understood", "position": 4, "source": "shop", "delivery": "q",
        "code": "mapping-failed", "changes": 1 });
    assert_eq!(net["newly-understood"], [understood]);
    let summary = &net["summary"][0];
    let total = |count: u64| json!({ "kind": "order", "field": "total", "count": count });
    let number = json!({ "kind": "order", "field": "number", "count": 1 });
    assert_eq!(summary["fields_different"], json!([total(3), number]));
    let third = ask(&["--config", "net.toml", "--from", "3", "--to", "3"]);
    assert_eq!(third["entity"], [changed("web:2", 2000, "shop", "only")]);
    let limited = ask(&["--config", "net.toml", "--from", "1", "--limit", "1"]);
    assert_eq!((limited["entity"].len(), &limited["summary"][0]), (1, summary));

    let owner = ask(&["--config", "owner.toml", "--from", "1"]);
    let expected = json!({ "type": "entity", "kind": "order", "key": "web:1", "change": "changed", "fields": [{ "field": "total",
        "now": { "value": eur(1099), "winner": "shop", "rule": "latest" },
        "what_if": { "value": eur(500), "winner": "erp", "rule": "owner" } }] });
    assert_eq!(owner["entity"], [expected]);
    assert_eq!((owner.get("newly-quarantined"), owner.get("newly-understood")), (None, None));
    let text = run(folder.path(), &["whatif", "--config", "owner.toml", "--from", "2"]).expect(1).out;
    let expected = "\
entity       field  now        winner  rule    what if   winner  rule
order/web:1  total  10.99 EUR  shop    latest  5.00 EUR  erp     owner

3 records from 2 to 4: 3 deliveries translated again
2 entities compared: 1 different, of them 0 added and 0 removed
fields: order.total 1
different
";
    assert_eq!(text, expected);

    let broken = ask(&["--config", "broken.toml", "--from", "1"]);
    let quarantined: Vec<_> = broken["newly-quarantined"]
        .iter()
        .map(|d| (d["position"].as_u64().unwrap(), d["code"].as_str().unwrap(), d["at"].as_str().unwrap()))
        .collect();
    let at = "maps/broken.vrl:3";
    assert_eq!(quarantined.len(), 2, "{quarantined:?}");
    for (expected, (position, code, place)) in [2, 3].into_iter().zip(quarantined) {
        assert_eq!((position, code), (expected, "mapping-failed"));
        assert!(place.starts_with(at), "{place}");
    }
    let removed: Vec<_> = broken["entity"].iter().map(|e| (&e["key"], &e["change"])).collect();
    assert_eq!(removed, [(&json!("web:1"), &json!("changed")), (&json!("web:2"), &json!("removed"))]);
    let text = run(folder.path(), &["whatif", "--config", "broken.toml", "--from", "1"]).expect(1).out;
    assert!(text.contains("order/web:2 (removed)") && text.contains("would be quarantined\n"), "{text}");
    assert!(text.contains("2 deliveries would be quarantined, 0 no longer\n"), "{text}");
    let none = run(folder.path(), &["whatif", "--config", "net.toml", "--from", "1", "--kind", "stock"]).expect(0).out;
    assert!(none.contains("0 entities compared"), "{none}");
    drop(hub);
}

#[test]
fn a_live_hub_goes_on_taking_writes_meanwhile() {
    let folder = hub_folder();
    let (hub, erp) = started(folder.path());
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let number = written.load(Ordering::SeqCst);
                let total = json!({ "total": eur(number as i64) }).to_string();
                let request = format!("w-{number}");
                let (status, answer) = hub.set(&erp, &format!("order/erp:{}", number % 50), &request, &total);
                assert_eq!(status, 200, "{answer}");
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
        until("writes came in while it ran", || {
            let before = written.load(Ordering::SeqCst);
            run(folder.path(), &["whatif", "--from", "1"]).expect(0);
            let net = run(folder.path(), &["whatif", "--config", "net.toml", "--from", "2", "--json"]).expect(1);
            assert_eq!(net.json_lines().len(), 5);
            (written.load(Ordering::SeqCst) > before + 10).then_some(())
        });
        stop.store(true, Ordering::SeqCst);
    });
    let (status, ready) = hub.http("GET", "/healthz/ready", &[], b"");
    assert_eq!(status, 200, "{ready}");
    deliver(&hub, 9, 900, "2024-06-01T10:00:00Z");
    let last = written.load(Ordering::SeqCst) + 5;
    hub.signal("TERM");
    let (code, logs) = hub.ended();
    assert_eq!(code, 0, "{logs}");
    assert!(!logs.contains(" WARN ") && !logs.contains(" ERROR "), "{logs}");
    let summary = run(folder.path(), &["whatif", "--from", "1", "--json"]).expect(0).json();
    assert_eq!((summary["to"].as_u64(), summary["records"].as_u64()), (Some(last), Some(last)));
}

/// All files below a folder with what is in them.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(path.display().to_string(), Vec::new());
            found.extend(files(&path));
        } else {
            found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn the_folder_of_a_hub_that_has_ended_stays_byte_for_byte() {
    let folder = hub_folder();
    let (hub, _) = started(folder.path());
    hub.signal("TERM");
    assert_eq!(hub.ended().0, 0);
    let before = files(folder.path());
    run(folder.path(), &["whatif", "--from", "1"]).expect(0);
    run(folder.path(), &["whatif", "--config", "net.toml", "--from", "3"]).expect(1);
    // From another folder, with the data folder named.
    let elsewhere = tempfile::tempdir().unwrap();
    let (config, data) = (folder.path().join("net.toml"), folder.path().join("lockstep-data"));
    let args = ["whatif", "--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap(), "--from", "1"];
    run(elsewhere.path(), &args).expect(1);
    assert!(files(elsewhere.path()).is_empty());
    assert_eq!(files(folder.path()), before);
}

#[test]
fn what_a_killed_hub_left_is_read_and_left() {
    let folder = hub_folder();
    let (hub, _) = started(folder.path());
    hub.signal("KILL");
    hub.ended();
    // SQLite's index of the log is memory that happens to be a file, and is made anew.
    let kept =
        || files(folder.path()).into_iter().filter(|(name, _)| !name.ends_with("-shm")).collect::<BTreeMap<_, _>>();
    let before = kept();
    let summary = run(folder.path(), &["whatif", "--from", "1", "--json"]).expect(0).json();
    assert_eq!(summary["records"], 4);
    assert_eq!(kept(), before);
    let hub = Hub::start(folder.path());
    deliver(&hub, 9, 900, "2024-06-01T10:00:00Z");
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_history_of_four_systems_with_faults_is_decided_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let demo = ["demo", "--duration", "2s", "--rate", "300", "--entities", "100", "--faults", "--keep", "kept"];
    run(folder.path(), &demo).expect(0);
    let kept = folder.path().join("kept");
    let whole = run(&kept, &["whatif", "--from", "1", "--json"]).expect(0).json();
    let number = |name: &str| whole[name].as_u64().unwrap();
    assert!(number("translated") > 50 && number("without_raw") > 50 && number("entities_compared") > 100, "{whole}");
    let middle = (number("to") / 2).to_string();
    run(&kept, &["whatif", "--from", &middle]).expect(0);

    // The same with a pack of one's own, in another folder and without the secrets.
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(kept.join("lockstep.toml"), other.path().join("lockstep.toml")).unwrap();
    copy(&kept.join("filters"), &other.path().join("filters"));
    let pack = other.path().join("packs/shopify");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs/shopify"), &pack);
    let orders = std::fs::read_to_string(pack.join("mappings/order.vrl")).unwrap();
    let place = "order.fields.channel = channel\n";
    assert!(orders.contains(place));
    write(&pack, "mappings/order.vrl", &orders.replace(place, &format!("{place}order.fields.pack_note = \"new\"\n")));
    let data = kept.join("data");
    let args = ["whatif", "--json", "--data-dir", data.to_str().unwrap(), "--from", &middle];
    let found = by_type(run(other.path(), &args).expect(1).json_lines());
    let count = found["entity"].len();
    assert!(count > 5, "{count}");
    for entity in &found["entity"] {
        let note = json!([{ "field": "pack_note", "now": null, "what_if": only(json!("new")) }]);
        assert_eq!(
            (&entity["kind"], &entity["change"], &entity["fields"]),
            (&json!("order"), &json!("changed"), &note)
        );
    }
    let fields = json!([{ "kind": "order", "field": "pack_note", "count": count }]);
    assert_eq!(found["summary"][0]["fields_different"], fields);
}

#[test]
fn what_keeps_it_from_answering_is_one_sentence_and_exit_code_2() {
    let folder = hub_folder();
    let nothing = run(folder.path(), &["whatif", "--from", "1"]).expect(2);
    assert!(nothing.err.starts_with("lockstep: the history in lockstep-data can't be read: "), "{}", nothing.err);
    assert!(!folder.path().join("lockstep-data").exists(), "nothing is made");
    let (hub, _) = started(folder.path());
    run(folder.path(), &["whatif"]).expect(2);
    let beyond = run(folder.path(), &["whatif", "--from", "5", "--json"]).expect(2);
    let error: Value = serde_json::from_str(&beyond.err).unwrap();
    assert_eq!(error["error"]["code"], "position");
    assert_eq!(error["error"]["message"], "the journal has the records 1 to 4: nothing begins at 5");
    write(folder.path(), "bad.toml", &config("none", ""));
    let bad = run(folder.path(), &["whatif", "--config", "bad.toml", "--from", "1"]).expect(2);
    assert!(bad.err.contains("bad.toml:") && bad.err.contains("maps/none.vrl can't be read"), "{}", bad.err);
    drop(hub);
}
