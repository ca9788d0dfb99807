//! Signing schemes of Hermes.
//!
//! Hermes understands several schemes and uses the first whose headers it finds, so a request has the headers of one scheme
//! alone. Newer versions know more of them (Standard Webhooks, Linear), which is why a route's own headers may not have their
//! names. Two of ours cover the time, so that a captured request cannot be used later; `hub`, the default, does not, and
//! `gitlab` sends the secret itself.
//!
//! Each scheme is a file here, with its header names and its rules for secrets, and a line in [`Scheme::ALL`].

mod gitlab;
mod hub;
mod standard;
mod svix;
mod webhook_v2;

pub use hub::{HEADER, sign, verify};

use jiff::Timestamp;
use secrecy::SecretString;
use std::fmt::Display;
use subtle::ConstantTimeEq as _;

/// The tolerance of Hermes for a signed time, in seconds.
const TOLERANCE: u64 = 300;

/// A way to sign requests to Hermes.
#[derive(Debug)]
pub struct Scheme {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The names of its headers, in the case in which Hermes and the scheme's documentation write them.
    header_names: &'static [&'static str],
    /// The prefix in lower case of all header names that Hermes reads for this family of schemes.
    family: &'static str,
    /// Its rank in the order in which Hermes looks for headers.
    rank: u8,
    /// Whether one request can be signed with every secret that may be valid; otherwise the first one signs.
    pub takes_all_secrets: bool,
    /// Whether a header has the secret itself, which needs an encrypted connection.
    pub sends_secret: bool,
    /// Fails with a fault and its remedy if the scheme cannot use a secret. `{}` in the fault stands for the secret's origin.
    check: fn(&SecretString) -> Result<(), (&'static str, &'static str)>,
    /// The values of its headers, in their order.
    sign: fn(&[SecretString], &Request<'_>) -> Vec<String>,
    /// Whether Hermes accepts a request; `None` if it does not have the scheme's headers.
    accepts: fn(&SecretString, &Received<'_, '_>) -> Option<bool>,
}

/// The signed parts of a request.
struct Request<'a> {
    id: &'a str,
    now: Timestamp,
    body: &'a [u8],
}

/// A received request.
struct Received<'r, 'a> {
    /// Returns a header's value.
    header: &'r dyn Fn(&str) -> Option<&'a str>,
    now: Timestamp,
    body: &'r [u8],
}

impl<'a> Received<'_, 'a> {
    /// A header's value, unless it is empty.
    fn value(&self, name: &str) -> Option<&'a str> {
        (self.header)(name).filter(|value| !value.is_empty())
    }

    fn is_recent(&self, time: &str) -> bool {
        time.parse().is_ok_and(|time: i64| self.now.as_second().abs_diff(time) <= TOLERANCE)
    }
}

impl Scheme {
    /// All schemes.
    pub const ALL: [&'static Self; 4] = [&hub::SCHEME, &webhook_v2::SCHEME, &svix::SCHEME, &gitlab::SCHEME];

    /// The default scheme, `hub`.
    pub const DEFAULT: &'static Self = &hub::SCHEME;

    /// The scheme of webhooks that are not Hermes'.
    pub const STANDARD: &'static Self = &standard::SCHEME;

    /// The scheme of this name in the configuration.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name == name)
    }

    /// The names of the headers of all schemes.
    pub fn header_names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().flat_map(|scheme| scheme.header_names).copied()
    }

    /// Whether a header's name in lower case belongs to a family of schemes.
    pub fn is_reserved(name: &str) -> bool {
        Self::ALL.into_iter().any(|scheme| name.starts_with(scheme.family))
    }

    /// Fails with a fault and its remedy if the scheme cannot use a secret of this origin.
    pub fn check(&self, secret: &SecretString, origin: &dyn Display) -> Result<(), (String, String)> {
        let fault = |(what, help): (&str, &str)| (what.replace("{}", &origin.to_string()), help.to_owned());
        (self.check)(secret).map_err(fault)
    }

    /// Whether a request is signed by this scheme with this secret. `header` returns a header's value.
    pub fn accepts<'a>(
        &self,
        secret: &SecretString,
        now: Timestamp,
        body: &[u8],
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> bool {
        (self.accepts)(secret, &Received { header: &header, now, body }).unwrap_or(false)
    }

    /// The headers that sign a request.
    pub fn headers(
        &self,
        secrets: &[SecretString],
        id: &str,
        now: Timestamp,
        body: &[u8],
    ) -> Vec<(&'static str, String)> {
        self.header_names.iter().copied().zip((self.sign)(secrets, &Request { id, now, body })).collect()
    }
}

/// Whether Hermes would accept a request that is signed by any scheme. `header` returns a header's value.
pub fn accepts<'a>(
    secret: &SecretString,
    now: Timestamp,
    body: &[u8],
    header: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    let received = Received { header: &header, now, body };
    let mut schemes = Scheme::ALL;
    schemes.sort_by_key(|scheme| scheme.rank);
    schemes.into_iter().find_map(|scheme| (scheme.accepts)(secret, &received)).unwrap_or(false)
}

/// Compares in constant time.
fn is_same(found: &str, expected: &str) -> bool {
    found.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_777_000_000).unwrap()
    }

    fn is_accepted(headers: &[(&str, String)], secret: &str, at: i64) -> bool {
        let at = Timestamp::from_second(at).unwrap();
        let header =
            |name: &str| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
        accepts(&secret.into(), at, b"body", header)
    }

    #[test]
    fn every_scheme_is_accepted_with_its_secret_alone_and_the_timed_ones_in_time() {
        for scheme in Scheme::ALL {
            let (name, headers) = (scheme.name, scheme.headers(&["right".into()], "id", now(), b"body"));
            let start = now().as_second();
            assert!(is_accepted(&headers, "right", start), "{name}");
            assert!(!is_accepted(&headers, "wrong", start), "{name}");
            let is_timed = ["webhook-v2", "svix"].contains(&name);
            assert!(is_accepted(&headers, "right", start + 300), "{name}");
            assert_eq!(is_accepted(&headers, "right", start + 301), !is_timed, "{name}");
            assert_eq!(is_accepted(&headers, "right", start - 301), !is_timed, "{name}");
            assert_eq!(headers.len(), scheme.header_names.len(), "{name}");
            assert!(headers.iter().all(|(header, _)| Scheme::is_reserved(&header.to_lowercase())), "{name}");
        }
        assert!(!is_accepted(&[], "right", 0), "unsigned");
    }

    #[test]
    fn a_scheme_signs_with_every_secret_or_with_the_first() {
        let secrets = ["new".into(), "old".into()];
        for scheme in Scheme::ALL {
            let headers = scheme.headers(&secrets, "id", now(), b"body");
            assert!(is_accepted(&headers, "new", now().as_second()), "{}", scheme.name);
            assert_eq!(is_accepted(&headers, "old", now().as_second()), scheme.takes_all_secrets);
        }
    }
}
