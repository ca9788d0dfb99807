//! Tokens by which programs and people show a relay who they are.
//!
//! A token is 256 random bits, so its SHA-256 is all that has to be kept: a token cannot be found from its hash, or guessed,
//! and a slow hash as for passwords would protect nothing more. A reader of the configuration cannot ask with it.

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use std::{fmt, str::FromStr};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// What every token begins with, so that it is known for one where it should not be.
const TOKEN: &str = "tlr_";

/// What every hash begins with.
const HASH: &str = "sha256:";

/// The token of 256 random bits: `tlr_` and 52 of a-z and 2-7.
pub fn token(random: &[u8; 32]) -> SecretString {
    format!("{TOKEN}{}", BASE32_NOPAD.encode(random).to_lowercase()).into()
}

/// What is kept of a token: its SHA-256, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a presented token, of any form.
    pub fn of(shown: &[u8]) -> Self {
        Self(Sha256::digest(shown).into())
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
    fn a_token_is_known_by_its_hash_and_by_nothing_else() {
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
        // The hash of nothing, by any other tool.
        let nothing = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(TokenHash::of(b"").to_string(), nothing);
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let hash = TokenHash::of(b"").to_string();
        for wrong in ["", "sha256:", &hash[7..], &hash[..70], &format!("{hash}0"), &hash.replace('e', "g")] {
            assert_eq!(wrong.parse::<TokenHash>(), Err(NotAHash), "{wrong}");
        }
    }
}
