//! From the bytes of a delivery to changes.
//!
//! A mapping reads the body at `.` and at `%` what is known about the delivery: `%topic`, `%source`, `%system`,
//! `%channel` (the source's name where the configuration gives no channel), `%currency` where the configuration
//! gives one, `%triggered_at` where the sender says so, and what the pack takes from headers.
//!
//! It gives one object or an array of them:
//!
//! ```json
//! {"kind": "order", "key": "web:1001", "occurred_at": "2026-03-01T09:30:00Z", "fields": {"number": "#1001"}}
//! ```
//!
//! `occurred_at` is RFC 3339 or microseconds since 1970; where it is missing or null, the delivery's own time
//! counts. `sequence` is the source's version of the document, 0 where it has none. `"deleted": true` in the place of
//! fields says that the entity is gone. An empty array or null says that the delivery changes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use lockstep_core::{Change, Field, InputBody, QuarantineReason, path};
use lockstep_mapping::{CompileError, ObjectMap, Program, Value, parse_rfc3339, write_json};

use crate::pack::{ANY_TOPIC, Pack};
use crate::schema::Schemas;

/// What the configuration of a source says to its mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The source's name.
    pub source: String,
    /// The outside party that it speaks for.
    pub system: String,
    /// The sales channel; the source's name where there is none.
    pub channel: Option<String>,
    /// The ISO 4217 code of amounts that come without a currency.
    pub currency: Option<String>,
}

/// Understands the deliveries of one source. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Translator {
    pack: Pack,
    schemas: Arc<Schemas>,
    programs: HashMap<String, Arc<Program>>,
    /// What `%` has whatever the delivery.
    meta: ObjectMap,
}

/// Why a delivery is quarantined: the code, the sentence, the place.
struct Reason {
    code: &'static str,
    detail: String,
    at: String,
}

impl Reason {
    fn not_a_change(at: String, detail: impl Into<String>) -> Self {
        Self { code: "not-a-change", detail: detail.into(), at }
    }
}

impl Translator {
    /// Compiles the pack's mappings.
    pub fn new(pack: &Pack, schemas: Arc<Schemas>, options: Options) -> Result<Self, Vec<CompileError>> {
        let programs = pack.compile()?.into_iter().collect();
        let channel = options.channel.unwrap_or_else(|| options.source.clone());
        let mut meta = ObjectMap::from([
            ("source".into(), Value::from(options.source)),
            ("system".into(), Value::from(options.system)),
            ("channel".into(), Value::from(channel)),
        ]);
        if let Some(currency) = options.currency {
            meta.insert("currency".into(), Value::from(currency));
        }
        Ok(Self { pack: pack.clone(), schemas, programs, meta })
    }

    /// The pack.
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// Makes changes of a delivery, or says why it can't be understood. Never fails otherwise: whatever is
    /// authentic is kept.
    pub fn translate(&self, topic: &str, headers: &HeaderMap, body: &Bytes, received_at_us: i64) -> InputBody {
        match self.changes(topic, headers, body, received_at_us) {
            Ok(changes) => InputBody::Changes(changes),
            Err(Reason { code, detail, at }) => {
                InputBody::Quarantine(QuarantineReason { code: code.to_owned(), detail, at })
            }
        }
    }

    fn changes(
        &self,
        topic: &str,
        headers: &HeaderMap,
        body: &Bytes,
        received_at_us: i64,
    ) -> Result<Vec<Change>, Reason> {
        let program = self.programs.get(topic).or_else(|| self.programs.get(ANY_TOPIC));
        let program = program.ok_or_else(|| {
            let detail = match topic {
                "" => "the delivery names no topic".to_owned(),
                _ => format!("the pack `{}` has no mapping for the topic `{topic}`", self.pack.name()),
            };
            Reason { code: "unknown-topic", detail, at: String::new() }
        })?;
        let value = program.parse_shared(body).map_err(|error| Reason {
            code: "not-json",
            detail: error.to_string(),
            at: format!("{}:{}", error.line, error.column),
        })?;
        let triggered_at_us = self.pack.triggered_at_us(headers);
        let meta = self.meta(topic, headers, triggered_at_us);
        let output = program.run_with(value, meta).map_err(|error| Reason {
            code: "mapping-failed",
            detail: error.message.clone(),
            at: error.at(),
        })?;
        let otherwise_us = triggered_at_us.unwrap_or(received_at_us);
        match output {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                items.map(|(index, item)| self.change(&format!("/{index}"), item, otherwise_us)).collect()
            }
            one => Ok(vec![self.change("", one, otherwise_us)?]),
        }
    }

    fn meta(&self, topic: &str, headers: &HeaderMap, triggered_at_us: Option<i64>) -> Value {
        let mut meta = self.meta.clone();
        meta.insert("topic".into(), Value::from(topic));
        if let Some(at_us) = triggered_at_us {
            meta.insert("triggered_at".into(), Value::from(crate::time::format_rfc3339(at_us)));
        }
        for (name, value) in self.pack.meta(headers) {
            meta.insert(name.into(), Value::from(value));
        }
        Value::Object(meta)
    }

    /// A change from one object of a mapping's result; `at` is that object's place in it.
    fn change(&self, at: &str, output: Value, otherwise_us: i64) -> Result<Change, Reason> {
        let Value::Object(members) = output else {
            let detail = format!("the mapping must give an object with kind, key and fields, not {}", kind_of(&output));
            return Err(Reason::not_a_change(at.to_owned(), detail));
        };
        let (mut kind, mut key, mut fields, mut deleted) = (None, None, None, false);
        let (mut sequence, mut occurred_at_us) = (0, otherwise_us);
        for (name, value) in members {
            let wrong = |must_be: &str, value: &Value| {
                let detail = format!("`{}` must be {must_be}, not {}", name.as_str(), kind_of(value));
                Reason::not_a_change(format!("{at}/{}", name.as_str()), detail)
            };
            match (name.as_str(), value) {
                ("kind", Value::String(text)) => kind = Some(text),
                ("key", Value::String(text)) => key = Some(text),
                ("fields", Value::Object(members)) => fields = Some(members),
                ("sequence", Value::Integer(number)) if number >= 0 => sequence = number.unsigned_abs(),
                ("deleted", Value::Boolean(is)) => deleted = is,
                ("sequence" | "occurred_at" | "deleted", Value::Null) => {}
                ("occurred_at", Value::Integer(at_us)) => occurred_at_us = at_us,
                ("occurred_at", Value::Timestamp(time)) => occurred_at_us = time.timestamp_micros(),
                ("occurred_at", Value::String(text)) => {
                    occurred_at_us = parse_rfc3339(&text).ok_or_else(|| {
                        let detail = format!("`occurred_at` must be an RFC 3339 time with its offset, not `{text}`");
                        Reason::not_a_change(format!("{at}/occurred_at"), detail)
                    })?;
                }
                ("kind" | "key", value) => return Err(wrong("text", &value)),
                ("fields", value) => return Err(wrong("an object", &value)),
                ("deleted", value) => return Err(wrong("true or false", &value)),
                ("sequence", value) => return Err(wrong("a whole number that is not negative", &value)),
                ("occurred_at", value) => return Err(wrong("an RFC 3339 time or microseconds since 1970", &value)),
                (other, _) => {
                    let detail = format!(
                        "`{other}` is no member of a change: those are kind, key, sequence, occurred_at, fields and deleted"
                    );
                    return Err(Reason::not_a_change(format!("{at}/{other}"), detail));
                }
            }
        }
        let missing = |name: &str| Reason::not_a_change(at.to_owned(), format!("the mapping must give `{name}`"));
        let kind = kind.ok_or_else(|| missing("kind"))?;
        let key = key.ok_or_else(|| missing("key"))?;
        // What is gone has no fields, but a kind that is known.
        let fields = if deleted { ObjectMap::new() } else { fields.ok_or_else(|| missing("fields"))? };
        let fields = Value::Object(fields);
        self.schemas.validate_mapped(&kind, &fields).map_err(|violation| Reason {
            code: "schema",
            detail: format!("{kind} {key}: {violation}"),
            at: format!("{at}/fields{}", violation.pointer),
        })?;
        if deleted {
            return Change::deletion(&*kind, &*key, sequence, occurred_at_us)
                .map_err(|error| Reason::not_a_change(at.to_owned(), error.to_string()));
        }
        let fields = match fields {
            Value::Object(members) => written(members),
            _ => Vec::new(),
        };
        let fields = path::split(fields, self.schemas.parts(&kind)).map_err(|error| Reason {
            code: "schema",
            detail: format!("{kind} {key}: {error}"),
            at: format!("{at}/fields{}", error.pointer()),
        })?;
        Change::new(&*kind, &*key, sequence, occurred_at_us, fields)
            .map_err(|error| Reason::not_a_change(at.to_owned(), error.to_string()))
    }
}

/// Fields as compact JSON. They share one piece of memory: they come, are kept and go together.
fn written(members: ObjectMap) -> Vec<Field> {
    let mut buffer = Vec::with_capacity(1_024);
    let mut ends = Vec::with_capacity(members.len());
    for (name, value) in members {
        write_json(&value, &mut buffer);
        ends.push((name, buffer.len()));
    }
    let buffer = Bytes::from(buffer);
    let mut start = 0;
    let field = |(name, end): (lockstep_mapping::KeyString, usize)| {
        let json = buffer.slice(start..end);
        start = end;
        Field::new(String::from(name), json)
    };
    ends.into_iter().map(field).collect()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Boolean(_) => "true or false",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
        Value::String(_) | Value::Bytes(_) | Value::Regex(_) => "text",
        Value::Timestamp(_) => "a timestamp",
    }
}

#[cfg(test)]
mod tests;
