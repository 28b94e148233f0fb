//! Every built-in pack does what its samples say, and takes what the real system sends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use lockstep_connect::pack::{Pack, builtin_names};
use lockstep_connect::schema::Schemas;
use lockstep_connect::translate::{Options, Translator};
use lockstep_core::{Change, InputBody};
use serde_json::Value;

fn packs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packs")
}

/// Writes what samples give into their expectations, so that a person can read the difference.
fn write_golden(pack: &Pack) {
    let runs = pack.run_samples(&Arc::new(Schemas::builtin())).unwrap();
    for run in runs {
        let text = serde_json::to_string_pretty(&run.got).unwrap() + "\n";
        std::fs::write(packs().join(pack.name()).join(run.expected_file), text).unwrap();
    }
}

#[test]
fn every_sample_of_every_pack_gives_what_is_expected() {
    let mut names = 0;
    for name in builtin_names() {
        // From the folder, not from what was built in: an expectation may just have been written.
        let mut pack = Pack::load(&packs().join(name)).unwrap();
        if std::env::var_os("LOCKSTEP_WRITE_GOLDEN").is_some() {
            write_golden(&pack);
            pack = Pack::load(&packs().join(name)).unwrap();
        }
        let findings: Vec<_> = pack.check().iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
        names += 1;
    }
    assert!(names > 0);
}

#[test]
fn what_is_built_in_is_what_the_folder_has() {
    for name in builtin_names() {
        let (built_in, folder) = (Pack::builtin(name).unwrap(), Pack::load(&packs().join(name)).unwrap());
        assert!(built_in.topics().eq(folder.topics()));
        let got = |pack: &Pack| -> Vec<_> {
            let runs = pack.run_samples(&Arc::new(Schemas::builtin())).unwrap();
            runs.into_iter().map(|run| (run.file, run.got)).collect()
        };
        assert_eq!(got(&built_in), got(&folder));
        assert!(!got(&built_in).is_empty());
    }
}

#[test]
fn no_mapping_is_doubtful() {
    for name in builtin_names() {
        for program in Pack::builtin(name).unwrap().compile().unwrap().values() {
            assert_eq!(program.warnings(), []);
        }
    }
}

fn translator(pack: &str, currency: Option<&str>) -> Translator {
    let options = Options {
        source: "shop".into(),
        system: pack.into(),
        channel: Some("web".into()),
        currency: currency.map(Into::into),
    };
    Translator::new(&Pack::builtin(pack).unwrap(), Arc::new(Schemas::builtin()), options).unwrap()
}

fn shopify(currency: Option<&str>) -> Translator {
    translator("shopify", currency)
}

fn sample_of(pack: &str, name: &str) -> Bytes {
    Bytes::from(std::fs::read(packs().join(pack).join("samples").join(name)).unwrap())
}

fn sample(name: &str) -> Bytes {
    sample_of("shopify", name)
}

/// What others document and send. The files are not ours, so nothing of them is in this repository.
fn payloads(system: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/payloads").join(system);
    if !folder.is_dir() {
        println!("skipped: there are no real payloads at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Headers as they were captured, one a line; `#` starts a comment.
fn captured(file: &Path) -> HeaderMap {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let pairs = lines.map(|line| line.split_once(':').unwrap());
    let read = |(name, value): (&str, &str)| (name.parse().unwrap(), value.trim().parse().unwrap());
    pairs.map(read).collect::<HeaderMap<HeaderValue>>()
}

fn changes(translator: &Translator, topic: &str, body: &Bytes) -> Vec<Change> {
    match translator.translate(topic, &HeaderMap::new(), body, 0) {
        InputBody::Changes(changes) => changes,
        other => panic!("{topic}: {other:?}"),
    }
}

#[test]
fn a_product_has_prices_only_where_the_source_has_a_currency() {
    let body = sample("products_update.json");
    let kinds = |currency| -> Vec<String> {
        changes(&shopify(currency), "products/update", &body).into_iter().map(|c| c.id().into()).collect()
    };
    assert_eq!(kinds(None), ["product/LYS-OAK-S", "product/LYS-OAK-L"]);
    let with = ["product/LYS-OAK-S", "price/LYS-OAK-S:web:NOK", "product/LYS-OAK-L", "price/LYS-OAK-L:web:NOK"];
    assert_eq!(kinds(Some("NOK")), with);
}

#[test]
fn all_topics_of_an_order_give_the_same_document() {
    let body = sample("orders_create.json");
    let translator = shopify(None);
    let of = |topic| changes(&translator, topic, &body);
    for topic in ["orders/updated", "orders/paid", "orders/cancelled", "orders/fulfilled"] {
        assert_eq!(of(topic), of("orders/create"));
    }
}

#[test]
fn payloads_of_the_real_shopify_are_understood() {
    let Some(folder) = payloads("shopify") else { return };
    let pack = Pack::builtin("shopify").unwrap();
    let (with_currency, without) = (shopify(Some("USD")), shopify(None));
    let mut understood = 0;
    for topic in pack.topics() {
        let Ok(body) = std::fs::read(folder.join(format!("{}.json", topic.replace('/', "_")))) else { continue };
        let body = Bytes::from(body);
        // Shopify's own refund notification has `currency: null` in its transactions; the currency of the shop
        // stands beside it. Its products have no SKU and its amounts no currency.
        for translator in [&with_currency, &without] {
            assert!(!changes(translator, topic, &body).is_empty(), "{topic}");
        }
        understood += 1;
    }
    assert!(understood >= 10, "{understood}");
    let order = Bytes::from(std::fs::read(folder.join("orders_create.json")).unwrap());
    let headers = captured(&folder.join("orders_create.captured-2020-07.headers.txt"));
    assert_eq!(pack.topic(&headers).as_deref(), Some("orders/create"));
    // That version sent no id for a delivery: its body stands for it.
    assert!(pack.delivery_id(&headers, &order).starts_with("orders/create|"));
    assert_eq!(changes(&without, "orders/create", &order)[0].id(), "order/web:820982911946154508");
}

/// Whatever the one has must be in the other, of the same type, at every depth.
fn assert_alike(at: &str, one: &Value, other: &Value) {
    match (one, other) {
        // There is none: that can be said of anything, or left unsaid.
        (Value::Null, _) => {}
        (Value::Object(one), Value::Object(other)) => {
            for (name, value) in one {
                assert_alike(&format!("{at}/{name}"), value, other.get(name).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(one), Value::Array(other)) => assert_alike(&format!("{at}/0"), &one[0], &other[0]),
        // WooCommerce's orders have no tags, and none is marked as a test.
        (_, Value::Null) if ["/tags", "/test"].contains(&at) => {}
        _ => assert_eq!(std::mem::discriminant(one), std::mem::discriminant(other), "{at}: {one} and {other}"),
    }
}

#[test]
fn an_order_looks_the_same_wherever_it_was_placed() {
    let fields = |pack: &str, topic: &str, file: &str| -> Value {
        let order = changes(&translator(pack, None), topic, &sample_of(pack, file)).remove(0);
        let mut whole = Vec::new();
        lockstep_core::path::assemble(&mut whole, &order.fields.iter().collect::<Vec<_>>());
        serde_json::from_slice(&whole).unwrap()
    };
    let shopify = fields("shopify", "orders/create", "orders_create.json");
    assert_alike("", &shopify, &fields("woocommerce", "order.created", "order_created.json"));
}

#[test]
fn deliveries_of_woocommerce_within_one_second_are_told_apart() {
    let pack = Pack::builtin("woocommerce").unwrap();
    let headers = [("x-wc-webhook-topic", "order.updated"), ("x-wc-webhook-delivery-id", "36e520ebabc2fa72")];
    let named = headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    let headers: HeaderMap = named.into_iter().collect();
    let (one, other) = (pack.delivery_id(&headers, b"{\"id\":1}"), pack.delivery_id(&headers, b"{\"id\":2}"));
    assert!(one.starts_with("36e520ebabc2fa72|"), "{one}");
    assert_ne!(one, other);
    assert_eq!(one, pack.delivery_id(&headers, b"{\"id\":1}"));
}

#[test]
fn payloads_of_the_real_woocommerce_are_understood() {
    let Some(folder) = payloads("woocommerce") else { return };
    let pack = Pack::builtin("woocommerce").unwrap();
    let (with_currency, without) = (translator("woocommerce", Some("USD")), translator("woocommerce", None));
    let mut understood = 0;
    let mut understand = |topic: &str, body: &Bytes, id: Option<&str>| {
        for translator in [&with_currency, &without] {
            let changes = changes(translator, topic, body);
            assert!(!changes.is_empty(), "{topic}");
            assert!(id.is_none_or(|id| changes[0].id() == id), "{topic}: {}", changes[0].id());
        }
        understood += 1;
    };
    let read = |file: &str| Bytes::from(std::fs::read(folder.join(file)).unwrap());
    let deliveries = [
        ("order.created", "order/web:727"),
        ("order.updated", "order/web:727"),
        ("product.created", "product/woocommerce-product:794"),
        ("product.updated", "product/woocommerce-product:794"),
        ("customer.created", "customer/web:25"),
        ("customer.updated", "customer/web:25"),
    ];
    for (topic, id) in deliveries {
        let headers = captured(&folder.join(format!("{topic}.headers.txt")));
        assert_eq!(pack.topic(&headers).as_deref(), Some(topic));
        understand(topic, &read(&format!("{topic}.json")), Some(id));
    }
    // A delivery of the legacy API, as it was logged.
    understand("order.updated", &read("delivery-53.order.updated.body.json"), Some("order/web:118"));
    let headers = captured(&folder.join("delivery-53.order.updated.headers.txt"));
    assert!(pack.delivery_id(&headers, b"{}").starts_with("53|"));
    // What the API answers has the form of what the webhooks send.
    for (kind, topic) in [("order", "order.updated"), ("product", "product.updated"), ("customer", "customer.updated")]
    {
        for entry in std::fs::read_dir(folder.join("rest")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with(&format!("{kind}.")) || name.contains("downloads") {
                continue;
            }
            let whole: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let documents = match &whole {
                Value::Array(documents) => documents.iter().collect(),
                Value::Object(batch) if name.contains("batch") => {
                    batch.values().flat_map(|part| part.as_array().unwrap()).collect()
                }
                one => vec![one],
            };
            for document in documents {
                understand(topic, &Bytes::from(document.to_string()), None);
            }
        }
    }
    assert!(understood >= 30, "{understood}");
    // An action of a plugin's choice is nothing that a pack could know.
    let action = read("delivery-378.action.woocommerce_add_to_cart.body.json");
    let topic = "action.woocommerce_add_to_cart";
    let InputBody::Quarantine(reason) = without.translate(topic, &HeaderMap::new(), &action, 0) else {
        panic!("{topic} was understood");
    };
    assert_eq!(reason.code, "unknown-topic");
}
