//! JSON bytes to values and back, without a detour over another tree.

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use thiserror::Error;
use vrl::value::{KeyString, ObjectMap, Value};

use crate::wanted::Wanted;

/// The bytes are not JSON.
#[derive(Debug, Error)]
#[error("the body is not JSON: {reason} at line {line}, column {column}")]
pub struct JsonError {
    /// What is wrong, without the place.
    pub reason: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        Self { reason: text.strip_suffix(&place).unwrap_or(&text).to_owned(), line, column }
    }
}

/// Reads JSON. A whole number beyond the 64 bits of an integer becomes its digits as text: an identifier must
/// not lose its end in a float.
pub fn from_json(bytes: &[u8]) -> Result<Value, JsonError> {
    read(bytes, None, &Wanted::All)
}

/// Reads of JSON what is wanted and checks the syntax of the rest. Text is taken as a part of `shared`, the
/// same bytes, where that is given.
pub(crate) fn read(bytes: &[u8], shared: Option<&Bytes>, wanted: &Wanted) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Reader { shared, wanted }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Reader<'w> {
    shared: Option<&'w Bytes>,
    wanted: &'w Wanted,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or_else(|_| Value::from(value.to_string()), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // Without the sign, a negative zero would be another value than the zero that it equals.
        let value = if value == 0.0 { 0.0 } else { value };
        Ok(Value::from_f64_or_zero(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, value: &'de str) -> Result<Value, E> {
        // A part of the body costs a count, a copy costs an allocation.
        let Some(shared) = self.shared else { return self.visit_str(value) };
        let text = shared.slice_ref(value.as_bytes()).try_into();
        text.map(Value::String).map_err(|_| E::custom("invalid unicode"))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::with_capacity(items.size_hint().unwrap_or(4));
        // A path into an array is a path of each item here: which item is not known before it is read.
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = ObjectMap::new();
        while let Some(key) = members.next_key_seed(KeyReader(self.wanted))? {
            match key {
                Some((key, wanted)) => {
                    let value = members.next_value_seed(Reader { wanted, ..self })?;
                    object.insert(key, value);
                }
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(object))
    }
}

/// Reads a key and says what is wanted below it; nothing where the member is not wanted, and then no memory
/// is asked for.
struct KeyReader<'w>(&'w Wanted);

impl<'de, 'w> DeserializeSeed<'de> for KeyReader<'w> {
    type Value = Option<(KeyString, &'w Wanted)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for KeyReader<'w> {
    type Value = Option<(KeyString, &'w Wanted)>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.member(key).map(|wanted| (KeyString::from(key), wanted)))
    }
}

/// The value as a `serde_json` tree. Text that is not UTF-8 is given with replacement characters.
pub fn to_json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Null => Json::Null,
        Value::Boolean(value) => Json::Bool(*value),
        Value::Integer(value) => Json::from(*value),
        Value::Float(value) => Json::from(value.into_inner()),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.as_str().to_owned(), to_json(value))).collect()
        }
        Value::Bytes(_) | Value::String(_) | Value::Regex(_) | Value::Timestamp(_) => {
            Json::String(value.to_string_lossy().into_owned())
        }
    }
}

/// Appends the value as compact JSON with sorted keys at every depth, so that equal values are equal bytes.
pub fn write_json(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Integer(value) => write_plain(value, out),
        Value::Float(value) => write_plain(&value.into_inner(), out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_json(item, out);
            }
            out.push(b']');
        }
        // The map is ordered by key.
        Value::Object(members) => {
            out.push(b'{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(key.as_str(), out);
                out.push(b':');
                write_json(value, out);
            }
            out.push(b'}');
        }
        Value::String(text) => write_text(text, out),
        Value::Bytes(_) | Value::Regex(_) | Value::Timestamp(_) => write_text(&value.to_string_lossy(), out),
    }
}

fn write_plain<T: serde::Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing a number into memory can't fail.
    let _ = serde_json::to_writer(out, value);
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let _ = serde_json::to_writer(out, text);
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compact(json: &str) -> String {
        let mut out = Vec::new();
        write_json(&from_json(json.as_bytes()).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn equal_values_are_equal_bytes() {
        for json in [
            r#"{"b":[1,{"z":null,"y":true}],"a":"x"}"#,
            r#" { "a" : "\u0078" , "b" : [ 1 , { "y" : true , "z" : null } ] } "#,
            r#"{"a":"w","b":0,"a":"x","b":[1,{"z":null,"y":true}]}"#,
        ] {
            assert_eq!(compact(json), r#"{"a":"x","b":[1,{"y":true,"z":null}]}"#);
        }
        assert_eq!(compact("-0.0"), compact("0.0"));
    }

    #[test]
    fn whole_numbers_lose_no_digit() {
        assert_eq!(compact("9007199254740993"), "9007199254740993");
        assert_eq!(compact("-9223372036854775808"), "-9223372036854775808");
        assert_eq!(compact("18446744073709551615"), "\"18446744073709551615\"");
    }

    #[test]
    fn text_is_escaped_where_json_asks_for_it() {
        assert_eq!(compact(r#""a\"b\\c\nd\u0001é""#), r#""a\"b\\c\nd\u0001é""#);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        let error = from_json(b"{\n  \"a\": trx\n}").unwrap_err();
        assert_eq!((error.line, error.to_string().starts_with("the body is not JSON: ")), (2, true));
        for bytes in [&b""[..], b"{", b"{}x", b"[1,]", b"\"\xff\"", b"{\"a\" 1}"] {
            assert!(from_json(bytes).is_err(), "{bytes:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(from_json(deep.as_bytes()).is_err());
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,8}".prop_map(Into::into),
            "[\\x00-\\x7f]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..5)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(json in any_json()) {
            let text = serde_json::to_vec(&json).unwrap();
            let value = from_json(&text).unwrap();
            prop_assert_eq!(&to_json(&value), &json);
            let mut out = Vec::new();
            write_json(&value, &mut out);
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), json);
        }
    }
}
