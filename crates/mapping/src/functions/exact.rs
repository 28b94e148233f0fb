//! Numbers as exact decimal text, whatever form they came in.

use std::borrow::Cow;

use vrl::value::Value;

/// The most significant digits that survive the way through a float: a decimal of so many digits is the only
/// one of its length that reads as that float.
const FLOAT_DIGITS_MAX: usize = 15;

/// The decimal text of a number or of text. A float stands for its shortest decimal form, and is refused where
/// that may not be what was written.
pub(super) fn decimal<'v>(what: &str, value: &'v Value) -> Result<Cow<'v, str>, String> {
    match value {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Bytes(_) => Ok(value.to_string_lossy()),
        Value::Integer(number) => Ok(Cow::Owned(number.to_string())),
        Value::Float(number) => {
            let text = number.into_inner().to_string();
            let digits = text.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
            if digits > FLOAT_DIGITS_MAX {
                return Err(format!("{what} `{text}` must be text: a float does not hold that many digits exactly"));
            }
            Ok(Cow::Owned(text))
        }
        other => Err(format!("{what} must be a decimal number, not {}", other.kind_str())),
    }
}
