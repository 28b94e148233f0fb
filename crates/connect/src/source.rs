//! A webhook source as it runs: what names, dedupes and translates its deliveries.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use lockstep_core::{InputBody, Raw};

use crate::translate::Translator;

/// A way in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    system: String,
    translator: Arc<Translator>,
}

impl Source {
    /// A source of that name, which speaks for that system.
    pub fn new(name: impl Into<String>, system: impl Into<String>, translator: Arc<Translator>) -> Self {
        Self { name: name.into(), system: system.into(), translator }
    }

    /// The name, as the configuration gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The outside party that it speaks for.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// What understands its deliveries.
    pub fn translator(&self) -> &Translator {
        &self.translator
    }

    /// Whether an unsigned request is the one that its system sends when a webhook is turned on.
    pub fn is_ping(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        self.translator.pack().is_ping(headers, body)
    }

    /// The topic of a delivery.
    pub fn topic(&self, headers: &HeaderMap) -> Option<String> {
        self.translator.pack().topic(headers)
    }

    /// What makes a delivery the same as a repetition of it: the sender's id of it, or else its topic with the
    /// hash of its body.
    pub fn delivery_id(&self, headers: &HeaderMap, body: &[u8]) -> String {
        self.translator.pack().delivery_id(headers, body)
    }

    /// Translates a delivery that was kept, as its mapping is now. Of its headers it has those that were kept.
    pub fn translate_again(&self, raw: &Raw, received_at_us: i64) -> InputBody {
        self.translator.translate(&raw.topic, &kept_headers(&raw.headers), &raw.body, received_at_us)
    }
}

/// The kept headers as the mapping reads them.
fn kept_headers(kept: &[String]) -> HeaderMap {
    let pair = |line: &String| {
        let (name, value) = line.split_once(": ")?;
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in kept.iter().filter_map(pair) {
        headers.append(name, value);
    }
    headers
}
