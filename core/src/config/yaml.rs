//! Messages of the parser in the operator's words.
//!
//! The parser stops at the first fault, and its message has Rust's types or YAML's grammar. This module replaces it by the
//! expected form and a remedy, and, for a fault of the layout, by the faulty line, which may be above the parser's location.

use super::{
    layout,
    problem::{Fault, Problem},
    raw,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
    forward_to_deserialize_any,
};
use serde_saphyr::{Error as E, Location, UserMessageFormatter};
use std::cell::Cell;

/// The remedy without a better one.
const EXAMPLE: &str = "deploy/talaria.example.yaml shows every key with its form";

/// The problem that stopped the parser.
pub(super) fn problem(text: &str, error: &E) -> Problem {
    let error = error.without_snippet();
    let location = error.location().unwrap_or(Location::UNKNOWN);
    if let E::AliasError { error, .. } = error {
        return Problem { line: location.line(), column: location.column(), ..problem(text, error) };
    }
    if let E::ExternalMessage { msg, .. } = error {
        return layout::problem(text, location, msg);
    }
    // Probably a template that begins with a token.
    if matches!(error, E::Unexpected { expected, .. } if is_text(expected))
        && let Some(problem) = layout::unquoted(text, location)
    {
        return problem;
    }
    let (what, help) = in_words(error);
    Problem::at(location, what, if help.is_empty() { EXAMPLE.to_owned() } else { help })
}

/// The parser's message in the operator's words. The remedy is empty if the example has it.
fn in_words(error: &E) -> Fault {
    let map = || ("expected keys with their values, such as {key: value}".to_owned(), String::new());
    let list = || ("expected a list, such as [one, two]".to_owned(), String::new());
    let plain = |what: &str| (what.to_owned(), String::new());
    match error {
        // A message of this crate.
        E::Message { msg, .. } => (msg.clone(), String::new()),
        E::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        E::SerdeUnknownVariant { variant, expected, .. } => unknown_key(variant, expected),
        E::SerdeMissingField { field, .. } => (
            format!("the key {field} is missing"),
            format!("add {field}:, indented as the keys beside it; {EXAMPLE}"),
        ),
        E::Unexpected { expected, .. } if expected.contains("sequence") => list(),
        E::Unexpected { expected, .. } if expected.contains("mapping") => map(),
        E::Unexpected { expected, .. } if is_text(expected) => {
            plain("expected a single value, and neither a list nor keys")
        }
        E::SerdeInvalidType { expected, .. } | E::SerdeInvalidValue { expected, .. } => {
            match expected.as_str() {
                text if text.starts_with("struct ") || text.contains("map") => map(),
                text if text.contains("sequence") || text.contains("list") => list(),
                text => (format!("expected {text}"), String::new()),
            }
        }
        E::InvalidScalar { ty, .. } if ty.starts_with(['u', 'i']) => plain("expected a whole number"),
        E::InvalidScalar { ty: "floating point", .. } | E::NonFiniteFloat { .. } => {
            plain("expected a number")
        }
        E::InvalidScalar { .. } | E::InvalidBooleanStrict { .. } => plain("expected true or false"),
        E::NullIntoString { .. } => plain("a value is missing behind this key"),
        E::DuplicateMappingKey { key: Some(key), .. } => {
            (format!("the key {key} is there twice"), "leave one of them out".into())
        }
        E::DuplicateMappingKey { key: None, .. } => {
            ("a key is there twice".into(), "leave one of them out".into())
        }
        E::MergeValueNotMapOrSeqOfMaps { .. } => (
            "<<: takes a map, or a list of maps".into(),
            "write it as in <<: *defaults, with &defaults in front of a map above".into(),
        ),
        E::UnknownAnchor { .. } => (
            "*NAME stands for what &NAME marks above it, and there is no such mark".into(),
            "mark it, or put the value in quotes if a plain * is meant".into(),
        ),
        E::MultipleDocuments { .. } => {
            ("--- begins a second document".into(), "a configuration is one document".into())
        }
        E::Eof { .. } => {
            ("the file ends before it says anything".into(), "`talaria init` writes a configuration".into())
        }
        E::UnsupportedTag { .. }
        | E::TaggedScalarCannotDeserializeIntoString { .. }
        | E::TaggedEnumMismatch { .. } => (
            "tags such as !name mean nothing here".into(),
            "put the value in quotes, or leave the tag out".into(),
        ),
        other => (
            format!(
                "this is not YAML that can be read: {}",
                other.render_with_formatter(&UserMessageFormatter)
            ),
            String::new(),
        ),
    }
}

/// Whether the parser expects a single value.
fn is_text(expected: &str) -> bool {
    expected.contains("scalar") || expected.contains("string")
}

/// A key that is misspelt or misplaced.
fn unknown_key(key: &str, known: &[&str]) -> Fault {
    let what = format!("unknown key {key}");
    if let Some(meant) = known.iter().find(|known| is_close(key, known)) {
        return (what, format!("write {meant}, if that is meant"));
    }
    if key.starts_with("x-") {
        return (what, "keys of your own, which begin with x-, stand at the top of the file".into());
    }
    let places: Vec<&str> =
        keys().into_iter().filter(|(_, keys)| keys.contains(&key)).map(|(place, _)| place).collect();
    let here =
        if known.is_empty() { String::new() } else { format!("the keys here are {}", known.join(", ")) };
    match places.as_slice() {
        [] => (what, here),
        places => {
            let place =
                places.iter().map(|place| if place.is_empty() { "at the top of the file" } else { *place });
            let place = place.collect::<Vec<_>>().join(" or ");
            (what, format!("{key} is a key {place}: is it indented as the keys there? Otherwise, {here}"))
        }
    }
}

/// The keys of each part of the file, and the part's name.
fn keys() -> [(&'static str, &'static [&'static str]); 15] {
    [
        ("", keys_of::<raw::Config>()),
        ("of ingress", keys_of::<raw::Ingress>()),
        ("of ingress.limits", keys_of::<raw::Limits>()),
        ("of relay", keys_of::<raw::Relay>()),
        ("of admin", keys_of::<raw::Admin>()),
        ("of tunnel", keys_of::<raw::Tunnel>()),
        ("of telemetry", keys_of::<raw::Telemetry>()),
        ("of bus.nats", keys_of::<raw::Nats>()),
        ("of a tenant", keys_of::<raw::Tenant>()),
        ("of a tenant's openrouter", keys_of::<raw::OpenRouter>()),
        ("of a tenant's openrouter.poll", keys_of::<raw::Poll>()),
        ("of a tenant's openrouter.budget", keys_of::<raw::Budget>()),
        ("of a route", keys_of::<raw::Route>()),
        ("of a route's retry", keys_of::<raw::Retry>()),
        ("of a route's guard", keys_of::<raw::Guard>()),
    ]
}

/// Whether the keys differ by one letter, by two swapped letters, or by case and separators.
fn is_close(written: &str, known: &str) -> bool {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let (a, b): (Vec<char>, Vec<char>) = (plain(written).chars().collect(), plain(known).chars().collect());
    if a == b {
        return true;
    }
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let rest = |word: &[char], from: usize| word.get(from..).map(<[char]>::to_vec).unwrap_or_default();
    let swapped = |word: &[char]| match word.get(same..) {
        Some([one, other, more @ ..]) => Some([&[*other, *one], more].concat()),
        _ => None,
    };
    b.len() > 2
        && (rest(&a, same + 1) == rest(&b, same)
            || rest(&a, same) == rest(&b, same + 1)
            || rest(&a, same + 1) == rest(&b, same + 1)
            || swapped(&a).is_some_and(|swapped| Some(swapped.as_slice()) == b.get(same..)))
}

/// The keys that a struct's `Deserialize` passes to the deserializer.
fn keys_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    struct Asks<'a>(&'a Cell<&'static [&'static str]>);

    impl<'de> Deserializer<'de> for Asks<'_> {
        type Error = de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.set(fields);
            Err(de::Error::custom("asked"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("not a struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let keys = Cell::new(&[][..]);
    // Always fails: there is no input.
    let _ = T::deserialize(Asks(&keys));
    keys.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_its_keys() {
        for (place, keys) in keys() {
            assert!(!keys.is_empty(), "{place}");
        }
        assert!(keys_of::<raw::Route>().contains(&"deliver_only"));
    }

    #[test]
    fn a_misspelt_key_is_close_to_the_one_that_is_meant() {
        for (written, known) in [
            ("promt", "prompt"),
            ("prompts", "prompt"),
            ("pormpt", "prompt"),
            ("prompd", "prompt"),
            ("deliverOnly", "deliver_only"),
            ("max-body-bytes", "max_body_bytes"),
            ("tennants", "tenants"),
        ] {
            assert!(is_close(written, known), "{written}");
        }
        for (written, known) in [("colour", "prompt"), ("routes", "tokens"), ("tz", "tls"), ("ca", "cb")] {
            assert!(!is_close(written, known), "{written}");
        }
    }
}
