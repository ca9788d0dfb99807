//! Texts of OpenRouter, in our messages.
//!
//! They are not ours: they may be long, have characters that change how a terminal or a page shows them, and repeat the prompt or
//! the URLs of a request. A prompt is the user's own, so it stays out of errors and logs.

use talaria_core::invisible::is_invisible;

/// In characters.
const LONGEST: usize = 300;

/// A shorter text is too likely to be a word of a message.
const SHORTEST_HIDDEN: usize = 8;

/// Replaces a text that must not be shown.
const HIDDEN: &str = "(hidden)";

/// A text on one line, shortened, without these texts, and with escapes for characters that are invisible.
pub(crate) fn quote(text: &str, hidden: &[&str]) -> String {
    // Hidden texts go first: shortening could leave half of one.
    let mut text = text.to_owned();
    for secret in hidden.iter().filter(|secret| secret.len() >= SHORTEST_HIDDEN) {
        text = text.replace(secret, HIDDEN);
    }
    let mut quoted = String::new();
    let mut count = 0;
    for c in text.trim().chars() {
        if c.is_control() || is_invisible(c) {
            let escaped = if c == '\n' { " ".to_owned() } else { c.escape_default().to_string() };
            count += escaped.len();
            quoted.push_str(&escaped);
        } else {
            count += 1;
            quoted.push(c);
        }
        if count >= LONGEST {
            quoted.push('…');
            break;
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_visible_and_without_what_is_hidden() {
        assert_eq!(quote("  Model X\ndoes not exist ", &[]), "Model X does not exist");
        assert_eq!(quote("a\u{1b}[2J\u{202e}b", &[]), "a\\u{1b}[2J\\u{202e}b");
        assert_eq!(quote("no 'a lighthouse at dusk' here", &["a lighthouse at dusk"]), "no '(hidden)' here");
        assert_eq!(quote("a cat", &["cat"]), "a cat", "a short text would hide words");
        let long = quote(&"x".repeat(10_000), &[]);
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(quote(&"\u{202e}".repeat(10_000), &[]).chars().count() < LONGEST + 20);
    }
}
