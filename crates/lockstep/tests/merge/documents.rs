//! Deletions, lists, nulls and clocks.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::common::{Hub, folder, run, write};

const CONFIG: &str = "\
[domains.product]
lists = { bundle = \"sku\" }

[systems.pim]

[systems.shop]
";

/// Two systems that write through the API.
struct Systems {
    hub: Hub,
    pim: String,
    shop: String,
    _folder: tempfile::TempDir,
}

impl Systems {
    fn start() -> Self {
        let folder = folder(CONFIG);
        let hub = Hub::start(folder.path());
        let key = |system: &str| {
            let args = ["key", "create", "--name", system, "--scopes", "write", "--system", system];
            run(folder.path(), &args).expect(0).out.trim().to_owned()
        };
        Self { hub, pim: key("pim"), shop: key("shop"), _folder: folder }
    }

    /// What a system says of the product MUG-01, at a minute past nine.
    fn say(&self, key: &str, verb: &str, minute: u32, data: Value) -> Value {
        let event = json!({
            "specversion": "1.0", "id": format!("{minute}"), "source": "/said", "type": format!("product.{verb}"),
            "subject": "product/MUG-01", "time": format!("2026-03-01T09:{minute:02}:00Z"), "data": data,
        });
        self.hub.event(key, &event)
    }

    fn product(&self) -> Value {
        self.hub.get("/v1/entities/product/MUG-01")
    }
}

#[test]
fn a_deleted_product_comes_back_by_a_newer_word_only() {
    let systems = Systems::start();
    systems.say(&systems.pim, "created", 1, json!({ "title": "Mug", "status": "active" }));
    systems.say(&systems.pim, "deleted", 10, Value::Null);
    assert_eq!(systems.product()["deleted"], true);
    let late = systems.say(&systems.pim, "changed", 5, json!({ "title": "Mug, large" }));
    assert_eq!((&late["outcome"], &systems.product()["deleted"]), (&json!("superseded"), &json!(true)));
    systems.say(&systems.pim, "changed", 20, json!({ "title": "Mug, new" }));
    let product = systems.product();
    assert_eq!(
        (&product["deleted"], &product["document"]),
        (&Value::Null, &json!({ "title": "Mug, new" })),
        "{product}"
    );
    let types = systems.hub.types_of("product/MUG-01");
    assert_eq!(types, ["product.created", "product.deleted", "product.created"]);
}

#[test]
fn a_list_of_two_systems_is_merged_item_by_item() {
    let systems = Systems::start();
    let part = |sku: &str, qty: u32| json!({ "sku": sku, "qty": qty });
    systems.say(&systems.pim, "changed", 1, json!({ "bundle": [part("TEA", 1), part("CUP", 2)] }));
    systems.say(&systems.shop, "changed", 2, json!({ "bundle": [part("CUP", 3), part("BAG", 1)] }));
    let bundle = |product: &Value| {
        let mut items: Vec<_> = product["document"]["bundle"].as_array().unwrap().clone();
        items.sort_by_key(|item| item["sku"].as_str().unwrap().to_owned());
        Value::from(items)
    };
    let expected = json!([part("BAG", 1), part("CUP", 3), part("TEA", 1)]);
    assert_eq!(bundle(&systems.product()), expected);
    // The shop takes one out; the other system's word of it stands, and that of its own is gone.
    systems.say(&systems.shop, "changed", 3, json!({ "bundle": [part("BAG", 1)] }));
    assert_eq!(bundle(&systems.product()), json!([part("BAG", 1), part("CUP", 2), part("TEA", 1)]));
    systems.say(&systems.pim, "changed", 4, json!({ "bundle": [part("TEA", 5)] }));
    assert_eq!(bundle(&systems.product()), json!([part("BAG", 1), part("TEA", 5)]));
}

#[test]
fn null_says_that_there_is_no_value_and_silence_says_nothing() {
    let systems = Systems::start();
    systems.say(&systems.pim, "changed", 1, json!({ "title": "Mug", "description": "Blue" }));
    systems.say(&systems.pim, "changed", 2, json!({ "title": "Mug" }));
    assert_eq!(systems.product()["document"]["description"], "Blue");
    systems.say(&systems.shop, "changed", 3, json!({ "description": null }));
    let document = systems.product()["document"].clone();
    assert_eq!(document, json!({ "title": "Mug", "description": null }), "a written null wins like any value");
    let late = systems.say(&systems.pim, "changed", 0, json!({ "description": "Red" }));
    assert_eq!((&late["outcome"], &systems.product()["document"]), (&json!("superseded"), &document));
}

#[test]
fn a_clock_too_far_ahead_is_quarantined_and_released_when_the_limit_allows_it() {
    let mapping =
        "{ \"kind\": \"product\", \"key\": \"MUG-01\", \"occurred_at\": .at, \"fields\": { \"title\": .title } }\n";
    let config = |limit: &str| {
        format!(
            "[hub]\n{limit}\n[sources.pim]\nsystem = \"pim\"\nmapping = \"pim.vrl\"\ndelivery_id_header = \"x-id\"\n\
             secrets = [\"env:SHOP_SECRET\"]\nsignature = {{ scheme = \"shopify\" }}\n"
        )
    };
    let folder = folder(&config("clock_skew_max_s = 60"));
    write(folder.path(), "pim.vrl", mapping);
    let in_an_hour = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3_600);
    let body = |at_us: u128, title: &str| json!({ "at": at_us as u64, "title": title }).to_string();
    let say = |hub: &Hub, id: &str, body: &str| {
        hub.webhook("pim", "x-shopify-hmac-sha256", &[("x-id", id)], body).1["outcome"].clone()
    };
    let title = |hub: &Hub| hub.get("/v1/entities/product/MUG-01")["document"]["title"].clone();
    let hub = Hub::start(folder.path());
    assert_eq!(say(&hub, "1", &body(1_772_000_000_000_000, "Mug")), "applied");
    assert_eq!(say(&hub, "2", &body(in_an_hour.as_micros(), "Mug of tomorrow")), "quarantined");
    let held = hub.ask(&["quarantine", "list", "--json"]).expect(0).json_lines();
    assert_eq!(held[0]["code"], "clock-skew", "{held:?}");
    let kept = hub.ask(&["quarantine", "release", "--all"]).expect(1);
    assert!(kept.out.contains("clock_skew_max_s"), "{}", kept.out);
    assert_eq!(hub.ask(&["quarantine", "list", "--json"]).expect(0).json_lines().len(), 1, "it stays, once");
    assert_eq!(title(&hub), "Mug");
    let hub = again(hub, folder.path(), &config("clock_skew_max_s = 7200"));
    hub.ask(&["quarantine", "release", "--all"]).expect(0);
    assert_eq!(title(&hub), "Mug of tomorrow");
}

/// Ends the hub and starts it with another configuration.
fn again(hub: Hub, folder: &Path, config: &str) -> Hub {
    hub.signal("TERM");
    assert_eq!(hub.ended().0, 0);
    write(folder, "lockstep.toml", config);
    Hub::start(folder)
}
