//! SIGKILL at random moments under load. A ledger outside the hub knows what was acknowledged; a receiver
//! outside knows what was delivered.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::kills::Load;
use common::{folder, http, until, write};
use serde_json::{Value, json};

const KILLS: u64 = 20;
const WRITERS: u64 = 4;
const KEYS: u64 = 6;

/// What the receiver got, in order: the id of the event, its entity and the number in its document.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<(String, String, u64)>>,
}

impl Receiver {
    fn start(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let receiver = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let receiver = receiver.clone();
                // A connection that a kill has broken ends its thread.
                std::thread::spawn(move || receiver.serve(stream));
            }
        });
        address
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let (mut id, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').unwrap_or((&line, ""));
                match name {
                    "webhook-id" => id = value.trim().to_owned(),
                    "content-length" => length = value.trim().parse().ok()?,
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let event: Value = serde_json::from_slice(&body).expect("a CloudEvent");
            let subject = event["subject"].as_str().expect("a subject").to_owned();
            let number = event["data"]["document"]["number"].as_u64().expect("a number");
            self.got.lock().unwrap().push((id, subject, number));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
        }
    }
}

/// Everything acknowledged: entity and number.
type Ledger = Arc<Mutex<Vec<(String, u64)>>>;

/// Writes numbers in turn to its own keys until told to stop; what is not acknowledged is sent again, with the
/// same id.
fn writer(writer: u64, load: &Load, ledger: &Ledger) {
    for number in 1_u64.. {
        let subject = format!("stock/w{writer}-{}@x", number % KEYS);
        let event = json!({
            "specversion": "1.0", "id": format!("{writer}-{number}"), "source": "/ledger", "type": "stock.counted",
            "subject": subject, "sequence": number.to_string(), "data": { "number": number },
        });
        let body = event.to_string();
        loop {
            let known = load.address();
            if let Some((address, key)) = known {
                let authorization = format!("Bearer {key}");
                let headers =
                    [("authorization", authorization.as_str()), ("content-type", "application/cloudevents+json")];
                match http(address, "POST", "/v1/events", &headers, body.as_bytes()) {
                    Ok((200, _)) => break,
                    Ok((429 | 503, _)) | Err(_) => {}
                    Ok((status, answer)) => panic!("{status}: {answer}"),
                }
            }
            std::thread::yield_now();
        }
        ledger.lock().unwrap().push((subject, number));
        if !load.goes_on() {
            return;
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kills_once_and_in_order() {
    let receiver = Arc::new(Receiver::default());
    let url = receiver.start();
    let folder = folder(&format!(
        "[hub]\nname = \"kill\"\nflush_interval_ms = 200\n\n[destinations.erp]\nkind = \"webhook\"\nsystem = \"erp\"\n\
         url = \"http://{url}/in\"\nsecrets = [\"file:secret\"]\nallow_private_addresses = true\n"
    ));
    write(folder.path(), "secret", "whsec_a2lsbC10ZXN0LXNlY3JldC1raWxsLXRlc3Q=");

    let (load, ledger) = (Load::default(), Ledger::default());
    let told = ledger.clone();
    let hub = load.kill(folder.path(), (KILLS, 20..250), WRITERS, move |number, load| writer(number, load, &told));
    let authorization = format!("Bearer {}", hub.key);
    let headers = [("authorization", authorization.as_str())];
    let get = |path: &str| -> Value {
        let (status, body) = hub.http("GET", path, &headers, b"");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    let erp = until("everything is delivered", || {
        let erp = get("/v1/destinations/erp");
        // The sums are shown a moment behind.
        let all = erp["published"].as_u64() >= Some(ledger.lock().unwrap().len() as u64);
        (all && erp["pending"] == 0).then_some(erp)
    });

    // In the journal: every acknowledged change once.
    let mut published: BTreeMap<(String, u64), u64> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    let mut after = 0;
    loop {
        let page = get(&format!("/v1/events?after={after}&limit=1000"));
        for event in page["items"].as_array().unwrap() {
            let key =
                (event["subject"].as_str().unwrap().to_owned(), event["data"]["document"]["number"].as_u64().unwrap());
            *published.entry(key).or_default() += 1;
            ids.insert(event["id"].as_str().unwrap().to_owned());
        }
        after = page["next_after"].as_u64().unwrap();
        if page["at_end"] == true {
            break;
        }
    }
    let ledger = ledger.lock().unwrap();
    for entry in ledger.iter() {
        assert_eq!(published.get(entry), Some(&1), "{entry:?} was acknowledged");
    }
    assert_eq!(published.len(), ledger.len(), "nothing is there that nobody has sent");

    // At the destination: everything, in order for each key; again only with the same id.
    let got = receiver.got.lock().unwrap();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (id, subject, number) in got.iter() {
        if seen.insert(id.clone()) {
            let before = last.insert(subject, *number).unwrap_or(0);
            assert!(before < *number, "{subject}: {number} came after {before}");
        }
    }
    assert_eq!(seen, ids, "each published event arrived, and nothing else");

    // Conservation.
    assert_eq!(erp["published"].as_u64().unwrap(), ids.len() as u64);
    assert_eq!(erp["delivered"], erp["published"]);
    let (status, ready) = hub.http("GET", "/healthz/ready", &[], b"");
    assert_eq!(status, 200, "{ready}");
    println!("{KILLS} kills, {} acknowledged, {} deliveries of {} events", ledger.len(), got.len(), ids.len());
}
