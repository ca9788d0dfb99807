//! Lines that are broken between words where the terminal ends.

use super::{Screen, layout::width};
use std::io::{self, Write};

/// The text with its long lines broken between words. A line goes on under its text, behind the last gap of two blanks in its
/// left half, and otherwise two columns further right than it begins. Words are never broken: an id stays whole. A word that no
/// line has room for stays where it is.
pub(crate) fn wrapped(text: &str, screen: Screen) -> String {
    let Some(room) = screen.width else { return text.to_owned() };
    text.split_inclusive('\n').map(|line| wrapped_line(line, room)).collect()
}

/// Writes the lines that `write` gives, wrapped.
pub(crate) fn write_wrapped(
    out: &mut impl Write,
    screen: Screen,
    write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let mut text = Vec::new();
    write(&mut text)?;
    out.write_all(wrapped(&String::from_utf8_lossy(&text), screen).as_bytes())
}

fn wrapped_line(line: &str, room: usize) -> String {
    let plain = without_colours(line);
    if width(plain.trim_end()) <= room {
        return line.to_owned();
    }
    let margin = margin(&plain, room);
    let (mut wrapped, mut used, mut gap, mut is_begun) = (String::new(), 0, 0, false);
    for word in line.split(' ') {
        if word.is_empty() {
            gap += 1;
            continue;
        }
        let long = width(without_colours(word).trim_end());
        if is_begun && used + gap + long > room && margin + long <= room {
            wrapped.push('\n');
            (used, gap) = (0, margin);
        }
        wrapped.extend(std::iter::repeat_n(' ', gap));
        wrapped.push_str(word);
        used += gap + long;
        (gap, is_begun) = (1, true);
    }
    wrapped
}

/// The column in which a line goes on.
fn margin(line: &str, room: usize) -> usize {
    let begins = line.len() - line.trim_start_matches(' ').len();
    let behind_gaps = line.char_indices().filter(|(at, c)| {
        *c != ' ' && *at > begins && line.get(..*at).is_some_and(|before| before.ends_with("  "))
    });
    let columns = behind_gaps.map(|(at, _)| width(line.get(..at).unwrap_or_default()));
    columns.filter(|column| *column <= room / 2).max().unwrap_or((begins + 2).min(room / 2))
}

fn without_colours(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::BOLD;
    use proptest::prelude::*;

    fn at(columns: usize, text: &str) -> String {
        wrapped(text, Screen { width: Some(columns) })
    }

    #[test]
    fn a_line_goes_on_under_its_text() {
        assert_eq!(at(20, "error: this is too long for it\n"), "error: this is too\n  long for it\n");
        assert_eq!(
            at(24, "a\n  12:00Z  OpenRouter has the job\nb"),
            "a\n  12:00Z  OpenRouter has\n          the job\nb"
        );
        assert_eq!(at(20, "  help: ask again later\n"), "  help: ask again\n    later\n");
        assert_eq!(at(16, "  a     1, 2, 3, 4, 5\n"), "  a     1, 2, 3,\n        4, 5\n");
        assert_eq!(at(20, "exactly twenty chars\n"), "exactly twenty chars\n");
        let endless = "x".repeat(30);
        assert_eq!(at(10, &format!("an {endless} id")), format!("an {endless}\n  id"), "words stay whole");
        assert_eq!(wrapped("a b c", Screen { width: None }), "a b c", "off a terminal");
    }

    #[test]
    fn colours_have_no_width() {
        let text = format!("{BOLD}id{BOLD:#}  one two three");
        let shown = at(12, &text);
        assert_eq!(without_colours(&shown), "id  one two\n    three");
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_lines_fit_if_their_words_do(
            words in prop::collection::vec("[a-zé日]{1,8}", 1..30),
            begins in 0_usize..6,
            room in 40_usize..90,
        ) {
            let line = format!("{}{}", " ".repeat(begins), words.join(" "));
            let shown = at(room, &line);
            prop_assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), words);
            prop_assert!(shown.lines().all(|line| width(line) <= room), "{}", shown);
        }
    }
}
