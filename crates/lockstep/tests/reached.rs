//! A shop is told when its changes have reached everyone: the real binary, with destinations that fail and refuse.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::{Hub, folder, run, sign, until, write};
use serde_json::{Value, json};

/// Four destinations at one address, told apart by their paths.
#[derive(Default)]
struct Others {
    /// Whether the ERP works again.
    erp_works: Mutex<bool>,
    /// What was taken: the path and the event.
    taken: Mutex<Vec<(String, Value)>>,
}

impl Others {
    fn listen() -> (SocketAddr, Arc<Self>) {
        let (listener, others) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(Self::default()));
        let (address, answering) = (listener.local_addr().unwrap(), others.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let others = answering.clone();
                std::thread::spawn(move || while others.answer(&mut stream).is_some() {});
            }
        });
        (address, others)
    }

    /// Answers one request; `None` at the end of the connection.
    fn answer(&self, stream: &mut TcpStream) -> Option<()> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length:")).unwrap().trim().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let event: Value = serde_json::from_slice(&body).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let status = match path.as_str() {
            "/erp" if !*self.erp_works.lock().unwrap() => "503 Service Unavailable",
            "/wms" if event["subject"] == "product/P-bad" => "422 Unprocessable Content",
            _ => "200 OK",
        };
        if status == "200 OK" {
            self.taken.lock().unwrap().push((path, event));
        }
        stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).ok()
    }

    fn taken(&self, path: &str) -> Vec<Value> {
        let taken = self.taken.lock().unwrap();
        taken.iter().filter(|(at, _)| at == path).map(|(_, event)| event.clone()).collect()
    }

    /// What the shop was told.
    fn told(&self) -> Vec<Value> {
        self.taken("/shop").iter().map(|event| event["data"]["document"].clone()).collect()
    }
}

fn config(address: SocketAddr, source: &str) -> String {
    let mut text = format!(
        "\
[freshness]
limits_s = {{ product = 0.2 }}

[sources.shop]
system = \"shop\"
mapping = \"product.vrl\"
delivery_id_header = \"x-id\"
secrets = [\"env:SHOP_SECRET\"]
signature = {{ scheme = \"shopify\" }}
{source}

[destinations.shop-told]
kind = \"webhook\"
system = \"shop\"
url = \"http://{address}/shop\"
secrets = [\"file:their.secret\"]
allow_private_addresses = true
filter = {{ types = [\"propagation.reached\"], when = \"of-the-shop.vrl\" }}
"
    );
    for name in ["erp", "search", "wms"] {
        text.push_str(&format!(
            "
[destinations.{name}]
kind = \"webhook\"
system = \"{name}\"
url = \"http://{address}/{name}\"
secrets = [\"file:their.secret\"]
allow_private_addresses = true
retry = {{ retries_max = 1000, backoff_first_ms = 100, backoff_max_ms = 100 }}
breaker = {{ failing_keys = 1, probe_first_ms = 100, probe_max_ms = 100 }}
"
        ));
    }
    text
}

fn set_up(source: &str) -> (tempfile::TempDir, Arc<Others>) {
    let (address, others) = Others::listen();
    let folder = folder(&config(address, source));
    write(folder.path(), "their.secret", "whsec_c2VjcmV0LW9mLXRoZS1lcnA=\n");
    let mapping =
        "{ \"kind\": \"product\", \"key\": string!(.id), \"occurred_at\": .at, \"fields\": { \"title\": .title } }\n";
    write(folder.path(), "product.vrl", mapping);
    write(folder.path(), "of-the-shop.vrl", ".data.document.source == \"shop\"\n");
    run(folder.path(), &["check"]).expect(0);
    (folder, others)
}

/// The shop tells of a product; gives the position of the event that this has published.
fn deliver(hub: &Hub, key: &str, title: &str) -> u64 {
    let at = if title.starts_with("Big") { "2024-05-02T10:00:00Z" } else { "2024-05-01T10:00:00Z" };
    let body = json!({ "id": key, "title": title, "at": at }).to_string();
    let id = format!("{key}/{title}");
    let signed = sign::hmac(common::SECRET.as_bytes(), body.as_bytes());
    let headers =
        [("x-shopify-hmac-sha256", signed.as_str()), ("x-id", id.as_str()), ("content-type", "application/json")];
    let (status, answer) = hub.http("POST", "/v1/webhooks/shop", &headers, body.as_bytes());
    assert_eq!(status, 200, "{answer}");
    let events = hub.events();
    let last = events.iter().rev().find(|event| event["subject"] == format!("product/{key}"));
    last.unwrap()["id"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_shop_is_told_by_a_webhook_when_its_change_has_reached_everyone() {
    let (folder, others) = set_up("tell_reached = true");
    let hub = Hub::start(folder.path());
    let bad = deliver(&hub, "P-bad", "Kettle");
    let good = deliver(&hub, "P-1", "Teapot");
    until("the others are done with both", || (others.taken("/search").len() == 2).then_some(()));
    until("one of them is given up", || hub.ask(&["dlq", "list", "--json"]).json_lines().pop());
    until("the ERP is late", || {
        let rows = hub.ask(&["freshness", "--json"]).json_lines();
        rows.into_iter().find(|row| row["destination"] == "erp" && row["state"] == "unreliable")
    });
    assert_eq!(others.told(), Vec::<Value>::new(), "the ERP has nothing of it");
    *others.erp_works.lock().unwrap() = true;
    let last = until("the shop is told", || others.told().pop().filter(|told| told["position"] == good));
    assert_eq!((&last["source"], last["reached_at"].is_string()), (&json!("shop"), true), "{last}");
    let all = others.told();
    let given_up: Vec<&Value> = all.iter().flat_map(|told| told["given_up_positions"].as_array().unwrap()).collect();
    assert_eq!(given_up, [bad], "{all:?}");
    let both = all.len();
    // Killed.
    drop(hub);

    let hub = Hub::start(folder.path());
    let next = deliver(&hub, "P-1", "Big teapot");
    let last = until("the shop is told of the next", || others.told().pop().filter(|told| told["position"] == next));
    assert_eq!((&last["after"], &last["given_up"]), (&json!(good), &json!(0)), "{last}");
    let types = hub.types_of("propagation/shop");
    assert!(types.len() == both + 1 && types.iter().all(|name| name == "propagation.reached"), "{types:?}");
    let document = &hub.get("/v1/entities/propagation/shop")["document"];
    assert_eq!(document["position"], next);
}

#[test]
fn a_source_that_has_not_asked_is_told_nothing() {
    let (folder, others) = set_up("");
    *others.erp_works.lock().unwrap() = true;
    let hub = Hub::start(folder.path());
    deliver(&hub, "P-1", "Teapot");
    until("everyone has it", || ["/erp", "/search", "/wms"].iter().all(|at| others.taken(at).len() == 1).then_some(()));
    // It has been looked since: what was late once would be told of.
    until("it was looked at", || {
        let rows = hub.ask(&["freshness", "--json"]).json_lines();
        (rows.len() == 5).then_some(())
    });
    assert!(hub.types_of("propagation/shop").is_empty() && others.told().is_empty());
}
