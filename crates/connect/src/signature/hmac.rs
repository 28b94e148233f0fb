//! Any HMAC that a configuration can describe: which header, which algorithm and encoding, and what is signed.

use ::hmac::{Hmac as Mac, KeyInit};
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
}

fn body_alone() -> String {
    "{body}".to_owned()
}

fn tolerance_s() -> u32 {
    TOLERANCE_S as u32
}

/// A piece of the template.
enum Piece {
    Text(String),
    Header(HeaderName),
    Body,
}

enum Key {
    Sha256(Mac<Sha256>),
    Sha512(Mac<Sha512>),
}

pub(super) struct Keys {
    header: HeaderName,
    encoding: Encoding,
    prefix: String,
    pieces: Vec<Piece>,
    timestamp: Option<(HeaderName, i64)>,
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
        let keys = secrets.iter().map(|s| s.expose().as_bytes());
        let (keys, tag_bytes) = match config.algorithm {
            Algorithm::Sha256 => (keys.filter_map(super::keyed_mac).map(Key::Sha256).collect(), 32),
            Algorithm::Sha512 => (keys.filter_map(super::keyed_mac).map(Key::Sha512).collect(), 64),
        };
        Ok(Self {
            header,
            encoding: config.encoding,
            prefix: config.prefix.clone(),
            pieces,
            timestamp,
            keys,
            tag_bytes,
        })
    }

    fn tag(&self, key: &Key, headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, SignatureError> {
        match key {
            Key::Sha256(key) => self.tag_by(key.clone(), headers, body),
            Key::Sha512(key) => self.tag_by(key.clone(), headers, body),
        }
    }

    fn tag_by<M: ::hmac::Mac + KeyInit>(
        &self,
        mut mac: M,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<u8>, SignatureError> {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => mac.update(text.as_bytes()),
                Piece::Body => mac.update(body),
                Piece::Header(name) => {
                    let value = headers.get(name);
                    let value = value.ok_or_else(|| SignatureError::Missing { header: name.to_string() })?;
                    mac.update(value.as_bytes());
                }
            }
        }
        Ok(mac.finalize().into_bytes().to_vec())
    }

    fn given(&self, headers: &HeaderMap) -> Result<Vec<u8>, SignatureError> {
        let malformed = |expected: String| SignatureError::Malformed { header: self.header.to_string(), expected };
        let text = super::text(headers, &self.header)?;
        let text = text
            .strip_prefix(self.prefix.trim())
            .ok_or_else(|| malformed(format!("it must begin with `{}`", self.prefix)))?
            .trim_start();
        let (tag, name) = match self.encoding {
            Encoding::Hex => (hex::decode(text).ok(), "hexadecimal form"),
            Encoding::Base64 => (STANDARD.decode(text).ok(), "base64"),
        };
        tag.filter(|tag| tag.len() == self.tag_bytes)
            .ok_or_else(|| malformed(format!("it must be the {name} of {} bytes", self.tag_bytes)))
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
            matches |= self.tag(key, headers, body)?.as_slice().ct_eq(&given);
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
        if let Some(Ok(tag)) = self.keys.first().map(|key| self.tag(key, &headers, body)) {
            let tag = match self.encoding {
                Encoding::Hex => hex::encode(tag),
                Encoding::Base64 => super::base64(&tag),
            };
            headers.insert(&self.header, super::value(&format!("{}{tag}", self.prefix)));
        }
        headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

fn header_name(field: &'static str, name: &str) -> Result<HeaderName, SchemeError> {
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
