use lockstep_mapping::from_json;
use serde_json::json;

use super::*;

/// Both ways to validate must say the same.
fn check(schemas: &Schemas, kind: &str, fields: &serde_json::Value) -> Result<(), Violation> {
    let by_json = schemas.validate(kind, fields);
    let mapped = from_json(fields.to_string().as_bytes()).unwrap();
    assert_eq!(schemas.validate_mapped(kind, &mapped), by_json, "{fields}");
    by_json
}

#[test]
fn every_schema_is_self_contained_and_documented() {
    let schemas = Schemas::builtin();
    let kinds: Vec<&str> = schemas.iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["customer", "location", "order", "payment", "price", "product", "return", "shipment", "stock"]);
    for (kind, schema) in schemas.iter() {
        assert_eq!(schema["$id"], format!("urn:lockstep:schema:{kind}"));
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], true, "{kind}");
        assert!(schema.get("required").is_none(), "{kind}");
        for (field, about) in schema["properties"].as_object().unwrap() {
            assert!(about["description"].as_str().is_some_and(|text| text.ends_with('.')), "{kind}.{field}");
        }
    }
}

#[test]
fn what_the_hub_alone_publishes_is_documented_whole_and_not_accepted() {
    let schemas = Schemas::builtin();
    let own: Vec<_> = schemas.published().filter(|(kind, _)| schemas.get(kind).is_none()).collect();
    let kinds: Vec<&str> = own.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, lockstep_core::stock::LEDGER_KINDS.iter().rev().copied().collect::<Vec<_>>());
    for (kind, schema) in own {
        jsonschema::meta::validate(schema).unwrap();
        assert_eq!(schema["$id"], format!("urn:lockstep:schema:{kind}"));
        for (field, about) in schema["properties"].as_object().unwrap() {
            assert!(about["description"].as_str().is_some_and(|text| text.ends_with('.')), "{kind}.{field}");
            assert!(schema["required"].as_array().unwrap().contains(&json!(field)), "{kind}.{field}");
        }
        let refused = check(&schemas, kind, &json!({})).unwrap_err().to_string();
        assert!(refused.contains(kind), "{refused}");
    }
}

#[test]
fn the_lifecycle_is_the_one_that_the_core_ranks() {
    let schemas = Schemas::builtin();
    let states: Vec<_> = lockstep_core::order::LIFECYCLE.iter().map(|(state, _)| json!(state)).collect();
    let schema = schemas.get("order").unwrap();
    assert_eq!(schema["properties"][lockstep_core::order::LIFECYCLE_FIELD]["enum"], json!(states));
}

#[test]
fn a_part_of_a_document_and_unknown_fields_are_fine() {
    let schemas = Schemas::builtin();
    for kind in ["customer", "location", "order", "payment", "price", "product", "return", "shipment", "stock"] {
        assert_eq!(check(&schemas, kind, &json!({})), Ok(()));
        assert_eq!(check(&schemas, kind, &json!({"erp_branch": {"any": [1, "thing"]}})), Ok(()));
    }
}

#[test]
fn a_violation_names_the_field_and_what_would_be_right() {
    let schemas = Schemas::builtin();
    let rows = [
        (
            "order",
            json!({"total": {"minor": 10.5, "currency": "EUR"}}),
            "field `/total/minor` must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        ("order", json!({"total": {"minor": 1}}), "field `/total` must have the member `currency`"),
        (
            "order",
            json!({"total": {"minor": 1, "currency": "EUR", "x": 1}}),
            "field `/total` must not have the member `x`",
        ),
        ("order", json!({"total": "10.50"}), "field `/total` must be null or an object"),
        ("order", json!({"currency": "eur"}), "field `/currency` must be an ISO 4217 code of three letters A-Z"),
        ("order", json!({"lines": [{"id": "1", "ordered": -1}]}), "field `/lines/0/ordered` must be at least 0"),
        ("order", json!({"lines": [{"id": "", "ordered": 1}]}), "field `/lines/0/id` must not be empty"),
        ("order", json!({"lines": [{"ordered": 1}]}), "field `/lines/0` must have the member `id`"),
        ("order", json!({"lines": null}), "field `/lines` must be an array"),
        (
            "order",
            json!({"placed_at": "2026-03-01 09:30"}),
            "field `/placed_at` must be an RFC 3339 time with its offset, such as 2026-03-01T09:30:00Z",
        ),
        (
            "order",
            json!({"billing_address": {"country": "Norway"}}),
            "field `/billing_address/country` must be an ISO 3166-1 code of two letters A-Z",
        ),
        (
            "payment",
            json!({"kind": "sale"}),
            "field `/kind` must be `auth`, `capture`, `void`, `refund`, `chargeback` or `auth_expired`",
        ),
        (
            "stock",
            json!({"unavailable": {"lost": 1.5}}),
            "field `/unavailable/lost` must be a whole number from -9223372036854775808 to 9223372036854775807",
        ),
        ("stock", json!([]), "the document must be an object"),
    ];
    for (kind, fields, expected) in rows {
        assert_eq!(check(&schemas, kind, &fields).unwrap_err().to_string(), expected);
    }
}

/// The text is checked as it comes in, by both ways, since a number's digits are lost where it is a value already.
#[test]
fn a_whole_number_is_written_as_one_and_can_be_kept() {
    let schemas = Schemas::builtin();
    let both = |text: &str| {
        let json = serde_json::from_str(text).unwrap();
        let (by_json, mapped) = (schemas.validate("order", &json), from_json(text.as_bytes()).unwrap());
        assert_eq!(schemas.validate_mapped("order", &mapped), by_json, "{text}");
        by_json
    };
    let total = |number: &str| both(&format!(r#"{{"total":{{"minor":{number},"currency":"EUR"}}}}"#));
    for number in ["9223372036854775807", "-9223372036854775808", "9007199254740993", "0"] {
        assert_eq!(total(number), Ok(()), "{number}");
    }
    for number in
        ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "1e3", "9007199254740993.0", "5.0"]
    {
        let expected = "field `/total/minor` must be a whole number from -9223372036854775808 to 9223372036854775807";
        assert_eq!(total(number).unwrap_err().to_string(), expected, "{number}");
    }
    assert!(schemas.validate("stock", &json!({"available": 1.0})).is_err(), "an integer among other types");
    assert!(schemas.validate("product", &json!({"weight_g": 12.0})).is_ok(), "no whole number is asked for");
}

#[test]
fn what_is_right_passes() {
    let schemas = Schemas::builtin();
    let rows = [
        (
            "order",
            json!({"total": {"minor": -5, "currency": "JPY"}, "cancelled_at": null, "lifecycle": "shipped", "customer": null}),
        ),
        (
            "order",
            json!({"lines": [{"id": "1", "ordered": 2, "sku": null, "unit_price": {"minor": 1, "currency": "KWD"}}]}),
        ),
        ("stock", json!({"available": -3, "basis": "available", "counted_at": "2026-03-01T09:30:00.25+05:30"})),
        ("stock", json!({"on_hand": -3, "basis": "on_hand"})),
        ("location", json!({"cut_off": "16:30", "gln": "4012345000009"})),
        ("product", json!({"weight_g": 12.5, "qty_scale": 3})),
    ];
    for (kind, fields) in rows {
        assert_eq!(check(&schemas, kind, &fields), Ok(()));
    }
}

#[test]
fn a_kind_is_known_once_it_is_declared() {
    let mut schemas = Schemas::builtin();
    let violation = check(&schemas, "wish", &json!({})).unwrap_err();
    assert!(violation.to_string().contains("unknown kind `wish`"), "{violation}");
    let rules = json!({
        "type": "object",
        "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}, "of": {"const": "me"}, "size": {"multipleOf": 2}},
        "propertyNames": {"maxLength": 5},
        "dependentRequired": {"of": ["stars"]}
    });
    schemas.declare("wish", rules).unwrap();
    assert_eq!(check(&schemas, "wish", &json!({"stars": 5, "of": "me", "size": 4})), Ok(()));
    for (fields, expected) in [
        (json!({"stars": 6}), "field `/stars` must be at most 5"),
        (json!({"stars": 1, "of": "you"}), "field `/of` must be `me`"),
        (json!({"size": 3}), "field `/size` breaks its schema: it is not a multiple of 2"),
    ] {
        assert_eq!(check(&schemas, "wish", &fields).unwrap_err().to_string(), expected);
    }
    assert!(check(&schemas, "wish", &json!({"too_long": 1})).is_err());
}

#[test]
fn a_schema_must_be_one_and_stand_alone() {
    let mut schemas = Schemas::builtin();
    assert!(matches!(schemas.declare("Wish", json!({})), Err(SchemaError::Kind(_))));
    let error = schemas.declare("wish", json!({"properties": {"a": {"type": "text"}}})).unwrap_err();
    assert!(error.to_string().contains("/properties/a/type"), "{error}");
    assert!(schemas.declare("wish", json!({"$ref": "http://localhost/other.json"})).is_err());
    assert!(schemas.declare("wish", json!({"$ref": "#/$defs/none"})).is_err());
    assert!(schemas.get("wish").is_none());
}
