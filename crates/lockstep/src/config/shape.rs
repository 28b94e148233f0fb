//! Whether a document has the shape of the configuration: every unknown field, missing field and value of a
//! wrong type, each with its place. The shape is the JSON Schema of the configuration's types, so that the
//! types stay the only description of it; their own deserializer would stop at the first problem.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::problem::{Problem, suggestion};
use super::secret;

/// All problems of a document's shape.
pub(super) fn check(document: &Document, schema: &Value) -> Vec<Problem> {
    let mut shape = Shape { document, root: schema, problems: Vec::new() };
    shape.table(schema, &document.root(), 0..0, "");
    shape.problems
}

struct Shape<'a> {
    document: &'a Document,
    root: &'a Value,
    problems: Vec<Problem>,
}

/// What a schema wants of an object, with everything that it refers to drawn in.
#[derive(Default)]
struct Wanted<'a> {
    properties: BTreeMap<&'a str, &'a Value>,
    required: BTreeSet<&'a str>,
    /// The schema of further properties, where they have one.
    others: Option<&'a Value>,
    closed: bool,
}

impl<'a> Shape<'a> {
    fn report(&mut self, span: std::ops::Range<usize>, message: String) {
        self.problems.push(self.document.problem_at(span, message));
    }

    /// Follows a reference to a definition.
    fn target(&self, schema: &'a Value) -> &'a Value {
        let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
        pointer.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }

    /// The alternatives of a schema, through references.
    fn variants(&self, schema: &'a Value) -> Option<&'a Vec<Value>> {
        let of = |schema: &'a Value| ["oneOf", "anyOf"].iter().find_map(|word| schema.get(word)?.as_array());
        of(schema).or_else(|| of(self.target(schema)))
    }

    fn wanted(&self, schema: &'a Value, wanted: &mut Wanted<'a>) {
        if schema.get("$ref").is_some() {
            self.wanted(self.target(schema), wanted);
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.wanted(part, wanted);
        }
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            wanted.properties.insert(name, property);
        }
        wanted
            .required
            .extend(schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str));
        for word in ["additionalProperties", "unevaluatedProperties"] {
            match schema.get(word) {
                Some(Value::Bool(false)) => wanted.closed = true,
                Some(others @ Value::Object(_)) => wanted.others = Some(others),
                _ => {}
            }
        }
    }

    /// `at` is the table's name for a person: `sources.shop`; empty for the file itself.
    fn table(&mut self, schema: &'a Value, table: &DeTable<'_>, span: std::ops::Range<usize>, at: &str) {
        let mut wanted = Wanted::default();
        self.wanted(schema, &mut wanted);
        if let Some(variants) = self.variants(schema) {
            match self.variant(variants, table, span.clone(), at) {
                Some(variant) => self.wanted(variant, &mut wanted),
                None => return,
            }
        }
        for name in &wanted.required {
            if !table.iter().any(|(key, _)| key.get_ref() == name) {
                let what = wanted.properties.get(name).and_then(|property| self.description(property));
                let what = what.map(|text| format!(": {text}")).unwrap_or_default();
                self.report(span.clone(), format!("{} needs the field `{name}`{what}", place(at)));
            }
        }
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let inner = if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
            if let Some(property) = wanted.properties.get(name) {
                self.value(property, value, key.span(), &inner);
            } else if let Some(others) = wanted.others {
                self.value(others, value, key.span(), &inner);
            } else if wanted.closed {
                let near = suggestion(name, wanted.properties.keys().copied());
                self.report(key.span(), format!("`{name}` is not a field of {}{near}", place(at)));
            }
        }
    }

    /// The alternative that a table's tag chooses, where the alternatives have one.
    fn variant(
        &mut self,
        variants: &'a [Value],
        table: &DeTable<'_>,
        span: std::ops::Range<usize>,
        at: &str,
    ) -> Option<&'a Value> {
        let tags: Vec<(&'a str, &'a str, &'a Value)> = variants.iter().filter_map(|v| self.tag(v)).collect();
        let Some(&(tag, _, first)) = tags.first() else { return variants.first() };
        let names = || tags.iter().map(|(_, name, _)| *name);
        let given = table.iter().find(|(key, _)| key.get_ref() == tag);
        match given.map(|(_, value)| (value.get_ref().as_str(), value.span())) {
            None => {
                let names: Vec<_> = names().map(|name| format!("\"{name}\"")).collect();
                self.report(span, format!("{} needs the field `{tag}`: one of {}", place(at), names.join(", ")));
                None
            }
            // Its type is reported with the other fields.
            Some((None, _)) => Some(first),
            Some((Some(given), span)) => {
                let found = tags.iter().find(|(_, name, _)| *name == given);
                if found.is_none() {
                    self.report(span, format!("`{tag}` can't be \"{given}\"{}", suggestion(given, names())));
                }
                found.map(|(_, _, schema)| *schema)
            }
        }
    }

    /// The field and the value by which an alternative is told from the others.
    fn tag(&self, variant: &'a Value) -> Option<(&'a str, &'a str, &'a Value)> {
        let mut wanted = Wanted::default();
        self.wanted(variant, &mut wanted);
        let constant = |(name, property): (&&'a str, &&'a Value)| Some((*name, property.get("const")?.as_str()?));
        wanted.properties.iter().find_map(constant).map(|(name, value)| (name, value, variant))
    }

    fn value(&mut self, schema: &'a Value, value: &Spanned<DeValue<'_>>, key: std::ops::Range<usize>, at: &str) {
        let target = self.target(schema);
        let name = at.rsplit('.').next().unwrap_or(at);
        if let DeValue::Table(table) = value.get_ref()
            && self.takes(schema, "object")
        {
            self.table(schema, table, key, at);
            return;
        }
        if let Some(choices) = self.choices(schema)
            && let DeValue::String(text) = value.get_ref()
        {
            if !choices.contains(&text.as_ref()) {
                let near = suggestion(text, choices.iter().copied());
                self.report(value.span(), format!("`{name}` can't be \"{text}\"{near}"));
            }
            return;
        }
        let given = kind(value.get_ref());
        let fits = self.takes(schema, given) || (given == "integer" && self.takes(schema, "number"));
        if !fits {
            let what = self.description(schema).map(|text| format!(": {text}")).unwrap_or_default();
            let wanted = self.types(schema).into_iter().map(word).collect::<Vec<_>>().join(" or ");
            self.report(value.span(), format!("`{name}` must be {wanted}, not {}{what}", word(given)));
            return;
        }
        match value.get_ref() {
            DeValue::String(text) => self.text(target, text, value.span(), name),
            DeValue::Integer(number) => {
                let parsed = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX);
                let bound = |word: &str| schema.get(word).or_else(|| target.get(word)).and_then(bound);
                let (least, most) = (bound("minimum"), bound("maximum"));
                if least.is_some_and(|least| parsed < least) || most.is_some_and(|most| parsed > most) {
                    let range = match (least, most) {
                        (Some(least), Some(most)) => format!("from {least} to {most}"),
                        (Some(least), None) => format!("at least {least}"),
                        (_, most) => format!("at most {}", most.unwrap_or(i128::MAX)),
                    };
                    self.report(value.span(), format!("`{name}` must be {range}"));
                }
            }
            DeValue::Array(entries) => {
                if let Some(items) = target.get("items") {
                    for entry in entries.iter() {
                        self.value(items, entry, entry.span(), at);
                    }
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, target: &'a Value, text: &str, span: std::ops::Range<usize>, name: &str) {
        if target.get("format").and_then(Value::as_str) == Some(secret::FORMAT)
            && let Err(error) = secret::SecretRef::check(text)
        {
            self.report(span, format!("`{name}`: {error}"));
        } else if target
            .get("minLength")
            .and_then(Value::as_u64)
            .is_some_and(|least| (text.chars().count() as u64) < least)
        {
            self.report(span, format!("`{name}` must not be empty"));
        }
    }

    /// The texts that a value may be, where they are a list.
    fn choices(&self, schema: &'a Value) -> Option<Vec<&'a str>> {
        let target = self.target(schema);
        if let Some(list) = target.get("enum").and_then(Value::as_array) {
            return Some(list.iter().filter_map(Value::as_str).collect());
        }
        if let Some(text) = target.get("const").and_then(Value::as_str) {
            return Some(vec![text]);
        }
        let variants = self.variants(schema)?;
        let choices: Vec<_> = variants.iter().filter_map(|v| self.choices(v)).flatten().collect();
        (!choices.is_empty()).then_some(choices)
    }

    fn takes(&self, schema: &'a Value, kind: &str) -> bool {
        let types = self.types(schema);
        types.is_empty() || types.contains(&kind)
    }

    /// The types that a schema takes; none where it takes everything.
    fn types(&self, schema: &'a Value) -> Vec<&'a str> {
        let target = self.target(schema);
        let mut types: Vec<&str> = match schema.get("type").or_else(|| target.get("type")) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => self.variants(schema).into_iter().flatten().flat_map(|v| self.types(v)).collect(),
        };
        types.sort_unstable();
        types.dedup();
        types
    }

    /// The first sentence of a description.
    fn description(&self, schema: &'a Value) -> Option<&'a str> {
        let text = schema.get("description").or_else(|| self.target(schema).get("description"))?.as_str()?;
        let end = text.find(". ").or_else(|| text.find('\n')).unwrap_or(text.len());
        Some(text[..end].trim_end_matches('.'))
    }
}

/// The schema's numbers may be written as floats.
fn bound(value: &Value) -> Option<i128> {
    value
        .as_i64()
        .map(i128::from)
        .or_else(|| value.as_u64().map(i128::from))
        .or_else(|| value.as_f64().map(|f| f as i128))
}

fn place(at: &str) -> String {
    if at.is_empty() { "the configuration".to_owned() } else { format!("[{at}]") }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
        DeValue::Datetime(_) => "datetime",
    }
}

fn word(kind: &str) -> &str {
    match kind {
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        "datetime" => "a date",
        other => other,
    }
}
