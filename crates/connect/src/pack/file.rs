//! `pack.toml`.

use std::collections::BTreeMap;

use http::HeaderName;
use serde::{Deserialize, Deserializer};

use super::{IdPart, SampleOptions};
use crate::signature::Scheme;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PackFile {
    pub(super) name: String,
    pub(super) title: String,
    #[serde(default, deserialize_with = "scheme")]
    pub(super) signature: Option<Scheme>,
    /// The one member of the form that the system sends unsigned when a webhook is turned on; its value is a number.
    pub(super) unsigned_ping: Option<String>,
    #[serde(default = "yes")]
    pub(super) keep_raw: bool,
    #[serde(default)]
    pub(super) headers: Headers,
    /// Names at `%` with the header that each is read from.
    #[serde(default)]
    pub(super) meta: BTreeMap<String, Header>,
    pub(super) topics: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) samples: SampleOptions,
}

/// Where a delivery says what it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Headers {
    pub(super) topic: Option<Header>,
    pub(super) triggered_at: Option<Header>,
    /// All of them together; `body-hash` among them is the hash of the body.
    pub(super) delivery_id: Vec<Id>,
}

fn yes() -> bool {
    true
}

/// The name of a header.
#[derive(Debug)]
pub(super) struct Header(pub(super) HeaderName);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let name = HeaderName::from_bytes(text.as_bytes());
        let name =
            name.map_err(|_| serde::de::Error::custom(format!("`{text}` must be the name of an HTTP header")))?;
        // What a mapping reads is kept and shown: it must never be what authenticates.
        if name == http::header::AUTHORIZATION
            || name == http::header::COOKIE
            || name.as_str().contains("signature")
            || name.as_str().contains("hmac")
        {
            return Err(serde::de::Error::custom(format!(
                "`{text}` holds a secret or a signature, which a pack must not read"
            )));
        }
        Ok(Self(name))
    }
}

/// A part of a delivery's id.
#[derive(Debug)]
pub(super) struct Id(pub(super) IdPart);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "body-hash" {
            return Ok(Self(IdPart::BodyHash));
        }
        Header::deserialize(serde::de::value::StrDeserializer::<D::Error>::new(&text))
            .map(|header| Self(IdPart::Header(header.0)))
    }
}

/// A scheme's name, or a table for a scheme that has something to configure.
fn scheme<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scheme>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Name(String),
        Whole(Scheme),
    }
    match Written::deserialize(deserializer)? {
        Written::Whole(scheme) => Ok(Some(scheme)),
        Written::Name(name) => {
            let scheme = Scheme::named(&name);
            scheme
                .map(Some)
                .ok_or_else(|| serde::de::Error::custom(format!("`{name}` must be the name of a signature scheme")))
        }
    }
}
