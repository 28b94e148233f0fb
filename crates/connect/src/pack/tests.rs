use std::fs;
use std::path::Path;

use http::HeaderValue;

use super::*;

const MAPPING: &str = r#"{"kind": "order", "key": id!(.id), "fields": {"note": .note}}"#;

/// A folder with a pack of one topic and one sample.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let defaults = [
        (
            "pack.toml",
            "name = \"own\"\ntitle = \"Own\"\n[headers]\ntopic = \"X-Topic\"\n[topics]\n\"order.made\" = \"mappings/order.vrl\"\n",
        ),
        ("mappings/order.vrl", MAPPING),
        ("samples/order_made.json", r#"{"id": 7, "note": "x"}"#),
        (
            "samples/order_made.expected.json",
            r#"[{"kind": "order", "key": "7", "sequence": 0, "occurred_at": "2026-01-01T00:00:00.000000Z", "fields": {"note": "x"}}]"#,
        ),
    ];
    for (file, text) in defaults.iter().chain(files) {
        let path = root.path().join("own").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn load(root: &Path) -> Result<Pack, PackError> {
    Pack::load(&root.join("own"))
}

/// What a check finds, without the folder.
fn findings(files: &[(&str, &str)]) -> Vec<String> {
    let root = folder(files);
    let base = format!("{}/", root.path().join("own").display());
    load(root.path()).unwrap().check().iter().map(|finding| finding.to_string().replace(&base, "")).collect()
}

fn refused(files: &[(&str, &str)]) -> String {
    let root = folder(files);
    let base = format!("{}/", root.path().join("own").display());
    load(root.path()).unwrap_err().to_string().replace(&base, "")
}

#[test]
fn a_pack_that_does_what_it_says_has_no_findings() {
    assert_eq!(findings(&[]), Vec::<String>::new());
}

#[test]
fn a_check_shows_each_difference() {
    let expected = r#"[{"kind": "order", "key": "8", "sequence": 0, "occurred_at": "2026-01-01T00:00:00.000000Z", "fields": {"note": "x", "email": "a"}}, {}]"#;
    let found = findings(&[("samples/order_made.expected.json", expected)]);
    assert_eq!(
        found,
        [concat!(
            "samples/order_made.expected.json:1: samples/order_made.json gives something else:\n",
            "  /0/fields/email is missing; expected \"a\"\n",
            "  /0/key is \"7\"; expected \"8\"\n",
            "  the result has 1 items; expected 2",
        )]
    );
}

#[test]
fn a_check_finds_what_is_missing_or_does_not_compile() {
    let found = findings(&[("samples/order_made.second.json", "{}")]);
    assert_eq!(
        found,
        [
            "samples/order_made.second.json:1: the sample needs samples/order_made.second.expected.json beside it: what must come of it"
        ]
    );
    let found = findings(&[("mappings/order.vrl", "x = 1\n{\"kind\": id(.id)}")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("mappings/order.vrl:2: "), "{}", found[0]);
    let toml = "name = \"own\"\ntitle = \"Own\"\n[topics]\n\"order.made\" = \"mappings/order.vrl\"\n\"order.gone\" = \"mappings/order.vrl\"\n";
    assert_eq!(findings(&[("pack.toml", toml)]), ["pack.toml:1: topic `order.gone` needs a sample"]);
}

#[test]
fn a_pack_that_is_not_one_is_refused_with_the_place() {
    let rest = "[topics]\n\"order.made\" = \"mappings/order.vrl\"\n";
    let rows = [
        (
            format!("name = \"own\"\ntitle = \"Own\"\nsignatur = \"shopify\"\n{rest}"),
            "pack.toml:3:1: unknown field `signatur`",
        ),
        (
            format!("title = \"Own\"\nname = \"other\"\n{rest}"),
            "pack.toml:2:1: `name` must be that of its folder, `own`, not `other`",
        ),
        (
            format!("name = \"own\"\ntitle = \"Own\"\nsignature = \"none\"\n{rest}"),
            "`none` must be the name of a signature scheme",
        ),
        (
            "name = \"own\"\ntitle = \"Own\"\n[topics]\n".to_owned(),
            "pack.toml:3:1: `topics` must name at least one topic",
        ),
        (
            "name = \"own\"\ntitle = \"Own\"\n[topics]\na = \"mappings/none.vrl\"\n".to_owned(),
            "pack.toml:4:1: the mapping `mappings/none.vrl` of topic `a` must be a file of the pack",
        ),
        (
            "name = \"own\"\ntitle = \"Own\"\n[topics]\na = \"../secret.vrl\"\n".to_owned(),
            "pack.toml:4:1: the mapping `../secret.vrl` of topic `a` must be a file of the pack",
        ),
        (
            format!("name = \"own\"\ntitle = \"Own\"\n[meta]\nkey = \"Authorization\"\n{rest}"),
            "pack.toml:4:7: `Authorization` holds a secret or a signature, which a pack must not read",
        ),
        (
            format!("name = \"own\"\ntitle = \"Own\"\n[headers]\ntopic = \"X Topic\"\n{rest}"),
            "pack.toml:4:9: `X Topic` must be the name of an HTTP header",
        ),
    ];
    for (toml, expected) in rows {
        let error = refused(&[("pack.toml", &toml)]);
        assert!(error.contains(expected), "{error}");
    }
    let error = refused(&[("samples/order_made.headers", "# none\nX-Topic order.made\n")]);
    assert_eq!(error, "samples/order_made.headers:2:1: a header must be `Name: value`");
    assert!(matches!(Pack::load(Path::new("no/such/pack")), Err(PackError::Read { .. })));
    assert!(matches!(Pack::builtin("none"), Err(PackError::Unknown { .. })));
}

#[test]
fn a_folder_takes_the_place_of_a_built_in_pack() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(Pack::find("shopify", Some(root.path())).unwrap().title(), "Shopify");
    let own = root.path().join("shopify");
    fs::create_dir_all(own.join("mappings")).unwrap();
    fs::write(own.join("mappings/order.vrl"), MAPPING).unwrap();
    fs::write(
        own.join("pack.toml"),
        "name = \"shopify\"\ntitle = \"Ours\"\n[topics]\n\"*\" = \"mappings/order.vrl\"\n",
    )
    .unwrap();
    assert_eq!(Pack::find("shopify", Some(root.path())).unwrap().title(), "Ours");
    assert_eq!(Pack::find("shopify", None).unwrap().title(), "Shopify");
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

#[test]
fn a_delivery_is_known_by_the_senders_id_or_by_its_topic_and_body() {
    let shopify = Pack::builtin("shopify").unwrap();
    let with = |pairs| shopify.delivery_id(&headers(pairs), b"{}");
    assert_eq!(with(&[("x-shopify-webhook-id", "a-1"), ("x-shopify-topic", "orders/create")]), "a-1");
    let (create, update) =
        (with(&[("x-shopify-topic", "orders/create")]), with(&[("x-shopify-topic", "orders/updated")]));
    // Shopify sends both topics with the same body: neither repeats the other.
    assert_ne!(create, update);
    assert!(create.starts_with("orders/create|"), "{create}");
    assert_ne!(shopify.delivery_id(&HeaderMap::new(), b"{}"), shopify.delivery_id(&HeaderMap::new(), b"{ }"));

    let toml = "name = \"own\"\ntitle = \"Own\"\n[headers]\ndelivery_id = [\"X-Hook\", \"X-Delivery\", \"body-hash\"]\n[topics]\n\"order.made\" = \"mappings/order.vrl\"\n";
    let root = folder(&[("pack.toml", toml)]);
    let own = load(root.path()).unwrap();
    let twice = headers(&[("x-hook", "5"), ("x-delivery", "9")]);
    assert!(own.delivery_id(&twice, b"a").starts_with("5|9|"));
    assert_ne!(own.delivery_id(&twice, b"a"), own.delivery_id(&twice, b"b"));
    assert!(own.delivery_id(&headers(&[("x-hook", "5")]), b"a").starts_with('|'));
}

#[test]
fn a_scheme_with_settings_is_a_table() {
    let toml = "name = \"own\"\ntitle = \"Own\"\nsignature = { scheme = \"shopify\" }\n[topics]\n\"order.made\" = \"mappings/order.vrl\"\n";
    let root = folder(&[("pack.toml", toml)]);
    assert_eq!(load(root.path()).unwrap().signature().map(Scheme::name), Some("shopify"));
    assert_eq!(Pack::builtin("shopify").unwrap().signature().map(Scheme::name), Some("shopify"));
}
