//! gRPC of the real binary: where it listens, and the example in Python.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Ended, Hub, finish, folder, lockstep};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/grpc-python")
}

/// The Python that `cargo xtask services` has made ready, where it has.
fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_lockstep")).parent().and_then(Path::parent).unwrap();
    let python = target.join("services/python/bin/python");
    if python.is_file() {
        return Some(python);
    }
    let required = std::env::var_os("LOCKSTEP_REQUIRE_SERVICES").is_some();
    assert!(!required, "{} is not there: `cargo xtask services` makes it", python.display());
    eprintln!("skipped: {} is not there: `cargo xtask services` makes it", python.display());
    None
}

/// The example, speaking to a hub.
struct Example {
    python: PathBuf,
    address: SocketAddr,
    key: String,
}

impl Example {
    fn run(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(&self.python);
        command.arg(example().join("lockstep_client.py")).args(args);
        command.env("LOCKSTEP_GRPC", self.address.to_string()).env("LOCKSTEP_KEY", &self.key);
        // What a proxy of this machine knows nothing of.
        command.env("no_grpc_proxy", "127.0.0.1");
        finish(&mut command)
    }
}

#[test]
fn the_example_in_python_does_what_its_readme_says() {
    let Some(python) = python() else { return };
    let folder = folder("");
    let mut hub = Hub::start(folder.path());
    let mut example = Example { python, address: hub.grpc(), key: hub.key.clone() };

    let services = example.run(&["services"]).expect(0);
    let expected = ["grpc.health.v1.Health", "lockstep.v1.EventService", "lockstep.v1.StockService"];
    assert!(expected.iter().all(|name| services.out.lines().any(|line| line == *name)), "{}", services.out);

    let price =
        ["publish", "price/MUG-01:retail:EUR", r#"{"amount": {"minor": 1290, "currency": "EUR"}}"#, "--id", "1"];
    let first = example.run(&price).expect(0).json();
    assert_eq!((&first["outcome"], &first["position"]), (&"OUTCOME_APPLIED".into(), &1.into()));
    assert_eq!(example.run(&price).expect(0).json()["outcome"], "OUTCOME_DUPLICATE");
    let refused = example.run(&["publish", "price/MUG-01:retail:EUR", r#"{"amount": 5}"#]).expect(1);
    assert!(refused.err.starts_with("INVALID_ARGUMENT invalid-event: "), "{}", refused.err);

    assert_eq!(example.run(&["stream", "1000"]).expect(0).json()["acknowledged"], 1000);
    let events = example.run(&["tail", "--after", "1", "--kind", "price", "--count", "1000"]).expect(0).json_lines();
    assert_eq!((events.len(), &events[0]["entity"]), (1000, &"price/SKU-0:retail:EUR".into()));
    assert!(events.iter().zip(2..).all(|(event, position)| event["position"] == position));

    let sold = example.run(&["sell", "MUG-01", "berlin", "5"]).expect(0).json();
    assert_eq!((&sold["reserved_at"], &sold["may_still_sell"]), (&"berlin".into(), &4.into()));

    example.key = "lsk_no_such".to_owned();
    let stranger = example.run(&["publish", "price/MUG-01:retail:EUR", "{}"]).expect(1);
    assert!(stranger.err.starts_with("UNAUTHENTICATED key-wrong: "), "{}", stranger.err);

    let (_, metrics) = hub.http("GET", "/metrics", &[("authorization", &format!("Bearer {}", hub.key))], b"");
    let calls = |status: u16, count: u32| {
        format!(r#"lockstep_grpc_calls_total{{call="lockstep.v1.EventService/Publish",status="{status}"}} {count}"#)
    };
    for line in [calls(0, 2), calls(3, 1), calls(16, 1)] {
        assert!(metrics.lines().any(|told| told == line), "{line}\n{metrics}");
    }
}

#[test]
fn a_taken_port_for_grpc_is_one_sentence_that_says_what_to_do() {
    let folder = folder("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = lockstep();
    command.current_dir(folder.path()).args(["serve", "--listen", "127.0.0.1:0", "--grpc-listen", &address]);
    let ended = finish(&mut command).expect(2);
    for part in [&*address, "another process listens there", "--grpc-listen", "`enabled = false`"] {
        assert!(ended.err.contains(part), "{part}: {}", ended.err);
    }
    assert_eq!(ended.out, "");
}

#[test]
fn grpc_can_be_turned_off() {
    let folder = folder("[grpc]\nenabled = false\n");
    let hub = Hub::start(folder.path());
    hub.signal("TERM");
    let (code, logs) = hub.ended();
    assert_eq!(code, 0, "{logs}");
    assert!(!logs.contains("listening for gRPC"), "{logs}");
}
