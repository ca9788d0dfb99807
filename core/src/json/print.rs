//! Printers with the output of Python's `json.dumps` and `str()`.

use super::{Object, Text, Value};
use std::fmt::Write as _;

/// `json.dumps(value, indent=2)[:limit]`. ASCII only, so characters are bytes.
pub fn dump_indented(value: &Value, limit: usize) -> String {
    let mut out = Dump { text: String::new(), limit, layout: Layout::Indented };
    let _ = out.value(value, 1);
    out.text.truncate(limit);
    out.text
}

/// `json.dumps(value, sort_keys=True)`.
pub fn dump_sorted(value: &Value) -> String {
    let mut out = Dump { text: String::new(), limit: usize::MAX, layout: Layout::Sorted };
    let _ = out.value(value, 1);
    out.text
}

/// `json.dumps(value)`.
pub fn dump_line(value: &Value) -> String {
    let mut out = Dump { text: String::new(), limit: usize::MAX, layout: Layout::Line };
    let _ = out.value(value, 1);
    out.text
}

/// The beginning of `json.dumps(value)`, not much longer than `limit` characters.
pub fn dump_start(value: &Value, limit: usize) -> String {
    let mut out = Dump { text: String::new(), limit, layout: Layout::Line };
    let _ = out.value(value, 1);
    out.text
}

/// `json.dumps(text)`: in double quotes, everything but printable ASCII escaped.
pub fn dump_text(text: &Text) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote(text, &mut out);
    out
}

/// `str(value)` of a scalar. Containers are dumped, as Hermes does instead of `str`.
pub fn python_str(value: &Value) -> Text {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Integer(integer) => integer.as_str().into(),
        Value::Float(float) if float.is_nan() => "nan".into(),
        Value::Float(float) if float.is_infinite() => if *float > 0.0 { "inf" } else { "-inf" }.into(),
        Value::Float(float) => float_repr(*float).into(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => dump_sorted(value).into(),
    }
}

/// Python's `repr` of a finite float: the fewest digits that parse as the same number; an exponent of at least two digits below
/// 1e-4 and from 1e16 on.
fn float_repr(float: f64) -> String {
    // Rust's {:e} has the same number of digits: "-1.2345e-7". If the number is exactly in the middle between two such texts,
    // Rust chooses the upper and Python the even one, as rounding to this number of digits does.
    let shortest = format!("{float:e}");
    let digits = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let rounded = format!("{float:.*e}", digits.saturating_sub(1));
    let reads_back = rounded.parse::<f64>().is_ok_and(|read| read.to_bits() == float.to_bits());
    let scientific = if reads_back { rounded } else { shortest };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    match exponent {
        -4..=-1 => {
            let zeros = "0".repeat(usize::try_from(-1 - exponent).unwrap_or_default());
            format!("{sign}0.{zeros}{digits}")
        }
        0..=15 => {
            let point = usize::try_from(exponent + 1).unwrap_or_default();
            let padded = format!("{digits:0<point$}");
            let (whole, fraction) = padded.split_at_checked(point).unwrap_or((&padded, ""));
            format!("{sign}{whole}.{}", if fraction.is_empty() { "0" } else { fraction })
        }
        _ => {
            let (first, rest) = digits.split_at_checked(1).unwrap_or((&digits, ""));
            let point = if rest.is_empty() { "" } else { "." };
            let exponent_sign = if exponent < 0 { '-' } else { '+' };
            format!("{sign}{first}{point}{rest}e{exponent_sign}{:02}", exponent.unsigned_abs())
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// `indent=2`.
    Indented,
    /// On one line.
    Line,
    /// On one line, `sort_keys=True`.
    Sorted,
}

struct Dump {
    text: String,
    limit: usize,
    layout: Layout,
}

/// The limit is reached, and the rest would be cut.
struct Full;

impl Dump {
    /// The recursion has the depth of the value, at most [`super::MAX_DEPTH`].
    fn value(&mut self, value: &Value, level: usize) -> Result<(), Full> {
        match value {
            Value::Array(items) if items.is_empty() => self.text.push_str("[]"),
            Value::Object(members) if members.is_empty() => self.text.push_str("{}"),
            Value::Array(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, level);
                    self.value(item, level + 1)?;
                }
                self.end(level);
                self.text.push(']');
            }
            Value::Object(members) => {
                self.text.push('{');
                self.members(members, level)?;
                self.end(level);
                self.text.push('}');
            }
            Value::String(text) => quote(text, &mut self.text),
            Value::Null => self.text.push_str("null"),
            Value::Bool(true) => self.text.push_str("true"),
            Value::Bool(false) => self.text.push_str("false"),
            Value::Integer(integer) => self.text.push_str(integer.as_str()),
            Value::Float(float) if float.is_nan() => self.text.push_str("NaN"),
            Value::Float(float) if float.is_infinite() => {
                self.text.push_str(if *float > 0.0 { "Infinity" } else { "-Infinity" });
            }
            Value::Float(float) => self.text.push_str(&float_repr(*float)),
        }
        if self.text.len() < self.limit { Ok(()) } else { Err(Full) }
    }

    fn members(&mut self, members: &Object, level: usize) -> Result<(), Full> {
        let mut in_order: Vec<_> = members.iter().collect();
        if self.layout == Layout::Sorted {
            in_order.sort_unstable_by_key(|(key, _)| *key);
        }
        for (index, (key, value)) in in_order.into_iter().enumerate() {
            self.separate(index, level);
            quote(key, &mut self.text);
            self.text.push_str(": ");
            self.value(value, level + 1)?;
        }
        Ok(())
    }

    /// Writes the separator before an item.
    fn separate(&mut self, index: usize, level: usize) {
        match self.layout {
            Layout::Indented => {
                self.text.push_str(if index == 0 { "\n" } else { ",\n" });
                self.indent(level);
            }
            Layout::Line | Layout::Sorted if index > 0 => self.text.push_str(", "),
            Layout::Line | Layout::Sorted => {}
        }
    }

    /// Writes the space before a closing bracket.
    fn end(&mut self, level: usize) {
        if self.layout == Layout::Indented {
            self.text.push('\n');
            self.indent(level - 1);
        }
    }

    fn indent(&mut self, level: usize) {
        self.text.extend(std::iter::repeat_n("  ", level));
    }
}

/// Python's `ensure_ascii` escapes: everything outside of U+0020 to U+007E, above U+FFFF as a surrogate pair.
fn quote(text: &Text, out: &mut String) {
    out.push('"');
    for code_point in text.code_points() {
        match char::from_u32(code_point) {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\u{c}') => out.push_str("\\f"),
            Some(c @ ' '..='~') => out.push(c),
            Some(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escape_unit(u32::from(*unit), out)),
            None => escape_unit(code_point, out),
        }
    }
    out.push('"');
}

fn escape_unit(unit: u32, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\u{unit:04x}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;
    use proptest::prelude::*;

    #[test]
    #[expect(clippy::excessive_precision, reason = "these lie in the middle between two shorter ones")]
    fn floats_print_as_python_prints_them() {
        for (float, python) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (0.1, "0.1"),
            (123.456, "123.456"),
            (1e15, "1000000000000000.0"),
            (1.234_567_890_123_456_7e15, "1234567890123456.8"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (1e22, "1e+22"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.000_123, "0.000123"),
            (0.000_01, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (-1.5, "-1.5"),
            (860_251_810_096_290.25, "860251810096290.2"),
            (860_251_810_096_290.75, "860251810096290.8"),
        ] {
            assert_eq!(float_repr(float), python);
        }
    }

    #[test]
    fn a_dump_is_cut_where_python_cuts_it() {
        let document = parse(b"{\"a\":[1,{}],\"b\":\"\xC3\xA9\"}").unwrap();
        let whole = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"\\u00e9\"\n}";
        assert_eq!(dump_indented(document.root(), 1000), whole);
        for limit in 0..whole.len() {
            assert_eq!(dump_indented(document.root(), limit), whole[..limit], "cut at {limit}");
        }
        assert_eq!(dump_sorted(parse(br#"{"b":[1,2],"a":{}}"#).unwrap().root()), r#"{"a": {}, "b": [1, 2]}"#);
        assert_eq!(dump_line(parse(br#"{"b":[1,2],"a":{}}"#).unwrap().root()), r#"{"b": [1, 2], "a": {}}"#);
    }

    proptest! {
        #[test]
        fn a_printed_float_reads_back_as_itself(bits in any::<u64>()) {
            let float = f64::from_bits(bits);
            prop_assume!(float.is_finite());
            prop_assert_eq!(float_repr(float).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn a_dumped_string_reads_back_as_itself(points in prop::collection::vec(0_u32..0x11_0000, 0..20)) {
            let mut text = Text::new();
            for point in &points {
                text.push_code_point(*point);
            }
            let dumped = dump_text(&text);
            prop_assert!(dumped.is_ascii());
            // Two adjacent lone surrogates are parsed as one character.
            let joined = points.windows(2).any(|p| (0xD800..0xDC00).contains(&p[0]) && (0xDC00..0xE000).contains(&p[1]));
            if !joined {
                let read = parse(dumped.as_bytes()).unwrap();
                prop_assert_eq!(read.root().as_text().unwrap(), &text);
            }
        }
    }
}
