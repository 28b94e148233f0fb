//! Shopify: `X-Shopify-Hmac-SHA256` is the base64 HMAC-SHA256 of the body under the app's client secret.
//!
//! There is no timestamp, so no replay window: a replay is caught by the delivery's id.

use ::hmac::{Hmac, Mac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Keyed, SchemeError, Secret, SignatureError};

const HEADER: HeaderName = HeaderName::from_static("x-shopify-hmac-sha256");

/// Shopify's scheme; it has nothing to configure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shopify {}

pub(super) struct Keys(Vec<Hmac<Sha256>>);

impl Keys {
    pub(super) fn new(secrets: &[Secret]) -> Result<Self, SchemeError> {
        super::check_secrets("shopify", secrets)?;
        Ok(Self(secrets.iter().filter_map(|s| super::keyed_mac(s.expose().as_bytes())).collect()))
    }
}

impl Keyed for Keys {
    fn verify(&self, headers: &HeaderMap, body: &[u8], _now_s: i64) -> Result<(), SignatureError> {
        let given = STANDARD.decode(super::text(headers, &HEADER)?).ok().filter(|tag| tag.len() == 32);
        let given = given.ok_or_else(|| SignatureError::Malformed {
            header: HEADER.to_string(),
            expected: "it must be the base64 of 32 bytes".to_owned(),
        })?;
        // Every key is tried, so that the time tells nothing about which one matches.
        let matches = self.0.iter().filter(|key| (*key).clone().chain_update(body).verify_slice(&given).is_ok());
        if matches.count() > 0 { Ok(()) } else { Err(SignatureError::Wrong { header: HEADER.to_string() }) }
    }

    fn sign_headers(&self, _id: &str, _now_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let tag = self.0.first().map(|key| key.clone().chain_update(body).finalize().into_bytes());
        tag.into_iter().map(|tag| (HEADER, super::value(&super::base64(&tag)))).collect()
    }
    fn signatures_max(&self) -> usize {
        1
    }
}
