//! HMAC-SHA256 with a secret as its key.

use hmac::{Hmac, KeyInit as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

pub(crate) fn hmac_sha256(secret: &SecretString) -> Hmac<Sha256> {
    hmac_sha256_raw(secret.expose_secret().as_bytes())
}

pub(crate) fn hmac_sha256_raw(key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    Hmac::new_from_slice(key).expect("a key of any length")
}
