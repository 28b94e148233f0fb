//! Where the values of a contested field differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A place where what the systems say is not the same.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Difference {
    /// Where, as a JSON pointer into the field's value; empty for the whole of it.
    #[schema(example = "/city")]
    pub(crate) pointer: String,
    /// What each system has there. One that has nothing there is absent.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    pub(crate) values: BTreeMap<String, Value>,
}

/// The places where the values of these systems differ: objects are compared member by member, all else as a whole.
pub(crate) fn differences(said: &[(&str, &RawValue)]) -> Vec<Difference> {
    // Every value was read as JSON before it was kept.
    let parsed: Vec<(&str, Value)> =
        said.iter().map(|(system, json)| (*system, serde_json::from_str(json.get()).unwrap_or_default())).collect();
    let values: Vec<_> = parsed.iter().map(|(system, value)| (*system, Some(value))).collect();
    let mut found = Vec::new();
    compare(String::new(), &values, &mut found);
    found
}

fn compare(pointer: String, values: &[(&str, Option<&Value>)], found: &mut Vec<Difference>) {
    if values.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        return;
    }
    let objects: Option<Vec<_>> = values.iter().map(|(_, value)| value.and_then(Value::as_object)).collect();
    let Some(objects) = objects else {
        let there = |(system, value): &(&str, Option<&Value>)| Some(((*system).to_owned(), (*value)?.clone()));
        found.push(Difference { pointer, values: values.iter().filter_map(there).collect() });
        return;
    };
    let members: BTreeSet<&String> = objects.iter().flat_map(|object| object.keys()).collect();
    for member in members {
        let inner: Vec<_> =
            values.iter().zip(&objects).map(|((system, _), object)| (*system, object.get(member))).collect();
        compare(format!("{pointer}/{}", member.replace('~', "~0").replace('/', "~1")), &inner, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_differ_in_members_and_all_else_as_a_whole() {
        let raw = |value: Value| serde_json::value::to_raw_value(&value).unwrap();
        let told = |values: &[(&'static str, Value)]| -> Vec<(String, Value)> {
            let raws: Vec<_> = values.iter().map(|(system, value)| (*system, raw(value.clone()))).collect();
            let said: Vec<_> = raws.iter().map(|(system, value)| (*system, &**value)).collect();
            differences(&said).into_iter().map(|d| (d.pointer, json!(d.values))).collect()
        };
        assert_eq!(told(&[("a", json!(1)), ("b", json!(2))]), [(String::new(), json!({"a": 1, "b": 2}))]);
        assert_eq!(told(&[("a", json!([1])), ("b", json!([1]))]), []);
        assert_eq!(told(&[]), []);
        let (a, b) = (json!({"x": 1, "geo": {"lat": 1, "p/q": 2}, "gone": true}), json!({"x": 1, "geo": {"lat": 2}}));
        assert_eq!(
            told(&[("a", a), ("b", b)]),
            [
                ("/geo/lat".to_owned(), json!({"a": 1, "b": 2})),
                ("/geo/p~1q".to_owned(), json!({"a": 2})),
                ("/gone".to_owned(), json!({"a": true})),
            ]
        );
        let mixed = told(&[("a", json!({"x": 1})), ("b", json!(null)), ("c", json!({"x": 1}))]);
        assert_eq!(mixed, [(String::new(), json!({"a": {"x": 1}, "b": null, "c": {"x": 1}}))]);
    }
}
