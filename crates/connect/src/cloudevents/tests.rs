use http::HeaderName;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cloudevents::to_structured;

const NOW_US: i64 = 1_790_000_000_000_000;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn structured() -> HeaderMap {
    headers(&[("content-type", "application/cloudevents+json; charset=utf-8")])
}

fn batched() -> HeaderMap {
    headers(&[("content-type", "application/cloudevents-batch+json")])
}

fn anything(_: &str, _: &Value) -> Result<(), (String, String)> {
    Ok(())
}

fn read(headers: &HeaderMap, body: &str) -> Result<Parsed, CloudEventsError> {
    parse(headers, body.as_bytes(), &Limits::default(), NOW_US, anything)
}

fn price() -> Value {
    json!({
        "specversion": "1.0", "id": "e-1", "source": "/pim", "type": "price.changed", "subject": "price/MUG-1:web:EUR",
        "time": "2026-02-03T04:05:06.789Z", "sequence": "12", "expectedversion": 3,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "ownextension": true,
        "data": {"price": {"minor": 1250, "currency": "EUR"}, "list": "web", "bands": [{"to": 2, "from": 1}], "note": null},
    })
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

fn without(mut event: Value, name: &str) -> Value {
    event.as_object_mut().unwrap().remove(name);
    event
}

#[test]
fn structured_mode_gives_the_change() {
    let parsed = read(&structured(), &price().to_string()).unwrap();
    assert_eq!(parsed.mode, Mode::Structured);
    let [event] = &parsed.events[..] else { panic!("one event") };
    assert_eq!((event.id.as_str(), event.source.as_str()), ("e-1", "/pim"));
    assert_eq!(event.traceparent.as_deref(), Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    let change = &event.change;
    assert_eq!((change.kind.as_str(), change.key.as_str()), ("price", "MUG-1:web:EUR"));
    assert_eq!((change.sequence, change.expected_version), (12, Some(3)));
    assert_eq!(change.occurred_at_us, 1_770_091_506_789_000);
    let fields: Vec<_> =
        change.fields.iter().map(|f| (f.name.as_str(), std::str::from_utf8(&f.json).unwrap())).collect();
    let expected = [
        ("bands", r#"[{"from":1,"to":2}]"#),
        ("list", r#""web""#),
        ("note", "null"),
        ("price", r#"{"currency":"EUR","minor":1250}"#),
    ];
    assert_eq!(fields, expected, "compact, and sorted at every depth");
}

#[test]
fn all_modes_say_the_same() {
    let event = price();
    let one = read(&structured(), &event.to_string()).unwrap().events;
    let batch = read(&batched(), &json!([event, event]).to_string()).unwrap();
    assert_eq!(batch.mode, Mode::Batched);
    assert_eq!(batch.events, [one.clone(), one.clone()].concat());

    let encoded = without(with(event.clone(), "data_base64", json!(base64(&event["data"].to_string()))), "data");
    assert_eq!(read(&structured(), &encoded.to_string()).unwrap().events, one);

    let binary = headers(&[
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "e-1"),
        ("ce-source", "%2Fpim"),
        ("ce-type", "price.changed"),
        ("ce-subject", "\"price/MUG-1:web:EUR\""),
        ("ce-time", "2026-02-03T05:05:06.789+01:00"),
        ("ce-sequence", "12"),
        ("ce-expectedversion", "3"),
        ("ce-ownextension", "true"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]);
    let binary = read(&binary, &event["data"].to_string()).unwrap();
    assert_eq!(binary.mode, Mode::Binary);
    assert_eq!(binary.events, one);
    assert_eq!(read(&batched(), "[]").unwrap().events, []);
}

#[test]
fn the_hash_is_of_what_is_said() {
    let hash = |event: &Value| read(&structured(), &event.to_string()).unwrap().events[0].payload_hash;
    let event = price();
    let same = [
        with(event.clone(), "time", json!("2026-02-03T05:05:06.789000+01:00")),
        with(event.clone(), "sequence", json!(12)),
        with(event.clone(), "id", json!("e-2")),
        without(event.clone(), "traceparent"),
    ];
    for other in &same {
        assert_eq!(hash(other), hash(&event), "{other}");
    }
    let different = [
        with(event.clone(), "time", json!("2026-02-03T04:05:06.788Z")),
        with(event.clone(), "sequence", json!(13)),
        without(event.clone(), "expectedversion"),
        with(event.clone(), "type", json!("price.removed")),
        with(event.clone(), "subject", json!("price/MUG-2")),
        with(event.clone(), "data", json!({"list": "web"})),
        without(event.clone(), "time"),
    ];
    for other in &different {
        assert_ne!(hash(other), hash(&event), "{other}");
    }
    // Without a time, the moment of receipt counts for the change, not for the hash.
    let untimed = without(event, "time").to_string();
    let at = |now_us| {
        parse(&structured(), untimed.as_bytes(), &Limits::default(), now_us, anything).unwrap().events.remove(0)
    };
    assert_eq!(at(5).change.occurred_at_us, 5);
    assert_eq!(at(5).payload_hash, at(6).payload_hash);
}

#[test]
fn each_mistake_is_named_with_its_place() {
    let event = price();
    let cases = [
        (without(event.clone(), "id"), "attribute-missing", "/id"),
        (without(event.clone(), "subject"), "attribute-missing", "/subject"),
        (with(event.clone(), "specversion", json!("0.3")), "attribute-invalid", "/specversion"),
        (with(event.clone(), "source", json!("a\nb")), "attribute-invalid", "/source"),
        (with(event.clone(), "type", json!("price")), "attribute-invalid", "/type"),
        (with(event.clone(), "type", json!("Price.changed")), "attribute-invalid", "/subject"),
        (with(event.clone(), "subject", json!("price")), "attribute-invalid", "/subject"),
        (with(event.clone(), "subject", json!("stock/MUG-1")), "attribute-invalid", "/subject"),
        (with(event.clone(), "subject", json!("price/")), "change-invalid", "/subject"),
        (with(event.clone(), "time", json!("yesterday")), "attribute-invalid", "/time"),
        (with(event.clone(), "sequence", json!(-1)), "attribute-invalid", "/sequence"),
        (with(event.clone(), "sequence", json!("+1")), "attribute-invalid", "/sequence"),
        (with(event.clone(), "sequence", json!("")), "attribute-invalid", "/sequence"),
        (with(event.clone(), "expectedversion", json!(1.5)), "attribute-invalid", "/expectedversion"),
        (with(event.clone(), "a/b", json!(1)), "attribute-invalid", "/a~1b"),
        (with(event.clone(), "datacontenttype", json!("text/plain")), "data-invalid", "/datacontenttype"),
        (with(event.clone(), "data", json!("text")), "data-invalid", "/data"),
        (with(event.clone(), "data", json!({})), "change-invalid", "/data"),
        (with(event.clone(), "data", json!({"": 1})), "change-invalid", "/data/"),
        (without(event.clone(), "data"), "data-invalid", "/data"),
        (json!("an event"), "not-an-event", ""),
        (with(json!({}), "data", json!(1)), "attribute-missing", "/specversion"),
    ];
    for (event, code, pointer) in &cases {
        let error = read(&structured(), &event.to_string()).unwrap_err();
        assert_eq!((error.code, error.pointer.as_str()), (*code, *pointer), "{event}: {error}");
        // In a batch, the number of the event stands before it.
        let error = read(&batched(), &json!([price(), event]).to_string()).unwrap_err();
        assert_eq!((error.code, error.pointer), (*code, format!("/1{pointer}")), "{event}");
    }
    for body in ["", "{", "[1", "{}{}", "nonsense", "{\"id\":1e999}"] {
        let error = read(&structured(), body).unwrap_err();
        assert_eq!(error.code, "not-json", "{body}: {error}");
    }
    for body in ["{}", "1", "[] []", "[,]"] {
        assert_eq!(read(&batched(), body).unwrap_err().code, "not-json", "{body}");
    }
    let twice = price().to_string().replacen("\"id\":", "\"id\":\"e-0\",\"id\":", 1);
    assert_eq!(read(&structured(), &twice).unwrap_err().pointer, "/id");
}

#[test]
fn the_sentence_names_the_attribute() {
    let detail = |headers: &HeaderMap, body: Value| read(headers, &body.to_string()).unwrap_err().detail;
    let batch = json!([price(), with(price(), "subject", json!("price"))]);
    assert_eq!(detail(&batched(), batch), "`subject` must name the entity: <kind>/<key>");
    let other = with(price(), "subject", json!("order/1"));
    assert_eq!(detail(&structured(), other), "`subject` must begin with the kind that `type` has: price/");
    let without = with(price(), "id", json!(null));
    assert_eq!(detail(&structured(), without), "`id` is missing: every event needs it");
    let binary = headers(&[("ce-specversion", "1.0"), ("ce-id", "1"), ("content-type", "application/json")]);
    assert_eq!(detail(&binary, json!({})), "the header `ce-source` is missing: every event needs it");
}

#[test]
fn the_schema_is_asked_by_kind_and_answers_with_a_place() {
    let strict = |kind: &str, data: &Value| match (kind, data["price"]["minor"].as_i64()) {
        ("price", Some(_)) => Ok(()),
        _ => Err(("/price/minor".to_owned(), "must be a whole number".to_owned())),
    };
    let bad = with(price(), "data", json!({"price": {"minor": "12.50"}}));
    let ask = |headers: &HeaderMap, body: String| parse(headers, body.as_bytes(), &Limits::default(), NOW_US, strict);
    assert!(ask(&structured(), price().to_string()).is_ok());
    let error = ask(&batched(), json!([price(), bad]).to_string()).unwrap_err();
    assert_eq!((error.code, error.pointer.as_str()), ("schema", "/1/data/price/minor"));
    assert_eq!(error.to_string(), "`/1/data/price/minor`: must be a whole number");
}

#[test]
fn a_batch_over_the_limit_is_refused() {
    let batch = json!([price(), price(), price()]).to_string();
    let limits = |events_max| Limits { events_max };
    assert!(parse(&batched(), batch.as_bytes(), &limits(3), NOW_US, anything).is_ok());
    let error = parse(&batched(), batch.as_bytes(), &limits(2), NOW_US, anything).unwrap_err();
    assert_eq!(error.code, "too-many-events");
}

#[test]
fn binary_mode_decodes_its_headers() {
    let base = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "s"), ("ce-type", "price.changed")];
    let ask = |more: &[(&str, &str)], body: &str| read(&headers(&[&base[..], more].concat()), body);
    let key = |more: &[(&str, &str)]| ask(more, r#"{"a":1}"#).map(|parsed| parsed.events[0].change.key.clone());
    assert_eq!(key(&[("ce-subject", "price/Caf%C3%A9%20%E2%82%ac")]).unwrap(), "Café €");
    assert_eq!(key(&[("ce-subject", r#""price/a\"b%22""#)]).unwrap(), "a\"b\"");
    assert_eq!(key(&[("ce-subject", "price/100%")]).unwrap(), "100%");
    for (value, code) in [("price/%FF", "attribute-invalid"), ("price/é", "attribute-invalid")] {
        let error = key(&[("ce-subject", value)]).unwrap_err();
        assert_eq!((error.code, error.pointer.as_str()), (code, "ce-subject"));
    }
    let subject = ("ce-subject", "price/1");
    let check = |more: &[(&str, &str)], body: &str, code: &str, pointer: &str| {
        let error = ask(&[&[subject], more].concat(), body).unwrap_err();
        assert_eq!((error.code, error.pointer.as_str()), (code, pointer), "{error}");
    };
    check(&[("content-type", "text/plain")], "hello", "data-invalid", "content-type");
    check(&[("content-type", "application/json")], "hello", "not-json", "");
    check(&[("content-type", "application/json")], "", "data-invalid", "");
    check(&[("ce-data", "1")], "{}", "attribute-invalid", "ce-data");
    check(&[("ce-time", "noon")], r#"{"a":1}"#, "attribute-invalid", "ce-time");
    check(&[("content-type", "application/cloudevents+avro")], "", "media-type", "content-type");
    assert_eq!(read(&headers(&[("content-type", "application/json")]), "{}").unwrap_err().code, "media-type");
    assert_eq!(read(&HeaderMap::new(), "{}").unwrap_err().code, "media-type");
}

#[test]
fn a_trace_that_is_not_well_formed_is_left_out() {
    for bad in [
        "",
        "x",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ] {
        let parsed = read(&structured(), &with(price(), "traceparent", json!(bad)).to_string()).unwrap();
        assert_eq!(parsed.events[0].traceparent, None, "{bad}");
    }
}

/// An event of the hub with every field in use.
fn published() -> lockstep_core::Event {
    let field = |name: &str, json: &str| Field::new(name, json.to_owned());
    let fact = lockstep_core::record::Fact {
        system: "shop \"one\"".into(),
        kind: "order".into(),
        key: "web:1001/\u{e9}".into(),
        occurred_at_us: 1_770_091_506_789_000,
        fields: vec![
            field("lifecycle", r#""confirmed""#),
            field("note", r#""a\"b""#),
            field("total", r#"{"minor":1}"#),
        ],
        changed: vec![0, 2],
        rest: vec![field("note", r#""kept""#), field("tags", r#"["x"]"#)],
        version: 7,
        event_type: "order.confirmed".into(),
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        ..Default::default()
    };
    lockstep_core::Event {
        position: 9_007_199_254_740_993,
        recorded_at_us: NOW_US + 1,
        fact: Box::new(fact),
        replay: None,
    }
}

#[test]
fn what_goes_out_is_a_cloud_event() {
    let event = published();
    let json: Value = serde_json::from_slice(&to_structured(&event, "/hubs/\"main\"")).unwrap();
    let expected = json!({
        "specversion": "1.0", "id": "9007199254740993", "source": "/hubs/\"main\"", "type": "order.confirmed",
        "subject": "order/web:1001/é", "time": "2026-09-21T14:13:20.000001Z", "datacontenttype": "application/json",
        "dataschema": "/v1/schemas/order", "position": "9007199254740993", "occurredat": "2026-02-03T04:05:06.789000Z",
        "partitionkey": "order/web:1001/é", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {
            "kind": "order", "key": "web:1001/é", "version": 7, "system": "shop \"one\"", "changed": ["lifecycle", "total"],
            "document": {"lifecycle": "confirmed", "note": "kept", "tags": ["x"], "total": {"minor": 1}},
        },
    });
    assert_eq!(json, expected);

    let mut untraced = event.clone();
    untraced.fact.trace.clear();
    let json: Value = serde_json::from_slice(&to_structured(&untraced, "https://hub.example/")).unwrap();
    assert_eq!(json.get("traceparent"), None);
    assert_eq!(json["dataschema"], "https://hub.example/v1/schemas/order");
    // Another hub can take it in: it is a valid event, and its data are fields.
    let parsed = read(&structured(), std::str::from_utf8(&to_structured(&event, "/hubs/main")).unwrap()).unwrap();
    assert_eq!(parsed.events[0].change.id(), "order/web:1001/é");
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200), batch: bool) {
        let headers = if batch { batched() } else { structured() };
        let _ = parse(&headers, &body, &Limits::default(), NOW_US, anything);
    }

    #[test]
    fn any_field_comes_through_as_it_is(
        name in "[^.\\[\\]\\p{C}]{1,20}", text in "\\PC{0,40}", number: i64, fraction in proptest::num::f64::NORMAL,
    ) {
        let value = json!({"text": text, "number": number, "fraction": fraction, "list": [number, text]});
        let event = with(price(), "data", json!({name.clone(): value}));
        match read(&structured(), &event.to_string()) {
            Ok(parsed) => {
                let field = &parsed.events[0].change.fields[0];
                prop_assert_eq!(&field.name, &name);
                prop_assert_eq!(serde_json::from_slice::<Value>(&field.json).unwrap(), value);
            }
            Err(error) => prop_assert!(error.code == "change-invalid", "{}", error),
        }
    }
}

mod conformance {
    //! The cases of the CloudEvents conformance project, where the folder with them is there. They are about the
    //! event's attributes: what a change needs beyond them is tested above.

    use super::*;

    fn cases(name: &str) -> Vec<Value> {
        let folder =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/standards/cloudevents-conformance/format/json");
        let path = std::path::Path::new(folder).join(name);
        let Ok(bytes) = std::fs::read(&path) else {
            println!("skipped: {} is not there", path.display());
            return vec![];
        };
        let file: Value = serde_json::from_slice(&bytes).unwrap();
        let cases = file["tests"].as_array().unwrap().clone();
        assert!(!cases.is_empty());
        cases
    }

    /// Whether every event in the text has what the standard asks for.
    fn well_formed(text: &str) -> bool {
        let check = |item: Item<'_>| item.0.is_some_and(|envelope| envelope.check(Place::Body).is_ok());
        if text.starts_with('[') {
            serde_json::from_str::<Vec<Item<'_>>>(text).unwrap().into_iter().all(check)
        } else {
            check(serde_json::from_str(text).unwrap())
        }
    }

    #[test]
    fn valid_and_invalid_events_and_batches() {
        for (name, part, valid) in [
            ("valid-events.json", "event", true),
            ("invalid-events.json", "event", false),
            ("valid-batches.json", "batch", true),
            ("invalid-batches.json", "batch", false),
        ] {
            for case in cases(name) {
                assert_eq!(well_formed(&case[part].to_string()), valid, "{name}: {}", case["id"]);
            }
        }
    }

    #[test]
    fn the_request_in_binary_mode_of_the_http_binding() {
        for content_type in ["application/json", "application/json; charset=utf-8"] {
            let headers = headers(&[
                ("ce-specversion", "1.0"),
                ("ce-type", "com.example.someevent"),
                ("ce-time", "2018-04-05T03:56:24Z"),
                ("ce-id", "1234-1234-1234"),
                ("ce-source", "/mycontext/subcontext"),
                ("content-type", content_type),
            ]);
            let envelope = from_headers(&headers, br#"{ "message": "Hello World!" }"#).unwrap();
            let event = envelope.check(Place::Headers).unwrap();
            assert_eq!((&*event.id, &*event.source), ("1234-1234-1234", "/mycontext/subcontext"));
            assert_eq!((&*event.event_type, event.time_us), ("com.example.someevent", Some(1_522_900_584_000_000)));
            assert_eq!(event.data, Some(json!({"message": "Hello World!"})));
        }
    }
}
