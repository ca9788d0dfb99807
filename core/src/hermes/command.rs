//! Detection of prompts that the gateway executes as a command of its operator.
//!
//! Hermes 0.19.0 checks a prompt's first character (`MessageEvent.is_command` in `gateway/platforms/base.py`). Newer states of
//! its main branch skip white space, and leading lines of the form `@image:…`, `@file:…` and `@url:…` in any case
//! (`MessageEvent._command_text` in `gateway/platforms/event.py`); proposed changes skip invisible characters, too. The rule here
//! covers all of them and goes a little further, because a false positive costs two visible characters in the prompt, and a
//! false negative can end the gateway.

use crate::json::Text;
use regex::Regex;
use std::sync::LazyLock;

/// Any number of skipped parts, and then a slash. A skipped part is:
///
/// - an invisible character: white space, Unicode's category Other (control, format, surrogate, private, unassigned), and
///   default ignorable code points. A lone surrogate is U+FFFD here;
/// - a whole line that begins with `@`: plugins may add kinds of references;
/// - a word that begins with `@`, for versions that skip the reference alone.
#[expect(clippy::expect_used, reason = "a constant that compiles, as each test shows")]
static COMMAND: LazyLock<Regex> = LazyLock::new(|| {
    const INVISIBLE: &str = r"[\s\p{Other}\p{Default_Ignorable_Code_Point}\x{FFFD}]";
    Regex::new(&format!(r"\A(?:{INVISIBLE}|@[^\n]*\n|@\S*{INVISIBLE})*/")).expect("a pattern that compiles")
});

/// Whether some version of Hermes would execute this prompt as a command.
pub fn is_command(prompt: &Text) -> bool {
    COMMAND.is_match(&prompt.to_str_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is(prompt: &str) -> bool {
        is_command(&prompt.into())
    }

    #[test]
    fn a_command_of_any_version_is_detected() {
        for prompt in [
            // 0.19.0.
            "/restart",
            "/",
            "//help",
            "/ help",
            "/etc/passwd",
            // Newer ones, as measured.
            " /help",
            "\n/restart",
            "\t/help",
            "\u{B}/help",
            "\u{C}/help",
            "\r\n/help",
            "\u{1C}/help",
            "\u{1D}/help",
            "\u{1E}/help",
            "\u{1F}/help",
            "\u{85}/help",
            "\u{A0}/help",
            "\u{1680}/help",
            "\u{2028}/help",
            "\u{2029}/help",
            "\u{202F}/help",
            "\u{205F}/help",
            "\u{3000}/help",
            "@image:x\n/help",
            "@IMAGE:/a b\n\n /help",
            "@URL:x\n/help",
            "  @file:C:\\Users\\John Doe\\a.png\n@url:http://x\n\t/moa",
            // With `IGNORECASE`, Python's `i` is the Turkish one as well.
            "@ıMAGE:x\n/help",
            // Proposed changes.
            "\u{200B}/help",
            "\u{200C}/help",
            "\u{200D}/help",
            "\u{200E}/help",
            "\u{200F}/help",
            "\u{2060}/approve",
            "\u{FEFF}/help",
            "\u{180E}/help",
            "\u{202E}/help",
            "\u{0}/help",
            "\u{1B}/help",
            "\u{7F}/help",
            "\u{AD}/help",
            "\u{61C}/help",
            "\u{FFF9}/help",
            "\u{E0001}/help",
            // Invisible without being format characters.
            "\u{34F}/help",
            "\u{115F}/help",
            "\u{3164}/help",
            "\u{FE0F}/help",
            "\u{E0100}/help",
            "\u{E000}/help",
            // Words that a plugin may add, and versions that skip a reference alone.
            "@Issue:12\n/help",
            "@my-plugin_2:a b c\n/help",
            "@diff\n/help",
            "@file:x /help",
            "@file:x @url:y\u{2003}/help",
            "\u{2060}@file:x\n\u{FEFF}\n@issue:1 text\n \u{200B} /help",
        ] {
            assert!(is(prompt), "{prompt:?}");
        }
    }

    #[test]
    fn a_lone_surrogate_hides_no_slash() {
        let mut prompt = Text::new();
        prompt.push_code_point(0xD83D);
        prompt.push_str("\n/restart");
        assert!(is_command(&prompt));
    }

    #[test]
    fn a_prompt_with_a_visible_beginning_is_text() {
        for prompt in [
            "",
            "\n",
            "@",
            "@file:x",
            "> /restart",
            "Failed: /restart",
            "Failed\n/restart",
            "．/restart",
            "／help",
            "\\/help",
            "a@file:x\n/help",
            "@file:notes.md summarize /tmp/x",
            "@file:x\nthen\n/help",
            ". \n/help",
            "1/2",
        ] {
            assert!(!is(prompt), "{prompt:?}");
        }
    }

    /// `_command_text().startswith("/")` of newer versions, for ASCII kinds.
    fn is_command_to_a_newer_hermes(text: &str) -> bool {
        let white = |c: char| c.is_whitespace() || ('\u{1C}'..='\u{1F}').contains(&c);
        let mut rest = text.trim_start_matches(white);
        loop {
            let lower = rest.to_ascii_lowercase();
            let Some(kind) = ["@image:", "@file:", "@url:"].into_iter().find(|kind| lower.starts_with(kind))
            else {
                break;
            };
            let line = rest[kind.len()..].find('\n').unwrap_or(rest.len() - kind.len());
            if line == 0 {
                break;
            }
            rest = rest[kind.len() + line..].strip_prefix('\n').unwrap_or_default();
        }
        rest.trim_start_matches(white).starts_with('/')
    }

    proptest! {
        #[test]
        fn no_command_of_a_newer_hermes_is_missed(
            prompt in "([ \n\t\u{1C}\u{85}\u{A0}\u{3000}]|@(image|FILE|Url|x):?[a /:\r]{0,3}\n?|/|a){0,7}/?help",
        ) {
            prop_assert!(!is_command_to_a_newer_hermes(&prompt) || is(&prompt), "{prompt:?}");
        }
    }
}
