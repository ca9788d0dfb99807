//! `X-OpenRouter-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>,<body>">`.
//!
//! Parts come in any order, with spaces around them, and while a secret is rotated there may be several `v1=`.
//! `t` is signed in its written form. Parts with other names are ignored, so that OpenRouter can extend the scheme.

use crate::mac::hmac_sha256_raw;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::Mac as _;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use std::time::Duration;

/// The header that carries the signature.
pub const HEADER: &str = "X-OpenRouter-Signature";

/// SHA-256's size in bytes.
const DIGEST: usize = 32;

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The seconds since 1970, in their written form.
    timestamp: &'a str,
    seconds: i64,
    /// The decodable digests in `v1=`.
    digests: Vec<[u8; DIGEST]>,
}

/// Why a signature is not accepted. For the operator, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    /// There is no signature.
    Missing,
    /// The header is not `t=<unix seconds>,v1=<64 hex digits>`.
    Malformed,
    /// Its time is further from now than the tenant's tolerance.
    Stale,
    /// Not signed with any of the tenant's secrets.
    Mismatch,
}

impl SignatureFault {
    /// One word, for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Stale => "stale",
            Self::Mismatch => "mismatch",
        }
    }
}

impl<'a> Signature<'a> {
    /// Parses a header's value.
    pub fn parse(header: &'a str) -> Result<Self, SignatureFault> {
        let mut timestamps = Vec::new();
        let mut digests = Vec::new();
        for part in header.split(',') {
            let Some((name, value)) = part.split_once('=') else { continue };
            match (name.trim(), value.trim()) {
                ("t", value) => timestamps.push(value),
                ("v1", value) => {
                    let digest = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).ok();
                    digests.extend(digest.and_then(|bytes| <[u8; DIGEST]>::try_from(bytes).ok()));
                }
                _ => {}
            }
        }
        // Of two different times, the signed one is unknown. Equal ones are allowed, because a proxy may repeat the header.
        timestamps.dedup();
        let &[timestamp] = timestamps.as_slice() else { return Err(SignatureFault::Malformed) };
        if digests.is_empty() || timestamp.is_empty() || !timestamp.bytes().all(|b| b.is_ascii_digit()) {
            return Err(SignatureFault::Malformed);
        }
        let seconds = timestamp.parse().map_err(|_| SignatureFault::Malformed)?;
        Ok(Self { timestamp, seconds, digests })
    }

    /// Whether its time is within the tolerance. The time is not trusted before [`Self::verify`].
    pub fn is_recent(&self, tolerance: Duration, now: Timestamp) -> bool {
        self.seconds.abs_diff(now.as_second()) <= tolerance.as_secs()
    }

    /// Verifies that one of the secrets signed this body within the tolerance.
    ///
    /// Tries every secret with every digest, so that the duration does not depend on the match.
    pub fn verify(
        &self,
        secrets: &[SecretString],
        tolerance: Duration,
        now: Timestamp,
        body: &[u8],
    ) -> Result<(), SignatureFault> {
        let mut matched = false;
        for secret in secrets {
            matched |= self.matches(secret.expose_secret().as_bytes(), body);
        }
        // After the comparison, so that a stale time takes as long as a wrong digest.
        if !self.is_recent(tolerance, now) {
            return Err(SignatureFault::Stale);
        }
        if matched { Ok(()) } else { Err(SignatureFault::Mismatch) }
    }

    /// Whether this key signed this body, at any time.
    pub(super) fn matches(&self, key: &[u8], body: &[u8]) -> bool {
        let mac = mac(key, self.timestamp, body);
        let mut matched = false;
        for digest in &self.digests {
            matched |= mac.clone().verify_slice(digest).is_ok();
        }
        matched
    }
}

/// The header's value for a body.
pub fn sign(secret: &SecretString, now: Timestamp, body: &[u8]) -> String {
    let timestamp = now.as_second().to_string();
    let digest = mac(secret.expose_secret().as_bytes(), &timestamp, body).finalize().into_bytes();
    format!("t={timestamp},v1={}", HEXLOWER.encode(&digest))
}

fn mac(key: &[u8], timestamp: &str, body: &[u8]) -> hmac::Hmac<sha2::Sha256> {
    hmac_sha256_raw(key).chain_update(timestamp).chain_update(",").chain_update(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &[u8] = br#"{"type":"video.generation.completed"}"#;
    const TOLERANCE: Duration = Duration::from_secs(300);

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn secrets(secrets: &[&str]) -> Vec<SecretString> {
        secrets.iter().map(|secret| SecretString::from(*secret)).collect()
    }

    fn verify(header: &str, known: &[&str], at: Timestamp, body: &[u8]) -> Result<(), SignatureFault> {
        Signature::parse(header)?.verify(&secrets(known), TOLERANCE, at, body)
    }

    /// Computed with Python's hmac module over b"1777000000," + body and the key b"whsec".
    #[test]
    fn signs_time_comma_body() {
        let expected = "t=1777000000,v1=e6bba6149989673ffa580ddabbd23e0fb22b3f159305ce487080a9396eb3411c";
        assert_eq!(sign(&"whsec".into(), now(), BODY), expected);
        assert_eq!(verify(expected, &["whsec"], now(), BODY), Ok(()));
    }

    #[test]
    fn takes_parts_in_any_order_with_spaces_and_several_versions() {
        let header = sign(&"s".into(), now(), BODY);
        let (time, digest) = header.split_once(',').unwrap();
        let zeros = "0".repeat(64);
        for header in [
            format!("{digest},{time}"),
            format!(" {time} ,  {digest}  "),
            format!("{time},v1={zeros},{digest}"),
            // The same header twice, on two lines or on one.
            format!("{header},{header}"),
            format!("{time},{time} , {digest}"),
            format!("{time},v1=nonsense,v0=abc,{digest},x"),
            format!("{time},{}", digest.to_uppercase().replace("V1", "v1")),
            format!("t = {},v1 = {}", time.trim_start_matches("t="), digest.trim_start_matches("v1=")),
        ] {
            assert_eq!(verify(&header, &["other", "s"], now(), BODY), Ok(()), "{header}");
        }
    }

    #[test]
    fn refuses_everything_else_with_the_reason() {
        let header = sign(&"s".into(), now(), BODY);
        let (time, digest) = header.split_once(',').unwrap();
        for header in ["", "t=1,v1=", "v1=00", digest, time, "t=1,t=2,v1=00", &format!("t=1x,{digest}")] {
            assert_eq!(verify(header, &["s"], now(), BODY), Err(SignatureFault::Malformed), "{header}");
        }
        for header in
            [&format!("t=-5,{digest}"), &format!("t=+5,{digest}"), &format!("t={},{digest}", "9".repeat(40))]
        {
            assert_eq!(verify(header, &["s"], now(), BODY), Err(SignatureFault::Malformed), "{header}");
        }
        for other in ["t=1776999999", "t=01777000000", "t=1777000000.0", "t="] {
            for header in [
                format!("{header},{other}"),
                format!("{other},{header}"),
                format!("{header},{other},{header}"),
            ] {
                assert_eq!(verify(&header, &["s"], now(), BODY), Err(SignatureFault::Malformed), "{header}");
            }
        }
        assert_eq!(verify(&header, &["x"], now(), BODY), Err(SignatureFault::Mismatch));
        assert_eq!(verify(&header, &[], now(), BODY), Err(SignatureFault::Mismatch));
        assert_eq!(verify(&header, &["s"], now(), b"{}"), Err(SignatureFault::Mismatch));
        assert_eq!(
            verify(&format!("t=0{},{digest}", now().as_second()), &["s"], now(), BODY),
            Err(SignatureFault::Mismatch),
            "the time is signed in its written form"
        );
    }

    #[test]
    fn the_tolerance_is_exact() {
        let header = sign(&"s".into(), now(), BODY);
        let at = |seconds: i64| Timestamp::from_second(now().as_second() + seconds).unwrap();
        for (seconds, expected) in [
            (300, Ok(())),
            (-300, Ok(())),
            (301, Err(SignatureFault::Stale)),
            (-301, Err(SignatureFault::Stale)),
        ] {
            assert_eq!(verify(&header, &["s"], at(seconds), BODY), expected, "{seconds} s");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_and_no_header_passes(header in r"[tv1= ,0-9a-f]{0,90}|.*") {
            prop_assert!(verify(&header, &["s"], now(), BODY).is_err());
        }

        #[test]
        fn what_is_signed_passes_and_one_changed_bit_does_not(
            secret in ".{1,40}", body in prop::collection::vec(any::<u8>(), 1..200), bit in any::<prop::sample::Index>(),
        ) {
            let header = sign(&secret.as_str().into(), now(), &body);
            prop_assert_eq!(verify(&header, &["x", &secret], now(), &body), Ok(()));
            let mut changed = body;
            let bit = bit.index(changed.len() * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(verify(&header, &[&secret], now(), &changed), Err(SignatureFault::Mismatch));
        }
    }
}
