//! Characters that are invisible in editors, on pages and on terminals.

use regex::Regex;
use std::sync::LazyLock;

/// Format characters such as U+200B, U+2060 and U+FEFF, and every separator but the plain space, such as U+00A0 and U+2028.
#[expect(clippy::expect_used, reason = "a constant that compiles, as a test shows")]
static INVISIBLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{Cf}[\p{Z}--[ ]]]").expect("a pattern"));

/// The range of the first one in a text.
pub(crate) fn find(text: &str) -> Option<std::ops::Range<usize>> {
    INVISIBLE.find(text).map(|found| found.range())
}

/// Whether a character is invisible.
pub fn is_invisible(c: char) -> bool {
    !c.is_ascii() && INVISIBLE.is_match(c.encode_utf8(&mut [0; 4]))
}

/// Untrusted text for people, with characters escaped that would change how the rest is shown.
pub fn visible(text: &str) -> String {
    escaped(text, |c| c != '\n' && is_unsafe(c))
}

/// The same on one line.
pub fn one_line(text: &str) -> String {
    escaped(text, is_unsafe)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    text.chars().flat_map(|c| if is_escaped(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Control characters, line separators, direction marks, and invisible characters, by which one name can look like another.
fn is_unsafe(c: char) -> bool {
    c.is_control() || is_invisible(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_characters_and_separators_are_invisible() {
        for c in ['\u{200b}', '\u{200d}', '\u{feff}', '\u{ad}', '\u{e0041}', '\u{a0}', '\u{2028}', '\u{202e}']
        {
            assert!(is_invisible(c), "{c:?}");
        }
        for c in [' ', 'a', 'é', '漢', '😀'] {
            assert!(!is_invisible(c), "{c:?}");
        }
        assert_eq!(find("a\u{200b}b"), Some(1..4));
    }
}
