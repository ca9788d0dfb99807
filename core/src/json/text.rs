//! Strings as Python has them: sequences of code points, lone surrogates included.

use std::{borrow::Borrow, borrow::Cow, fmt};

/// A string in generalized UTF-8: UTF-8, but surrogates are encoded like any other code point (three bytes).
///
/// The same bytes as Python's `str.encode("utf-8", "surrogatepass")`, so texts compare like Python strings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Vec<u8>);

impl Text {
    /// The empty text.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Checks bytes for generalized UTF-8. Fails with the offset of the first fault.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, usize> {
        check_generalized_utf8(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes, in generalized UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text as `str`, unless it has a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The text as `str`, with U+FFFD for every lone surrogate.
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => {
                self.code_points().map(|c| char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
        }
    }

    /// Whether it has no characters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it begins with these characters.
    pub fn starts_with(&self, start: &str) -> bool {
        self.0.starts_with(start.as_bytes())
    }

    /// Whether it contains `needle`: Python's `in` between strings.
    pub fn contains(&self, needle: &Self) -> bool {
        needle.is_empty() || self.0.windows(needle.len()).any(|window| window == needle.0)
    }

    /// Appends a `str`.
    pub fn push_str(&mut self, more: &str) {
        self.0.extend_from_slice(more.as_bytes());
    }

    /// Appends another text. Two surrogates that meet stay two code points, as in Python.
    pub fn push_text(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    /// Appends a code point; surrogates are allowed, numbers above U+10FFFF become U+FFFD.
    pub fn push_code_point(&mut self, code_point: u32) {
        if let Some(c) = char::from_u32(code_point) {
            let mut buffer = [0; 4];
            self.0.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        } else if let Ok(unit) = u16::try_from(code_point) {
            // A surrogate in three bytes by UTF-8's scheme.
            let [high, low] = unit.to_be_bytes();
            self.0.extend_from_slice(&[
                0xE0 | high >> 4,
                0x80 | (high & 0xF) << 2 | low >> 6,
                0x80 | low & 0x3F,
            ]);
        } else {
            self.push_str("\u{FFFD}");
        }
    }

    /// Appends bytes that are known to be generalized UTF-8.
    pub(crate) fn push_checked(&mut self, bytes: &[u8]) {
        debug_assert!(check_generalized_utf8(bytes).is_ok());
        self.0.extend_from_slice(bytes);
    }

    /// The code points, in order.
    pub fn code_points(&self) -> impl Iterator<Item = u32> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (&first, tail) = rest.split_first()?;
            let more = match first {
                0x00..=0xBF => 0,
                0xC0..=0xDF => 1,
                0xE0..=0xEF => 2,
                0xF0..=0xFF => 3,
            };
            let start = if more == 0 { u32::from(first) } else { u32::from(first) & (0x3F >> more) };
            let (continuation, next) = tail.split_at_checked(more)?;
            rest = next;
            Some(continuation.iter().fold(start, |point, byte| point << 6 | u32::from(byte & 0x3F)))
        })
    }
}

/// Generalized UTF-8 may also encode U+D800 to U+DFFF. Fails with the offset of the first fault.
pub(crate) fn check_generalized_utf8(bytes: &[u8]) -> Result<(), usize> {
    let mut checked = 0;
    while let Some(rest) = bytes.get(checked..) {
        match std::str::from_utf8(rest) {
            Ok(_) => return Ok(()),
            Err(error) => {
                checked += error.valid_up_to();
                match bytes.get(checked..) {
                    Some([0xED, 0xA0..=0xBF, 0x80..=0xBF, ..]) => checked += 3,
                    _ => return Err(checked),
                }
            }
        }
    }
    Ok(())
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str_lossy(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surrogate_is_three_bytes_and_comes_back() {
        let mut text = Text::from("a");
        text.push_code_point(0xD83D);
        text.push_code_point(0xDE00);
        assert_eq!(text.as_bytes(), b"a\xED\xA0\xBD\xED\xB8\x80");
        assert_eq!(text.code_points().collect::<Vec<_>>(), [0x61, 0xD83D, 0xDE00]);
        assert_eq!(text.as_str(), None);
        assert_eq!(text.to_str_lossy(), "a\u{FFFD}\u{FFFD}");
    }

    #[test]
    fn faults_are_found_where_they_are() {
        assert_eq!(check_generalized_utf8(b"ab\xED\xA0\xBDcd"), Ok(()));
        assert_eq!(check_generalized_utf8(b"ab\xED\xA0\xBDc\xFF"), Err(6));
        assert_eq!(check_generalized_utf8(b"\xC0\x80"), Err(0), "overlong");
        assert_eq!(check_generalized_utf8(b"x\xED\xA0"), Err(1), "cut off");
    }

    proptest::proptest! {
        #[test]
        fn code_points_are_those_of_the_string(text in ".*") {
            let points: Vec<u32> = text.chars().map(u32::from).collect();
            proptest::prop_assert_eq!(Text::from(text.as_str()).code_points().collect::<Vec<_>>(), points);
        }
    }
}
