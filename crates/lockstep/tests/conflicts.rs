//! The commands about conflicts, with the real binary and a real hub.

mod common;

use common::{Hub, folder, run};
use serde_json::json;

const CONFIG: &str = "\
[domains.product]
fields.title = { policy = \"review\" }
";

#[test]
fn conflicts_are_listed_shown_decided_and_taken_back() {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    let key = |system: &str| {
        let made = run(folder.path(), &["key", "create", "--name", system, "--scopes", "write", "--system", system]);
        made.expect(0).out.trim().to_owned()
    };
    let (shop, erp) = (key("shop"), key("erp"));
    let none = hub.ask(&["conflict", "list"]).expect(0).out;
    assert_eq!(none, "there are no open conflicts\n");
    let says = |hub: &Hub, key: &str, product: &str, request: &str, title: &str| {
        let fields = json!({ "title": title }).to_string();
        assert_eq!(hub.set(key, &format!("product/{product}"), request, &fields).0, 200);
    };
    says(&hub, &shop, "P-1", "s1", "Teapot");
    says(&hub, &erp, "P-1", "e1", "Tea pot");

    let listed = hub.ask(&["conflict", "list", "--kind", "product"]).expect(0).out;
    let row: Vec<_> =
        listed.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        (&row[..3], &row[4..]),
        (&["product/P-1", "title", "open"][..], &["Teapot", "shop: Teapot, erp: Tea pot"][..])
    );
    let one = ["product/P-1", "title"];
    let shown = hub.ask(&["conflict", "show", one[0], one[1]]).expect(0).out;
    assert!(shown.starts_with("product/P-1 title  open since "), "{shown}");
    assert!(shown.contains("\nstands: Teapot\n") && shown.contains("\nerp     Tea pot  "), "{shown}");

    hub.ask(&["conflict", "reverse", one[0], one[1], "--reason", "nothing yet"]).expect(1);
    hub.ask(&["conflict", "resolve", one[0], one[1], "--prefer", "pim", "--reason", "x"]).expect(1);
    let wrong = hub.ask(&["conflict", "resolve", one[0], one[1], "--value", "7", "--reason", "x"]).expect(1);
    assert!(wrong.err.contains("/title"), "{}", wrong.err);
    hub.ask(&["conflict", "resolve", one[0], one[1], "--value", "Kettle", "--reason", "x"]).expect(2);
    hub.ask(&["conflict", "resolve", one[0], one[1], "--prefer", "erp"]).expect(2);
    hub.ask(&["conflict", "resolve", one[0], one[1], "--reason", "x"]).expect(2);
    hub.ask_with(&shop, &["conflict", "resolve", one[0], one[1], "--prefer", "erp", "--reason", "x"]).expect(4);

    let resolve = ["conflict", "resolve", one[0], one[1], "--value", "\"Kettle\"", "--reason", "looked at it"];
    let said = hub.ask(&[&resolve[..], &["--idempotency-key", "k"]].concat()).expect(0).out;
    assert_eq!(said, "product/P-1 title: resolved, Kettle stands\n");
    let again = hub.ask(&[&resolve[..], &["--idempotency-key", "k", "--json"]].concat()).expect(0).json();
    assert_eq!(again["outcome"]["outcome"], "duplicate");
    let late = hub.ask(&[&resolve[..], &["--json"]].concat()).expect(1);
    assert!(late.err.contains("\"conflict-not-open\""), "{}", late.err);
    let shown = hub.ask(&["conflict", "show", one[0], one[1]]).expect(0).out;
    assert!(shown.contains("\nvalue by tests at ") && shown.ends_with(": looked at it\n"), "{shown}");
    let back = hub.ask(&["conflict", "reverse", one[0], one[1], "--reason", "the wrong one"]).expect(0).out;
    assert_eq!(back, "product/P-1 title: open, Teapot stands\n");
    let history = hub.ask(&["entity", "history", "conflict/product/P-1#title", "--json"]).expect(0).json_lines();
    let reasons: Vec<_> = history.iter().filter_map(|item| item["fields"]["decision"]["reason"].as_str()).collect();
    assert_eq!(reasons, ["the wrong one", "looked at it"]);

    // "Always" is kept by the hub, also where it is killed.
    let always = ["conflict", "resolve", one[0], one[1], "--prefer", "erp", "--always", "--reason", "it knows"];
    hub.ask(&always).expect(0);
    drop(hub);
    let hub = Hub::start(folder.path());
    says(&hub, &shop, "P-2", "s2", "Cup");
    says(&hub, &erp, "P-2", "e2", "Mug");
    hub.ask(&["conflict", "show", "product/P-2", "title"]).expect(1);
    assert_eq!(hub.ask(&["entity", "show", "product/P-2", "--json"]).expect(0).json()["document"]["title"], "Mug");
    let listed = hub.ask(&["preference", "list", "--json"]).expect(0).json();
    assert_eq!((&listed["system"], &listed["decision"]["reason"]), (&json!("erp"), &json!("it knows")));
    hub.ask(&["preference", "set", "product", "vendor", "erp", "--reason", "x"]).expect(1);
    let set = hub.ask(&["preference", "set", "product", "title", "shop", "--reason", "x"]).expect(0).out;
    assert_eq!(set, "shop is always preferred for title of product\n");
    hub.ask(&["preference", "clear", "product", "title", "--reason", "all may speak"]).expect(0);
    hub.ask(&["preference", "clear", "product", "title", "--reason", "all may speak"]).expect(1);
    assert_eq!(hub.ask(&["preference", "list"]).expect(0).out, "no system is preferred\n");
    says(&hub, &shop, "P-3", "s3", "Cup");
    says(&hub, &erp, "P-3", "e3", "Mug");
    let open = hub.ask(&["conflict", "list", "--json"]).expect(0).json_lines();
    assert_eq!(open.iter().map(|c| c["key"].as_str().unwrap()).collect::<Vec<_>>(), ["P-3"]);
}

#[test]
fn the_hubs_own_kinds_and_names_are_nobodys() {
    let check = |config: &str| run(folder(config).path(), &["check"]).expect(2).out;
    for kind in ["alias", "conflict", "merge", "preference"] {
        let said = check(&format!("[domains.{kind}]\npolicy = \"latest\"\n"));
        assert!(said.contains(&format!("`{kind}` is a kind of the hub's own")), "{said}");
    }
    let said = check("[systems.\"@operator\"]\npriority = 1\n");
    assert!(said.contains("a system's name must be 1 to 64 characters"), "{said}");
    let folder = folder("");
    let args = ["key", "create", "--name", "x", "--scopes", "write", "--system", "@operator"];
    run(folder.path(), &args).expect(2);
}

#[test]
fn a_mapping_does_not_write_the_hubs_own_kinds() {
    let folder = folder(
        "\
[sources.market]
system = \"market\"
mapping = \"maps/market.vrl\"
secrets = [\"env:SHOP_SECRET\"]
signature = { scheme = \"shopify\" }
",
    );
    let map = "{ \"kind\": string!(.kind), \"key\": string!(.id), \"fields\": { \"status\": \"resolved\" }, \"deleted\": .gone }\n";
    common::write(folder.path(), "maps/market.vrl", map);
    let hub = Hub::start(folder.path());
    for (kind, gone) in [("conflict", false), ("conflict", true), ("preference", false), ("preference", true)] {
        let body = json!({ "kind": kind, "id": "product/P-1#title", "gone": gone }).to_string();
        let (status, answer) = hub.deliver("market", &[], &body);
        assert_eq!((status, &answer["outcome"]), (200, &json!("quarantined")), "{answer}");
        assert_eq!(hub.ask(&["conflict", "list", "--status", "all", "--json"]).expect(0).out, "");
    }
}
