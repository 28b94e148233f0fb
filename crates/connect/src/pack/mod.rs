//! Packs: a kind of system as a folder, `packs/<system>/`, without a line of Rust.
//!
//! - `pack.toml` says where topic, delivery id and time of a delivery are, how it is signed, and which mapping
//!   belongs to which topic.
//! - `mappings/*.vrl` turn a delivery into changes.
//! - `samples/<topic>[.<case>].json` are deliveries, `.headers` beside them their headers, `.expected.json`
//!   what must come of them.
//!
//! The packs of this repository are built in; a folder of the same name beside a configuration takes the place
//! of a built-in one.

mod check;
mod file;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use lockstep_mapping::{CompileError, Program};

use crate::signature::Scheme;

pub use check::{Finding, SampleRun};
pub use load::{PackError, builtin_names};

/// The topic of a mapping for everything that has no mapping of its own.
pub const ANY_TOPIC: &str = "*";

/// What a system sends and how it is understood.
#[derive(Clone, Debug)]
pub struct Pack {
    name: String,
    title: String,
    /// The folder, for messages.
    folder: String,
    signature: Option<Scheme>,
    keep_raw: bool,
    unsigned_ping: Option<String>,
    topic: Option<HeaderName>,
    triggered_at: Option<HeaderName>,
    delivery_id: Vec<IdPart>,
    meta: Vec<(String, HeaderName)>,
    /// Topics with the file of their mapping.
    topics: BTreeMap<String, String>,
    /// Mappings by file.
    mappings: BTreeMap<String, String>,
    samples: Vec<Sample>,
    sample_options: SampleOptions,
}

/// A part of what makes a delivery the same as a repetition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum IdPart {
    Header(HeaderName),
    BodyHash,
}

/// With what options the samples run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SampleOptions {
    channel: Option<String>,
    currency: Option<String>,
}

/// A delivery with what must come of it.
#[derive(Clone, Debug)]
struct Sample {
    file: String,
    topic: String,
    headers: HeaderMap,
    body: bytes::Bytes,
    expected: Option<serde_json::Value>,
}

impl Pack {
    /// A pack of one mapping for whatever comes, for a system that has no pack.
    pub fn of_mapping(name: &str, topic: Option<HeaderName>, file: &str, source: &str) -> Self {
        Self {
            name: name.to_owned(),
            title: name.to_owned(),
            folder: String::new(),
            signature: None,
            keep_raw: true,
            unsigned_ping: None,
            topic,
            triggered_at: None,
            delivery_id: Vec::new(),
            meta: Vec::new(),
            topics: BTreeMap::from([(ANY_TOPIC.to_owned(), file.to_owned())]),
            mappings: BTreeMap::from([(file.to_owned(), source.to_owned())]),
            samples: Vec::new(),
            sample_options: SampleOptions::default(),
        }
    }

    /// The same with a header that names each delivery: two with the same body are then two.
    pub fn with_delivery_id(mut self, header: HeaderName) -> Self {
        self.delivery_id = vec![IdPart::Header(header)];
        self
    }

    /// The name, by which a source's configuration chooses it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How deliveries are signed, unless a source says otherwise.
    pub fn signature(&self) -> Option<&Scheme> {
        self.signature.as_ref()
    }

    /// Whether the bytes of a delivery are kept with its record: the sender can't be asked again.
    pub fn keep_raw(&self) -> bool {
        self.keep_raw
    }

    /// Whether an unsigned request is what the system sends when a webhook is turned on, and nothing else: a form of one
    /// number, without a topic. It says nothing that could be taken for true, so it needs no signature.
    pub fn is_ping(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let Some(member) = &self.unsigned_ping else { return false };
        let content = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content.split(';').next().unwrap_or_default().trim();
        let number = body.strip_prefix(member.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            && self.topic.as_ref().is_none_or(|topic| !headers.contains_key(topic))
            && number.is_some_and(|n| (1..=20).contains(&n.len()) && n.iter().all(u8::is_ascii_digit))
    }

    /// The topics that it understands; [`ANY_TOPIC`] stands for all others.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    /// The topic of a delivery.
    pub fn topic(&self, headers: &HeaderMap) -> Option<String> {
        text(headers, self.topic.as_ref()?).map(str::to_owned)
    }

    /// What makes a delivery the same as a repetition of it: the id that the sender gives, or else the topic
    /// with the hash of the body.
    pub fn delivery_id(&self, headers: &HeaderMap, body: &[u8]) -> String {
        let given: Option<Vec<_>> = self.delivery_id.iter().map(|part| part.read(headers, body)).collect();
        match given {
            Some(parts) if !parts.is_empty() => parts.join("|"),
            _ => format!("{}|{}", self.topic(headers).unwrap_or_default(), body_hash(body)),
        }
    }

    /// When the sender says that the delivery's cause happened, microseconds since 1970 UTC.
    pub fn triggered_at_us(&self, headers: &HeaderMap) -> Option<i64> {
        crate::time::parse_rfc3339(text(headers, self.triggered_at.as_ref()?)?)
    }

    /// The headers that a mapping may read: under their name at `%`, with the header's value.
    pub(crate) fn meta<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = (&str, &'h str)> {
        self.meta.iter().filter_map(|(name, header)| Some((name.as_str(), text(headers, header)?)))
    }

    /// Compiles every mapping: by topic, each file once. All errors are given, not only the first.
    pub fn compile(&self) -> Result<BTreeMap<String, Arc<Program>>, Vec<CompileError>> {
        let mut programs = BTreeMap::new();
        let mut errors = Vec::new();
        for (file, source) in &self.mappings {
            match Program::compile(file, source) {
                Ok(program) => {
                    programs.insert(file, Arc::new(program));
                }
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let topics = self.topics.iter();
        Ok(topics.filter_map(|(topic, file)| Some((topic.clone(), programs.get(file)?.clone()))).collect())
    }
}

impl IdPart {
    fn read(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        match self {
            Self::Header(name) => text(headers, name).map(str::to_owned),
            Self::BodyHash => Some(body_hash(body)),
        }
    }
}

fn body_hash(body: &[u8]) -> String {
    format!("{:016x}", lockstep_core::payload_hash(body))
}

/// A header's value where it is text and not empty.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
