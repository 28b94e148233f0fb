//! Entities that are found to be one, and are not after all: through the real process.

mod common;

use std::sync::{Arc, Mutex};

use common::{Hub, folder, run, until};
use serde_json::{Value, json};

const CONFIG: &str = "\
[domains.customer]
fields.note = { policy = \"review\" }

[domains.product]
policy = \"owner\"
owner = [\"erp\"]

[systems.erp]

[systems.shop]
";

struct World {
    hub: Hub,
    shop: String,
    erp: String,
}

fn world(folder: &tempfile::TempDir) -> World {
    let hub = Hub::start(folder.path());
    let key = |system: &str| {
        let made = run(folder.path(), &["key", "create", "--name", system, "--scopes", "write", "--system", system]);
        made.expect(0).out.trim().to_owned()
    };
    let (shop, erp) = (key("shop"), key("erp"));
    World { hub, shop, erp }
}

impl World {
    /// One event of a system, with its own clock.
    #[track_caller]
    fn says(&self, key: &str, entity: &str, second: u32, data: &Value) -> Value {
        let id = Arc::new(Mutex::new(format!("{entity}-{second}-{data}")));
        let event = json!({ "specversion": "1.0", "id": *id.lock().unwrap(), "source": "s", "subject": entity,
            "type": format!("{}.changed", entity.split('/').next().unwrap()),
            "time": format!("2026-01-01T00:00:{second:02}Z"), "data": data });
        self.hub.event(key, &event)
    }

    fn document(&self, entity: &str) -> Value {
        self.entity(entity)["document"].clone()
    }

    fn entity(&self, entity: &str) -> Value {
        self.hub.get(&format!("/v1/entities/{entity}"))
    }
}

/// Decided anew from what was recorded, all of it comes to the same.
#[track_caller]
fn nothing_would_be_different(folder: &std::path::Path) {
    let said = run(folder, &["whatif", "--config", "lockstep.toml", "--from", "1"]).expect(0).out;
    assert!(said.ends_with("nothing would be different\n") || said.contains(" 0 different"), "{said}");
}

fn post(hub: &Hub, key: &str, path: &str, request: &str, body: &Value) -> (u16, Value) {
    let bearer = format!("Bearer {key}");
    let headers =
        [("authorization", bearer.as_str()), ("idempotency-key", request), ("content-type", "application/json")];
    let (status, answer) = hub.http("POST", &format!("/v1/entities/{path}"), &headers, body.to_string().as_bytes());
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

#[test]
fn what_is_one_is_merged_and_what_is_not_is_parted_exactly() {
    let folder = folder(CONFIG);
    let world = world(&folder);
    let World { hub, shop, erp } = &world;
    world.says(shop, "customer/A", 1, &json!({ "email": "a@x", "phone": "1", "external_ids": ["@shop/id/A"] }));
    world.says(shop, "customer/B", 2, &json!({ "email": "b@x", "external_ids": ["@shop/id/B"] }));
    world.says(erp, "customer/B", 3, &json!({ "last_name": "Bee" }));
    let before = (world.document("customer/A"), world.document("customer/B"));

    let said = hub.ask(&["entity", "merge", "customer/B", "customer/A", "--reason", "one person"]).expect(0).out;
    assert_eq!(said, "customer/B is now customer/A  version 2\n");
    let both = json!({ "email": "b@x", "phone": "1", "last_name": "Bee",
        "external_ids": ["@shop/id/B"] });
    // Of what one system has said of both, its latest word counts, as if it had said all of that of one.
    assert_eq!(world.document("customer/A"), both);
    // Reads by the other key and by external ids answer with the one that stays, and say so.
    for name in ["customer/B", "customer/@shop%2Fid%2FB"] {
        let read = world.entity(name);
        assert_eq!((&read["key"], &read["members"], &read["document"]), (&json!("A"), &json!(["B"]), &both), "{name}");
        assert_eq!(read["asked_for"].as_str().unwrap().replace('/', "%2F"), name[9..]);
    }
    let listed = hub.get("/v1/entities/customer")["items"].as_array().unwrap().clone();
    assert_eq!((&listed[0]["members"], &listed[1]["merged_into"]), (&json!(["B"]), &json!("A")));
    // Destinations hear that the one is gone, and into what.
    assert_eq!(hub.types_of("customer/B"), ["customer.changed", "customer.changed", "customer.deleted"]);
    assert_eq!(hub.types_of("customer/A"), ["customer.changed", "customer.changed"]);
    let gone = hub.events().into_iter().find(|event| event["type"] == "customer.deleted").unwrap();
    assert_eq!((&gone["mergedinto"], &gone["data"]["deleted"]), (&json!("A"), &json!(true)));
    let told = hub.events().into_iter().rfind(|event| event["subject"] == "customer/A").unwrap();
    assert_eq!(
        (&told["data"]["document"], &told["data"]["changed"]),
        (&both, &json!(["email", "external_ids", "last_name"]))
    );

    // What is said of either is said of the one that stays.
    let answer = world.says(erp, "customer/B", 5, &json!({ "phone": "5" }));
    assert_eq!((&answer["outcome"], &answer["version"]), (&json!("applied"), &json!(3)));
    world.says(shop, "customer/@shop/id/B", 6, &json!({ "first_name": "Bob" }));
    world.says(shop, "customer/A", 7, &json!({ "phone": "7" }));
    assert_eq!(world.document("customer/B")["phone"], "7");
    assert_eq!(world.document("customer/A")["first_name"], "Bob");
    let late = world.says(shop, "customer/A", 0, &json!({ "email": "old@x" }));
    assert_eq!(late["outcome"], "superseded");
    assert_eq!(world.document("customer/A")["email"], "b@x");
    assert_eq!(hub.types_of("customer/B").len(), 3, "nobody is told of it by the old key");
    let (status, answer) = hub.set(shop, "customer/C", "c", "{\"external_ids\":[\"@shop/id/B\"]}");
    assert_eq!((status, &answer["known"]), (409, &json!("customer/B")));
    // One that belongs to a member may be given by the key of the one that stays.
    assert_eq!(
        world.says(shop, "customer/A", 8, &json!({ "external_ids": ["@shop/id/A", "@shop/id/B"] }))["outcome"],
        "applied"
    );

    // It is explained: who said it, and by which key.
    let explained = hub.get("/v1/entities/customer/B/explain?field=email");
    let email = &explained["fields"][0];
    assert_eq!((&explained["key"], &explained["members"]), (&json!("A"), &json!(["B"])));
    assert_eq!((&email["winner"]["system"], &email["winner"]["member"]), (&json!("shop"), &json!("B")));
    assert_eq!((&email["losers"][0]["system"], &email["losers"][0]["member"]), (&json!("shop"), &Value::Null));
    assert_eq!(email["losers"][0]["reason"], "what it says of B is newer, or further along");
    let explained = hub.ask(&["entity", "explain", "customer/A", "--field", "email"]).expect(0).out;
    assert!(explained.contains("shop@B"), "{explained}");
    let history = hub.get("/v1/entities/customer/A/history")["items"].as_array().unwrap().clone();
    let step = history.iter().find(|item| item["merge"]["action"] == "joined").unwrap();
    assert_eq!(step["merge"]["keys"], json!(["B"]));
    assert!(history.iter().any(|item| item["via"] == "B" && item["system"] == "erp"));
    let merge = hub.get("/v1/entities/merge/customer%2FB");
    assert_eq!(
        (&merge["document"]["into"], &merge["document"]["decision"]["reason"]),
        (&json!("A"), &json!("one person"))
    );

    // A killed hub knows it again, by its file or without.
    let shown = world.entity("customer/B");
    let World { hub, shop, erp } = world;
    drop(hub);
    std::fs::remove_file(folder.path().join("lockstep-data/state.sqlite")).unwrap();
    let world = World { hub: Hub::start(folder.path()), shop, erp };
    assert_eq!(world.entity("customer/B"), shown);

    // Undone, both are as they would be, with what was said meanwhile by each key.
    let hub = &world.hub;
    let said = hub.ask(&["entity", "unmerge", "customer/B", "--reason", "a namesake"]).expect(0).out;
    assert!(said.starts_with("customer/B  version ") && said.ends_with(" is one of its own again\n"), "{said}");
    let mut a = before.0;
    (a["phone"], a["external_ids"]) = (json!("7"), json!(["@shop/id/A", "@shop/id/B"]));
    assert_eq!(world.document("customer/A"), a);
    let mut b = before.1;
    (b["phone"], b["first_name"]) = (json!("5"), json!("Bob"));
    let read = world.entity("customer/B");
    assert_eq!((&read["key"], &read["document"], &read["asked_for"]), (&json!("B"), &b, &Value::Null));
    assert_eq!(world.entity("customer/A")["members"], Value::Null);
    assert_eq!(hub.types_of("customer/B").last().unwrap(), "customer.changed");
    assert_eq!(hub.get("/v1/aliases/shop/id/B")["key"], "B");
    hub.ask(&["entity", "unmerge", "customer/B", "--reason", "x"]).expect(1);
    nothing_would_be_different(folder.path());
}

#[test]
fn merges_that_can_not_be_are_refused() {
    let folder = folder(CONFIG);
    let world = world(&folder);
    let World { hub, shop, .. } = &world;
    for (second, key) in ["customer/A", "customer/B", "customer/C", "product/P"].into_iter().enumerate() {
        let name = if key.starts_with('p') { "title" } else { "phone" };
        world.says(
            shop,
            key,
            second as u32,
            &json!({ name: "1", "external_ids": [format!("@shop/id/{}", &key[key.len() - 1..])] }),
        );
    }
    world.says(shop, "order/1", 1, &json!({ "number": "1" }));
    world.says(shop, "order/2", 1, &json!({ "number": "2" }));
    let into = |key: &str| json!({ "into": key, "reason": "x" });
    let ask = |path: &str, request: &str, body: &Value| {
        let (status, answer) = post(hub, &hub.key, path, request, body);
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let code = |status, code: &str| (status, code.to_owned());
    assert_eq!(ask("customer/A/merge", "1", &into("A")), code(422, "merge-invalid"));
    assert_eq!(ask("customer/A/merge", "2", &into("@shop/id/A")), code(422, "merge-invalid"));
    assert_eq!(ask("customer/A/merge", "3", &into("X")), code(404, "unknown-entity"));
    assert_eq!(ask("customer/X/merge", "4", &into("A")), code(404, "unknown-entity"));
    assert_eq!(ask("customer/A/merge", "5", &into("@shop/id/P")), code(404, "unknown-entity"), "another kind");
    assert_eq!(ask("customer/A/merge", "6", &into("")), code(400, "invalid-body"));
    assert_eq!(ask("customer/A/merge", "7", &json!({ "into": "B" })), code(400, "invalid-body"));
    assert_eq!(ask("customer/A/merge", "8", &json!({ "into": "B", "reason": " " })), code(400, "invalid-body"));
    assert_eq!(ask("order/1/merge", "9", &into("2")), code(422, "merge-invalid"));
    assert_eq!(ask("conflict/1/merge", "10", &into("2")), code(422, "merge-invalid"));
    assert_eq!(ask("customer/A/unmerge", "11", &json!({ "reason": "x" })), code(409, "merge-impossible"));
    assert_eq!(ask("customer/X/unmerge", "12", &json!({ "reason": "x" })), code(404, "unknown-entity"));
    assert_eq!(post(hub, shop, "customer/B/merge", "13", &into("A")).0, 403);
    hub.ask(&["entity", "merge", "customer/A", "product/P", "--reason", "x"]).expect(2);
    hub.ask(&["entity", "merge", "customer/A", "customer/B"]).expect(2);

    let (status, merged) = post(hub, &hub.key, "customer/B/merge", "m", &into("A"));
    assert_eq!(
        (status, &merged["entity"]["key"], &merged["outcome"]["outcome"]),
        (200, &json!("A"), &json!("applied"))
    );
    let (status, again) = post(hub, &hub.key, "customer/B/merge", "m", &into("A"));
    assert_eq!((status, &again["outcome"]["outcome"]), (200, &json!("duplicate")));
    assert_eq!(ask("customer/B/merge", "m", &into("C")), code(422, "key-reused"));
    assert_eq!(ask("customer/B/merge", "14", &into("C")), code(409, "merge-impossible"));
    assert_eq!(ask("customer/C/merge", "15", &into("B")), code(409, "merge-impossible"));
    assert_eq!(ask("customer/A/merge", "16", &into("B")), code(409, "merge-impossible"), "no circles");
    // What has members may be merged itself; then the first merge can be undone as well.
    assert_eq!(post(hub, &hub.key, "customer/A/merge", "17", &into("@shop/id/C")).0, 200);
    assert_eq!(
        (&world.entity("customer/B")["key"], &world.entity("customer/B")["members"]),
        (&json!("C"), &json!(["A", "B"]))
    );
    assert_eq!(ask("customer/C/merge", "18", &into("B")), code(409, "merge-impossible"), "no longer circles");
    assert_eq!(post(hub, &hub.key, "customer/B/unmerge", "19", &json!({ "reason": "x" })).0, 200);
    assert_eq!((&world.entity("customer/B")["key"], &world.entity("customer/A")["key"]), (&json!("B"), &json!("C")));
    assert_eq!(world.entity("customer/C")["members"], json!(["A"]));
}

#[test]
fn rules_hold_for_all_that_is_merged() {
    let folder = folder(CONFIG);
    let world = world(&folder);
    let World { hub, shop, erp } = &world;
    // The owner's word counts, by whichever key it is said.
    world.says(erp, "product/B", 1, &json!({ "title": "Teapot" }));
    world.says(shop, "product/A", 2, &json!({ "title": "Tea pot", "vendor": "x" }));
    hub.ask(&["entity", "merge", "product/B", "product/A", "--reason", "one thing"]).expect(0);
    assert_eq!(world.document("product/A"), json!({ "title": "Teapot", "vendor": "x" }));
    // What is deleted by the one key is deleted for the system that says so, as if it had said it of one.
    let gone = json!({ "specversion": "1.0", "id": "d", "source": "s", "subject": "product/B", "type": "product.deleted",
        "time": "2026-01-01T00:00:09Z" });
    hub.event(erp, &gone);
    assert_eq!(world.entity("product/A")["deleted"], true);
    hub.ask(&["entity", "unmerge", "product/B", "--reason", "not that"]).expect(0);
    assert_eq!(world.entity("product/A")["deleted"], Value::Null);
    assert_eq!(world.document("product/A"), json!({ "title": "Tea pot", "vendor": "x" }));
    assert_eq!(world.entity("product/B")["deleted"], true);

    // A conflict may begin with a merge, and ends with its undoing.
    world.says(shop, "customer/A", 1, &json!({ "note": "ring twice" }));
    world.says(erp, "customer/B", 2, &json!({ "note": "ring once" }));
    let open = || hub.ask(&["conflict", "list", "--json"]).expect(0).json_lines();
    assert_eq!(open(), [] as [Value; 0]);
    hub.ask(&["entity", "merge", "customer/B", "customer/A", "--reason", "one person"]).expect(0);
    let listed = open();
    assert_eq!((listed.len(), &listed[0]["key"]), (1, &json!("A")));
    let systems: Vec<_> = listed[0]["candidates"].as_array().unwrap().iter().map(|c| c["system"].clone()).collect();
    assert_eq!(systems, ["shop", "erp"]);
    hub.ask(&["conflict", "resolve", "customer/A", "note", "--prefer", "erp", "--reason", "asked"]).expect(0);
    assert_eq!(world.document("customer/B")["note"], "ring once");
    assert_eq!(open(), [] as [Value; 0]);
    hub.ask(&["entity", "unmerge", "customer/B", "--reason", "two persons"]).expect(0);
    assert_eq!(world.document("customer/B")["note"], "ring once");
    assert_eq!(world.document("customer/A")["note"], "ring once", "a person's word of A stays with A");
    until("all is settled", || (hub.http("GET", "/healthz/ready", &[], b"").0 == 200).then_some(()));
    assert_eq!(hub.get("/healthz/ready")["stuck"], json!([]));
    nothing_would_be_different(folder.path());
}
