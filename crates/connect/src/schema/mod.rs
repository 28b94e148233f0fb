//! The canonical JSON Schemas: what each field of a kind must look like.
//!
//! What is validated is a document's `fields` object. A part of a document is fine: a schema says what a field
//! is, never that it must be there.

mod exact;
mod instance;
mod violation;

use std::collections::BTreeMap;

use jsonschema::Validator;
use lockstep_core::Rules;
use lockstep_core::path::Parts;
use lockstep_mapping::Value;
use thiserror::Error;

use exact::Exact;
use instance::Mapped;
pub use violation::Violation;

/// The kinds that every hub knows, with their schemas. They are published as they stand here.
const BUILTIN: &[(&str, &str)] = &[
    ("customer", include_str!("../../../../schemas/customer.json")),
    ("location", include_str!("../../../../schemas/location.json")),
    ("order", include_str!("../../../../schemas/order.json")),
    ("payment", include_str!("../../../../schemas/payment.json")),
    ("price", include_str!("../../../../schemas/price.json")),
    ("product", include_str!("../../../../schemas/product.json")),
    ("return", include_str!("../../../../schemas/return.json")),
    ("shipment", include_str!("../../../../schemas/shipment.json")),
    ("stock", include_str!("../../../../schemas/stock.json")),
];

/// The kinds of which the hub alone publishes: nobody else may speak of them, so they are no kinds to be accepted.
const PUBLISHED: &[(&str, &str)] = &[
    ("availability", include_str!("../../../../schemas/availability.json")),
    ("reservation", include_str!("../../../../schemas/reservation.json")),
];

/// The schemas of all kinds that a hub accepts, and of those that it alone publishes.
#[derive(Debug)]
pub struct Schemas {
    kinds: BTreeMap<String, Kind>,
    parts: BTreeMap<String, Parts>,
    published: BTreeMap<&'static str, serde_json::Value>,
}

/// One schema, ready for both forms that a document comes in: as JSON over the API, as a value from a mapping.
#[derive(Debug)]
struct Kind {
    document: serde_json::Value,
    json: Validator<Exact>,
    mapped: Validator<Mapped>,
}

/// Why a schema can't be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// The kind could not name an entity.
    #[error("the schema's kind can't name an entity")]
    Kind(#[source] lockstep_core::ChangeError),
    /// It is no valid JSON Schema, or refers to something that is not in it.
    #[error("the schema of kind `{kind}` is no valid JSON Schema{}: {reason}", at(pointer))]
    Invalid {
        /// The kind.
        kind: String,
        /// Where in the schema.
        pointer: String,
        /// What is wrong.
        reason: String,
    },
}

fn at(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!(" at {pointer}") }
}

impl Schemas {
    /// The schemas that every hub has.
    #[expect(clippy::expect_used, reason = "the embedded schemas depend on no input, and a test compiles each of them")]
    pub fn builtin() -> Self {
        let published = PUBLISHED.iter().map(|(kind, text)| {
            let document = serde_json::from_str(text).expect("an embedded schema is JSON");
            (*kind, document)
        });
        let mut schemas = Self { kinds: BTreeMap::new(), parts: BTreeMap::new(), published: published.collect() };
        let rules = Rules::new();
        for (kind, text) in BUILTIN {
            let document = serde_json::from_str(text).expect("an embedded schema is JSON");
            schemas.declare(kind, document).expect("an embedded schema is valid");
            schemas.merge_parts(kind, rules.parts(kind).clone());
        }
        schemas
    }

    /// Adds a kind with its schema, or gives a kind another schema than it had.
    ///
    /// A schema stands alone: `$ref` reaches what is in it, never a file or the network.
    pub fn declare(&mut self, kind: &str, schema: serde_json::Value) -> Result<(), SchemaError> {
        lockstep_core::change::check_kind(kind).map_err(SchemaError::Kind)?;
        let invalid = |error: jsonschema::ValidationError<'_>| SchemaError::Invalid {
            kind: kind.to_owned(),
            pointer: error.instance_path().to_string(),
            reason: error.to_string(),
        };
        let mut of_parts = schema.clone();
        if let Some(members) = of_parts.as_object_mut() {
            // What must be there is asked of the whole document, not of what one source says.
            members.remove("required");
        }
        let json =
            jsonschema::options_for::<Exact>().should_validate_formats(true).build(&of_parts).map_err(invalid)?;
        let mapped =
            jsonschema::options_for::<Mapped>().should_validate_formats(true).build(&of_parts).map_err(invalid)?;
        self.kinds.insert(kind.to_owned(), Kind { document: schema, json, mapped });
        Ok(())
    }

    /// Says which fields of a kind are merged by their parts.
    pub fn merge_parts(&mut self, kind: &str, parts: Parts) {
        self.parts.insert(kind.to_owned(), parts);
    }

    /// The fields of a kind that are merged by their parts.
    pub fn parts(&self, kind: &str) -> &Parts {
        static NONE: Parts = Parts::new();
        self.parts.get(kind).unwrap_or(&NONE)
    }

    /// The fields that a kind's schema requires: nobody is told of a document without them. What a source says need
    /// not have them.
    pub fn required(&self, kind: &str) -> Vec<String> {
        let required = self.kinds.get(kind).and_then(|kind| kind.document.get("required"));
        let names = required.and_then(serde_json::Value::as_array).into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    /// Checks the fields of a document of that kind.
    pub fn validate(&self, kind: &str, fields: &serde_json::Value) -> Result<(), Violation> {
        self.kind(kind)?.json.validate(fields).map_err(|error| Violation::of(&error))
    }

    /// Checks fields that a mapping made, without turning them into JSON first.
    pub fn validate_mapped(&self, kind: &str, fields: &Value) -> Result<(), Violation> {
        self.kind(kind)?.mapped.validate(fields).map_err(|error| Violation::of(&error))
    }

    fn kind(&self, kind: &str) -> Result<&Kind, Violation> {
        self.kinds.get(kind).ok_or_else(|| {
            let known: Vec<&str> = self.kinds.keys().map(String::as_str).collect();
            Violation::unknown_kind(kind, &known)
        })
    }

    /// The schema of a kind.
    pub fn get(&self, kind: &str) -> Option<&serde_json::Value> {
        self.kinds.get(kind).map(|kind| &kind.document)
    }

    /// The schemas of all kinds that the hub publishes, sorted by kind: also those that nobody else may speak of.
    pub fn published(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        let own = self.published.iter().map(|(kind, document)| (*kind, document));
        let all: BTreeMap<&str, &serde_json::Value> = self.iter().chain(own).collect();
        all.into_iter()
    }

    /// All kinds that a hub accepts with their schemas, sorted by kind.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        self.kinds.iter().map(|(name, kind)| (name.as_str(), &kind.document))
    }
}

#[cfg(test)]
mod tests;
