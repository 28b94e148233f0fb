//! What a field must be instead of what it is.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::types::JsonType;
use thiserror::Error;

/// A field that is not what the schema of its kind says.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", sentence(.pointer, .rule))]
pub struct Violation {
    /// The field, as a JSON pointer into the document's fields; empty for the document itself.
    pub pointer: String,
    /// What would be right, for example `must be an array`.
    pub rule: String,
}

fn sentence(pointer: &str, rule: &str) -> String {
    if pointer.is_empty() { format!("the document {rule}") } else { format!("field `{pointer}` {rule}") }
}

impl Violation {
    #[cold]
    pub(super) fn of(error: &ValidationError<'_>) -> Self {
        Self { pointer: error.instance_path().to_string(), rule: rule(error) }
    }

    #[cold]
    pub(super) fn unknown_kind(kind: &str, known: &[&str]) -> Self {
        let rule = format!(
            "has the unknown kind `{kind}`; it must be {} or a kind that the configuration declares",
            one_of(known)
        );
        Self { pointer: String::new(), rule }
    }
}

fn rule(error: &ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(kind) } => format!("must be {}", name(*kind)),
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            let names: Vec<_> = kinds.iter().map(name).collect();
            format!("must be {}", one_of(&names))
        }
        Kind::Enum { options } => {
            let options: Vec<_> = options.as_array().into_iter().flatten().map(text).collect();
            format!("must be {}", one_of(&options))
        }
        Kind::Constant { expected_value } => format!("must be {}", text(expected_value)),
        Kind::Required { property } => format!("must have the member {}", text(property)),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let names: Vec<_> = unexpected.iter().map(|name| format!("`{name}`")).collect();
            format!("must not have the member {}", names.join(", "))
        }
        Kind::Pattern { pattern } if pattern == "^[A-Z]{3}$" => {
            "must be an ISO 4217 code of three letters A-Z".to_owned()
        }
        Kind::Pattern { pattern } if pattern == "^[A-Z]{2}$" => {
            "must be an ISO 3166-1 code of two letters A-Z".to_owned()
        }
        Kind::Pattern { pattern } => format!("must match the pattern {pattern}"),
        Kind::Format { format } if format == "date-time" => {
            "must be an RFC 3339 time with its offset, such as 2026-03-01T09:30:00Z".to_owned()
        }
        Kind::Format { format } => format!("must have the format {format}"),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be greater than {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinProperties { limit } => format!("must have at least {limit} members"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} members"),
        Kind::UniqueItems => "must not have equal items".to_owned(),
        Kind::FalseSchema => "must not be there".to_owned(),
        // A user's schema can say more than there are sentences for. What was given is left out: it may be
        // somebody's address.
        _ => format!("breaks its schema: {}", error.masked_with("it")),
    }
}

fn name(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number from -9223372036854775808 to 9223372036854775807",
        JsonType::Number => "a number",
        JsonType::String => "text",
        JsonType::Array => "an array",
        JsonType::Object => "an object",
    }
}

fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => format!("`{text}`"),
        other => other.to_string(),
    }
}

/// `a, b or c`.
fn one_of<T: AsRef<str>>(names: &[T]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing at all".to_owned(),
    }
}
