//! `hub`, GitHub's scheme: `X-Hub-Signature-256: sha256=<hex HMAC-SHA256 of the body>`.

use super::Scheme;
use crate::mac::hmac_sha256;
use data_encoding::HEXLOWER;
use hmac::Mac as _;
use secrecy::SecretString;

/// The header with the signature.
pub const HEADER: &str = "X-Hub-Signature-256";

pub(super) const SCHEME: Scheme = Scheme {
    name: "hub",
    header_names: &[HEADER],
    family: "x-hub-",
    rank: 1,
    takes_all_secrets: false,
    sends_secret: false,
    check: |_| Ok(()),
    sign: |secrets, request| secrets.iter().take(1).map(|secret| sign(secret, request.body)).collect(),
    accepts: |secret, received| Some(verify(secret, received.body, received.value(HEADER)?)),
};

/// `sha256=` and the lower-case hex HMAC-SHA256 of the body. Hermes compares the text, so the case matters.
pub fn sign(secret: &SecretString, body: &[u8]) -> String {
    format!("sha256={}", HEXLOWER.encode(&hmac_sha256(secret).chain_update(body).finalize().into_bytes()))
}

/// Whether a header's value is the signature of the body. Takes constant time for a value of the right form.
pub fn verify(secret: &SecretString, body: &[u8], header: &str) -> bool {
    let Some(hex) = header.strip_prefix("sha256=") else { return false };
    let Ok(signature) = HEXLOWER.decode(hex.as_bytes()) else { return false };
    hmac_sha256(secret).chain_update(body).verify_slice(&signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation.
    #[test]
    fn signs_as_github_documents() {
        let secret = SecretString::from("It's a Secret to Everybody");
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(sign(&secret, b"Hello, World!"), signature);
        assert!(verify(&secret, b"Hello, World!", signature));
        assert!(!verify(&secret, b"Hello, World?", signature));
        assert!(!verify(&secret, b"Hello, World!", &signature.to_uppercase()));
        assert!(!verify(&secret, b"Hello, World!", "sha256=") && !verify(&secret, b"", ""));
    }
}
