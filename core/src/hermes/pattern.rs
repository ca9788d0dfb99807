//! Python regular expressions on the `regex` crate.
//!
//! The two agree on most patterns. Where they differ, a pattern is translated to Python's meaning or refused with the reason: a
//! filter with another meaning would lose deliveries. The crate was preferred to a backtracking one because patterns are matched
//! against text of strangers, and its time is linear.

use regex::Regex;
use regex_syntax::ast::{self, AssertionKind, Ast, ClassPerlKind, ClassSetItem, Visitor};
use std::ops::Range;

/// A compiled pattern, searched as `re.search` does.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    written: Box<str>,
}

impl Pattern {
    /// Compiles a Python pattern.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let written = pattern.into();
        let pattern = &end_of_text(pattern);
        let tree = ast::parse::Parser::new().parse(pattern).map_err(|error| describe(&error))?;
        let edits = ast::visit(&tree, Translate::default())?;
        let mut python = pattern.clone();
        // From the end, so that the earlier ranges stay valid.
        for (range, replacement) in edits.into_iter().rev() {
            python.replace_range(range, replacement);
        }
        let regex = Regex::new(&python).map_err(|error| error.to_string())?;
        Ok(Self { regex, written })
    }

    /// Whether it matches anywhere.
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The pattern before its translation.
    pub fn as_written(&self) -> &str {
        &self.written
    }
}

/// Translates Python's `\Z`, the end of the text, to `\z`.
fn end_of_text(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut escaped = false;
    for c in pattern.chars() {
        out.push(if escaped && c == 'Z' { 'z' } else { c });
        escaped = c == '\\' && !escaped;
    }
    out
}

fn describe(error: &ast::Error) -> String {
    match error.kind() {
        ast::ErrorKind::UnsupportedLookAround => {
            "look-ahead and look-behind are not supported; combine filters with all, any and not instead"
                .into()
        }
        ast::ErrorKind::UnsupportedBackreference => "back-references are not supported".into(),
        kind => kind.to_string(),
    }
}

/// Collects the replacements for a translation, in the order of the pattern.
#[derive(Default)]
struct Translate {
    edits: Vec<(Range<usize>, &'static str)>,
    multi_line: bool,
}

impl Translate {
    fn edit(&mut self, span: &ast::Span, replacement: &'static str) {
        self.edits.push((span.start.offset..span.end.offset, replacement));
    }

    fn flags(&mut self, flags: &ast::Flags) -> Result<(), String> {
        for item in &flags.items {
            match item.kind {
                ast::FlagsItemKind::Flag(ast::Flag::MultiLine) => self.multi_line = true,
                ast::FlagsItemKind::Flag(ast::Flag::SwapGreed | ast::Flag::CRLF) => {
                    return Err("the flags U and R are not Python's".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn perl_class(&mut self, class: &ast::ClassPerl, in_brackets: bool) {
        // Python's \w has letters and numbers, without marks; its \s has four more control characters.
        let replacement = match (&class.kind, class.negated, in_brackets) {
            (ClassPerlKind::Digit, ..) => return,
            (ClassPerlKind::Word, false, true) => r"\p{L}\p{N}_",
            (ClassPerlKind::Word, false, false) => r"[\p{L}\p{N}_]",
            (ClassPerlKind::Word, true, _) => r"[^\p{L}\p{N}_]",
            (ClassPerlKind::Space, false, true) => r"\s\x1c-\x1f",
            (ClassPerlKind::Space, false, false) => r"[\s\x1c-\x1f]",
            (ClassPerlKind::Space, true, _) => r"[^\s\x1c-\x1f]",
        };
        self.edit(&class.span, replacement);
    }
}

impl Visitor for Translate {
    type Output = Vec<(Range<usize>, &'static str)>;
    type Err = String;

    fn finish(self) -> Result<Self::Output, String> {
        Ok(self.edits)
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), String> {
        match tree {
            Ast::Flags(set) => self.flags(&set.flags)?,
            Ast::Group(group) => {
                if let ast::GroupKind::NonCapturing(flags) = &group.kind {
                    self.flags(flags)?;
                }
            }
            Ast::ClassPerl(class) => self.perl_class(class, false),
            Ast::ClassUnicode(_) => return Err(r"Python has no \p{…} classes".into()),
            // Python's $ also matches before a newline at the end of the text.
            Ast::Assertion(assertion) if assertion.kind == AssertionKind::EndLine && !self.multi_line => {
                self.edit(&assertion.span, r"(?:\n?\z)");
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Perl(class) => self.perl_class(class, true),
            ClassSetItem::Unicode(_) => return Err(r"Python has no \p{…} classes".into()),
            ClassSetItem::Ascii(_) | ClassSetItem::Bracketed(_) => {
                return Err(
                    r"inside [...] write \[ for a bracket: Python has no classes within classes".into()
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ast::ClassSetBinaryOp) -> Result<(), String> {
        Err(r"inside [...] escape &&, -- and ~~: Python has no set operations".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().is_match(text)
    }

    #[test]
    fn means_what_python_means() {
        assert!(search("ed$", "failed\n") && !search("ed$", "failed\n\n") && !search(r"ed\Z", "failed\n"));
        assert!(search("(?m)ed$", "failed\nx") && search(r"\\Z", r"\Z"));
        assert!(
            search(r"^\w+$", "größe_9") && !search(r"^\w+$", "e\u{301}"),
            "a combining mark is no word character"
        );
        assert!(
            search(r"[\w-]", "é")
                && search(r"[\W]", "\u{301}")
                && search(r"\s", "\x1c")
                && !search(r"\S", "\x1f")
        );
        assert!(search("(?i)VEO", "google/veo-3.1"));
        assert!(search(r"[\[\]]", "]"));
    }

    #[test]
    fn untranslatable_patterns_are_refused() {
        for (pattern, why) in [
            ("(?!x)", "look-ahead"),
            (r"(a)\1", "back-references"),
            (r"\pL", "classes"),
            ("[a&&b]", "set operations"),
            ("[[:alpha:]]", "classes within classes"),
            ("[a[b]]", "classes within classes"),
            ("(", "unclosed"),
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }
}
