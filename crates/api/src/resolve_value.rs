//! The value that a person gives for a contested field, checked by the schema of its kind.

use std::collections::BTreeSet;

use lockstep_connect::schema::Schemas;
use lockstep_core::entity::DELETED_FIELD;
use lockstep_core::path::{self, base_of, is_list, list_of};
use lockstep_core::{Entity, Field};
use serde_json::{Value, json};

use crate::entities;
use crate::problem::{Code, Problem};

/// The field with this value. A part is checked within what it is a part of, as that would stand then.
pub(crate) fn given(schemas: &Schemas, entity: &Entity, name: &str, value: &Value) -> Result<Field, Problem> {
    let base = base_of(name);
    let must = |what: &str| invalid("/value", format!("field `{name}` must be {what}"));
    let field = Field::new(name, entities::compact(value));
    if name == DELETED_FIELD {
        return if value.is_boolean() { Ok(field) } else { Err(must("true or false: whether the entity is gone")) };
    }
    if is_list(name) && !is_key_list(value) {
        return Err(must("the keys of the items in their order, an array of texts, each once; or null"));
    }
    if name.len() == base.len() + 1 && name.ends_with('.') && *value != json!({}) && !value.is_null() {
        return Err(must("{} where there is an object, null where there is none: each member is a field of its own"));
    }
    if !is_list(name) && list_of(name).is_some() {
        let item = Field::new(base, entities::compact(&json!([value])));
        let parts = path::split(vec![item], schemas.parts(&entity.kind))
            .map_err(|error| invalid("/value", error.to_string()))?;
        if !parts.iter().any(|part| part.name == name) {
            return Err(must("an item with this key, not with another one"));
        }
    }
    let mut parts: Vec<Field> = entity.document().into_iter().filter(|f| base_of(&f.name) == base).collect();
    parts.retain(|part| part.name != name);
    parts.push(field.clone());
    parts.sort_by(|a, b| a.name.cmp(&b.name));
    let mut whole = Vec::with_capacity(256);
    path::assemble(&mut whole, &parts.iter().collect::<Vec<_>>());
    let whole = serde_json::from_slice(&whole).unwrap_or_default();
    entities::validate(schemas, &entity.kind, &whole).map_err(|(pointer, detail)| invalid(&pointer, detail))?;
    Ok(field)
}

fn is_key_list(value: &Value) -> bool {
    let Some(keys) = value.as_array() else { return value.is_null() };
    let texts: BTreeSet<&str> = keys.iter().filter_map(Value::as_str).filter(|key| !key.is_empty()).collect();
    texts.len() == keys.len()
}

fn invalid(pointer: &str, detail: String) -> Problem {
    Problem::new(Code::InvalidEvent, detail).with("pointer", pointer).with("reason", "schema")
}

#[cfg(test)]
mod tests {
    use lockstep_core::{Domain, Facts, Input, InputBody, Rules, decide};

    use super::*;

    /// An order with two lines, and schemas that have its customer merged by its members.
    fn order() -> (Schemas, Entity) {
        let mut schemas = Schemas::builtin();
        let mut rules = Rules::new();
        let parts = [("shipping_address".to_owned(), path::Part::Members)].into();
        rules.declare(Domain { kind: "order".into(), parts, ..Domain::default() });
        schemas.merge_parts("order", rules.parts("order").clone());
        let given = json!({
            "currency": "EUR",
            "lines": [{"id": "1", "ordered": 1}, {"id": "2", "ordered": 2}],
            "shipping_address": {"city": "Berlin", "country": "DE"},
        });
        schemas.validate("order", &given).unwrap();
        let fields = given.as_object().unwrap().iter().map(|(name, value)| Field::new(name, entities::compact(value)));
        let fields = path::split(fields.collect(), rules.parts("order")).unwrap();
        let input = Input {
            source: "shop".into(),
            system: "shop".into(),
            delivery: "1".into(),
            payload_hash: 0,
            reject_reuse: false,
            request_key: None,
            received_at_us: 1,
            trace: None,
            raw: None,
            body: InputBody::Changes(vec![lockstep_core::Change::new("order", "1", 0, 1, fields).unwrap()]),
            releases: None,
        };
        let mut facts = Facts::new(rules);
        decide(&mut facts, input, 1).unwrap();
        (schemas, Entity::clone(&facts.entities["order/1"]))
    }

    #[test]
    fn a_part_is_checked_within_its_whole() {
        let (schemas, order) = order();
        let rows = [
            ("currency", json!("USD"), ""),
            ("currency", json!("dollar"), "/currency"),
            ("shipping_address.country", json!("FR"), ""),
            ("shipping_address.country", json!("France"), "/shipping_address/country"),
            ("shipping_address.", json!({}), ""),
            ("shipping_address.", json!({"city": "Rome"}), "/value"),
            ("lines[2]", json!({"id": "2", "ordered": 3}), ""),
            ("lines[2]", json!({"id": "2", "ordered": true}), "/lines/1/ordered"),
            ("lines[2]", json!({"id": "1", "ordered": 3}), "/value"),
            ("lines[2]", json!("two"), "/value"),
            ("lines[]", json!(["2", "1"]), ""),
            ("lines[]", json!(["2", "2"]), "/value"),
            ("lines[]", json!([{"id": "1"}]), "/value"),
            ("lines[]", json!(null), ""),
            ("_deleted", json!(true), ""),
            ("_deleted", json!("yes"), "/value"),
        ];
        for (name, value, pointer) in rows {
            match given(&schemas, &order, name, &value) {
                Ok(field) => assert_eq!((pointer, field.name.as_str()), ("", name), "{name} = {value}"),
                Err(problem) => {
                    assert_eq!(problem.to_json(None)["pointer"], pointer, "{name} = {value}: {}", problem.detail())
                }
            }
        }
    }
}
