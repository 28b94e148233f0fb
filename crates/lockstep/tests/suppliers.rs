//! `examples/suppliers`: its README is what is run here, with its own events.

mod common;

use std::path::{Path, PathBuf};

use common::{Hub, SECRET, lockstep, run, sign};
use serde_json::{Value, json};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/suppliers")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The example in a folder of its own, and its hub, with one secret for all.
fn start() -> (tempfile::TempDir, Hub, String) {
    let folder = tempfile::tempdir().unwrap();
    copy(&example(), folder.path());
    let args = ["key", "create", "--name", "tests", "--scopes", "admin", "--system", "quality"];
    let mut command = lockstep();
    command.envs([("ERP_SECRET", SECRET), ("PORTAL_SECRET", SECRET)]);
    let made = common::finish(command.current_dir(folder.path()).args(args)).expect(0);
    std::fs::write(folder.path().join("tests.key"), made.out.trim()).unwrap();
    let mut serve = lockstep();
    serve.envs([("ERP_SECRET", SECRET), ("PORTAL_SECRET", SECRET)]).args(["serve", "--listen", "127.0.0.1:0"]);
    let hub = Hub::of(folder.path(), serve);
    let readme = std::fs::read_to_string(example().join("README.md")).unwrap();
    (folder, hub, readme)
}

/// What the README sends, in its order: source, file, delivery.
fn sends(readme: &str) -> Vec<[String; 3]> {
    let words = |line: &str| line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let lines = readme.lines().filter(|line| line.starts_with("send ") || line.contains("--data-binary @events"));
    let mut all = Vec::new();
    for line in lines {
        match line.split_once("@events/") {
            Some((_, file)) => {
                all.push(["quality".into(), format!("events/{}", file.split(';').next().unwrap()), "q-1".into()])
            }
            None => all.push(words(line).try_into().unwrap()),
        }
    }
    assert_eq!(all.len(), 5, "{all:?}");
    all
}

fn send(hub: &Hub, [source, file, delivery]: &[String; 3]) -> Value {
    let body = std::fs::read_to_string(hub.folder.join(file)).unwrap();
    if source == "quality" {
        let (status, answer) = hub.set(&hub.key, "supplier/S-100", delivery, &body);
        assert_eq!(status, 200, "{answer}");
        return answer;
    }
    let reference = "env:SHOP_SECRET";
    let args = ["webhook", "sign", "--scheme", "hmac", "--hmac-header", "x-signature", "--secret", reference, file];
    let signed = run(&hub.folder, &args).expect(0).out;
    let mut headers: Vec<_> = signed.lines().map(|line| line.split_once(": ").unwrap()).collect();
    headers.extend([("content-type", "application/json"), ("x-delivery", delivery.as_str())]);
    let (status, answer) = hub.http("POST", &format!("/v1/webhooks/{source}"), &headers, body.as_bytes());
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_ne!(answer["outcome"], "quarantined", "{}", hub.ask(&["quarantine", "list"]).out);
    answer
}

fn supplier(hub: &Hub) -> Value {
    hub.get("/v1/entities/supplier/S-100")
}

fn explained(hub: &Hub, field: &str) -> Value {
    hub.get(&format!("/v1/entities/supplier/S-100/explain?field={field}"))["fields"][0].clone()
}

/// The document that the README ends with.
fn expected(readme: &str) -> Value {
    let (_, block) = readme.split_once("```json\n").unwrap();
    serde_json::from_str(block.split_once("```").unwrap().0).unwrap()
}

#[test]
fn check_finds_nothing_wrong_with_the_example() {
    let checked = run(&example(), &["check"]).expect(0).out;
    assert!(checked.contains("2 sources") && checked.contains("1 domain"), "{checked}");
}

#[test]
fn the_walk_through_ends_as_the_readme_says() {
    let (_folder, hub, readme) = start();
    let sends = sends(&readme);
    send(&hub, &sends[0]);
    assert_eq!(supplier(&hub)["incomplete"], true);
    assert!(hub.events().is_empty(), "nobody is told of a supplier without a name");

    send(&hub, &sends[1]);
    let types: Vec<_> = hub.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, ["supplier.changed", "conflict.opened"]);
    assert_eq!(explained(&hub, "iban")["rule"], "contested");

    send(&hub, &sends[2]);
    let terms = explained(&hub, "terms");
    assert_eq!((&terms["value"], &terms["winner"]["system"]), (&json!("14 days"), &json!("erp")), "{terms}");

    send(&hub, &sends[3]);
    send(&hub, &sends[4]);
    assert_eq!(explained(&hub, "iban")["rule"], "agreed");
    assert_eq!(supplier(&hub)["document"], expected(&readme));
}

#[test]
fn any_other_order_ends_in_the_same_document() {
    let (_folder, hub, readme) = start();
    let sends = sends(&readme);
    for at in [4, 2, 1, 0, 3, 2, 0] {
        send(&hub, &sends[at]);
    }
    assert_eq!(supplier(&hub)["document"], expected(&readme));
}

#[test]
fn the_signature_of_the_example_is_plain_hmac() {
    // The test's own HMAC and the command's agree, in the two ways to write it.
    let args = ["webhook", "sign", "--scheme", "hmac", "--hmac-header", "x-signature", "--hmac-encoding", "base64"];
    let file = example().join("events/erp-1.json");
    let args = [&args[..], &["--secret", "env:SHOP_SECRET", file.to_str().unwrap()]].concat();
    let signed = run(&example(), &args).expect(0).out;
    let body = std::fs::read(&file).unwrap();
    assert_eq!(signed.trim(), format!("x-signature: {}", sign::hmac(SECRET.as_bytes(), &body)));
}
