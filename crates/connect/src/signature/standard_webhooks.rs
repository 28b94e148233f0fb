//! Standard Webhooks 1, and Svix, which it came from: `webhook-signature` is a list of `v1,<base64>`, each the
//! HMAC-SHA256 of `{id}.{timestamp}.{body}` under one of the secrets.
//!
//! The asymmetric `v1a,` (ed25519) signatures of the same list are skipped: who sends only those is told that
//! there is no signature of version 1.

use std::fmt;

use ::hmac::{Hmac, Mac};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{Keyed, SchemeError, Secret, SignatureError, TOLERANCE_S};

/// The names of the three headers.
struct Names {
    id: HeaderName,
    timestamp: HeaderName,
    signature: HeaderName,
}

const STANDARD_NAMES: Names = Names {
    id: HeaderName::from_static("webhook-id"),
    timestamp: HeaderName::from_static("webhook-timestamp"),
    signature: HeaderName::from_static("webhook-signature"),
};

const SVIX_NAMES: Names = Names {
    id: HeaderName::from_static("svix-id"),
    timestamp: HeaderName::from_static("svix-timestamp"),
    signature: HeaderName::from_static("svix-signature"),
};

/// Secrets are handed around with and without padding.
const SECRET: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The scheme of Standard Webhooks; it has nothing to configure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandardWebhooks {}

/// Signs outgoing webhooks by Standard Webhooks.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("secrets", &self.0.len()).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with these secrets: base64, with or without `whsec_` before it.
    pub fn new(secrets: &[Secret]) -> Result<Self, SchemeError> {
        const SCHEME: &str = "standard-webhooks";
        super::check_secrets(SCHEME, secrets)?;
        let mut keys = Vec::with_capacity(secrets.len());
        for (at, secret) in secrets.iter().enumerate() {
            let text = secret.expose().trim();
            let key = SECRET.decode(text.strip_prefix("whsec_").unwrap_or(text)).ok().filter(|key| !key.is_empty());
            let key = key.ok_or(SchemeError::SecretNotBase64 { scheme: SCHEME, number: at + 1 })?;
            keys.extend(super::keyed_mac(&key));
        }
        Ok(Self(keys))
    }

    /// The value of `webhook-signature`: a signature by each secret, separated by spaces, so that a receiver
    /// with the old one and a receiver with the new one both find theirs.
    pub fn sign(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut list = String::with_capacity(self.0.len() * 48);
        for key in &self.0 {
            if !list.is_empty() {
                list.push(' ');
            }
            list.push_str("v1,");
            STANDARD.encode_string(tag(key, id.as_bytes(), timestamp_s, body), &mut list);
        }
        list
    }
}

fn tag(key: &Hmac<Sha256>, id: &[u8], timestamp_s: i64, body: &[u8]) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(id);
    mac.update(b".");
    mac.update(timestamp_s.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac.finalize().into_bytes().into()
}

pub(super) struct Keys(Signer);

impl Keys {
    pub(super) fn new(secrets: &[Secret]) -> Result<Self, SchemeError> {
        Signer::new(secrets).map(Self)
    }
}

impl Keyed for Keys {
    fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> Result<(), SignatureError> {
        let svix = !headers.contains_key(&STANDARD_NAMES.signature) && headers.contains_key(&SVIX_NAMES.signature);
        let names = if svix { SVIX_NAMES } else { STANDARD_NAMES };
        let list = super::text(headers, &names.signature)?;
        let id = headers.get(&names.id).ok_or_else(|| SignatureError::Missing { header: names.id.to_string() })?;
        let at_s = super::check_time(headers, &names.timestamp, now_s, TOLERANCE_S)?;

        let given: Vec<[u8; 32]> = list
            .split_ascii_whitespace()
            .filter_map(|entry| STANDARD.decode(entry.strip_prefix("v1,")?).ok()?.try_into().ok())
            .collect();
        if given.is_empty() {
            let expected = "it must be a list with at least one `v1,` and the base64 of 32 bytes".to_owned();
            return Err(SignatureError::Malformed { header: names.signature.to_string(), expected });
        }
        // Every pair is compared, so that the time tells nothing about which one matches.
        let mut matches = subtle::Choice::from(0);
        for key in &self.0.0 {
            let own = tag(key, id.as_bytes(), at_s, body);
            for given in &given {
                matches |= own.ct_eq(given);
            }
        }
        if matches.into() { Ok(()) } else { Err(SignatureError::Wrong { header: names.signature.to_string() }) }
    }

    fn sign_headers(&self, id: &str, now_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let id = super::id_for_header(id);
        let signature = self.0.sign(&id, now_s, body);
        vec![
            (STANDARD_NAMES.id, super::value(&id)),
            (STANDARD_NAMES.timestamp, HeaderValue::from(now_s)),
            (STANDARD_NAMES.signature, super::value(&signature)),
        ]
    }
}
