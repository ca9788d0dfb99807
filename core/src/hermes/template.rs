//! Prompt templates with the semantics of Hermes' `WebhookAdapter._render_prompt`.
//!
//! A token is `{` letters, digits, `_` and `.` `}`; all else is text. A token's dotted path walks objects. Its value is inserted
//! as Python's `str()` of a scalar, or as indented JSON cut at 2,000 characters. A token without a value stays unchanged.
//! Inserted values are not rendered again.

use crate::json::{
    Text, Value,
    print::{dump_indented, python_str},
};
use std::ops::Range;

/// Where Hermes cuts the whole payload (`{__raw__}` and the default prompt), in characters.
const RAW_LIMIT: usize = 4000;
/// Where Hermes cuts an object or array, in characters.
const CONTAINER_LIMIT: usize = 2000;

/// Tokens that begin with this may have values that are not in OpenRouter's payload.
pub const OURS: &str = "talaria.";

/// A parsed prompt template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Literal text.
    Literal(Text),
    /// The path in the braces of a token.
    Token(String),
}

/// A rendered prompt with the ranges of its untrusted parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// The prompt.
    pub text: Text,
    /// The byte ranges of `text` from the payload, in order.
    pub from_payload: Vec<Range<usize>>,
}

impl Prompt {
    fn literal(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn payload(&mut self, text: &Text) {
        let start = self.text.len();
        self.text.push_text(text);
        self.from_payload.push(start..self.text.len());
    }
}

impl Template {
    /// Parses a template. Every text is valid; an empty one stands for Hermes' default prompt.
    pub fn new(template: &Text) -> Self {
        let bytes = template.as_bytes();
        let mut parts = Vec::new();
        let mut literal = Text::new();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Some(token) = token_at(bytes, at) {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                at += token.len() + 2;
                parts.push(Part::Token(token));
            } else {
                let rest = bytes.get(at + 1..).unwrap_or_default();
                let plain = 1 + rest.iter().position(|byte| *byte == b'{').unwrap_or(rest.len());
                literal.push_checked(bytes.get(at..at + plain).unwrap_or(&[byte]));
                at += plain;
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Self { parts }
    }

    /// Whether the template is empty and stands for Hermes' default prompt.
    pub fn is_default(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it has no tokens, so that every payload gives the same text.
    pub fn is_literal(&self) -> bool {
        self.tokens().next().is_none()
    }

    /// The paths of its tokens.
    pub fn tokens(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Token(path) => Some(path.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The texts between its tokens.
    pub fn literals(&self) -> impl Iterator<Item = &Text> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text),
            Part::Token(_) => None,
        })
    }

    /// Whether a token has a value in a payload of this type, or in `ours` as in [`Template::render_with`].
    pub fn finds(token: &str, ours: &Value, payload: &Value, event_type: &Text) -> bool {
        own(token, ours).or_else(|| resolve(token, payload, event_type)).is_some()
    }

    /// The text before the first token.
    pub fn leading_text(&self) -> Option<&Text> {
        match self.parts.first() {
            Some(Part::Literal(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether the template has `{token}`.
    pub fn mentions(&self, token: &str) -> bool {
        self.tokens().any(|path| path == token)
    }

    /// The prompt for a payload.
    pub fn render(&self, payload: &Value, event_type: &Text, route: &Text) -> Prompt {
        self.render_with(&Value::Null, payload, event_type, route)
    }

    /// The prompt for a payload, with values for tokens that begin with [`OURS`]. Those values are as untrusted as the payload's.
    pub fn render_with(&self, ours: &Value, payload: &Value, event_type: &Text, route: &Text) -> Prompt {
        let mut prompt = Prompt::default();
        if self.is_default() {
            prompt.literal("Webhook event '");
            prompt.payload(event_type);
            prompt.literal("' on route '");
            prompt.text.push_text(route);
            prompt.literal("':\n\n```json\n");
            prompt.payload(&dump_indented(payload, RAW_LIMIT).into());
            prompt.literal("\n```");
            return prompt;
        }
        for part in &self.parts {
            match part {
                Part::Literal(text) => prompt.text.push_text(text),
                Part::Token(path) => {
                    if let Some(value) = own(path, ours).or_else(|| resolve(path, payload, event_type)) {
                        prompt.payload(&value);
                    } else {
                        prompt.literal(&format!("{{{path}}}"));
                    }
                }
            }
        }
        prompt
    }
}

/// The path of a token that begins here: `\{([a-zA-Z0-9_.]+)\}`.
fn token_at(bytes: &[u8], at: usize) -> Option<String> {
    let inside = bytes.get(at..)?.strip_prefix(b"{")?;
    let length =
        inside.iter().position(|b| !matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.'))?;
    let (token, rest) = inside.split_at_checked(length)?;
    (length > 0 && rest.first() == Some(&b'}')).then(|| String::from_utf8_lossy(token).into_owned())
}

/// A value that is not of the payload.
fn own(path: &str, ours: &Value) -> Option<Text> {
    path.strip_prefix(OURS).and_then(|path| value_at(path, ours))
}

fn resolve(path: &str, payload: &Value, event_type: &Text) -> Option<Text> {
    match path {
        "__raw__" => return Some(dump_indented(payload, RAW_LIMIT).into()),
        "event_type" => return Some(event_type.clone()),
        _ => {}
    }
    value_at(path, payload)
}

fn value_at(path: &str, root: &Value) -> Option<Text> {
    let value = path.split('.').try_fold(root, |value, key| value.get(key))?;
    Some(match value {
        Value::Array(_) | Value::Object(_) => dump_indented(value, CONTAINER_LIMIT).into(),
        scalar => python_str(scalar),
    })
}

/// Renders templated values, with values of `ours` as in [`Template::render_with`], as Hermes renders a route's `deliver_extra`: strings are templates, and other values stay
/// unchanged.
///
/// [`crate::config`] refuses two traps in routes: an empty string renders as the default prompt, and `{event_type}` renders as
/// nothing.
pub fn render_extra(extra: &Value, ours: &Value, payload: &Value) -> Value {
    let nothing = Text::new();
    let Value::Object(members) = extra else { return extra.clone() };
    let render = |value: &Value| match value {
        Value::String(template) => {
            Value::String(Template::new(template).render_with(ours, payload, &nothing, &nothing).text)
        }
        other => other.clone(),
    };
    Value::Object(members.iter().map(|(key, value)| (key.clone(), render(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{
        Document, parse,
        print::{dump_sorted, dump_text},
    };
    use proptest::prelude::*;

    const CASES: &str = include_str!("../../testdata/render_cases.jsonl");

    fn payload(text: &[u8]) -> Document {
        parse(text).unwrap()
    }

    fn render(template: &str, body: &str) -> Prompt {
        Template::new(&template.into()).render(payload(body.as_bytes()).root(), &"push".into(), &"r".into())
    }

    /// Sixty recorded prompts of the real Hermes.
    #[test]
    fn renders_every_recorded_case_as_hermes_did() {
        let mut seen = 0;
        for line in CASES.lines() {
            let case = payload(line.as_bytes());
            let case = case.root();
            let name = case.get("name").and_then(Value::as_str).unwrap();
            let body = parse(case.get("body").and_then(Value::as_text).unwrap().as_bytes()).unwrap();
            seen += 1;
            if let Some(error) = case.get("error").and_then(Value::as_str) {
                let refused = body.unreadable_for_hermes().is_some()
                    || case.get("event_type").unwrap().as_text().is_none();
                assert!(refused, "{name}: Hermes fails with {error}");
                continue;
            }
            let text = |key: &str| case.get(key).and_then(Value::as_text).unwrap();
            let prompt =
                Template::new(text("template")).render(body.root(), text("event_type"), text("route"));
            match case.get("prompt_wtf8_b64").and_then(Value::as_str) {
                Some(expected) => {
                    let expected = data_encoding::BASE64.decode(expected.as_bytes()).unwrap();
                    assert_eq!(prompt.text.as_bytes(), expected, "{name}");
                }
                None => assert_eq!(&prompt.text, text("prompt"), "{name}"),
            }
            if let Some(extra) = case.get("extra") {
                let expected = dump_sorted(case.get("extra_out").unwrap());
                assert_eq!(dump_sorted(&render_extra(extra, &Value::Null, body.root())), expected, "{name}");
            }
        }
        assert_eq!(seen, 60);
    }

    #[test]
    fn a_prompt_has_the_ranges_of_the_payload() {
        let prompt = render("a {x} {nope} {y}", r#"{"x":"1","y":[]}"#);
        assert_eq!(prompt.text, "a 1 {nope} []");
        assert_eq!(prompt.from_payload, [2..3, 11..13]);
    }

    proptest! {
        /// Text without a brace is a literal.
        #[test]
        fn text_without_tokens_stays(text in "[^{]+") {
            let prompt = render(&text, r#"{"a":1}"#);
            prop_assert_eq!(prompt.text, text.as_str());
            prop_assert!(prompt.from_payload.is_empty());
        }

        /// A value that looks like a token is inserted unchanged, and its range is the payload's.
        #[test]
        fn values_are_inserted_once_and_whole(before in "[^{}]*", value in any::<String>(), after in "[^{}]*") {
            let body = format!("{{\"a\":{{\"b\":{}}}}}", dump_text(&value.as_str().into()));
            let prompt = render(&format!("{before}{{a.b}}{after}"), &body);
            prop_assert_eq!(prompt.text.as_str().unwrap(), format!("{before}{value}{after}"));
            prop_assert_eq!(prompt.from_payload, vec![before.len()..before.len() + value.len(); 1]);
        }

        /// No template and no payload panics, and no container is longer than its cut.
        #[test]
        fn containers_are_cut(template in r"[{}a-c._]{0,12}", items in prop::collection::vec(".{0,400}", 0..12)) {
            let items: Vec<String> = items.iter().map(|item| dump_text(&item.as_str().into())).collect();
            let body = format!("{{\"a\":[{}]}}", items.join(","));
            render(&template, &body);
            let cut = render("{a}", &body).text;
            prop_assert!(cut.len() <= CONTAINER_LIMIT);
            let cut = render("{__raw__}", &body).text;
            prop_assert!(cut.len() <= RAW_LIMIT);
        }
    }
}
