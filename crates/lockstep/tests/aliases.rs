//! What systems call an entity, through the real process.

mod common;

use common::{Hub, folder, run};
use serde_json::{Value, json};

const CONFIG: &str = "\
[sources.market]
system = \"market\"
mapping = \"maps/market.vrl\"
secrets = [\"env:SHOP_SECRET\"]
signature = { scheme = \"shopify\" }

[systems.shop]

[systems.psp]
";

const MAP: &str = "{ \"kind\": string!(.kind), \"key\": string!(.key), \"fields\": object!(.fields) }\n";

struct World {
    hub: Hub,
    shop: String,
    psp: String,
}

fn world(folder: &tempfile::TempDir) -> World {
    common::write(folder.path(), "maps/market.vrl", MAP);
    let hub = Hub::start(folder.path());
    let key = |system: &str| {
        let made = run(folder.path(), &["key", "create", "--name", system, "--scopes", "write", "--system", system]);
        made.expect(0).out.trim().to_owned()
    };
    let (shop, psp) = (key("shop"), key("psp"));
    World { hub, shop, psp }
}

fn with(hub: &Hub, method: &str, path: &str, more: &[(&str, &str)]) -> (u16, Value) {
    let bearer = format!("Bearer {}", hub.key);
    let headers = [&[("authorization", bearer.as_str())], more].concat();
    let (status, answer) = hub.http(method, path, &headers, b"");
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

#[test]
fn an_entity_is_read_and_written_by_what_a_system_calls_it() {
    let folder = folder(CONFIG);
    let World { hub, shop, psp } = world(&folder);
    let fields = json!({ "email": "a@example.com", "external_ids": ["@shop/customer_id/7", "@crm/account/EU/9"] });
    assert_eq!(hub.set(&shop, "customer/web:7", "s1", &fields.to_string()).0, 200);
    let alias = hub.get("/v1/aliases/shop/customer_id/7");
    assert_eq!(
        (&alias["kind"], &alias["key"], &alias["type"]),
        (&json!("customer"), &json!("web:7"), &json!("customer_id"))
    );
    assert_eq!(hub.get("/v1/aliases/crm/account/EU%2F9")["key"], "web:7");
    let by_alias = hub.get("/v1/entities/customer/@crm%2Faccount%2FEU%2F9");
    assert_eq!((&by_alias["key"], &by_alias["asked_for"]), (&json!("web:7"), &json!("@crm/account/EU/9")));
    assert_eq!(hub.get("/v1/entities/customer/web:7")["asked_for"], Value::Null);

    // Another system knows it by that only, and writes to the same entity.
    let by_psp = json!({ "phone": "1", "external_ids": ["@psp/payer/P-1"] }).to_string();
    let (status, answer) = hub.set(&psp, "customer/@shop%2Fcustomer_id%2F7", "p1", &by_psp);
    assert_eq!((status, &answer["outcome"], &answer["version"]), (200, &json!("applied"), &json!(2)));
    let event = json!({ "specversion": "1.0", "id": "e1", "source": "psp", "type": "customer.changed",
        "subject": "customer/@psp/payer/P-1", "data": { "last_name": "Ann" } });
    assert_eq!(hub.event(&psp, &event)["outcome"], "applied");
    let shown = hub.ask(&["entity", "show", "customer/@psp/payer/P-1", "--json"]).expect(0).json();
    assert_eq!(
        shown["document"],
        json!({ "email": "a@example.com", "last_name": "Ann", "phone": "1",
            "external_ids": ["@crm/account/EU/9", "@psp/payer/P-1", "@shop/customer_id/7"] })
    );
    assert_eq!(hub.get("/v1/entities/customer/@psp%2Fpayer%2FP-1/explain")["key"], "web:7");
    let (status, answer) = hub.set(&psp, "customer/@shop%2Fcustomer_id%2F7", "p2", "{\"phone\": 7}");
    assert_eq!((status, &answer["code"]), (422, &json!("invalid-event")));

    // What names an order may do so by an external id too.
    let order = json!({ "number": "1001", "external_ids": ["@shop/order_id/1001"] }).to_string();
    assert_eq!(hub.set(&shop, "order/web:1001", "o1", &order).0, 200);
    let paid =
        json!({ "order": "@shop/order_id/1001", "kind": "capture", "amount": { "currency": "EUR", "minor": 500 } });
    assert_eq!(hub.set(&psp, "payment/P-1", "p3", &paid.to_string()).0, 200);
    assert_eq!(hub.get("/v1/entities/order/web:1001")["document"]["payments"][0]["amount"]["minor"], 500);
    assert_eq!(hub.get("/v1/entities/payment/P-1")["document"]["order"], "web:1001");

    // Both survive a kill.
    drop(hub);
    let hub = Hub::start(folder.path());
    assert_eq!(hub.get("/v1/entities/customer/@psp%2Fpayer%2FP-1")["key"], "web:7");
    assert_eq!(hub.types_of("alias/psp/payer/P-1"), ["alias.changed"]);
}

#[test]
fn an_external_id_of_another_entity_is_not_taken_silently() {
    let folder = folder(CONFIG);
    let World { hub, shop, psp } = world(&folder);
    let ids = |ids: &[&str]| json!({ "email": "x@example.com", "external_ids": ids }).to_string();
    assert_eq!(hub.set(&shop, "customer/A", "s1", &ids(&["@shop/id/1"])).0, 200);

    // Who waits for the answer hears of both entities, and nothing of it is recorded.
    let (status, answer) = hub.set(&shop, "customer/B", "s2", &ids(&["@shop/id/2", "@shop/id/1"]));
    assert_eq!((status, &answer["code"]), (409, &json!("alias-taken")));
    assert_eq!(
        (&answer["external_id"], &answer["known"], &answer["claimed"]),
        (&json!("@shop/id/1"), &json!("customer/A"), &json!("customer/B"))
    );
    assert_eq!(with(&hub, "GET", "/v1/entities/customer/B", &[]).0, 404);
    assert_eq!(with(&hub, "GET", "/v1/aliases/shop/id/2", &[]).0, 404);
    let (status, answer) = hub.set(&psp, "customer/@shop%2Fid%2F2", "p1", "{\"phone\":\"1\"}");
    assert_eq!((status, &answer["code"]), (404, &json!("alias-unknown")));
    let (status, answer) = hub.set(&psp, "product/@shop%2Fid%2F1", "p2", "{\"title\":\"x\"}");
    assert_eq!((status, &answer["code"], &answer["known"]), (409, &json!("alias-taken"), &json!("customer/A")));
    for (request, wrong, at) in [("w3", "[\"shop/id/1\"]", "/0"), ("w4", "\"@shop/id/1\"", ""), ("w5", "[1]", "/0")] {
        let (status, answer) = hub.set(&shop, "customer/C", request, &format!("{{\"external_ids\":{wrong}}}"));
        assert_eq!((status, &answer["pointer"]), (422, &json!(format!("/external_ids{at}"))), "{answer}");
    }
    // A kind whose schema says nothing of them is looked at as well.
    let (status, answer) = hub.set(&shop, "stock/S@b", "w", "{\"external_ids\":[\"x\"]}");
    assert_eq!((status, &answer["reason"]), (422, &json!("alias-invalid")), "{answer}");
    assert_eq!(hub.set(&shop, "customer/@shop", "w2", "{\"phone\":\"1\"}").0, 400);
    for path in ["/v1/aliases/Shop/id/1", "/v1/aliases/shop/i%20d/1"] {
        assert_eq!(with(&hub, "GET", path, &[]).0, 400, "{path}");
    }

    // A delivery is kept, with the reason, and can be released when that is settled.
    let delivery = |key: &str, ids: &[&str]| {
        json!({ "kind": "customer", "key": key, "fields": { "phone": "2", "external_ids": ids } }).to_string()
    };
    let (status, answer) = hub.deliver("market", &[], &delivery("M", &["@shop/id/1"]));
    assert_eq!((status, &answer["outcome"]), (200, &json!("quarantined")));
    let held = hub.get("/v1/quarantine")["items"][0].clone();
    assert_eq!((&held["code"], &held["at"]), (&json!("alias-taken"), &json!("/0/fields/external_ids")));
    let said = held["detail"].as_str().unwrap();
    assert!(said.contains("`@shop/id/1` is an external id of customer/A") && said.contains("customer/M"), "{said}");
    let (status, answer) = hub.deliver("market", &[], &delivery("@shop/id/3", &[]));
    assert_eq!((status, &answer["outcome"]), (200, &json!("quarantined")));
    let release = |position: &Value| with(&hub, "POST", &format!("/v1/quarantine/{position}/release"), &[]);
    let (status, answer) = release(&held["position"]);
    assert_eq!((status, &answer["code"]), (409, &json!("alias-taken")));

    // A person takes it away; then the other one may have it.
    let remove = |key: &str, query: &str| {
        with(&hub, "DELETE", &format!("/v1/aliases/shop/id/1{query}"), &[("idempotency-key", key)]).0
    };
    assert_eq!(remove("r0", ""), 400);
    assert_eq!(remove("r1", "?reason=typed%20wrong"), 204);
    assert_eq!(remove("r1", "?reason=typed%20wrong"), 204, "a repetition");
    assert_eq!(remove("r1", "?reason=another"), 422);
    assert_eq!(remove("r2", "?reason=typed%20wrong"), 404);
    assert_eq!(with(&hub, "GET", "/v1/aliases/shop/id/1", &[]).0, 404);
    assert_eq!(release(&held["position"]).0, 200);
    assert_eq!(hub.get("/v1/aliases/shop/id/1")["key"], "M");
    let history = hub.get("/v1/entities/alias/shop%2Fid%2F1/history")["items"].as_array().unwrap().clone();
    let systems: Vec<_> = history.iter().map(|item| item["system"].as_str().unwrap()).collect();
    assert_eq!(systems, ["@hub", "@hub", "@operator", "@hub"]);
    // The entity that had it is refused from now on.
    assert_eq!(hub.set(&shop, "customer/A", "s9", &ids(&["@shop/id/1"])).0, 409);

    // What was not known by this name is understood when it is.
    assert_eq!(hub.set(&shop, "customer/N", "s10", &ids(&["@shop/id/3"])).0, 200);
    let held = hub.get("/v1/quarantine")["items"][0].clone();
    assert_eq!((&held["code"], release(&held["position"]).0), (&json!("alias-unknown"), 200));
    assert_eq!(hub.get("/v1/entities/customer/N")["document"]["phone"], "2");
}
