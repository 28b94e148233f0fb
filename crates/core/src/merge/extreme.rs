//! `max` and `min`: the greatest or the least of what the systems say now. Numbers by their value, true over false,
//! texts by their characters (RFC 3339 times in UTC of one precision sort so); an amount of money by its minor units
//! where the currency is the same. Null counts only where nobody has a value.
//!
//! The most restrictive consent is `min`.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Ranking, Rule, Standing, Verdict, across_order, greatest};

/// The greatest value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Max;

/// The least value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Min;

impl Ranking for Max {
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        Verdict::of((extreme(claims, |order| order), Rule::Greatest))
    }
}

impl Ranking for Min {
    fn winner(&self, claims: &[Standing<'_>]) -> Verdict {
        Verdict::of((extreme(claims, Ordering::reverse), Rule::Least))
    }
}

fn extreme(claims: &[Standing<'_>], sense: impl Fn(Ordering) -> Ordering) -> usize {
    greatest(claims, |a, b| {
        let values = a.has_value().cmp(&b.has_value());
        values.then_with(|| sense(by_value(a.json, b.json))).then_with(|| across_order(a, b))
    })
}

/// The order of two values. Those of different kinds are ordered by kind, so that the order is total.
fn by_value(a: &[u8], b: &[u8]) -> Ordering {
    let read = |json: &[u8]| serde_json::from_slice(json).unwrap_or(Value::Null);
    let (a, b) = (read(a), read(b));
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Object(_) => 4,
        Value::Array(_) => 5,
    };
    match (&a, &b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(x), Value::Number(y)) => number(x, y),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Object(x), Value::Object(y)) => match (money(x), money(y)) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => a.to_string().cmp(&b.to_string()),
        },
        _ => kind(&a).cmp(&kind(&b)).then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

/// Whole numbers exactly, others as floats.
fn number(a: &serde_json::Number, b: &serde_json::Number) -> Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN)),
    }
}

/// Currency and minor units.
fn money(object: &serde_json::Map<String, Value>) -> Option<(&str, i64)> {
    Some((object.get("currency")?.as_str()?, object.get("minor")?.as_i64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_ordered_as_a_person_would() {
        for pair in [
            ("9", "10"),
            ("-1", "0.5"),
            ("9007199254740992", "9007199254740993"),
            ("false", "true"),
            (r#""2026-01-01T00:00:00Z""#, r#""2026-01-02T00:00:00Z""#),
            (r#"{"currency":"EUR","minor":999}"#, r#"{"currency":"EUR","minor":1000}"#),
        ] {
            assert_eq!(by_value(pair.0.as_bytes(), pair.1.as_bytes()), Ordering::Less, "{pair:?}");
            assert_eq!(by_value(pair.1.as_bytes(), pair.0.as_bytes()), Ordering::Greater, "{pair:?}");
        }
    }
}
