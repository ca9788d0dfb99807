//! Masks secrets and the tokens of media links in texts that are stored or shown.

use secrecy::ExposeSecret;
use std::cmp::Reverse;
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

/// Masks the texts of one route.
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// Of a route's secrets.
    pub(crate) fn of(route: &Route) -> Self {
        Self::new(secrets(route))
    }

    /// Of these secrets, as they are and as JSON writes them.
    fn new<'a>(secrets: impl Iterator<Item = &'a str>) -> Self {
        let forms = |secret: &str| {
            let quoted = serde_json::Value::from(secret).to_string();
            let in_json = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(secret);
            [secret.to_owned(), in_json.to_owned()]
        };
        let mut forms: Vec<String> = secrets.flat_map(forms).collect();
        // The longest first, because a secret may begin with another one.
        forms.sort_by_key(|form| (Reverse(form.len()), form.clone()));
        forms.dedup();
        Self(forms)
    }

    /// The text without the secrets and without the tokens of media links.
    pub(crate) fn text(&self, text: String) -> String {
        let mut masked = text;
        for form in self.0.iter().filter(|form| !form.is_empty()) {
            if masked.contains(form.as_str()) {
                masked = masked.replace(form.as_str(), HIDDEN);
            }
        }
        without_tokens(masked)
    }
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
        let secrets = ["\"hunter2\" quoted", "plain secret", "plain secret and more"];
        let mask = Mask::new(secrets.into_iter());
        let json = serde_json::json!({"a": secrets[0], "b": secrets[1], "c": secrets[2]}).to_string();
        assert_eq!(mask.text(json), r#"{"a":"(secret)","b":"(secret)","c":"(secret)"}"#);
        assert_eq!(mask.text(format!("<{}>é", secrets[0])), "<(secret)>é");
        assert_eq!(mask.text("nothing".into()), "nothing");
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
            assert_eq!(Mask::new([].into_iter()).text(text), expected);
        }
        for text in ["", "https://h/media/short", "dlv_25m74olgq62hdlv25m74olgq62hdlv25m74olgq62h.1", "é"] {
            assert_eq!(Mask::new([].into_iter()).text(text.into()), text);
        }
    }
}
