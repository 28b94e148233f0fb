//! What happens when the hub can't do what it is asked: nothing is acknowledged that is not durable.

use crate::harness::{Gate, GatedJournal, Server, Setup, price, price_path};

fn gated() -> (Setup, crate::harness::GateHandle) {
    let (journal, gate) = GatedJournal::with_gate();
    (Setup { journal: Some(journal), ..Setup::default() }, gate)
}

#[tokio::test]
async fn a_full_disk_refuses_writes_with_503_reads_go_on_and_it_recovers_by_itself() {
    let (setup, gate) = gated();
    let server = Server::with(setup).await;
    server.event(&price("1", "A", 1)).await.ok();
    gate.set(Gate::Full);
    let answer = server.event(&price("2", "A", 2)).await;
    let problem = answer.problem(503, "disk-full");
    assert_eq!(answer.header("retry-after"), problem["retry_after_s"].to_string());
    assert_eq!(server.get(&price_path("A")).await.ok()["version"], 1);
    assert_eq!(server.get("/v1/events").await.ok()["items"].as_array().unwrap().len(), 1);
    let ready = server.get("/healthz/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.json()["stuck"][0].as_str().unwrap().contains("disk"), "{}", ready.text());
    assert_eq!(server.get("/healthz/live").await.status, 200);
    gate.set(Gate::Open);
    server.until("/healthz/ready", "space again", |ready| ready.status == 200).await;
    assert_eq!(server.event(&price("2", "A", 2)).await.ok()["results"][0]["outcome"], "applied");
    assert_eq!(server.get(&price_path("A")).await.ok()["version"], 2);
    server.stop().await;
}

#[tokio::test]
async fn a_failed_write_poisons_and_writes_are_503_until_the_hub_is_started_again() {
    let (setup, gate) = gated();
    let server = Server::with(setup).await;
    server.event(&price("1", "A", 1)).await.ok();
    gate.set(Gate::Broken);
    server.event(&price("2", "A", 2)).await.problem(503, "poisoned");
    gate.set(Gate::Open);
    server.event(&price("3", "A", 3)).await.problem(503, "poisoned");
    let ready = server.get("/healthz/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("poisoned"), "{}", ready.text());
    server.stop().await;
}

#[tokio::test]
async fn a_saturated_hub_is_429_with_retry_after() {
    let (setup, gate) = gated();
    let setup = Setup { hub: Box::new(|options| options.queue_bytes_max = 1), ..setup };
    let server = Server::with(setup).await;
    gate.set(Gate::Closed);
    let (first, second) = (price("1", "A", 1), price("2", "A", 2));
    let first = server.event(&first);
    let rest = async {
        // The first holds all the room from the moment that it is submitted until it is durable.
        let stats = server.hub.handle();
        while stats.stats().queue_bytes.load(std::sync::atomic::Ordering::Relaxed) == 0
            && stats.stats().decided.load(std::sync::atomic::Ordering::Relaxed) == 0
        {
            tokio::task::yield_now().await;
        }
        let answer = server.event(&second).await;
        answer.problem(429, "saturated");
        assert_eq!(answer.header("retry-after"), "1");
        gate.set(Gate::Open);
    };
    let (first, ()) = tokio::join!(first, rest);
    assert_eq!(first.ok()["results"][0]["outcome"], "applied");
    assert_eq!(server.event(&second).await.ok()["results"][0]["outcome"], "applied");
    server.stop().await;
}

#[tokio::test]
async fn stopping_answers_what_is_under_way_and_loses_nothing() {
    let (setup, gate) = gated();
    let mut server = Server::with(setup).await;
    gate.set(Gate::Closed);
    server.stop_once_decided(gate);
    assert_eq!(server.event(&price("1", "A", 1)).await.ok()["results"][0]["outcome"], "applied");
    server.stop().await;
}
