//! Two systems that are told everything and send everything back, with a hub between them: when people stop, so does
//! everything, and all three have the same.

mod common;

#[path = "ping_pong/system.rs"]
mod system;
#[path = "ping_pong/wire.rs"]
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Hub, folder, until, write};
use system::System;

/// A kind of the user's own, merged by the latest write, field by field.
const WISH: &str =
    r#"{ "type": "object", "properties": { "title": { "type": "string" }, "amount": { "type": "integer" } } }"#;

const MAPPING: &str = r#"
{ "kind": "wish", "key": string!(.id), "occurred_at": .changed_at_us, "fields": .wish }
"#;

fn config(systems: &[Arc<System>]) -> String {
    let mut config = "[domains.wish]\nschema = \"wish.json\"\n".to_owned();
    for system in systems {
        let System { name, address, .. } = &**system;
        config.push_str(&format!(
            "
[sources.{name}]
system = \"{name}\"
mapping = \"wish.vrl\"
delivery_id_header = \"x-id\"
secrets = [\"env:SHOP_SECRET\"]
signature = {{ scheme = \"shopify\" }}

[destinations.{name}]
kind = \"webhook\"
system = \"{name}\"
url = \"http://{address}/told\"
secrets = [\"file:{name}.secret\"]
allow_private_addresses = true
"
        ));
    }
    config
}

/// How much is done.
struct Size {
    entities: usize,
    time: Duration,
    /// The wait between two own updates of one system, at most.
    pause_max_ms: u64,
}

fn play(size: &Size) {
    let systems = ["left", "right"].map(|name| Arc::new(System::listen(name)));
    let folder = folder(&config(&systems));
    write(folder.path(), "wish.json", WISH);
    write(folder.path(), "wish.vrl", MAPPING);
    for system in &systems {
        write(folder.path(), &format!("{}.secret", system.name), system::SECRET);
    }
    let hub = Hub::start(folder.path());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for system in &systems {
            system.speak(hub.address);
            scope.spawn(move || {
                let mut updates = 0;
                while began.elapsed() < size.time {
                    system.update(&format!("W-{}", fastrand::usize(..size.entities)), updates);
                    updates += 1;
                    std::thread::sleep(Duration::from_millis(fastrand::u64(..=size.pause_max_ms)));
                }
            });
        }
    });
    // Quiet: nothing waits to be said or told, and nothing more is published, for longer than the hub's figures may
    // be behind.
    let (mut before, mut looks) = (0, 0);
    until("everything is quiet", || {
        let published = published(&hub);
        let idle = systems.iter().all(|system| system.is_idle()) && is_delivered(&hub);
        looks = if idle && published == before { looks + 1 } else { 0 };
        before = published;
        (looks == 30).then_some(())
    });
    let quiet_after = began.elapsed() - size.time;

    let mut different = Vec::new();
    for number in 0..size.entities {
        let key = format!("W-{number}");
        let has = systems.iter().map(|system| system.copy(&key)).collect::<Vec<_>>();
        if has.iter().all(|copy| copy.is_none()) {
            continue;
        }
        let document = hub.get(&format!("/v1/entities/wish/{key}"))["document"].clone();
        if has.iter().any(|copy| copy.as_ref() != Some(&document)) {
            let why = hub.ask(&["entity", "explain", &format!("wish/{key}")]).out;
            different.push(format!("{key}: the hub has {document}, the systems {has:?}\n{why}"));
        }
    }
    let updates: u64 = systems.iter().map(|system| system.updates()).sum();
    let told: u64 = systems.iter().map(|system| system.told()).sum();
    let echoes: u64 = systems.iter().map(|system| system.echoes()).sum();
    let repeated: u64 = systems.iter().map(|system| system.repeated()).sum();
    println!(
        "{updates} updates of {} entities in {:?}: {before} events, {told} deliveries ({repeated} repeated), {echoes} \
         echoes, quiet after {quiet_after:?}, {} different",
        size.entities,
        size.time,
        different.len()
    );
    assert_eq!(repeated, 0, "each change is delivered to each system once");
    // A word that was overwritten while it was on its way may be said, and told, once more.
    assert!(before <= 2 * updates, "{before} events of {updates} updates");
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different[..different.len().min(3)].join("\n"));
}

fn metric(hub: &Hub, name: &str) -> u64 {
    let authorization = format!("Bearer {}", hub.key);
    let (status, text) = hub.http("GET", "/metrics", &[("authorization", &authorization)], b"");
    assert_eq!(status, 200, "{text}");
    let values = text.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().unwrap() as u64).sum()
}

fn published(hub: &Hub) -> u64 {
    metric(hub, "lockstep_events_published_total")
}

fn is_delivered(hub: &Hub) -> bool {
    metric(hub, "lockstep_destination_pending") == 0
}

#[test]
fn two_systems_that_echo_everything_come_to_rest_and_are_equal() {
    // `LOCKSTEP_PING_PONG=full` plays for a minute with a thousand entities; `crowded` has all changes meet in twenty,
    // where a few may end differently: see `crates/core/tests/echoes.rs`.
    let size = match std::env::var("LOCKSTEP_PING_PONG").as_deref() {
        Ok("full") => Size { entities: 1_000, time: Duration::from_secs(60), pause_max_ms: 20 },
        Ok("crowded") => Size { entities: 20, time: Duration::from_secs(5), pause_max_ms: 10 },
        _ => Size { entities: 100, time: Duration::from_secs(3), pause_max_ms: 20 },
    };
    play(&size);
}

#[test]
fn a_signature_is_what_the_hub_makes() {
    // So that what the systems here accept is what the hub's own command signs.
    let folder = folder("");
    write(folder.path(), "body", "hello");
    let secret = write(folder.path(), "secret", system::SECRET);
    let reference = format!("file:{}", secret.display());
    let args = ["webhook", "sign", "--scheme", "standard-webhooks", "--secret", &reference, "body"];
    let signed = common::run(folder.path(), &args).expect(0).out;
    let header = |name: &str| signed.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let expected =
        common::sign::standard(system::SECRET, &header("webhook-id:"), &header("webhook-timestamp:"), b"hello");
    assert_eq!(header("webhook-signature:"), expected);
}
