//! Keeps payloads from steering the gateway.
//!
//! Hermes takes a prompt that starts with `/` for a command of its operator, and expands `@file:path`,
//! `@folder:`, `@git:`, `@url:`, `@diff` and `@staged` into contents. The texts in a payload are strangers'. So:
//!
//! - a prompt that would start with `/` is given `> ` in front, as one quotes;
//! - a reference of which any part came out of the payload is written `@ file:`, which Hermes does not expand.
//!
//! Both can be seen in the prompt, are noted with the attempt, and can be turned off for a route. What the
//! operator wrote into the template himself stays, but for a leading `/`: whoever means one says so.

use std::ops::Range;
use talaria_core::{config::Guard, hermes::template::Prompt, json::Text};

/// What stands in front of a prompt that would be a command.
const QUOTE: &str = "> ";

/// What Hermes expands behind an `@` with a value: `REFERENCE_PATTERN` in `agent/context_references.py`.
const WITH_VALUE: [&[u8]; 4] = [b"file:", b"folder:", b"git:", b"url:"];
/// What it expands alone, where no word goes on.
const ALONE: [&[u8]; 2] = [b"diff", b"staged"];

/// The prompt as it may be sent, and what was changed in it.
pub fn defuse(prompt: Prompt, guard: Guard) -> (Text, Vec<String>) {
    let mut notes = Vec::new();
    let mut text = prompt.text;
    if guard.references {
        let references = references(text.as_bytes(), &prompt.from_payload);
        if !references.is_empty() {
            notes.push(format!("{} @ reference(s) out of the payload defused", references.len()));
            text = with_space_behind(&text, &references);
        }
    }
    if guard.commands && text.starts_with("/") {
        notes.push("a leading / defused".into());
        let mut quoted = Text::from(QUOTE);
        quoted.push_text(&text);
        text = quoted;
    }
    (text, notes)
}

/// The places of every `@` that starts a reference which the payload had a part in.
fn references(text: &[u8], from_payload: &[Range<usize>]) -> Vec<usize> {
    let mut payload = from_payload.iter().peekable();
    let mut found = Vec::new();
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'@') {
        // Hermes does not look behind a word or a slash. Beyond ASCII, where a word ends is left to it.
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'/')) {
            continue;
        }
        let Some(length) = text.get(at + 1..).and_then(trigger) else { continue };
        let end = at + 1 + length;
        while payload.next_if(|range| range.end <= at).is_some() {}
        if payload.peek().is_some_and(|range| range.start < end) {
            found.push(at);
        }
    }
    found
}

/// How long what stands behind an `@` is, if Hermes would expand it.
fn trigger(behind: &[u8]) -> Option<usize> {
    let alone = |word: &[u8]| {
        behind.strip_prefix(word).is_some_and(|rest| {
            rest.first().is_none_or(|next| !next.is_ascii_alphanumeric() && *next != b'_')
        })
    };
    WITH_VALUE
        .iter()
        .find(|word| behind.starts_with(word))
        .or_else(|| ALONE.iter().find(|word| alone(word)))
        .map(|word| word.len())
}

fn with_space_behind(text: &Text, places: &[usize]) -> Text {
    let mut bytes = Vec::with_capacity(text.len() + places.len());
    let mut places = places.iter().peekable();
    for (at, byte) in text.as_bytes().iter().enumerate() {
        bytes.push(*byte);
        if places.next_if(|place| **place == at).is_some() {
            bytes.push(b' ');
        }
    }
    // A space behind an `@` splits no code point, so this is the same kind of text.
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
    }

    #[test]
    fn what_hermes_leaves_alone_and_what_the_operator_wrote_stays() {
        for same in [
            "me@file:x",
            "a/@file:x",
            "x_@diff",
            "@different",
            "@diff_x",
            "@File:x",
            "@",
            "@ file:x",
            "mail@staged",
        ] {
            assert_eq!(text("Error: {v}", same), format!("Error: {same}"));
        }
        assert_eq!(text("Read @file:notes.md about {v}", "x"), "Read @file:notes.md about x");
        assert_eq!(text("@diff {v}", "x"), "@diff x");
    }

    proptest! {
        /// Whatever the payload says, nothing of Hermes' pattern is left in it and no command starts.
        #[test]
        fn nothing_of_a_payload_is_live(value in r"[@/ a-z:_]{0,6}(@|/)?(file:|folder:|git:|url:|diff|staged|x)?[@/ a-z:é]{0,8}") {
            let pattern = talaria_core::hermes::pattern::Pattern::new(
                r"(?:^|[^\w/])@(?:(?:diff|staged)\b|(?:file|folder|git|url):\S)",
            ).unwrap();
            for template in ["{v}", "@{v}", "x {v}:y", "({v})"] {
                let prompt = text(template, &value);
                prop_assert!(!prompt.starts_with('/'), "{prompt}");
                prop_assert!(!pattern.is_match(&prompt), "{prompt}");
            }
        }
    }
}
