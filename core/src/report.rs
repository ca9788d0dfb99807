//! The signature of a report about a run: Standard Webhooks, with a secret of the delivery's route as the key.
//!
//! `webhook-signature: v1,<base64 HMAC-SHA256 of ID.TIME.BODY>`, with several signatures separated by spaces. The key is the
//! secret as it is written at Hermes. It signs Talaria's requests to Hermes, too, and none of them can be sent back as a report: an id
//! here has no dot, and that of a delivery has one.

use crate::mac::hmac_sha256;
use data_encoding::BASE64;
use hmac::Mac as _;
use jiff::Timestamp;
use secrecy::SecretString;

/// The header of the report's id.
pub const ID: &str = "webhook-id";
/// The header of the time at which the report was sent.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header of the signatures.
pub const SIGNATURE: &str = "webhook-signature";

/// The largest difference between the report's time and now, in seconds.
pub const TOLERANCE: u64 = 300;

/// The longest id, in characters.
const LONGEST_ID: usize = 64;

/// The most signatures that are looked at: one for each secret of a rotation.
const SIGNATURES: usize = 4;

/// SHA-256's size in bytes.
const DIGEST: usize = 32;

/// The headers that sign a report, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// The report's id. Not trusted before [`Self::is_by`].
    pub id: &'a str,
    /// The seconds since 1970, in their written form.
    timestamp: &'a str,
    seconds: i64,
    digests: Vec<[u8; DIGEST]>,
}

impl<'a> Signed<'a> {
    /// The headers' values; `None` if they have not the form.
    pub fn parse(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let (id, timestamp) = (header(ID)?, header(TIMESTAMP)?);
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=LONGEST_ID).contains(&id.len()) || !id.bytes().all(is_id) {
            return None;
        }
        let seconds =
            timestamp.bytes().all(|byte| byte.is_ascii_digit()).then(|| timestamp.parse().ok())??;
        let digest = |signature: &str| {
            let bytes = BASE64.decode(signature.strip_prefix("v1,")?.as_bytes()).ok()?;
            <[u8; DIGEST]>::try_from(bytes).ok()
        };
        let digests: Vec<_> =
            header(SIGNATURE)?.split_ascii_whitespace().take(SIGNATURES).filter_map(digest).collect();
        (!digests.is_empty()).then_some(Self { id, timestamp, seconds, digests })
    }

    /// Whether its time is within the tolerance.
    pub fn is_recent(&self, now: Timestamp) -> bool {
        self.seconds.abs_diff(now.as_second()) <= TOLERANCE
    }

    /// Whether one of these secrets signed the body, at any time. Tries every secret with every signature, so that the duration does
    /// not depend on the match.
    pub fn is_by<'s>(&self, secrets: impl IntoIterator<Item = &'s SecretString>, body: &[u8]) -> bool {
        let mut matched = false;
        for secret in secrets {
            let mac = mac(secret, self.id, self.timestamp, body);
            for digest in &self.digests {
                matched |= mac.clone().verify_slice(digest).is_ok();
            }
        }
        matched
    }
}

/// The value of [`SIGNATURE`] for a report of this id that is sent at this time.
pub fn sign(secret: &SecretString, id: &str, now: Timestamp, body: &[u8]) -> String {
    let mac = mac(secret, id, &now.as_second().to_string(), body);
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

fn mac(secret: &SecretString, id: &str, timestamp: &str, body: &[u8]) -> hmac::Hmac<sha2::Sha256> {
    hmac_sha256(secret).chain_update(format!("{id}.{timestamp}.")).chain_update(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &[u8] = br#"{"outcome":"finished"}"#;

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn is_by(id: &str, timestamp: &str, signature: &str, secrets: &[&str], body: &[u8]) -> Option<bool> {
        let header = |name: &str| match name {
            ID => Some(id),
            TIMESTAMP => Some(timestamp),
            _ => Some(signature),
        };
        let secrets: Vec<SecretString> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
        Some(Signed::parse(header)?.is_by(&secrets, body))
    }

    /// Computed with Python's hmac module over b"r-1.1777000000." + body and the key b"whsec_x".
    #[test]
    fn the_key_is_the_secret_as_it_is_written() {
        let expected = "v1,yMnC8qqujtJpOXfx3YxlQ8km19Y+G7h0NRAbF03nBac=";
        assert_eq!(sign(&"whsec_x".into(), "r-1", now(), BODY), expected);
        assert_eq!(is_by("r-1", "1777000000", expected, &["other", "whsec_x"], BODY), Some(true));
    }

    #[test]
    fn every_signed_part_counts() {
        let right = sign(&"s".into(), "r-1", now(), BODY);
        let both = format!("v1,AAAA v2,x {} {right}", sign(&"new".into(), "r-1", now(), BODY));
        for signature in [&right, &both] {
            assert_eq!(is_by("r-1", "1777000000", signature, &["s"], BODY), Some(true), "{signature}");
            assert_eq!(is_by("r-2", "1777000000", signature, &["s"], BODY), Some(false));
            assert_eq!(is_by("r-1", "1777000001", signature, &["s"], BODY), Some(false));
            assert_eq!(
                is_by("r-1", "01777000000", signature, &["s"], BODY),
                Some(false),
                "in its written form"
            );
            assert_eq!(is_by("r-1", "1777000000", signature, &["s"], b"{}"), Some(false));
            assert_eq!(is_by("r-1", "1777000000", signature, &["x"], BODY), Some(false));
            assert_eq!(is_by("r-1", "1777000000", signature, &[], BODY), Some(false));
        }
        let many = format!("{} {right}", vec![sign(&"x".into(), "r-1", now(), BODY); SIGNATURES].join(" "));
        assert_eq!(is_by("r-1", "1777000000", &many, &["s"], BODY), Some(false), "few are looked at");
    }

    #[test]
    fn other_forms_are_not_parsed() {
        let right = sign(&"s".into(), "r-1", now(), BODY);
        let long = "x".repeat(65);
        for (id, timestamp, signature) in [
            ("", "1777000000", right.as_str()),
            ("a b", "1777000000", &right),
            ("a.1", "1777000000", &right),
            (&long, "1777000000", &right),
            ("r-1", "", &right),
            ("r-1", "-1777000000", &right),
            ("r-1", "+1777000000", &right),
            ("r-1", "1777000000.5", &right),
            ("r-1", &"9".repeat(40), &right),
            ("r-1", "1777000000", ""),
            ("r-1", "1777000000", "v1,"),
            ("r-1", "1777000000", &right.replace("v1,", "v1=")),
            ("r-1", "1777000000", &right.replace("v1,", "v2,")),
        ] {
            assert_eq!(is_by(id, timestamp, signature, &["s"], BODY), None, "{id} {timestamp} {signature}");
        }
        assert_eq!(Signed::parse(|_| None), None);
    }

    #[test]
    fn the_tolerance_is_exact() {
        let right = sign(&"s".into(), "r", now(), BODY);
        let header = |name: &str| match name {
            ID => Some("r"),
            TIMESTAMP => Some("1777000000"),
            _ => Some(right.as_str()),
        };
        let signed = Signed::parse(header).unwrap();
        for (seconds, expected) in [(300, true), (-300, true), (301, false), (-301, false)] {
            let at = Timestamp::from_second(now().as_second() + seconds).unwrap();
            assert_eq!(signed.is_recent(at), expected, "{seconds} s");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(id in ".*", timestamp in ".*|[0-9]{1,30}", signature in r"[v1, ,A-Za-z0-9+/=]{0,90}|.*") {
            prop_assert_ne!(is_by(&id, &timestamp, &signature, &["s"], BODY), Some(true));
        }
    }
}
