use http::HeaderValue;
use lockstep_core::InputBody;

use super::*;

fn translator(mapping: &str) -> Translator {
    let pack = Pack::of_mapping("test", Some(http::HeaderName::from_static("x-topic")), "maps/test.vrl", mapping);
    let options = Options { source: "shop".into(), system: "acme".into(), channel: None, currency: Some("EUR".into()) };
    Translator::new(&pack, Arc::new(Schemas::builtin()), options).unwrap()
}

fn translate(mapping: &str, body: &'static str) -> InputBody {
    translator(mapping).translate("any", &HeaderMap::new(), &Bytes::from_static(body.as_bytes()), 7)
}

fn quarantined(mapping: &str, body: &'static str) -> (String, String, String) {
    match translate(mapping, body) {
        InputBody::Quarantine(reason) => (reason.code, reason.at, reason.detail),
        other => panic!("{other:?}"),
    }
}

fn changes(mapping: &str, body: &'static str) -> Vec<Change> {
    match translate(mapping, body) {
        InputBody::Changes(changes) => changes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_are_compact_and_sorted_at_every_depth() {
    let got = changes(
        r#"{"kind": "order", "key": "a:1", "sequence": 9, "occurred_at": "1970-01-01T00:00:01+00:00", "fields": {"z": .z, "note": .a}}"#,
        r#"{"z": {"y": [1, {"b": 2, "a": "é\n"}], "x": null}, "a": "n"}"#,
    );
    assert_eq!(got.len(), 1);
    let change = &got[0];
    assert_eq!((change.id().as_str(), change.sequence, change.occurred_at_us), ("order/a:1", 9, 1_000_000));
    let fields: Vec<_> =
        change.fields.iter().map(|f| (f.name.as_str(), std::str::from_utf8(&f.json).unwrap())).collect();
    assert_eq!(fields, [("note", r#""n""#), ("z", r#"{"x":null,"y":[1,{"a":"é\n","b":2}]}"#)]);
}

#[test]
fn a_mapping_gives_one_change_several_or_none() {
    let one = r#"{"kind": "order", "key": "1", "fields": {"note": "x"}}"#;
    assert_eq!(changes(one, "{}").len(), 1);
    assert_eq!(changes(&format!("[{one}, {one}]"), "{}").len(), 2);
    assert_eq!(changes("[]", "{}").len(), 0);
    assert_eq!(changes("null", "{}").len(), 0);
}

#[test]
fn time_is_the_mappings_or_the_senders_or_that_of_receipt() {
    let row = |occurred_at: &str| {
        let mapping =
            format!(r#"{{"kind": "order", "key": "1", "occurred_at": {occurred_at}, "fields": {{"note": "x"}}}}"#);
        changes(&mapping, r#"{"at": "1970-01-01T05:00:00+05:00"}"#)[0].occurred_at_us
    };
    assert_eq!(row("12345"), 12_345);
    assert_eq!(row(".at"), 0);
    assert_eq!(row("t'1970-01-01T00:00:02Z'"), 2_000_000);
    assert_eq!(row("null"), 7);

    let pack = Pack::builtin("shopify").unwrap();
    let options = Options { source: "shop".into(), ..Options::default() };
    let shopify = Translator::new(&pack, Arc::new(Schemas::builtin()), options).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-shopify-triggered-at", HeaderValue::from_static("1970-01-01T00:00:03.000001Z"));
    let body = Bytes::from_static(br#"{"id":1,"email":"a@example.com"}"#);
    let InputBody::Changes(changes) = shopify.translate("customers/update", &headers, &body, 7) else { panic!() };
    assert_eq!((changes[0].key.as_str(), changes[0].occurred_at_us), ("shop:1", 3_000_001));
}

#[test]
fn a_mapping_knows_where_its_input_came_from() {
    let mapping =
        r#"{"kind": "order", "key": "1", "fields": {"x": [%topic, %source, %system, %channel, %currency, %none]}}"#;
    assert_eq!(changes(mapping, "{}")[0].fields[0].json, r#"["any","shop","acme","shop","EUR",null]"#);
}

#[test]
fn every_failure_says_where_and_what_would_be_right() {
    let fine = r#"{"kind": "order", "key": "1", "fields": {"note": .note}}"#;
    let rows = [
        (fine, "{\n\"note\": }", "not-json", "2:9", "the body is not JSON: expected value at line 2, column 9"),
        (fine, "", "not-json", "1:0", "the body is not JSON: EOF while parsing a value at line 1, column 0"),
        (
            "x = 1\nmoney!(.total, \"EUR\")",
            r#"{"total": "x"}"#,
            "mapping-failed",
            "maps/test.vrl:2",
            "amount `x` must be a decimal number such as 10.99",
        ),
        ("abort \"no\"", "{}", "mapping-failed", "maps/test.vrl:1", "no"),
        ("1", "{}", "not-a-change", "", "the mapping must give an object with kind, key and fields, not a number"),
        ("[{\"kind\": \"order\"}]", "{}", "not-a-change", "/0", "the mapping must give `key`"),
        (
            r#"{"kind": 1, "key": "1", "fields": {}}"#,
            "{}",
            "not-a-change",
            "/kind",
            "`kind` must be text, not a number",
        ),
        (
            r#"{"kind": "order", "key": "1", "fields": []}"#,
            "{}",
            "not-a-change",
            "/fields",
            "`fields` must be an object, not an array",
        ),
        (
            r#"{"kind": "order", "key": "1", "fields": {}}"#,
            "{}",
            "not-a-change",
            "",
            "a change needs at least one field",
        ),
        (
            r#"{"kind": "order", "key": "", "fields": {"note": null}}"#,
            "{}",
            "not-a-change",
            "",
            "key `` must be 1 to 256 bytes without control characters",
        ),
        (
            r#"{"kind": "order", "key": "1", "feilds": {}}"#,
            "{}",
            "not-a-change",
            "/feilds",
            "`feilds` is no member of a change: those are kind, key, sequence, occurred_at, fields and deleted",
        ),
        (
            r#"{"kind": "order", "key": "1", "sequence": -1, "fields": {}}"#,
            "{}",
            "not-a-change",
            "/sequence",
            "`sequence` must be a whole number that is not negative, not a number",
        ),
        (
            r#"{"kind": "order", "key": "1", "occurred_at": "now", "fields": {}}"#,
            "{}",
            "not-a-change",
            "/occurred_at",
            "`occurred_at` must be an RFC 3339 time with its offset, not `now`",
        ),
        (
            r#"{"kind": "conflict", "key": "1", "deleted": true}"#,
            "{}",
            "schema",
            "/fields",
            "conflict 1: the document has the unknown kind `conflict`; it must be customer, location, order, payment, price, product, return, shipment or stock or a kind that the configuration declares",
        ),
        (fine, r#"{"note": 1}"#, "schema", "/fields/note", "order 1: field `/note` must be null or text"),
        (
            r#"[{"kind": "stock", "key": "1", "fields": {"safety_stock": -1}}]"#,
            "{}",
            "schema",
            "/0/fields/safety_stock",
            "stock 1: field `/safety_stock` must be at least 0",
        ),
        (
            r#"{"kind": "wish", "key": "1", "fields": {"a": 1}}"#,
            "{}",
            "schema",
            "/fields",
            "wish 1: the document has the unknown kind `wish`; it must be customer, location, order, payment, price, product, return, shipment or stock or a kind that the configuration declares",
        ),
    ];
    for (mapping, body, code, at, detail) in rows {
        assert_eq!(quarantined(mapping, body), (code.to_owned(), at.to_owned(), detail.to_owned()), "{mapping}");
    }
}

#[test]
fn a_topic_without_a_mapping_is_kept_for_a_person() {
    let pack = Pack::builtin("shopify").unwrap();
    let shopify = Translator::new(&pack, Arc::new(Schemas::builtin()), Options::default()).unwrap();
    for (topic, detail) in [
        ("carts/update", "the pack `shopify` has no mapping for the topic `carts/update`"),
        ("", "the delivery names no topic"),
    ] {
        let body = shopify.translate(topic, &HeaderMap::new(), &Bytes::from_static(b"{}"), 0);
        let InputBody::Quarantine(reason) = body else { panic!("{body:?}") };
        assert_eq!((reason.code.as_str(), reason.detail.as_str()), ("unknown-topic", detail));
    }
}

#[test]
fn mappings_that_do_not_compile_are_all_named() {
    let pack = Pack::of_mapping("test", None, "maps/test.vrl", "to_int(.a)");
    let errors = Translator::new(&pack, Arc::new(Schemas::builtin()), Options::default()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].name.as_str(), errors[0].line), ("maps/test.vrl", 1));
}

#[test]
fn the_mappings_and_the_hub_read_the_same_times() {
    let rows = [
        "2018-04-05T17:31:00Z",
        "2018-04-05T18:31:00+01:00",
        "1969-12-31T23:59:59.9999999Z",
        "2016-12-31T23:59:60Z",
        "2000-02-29T00:00:00-00:00",
        "1900-02-29T00:00:00Z",
        "2018-04-05t17:31:00z",
        "2018-04-05T18:31Z",
        "2018-04-05",
        "2018-04-05T18:31:00.Z",
        "9999-12-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2018-13-05T18:31:00Z",
    ];
    for text in rows {
        assert_eq!(parse_rfc3339(text), crate::time::parse_rfc3339(text), "{text}");
    }
}
