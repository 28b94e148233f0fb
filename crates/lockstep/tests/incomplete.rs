//! The report of entities of which nobody is told, with the real binary and a real hub.

mod common;

use common::{Hub, folder, run, until};
use serde_json::{Value, json};

const CONFIG: &str = "\
[hub]
name = \"tests\"

[domains.customer]
required = [\"email\", \"phone\"]
incomplete_after_s = 1

[domains.product]
required = [\"title\"]
incomplete_after_s = 3600
";

#[test]
fn what_waits_for_fields_is_listed_measured_and_told_of() {
    let folder = folder(CONFIG);
    let hub = Hub::start(folder.path());
    let key = |system: &str| {
        let made = run(folder.path(), &["key", "create", "--name", system, "--scopes", "write", "--system", system]);
        made.expect(0).out.trim().to_owned()
    };
    let (shop, crm) = (key("shop"), key("crm"));
    let list = |hub: &Hub, query: &str| hub.get(&format!("/v1/incomplete{query}"))["items"].as_array().unwrap().clone();
    let keys = |items: &[Value]| items.iter().map(|i| i["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(hub.ask(&["entity", "incomplete"]).expect(0).out, "there are no such incomplete entities\n");

    let set = |hub: &Hub, key: &str, entity: &str, request: &str, fields: &Value| {
        let (status, answer) = hub.set(key, entity, request, &fields.to_string());
        assert_eq!(status, 200, "{answer}");
    };
    for (number, name) in ["b", "a", "c"].iter().enumerate() {
        set(&hub, &shop, &format!("customer/{name}"), &format!("s{number}"), &json!({ "phone": "1" }));
    }
    set(&hub, &crm, "customer/b", "b2", &json!({ "name": "Bea" }));
    set(&hub, &shop, "product/P", "p", &json!({ "vendor": "x" }));
    set(&hub, &shop, "product/Q", "q", &json!({ "title": "Whole" }));
    let all = list(&hub, "");
    assert_eq!(keys(&all), ["b", "a", "c", "P"], "by kind, the oldest first");
    assert_eq!((&all[0]["missing"], &all[0]["systems"]), (&json!(["email"]), &json!(["shop", "crm"])));
    assert_eq!(all[0]["since"], hub.get("/v1/entities/customer/b")["created_at"]);
    assert_eq!(keys(&list(&hub, "?kind=product")), ["P"]);
    assert_eq!(keys(&list(&hub, "?older_than_s=3600")), [""; 0]);

    // Part by part.
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let page = hub.get(&format!("/v1/incomplete?limit=1{after}"));
        pages.extend(keys(page["items"].as_array().unwrap()));
        match page["next_after"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(pages, ["b", "a", "c", "P"]);

    // What is there at last is told of, and no longer listed; what is missing again is listed again.
    set(&hub, &crm, "customer/a", "a2", &json!({ "email": "a@example.com" }));
    assert_eq!(keys(&list(&hub, "")), ["b", "c", "P"]);
    assert_eq!(hub.types_of("customer/a"), ["customer.changed"]);
    set(&hub, &crm, "customer/a", "a3", &json!({ "email": null }));
    assert_eq!(keys(&list(&hub, "?kind=customer")), ["b", "c", "a"]);
    set(&hub, &crm, "customer/a", "a4", &json!({ "email": "a@example.com" }));

    // Readiness and metrics tell of those that are so for too long.
    let overdue = until("the limit has passed", || {
        let stuck = hub.get("/healthz/ready")["stuck"].as_array().unwrap().clone();
        let text = stuck.first().map(|text| text.as_str().unwrap().to_owned());
        // The figures are a moment old: the third one may still be among them.
        text.filter(|text| text.starts_with("2 "))
    });
    assert!(overdue.starts_with("2 incomplete: nobody is told of `customer/b` for "), "{overdue}");
    let bearer = format!("Bearer {}", hub.key);
    let metrics = hub.http("GET", "/metrics", &[("authorization", &bearer)], b"").1;
    for line in [
        "lockstep_incomplete_entities{kind=\"customer\"} 2",
        "lockstep_incomplete_entities{kind=\"product\"} 1",
        "lockstep_incomplete_overdue{kind=\"customer\"} 1",
        "lockstep_incomplete_overdue{kind=\"product\"} 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    assert!(keys(&list(&hub, "?older_than_s=1&kind=customer")).contains(&"b".to_owned()));

    // A killed hub has the list again by folding, one that has ended from its file.
    drop(hub);
    let hub = Hub::start(folder.path());
    assert_eq!(keys(&list(&hub, "")), ["b", "c", "P"]);
    hub.signal("TERM");
    let (code, logs) = hub.ended();
    assert_eq!((code, logs.matches("nobody is told of `customer/b`").count()), (0, 1), "{logs}");
    let hub = Hub::start(folder.path());
    assert_eq!(keys(&list(&hub, "")), ["b", "c", "P"]);
    set(&hub, &crm, "customer/b", "b3", &json!({ "email": "b@example.com" }));
    assert_eq!(keys(&list(&hub, "")), ["c", "P"]);
    // Without its file it is made from the journal alone.
    hub.signal("TERM");
    assert_eq!(hub.ended().0, 0);
    std::fs::remove_file(folder.path().join("lockstep-data/state.sqlite")).unwrap();
    let hub = Hub::start(folder.path());
    assert_eq!(keys(&list(&hub, "")), ["c", "P"]);

    let shown = hub.ask(&["entity", "incomplete", "--kind", "customer", "--older-than", "0s"]).expect(0).out;
    let row: Vec<_> = shown.lines().nth(1).unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    assert_eq!((row[0], &row[2..]), ("customer/c", &["email", "shop"][..]), "{shown}");
    let shown = hub.ask(&["entity", "incomplete", "--json"]).expect(0).json_lines();
    assert_eq!(keys(&shown), ["c", "P"]);
    hub.ask(&["entity", "incomplete", "--older-than", "5"]).expect(2);
    for wrong in ["kind=Order", "older_than_s=-1", "after=x", "after=a/b/c", "limit=0", "age=5"] {
        let (status, answer) = hub.http("GET", &format!("/v1/incomplete?{wrong}"), &[("authorization", &bearer)], b"");
        assert_eq!(status, 400, "{wrong}: {answer}");
    }
    assert_eq!(hub.http("GET", "/v1/incomplete", &[("authorization", &format!("Bearer {shop}"))], b"").0, 403);
}
