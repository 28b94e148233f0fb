//! One event as it stands in JSON or in headers, and its attributes checked against CloudEvents 1.0.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::CloudEventsError;
use crate::time;

/// The longest `id` and `source`: they are kept with the record.
const IDENTITY_BYTES_MAX: usize = 1_024;

/// Where an event stands, so that an error can name the place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The whole body is the event.
    Body,
    /// An element of a batch.
    Element(usize),
    /// Attributes in headers, data in the body.
    Headers,
    /// A message of a list of them: its fields are named as such.
    Message(usize),
}

impl Place {
    /// The place of an attribute.
    pub(super) fn attribute(self, name: &str) -> String {
        match self {
            Self::Body => format!("/{}", escape(name)),
            Self::Element(at) => format!("/{at}/{}", escape(name)),
            Self::Headers if name == "datacontenttype" => "content-type".to_owned(),
            Self::Headers => format!("ce-{name}"),
            Self::Message(at) => format!("/events/{at}/{}", field(name)),
        }
    }

    /// An attribute in a sentence.
    pub(super) fn named(self, name: &str) -> String {
        match self {
            Self::Body | Self::Element(_) => format!("`{name}`"),
            Self::Message(_) => format!("`{}`", field(name)),
            Self::Headers => format!("the header `{}`", self.attribute(name)),
        }
    }

    /// The event as a whole.
    pub(super) fn event(self) -> String {
        match self {
            Self::Element(at) => format!("/{at}"),
            Self::Message(at) => format!("/events/{at}"),
            Self::Body | Self::Headers => String::new(),
        }
    }

    /// A place in the data, named by a JSON pointer into it.
    pub(super) fn data(self, pointer: &str) -> String {
        match self {
            Self::Body => format!("/data{pointer}"),
            Self::Element(at) => format!("/{at}/data{pointer}"),
            Self::Message(at) => format!("/events/{at}/data_json{pointer}"),
            Self::Headers => pointer.to_owned(),
        }
    }
}

/// What a message calls an attribute: CloudEvents allows no underscore in a name.
fn field(name: &str) -> &str {
    if name == "expectedversion" { "expected_version" } else { name }
}

/// A name as a step of a JSON pointer.
pub(super) fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) { name.replace('~', "~0").replace('/', "~1").into() } else { name.into() }
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Attribute<'a> {
    Text(Cow<'a, str>),
    /// A whole number; `None` where it is below zero.
    Whole(Option<u64>),
    Flag,
    /// `null`, which means the same as leaving the attribute out.
    Null,
    /// Something that an attribute cannot be.
    Other,
}

/// The attributes that mean something here, by their place in [`NAMES`].
#[derive(Clone, Copy)]
enum Name {
    SpecVersion,
    Id,
    Source,
    Type,
    Subject,
    Time,
    DataContentType,
    DataSchema,
    Sequence,
    ExpectedVersion,
    TraceParent,
    DataBase64,
}

const NAMES: [&str; 12] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "sequence",
    "expectedversion",
    "traceparent",
    "data_base64",
];

/// An event before its attributes are checked.
#[derive(Debug, Default)]
pub(super) struct Envelope<'a> {
    known: [Option<Attribute<'a>>; NAMES.len()],
    data: Option<Value>,
    /// The first attribute that cannot be, with the reason.
    refused: Option<(String, &'static str)>,
}

/// An event whose attributes are what CloudEvents wants.
#[derive(Debug, PartialEq)]
pub(super) struct Event<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
    pub(super) event_type: Cow<'a, str>,
    pub(super) subject: Option<Cow<'a, str>>,
    pub(super) time_us: Option<i64>,
    pub(super) sequence: Option<u64>,
    pub(super) expected_version: Option<u64>,
    pub(super) traceparent: Option<Cow<'a, str>>,
    /// Whether the data is said to be something else than JSON.
    pub(super) other_content: Option<String>,
    pub(super) data: Option<Value>,
}

impl<'a> Envelope<'a> {
    /// Takes an attribute in; one that the hub has no use for is checked and let go.
    pub(super) fn set(&mut self, name: &str, value: Attribute<'a>) {
        let problem = match NAMES.iter().position(|known| *known == name) {
            Some(at) if self.known[at].is_none() => {
                self.known[at] = Some(value);
                return;
            }
            Some(_) => "is given twice",
            None if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => {
                "can't be the name of an attribute: those have only a-z and 0-9"
            }
            None if value == Attribute::Other => "must be a string, a boolean or a whole number",
            None => return,
        };
        self.refuse(name, problem);
    }

    /// Takes the data in.
    pub(super) fn set_data(&mut self, data: Value) {
        if self.data.is_some() {
            self.refuse("data", "is given twice");
        }
        self.data = Some(data);
    }

    fn refuse(&mut self, name: &str, problem: &'static str) {
        self.refused.get_or_insert_with(|| (name.to_owned(), problem));
    }

    /// Checks everything that CloudEvents asks of an event.
    pub(super) fn check(mut self, place: Place) -> Result<Event<'a>, CloudEventsError> {
        let invalid =
            |name: &str, detail: &str| Err(CloudEventsError::attribute("attribute-invalid", place, name, detail));
        if let Some((name, problem)) = &self.refused {
            return invalid(name, problem);
        }
        if self.required(Name::SpecVersion, place)? != "1.0" {
            return invalid("specversion", "must be \"1.0\"");
        }
        let id = self.required(Name::Id, place)?;
        let source = self.required(Name::Source, place)?;
        for (name, text) in [("id", &id), ("source", &source)] {
            if text.len() > IDENTITY_BYTES_MAX || text.chars().any(char::is_control) {
                return invalid(name, "must be at most 1024 bytes without control characters");
            }
        }
        let event_type = self.required(Name::Type, place)?;
        let subject = self.text(Name::Subject, place)?;
        let time_us = match self.text(Name::Time, place)? {
            None => None,
            Some(text) => match time::parse_rfc3339(&text) {
                None => {
                    return invalid("time", "must be an RFC 3339 time such as 2026-02-03T04:05:06Z");
                }
                time_us => time_us,
            },
        };
        let content = self.text(Name::DataContentType, place)?;
        if content.as_ref().is_some_and(|content| !is_media_type(content)) {
            return invalid("datacontenttype", "must be a media type such as application/json");
        }
        self.text(Name::DataSchema, place)?;
        let sequence = self.number(Name::Sequence, place)?;
        let expected_version = self.number(Name::ExpectedVersion, place)?;
        // A trace that is not well-formed is left out, as W3C Trace Context asks: it never costs the event.
        let traceparent = self.text(Name::TraceParent, place).unwrap_or_default().filter(|t| is_traceparent(t));

        if let Some(encoded) = self.text(Name::DataBase64, place)? {
            if self.data.is_some() {
                return invalid("data_base64", "can't come beside `data`: an event has one of them");
            }
            let decoded = STANDARD.decode(encoded.as_bytes()).ok();
            let Some(decoded) = decoded else {
                return invalid("data_base64", "must be base64 with padding");
            };
            if is_json(content.as_deref()) {
                let Ok(data) = serde_json::from_slice(&decoded) else {
                    return invalid("data_base64", "must be the base64 of JSON, as its content type says");
                };
                self.data = Some(data);
            }
        }
        let other_content = content.filter(|content| !is_json(Some(content))).map(Cow::into_owned);
        let data = self.data.filter(|data| !data.is_null());
        Ok(Event {
            id,
            source,
            event_type,
            subject,
            time_us,
            sequence,
            expected_version,
            traceparent,
            other_content,
            data,
        })
    }

    /// An attribute that is a text and not empty, where it is given.
    fn text(&mut self, name: Name, place: Place) -> Result<Option<Cow<'a, str>>, CloudEventsError> {
        match self.known[name as usize].take() {
            None | Some(Attribute::Null) => Ok(None),
            Some(Attribute::Text(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => {
                let name = NAMES[name as usize];
                Err(CloudEventsError::attribute("attribute-invalid", place, name, "must be a string that is not empty"))
            }
        }
    }

    fn required(&mut self, name: Name, place: Place) -> Result<Cow<'a, str>, CloudEventsError> {
        self.text(name, place)?.ok_or_else(|| {
            let name = NAMES[name as usize];
            CloudEventsError::attribute("attribute-missing", place, name, "is missing: every event needs it")
        })
    }

    fn number(&mut self, name: Name, place: Place) -> Result<Option<u64>, CloudEventsError> {
        let number = match self.known[name as usize].take() {
            None | Some(Attribute::Null) => return Ok(None),
            Some(Attribute::Whole(number)) => number,
            // `parse` alone would also take `+5`.
            Some(Attribute::Text(text)) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            Some(_) => None,
        };
        let wrong = || {
            let name = NAMES[name as usize];
            CloudEventsError::attribute(
                "attribute-invalid",
                place,
                name,
                "must be a whole number from 0, or its decimal digits",
            )
        };
        number.map(Some).ok_or_else(wrong)
    }
}

/// Whether this names a media type at all.
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
    };
    essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// Whether data of this content type is JSON; where none is given, it is.
fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else {
        return true;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// Whether a `traceparent` is well-formed: version, trace, span and flags in small hexadecimal letters, none of
/// them what the standard rules out.
pub(super) fn is_traceparent(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Version 00 has exactly this length; later ones may append.
    let shape = bytes.len() >= 55 && (bytes.len() == 55 || (bytes[55] == b'-' && !text.starts_with("00")));
    shape
        && bytes[..55].iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
        && !text.starts_with("ff")
        && bytes[3..35].iter().any(|b| *b != b'0')
        && bytes[36..52].iter().any(|b| *b != b'0')
}

/// One JSON value where an event is expected; `None` where it is not an object, so not an event.
#[derive(Debug)]
pub(super) struct Item<'a>(pub(super) Option<Envelope<'a>>);

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudEvent")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if name.0 == "data" {
                envelope.set_data(map.next_value()?);
            } else {
                envelope.set(&name.0, map.next_value()?);
            }
        }
        Ok(Item(Some(envelope)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Item(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Item(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Item(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Item(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Item(None))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Item(None))
    }
}

/// A string, borrowed from the body unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_str(AttributeVisitor)? {
            Attribute::Text(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("a name must be a string")),
        }
    }
}

impl<'de> Deserialize<'de> for Attribute<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AttributeVisitor)
    }
}

struct AttributeVisitor;

impl<'de> Visitor<'de> for AttributeVisitor {
    type Value = Attribute<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of an attribute")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Attribute::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Attribute::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Attribute::Whole(Some(number)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Attribute::Whole(u64::try_from(number).ok()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Attribute::Flag)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Attribute::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Attribute::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }
}
