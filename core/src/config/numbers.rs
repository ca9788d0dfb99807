//! Numbers with a leading zero, such as `010`, in filters and `extra`, which accept any value.
//!
//! In YAML 1.1, which Hermes reads, `010` is eight and `089` is text; in YAML 1.2 they are ten and eighty-nine. The intention is
//! mostly text: an id or a code. So such a number without quotes is refused.

use super::problem::Problem;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// The keys of a route with arbitrary values.
const ANY_VALUE: [&str; 2] = ["filters", "extra"];

/// The problems of a valid text.
pub(super) fn problems(text: &str) -> Vec<Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    let Ok(document) = serde_saphyr::from_str_with_options::<Tree>(text, options) else { return Vec::new() };
    let mut problems = Vec::new();
    let tenants = document
        .members()
        .filter(|(key, _)| key == "tenants")
        .flat_map(|(_, tenants)| tenants.value.members());
    let routes = tenants.flat_map(|(_, tenant)| tenant.value.members().filter(|(key, _)| key == "routes"));
    for (_, route) in routes.flat_map(|(_, routes)| routes.value.members()) {
        for (_, value) in route.value.members().filter(|(key, _)| ANY_VALUE.contains(&key.as_str())) {
            find(text, value, &mut problems);
        }
    }
    problems
}

fn find(text: &str, value: &Spanned<Tree>, problems: &mut Vec<Problem>) {
    match &value.value {
        Tree::Number => {
            if let Some(written) = spelling(text, value.defined).filter(|written| begins_with_zero(written)) {
                let what = format!(
                    "{written} begins with a zero, and readers of YAML differ in which number that is"
                );
                let help = format!(
                    "write \"{written}\" where text is meant, and the number without the zero otherwise"
                );
                problems.push(Problem::at(value.referenced, what, help));
            }
        }
        Tree::List(items) => items.iter().for_each(|item| find(text, item, problems)),
        Tree::Map(members) => members.iter().for_each(|(_, member)| find(text, member, problems)),
        Tree::Other => {}
    }
}

/// The written form of a value without quotes.
fn spelling(text: &str, at: Location) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(at.line()).ok()?.checked_sub(1)?)?;
    let (start, _) = line.char_indices().nth(usize::try_from(at.column()).ok()?.checked_sub(1)?)?;
    let rest = line.get(start..)?;
    rest.get(..rest.find([',', '}', ']', ' ', '\t']).unwrap_or(rest.len()))
}

fn begins_with_zero(number: &str) -> bool {
    let digits = number.trim_start_matches(['-', '+']).as_bytes();
    matches!(digits, [b'0', b'0'..=b'9' | b'_', ..])
}

/// A document with the locations of its values.
enum Tree {
    Number,
    Other,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(String, Spanned<Tree>)>),
}

impl Tree {
    fn members(&self) -> impl Iterator<Item = &(String, Spanned<Self>)> {
        let members = match self {
            Self::Map(members) => members.as_slice(),
            _ => &[],
        };
        members.iter()
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

/// Visitor methods for scalars.
macro_rules! scalars {
    ($($visit:ident $value:ty => $tree:ident),*) => {
        $(fn $visit<E: de::Error>(self, _: $value) -> Result<Tree, E> { Ok(Tree::$tree) })*
    };
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    scalars!(visit_bool bool => Other, visit_str &str => Other, visit_f64 f64 => Number, visit_i64 i64 => Number,
             visit_u64 u64 => Number, visit_i128 i128 => Number, visit_u128 u128 => Number);

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
        let mut map = Vec::new();
        while let Some(member) = members.next_entry()? {
            map.push(member);
        }
        Ok(Tree::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(filters: &str) -> Vec<String> {
        let text = format!("tenants:\n  a:\n    routes:\n      r:\n        filters: {filters}\n");
        problems(&text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_number_that_begins_with_a_zero_is_refused_where_it_stands() {
        let expected = "5:44: 010 begins with a zero, and readers of YAML differ in which number that is\n  help: write \"010\" \
                        where text is meant, and the number without the zero otherwise";
        assert_eq!(found("{field: data.code, equals:   010}"), [expected.replace("5:44", "5:47")]);
        for number in ["007", "089", "-010", "+01", "00", "01.5"] {
            assert_eq!(found(&format!("{{field: a, in: [1, {number}, 2]}}")).len(), 1, "{number}");
        }
        let deep = "\n          all:\n            - field: a\n              equals: 010 # an id";
        assert!(found(deep)[0].starts_with("8:23: 010 "), "{:?}", found(deep));
    }

    #[test]
    fn all_other_numbers_and_text_are_taken() {
        for value in
            ["0", "-0", "10", "0.5", "1e3", "0x1F", "0o17", "\"010\"", "'010'", "a010", "010a", "0-1", "0_1"]
        {
            assert_eq!(found(&format!("{{field: a, equals: {value}}}")), Vec::<String>::new(), "{value}");
        }
        assert!(problems("retention: 010\nx-a: [010]\n").is_empty(), "there a text is read");
    }
}
