//! Signatures of webhooks: verified on the way in, made on the way out.
//!
//! One file a scheme. A new one is a file with its configuration type and a variant of [`Scheme`], which the
//! compiler then wants in the two lists below it. A scheme's configuration holds no secret: secrets come apart,
//! when the [`Verifier`] is made, and several are valid at once while one is being replaced.

mod hmac;
mod shopify;
mod standard_webhooks;
mod timestamped;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use ::hmac::KeyInit;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use hmac::{Algorithm, Encoding, Hmac};
pub use shopify::Shopify;
pub use standard_webhooks::{Signer, StandardWebhooks};
pub use timestamped::Timestamped;

/// How far a signed timestamp may be from the hub's clock, either way, where a scheme says nothing else.
pub const TOLERANCE_S: i64 = 300;

/// How a system signs its webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "scheme", rename_all = "kebab-case")]
pub enum Scheme {
    /// Shopify: the body, in `X-Shopify-Hmac-SHA256`.
    Shopify(Shopify),
    /// Standard Webhooks and Svix: id, timestamp and body, with a replay window.
    StandardWebhooks(StandardWebhooks),
    /// Any other HMAC: the header, the encoding and what is signed are named in the configuration.
    Hmac(Hmac),
    /// Time and signatures in one header, as `t=1790000000,v1=5257a8...`.
    Timestamped(Timestamped),
}

impl Scheme {
    /// The scheme of this name, for schemes that need no further configuration.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Shopify(Shopify {}), Self::StandardWebhooks(StandardWebhooks {})].into_iter().find(|s| s.name() == name)
    }

    /// Its name, as in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shopify(_) => "shopify",
            Self::StandardWebhooks(_) => "standard-webhooks",
            Self::Hmac(_) => "hmac",
            Self::Timestamped(_) => "timestamped",
        }
    }

    fn keyed(&self, secrets: &[Secret]) -> Result<Box<dyn Keyed>, SchemeError> {
        match self {
            Self::Shopify(_) => Ok(Box::new(shopify::Keys::new(secrets)?)),
            Self::StandardWebhooks(_) => Ok(Box::new(standard_webhooks::Keys::new(secrets)?)),
            Self::Hmac(config) => Ok(Box::new(hmac::Keys::new(config, secrets)?)),
            Self::Timestamped(config) => Ok(Box::new(timestamped::Keys::new(config, secrets)?)),
        }
    }
}

/// A scheme with its keys: what each scheme's file gives.
trait Keyed: Send + Sync {
    fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> Result<(), SignatureError>;
    fn sign_headers(&self, id: &str, now_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)>;
    /// How many signatures one request can carry.
    fn signatures_max(&self) -> usize {
        usize::MAX
    }
}

/// A secret. It is never printed: it has no `Display`, and its `Debug` says nothing.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// A secret from its text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Its text: for computing with it, never for showing it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Why a scheme cannot be used with its configuration and secrets.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SchemeError {
    /// There is no secret.
    #[error("scheme `{scheme}` needs at least one secret")]
    NoSecret {
        /// The scheme.
        scheme: &'static str,
    },
    /// A secret is empty: anybody could sign with it.
    #[error("secret {number} of scheme `{scheme}` is empty")]
    EmptySecret {
        /// The scheme.
        scheme: &'static str,
        /// Which one, from 1.
        number: usize,
    },
    /// A secret is not what the scheme needs.
    #[error("secret {number} of scheme `{scheme}` must be base64, with or without `whsec_` before it")]
    SecretNotBase64 {
        /// The scheme.
        scheme: &'static str,
        /// Which one, from 1.
        number: usize,
    },
    /// A configured header cannot be a header.
    #[error("`{field}` must be the name of an HTTP header, not `{name}`")]
    HeaderName {
        /// The field of the configuration.
        field: &'static str,
        /// What it says.
        name: String,
    },
    /// The template of what is signed cannot be used.
    #[error("`signed` must be a template such as `{{body}}` or `{{header:webhook-id}}.{{body}}`: {problem}")]
    Template {
        /// What is wrong with it.
        problem: String,
    },
    /// The separator could not be told from a signature.
    #[error("`separator` must be made of punctuation other than `+`, `/` and `=`, for example `,`, not `{separator}`")]
    Separator {
        /// What it says.
        separator: String,
    },
    /// A name in a header of several parts cannot stand there.
    #[error("`{field}` must be letters and digits, not `{name}`")]
    PartName {
        /// The field of the configuration.
        field: &'static str,
        /// What it says.
        name: String,
    },
    /// A request could not carry a signature of each secret, so that some receivers would find none of theirs.
    #[error(
        "there are {secrets} secrets, and scheme `{scheme}` as it is configured carries at most {signatures_max}: \
         a receiver that knows only another one could not verify anything{}",
        if *.scheme == "hmac" { ": set `signature.separator` or `signature.further_header`" } else { "" }
    )]
    Crowded {
        /// The scheme.
        scheme: &'static str,
        /// How many secrets there are.
        secrets: usize,
        /// How many signatures fit.
        signatures_max: usize,
    },
    /// The prefix could not stand in a header.
    #[error("`prefix` must be visible ASCII text, not `{prefix}`")]
    Prefix {
        /// What it says.
        prefix: String,
    },
}

/// Why a request is not taken for authentic.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// A header that the scheme needs is not there.
    #[error("header `{header}` is missing")]
    Missing {
        /// The header.
        header: String,
    },
    /// The signature cannot be read.
    #[error("header `{header}` is not a signature: {expected}")]
    Malformed {
        /// The header.
        header: String,
        /// What would be right.
        expected: String,
    },
    /// The signature is not that of this request under any of the secrets.
    #[error("the signature in header `{header}` does not match: another secret, or a body changed on the way")]
    Wrong {
        /// The header.
        header: String,
    },
    /// The request was signed too long ago, or too far ahead.
    #[error(
        "signed {off_s} s away from this hub's clock, more than the {tolerance_s} s allowed: a replay, or a wrong clock"
    )]
    Stale {
        /// How far away, without sign.
        off_s: u64,
        /// How far is allowed.
        tolerance_s: u64,
    },
    /// The timestamp cannot be read.
    #[error("header `{header}` must be a time in whole seconds since 1970")]
    BadTimestamp {
        /// The header.
        header: String,
    },
}

impl SignatureError {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing-signature",
            Self::Malformed { .. } => "malformed-signature",
            Self::Wrong { .. } => "wrong-signature",
            Self::Stale { .. } => "stale-timestamp",
            Self::BadTimestamp { .. } => "bad-timestamp",
        }
    }
}

/// Verifies and makes signatures of one scheme with its secrets.
pub struct Verifier {
    scheme: &'static str,
    keyed: Box<dyn Keyed>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier for a scheme. Any of the secrets makes a request authentic; signing uses as many of them as a request
    /// can carry signatures.
    pub fn new(scheme: impl Borrow<Scheme>, secrets: Vec<Secret>) -> Result<Self, SchemeError> {
        let scheme = scheme.borrow();
        Ok(Self { scheme: scheme.name(), keyed: scheme.keyed(&secrets)? })
    }

    /// A verifier that signs with each of the secrets: refused where a request cannot carry that many signatures.
    pub fn signing_with_all(scheme: impl Borrow<Scheme>, secrets: Vec<Secret>) -> Result<Self, SchemeError> {
        let count = secrets.len();
        let verifier = Self::new(scheme, secrets)?;
        match verifier.keyed.signatures_max() {
            signatures_max if signatures_max < count => {
                Err(SchemeError::Crowded { scheme: verifier.scheme, secrets: count, signatures_max })
            }
            _ => Ok(verifier),
        }
    }

    /// Whether the request is authentic. Compares in constant time.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> Result<(), SignatureError> {
        self.keyed.verify(headers, body, now_s)
    }

    /// The headers that make a request with this body authentic. Characters of `id` that a header cannot
    /// carry are left out.
    pub fn sign_headers(&self, id: &str, now_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        self.keyed.sign_headers(id, now_s, body)
    }
}

/// Refuses an empty list and empty secrets, with which anybody could sign.
fn check_secrets(scheme: &'static str, secrets: &[Secret]) -> Result<(), SchemeError> {
    if secrets.is_empty() {
        return Err(SchemeError::NoSecret { scheme });
    }
    match secrets.iter().position(|s| s.expose().is_empty()) {
        Some(at) => Err(SchemeError::EmptySecret { scheme, number: at + 1 }),
        None => Ok(()),
    }
}

/// An HMAC that has already taken in its key, to be cloned for each use.
fn keyed_mac<M: KeyInit>(key: &[u8]) -> Option<M> {
    // HMAC takes keys of any length, so this is always `Some`; the type alone does not say so.
    M::new_from_slice(key).ok()
}

/// A header as text, where it is there.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, SignatureError> {
    let value = headers.get(name).ok_or_else(|| SignatureError::Missing { header: name.to_string() })?;
    value.to_str().map(str::trim).map_err(|_| SignatureError::Malformed {
        header: name.to_string(),
        expected: "it must be visible ASCII text".to_owned(),
    })
}

/// Checks a signed timestamp against the clock.
fn check_time(headers: &HeaderMap, name: &HeaderName, now_s: i64, tolerance_s: i64) -> Result<i64, SignatureError> {
    check_time_text(name, text(headers, name)?, now_s, tolerance_s)
}

/// The same of the time's text, wherever in the header it stands.
fn check_time_text(name: &HeaderName, text: &str, now_s: i64, tolerance_s: i64) -> Result<i64, SignatureError> {
    let bad = || SignatureError::BadTimestamp { header: name.to_string() };
    // `parse` alone would also take `+5`, which is not what anybody signs.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let at_s: i64 = text.parse().map_err(|_| bad())?;
    let off_s = at_s.abs_diff(now_s);
    let tolerance_s = tolerance_s.unsigned_abs();
    if off_s > tolerance_s { Err(SignatureError::Stale { off_s, tolerance_s }) } else { Ok(at_s) }
}

/// An id as a header can carry it.
fn id_for_header(id: &str) -> String {
    id.chars().filter(char::is_ascii_graphic).collect()
}

/// A header value from text that has only visible ASCII characters.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
