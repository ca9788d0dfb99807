//! Diagnosis of a signature that does not match, by frequent mistakes with secrets and proxies.
//!
//! Each mistake is verified with the callback, so a hint is not a guess. It is for the operator alone, after the sender was
//! refused: it would show a stranger how close a signature came.

use super::signature::Signature;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use thiserror::Error;

/// A longer body is not diagnosed: callbacks have some hundred bytes, and each try hashes all of it.
pub const LONGEST_BODY: usize = 64 * 1024;

/// The probable mistake behind a refused callback, with its remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Hint {
    /// The secret in the configuration has quotes around it.
    #[error(
        "it matches the secret here without the quotes around it: take them out of the secret's file or variable"
    )]
    Quotes,
    /// The secret in the configuration has white space around it.
    #[error(
        "it matches the secret here without the white space around it: take that out of the secret's file or variable"
    )]
    WhiteSpace,
    /// The secret in the configuration begins with the prefix of a signature.
    #[error(
        "it matches the secret here without `v1,` or `whsec_` in front: take that out of the secret's file or \
         variable"
    )]
    Prefix,
    /// The secret in the configuration is the sender's, encoded.
    #[error(
        "it matches what the secret here is the base64 of: write the secret itself into its file or variable (in a \
         Kubernetes Secret, `stringData` takes it as it is and `data` takes it encoded once)"
    )]
    Base64,
    /// A proxy rewrote the body.
    #[error(
        "it matches the body without its white space: a proxy in front writes JSON anew; let it hand the body on byte \
         for byte"
    )]
    Reformatted,
    /// A proxy or the sender compressed the body.
    #[error(
        "the body came compressed, and the signature is verified over the bytes as they came: have it sent without \
         Content-Encoding"
    )]
    Compressed,
    /// Another signing scheme.
    #[error(
        "the signature is a bare HMAC in hex, as other services send it; OpenRouter sends t=<unix seconds>,v1=<hex>: \
         is the sender OpenRouter?"
    )]
    BareHex,
    /// OpenRouter has no signing secret.
    #[error(
        "it is not signed at all: paste the secret of `talaria secrets --show` into the signing secret of \
         OpenRouter's workspace settings"
    )]
    Unsigned,
    /// A secret with suspicious ends, which does not match without them either.
    #[error(
        "no secret here matches, and one has quotes, white space, `v1,` or `whsec_` at an end: compare it with the \
         one in OpenRouter's workspace settings"
    )]
    OddSecret,
    /// No other mistake was found.
    #[error(
        "no secret here matches: compare `talaria secrets --show` with the signing secret in OpenRouter's workspace \
         settings"
    )]
    OtherSecret,
}

/// The probable mistake behind a refused signature header, for a tenant with these secrets; `None` if there is none, for example
/// for a stale signature.
pub fn diagnose(
    header: Option<&str>,
    is_compressed: bool,
    secrets: &[SecretString],
    body: &[u8],
) -> Option<Hint> {
    let Some(header) = header else { return Some(Hint::Unsigned) };
    let Ok(signature) = Signature::parse(header) else {
        return is_bare_hex(header).then_some(Hint::BareHex);
    };
    if is_compressed {
        return Some(Hint::Compressed);
    }
    if body.len() <= LONGEST_BODY {
        let compact = without_white_space(body);
        for secret in secrets {
            let secret = secret.expose_secret();
            if signature.matches(secret.as_bytes(), body) {
                // Only its time was refused.
                return None;
            }
            if [compact.as_slice(), body.trim_ascii()]
                .iter()
                .any(|body| signature.matches(secret.as_bytes(), body))
            {
                return Some(Hint::Reformatted);
            }
            for (hint, key) in intended_keys(secret) {
                if signature.matches(key.expose_secret(), body) {
                    return Some(hint);
                }
            }
        }
    }
    let is_odd = |secret: &SecretString| {
        intended_keys(secret.expose_secret()).iter().any(|(hint, _)| *hint != Hint::Base64)
    };
    Some(if secrets.iter().any(is_odd) { Hint::OddSecret } else { Hint::OtherSecret })
}

/// The possibly intended keys of a secret, each with the mistake.
fn intended_keys(secret: &str) -> Vec<(Hint, SecretSlice<u8>)> {
    let mut keys = Vec::new();
    let mut text = secret;
    let mut without = |hint, shorter: &'_ str| keys.push((hint, shorter.as_bytes().to_vec().into()));
    let trimmed = text.trim();
    if trimmed != text {
        text = trimmed;
        without(Hint::WhiteSpace, text);
    }
    for quote in ['"', '\'', '`'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            text = inner.trim();
            without(Hint::Quotes, text);
        }
    }
    for prefix in ["v1,", "v1=", "whsec_"] {
        if let Some(rest) = text.strip_prefix(prefix) {
            text = rest.trim();
            without(Hint::Prefix, text);
        }
    }
    for encoding in [BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD] {
        if let Ok(bytes) = encoding.decode(text.as_bytes()) {
            keys.push((Hint::Base64, bytes.into()));
            break;
        }
    }
    keys
}

/// JSON without white space outside of strings, as most programs write it.
fn without_white_space(body: &[u8]) -> Vec<u8> {
    let (mut in_string, mut is_escaped) = (false, false);
    let is_kept = |byte: &u8| {
        let kept = in_string || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        if in_string {
            in_string = *byte != b'"' || is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
        } else {
            in_string = *byte == b'"';
        }
        kept
    };
    body.iter().copied().filter(is_kept).collect()
}

/// Whether the header is `<hex>`, or `sha256=<hex>` as in GitHub's scheme.
fn is_bare_hex(header: &str) -> bool {
    let header = header.trim();
    let digest = header.strip_prefix("sha256=").unwrap_or(header);
    digest.len() == 64 && HEXLOWER_PERMISSIVE.decode(digest.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{super::signature::sign, *};
    use jiff::Timestamp;

    const BODY: &[u8] = br#"{"type":"video.generation.completed","data":{"id":"a \" b","n":1}}"#;

    /// The hint at a callback that OpenRouter signs with one secret while another is configured here.
    fn hint_at(theirs: &str, ours: &str, sent: &[u8], came: &[u8]) -> Option<Hint> {
        let header = sign(&theirs.into(), Timestamp::UNIX_EPOCH, sent);
        diagnose(Some(&header), false, &["an older one".into(), ours.into()], came)
    }

    #[test]
    fn a_secret_that_was_copied_with_something_around_it_is_found() {
        for (ours, hint) in [
            ("\"s3cret\"", Hint::Quotes),
            ("'s3cret'", Hint::Quotes),
            (" s3cret", Hint::WhiteSpace),
            ("s3cret\u{a0}", Hint::WhiteSpace),
            ("v1,s3cret", Hint::Prefix),
            ("whsec_s3cret", Hint::Prefix),
            ("\"v1,s3cret\"", Hint::Prefix),
            ("v1,whsec_s3cret", Hint::Prefix),
            ("czNjcmV0", Hint::Base64),
            ("whsec_czNjcmV0", Hint::Base64),
            ("\"another\"", Hint::OddSecret),
            ("another", Hint::OtherSecret),
        ] {
            assert_eq!(hint_at("s3cret", ours, BODY, BODY), Some(hint), "{ours}");
        }
        assert_eq!(hint_at("s3cret", "s3cret", BODY, BODY), None, "only its time can be wrong");
    }

    #[test]
    fn a_rewritten_body_is_found() {
        let spaced = br#"{ "type": "video.generation.completed",
            "data": {"id": "a \" b", "n": 1} }
"#;
        assert_eq!(hint_at("s", "s", BODY, spaced), Some(Hint::Reformatted));
        let line = [BODY, b"\r\n"].concat();
        assert_eq!(hint_at("s", "s", BODY, &line), Some(Hint::Reformatted));
        assert_eq!(hint_at("s", "s", spaced.trim_ascii(), spaced), Some(Hint::Reformatted));
        let other = BODY.to_ascii_uppercase();
        assert_eq!(hint_at("s", "s", BODY, &other), Some(Hint::OtherSecret));
    }

    #[test]
    fn other_signatures_are_named() {
        let hex = "0".repeat(64);
        let found = |header: Option<&str>| diagnose(header, false, &["s".into()], BODY);
        assert_eq!(found(None), Some(Hint::Unsigned));
        for bare in [hex.clone(), format!("sha256={hex}"), format!(" {} ", hex.to_uppercase())] {
            assert_eq!(found(Some(&bare)), Some(Hint::BareHex), "{bare}");
        }
        for other in ["", "nonsense", &hex[1..]] {
            assert_eq!(found(Some(other)), None, "{other}");
        }
        let header = sign(&"s".into(), Timestamp::UNIX_EPOCH, b"x");
        assert_eq!(diagnose(Some(&header), true, &["s".into()], b"\x1f\x8b"), Some(Hint::Compressed));
    }

    #[test]
    fn a_long_body_is_not_hashed_again_and_again() {
        let long = vec![b' '; LONGEST_BODY + 1];
        assert_eq!(hint_at("s", "s", b"", &long), Some(Hint::OtherSecret));
    }

    #[test]
    fn no_hint_holds_a_secret() {
        for ours in ["\"s3cret\"", "v1,s3cret", "s3cret!", "czNjcmV0"] {
            let text = hint_at("s3cret", ours, BODY, BODY).unwrap().to_string();
            assert!(!text.contains("s3cret") && !text.contains("czNjcmV0"), "{text}");
        }
    }
}
