//! JSON values as Python has them.

use super::Text;
use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// An object's members in the order of the first appearance of their keys, as in a Python `dict`.
pub type Object = IndexMap<Text, Value>;

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, Python's `None`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent, exact at any size.
    Integer(Integer),
    /// Any other number; `1e309` is infinite and `NaN` is allowed.
    Float(f64),
    /// A string.
    String(Text),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object),
}

/// An integer of any size, as decimal digits without leading zeros; zero has no sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Integer(Box<str>);

impl Integer {
    /// From `-?[0-9]+` without leading zeros, as in JSON.
    pub(crate) fn from_json(digits: &str) -> Self {
        Self(if digits == "-0" { "0" } else { digits }.into())
    }

    /// The decimal digits, after `-` for a negative number.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Python compares an `int` with a `float` by their exact values.
    fn equals_float(&self, float: f64) -> bool {
        // Rust prints an f64 without exponent exactly, digit by digit; -0.0 prints as "-0".
        float.is_finite() && float.fract() == 0.0 && *self == Self::from_json(&format!("{float:.0}"))
    }
}

impl From<i64> for Integer {
    fn from(number: i64) -> Self {
        Self(number.to_string().into())
    }
}

impl Value {
    /// The member of this name, if this is an object that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key.as_bytes())
    }

    /// The members, if this is an object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The text, if this is a string.
    pub fn as_text(&self) -> Option<&Text> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The text, if this is a string without lone surrogates.
    pub fn as_str(&self) -> Option<&str> {
        self.as_text()?.as_str()
    }

    /// The items, if this is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// Python's `==`: `1 == 1.0 == True`, `NaN` is not equal to itself, the order of keys does not count.
    pub fn python_eq(&self, other: &Self) -> bool {
        match (self.as_number(), other.as_number()) {
            (Some(a), Some(b)) => return a.equals(&b),
            (None, None) => {}
            _ => return false,
        }
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.python_eq(b))
            }
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len()
                    && a.iter().all(|(key, a)| b.get(key.as_bytes()).is_some_and(|b| a.python_eq(b)))
            }
            _ => false,
        }
    }

    /// Python's numbers: a `bool` is an `int`.
    fn as_number(&self) -> Option<Number> {
        match self {
            Self::Bool(flag) => Some(Number::Integer(Integer::from(i64::from(*flag)))),
            Self::Integer(integer) => Some(Number::Integer(integer.clone())),
            Self::Float(float) => Some(Number::Float(*float)),
            _ => None,
        }
    }
}

enum Number {
    Integer(Integer),
    Float(f64),
}

impl Number {
    fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            #[expect(clippy::float_cmp, reason = "Python's == between floats is this very comparison")]
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Integer(integer), Self::Float(float)) | (Self::Float(float), Self::Integer(integer)) => {
                integer.equals_float(*float)
            }
        }
    }
}

/// For operands of filters in the configuration. (Payloads are parsed by [`super::parse`].)
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, number, boolean, null, list or map")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(Integer::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(Integer(number.to_string().into())))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(Integer(number.to_string().into())))
    }

    fn visit_u128<E>(self, number: u128) -> Result<Value, E> {
        Ok(Value::Integer(Integer(number.to_string().into())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(Text::from(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some((key, value)) = members.next_entry::<String, Value>()? {
            if object.insert(Text::from(key.as_str()), value).is_some() {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice")));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use crate::json::parse;

    fn equal(a: &str, b: &str) -> bool {
        parse(a.as_bytes()).unwrap().root().python_eq(parse(b.as_bytes()).unwrap().root())
    }

    #[test]
    fn numbers_compare_as_in_python() {
        assert!(equal("1", "1.0") && equal("true", "1") && equal("false", "0.0") && equal("-0", "-0.0"));
        assert!(equal("100000000000000000000", "1e20"));
        assert!(!equal("100000000000000000001", "1e20"), "exact, not rounded to a float first");
        assert!(!equal("9007199254740993", "9007199254740992.0"));
        assert!(!equal("NaN", "NaN") && equal("1e999", "Infinity") && !equal("1", "\"1\""));
        assert!(!equal("null", "false") && !equal("0", "null"));
    }

    #[test]
    fn containers_compare_by_content() {
        assert!(equal(r#"{"a":[1,{"b":true}],"c":null}"#, r#"{"c":null,"a":[1.0,{"b":1}]}"#));
        assert!(
            !equal("[1,2]", "[2,1]") && !equal("[1]", "[1,1]") && !equal(r#"{"a":1}"#, r#"{"a":1,"b":1}"#)
        );
    }
}
