//! Diagnosis of a signature that does not match, by trying common mistakes with secrets and proxies.
//!
//! Where possible, a mistake is verified with the callback. The hint is for the operator alone, after the callback was refused:
//! it would show a client how close a signature came.

use super::signature::Signature;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use thiserror::Error;

/// For a longer body no alternative keys are tried: callbacks have a few hundred bytes, and each try hashes all of it.
const LONGEST_BODY: usize = 64 * 1024;

/// The probable mistake behind a refused callback, with its remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Hint {
    /// The secret in the configuration has quotes around it.
    #[error(
        "the signature matches the configured secret without the quotes around it: remove them from the secret's file \
         or variable"
    )]
    Quotes,
    /// The secret in the configuration has white space around it.
    #[error(
        "the signature matches the configured secret without the white space around it: remove that from the \
         secret's file or variable"
    )]
    WhiteSpace,
    /// The secret in the configuration begins with the prefix of a signature.
    #[error(
        "the signature matches the configured secret without `v1,` or `whsec_` in front: remove that from the \
         secret's file or variable"
    )]
    Prefix,
    /// The secret in the configuration is OpenRouter's, encoded.
    #[error(
        "the configured secret is the base64 of the right one: write the decoded secret into its file or variable (in \
         a Kubernetes Secret, `stringData` takes it as it is and `data` takes it encoded once)"
    )]
    Base64,
    /// A proxy rewrote the body.
    #[error(
        "the signature matches the body without its white space: a proxy in front of Talaria reformats JSON; \
         configure it to pass the body unchanged"
    )]
    Reformatted,
    /// A proxy or the sender compressed the body.
    #[error(
        "the body came compressed, and the signature is verified over the bytes as they came: disable compression at \
         the sender or proxy"
    )]
    Compressed,
    /// Another signing scheme.
    #[error(
        "the signature is a bare HMAC in hex, as other services send it; OpenRouter sends t=<unix seconds>,v1=<hex>: \
         is the sender OpenRouter?"
    )]
    BareHex,
    /// OpenRouter has no signing secret, or a proxy removes the header.
    #[error(
        "the callback is not signed: paste the secret of `talaria secrets --show` into the signing secret of \
         OpenRouter's workspace settings; or a proxy removes X-OpenRouter-Signature"
    )]
    Unsigned,
    /// A secret with suspicious ends, which does not match without them either.
    #[error(
        "no secret in Talaria's configuration matches the signature, and one has quotes, white space, `v1,` or \
         `whsec_` at an end: compare it with the one in OpenRouter's workspace settings"
    )]
    OddSecret,
    /// No other mistake was found.
    #[error(
        "no secret in Talaria's configuration matches the signature: compare `talaria secrets --show` with the signing \
         secret in OpenRouter's workspace settings"
    )]
    OtherSecret,
}

/// The probable mistake behind a header that none of a tenant's secrets matches; `None` if it is malformed in an unknown way.
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
    let mut add = |hint, shorter: &'_ str| keys.push((hint, shorter.as_bytes().to_vec().into()));
    let trimmed = text.trim();
    if trimmed != text {
        text = trimmed;
        add(Hint::WhiteSpace, text);
    }
    for quote in ['"', '\'', '`'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            text = inner.trim();
            add(Hint::Quotes, text);
        }
    }
    for prefix in ["v1,", "v1=", "whsec_"] {
        if let Some(rest) = text.strip_prefix(prefix) {
            text = rest.trim();
            add(Hint::Prefix, text);
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

    /// The hint for a callback that OpenRouter signs with one secret while another is configured.
    fn hint_for(theirs: &str, ours: &str, sent: &[u8], came: &[u8]) -> Option<Hint> {
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
            assert_eq!(hint_for("s3cret", ours, BODY, BODY), Some(hint), "{ours}");
        }
    }

    #[test]
    fn a_rewritten_body_is_found() {
        let spaced = br#"{ "type": "video.generation.completed",
            "data": {"id": "a \" b", "n": 1} }
"#;
        assert_eq!(hint_for("s", "s", BODY, spaced), Some(Hint::Reformatted));
        let line = [BODY, b"\r\n"].concat();
        assert_eq!(hint_for("s", "s", BODY, &line), Some(Hint::Reformatted));
        assert_eq!(hint_for("s", "s", spaced.trim_ascii(), spaced), Some(Hint::Reformatted));
        let other = BODY.to_ascii_uppercase();
        assert_eq!(hint_for("s", "s", BODY, &other), Some(Hint::OtherSecret));
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
        assert_eq!(hint_for("s", "s", b"", &long), Some(Hint::OtherSecret));
    }

    #[test]
    fn no_hint_holds_a_secret() {
        for ours in ["\"s3cret\"", "v1,s3cret", "s3cret!", "czNjcmV0"] {
            let text = hint_for("s3cret", ours, BODY, BODY).unwrap().to_string();
            assert!(!text.contains("s3cret") && !text.contains("czNjcmV0"), "{text}");
        }
    }
}
