//! Access tokens, which authenticate a relay's clients.
//!
//! A token has 256 random bits, so storing its SHA-256 is sufficient: a token cannot be found from its hash, or guessed, and a
//! slow hash as for passwords would not add protection. A reader of the configuration cannot authenticate with it.

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// The prefix of every token, so that leaked tokens can be detected.
const TOKEN: &str = "tlr_";

/// The prefix of every hash.
const HASH: &str = "sha256:";

/// The token of 256 random bits: `tlr_` and 52 of a-z and 2-7.
pub fn token(random: &[u8; 32]) -> SecretString {
    format!("{TOKEN}{}", BASE32_NOPAD.encode(random).to_lowercase()).into()
}

/// The SHA-256 of a token, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a presented token, of any form.
    pub fn of(presented: &[u8]) -> Self {
        Self(Sha256::digest(presented).into())
    }
}

impl ConstantTimeEq for TokenHash {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// Not a hash.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a token's hash: sha256: and 64 hexadecimal digits")]
pub struct NotAHash;

impl FromStr for TokenHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.strip_prefix(HASH).ok_or(NotAHash)?;
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| NotAHash)?;
        bytes.try_into().map(Self).map_err(|_| NotAHash)
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HASH}{}", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn only_a_token_matches_its_hash() {
        let token = token(&[7; 32]);
        let text = token.expose_secret();
        assert!(text.starts_with("tlr_") && text.len() == 56, "{text}");
        let hash = TokenHash::of(text.as_bytes());
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().replace("SHA256", "sha256").parse(), Ok(hash));
        assert!(bool::from(hash.ct_eq(&TokenHash::of(text.as_bytes()))));
        for other in ["", "tlr_", &text[1..], &format!("{text} ")] {
            assert!(!bool::from(hash.ct_eq(&TokenHash::of(other.as_bytes()))), "{other}");
        }
        // The well-known hash of the empty text.
        let nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(TokenHash::of(b"").to_string(), nothing);
    }

    #[test]
    fn an_invalid_hash_is_refused() {
        let hash = TokenHash::of(b"").to_string();
        for wrong in ["", "sha256:", &hash[7..], &hash[..70], &format!("{hash}0"), &hash.replace('e', "g")] {
            assert_eq!(wrong.parse::<TokenHash>(), Err(NotAHash), "{wrong}");
        }
    }
}
