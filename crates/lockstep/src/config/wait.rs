//! A wait as a person writes it: `250ms`, `5s`, `30m`, `2h`, `1d`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The longest wait.
const MS_MAX: u64 = 30 * 24 * 3_600_000;

/// A wait. It is written again as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wait {
    /// In milliseconds.
    pub ms: u64,
    text: String,
}

impl TryFrom<String> for Wait {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => 0,
        };
        match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)) {
            Some(ms) if ms > 0 && ms <= MS_MAX => Ok(Self { ms, text }),
            _ => Err(format!("`{text}` is not a wait such as \"5s\", \"5m\" or \"2h\", of 30 days at most")),
        }
    }
}

impl From<Wait> for String {
    fn from(wait: Wait) -> Self {
        wait.text
    }
}

impl JsonSchema for Wait {
    fn schema_name() -> Cow<'static, str> {
        "Wait".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A wait: a number with ms, s, m, h or d.",
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_units() {
        for (text, ms) in [("250ms", 250), ("5s", 5_000), ("30m", 1_800_000), ("2h", 7_200_000), ("30d", MS_MAX)] {
            let wait = Wait::try_from(text.to_owned()).unwrap();
            assert_eq!((wait.ms, String::from(wait)), (ms, text.to_owned()));
        }
        for text in ["", "5", "s", "0s", "-5s", "5 s", "5w", "31d", "99999999999999999999h"] {
            let error = Wait::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains(&format!("`{text}`")) && error.contains("2h"), "{error}");
        }
    }
}
