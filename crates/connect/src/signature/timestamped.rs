//! Time and signatures in one header, such as `t=1790000000,v1=5257a8...`: the form of Stripe, and with other names
//! that of Paddle and others. What is signed is the time and the body; a list has room for a signature of each secret.

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::hmac::{Key, header_name, tolerance_s};
use super::{Algorithm, Encoding, Keyed, SchemeError, Secret, SignatureError};

/// A header with the time and one or more signatures of it and the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timestamped {
    /// The header, for example `Stripe-Signature`.
    pub header: String,
    /// The hash.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the signatures are written.
    #[serde(default)]
    pub encoding: Encoding,
    /// The name of the time's part.
    #[serde(default = "time_name")]
    pub time_name: String,
    /// The name of each signature's part.
    #[serde(default = "signature_name")]
    pub signature_name: String,
    /// What stands between the parts.
    #[serde(default = "separator")]
    pub separator: String,
    /// What is signed between time and body.
    #[serde(default = "joint")]
    pub joint: String,
    /// How far the time may be from the hub's clock, either way.
    #[serde(default = "tolerance_s")]
    pub tolerance_s: u32,
}

fn time_name() -> String {
    "t".to_owned()
}

fn signature_name() -> String {
    "v1".to_owned()
}

fn separator() -> String {
    ",".to_owned()
}

fn joint() -> String {
    ".".to_owned()
}

pub(super) struct Keys {
    config: Timestamped,
    header: HeaderName,
    keys: Vec<Key>,
}

impl Keys {
    pub(super) fn new(config: &Timestamped, secrets: &[Secret]) -> Result<Self, SchemeError> {
        super::check_secrets("timestamped", secrets)?;
        for (field, name) in [("time_name", &config.time_name), ("signature_name", &config.signature_name)] {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(SchemeError::PartName { field, name: name.clone() });
            }
        }
        if config.separator.trim().is_empty() || !config.separator.bytes().all(|b| b",; |".contains(&b)) {
            return Err(SchemeError::Separator { separator: config.separator.clone() });
        }
        Ok(Self {
            header: header_name("header", &config.header)?,
            keys: Key::all(config.algorithm, secrets),
            config: config.clone(),
        })
    }

    fn tag(&self, key: &Key, time: &str, body: &[u8]) -> Vec<u8> {
        key.tag(&[time.as_bytes(), self.config.joint.as_bytes(), body])
    }
}

impl Keyed for Keys {
    fn verify(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> Result<(), SignatureError> {
        let Timestamped { encoding, time_name, signature_name, algorithm, .. } = &self.config;
        let malformed = |expected: String| SignatureError::Malformed { header: self.header.to_string(), expected };
        let text = super::text(headers, &self.header)?;
        let parts = || text.split(self.config.separator.trim()).filter_map(|part| part.trim().split_once('='));
        let mut times = parts().filter(|(name, _)| name == time_name).map(|(_, value)| value);
        // Of two times, which one was signed would be a matter of taste.
        let (Some(time), None) = (times.next(), times.next()) else {
            return Err(malformed(format!("it must have one part `{time_name}=` with the time of signing")));
        };
        super::check_time_text(&self.header, time, now_s, i64::from(self.config.tolerance_s))?;
        let of_version = parts().filter(|(name, _)| name == signature_name);
        let given: Vec<_> = of_version
            .filter_map(|(_, value)| encoding.read(value))
            .filter(|tag| tag.len() == algorithm.tag_bytes())
            .collect();
        if given.is_empty() {
            let (form, bytes) = (encoding.form(), algorithm.tag_bytes());
            return Err(malformed(format!("it must have a part `{signature_name}=` with the {form} of {bytes} bytes")));
        }
        // Every pair is compared, so that the time tells nothing about which one matches.
        let mut matches = subtle::Choice::from(0);
        for key in &self.keys {
            let own = self.tag(key, time, body);
            for given in &given {
                matches |= own.as_slice().ct_eq(given);
            }
        }
        if matches.into() { Ok(()) } else { Err(SignatureError::Wrong { header: self.header.to_string() }) }
    }

    fn sign_headers(&self, _id: &str, now_s: i64, body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
        let Timestamped { encoding, time_name, signature_name, separator, .. } = &self.config;
        let time = now_s.to_string();
        let mut value = format!("{time_name}={time}");
        for key in &self.keys {
            let tag = encoding.write(&self.tag(key, &time, body));
            value.push_str(&format!("{separator}{signature_name}={tag}"));
        }
        vec![(self.header.clone(), super::value(&value))]
    }
}
