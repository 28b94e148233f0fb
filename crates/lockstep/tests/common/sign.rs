//! Signatures as the systems outside make them, written here once more so that both sides can't be wrong alike.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// HMAC-SHA256 (RFC 2104) in base64.
pub fn hmac(key: &[u8], text: &[u8]) -> String {
    let mut block = [0; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    STANDARD.encode(Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize())
}

/// A signature after Standard Webhooks, with a secret of the form `whsec_...`.
pub fn standard(secret: &str, id: &str, at_s: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let text = [format!("{id}.{at_s}.").as_bytes(), body].concat();
    format!("v1,{}", hmac(&key, &text))
}
