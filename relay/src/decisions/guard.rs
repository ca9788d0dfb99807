//! The guard: keeps payloads from giving Hermes a command or a file reference.
//!
//! Hermes runs a prompt that starts with `/` as a command of its operator ([`command`] has the characters that newer versions
//! skip before the slash), and expands `@file:path`, `@folder:`, `@git:`, `@url:`, `@diff` and `@staged` into contents; in
//! newer versions plugins add words of their own. The texts in a payload are untrusted. So:
//!
//! - a prompt that would be a command gets the prefix `> `, which no version skips;
//! - a reference of which any part came out of the payload is written `@ file:`, which Hermes does not expand.
//!
//! Both changes can be seen in the prompt, are noted with the attempt, and can be turned off for a route. References that the
//! operator wrote into the template stay. A command in the template is allowed by `guard: {commands: false}` alone.

use std::ops::Range;
use talaria_core::{
    config::Guard,
    hermes::{command, template::Prompt},
    json::Text,
};

/// The prefix of a prompt that would be a command.
const QUOTE: &str = "> ";

/// The references without a value that Hermes expands: `REFERENCE_PATTERN` in `agent/context_references.py`.
const ALONE: [&str; 2] = ["diff", "staged"];

/// The prompt as it may be sent, and notes about the changes.
pub fn defuse(prompt: Prompt, guard: Guard) -> (Text, Vec<String>) {
    let mut notes = Vec::new();
    let mut text = prompt.text;
    if guard.references {
        let references = references(text.as_bytes(), &prompt.from_payload);
        if !references.is_empty() {
            notes.push(format!("{} @ reference(s) out of the payload defused", references.len()));
            text = with_space_after(&text, &references);
        }
    }
    if guard.commands && command::is_command(&text) {
        notes.push("a leading / defused".into());
        let mut quoted = Text::from(QUOTE);
        quoted.push_text(&text);
        text = quoted;
    }
    (text, notes)
}

/// The offset of every `@` that starts a reference with a part from the payload.
fn references(text: &[u8], from_payload: &[Range<usize>]) -> Vec<usize> {
    let mut payload = from_payload.iter().peekable();
    let mut found = Vec::new();
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'@') {
        // Hermes ignores an `@` after a word or a slash. Beyond ASCII, the end of a word is left to Hermes.
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/')) {
            continue;
        }
        let Some(reference) = text.get(at + 1..).and_then(reference) else { continue };
        let end = at + 1 + reference.length;
        while payload.next_if(|range| range.end <= at).is_some() {}
        let Some(payload) = payload.peek() else { break };
        // The text between is from the template, and short.
        let between = || text.get(end..payload.start).unwrap_or_default();
        if payload.start < end || reference.has_value && reaches_over(between()) {
            found.push(at);
        }
    }
    found
}

/// The text after an `@` that Hermes would expand.
struct Reference {
    /// The length up to its value, or to its end.
    length: usize,
    has_value: bool,
}

fn reference(behind: &[u8]) -> Option<Reference> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name = behind.iter().take_while(|byte| is_word(byte) || **byte == b'-').count();
    let value = behind.get(name..).and_then(|rest| rest.strip_prefix(b":"));
    if behind.first().is_some_and(u8::is_ascii_alphabetic)
        && value.and_then(<[u8]>::first).is_some_and(|byte| !byte.is_ascii_whitespace())
    {
        return Some(Reference { length: name + 1, has_value: true });
    }
    let begins = |word: &str| {
        behind.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    };
    let ends = |word: &str| behind.get(word.len()).is_none_or(|next| !is_word(next));
    let word = ALONE.into_iter().find(|word| begins(word) && ends(word))?;
    Some(Reference { length: word.len(), has_value: false })
}

/// Whether a value goes on after this text: the text has no white space, or a quote in it is not closed.
fn reaches_over(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return true };
    let is_quoted =
        |quote| value.strip_prefix(quote).is_some_and(|inside: &str| !inside.contains([quote, '\n']));
    !value.contains(char::is_whitespace) || ['`', '"', '\''].into_iter().any(is_quoted)
}

fn with_space_after(text: &Text, offsets: &[usize]) -> Text {
    let mut bytes = Vec::with_capacity(text.len() + offsets.len());
    let mut offsets = offsets.iter().peekable();
    for (at, byte) in text.as_bytes().iter().enumerate() {
        bytes.push(*byte);
        if offsets.next_if(|offset| **offset == at).is_some() {
            bytes.push(b' ');
        }
    }
    // A space after an `@` splits no code point, so the text stays valid.
    Text::from_bytes(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use talaria_core::{
        hermes::template::Template,
        json::{parse, print::dump_text},
    };

    const ON: Guard = Guard { commands: true, references: true };

    fn guarded(template: &str, value: &str, guard: Guard) -> (String, Vec<String>) {
        let body = format!("{{\"v\":{}}}", dump_text(&value.into()));
        let payload = parse(body.as_bytes()).unwrap();
        let prompt = Template::new(&template.into()).render(payload.root(), &"t".into(), &"r".into());
        let (text, notes) = defuse(prompt, guard);
        (text.as_str().unwrap().to_owned(), notes)
    }

    fn text(template: &str, value: &str) -> String {
        guarded(template, value, ON).0
    }

    #[test]
    fn a_payload_cannot_give_a_command() {
        assert_eq!(text("{v}", "/restart"), "> /restart");
        assert_eq!(text("/{v}", "stop"), "> /stop");
        assert_eq!(text("Failed: {v}", "/restart"), "Failed: /restart");
        assert_eq!(guarded("{v}", "/x", ON).1, ["a leading / defused"]);
        assert_eq!(guarded("{v}", "/x", Guard { commands: false, ..ON }), ("/x".into(), vec![]));
    }

    #[test]
    fn characters_that_a_newer_hermes_skips_hide_no_command() {
        for (template, value) in [
            ("{v}", "\n/restart"),
            ("\n{v}", "/restart"),
            ("{v}", " \t\u{85}\u{A0}\u{2028}\u{3000}\u{200B}/restart"),
            ("\u{FEFF}{v}", "/restart"),
            ("@file:notes.md\n{v}", "/restart"),
            ("@FILE:{v}", "a b\n/restart"),
            ("{v}", "@image:x\n/restart"),
            ("{v}", "@Word:x y\n \n/restart"),
        ] {
            let (text, notes) = guarded(template, value, ON);
            assert!(text.starts_with("> ") && text.ends_with("/restart"), "{template:?} {value:?}: {text:?}");
            assert_eq!(notes.last().map(String::as_str), Some("a leading / defused"));
            assert!(!command::is_command(&text.as_str().into()));
            let off = Guard { commands: false, ..ON };
            assert!(!guarded(template, value, off).0.starts_with("> "), "{template:?} {value:?}");
        }
        for same in ["Failed:\n/restart", "@file:x and\nmore /tmp", "\u{FF0F}help"] {
            assert_eq!(guarded(same, "", ON), (same.to_owned(), vec![]));
        }
    }

    #[test]
    fn a_payload_cannot_have_files_read_or_pages_fetched() {
        for word in [
            "@file:/etc/passwd",
            "@folder:.",
            "@git:3",
            "@url:http://x",
            "@diff",
            "@staged",
            "@diff.",
            "(@staged)",
            "@File:x",
            "@issue:12",
            "@my-plugin_2:`a b`",
            "@DIFF",
        ] {
            assert_eq!(text("Error: {v}", word), format!("Error: {}", word.replace('@', "@ ")), "{word}");
            assert_eq!(text("Error: {v}", word).matches("@ ").count(), 1);
            assert_eq!(
                guarded("Error: {v}", word, Guard { references: false, ..ON }).0,
                format!("Error: {word}")
            );
        }
        assert_eq!(text("{v}", "a @file:b c @url:d"), "a @ file:b c @ url:d");
        assert_eq!(
            guarded("{v}", "a @file:b c @url:d", ON).1,
            ["2 @ reference(s) out of the payload defused"]
        );
        assert!(text("{__raw__}", "@file:x").contains("@ file:x"), "inside a dump too");
    }

    #[test]
    fn a_reference_made_of_two_parts_is_one() {
        assert_eq!(text("@{v}", "file:/etc/passwd"), "@ file:/etc/passwd");
        assert_eq!(text("@fi{v}", "le:/etc/passwd"), "@ file:/etc/passwd");
        assert_eq!(text("{v}file:x", "@"), "@ file:x");
        assert_eq!(text("@d{v}", "iff"), "@ diff");
        assert_eq!(text("@wo{v}", "rd:x"), "@ word:x");
    }

    #[test]
    fn a_value_out_of_the_payload_is_a_part_too() {
        assert_eq!(text("@file:{v}", "../secrets"), "@ file:../secrets");
        assert_eq!(text("@file:videos/{v}.md", "../x"), "@ file:videos/../x.md");
        assert_eq!(text("@url:\"http://h/a {v}\"", "b"), "@ url:\"http://h/a b\"");
        assert_eq!(text("@file:`a\n{v}`", "b"), "@file:`a\nb`", "no quote goes over a line");
        assert_eq!(text("@file:a.md {v}", "b"), "@file:a.md b");
        assert_eq!(text("@file:a.md\u{3000}{v}", "b"), "@file:a.md\u{3000}b");
    }

    #[test]
    fn text_that_hermes_does_not_expand_or_the_operator_wrote_stays() {
        for same in [
            "me@file:x",
            "a/@file:x",
            "x_@diff",
            "@different",
            "@diff_x",
            "@",
            "@:x",
            "@2:x",
            "@file:",
            "@alice: a mention",
            "@ file:x",
            "mail@staged",
        ] {
            assert_eq!(text("Error: {v}", same), format!("Error: {same}"));
        }
        assert_eq!(text("Read @file:notes.md about {v}", "x"), "Read @file:notes.md about x");
        assert_eq!(text("@diff {v}", "x"), "@diff x");
    }

    proptest! {
        /// No payload leaves a match of Hermes' pattern or a command.
        #[test]
        fn nothing_of_a_payload_is_live(value in r"[@/ a-z:_\n\u{2028}]{0,6}(@|/)?(file:|folder:|git:|URL:|Word-2:|diff|staged|x)?[@/ a-z:é\n]{0,8}") {
            // Hermes' own references, and those of plugins.
            let pattern = talaria_core::hermes::pattern::Pattern::new(
                r"(?i)(?:^|[^\w/])@(?:(?:diff|staged)\b|[a-z][a-z0-9_-]*:\S)",
            ).unwrap();
            for template in ["{v}", "@{v}", "x {v}:y", "({v})", "\n{v}", "@file:{v}"] {
                let prompt = text(template, &value);
                prop_assert!(!command::is_command(&prompt.as_str().into()), "{prompt}");
                prop_assert!(!pattern.is_match(&prompt), "{prompt}");
            }
        }
    }
}
