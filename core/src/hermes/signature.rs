//! How Hermes knows that a request is ours.
//!
//! Hermes understands several schemes and goes by the first whose headers are there, so a request has one scheme's
//! headers alone. Newer versions know more of them (Standard Webhooks, Linear), which is why a route's own headers may not
//! have their names. Two of ours cover the time, so that a captured request cannot be used later on; `hub`, the default, does
//! not, and `gitlab` sends the secret itself.

use crate::mac::{hmac_sha256, hmac_sha256_raw};
use data_encoding::{BASE64, HEXLOWER};
use hmac::Mac as _;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// The header that carries a `hub` signature.
pub const HEADER: &str = "X-Hub-Signature-256";

/// How far a signed time may be from Hermes' clock, in seconds.
const TOLERANCE: i64 = 300;

/// A way to sign requests to Hermes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// GitHub's `X-Hub-Signature-256`: the body.
    #[default]
    Hub,
    /// `X-Webhook-Signature-V2`: the time and the body.
    WebhookV2,
    /// The Svix headers: id, time and body. Several signatures fit in.
    Svix,
    /// `X-Gitlab-Token`: the secret itself.
    Gitlab,
}

impl Scheme {
    /// Every scheme, with its name in the configuration.
    pub const NAMES: [(&str, Self); 4] =
        [("hub", Self::Hub), ("webhook-v2", Self::WebhookV2), ("svix", Self::Svix), ("gitlab", Self::Gitlab)];

    /// Whether one request can be signed with every secret that may be valid.
    pub fn takes_all_secrets(self) -> bool {
        self == Self::Svix
    }

    /// The headers that sign a request, with these secrets of which only Svix takes more than the first. Their names are in
    /// the case in which Hermes and who made the scheme write them.
    pub fn headers(
        self,
        secrets: &[SecretString],
        id: &str,
        now: Timestamp,
        body: &[u8],
    ) -> Vec<(&'static str, String)> {
        let Some(secret) = secrets.first() else { return Vec::new() };
        let time = now.as_second().to_string();
        match self {
            Self::Hub => vec![(HEADER, sign(secret, body))],
            Self::WebhookV2 => {
                vec![
                    ("X-Webhook-Signature-V2", webhook_v2(secret, &time, body)),
                    ("X-Webhook-Timestamp", time),
                ]
            }
            Self::Svix => {
                let signatures: Vec<_> =
                    secrets.iter().filter_map(|secret| svix(secret, id, &time, body)).collect();
                vec![
                    ("svix-id", id.to_owned()),
                    ("svix-signature", signatures.join(" ")),
                    ("svix-timestamp", time),
                ]
            }
            Self::Gitlab => vec![("X-Gitlab-Token", secret.expose_secret().to_owned())],
        }
    }
}

/// Whether Hermes would accept a request, whichever of the schemes it is signed by. `header` gives a header's value.
pub fn accepts<'a>(
    secret: &SecretString,
    now: Timestamp,
    body: &[u8],
    header: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    let in_time = |time: &str| {
        time.parse::<i64>().is_ok_and(|time| now.as_second().abs_diff(time) <= TOLERANCE.unsigned_abs())
    };
    let value = |name: &str| header(name).filter(|value| !value.is_empty());
    let (id, time, signatures) = (value("svix-id"), value("svix-timestamp"), value("svix-signature"));
    if id.or(time).or(signatures).is_some() {
        let (Some(id), Some(time), Some(signatures)) = (id, time, signatures) else { return false };
        let Some(expected) = svix(secret, id, time, body) else { return false };
        return in_time(time) && signatures.split_whitespace().any(|found| same(found, &expected));
    }
    if let Some(signature) = value(HEADER) {
        return verify(secret, body, signature);
    }
    if let Some(token) = value("X-Gitlab-Token") {
        return same(token, secret.expose_secret());
    }
    let (Some(signature), Some(time)) = (value("X-Webhook-Signature-V2"), value("X-Webhook-Timestamp"))
    else {
        return false;
    };
    in_time(time) && same(signature, &webhook_v2(secret, time, body))
}

/// `sha256=` and the lower-case hex HMAC-SHA256 of the body. Hermes compares the text, so the case matters.
pub fn sign(secret: &SecretString, body: &[u8]) -> String {
    format!("sha256={}", HEXLOWER.encode(&hmac_sha256(secret).chain_update(body).finalize().into_bytes()))
}

/// Whether a header's value is the `hub` signature of the body. Takes constant time for a value of the right form.
pub fn verify(secret: &SecretString, body: &[u8], header: &str) -> bool {
    let Some(hex) = header.strip_prefix("sha256=") else { return false };
    let Ok(signature) = HEXLOWER.decode(hex.as_bytes()) else { return false };
    hmac_sha256(secret).chain_update(body).verify_slice(&signature).is_ok()
}

/// The lower-case hex HMAC-SHA256 of `TIME.BODY`.
fn webhook_v2(secret: &SecretString, time: &str, body: &[u8]) -> String {
    let mac = hmac_sha256(secret).chain_update(time).chain_update(b".").chain_update(body);
    HEXLOWER.encode(&mac.finalize().into_bytes())
}

/// `v1,` and the base64 HMAC-SHA256 of `ID.TIME.BODY`; `None` where there is no base64 behind `whsec_`.
fn svix(secret: &SecretString, id: &str, time: &str, body: &[u8]) -> Option<String> {
    let mac = hmac_sha256_raw(&svix_key(secret)?).chain_update(format!("{id}.{time}.")).chain_update(body);
    Some(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
}

/// The key that a secret means to Svix: behind `whsec_` in base64, or else as it is.
fn svix_key(secret: &SecretString) -> Option<Vec<u8>> {
    let text = secret.expose_secret();
    match text.strip_prefix("whsec_") {
        Some(encoded) => BASE64.decode(encoded.as_bytes()).ok(),
        None => Some(text.as_bytes().to_vec()),
    }
}

/// Whether Svix can sign with a secret.
pub fn is_svix_secret(secret: &SecretString) -> bool {
    svix_key(secret).is_some()
}

/// Takes as long wherever they differ.
fn same(found: &str, expected: &str) -> bool {
    found.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation, whose scheme this is.
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

    /// The example of Svix' documentation ("Verifying webhooks manually").
    #[test]
    fn signs_as_svix_documents() {
        let secret = SecretString::from("whsec_plJ3nmyCDGBKInavdOK15jsl");
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        let signature = svix(&secret, "msg_loFOjxBNrRLzqYUf", "1731705121", body).unwrap();
        assert_eq!(signature, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
        assert!(svix(&"whsec_no base64".into(), "i", "1", body).is_none());
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn taken(headers: &[(&str, String)], secret: &str, at: i64) -> bool {
        let at = Timestamp::from_second(at).unwrap();
        let header =
            |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
        accepts(&secret.into(), at, b"body", header)
    }

    #[test]
    fn every_scheme_is_accepted_with_its_secret_alone_and_the_timed_ones_in_time() {
        for (name, scheme) in Scheme::NAMES {
            let headers = scheme.headers(&["right".into()], "id", now(), b"body");
            let start = now().as_second();
            assert!(taken(&headers, "right", start), "{name}");
            assert!(!taken(&headers, "wrong", start), "{name}");
            let timed = matches!(scheme, Scheme::WebhookV2 | Scheme::Svix);
            assert!(taken(&headers, "right", start + 300), "{name}");
            assert_eq!(taken(&headers, "right", start + 301), !timed, "{name}");
            assert_eq!(taken(&headers, "right", start - 301), !timed, "{name}");
        }
        assert!(!taken(&[], "right", 0), "unsigned");
    }

    #[test]
    fn only_svix_signs_with_every_secret() {
        let secrets = ["new".into(), "old".into()];
        for (name, scheme) in Scheme::NAMES {
            let headers = scheme.headers(&secrets, "id", now(), b"body");
            assert!(taken(&headers, "new", now().as_second()), "{name}");
            assert_eq!(taken(&headers, "old", now().as_second()), scheme.takes_all_secrets(), "{name}");
        }
    }
}
