//! How deliveries go, how fresh destinations are, and who is told: the commands, against a hub whose destination is dead.

mod common;

use std::net::TcpListener;

use common::{Hub, folder, run, until, write};
use serde_json::json;

/// A destination at a port where nobody listens, whose retry comes long after any test.
fn dead_end() -> tempfile::TempDir {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = folder(&format!(
        "\
[freshness]
limits_s = {{ product = 0.2 }}

[alerts.erp-behind]
when = \"lag\"
above = 0.2
of = [\"erp\"]
owner = \"integration\"
steps = [{{ to = \"ops\" }}, {{ to = \"lead\", after_s = 3600 }}]

[destinations.erp]
kind = \"webhook\"
system = \"erp\"
url = \"http://{nobody}/in\"
secrets = [\"file:erp.secret\"]
allow_private_addresses = true
retry = {{ backoff_first_ms = 86400000, backoff_max_ms = 86400000 }}
"
    ));
    write(folder.path(), "erp.secret", "whsec_c2VjcmV0LW9mLXRoZS1lcnA=\n");
    folder
}

#[test]
fn what_has_not_arrived_is_shown_judged_and_told() {
    let folder = dead_end();
    let hub = Hub::start(folder.path());
    let (status, answer) = hub.set(&hub.key, "product/P-1", "r-1", r#"{"title":"Teapot"}"#);
    assert_eq!(status, 200, "{answer}");
    let position = answer["position"].to_string();
    let parked = until("the event waits for its retry", || {
        let told = hub.ask(&["events", "propagation", &position, "--json"]).expect(1).json();
        (told["destinations"][0]["state"] == "parked").then_some(told)
    });
    assert_eq!((&parked["complete"], &parked["destinations"][0]["attempts"]), (&json!(false), &json!(1)));
    let shown = hub.ask(&["events", "propagation", &position]).expect(1).out;
    assert!(shown.contains("product.created") && shown.contains("erp") && shown.contains("parked"), "{shown}");
    hub.ask(&["events", "propagation", "99"]).expect(1);

    let listed = hub.ask(&["delivery", "list", "--json"]).expect(0).json_lines();
    assert_eq!((&listed[0]["name"], &listed[0]["attempts_5m"]["failed"]), (&json!("erp"), &json!(1)));
    assert!(hub.ask(&["delivery", "list"]).expect(0).out.contains("0.0 %"));
    assert!(hub.ask(&["delivery", "audit"]).expect(0).out.contains("everything is accounted for"));
    let data = folder.path().join("lockstep-data");
    let audit = ["delivery", "audit", "--folder", "--data-dir", data.to_str().unwrap(), "--json"];
    let summary = hub.ask(&audit).expect(0).json_lines().pop().unwrap();
    assert_eq!((&summary["violations"], &summary["whole"]), (&json!([]), &json!(true)));

    let rows = until("the destination is late", || {
        let rows = hub.ask(&["freshness", "--json"]).json_lines();
        rows.iter().any(|row| row["destination"] == "erp" && row["state"] == "delayed").then_some(rows)
    });
    let erp = rows.iter().find(|row| row["destination"] == "erp").unwrap();
    assert_eq!((&erp["why"], &erp["limit_s"]), (&json!("target"), &json!(0.2)));
    assert!(hub.ask(&["freshness", "--domain", "product"]).expect(1).out.contains("delayed"));

    let alert = until("somebody is told", || hub.ask(&["alert", "list", "--json"]).json_lines().pop());
    assert_eq!((&alert["rule"], &alert["to"], &alert["status"]), (&json!("erp-behind"), &json!("ops"), &json!("open")));
    hub.ask(&["alert", "list"]).expect(1);
    hub.ask(&["alert", "ack", "erp-behind", "erp", "--reason", "on it"]).expect(0);
    let shown = hub.ask(&["alert", "list"]).expect(0).out;
    assert!(shown.contains("acknowledged by"), "{shown}");
    hub.ask(&["alert", "ack", "erp-behind", "nobody", "--reason", "x"]).expect(1);
    let args = ["alert", "silence", "--rule", "erp-behind", "--for", "2h", "--reason", "maintenance", "--json"];
    let id = hub.ask(&args).expect(0).json()["id"].as_str().unwrap().to_owned();
    assert!(hub.ask(&["alert", "silences"]).expect(0).out.contains("maintenance"));
    hub.ask(&["alert", "unsilence", &id]).expect(0);
    hub.ask(&["alert", "unsilence", &id]).expect(1);
}

#[test]
fn what_can_not_be_watched_is_a_problem_with_its_line() {
    let folder = folder(
        "\
[freshness]
limits_s = { ordr = 5, price = 0 }

[alerts.late]
when = \"lag\"
of = [\"erp\"]
steps = [{ to = \"ops\", after_s = 60 }, { to = \"lead\", after_s = 30 }]

[alerts.stale]
when = \"freshnes\"
",
    );
    let shape = run(folder.path(), &["check"]);
    assert_ne!(shape.code, 0);
    let text = std::fs::read_to_string(folder.path().join("lockstep.toml")).unwrap().replace("freshnes\"", "down\"");
    write(folder.path(), "lockstep.toml", &text);
    let checked = run(folder.path(), &["check"]);
    let all = format!("{}{}", checked.out, checked.err);
    for said in [
        "lockstep.toml:2:",
        "`ordr` is no kind of entity that has a schema",
        "the limit of `price` must be 0.1 s to a year in seconds, not 0",
        "there is no destination `erp`",
        "`after_s` of this step (30) must be more than that of the step before it (60)",
    ] {
        assert!(all.contains(said), "{said}:\n{all}");
    }
    assert_ne!(checked.code, 0);
}

/// A receiver that takes everything and notes the ids.
fn receiver() -> (std::net::SocketAddr, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taken = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), notes) = (stream, notes.clone()) else { return };
            std::thread::spawn(move || while take_one(&mut stream, &notes).is_some() {});
        }
    });
    (address, taken)
}

/// Answers one request; `None` at the end of the connection.
fn take_one(stream: &mut std::net::TcpStream, notes: &std::sync::Mutex<Vec<String>>) -> Option<()> {
    use std::io::{Read, Write};
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).to_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let mut body = vec![0; header("content-length:").parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    notes.lock().unwrap().push(header("webhook-id:"));
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()
}

#[test]
fn a_flow_is_paused_by_hand_stays_so_through_a_kill_and_goes_on_when_released() {
    let (address, taken) = receiver();
    let text = format!(
        "\
[freshness]
limits_s = {{ product = 0.2 }}

[alerts.held]
when = \"flow\"
steps = [{{ to = \"ops\" }}]

[destinations.erp]
kind = \"webhook\"
system = \"erp\"
url = \"http://{address}/in\"
secrets = [\"file:erp.secret\"]
allow_private_addresses = true
degrade = {{ automatic = \"pause\", queue = {{ lag_s = 30 }} }}
"
    );
    let folder = folder(&text);
    write(folder.path(), "erp.secret", "whsec_c2VjcmV0LW9mLXRoZS1lcnA=\n");
    let hub = Hub::start(folder.path());
    let said = hub.ask(&["destination", "mode", "erp", "pause", "--reason", "their maintenance", "--until", "2h"]);
    let said = said.expect(0).out;
    assert!(
        said.contains("erp: pause since") && said.contains("until") && said.contains("their maintenance"),
        "{said}"
    );
    for number in 1..=5 {
        let (status, answer) =
            hub.set(&hub.key, &format!("product/P-{number}"), &format!("r-{number}"), r#"{"title":"Teapot"}"#);
        assert_eq!(status, 200, "{answer}");
    }
    let late = until("the destination is late", || {
        let rows = hub.ask(&["freshness", "--json"]).json_lines();
        rows.into_iter().find(|row| row["destination"] == "erp" && row["state"] == "unreliable")
    });
    assert_eq!(late["why"], "paused");
    let alert = until("somebody is told", || hub.ask(&["alert", "list", "--json"]).json_lines().pop());
    assert!(alert["detail"].as_str().unwrap().contains("pause by"), "{alert}");
    // Killed.
    drop(hub);

    let hub = Hub::start(folder.path());
    let shown = until("it is running", || {
        let shown = hub.ask(&["destination", "show", "erp", "--json"]).json();
        (shown["flow"]["mode"] == "pause").then_some(shown)
    });
    // What the hub says itself waits too, until it is its turn to be filtered.
    assert!(shown["pending"].as_u64() >= Some(5) && shown["flow"]["by_hand"] == true, "{shown}");
    assert_eq!(shown["flow"]["reason"], "their maintenance");
    let listed = hub.ask(&["destination", "list"]).expect(0).out;
    assert!(listed.contains("pause") && listed.contains("their maintenance"), "{listed}");
    assert_eq!(taken.lock().unwrap().len(), 0, "nothing was sent");
    let (_, metrics) = hub.http("GET", "/metrics", &[("authorization", &format!("Bearer {}", hub.key))], b"");
    assert!(metrics.contains("lockstep_flow_step{destination=\"erp\"} 3"), "{metrics}");
    hub.ask(&["destination", "mode", "erp", "release"]).expect(0);
    until("all of it is there", || (taken.lock().unwrap().len() == 5).then_some(()));
    hub.ask(&["destination", "mode", "erp", "release"]).expect(1);
    hub.ask(&["destination", "mode", "nobody", "pause", "--reason", "x"]).expect(1);
    hub.ask(&["destination", "mode", "erp", "pause", "--reason", "x", "--until", "2020-01-01T00:00:00Z"]).expect(2);
    assert_ne!(hub.ask(&["destination", "mode", "erp", "pause"]).code, 0);
    let told =
        hub.ask(&["events", "tail", "--after", "0", "--once", "--kind", "flow", "--json"]).expect(0).json_lines();
    let types: Vec<&str> = told.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["flow.paused", "flow.resumed"]);
    let document = &told[0]["data"]["document"];
    assert_eq!((&document["from"], &document["to"]), (&json!("real-time"), &json!("pause")));
}
