//! How the validator reads what a mapping made, as it is in memory.

use std::borrow::Cow;
use std::collections::btree_map;

use jsonschema::json::{Array, Json, JsonNumber, Node, NodeIdentity, Object};
use jsonschema::types::JsonType;
use lockstep_mapping::{KeyString, ObjectMap, Value, to_json};
use serde_json::Number;

/// The representation: a mapping's value stands for the JSON that it is written as.
pub(super) struct Mapped;

impl Json for Mapped {
    type Node<'a> = &'a Value;
    type PreparedKey = KeyString;
    type StringBuffer = Option<Value>;

    // The map is ordered: a lookup compares keys, a pass over all members does not.
    const KEYS_PER_LOOKUP: usize = 2;

    fn prepare_key(key: &str) -> KeyString {
        key.into()
    }

    fn with_string_node<T>(buffer: &mut Option<Value>, string: &str, f: impl FnOnce(&Value) -> T) -> T {
        f(buffer.insert(Value::from(string)))
    }
}

/// A number of a mapping.
pub(super) enum MappedNumber {
    Integer(i64),
    Float(f64),
}

impl JsonNumber for MappedNumber {
    fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Float(_) => None,
        }
    }

    fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Float(_) => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
        }
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_number().to_string())
    }

    fn to_number(&self) -> Cow<'_, Number> {
        Cow::Owned(match self {
            Self::Integer(number) => Number::from(*number),
            // A mapping's float is finite: VRL refuses what JSON can't write.
            Self::Float(number) => Number::from_f64(*number).unwrap_or_else(|| Number::from(0)),
        })
    }

    fn is_integer(&self) -> bool {
        // A float may have lost digits on its way, also where it is whole.
        matches!(self, Self::Integer(_))
    }

    fn is_written_as_integer(&self) -> bool {
        matches!(self, Self::Integer(_))
    }
}

impl<'a> Node<'a, Mapped> for &'a Value {
    type Object = &'a ObjectMap;
    type Array = &'a [Value];
    type Number = MappedNumber;

    fn as_object(&self) -> Option<&'a ObjectMap> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    fn as_array(&self) -> Option<&'a [Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            Value::String(text) => Some(Cow::Borrowed(text)),
            // These are written as text.
            Value::Bytes(_) | Value::Regex(_) | Value::Timestamp(_) => Some(self.to_string_lossy()),
            _ => None,
        }
    }

    fn as_number(&self) -> Option<MappedNumber> {
        match self {
            Value::Integer(number) => Some(MappedNumber::Integer(*number)),
            Value::Float(number) => Some(MappedNumber::Float(number.into_inner())),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn json_type(&self) -> JsonType {
        match self {
            Value::Null => JsonType::Null,
            Value::Boolean(_) => JsonType::Boolean,
            Value::Integer(_) | Value::Float(_) => JsonType::Number,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
            Value::String(_) | Value::Bytes(_) | Value::Regex(_) | Value::Timestamp(_) => JsonType::String,
        }
    }

    fn equals_value(&self, expected: &serde_json::Value) -> bool {
        match (self, expected) {
            (Value::String(text), serde_json::Value::String(expected)) => **text == **expected,
            // A text is never equal to another type; this spares the copy of the common mismatch.
            (Value::String(_), _) => false,
            _ => jsonschema::json::cmp::equal(&to_json(self), expected),
        }
    }

    fn to_value(&self) -> Cow<'a, serde_json::Value> {
        Cow::Owned(to_json(self))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        Some(NodeIdentity::new(std::ptr::from_ref::<Value>(self) as usize))
    }
}

pub(super) struct Members<'a>(btree_map::Iter<'a, KeyString, Value>);

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key.as_str(), value))
    }
}

impl<'a> Object<'a, Mapped> for &'a ObjectMap {
    type Node = &'a Value;
    type MemberName = &'a str;
    type MembersIter = Members<'a>;

    fn len(&self) -> usize {
        ObjectMap::len(self)
    }

    fn get(&self, key: &KeyString) -> Option<&'a Value> {
        (*self).get(key)
    }

    fn members(&self) -> Members<'a> {
        Members(self.iter())
    }
}

impl<'a> Array<'a, Mapped> for &'a [Value] {
    type Node = &'a Value;
    type ElementsIter = std::slice::Iter<'a, Value>;

    fn len(&self) -> usize {
        <[Value]>::len(self)
    }

    fn elements(&self) -> std::slice::Iter<'a, Value> {
        self.iter()
    }
}
