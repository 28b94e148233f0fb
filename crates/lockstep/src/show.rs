//! Values and documents as people read them.

use serde_json::Value;

use crate::exit::Failure;
use crate::output::Output;

/// A value on one line: money as an amount, texts without quotes.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text),
        Value::Object(members) if members.len() == 2 => money(value).unwrap_or_else(|| clean(&value.to_string())),
        other => clean(&other.to_string()),
    }
}

/// `{"minor": 1099, "currency": "EUR"}` as `10.99 EUR`.
fn money(value: &Value) -> Option<String> {
    let (minor, currency) = (value.get("minor")?.as_i64()?, value.get("currency")?.as_str()?);
    let digits = lockstep_core::money::digits(currency).ok()? as usize;
    let sign = if minor < 0 { "-" } else { "" };
    let text = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
    let (whole, part) = text.split_at(text.len() - digits);
    let point = if digits == 0 { "" } else { "." };
    Some(format!("{sign}{whole}{point}{part} {currency}"))
}

/// Text from outside on one line: control characters would let data move a person's cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A whole document: indented for people, on one line for programs.
pub(crate) fn document(document: &Value, output: &Output) -> Result<(), Failure> {
    if output.is_json() { output.json(document) } else { output.text(&format!("{document:#}")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_is_shown_with_its_currencys_digits() {
        assert_eq!(value(&json!({ "minor": 1099, "currency": "EUR" })), "10.99 EUR");
        assert_eq!(value(&json!({ "minor": -5, "currency": "EUR" })), "-0.05 EUR");
        assert_eq!(value(&json!({ "minor": 1099, "currency": "JPY" })), "1099 JPY");
        assert_eq!(value(&json!({ "minor": 1, "currency": "KWD" })), "0.001 KWD");
        assert_eq!(value(&json!({ "minor": 1, "currency": "?" })), r#"{"currency":"?","minor":1}"#);
    }

    #[test]
    fn texts_have_no_quotes_and_no_control_characters() {
        assert_eq!(value(&json!("a\nb\u{1b}[2J")), "a b [2J");
        assert_eq!(value(&json!(null)), "null");
        assert_eq!(value(&json!([1, "a"])), r#"[1,"a"]"#);
    }
}
