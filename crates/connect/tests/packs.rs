//! Every built-in pack does what its samples say, and takes what the real system sends.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use lockstep_connect::pack::{Pack, builtin_names};
use lockstep_connect::schema::Schemas;
use lockstep_connect::translate::{Options, Translator};
use lockstep_core::{Change, InputBody};

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

fn shopify(currency: Option<&str>) -> Translator {
    let options = Options {
        source: "shop".into(),
        system: "shopify".into(),
        channel: Some("web".into()),
        currency: currency.map(Into::into),
    };
    Translator::new(&Pack::builtin("shopify").unwrap(), Arc::new(Schemas::builtin()), options).unwrap()
}

fn sample(name: &str) -> Bytes {
    Bytes::from(std::fs::read(packs().join("shopify/samples").join(name)).unwrap())
}

fn changes(translator: &Translator, topic: &str, body: &Bytes) -> Vec<Change> {
    match translator.translate(topic, &HeaderMap::new(), body, 0) {
        InputBody::Changes(changes) => changes,
        InputBody::Quarantine(reason) => panic!("{topic}: {reason:?}"),
    }
}

#[test]
fn a_product_has_prices_only_where_the_source_has_a_currency() {
    let body = sample("products_update.json");
    let kinds = |currency| -> Vec<String> {
        changes(&shopify(currency), "products/update", &body).into_iter().map(|c| c.id()).collect()
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

/// What Shopify itself documents and sends. The files are not ours, so nothing of them is in this repository.
#[test]
fn payloads_of_the_real_shopify_are_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/payloads/shopify");
    if !folder.is_dir() {
        println!("skipped: there are no real payloads at {}", folder.display());
        return;
    }
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
    let mut headers = HeaderMap::new();
    for line in std::fs::read_to_string(folder.join("orders_create.captured-2020-07.headers.txt")).unwrap().lines() {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value.trim()).unwrap());
    }
    assert_eq!(pack.topic(&headers).as_deref(), Some("orders/create"));
    // That version sent no id for a delivery: its body stands for it.
    assert!(pack.delivery_id(&headers, &order).starts_with("orders/create|"));
    assert_eq!(changes(&without, "orders/create", &order)[0].id(), "order/web:820982911946154508");
}
