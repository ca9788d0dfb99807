//! Texts of OpenRouter, in our messages.
//!
//! They are not ours: they may be long, have characters that change how a terminal or a page shows them, and repeat the prompt or
//! the URLs of a request. A prompt is the user's own, so it stays out of errors and logs.

use std::collections::HashSet;
use talaria_core::invisible::is_invisible;

/// In characters. With our own words around it, a text stays within the 300 characters of a job's reason.
const LONGEST: usize = 200;

/// A shorter text is too likely to be a word of a message.
const SHORTEST_HIDDEN: usize = 8;

/// So many letters and digits in a row are a part of the prompt, and no accident.
const PART: usize = 16;

/// The prompt is looked for in so many characters. Of the rest nothing is shown.
const SEARCHED: usize = 8_192;

/// Replaces a text that must not be shown.
const HIDDEN: &str = "(hidden)";

/// The texts of a request that no message repeats.
#[derive(Clone, Debug, Default)]
pub struct Hidden<'a> {
    /// The key and the URLs. They are found as they are.
    pub texts: Vec<&'a str>,
    /// The prompt. Its parts are found, too, in any layout: messages shorten and reformat a prompt that they quote.
    pub prompt: &'a str,
}

impl Hidden<'_> {
    /// A text on one line, shortened, without the hidden texts, and with escapes for characters that are invisible.
    pub(crate) fn quote(&self, text: &str) -> String {
        // Hidden texts go first: shortening could leave half of one.
        let mut text = text.to_owned();
        for secret in self.texts.iter().filter(|secret| secret.len() >= SHORTEST_HIDDEN) {
            text = text.replace(secret, HIDDEN);
        }
        let mut quoted = String::new();
        let mut count = 0;
        for c in without_prompt(&text, self.prompt).trim().chars() {
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
}

/// A text that can repeat nothing of a request.
pub(crate) fn quote(text: &str) -> String {
    Hidden::default().quote(text)
}

/// The beginning of a text, without each part of it that repeats a part of the prompt, or the whole prompt if that is shorter. Only
/// letters and digits are compared, whatever their case.
fn without_prompt(text: &str, prompt: &str) -> String {
    let text: String = text.chars().take(SEARCHED).collect();
    let prompt: Vec<char> = folded(prompt).map(|(_, c)| c).collect();
    let size = prompt.len().min(PART);
    if size < SHORTEST_HIDDEN {
        return text;
    }
    let parts: HashSet<&[char]> = prompt.windows(size).collect();
    let (positions, letters): (Vec<usize>, Vec<char>) = folded(&text).unzip();
    let (mut shown, mut rest) = (String::new(), 0);
    for (index, part) in letters.windows(size).enumerate() {
        if !parts.contains(part) {
            continue;
        }
        let position = |index: usize| positions.get(index).copied().unwrap_or(text.len());
        let (start, last) = (position(index), position(index + size - 1));
        // Behind a part that goes on.
        if start >= rest {
            shown.push_str(text.get(rest..start).unwrap_or_default());
            shown.push_str(HIDDEN);
        }
        let end = text.get(last..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        rest = last + end;
    }
    shown.push_str(text.get(rest..).unwrap_or_default());
    shown
}

/// The letters and digits in lower case, with the position of each in bytes.
fn folded(text: &str) -> impl Iterator<Item = (usize, char)> {
    let letters = text.char_indices().filter(|(_, c)| c.is_alphanumeric());
    letters.flat_map(|(at, c)| c.to_lowercase().map(move |c| (at, c)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROMPT: &str = "A lighthouse at dusk,\nseen from a \"small\" boat";

    fn without(text: &str, prompt: &str) -> String {
        Hidden { prompt, ..Hidden::default() }.quote(text)
    }

    #[test]
    fn texts_are_short_visible_and_without_what_is_hidden() {
        assert_eq!(quote("  Model X\ndoes not exist "), "Model X does not exist");
        assert_eq!(quote("a\u{1b}[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
        let hidden = Hidden { texts: vec!["https://a.example/1.png", "cat"], ..Hidden::default() };
        assert_eq!(
            hidden.quote("a cat at https://a.example/1.png"),
            "a cat at (hidden)",
            "a short text would hide words"
        );
        let long = quote(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), LONGEST + 1);
        assert!(quote(&"\u{202e}".repeat(10_000)).chars().count() < LONGEST + 20);
    }

    #[test]
    fn a_prompt_is_hidden_also_in_parts_and_in_another_layout() {
        for (text, expected) in [
            (format!("Flagged: '{PROMPT}'"), "Flagged: '(hidden)'"),
            ("Flagged: a lighthouse at dusk, se...".into(), "Flagged: (hidden)..."),
            ("Flagged: …FROM A SMALL BOAT".into(), "Flagged: …FROM A SMALL BOAT"),
            ("Flagged: SEEN FROM A SMALL BOAT!".into(), "Flagged: (hidden)!"),
            (
                r#"{"prompt":"A lighthouse at dusk,\nseen from a \"small\" boat"}"#.into(),
                r#"{"prompt":"(hidden),\n(hidden)"}"#,
            ),
            ("lighthouse at dusk; seen  from\ta small boat. lighthouse at dusk".into(), "(hidden). (hidden)"),
            ("a lighthouse".into(), "a lighthouse"),
        ] {
            assert_eq!(without(&text, PROMPT), expected, "{text}");
        }
        assert_eq!(without("no 'Night Cafe' here", "night café"), "no 'Night Cafe' here");
        assert_eq!(without("no 'NIGHT CAFÉ' here", "night café"), "no '(hidden)' here");
        assert_eq!(without("a cat", "a cat"), "a cat", "a short text would hide words");
        assert_eq!(without("灯台の夕暮れの海を描く", "夕暮れの海を描く"), "灯台の(hidden)");
    }

    proptest! {
        #[test]
        fn no_message_repeats_a_prompt(prompt in "[a-zA-Z0-9é灯 ,.]{24,80}", before in ".{0,20}", after in ".{0,20}", cut in 0_usize..40) {
            let shown = without(&format!("{before} {prompt} {after}"), &prompt);
            let letters = |text: &str| folded(text).map(|(_, c)| c).collect::<String>();
            prop_assume!(letters(&prompt).chars().count() >= SHORTEST_HIDDEN);
            prop_assert!(!letters(&shown).contains(&letters(&prompt)), "{shown}");
            let half: String = prompt.chars().skip(cut).collect();
            if letters(&half).chars().count() >= PART {
                let shown = without(&half, &prompt);
                prop_assert!(!letters(&shown).contains(&letters(&half)), "{shown}");
            }
        }
    }
}
