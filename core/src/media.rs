//! The tokens of media links, which give a file of a job to every client that has one, for a while.
//!
//! ```text
//! version 1 | expiry, minutes since 1970 | index | length, tenant | length, job id | tag
//!    1 byte |          4 bytes           | 1 byte | 1 + ≤ 255     |  1 + ≤ 255     | 16 bytes     in base64url
//! ```
//!
//! The tag is an HMAC-SHA256 over all before it, truncated. Its key is derived from the tenant's API key, so every ingress that can
//! fetch the file reads the links of all others, and no further secret is needed. With another API key all older links end.

use crate::mac::{hmac_sha256, hmac_sha256_raw};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::Mac as _;
use jiff::Timestamp;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use std::fmt;

const VERSION: u8 = 1;

/// Separates the key from other uses of the API key.
const PURPOSE: &[u8] = b"talaria.v1/media";

/// Bytes of the tag.
const TAG: usize = 16;

/// Characters of the longest token.
const LONGEST: usize = (1 + 4 + 1 + 2 * 256 + TAG).div_ceil(3) * 4;

/// The file that a token gives, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The tenant.
    pub tenant: String,
    /// The job's id at OpenRouter.
    pub job_id: String,
    /// The number of the file, from 0.
    pub index: u8,
    /// The first time at which the token gives nothing, a whole minute.
    pub expires_at: Timestamp,
}

/// A token that was read and not verified. Anyone may have written its claims.
pub struct Unverified {
    claims: Claims,
    /// All bytes before the tag.
    signed: Vec<u8>,
    tag: [u8; TAG],
}

/// A media link may not be in logs.
impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// The token for these claims, with the expiry rounded up to a minute. `None` if they do not fit into one.
pub fn sign(api_key: &SecretString, claims: &Claims) -> Option<String> {
    let Claims { tenant, job_id, index, expires_at } = claims;
    let seconds = expires_at.as_second() + i64::from(expires_at.subsec_nanosecond() > 0);
    let minutes = u32::try_from(seconds.checked_add(59)?.div_euclid(60)).ok()?;
    let mut bytes = vec![VERSION];
    bytes.extend(minutes.to_be_bytes());
    bytes.push(*index);
    for text in [tenant, job_id] {
        bytes.push(u8::try_from(text.len()).ok()?);
        bytes.extend(text.as_bytes());
    }
    let tag = mac(api_key, &bytes).finalize().into_bytes();
    bytes.extend(tag.get(..TAG)?);
    Some(BASE64URL_NOPAD.encode(&bytes))
}

/// The end of a name for a file of this type. Most files are videos, and so is one whose type is not known.
pub fn extension(media_type: &str) -> &'static str {
    match media_type {
        "video/webm" => "webm",
        "video/quicktime" => "mov",
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "audio/mpeg" => "mp3",
        "audio/wav" => "wav",
        other if other.starts_with("image/") || other.starts_with("audio/") => "bin",
        _ => "mp4",
    }
}

/// The name under which a job's file of this number is kept: 32 hexadecimal digits, `-`, and the number. Ids of jobs are not
/// safe in every file system.
pub fn kept_name(tenant: &str, job_id: &str, index: u32) -> String {
    let mut hash = Sha256::new();
    for text in [tenant, job_id] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    let digits = HEXLOWER.encode(hash.finalize().get(..16).unwrap_or_default());
    format!("{digits}-{index}")
}

/// Reads a token, to find the key that verifies it. `None` if it is none of this version.
pub fn read(token: &str) -> Option<Unverified> {
    if token.len() > LONGEST {
        return None;
    }
    let mut signed = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
    let tag = signed.split_off(signed.len().checked_sub(TAG)?).try_into().ok()?;
    let (&[version, a, b, c, d, index], rest) = signed.split_first_chunk()?;
    let (tenant, rest) = text(rest)?;
    let (job_id, rest) = text(rest)?;
    if version != VERSION || !rest.is_empty() {
        return None;
    }
    let minutes = u32::from_be_bytes([a, b, c, d]);
    let expires_at = Timestamp::from_second(i64::from(minutes) * 60).ok()?;
    let claims = Claims { tenant: tenant.to_owned(), job_id: job_id.to_owned(), index, expires_at };
    Some(Unverified { claims, signed, tag })
}

impl Unverified {
    /// The tenant whose key verifies it.
    pub fn tenant(&self) -> &str {
        &self.claims.tenant
    }

    /// When it expires, by its own word: for readers without a key that trust the writer.
    pub fn expires_at(&self) -> Timestamp {
        self.claims.expires_at
    }

    /// The claims, if they were signed with this key and are not expired.
    pub fn verify(self, api_key: &SecretString, now: Timestamp) -> Option<Claims> {
        let is_signed = mac(api_key, &self.signed).verify_truncated_left(&self.tag).is_ok();
        (is_signed && now < self.claims.expires_at).then_some(self.claims)
    }
}

fn mac(api_key: &SecretString, signed: &[u8]) -> hmac::Hmac<Sha256> {
    let key = hmac_sha256(api_key).chain_update(PURPOSE).finalize().into_bytes();
    hmac_sha256_raw(&key).chain_update(signed)
}

/// A text after its length, and the bytes after it.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(length.into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims(tenant: &str, job_id: &str, index: u8, seconds: i64) -> Claims {
        let expires_at = Timestamp::from_second(seconds).unwrap();
        Claims { tenant: tenant.into(), job_id: job_id.into(), index, expires_at }
    }

    fn verify(token: &str, key: &str, seconds: i64) -> Option<Claims> {
        read(token)?.verify(&key.into(), Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn a_kept_file_has_the_same_name_everywhere() {
        assert_eq!(kept_name("me", "gen-vid-1", 2), "b827774af67396ad4502a15af374b459-2");
        assert_ne!(kept_name("me", "x", 0), kept_name("m", "ex", 0));
    }

    #[test]
    fn a_token_stays_as_it_is() {
        let claims = claims("me", "gen-vid-1", 2, 1_777_000_020);
        let token = sign(&"sk-or-1".into(), &claims).unwrap();
        assert_eq!(
            token, "AQHD6hsCAm1lCWdlbi12aWQtMRGIwLfmX0G-myScW25Su8A",
            "links that are given out stay valid"
        );
        let unverified = format!("{:?}", read(&token).unwrap());
        assert!(unverified.contains("gen-vid-1") && !unverified.contains("tag"), "{unverified}");
    }

    #[test]
    fn the_expiry_is_the_next_whole_minute() {
        for (seconds, expiry) in [(0, 0), (1, 60), (59, 60), (60, 60), (61, 120)] {
            let token = sign(&"k".into(), &claims("t", "j", 0, seconds)).unwrap();
            assert_eq!(read(&token).unwrap().expires_at().as_second(), expiry, "{seconds}");
        }
        let with_nanos = Claims { expires_at: Timestamp::new(60, 1).unwrap(), ..claims("t", "j", 0, 0) };
        assert_eq!(read(&sign(&"k".into(), &with_nanos).unwrap()).unwrap().expires_at().as_second(), 120);
    }

    #[test]
    fn claims_that_do_not_fit_have_no_token() {
        let longest = "x".repeat(255);
        let token = sign(&"k".into(), &claims(&longest, &longest, 255, 60)).unwrap();
        assert!(verify(&token, "k", 59).is_some() && token.len() <= LONGEST);
        let long = "x".repeat(256);
        for claims in [claims(&long, "j", 0, 60), claims("t", &long, 0, 60), claims("t", "j", 0, -61)] {
            assert_eq!(sign(&"k".into(), &claims), None);
        }
        let last = Claims { expires_at: Timestamp::MAX, ..claims("t", "j", 0, 0) };
        let _ = sign(&"k".into(), &last);
    }

    #[test]
    fn what_is_no_token_is_not_read() {
        let token = sign(&"k".into(), &claims("t", "j", 0, 60)).unwrap();
        for wrong in [
            "",
            "A",
            "AQ",
            "é",
            &token[1..],
            &token[..token.len() - 1],
            &format!("{token}A"),
            &format!("{token}="),
            &token.replacen('A', "B", 1),
            &"A".repeat(LONGEST + 4),
            &"A".repeat(1_000_000),
        ] {
            assert!(read(wrong).is_none_or(|read| read.verify(&"k".into(), Timestamp::UNIX_EPOCH).is_none()));
        }
    }

    proptest! {
        #[test]
        fn a_token_gives_back_its_claims_until_it_expires(
            tenant in "[a-z0-9_-]{1,64}", job_id in "[!-~]{1,200}", index: u8, minute in 1_u32..4_000_000_000, key in "[!-~]{1,80}",
        ) {
            let expiry = i64::from(minute) * 60;
            let claims = claims(&tenant, &job_id, index, expiry);
            let token = sign(&key.as_str().into(), &claims).unwrap();
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(verify(&token, &key, expiry - 1), Some(claims));
            prop_assert_eq!(verify(&token, &key, expiry), None);
            prop_assert_eq!(verify(&token, &format!("{key}x"), expiry - 1), None);
        }

        #[test]
        fn every_changed_byte_is_refused(
            tenant in "[a-z]{1,9}", job_id in "[a-z0-9-]{1,40}", index: u8, at: prop::sample::Index, flip in 1_u8..,
        ) {
            let token = sign(&"k".into(), &claims(&tenant, &job_id, index, 6_000_000_000)).unwrap();
            let mut bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(verify(&BASE64URL_NOPAD.encode(&bytes), "k", 0), None);
            bytes[at] ^= flip;
            bytes.truncate(at);
            prop_assert_eq!(verify(&BASE64URL_NOPAD.encode(&bytes), "k", 0), None);
        }

        /// Of any text: nothing is verified, and nothing panics.
        #[test]
        fn no_other_text_is_a_token(text in ".{0,120}", bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            prop_assert_eq!(verify(&text, "k", 0), None);
            prop_assert_eq!(verify(&BASE64URL_NOPAD.encode(&bytes), "k", 0), None);
            let mut known = vec![VERSION, 127, 255, 255, 255];
            known.extend(&bytes);
            prop_assert_eq!(verify(&BASE64URL_NOPAD.encode(&known), "k", 0), None);
        }
    }
}
