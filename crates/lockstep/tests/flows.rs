//! When events go and what they wait for: the real process, a real receiver, and a kill in between.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::{Hub, folder, http, run, until, write};
use serde_json::{Value, json};

/// Takes every event, and notes its subject and document.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<(String, Value)>>,
}

impl Receiver {
    fn start() -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = Arc::new(Self::default());
        let own = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let receiver = own.clone();
                // A connection that a kill has broken ends its thread.
                std::thread::spawn(move || receiver.serve(stream));
            }
        });
        (receiver, address)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let event: Value = serde_json::from_slice(&body).expect("a CloudEvent");
            let subject = event["subject"].as_str().expect("a subject").to_owned();
            self.got.lock().unwrap().push((subject, event["data"]["document"].clone()));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
        }
    }

    fn subjects(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|(subject, _)| subject.clone()).collect()
    }
}

fn with(address: SocketAddr, more: &str) -> tempfile::TempDir {
    let folder = folder(&format!(
        "\
[destinations.shop]
kind = \"webhook\"
system = \"shop\"
url = \"http://{address}/in\"
secrets = [\"file:shop.secret\"]
allow_private_addresses = true
{more}"
    ));
    write(folder.path(), "shop.secret", "whsec_c2VjcmV0LW9mLXRoZS1zaG9w\n");
    folder
}

fn audit(hub: &Hub, folder: &std::path::Path) -> Value {
    let data = folder.join("lockstep-data");
    let args = ["delivery", "audit", "--folder", "--data-dir", data.to_str().unwrap(), "--json"];
    let mut lines = hub.ask(&args).expect(0).json_lines();
    assert_eq!(lines.pop().unwrap()["violations"], json!([]));
    lines.into_iter().find(|line| line["name"] == "shop").unwrap()
}

#[test]
fn a_price_waits_through_a_kill_until_its_product_is_whole_and_there() {
    let (receiver, address) = Receiver::start();
    let folder = with(
        address,
        "
[[destinations.shop.gate]]
kind = \"product\"
required = [\"title\"]

[[destinations.shop.waits_for]]
kind = \"price\"
for = \"product\"
key = \"sku\"
",
    );
    let hub = Hub::start(folder.path());
    let price = |sku: &str, minor: u64| {
        let amount = json!({"currency": "EUR", "minor": minor});
        json!({"sku": sku, "currency": "EUR", "amount": amount}).to_string()
    };
    let (status, answer) = hub.set(&hub.key, "price/P-1:retail:EUR", "r-1", &price("P-1", 500));
    assert_eq!(status, 200, "{answer}");
    let position = answer["position"].to_string();
    hub.set(&hub.key, "product/P-2", "r-2", r#"{"title":"Cup"}"#);
    hub.set(&hub.key, "price/P-2:retail:EUR", "r-3", &price("P-2", 700));
    until("others go on", || (receiver.subjects() == ["product/P-2", "price/P-2:retail:EUR"]).then_some(()));
    // A product without a title is not for this shop yet.
    hub.set(&hub.key, "product/P-1", "r-4", r#"{"vendor":"Acme"}"#);
    let told = until("the reason is told", || {
        let told = hub.ask(&["events", "propagation", &position, "--json"]).json();
        told["destinations"][0]["reason"].is_string().then_some(told)
    });
    let reason = json!("waits for product P-1, which is not published to `shop` yet");
    let shop = &told["destinations"][0];
    assert_eq!((&shop["state"], &shop["reason"], &shop["attempts"]), (&json!("parked"), &reason, &json!(0)));
    let shown = until("it is listed", || {
        let shown = hub.get("/v1/destinations/shop");
        (shown["waiting"] == 1 && shown["filtered"] == 1).then_some(shown)
    });
    assert_eq!((&shown["waits"][0]["entity"], &shown["waits"][0]["reason"]), (&json!("price/P-1:retail:EUR"), &reason));
    assert!(hub.ask(&["destination", "show", "shop"]).expect(0).out.contains("waits for product P-1"));
    hub.signal("KILL");
    drop(hub);

    let hub = Hub::start(folder.path());
    until("it waits again", || (hub.get("/v1/destinations/shop")["waiting"] == 1).then_some(()));
    hub.set(&hub.key, "product/P-1", "r-5", r#"{"title":"Pot"}"#);
    until("all is there", || (hub.get("/v1/destinations/shop")["pending"] == 0).then_some(()));
    let got = receiver.got.lock().unwrap().clone();
    // What was delivered just before the kill may have come once more.
    let at = |subject: &str| got.iter().position(|(one, _)| one == subject).unwrap();
    assert!(at("product/P-1") < at("price/P-1:retail:EUR"), "{got:?}");
    let product = &got[at("product/P-1")].1;
    assert_eq!((&product["title"], &product["vendor"]), (&json!("Pot"), &json!("Acme")), "its whole document goes");
    assert_eq!(audit(&hub, folder.path())["filtered"], 1);
}

#[test]
fn of_a_window_the_newest_goes_through_a_kill_and_who_waits_is_told() {
    let (receiver, address) = Receiver::start();
    let folder = with(address, "cadence = { window_ms = 4000 }\n");
    let hub = Hub::start(folder.path());
    for round in 0..20 {
        for key in 0..3 {
            let fields = format!(r#"{{"title":"{round}"}}"#);
            let (status, answer) = hub.set(&hub.key, &format!("product/P-{key}"), &format!("{round}-{key}"), &fields);
            assert_eq!(status, 200, "{answer}");
        }
    }
    until("most are superseded", || {
        let shop = hub.get("/v1/destinations/shop");
        (shop["superseded"].as_u64().unwrap() >= 40).then_some(())
    });
    let told = hub.ask(&["events", "propagation", "1", "--json"]).json();
    assert_eq!(told["destinations"][0]["state"], "superseded", "{told}");
    hub.signal("KILL");
    drop(hub);

    let hub = Hub::start(folder.path());
    until("all is there", || (hub.get("/v1/destinations/shop")["pending"] == 0).then_some(()));
    // A writer who waits for an event is answered when the newer one is there that stands for it.
    let (address, key) = (hub.url().trim_start_matches("http://").parse().unwrap(), hub.key.clone());
    let waiting = std::thread::spawn(move || {
        let event = json!({
            "specversion": "1.0", "id": "waits", "source": "/pim", "type": "product.changed",
            "subject": "product/P-0", "data": { "title": "waited for" },
        });
        let authorization = format!("Bearer {key}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/cloudevents+json"),
            ("prefer", "wait=30"),
        ];
        http(address, "POST", "/v1/events?until=delivered:shop", &headers, event.to_string().as_bytes()).unwrap()
    });
    until("it is written", || (hub.get("/v1/entities/product/P-0")["document"]["title"] == "waited for").then_some(()));
    hub.set(&hub.key, "product/P-0", "last", r#"{"title":"last"}"#);
    let (status, answer) = waiting.join().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["reached"]["delivered"]), (200, &json!(true)), "{answer}");
    until("all is settled", || (hub.get("/v1/destinations/shop")["pending"] == 0).then_some(()));
    let mut last = BTreeMap::new();
    for (subject, document) in receiver.got.lock().unwrap().iter() {
        last.insert(subject.clone(), document["title"].clone());
    }
    let newest: Vec<_> = last.iter().map(|(subject, title)| (subject.as_str(), title.as_str().unwrap())).collect();
    assert_eq!(newest, [("product/P-0", "last"), ("product/P-1", "19"), ("product/P-2", "19")]);
    let sums = audit(&hub, folder.path());
    assert_eq!(sums["delivered"].as_u64().unwrap() + sums["superseded"].as_u64().unwrap(), 62);
}

#[test]
fn what_can_not_be_is_a_problem_of_its_field() {
    let (_, address) = Receiver::start();
    for (more, expected) in [
        ("cadence = { window_ms = 5, cron = \"* * * * *\" }", "`cron` can't be beside `window_ms`"),
        ("cadence = { latest_only = true }", "`window_ms` or `cron` must say when events go"),
        ("cadence = { cron = \"61 * * * *\" }", "`cron`: `61` is no minute"),
        ("cadence = { cron = \"0 0 31 2 *\" }", "`cron`: this never comes"),
        (
            "waits_for = [{ kind = \"price\", for = \"prodct\" }]",
            "`prodct` is not a kind that this hub knows; did you mean `product`?",
        ),
        (
            "waits_for = [{ kind = \"price\", for = \"product\", destination = \"shp\" }]",
            "there is no destination `shp`; did you mean `shop`?",
        ),
        (
            "waits_for = [{ kind = \"price\", for = \"product\", key = \"a..b\" }]",
            "`key` must name fields of the document",
        ),
        ("waits_for = [{ kind = \"price\", for = \"price\" }]", "`price` would wait for itself"),
        (
            "waits_for = [{ kind = \"price\", for = \"product\" }, { kind = \"product\", for = \"stock\" }, { kind = \"stock\", for = \"price\" }]",
            "`price` would wait for itself: `product` waits for it in turn",
        ),
        (
            "filter = { kinds = [\"price\"] }\nwaits_for = [{ kind = \"price\", for = \"product\" }]",
            "`product` never goes to `shop`",
        ),
        (
            "waits_for = [{ kind = \"price\", for = \"availability\" }]",
            "`availability` is counted by the ledger of stock and is no document that could arrive: `for` must be the kind of a",
        ),
        (
            "waits_for = [{ kind = \"price\", for = \"stock\" }]\n[stock.feeds]\nwms = \"on_hand\"",
            "`stock` is counted by the ledger of stock",
        ),
        ("gate = [{ kind = \"product\", required = [] }]", "`required` must name at least one field"),
        ("gate = [{ kind = \"prodct\", required = [\"title\"] }]", "`prodct` is not a kind that this hub knows"),
        (
            "gate = [{ kind = \"product\", required = [\"title\"] }, { kind = \"product\", required = [\"sku\"] }]",
            "`product` has a gate already",
        ),
    ] {
        let folder = with(address, &format!("{more}\n"));
        let checked = run(folder.path(), &["check"]);
        assert_eq!(checked.code, 2, "{more}: {}", checked.out);
        let has_its_line = ["lockstep.toml:7:", "lockstep.toml:8:"].iter().any(|place| checked.out.contains(place));
        assert!(has_its_line, "{more}:\n{}", checked.out);
        assert!(checked.out.contains(expected), "{more}:\n{}", checked.out);
    }
}
