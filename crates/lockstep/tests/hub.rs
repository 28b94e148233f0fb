//! A running hub and the commands that speak to it.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use common::{Hub, folder, http, run, until, write};
use serde_json::{Value, json};

const SHOP: &str = "\
[domains.order.fields.total]
policy = \"owner\"
owner = [\"erp\"]

[systems.erp]

[sources.shop]
system = \"shop\"
pack = \"shopify\"
secrets = [\"env:SHOP_SECRET\"]
channel = \"web\"
currency = \"EUR\"
";

/// An order of an invented shop.
fn order(id: u64, total: &str, updated: &str) -> String {
    json!({
        "id": id, "name": format!("#{id}"), "created_at": "2024-05-01T10:00:00Z", "updated_at": updated,
        "currency": "EUR", "total_price": total, "subtotal_price": total, "total_tax": "0.00", "total_discounts": "0.00",
        "financial_status": "paid", "fulfillment_status": null, "cancelled_at": null, "closed_at": null,
        "line_items": [{ "id": 1, "sku": "TEAPOT-1", "title": "Teapot", "quantity": 1, "price": total }],
    })
    .to_string()
}

fn topic(topic: &'static str, id: &'static str) -> [(&'static str, &'static str); 3] {
    [("x-shopify-topic", topic), ("x-shopify-webhook-id", id), ("content-type", "application/json")]
}

#[test]
fn a_signed_webhook_becomes_an_entity_with_history_and_reasons() {
    let folder = folder(SHOP);
    let hub = Hub::start(folder.path());
    let (status, answer) =
        hub.deliver("shop", &topic("orders/create", "d-1"), &order(1001, "10.99", "2024-05-01T10:00:00Z"));
    assert_eq!((status, &answer["outcome"]), (200, &json!("applied")), "{answer}");
    let (status, answer) =
        hub.deliver("shop", &topic("orders/create", "d-1"), &order(1001, "10.99", "2024-05-01T10:00:00Z"));
    assert_eq!((status, &answer["outcome"]), (200, &json!("duplicate")), "{answer}");

    // The ERP owns an order's total.
    let erp = run(folder.path(), &["key", "create", "--name", "erp", "--scopes", "write", "--system", "erp"]).expect(0);
    let total = r#"{"total":{"currency":"EUR","minor":1200}}"#;
    let (status, answer) = hub.set(erp.out.trim(), "order/web:1001", "r-1", total);
    assert_eq!((status, &answer["changed"]), (200, &json!(true)), "{answer}");

    let shown = hub.ask(&["entity", "show", "order/web:1001", "--json"]).expect(0).json();
    assert_eq!(shown["document"]["total"], json!({ "currency": "EUR", "minor": 1200 }));
    let shown = hub.ask(&["entity", "show", "order/web:1001"]).expect(0).out;
    assert!(shown.starts_with("order/web:1001  version 2  changed "), "{shown}");
    assert!(shown.contains("12.00 EUR"), "{shown}");

    let explained = hub.ask(&["entity", "explain", "order/web:1001", "--field", "total"]).expect(0).out;
    let lines: Vec<_> = explained.lines().collect();
    assert_eq!(lines.len(), 5, "{explained}");
    assert_eq!(
        lines[1].split_whitespace().collect::<Vec<_>>(),
        ["field", "value", "winner", "rule", "when", "position"]
    );
    assert!(lines[2].starts_with("total  12.00 EUR  erp     owner  "), "{explained}");
    assert_eq!(lines[3], "    the winner owns this field");
    assert!(
        lines[4].starts_with("    shop said 10.99 EUR (2024-05-01T10:00:00.000Z, position 1): erp owns this field"),
        "{explained}"
    );
    let explained = hub.ask(&["entity", "explain", "order/web:1001", "--json"]).expect(0).json();
    assert!(explained["fields"].as_array().unwrap().len() > 3, "{explained}");

    let history = hub.ask(&["entity", "history", "order/web:1001", "--json"]).expect(0).json_lines();
    let systems: Vec<_> = history.iter().map(|item| item["system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["erp", "shop"], "newest first");
    let history = hub.ask(&["entity", "history", "order/web:1001", "--limit", "1"]).expect(0).out;
    assert!(history.contains("older ones follow at position 1"), "{history}");

    let event = hub.ask(&["events", "show", "1", "--json"]).expect(0).json();
    assert_eq!((&event["type"], &event["subject"]), (&json!("order.placed"), &json!("order/web:1001")));
    let all =
        hub.ask(&["events", "tail", "--after", "0", "--once", "--kind", "order", "--json"]).expect(0).json_lines();
    assert_eq!(all.len(), 2);
    let there = hub.ask(&["events", "tail", "--once", "--json"]).expect(0).json_lines();
    assert_eq!(there, all, "what is there now");
    let live = hub.ask(&["events", "tail", "--after", "1", "--limit", "1"]).expect(0).out;
    assert!(live.contains("order.changed") && live.contains("order/web:1001"), "{live}");
}

#[test]
fn every_no_has_its_exit_code() {
    let folder = folder(SHOP);
    let hub = Hub::start(folder.path());
    let missing = hub.ask(&["entity", "show", "order/web:9"]).expect(1);
    assert!(missing.err.contains("order/web:9"), "{}", missing.err);
    hub.ask(&["events", "show", "99"]).expect(1);
    hub.ask(&["dlq", "retry", "nobody", "--all"]).expect(1);
    hub.ask(&["entity", "show", "order"]).expect(2);
    hub.ask(&["entity", "show", "Order/x"]).expect(2);
    let refused = hub.ask_with("lsk_000000000000_00", &["quarantine", "list"]).expect(4);
    assert!(refused.err.contains("--key or LOCKSTEP_KEY"), "{}", refused.err);
    let reader = run(folder.path(), &["key", "create", "--name", "reader", "--scopes", "read"]).expect(0);
    hub.ask_with(reader.out.trim(), &["quarantine", "list"]).expect(0);
    hub.ask_with(reader.out.trim(), &["quarantine", "release", "1"]).expect(4);

    let failed = hub.ask(&["--json", "entity", "show", "order/web:9"]).expect(1);
    let error: Value = serde_json::from_str(&failed.err).unwrap();
    assert_eq!(error["error"]["code"], "unknown-entity");

    let gone = hub.url();
    drop(hub);
    let unreachable = run(folder.path(), &["entity", "show", "order/web:9", "--url", &gone]).expect(3);
    assert!(unreachable.err.contains("no hub answers at"), "{}", unreachable.err);
    run(folder.path(), &["entity", "show", "order/web:9", "--url", "not an address"]).expect(2);
}

#[test]
fn a_revoked_key_is_refused_by_a_running_hub() {
    let folder = folder("");
    let hub = Hub::start(folder.path());
    let made =
        run(folder.path(), &["--json", "key", "create", "--name", "desk", "--scopes", "read,operate"]).expect(0).json();
    let key = made["key"].as_str().unwrap().to_owned();
    hub.ask_with(&key, &["quarantine", "list"]).expect(0);
    let listed = run(folder.path(), &["key", "list"]).expect(0).out;
    assert!(listed.contains("desk") && listed.contains("operate,read") && !listed.contains(&key), "{listed}");
    run(folder.path(), &["key", "revoke", "desk"]).expect(0);
    until("the hub refuses the key", || (hub.ask_with(&key, &["quarantine", "list"]).code == 4).then_some(()));
    run(folder.path(), &["key", "revoke", "desk"]).expect(1);
    run(folder.path(), &["key", "create", "--name", "x", "--scopes", "raed"]).expect(2);
    run(folder.path(), &["key", "create", "--name", "x", "--scopes", "write"]).expect(2);
}

#[test]
fn quarantine_is_listed_shown_and_released_when_the_mapping_is_mended() {
    let folder = folder(
        "\
[sources.market]
system = \"market\"
mapping = \"maps/market.vrl\"
topic_header = \"x-topic\"
secrets = [\"env:SHOP_SECRET\"]
signature = { scheme = \"shopify\" }
",
    );
    let mapping = |field: &str| {
        format!("{{ \"kind\": \"customer\", \"key\": string!(.id), \"fields\": {{ \"email\": string!({field}) }} }}\n")
    };
    write(folder.path(), "maps/market.vrl", &mapping(".mail"));
    let hub = Hub::start(folder.path());
    let bodies = [r#"{"id":"c-1","email":"one@example.com"}"#, r#"{"id":"c-2","email":"two@example.com"}"#, "not JSON"];
    for (number, body) in bodies.iter().enumerate() {
        let id = number.to_string();
        let (status, answer) = hub.deliver("market", &[("x-topic", "customer"), ("x-id", &id)], body);
        assert_eq!((status, &answer["outcome"]), (200, &json!("quarantined")), "{answer}");
    }
    let listed = hub.ask(&["quarantine", "list", "--json"]).expect(0).json_lines();
    let codes: Vec<_> = listed.iter().map(|item| item["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["mapping-failed", "mapping-failed", "not-json"]);
    let shown = hub.ask(&["quarantine", "show", "1"]).expect(0).out;
    assert!(
        shown.contains("mapping-failed") && shown.contains("one@example.com") && shown.contains("maps/market.vrl:1"),
        "{shown}"
    );
    let kept = hub.ask(&["quarantine", "release", "1"]).expect(1).out;
    assert!(kept.contains("kept"), "{kept}");
    hub.signal("TERM");
    assert_eq!(hub.ended().0, 0);

    write(folder.path(), "maps/market.vrl", &mapping(".email"));
    let hub = Hub::start(folder.path());
    let released = hub.ask(&["quarantine", "release", "--all", "--json"]).expect(1).json_lines();
    let what: Vec<_> =
        released.iter().map(|line| (line["position"].as_u64().unwrap(), line["released"] == true)).collect();
    assert_eq!(what, [(1, true), (2, true), (3, false)]);
    let customer = hub.ask(&["entity", "show", "customer/c-2", "--json"]).expect(0).json();
    assert_eq!(customer["document"]["email"], "two@example.com");
    assert_eq!(hub.ask(&["quarantine", "list", "--json"]).expect(0).json_lines().len(), 1);
}

/// A destination that answers what it is told to, and keeps the bodies.
struct Receiver {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn new(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (status, bodies) = (Arc::new(AtomicU16::new(status)), Arc::new(Mutex::new(Vec::new())));
        let (answer, kept) = (status.clone(), bodies.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut text = Vec::new();
                let mut part = [0; 4096];
                let body = loop {
                    let Ok(length) = stream.read(&mut part) else { break None };
                    text.extend_from_slice(&part[..length]);
                    if length == 0 {
                        break None;
                    }
                    let seen = String::from_utf8_lossy(&text).into_owned();
                    let Some((head, body)) = seen.split_once("\r\n\r\n") else { continue };
                    let wanted = head
                        .lines()
                        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= wanted.unwrap_or(0) {
                        break serde_json::from_str(body).ok();
                    }
                };
                kept.lock().unwrap().extend(body);
                let status = answer.load(Ordering::SeqCst);
                let _ = write!(stream, "HTTP/1.1 {status} x\r\ncontent-length: 4\r\nconnection: close\r\n\r\nhm, ");
            }
        });
        Self { address, status, bodies }
    }
}

#[test]
fn other_kinds_of_destinations_have_what_is_published() {
    let receiver = Receiver::new(200);
    let folder = folder(&format!(
        "{SHOP}
[destinations.archive]
kind = \"file\"
system = \"archive\"
folder = \"out\"

[destinations.erp]
kind = \"http\"
system = \"erp\"
url = \"http://{address}/api\"
mapping = \"maps/erp.vrl\"
secret_headers = {{ x-key = \"env:SHOP_SECRET\" }}
allow_private_addresses = true

[destinations.team]
kind = \"chat\"
system = \"team\"
url = \"http://{address}/chat\"
allow_private_addresses = true
",
        address = receiver.address
    ));
    let mapping = "{ \"path\": [\"orders\", .data.key], \"body\": { \"order\": .data.key } }\n";
    write(folder.path(), "maps/erp.vrl", mapping);
    let checked = run(folder.path(), &["check"]).expect(0);
    assert!(!folder.path().join("out").exists(), "a check leaves nothing: {}", checked.out);
    let hub = Hub::start(folder.path());
    hub.deliver("shop", &topic("orders/create", "d-1"), &order(1001, "10.99", "2024-05-01T10:00:00Z"));

    let told = until("the ERP and the chat have heard of it", || {
        let bodies = receiver.bodies.lock().unwrap();
        (bodies.len() >= 2).then(|| bodies.clone())
    });
    for expected in [json!({ "order": "web:1001" }), json!({ "text": "order.placed order/web:1001" })] {
        assert!(told.contains(&expected), "{expected} is not in {told:?}");
    }
    // The folder lies beside the configuration.
    let line = until("the file has a line", || {
        let file = std::fs::read_dir(folder.path().join("out")).ok()?.next()?.unwrap().path();
        std::fs::read_to_string(file).unwrap().strip_suffix('\n').map(str::to_owned)
    });
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["id"], &event["type"]), (&json!("1"), &json!("order.placed")));
}

#[test]
fn dead_letters_are_listed_shown_retried_and_discarded() {
    let receiver = Receiver::new(422);
    let folder = folder(&format!(
        "\
[destinations.erp]
kind = \"webhook\"
system = \"erp\"
url = \"http://{}/in\"
secrets = [\"env:ERP_SECRET\"]
allow_private_addresses = true
",
        receiver.address
    ));
    write(folder.path(), "erp.secret", "whsec_c2VjcmV0LW9mLXRoZS1lcnA=\n");
    let config = std::fs::read_to_string(folder.path().join("lockstep.toml"))
        .unwrap()
        .replace("env:ERP_SECRET", "file:erp.secret");
    write(folder.path(), "lockstep.toml", &config);
    let hub = Hub::start(folder.path());
    for number in 1..=3 {
        let (status, answer) =
            hub.set(&hub.key, &format!("product/P-{number}"), &format!("r-{number}"), r#"{"title":"Teapot"}"#);
        assert_eq!(status, 200, "{answer}");
    }
    let letters = until("all three are given up", || {
        let letters = hub.ask(&["dlq", "list", "--json"]).expect(0).json_lines();
        (letters.len() == 3).then_some(letters)
    });
    assert!(letters.iter().all(|letter| letter["reason"] == "rejected"), "{letters:?}");
    let events: Vec<String> = letters.iter().map(|letter| letter["event"].to_string()).collect();
    let listed = hub.ask(&["dlq", "list", "--destination", "erp"]).expect(0).out;
    assert!(listed.contains("product/P-1") && listed.contains("rejected"), "{listed}");
    let shown = hub.ask(&["dlq", "show", "erp", &events[0]]).expect(0).out;
    assert!(shown.contains("422") && shown.contains("    hm,") && shown.contains("specversion"), "{shown}");

    hub.ask(&["dlq", "discard", "erp", &events[0], "--reason", "entered by hand"]).expect(0);
    hub.ask(&["dlq", "show", "erp", &events[0]]).expect(1);
    hub.ask(&["dlq", "discard", "erp", &events[1]]).expect(2);

    let summary = hub.ask(&["dlq", "summary"]).expect(0).out;
    assert!(summary.contains("rejected") && summary.contains("422x2"), "{summary}");
    hub.ask(&["dlq", "retry", "erp"]).expect(2);
    hub.ask(&["dlq", "retry", "erp", "--at", "soon", "--all"]).expect(2);
    let dry = hub.ask(&["dlq", "retry", "erp", "--status", "422", "--dry-run"]).expect(0).out;
    assert!(dry.contains("it would be 2 dead letters"), "{dry}");
    hub.ask(&["dlq", "retry", "--kind", "product", "--in", "6h", "--over", "1h"]).expect(0);
    assert_eq!(hub.ask(&["dlq", "list", "--scheduled", "true", "--json"]).expect(0).json_lines().len(), 2);
    hub.ask(&["dlq", "cancel", "erp", &events[1]]).expect(0);
    hub.ask(&["dlq", "cancel", "--all"]).expect(0);
    assert!(hub.ask(&["dlq", "list", "--scheduled", "true", "--json"]).expect(0).json_lines().is_empty());
    let file = folder.path().join("dead.jsonl").display().to_string();
    hub.ask(&["dlq", "export", "--destination", "erp", "--file", &file]).expect(0);
    hub.ask(&["dlq", "discard", "erp", "--status", "422", "--reason", "by mistake"]).expect(0);
    let imported = hub.ask(&["dlq", "import", &file]).expect(0).out;
    assert!(imported.contains("2 imported, 0 not valid"), "{imported}");
    let letters = hub.ask(&["dlq", "list", "--order", "impact", "--json"]).expect(0).json_lines();
    let events: Vec<String> = letters.iter().map(|letter| letter["event"].to_string()).collect();

    receiver.status.store(204, Ordering::SeqCst);
    hub.ask(&["dlq", "retry", "erp", &events[1]]).expect(0);
    hub.ask(&["dlq", "retry", "--all", "--json"]).expect(0);
    until("nothing is dead any more", || {
        hub.ask(&["dlq", "list", "--json"]).expect(0).json_lines().is_empty().then_some(())
    });
    let delivered = receiver.bodies.lock().unwrap().iter().filter(|body| body["subject"] == "product/P-3").count();
    assert!(delivered >= 2, "once in vain and once again");
}

#[test]
fn a_signal_to_end_loses_nothing_that_was_acknowledged() {
    let folder = folder("");
    let hub = Hub::start(folder.path());
    let (address, key) = (hub.address, hub.key.clone());
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (key, acknowledged) = (key.clone(), acknowledged.clone());
            std::thread::spawn(move || {
                for number in 0.. {
                    let name = format!("W{writer}-{number}");
                    let authorization = format!("Bearer {key}");
                    let headers = [
                        ("authorization", authorization.as_str()),
                        ("idempotency-key", name.as_str()),
                        ("content-type", "application/json"),
                    ];
                    let answer = http(
                        address,
                        "PATCH",
                        &format!("/v1/entities/product/{name}"),
                        &headers,
                        br#"{"title":"Teapot"}"#,
                    );
                    match answer {
                        Ok((200, _)) => acknowledged.lock().unwrap().push(name),
                        // The hub ends: refused, broken off, or told so.
                        Ok((503, _)) | Err(_) => return,
                        Ok((status, body)) => panic!("{status}: {body}"),
                    }
                }
            })
        })
        .collect();
    until("enough is acknowledged", || (acknowledged.lock().unwrap().len() >= 200).then_some(()));
    hub.signal("TERM");
    let (code, logs) = hub.ended();
    assert_eq!(code, 0, "{logs}");
    for writer in writers {
        writer.join().unwrap();
    }
    let hub = Hub::start(folder.path());
    let kept = hub.ask(&["events", "tail", "--after", "0", "--once", "--json"]).expect(0).json_lines();
    let kept: std::collections::HashSet<_> =
        kept.iter().map(|event| event["data"]["key"].as_str().unwrap().to_owned()).collect();
    let acknowledged = acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !kept.contains(*name)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

#[test]
fn an_interrupt_ends_it_too_and_streams_end_with_it() {
    let folder = folder("");
    let hub = Hub::start(folder.path());
    let mut tail = common::lockstep()
        .args(["events", "tail", "--after", "0", "--url", &hub.url(), "--key", &hub.key])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    hub.set(&hub.key, "product/P-1", "r-1", r#"{"title":"Teapot"}"#);
    let mut first = [0; 1];
    tail.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    hub.signal("INT");
    let (code, logs) = hub.ended();
    assert_eq!(code, 0, "{logs}");
    let ended = common::Ended::of(tail.wait_with_output().unwrap()).expect(3);
    assert!(ended.err.contains("ended"), "{}", ended.err);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = folder("");
    let hub = Hub::start(folder.path());
    // A request whose body never comes holds up the end in order.
    let mut held = std::net::TcpStream::connect(hub.address).unwrap();
    let key = &hub.key;
    write!(
        held,
        "PATCH /v1/entities/product/P-1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nidempotency-key: r-1\r\ncontent-type: application/json\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n"
    )
    .unwrap();
    let mut interim = [0; 12];
    held.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100", "the hub waits for the body");
    hub.signal("TERM");
    until("the hub takes no more connections", || std::net::TcpStream::connect(hub.address).is_err().then_some(()));
    hub.signal("TERM");
    let (code, logs) = hub.ended();
    assert_eq!(code, 130, "{logs}");
    // The data folder is free again, and whole.
    Hub::start(folder.path());
}
