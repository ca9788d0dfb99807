//! Masks secrets and the tokens of media links in texts that are stored or shown.

use secrecy::ExposeSecret;
use talaria_core::{config::Route, media};

/// Replaces a secret.
pub(crate) const HIDDEN: &str = "(secret)";

/// In bytes. A shorter text is a word that an answer may contain by itself, such as `Bearer` or `prod`.
const SHORTEST_SECRET: usize = 8;

/// Characters of the shortest token of a media link.
const SHORTEST_TOKEN: usize = 32;

/// The secrets of a route's requests. Each word of a header is one, because an answer to `Bearer TOKEN` may quote the token alone.
pub(crate) fn secrets(route: &Route) -> impl Iterator<Item = &str> {
    let headers = route.headers.iter().flat_map(|header| header.value.expose_secret().split(' '));
    let secrets = route.secrets.iter().map(ExposeSecret::expose_secret);
    secrets.chain(headers).filter(|secret| secret.len() >= SHORTEST_SECRET)
}

/// A text without these secrets, as they are and as JSON writes them, and without the tokens of media links.
pub(crate) fn masked(text: String, secrets: &[&str]) -> String {
    let mut masked = text;
    for secret in secrets {
        let in_json = serde_json::Value::from(*secret).to_string();
        let in_json = in_json.get(1..in_json.len() - 1).filter(|form| form != secret);
        for form in [*secret].into_iter().chain(in_json) {
            if masked.contains(form) {
                masked = masked.replace(form, HIDDEN);
            }
        }
    }
    without_tokens(masked)
}

/// Replaces the tokens of media links, also where other text was put behind one.
fn without_tokens(text: String) -> String {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let bytes = text.as_bytes();
    let (mut kept, mut copied, mut start) = (String::new(), 0, 0);
    while let Some(begin) = bytes.iter().skip(start).position(|byte| is_part(*byte)).map(|at| start + at) {
        let length = bytes.iter().skip(begin).take_while(|byte| is_part(**byte)).count();
        start = begin + length;
        if length < SHORTEST_TOKEN {
            continue;
        }
        // The characters of a token are ASCII, so its ends are boundaries.
        let (before, run) =
            (text.get(..begin).unwrap_or_default(), text.get(begin..start).unwrap_or_default());
        if before.ends_with("/media/") || before.ends_with("\\/media\\/") || media::read(run).is_some() {
            kept.push_str(text.get(copied..begin).unwrap_or_default());
            kept.push_str(HIDDEN);
            copied = start;
        }
    }
    if copied == 0 {
        return text;
    }
    kept + text.get(copied..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn token() -> String {
        let expires_at = Timestamp::from_second(1_800_000_000).unwrap();
        let claims = media::Claims { tenant: "me".into(), job_id: "j".into(), index: 0, expires_at };
        media::sign(&"key".into(), &claims).unwrap()
    }

    #[test]
    fn secrets_are_masked_as_they_are_and_as_json_writes_them() {
        let secrets = ["hunter2 \"quoted\"", "plain secret"];
        let json = serde_json::json!({"a": secrets[0], "b": secrets[1]}).to_string();
        assert_eq!(masked(json, &secrets), r#"{"a":"(secret)","b":"(secret)"}"#);
        assert_eq!(masked(format!("<{}>é", secrets[0]), &secrets), "<(secret)>é");
        assert_eq!(masked("nothing".into(), &secrets), "nothing");
    }

    #[test]
    fn tokens_of_media_links_are_masked() {
        let token = token();
        assert!(token.len() >= SHORTEST_TOKEN);
        for (text, expected) in [
            (format!("See https://h/t/media/{token} é"), "See https://h/t/media/(secret) é"),
            (format!("\"https://h/media/{token}\",\"x\""), "\"https://h/media/(secret)\",\"x\""),
            (format!(r"https:\/\/h\/media\/{token}"), r"https:\/\/h\/media\/(secret)"),
            (format!("https://h/media/{token}-and-more"), "https://h/media/(secret)"),
            (format!("the token {token} alone, twice: {token}"), "the token (secret) alone, twice: (secret)"),
        ] {
            assert_eq!(masked(text, &[]), expected);
        }
        for text in ["", "https://h/media/short", "dlv_25m74olgq62hdlv25m74olgq62hdlv25m74olgq62h.1", "é"] {
            assert_eq!(masked(text.into(), &[]), text);
        }
    }
}
