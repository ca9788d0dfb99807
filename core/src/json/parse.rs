//! A parser with the semantics of Python's `json.loads`: one pass, no recursion, no limit but memory.

use super::{
    MAX_DEPTH, MAX_INTEGER_DIGITS, Object, Text, Value, text::check_generalized_utf8, value::Integer,
};
use std::mem;
use thiserror::Error;

/// A parsed payload, with the properties that Hermes limits.
#[derive(Debug)]
pub struct Document {
    root: Value,
    depth: usize,
    longest_integer: usize,
}

impl Document {
    /// The value. Containers below [`MAX_DEPTH`] are null in it.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Why Hermes would always answer 500 to this payload, if it would.
    pub fn unreadable_for_hermes(&self) -> Option<String> {
        if self.depth > MAX_DEPTH {
            return Some(format!(
                "the payload nests {} levels deep, and Hermes reads at most {MAX_DEPTH}",
                self.depth
            ));
        }
        if self.longest_integer > MAX_INTEGER_DIGITS {
            return Some(format!(
                "the payload has an integer of {} digits, and Hermes reads at most {MAX_INTEGER_DIGITS}",
                self.longest_integer
            ));
        }
        None
    }
}

/// Why bytes are not JSON.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("byte {offset}: {what}")]
pub struct ParseError {
    /// The offset in bytes, from 0.
    pub offset: usize,
    /// The fault at the offset, or the expected token.
    pub what: &'static str,
}

/// Parses exactly one JSON value. A leading byte order mark is skipped.
pub fn parse(bytes: &[u8]) -> Result<Document, ParseError> {
    if let Err(offset) = check_generalized_utf8(bytes) {
        return Err(ParseError { offset, what: "not UTF-8" });
    }
    let start = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let mut parser =
        Parser { bytes, at: start, open: Vec::new(), deep: Vec::new(), depth: 0, longest_integer: 0 };
    let root = parser.document()?;
    Ok(Document { root, depth: parser.depth, longest_integer: parser.longest_integer })
}

/// A container whose end was not read yet.
enum Open {
    Array(Vec<Value>),
    /// With the key of the next value.
    Object(Object, Text),
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The open containers, outermost first, down to [`MAX_DEPTH`].
    open: Vec<Open>,
    /// The open containers below that, by their opening byte. Their values are checked and dropped.
    deep: Vec<u8>,
    depth: usize,
    longest_integer: usize,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<Value, ParseError> {
        loop {
            // Open containers until there is a complete value.
            let Some(mut value) = self.begin_value()? else { continue };
            // Add it to its container, and close the containers that end with it.
            loop {
                self.skip_white_space();
                let Some(container) = self.innermost() else {
                    return if self.peek().is_none() {
                        Ok(value)
                    } else {
                        self.fail("more than one JSON value")
                    };
                };
                let closes = self.attach(value, container)?;
                if !closes {
                    break;
                }
                value = self.close();
            }
        }
    }

    /// Reads a scalar or an empty container, or opens a container and returns `None`.
    fn begin_value(&mut self) -> Result<Option<Value>, ParseError> {
        self.skip_white_space();
        match self.peek() {
            Some(opening @ (b'[' | b'{')) => {
                self.at += 1;
                self.depth = self.depth.max(self.open.len() + self.deep.len() + 1);
                self.skip_white_space();
                let closing = if opening == b'[' { b']' } else { b'}' };
                if self.peek() == Some(closing) {
                    self.at += 1;
                    return Ok(Some(match opening {
                        b'[' => Value::Array(Vec::new()),
                        _ => Value::Object(Object::new()),
                    }));
                }
                let key = if opening == b'{' { self.key()? } else { Text::new() };
                if self.open.len() == MAX_DEPTH {
                    self.deep.push(opening);
                } else {
                    self.open.push(match opening {
                        b'[' => Open::Array(Vec::new()),
                        _ => Open::Object(Object::new(), key),
                    });
                }
                Ok(None)
            }
            Some(b'"') => self.string().map(Value::String).map(Some),
            Some(b'-' | b'0'..=b'9') => self.number().map(Some),
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'N') => self.word("NaN", Value::Float(f64::NAN)),
            Some(b'I') => self.word("Infinity", Value::Float(f64::INFINITY)),
            _ => self.fail("expected a JSON value"),
        }
    }

    /// The opening byte of the innermost open container.
    fn innermost(&self) -> Option<u8> {
        self.deep.last().copied().or_else(|| {
            self.open.last().map(|open| match open {
                Open::Array(_) => b'[',
                Open::Object(..) => b'{',
            })
        })
    }

    /// Adds the value to the innermost container and continues. Returns whether the container ends here.
    fn attach(&mut self, value: Value, container: u8) -> Result<bool, ParseError> {
        if self.deep.is_empty() {
            match self.open.last_mut() {
                Some(Open::Array(items)) => items.push(value),
                // Insertion keeps a repeated key's first position and replaces its value.
                Some(Open::Object(members, key)) => drop(members.insert(mem::take(key), value)),
                None => {}
            }
        }
        match (container, self.peek()) {
            (b'[', Some(b']')) | (b'{', Some(b'}')) => {
                self.at += 1;
                return Ok(true);
            }
            (_, Some(b',')) => self.at += 1,
            (b'[', _) => return self.fail("expected ',' or ']'"),
            _ => return self.fail("expected ',' or '}'"),
        }
        if container == b'{' {
            self.skip_white_space();
            let next = self.key()?;
            if self.deep.is_empty()
                && let Some(Open::Object(_, key)) = self.open.last_mut()
            {
                *key = next;
            }
        }
        Ok(false)
    }

    /// Removes the innermost container from the stack, as a value.
    fn close(&mut self) -> Value {
        if self.deep.pop().is_some() {
            return Value::Null;
        }
        match self.open.pop() {
            Some(Open::Array(items)) => Value::Array(items),
            Some(Open::Object(members, _)) => Value::Object(members),
            None => Value::Null,
        }
    }

    fn key(&mut self) -> Result<Text, ParseError> {
        if self.peek() != Some(b'"') {
            return self.fail("expected a key in double quotes");
        }
        let key = self.string()?;
        self.skip_white_space();
        if self.peek() != Some(b':') {
            return self.fail("expected ':'");
        }
        self.at += 1;
        Ok(key)
    }

    fn string(&mut self) -> Result<Text, ParseError> {
        self.at += 1;
        let mut text = Text::new();
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1F)).unwrap_or(rest.len());
            let (plain, rest) = rest.split_at_checked(plain).unwrap_or_default();
            text.push_checked(plain);
            self.at += plain.len();
            match rest.first() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape(&mut text)?,
                Some(_) => return self.fail("a control character in a string"),
                None => return self.fail("a string without end"),
            }
        }
    }

    fn escape(&mut self, text: &mut Text) -> Result<(), ParseError> {
        let letter = self.bytes.get(self.at + 1);
        let code_point = match letter {
            Some(b'"' | b'\\' | b'/') => u32::from(letter.copied().unwrap_or_default()),
            Some(b'b') => 0x08,
            Some(b'f') => 0x0C,
            Some(b'n') => 0x0A,
            Some(b'r') => 0x0D,
            Some(b't') => 0x09,
            Some(b'u') => {
                let Some(first) = self.hex4(self.at + 2) else {
                    return self.fail("expected four hexadecimal digits behind \\u");
                };
                self.at += 6;
                text.push_code_point(self.surrogate_pair(first).unwrap_or(first));
                return Ok(());
            }
            _ => return self.fail("an unknown escape in a string"),
        };
        self.at += 2;
        text.push_code_point(code_point);
        Ok(())
    }

    /// Joins a high surrogate with a following escaped low one, and skips that.
    fn surrogate_pair(&mut self, high: u32) -> Option<u32> {
        if !(0xD800..0xDC00).contains(&high) || !self.bytes.get(self.at..)?.starts_with(b"\\u") {
            return None;
        }
        let low = self.hex4(self.at + 2).filter(|low| (0xDC00..0xE000).contains(low))?;
        self.at += 6;
        Some(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        let digits = self.bytes.get(at..at + 4)?;
        digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
    }

    fn number(&mut self) -> Result<Value, ParseError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.peek() == Some(b'I') {
                self.word("Infinity", Value::Null)?;
                return Ok(Value::Float(f64::NEG_INFINITY));
            }
        }
        let integer_digits = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                1
            }
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.fail("expected a digit"),
        };
        let mut is_integer = true;
        if self.peek() == Some(b'.') && self.digit_at(self.at + 1) {
            is_integer = false;
            self.at += 1;
            self.digits();
        }
        if let Some(b'e' | b'E') = self.peek() {
            let sign = usize::from(matches!(self.bytes.get(self.at + 1), Some(b'+' | b'-')));
            if self.digit_at(self.at + 1 + sign) {
                is_integer = false;
                self.at += 1 + sign;
                self.digits();
            }
        }
        let text = self.bytes.get(start..self.at).and_then(|text| std::str::from_utf8(text).ok());
        let text = text.unwrap_or_default();
        if is_integer {
            self.longest_integer = self.longest_integer.max(integer_digits);
            return Ok(Value::Integer(Integer::from_json(text)));
        }
        match text.parse() {
            // Rust rounds correctly and overflows to infinity, as Python's float() does.
            Ok(float) => Ok(Value::Float(float)),
            Err(_) => self.fail("expected a number"),
        }
    }

    fn digit_at(&self, at: usize) -> bool {
        self.bytes.get(at).is_some_and(u8::is_ascii_digit)
    }

    /// Skips digits. Returns their number.
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.digit_at(self.at) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Option<Value>, ParseError> {
        if !self.bytes.get(self.at..).unwrap_or_default().starts_with(word.as_bytes()) {
            return self.fail("expected a JSON value");
        }
        self.at += word.len();
        Ok(Some(value))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn fail<T>(&self, what: &'static str) -> Result<T, ParseError> {
        Err(ParseError { offset: self.at, what })
    }
}

#[cfg(test)]
mod tests;
