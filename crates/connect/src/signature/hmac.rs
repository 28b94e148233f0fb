//! Any HMAC that a configuration can describe: which header, which algorithm and encoding, and what is signed.

use ::hmac::Hmac as Mac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;

use super::{Keyed, SchemeError, Secret, SignatureError, TOLERANCE_S};

/// The hash under the HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How the signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Hexadecimal, in small or capital letters.
    #[default]
    Hex,
    /// Base64 with padding.
    Base64,
}

/// An HMAC described by configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hmac {
    /// The header that carries the signature.
    pub header: String,
    /// The hash.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// What stands before the signature in the header, for example `sha256=`.
    #[serde(default)]
    pub prefix: String,
    /// What is signed: a template of `{body}` and `{header:NAME}`, for example `{header:x-time}.{body}`.
    #[serde(default = "body_alone")]
    pub signed: String,
    /// The header with the time of signing in seconds since 1970, where there is one. It must be part of `signed`.
    #[serde(default)]
    pub timestamp_header: Option<String>,
    /// How far that time may be from the hub's clock, either way.
    #[serde(default = "tolerance_s")]
    pub tolerance_s: u32,
    /// What stands between several signatures in the header, for example `,`: then a request carries one of each secret,
    /// each with the prefix. Without it the header has one signature.
    #[serde(default)]
    pub separator: Option<String>,
    /// A second header for the signature of the second secret, while one is being replaced.
    #[serde(default)]
    pub further_header: Option<String>,
}

fn body_alone() -> String {
    "{body}".to_owned()
}

pub(super) fn tolerance_s() -> u32 {
    TOLERANCE_S as u32
}

/// A piece of the template.
enum Piece {
    Text(String),
    Header(HeaderName),
    Body,
}

/// A secret that an HMAC has already taken in.
pub(super) enum Key {
    Sha256(Mac<Sha256>),
    Sha512(Mac<Sha512>),
}

impl Key {
    pub(super) fn all(algorithm: Algorithm, secrets: &[Secret]) -> Vec<Self> {
        let texts = secrets.iter().map(|s| s.expose().as_bytes());
        match algorithm {
            Algorithm::Sha256 => texts.filter_map(super::keyed_mac).map(Self::Sha256).collect(),
            Algorithm::Sha512 => texts.filter_map(super::keyed_mac).map(Self::Sha512).collect(),
        }
    }

    /// The HMAC of the parts, one after the other.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        fn by<M: ::hmac::Mac>(mut mac: M, parts: &[&[u8]]) -> Vec<u8> {
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256(mac) => by(mac.clone(), parts),
            Self::Sha512(mac) => by(mac.clone(), parts),
        }
    }
}

impl Algorithm {
    pub(super) fn tag_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl Encoding {
    pub(super) fn write(self, tag: &[u8]) -> String {
        match self {
            Self::Hex => hex::encode(tag),
            Self::Base64 => super::base64(tag),
        }
    }

    pub(super) fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => STANDARD.decode(text).ok(),
        }
    }

    /// Its name in an error.
    pub(super) fn form(self) -> &'static str {
        match self {
            Self::Hex => "hexadecimal form",
            Self::Base64 => "base64",
        }
    }
}

pub(super) struct Keys {
    header: HeaderName,
    encoding: Encoding,
    prefix: String,
    pieces: Vec<Piece>,
    timestamp: Option<(HeaderName, i64)>,
    separator: Option<String>,
    further: Option<HeaderName>,
    keys: Vec<Key>,
    tag_bytes: usize,
}

impl Keys {
    pub(super) fn new(config: &Hmac, secrets: &[Secret]) -> Result<Self, SchemeError> {
        super::check_secrets("hmac", secrets)?;
        let header = header_name("header", &config.header)?;
        if !config.prefix.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(SchemeError::Prefix { prefix: config.prefix.clone() });
        }
        let pieces = template(&config.signed)?;
        let timestamp = match &config.timestamp_header {
            None => None,
            Some(name) => {
                let name = header_name("timestamp_header", name)?;
                if !pieces.iter().any(|piece| matches!(piece, Piece::Header(h) if *h == name)) {
                    let problem = format!("it must have `{{header:{name}}}`, or the time could be changed unseen");
                    return Err(SchemeError::Template { problem });
                }
                Some((name, i64::from(config.tolerance_s)))
            }
        };
        let further = config.further_header.as_ref().map(|name| header_name("further_header", name)).transpose()?;
        // What could be a part of a signature cannot stand between two.
        let parts = |b: u8| (0x20..0x7f).contains(&b) && !b.is_ascii_alphanumeric() && !b"+/=".contains(&b);
        let separator = config.separator.as_ref();
        if let Some(separator) = separator.filter(|s| s.trim().is_empty() && !s.contains(' ') || !s.bytes().all(parts))
        {
            return Err(SchemeError::Separator { separator: separator.clone() });
        }
        Ok(Self {
            header,
            encoding: config.encoding,
            prefix: config.prefix.clone(),
            pieces,
            timestamp,
            separator: separator.cloned(),
            further,
            keys: Key::all(config.algorithm, secrets),
            tag_bytes: config.algorithm.tag_bytes(),
        })
    }

    fn tag(&self, key: &Key, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let mut parts = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            parts.push(match piece {
                Piece::Text(text) => text.as_bytes(),
                Piece::Body => body,
                Piece::Header(name) => {
                    let value = headers.get(name);
                    value.ok_or_else(|| SignatureError::Missing { header: name.to_string() })?.as_bytes()
                }
            });
        }
        Ok(key.tag(&parts))
    }

    /// All signatures that a request carries; an error where none of them can be read.
    fn given(&self, headers: &HeaderMap) -> Result<Vec<Vec<u8>>, SignatureError> {
        let text = super::text(headers, &self.header)?;
        let listed = match self.separator.as_deref() {
            None => vec![text],
            // Of spaces between two there may be several.
            Some(separator) if separator.trim().is_empty() => text.split_ascii_whitespace().collect(),
            Some(separator) => text.split(separator.trim()).collect(),
        };
        let further = self.further.as_ref().and_then(|name| super::text(headers, name).ok());
        let (mut tags, mut first_error) = (Vec::new(), None);
        for text in listed.into_iter().chain(further) {
            match self.read(text.trim()) {
                Ok(tag) => tags.push(tag),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if tags.is_empty() => Err(error),
            _ => Ok(tags),
        }
    }

    fn read(&self, text: &str) -> Result<Vec<u8>, SignatureError> {
        let malformed = |expected: String| SignatureError::Malformed { header: self.header.to_string(), expected };
        let text = text
            .strip_prefix(self.prefix.trim())
            .ok_or_else(|| malformed(format!("it must begin with `{}`", self.prefix)))?
            .trim_start();
        let tag = self.encoding.read(text).filter(|tag| tag.len() == self.tag_bytes);
        let form = self.encoding.form();
        tag.ok_or_else(|| malformed(format!("it must be the {form} of {} bytes", self.tag_bytes)))
    }
}

impl Keyed for Keys {
    fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> Result<(), SignatureError> {
        let given = self.given(headers)?;
        if let Some((name, tolerance_s)) = &self.timestamp {
            super::check_time(headers, name, now_s, *tolerance_s)?;
        }
        // Every key is tried, so that the time tells nothing about which one matches.
        let mut matches = subtle::Choice::from(0);
        for key in &self.keys {
            let own = self.tag(key, headers, body)?;
            for given in &given {
                matches |= own.as_slice().ct_eq(given);
            }
        }
        if matches.into() { Ok(()) } else { Err(SignatureError::Wrong { header: self.header.to_string() }) }
    }

    /// The timestamp header gets the time; every other header of the template gets the id.
    fn sign_headers(&self, id: &str, now_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let id = super::value(&super::id_for_header(id));
        let mut headers = HeaderMap::new();
        for piece in &self.pieces {
            if let Piece::Header(name) = piece {
                let is_time = self.timestamp.as_ref().is_some_and(|(timestamp, _)| timestamp == name);
                headers.insert(name, if is_time { HeaderValue::from(now_s) } else { id.clone() });
            }
        }
        let signature = |key: &Key| {
            let tag = self.tag(key, &headers, body).ok()?;
            Some(format!("{}{}", self.prefix, self.encoding.write(&tag)))
        };
        let mut signatures = self.keys.iter().filter_map(signature);
        let first = match &self.separator {
            Some(separator) => signatures.by_ref().collect::<Vec<_>>().join(separator),
            None => signatures.next().unwrap_or_default(),
        };
        let further = self.further.as_ref().zip(signatures.next());
        headers.insert(&self.header, super::value(&first));
        if let Some((name, signature)) = further {
            headers.insert(name, super::value(&signature));
        }
        headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn signatures_max(&self) -> usize {
        match (&self.separator, &self.further) {
            (Some(_), _) => usize::MAX,
            (None, Some(_)) => 2,
            (None, None) => 1,
        }
    }
}

pub(super) fn header_name(field: &'static str, name: &str) -> Result<HeaderName, SchemeError> {
    name.parse().map_err(|_| SchemeError::HeaderName { field, name: name.to_owned() })
}

fn template(text: &str) -> Result<Vec<Piece>, SchemeError> {
    let problem = |problem: String| SchemeError::Template { problem };
    let mut pieces = Vec::new();
    let mut left = text;
    while let Some(open) = left.find('{') {
        let close = left[open..].find('}').ok_or_else(|| problem("a `{` is not closed".to_owned()))? + open;
        if open > 0 {
            pieces.push(Piece::Text(left[..open].to_owned()));
        }
        pieces.push(match &left[open + 1..close] {
            "body" => Piece::Body,
            name => match name.strip_prefix("header:") {
                Some(name) => Piece::Header(header_name("signed", name)?),
                None => {
                    return Err(problem(format!("`{{{name}}}` is neither `{{body}}` nor `{{header:NAME}}`")));
                }
            },
        });
        left = &left[close + 1..];
    }
    if !left.is_empty() {
        pieces.push(Piece::Text(left.to_owned()));
    }
    if !pieces.iter().any(|piece| matches!(piece, Piece::Body)) {
        return Err(problem("it has no `{body}`, so the body could be changed unseen".to_owned()));
    }
    Ok(pieces)
}
